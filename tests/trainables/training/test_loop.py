"""The training loop: it learns, is reproducible, and measures its metrics correctly."""

import copy
import dataclasses
import functools
import io
import itertools
import math
import random
import shutil
import sysconfig
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from cluster import sizing
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
from spaces.schedules import Constant, Cosine, MultiStep, OneCycle, Schedule, WarmRestarts
from spaces.task import Task
from trainables.data import Dataset, load
from trainables.epoch_metrics import EpochMetrics
from trainables.specs import Augmentation, DataSpec
from trainables.training import cuda_graphs, feeds, optimization
from trainables.training import loop as training
from trainables.training.device import Device, select_device
from trainables.training.loop import Training

pytestmark = pytest.mark.usefixtures("one_thread")

VARIED = Augmentation(crop=1, flip="random")
EVERYTHING = Augmentation(crop=1, flip="random", erase=0.5, cutout=3, mixup=0.4)
SAMPLED = EVERYTHING.model_copy(update={"zoom": (0.5, 1.0), "rotate": 20.0, "color": 0.4})
POLICY = EVERYTHING.model_copy(update={"policy": "trivial"})
SCHEDULES: dict[str, Schedule] = {
    "one cycle": OneCycle(),
    "cosine": Cosine(0.1),
    "multi step": MultiStep((1, 2), 0.3),
    "warm restarts": WarmRestarts(1, 2, 0.05),
    "constant": Constant(),
}
"""Schedules that fit three epochs."""


@pytest.fixture(autouse=True)
def on_the_processor(monkeypatch):
    """Make trainings bitwise reproducible, also on a GPU."""
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
    """A network and a recipe with every source of randomness and state."""
    builder = Builder((1, 8, 8))
    x = builder.add(Convolution(6, bias=True), builder.image)
    x = builder.add(Activation("gelu"), builder.add(Norm("batch"), x))
    y = builder.add(Dropout(0.2), builder.add(Norm("group", 2), builder.add(Convolution(6), x)))
    x = builder.add(Pooling("max"), builder.add(Add(), x, y))
    x = builder.add(Dropout(0.3), builder.add(GlobalPooling(), x))
    builder.add(Linear(10), x)
    return Candidate(builder.build(), Recipe(0.05, 1e-2, 32, 0.1, 0.9))


def with_recipe(candidate: Candidate, **changes: Any) -> Candidate:
    recipe = dataclasses.replace(candidate.recipe, **changes)
    return dataclasses.replace(candidate, recipe=recipe)


def snapshot(trained: Training) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trained.network.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Tell whether two networks are bitwise equal."""
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def metrics(result: EpochMetrics) -> dict[str, float]:
    return {k: v for k, v in result.as_dict().items() if k != "epoch_seconds"}


def train(
    candidate: Candidate, dataset: Dataset, epochs: int, seed: int = 1, **options: Any
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Return the weights and the metrics of a whole training."""
    trained = Training(candidate, dataset, epochs=epochs, seed=seed, **options)
    results = [metrics(trained.run_epoch()) for _ in range(epochs)]
    return snapshot(trained), results


