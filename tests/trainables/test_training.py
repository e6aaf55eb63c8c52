"""The training loop: it learns, it repeats itself exactly, and it measures what it says."""

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spaces.architecture import Builder
from spaces.candidate import Candidate, CandidateSpace
from spaces.errors import BadInputError
from spaces.operations import (
    Activation,
    Add,
    Convolution,
    Dropout,
    GlobalPooling,
    Linear,
    Norm,
    Pooling,
)
from spaces.recipe import Recipe
from spaces.task import Task
from trainables import training
from trainables.data import Dataset, load
from trainables.device import Device, select_device
from trainables.job import Augmentation
from trainables.training import EpochResult, Training, one_cycle

pytestmark = pytest.mark.usefixtures("one_thread")

VARIED = Augmentation(crop=1, flip=True)


@pytest.fixture(autouse=True)
def on_the_processor(monkeypatch):
    """Repeat bit by bit, also where there is a GPU."""
    monkeypatch.setattr(
        training, "select_device", lambda name: select_device("cpu" if name == "auto" else name)
    )


def use_format(monkeypatch: pytest.MonkeyPatch, bfloat16: bool) -> None:
    if bfloat16 and not select_device("cpu").bfloat16:
        pytest.skip("this processor does not multiply bfloat16")
    device = Device(torch.device("cpu"), bfloat16)
    monkeypatch.setattr(training, "select_device", lambda name: device)


@pytest.fixture(params=[False, True], ids=["float32", "bfloat16"])
def either_format(request, monkeypatch):
    use_format(monkeypatch, request.param)


@pytest.fixture
def float32(monkeypatch):
    use_format(monkeypatch, False)


@pytest.fixture(scope="session")
def random_candidate() -> Candidate:
    """A network and a recipe in which everything that can be random or can be kept is."""
    builder = Builder((1, 8, 8))
    x = builder.add(Convolution(6, bias=True), builder.image)
    x = builder.add(Activation("gelu"), builder.add(Norm("batch"), x))
    y = builder.add(Dropout(0.2), builder.add(Norm("group", 2), builder.add(Convolution(6), x)))
    x = builder.add(Pooling("max"), builder.add(Add(), x, y))
    x = builder.add(Dropout(0.3), builder.add(GlobalPooling(), x))
    builder.add(Linear(10), x)
    return Candidate(builder.build(), Recipe(0.05, 1e-2, 32, 0.1, 0.9))


def with_recipe(candidate: Candidate, **changes: float) -> Candidate:
    recipe = dataclasses.replace(candidate.recipe, **changes)
    return dataclasses.replace(candidate, recipe=recipe)


def snapshot(trained: Training) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trained.network.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Tell whether two networks agree in every bit."""
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def metrics(result: EpochResult) -> dict[str, float]:
    return {k: v for k, v in dataclasses.asdict(result).items() if k != "seconds"}


def train(
    candidate: Candidate, dataset: Dataset, epochs: int, seed: int = 1, **options: Any
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Return the weights after a whole training, and its metrics."""
    trained = Training(candidate, dataset, epochs=epochs, seed=seed, **options)
    results = [metrics(trained.run_epoch()) for _ in range(epochs)]
    return snapshot(trained), results


def normalised(dataset: Dataset, indices: np.ndarray) -> Tensor:
    images = dataset.images[indices].astype(np.float64) / 255
    standard = (images - np.array(dataset.mean)) / np.array(dataset.std)
    return torch.from_numpy(standard.transpose(0, 3, 1, 2)).float()


# The schedule


def test_the_learning_rate_rises_linearly_and_falls_with_a_half_cosine():
    for step in range(100):
        position = (step + 0.5) / 100
        if position <= 0.2:
            expected = position / 0.2
        else:
            expected = math.cos(math.pi / 2 * (position - 0.2) / 0.8) ** 2
        assert one_cycle(step, 100) == pytest.approx(expected)


