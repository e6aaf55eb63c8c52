"""The Ray trainable: one process serves many independent trials."""

import copy
import dataclasses
import gc
import math
import shutil
import subprocess
import sys
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from ray import tune

from search.backend.trial_actor import TrialActor
from spaces.errors import BadInputError
from spaces.task import Task
from tests.ray_node import ray_node
from trainables.data import Dataset, load
from trainables.epoch_metrics import FAILURE, HISTORY, NODE_DATA, STOPPED, VIOLATION, EpochMetrics
from trainables.folds import Folds
from trainables.specs import Augmentation, DataSpec, TrainingSpec
from trainables.training.checkpoints import Checkpoints
from trainables.training.loop import Training
from trainables.trial import (
    Trial,
    least_accuracy,
    shared_dataset,
)

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 3
SPEC = TrainingSpec(
    data=DataSpec("digits", subset=0.2, validation=0.1, test=0.1),
    task=Task(1, 8, 8, 10),
    space="vgg",
    space_options={
        "depth": 2,
        "features": [4, 12],
        "kernel": 3,
        "pools": 1,
        "convs_before_pool": 1,
    },
    recipe_options={
        "learning_rate": [0.01, 0.2],
        "weight_decay": 1e-3,
        "batch_size": [32, 9999],
    },
    epochs=EPOCHS,
    augmentation=Augmentation(crop=1, flip="random"),
    balance="sampling",
    test_time_flip=True,
    device="cpu",
)
A = {
    "params": {"features_1": 5, "features_2": 8, "learning_rate": 0.1, "batch_size": 32},
    "seed": 3,
}
B = {
    "params": {"features_1": 12, "features_2": 4, "learning_rate": 0.05, "batch_size": 32},
    "seed": 4,
}
UNFIT = {"params": A["params"] | {"batch_size": 9999}, "seed": 3}
"""A batch larger than the training split, which the start of training refuses."""
METRICS = ("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")


def copied(config: dict[str, Any], number: int = 0) -> dict[str, Any]:
    return {"number": number, "params": dict(config["params"]), "seed": config["seed"]}


def begin(config: dict[str, Any], spec: TrainingSpec = SPEC, number: int = 0) -> Trial:
    return Trial(copied(config, number), spec)