def reloaded(trained: Training) -> dict[str, Any]:
    """Return a training's state after saving and loading it."""
    file = io.BytesIO()
    torch.save(trained.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def normalised(dataset: Dataset, indices: np.ndarray) -> Tensor:
    images = dataset.images[indices].astype(np.float64) / 255
    standard = (images - np.array(dataset.mean)) / np.array(dataset.std)
    return torch.from_numpy(standard.transpose(0, 3, 1, 2)).float()


# The schedule


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_every_step_has_the_learning_rate_of_the_schedule(
    few_digits, plain_candidate, float32, schedule, optimizer
):
    candidate = with_recipe(plain_candidate, schedule=schedule, optimizer=optimizer)
    trained = Training(candidate, few_digits, epochs=3, seed=0)
    rates = []
    step = trained._optimizer.step

    def observe(*args: Any) -> None:
        (rate,) = {group["lr"].item() for group in trained._optimizer.param_groups}
        rates.append(rate)
        step(*args)

    trained._optimizer.step = observe
    for _ in range(3):
        trained.run_epoch()
    steps = Fraction(len(few_digits.train), 32)
    expected = [0.1 * schedule.ratio(number, steps, 3) for number in range(math.ceil(3 * steps))]
    assert rates == pytest.approx(expected, rel=1e-6)


def test_training_resumes_at_an_epoch_with_fewer_steps(few_digits, plain_candidate, float32):
    candidate = with_recipe(plain_candidate, batch_size=len(few_digits.train) * 5 // 7)
    whole = Training(candidate, few_digits, epochs=3, seed=0)
    steps = [whole._order.steps(epoch + 1) - whole._order.steps(epoch) for epoch in range(3)]
    assert steps[1] < steps[2]
    whole.run_epoch()
    resumed = Training(candidate, few_digits, epochs=3, seed=0)
    resumed.load_state_dict(reloaded(whole))
    for trained in (whole, resumed):
        trained.run_epoch()
        trained.run_epoch()
    assert same(snapshot(resumed), snapshot(whole))


def test_resumed_training_continues_the_schedule(few_digits, plain_candidate, float32):
    trained = Training(plain_candidate, few_digits, epochs=3, seed=0)
    trained.run_epoch()
    resumed = Training(plain_candidate, few_digits, epochs=3, seed=0)
    resumed.load_state_dict(reloaded(trained))
    resumed.run_epoch()
    steps = Fraction(len(few_digits.train), 32)
    last = math.ceil(2 * steps) - 1
    (rate,) = {group["lr"].item() for group in resumed._optimizer.param_groups}
    assert rate == pytest.approx(0.1 * OneCycle().ratio(last, steps, 3))


# On a GPU, as far as a machine without one can check


@pytest.mark.parametrize(
    ("optimizer", "balance"), [("sgd", "none"), ("adamw", "weights"), ("muon", "none")]
)
@pytest.mark.parametrize(
    "augmentation",
    [Augmentation(), EVERYTHING, SAMPLED, POLICY],
    ids=["plain", "varied", "sampled", "policy"],
)
@pytest.mark.usefixtures("gpu")
def test_gpu_step_stays_on_the_device_and_never_waits(
    few_digits, random_candidate, monkeypatch, optimizer, balance, augmentation
):
    """Fake tensors have a device but no values: reading values or mixing devices raises."""

    taken: list[Tensor] = []

    def take(*lists: list[Tensor], lr: Tensor, **_: Any) -> None:
        taken.extend([tensor for tensors in lists for tensor in tensors] + [lr])

    def as_real(function):
        def call(*args, **kwargs):
            with unset_fake_temporarily():
                return function(*args, **kwargs)

        return call

    # Autocast requires a driver.
    device = dataclasses.replace(select_device("auto"), bfloat16=False)
    monkeypatch.setattr(training, "select_device", lambda name: device)
    # Fake tensors need no driver then.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(cuda_graphs, "_side_stream", lambda device: None)
    feeds._resident.cache_clear()
    # Tensors that a training creates on the CPU before copying them to the device.
    monkeypatch.setattr(training, "Network", as_real(training.Network))
    whiten = as_real(training.whiten_first_layer)
    monkeypatch.setattr(training, "whiten_first_layer", whiten)
    monkeypatch.setattr(Training, "_draw", as_real(Training._draw))
    # A deep copy would read memory that fake tensors do not have.
    monkeypatch.setattr(
        optimization.copy,
        "deepcopy",
        lambda network: training.Network(random_candidate.architecture).to(device.device),
    )
    changes = {"ema": 0.9, "clip": 1.0, "norm_bias_rate": 8.0, "lookahead": 3}
    changes |= {"first_layer": "whitening", "small_images": 0.5}
    candidate = with_recipe(random_candidate, optimizer=optimizer, **changes)
    with FakeTensorMode(allow_non_fake_inputs=True):
        trained = Training(
            candidate, few_digits, epochs=2, seed=0, augmentation=augmentation, balance=balance
        )
        # Autograd requires a driver, and fused kernels have no fake.
        monkeypatch.setattr(Tensor, "backward", lambda loss: leave_gradients(trained.network))
        fused = "_fused_adamw_" if optimizer == "adamw" else "_fused_sgd_"
        monkeypatch.setattr(torch, fused, take)
        trained._prepare_epoch()
        trained.network.train()
        for _ in range(2):
            trained._step()
        trained._prepare_epoch()
        trained._step()
    feeds._resident.cache_clear()
    kept = [*trained.network.state_dict().values(), *trained.evaluated.state_dict().values()]
    kept += [trained._loss_sum, trained._hits, trained._cursor]
    kept += [
        v for state in trained._optimizer.state.values() for v in state.values() if v is not None
    ]
    assert {tensor.device for tensor in kept} == {torch.device("cuda", 0)}


def leave_gradients(network: torch.nn.Module) -> None:
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)


def test_gradients_of_failed_capture_do_not_reach_next_step(few_digits, random_candidate, float32):
    expected, _ = train(random_candidate, few_digits, 1)
    trained = Training(random_candidate, few_digits, epochs=1, seed=1)
    for parameter in trained.network.parameters():
        parameter.grad = torch.full_like(parameter, math.nan)
    trained.run_epoch()
    assert same(snapshot(trained), expected)


# Learning


def test_training_learns_the_digits(image_cache, either_format):
    digits = load(DataSpec("digits"), cache=image_cache)
    space = {"depth": 3, "features": 16, "kernel": 3, "pools": 1, "convs_before_pool": 1}
    recipe = {"learning_rate": 0.1, "weight_decay": 1e-3, "batch_size": 64}
    candidate = CandidateSpace(Task(1, 8, 8, 10), "vgg", space, recipe).rebuild({})
    trained = Training(candidate, digits, epochs=5, seed=0)
    results = [trained.run_epoch() for _ in range(5)]
    assert [result.epoch for result in results] == [1, 2, 3, 4, 5]
    assert results[-1].validation_accuracy > 0.9
    assert results[-1].train_accuracy > 0.9
    assert results[-1].train_loss < results[0].train_loss
    assert trained.score("test")[1] > 0.9


def test_training_learns_augmented_colour_images(float32):
    """Only colour separates the classes: wrong channels or labels prevent learning."""
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
    assert trained.score("test")[1] == 1.0


# Reproducibility


def test_equal_seeds_give_bitwise_equal_weights_and_metrics(
    few_digits, random_candidate, either_format
):
    torch.manual_seed(5)
    first = train(random_candidate, few_digits, 2, augmentation=VARIED)
    torch.manual_seed(6)
    np.random.seed(7)
    again = train(random_candidate, few_digits, 2, augmentation=VARIED)
    assert same(first[0], again[0])
    assert first[1] == again[1]


def test_other_seed_gives_another_training(few_digits, random_candidate):
    first = train(random_candidate, few_digits, 1, seed=1)
    other = train(random_candidate, few_digits, 1, seed=2)
    assert not same(first[0], other[0])
    assert first[1] != other[1]


def test_any_integer_is_a_valid_seed(few_digits, plain_candidate):
    seeds = [0, -1, 2**31, 1_763_676_000_000_000_000, 2**64 + 3]
    weights = [train(plain_candidate, few_digits, 1, seed=seed)[0] for seed in seeds]
    for number, trained in enumerate(weights):
        assert not any(same(trained, other) for other in weights[:number])


def test_trainings_in_one_process_are_independent(few_digits, plain_candidate, random_candidate):
    first = train(plain_candidate, few_digits, 2)
    train(random_candidate, few_digits, 1, seed=8, augmentation=VARIED)
    again = train(plain_candidate, few_digits, 2)
    assert same(first[0], again[0])
    assert first[1] == again[1]


def test_interleaved_trainings_are_independent(few_digits, random_candidate):
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
def test_resumed_training_equals_an_uninterrupted_one(
    few_digits, random_candidate, either_format, tmp_path, stop
):
    whole = train(random_candidate, few_digits, 3, augmentation=VARIED)
    options = {"epochs": 3, "seed": 1, "augmentation": VARIED}
    interrupted = Training(random_candidate, few_digits, **options)
    before = [metrics(interrupted.run_epoch()) for _ in range(stop)]
    torch.save(interrupted.state_dict(), tmp_path / "state.pt")

    resumed = Training(random_candidate, few_digits, **options)
    resumed.run_epoch()  # Loading must overwrite this state.
    torch.manual_seed(99)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    after = [metrics(resumed.run_epoch()) for _ in range(3 - stop)]
    assert same(snapshot(resumed), whole[0])
    assert before + after == whole[1]


@pytest.mark.parametrize(
    ("optimizer", "ema", "clip", "schedule", "augmentation"),
    [
        ("sgd", 0.0, 0.0, "constant", {}),
        ("sgd", 0.0, 0.5, "cosine", {"flip": "alternating"}),
        ("sgd", 0.9, 0.0, "multi step", {"crop": 0, "translate": 0.2}),
        ("sgd", 0.9, 0.5, "warm restarts", {"zoom": (0.5, 1.0), "rotate": 20.0, "color": 0.4}),
        ("adamw", 0.0, 0.0, "multi step", {"flip": "alternating"}),
        ("adamw", 0.0, 0.5, "one cycle", {}),
        ("adamw", 0.9, 0.0, "warm restarts", {"flip": "alternating"}),
        ("adamw", 0.9, 0.5, "cosine", {"policy": "trivial"}),
        ("muon", 0.9, 0.5, "one cycle", {}),
        ("muon, lookahead, dirac", 0.0, 0.0, "cosine", {}),
        ("sgd, random scale", 0.0, 0.0, "cosine", {}),
        ("muon, whitening, small images", 0.9, 0.0, "cosine", {}),
    ],
)
def test_resumed_training_is_bitwise_equal_for_any_recipe(
    few_digits, random_candidate, either_format, optimizer, ema, clip, schedule, augmentation
):
    others = {}
    if optimizer == "muon, lookahead, dirac":
        optimizer = "muon"
        others = {"lookahead": 4, "initialization": "dirac", "norm_bias_rate": 8.0}
    elif optimizer == "sgd, random scale":
        optimizer = "sgd"
        others = {"trainable": "batchnorm", "initialization": "random_scale"}
    elif optimizer == "muon, whitening, small images":
        optimizer = "muon"
        others = {"lookahead": 4, "first_layer": "whitening", "small_images": 0.7}
    candidate = with_recipe(
        random_candidate,
        optimizer=optimizer,
        ema=ema,
        clip=clip,
        schedule=SCHEDULES[schedule],
        learning_rate=0.005 if optimizer == "adamw" else 0.05,
        **others,
    )
    options: dict[str, Any] = {
        "epochs": 3,
        "seed": 1,
        "augmentation": EVERYTHING.model_copy(update=augmentation),
    }
    whole = Training(candidate, few_digits, **options)
    states, results = [reloaded(whole)], []
    for _ in range(3):
        results.append(metrics(whole.run_epoch()))
        states.append(reloaded(whole))
    scores = whole.score("test")
    for epoch, state in enumerate(states):
        torch.manual_seed(epoch)
        resumed = Training(candidate, few_digits, **options)
        resumed.load_state_dict(state)
        after = [metrics(resumed.run_epoch()) for _ in range(3 - epoch)]
        assert after == results[epoch:], f"from epoch {epoch}"
        assert equal(reloaded(resumed), states[-1]), f"from epoch {epoch}"
        assert resumed.score("test") == scores


def equal(first: Any, second: Any) -> bool:
    """Tell whether two states are bitwise equal.

    Ignores durations and the rate of the last step, which the next step sets.
    """
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        keys = first.keys() | second.keys()
        return all(key in ("epoch_seconds", "lr") or equal(first[key], second[key]) for key in keys)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    return bool(first == second)


def test_state_from_another_device_keeps_local_settings(few_digits, plain_candidate):
    """A GPU's optimiser is capturable, and must stay so after loading a state from a CPU."""
    candidate = with_recipe(plain_candidate, optimizer="adamw")
    trained = Training(candidate, few_digits, epochs=2, seed=0)
    trained.run_epoch()
    state = reloaded(trained)
    for group in state["optimizer"]["param_groups"]:
        group |= {"capturable": True, "fused": None, "foreach": True}
    resumed = Training(candidate, few_digits, epochs=2, seed=0)
    resumed.load_state_dict(state)
    for group in resumed._optimizer.param_groups:
        assert (group["capturable"], group["fused"]) == (False, True)
        assert not group["foreach"]
        assert group["lr"] is resumed._rates.rate
        assert all(any(p is q for q in resumed.network.parameters()) for p in group["params"])
    trained.run_epoch()
    resumed.run_epoch()
    assert same(snapshot(trained), snapshot(resumed))


def global_state() -> dict[str, Any]:
    """Return the global state of the process that a training could change."""
    module = torch.nn.modules.module
    return {
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "hooks": [
            len(hooks)
            for name, hooks in vars(module).items()
            if name.startswith("_global_") and isinstance(hooks, dict)
        ],
    }


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_different_training_does_not_affect_the_next(
    few_digits, random_candidate, either_format, optimizer
):
    other = {"sgd": "adamw", "adamw": "muon", "muon": "sgd"}[optimizer]
    mine = with_recipe(random_candidate, optimizer=optimizer)
    theirs = with_recipe(
        random_candidate,
        optimizer=other,
        ema=0.9,
        clip=0.1,
        schedule=Constant(),
        trainable="batchnorm",
        batch_size=16,
    )
    before = global_state()
    first = train(mine, few_digits, 2, augmentation=VARIED)
    assert global_state() == before
    random.seed(3)
    between = train(theirs, few_digits, 2, seed=9, augmentation=EVERYTHING)
    assert global_state() == before
    again = train(mine, few_digits, 2, augmentation=VARIED)
    assert same(first[0], again[0])
    assert first[1] == again[1]
    repeated = train(theirs, few_digits, 2, seed=9, augmentation=EVERYTHING)
    assert same(between[0], repeated[0])
    assert between[1] == repeated[1]


def test_training_leaves_network_trainable_without_hooks(few_digits, plain_candidate):
    candidate = with_recipe(plain_candidate, ema=0.9, clip=1.0)
    trained = Training(candidate, few_digits, epochs=1, seed=0, augmentation=EVERYTHING)
    trained.run_epoch()
    assert all(p.requires_grad for p in trained.network.parameters())
    for network in (trained.network, trained.evaluated):
        for module in network.modules():
            for name, value in vars(module).items():
                assert "hooks" not in name or not value
        assert not any(p._backward_hooks for p in network.parameters())


def test_more_epochs_than_planned_are_refused(few_digits, plain_candidate):
    trained = Training(plain_candidate, few_digits, epochs=2, seed=0)
    for _ in range(2):
        trained.run_epoch()
    before = snapshot(trained)
    with pytest.raises(RuntimeError, match="all 2 epochs are done"):
        trained.run_epoch()
    resumed = Training(plain_candidate, few_digits, epochs=2, seed=0)
    resumed.load_state_dict(reloaded(trained))
    assert metrics(resumed.result) == metrics(trained.result)
    with pytest.raises(RuntimeError, match="all 2 epochs are done"):
        resumed.run_epoch()
    assert same(before, snapshot(trained))
    assert same(before, snapshot(resumed))


def test_saving_the_state_does_not_affect_the_training(few_digits, random_candidate, tmp_path):
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
def test_scores_are_mean_cross_entropy_and_accuracy(
    few_digits, plain_candidate, float32, monkeypatch, batch
):
    monkeypatch.setattr(sizing, "LARGEST_EVALUATION_BATCH", batch)
    trained = Training(
        with_recipe(plain_candidate, label_smoothing=0.3), few_digits, epochs=3, seed=0
    )
    result = trained.run_epoch()
    expected = reference_score(trained, few_digits, few_digits.validation)
    assert (result.validation_loss, result.validation_accuracy) == pytest.approx(expected, rel=1e-5)
    expected = reference_score(trained, few_digits, few_digits.test)
    assert trained.score("test") == pytest.approx(expected, rel=1e-5)


def test_flips_at_test_time_average_the_predictions(few_digits, plain_candidate, float32):
    trained = Training(plain_candidate, few_digits, epochs=2, seed=0, test_time_flip=True)
    result = trained.run_epoch()
    network = copy.deepcopy(trained.network).eval()
    expected = []
    for rows in (few_digits.validation, few_digits.test):
        images, labels = normalised(few_digits, rows), torch.from_numpy(few_digits.labels[rows])
        with torch.no_grad():
            both = [network(each).double().softmax(1) for each in (images, images.flip(3))]
        mean = (both[0] + both[1]) / 2
        hits = (mean.argmax(1) == labels).double().mean().item()
        expected.append((F.nll_loss(mean.log(), labels).item(), hits))
        assert not torch.equal(*(each.argmax(1) for each in both)), "flips change predictions"
    assert (result.validation_loss, result.validation_accuracy) == pytest.approx(expected[0])
    assert trained.score("test") == pytest.approx(expected[1])
    predicted, _, confident = trained.predict("test")
    assert torch.equal(predicted, mean.argmax(1))
    assert confident.tolist() == pytest.approx(mean.max(1).values.tolist(), abs=1e-5)


def test_scores_in_bfloat16_are_close_to_those_in_float32(few_digits, plain_candidate, monkeypatch):
    use_format(monkeypatch, True)
    trained = Training(plain_candidate, few_digits, epochs=3, seed=0)
    result = trained.run_epoch()
    loss, accuracy = reference_score(trained, few_digits, few_digits.validation)
    assert result.validation_loss == pytest.approx(loss, rel=0.02)
    assert result.validation_accuracy == pytest.approx(accuracy, abs=0.1)
    assert all(p.dtype == torch.float32 for p in trained.network.parameters())


def test_scoring_changes_neither_weights_nor_later_epochs(few_digits, random_candidate):
    whole = train(random_candidate, few_digits, 2)
    trained = Training(random_candidate, few_digits, epochs=2, seed=1)
    trained.run_epoch()
    before = snapshot(trained)
    trained.score("test")
    assert same(before, snapshot(trained))
    trained.run_epoch()
    assert same(whole[0], snapshot(trained))


def test_training_metrics_are_measured_during_training(few_digits, plain_candidate, float32):
    # One step uses all images, so the loss is that of the initial weights.
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
    # Without learning rate and norms the loss of an image is equal at every step.
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


# Recipes


def one_step(dataset: Dataset, candidate: Candidate) -> tuple[Training, dict[str, Tensor]]:
    """Take one step with all images; return the training and the initial parameters."""
    candidate = with_recipe(candidate, batch_size=len(dataset.train))
    trained = Training(candidate, dataset, epochs=1, seed=0)
    before = {name: p.detach().clone() for name, p in trained.network.named_parameters()}
    trained.run_epoch()
    return trained, before


def test_only_kernels_and_matrices_decay(few_digits, random_candidate, float32):
    rate = 0.05 * OneCycle().ratio(0, 1, 1)
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


def test_step_follows_the_gradient_of_the_smoothed_loss(few_digits, plain_candidate, float32):
    candidate = with_recipe(plain_candidate, momentum=0.0, weight_decay=0.0, label_smoothing=0.2)
    trained, before = one_step(few_digits, candidate)
    start = Training(candidate, few_digits, epochs=1, seed=0).network.train()
    labels = torch.from_numpy(few_digits.labels[few_digits.train])
    targets = 0.8 * F.one_hot(labels, 10) + 0.02
    F.cross_entropy(start(normalised(few_digits, few_digits.train)), targets).backward()
    for name, parameter in start.named_parameters():
        expected = before[name] - 0.1 * OneCycle().ratio(0, 1, 1) * parameter.grad
        moved = trained.network.get_parameter(name).detach()
        torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-5)