@pytest.mark.parametrize("steps", [1, 2, 5, 7, 100, 9999])
def test_the_learning_rate_rises_to_the_peak_once_and_falls_from_there(steps):
    shares = [one_cycle(step, steps) for step in range(steps)]
    assert all(0 < share <= 1 for share in shares)
    top = shares.index(max(shares))
    assert shares[: top + 1] == sorted(shares[: top + 1])
    assert shares[top:] == sorted(shares[top:], reverse=True)
    assert top == pytest.approx(0.2 * steps, abs=1)


def test_the_learning_rate_starts_low_peaks_at_one_and_ends_near_zero():
    assert one_cycle(0, 1000) < 0.01
    assert max(one_cycle(step, 1000) for step in range(1000)) == pytest.approx(1, abs=0.01)
    assert one_cycle(999, 1000) < 1e-5


@pytest.mark.parametrize("steps", [50, 1000])
def test_the_mean_learning_rate_is_half_the_peak(steps):
    mean = sum(one_cycle(step, steps) for step in range(steps)) / steps
    assert mean == pytest.approx(0.5, abs=1 / steps)


def test_the_schedule_spans_all_epochs(few_digits, plain_candidate, float32):
    trained = Training(plain_candidate, few_digits, epochs=3, seed=0)
    rates = []
    step = trained._optimizer.step

    def observe(*args: Any) -> None:
        rates.extend({group["lr"] for group in trained._optimizer.param_groups})
        step(*args)

    trained._optimizer.step = observe
    for _ in range(3):
        trained.run_epoch()
    steps = 3 * (len(few_digits.train) // 32)
    assert rates == [0.1 * one_cycle(number, steps) for number in range(steps)]


# Learning


def test_it_learns_the_digits(image_cache, either_format):
    digits = load("digits", cache=image_cache)
    space = {"depth": 3, "features": 16, "kernel": 3, "pools": 1, "convs_before_pool": 1}
    recipe = {"learning_rate": 0.1, "weight_decay": 1e-3, "batch_size": 64}
    candidate = CandidateSpace(Task(1, 8, 8, 10), "vgg", space, recipe).rebuild({})
    trained = Training(candidate, digits, epochs=5, seed=0)
    results = [trained.run_epoch() for _ in range(5)]
    assert [result.epoch for result in results] == [1, 2, 3, 4, 5]
    assert results[-1].validation_accuracy > 0.9
    assert results[-1].train_accuracy > 0.9
    assert results[-1].train_loss < results[0].train_loss
    assert trained.score_test()[1] > 0.9


def test_a_network_learns_with_augmentation_on_colour_images(float32):
    """Colour alone tells the classes apart: wrong channels or labels would not be learned."""
    numbers = np.random.default_rng(0)
    labels = np.arange(240, dtype=np.int64) % 3
    images = numbers.integers(0, 60, (240, 6, 9, 3), dtype=np.uint8)
    images[np.arange(240), :, :, labels] += 120
    rows = np.arange(240)
    dataset = Dataset(images, labels, ("r", "g", "b"), rows[:160], rows[160:200], rows[200:])
    builder = Builder((3, 6, 9))
    x = builder.add(Convolution(6), builder.image)
    x = builder.add(Activation(), builder.add(Norm(), x))
    builder.add(Linear(3), builder.add(GlobalPooling(), x))
    candidate = Candidate(builder.build(), Recipe(0.2, 0.0, 20, 0.0, 0.9))
    trained = Training(candidate, dataset, epochs=6, seed=0, augmentation=VARIED)
    assert [trained.run_epoch() for _ in range(6)][-1].validation_accuracy == 1.0
    assert trained.score_test()[1] == 1.0


# Repeating


def test_the_same_seed_gives_the_same_weights_and_metrics_bit_by_bit(
    few_digits, random_candidate, either_format
):
    torch.manual_seed(5)
    first = train(random_candidate, few_digits, 2, augmentation=VARIED)
    torch.manual_seed(6)
    np.random.seed(7)
    again = train(random_candidate, few_digits, 2, augmentation=VARIED)
    assert same(first[0], again[0])
    assert first[1] == again[1]


def test_another_seed_gives_another_training(few_digits, random_candidate):
    first = train(random_candidate, few_digits, 1, seed=1)
    other = train(random_candidate, few_digits, 1, seed=2)
    assert not same(first[0], other[0])
    assert first[1] != other[1]


def test_any_whole_number_is_a_seed(few_digits, plain_candidate):
    seeds = [0, -1, 2**31, 1_763_676_000_000_000_000, 2**64 + 3]
    weights = [train(plain_candidate, few_digits, 1, seed=seed)[0] for seed in seeds]
    for number, trained in enumerate(weights):
        assert not any(same(trained, other) for other in weights[:number])


def test_trainings_in_one_process_leave_no_trace_in_each_other(
    few_digits, plain_candidate, random_candidate
):
    first = train(plain_candidate, few_digits, 2)
    train(random_candidate, few_digits, 1, seed=8, augmentation=VARIED)
    again = train(plain_candidate, few_digits, 2)
    assert same(first[0], again[0])
    assert first[1] == again[1]


def test_two_trainings_that_take_turns_do_not_disturb_each_other(few_digits, random_candidate):
    alone = train(random_candidate, few_digits, 2, seed=1, augmentation=VARIED)
    pair = [
        Training(random_candidate, few_digits, epochs=2, seed=seed, augmentation=VARIED)
        for seed in (1, 2)
    ]
    for _ in range(2):
        for trained in pair:
            trained.run_epoch()
    assert same(snapshot(pair[0]), alone[0])


@pytest.mark.parametrize("stop", [0, 1, 2, 3])
def test_a_resumed_training_continues_as_if_it_had_never_stopped(
    few_digits, random_candidate, either_format, tmp_path, stop
):
    whole = train(random_candidate, few_digits, 3, augmentation=VARIED)
    options = {"epochs": 3, "seed": 1, "augmentation": VARIED}
    interrupted = Training(random_candidate, few_digits, **options)
    before = [metrics(interrupted.run_epoch()) for _ in range(stop)]
    torch.save(interrupted.state_dict(), tmp_path / "state.pt")

    resumed = Training(random_candidate, few_digits, **options)
    resumed.run_epoch()  # Whatever it holds by now must be overwritten.
    torch.manual_seed(99)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    after = [metrics(resumed.run_epoch()) for _ in range(3 - stop)]
    assert same(snapshot(resumed), whole[0])
    assert before + after == whole[1]


def test_a_state_saved_after_every_epoch_disturbs_nothing(few_digits, random_candidate, tmp_path):
    whole = train(random_candidate, few_digits, 2)
    trained = Training(random_candidate, few_digits, epochs=2, seed=1)
    for _ in range(2):
        trained.run_epoch()
        torch.save(trained.state_dict(), tmp_path / "state.pt")
    assert same(snapshot(trained), whole[0])


# Scores


def reference_score(
    trained: Training, dataset: Dataset, indices: np.ndarray
) -> tuple[float, float]:
    network = copy.deepcopy(trained.network).eval()
    with torch.no_grad():
        logits = network(normalised(dataset, indices)).double()
    labels = torch.from_numpy(dataset.labels[indices])
    likelihoods = logits.log_softmax(1)[torch.arange(len(labels)), labels]
    return -likelihoods.mean().item(), (logits.argmax(1) == labels).double().mean().item()


@pytest.mark.parametrize("batch", [7, 10_000], ids=["many batches", "one batch"])
def test_scores_are_the_mean_cross_entropy_and_the_share_of_hits(
    few_digits, plain_candidate, float32, monkeypatch, batch
):
    monkeypatch.setattr(training, "EVALUATION_BATCH", batch)
    trained = Training(
        with_recipe(plain_candidate, label_smoothing=0.3), few_digits, epochs=3, seed=0
    )
    result = trained.run_epoch()
    expected = reference_score(trained, few_digits, few_digits.validation)
    assert (result.validation_loss, result.validation_accuracy) == pytest.approx(expected, rel=1e-5)
    expected = reference_score(trained, few_digits, few_digits.test)
    assert trained.score_test() == pytest.approx(expected, rel=1e-5)


def test_scores_in_bfloat16_are_close_to_those_in_float32(few_digits, plain_candidate, monkeypatch):
    use_format(monkeypatch, True)
    trained = Training(plain_candidate, few_digits, epochs=3, seed=0)
    result = trained.run_epoch()
    loss, accuracy = reference_score(trained, few_digits, few_digits.validation)
    assert result.validation_loss == pytest.approx(loss, rel=0.02)
    assert result.validation_accuracy == pytest.approx(accuracy, abs=0.1)
    assert all(p.dtype == torch.float32 for p in trained.network.parameters())


def test_scoring_changes_neither_weights_nor_statistics_nor_what_follows(
    few_digits, random_candidate
):
    whole = train(random_candidate, few_digits, 2)
    trained = Training(random_candidate, few_digits, epochs=2, seed=1)
    trained.run_epoch()
    before = snapshot(trained)
    trained.score_test()
    assert same(before, snapshot(trained))
    trained.run_epoch()
    assert same(whole[0], snapshot(trained))


def test_training_metrics_are_those_of_the_images_while_they_were_trained_on(
    few_digits, plain_candidate, float32
):
    # One step takes all images, so that the loss is the one of the initial weights.
    size = len(few_digits.train)
    candidate = with_recipe(plain_candidate, batch_size=size, label_smoothing=0.25)
    trained = Training(candidate, few_digits, epochs=1, seed=0)
    network = copy.deepcopy(trained.network).train()
    with torch.no_grad():
        likelihoods = network(normalised(few_digits, few_digits.train)).double().log_softmax(1)
    labels = torch.from_numpy(few_digits.labels[few_digits.train])
    right = likelihoods[torch.arange(size), labels]
    expected = -(0.75 * right + 0.25 * likelihoods.mean(1)).mean().item()
    result = trained.run_epoch()
    assert result.train_loss == pytest.approx(expected, rel=1e-5)
    hits = (likelihoods.argmax(1) == labels).double().mean().item()
    assert result.train_accuracy == pytest.approx(hits)


def test_training_metrics_are_means_over_the_images_of_all_steps(
    few_digits, plain_candidate, float32
):
    # Without a learning rate and without norms the loss of an image is the same at every step.
    builder = Builder((1, 8, 8))
    x = builder.add(Activation("relu"), builder.add(Convolution(6), builder.image))
    builder.add(Linear(10), builder.add(GlobalPooling(), x))
    size = len(few_digits.train) // 2
    recipe = Recipe(0.0, 0.0, size, 0.0, 0.9)
    trained = Training(Candidate(builder.build(), recipe), few_digits, epochs=1, seed=0)
    whole = reference_score(trained, few_digits, few_digits.train)
    result = trained.run_epoch()
    assert len(few_digits.train) == 2 * size, "every image is trained on"
    assert result.train_loss == pytest.approx(whole[0], rel=1e-5)
    assert result.train_accuracy == pytest.approx(whole[1])


# What the recipe does


def one_step(dataset: Dataset, candidate: Candidate) -> tuple[Training, dict[str, Tensor]]:
    """Take one step with all images; return the training and the initial parameters."""
    candidate = with_recipe(candidate, batch_size=len(dataset.train))
    trained = Training(candidate, dataset, epochs=1, seed=0)
    before = {name: p.detach().clone() for name, p in trained.network.named_parameters()}
    trained.run_epoch()
    return trained, before


def test_only_kernels_and_matrices_decay(few_digits, random_candidate, float32):
    rate = 0.05 * one_cycle(0, 1)
    plain = with_recipe(random_candidate, momentum=0.0, weight_decay=0.0)
    free, before = one_step(few_digits, plain)
    decayed, _ = one_step(few_digits, with_recipe(plain, weight_decay=0.5))
    parameters = dict(free.network.named_parameters())
    assert {p.ndim for p in parameters.values()} == {1, 2, 4}
    for name, parameter in decayed.network.named_parameters():
        shrunk = rate * 0.5 * before[name] if parameter.ndim > 1 else torch.zeros(())
        torch.testing.assert_close(
            parameter, (parameters[name] - shrunk).detach(), rtol=1e-5, atol=1e-7
        )
        assert parameter.ndim == 1 or not torch.equal(parameter, parameters[name])


def test_a_step_goes_down_the_gradient_of_the_smoothed_loss(few_digits, plain_candidate, float32):
    candidate = with_recipe(plain_candidate, momentum=0.0, weight_decay=0.0, label_smoothing=0.2)
    trained, before = one_step(few_digits, candidate)
    start = Training(candidate, few_digits, epochs=1, seed=0).network.train()
    labels = torch.from_numpy(few_digits.labels[few_digits.train])
    targets = 0.8 * F.one_hot(labels, 10) + 0.02
    F.cross_entropy(start(normalised(few_digits, few_digits.train)), targets).backward()
    for name, parameter in start.named_parameters():
        expected = before[name] - 0.1 * one_cycle(0, 1) * parameter.grad
        moved = trained.network.get_parameter(name).detach()
        torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-5)


