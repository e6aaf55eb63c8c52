"""Drawings of networks as SVG: a box for each layer with weights or pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from search.templates import render

MOST_LAYERS = 80
_HEIGHT, _GAP, _LEFT = 150.0, 5.0, 8.0


@dataclass(frozen=True)
class DrawnLayer:
    """A layer in a drawing.

    Attributes:
        name: short, below its box.
        size: pixels of its output along the longer side.
        channels: of its output.
        is_productive: whether its convolution precedes the border layer; None for other layers.
        is_border: whether it is the border layer.
        tip: says all of it.
    """

    name: str
    size: int
    channels: int
    is_productive: bool | None
    is_border: bool
    tip: str


@dataclass(frozen=True)
class _Box:
    x: float
    y: float
    width: float
    height: float
    style: str
    layer: DrawnLayer


def draw_network(layers: Sequence[DrawnLayer], image: int, title: str) -> Markup:
    """Return a drawing of a network in forward order, at most its first 80 layers.

    The height of a box grows with the size of the feature map, its width with the channels.

    Args:
        layers: in forward order.
        image: pixels of the image along its longer side.
        title: for readers that do not see it.
    """
    boxes = []
    x = _LEFT
    for layer in layers[:MOST_LAYERS]:
        height = max(10.0, (_HEIGHT - 20) * math.sqrt(layer.size / image))
        width = 8.0 + 3.2 * math.log2(max(layer.channels, 1))
        style = {None: "box", True: "productive", False: "beyond"}[layer.is_productive]
        y = 16 + (_HEIGHT - height) / 2
        boxes.append(
            _Box(round(x, 1), round(y, 1), round(width, 1), round(height, 1), style, layer)
        )
        x += max(width, 48.0) + _GAP
    return render(
        "network.svg", boxes=boxes, width=round(x + _LEFT), height=_HEIGHT + 56, title=title
    )
