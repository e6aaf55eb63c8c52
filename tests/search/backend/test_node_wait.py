"""Waiting for nodes, and its timeout."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import pytest

from search.backend.node_wait import NodeWait, NoNodesError, TrialWatch


class Search:
    """A search whose state is checked every second of a simulated clock."""

    def __init__(self, limit: float) -> None:
        self.now = 0.0
        self.said: list[str] = []
        wait = NodeWait(limit, self.said.append, lambda: "a GPU", lambda: self.now)
        self.watch = TrialWatch(wait, lambda: self.now)

    def passes(self, seconds: int, *states: str) -> None:
        for _ in range(seconds):
            self.now += 1
            self.watch.on_step_begin(0, [SimpleNamespace(status=state) for state in states])


def test_no_wait_is_reported_while_a_trial_trains() -> None:
    search = Search(limit=100)
    search.passes(1000, "RUNNING", "PENDING", "TERMINATED")
    search.passes(1000, "TERMINATED")
    search.passes(1000)
    assert search.said == []


def test_wait_is_reported_after_a_minute_then_less_often() -> None:
    search = Search(limit=1000)
    search.passes(400, "PENDING")
    assert search.said == [
        "waiting for nodes since 1m00s: a GPU",
        "waiting for nodes since 2m00s: a GPU",
        "waiting for nodes since 4m00s: a GPU",
    ]


def test_search_stops_at_the_wait_limit() -> None:
    search = Search(limit=90)
    search.passes(89, "PENDING", "TERMINATED")
    with pytest.raises(NoNodesError, match="nothing could be trained for 1m30s: a GPU"):
        search.passes(1, "PENDING", "TERMINATED")
    assert isinstance(search.watch.error, NoNodesError)


def test_running_trial_resets_the_wait() -> None:
    search = Search(limit=100)
    for _ in range(3):
        search.passes(90, "PENDING")
        search.passes(1, "RUNNING")
    assert search.watch.error is None


def test_trial_watch_can_be_pickled() -> None:
    assert isinstance(pickle.loads(pickle.dumps(Search(1).watch)), TrialWatch)  # noqa: S301
