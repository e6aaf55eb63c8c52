"""Describes the published experiments in Markdown, with the results in the repository."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from experiments.published import NAMES, find
from experiments.reproduction.figures import draw_file
from experiments.reproduction.records import Chart, Experiment, Page, Protocol, Result, Table
from experiments.reproduction.results_file import RESULTS, read_results

FIGURES = "figures"
"""Folder of the pictures in docs/."""
ARXIV = "https://arxiv.org/abs/"


@dataclass(frozen=True)
class Measured:
    """The results of an experiment in the repository, and their page."""

    results: Sequence[Result]
    page: Page


@cache
def measured(name: str, folder: Path) -> Measured | None:
    """Return the results of the reduced protocol of an experiment; None without results."""
    if not (folder / f"{name}.csv").exists():
        return None
    experiment = find(name)
    results = read_results(folder, name, list(experiment.protocols["reduced"].cases()))
    return Measured(results, experiment.page(results))


def picture_names() -> list[str]:
    """Return the names of the experiments with results in the repository."""
    return [name for name in NAMES if (RESULTS / f"{name}.csv").exists()]


def picture(name: str) -> str:
    """Return the picture of an experiment with results, as the content of an SVG file.

    Raises:
        LookupError: there are no results, or not those that the picture shows.
    """
    found = measured(name, RESULTS)
    if found is None or found.page.picture is None:
        raise LookupError(f"{RESULTS / name}.csv has no results for the picture of {name}")
    return draw_file(found.page.picture)


def reproductions() -> str:
    """Return one section for each experiment."""
    return "\n\n".join("\n\n".join(_experiment(find(name))) for name in NAMES)


def _experiment(experiment: Experiment) -> Iterator[str]:
    source = experiment.publication
    reduced, full = experiment.protocols["reduced"], experiment.protocols["full"]
    yield f"## {experiment.name}"
    authors = source.authors if source.year is None else f"{source.authors} {source.year}"
    place = "" if source.arxiv is None else f", [arXiv {source.arxiv}]({ARXIV}{source.arxiv})"
    yield f"**{_plain(experiment.title)}** ({authors}{place})"
    yield f"**Question.** {_plain(experiment.question)}"
    yield f"    python search.py reproduce {experiment.name}"
    yield from _protocol("Reduced protocol", reduced)
    yield from _protocol("Full protocol", full)
    yield from _results(experiment, reduced)


def _protocol(heading: str, protocol: Protocol) -> Iterator[str]:
    seeds = f"{protocol.seeds} seeds." if protocol.seeds > 1 else "One seed."
    minutes = protocol.minutes
    time = "" if minutes is None else f" About {minutes:.0f} CPU minutes on one core."
    yield f"**{heading}.** {_plain(' '.join(protocol.description))} {seeds}{time}"
    if protocol.deviations:
        yield "Differences from the publication:"
        yield _list(protocol.deviations)


def _results(experiment: Experiment, protocol: Protocol) -> Iterator[str]:
    found = measured(experiment.name, RESULTS)
    if found is None:
        yield "**Results.** The repository contains no results of this experiment yet."
        return
    page = found.page
    yield f"**Results** of the reduced protocol ({_conditions(found.results)}):"
    yield _list(page.answer)
    if page.picture is not None:
        yield f"{_plain(page.picture.title)}:"
        yield f"![{_plain(_shown(page.picture))}]({FIGURES}/{experiment.name}.svg)"
    yield _table(page.comparison)
    if page.comparison.caption:
        yield _plain(page.comparison.caption)
    yield "Likely reasons for differences:"
    yield _list(protocol.differences)
    yield "The page with all figures, from these results:"
    yield (
        f"    python search.py reproduce {experiment.name} --protocol reduced "
        "--from experiments/results"
    )


def _shown(chart: Chart) -> str:
    """Describe a chart for readers who do not see it."""
    series = "; ".join(each.name for each in chart.series)
    return f"{chart.y_label} over {chart.x_label}: {series}"


def _conditions(results: Sequence[Result]) -> str:
    outcomes = [result.outcome for result in results]
    parts = [
        sorted({outcome.device for outcome in outcomes}),
        sorted({outcome.versions for outcome in outcomes}),
        sorted({outcome.images for outcome in outcomes}),
        [max(outcome.date for outcome in outcomes)],
    ]
    seconds = sum({outcome.key: outcome.cpu_seconds for outcome in outcomes}.values())
    return "; ".join(
        [*(" and ".join(part) for part in parts), f"{seconds / 60:.0f} CPU minutes in all"]
    )


def _table(table: Table) -> str:
    lines = [table.header, ["---"] * len(table.header), *table.rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _list(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {_plain(sentence)}" for sentence in sentences)


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    """Escape what Markdown would interpret."""
    return "".join(f"\\{each}" if each in "\\`*_<[" else each for each in text)
