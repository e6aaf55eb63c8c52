"""Retraining a finalist: a seed determines everything, and the scored weights are saved."""

import dataclasses
import io

import numpy as np
import pytest
import torch

from spaces.errors import BadInputError
from spaces.task import Task
from trainables.builder import Network
from trainables.data import Dataset, load
from trainables.epoch_metrics import EpochMetrics
from trainables.finalist import retrain
from trainables.folds import Folds
from trainables.specs import Augmentation, DataSpec, FinalistResult, Retraining, TrainingSpec
from trainables.training import loop as training
from trainables.training.device import Device
from trainables.training.loop import Training
from trainables.trial import shared_dataset

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")

SPEC = TrainingSpec(
    data=DataSpec("digits", subset=0.2),
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


def read(retraining: Retraining) -> dict[str, torch.Tensor]:
    return torch.load(io.BytesIO(retraining.weights), weights_only=True)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def predictions(network: Network, dataset: Dataset, split: str) -> np.ndarray:
    rows = getattr(dataset, split)
    images = (dataset.images[rows] / 255 - np.array(dataset.mean)) / np.array(dataset.std)
    with torch.no_grad():
        logits = network.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2)).float())
    return logits.argmax(1).numpy()


def accuracy(network: Network, dataset: Dataset, split: str) -> float:
    right = predictions(network, dataset, split) == dataset.labels[getattr(dataset, split)]
    return float(right.mean())


def test_seed_determines_the_whole_retraining():
    first = retrain(SPEC, 7, PARAMS, 1)
    torch.manual_seed(5)
    again = retrain(SPEC, 7, PARAMS, 1)
    other = retrain(SPEC, 7, PARAMS, 2)
    assert untimed(first.result) == untimed(again.result)
    assert (first.result.number, first.result.seed, other.result.seed) == (7, 1, 2)
    assert same(read(first), read(again))
    assert not same(read(first), read(other))
    np.testing.assert_array_equal(first.predictions, again.predictions)
    assert (first.predictions != other.predictions).any()


def test_retraining_trains_all_epochs_and_scores_on_test():
    retraining = retrain(SPEC, 0, PARAMS, 4)
    alone = Training(
        SPEC.candidates().rebuild(PARAMS),
        load(SPEC.data),
        epochs=3,
        seed=4,
        augmentation=SPEC.augmentation,
        device="cpu",
    )
    epochs = [alone.run_epoch() for _ in range(3)]
    assert retraining.result.validation_accuracy == epochs[-1].validation_accuracy
    assert retraining.result.test_accuracy == alone.score("test")[1]
    predicted, true, _ = alone.predict("validation")
    np.testing.assert_array_equal(retraining.validation_right, (predicted == true).numpy())
    assert retraining.validation_right.mean() == pytest.approx(epochs[-1].validation_accuracy)
    assert same(read(retraining), alone.network.state_dict())


def test_saved_weights_reproduce_accuracy_and_predictions(monkeypatch):
    device = Device(torch.device("cpu"), bfloat16=False)
    monkeypatch.setattr(training, "select_device", lambda name: device)
    retraining = retrain(SPEC, 0, PARAMS, 1)
    network = Network(SPEC.candidates().rebuild(PARAMS).architecture)
    network.load_state_dict(read(retraining))
    dataset = load(SPEC.data)
    assert retraining.result.test_accuracy == pytest.approx(accuracy(network, dataset, "test"))
    assert retraining.predictions.dtype == np.int32
    assert retraining.confidences.shape == retraining.predictions.shape
    assert (retraining.confidences >= 1 / len(dataset.classes)).all()
    np.testing.assert_array_equal(
        retraining.predictions, predictions(network, dataset, "test").astype(np.int32)
    )


