"""The table of goals: what the sampler of the project reaches, with p-values."""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import mean, stdev

from cluster.files import write_atomically
from quality.results import cell, p_value
from quality.runs import Clock, Run

OURS, TPE, FILTER = "auto", "tpe", "largest"
REACHED: Mapping[str, Mapping[int, float]] = {
    "nas-bench-macro": {25: 0.12, 50: 0.045, 100: 0.035},
    "channel-bench-macro-25": {100: 0.08},
    "channel-bench-macro-50": {100: 0.10},
}
"""Regret to reach, by table and trained networks."""
TRIALS, LOSS, TIME = 25, 1.3, 1 / 3
"""Trained networks to the regret of TPE after 100; regret of 64 workers relative to that of one;
device-seconds relative to those of TPE with ASHA."""

Regrets = Mapping[int, float]
"""By seed."""


@dataclass(frozen=True)
class Goal:
    """A figure and its goal.

    Attributes:
        figure: what is measured.
        table: of networks.
        seeds: number of runs.
        ours: the figure of the sampler.
        error: its standard error; None for a ratio or a number of trials.
        reference: the same figure of the arm ``against``.
        against: an arm, or the clock of one worker.
        p: two-sided p-value of the difference, Wilcoxon signed-rank over common seeds.
        goal: figure to reach.
    """

    figure: str
    table: str
    seeds: int
    ours: float
    error: float | None
    reference: float
    against: str
    p: float | None
    goal: float | None


class Measured:
    """The regrets of all runs."""

    def __init__(self, runs: Iterable[Run]) -> None:
        found: dict[tuple[Clock, str, str], dict[int, dict[int, float]]] = defaultdict(dict)
        for run in runs:
            for budget, regret in run.regrets.items():
                found[run.clock, run.table, run.arm].setdefault(budget, {})[run.seed] = regret
        self._found = found
        self.tables = list(dict.fromkeys(table for _, table, _ in found))

    def curve(self, clock: Clock, table: str, arm: str) -> dict[int, Regrets]:
        """Return the regrets by budget."""
        return dict(sorted(self._found.get((clock, table, arm), {}).items()))


def goals(runs: Iterable[Run]) -> list[Goal]:
    """Return the figures of which there are runs, over the seeds that both arms have."""
    measured = Measured(runs)
    found: list[Goal] = []
    for table in measured.tables:
        ours = measured.curve("trials", table, OURS)
        for arm in (TPE, FILTER):
            others = measured.curve("trials", table, arm)
            for budget in ours:
                goal = REACHED.get(table, {}).get(budget) if arm == TPE else None
                figure = f"regret after {budget} networks"
                found += _compared(figure, table, ours[budget], others.get(budget, {}), arm, goal)
        tpe = measured.curve("trials", table, TPE)
        found += _speed("networks to the regret of TPE after 100", table, ours, tpe, TRIALS)
        parallel = measured.curve("parallel", table, OURS)
        for budget in parallel.keys() & {100, 200} & ours.keys():
            figure = f"regret of 64 workers after {budget} networks"
            one = mean(ours[budget].values())
            found += _compared(
                figure, table, parallel[budget], ours[budget], "one worker", LOSS * one
            )
        ours, tpe = (measured.curve("asha", table, arm) for arm in (OURS, TPE))
        found += _speed("device-seconds to the regret of TPE with ASHA", table, ours, tpe, TIME)
        others = measured.curve("asha", table, FILTER)
        for budget in ours:
            figure = f"regret after the device-seconds of {budget} networks"
            found += _compared(figure, table, ours[budget], others.get(budget, {}), FILTER, None)
    return found


def _compared(
    figure: str, table: str, ours: Regrets, other: Regrets, against: str, goal: float | None
) -> list[Goal]:
    seeds = sorted(ours.keys() & other.keys())
    if len(seeds) < 2:
        return []
    one, two = ([each[seed] for seed in seeds] for each in (ours, other))
    p = p_value(dict(zip(seeds, one, strict=True)), dict(zip(seeds, two, strict=True)))
    error = stdev(one) / math.sqrt(len(one))
    return [Goal(figure, table, len(seeds), mean(one), error, mean(two), against, p, goal)]


def _speed(
    figure: str, table: str, ours: Mapping[int, Regrets], tpe: Mapping[int, Regrets], goal: float
) -> list[Goal]:
    """Return the budget after which our mean regret is that of TPE after its largest budget."""
    budgets = [budget for budget in tpe if budget in ours]
    last = max((budget for budget in budgets if budget <= 100), default=None)
    if last is None:
        return []
    seeds = sorted(ours[last].keys() & tpe[last].keys())
    if len(seeds) < 2:
        return []
    aim = mean(tpe[last][seed] for seed in seeds)
    curve = [
        (budget, mean(ours[budget][seed] for seed in seeds))
        for budget in ours
        if all(seed in ours[budget] for seed in seeds)
    ]
    reached = first_below(curve, aim)
    relative = goal < 1
    return [
        Goal(
            figure + (f" after {last}" if relative else ""),
            table,
            len(seeds),
            reached / last if relative else reached,
            None,
            1.0 if relative else float(last),
            TPE,
            None,
            goal,
        )
    ]


def first_below(curve: Sequence[tuple[int, float]], aim: float) -> float:
    """Return the budget at which a curve falls to a value, between budgets on a log scale.

    Infinity if it never does, and the first budget if it starts below.
    """
    before: tuple[int, float] | None = None
    for budget, value in curve:
        if value <= aim:
            if before is None:
                return float(budget)
            part = (before[1] - aim) / (before[1] - value)
            return float(before[0] * (budget / before[0]) ** part)
        before = budget, value
    return math.inf


def write_goals(path: Path, found: Sequence[Goal]) -> None:
    """Write the goals as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [each.name for each in fields(Goal)], lineterminator="\n")
    writer.writeheader()
    for goal in found:
        writer.writerow({name: cell(value) for name, value in asdict(goal).items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.getvalue())