def test_momentum_is_nesterovs(few_digits, plain_candidate, float32):
    size = len(few_digits.train)
    candidate = with_recipe(plain_candidate, batch_size=size, momentum=0.8, weight_decay=0.0)
    trained = Training(candidate, few_digits, epochs=2, seed=0)
    images, labels = normalised(few_digits, few_digits.train), few_digits.labels[few_digits.train]
    network = copy.deepcopy(trained.network).train()
    velocity = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    for step in range(2):
        trained.run_epoch()
        network.zero_grad()
        F.cross_entropy(network(images), torch.from_numpy(labels)).backward()
        for name, parameter in network.named_parameters():
            velocity[name] = 0.8 * velocity[name] + parameter.grad
            ahead = parameter.grad + 0.8 * velocity[name]
            parameter.data -= 0.1 * one_cycle(step, 2) * ahead
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(
            trained.network.get_parameter(name), parameter, rtol=1e-3, atol=1e-4
        )


def test_a_recipe_without_momentum_trains(few_digits, plain_candidate):
    weights, _ = train(with_recipe(plain_candidate, momentum=0.0), few_digits, 1)
    assert all(value.isfinite().all() for value in weights.values())


def test_augmentation_acts_on_training_images_alone(few_digits, plain_candidate, float32):
    plain = Training(plain_candidate, few_digits, epochs=1, seed=0)
    varied = Training(plain_candidate, few_digits, epochs=1, seed=0, augmentation=VARIED)
    assert plain.score_test() == varied.score_test()
    assert plain.run_epoch().train_loss != varied.run_epoch().train_loss
    expected = reference_score(varied, few_digits, few_digits.test)
    assert varied.score_test() == pytest.approx(expected, rel=1e-5)


