"""How long a search waits for nodes."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import pytest

from search.patience import NoNodesError, Patience


class Watch:
    """A search of which every second is looked at."""

    def __init__(self, limit: float) -> None:
        self.now = 0.0
        self.said: list[str] = []
        self.patience = Patience(limit, self.said.append, lambda: "a GPU", lambda: self.now)

    def passes(self, seconds: int, *states: str) -> None:
        for _ in range(seconds):
            self.now += 1
            self.patience.on_step_begin(0, [SimpleNamespace(status=state) for state in states])


def test_while_a_trial_is_in_training_nothing_is_waited_for() -> None:
    watch = Watch(limit=100)
    watch.passes(1000, "RUNNING", "PENDING", "TERMINATED")
    watch.passes(1000, "TERMINATED")
    watch.passes(1000)
    assert watch.said == []


def test_after_a_minute_it_says_what_is_waited_for_and_then_ever_more_rarely() -> None:
    watch = Watch(limit=1000)
    watch.passes(400, "PENDING")
    assert watch.said == [
        "waiting for nodes since 1m00s: a GPU",
        "waiting for nodes since 2m00s: a GPU",
        "waiting for nodes since 4m00s: a GPU",
    ]


def test_at_the_limit_the_search_is_given_up() -> None:
    watch = Watch(limit=90)
    watch.passes(89, "PENDING", "TERMINATED")
    with pytest.raises(NoNodesError, match="no trial could be started for 1m30s: a GPU"):
        watch.passes(1, "PENDING", "TERMINATED")
    assert isinstance(watch.patience.error, NoNodesError)


def test_a_trial_that_gets_a_node_starts_the_clock_anew() -> None:
    watch = Watch(limit=100)
    for _ in range(3):
        watch.passes(90, "PENDING")
        watch.passes(1, "RUNNING")
    assert watch.patience.error is None


def test_it_can_be_copied_as_tune_does_though_it_talks_to_a_terminal() -> None:
    assert isinstance(pickle.loads(pickle.dumps(Watch(1).patience)), Patience)  # noqa: S301
