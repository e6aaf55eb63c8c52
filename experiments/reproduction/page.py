"""Writes the page of an experiment: one HTML file that needs no other file and no network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from experiments.reproduction.figures import draw
from experiments.reproduction.records import (
    Chart,
    Experiment,
    Protocol,
    Result,
    Section,
    Table,
)
from experiments.reproduction.templates import render
from search.formatting import duration


@dataclass(frozen=True)
class Run:
    """What a page is about.

    Attributes:
        experiment: the experiment.
        protocol_name: ``reduced`` or ``full``, or ``quick`` for a check of the installation.
        protocol: with which the results were trained.
        results: of the finished trainings, at least one.
        expected: number of trainings of the whole protocol.
        command: that makes the page.
    """

    experiment: Experiment
    protocol_name: str
    protocol: Protocol
    results: Sequence[Result]
    expected: int
    command: str


@dataclass(frozen=True)
class _Part:
    kind: str
    content: object
    drawing: Markup | None = None


@dataclass(frozen=True)
class _DrawnSection:
    heading: str
    sentences: tuple[str, ...]
    parts: tuple[_Part, ...]


def build_page(run: Run) -> str:
    """Return the page as HTML."""
    page = run.experiment.page(run.results)
    return render(
        "page.html",
        experiment=run.experiment,
        source=run.experiment.publication,
        protocol_name=run.protocol_name,
        protocol=run.protocol,
        page=page,
        sections=[_drawn(section) for section in page.sections],
        warnings=list(_warnings(run)),
        facts=_facts(run),
        command=run.command,
        trainings=[_training(result) for result in run.results],
    )


def _drawn(section: Section) -> _DrawnSection:
    return _DrawnSection(section.heading, section.sentences, tuple(map(_part, section.parts)))


def _part(part: Table | Chart | Markup) -> _Part:
    if isinstance(part, Table):
        return _Part("table", part)
    if isinstance(part, Chart):
        return _Part("chart", part, draw(part))
    return _Part("markup", part)


def _warnings(run: Run) -> Iterable[str]:
    if run.protocol_name == "quick":
        yield "A quick check of the installation: one epoch on few images. Ignore its numbers."
    if len(run.results) < run.expected:
        yield (
            f"{len(run.results):,} of {run.expected:,} trainings are finished. "
            "The command below trains the others."
        )
    if mixed := mixed_conditions(run.results):
        yield mixed


def mixed_conditions(results: Sequence[Result]) -> str:
    """Say that trainings differ in device or versions; empty if they are equal in both."""
    counts = Counter(
        f"{result.outcome.device}; {result.outcome.versions}"
        for result in {each.outcome.key: each for each in results}.values()
    )
    if len(counts) == 1:
        return ""
    parts = ", ".join(f"{count:,} on {conditions}" for conditions, count in counts.items())
    return (
        f"The trainings differ in device or versions ({parts}). Equal seeds then give slightly "
        "different numbers. To train all on one device, use another --work folder."
    )


def _facts(run: Run) -> list[tuple[str, str]]:
    outcomes = [result.outcome for result in run.results]
    unique = {outcome.key: outcome for outcome in outcomes}.values()
    dates = sorted({outcome.date for outcome in outcomes})
    seeds = sorted({outcome.seed for outcome in outcomes})
    aborted = sum(
        len(result.outcome.train_accuracies) < result.case.epochs for result in run.results
    )
    facts = [
        ("Trainings", f"{len(unique):,}, for {len({r.case.name for r in run.results}):,} cases"),
        ("Seeds", ", ".join(map(str, seeds))),
        ("Images", "; ".join(_each(outcome.images for outcome in outcomes))),
        ("Device", "; ".join(_each(outcome.device for outcome in outcomes))),
        ("CPU time", duration(sum(outcome.cpu_seconds for outcome in unique))),
        ("Versions", "; ".join(_each(outcome.versions for outcome in outcomes))),
        ("Date", dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"),
    ]
    if aborted:
        facts.insert(1, ("Aborted", f"{aborted:,} trainings that had not learned enough"))
    return facts


def _each(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _training(result: Result) -> tuple[str, ...]:
    outcome = result.outcome
    return (
        result.case.name,
        str(outcome.seed),
        f"{outcome.params:,}",
        f"{outcome.trained_params:,}",
        _percent(outcome.train_accuracy),
        _percent(outcome.test_accuracy),
        str(len(outcome.train_accuracies)),
        f"{outcome.cpu_seconds:,.0f}",
    )


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"
