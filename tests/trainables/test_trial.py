"""The Ray trainable: one process serves many trials, and each is what it would be alone."""

import dataclasses
import gc
import logging
import math
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray import tune

from spaces.task import Task
from trainables.data import Dataset, load
from trainables.job import Augmentation, Data, Job
from trainables.training import EpochResult, Training
from trainables.trial import (
    FAILURE,
    STATE_FILE,
    STOPPED,
    VIOLATION,
    Trial,
    least_accuracy,
    shared_dataset,
)

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")

EPOCHS = 3
JOB = Job(
    data=Data("digits", subset=0.2),
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
"""A batch larger than the training split: refused where training begins."""
METRICS = ("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")


class BoundTrial(Trial):
    """A trial with its job, as ``tune.with_parameters`` makes it; usable without Ray."""

    def setup(self, config: dict[str, Any], job: Job = JOB) -> None:
        super().setup(config, job)


def copied(config: dict[str, Any]) -> dict[str, Any]:
    return {"params": dict(config["params"]), "seed": config["seed"]}


def begin(config: dict[str, Any], job: Job = JOB) -> BoundTrial:
    trial = BoundTrial(copied(config))
    trial._job = job
    return trial


def metrics(result: dict[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in METRICS}


def run(trial: Trial) -> list[dict[str, Any]]:
    """Step until the trial says that it is done."""
    results = [trial.step()]
    while not results[-1]["done"]:
        results.append(trial.step())
    return [metrics(result) for result in results]


def saved_state(trial: Trial, folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    trial.save_checkpoint(str(folder))
    return torch.load(folder / STATE_FILE, weights_only=True)


def same_weights(first: dict[str, Any], second: dict[str, Any]) -> bool:
    first, second = first["network"], second["network"]
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def alone(config: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the metrics and the state of a training of its own, without any trial."""
    training = Training(
        JOB.candidates().rebuild(config["params"]),
        JOB.data.load(),
        epochs=EPOCHS,
        seed=config["seed"],
        augmentation=JOB.augmentation,
        device="cpu",
    )
    results = [training.run_epoch() for _ in range(EPOCHS)]
    return [{name: getattr(r, name) for name in METRICS} for r in results], training.state_dict()


def test_a_trial_is_the_training_of_its_candidate(tmp_path):
    trial = begin(A)
    expected, state = alone(A)
    assert run(trial) == expected
    assert same_weights(saved_state(trial, tmp_path), state)


def test_a_trial_is_done_after_the_last_epoch_and_not_before():
    trial = begin(A)
    results = [trial.step() for _ in range(EPOCHS)]
    assert [result["done"] for result in results] == [False] * (EPOCHS - 1) + [True]
    assert [result["epoch"] for result in results] == [1, 2, 3]


def test_a_trial_that_diverges_is_done_at_once():
    recipe = {"learning_rate": 1e20, "weight_decay": 1e-3, "batch_size": 32}
    trial = begin(A, dataclasses.replace(JOB, recipe_options=recipe))
    result = trial.step()
    assert result["epoch"] == 1
    assert result["done"]
    assert FAILURE not in result


# Trainings without hope

HOPELESS = dataclasses.replace(
    JOB,
    recipe_options={"learning_rate": 1e-9, "weight_decay": 0.0, "batch_size": 32},
    epochs=4,
)
"""It learns nothing."""


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_training_that_is_no_better_than_a_guess_is_given_up_after_the_epochs_it_was_given(
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
    assert last[STOPPED] == (
        f"training accuracy {last['train_accuracy']:.4f} after {after} epochs is under 0.2000"
    )


def test_it_is_not_given_up_where_no_one_asked_for_that_nor_at_its_regular_end():
    for after in (None, 4, 5):
        trial = begin(A, dataclasses.replace(HOPELESS, hopeless_after=after))
        results = [trial.step() for _ in range(4)]
        assert [result["done"] for result in results] == [False, False, False, True]
        assert not any(STOPPED in result for result in results)


@pytest.mark.parametrize("after", [2, 3])
def test_a_network_that_learns_is_never_given_up(after):
    recipe = {
        "learning_rate": 0.02,
        "weight_decay": 0.0,
        "batch_size": 8,
        "optimizer": "adamw",
        "schedule": "constant",
    }
    job = dataclasses.replace(JOB, recipe_options=recipe, epochs=4, hopeless_after=after)
    wide = {"params": {"features_1": 12, "features_2": 12}, "seed": 3}
    trial = begin(wide, job)
    results = [trial.step() for _ in range(4)]
    assert results[after - 1]["train_accuracy"] > 0.3
    assert [result["done"] for result in results] == [False, False, False, True]
    assert not any(STOPPED in result for result in results)


def test_a_training_that_diverges_where_it_would_be_given_up_has_diverged():
    recipe = {"learning_rate": 1e20, "weight_decay": 1e-3, "batch_size": 32}
    job = dataclasses.replace(JOB, recipe_options=recipe, hopeless_after=1)
    result = begin(A, job).step()
    assert result["done"]
    assert STOPPED not in result


def test_a_training_has_to_reach_twice_a_guess_or_of_few_classes_half_way_to_perfection():
    assert least_accuracy(2) == 0.75
    assert least_accuracy(3) == pytest.approx(2 / 3)
    assert least_accuracy(10) == 0.2
    assert least_accuracy(100) == 0.02


@pytest.mark.parametrize(("accuracy", "hopeless"), [(0.7499, True), (0.75, False)])
def test_of_two_classes_three_quarters_have_to_be_right(monkeypatch, accuracy, hopeless):
    def run_epoch(training: Training) -> EpochResult:
        return EpochResult(1, 0.6, accuracy, 0.6, 0.9, 1.0)

    monkeypatch.setattr(Training, "run_epoch", run_epoch)
    task = dataclasses.replace(JOB.task, classes=2)
    result = begin(A, dataclasses.replace(JOB, task=task, hopeless_after=1)).step()
    assert (STOPPED in result) == result["done"] == hopeless


# Latencies

TIMED = dataclasses.replace(JOB, latency_batches=(1, 16))


@pytest.fixture
def quick_latencies(monkeypatch) -> list[int]:
    """Measure briefly; return the sizes of the batches that were measured."""
    measured: list[int] = []
    measure = Training.measure_latency

    def counted(training: Training, batch: int) -> float:
        measured.append(batch)
        return measure(training, batch)

    monkeypatch.setattr(Training, "measure_latency", counted)
    monkeypatch.setattr("trainables.latency.REPEATS", (3, 3))
    return measured


def latencies(result: dict[str, Any]) -> tuple[float, float]:
    return result["latency_ms"], result["batch_latency_ms"]


def test_every_result_holds_the_latencies_which_are_measured_once(quick_latencies):
    trial = begin(A, TIMED)
    results = [trial.step() for _ in range(EPOCHS)]
    assert quick_latencies == [1, 16]
    assert len({latencies(result) for result in results}) == 1
    assert min(latencies(results[0])) > 0
    assert trial.reset(copied(B))
    other = trial.step()
    assert quick_latencies == [1, 16] * 2
    assert latencies(other) != latencies(results[0])


def test_no_result_holds_latencies_that_no_one_asked_for(quick_latencies):
    result = begin(A).step()
    assert quick_latencies == []
    assert not [name for name in result if "latency" in name]


def test_measuring_changes_nothing_in_the_training(quick_latencies, tmp_path):
    timed = begin(A, TIMED)
    expected, state = alone(A)
    assert run(timed) == expected
    assert same_weights(saved_state(timed, tmp_path), state)


def test_a_trial_that_is_restored_keeps_its_latencies(quick_latencies, tmp_path):
    interrupted = begin(A, TIMED)
    before = interrupted.step()
    interrupted.save(str(tmp_path))
    restored = begin(B, TIMED)
    restored.step()
    del quick_latencies[:]
    assert restored.reset(copied(A))
    restored.restore(str(tmp_path))
    after = restored.step()
    assert latencies(after) == latencies(before)
    assert quick_latencies == []
    assert after["epoch"] == 2


# Failures


def test_a_candidate_that_cannot_be_trained_ends_its_trial_and_says_why():
    result = begin(UNFIT).step()
    assert result["done"]
    assert result[FAILURE].startswith("BadInputError: recipe.batch_size = 9999: there are only")
    assert "\n" not in result[FAILURE]
    # Tune ends the whole search over a result that lacks the metric it compares by.
    assert math.isnan(result["validation_accuracy"])


def test_an_error_in_an_epoch_ends_the_trial_and_says_why(monkeypatch):
    trial = begin(A)
    trial.step()

    def run_epoch(training: Training) -> EpochResult:
        raise torch.OutOfMemoryError("no memory left")

    monkeypatch.setattr(Training, "run_epoch", run_epoch)
    result = trial.step()
    assert result[FAILURE] == "out of memory: no memory left"
    assert math.isnan(result["validation_accuracy"])
    assert result["done"]
    # It was predicted to fit, and did not.
    assert result[VIOLATION] == 0.01


def test_a_network_too_large_for_the_memory_fails_at_once_and_costs_no_process():
    """No machine can even address its kernels: nothing is taken from this one."""
    options = {**JOB.space_options, "features": [4, 2**45]}
    huge = {"params": A["params"] | {"features_1": 4, "features_2": 2**45}, "seed": 3}
    trial = begin(huge, dataclasses.replace(JOB, space_options=options))
    result = trial.step()
    assert result["done"]
    assert result[FAILURE].startswith("out of memory: ")
    assert "\n" not in result[FAILURE]
    assert math.isnan(result["validation_accuracy"])
    assert result[VIOLATION] > 1000
    assert trial.reset(copied(A))
    assert run(trial) == alone(A)[0]


def test_only_where_memory_was_short_a_result_says_by_how_much():
    assert VIOLATION not in begin(UNFIT).step()
    assert VIOLATION not in begin(A).step()


def test_an_error_of_the_device_costs_the_process(monkeypatch):
    class BrokenDeviceError(torch.AcceleratorError):
        def __init__(self) -> None:
            RuntimeError.__init__(self, "the device is gone")

    def run_epoch(training: Training) -> EpochResult:
        raise BrokenDeviceError

    monkeypatch.setattr(Training, "run_epoch", run_epoch)
    with pytest.raises(torch.AcceleratorError, match="the device is gone"):
        begin(A).step()


def test_a_process_goes_on_after_a_trial_that_failed():
    trial = begin(UNFIT)
    trial.step()
    assert trial.reset(copied(A))
    assert run(trial) == alone(A)[0]


def test_a_trial_that_could_not_begin_can_be_kept_and_begins_anew_when_restored(tmp_path):
    """Tune keeps a checkpoint of every trial that ends, also of one that failed."""
    trial = begin(UNFIT)
    trial.step()
    trial.save(str(tmp_path))
    restored = begin(A)
    restored.step()
    restored.restore(str(tmp_path))
    assert run(restored) == alone(A)[0]


# Checkpoints


@pytest.mark.parametrize("stop", [1, 2])
def test_a_trial_restored_in_another_process_continues_bit_by_bit(tmp_path, stop):
    expected, state = alone(A)
    interrupted = begin(A)
    before = [metrics(interrupted.step()) for _ in range(stop)]
    checkpoint = interrupted.save(str(tmp_path / "checkpoint"))
    restored = begin(A)
    torch.manual_seed(12)
    restored.restore(checkpoint)
    assert before + run(restored) == expected
    assert same_weights(saved_state(restored, tmp_path / "end"), state)


def test_a_process_that_served_another_trial_can_continue_this_one(tmp_path):
    expected, _ = alone(A)
    interrupted = begin(A)
    before = [metrics(interrupted.step())]
    interrupted.save(str(tmp_path))
    other = begin(B)
    other.step()
    assert other.reset(copied(A))
    other.restore(str(tmp_path))
    assert before + run(other) == expected


def test_a_trial_restored_after_its_last_epoch_reports_it_again_and_trains_nothing_more(
    tmp_path, monkeypatch
):
    ended = begin(A)
    last = [ended.step() for _ in range(EPOCHS)][-1]
    ended.save(str(tmp_path / "checkpoint"))
    monkeypatch.setattr(Training, "run_epoch", None)
    restored = begin(B)
    assert restored.reset(copied(A))
    restored.restore(str(tmp_path / "checkpoint"))
    again = restored.step()
    assert again == last
    assert again["done"]
    state = saved_state(restored, tmp_path / "end")
    assert same_weights(state, saved_state(ended, tmp_path / "before"))


def test_a_checkpoint_of_a_gpu_is_restored_on_a_machine_without_one(tmp_path, monkeypatch):
    expected, _ = alone(A)
    interrupted = begin(A)
    before = [metrics(interrupted.step())]
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        interrupted.save(str(tmp_path))
    restored = begin(A)
    restored.restore(str(tmp_path))
    assert before + run(restored) == expected


def test_a_checkpoint_can_run_no_code(tmp_path):
    class Intruder:
        def __reduce__(self):
            return print, ("intruder",)

    torch.save({"epoch": 1, "network": Intruder()}, tmp_path / STATE_FILE)
    with pytest.raises(Exception, match="Weights only load failed"):
        begin(A).load_checkpoint(str(tmp_path))


# One process, many trials


def test_trials_served_by_one_process_leave_no_trace_in_each_other(tmp_path):
    trial = begin(A)
    first, first_state = run(trial), saved_state(trial, tmp_path / "1")
    assert trial.reset(copied(B))
    between = run(trial)
    assert trial.reset(copied(A))
    again, again_state = run(trial), saved_state(trial, tmp_path / "2")
    assert first == again
    assert same_weights(first_state, again_state)
    assert between == alone(B)[0]


def test_nor_do_trials_whose_recipes_differ_in_everything(tmp_path):
    job = dataclasses.replace(
        JOB,
        recipe_options={
            **JOB.recipe_options,
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
    trial = begin(a, job)
    first, first_state = run(trial), saved_state(trial, tmp_path / "1")
    assert trial.reset(copied(b))
    between, between_state = run(trial), saved_state(trial, tmp_path / "2")
    assert trial.reset(copied(a))
    assert run(trial) == first == alone(A)[0]
    assert same_weights(saved_state(trial, tmp_path / "3"), first_state)
    assert trial.reset(copied(b))
    assert run(trial) == between
    assert same_weights(saved_state(trial, tmp_path / "4"), between_state)


def test_a_trial_stopped_early_leaves_no_trace_in_the_next():
    trial = begin(B)
    trial.step()
    assert trial.reset(copied(A))
    assert run(trial) == alone(A)[0]


def test_all_trials_of_a_process_look_at_one_data_set(monkeypatch):
    shared_dataset.cache_clear()
    loaded: list[Data] = []

    def counting_load(data: Data) -> Dataset:
        loaded.append(data)
        return load(data.source, subset=data.subset)

    monkeypatch.setattr(Data, "load", counting_load)
    trial = begin(A)
    trial.step()
    trial.reset(copied(B))
    trial.step()
    begin(B).step()
    assert loaded == [JOB.data]


def test_what_a_trial_held_is_let_go_before_the_next_takes_memory():
    trial = begin(A)
    trial.step()
    held = [weakref.ref(parameter) for parameter in trial._training.network.parameters()]
    gc.disable()  # Memory of a device must not wait for the garbage collector.
    try:
        trial.reset(copied(B))
        assert held
        assert [parameter() for parameter in held] == [None] * len(held)
    finally:
        gc.enable()


def test_a_trial_uses_as_many_threads_as_its_job_says():
    torch.set_num_threads(2)
    begin(A)
    assert torch.get_num_threads() == JOB.threads == 1


def test_a_process_is_limited_to_the_share_of_a_gpu_that_its_first_trial_has(monkeypatch):
    set_up: list[tuple[int, float]] = []
    monkeypatch.setattr(
        "trainables.trial.prepare_process", lambda threads, gpus: set_up.append((threads, gpus))
    )
    trial = BoundTrial(copied(A) | {"gpus": 0.25})
    trial.reset(copied(B) | {"gpus": 0.25})
    begin(A)
    assert set_up == [(1, 0.25), (1, 0.0)]


# On Ray


@pytest.fixture(scope="module")
def ray_cluster(own_cache: None) -> Iterator[None]:
    """Two processors of this machine, for this module alone."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("RAY_AIR_NEW_OUTPUT", "0")
        patch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=100 * 2**20,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def tuned(
    ray_cluster: None, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[dict[str, Any], tune.Result]]:
    """What Tune makes of trials that one actor serves one after the other, with their configs."""
    configs = [A, UNFIT, B, A]
    tuner = tune.Tuner(
        tune.with_parameters(Trial, job=JOB),
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
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
        ),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        results = sorted(tuner.fit(), key=lambda result: result.config["number"])
    return list(zip(configs, results, strict=True))


def test_one_ray_actor_serves_all_trials_and_none_costs_the_process(tuned):
    assert [result.error for _, result in tuned] == [None] * len(tuned)
    assert len({result.metrics["pid"] for _, result in tuned}) == 1


def test_a_trial_on_ray_is_the_training_of_its_candidate(tuned):
    for config, result in tuned:
        if config is not UNFIT:
            expected, state = alone(config)
            assert metrics(result.metrics) == expected[-1]
            assert result.metrics["training_iteration"] == EPOCHS
            with result.checkpoint.as_directory() as folder:
                saved = torch.load(Path(folder) / STATE_FILE, weights_only=True)
            assert saved["epoch"] == EPOCHS
            assert same_weights(saved, state)


def test_a_trial_on_ray_that_cannot_be_trained_says_why(tuned):
    causes = [result.metrics.get(FAILURE, "") for _, result in tuned]
    assert [bool(cause) for cause in causes] == [False, True, False, False]
    assert causes[1].startswith("BadInputError: recipe.batch_size = 9999")
