"""Nights as arms of a comparison."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from optuna.trial import FrozenTrial, TrialState

from search.experiment.folder import Home
from search.nightly.history import History, Night
from search.reporting.compare.arm import Arm, read_right, search_arm
from search.study.finalists import FinalistStore, rank_finalists
from spaces.errors import BadInputError


def arm_of(home: Home, name: str) -> Arm:
    """Return a search, NAME, or one of its nights, NAME:NIGHT, as an arm.

    The arm of a night has the trials that ended in it, and the night's finalists.

    Raises:
        BadInputError: there is no such search or night.
    """
    search, colon, night = name.partition(":")
    whole = search_arm(home, search)
    return _night_arm(home, whole, night, name) if colon else whole


def _night_arm(home: Home, whole: Arm, wanted: str, name: str) -> Arm:
    folder = home.folder(whole.name)
    nights = {night.name: night for night in History(folder.nights).nights()}
    if wanted not in nights:
        known = ", ".join(nights) or "none yet"
        problem = f"{whole.name} has no such night"
        raise BadInputError("compare", name, problem, f"known: {known}")
    night = nights[wanted]
    scored = {score.trial for score in night.finalists}
    store = FinalistStore(folder.finalists)
    found = [each for each in store.results() if each.number in scored]
    order = [score.trial for score in night.finalists]
    ranked = rank_finalists({number: [r for r in found if r.number == number] for number in order})
    finalists = sorted(ranked, key=lambda each: order.index(each.number))
    spent = night.after.spent.seconds if night.after is not None else night.before.seconds
    return replace(
        whole,
        name=name,
        state=night.state.value,
        trials=[trial for trial in whole.trials if _ended_in(night, trial)],
        finalists=finalists,
        right=read_right(folder, finalists[0]) if finalists else None,
        driver_seconds=spent - night.before.seconds,
    )


def _ended_in(night: Night, trial: FrozenTrial) -> bool:
    """Tell whether a trial ended in a night; rejections count as ended when they were drawn."""
    if trial.datetime_complete is None or not trial.state.is_finished():
        return trial.state is TrialState.RUNNING and not night.ended
    ended = trial.datetime_complete.timestamp()
    last = datetime.fromisoformat(night.ended) if night.ended else datetime.now(UTC)
    return datetime.fromisoformat(night.began).timestamp() <= ended <= last.timestamp()
