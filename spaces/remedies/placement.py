"""Searches placements of downsampling and dilation, with all widths unchanged.

A network is a chain of segments between layers that no edge bypasses. Each segment keeps or loses
its downsampling and its dilation, and may end with a pooling layer or a convolution of stride 2.
Fields and costs of a chain follow from those of its segments, so dynamic programming over the
segments finds the best of all placements: of two beginnings that lead to the same size and jump,
the one with larger fields and more multiply-accumulates is dropped. No map becomes smaller than
the smallest map of a convolution in the original.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from spaces.architecture import Architecture
from spaces.border import Rule, find_border
from spaces.costs import costs
from spaces.operations import CONVOLUTIONS, Pair
from spaces.receptive_field import gate_branches
from spaces.remedies.editing import Change, apply_changes
from spaces.remedies.segments import Passed, Segment, segments_of

MOST_KEPT = 200
"""Beginnings kept for each size and jump, the cheapest ones; more are rarely needed."""


class _Beginning(NamedTuple):
    """A choice for the first segments.

    Attributes:
        tail: number of unproductive convolutions since the last productive one.
        macs: multiply-accumulates.
        field: smallest field of the output, at most one pixel over the image.
        before: smallest field of the last convolutions, as limited.
        size: height and width of the output.
        jump: of the output.
        changes: that were chosen.
    """

    tail: int
    macs: int
    field: Pair
    before: Pair
    size: Pair
    jump: Pair
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Placement:
    """A network with other downsampling or dilation.

    Attributes:
        changes: of the original's layers.
        architecture: the changed network.
        unproductive: number of its unproductive convolutions, without those of gates.
    """

    changes: tuple[Change, ...]
    architecture: Architecture
    unproductive: int


class PlacementSearch:
    """Searches placements for one network.

    Args:
        architecture: the network.
        rule: published rule that finds the border layer.
        resolution: image size (height, width) in pixels; None for the graph's own.
        pools: whether pooling layers may be added, beside strides of convolutions.
    """

    def __init__(
        self,
        architecture: Architecture,
        rule: Rule,
        resolution: Pair | None = None,
        *,
        pools: bool = True,
    ) -> None:
        self._architecture = architecture
        self._rule = rule
        self._resolution = resolution
        _, height, width = architecture.shapes[0]
        self._image = (height, width) if resolution is None else resolution
        self._segments = segments_of(architecture)
        self._options = [list(segment.options(pools=pools)) for segment in self._segments]
        self._known: dict[tuple[int, tuple[Change, ...], Pair], Passed | None] = {}
        aside = gate_branches(architecture)
        convolutions = [i for i in architecture.indices(*CONVOLUTIONS) if i not in aside]
        shapes = [architecture.shapes[i] for i in convolutions]
        self._least = min(shape[1] for shape in shapes), min(shape[2] for shape in shapes)

    def cheapest_productive(self) -> Placement | None:
        """Return the network with the fewest multiply-accumulates without unproductive layers."""
        return self._best(most_macs=None, most_tail=0)

    def best_at_equal_cost(self) -> Placement | None:
        """Return the network with the fewest unproductive layers at the original's cost.

        Of these, the one with the fewest multiply-accumulates; None if no network has fewer
        unproductive layers than the original.
        """
        before = self._unproductive(self._architecture)
        if not before:
            return None
        return self._best(most_macs=costs(self._architecture).macs, most_tail=before - 1)

    def _best(self, most_macs: int | None, most_tail: int) -> Placement | None:
        one = (1, 1)
        size = self._architecture.shapes[0][1:]
        kept = [_Beginning(0, 0, one, one, size, one, ())]
        for number in range(len(self._segments)):
            later = [
                follower
                for beginning in kept
                for follower in self._followers(number, beginning)
                if (most_macs is None or follower.macs <= most_macs)
                and (follower.tail <= most_tail or not self._is_final(number, follower))
            ]
            kept = _undominated(later)
        for found in sorted(kept, key=lambda each: (each.tail, each.macs)):
            changed = apply_changes(self._architecture, found.changes)
            # Never trust the chain of segments alone.
            unproductive = self._unproductive(changed)
            if unproductive <= most_tail and (
                most_macs is None or costs(changed).macs <= most_macs
            ):
                return Placement(found.changes, changed, unproductive)
        return None

    def _is_final(self, number: int, beginning: _Beginning) -> bool:
        """Tell whether no later convolution can be productive, so that the tail only grows.

        A convolution at the end of a block may be unproductive although a skip connection past it
        keeps the following ones productive.
        """
        if self._segments[number].is_last:
            return True
        if self._rule is Rule.PREVIOUS_CONV:
            return all(a > b for a, b in zip(beginning.before, self._image, strict=True))
        return all(a > b for a, b in zip(beginning.field, self._image, strict=True))

    def _unproductive(self, architecture: Architecture) -> int:
        analysis = find_border(architecture, self._rule, resolution=self._resolution)
        return 0 if analysis.border is None else analysis.beyond + 1

    def _followers(self, number: int, beginning: _Beginning) -> Iterator[_Beginning]:
        segment = self._segments[number]
        for changes in self._options[number]:
            passed = self._passed(number, segment, changes, beginning.size)
            if passed is None:
                continue
            if any(side < least for side, least in zip(passed.size, self._least, strict=True)):
                continue
            yield self._joined(beginning, changes, passed)

    def _passed(
        self, number: int, segment: Segment, changes: tuple[Change, ...], size: Pair
    ) -> Passed | None:
        key = (number, changes, size)
        if key not in self._known:
            self._known[key] = segment.passed(changes, size, self._rule)
        return self._known[key]

    def _joined(
        self, beginning: _Beginning, changes: tuple[Change, ...], passed: Passed
    ) -> _Beginning:
        tail = beginning.tail
        for compared, own in passed.convolutions:
            seen = [
                self._grown(beginning, axis, field) if field else beginning.before[axis]
                for axis, field in enumerate(compared)
            ]
            fields = [self._grown(beginning, axis, field) for axis, field in enumerate(own)]
            tail = tail + 1 if self._is_unproductive(seen, fields) else 0
        height, width = [self._grown(beginning, axis, passed.field[axis]) for axis in (0, 1)]
        above, beside = [
            self._grown(beginning, axis, passed.before[axis])
            if passed.before[axis]
            else beginning.before[axis]
            for axis in (0, 1)
        ]
        return _Beginning(
            tail,
            beginning.macs + passed.macs,
            (height, width),
            (above, beside),
            passed.size,
            (beginning.jump[0] * passed.jump[0], beginning.jump[1] * passed.jump[1]),
            (*beginning.changes, *changes),
        )

    def _grown(self, beginning: _Beginning, axis: int, field: int) -> int:
        """Return a field of a segment in pixels of the image, at most one over the image."""
        return min(
            beginning.field[axis] + (field - 1) * beginning.jump[axis], self._image[axis] + 1
        )

    def _is_unproductive(self, seen: list[int], own: list[int]) -> bool:
        (height, width), (high, wide) = self._image, seen
        if self._rule is Rule.NON_STRICT:
            return high >= height and wide >= width and own[0] > height and own[1] > width
        return high > height and wide > width


def _undominated(beginnings: list[_Beginning]) -> list[_Beginning]:
    """Drop what another beginning is at least as good as in every respect."""
    groups: dict[tuple[Pair, Pair], list[_Beginning]] = {}
    for beginning in sorted(beginnings, key=lambda each: (each.macs, len(each.changes))):
        kept = groups.setdefault((beginning.size, beginning.jump), [])
        if len(kept) < MOST_KEPT and not any(_is_as_good(other, beginning) for other in kept):
            kept.append(beginning)
    return [beginning for kept in groups.values() for beginning in kept]


def _is_as_good(one: _Beginning, other: _Beginning) -> bool:
    return (
        one.tail <= other.tail
        and one.macs <= other.macs
        and all(a <= b for a, b in zip(one.field, other.field, strict=True))
        and all(a <= b for a, b in zip(one.before, other.before, strict=True))
    )
