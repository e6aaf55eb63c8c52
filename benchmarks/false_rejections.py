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
- **upper 5 %** counts the rejected networks that exceed at least 95 % of these accepted networks.
  Unlike the measured share, it hardly depends on the size of the table.
- **search**: expected test accuracy of a random search among the accepted networks, which chooses
  by validation accuracy, minus the same search among all networks; exact, with the standard error
  of a jackknife over networks. "Seconds of 50" gives it the seconds of 50 trials without filter.

A ratio of two counts adds a half to each, so that it exists without false rejections.
``--tables FOLDER`` reads other tables, ``--picture FILE.svg`` draws accuracy against MACs.

Last figures (28 November 2026, digits and MNIST, three seeds), ``previous-conv``,
``allow_beyond`` 0: of the rejected networks, 0.15 % and 0.62 % are false rejections (0.15 % and
1.24 % of those with the most MACs), and 1.6 % and 6.4 % are in the upper 5 % (9.4 % and 11.6 %). A
search with 50 trials makes 0.93 and 0.97 times the test errors.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from harness import Figure, option_parser
from harness import Table as Figures

from experiments.border_audit.networks import from_rows
from experiments.border_audit.noise import covers_seeds, noise_variance
from experiments.border_audit.pairs import pair
from experiments.border_audit.picture import draw
from experiments.border_audit.quality import Difference
from experiments.border_audit.rejections import Count
from experiments.border_audit.text import (
    ALLOWED,
    FEWEST_NETWORKS,
    Effort,
    Gains,
    show_equal_cost,
    show_rejections,
    show_search,
    show_twins,
    show_well_trained,
)
from experiments.border_audit.verdicts import Comparison, Table, compare
from experiments.plain_networks.protocols import PROTOCOLS
from experiments.plain_networks.table import RESULTS, read_table
from spaces.border import Rule
from spaces.errors import BadInputError

BAD_INPUT = 2
GOAL = "ours <= 1, and below the baseline"


class Args(argparse.Namespace):
    """The options."""

    quick: bool
    json: Path | None
    tables: Path
    picture: Path | None


def load(folder: Path, name: str) -> Table | None:
    """Read a table; None, and a line that says so, if there is none."""
    path = folder / f"{name}.csv.gz"
    if not path.exists():
        print(f"{name} is left out: {path} does not exist")
        return None
    protocol = PROTOCOLS[name]
    networks = from_rows(read_table(path), (protocol.validation, protocol.test))
    if len(networks) < FEWEST_NETWORKS:
        problem = f"it has {len(networks)} networks; the audit needs {FEWEST_NETWORKS}"
        raise BadInputError("table", path, problem, "train more networks")
    return Table(networks, networks.accuracy, noise_variance(networks))


def audit(name: str, table: Table, effort: Effort) -> Iterator[Figure]:
    """Print the audit of a table and yield its figures."""
    networks = table.networks
    seeds = np.bincount(networks.seeds)
    counted = ", ".join(f"{n:,} with {s} seeds" for s, n in enumerate(seeds) if n)
    print(f"\n{name}: {len(networks):,} networks ({counted})")
    if not covers_seeds(networks):
        print("Too few networks have two seeds: noise covers the choice of images alone.")
    generator = np.random.default_rng(0)
    found = [
        compare(table, rule, allowed, generator, effort.filters)
        for rule in Rule
        for allowed in ALLOWED
    ]
    show_rejections(found)
    differences = show_equal_cost(table, generator, effort)
    show_well_trained(table, effort)
    gains = show_search(networks, [each for each in found if each.rule is Rule.PREVIOUS_CONV])
    yield from rejection_figures(name, found)
    yield from value_figures(name, found, gains)
    yield from equal_cost_figures(name, differences)


def audit_twins(folder: Path, name: str) -> Iterator[Figure]:
    """Print the comparison with the truncated twins, if they are trained, and yield its figures."""
    path = folder / f"twins-{name}.csv.gz"
    if not path.exists():
        print(f"\n{name}: no truncated twins; {path} does not exist")
        return
    networks, twins = read_table(folder / f"{name}.csv.gz"), read_table(path)
    for keep_border in (True, False):
        pairs = pair(networks, twins, keep_border=keep_border)
        if len(pairs) < 2:
            continue
        show_twins(pairs, keep_border=keep_border)
        before = float(np.mean(pairs.accuracy))
        after = float(np.mean(pairs.accuracy - pairs.gain))
        kind = "with" if keep_border else "without"
        yield Figure(
            f"{name}: truncated twins {kind} the border layer; against the rejected networks",
            100 * after,
            100 * before,
            after / before,
            "ratio >= 1",
            "%",
        )


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
            yield Figure(
                f"{name}, {each.rule.value}, allow {each.allow_beyond}: rejected in the upper 5 % "
                "of the accepted of no higher cost; against rejecting most MACs",
                100 * ours.upper.share,
                100 * baseline.upper.share,
                _ratio(ours.upper, baseline.upper),
                "ratio < 1",
                "%",
            )
            yield Figure(
                f"{text}; against rejecting at random",
                100 * ours.measured.share,
                100 * each.random,
                ours.measured.share / each.random if each.random else 1.0,
                "ratio < 1",
                "%",
            )
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


def equal_cost_figures(name: str, differences: dict[int, Difference]) -> Iterator[Figure]:
    """Yield the accuracy of networks with convolutions beyond the border layer."""
    for number, found in differences.items():
        if found.pairs:
            others = found.accuracy - found.mean
            yield Figure(
                f"{name}: accuracy with {number} beyond the border layer; against 0 at equal MACs",
                100 * found.accuracy,
                100 * others,
                found.accuracy / others,
                "ratio < 1",
                "%",
            )


def main() -> int:
    parser = option_parser(__doc__)
    parser.add_argument("--tables", type=Path, default=RESULTS, help="folder of the tables")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the networks as SVG")
    try:
        run(parser.parse_args(namespace=Args()))
    except BadInputError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    return 0


def run(args: Args) -> None:
    """Audit all tables, and print the figures.

    Raises:
        BadInputError: the tables cannot be used, or the picture cannot be written.
    """
    if args.picture is not None and not args.picture.absolute().parent.is_dir():
        remedy = "name a file in an existing folder"
        raise BadInputError("--picture", args.picture, "its folder does not exist", remedy)
    effort = Effort(20, 100) if args.quick else Effort(200, 1000)
    figures: list[Figure] = []
    loaded = {name: load(args.tables, name) for name in PROTOCOLS}
    tables = {name: table for name, table in loaded.items() if table is not None}
    if not tables:
        problem = "it contains no table of plain networks"
        remedy = "run python -m experiments.plain_networks digits"
        raise BadInputError("--tables", args.tables, problem, remedy)
    for name, table in tables.items():
        figures += list(audit(name, table, effort))
        figures += list(audit_twins(args.tables, name))
    if args.picture is not None:
        draw(tables, args.picture)
    print()
    shown = Figures(args.json)
    for figure in figures:
        shown.add(figure)


if __name__ == "__main__":
    sys.exit(main())
