"""Prints the parts of the audit of the border screen as aligned tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.border_audit.filters import DROP_BORDER, largest, smallest
from experiments.border_audit.networks import Mask, Networks
from experiments.border_audit.pairs import Pairs, gain
from experiments.border_audit.quality import Difference, at_equal_cost
from experiments.border_audit.rejections import Count, FalseRejections
from experiments.border_audit.search_value import Gain, search_gain
from experiments.border_audit.verdicts import Comparison, Table, Verdict, compare
from spaces.border import Rule

ALLOWED = (DROP_BORDER, 0, 1, 2, 3, 4)
"""Values of ``allow_beyond``."""
TRIALS = (10, 25, 50, 100)
FEWEST_NETWORKS = 2 * TRIALS[0]
"""Of a table; a search trains at most half of them."""


@dataclass(frozen=True)
class Effort:
    """How much is computed: random filters, and bootstrap samples."""

    filters: int
    samples: int


def show_rejections(found: Sequence[Comparison]) -> None:
    """Print one line per filter."""
    show_table(
        "False rejections, % of the rejected networks (beyond noise), by cost that is not exceeded",
        (
            "filter",
            "rejected",
            "MACs",
            "interval",
            "upper 5 % (interval)",
            "parameters",
            "seconds",
            "any cost",
            "best tenth",
        ),
        [line for each in found for line in _lines(each)],
    )


def _lines(each: Comparison) -> Iterator[tuple[str, ...]]:
    yield _line(f"{each.rule.value}, allow {each.allow_beyond}", each.screen)
    if each.rule is Rule.PREVIOUS_CONV:
        yield _line("  rejects most MACs", each.largest)
        yield _line("  rejects fewest MACs", each.smallest)
        yield (
            "  rejects at random",
            _percent(each.screen.rejected),
            f"{100 * each.random:.2f}",
            "",
            f"{100 * each.random_upper:.1f}",
        )


def _line(name: str, verdict: Verdict) -> tuple[str, ...]:
    low, high = verdict.by_macs.measured.interval
    return (
        name,
        _percent(verdict.rejected),
        _false(verdict.by_macs),
        f"{100 * low:.2f}..{100 * high:.2f}" if verdict.by_macs.measured.total else "",
        _upper(verdict.by_macs.upper),
        _false(verdict.by_parameters),
        _false(verdict.by_seconds),
        _false(verdict.at_any_cost),
        f"{100 * verdict.best.share:.0f}",
    )


def _percent(count: Count) -> str:
    return f"{100 * count.share:.1f}"


def _upper(count: Count) -> str:
    low, high = count.interval
    return f"{100 * count.share:.1f} ({100 * low:.1f}..{100 * high:.1f})" if count.total else ""


def _false(found: FalseRejections) -> str:
    if not found.measured.total:
        return "none comparable"
    text = f"{100 * found.measured.share:.2f} ({100 * found.beyond_noise.share:.2f})"
    return text + (f" of {found.measured.total}" if found.incomparable else "")


def show_equal_cost(
    table: Table, generator: np.random.Generator, effort: Effort
) -> dict[int, Difference]:
    """Print how much less accurate networks are, by convolutions beyond the border layer.

    Returns:
        The difference at equal multiply-accumulates from the networks with none beyond it, by
        number of convolutions beyond it.
    """
    networks = table.networks
    border, beyond = networks.border[Rule.PREVIOUS_CONV], networks.beyond[Rule.PREVIOUS_CONV]
    without, accepted = border == 0, beyond == 0

    def difference(group: Mask, others: Mask) -> Difference:
        return at_equal_cost(
            group, others, table.accuracy, networks.macs, generator, effort.samples
        )

    def line(name: str, group: Mask, found: Difference | None) -> tuple[str, ...]:
        cells = (
            name,
            str(int(np.sum(group))),
            f"{100 * np.mean(table.accuracy[group]):.2f}",
            f"{100 * np.mean(networks.train_accuracy[group]):.1f}",
        )
        return cells if found is None else (*cells, _difference(found), str(found.unmatched))

    lines = [line("no border layer", without, None)] if without.any() else []
    last = accepted & ~without
    if last.any() and without.any():
        lines.append(line("ends with it, against none", last, difference(last, without)))
    by_number = {
        int(number): difference(beyond == number, accepted)
        for number in np.unique(beyond[~accepted])
    }
    lines += [
        line(f"{number} beyond, against 0", beyond == number, found)
        for number, found in by_number.items()
    ]
    show_table(
        "Accuracy (%) by convolutions beyond the border layer (previous-conv)",
        ("networks", "number", "mean", "train", "difference at equal MACs", "unmatched"),
        lines,
    )
    return by_number


def _difference(found: Difference) -> str:
    if not found.pairs:
        return "none comparable"
    return f"{100 * found.mean:+.2f} ({100 * found.low:+.2f}..{100 * found.high:+.2f})"


def show_well_trained(table: Table, effort: Effort) -> None:
    """Print the false rejections among the networks that training fits as well as accepted ones."""
    networks = table.networks
    accepted = networks.beyond[Rule.PREVIOUS_CONV] == 0
    threshold = float(np.quantile(networks.train_accuracy[accepted], 0.25))
    trained = networks.train_accuracy >= threshold
    part = Table(networks.subset(trained), table.accuracy[trained], table.variance[trained])
    generator = np.random.default_rng(0)
    print(
        f"\nOnly the {np.sum(trained):,} networks with a training accuracy of at least "
        f"{threshold:.3f} (the lower quartile of the accepted networks):"
    )
    found = [
        compare(part, Rule.PREVIOUS_CONV, allowed, generator, effort.filters) for allowed in ALLOWED
    ]
    show_rejections(found)
    show_equal_cost(part, generator, effort)


@dataclass(frozen=True)
class Gains:
    """Gains of a filter's search, by number of trials of the search without it."""

    equal_trials: dict[int, Gain]
    equal_seconds: dict[int, Gain]


