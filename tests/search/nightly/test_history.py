"""Stored nights: which are continued, and what a night may spend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FrozenTrial

from search.experiment.sections import BudgetSection
from search.loop.budget import Budget, Spent, beyond
from search.nightly import history as module
from search.nightly.history import (
    NOTHING,
    Best,
    Decision,
    History,
    Night,
    Ruling,
    Score,
    Snapshot,
    State,
    take_snapshot,
)
from search.study.significance import Comparison

Clock = Callable[[str], None]
Stored = Callable[..., FrozenTrial]

SNAPSHOT = Snapshot(
    complete=3,
    pruned=2,
    failed=1,
    interrupted=0,
    rejections={"border": 4, "duplicate": 1},
    best=Best(7, 0.93),
    front={7: (0.93, 1200.0), 3: (0.9, 800.0)},
    failures={5: "ValueError: no"},
    saved_seconds=12.5,
    spent=Spent(6, 100.0, 40.0),
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return a function that sets the time."""

    def set_to(time: str) -> None:
        monkeypatch.setattr(module, "_now", lambda: datetime.fromisoformat(f"{time}Z"))

    return set_to


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "nights")


def night(history: History, state: State, spent: int = 0) -> Night:
    """Start a night and end it."""
    begun = history.begin(Spent(spent))
    ended = replace(begun.end(state), after=SNAPSHOT)
    history.write(ended)
    return ended


def test_night_is_read_as_written(history: History) -> None:
    comparison = Comparison(0.02, -0.01, 0.05, 0.12, 0.01)
    whole = replace(
        history.begin(Spent(4, 60.5, 33.25)).end(State.FINISHED, "a note"),
        after=SNAPSHOT,
        decision=Decision(Ruling.KEPT, 7, "2", "version 2", comparison),
        finalists=(Score(7, 0.92, 0.91, 0.01, 3),),
    )
    history.write(whole)
    assert history.nights() == [whole]


def test_nights_are_named_by_date_and_number(history: History, clock: Clock) -> None:
    for time in ("2026-01-01T01:30", "2026-01-01T12:00", "2026-01-01T13:00", "2026-01-02T01:30"):
        clock(time)
        night(history, State.FINISHED)
    names = [each.name for each in history.nights()]
    assert names == ["2026-01-01", "2026-01-01-2", "2026-01-01-3", "2026-01-02"]


@pytest.mark.parametrize("state", [State.RUNNING, State.INTERRUPTED, State.FAILED, State.UNDECIDED])
def test_unfinished_night_is_continued_after_midnight(
    history: History, clock: Clock, state: State
) -> None:
    clock("2026-01-01T22:00")
    begun = night(history, state, spent=7)
    clock("2026-01-02T09:00")
    again = history.begin(Spent(12))
    assert (again.name, again.began, again.before) == (begun.name, begun.began, Spent(7))
    assert again.state is State.RUNNING


def test_next_night_has_its_own_budget(history: History, clock: Clock) -> None:
    clock("2026-01-01T01:30")
    night(history, State.INTERRUPTED, spent=7)
    clock("2026-01-02T01:30")
    following = history.begin(Spent(12))
    assert (following.name, following.before) == ("2026-01-02", Spent(12))


def test_previous_night_is_the_last_with_known_outcome(history: History, clock: Clock) -> None:
    clock("2026-01-01T01:30")
    first = night(history, State.FINISHED)
    assert history.before(first) is None
    clock("2026-01-02T01:30")
    killed = history.begin(Spent(1))
    history.write(killed)
    clock("2026-01-03T01:30")
    third = history.begin(Spent(2))
    assert history.before(third) == first


def test_damaged_night_does_not_hide_others(history: History, clock: Clock) -> None:
    clock("2026-01-01T01:30")
    first = night(history, State.FINISHED)
    (history.folder / "2026-01-02").mkdir()
    (history.folder / "2026-01-02" / "night.json").write_text("{")
    assert history.nights() == [first]
    clock("2026-01-02T01:30")
    assert history.begin(Spent()).name == "2026-01-02-2"


