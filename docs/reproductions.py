"""Describes the published experiments in Markdown, with the results in the repository."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from experiments.published import NAMES, find
from experiments.reproduction.records import Experiment, Protocol, Result, Table
from experiments.reproduction.results_file import RESULTS, read_results

ARXIV = "https://arxiv.org/abs/"


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
    if not (RESULTS / f"{experiment.name}.csv").exists():
        yield "**Results.** The repository contains no results of this experiment yet."
        return
    results = read_results(RESULTS, experiment.name, list(protocol.cases()))
    page = experiment.page(results)
    yield f"**Results** of the reduced protocol ({_conditions(results)}):"
    yield _list(page.answer)
    yield _table(page.comparison)
    if page.comparison.caption:
        yield _plain(page.comparison.caption)
    yield "Likely reasons for differences:"
    yield _list(page.differences)
    yield "The page with all figures, from these results:"
    yield (
        f"    python search.py reproduce {experiment.name} --protocol reduced "
        "--from experiments/results"
    )


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
