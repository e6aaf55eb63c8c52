"""Retraining a finalist: a seed decides all, and the weights kept are those that were scored."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from spaces.task import Task
from trainables import training
from trainables.builder import Network
from trainables.data import Dataset
from trainables.device import Device
from trainables.finalist import retrain
from trainables.job import Augmentation, Data, FinalistResult, Job
from trainables.training import EpochResult, Training
from trainables.trial import shared_dataset

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")

JOB = Job(
    data=Data("digits", subset=0.2),
    task=Task(1, 8, 8, 10),
    space="vgg",
    space_options={"depth": 2, "features": [4, 12], "pools": 1, "convs_before_pool": 1},
    recipe_options={"learning_rate": 0.1, "weight_decay": 1e-3, "batch_size": 32},
    epochs=3,
    augmentation=Augmentation(crop=1, flip="random"),
    device="cpu",
)
PARAMS = {"kernel": 3, "features_1": 5, "features_2": 8}


def untimed(result: FinalistResult) -> FinalistResult:
    return dataclasses.replace(result, seconds=0.0)


def read(weights: Path) -> dict[str, torch.Tensor]:
    return torch.load(weights, weights_only=True)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def accuracy(network: Network, dataset: Dataset, split: str) -> float:
    rows = getattr(dataset, split)
    images = (dataset.images[rows] / 255 - np.array(dataset.mean)) / np.array(dataset.std)
    with torch.no_grad():
        logits = network.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2)).float())
    return float((logits.argmax(1).numpy() == dataset.labels[rows]).mean())


def test_a_seed_decides_the_whole_retraining(tmp_path):
    first = retrain(JOB, 7, PARAMS, 1, tmp_path / "first.pt")
    torch.manual_seed(5)
    again = retrain(JOB, 7, PARAMS, 1, tmp_path / "again.pt")
    other = retrain(JOB, 7, PARAMS, 2, tmp_path / "other.pt")
    assert untimed(first) == untimed(again)
    assert (first.number, first.seed, other.seed) == (7, 1, 2)
    assert same(read(tmp_path / "first.pt"), read(tmp_path / "again.pt"))
    assert not same(read(tmp_path / "first.pt"), read(tmp_path / "other.pt"))


def test_a_retraining_is_a_training_of_all_epochs_scored_on_test(tmp_path):
    result = retrain(JOB, 0, PARAMS, 4, tmp_path / "weights.pt")
    alone = Training(
        JOB.candidates().rebuild(PARAMS),
        JOB.data.load(),
        epochs=3,
        seed=4,
        augmentation=JOB.augmentation,
        device="cpu",
    )
    epochs = [alone.run_epoch() for _ in range(3)]
    assert result.validation_accuracy == epochs[-1].validation_accuracy
    assert result.test_accuracy == alone.score_test()[1]
    assert same(read(tmp_path / "weights.pt"), alone.network.state_dict())


def test_the_kept_weights_reproduce_the_test_accuracy_in_a_plain_network(tmp_path, monkeypatch):
    device = Device(torch.device("cpu"), bfloat16=False)
    monkeypatch.setattr(training, "select_device", lambda name: device)
    weights = tmp_path / "not" / "yet" / "there" / "weights.pt"
    result = retrain(JOB, 0, PARAMS, 1, weights)
    network = Network(JOB.candidates().rebuild(PARAMS).architecture)
    network.load_state_dict(read(weights))
    assert result.test_accuracy == pytest.approx(accuracy(network, JOB.data.load(), "test"))


def test_where_weights_are_averaged_those_that_are_kept_are_those_that_score(tmp_path, monkeypatch):
    device = Device(torch.device("cpu"), bfloat16=False)
    monkeypatch.setattr(training, "select_device", lambda name: device)
    trained: list[Training] = []
    score_test = Training.score_test

    def kept(self: Training) -> tuple[float, float]:
        trained.append(self)
        return score_test(self)

    monkeypatch.setattr(Training, "score_test", kept)
    job = dataclasses.replace(JOB, recipe_options={**JOB.recipe_options, "ema": 0.95})
    result = retrain(job, 0, PARAMS, 1, tmp_path / "weights.pt")
    weights = read(tmp_path / "weights.pt")
    assert same(weights, trained[0].evaluated.state_dict())
    assert not same(weights, trained[0].network.state_dict())

    network = Network(job.candidates().rebuild(PARAMS).architecture)
    network.load_state_dict(weights)
    dataset = job.data.load()
    assert result.validation_accuracy == pytest.approx(accuracy(network, dataset, "validation"))
    assert result.test_accuracy == pytest.approx(accuracy(network, dataset, "test"))


def test_the_test_split_decides_nothing(tmp_path, monkeypatch):
    expected = retrain(JOB, 0, PARAMS, 1, tmp_path / "weights.pt")
    dataset = shared_dataset(JOB.data)
    wrong = dataset.labels.copy()
    wrong[dataset.test] = (wrong[dataset.test] + 1) % 10
    monkeypatch.setattr(
        "trainables.trial.shared_dataset",
        lambda data: dataclasses.replace(dataset, labels=wrong),
    )
    result = retrain(JOB, 0, PARAMS, 1, tmp_path / "blind.pt")
    assert same(read(tmp_path / "weights.pt"), read(tmp_path / "blind.pt"))
    assert result.validation_accuracy == expected.validation_accuracy
    assert result.test_accuracy != expected.test_accuracy


def test_the_last_epoch_counts_not_the_best(tmp_path, monkeypatch):
    accuracies = iter([0.2, 0.9, 0.4])
    run_epoch = Training.run_epoch

    def told(trained: Training) -> EpochResult:
        result = run_epoch(trained)
        return dataclasses.replace(result, validation_accuracy=next(accuracies), seconds=2.0)

    monkeypatch.setattr(Training, "run_epoch", told)
    result = retrain(JOB, 0, PARAMS, 1, tmp_path / "weights.pt")
    assert result.validation_accuracy == 0.4
    assert result.seconds == 6.0


def test_a_process_is_set_up_with_the_threads_and_the_share_of_a_gpu_that_it_has(
    tmp_path, monkeypatch
):
    set_up: list[tuple[int, float]] = []
    monkeypatch.setattr(
        "trainables.finalist.prepare_process", lambda threads, gpus: set_up.append((threads, gpus))
    )
    retrain(JOB, 0, PARAMS, 1, tmp_path / "weights.pt", gpus=0.25)
    retrain(JOB, 0, PARAMS, 1, tmp_path / "weights.pt")
    assert set_up == [(1, 0.25), (1, 0.0)]
