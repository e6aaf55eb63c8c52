"""Proposes remedies for an unproductive tail: truncation or slower growth of receptive fields.

Richter et al. 2021 (arXiv 2106.12307) truncate. The README of their toolbox shows the alternative
on ResNet18 with 16-pixel images: less downsampling raises the accuracy from 17 % to 34 % at about
eight times the compute; truncation keeps 18 % at a fifth of the compute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice

from spaces.architecture import Architecture
from spaces.border import Rule, find_border
from spaces.costs import Costs, costs
from spaces.operations import CONVOLUTIONS, Convolution, Pair, Pooling
from spaces.remedies.editing import (
    Change,
    apply_changes,
    describe_changes,
    edit,
    end_of_layer,
    layer_name,
    stride_of,
    waists,
)
from spaces.remedies.placement import Placement, PlacementSearch
from spaces.remedies.truncation import truncate

MOST_TRIED = 2000
"""Maximum number of pooling placements tried: under a second for the deepest VGG."""
_BATCH = 128
_Changed = tuple[str, Architecture, tuple[Change, ...]]
"""Description of a change, the changed network, and the changed layers, if only layers changed."""


@dataclass(frozen=True)
class Remedy:
    """A changed network with a shorter unproductive tail, usually none.

    Attributes:
        kind: ``truncate``, ``balance`` (fewer unproductive layers at no more multiply-accumulates),
            or, for a network that is productive throughout, ``rearrange``, ``move`` or ``remove``
            (downsampling).
        description: the change, in words.
        architecture: the changed network.
        params: parameters relative to the original.
        macs: multiply-accumulates relative to the original.
        memory: predicted training memory at batch 128 in float32, relative to the original.
        changes: of layers of the original; empty if the network was cut or layers moved.
    """

    kind: str
    description: str
    architecture: Architecture
    params: float
    macs: float
    memory: float
    changes: tuple[Change, ...] = ()


def propose_remedies(
    architecture: Architecture,
    rule: Rule | str = Rule.PREVIOUS_CONV,
    *,
    resolution: Pair | None = None,
    keep_border: bool = False,
    shifts: int = 3,
    pools: bool = True,
) -> list[Remedy]:
    """Propose networks with fewer unproductive convolutions, or none.

    Args:
        architecture: the network.
        rule: published rule that finds the border layer.
        resolution: image size (height, width) in pixels; by default the graph's own.
        keep_border: keep the border layer in the truncated network.
        shifts: maximum number of changes of the downsampling that make every convolution
            productive; those with the fewest multiply-accumulates are proposed.
        pools: whether pooling layers may be added or moved; without, every change is one of an
            existing layer.

    Returns:
        The truncated network, if the graph can be cut; the network with the fewest unproductive
        convolutions at the original's multiply-accumulates, if it has fewer than the original; and
        the shifts. Empty without a border.
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
        remedies.append(_remedy("truncate", (text, truncated, ()), before))

    def is_productive(changed: Architecture) -> bool:
        # Changing the downsampling keeps all convolutions, so none may be unproductive.
        return find_border(changed, rule, resolution=resolution).border is None

    search = PlacementSearch(architecture, Rule(rule), resolution, pools=pools)
    placed = search.cheapest_productive()
    balanced = search.best_at_equal_cost()
    found = []
    if placed is not None:
        found.append(_remedy("rearrange", _described(architecture, placed), before))
    if pools:
        moved = _cheapest(_moved_pools(architecture), is_productive, shifts)
        found += [_remedy("move", changed, before) for changed in moved]
    removed = _cheapest(_removed_steps(architecture), is_productive, shifts)
    found += [_remedy("remove", changed, before) for changed in removed]
    found.sort(key=lambda remedy: remedy.macs)
    if balanced is not None and balanced.unproductive:  # Else it is the cheapest productive one.
        text, changed, changes = _described(architecture, balanced)
        tail = f"{balanced.unproductive} instead of {analysis.beyond + 1} unproductive"
        remedies.append(_remedy("balance", (f"{tail}: {text}", changed, changes), before))
    return remedies + _distinct(found)[:shifts]