def test_momentum_is_nesterov_momentum(few_digits, plain_candidate, float32):
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
            parameter.data -= 0.1 * OneCycle().ratio(step, 1, 2) * ahead
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(
            trained.network.get_parameter(name), parameter, rtol=1e-3, atol=1e-4
        )


def test_recipe_without_momentum_trains(few_digits, plain_candidate):
    weights, _ = train(with_recipe(plain_candidate, momentum=0.0), few_digits, 1)
    assert all(value.isfinite().all() for value in weights.values())


def whole_gradient(dataset: Dataset, candidate: Candidate) -> dict[str, Tensor]:
    """Return the gradient of the initial weights over all training images."""
    network = Training(candidate, dataset, epochs=1, seed=0).network.train()
    labels = torch.from_numpy(dataset.labels[dataset.train])
    F.cross_entropy(network(normalised(dataset, dataset.train)), labels).backward()
    return {name: parameter.grad for name, parameter in network.named_parameters()}


def norm(tensors: dict[str, Tensor]) -> float:
    return math.sqrt(sum(tensor.double().square().sum().item() for tensor in tensors.values()))


@pytest.mark.parametrize("share", [0.01, 0.5, 2.0])
def test_only_gradients_over_the_limit_are_clipped(few_digits, plain_candidate, float32, share):
    candidate = with_recipe(
        plain_candidate, momentum=0.0, weight_decay=0.0, schedule=Constant(), learning_rate=1.0
    )
    gradient = whole_gradient(few_digits, candidate)
    limit = share * norm(gradient)
    trained, before = one_step(few_digits, with_recipe(candidate, clip=limit))
    taken = {
        name: before[name] - parameter.detach()
        for name, parameter in trained.network.named_parameters()
    }
    assert norm(taken) == pytest.approx(min(limit, norm(gradient)), rel=1e-4)
    # Torch's optimiser, tensor by tensor, with the same gradient.
    clipped = [torch.nn.Parameter(torch.zeros_like(g)) for g in gradient.values()]
    for parameter, g in zip(clipped, gradient.values(), strict=True):
        parameter.grad = g.clone()
    torch.nn.utils.clip_grad_norm_(clipped, limit, foreach=False)
    for name, parameter in zip(gradient, clipped, strict=True):
        torch.testing.assert_close(taken[name], parameter.grad, rtol=1e-3, atol=1e-5)