def test_saved_weights_are_the_scored_moving_average(monkeypatch):
    device = Device(torch.device("cpu"), bfloat16=False)
    monkeypatch.setattr(training, "select_device", lambda name: device)
    trained: list[Training] = []
    predict = Training.predict

    def kept(self: Training, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        trained.append(self)
        return predict(self, split)

    monkeypatch.setattr(Training, "predict", kept)
    spec = dataclasses.replace(SPEC, recipe_options={**SPEC.recipe_options, "ema": 0.95})
    retraining = retrain(spec, 0, PARAMS, 1)
    weights = read(retraining)
    assert same(weights, trained[0].evaluated.state_dict())
    assert not same(weights, trained[0].network.state_dict())

    network = Network(spec.candidates().rebuild(PARAMS).architecture)
    network.load_state_dict(weights)
    dataset = load(spec.data)
    result = retraining.result
    assert result.validation_accuracy == pytest.approx(accuracy(network, dataset, "validation"))
    assert result.test_accuracy == pytest.approx(accuracy(network, dataset, "test"))


def test_test_split_does_not_influence_training(monkeypatch):
    expected = retrain(SPEC, 0, PARAMS, 1)
    dataset = shared_dataset(SPEC.data)
    wrong = dataset.labels.copy()
    wrong[dataset.test] = (wrong[dataset.test] + 1) % 10
    monkeypatch.setattr(
        "trainables.trial.shared_dataset",
        lambda data: dataclasses.replace(dataset, labels=wrong),
    )
    blind = retrain(SPEC, 0, PARAMS, 1)
    assert same(read(expected), read(blind))
    assert blind.result.validation_accuracy == expected.result.validation_accuracy
    assert blind.result.test_accuracy != expected.result.test_accuracy
    np.testing.assert_array_equal(blind.predictions, expected.predictions)


def test_another_network_than_the_search_drew_is_not_retrained():
    digest = SPEC.candidates().rebuild({**PARAMS, "features_1": 6}).digest
    with pytest.raises(BadInputError, match="draws another network"):
        retrain(SPEC, 0, PARAMS, 1, digest=digest)


def test_last_epoch_is_scored_not_the_best(monkeypatch):
    accuracies = iter([0.2, 0.9, 0.4])
    run_epoch = Training.run_epoch

    def told(trained: Training) -> EpochMetrics:
        result = run_epoch(trained)
        return dataclasses.replace(result, validation_accuracy=next(accuracies), epoch_seconds=2.0)

    monkeypatch.setattr(Training, "run_epoch", told)
    result = retrain(SPEC, 0, PARAMS, 1).result
    assert result.validation_accuracy == 0.4
    assert result.seconds == 6.0


def test_process_is_set_up_with_threads_and_gpu_fraction(monkeypatch):
    set_up: list[tuple[int, float]] = []
    monkeypatch.setattr(
        "trainables.finalist.prepare_process", lambda threads, gpus: set_up.append((threads, gpus))
    )
    retrain(SPEC, 0, PARAMS, 1, gpus=0.25)
    retrain(SPEC, 0, PARAMS, 1)
    assert set_up == [(1, 0.25), (1, 0.0)]


def test_seed_chooses_the_fold_that_a_finalist_leaves_out():
    spec = dataclasses.replace(SPEC, data=dataclasses.replace(SPEC.data, validation=Folds(3)))
    retraining = retrain(spec, 0, PARAMS, 4)
    alone = Training(
        SPEC.candidates().rebuild(PARAMS),
        load(spec.data).parts[4 % 3],
        epochs=3,
        seed=4,
        augmentation=SPEC.augmentation,
        device="cpu",
    )
    epochs = [alone.run_epoch() for _ in range(3)]
    assert retraining.result.validation_accuracy == epochs[-1].validation_accuracy
    assert same(read(retraining), alone.network.state_dict())
    # Other seeds have other validation images, so no test may pair them.
    assert len(retraining.validation_right) == 0


def test_first_seed_is_probed_on_test_and_failed_probes_keep_the_training(monkeypatch):
    spec = dataclasses.replace(SPEC, probes=("saturation", "triviality"))
    retraining = retrain(spec, 7, PARAMS, 1, probed=True)
    probes = retraining.probes
    assert probes.split == "test"
    assert probes.images == len(retraining.predictions)
    assert probes.accuracy == pytest.approx(retraining.result.test_accuracy, abs=0.05)
    assert len(probes.layers) == 2
    assert all(
        layer.metrics.keys() == {"saturation", "zero_kernel_accuracy", "zero_branch_accuracy"}
        for layer in probes.layers
    )
    assert [layer.field_min for layer in probes.layers] == [(3, 3), (8, 8)]
    assert retrain(spec, 7, PARAMS, 2).probes is None

    def fail(*arguments, **options):
        raise RuntimeError("out\nof memory")

    monkeypatch.setattr("trainables.finalist.probe_training", fail)
    failed = retrain(spec, 7, PARAMS, 1, probed=True)
    assert (failed.probes, failed.probe_failure) == (None, "RuntimeError: out of memory")
    assert untimed(failed.result) == untimed(retraining.result)


def test_probabilities_are_returned_if_the_spec_asks():
    found = retrain(dataclasses.replace(SPEC, epochs=1, scores=True), 7, PARAMS, 1)
    assert found.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert found.probabilities.dtype == "float32"  # In float16, most of a sure network would be 0.
    assert (found.probabilities.argmax(axis=1) == found.predictions).mean() > 0.95
    assert retrain(dataclasses.replace(SPEC, epochs=1), 7, PARAMS, 1).probabilities is None
