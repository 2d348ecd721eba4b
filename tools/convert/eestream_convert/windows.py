# SPDX-License-Identifier: MIT
"""Swin's windows as index arrays: which token stands where, which pairs a shift keeps apart, which row of the table of
relative positions a pair looks up. Both directions, writing and recognising, compare with these."""

from dataclasses import dataclass

import numpy as np

MASKED = -100.0


@dataclass(frozen=True)
class Windows:
    """Windows of a grid, sides (rows, columns). A grid that is no multiple of its windows is padded at the bottom and at
    the right, before it is shifted or (timm) after."""

    grid: tuple[int, int]
    window: tuple[int, int]
    shift: tuple[int, int]
    rolls_first: bool = False

    @property
    def counts(self) -> tuple[int, int]:
        return tuple(-(-side // window) for side, window in zip(self.grid, self.window))

    @property
    def padded(self) -> tuple[int, int]:
        return tuple(n * window for n, window in zip(self.counts, self.window))

    def cut(self, places: np.ndarray) -> np.ndarray:
        """(padded rows, padded columns) -> (windows, tokens)"""
        (rows, columns), (h, w) = self.counts, self.window
        return places.reshape(rows, h, columns, w).transpose(0, 2, 1, 3).reshape(rows * columns, h * w)

    def tokens(self) -> np.ndarray:
        """(windows, tokens): number on the grid, rows * columns of it where padding is."""
        n = self.grid[0] * self.grid[1]
        places = np.arange(n).reshape(self.grid)
        margin = [(0, padded - side) for padded, side in zip(self.padded, self.grid)]
        back = tuple(-step for step in self.shift)
        if self.rolls_first:
            places = np.pad(np.roll(places, back, (0, 1)), margin, constant_values=n)
        else:
            places = np.roll(np.pad(places, margin, constant_values=n), back, (0, 1))
        return self.cut(places)

    def mask(self) -> np.ndarray | None:
        """(windows, tokens, tokens): 0, or MASKED for pairs of two regions. None: nothing is shifted."""
        if not any(self.shift):
            return None
        bands = []
        for side, window, shift in zip(self.padded, self.window, self.shift):
            band = np.zeros(side, int)
            band[side - window:], band[side - shift:] = 1, 2 if shift else 1
            bands.append(band)
        regions = self.cut(3 * bands[0][:, None] + bands[1][None, :])
        return np.where(regions[:, :, None] == regions[:, None, :], np.float32(0), np.float32(MASKED))

    def relative(self) -> np.ndarray:
        """(tokens, tokens): row of the table of (2h-1)(2w-1) relative positions."""
        h, w = self.window
        row, column = np.divmod(np.arange(h * w), w)
        down = row[:, None] - row[None, :] + h - 1
        return down * (2 * w - 1) + column[:, None] - column[None, :] + w - 1


def merge_rows(grid: tuple[int, int]) -> np.ndarray:
    """(merged tokens, 4): even row and column, odd row, odd column, both odd; rows * columns where padding is."""
    (h, w), n = grid, grid[0] * grid[1]
    places = np.pad(np.arange(n).reshape(grid), ((0, h % 2), (0, w % 2)), constant_values=n)
    parts = (places[0::2, 0::2], places[1::2, 0::2], places[0::2, 1::2], places[1::2, 1::2])
    return np.stack(parts, -1).reshape(-1, 4)
