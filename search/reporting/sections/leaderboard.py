"""The leaderboard of a search, and its Pareto front."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import TrialState

from search.experiment.objectives import Objective
from search.experiment.schema import Experiment
from search.formatting import are, plural
from search.reporting.intervals import ties_with_first
from search.reporting.rendering import Section
from search.reporting.sections.columns import SHOWN, STRUCTURE, epochs_of, interval, structure
from search.reporting.standing import GUESS, REGRESSION, Standing
from search.study.records import TrialRecord
from search.study.summary import Summary
from spaces.candidate import CandidateSpace
from trainables.data_identity import DataIdentity

FEW_VALIDATION = 200
"""Below it, the report names folds as a remedy for ties: 95% intervals are over 10 points wide."""


def leaderboard(
    summary: Summary, space: CandidateSpace, data: DataIdentity | None, standing: Standing | None
) -> Section:
    """Show the most accurate trials, those within noise of the first with its rank."""
    complete = [
        trial.accuracy or 0.0
        for trial in summary.leaderboard
        if trial.outcome is TrialState.COMPLETE
    ]
    ties = ties_with_first(complete, data.validation_images) if data else 0
    rows = []
    for rank, trial in enumerate(summary.leaderboard[:SHOWN], start=1):
        rows.append(
            (
                "=1" if 1 < ties >= rank else str(rank),
                str(trial.number),
                f"{trial.accuracy:.4f}",
                interval(trial.accuracy or 0.0, None if data is None else data.validation_images),
                f"{trial.param_count:,}",
                f"{(trial.macs or 0) / 1e6:,.2f}",
                *structure(trial, space),
                epochs_of(trial),
            )
        )
    counts = (
        f"{plural(summary.trained, 'candidate')} trained: {summary.complete:,} complete, "
        f"{summary.pruned:,} stopped early, {summary.failed:,} failed; {summary.running:,} running."
        + _were(summary.interrupted, "interrupted")
        + _were(summary.truncated, "truncated at the border layer")
    )
    header = (
        "#",
        "trial",
        "validation",
        "95%",
        "params",
        "MMACs",
        *STRUCTURE,
        "epochs",
    )
    edited = _edited(summary.leaderboard[:SHOWN], space)
    sentences = [counts, *edited]
    if line := summary.prospect_line:
        sentences.append(f"{line[0].upper()}{line[1:]}.")
    if data is not None and data.folds is not None:
        sentences.append(
            f"Validation is by {data.folds.setting}: each accuracy counts all "
            f"{data.validation_images:,} training images, each scored by networks that were not "
            "trained on it. Each finalist's seed holds out one fold."
        )
    if ties > 1:
        sentences.append(
            f"{ties:,} candidates are marked =1: chance on {_scored(data)} explains their "
            "distance from the best."
        )
        if data is not None and data.folds is None and data.validation_images < FEW_VALIDATION:
            images = data.split_images(0) + data.split_images(1)
            sentences.append(
                f"A new search with validation: folds=5 would score each on {images:,} images, at "
                "five times the cost."
            )
    if standing is not None:
        baseline = standing.baseline
        sentences.append(
            f"For comparison, on validation {GUESS} reaches {baseline.guess_validation:.4f}, and "
            f"{REGRESSION} {baseline.validation:.4f}."
        )
    return Section("Leaderboard", tuple(sentences), header, tuple(rows))


def _scored(data: DataIdentity | None) -> str:
    """Return in words which images validate a candidate."""
    images = data.validation_images if data else 0
    if data is not None and data.folds is not None:
        return f"the {images:,} training images, each held out by one fold,"
    return f"{images:,} validation images"


def _edited(shown: Sequence[TrialRecord], space: CandidateSpace) -> tuple[str, ...]:
    """Say which trials trained another network than the space draws from their parameters now."""
    other = [
        str(trial.number)
        for trial in shown
        if trial.digest and space.rebuild(trial.params).digest != trial.digest
    ]
    if not other:
        return ()
    trials = f"trial {other[0]}" if len(other) == 1 else f"trials {', '.join(other)}"
    return (
        f"The space {space.name} changed: {trials} trained another network than it draws now. "
        "The columns from features to kernel show the network that it draws now.",
    )


def pareto_front(
    experiment: Experiment, summary: Summary, space: CandidateSpace, data: DataIdentity | None
) -> Section:
    """Show the trials that no other trial beats in all objectives."""
    costs = experiment.objectives[1:]
    rows = tuple(
        (
            str(trial.number),
            f"{trial.accuracy:.4f}",
            interval(trial.accuracy or 0.0, None if data is None else data.validation_images),
            *(_cost(each, value) for each, value in zip(costs, trial.values[1:], strict=True)),
            *structure(trial, space),
            epochs_of(trial),
        )
        for trial in summary.front
    )
    sentence = (
        f"{are(len(rows), 'candidate')} Pareto-optimal: no other candidate beats them in "
        f"{', '.join(experiment.objectives)} together. Candidates stopped early count with their "
        "last accuracy; candidates that stopped themselves as hopeless are excluded."
    )
    names: dict[Objective, str] = {
        "params": "params",
        "macs": "MMACs",
        "latency": "ms for 1 image",
        "batch_latency": f"ms for {experiment.latency_batch} images",
    }
    header = (
        "trial",
        "validation",
        "95%",
        *(names[each] for each in costs),
        *STRUCTURE,
        "epochs",
    )
    return Section("Pareto front", (sentence,), header, rows)


def _cost(objective: Objective, value: float) -> str:
    if objective == "params":
        return f"{value:,.0f}"
    return f"{value / 1e6 if objective == 'macs' else value:,.2f}"


def _were(count: int, what: str) -> str:
    """Return a sentence such as `` 2 were interrupted.``; nothing for none."""
    return f" {count:,} {'was' if count == 1 else 'were'} {what}." if count else ""
