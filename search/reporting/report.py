"""The report of a search: leaderboard, front, finalists, failures and rejections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from optuna.trial import FrozenTrial, TrialState

from search.experiment.objectives import Objective
from search.experiment.schema import Experiment
from search.experiment.sections import BorderRule
from search.experiment.training_length import TrainingLength
from search.formatting import are, duration, plural
from search.reporting.finalist_metrics import Values, metrics_section
from search.reporting.intervals import ties_with_first, wilson
from search.reporting.probe_table import describe_probes
from search.reporting.rendering import Section
from search.reporting.standing import GUESS, REGRESSION, Standing
from search.study.finalist_ties import tied_with_first
from search.study.finalists import Finalist
from search.study.records import TrialRecord
from search.study.savings import FEWEST, SavedTime
from search.study.significance import Comparison
from search.study.summary import Summary, summarise
from search.tracking.field_plot import field_plot
from search.tracking.network_params import describe
from spaces.border import find_border
from spaces.candidate import CandidateSpace
from spaces.recipe import DRAWN
from trainables.data_identity import DataIdentity
from trainables.probes.records import NetworkProbes

SHOWN = 10
FEW_VALIDATION = 200
"""Below it, the report names folds as a remedy for ties: 95% intervals are over 10 points wide."""
_WIDEST = 40


def build_report(
    experiment: Experiment,
    trials: Sequence[FrozenTrial],
    finalists: Sequence[Finalist],
    space: CandidateSpace,
    data: DataIdentity | None,
    standing: Standing | None = None,
    behind: Mapping[int, Comparison] | None = None,
    probes: Iterable[tuple[str, NetworkProbes]] = (),
    metrics: Values | None = None,
) -> list[Section]:
    """Return the report of a search.

    Args:
        experiment: of the search.
        trials: all trials of its study.
        finalists: retrained candidates, best first; empty before they are retrained.
        space: rebuilds the candidates.
        data: identity of its data; None if an older version started the search.
        standing: of the winner against the baseline; None before the baseline is computed.
        behind: see `search.study.finalist_ties.distances`.
        probes: of trained networks, with the names of their files.
        metrics: see `search.reporting.finalist_metrics.read_metrics`.
    """
    summary = summarise(trials)
    records = [TrialRecord.of(trial) for trial in trials]
    by_number = {record.number: record for record in records}
    sections = [_data(experiment, data), _leaderboard(summary, space, data, standing)]
    if summary.front:
        sections.append(_front(experiment, summary, space, data))
    if finalists:
        sections.append(
            _finalists(experiment, finalists, by_number, space, data, standing, behind or {})
        )
        sections += metrics_section(metrics or {})
    if summary.failed:
        sections.append(_failures(records))
    sections.append(_rejections(experiment, summary))
    beyond = _beyond(experiment, summary)
    if beyond is not None:
        sections.append(beyond)
    shown = finalists[0].number if finalists else summary.best.number if summary.best else None
    if shown is not None:
        candidate = space.rebuild(by_number[shown].params)
        analysis = find_border(candidate.architecture, experiment.screens.rule)
        plot = field_plot(analysis, f"trial {shown}")
        sections.append(Section("Receptive field of the best candidate", picture=plot))
    return [*sections, *describe_probes(probes)]


def _data(experiment: Experiment, data: DataIdentity | None) -> Section:
    known = "not recorded, because an older version started the search"
    return Section("Data", (f"{experiment.data}: {data.describe() if data else known}.",))


def _leaderboard(
    summary: Summary, space: CandidateSpace, data: DataIdentity | None, standing: Standing | None
) -> Section:
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
                _interval(trial.accuracy or 0.0, None if data is None else data.validation_images),
                f"{trial.param_count:,}",
                f"{(trial.macs or 0) / 1e6:,.2f}",
                *_structure(trial, space),
                _epochs(trial),
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
        *_STRUCTURE,
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


def _interval(accuracy: float, images: int | None) -> str:
    return "-" if images is None else str(wilson(accuracy, images))


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


def _epochs(trial: TrialRecord) -> str:
    stopped = "" if trial.outcome is TrialState.COMPLETE else ", stopped"
    return f"{trial.epochs}{stopped}"


def _front(
    experiment: Experiment, summary: Summary, space: CandidateSpace, data: DataIdentity | None
) -> Section:
    """Show the trials that no other trial beats in all objectives."""
    costs = experiment.objectives[1:]
    rows = tuple(
        (
            str(trial.number),
            f"{trial.accuracy:.4f}",
            _interval(trial.accuracy or 0.0, None if data is None else data.validation_images),
            *(_cost(each, value) for each, value in zip(costs, trial.values[1:], strict=True)),
            *_structure(trial, space),
            _epochs(trial),
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
        *_STRUCTURE,
        "epochs",
    )
    return Section("Pareto front", (sentence,), header, rows)


def _cost(objective: Objective, value: float) -> str:
    if objective == "params":
        return f"{value:,.0f}"
    return f"{value / 1e6 if objective == 'macs' else value:,.2f}"


_STRUCTURE = ("features", "pools after", "kernel", "recipe")
_SHORT = {
    "learning_rate": "lr",
    "weight_decay": "decay",
    "batch_size": "batch",
    "label_smoothing": "smoothing",
}


def _recipe(trial: TrialRecord) -> str:
    """Return the drawn values of the recipe; a text such as adamw needs no name."""
    parts = []
    for name in DRAWN:
        if name in trial.params:
            value = trial.params[name]
            shown = f"{value:.2g}" if isinstance(value, float) else str(value)
            parts.append(shown if isinstance(value, str) else f"{_SHORT.get(name, name)} {shown}")
    return ", ".join(parts) or "as given"


def _structure(trial: TrialRecord, space: CandidateSpace) -> tuple[str, str, str, str]:
    found = describe(space.rebuild(trial.params).architecture)
    features = str(found["features"])
    if len(features) > _WIDEST:
        features = f"{features[: _WIDEST - 2]}.."
    if trial.truncated is not None:
        features += f" ({trial.truncated})"
    return features, str(found["pools_after"]), str(found["kernel"]), _recipe(trial)


def _finalists(
    experiment: Experiment,
    finalists: Sequence[Finalist],
    trials: dict[int, TrialRecord],
    space: CandidateSpace,
    data: DataIdentity | None,
    standing: Standing | None,
    behind: Mapping[int, Comparison],
) -> Section:
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
                _interval(
                    finalist.validation_accuracy,
                    None
                    if data is None
                    else data.finalist_validation_images(each.seed for each in finalist.results),
                ),
                _distance(behind.get(finalist.number)),
                str(len(finalist.results)),
                f"{trial.param_count:,}",
                *_structure(trial, space),
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
        *_STRUCTURE,
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
        interval = _interval(winner.test_accuracy[0], data.split_images(2))
        sentences.append(f"95% interval for {data.split_images(2):,} test images: {interval}.")
    if standing is not None and data is not None:
        sentences.append(standing.on_test)
        if standing.success:
            sentences.append(standing.success)
        if warning := standing.warning(TrainingLength.of(experiment, data.training_images)):
            sentences.append(warning)
    return tuple(sentences)


def _failures(trials: Sequence[TrialRecord]) -> Section:
    """Show the causes of failures, the most frequent first."""
    failed: dict[str, list[int]] = {}
    for trial in trials:
        if trial.is_trained and trial.outcome is TrialState.FAIL:
            failed.setdefault(trial.reason, []).append(trial.number)
    rows = []
    for what, numbers in sorted(failed.items(), key=lambda each: -len(each[1]))[:SHOWN]:
        more = ", .." if len(numbers) > SHOWN else ""
        rows.append((what, str(len(numbers)), ", ".join(map(str, numbers[:SHOWN])) + more))
    return Section("Failed", (), ("cause", "candidates", "trials"), tuple(rows))


def _rejections(experiment: Experiment, summary: Summary) -> Section:
    saved = summary.savings.by_reason
    rows = tuple(
        (reason, f"{count:,}", saved[reason].shown if reason in saved else "-")
        for reason, count in summary.rejections.items()
    )
    border = experiment.screens.border
    sentences = [f"Border screen: {border.value}."]
    if border is BorderRule.TRUNCATE:
        sentences.append("Truncated networks keep the border layer.")
    elif border is not BorderRule.OFF:
        sentences.append("The border layer itself is accepted.")
    if experiment.sampler == "auto":
        sentences.append("The sampler auto proposes only candidates that every screen accepts.")
    if summary.rejected:
        sentences += _saved(summary)
    else:
        sentences.append("No candidate was rejected.")
    header = ("reason", "candidates", "predicted time saved") if rows else ()
    return Section("Rejected before training", tuple(sentences), header, rows)


def _saved(summary: Summary) -> list[str]:
    """Say how much device time the rejections saved, and how sure that is."""
    savings = summary.savings
    trained, total = savings.trained_seconds, savings.total
    training = f"Training took {duration(trained)} of device time."
    count = f"{plural(summary.rejected, 'candidate')} rejected before training"
    if not savings.by_reason:
        fewest = (
            f"; the time that they saved is predicted once {FEWEST} trials have ended"
            if savings.waiting
            else ", which saved no device time"
        )
        return [f"{count}{fewest}. {training}"]
    times = f", {_range(total, trained)} times the time spent on training" if trained else ""
    sentences = [
        f"{count}. Predicted device time saved: {total.shown} "
        f"({_range(total, 3600, 4)} device-hours{times}). {training}"
    ]
    if total.high is None:
        sentences.append(
            '"At least": some rejected candidates cost more than every trained one, so that their '
            "time is not extrapolated."
        )
    return sentences


def _range(saved: SavedTime, unit: float, digits: int = 1) -> str:
    """Show an interval in another unit, given in seconds."""
    low = f"{saved.low / unit:.{digits}f}"
    if saved.high is None:
        return f"at least {low}"
    high = f"{saved.high / unit:.{digits}f}"
    return low if low == high else f"{low} to {high}"


def _beyond(experiment: Experiment, summary: Summary) -> Section | None:
    """Compare trained candidates with layers beyond the border against the others."""
    beyond = [trial for trial in summary.leaderboard if trial.beyond > 0]
    if not beyond:
        return None
    within = [trial for trial in summary.leaderboard if not trial.beyond]
    screens = experiment.screens
    allowed = (
        "the border screen was off"
        if screens.border is BorderRule.OFF
        else f"screens.allow_beyond was {screens.allow_beyond}"
        + ("" if screens.several_paths else ", and networks with several paths are not rejected")
    )
    sentence = (
        f"{len(beyond):,} of {len(summary.leaderboard):,} trained candidates have convolutions "
        f"beyond the border layer ({allowed}). Their best validation accuracy is "
        f"{best_accuracy(beyond)} against {best_accuracy(within)} of the {len(within):,} "
        "candidates within it."
    )
    return Section("Trained beyond the border", (sentence,))


def best_accuracy(trials: Sequence[TrialRecord]) -> str:
    """Return the best validation accuracy of the trials; "none" without a trial."""
    return f"{max(t.accuracy or 0.0 for t in trials):.4f}" if trials else "none"


def _were(count: int, what: str) -> str:
    """Return a sentence such as `` 2 were interrupted.``; nothing for none."""
    return f" {count:,} {'was' if count == 1 else 'were'} {what}." if count else ""
