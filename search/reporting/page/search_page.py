"""The page of a search: all parts, the most important first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from search.reporting.additional_results import additional_section
from search.reporting.gathering import Gathered
from search.reporting.page.advice import advice_part
from search.reporting.page.classes import classes_part
from search.reporting.page.coordinates import coordinates_part
from search.reporting.page.costs import costs_part
from search.reporting.page.curves import curves_part
from search.reporting.page.effort import effort_part
from search.reporting.page.finalists import finalists_part
from search.reporting.page.frame import Part, part_of, render_page
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

    Args:
        gathered: the search.
        further: sections that follow, such as a comparison.
        refresh: seconds after which a browser loads the page again; None for never.
    """
    parts = [part for make in _RESULT if (part := make(gathered)) is not None]
    parts += map(part_of, additional_section(gathered.additional, gathered.standing))
    parts += [part for make in _EVIDENCE if (part := make(gathered)) is not None]
    sections = [*describe_probes(gathered.probes), *further]
    parts += [part_of(section) for section in sections]
    return render_page(f"Search {gathered.experiment.name}", parts, lead(gathered), refresh)
