"""The most accurate trials as a table, and the candidates beyond the border layer."""

from __future__ import annotations

from markupsafe import Markup

from search.reporting.gathering import Gathered
from search.reporting.page.frame import Part, part_of, table
from search.reporting.sections.leaderboard import leaderboard, pareto_front
from search.reporting.sections.rejections import beyond_section


def leaderboard_part(gathered: Gathered) -> Part:
    """Return the part with the leaderboard and, for several objectives, the Pareto front."""
    section = leaderboard(gathered.summary, gathered.space, gathered.data, gathered.standing)
    part = part_of(section)
    sentences, content = list(part.sentences), list(part.content)
    beyond = beyond_section(gathered.experiment, gathered.summary)
    if beyond is not None:
        sentences += beyond.sentences
    if gathered.summary.front:
        front = pareto_front(gathered.experiment, gathered.summary, gathered.space, gathered.data)
        content.append(Markup("<h3>{}</h3>").format(front.heading))
        content += [Markup("<p>{}</p>").format(sentence) for sentence in front.sentences]
        content.append(table(front.header, front.rows))
    return Part(part.heading, tuple(sentences), tuple(content))