def show_search(networks: Networks, found: Sequence[Comparison]) -> dict[int, Gains]:
    """Print the gains of searches, and return those of the screen by ``allow_beyond``."""
    trials = [number for number in TRIALS if number <= len(networks) // 2]
    lines: list[tuple[str, ...]] = []
    kept: dict[int, Gains] = {}
    for each in found:
        count = int(np.sum(each.mask))
        if count in (0, len(networks)):
            continue
        for name, mask in (
            (f"screen, allow {each.allow_beyond}", each.mask),
            ("  rejects most MACs", largest(networks.macs, count)),
            ("  rejects fewest MACs", smallest(networks.macs, count)),
        ):
            gains = Gains(
                {number: search_gain(networks, mask, number) for number in trials},
                {
                    number: search_gain(networks, mask, number, equal_seconds=True)
                    for number in trials
                },
            )
            kept.setdefault(each.allow_beyond, gains)
            saved = 1 - np.mean(networks.seconds[~mask]) / np.mean(networks.seconds)
            lines.append(
                (
                    name,
                    f"{100 * saved:.0f}",
                    *[_gain(gains.equal_trials[number]) for number in trials],
                    *[_gain(gains.equal_seconds[number]) for number in trials],
                )
            )
    without = search_gain(networks, np.zeros(len(networks), np.bool_), trials[0])
    show_table(
        "Random search: gain in test accuracy (points, with standard error) over no filter, which "
        f"reaches {100 * without.baseline:.2f} % with {trials[0]} trials",
        (
            "filter",
            "seconds saved per trial, %",
            *[f"{number} trials" for number in trials],
            *[f"seconds of {number}" for number in trials],
        ),
        lines,
    )
    return kept


def _gain(gain: Gain) -> str:
    return f"{100 * (gain.ours - gain.baseline):+.2f} ({100 * gain.error:.2f})"


def show_table(title: str, header: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print a table with aligned columns."""
    columns = [
        [row[number] for row in (header, *lines) if number < len(row)]
        for number in range(len(header))
    ]
    widths = [max(map(len, column)) for column in columns]
    print(f"\n{title}")
    for row in (header, *lines):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join(cells).rstrip())


def show_twins(pairs: Pairs, *, keep_border: bool) -> None:
    """Print what the convolutions beyond the border layer add to the same networks."""
    groups = [("all", np.ones(len(pairs), np.bool_))]
    groups += [
        (f"{number:.0f} beyond", pairs.beyond == number) for number in np.unique(pairs.beyond)
    ]
    well = pairs.train >= np.median(pairs.train)
    groups.append(("training accuracy at or above the median", well))
    lines = []
    for name, chosen in groups:
        if np.sum(chosen) < 2:
            continue
        found = gain(pairs, chosen)
        lines.append(
            (
                name,
                str(found.number),
                f"{100 * found.mean:+.2f} ({100 * found.low:+.2f}..{100 * found.high:+.2f})",
                f"{100 * found.better:.0f}",
                f"{np.mean(pairs.macs[chosen]):.2f}",
                f"{np.median(pairs.seconds[chosen]):.2f}",
            )
        )
    kind = "that keep the border layer" if keep_border else "without the border layer"
    show_table(
        f"Accuracy (points) of rejected networks minus that of their truncated twins {kind}",
        ("networks", "number", "gain of the tail", "better, %", "twin's MACs", "twin's seconds"),
        lines,
    )