def test_clipping_limits_the_length_of_sgd_steps(few_digits, random_candidate, float32):
    candidate = with_recipe(
        random_candidate, momentum=0.0, weight_decay=0.0, schedule=Constant(), clip=0.3
    )
    trained = Training(candidate, few_digits, epochs=2, seed=0, augmentation=EVERYTHING)
    weights: list[dict[str, Tensor]] = []
    step = trained._step

    def keep() -> None:
        now = trained.network.named_parameters()
        weights.append({name: p.detach().clone() for name, p in now})

    def observed() -> None:
        step()
        keep()

    keep()

    trained._step = observed
    for _ in range(2):
        trained.run_epoch()
    lengths = [
        norm({name: after[name] - before[name] for name in after})
        for before, after in itertools.pairwise(weights)
    ]
    assert len(lengths) == math.ceil(Fraction(2 * len(few_digits.train), 32))
    assert max(lengths) <= 0.05 * 0.3 * (1 + 1e-4)
    assert max(lengths) > 0.05 * 0.3 * (1 - 1e-4), "the limit was reached"


def smoothed(logits: Tensor, label: int, smoothing: float) -> float:
    """Return the cross-entropy of one image with the label and a little of all classes."""
    likelihoods = logits.log_softmax(0)
    classes = len(logits)
    targets = [smoothing / classes] * classes
    targets[label] += 1 - smoothing
    return -sum(t * likelihood.item() for t, likelihood in zip(targets, likelihoods, strict=True))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_mixed_images_weight_both_labels_and_count_the_larger(
    few_digits, plain_candidate, float32, smoothing
):
    size = len(few_digits.train)
    candidate = with_recipe(plain_candidate, batch_size=size, label_smoothing=smoothing)
    mixed = Augmentation(mixup=0.8)
    trained = Training(candidate, few_digits, epochs=1, seed=0, augmentation=mixed)
    network = copy.deepcopy(trained.network).train().double()
    result = trained.run_epoch()

    plan = trained._draw(0)
    rows = plan.rows[0].numpy()
    shares = plan.variation.mixup_lambda[0].tolist()
    assert sorted(rows) == few_digits.train.tolist()
    assert min(shares) < 0.2
    assert max(shares) > 0.8
    images, labels = normalised(few_digits, rows).double(), few_digits.labels[rows].tolist()
    batch = torch.stack(
        [own * images[i] + (1 - own) * images[i - 1] for i, own in enumerate(shares)]
    )
    with torch.no_grad():
        logits = network(batch)
    losses, hits = [], []
    for i, own in enumerate(shares):
        mine, other = labels[i], labels[i - 1]
        losses.append(
            own * smoothed(logits[i], mine, smoothing)
            + (1 - own) * smoothed(logits[i], other, smoothing)
        )
        hits.append(logits[i].argmax().item() == (mine if own >= 0.5 else other))
    assert result.train_loss == pytest.approx(sum(losses) / size, rel=1e-5)
    assert result.train_accuracy == pytest.approx(sum(hits) / size)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_lambda_of_one_trains_images_under_their_own_label(
    few_digits, plain_candidate, float32, monkeypatch, share
):
    """With lambda 0 every image and label equals the previous one."""
    size = len(few_digits.train)
    candidate = with_recipe(plain_candidate, batch_size=size, label_smoothing=0.1)
    plain = Training(candidate, few_digits, epochs=1, seed=0).run_epoch()
    monkeypatch.setattr(
        "trainables.training.augmentation._draw_lambdas",
        lambda alpha, size, _: torch.full(size, share),
    )
    mixed = Augmentation(mixup=1.0)
    result = Training(candidate, few_digits, epochs=1, seed=0, augmentation=mixed).run_epoch()
    assert result.train_loss == pytest.approx(plain.train_loss, rel=1e-5)
    assert result.train_accuracy == pytest.approx(plain.train_accuracy)


