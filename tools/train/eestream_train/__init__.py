# SPDX-License-Identifier: MIT
"""Trains, exports and measures eestream's embedded early-exit Vision Transformer.

Data path: shapes -> world -> data (JPEG, preprocessing) -> train (model, losses) -> calibrate
-> export, clip, evaluate. Only model, losses, train, export, reference and evaluate need torch.
"""
