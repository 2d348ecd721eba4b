# SPDX-License-Identifier: MIT
"""From sizes to a network."""

from __future__ import annotations

from .network import Network, Shape
from .swin import Swin
from .vit import Vit


def build(shape: Shape) -> Network:
    """A network with fresh weights."""
    return Swin(shape) if shape.family == "swin" else Vit(shape)
