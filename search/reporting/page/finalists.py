"""The finalists: each seed, interval, ties and baselines."""

from __future__ import annotations

from markupsafe import Markup

from search.reporting.charts.plot import Mark, Plot, Point, Series
from search.reporting.charts.scales import Axis
from search.reporting.finalist_metrics import metrics_section
from search.reporting.gathering import Gathered
from search.reporting.intervals import wilson
from search.reporting.page.frame import Part, details, figure, table
from search.reporting.sections.finalists import finalists_section
from search.reporting.standing import GUESS, REGRESSION
from search.study.finalist_ties import tied_with_first

_TEST = 2
_ELSEWHERE = ("by seed", "pools after", "kernel", "recipe")
"""Columns of the terminal that the page shows in other parts."""


def finalists_part(gathered: Gathered) -> Part | None:
    """Return the part on the finalists; None before they are retrained."""
    if not gathered.finalists:
        return None
    section = finalists_section(
        gathered.experiment,
        gathered.finalists,
        gathered.by_number,
        gathered.space,
        gathered.data,
        gathered.standing,
        gathered.behind,
    )
    places = [place for place, name in enumerate(section.header) if name not in _ELSEWHERE]
    shown = [[row[place] for place in places] for row in section.rows]
    content = [
        _seeds(gathered),
        table([section.header[place] for place in places], shown),
        details("Each seed", _each_seed(gathered)),
    ]
    content += [
        table(each.header, each.rows, " ".join([f"{each.heading}.", *each.sentences]))
        for each in metrics_section(gathered.metrics)
    ]
    return Part("Finalists", section.sentences, tuple(content))


def _each_seed(gathered: Gathered) -> Markup:
    rows = [
        (
            str(finalist.number),
            str(each.seed),
            f"{each.validation_accuracy:.4f}",
            f"{each.test_accuracy:.4f}",
            f"{each.seconds:.1f} s",
        )
        for finalist in gathered.finalists
        for each in finalist.results
    ]
    return table(("trial", "seed", "validation", "test accuracy", "training"), rows)


def _seeds(gathered: Gathered) -> Markup:
    tied = {gathered.finalists[0].number, *tied_with_first(gathered.behind)}
    data = gathered.data
    seeds, means, intervals = [], [], []
    for place, finalist in enumerate(gathered.finalists, start=1):
        name = f"trial {finalist.number}"
        mean, _ = finalist.test_accuracy
        seeds += [
            Point(place, each.test_accuracy, f"{name}, seed {each.seed}: {each.test_accuracy:.4f}")
            for each in finalist.results
        ]
        tie = ", tied with the first" if finalist.number in tied and place > 1 else ""
        means.append(Point(place, mean, f"{name}: mean test accuracy {mean:.4f}{tie}"))
        if data is not None:
            ends = wilson(mean, data.split_images(_TEST))
            intervals.append([Point(place, ends.low, ""), Point(place, ends.high, "")])
    levels = []
    if gathered.standing is not None:
        low = min(point.y for point in seeds)
        known = gathered.standing.baseline
        for text, value in ((REGRESSION, known.test), (GUESS, known.guess_test)):
            # A baseline far below would hide the differences between finalists.
            if value > low - 0.1:
                levels.append(Mark(value, text))
    plot = Plot(
        "Test accuracy of the finalists",
        Axis("rank by validation accuracy", low=0.5, high=len(means) + 0.5, whole=True),
        Axis("test accuracy", fraction=True),
        [
            *(
                Series("95% interval for the test images" if not n else "", ends, 0, "line")
                for n, ends in enumerate(intervals)
            ),
            Series("each seed", seeds, None),
            Series("mean of the seeds", means, 0),
        ],
        levels=levels,
    )
    return figure(plot, "Each retraining with a fresh seed, and their mean.")