def metrics(result: dict[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in METRICS}


def run(trial: Trial) -> list[dict[str, Any]]:
    """Step until the trial is done."""
    results = [trial.step()]
    while not results[-1]["done"]:
        results.append(trial.step())
    return [metrics(result) for result in results]


def state_of(trial: Trial) -> dict[str, Any]:
    """Return a copy of the training's state, which later epochs change in place."""
    return copy.deepcopy(trial._training.state_dict())


def same_weights(first: dict[str, Any], second: dict[str, Any]) -> bool:
    first, second = first["network"], second["network"]
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def alone(
    config: dict[str, Any], epochs: int = EPOCHS
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the metrics and the state of a training without a trial.

    Args:
        config: config of the trial.
        epochs: number of epochs to train.
    """
    training = Training(
        SPEC.candidates().rebuild(config["params"]),
        load(SPEC.data),
        epochs=EPOCHS,
        seed=config["seed"],
        augmentation=SPEC.augmentation,
        balance="sampling",
        test_time_flip=True,
        device="cpu",
    )
    results = [training.run_epoch() for _ in range(epochs)]
    return [{name: getattr(r, name) for name in METRICS} for r in results], training.state_dict()


def test_trial_equals_a_training_of_its_candidate():
    trial = begin(A)
    expected, state = alone(A)
    assert run(trial) == expected
    assert same_weights(state_of(trial), state)


def test_trial_is_done_only_after_the_last_epoch():
    trial = begin(A)
    results = [trial.step() for _ in range(EPOCHS)]
    assert [result["done"] for result in results] == [False] * (EPOCHS - 1) + [True]
    assert [result["epoch"] for result in results] == [1, 2, 3]


def test_diverging_trial_is_done_at_once():
    recipe = {"learning_rate": 1e20, "weight_decay": 0, "batch_size": 32}
    trial = begin(A, dataclasses.replace(SPEC, recipe_options=recipe))
    result = trial.step()
    assert result["epoch"] == 1
    assert result["done"]
    assert FAILURE not in result


# Hopeless trainings

HOPELESS = dataclasses.replace(
    SPEC,
    recipe_options={"learning_rate": 1e-9, "weight_decay": 0.0, "batch_size": 32},
    epochs=4,
)
"""A recipe that learns nothing."""


@pytest.mark.parametrize("after", [1, 2, 3])
def test_hopeless_training_stops_after_the_given_epoch(
    after,
):
    trial = begin(A, dataclasses.replace(HOPELESS, hopeless_after=after))
    results = [trial.step() for _ in range(after)]
    assert [result["done"] for result in results] == [False] * (after - 1) + [True]
    assert [STOPPED in result for result in results] == [False] * (after - 1) + [True]
    last = results[-1]
    assert FAILURE not in last
    assert last["epoch"] == after
    assert 0 <= last["validation_accuracy"] <= 1
    epochs = "1 epoch" if after == 1 else f"{after} epochs"
    assert last[STOPPED] == (
        f"training accuracy {last['train_accuracy']:.4f} after {epochs} is under 0.2000"
    )


def test_hopeless_training_continues_unless_asked_to_stop():
    for after in (None, 4, 5):
        trial = begin(A, dataclasses.replace(HOPELESS, hopeless_after=after))
        results = [trial.step() for _ in range(4)]
        assert [result["done"] for result in results] == [False, False, False, True]
        assert not any(STOPPED in result for result in results)


@pytest.mark.parametrize("after", [2, 3])
def test_learning_network_is_never_stopped_as_hopeless(after):
    recipe = {
        "learning_rate": 0.02,
        "weight_decay": 0.0,
        "batch_size": 8,
        "optimizer": "adamw",
        "schedule": "constant",
    }
    spec = dataclasses.replace(SPEC, recipe_options=recipe, epochs=4, hopeless_after=after)
    wide = {"params": {"features_1": 12, "features_2": 12}, "seed": 3}
    trial = begin(wide, spec)
    results = [trial.step() for _ in range(4)]
    assert results[after - 1]["train_accuracy"] > least_accuracy(spec.task.classes)
    assert [result["done"] for result in results] == [False, False, False, True]
    assert not any(STOPPED in result for result in results)


def test_divergence_precedes_hopeless_stop():
    recipe = {"learning_rate": 1e20, "weight_decay": 0, "batch_size": 32}
    spec = dataclasses.replace(SPEC, recipe_options=recipe, hopeless_after=1)
    result = begin(A, spec).step()
    assert result["done"]
    assert STOPPED not in result


def test_hopeless_limit_is_twice_a_guess_or_halfway_to_one():
    assert least_accuracy(2) == 0.75
    assert least_accuracy(3) == pytest.approx(2 / 3)
    assert least_accuracy(10) == 0.2
    assert least_accuracy(100) == 0.02


@pytest.mark.parametrize(("accuracy", "hopeless"), [(0.7499, True), (0.75, False)])
def test_hopeless_limit_for_two_classes_is_three_quarters(monkeypatch, accuracy, hopeless):
    def run_epoch(training: Training) -> EpochMetrics:
        return EpochMetrics(1, 0.6, accuracy, 0.6, 0.9, 1.0)

    monkeypatch.setattr(Training, "run_epoch", run_epoch)
    task = dataclasses.replace(SPEC.task, classes=2)
    result = begin(A, dataclasses.replace(SPEC, task=task, hopeless_after=1)).step()
    assert (STOPPED in result) == result["done"] == hopeless


# Latencies

TIMED = dataclasses.replace(SPEC, latency_batches=(1, 16))


@pytest.fixture
def quick_latencies(monkeypatch) -> list[int]:
    """Measure briefly; return the measured batch sizes."""
    measured: list[int] = []
    measure = Training.measure_latency

    def counted(training: Training, batch: int) -> float:
        measured.append(batch)
        return measure(training, batch)

    monkeypatch.setattr(Training, "measure_latency", counted)
    monkeypatch.setattr("trainables.training.latency.REPEATS", (3, 3))
    return measured


def latencies(result: dict[str, Any]) -> tuple[float, float]:
    return result["latency_ms"], result["batch_latency_ms"]


def test_every_result_has_latencies_that_are_measured_once(quick_latencies):
    trial = begin(A, TIMED)
    results = [trial.step() for _ in range(EPOCHS)]
    assert quick_latencies == [1, 16]
    assert len({latencies(result) for result in results}) == 1
    assert min(latencies(results[0])) > 0
    trial.reset(copied(B))
    other = trial.step()
    assert quick_latencies == [1, 16] * 2
    assert latencies(other) != latencies(results[0])


def test_results_have_only_requested_latencies(quick_latencies):
    result = begin(A).step()
    assert quick_latencies == []
    assert not [name for name in result if "latency" in name]


def test_measuring_latency_does_not_change_the_training(quick_latencies):
    timed = begin(A, TIMED)
    expected, state = alone(A)
    assert run(timed) == expected
    assert same_weights(state_of(timed), state)


def test_resumed_trial_keeps_its_latencies(quick_latencies, tmp_path):
    timed = dataclasses.replace(TIMED, checkpoints=tmp_path)
    before = begin(A, timed, number=1).step()
    other = begin(B, timed, number=2)
    other.step()
    del quick_latencies[:]
    other.reset(copied(A, number=1))
    after = other.step()
    assert latencies(after) == latencies(before)
    assert quick_latencies == []
    assert after["epoch"] == 2


# Failures


def test_untrainable_candidate_ends_its_trial_with_cause():
    result = begin(UNFIT).step()
    assert result["done"]
    assert result[FAILURE].startswith("BadInputError: recipe.batch_size = 9999: there are only")
    assert "\n" not in result[FAILURE]
    # Tune aborts the whole search if a result lacks the metric that it compares.
    assert math.isnan(result["validation_accuracy"])


def test_other_images_than_the_drivers_are_reported_apart():
    expected = load(SPEC.data).identify(SPEC.data.decoding)
    cut = dataclasses.replace(expected.classes[0], images=(0, 1, 1), digest="other")
    other = dataclasses.replace(expected, classes=(cut, *expected.classes[1:]))
    for wanted, differs in ((expected, False), (other, True)):
        data = dataclasses.replace(SPEC.data, expected=wanted)
        result = begin(A, dataclasses.replace(SPEC, data=data)).step()
        assert (NODE_DATA in result, FAILURE in result) == (differs, differs)
    error = BadInputError(*result[NODE_DATA])
    assert error.field == "data"
    assert "images more in 0" in error.problem
    assert result["done"]


def test_worker_refuses_another_network_than_the_driver_drew():
    """The driver and a worker differ in hash seed, files and clock."""
    right = SPEC.candidates().rebuild(A["params"]).digest
    wrong = SPEC.candidates().rebuild(B["params"]).digest
    for digest, failure in ((right, None), (wrong, "BadInputError: space = vgg: draws another")):
        trial = begin(A)
        trial._begin(copied(A) | {"digest": digest})
        result = trial.step()
        assert str(result.get(FAILURE)).startswith(str(failure))
        assert "\n" not in str(result.get(FAILURE))


def test_error_in_an_epoch_ends_the_trial_with_its_cause(monkeypatch):
    trial = begin(A)
    trial.step()

    def run_epoch(training: Training) -> EpochMetrics:
        raise torch.OutOfMemoryError("no memory left")

    monkeypatch.setattr(Training, "run_epoch", run_epoch)
    result = trial.step()
    assert result[FAILURE] == "out of memory: no memory left"
    assert math.isnan(result["validation_accuracy"])
    assert result["done"]
    # The prediction fits, but the training does not.
    assert result[VIOLATION] == 0.01


def test_too_large_network_fails_without_ending_process():
    """No machine can address kernels of this size, so the test allocates nothing."""
    options = {**SPEC.space_options, "features": [4, 2**45]}
    huge = {"params": A["params"] | {"features_1": 4, "features_2": 2**45}, "seed": 3}
    trial = begin(huge, dataclasses.replace(SPEC, space_options=options))
    result = trial.step()
    assert result["done"]
    assert result[FAILURE].startswith("out of memory: ")
    assert "\n" not in result[FAILURE]
    assert math.isnan(result["validation_accuracy"])
    assert result[VIOLATION] > 1000
    trial.reset(copied(A))
    assert run(trial) == alone(A)[0]


def test_memory_excess_is_reported_only_after_out_of_memory():
    assert VIOLATION not in begin(UNFIT).step()
    assert VIOLATION not in begin(A).step()


def test_memory_exhausted_by_neighbours_ends_only_the_process(monkeypatch):
    """Ray retries the trial; the candidate does not count as failed."""

    def run_epoch(training: Training) -> EpochMetrics:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(Training, "run_epoch", run_epoch)
    monkeypatch.setattr(
        "trainables.trial.has_reached_memory_limit", lambda error, device, gpus: False
    )
    with pytest.raises(torch.OutOfMemoryError):
        begin(A).step()


def test_trial_with_gpu_fraction_does_not_train_on_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    spec = dataclasses.replace(SPEC, device="auto")
    trial = begin(A, spec)
    trial._begin(copied(A) | {"gpus": 0.25})
    # The process ends and Ray starts another one: the next node may have a driver.
    with pytest.raises(BadInputError, match="device = cuda: "):
        trial.step()
    assert FAILURE not in begin(A, spec).step()


def test_device_error_ends_the_process(monkeypatch):
    class BrokenDeviceError(torch.AcceleratorError):
        def __init__(self) -> None:
            RuntimeError.__init__(self, "the device is gone")

    def run_epoch(training: Training) -> EpochMetrics:
        raise BrokenDeviceError

    monkeypatch.setattr(Training, "run_epoch", run_epoch)
    with pytest.raises(torch.AcceleratorError, match="the device is gone"):
        begin(A).step()


def test_process_continues_after_failed_trial():
    trial = begin(UNFIT)
    trial.step()
    trial.reset(copied(A))
    assert run(trial) == alone(A)[0]


def test_trial_that_could_not_start_can_start_again(tmp_path):
    spec = dataclasses.replace(SPEC, checkpoints=tmp_path)
    trial = begin(UNFIT, spec)
    trial.step()
    trial.stop()
    assert list(tmp_path.iterdir()) == []
    assert run(begin(A, spec)) == alone(A)[0]


def test_weights_within_an_epoch_are_not_saved(tmp_path, monkeypatch):
    spec = dataclasses.replace(SPEC, checkpoints=tmp_path)
    trial = begin(A, spec)
    first = metrics(trial.step())

    def run_epoch(training: Training) -> EpochMetrics:
        for parameter in training.network.parameters():
            parameter.data.zero_()
        raise torch.OutOfMemoryError("no memory left")

    with monkeypatch.context() as patch:
        patch.setattr(Training, "run_epoch", run_epoch)
        trial.step()
        trial.stop()
    assert [first, *run(begin(A, spec))] == alone(A)[0]


# Checkpoints


@pytest.fixture
def every_epoch(monkeypatch) -> None:
    """Write a checkpoint after every epoch, even after a short one."""
    monkeypatch.setattr("trainables.training.checkpoints.WRITING_FRACTION", 1e9)


@pytest.fixture
def kept(tmp_path, every_epoch) -> TrainingSpec:
    """Return the spec with a folder for checkpoints, written after every epoch."""
    return dataclasses.replace(SPEC, checkpoints=tmp_path / "checkpoints")


def history(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [metrics(each) for each in result.get(HISTORY, [])]


@pytest.mark.parametrize("stop", [1, 2])
def test_resumed_trial_is_bitwise_equal_and_reports_history(kept, stop):
    expected, state = alone(A)
    interrupted = begin(A, kept)
    before = [interrupted.step() for _ in range(stop)]
    assert not any(HISTORY in result for result in before)
    # No clean-up: a killed process ends without it.
    later = begin(A, kept)
    torch.manual_seed(12)
    first = later.step()
    assert history(first) == [metrics(result) for result in before] == expected[:stop]
    assert metrics(first) == expected[stop]
    rest = run(later) if not first["done"] else []
    assert [metrics(first), *rest] == expected[stop:]
    assert same_weights(state_of(later), state)


def test_history_of_a_resumed_trial_is_reported_once(kept):
    begin(A, kept).step()
    later = begin(A, kept)
    assert HISTORY in later.step()
    assert HISTORY not in later.step()


def test_history_covers_every_lost_process(kept):
    expected, _ = alone(A)
    for epoch in range(1, EPOCHS + 1):
        result = begin(A, kept).step()
        assert metrics(result) == expected[epoch - 1]
        assert history(result) == expected[: epoch - 1]
        assert result["done"] == (epoch == EPOCHS)


def test_resume_after_last_epoch_reports_it_again(kept, monkeypatch):
    ended = begin(A, kept)
    results = [ended.step() for _ in range(EPOCHS)]
    monkeypatch.setattr(Training, "run_epoch", None)
    again = begin(A, kept).step()
    assert again["done"]
    assert metrics(again) == metrics(results[-1])
    assert [each["epoch_seconds"] for each in again[HISTORY]] == [
        result["epoch_seconds"] for result in results
    ]


def test_resume_after_hopeless_stop_stops_again(tmp_path, monkeypatch, every_epoch):
    spec = dataclasses.replace(HOPELESS, hopeless_after=2, checkpoints=tmp_path)
    hopeless = begin(A, spec)
    last = [hopeless.step() for _ in range(2)][-1]
    monkeypatch.setattr(Training, "run_epoch", None)
    again = begin(A, spec).step()
    assert again["done"]
    assert again[STOPPED] == last[STOPPED]
    assert again["epoch"] == 2


def test_resume_after_divergence_reports_it_again(tmp_path, monkeypatch):
    recipe = {"learning_rate": 1e20, "weight_decay": 0, "batch_size": 32}
    spec = dataclasses.replace(SPEC, recipe_options=recipe, checkpoints=tmp_path)
    begin(A, spec).step()
    monkeypatch.setattr(Training, "run_epoch", None)
    again = begin(A, spec).step()
    assert (again["done"], again["epoch"]) == (True, 1)


def test_process_of_another_trial_can_resume_this_one(kept):
    expected, _ = alone(A)
    before = [metrics(begin(A, kept, number=1).step())]
    other = begin(B, kept, number=2)
    other.step()
    other.reset(copied(A, number=1))
    assert before + run(other) == expected


def test_equal_candidates_of_two_trials_are_independent(kept):
    begin(A, kept, number=1).step()
    assert HISTORY not in begin(A, kept, number=2).step()


def test_checkpoint_of_another_candidate_is_not_resumed(kept):
    """A killed driver had assigned the number before recording the trial in the study."""
    other = begin(A, kept, number=1)
    for _ in range(2):
        other.step()
    same_shape = {"params": A["params"] | {"learning_rate": 0.05}, "seed": 5}
    for config in (B, same_shape):
        trial = begin(config, kept, number=1)
        first = trial.step()
        assert HISTORY not in first
        assert [metrics(first), *run(trial)] == alone(config)[0]


@pytest.mark.parametrize("ending", ["stop", "reset"])
def test_pending_checkpoint_is_written_before_the_next_trial(kept, monkeypatch, ending):
    """Large networks are written rarely, but none of their epochs is lost."""
    expected, _ = alone(A)
    monkeypatch.setattr("trainables.training.checkpoints.WRITING_FRACTION", 1e-9)
    trial = begin(A, kept, number=1)
    for _ in range(2):
        trial.step()
    assert len(list((kept.checkpoints / "1").glob("*/*.pt"))) == 1
    if ending == "stop":
        trial.stop()
    else:
        trial.reset(copied(B, number=2))
    later = begin(A, kept, number=1)
    first = later.step()
    assert history(first) == expected[:2]
    assert metrics(first) == expected[2]


@pytest.mark.parametrize("epochs", [1, EPOCHS])
def test_finished_trial_writes_no_checkpoint(kept, monkeypatch, epochs):
    """The search has removed the checkpoints, for example after stopping the trial early."""
    monkeypatch.setattr("trainables.training.checkpoints.WRITING_FRACTION", 1e-9)
    trial = begin(A, kept, number=1)
    for _ in range(epochs):
        trial.step()
    shutil.rmtree(kept.checkpoints / "1")
    trial.reset(copied(B, number=2))
    assert not (kept.checkpoints / "1").exists()


def test_full_disk_loses_the_checkpoint_but_not_the_training(kept, monkeypatch):
    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    trial = begin(A, kept)
    first = trial.step()
    assert "No space left on device" in first["unkept"]
    assert [metrics(first), *run(trial)] == alone(A)[0]
    trial.stop()


def test_gpu_checkpoint_is_restored_on_cpu(kept, monkeypatch):
    expected, _ = alone(A)
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        before = [metrics(begin(A, kept).step())]
    assert before + run(begin(A, kept)) == expected


def test_process_without_checkpoint_folder_starts_anew():
    begin(A).step()
    again = begin(A).step()
    assert again["epoch"] == 1
    assert HISTORY not in again


# Hanging epochs

HANGING = """
import sys, time
from trainables.trial import ending_if_hung

with ending_if_hung(float(sys.argv[1])):
    print("begun", flush=True)
    time.sleep(float(sys.argv[2]))
print("ended", flush=True)
time.sleep(float(sys.argv[1]) * 1.5)
"""


def timed(after: float, takes: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HANGING, str(after), str(takes)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_hung_epoch_ends_its_process_with_traceback():
    result = timed(0.5, 50)
    assert result.returncode == 1
    assert result.stdout == "begun\n"
    assert "Timeout" in result.stderr
    assert "line 7" in result.stderr


def test_epoch_within_time_limit_cancels_the_timer():
    result = timed(1.0, 0.01)
    assert (result.returncode, result.stdout) == (0, "begun\nended\n")


def test_epoch_time_limit_comes_from_the_spec(monkeypatch):
    given: list[float | None] = []

    @contextmanager
    def watched(seconds: float | None) -> Iterator[None]:
        given.append(seconds)
        yield

    monkeypatch.setattr("trainables.trial.ending_if_hung", watched)
    for seconds in (None, 30.0):
        trial = begin(A, dataclasses.replace(SPEC, hang_after=seconds))
        trial.step()
        trial.step()
    assert given == [None, None, 30.0, 30.0]


# One process, many trials


def test_trials_of_one_process_do_not_affect_each_other():
    trial = begin(A)
    first, first_state = run(trial), state_of(trial)
    trial.reset(copied(B))
    between = run(trial)
    trial.reset(copied(A))
    again, again_state = run(trial), state_of(trial)
    assert first == again
    assert same_weights(first_state, again_state)
    assert between == alone(B)[0]


def test_trials_with_different_recipes_do_not_affect_each_other():
    spec = dataclasses.replace(
        SPEC,
        recipe_options={
            **SPEC.recipe_options,
            "optimizer": ["sgd", "adamw"],
            "ema": [0.0, 0.9],
            "clip": [0.0, 1.0],
            "schedule": ["one_cycle", "constant"],
            "trainable": ["all", "batchnorm"],
        },
        latency_batches=(1,),
    )
    plain = {"optimizer": "sgd", "ema": 0.0, "clip": 0.0, "schedule": "one_cycle"}
    other = {"optimizer": "adamw", "ema": 0.9, "clip": 0.1, "schedule": "constant"}
    a = {"params": A["params"] | plain | {"trainable": "all"}, "seed": 3}
    b = {"params": B["params"] | other | {"trainable": "batchnorm"}, "seed": 4}
    trial = begin(a, spec)
    first, first_state = run(trial), state_of(trial)
    trial.reset(copied(b))
    between, between_state = run(trial), state_of(trial)
    trial.reset(copied(a))
    assert run(trial) == first == alone(A)[0]
    assert same_weights(state_of(trial), first_state)
    trial.reset(copied(b))
    assert run(trial) == between
    assert same_weights(state_of(trial), between_state)


def test_trial_stopped_early_does_not_affect_the_next():
    trial = begin(B)
    trial.step()
    trial.reset(copied(A))
    assert run(trial) == alone(A)[0]


def test_trials_of_a_process_share_one_data_set(monkeypatch):
    shared_dataset.cache_clear()
    loaded: list[DataSpec] = []

    def counting_load(data: DataSpec) -> Dataset:
        loaded.append(data)
        return load(data)

    monkeypatch.setattr("trainables.trial.load", counting_load)
    trial = begin(A)
    trial.step()
    trial.reset(copied(B))
    trial.step()
    begin(B).step()
    assert loaded == [SPEC.data]


def test_memory_of_a_trial_is_freed_before_the_next():
    trial = begin(A)
    trial.step()
    held = [weakref.ref(parameter) for parameter in trial._training.network.parameters()]
    gc.disable()  # Device memory must not wait for the garbage collector.
    try:
        trial.reset(copied(B))
        assert held
        assert [parameter() for parameter in held] == [None] * len(held)
    finally:
        gc.enable()


def test_trial_uses_the_threads_of_its_spec():
    torch.set_num_threads(2)
    begin(A)
    assert torch.get_num_threads() == SPEC.threads == 1


def test_process_is_limited_to_gpu_fraction_of_first_trial(monkeypatch):
    set_up: list[tuple[int, float]] = []
    monkeypatch.setattr(
        "trainables.trial.prepare_process", lambda threads, gpus: set_up.append((threads, gpus))
    )
    trial = Trial(copied(A) | {"gpus": 0.25}, SPEC)
    trial.reset(copied(B) | {"gpus": 0.25})
    begin(A)
    assert set_up == [(1, 0.25), (1, 0.0)]


# On Ray


@pytest.fixture(scope="module")
def ray_cluster(own_cache: None) -> Iterator[None]:
    """Start Ray with two CPUs of this machine for this module."""
    with ray_node(2):
        yield


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder for the checkpoints of the trials on Ray."""
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def tuned(
    ray_cluster: None, checkpoints: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[dict[str, Any], tune.Result]]:
    """Return Tune's results, with configs, of trials that one actor runs in sequence."""
    configs = [A, UNFIT, B, A]
    tuner = tune.Tuner(
        tune.with_parameters(TrialActor, spec=dataclasses.replace(SPEC, checkpoints=checkpoints)),
        param_space={
            "number": tune.grid_search(list(range(len(configs)))),
            "params": tune.sample_from(lambda config: configs[config["number"]]["params"]),
            "seed": tune.sample_from(lambda config: configs[config["number"]]["seed"]),
        },
        tune_config=tune.TuneConfig(
            metric="validation_accuracy",
            mode="max",
            max_concurrent_trials=1,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(tmp_path_factory.mktemp("ray")),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        results = sorted(tuner.fit(), key=lambda result: result.config["number"])
    return list(zip(configs, results, strict=True))


def test_one_ray_actor_serves_all_trials(tuned):
    assert [result.error for _, result in tuned] == [None] * len(tuned)
    assert len({result.metrics["pid"] for _, result in tuned}) == 1


def test_trial_on_ray_equals_a_training_of_its_candidate(tuned, checkpoints):
    for config, result in tuned:
        if config is not UNFIT:
            expected, _ = alone(config)
            assert metrics(result.metrics) == expected[-1]
            assert result.metrics["training_iteration"] == EPOCHS
            saved = Checkpoints(
                checkpoints / str(result.config["number"]) / f"{config['seed']:08x}"
            ).load()
            # Not every checkpoint of such short epochs is written.
            assert [metrics(each) for each in saved["history"]] == expected[: saved["epoch"]]
            assert same_weights(saved, alone(config, saved["epoch"])[1])


def test_untrainable_trial_on_ray_reports_its_cause(tuned):
    causes = [result.metrics.get(FAILURE, "") for _, result in tuned]
    assert [bool(cause) for cause in causes] == [False, True, False, False]
    assert causes[1].startswith("BadInputError: recipe.batch_size = 9999")


def test_folded_trial_resumes_bit_by_bit(tmp_path):
    folded = dataclasses.replace(
        SPEC, data=dataclasses.replace(SPEC.data, validation=Folds(3)), hang_after=100.0
    )
    whole = run(begin(A, dataclasses.replace(folded, checkpoints=tmp_path / "whole")))
    spec = dataclasses.replace(folded, checkpoints=tmp_path / "split")
    first = begin(A, spec)
    before = [metrics(first.step())]
    first.stop()
    resumed = begin(A, spec)
    assert resumed._hang_after() == 3 * 100.0
    assert before + run(resumed) == whole
    assert whole[-1]["train_accuracy"] > 0.2
