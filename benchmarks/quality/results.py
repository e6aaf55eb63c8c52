"""Summarises runs: means with standard errors, paired p-values, a CSV file and a picture."""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import mean, stdev

import matplotlib
from matplotlib.figure import Figure as Canvas
from scipy.stats import wilcoxon

from cluster.files import write_atomically
from quality.runs import Clock, Run

REFERENCES = ("random", "largest", "tpe")
"""Arms with which every other one is compared."""
LABELS: dict[Clock, str] = {
    "trials": "trained networks",
    "asha": "device-seconds with ASHA, in trainings of the median network",
    "full": "device-seconds without ASHA, in trainings of the median network",
}


@dataclass(frozen=True)
class Summary:
    """The regret of an arm at one budget, in accuracy points.

    Attributes:
        clock: what the budget counts; see `quality.runs.Clock`.
        table: of networks.
        arm: of the comparison.
        budget: in trained networks, or in trainings of the median network.
        seeds: number of runs.
        regret: mean over the runs.
        error: standard error of the mean.
        p_random: p-value of the difference from the arm ``random``: two-sided Wilcoxon signed-rank
            test over common seeds; None without common seeds.
        p_largest: the same for ``largest``.
        p_tpe: the same for ``tpe``.
    """

    clock: Clock
    table: str
    arm: str
    budget: int
    seeds: int
    regret: float
    error: float
    p_random: float | None
    p_largest: float | None
    p_tpe: float | None


def summarise(runs: Iterable[Run]) -> list[Summary]:
    """Return one summary for each clock, table, arm and budget."""
    regrets: dict[tuple[Clock, str, str, int], dict[int, float]] = defaultdict(dict)
    for run in runs:
        for budget, regret in run.regrets.items():
            regrets[run.clock, run.table, run.arm, budget][run.seed] = regret
    found = []
    for (clock, table, arm, budget), of_seeds in regrets.items():
        values = list(of_seeds.values())
        p_values = {
            f"p_{other}": p_value(of_seeds, regrets.get((clock, table, other, budget), {}))
            for other in REFERENCES
        }
        error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        found.append(
            Summary(clock, table, arm, budget, len(values), mean(values), error, **p_values)
        )
    return found


def p_value(ours: dict[int, float], others: dict[int, float]) -> float | None:
    """Return the p-value of paired regrets by seed; None if no seeds are common."""
    seeds = sorted(ours.keys() & others.keys())
    differences = [ours[seed] - others[seed] for seed in seeds]
    if ours is others or not seeds:
        return None
    if not any(differences):
        return 1.0
    return float(wilcoxon(differences, zero_method="zsplit", method="asymptotic").pvalue)


def write_csv(path: Path, summaries: Sequence[Summary]) -> None:
    """Write the summaries with four decimals."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [each.name for each in fields(Summary)], lineterminator="\n")
    writer.writeheader()
    for summary in summaries:
        writer.writerow({name: cell(value) for name, value in asdict(summary).items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.getvalue())


def cell(value: object) -> object:
    """Return a value as a CSV file shows it."""
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) >= 1e-4 or not value else f"{value:.1e}"
    return "" if value is None else value


def draw(path: Path, summaries: Sequence[Summary], floors: Mapping[str, float]) -> None:
    """Draw regret over budget as SVG, with a band of one standard error around each mean.

    Args:
        path: of the picture.
        summaries: to draw.
        floors: regret by table after training every network once, drawn as a dotted line.
    """
    panels = list(dict.fromkeys((each.clock, each.table) for each in summaries))
    arms = list(dict.fromkeys(each.arm for each in summaries))
    colours = {arm: f"C{index}" for index, arm in enumerate(arms)}
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    canvas = Canvas(figsize=(4.4 * columns, 3.6 * rows), layout="constrained")
    axes = canvas.subplots(rows, columns, squeeze=False)
    for place, (clock, table) in zip(axes.flat, panels, strict=False):
        place.set_title(table, fontsize=10)
        place.set_xlabel(LABELS[clock], fontsize=8)
        place.set_ylabel("regret, accuracy points", fontsize=8)
        place.set_xscale("log")
        for arm in arms:
            line = [
                each
                for each in summaries
                if (each.clock, each.table, each.arm) == (clock, table, arm)
            ]
            line.sort(key=lambda each: each.budget)
            budgets = [each.budget for each in line]
            place.plot(budgets, [each.regret for each in line], color=colours[arm], label=arm)
            place.fill_between(
                budgets,
                [each.regret - each.error for each in line],
                [each.regret + each.error for each in line],
                color=colours[arm],
                alpha=0.15,
                linewidth=0,
            )
        place.axhline(floors[table], color="0.5", linestyle=":", linewidth=1)
        ticks = sorted({each.budget for each in summaries if each.clock == clock})
        place.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
        # Regrets of the first networks would hide the differences between the later ones.
        top = max(each.regret for each in summaries if each.table == table and each.budget >= 10)
        place.set_ylim(0, 1.1 * top)
    for place in axes.flat[len(panels) :]:
        place.remove()
    axes.flat[0].legend(fontsize=7, loc="upper right")
    with matplotlib.rc_context({"svg.hashsalt": "search quality", "svg.fonttype": "none"}):
        text = io.StringIO()
        canvas.savefig(text, format="svg", metadata={"Date": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.getvalue())
