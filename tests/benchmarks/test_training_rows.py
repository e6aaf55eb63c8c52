"""Rows of the training benchmark that compare a switch, or the start of a training."""

import first_step
import pytest
import switches
import torch
from first_step import measure_first_steps
from gpu_checks.inside import take_first_steps
from gpu_checks.random_networks import random_candidates
from harness import Table
from loops import candidate, noise
from switches import Pace, measure_compile, measure_cudnn, pace, timed_kernels

from trainables.training.device import Device, select_device
from trainables.training.loop import Training

CPU = select_device("cpu")


def test_first_step_is_timed_on_the_cpu(monkeypatch):
    monkeypatch.setattr(first_step, "FAMILIES", ("vgg",))
    found = first_step.all_seconds(CPU, count=1)
    assert len(found) == 1
    assert found[0] > 0


def test_first_step_rows_are_median_and_worst(monkeypatch):
    monkeypatch.setattr(first_step, "all_seconds", lambda _: [0.25, 1.0, 0.1])
    table = Table()
    measure_first_steps(table, CPU)
    assert [(row.ours, row.baseline, row.ratio) for row in table.figures] == [
        (0.25, 0.5, 2.0),
        (1.0, 0.5, 0.5),
    ]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> tuple[Training, list[object]]:
    """Return a training that only counts its steps, and these."""
    made = Training(candidate("small", 4), noise(32), epochs=1, seed=0, device="cpu")
    plan = made._prepare_epoch()
    taken: list[object] = []
    monkeypatch.setattr(made, "_prepare_epoch", lambda: plan)
    monkeypatch.setattr(made, "_repeat", taken.append)
    return made, taken


GPU = Device(torch.device("cuda:0"), bfloat16=False)


@pytest.mark.parametrize(("device", "steps"), [(CPU, 1), (GPU, 4)])
def test_first_steps_end_with_the_first_replay(trained, monkeypatch, device, steps):
    training, taken = trained
    training._device = device
    # Three steps of warm-up, then the capture and its first replay.
    monkeypatch.setattr(Training, "is_captured", property(lambda _: len(taken) == 4))
    take_first_steps(training)
    assert len(taken) == steps


def test_first_step_that_is_not_captured_is_an_error(trained, monkeypatch):
    training, _ = trained
    training._device = GPU
    monkeypatch.setattr(Training, "is_captured", False)
    with pytest.raises(RuntimeError, match="not captured"):
        take_first_steps(training)


def test_random_candidates_are_equal_in_every_run():
    first, second = (random_candidates(3, (16, 32), 3e7) for _ in range(2))
    assert first == second
    assert [each.recipe.batch_size for each in first] == [16] * 3
    assert all(each.costs.macs <= 3e7 for each in first)


def test_kernels_are_timed_only_within_the_context():
    before = []

    def failing() -> None:
        with timed_kernels():
            before.append(torch.backends.cudnn.benchmark)
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert before == [True]
    assert not torch.backends.cudnn.benchmark


def test_pace_counts_steps_of_later_epochs(monkeypatch):
    monkeypatch.setattr(switches, "EPOCHS", 1)
    found = pace(candidate("small", 4), noise(8), CPU)
    assert 0 < found.steps < 2 / 1e-4
    assert found.first > 0


def test_switches_are_compared_with_off(monkeypatch):
    asked: list[tuple[bool, bool]] = []

    def fake_pace(*_: object, compiled: bool = False) -> Pace:
        timed = torch.backends.cudnn.benchmark
        asked.append((timed, compiled))
        return Pace(first=10.0 if compiled else 2.0, steps=30.0 if timed or compiled else 20.0)

    def seconds(_: Device) -> list[float]:
        return [0.4 if torch.backends.cudnn.benchmark else 0.1]

    monkeypatch.setattr(switches, "pace", fake_pace)
    monkeypatch.setattr(switches, "all_seconds", seconds)
    monkeypatch.setattr(switches, "noise", lambda _: None)
    table = Table()
    measure_cudnn(table, CPU)
    measure_compile(table, CPU)
    assert [row.ratio for row in table.figures] == [1.5, 1.5, 0.25, 1.5, 0.2]
    assert asked[:2] == [(False, False), (True, False)]
    assert asked[-1] == (False, True)
