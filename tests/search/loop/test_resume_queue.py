"""How interrupted trials wait to be resumed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from search.loop.resume_queue import ResumeQueue
from search.study.study import Study

Stored = Callable[..., FrozenTrial]


def test_trials_are_resumed_in_the_order_of_their_interruption(
    stored_trial: Stored, recorder: Any
) -> None:
    queue = ResumeQueue(Study("test", RandomSampler(seed=0)), recorder)
    assert not queue
    for number in (3, 1, 2):
        queue.add(stored_trial(number, "RUNNING"))
    assert [queue.take().number for _ in range(len(queue))] == [3, 1, 2]


def test_waiting_trials_count_their_device_time(stored_trial: Stored, recorder: Any) -> None:
    queue = ResumeQueue(Study("test", RandomSampler(seed=0)), recorder)
    queue.add(stored_trial(0, "RUNNING", seconds=10.0, share=0.5))
    queue.add(stored_trial(1, "RUNNING", seconds=3.0))
    assert queue.device_seconds == 8.0
    queue.take()
    assert queue.device_seconds == 3.0


def test_remaining_trials_are_paused_once(stored_trial: Stored, recorder: Any) -> None:
    study = Study("test", RandomSampler(seed=0))
    study.restore([stored_trial(0, "RUNNING", seconds=4.0), stored_trial(1, "COMPLETE", 0.5)])
    queue = ResumeQueue(study, recorder)
    queue.add(study.trial(0))
    queue.pause_remaining()
    queue.pause_remaining()
    assert recorder.of("paused") == [(0,)]
    assert study.trial(0).state is TrialState.WAITING
    assert study.trial(0).user_attrs["seconds"] == 4.0
