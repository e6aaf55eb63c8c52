"""The command `screen`: how the screens judge a space, without training."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

from optuna.samplers import RandomSampler
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from search.console import output, say
from search.experiment.defaults import complete, describe_choices
from search.experiment.schema import Experiment
from search.experiment.training_spec import load_images
from search.formatting import plural
from search.loop.preflight import FewCandidatesError, Prepared, prepare
from search.loop.screens import judge, reject_invalid
from search.loop.time_left.drawn import baseline_workloads
from search.reporting.preview.candidates import SpaceSize, costs_of
from search.reporting.preview.forecast import Capacity, Forecast, local_capacity, measure, predict
from search.study.records import Rejection
from search.study.study import Study
from spaces.candidate import Candidate
from spaces.errors import BadInputError, InvalidCandidateError
from trainables.data import Dataset

_Options = Mapping[str, tuple[object, bool]]
Check = Callable[[Prepared, Dataset], Capacity | None]
"""Refuses what only a driver can check; returns what the cluster trains at a time, if known."""


def screen_space(
    experiment: Experiment,
    draws: int,
    console: Console,
    check: Check,
    *,
    as_json: bool = False,
    measured: bool = False,
) -> None:
    """Draw candidates at random and print how the screens judge them.

    Args:
        experiment: of the search.
        draws: number of candidates.
        console: for the tables.
        check: refuses what only a driver can check.
        as_json: print one JSON document instead.
        measured: whether to train a few networks for an epoch, which predicts time and money.

    Raises:
        BadInputError: a search of this experiment would be refused.
    """
    dataset = load_images(experiment, console, notes=not as_json)
    images = dataset.training_images
    completed, length = complete(experiment, images, min(dataset.shape[:2]))
    prepared = prepare(completed, dataset)
    capacity = check(prepared, dataset)
    refused: FewCandidatesError | None = None
    try:
        prepared.check_space(images)
    except FewCandidatesError as error:
        refused = error  # The table shows why.
    counts, accepted = _judge(prepared, draws)
    expected: Forecast | None = None
    if measured and accepted and refused is None:
        found, device = measure(prepared.spec, accepted)
        capacity = capacity or local_capacity(completed, device)
        named = baseline_workloads(completed, prepared.spec.task)
        expected = predict(completed, capacity, accepted, found, device, named)
    options = _options(prepared, experiment.recipe)
    if as_json:
        document = _document(prepared, options, dataset, draws, counts, refused)
        output(json.dumps(document | _preview_document(accepted, expected)))
    else:
        choices = describe_choices(experiment, completed)
        for line in (choices, length, *prepared.remarks(images), prepared.summary):
            if line:
                say(console, line)
        _show(prepared, options, draws, counts, console)
        _show_preview(accepted, expected, console)
    if refused is not None:
        raise refused


@dataclass
class _Outcome:
    """How often the screens came to an outcome, with its first example."""

    count: int = 0
    example: str = ""


def _judge(prepared: Prepared, draws: int) -> tuple[dict[str, _Outcome], list[Candidate]]:
    """Return the outcomes of random candidates, the most frequent first, and the accepted ones."""
    space = prepared.space
    study = Study("screen", RandomSampler(seed=prepared.experiment.seed))
    found: defaultdict[str, _Outcome] = defaultdict(_Outcome)
    accepted: list[Candidate] = []
    for _ in range(draws):
        reason, example = "accepted", ""
        try:
            candidate = space.draw(study.ask())
        except InvalidCandidateError as error:
            rejection: Rejection | None = reject_invalid(error)
        else:
            space.check_output(candidate)
            rejection = judge(candidate, prepared.screens)
            if rejection is None:
                accepted.append(candidate)
            if candidate.truncated is not None:
                reason, example = "truncated", f"accepted with {candidate.truncated}"
        if rejection is not None:
            reason, example = rejection.reason, rejection.detail
        outcome = found[reason]
        outcome.count += 1
        outcome.example = outcome.example or example
    return dict(sorted(found.items(), key=lambda item: -item[1].count)), accepted


def _show_preview(
    accepted: Sequence[Candidate], expected: Forecast | None, console: Console
) -> None:
    if not accepted:
        return
    size = SpaceSize.of([each.architecture.digest for each in accepted])
    say(console, f"\nThe screens accept {size.shown}, apart from their recipes:")
    table = Table(box=None, header_style="dim")
    for column in ("cost", "least", "10%", "median", "90%", "most"):
        table.add_column(column)
    for name, values in costs_of(accepted).items():
        table.add_row(name, *(_number(value) for value in astuple(values)))
    console.print(table, highlight=False)
    for line in expected.sentences() if expected else ():
        say(console, line)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _preview_document(accepted: Sequence[Candidate], expected: Forecast | None) -> dict[str, Any]:
    if not accepted:
        return {"networks": None, "costs": None, "forecast": None}
    size = SpaceSize.of([each.architecture.digest for each in accepted])
    return {
        "networks": asdict(size),
        "costs": {name: asdict(values) for name, values in costs_of(accepted).items()},
        "forecast": None if expected is None else expected.document(),
    }


def _show(
    prepared: Prepared,
    options: _Options,
    draws: int,
    counts: Mapping[str, _Outcome],
    console: Console,
) -> None:
    shown = Table(box=None, header_style="dim")
    for column in ("option", "value", "from"):
        shown.add_column(column, overflow="fold")
    for name, (value, is_given) in options.items():
        shown.add_row(name, escape(_text(value)), "experiment" if is_given else "default")
    console.print(shown, highlight=False)
    table = Table(box=None, header_style="dim")
    for column in ("result", "candidates", "fraction", "example"):
        table.add_column(column)
    for reason, outcome in counts.items():
        count = outcome.count
        table.add_row(reason, str(count), f"{count / draws:.1%}", escape(outcome.example))
    say(
        console,
        f"\n{plural(draws, 'random candidate')} of {prepared.space.name}, none trained",
    )
    console.print(table, highlight=False)


def _options(prepared: Prepared, given: Collection[str]) -> _Options:
    """Return the options of space and recipe, and whether the experiment gives them.

    Args:
        prepared: the search.
        given: options of the recipe in the experiment; others follow from the images.
    """
    recipe = prepared.experiment.recipe
    return {
        **{f"space.{name}": option for name, option in prepared.space.options.items()},
        **{f"recipe.{name}": (value, name in given) for name, value in recipe.items()},
    }


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    return "none" if value is None else str(value)


def _document(
    prepared: Prepared,
    options: _Options,
    dataset: Dataset,
    draws: int,
    counts: Mapping[str, _Outcome],
    refused: BadInputError | None,
) -> dict[str, Any]:
    height, width, channels = dataset.shape
    return {
        "name": prepared.experiment.name,
        "data": {
            "source": prepared.experiment.data,
            "height": height,
            "width": width,
            "channels": channels,
            "classes": list(dataset.classes),
            "train": len(dataset.train),
            "validation": len(dataset.validation),
            "test": len(dataset.test),
            "notes": list(dataset.notes),
        },
        "space": prepared.space.name,
        "options": {
            name: {"value": value, "default": not is_given}
            for name, (value, is_given) in options.items()
        },
        "draws": draws,
        "results": {
            reason: {"candidates": outcome.count, "example": outcome.example}
            for reason, outcome in counts.items()
        },
        "refused": None if refused is None else str(refused),
    }
