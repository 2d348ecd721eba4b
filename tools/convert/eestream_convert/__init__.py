# SPDX-License-Identifier: MIT
"""Models into eestream's folders, and early-exit models out of them."""
