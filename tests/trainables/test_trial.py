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
from trainables.trial import FAILURE, STATE_FILE, Trial, shared_dataset

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
    augmentation=Augmentation(crop=1, flip=True),
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


def begin(config: dict[str, Any]) -> BoundTrial:
    return BoundTrial(copied(config))


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
    trial = begin(A)
    trial._job = dataclasses.replace(JOB, recipe_options=recipe)
    result = trial.step()
    assert result["epoch"] == 1
    assert result["done"]
    assert FAILURE not in result


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
    assert result[FAILURE] == "OutOfMemoryError: no memory left"
    assert result["done"]


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