def test_augmentation_changes_only_training_images(few_digits, plain_candidate, float32):
    plain = Training(plain_candidate, few_digits, epochs=1, seed=0)
    varied = Training(plain_candidate, few_digits, epochs=1, seed=0, augmentation=VARIED)
    assert plain.score("test") == varied.score("test")
    assert plain.run_epoch().train_loss != varied.run_epoch().train_loss
    expected = reference_score(varied, few_digits, few_digits.test)
    assert varied.score("test") == pytest.approx(expected, rel=1e-5)


# User errors


def test_batch_larger_than_the_training_split_is_refused(few_digits, plain_candidate):
    size = len(few_digits.train)
    Training(with_recipe(plain_candidate, batch_size=size), few_digits, epochs=1, seed=0)
    with pytest.raises(BadInputError) as caught:
        Training(with_recipe(plain_candidate, batch_size=size + 1), few_digits, epochs=1, seed=0)
    expected = f"recipe.batch_size = {size + 1}: there are only {size} training images; use fewer"
    assert str(caught.value) == expected


def test_missing_device_is_refused(few_digits, plain_candidate):
    with pytest.raises(BadInputError, match="device = cuda:99: "):
        Training(plain_candidate, few_digits, epochs=1, seed=0, device="cuda:99")


@pytest.mark.parametrize("schedule", [WarmRestarts(2, 2, 0.0), MultiStep((1, 3), 0.1)])
def test_schedule_that_does_not_fit_the_epochs_is_refused(
    few_digits, plain_candidate, monkeypatch, schedule
):
    with pytest.raises(BadInputError) as expected:
        schedule.check(3)
    monkeypatch.setattr(training, "Network", None)  # The check precedes building.
    candidate = with_recipe(plain_candidate, schedule=schedule)
    with pytest.raises(BadInputError) as caught:
        Training(candidate, few_digits, epochs=3, seed=0)
    assert str(caught.value) == str(expected.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "augmentation",
    [Augmentation(crop=8), Augmentation(cutout=9), Augmentation(crop=1, translate=0.1)],
)
def test_augmentation_that_does_not_fit_images_is_refused(
    few_digits, plain_candidate, monkeypatch, augmentation
):
    with pytest.raises(BadInputError) as expected:
        augmentation.check(8, 8)
    monkeypatch.setattr(training, "Network", None)
    with pytest.raises(BadInputError) as caught:
        Training(plain_candidate, few_digits, epochs=1, seed=0, augmentation=augmentation)
    assert str(caught.value) == str(expected.value)