def _described(architecture: Architecture, placement: Placement) -> _Changed:
    text = describe_changes(architecture, placement.changes)
    return text, placement.architecture, placement.changes


def _distinct(remedies: Iterable[Remedy]) -> list[Remedy]:
    """Return remedies without those of a network that an earlier one has, too."""
    known: dict[str, Remedy] = {}
    for remedy in remedies:
        known.setdefault(remedy.architecture.digest, remedy)
    return list(known.values())


def _remedy(kind: str, changed: _Changed, before: Costs) -> Remedy:
    text, architecture, changes = changed
    after = costs(architecture)
    return Remedy(
        kind=kind,
        description=text,
        architecture=architecture,
        params=after.params / max(before.params, 1),
        macs=after.macs / max(before.macs, 1),
        memory=after.training_memory(_BATCH) / before.training_memory(_BATCH),
        changes=changes,
    )


def _cheapest(
    changes: Iterable[_Changed],
    is_productive: Callable[[Architecture], bool],
    count: int,
) -> list[_Changed]:
    """Return the changes that help, by multiply-accumulates in ascending order."""
    helping = []
    for change in changes:
        try:
            if is_productive(change[1]):
                helping.append((costs(change[1]).macs, change[0], change))
        except ValueError:
            # Paths no longer join at the same size, or a map collapses.
            continue
    helping.sort(key=lambda entry: entry[:2])
    return [change for _, _, change in helping[:count]]


def _removed_steps(architecture: Architecture) -> Iterator[_Changed]:
    """Yield the network without one or more of its downsampling steps.

    A step comprises all layers that downsample the same resolution, such as a strided block and
    its shortcut.
    """
    steps = _downsampling_steps(architecture)
    for count in range(1, len(steps) + 1):
        for chosen in combinations(steps, count):
            changes = tuple([Change("unstride", index) for step in chosen for index in step])
            names = ", ".join(layer_name(architecture, step[0]) for step in chosen)
            yield f"the downsampling in {names}", apply_changes(architecture, changes), changes


def _downsampling_steps(architecture: Architecture) -> list[tuple[int, ...]]:
    """Group the strided layers by the size of their input, largest first."""
    steps: dict[Pair, list[int]] = {}
    convolutions = architecture.indices(*CONVOLUTIONS)
    last = convolutions[-1] if convolutions else 0
    for index, layer in enumerate(architecture.layers[: last + 1]):
        if stride_of(layer.operation) != (1, 1):
            _, height, width = architecture.shapes[layer.inputs[0]]
            steps.setdefault((height, width), []).append(index)
    return [tuple(step) for _, step in sorted(steps.items(), reverse=True)]


def _moved_pools(architecture: Architecture) -> Iterator[_Changed]:
    """Yield the network with its pooling layers at later places.

    Considers only pooling layers and convolutions that no edge bypasses. A pooling layer moves
    behind the norm and activation of a later convolution.
    """
    narrow = set(waists(architecture))
    convolutions = [i for i in architecture.indices(Convolution) if i in narrow]
    pools = [
        i
        for i in architecture.indices(Pooling)
        if i in narrow and convolutions and convolutions[0] < i < convolutions[-1]
    ]
    if not pools:
        return
    without = {number: sum(c < pool for c in convolutions) for number, pool in enumerate(pools)}
    now = [without[number] for number in range(len(pools))]
    for places in islice(_later_places(now, len(convolutions)), MOST_TRIED):
        inserted = {
            end_of_layer(architecture, convolutions[place - 1]): architecture.layers[pool]
            for place, pool in zip(places, pools, strict=True)
        }
        text = (
            f"pool after convolutions {', '.join(map(str, places))} "
            f"instead of {', '.join(map(str, now))}"
        )
        yield text, edit(architecture, remove=set(pools), inserted=inserted), ()


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
