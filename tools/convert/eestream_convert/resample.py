# SPDX-License-Identifier: MIT
"""Position tables at another grid, by ONNX's own Resize: the filters of the engine's stages/resample_table.h."""

import numpy as np
from onnx import helper

from .reference import run_node

FILTERS = {
    "cubic": {"cubic_coeff_a": -0.75},
    "cubic_scaled": {"cubic_coeff_a": -0.75},
    "cubic_antialias": {"cubic_coeff_a": -0.5, "antialias": 1, "exclude_outside": 1},
    "cubic_corners": {"cubic_coeff_a": -0.75, "coordinate_transformation_mode": "align_corners"},
}


def resample_table(rows: np.ndarray, old: tuple[int, int], new: tuple[int, int], name: str) -> np.ndarray:
    """(old h * old w, C) -> (new h * new w, C)"""
    if tuple(old) == tuple(new):
        return rows
    c = rows.shape[1]
    table = rows.reshape(*old, c).transpose(2, 0, 1)[None].astype(np.float64)
    extra = 0.1 if name == "cubic_scaled" else 0.0
    scales = np.array([1, 1, (new[0] + extra) / old[0], (new[1] + extra) / old[1]], np.float32)
    node = helper.make_node("Resize", ["", "", "", ""], ["y"], mode="cubic", **FILTERS[name])
    sizes = None if extra else np.array([1, c, *new], np.int64)
    (result,) = run_node(node, [table, None, scales if extra else None, sizes], 19)
    return result[0].transpose(1, 2, 0).reshape(-1, c).astype(np.float32)
