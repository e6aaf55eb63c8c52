"""Proposes remedies for an unproductive tail: truncation or slower growth of receptive fields.

Richter et al. 2021 (arXiv 2106.12307) truncate. The README of their toolbox shows the alternative
on ResNet18 with 16-pixel images: less downsampling raises the accuracy from 17 % to 34 % at about
eight times the compute; truncation keeps 18 % at a fifth of the compute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice

from spaces.architecture import Architecture, Layer
from spaces.border import Rule, find_border
from spaces.costs import Costs, costs
from spaces.operations import CONVOLUTIONS, Convolution, Operation, Pair, Pooling
from spaces.receptive_field import gate_branches

MOST_TRIED = 2000
"""Maximum number of pooling placements tried: under a second for the deepest VGG."""
_BATCH = 128


@dataclass(frozen=True)
class Remedy:
    """A changed network without an unproductive tail.

    Attributes:
        kind: ``truncate``, ``move`` (downsampling) or ``remove`` (downsampling).
        description: the change, in words.
        architecture: the changed network.
        params: parameters relative to the original.
        macs: multiply-accumulates relative to the original.
        memory: predicted training memory at batch 128 in float32, relative to the original.
    """

    kind: str
    description: str
    architecture: Architecture
    params: float
    macs: float
    memory: float


def propose_remedies(
    architecture: Architecture,
    rule: Rule | str = Rule.PREVIOUS_CONV,
    *,
    resolution: Pair | None = None,
    keep_border: bool = False,
    shifts: int = 3,
) -> list[Remedy]:
    """Propose networks in which every convolution is productive.

    Args:
        architecture: the network.
        rule: published rule that finds the border layer.
        resolution: image size (height, width) in pixels; by default the graph's own.
        keep_border: keep the border layer in the truncated network.
        shifts: maximum number of changes of the downsampling; those with the fewest
            multiply-accumulates are proposed.

    Returns:
        The truncated network, if the graph can be cut, then the shifts; empty without a border.
    """
    analysis = find_border(architecture, rule, resolution=resolution)
    if analysis.border is None:
        return []
    before = costs(architecture)
    remedies = []
    truncated = truncate(architecture, rule, resolution=resolution, keep_border=keep_border)
    if truncated is not None:
        kept = len(find_border(truncated, rule, resolution=resolution).convolutions)
        text = f"keep the first {kept} of {len(analysis.convolutions)} convolutions"
        remedies.append(_remedy("truncate", text, truncated, before))

    def is_productive(changed: Architecture) -> bool:
        # Changing the downsampling keeps all convolutions, so none may be unproductive.
        return find_border(changed, rule, resolution=resolution).border is None

    moved = _cheapest(_moved_pools(architecture), is_productive, shifts)
    removed = _cheapest(_removed_steps(architecture), is_productive, shifts)
    found = [_remedy("move", text, changed, before) for text, changed in moved]
    found += [_remedy("remove", text, changed, before) for text, changed in removed]
    found.sort(key=lambda remedy: remedy.macs)
    return remedies + found[:shifts]


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
    waists = _waists(architecture)
    first_dropped = convolutions[kept]
    cut = max((w for w in waists if w < first_dropped), default=None)
    if cut is None or cut < convolutions[kept - 1]:
        # The productive layers end within a block, so keep the whole block.
        cut = min((w for w in waists if w >= convolutions[kept - 1]), default=last)
    # A pooling layer right before the cut served only the removed layers.
    while isinstance(architecture.layers[cut].operation, Pooling):
        cut = architecture.layers[cut].inputs[0]
    joint = min((w for w in waists if w >= last), default=None)
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


def _waists(architecture: Architecture) -> list[int]:
    """Return the layers that no edge bypasses."""
    reach = 0
    waists = []
    farthest = [0] * len(architecture.layers)
    for index, layer in enumerate(architecture.layers):
        for source in layer.inputs:
            farthest[source] = max(farthest[source], index)
    for index in range(len(architecture.layers)):
        if reach <= index:
            waists.append(index)
        reach = max(reach, farthest[index])
    return waists


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


def _remedy(kind: str, text: str, architecture: Architecture, before: Costs) -> Remedy:
    after = costs(architecture)
    return Remedy(
        kind=kind,
        description=text,
        architecture=architecture,
        params=after.params / max(before.params, 1),
        macs=after.macs / max(before.macs, 1),
        memory=after.training_memory(_BATCH) / before.training_memory(_BATCH),
    )


def _cheapest(
    changes: Iterable[tuple[str, Architecture]],
    is_productive: Callable[[Architecture], bool],
    count: int,
) -> list[tuple[str, Architecture]]:
    """Return the changes that help, by multiply-accumulates in ascending order."""
    helping = []
    for text, changed in changes:
        try:
            if is_productive(changed):
                helping.append((costs(changed).macs, text, changed))
        except ValueError:
            # Paths no longer join at the same size, or a map collapses.
            continue
    helping.sort(key=lambda entry: entry[:2])
    return [(text, changed) for _, text, changed in helping[:count]]


def _removed_steps(architecture: Architecture) -> Iterator[tuple[str, Architecture]]:
    """Yield the network without one or more of its downsampling steps.

    A step comprises all layers that downsample the same resolution, such as a strided block and
    its shortcut.
    """
    steps = _downsampling_steps(architecture)
    for count in range(1, len(steps) + 1):
        for chosen in combinations(steps, count):
            layers = [index for step in chosen for index in step]
            names = ", ".join(_name(architecture, step[0]) for step in chosen)
            yield f"the downsampling in {names}", _without_downsampling(architecture, layers)


def _downsampling_steps(architecture: Architecture) -> list[tuple[int, ...]]:
    """Group the strided layers by the size of their input, largest first."""
    steps: dict[Pair, list[int]] = {}
    convolutions = architecture.indices(*CONVOLUTIONS)
    last = convolutions[-1] if convolutions else 0
    for index, layer in enumerate(architecture.layers[: last + 1]):
        if _stride(layer.operation) != (1, 1):
            _, height, width = architecture.shapes[layer.inputs[0]]
            steps.setdefault((height, width), []).append(index)
    return [tuple(step) for _, step in sorted(steps.items(), reverse=True)]


def _stride(operation: Operation) -> Pair:
    return operation.stride if isinstance(operation, (Convolution, Pooling)) else (1, 1)


def _without_downsampling(architecture: Architecture, chosen: list[int]) -> Architecture:
    """Set the stride of convolutions to 1 and remove pooling layers."""
    pools = {i for i in chosen if isinstance(architecture.layers[i].operation, Pooling)}
    strided: dict[int, Operation] = {}
    for index in chosen:
        operation = architecture.layers[index].operation
        if isinstance(operation, Convolution):
            strided[index] = replace(operation, stride=(1, 1))
    return _edit(architecture, remove=pools, replaced=strided)


def _moved_pools(architecture: Architecture) -> Iterator[tuple[str, Architecture]]:
    """Yield the network with its pooling layers at later places.

    Considers only pooling layers and convolutions that no edge bypasses. A pooling layer moves
    behind the norm and activation of a later convolution.
    """
    waists = set(_waists(architecture))
    convolutions = [i for i in architecture.indices(Convolution) if i in waists]
    pools = [
        i
        for i in architecture.indices(Pooling)
        if i in waists and convolutions and convolutions[0] < i < convolutions[-1]
    ]
    if not pools:
        return
    without = {number: sum(c < pool for c in convolutions) for number, pool in enumerate(pools)}
    now = [without[number] for number in range(len(pools))]
    for places in islice(_later_places(now, len(convolutions)), MOST_TRIED):
        inserted = {
            _end_of_layer(architecture, convolutions[place - 1]): architecture.layers[pool]
            for place, pool in zip(places, pools, strict=True)
        }
        text = (
            f"pool after convolutions {', '.join(map(str, places))} "
            f"instead of {', '.join(map(str, now))}"
        )
        yield text, _edit(architecture, remove=set(pools), inserted=inserted)


def _later_places(now: Sequence[int], last: int) -> Iterator[tuple[int, ...]]:
    """Yield increasing places from ``now`` up to ``last``, except ``now`` itself."""

    def extend(chosen: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        number = len(chosen)
        if number == len(now):
            yield chosen
            return
        first = max(now[number], chosen[-1] + 1 if chosen else 1)
        # Leave room for the remaining places.
        for place in range(first, last - (len(now) - number) + 2):
            yield from extend((*chosen, place))

    return (places for places in extend(()) if list(places) != list(now))


def _end_of_layer(architecture: Architecture, convolution: int) -> int:
    """Return the last of the norm and activation that follow a convolution."""
    index = convolution
    while index + 1 < len(architecture.layers):
        following = architecture.layers[index + 1]
        if following.inputs != (index,) or following.operation.kind not in ("norm", "activation"):
            break
        index += 1
    return index


def _edit(
    architecture: Architecture,
    *,
    remove: set[int],
    replaced: Mapping[int, Operation] | None = None,
    inserted: Mapping[int, Layer] | None = None,
) -> Architecture:
    """Remove layers with one input, replace operations, insert layers after others."""
    replaced, inserted = replaced or {}, inserted or {}
    layers: list[Layer] = []
    numbers: dict[int, int] = {}
    for index, layer in enumerate(architecture.layers):
        inputs = tuple([numbers[i] for i in layer.inputs])
        if index in remove:
            numbers[index] = inputs[0]
        else:
            operation = replaced.get(index, layer.operation)
            layers.append(layer._replace(operation=operation, inputs=inputs))
            numbers[index] = len(layers) - 1
        if index in inserted:
            layers.append(inserted[index]._replace(inputs=(numbers[index],)))
            numbers[index] = len(layers) - 1
    return Architecture(tuple(layers))


def _name(architecture: Architecture, index: int) -> str:
    return architecture.layers[index].name or f"layer {index}"
