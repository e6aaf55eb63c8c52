"""Parallel coordinates over the drawn parameters, the costs and the accuracy."""

from __future__ import annotations

from markupsafe import Markup

from search.reporting.charts.parallel import Line, draw_parallel
from search.reporting.charts.scales import Axis
from search.reporting.gathering import Gathered
from search.reporting.page.describing import label
from search.reporting.page.drawn_values import Drawn, drawn_values
from search.reporting.page.frame import Part, figure
from search.study.records import TrialRecord

MOST_LINES = 600
"""Lines that the chart draws: the better half of them are the best trials."""
_MOST_AXES = 9


def chosen_lines(records: list[TrialRecord]) -> list[TrialRecord]:
    """Return the trials that are drawn, the best last: the best, and an even sample of the others.

    Args:
        records: best first.
    """
    if len(records) <= MOST_LINES:
        return records[::-1]
    best, others = records[: MOST_LINES // 2], records[MOST_LINES // 2 :]
    step = len(others) / (MOST_LINES - len(best))
    sample = [others[int(place * step)] for place in range(MOST_LINES - len(best))]
    return [*best, *sample][::-1]


def coordinates_part(gathered: Gathered) -> Part | None:
    """Return the part with parallel coordinates; None for fewer than three trials."""
    ranked = sorted(gathered.scored, key=lambda record: (-(record.accuracy or 0), record.number))
    if len(ranked) < 3:
        return None
    shown = chosen_lines(ranked)
    drawn = [each for each in drawn_values(ranked) if each.varies][: _MOST_AXES - 2]
    drawn.append(Drawn("params", {r.number: r.param_count for r in ranked if r.param_count}))
    drawn.append(Drawn("MACs", {r.number: r.macs for r in ranked if r.macs}))
    drawn = [each for each in drawn if each.values]
    axes = [Axis(each.name, log=each.log) for each in drawn]
    axes.append(Axis("accuracy", fraction=True))
    lines = [
        Line([*(each.values.get(r.number) for each in drawn), r.accuracy], label(r)) for r in shown
    ]
    caption = (
        "A line for each trial. The colour is its rank by accuracy: orange the best fifth, blue "
        "the next. Drag along an axis to keep the lines that pass there; click on it to undo."
    )
    if len(shown) < len(ranked):
        caption += (
            f" {len(shown):,} of {len(ranked):,} trials are drawn: the best "
            f"{MOST_LINES // 2} and an even sample of the others."
        )
    tools = Markup(
        '<p class="tools"><label>Only the best <input type="range" min="1" max="{0}" value="{0}">'
        "</label></p>"
    ).format(len(shown))
    chart = figure(draw_parallel(axes, lines) + tools, caption, wide=True)
    return Part("All parameters at once", (), (chart,))
