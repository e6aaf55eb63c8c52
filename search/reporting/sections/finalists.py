"""The finalists of a search: seeds, intervals, ties and the comparison with the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from search.experiment.schema import Experiment
from search.experiment.training_length import TrainingLength
from search.reporting.rendering import Section
from search.reporting.sections.columns import STRUCTURE, interval, structure
from search.reporting.standing import Standing
from search.study.finalist_ties import tied_with_first
from search.study.finalists import Finalist
from search.study.records import TrialRecord
from search.study.significance import Comparison
from spaces.candidate import CandidateSpace
from trainables.data_identity import DataIdentity


def finalists_section(
    experiment: Experiment,
    finalists: Sequence[Finalist],
    trials: dict[int, TrialRecord],
    space: CandidateSpace,
    data: DataIdentity | None,
    standing: Standing | None,
    behind: Mapping[int, Comparison],
) -> Section:
    """Show the finalists, best first, with each seed."""
    ties = tied_with_first(behind)
    tied = {finalists[0].number, *ties} if ties else set()
    rows = []
    for rank, finalist in enumerate(finalists, start=1):
        trial = trials[finalist.number]
        rows.append(
            (
                "=1" if finalist.number in tied else str(rank),
                str(finalist.number),
                finalist.shown,
                ", ".join(f"{result.test_accuracy:.4f}" for result in finalist.results),
                f"{finalist.validation_accuracy:.4f}",
                interval(
                    finalist.validation_accuracy,
                    None
                    if data is None
                    else data.finalist_validation_images(each.seed for each in finalist.results),
                ),
                _distance(behind.get(finalist.number)),
                str(len(finalist.results)),
                f"{trial.param_count:,}",
                *structure(trial, space),
            )
        )
    header = (
        "#",
        "trial",
        "test accuracy",
        "by seed",
        "validation",
        "95%",
        "behind the first",
        "seeds",
        "params",
        *STRUCTURE,
    )
    sentences = _result(experiment, finalists, data, standing)
    if data is not None and data.folds is not None and len(finalists) > 1:
        sentences += (
            "Each seed holds out another fold, so the report cannot say how far chance explains "
            "the distance between finalists.",
        )
    if ties:
        sentences += (
            f"{len(tied)} finalists are marked =1: chance, of the validation images and of the "
            "seeds, explains their distance from the first.",
        )
    return Section("Finalists", sentences, header, tuple(rows))


def _distance(behind: Comparison | None) -> str:
    """Show how far a finalist is behind the first, with the interval."""
    if behind is None:
        return "-"
    return f"{behind.difference:.4f} ({behind.low:+.4f} to {behind.high:+.4f})"


def _result(
    experiment: Experiment,
    finalists: Sequence[Finalist],
    data: DataIdentity | None,
    standing: Standing | None,
) -> tuple[str, ...]:
    """Say how accurate the winner is, how sure that is, and how it compares with the baseline."""
    winner = finalists[0]
    seeds = len(winner.results)
    several = f"mean and standard deviation of {seeds} fresh seeds"
    sentences = [
        f"Result: trial {winner.number} with test accuracy {winner.shown} "
        f"({several if seeds > 1 else 'one fresh seed'}; ranked by validation accuracy, so the "
        "test images decided nothing)."
    ]
    if data is not None:
        found = interval(winner.test_accuracy[0], data.split_images(2))
        sentences.append(f"95% interval for {data.split_images(2):,} test images: {found}.")
    if standing is not None and data is not None:
        sentences.append(standing.on_test)
        if standing.success:
            sentences.append(standing.success)
        if warning := standing.warning(TrainingLength.of(experiment, data.training_images)):
            sentences.append(warning)
    return tuple(sentences)
