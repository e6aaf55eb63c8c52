"""Truncates networks at the border layer (Richter et al. 2021, arXiv 2106.12307)."""

from __future__ import annotations

from dataclasses import dataclass

from spaces.architecture import Architecture
from spaces.border import Rule, find_border
from spaces.operations import Pair, Pooling
from spaces.receptive_field import gate_branches
from spaces.remedies.editing import waists


def truncate(
    architecture: Architecture,
    rule: Rule | str = Rule.PREVIOUS_CONV,
    *,
    resolution: Pair | None = None,
    keep_border: bool = False,
    beyond: int = 0,
) -> Architecture | None:
    """Drop the unproductive tail and attach the head to the remaining layers.

    The graph is cut at the first layer after the last productive convolution (with
    ``keep_border``: after the border layer) that no edge bypasses. The head is everything after
    the last convolution. Published truncated networks keep or drop the border layer.

    Args:
        architecture: the network.
        rule: published rule that finds the border layer.
        resolution: image size (height, width) in pixels; by default the graph's own.
        keep_border: keep the border layer.
        beyond: with ``keep_border``, number of convolutions to keep after it, too.

    Returns:
        The shorter network; None without a tail or without a place to cut.
    """
    analysis = find_border(architecture, rule, resolution=resolution)
    if analysis.border is None:
        return None
    # Convolutions that compute a gate belong to the block around them.
    aside = gate_branches(architecture)
    convolutions = [index for index in analysis.convolutions if index not in aside]
    productive = len(convolutions) - analysis.beyond - 1
    kept = productive + 1 + beyond if keep_border else productive
    last = analysis.convolutions[-1]
    if kept == 0 or kept >= len(convolutions):
        return None
    narrow = waists(architecture)
    first_dropped = convolutions[kept]
    cut = max((w for w in narrow if w < first_dropped), default=None)
    if cut is None or cut < convolutions[kept - 1]:
        # The productive layers end within a block, so keep the whole block.
        cut = min((w for w in narrow if w >= convolutions[kept - 1]), default=last)
    # A pooling layer right before the cut served only the removed layers.
    while isinstance(architecture.layers[cut].operation, Pooling):
        cut = architecture.layers[cut].inputs[0]
    joint = min((w for w in narrow if w >= last), default=None)
    if joint is None or cut >= last:
        return None
    head_start = _end_of_block(architecture, joint)
    layers = list(architecture.layers[: cut + 1])
    numbers = {head_start: cut}
    for index in range(head_start + 1, len(architecture.layers)):
        layer = architecture.layers[index]
        if any(source not in numbers for source in layer.inputs):
            return None
        layers.append(layer._replace(inputs=tuple(numbers[i] for i in layer.inputs)))
        numbers[index] = len(layers) - 1
    return Architecture(tuple(layers))


@dataclass(frozen=True)
class Truncated:
    """How far a candidate was truncated.

    Attributes:
        drawn: number of convolutions of the drawn network.
        kept: number of its convolutions that remain.
    """

    drawn: int
    kept: int

    def __str__(self) -> str:
        return f"{self.kept} of {self.drawn} convolutions"


@dataclass(frozen=True)
class Truncation:
    """Replaces networks with convolutions beyond the border layer by their truncated twins.

    Attributes:
        rule: published rule that finds the border layer.
        allow_beyond: number of convolutions that the twin keeps after the border layer.
        several_paths: whether networks with several paths, such as residual ones, are truncated.
    """

    rule: Rule
    allow_beyond: int = 0
    several_paths: bool = False

    def apply(self, architecture: Architecture) -> tuple[Architecture, Truncated | None]:
        """Return the twin and how far it was truncated.

        A network without an excess is returned as it is, and so is one that cannot be cut, or whose
        feature maps do not exist.
        """
        try:
            analysis = find_border(architecture, self.rule)
        except Exception:
            return architecture, None  # A screen, or the check of the space, says why.
        several = analysis.has_several_paths and not self.several_paths
        if several or analysis.beyond <= self.allow_beyond:
            return architecture, None
        twin = truncate(architecture, self.rule, keep_border=True, beyond=self.allow_beyond)
        if twin is None:
            return architecture, None
        remaining = find_border(twin, self.rule)
        if remaining.beyond > self.allow_beyond:
            return architecture, None  # The border layer lies within a block.
        return twin, Truncated(len(analysis.convolutions), len(remaining.convolutions))


def _end_of_block(architecture: Architecture, start: int) -> int:
    """Return the last layer of the norms, activations and pools that follow a convolution."""
    index = start
    following = index + 1
    while following < len(architecture.layers):
        layer = architecture.layers[following]
        if layer.inputs != (index,) or layer.operation.kind not in (
            "norm",
            "activation",
            "pooling",
        ):
            break
        index = following
        following += 1
    return index
