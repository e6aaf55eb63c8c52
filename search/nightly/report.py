"""The report of a night: what changed since the previous one; and the page of all nights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from search.experiment.objectives import Objective
from search.experiment.schema import Experiment
from search.formatting import are, duration, plural
from search.nightly.history import NOTHING, Decision, Night, Ruling, Snapshot, State
from search.nightly.trend_plot import trend
from search.reporting.rendering import Section
from search.reporting.sections.columns import SHOWN
from search.reporting.standing import Standing
from search.templates import render

_ENDINGS = {
    State.RUNNING: "running, or killed",
    State.FINISHED: "finished",
    State.UNDECIDED: "the comparison with the champion is pending",
    State.INTERRUPTED: "interrupted",
    State.FAILED: "failed",
}


def build_night(
    experiment: Experiment, night: Night, last: Night | None, standing: Standing | None = None
) -> list[Section]:
    """Return the report of a night.

    Args:
        experiment: of the search.
        night: to report.
        last: the previous night; None for the first.
        standing: of the best finalist against the baseline; None before the baseline is computed.
    """
    before = last.after if last is not None and last.after is not None else NOTHING
    sections = [_summary(night, before)]
    if night.after is None:
        return sections
    since = f"the night {last.name}" if last is not None else "the search began"
    sections.append(_champion(experiment, night))
    sections.append(_changes(experiment, before, night.after, since))
    if night.after.front:
        sections.append(_front(experiment.objectives, before, night.after))
    if night.after.rejections:
        sections.append(_rejections(before, night.after))
    failures = _failures(before, night.after)
    if failures is not None:
        sections.append(failures)
    if night.finalists:
        sections.append(_finalists(night, standing))
    return sections


def headline(night: Night, last: Night | None) -> str:
    """Return the result of a night in a few words."""
    if night.state is not State.FINISHED:
        return _ENDINGS[night.state]
    before = last.after if last is not None and last.after is not None else NOTHING
    return f"{_ruling(night.decision)}; {_best(before, night.after or NOTHING)}"


def _ruling(decision: Decision | None) -> str:
    if decision is None:
        return "no finalists"
    return {
        Ruling.FIRST: f"trial {decision.trial} is the first champion",
        Ruling.PROMOTED: f"trial {decision.trial} is the new champion",
        Ruling.KEPT: "the champion stays",
        Ruling.SAME: "the champion is still the best",
    }[decision.ruling]


def _best(before: Snapshot, after: Snapshot) -> str:
    new, old = after.best, before.best
    if new is None:
        return "no complete trial yet"
    text = f"{new.accuracy:.4f} (trial {new.trial})"
    if old is None:
        return f"best validation accuracy {text}"
    if new.accuracy > old.accuracy:
        return f"new best validation accuracy {text}, {new.accuracy - old.accuracy:+.4f}"
    return f"best validation accuracy still {text}"


def _summary(night: Night, before: Snapshot) -> Section:
    began, ended = _moment(night.began), _moment(night.ended)
    parts = [f"Began {began}, ended {ended}: {_ENDINGS[night.state]}."]
    if night.note:
        parts.append(night.note)
    if night.after is not None:
        best = _best(before, night.after)
        parts.append(f"{best[0].upper()}{best[1:]}.")
    return Section("In short", tuple(parts))


def _moment(iso: str) -> str:
    return f"{datetime.fromisoformat(iso):%Y-%m-%d %H:%M}" if iso else "not yet"


def _champion(experiment: Experiment, night: Night) -> Section:
    heading, decision = "Champion", night.decision
    if decision is None:
        return Section(heading, ("This night made no comparison with the champion.",))
    model = experiment.nightly.model or experiment.name
    said = {
        Ruling.FIRST: f"Trial {decision.trial} is the first champion, version {decision.version} "
        f"of {model}.",
        Ruling.PROMOTED: f"Trial {decision.trial} replaces {decision.rival} as version "
        f"{decision.version} of {model}.",
        Ruling.KEPT: f"Trial {decision.trial}, the best by validation accuracy, is not "
        f"significantly better than the champion of {model}: {decision.rival} stays.",
        Ruling.SAME: f"The best by validation accuracy is the champion of {model} itself, "
        f"{decision.rival}. No comparison is needed.",
    }[decision.ruling]
    comparison = decision.comparison
    if comparison is None:
        return Section(heading, (said,))
    confidence = 1 - 2 * comparison.alpha
    figures = (
        f"Difference of the mean test accuracies: {comparison.difference:+.4f} ({confidence:.0%} "
        f"confidence interval {comparison.low:+.4f} to {comparison.high:+.4f}); "
        f"p = {comparison.p_value:.2g} (promotion needs p < {comparison.alpha:g})."
    )
    return Section(heading, (said, figures))


def _changes(experiment: Experiment, before: Snapshot, after: Snapshot, since: str) -> Section:
    price = experiment.budget.price

    def count(name: str, value: Callable[[Snapshot], int]) -> tuple[str, ...]:
        return name, str(value(before)), str(value(after)), f"{value(after) - value(before):+d}"

    def time(name: str, value: Callable[[Snapshot], float]) -> tuple[str, ...]:
        more = max(0.0, value(after) - value(before))
        return name, duration(value(before)), duration(value(after)), f"+{duration(more)}"

    def money(snapshot: Snapshot) -> float:
        return snapshot.spent.device_seconds / 3600 * price

    rows = [
        count("complete", lambda each: each.complete),
        count("stopped early", lambda each: each.pruned),
        count("failed", lambda each: each.failed),
        count("interrupted", lambda each: each.interrupted),
        count("rejected before training", lambda each: each.rejected),
    ]
    if after.truncated:
        rows.append(count("truncated at the border layer", lambda each: each.truncated))
    if before.front or after.front:
        rows.append(count("on the Pareto front", lambda each: len(each.front)))
    rows += [
        time("device time spent", lambda each: each.spent.device_seconds),
        time("device time saved, at least (predicted)", lambda each: each.saved_seconds),
        time("driver time", lambda each: each.spent.seconds),
    ]
    if price:
        spent = (money(before), money(after))
        rows.append(("money", *(f"{each:.2f}" for each in spent), f"+{spent[1] - spent[0]:.2f}"))
    return Section(f"Since {since}", header=("", "before", "now", "this night"), rows=tuple(rows))


def _front(objectives: Sequence[Objective], before: Snapshot, after: Snapshot) -> Section:
    new = [number for number in after.front if number not in before.front]
    gone = [number for number in before.front if number not in after.front]
    sentence = (
        f"{are(len(after.front), 'candidate')} Pareto-optimal in {', '.join(objectives)}: "
        f"{len(new)} new, {len(gone)} beaten since."
    )
    rows = [_point(number, after, "new") for number in new]
    rows += [_point(number, before, "beaten") for number in gone]
    header = ("trial", *objectives, "") if rows else ()
    return Section("Pareto front", (sentence,), header, tuple(rows[:SHOWN]))


def _point(number: int, snapshot: Snapshot, what: str) -> tuple[str, ...]:
    accuracy, *costs = snapshot.front[number]
    return (str(number), f"{accuracy:.4f}", *(f"{cost:,.6g}" for cost in costs), what)


def _rejections(before: Snapshot, after: Snapshot) -> Section:
    rows = tuple(
        (reason, f"+{total - before.rejections.get(reason, 0)}", str(total))
        for reason, total in after.rejections.items()
    )
    header = ("reason", "this night", "total")
    return Section("Rejected before training", header=header, rows=rows)


def _failures(before: Snapshot, after: Snapshot) -> Section | None:
    new = [(n, cause) for n, cause in after.failures.items() if n not in before.failures]
    if not new:
        return None
    rows = tuple((str(number), cause) for number, cause in new[:SHOWN])
    more = f"; the first {SHOWN} are shown" if len(new) > SHOWN else ""
    sentence = f"{plural(len(new), 'trial')} failed in this night{more}."
    return Section("Failures", (sentence,), ("trial", "cause"), rows)


def _finalists(night: Night, standing: Standing | None) -> Section:
    rows = tuple(
        (
            "=1" if score.tied else str(rank),
            f"{score.trial} ({score.truncated})" if score.truncated else str(score.trial),
            f"{score.validation:.4f}",
            f"{score.test:.4f} ± {score.spread:.4f}" if score.seeds > 1 else f"{score.test:.4f}",
            str(score.seeds),
        )
        for rank, score in enumerate(night.finalists, start=1)
    )
    sentence = (
        "Retrained with fresh seeds and ranked by validation accuracy. The first finalist is "
        "compared with the champion on the test images, which decide nothing else."
    )
    sentences = [sentence]
    if any(score.tied for score in night.finalists):
        sentences.append(
            "Chance, of the validation images and of the seeds, explains how far those marked =1 "
            "are apart."
        )
    if standing is not None:
        sentences += [each for each in (standing.on_test, standing.success) if each]
        if standing.shortcoming:
            sentences.append(f"Warning: {standing.shortcoming}.")
    header = ("#", "trial", "validation", "test accuracy", "seeds")
    return Section("Finalists", tuple(sentences), header, rows)


def index_page(search: str, nights: Sequence[Night]) -> str:
    """Return the page of all nights of a search, the last one first."""
    rows = []
    for night in reversed(nights):
        position = nights.index(night)
        known = [each for each in nights[:position] if each.after is not None]
        after = night.after
        best = f"{after.best.accuracy:.4f}" if after is not None and after.best else "-"
        trained = str(after.spent.trials - night.before.trials) if after is not None else "-"
        first = night.finalists[0] if night.finalists else None
        test = f"{first.test:.4f} ± {first.spread:.4f}" if first else "-"
        outcome = headline(night, known[-1] if known else None)
        rows.append((night.name, (outcome, trained, best, test)))
    return render(
        "nights.html",
        title=f"Nights of {search}",
        parts=(),
        lead=(),
        refresh=None,
        trend=trend(nights),
        nights=rows,
    )
