"""The page of a search: all parts, the most important first."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence

from markupsafe import Markup

from search.reporting.additional_results import additional_section
from search.reporting.gathering import Gathered
from search.reporting.page.advice import advice_part
from search.reporting.page.classes import classes_part
from search.reporting.page.coordinates import coordinates_part
from search.reporting.page.costs import costs_part
from search.reporting.page.curves import curves_part
from search.reporting.page.effort import effort_part
from search.reporting.page.finalists import finalists_part
from search.reporting.page.frame import Part, details, part_of, render_page
from search.reporting.page.head import head_part
from search.reporting.page.importance import importance_part
from search.reporting.page.leaderboard import leaderboard_part
from search.reporting.page.networks import networks_part
from search.reporting.page.progress import progress_part
from search.reporting.page.rejections import rejections_part
from search.reporting.page.result import lead
from search.reporting.probe_table import describe_probes
from search.reporting.rendering import Section

_Parts = tuple[Callable[[Gathered], Part | None], ...]
_RESULT: _Parts = (head_part, finalists_part)
_EVIDENCE: _Parts = (
    leaderboard_part,
    classes_part,
    networks_part,
    progress_part,
    curves_part,
    costs_part,
    rejections_part,
    importance_part,
    coordinates_part,
    effort_part,
    advice_part,
)


def search_page(
    gathered: Gathered, further: Sequence[Section] = (), refresh: int | None = None
) -> str:
    """Return the report of a search as one page.

    A part that cannot be made says so in its place: one unusual trial must not cost the user the
    result of a search.

    Args:
        gathered: the search.
        further: sections that follow, such as a comparison.
        refresh: seconds after which a browser loads the page again; None for never.
    """
    parts = _made(_RESULT, gathered)
    parts += map(part_of, additional_section(gathered.additional, gathered.standing))
    parts += _made(_EVIDENCE, gathered)
    sections = [*describe_probes(gathered.probes), *further]
    parts += [part_of(section) for section in sections]
    return render_page(f"Search {gathered.experiment.name}", parts, lead(gathered), refresh)


def _made(makers: _Parts, gathered: Gathered) -> list[Part]:
    parts = []
    for make in makers:
        try:
            part = make(gathered)
        except Exception as error:  # The other parts are still worth reading.
            part = _failed(make.__name__, error)
        if part is not None:
            parts.append(part)
    return parts


def _failed(maker: str, error: Exception) -> Part:
    name = maker.removesuffix("_part").capitalize()
    sentence = "This part could not be made, which is an error of Borderline. Please report it."
    where = Markup("<pre>{}</pre>").format("".join(traceback.format_exception(error)))
    return Part(name, (sentence,), (details("The error", where),))
