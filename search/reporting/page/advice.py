"""What to try next: rules that follow from the results, each with its evidence."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

from markupsafe import Markup
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from search.formatting import plural
from search.reporting.gathering import Gathered
from search.reporting.intervals import ties_with_first
from search.reporting.page.frame import Part
from search.reporting.page.progress import best_so_far
from search.study.finalist_ties import tied_with_first
from search.study.summary import SMALLEST_PROSPECT

TOP = 5
"""Best trials that rules look at."""
_EDGE = 0.05
_LATE = 0.75
_RISING = 0.003
_GAP = 0.05
_FAILED = 0.1
_REJECTED = 0.9
_CHEAPER = 0.8
_LIMITS = {"params": "max_params", "macs": "max_macs", "memory": "max_memory_mb"}


def advice_part(gathered: Gathered) -> Part | None:
    """Return the part on what to try next; None before a trial is complete."""
    if gathered.summary.best is None:
        return None
    found = [line for rule in _RULES for line in rule(gathered)]
    if not found:
        return Part("What to try next", ("No rule of this page found anything to improve.",))
    items = Markup("").join(Markup("<li>{}</li>").format(line) for line in found)
    return Part("What to try next", (), (Markup("<ul>{}</ul>").format(items),))


def _more_trials(gathered: Gathered) -> Iterator[str]:
    """Advise more trials if the search was improving when its budget ran out."""
    if gathered.state != "finished":
        return
    steps = best_so_far(gathered.scored)
    last = max((step.trials for step in steps if step.improved), default=0)
    prospect = gathered.summary.prospect
    if prospect is not None and prospect < SMALLEST_PROSPECT:
        return
    late = len(steps) > TOP and last > _LATE * len(steps)
    if not late and prospect is None:
        return
    reasons = []
    if late:
        reasons.append(f"the best trial came as number {last:,} of {len(steps):,}")
    if prospect is not None:
        reasons.append(f"the next 20 trials are expected to bring {prospect:+.4f}")
    yield (
        f"More trials: {', and '.join(reasons)}. Raise budget.trials from "
        f"{gathered.experiment.budget.trials:,} when you resume."
    )


def _longer_training(gathered: Gathered) -> Iterator[str]:
    """Advise more epochs if the best trials still improve at their end."""
    gains = []
    for record in gathered.summary.leaderboard[: min(TOP, gathered.summary.complete)]:
        accuracies = [each.validation_accuracy for _, each in sorted(record.history.items())]
        quarter = len(accuracies) // 4
        if quarter:
            gains.append(fmean(accuracies[-quarter:]) - fmean(accuracies[-2 * quarter : -quarter]))
    if gains and fmean(gains) > _RISING:
        yield (
            f"Longer trainings: in their last quarter, the best {plural(len(gains), 'trial')} "
            f"still gained {fmean(gains):.4f} on average. Raise epochs in a new search."
        )


def _wider_ranges(gathered: Gathered) -> Iterator[str]:
    """Advise wider ranges where the best trials lie at an end."""
    complete = min(TOP, gathered.summary.complete)
    best = {record.number for record in gathered.summary.leaderboard[:complete]}
    trials = [trial for trial in gathered.trials if trial.number in best]
    if len(trials) < TOP:
        return
    for name, end, edge in ranges_at_edge(trials):
        yield (f"A wider range of {name}: the best {TOP} trials lie at its {end} end, {edge:g}.")


def ranges_at_edge(trials: Sequence[FrozenTrial]) -> list[tuple[str, str, float]]:
    """Return the ranges at whose end all of some trials lie: name, ``lower`` or ``upper``, end.

    Parameters of several layers, such as ``features_3``, count together.
    """
    places: dict[tuple[str, float, float], list[float]] = {}
    for trial in trials:
        for name, value in trial.params.items():
            range_ = trial.distributions[name]
            if not isinstance(range_, FloatDistribution | IntDistribution) or range_.single():
                continue
            scale: Callable[[float], float] = math.log if range_.log else float
            low, high = scale(range_.low), scale(range_.high)
            key = re.sub(r"_\d+$", "", name), float(range_.low), float(range_.high)
            places.setdefault(key, []).append((scale(value) - low) / (high - low))
    found = []
    for (name, low, high), where in places.items():
        if len(where) < len(trials):
            continue
        if all(place >= 1 - _EDGE for place in where):
            found.append((name, "upper", high))
        elif all(place <= _EDGE for place in where):
            found.append((name, "lower", low))
    return found


def _resolve_ties(gathered: Gathered) -> Iterator[str]:
    """Advise how to tell tied finalists apart, and name a cheaper one."""
    ties = tied_with_first(gathered.behind)
    if not ties:
        return
    winner = gathered.finalists[0].number
    size = gathered.by_number[winner].param_count
    for number in ties:
        own = gathered.by_number[number].param_count
        if size and own and own < _CHEAPER * size:
            yield (
                f"Trial {number} instead of trial {winner}, if size matters: chance explains the "
                f"difference, and it has {own:,} instead of {size:,} parameters."
            )
            break
    yield (
        f"More evidence: chance explains the lead over {plural(len(ties), 'finalist')}. More seeds "
        "(finalists.max_seeds) or more validation images (validation: folds=5) may separate them."
    )


def _better_validation(gathered: Gathered) -> Iterator[str]:
    """Advise more validation images if most of the leaderboard is tied."""
    data = gathered.data
    complete = gathered.summary.leaderboard[: gathered.summary.complete]
    if data is None or data.folds is not None or len(complete) < TOP or gathered.finalists:
        return
    ties = ties_with_first([each.accuracy or 0.0 for each in complete], data.validation_images)
    if ties == len(complete):
        yield (
            f"More validation images: {data.validation_images:,} cannot tell any of the "
            f"{ties:,} complete trials from the best."
        )


def _less_overfitting(gathered: Gathered) -> Iterator[str]:
    """Advise regularisation if the best trials fit the training images much better."""
    gaps = []
    for record in gathered.summary.leaderboard[: min(TOP, gathered.summary.complete)]:
        history = sorted(record.history.items())
        if history:
            last = history[-1][1]
            gaps.append(last.train_accuracy - last.validation_accuracy)
    if gaps and fmean(gaps) > _GAP:
        yield (
            f"Stronger augmentation or weight decay: the best trials reach {fmean(gaps):.4f} more "
            "on the training images than on validation."
        )


def _beat_baseline(gathered: Gathered) -> Iterator[str]:
    """Warn if the winner is not better than a simple model."""
    standing = gathered.standing
    if standing is not None and standing.shortcoming:
        yield (
            "More images, more steps or another space before anything else: "
            f"{standing.shortcoming}."
        )


def _fix_failures(gathered: Gathered) -> Iterator[str]:
    """Advise to fix failures if they are frequent."""
    summary = gathered.summary
    if summary.trained and summary.failed > _FAILED * summary.trained:
        yield (
            f"Fix the failures: {summary.failed:,} of {plural(summary.trained, 'trial')} failed; "
            "their causes are listed above."
        )


def _loosen_limits(gathered: Gathered) -> Iterator[str]:
    """Advise to loosen a limit or narrow the space if most candidates exceed it."""
    summary = gathered.summary
    drawn = summary.trained + summary.rejected
    for reason, field in _LIMITS.items():
        count = summary.rejections.get(reason, 0)
        if drawn and count > _REJECTED * drawn:
            yield (
                f"A smaller space, or a larger screens.{field}: it rejected {count / drawn:.0%} of "
                "the candidates."
            )


_RULES: tuple[Callable[[Gathered], Iterator[str]], ...] = (
    _beat_baseline,
    _fix_failures,
    _more_trials,
    _longer_training,
    _wider_ranges,
    _less_overfitting,
    _resolve_ties,
    _better_validation,
    _loosen_limits,
)