def test_night_that_never_started_leaves_nothing(history: History) -> None:
    begun = history.begin(Spent())
    history.write(begun)
    history.forget(begun)
    assert history.nights() == []
    assert not history.place(begun).exists()


def test_age_counts_from_first_start_of_night(history: History, clock: Clock) -> None:
    start = datetime.fromisoformat("2026-01-01T01:30")
    clock(start.isoformat())
    begun = night(history, State.FAILED)
    for hours in (8, 16):
        clock((start + timedelta(hours=hours)).isoformat())
        begun = history.begin(Spent()).end(State.FAILED)
        history.write(begun)
    assert begun.name == "2026-01-01"
    clock((start + timedelta(hours=24)).isoformat())
    assert history.begin(Spent()).name == "2026-01-02"


# What a search has come to


def test_snapshot_counts_trials_of_study(stored_trial: Stored) -> None:
    own = {"seconds": 10.0, "share": 0.5, "epochs": 3, "macs": 100}
    trials = [
        stored_trial(0, value=0.8, **own),
        stored_trial(1, "PRUNED", 0.5, **own),
        stored_trial(2, "FAIL", cause="out of memory", **own),
        stored_trial(3, "WAITING", seconds=4.0, share=1.0),
        stored_trial(4, "PRUNED", rejected="border"),
        stored_trial(5, value=0.99, inherited="other", **own),
    ]
    found = take_snapshot(trials, 33.0)
    assert (found.complete, found.pruned, found.failed, found.interrupted) == (1, 1, 1, 1)
    assert found.rejections == {"border": 1}
    assert found.best == Best(0, 0.8)
    assert found.failures == {2: "out of memory"}
    assert found.spent == Spent(trials=4, seconds=33.0, device_seconds=19.0)
    assert found.front == {}


def test_snapshot_of_several_objectives_has_front(stored_trial: Stored) -> None:
    own = {"seconds": 1.0, "share": 1.0, "epochs": 1, "macs": 100}
    trials = [
        stored_trial(0, value=(0.8, 100.0), **own),
        stored_trial(1, value=(0.7, 50.0), **own),
        stored_trial(2, value=(0.6, 70.0), **own),
    ]
    assert take_snapshot(trials, 0.0).front == {0: (0.8, 100.0), 1: (0.7, 50.0)}


def test_snapshot_of_empty_study_is_nothing() -> None:
    assert take_snapshot([], 0.0) == NOTHING


# What a night may spend

amounts = st.floats(0.01, 1e6)


@given(
    st.builds(Spent, st.integers(0, 1000), amounts, amounts),
    st.integers(1, 500),
    amounts,
    amounts,
    amounts,
)
def test_budget_of_night_is_added_to_what_was_spent(
    spent: Spent, trials: int, seconds: float, hours: float, price: float
) -> None:
    section = BudgetSection(
        trials=trials, wall_clock=seconds, device_hours=hours, money=hours * price, price=price
    )
    limits = beyond(section, spent)
    assert limits.trials == spent.trials + trials
    assert limits.wall_clock == pytest.approx(spent.seconds + seconds)
    assert limits.device_hours == pytest.approx(spent.device_seconds / 3600 + hours)
    assert limits.money == pytest.approx((spent.device_seconds / 3600 + hours) * price)
    before = Budget(limits, spent.seconds)
    assert before.spent(spent.device_seconds) == ""
    assert Budget(limits, spent.seconds + seconds * 1.01 + 1).spent(spent.device_seconds)
    assert before.spent((spent.device_seconds + hours * 3600) * 1.01)


def test_unlimited_budget_stays_unlimited() -> None:
    limits = beyond(BudgetSection(trials=5), Spent(3, 10.0, 10.0))
    assert limits == BudgetSection(trials=8)
