"""What a search did not train, or not to the end: rejections, failures, candidates beyond."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import TrialState

from search.experiment.schema import Experiment
from search.experiment.sections import BorderRule
from search.formatting import duration, plural
from search.reporting.rendering import Section
from search.reporting.sections.columns import SHOWN
from search.study.records import TrialRecord
from search.study.savings import FEWEST, SavedTime
from search.study.summary import Summary


def failures_section(trials: Sequence[TrialRecord]) -> Section:
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


def rejections_section(experiment: Experiment, summary: Summary) -> Section:
    """Count what the screens rejected, with the device time that this saved."""
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


def beyond_section(experiment: Experiment, summary: Summary) -> Section | None:
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