# What the user can get wrong


def test_a_batch_larger_than_the_training_split_is_refused(few_digits, plain_candidate):
    size = len(few_digits.train)
    Training(with_recipe(plain_candidate, batch_size=size), few_digits, epochs=1, seed=0)
    with pytest.raises(BadInputError) as caught:
        Training(with_recipe(plain_candidate, batch_size=size + 1), few_digits, epochs=1, seed=0)
    expected = f"recipe.batch_size = {size + 1}: there are only {size} training images; use fewer"
    assert str(caught.value) == expected


def test_a_device_that_is_not_there_is_refused(few_digits, plain_candidate):
    with pytest.raises(BadInputError, match="device = cuda:99: there are"):
        Training(plain_candidate, few_digits, epochs=1, seed=0, device="cuda:99")


def test_a_training_that_diverges_says_so_and_does_not_fail(
    few_digits, plain_candidate, either_format
):
    candidate = with_recipe(plain_candidate, learning_rate=1e20)
    trained = Training(candidate, few_digits, epochs=3, seed=0)
    results = [trained.run_epoch() for _ in range(3)]
    assert results[0].diverged
    assert results[-1].diverged
    assert all(0 <= result.validation_accuracy <= 1 for result in results)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_on_either_split_is_divergence(bad):
    fine = EpochResult(1, 2.0, 0.1, 2.0, 0.1, 1.0)
    assert not fine.diverged
    assert dataclasses.replace(fine, train_loss=bad).diverged
    assert dataclasses.replace(fine, validation_loss=bad).diverged


