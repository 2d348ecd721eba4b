# SPDX-License-Identifier: MIT
"""eestream and its peers on the same model, alternating in one run."""
