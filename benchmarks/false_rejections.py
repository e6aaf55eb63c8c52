"""Audits the border screen on tables of trained networks: ``benchmarks/false_rejections.py``.

The networks of ``experiments/results`` were drawn without screens and trained. For each rule and
``allow_beyond`` (-1: reject the border layer, too), the audit rejects networks after the fact. A
false rejection is a rejected network whose mean accuracy over the seeds exceeds that of every
accepted network of equal or lower cost. Controls reject as many networks: those with the most
multiply-accumulates (MACs), those with the fewest, or networks at random.

- **measured** counts without a margin; its interval is Wilson's (95 %), given the accepted
  networks.
- **beyond noise** requires that the network exceeds each of these accepted networks by 1.64
  standard errors of their difference, which cover seeds and the choice of images
  (``experiments/border_audit/noise.py``).
- **search**: expected test accuracy of a random search among the accepted networks, which chooses
  by validation accuracy, minus the same search among all networks; exact, with the standard error
  of a jackknife over networks. "Seconds of 50" gives it the seconds of 50 trials without filter.

A ratio of two counts adds a half to each, so that it exists without false rejections.
``--tables FOLDER`` reads other tables, ``--picture FILE.svg`` draws accuracy against MACs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import Figure, option_parser
from harness import Table as Figures

from experiments.border_audit.filters import DROP_BORDER, largest, smallest
from experiments.border_audit.networks import Mask, Networks, from_rows
from experiments.border_audit.noise import FEWEST_REPEATED, noise_variance
from experiments.border_audit.quality import Difference, at_equal_cost
from experiments.border_audit.rejections import Count, FalseRejections
from experiments.border_audit.search_value import Gain, search_gain
from experiments.border_audit.verdicts import Comparison, Table, Verdict, compare
from experiments.plain_networks.protocols import PROTOCOLS
from experiments.plain_networks.table import RESULTS, read_table
from spaces.border import Rule
from spaces.errors import BadInputError

BAD_INPUT = 2
ALLOWED = (DROP_BORDER, 0, 1, 2, 3, 4)
"""Values of ``allow_beyond``."""
TRIALS = (10, 25, 50, 100)
GOAL = "ours <= 1, and below the baseline"


class Args(argparse.Namespace):
    """The options."""

    quick: bool
    json: Path | None
    tables: Path


@dataclass(frozen=True)
class Effort:
    """How much is computed: random filters, and bootstrap samples."""

    filters: int
    samples: int


def load(folder: Path, name: str) -> Table | None:
    """Read a table; None, and a line that says why, if it cannot be audited."""
    path = folder / f"{name}.csv.gz"
    if not path.exists():
        print(f"{name} is left out: {path} does not exist")
        return None
    protocol = PROTOCOLS[name]
    networks = from_rows(read_table(path), (protocol.validation, protocol.test))
    repeated = int(np.sum(networks.seeds >= 2))
    if repeated < FEWEST_REPEATED:
        print(
            f"{name} is left out: {repeated} of its networks have two seeds, and the noise of "
            f"seeds needs {FEWEST_REPEATED}"
        )
        return None
    return Table(networks, networks.accuracy, noise_variance(networks))


def audit(name: str, table: Table, effort: Effort) -> Iterator[Figure]:
    """Print the audit of a table and yield its figures."""
    networks = table.networks
    seeds = np.bincount(networks.seeds)
    counted = ", ".join(f"{n:,} with {s} seeds" for s, n in enumerate(seeds) if n)
    print(f"\n{name}: {len(networks):,} networks ({counted})")
    generator = np.random.default_rng(0)
    found = [
        compare(table, rule, allowed, generator, effort.filters)
        for rule in Rule
        for allowed in ALLOWED
    ]
    show_rejections(found)
    show_equal_cost(table, found, generator, effort)
    show_well_trained(table, effort)
    gains = show_search(networks, [each for each in found if each.rule is Rule.PREVIOUS_CONV])
    yield from rejection_figures(name, found)
    yield from value_figures(name, found, gains)


# False rejections


def show_rejections(found: Sequence[Comparison]) -> None:
    """Print one line per filter."""
    show_table(
        "False rejections, % of the rejected networks (beyond noise), by cost that is not exceeded",
        (
            "filter",
            "rejected",
            "MACs",
            "interval",
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
        yield ("  rejects at random", _percent(each.screen.rejected), f"{100 * each.random:.2f}")


def _line(name: str, verdict: Verdict) -> tuple[str, ...]:
    low, high = verdict.by_macs.measured.interval
    return (
        name,
        _percent(verdict.rejected),
        _false(verdict.by_macs),
        f"{100 * low:.2f}..{100 * high:.2f}" if verdict.by_macs.measured.total else "",
        _false(verdict.by_parameters),
        _false(verdict.by_seconds),
        _false(verdict.at_any_cost),
        f"{100 * verdict.best.share:.0f}",
    )


def _percent(count: Count) -> str:
    return f"{100 * count.share:.1f}"


def _false(found: FalseRejections) -> str:
    if not found.measured.total:
        return "none comparable"
    text = f"{100 * found.measured.share:.2f} ({100 * found.beyond_noise.share:.2f})"
    return text + (f" of {found.measured.total}" if found.incomparable else "")


def rejection_figures(name: str, found: Sequence[Comparison]) -> Iterator[Figure]:
    """Yield the false rejections of the screen against those of the MACs filter."""
    for each in found:
        text = f"{name}, {each.rule.value}, allow {each.allow_beyond}: false rejections"
        ours, baseline = each.screen.by_macs, each.largest.by_macs
        pairs = [("", ours.measured, baseline.measured)]
        if each.rule is Rule.PREVIOUS_CONV:
            pairs.append((" beyond noise", ours.beyond_noise, baseline.beyond_noise))
        for what, mine, others in pairs:
            yield Figure(
                f"{text}{what}; against rejecting most MACs",
                100 * mine.share,
                100 * others.share,
                _ratio(mine, others),
                GOAL,
                "%",
            )
        if each.rule is Rule.PREVIOUS_CONV:
            upper, other = ours.measured.interval[1], baseline.measured.interval[1]
            yield Figure(
                f"{text}, upper end of the interval; against rejecting most MACs",
                100 * upper,
                100 * other,
                upper / other,
                "ours <= 1",
                "%",
            )


def _ratio(ours: Count, baseline: Count) -> float:
    return (ours.hits + 0.5) / (ours.total + 1) / ((baseline.hits + 0.5) / (baseline.total + 1))


# Groups at equal cost


def show_equal_cost(
    table: Table, found: Sequence[Comparison], generator: np.random.Generator, effort: Effort
) -> None:
    """Print how much less accurate the rejected networks are, by convolutions beyond the border."""
    networks = table.networks
    border, beyond = networks.border[Rule.PREVIOUS_CONV], networks.beyond[Rule.PREVIOUS_CONV]
    without, accepted = border == 0, beyond == 0

    def line(name: str, group: Mask, others: Mask) -> tuple[str, ...]:
        some = group.any() and others.any()
        difference = (
            at_equal_cost(group, others, table.accuracy, networks.macs, generator, effort.samples)
            if some
            else Difference(np.nan, np.nan, np.nan, 0, int(np.sum(group)))
        )
        return (
            name,
            str(int(np.sum(group))),
            f"{100 * np.mean(table.accuracy[group]):.2f}" if group.any() else "",
            f"{100 * np.mean(networks.train_accuracy[group]):.1f}" if group.any() else "",
            _difference(difference),
            str(difference.unmatched),
        )

    lines = [line("no border layer", without, without)]
    lines.append(line("ends with it, against none", accepted & ~without, without))
    lines += [
        line(f"{number} beyond, against 0", beyond == number, accepted)
        for number in range(1, int(beyond.max()) + 1)
    ]
    show_table(
        "Accuracy (%) by convolutions beyond the border layer (previous-conv)",
        ("networks", "number", "mean", "train", "difference at equal MACs", "unmatched"),
        lines,
    )


def _difference(found: Difference) -> str:
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
    show_equal_cost(part, found, generator, effort)


# Searches


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


def value_figures(
    name: str, found: Sequence[Comparison], gains: dict[int, Gains]
) -> Iterator[Figure]:
    """Yield what the screen costs and saves, by ``allow_beyond``."""
    for each in found:
        if each.rule is not Rule.PREVIOUS_CONV:
            continue
        text = f"{name}, {each.rule.value}, allow {each.allow_beyond}"
        best, rejected = each.screen.best, each.screen.rejected
        yield Figure(
            f"{text}: rejected of the best tenth; against all networks",
            100 * best.share,
            100 * rejected.share,
            best.share / rejected.share if rejected.share else 0.0,
            "ratio < 1",
            "%",
        )
        yield Figure(
            f"{text}: seconds of the rejected; against rejecting most MACs",
            100 * each.screen.seconds,
            100 * each.largest.seconds,
            each.screen.seconds / each.largest.seconds if each.largest.seconds else 0.0,
            "",
            "%",
        )
        if each.allow_beyond not in gains:
            continue
        found_gains = gains[each.allow_beyond]
        for what, by_trials in (
            ("trials", found_gains.equal_trials),
            ("seconds", found_gains.equal_seconds),
        ):
            number = 50 if 50 in by_trials else max(by_trials)
            gain = by_trials[number]
            yield Figure(
                f"{text}: test error of a search with the {what} of {number} trials; "
                "against no screen",
                100 * (1 - gain.ours),
                100 * (1 - gain.baseline),
                (1 - gain.ours) / (1 - gain.baseline),
                "ratio <= 1",
                "%",
            )


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


def main() -> int:
    parser = option_parser(__doc__)
    parser.add_argument("--tables", type=Path, default=RESULTS, help="folder of the tables")
    args = parser.parse_args(namespace=Args())
    effort = Effort(20, 100) if args.quick else Effort(200, 1000)
    figures = []
    try:
        tables = {name: load(args.tables, name) for name in PROTOCOLS}
        for name, table in tables.items():
            if table is not None:
                figures += list(audit(name, table, effort))
        if not figures:
            problem = "it contains no table that can be audited"
            remedy = "run python -m experiments.plain_networks digits"
            raise BadInputError("--tables", args.tables, problem, remedy)
    except BadInputError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    print()
    shown = Figures(args.json)
    for figure in figures:
        shown.add(figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
