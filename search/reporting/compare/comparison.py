"""Puts a comparison together: its sections, its page, and where the page is stored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import count, permutations
from pathlib import Path
from typing import Any

from markupsafe import Markup

from search.experiment.folder import Home
from search.reporting.charts.plot import Mark, Plot, Point, Series
from search.reporting.charts.scales import Axis
from search.reporting.compare.arm import Arm
from search.reporting.compare.comparability import comparability_section, comparable, obstacle
from search.reporting.compare.curves import best_so_far, common_accuracy
from search.reporting.compare.results import headline, results_section
from search.reporting.compare.settings import different_settings
from search.reporting.compare.spending import costs_section, equal_accuracy_section
from search.reporting.comparison import compare
from search.reporting.page.frame import Part, figure, part_of, render_page
from search.reporting.rendering import NOT_ALLOWED, Section
from spaces.errors import BadInputError

FOLDER = "_comparisons"
"""Folder of all pages, in the home of the searches; no search has such a name."""
_LONGEST_NAME = 120
_COLOURS = 8


def build(arms: Sequence[Arm]) -> list[Section]:
    """Return the sections of a comparison; each arm is compared with the first.

    Args:
        arms: two or more.
    """
    alike = comparable(arms)
    sections = [
        comparability_section(arms),
        results_section(arms),
        _settings(arms),
        costs_section(arms),
        equal_accuracy_section(alike),
    ]
    return [*sections, *_overlaps(alike)]


def render(arms: Sequence[Arm], sections: Sequence[Section]) -> str:
    """Return the page of a comparison.

    Args:
        arms: as in `build`.
        sections: what `build` returned for them.
    """
    parts = [part_of(section) for section in sections]
    # The curves follow the results, which they explain.
    parts.insert(2, _curves(comparable(arms)))
    return render_page(f"Comparison of {_listed(arms)}", parts, [headline(arms)])


def write_page(home: Home, arms: Sequence[Arm], page: str) -> Path:
    """Store the page of a comparison beside the others; no file is overwritten.

    Raises:
        OSError: the home is not the user's to write.
        BadInputError: it cannot be written for another reason.
    """
    folder = home.path / FOLDER
    name = re.sub(r"[^\w.-]+", "-", "-vs-".join(arm.name for arm in arms))[:_LONGEST_NAME]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            path = folder / (f"{name}.html" if number == 1 else f"{name}-{number}.html")
            try:
                with path.open("x", encoding="utf-8") as file:
                    file.write(page)
            except FileExistsError:
                continue
            break
    except OSError as error:
        if error.errno in NOT_ALLOWED:
            raise
        problem = f"cannot write the page ({error.strerror})"
        raise BadInputError("compare", folder, problem, "free disk space, or use --json") from None
    return path


def page_line(home: Home, arms: Sequence[Arm], sections: Sequence[Section]) -> str:
    """Store the page of a comparison, and return a line that says where.

    Args:
        home: of the searches; if it is not the user's to write, the line says so.
        arms: as in `build`.
        sections: what `build` returned for them.

    Raises:
        BadInputError: the page cannot be written for another reason.
    """
    try:
        return f"Web page: {write_page(home, arms, render(arms, sections))}"
    except OSError:
        return f"Web page: not written; {home.path} is not yours to write"


def document(arms: Sequence[Arm], sections: Sequence[Section]) -> dict[str, Any]:
    """Return a comparison for other programs."""
    return {
        "arms": [arm.name for arm in arms],
        "obstacles": {arm.name: obstacle(arms[0], arm) or None for arm in arms[1:]},
        "settings": different_settings([arm.experiment for arm in arms]),
        "sections": [
            {
                "heading": section.heading,
                "sentences": section.sentences,
                "header": section.header,
                "rows": section.rows,
            }
            for section in sections
        ],
    }


def _settings(arms: Sequence[Arm]) -> Section:
    found = different_settings([arm.experiment for arm in arms])
    heading = "Settings that differ"
    if not found:
        return Section(heading, ("None.",))
    header = ("setting", *(arm.name for arm in arms))
    return Section(heading, (), header, tuple((name, *row) for name, row in found.items()))


def _overlaps(arms: Sequence[Arm]) -> list[Section]:
    """Show the candidates that one arm rejected and another one trained."""
    found = [
        compare((one.name, one.trials), (other.name, other.trials))
        for one, other in permutations(arms, 2)
    ]
    none = Section(
        "Rejected in one, trained in another", ("No search trained what another one rejected.",)
    )
    return [section for section in found if section.rows] or [none]


def _curves(arms: Sequence[Arm]) -> Part:
    """Draw the best accuracy so far by trials and by device time."""
    target = common_accuracy(arms)
    levels = () if target is None else (Mark(target, "reached by all"),)
    y = Axis("best validation accuracy", fraction=True)
    by_trials, by_time = [], []
    for place, arm in enumerate(arms):
        trials, times = [], []
        for step in best_so_far(arm):
            label = f"{arm.name}, trial {step.number}: {step.best:.4f}"
            trials.append(Point(step.trials, step.best, label))
            times.append(Point(step.device_seconds / 60, step.best, label))
        by_trials.append(Series(arm.name, trials, place % _COLOURS, "step"))
        by_time.append(Series(arm.name, times, place % _COLOURS, "step"))
    charts: tuple[Markup, ...] = (
        figure(
            Plot("Best accuracy by trials", Axis("trained trials"), y, by_trials, levels=levels),
            "The best validation accuracy so far, after each trained trial.",
        ),
        figure(
            Plot("Best accuracy by time", Axis("device minutes"), y, by_time, levels=levels),
            "The same after the device time of all trials, in the order of their ends.",
        ),
    )
    return Part("Best accuracy so far", (), charts)


def _listed(arms: Sequence[Arm]) -> str:
    names = [arm.name for arm in arms]
    return f"{', '.join(names[:-1])} and {names[-1]}"