# Images


def colour_dataset() -> Dataset:
    numbers = np.random.default_rng(0)
    images = numbers.integers(0, (50, 150, 256), (90, 5, 7, 3)).astype(np.uint8)
    rows = np.arange(90)
    labels = rows % 2
    return Dataset(images, labels, ("a", "b"), rows[:60], rows[60:75], rows[75:])


def colour_training(dataset: Dataset) -> Training:
    builder = Builder((3, 5, 7))
    x = builder.add(Convolution(4), builder.image)
    builder.add(Linear(2), builder.add(GlobalPooling(), x))
    candidate = Candidate(builder.build(), Recipe(0.1, 0.0, 20, 0.0, 0.9))
    return Training(candidate, dataset, epochs=2, seed=0, augmentation=VARIED)


def test_the_training_images_have_mean_zero_and_deviation_one_in_every_channel():
    data = colour_training(colour_dataset())._data
    images, labels = data.batch(data.train)
    assert images.shape == (60, 3, 5, 7)
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images.mean((0, 2, 3)).abs().max() < 1e-5
    assert (images.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-5
    assert labels.tolist() == [0, 1] * 30


def test_a_batch_holds_the_images_and_labels_that_were_asked_for():
    dataset = colour_dataset()
    data = colour_training(dataset)._data
    indices = np.array([80, 3, 3, 61])
    images, labels = data.batch(torch.from_numpy(indices))
    torch.testing.assert_close(images, normalised(dataset, indices), rtol=1e-5, atol=1e-5)
    assert labels.tolist() == [0, 1, 1, 1]


def test_images_stay_where_they_are_and_are_never_written_to():
    dataset = colour_dataset()
    before = dataset.images.copy()
    trained = colour_training(dataset)
    assert trained._data._images.data_ptr() == dataset.images.ctypes.data
    trained.run_epoch()
    trained.score_test()
    assert np.array_equal(dataset.images, before)


def test_images_that_cannot_be_written_to_are_trained_on_in_place_without_a_warning(
    few_digits, plain_candidate
):
    assert not few_digits.images.flags.writeable
    trained = Training(plain_candidate, few_digits, epochs=1, seed=0, augmentation=VARIED)
    assert trained._data._images.data_ptr() == few_digits.images.ctypes.data
    trained.run_epoch()


def test_every_epoch_takes_every_image_once_and_in_another_order(few_digits, plain_candidate):
    size = len(few_digits.train)
    candidate = with_recipe(plain_candidate, batch_size=1 + size // 7)
    trained = Training(candidate, few_digits, epochs=2, seed=0)
    orders: list[list[int]] = []
    batch = trained._data.batch

    def observe(indices: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
        if arguments:
            orders[-1].extend(indices.tolist())
        return batch(indices, *arguments)

    trained._data.batch = observe
    for _ in range(2):
        orders.append([])
        trained.run_epoch()
    for order in orders:
        assert len(order) == size // (1 + size // 7) * (1 + size // 7)
        assert len(set(order)) == len(order)
        assert set(order) <= set(few_digits.train.tolist())
    assert orders[0] != orders[1]


def test_a_checkpoint_holds_tensors_and_numbers_only(few_digits, plain_candidate, tmp_path: Path):
    trained = Training(plain_candidate, few_digits, epochs=2, seed=0)
    trained.run_epoch()
    torch.save(trained.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["epoch"] == 1
    assert same(state["network"], snapshot(trained))