def test_divergence_is_reported_without_an_error(few_digits, plain_candidate, either_format):
    candidate = with_recipe(plain_candidate, learning_rate=1e20)
    trained = Training(candidate, few_digits, epochs=3, seed=0)
    results = [trained.run_epoch() for _ in range(3)]
    assert results[0].has_diverged
    assert results[-1].has_diverged
    assert all(0 <= result.validation_accuracy <= 1 for result in results)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_loss_on_either_split_is_divergence(bad):
    fine = EpochMetrics(1, 2.0, 0.1, 2.0, 0.1, 1.0)
    assert not fine.has_diverged
    assert dataclasses.replace(fine, train_loss=bad).has_diverged
    assert dataclasses.replace(fine, validation_loss=bad).has_diverged


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


def test_training_images_are_normalised_in_every_channel():
    dataset = colour_dataset()
    rows = torch.from_numpy(dataset.train)
    ((images, labels),) = colour_training(dataset)._batches.sweep([rows])
    assert images.shape == (60, 3, 5, 7)
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images.mean((0, 2, 3)).abs().max() < 1e-5
    assert (images.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-5
    assert labels.tolist() == [0, 1] * 30


def test_batch_holds_the_images_and_labels_of_its_rows():
    dataset = colour_dataset()
    indices = np.array([80, 3, 3, 61])
    rows = torch.from_numpy(indices)
    ((images, labels),) = colour_training(dataset)._batches.sweep([rows])
    torch.testing.assert_close(images, normalised(dataset, indices), rtol=1e-5, atol=1e-5)
    assert labels.tolist() == [0, 1, 1, 1]


def test_images_are_neither_moved_nor_written_to():
    dataset = colour_dataset()
    before = dataset.images.copy()
    trained = colour_training(dataset)
    assert trained._batches._feed.images.data_ptr() == dataset.images.ctypes.data
    trained.run_epoch()
    trained.score("test")
    assert np.array_equal(dataset.images, before)


def test_read_only_images_are_used_without_copy_or_warning(few_digits, plain_candidate):
    assert not few_digits.images.flags.writeable
    trained = Training(plain_candidate, few_digits, epochs=1, seed=0, augmentation=VARIED)
    assert trained._batches._feed.images.data_ptr() == few_digits.images.ctypes.data
    trained.run_epoch()


def test_no_image_is_left_out_of_an_epoch(few_digits, plain_candidate):
    size = len(few_digits.train)
    batch = 1 + size // 7
    candidate = with_recipe(plain_candidate, batch_size=batch)
    trained = Training(candidate, few_digits, epochs=2, seed=0)
    seen: list[int] = []
    current = trained._batches.current

    def observe(rows: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
        assert len(rows) == batch
        seen.extend(rows.tolist())
        return current(rows, *arguments)

    trained._batches.current = observe
    for epoch in (1, 2):
        result = trained.run_epoch()
        counts = Counter(seen)
        assert set(counts) == set(few_digits.train.tolist())
        assert set(counts.values()) <= {epoch, epoch + 1}
        assert len(seen) < epoch * size + batch
        assert 0 <= result.train_accuracy <= 1
    assert seen[:size] != seen[size : 2 * size]


def test_checkpoint_contains_only_tensors_and_numbers(few_digits, plain_candidate, tmp_path: Path):
    trained = Training(plain_candidate, few_digits, epochs=2, seed=0)
    trained.run_epoch()
    torch.save(trained.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["epoch"] == 1
    assert same(state["network"], snapshot(trained))


# Compiling

CXX = shutil.which("g++") or shutil.which("clang++")
HEADERS = Path(sysconfig.get_path("include"), "Python.h").exists()


@pytest.mark.skipif(
    not (CXX and HEADERS),
    reason="torch.compile needs g++ or clang++ and the headers of Python (python3-dev)",
)
def test_compiled_network_trains_almost_as_an_uncompiled_one(
    few_digits, plain_candidate, float32, monkeypatch, tmp_path
):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    inductor = pytest.importorskip("torch._inductor.config")
    candidate = with_recipe(plain_candidate, ema=0.9)
    expected = train(candidate, few_digits, 2, augmentation=EVERYTHING)
    with inductor.patch({"cpp.cxx": CXX, "compile_threads": 1}):
        found = train(candidate, few_digits, 2, augmentation=EVERYTHING, compile=True)
    assert expected[0].keys() == found[0].keys()
    for name, value in expected[0].items():
        torch.testing.assert_close(found[0][name], value, rtol=1e-2, atol=1e-3)
    for mine, other in zip(found[1], expected[1], strict=True):
        assert mine == pytest.approx(other, rel=1e-3, abs=0.02)


def test_any_number_of_networks_can_be_compiled(few_digits, plain_candidate, float32, monkeypatch):
    dynamo = pytest.importorskip("torch._dynamo")
    compiled = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        compiled.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    space = {"depth": 1, "kernel": 3, "pools": 1, "convs_before_pool": 1}
    recipe = {"learning_rate": 0.1, "weight_decay": 1e-3, "batch_size": 128}
    with dynamo.config.patch(recompile_limit=1):
        for features in (4, 5, 6):
            candidates = CandidateSpace(
                Task(1, 8, 8, 10), "vgg", space | {"features": features}, recipe
            )
            train(candidates.rebuild({}), few_digits, 1, compile=True)
    assert len(compiled) == 3
    torch.compiler.reset()
