"""Checkpoints in a bucket: as in a folder; training continues without the bucket."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from cluster.s3 import open_bucket
from spaces.task import Task
from tests import s3
from trainables.specs import DataSpec, TrainingSpec
from trainables.training import checkpoints as module
from trainables.training.checkpoints import Checkpoints
from trainables.trial import Trial


def state(epoch: int) -> dict[str, object]:
    return {"epoch": epoch, "network": {"weight": torch.full((100,), float(epoch))}}


def epochs(place: str) -> list[int]:
    return sorted(int(name.split("-")[1]) for name in open_bucket(place).names())


@pytest.fixture(autouse=True)
def not_away() -> Iterator[None]:
    """Reset the state that other tests left."""
    Checkpoints._away_until = 0.0
    yield
    Checkpoints._away_until = 0.0


def test_last_two_and_best_are_loaded_in_another_process(
    s3_place: str,
) -> None:
    checkpoints = Checkpoints(s3_place)
    assert not checkpoints.exist
    assert checkpoints.load() is None
    for epoch, accuracy in enumerate((0.1, 0.9, 0.2, 0.3, 0.4), start=1):
        checkpoints.save(epoch, accuracy, state(epoch))
    assert epochs(s3_place) == [2, 4, 5]
    assert checkpoints.exist
    found = Checkpoints(s3_place).load()
    assert found is not None
    assert found["epoch"] == 5
    assert torch.equal(found["network"]["weight"], torch.full((100,), 5.0))


def test_damaged_checkpoint_falls_back_to_the_previous_one(s3_place: str) -> None:
    checkpoints = Checkpoints(s3_place)
    for epoch in (1, 2):
        checkpoints.save(epoch, 0.5, state(epoch))
    store = open_bucket(s3_place)
    last = max(store.names())
    store.write(last, store.read(last)[:-7])
    found = Checkpoints(s3_place).load()
    assert found is not None
    assert found["epoch"] == 1


def test_failed_write_delays_retries_of_the_whole_process(s3_gate: s3.Gate, s3_place: str) -> None:
    first, second = Checkpoints(f"{s3_place}/1"), Checkpoints(f"{s3_place}/2")
    s3_gate.answer = lambda method, path: time.sleep(0.2) or (403, "AccessDenied")
    with pytest.raises(OSError, match="access is denied"):
        first.offer(1, 0.5, state(1))
    s3_gate.asked.clear()
    for checkpoints in (first, second):
        checkpoints.offer(2, 0.5, state(2))
    assert s3_gate.asked == []
    assert Checkpoints._away_until - time.monotonic() > 0.1 / module.WRITING_FRACTION
    # A required checkpoint is tried regardless of the last failure.
    s3_gate.answer = lambda method, path: None
    second.save(2, 0.5, state(2))
    assert epochs(f"{s3_place}/2") == [2]


SPEC = TrainingSpec(
    data=DataSpec("digits", subset=0.2),
    task=Task(1, 8, 8, 10),
    space="vgg",
    space_options={"depth": 1, "features": 4, "kernel": 3, "pools": 0},
    recipe_options={"learning_rate": 0.1, "weight_decay": 1e-3, "batch_size": 64},
    epochs=4,
    device="cpu",
)
CONFIG = {"number": 7, "params": {}, "seed": 3, "gpus": 0.0}


def trial(spec: TrainingSpec) -> Trial:
    return Trial(CONFIG, spec)


def measured(report: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in report.items() if "seconds" not in key}


def test_trial_resumes_from_its_checkpoint_in_the_bucket(
    s3_place: str, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WRITING_FRACTION", 1e9)
    whole = trial(SPEC)
    expected = [whole.step() for _ in range(4)]
    spec = dataclasses.replace(SPEC, checkpoints=s3_place)
    first = trial(spec)
    for _ in range(2):
        first.step()
    assert epochs(f"{s3_place}/7/00000003") == [1, 2]
    second = trial(spec)
    report = second.step()
    assert [each["epoch"] for each in report.pop("history")] == [1, 2]
    assert measured(report) == measured(expected[2])


@pytest.mark.parametrize("spoil", ["shut", "slow_down", "deny"])
def test_training_continues_without_its_bucket(
    s3_gate: s3.Gate, s3_place: str, one_thread: None, spoil: str
) -> None:
    expected = [measured(trial_step) for trial_step in _steps(SPEC)]
    if spoil == "shut":
        s3_gate.shut()
    else:
        s3_gate.answer = getattr(s3_gate, spoil)
    began = time.monotonic()
    found = [measured(each) for each in _steps(dataclasses.replace(SPEC, checkpoints=s3_place))]
    # The first write reports the cause; the others wait for the retry delay without trying.
    assert s3_place in found[0].pop("unkept")
    assert found == expected
    # One read and one write; each ends within its timeout.
    assert time.monotonic() - began < 3 * Checkpoints(s3_place).timeout


def _steps(spec: TrainingSpec) -> list[dict[str, Any]]:
    made = trial(spec)
    reports = [made.step() for _ in range(spec.epochs)]
    made.stop()
    return reports


def test_hang_limit_includes_the_timeout_of_the_bucket(s3_place: str) -> None:
    hangs = dataclasses.replace(SPEC, hang_after=5.0)
    assert trial(hangs)._hang_after() == 5.0
    kept = trial(dataclasses.replace(hangs, checkpoints=s3_place))
    assert kept._hang_after() == 5.0 + Checkpoints(s3_place).timeout
