"""Recipes: optimisers that match torch's plain ones, and the moving average."""

import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.architecture import Builder
from spaces.candidate import Candidate
from spaces.errors import BadInputError
from spaces.operations import (
    Activation,
    Convolution,
    GlobalPooling,
    Linear,
    Norm,
    Scale,
    Shift,
)
from spaces.recipe import Recipe
from spaces.schedules import Constant
from trainables.data import Dataset
from trainables.layers import build_layer
from trainables.training import loop as training
from trainables.training.device import Device
from trainables.training.loop import Training
from trainables.training.muon import hidden_kernels, muon_updates
from trainables.training.optimization import (
    Lookahead,
    MovingAverage,
    Rates,
    build_optimizer,
    select_trainable,
)

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = Recipe(0.1, 0.05, 32, 0.0, 0.9)
RATES = (0.1, 0.03, 0.2, 0.0, 0.05, 0.01)
"""Learning rate of each step; one is zero, as at the end of a schedule."""


@pytest.fixture(autouse=True)
def on_the_processor(monkeypatch):
    device = Device(torch.device("cpu"), bfloat16=False)
    monkeypatch.setattr(training, "select_device", lambda name: device)


def small_network() -> nn.Module:
    """Kernels, matrices, biases and norms: all kinds that an optimiser may treat differently."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 5),
    )
    return network.to(memory_format=torch.channels_last)


def gradients(network: nn.Module) -> list[list[Tensor]]:
    """Draw a gradient of every parameter for every step."""
    generator = torch.Generator().manual_seed(1)
    return [
        [torch.randn(p.shape, generator=generator) for p in network.parameters()] for _ in RATES
    ]


def step_by_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, set_rate: Callable[[float], None]
) -> list[list[Tensor]]:
    """Return the parameters after each of some steps."""
    seen = []
    for rate, step in zip(RATES, gradients(network), strict=True):
        set_rate(rate)
        for parameter, gradient in zip(network.parameters(), step, strict=True):
            # In the memory format of autograd.
            parameter.grad = torch.empty_like(parameter).copy_(gradient)
        optimizer.step()
        seen.append([p.detach().clone() for p in network.parameters()])
    return seen


def plain_optimizer(
    network: nn.Module, recipe: Recipe
) -> tuple[torch.optim.Optimizer, Callable[[float], None]]:
    """Return torch's plain optimiser and a setter of its learning rate."""
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1]},
        {"params": [p for p in network.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    plain: dict[str, Any] = {"foreach": False, "fused": False, "weight_decay": recipe.weight_decay}
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "adamw":
        optimizer = torch.optim.AdamW(groups, betas=(recipe.momentum, 0.999), **plain)
    else:
        nesterov = recipe.momentum > 0
        optimizer = torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=nesterov, **plain)

    def set_rate(rate: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = rate

    return optimizer, set_rate


def own_optimizer(
    network: nn.Module, recipe: Recipe
) -> tuple[torch.optim.Optimizer, Callable[[float], None]]:
    """Return the recipe's optimiser and a setter of its learning rate."""
    rates = Rates(recipe.norm_bias_rate, torch.device("cpu"))
    return build_optimizer(network, recipe, rates), lambda rate: rates.set(torch.tensor(rate))


# Optimisers


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_every_step_equals_the_plain_optimisers(name, momentum):
    recipe = dataclasses.replace(RECIPE, optimizer=name, momentum=momentum)
    network, reference = small_network(), small_network()
    optimizer, set_rate = own_optimizer(network, recipe)
    found = step_by_step(network, optimizer, set_rate)
    expected = step_by_step(reference, *plain_optimizer(reference, recipe))
    for step, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        for parameter, other in zip(mine, theirs, strict=True):
            torch.testing.assert_close(parameter, other, rtol=2e-6, atol=1e-6, msg=f"step {step}")
    assert not torch.equal(found[0][0], found[1][0])


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_without_gradients_only_kernels_and_matrices_shrink(name):
    recipe = dataclasses.replace(RECIPE, optimizer=name, momentum=0.0)
    network = nn.Sequential(
        *small_network(),
        build_layer(Scale(value=1.5, shape=(5, 1, 1), learned=True), ((5, 1, 1),)),
        build_layer(Shift(value=0.5, shape=(5, 1, 1), learned=True), ((5, 1, 1),)),
    )
    before = [p.detach().clone() for p in network.parameters()]
    optimizer, set_rate = own_optimizer(network, recipe)
    set_rate(0.1)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert {p.ndim for p in network.parameters()} == {1, 2, 3, 4}
    for parameter, start in zip(network.parameters(), before, strict=True):
        if parameter.ndim in (2, 4):
            torch.testing.assert_close(parameter.detach(), start * (1 - 0.1 * 0.05))
        else:
            assert torch.equal(parameter, start)


def test_capturable_optimiser_runs_uncaptured_without_warning(
    monkeypatch,
):
    """Warm-up steps run uncaptured, too; torch's own check queries the stream."""

    class Stream:
        def is_capturing(self) -> bool:
            return False

    network = small_network()
    recipe = dataclasses.replace(RECIPE, optimizer="adamw")
    optimizer, _ = own_optimizer(network, recipe)
    for group in optimizer.param_groups:
        group["capturable"] = True
    cuda = torch.device("cuda")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: cuda)
    monkeypatch.setattr(torch.accelerator, "current_stream", Stream)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer._accelerator_graph_capture_health_check()


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
@pytest.mark.parametrize("factor", [0.25, 64.0])
def test_norm_bias_rate_scales_only_the_rate_of_norm_biases(name, factor):
    recipe = dataclasses.replace(RECIPE, optimizer=name)
    plain, scaled, faster = small_network(), small_network(), small_network()
    expected = step_by_step(plain, *own_optimizer(plain, recipe))
    optimizer, set_rate = own_optimizer(faster, recipe)
    all_scaled = step_by_step(faster, optimizer, lambda rate: set_rate(factor * rate))
    recipe = dataclasses.replace(recipe, norm_bias_rate=factor)
    found = step_by_step(scaled, *own_optimizer(scaled, recipe))
    names = [parameter_name for parameter_name, _ in plain.named_parameters()]
    for mine, theirs, scaled_too in zip(found, expected, all_scaled, strict=True):
        for parameter_name, a, b, c in zip(names, mine, theirs, scaled_too, strict=True):
            assert torch.equal(a, c if parameter_name == "1.bias" else b), parameter_name
    assert not torch.equal(found[-1][3], expected[-1][3])


# Muon


def convolutions() -> nn.Module:
    """Kernels of equal and of different shapes, tall and wide, grouped and transposed."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 30, 3),
        nn.BatchNorm2d(30),
        nn.Conv2d(30, 8, 1),
        nn.Conv2d(8, 8, 3, bias=False),
        nn.Conv2d(8, 8, 3, bias=False),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.ConvTranspose2d(8, 4, 2),
        nn.Linear(16, 8),
        nn.Linear(8, 5),
    )
    return network.to(memory_format=torch.channels_last)


def slow_orthogonal(matrix: np.ndarray) -> np.ndarray:
    """Iterate one matrix in float64."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / np.linalg.norm(matrix)
    for _ in range(5):
        # A polynomial of x x' from the left equals one of x' x from the right.
        x = x @ (a * np.eye(x.shape[1]) + b * x.T @ x + c * (x.T @ x) @ (x.T @ x))
    return x


@pytest.mark.parametrize("momentum", [0.0, 0.6, 0.95])
def test_muon_equals_a_slow_reference_per_kernel(momentum):
    recipe = dataclasses.replace(RECIPE, optimizer="muon", momentum=momentum)
    network, reference = convolutions(), convolutions()
    found = step_by_step(network, *own_optimizer(network, recipe))
    others = step_by_step(
        reference, *plain_optimizer(reference, dataclasses.replace(recipe, optimizer="sgd"))
    )
    names = [parameter_name for parameter_name, _ in network.named_parameters()]
    trained = {"0.weight", "2.weight", "3.weight", "4.weight", "5.weight", "6.weight", "7.weight"}
    for index, parameter_name in enumerate(names):
        if parameter_name not in trained:
            for mine, theirs in zip(found, others, strict=True):
                torch.testing.assert_close(mine[index], theirs[index], rtol=2e-6, atol=1e-6)
            continue
        start = dict(convolutions().named_parameters())[parameter_name].detach()
        value = start.double().numpy().reshape(len(start), -1)
        average = np.zeros_like(value)
        for rate, gradient, mine in zip(RATES, gradients(network), found, strict=True):
            new = gradient[index].double().numpy().reshape(value.shape)
            average = momentum * average + (1 - momentum) * new
            direction = (1 - momentum) * new + momentum * average if momentum else new
            update = slow_orthogonal(direction) * max(1, value.shape[0] / value.shape[1]) ** 0.5
            value = value * (1 - rate * 0.05) - rate * update
            flat = mine[index].double().numpy().reshape(value.shape)
            np.testing.assert_allclose(flat, value, rtol=1e-4, atol=1e-5, err_msg=parameter_name)


def test_muon_equals_torch_for_one_matrix():
    """Torch iterates in bfloat16, so the two agree only roughly."""
    gradient = torch.randn(12, 40, generator=torch.Generator().manual_seed(0))
    theirs = nn.Parameter(torch.zeros(12, 40))
    theirs.grad = gradient
    torch.optim.Muon([theirs], lr=1.0, momentum=0.9, weight_decay=0.0).step()
    (mine,) = muon_updates([gradient])
    torch.testing.assert_close(-theirs.detach(), mine, rtol=0.0, atol=0.02)
    (low,) = muon_updates([gradient], torch.bfloat16)
    torch.testing.assert_close(low, mine, rtol=0.0, atol=0.02)


@pytest.mark.parametrize("shape", [(8, 8, 3, 3), (64, 8, 1, 1), (16, 4, 3, 3), (5, 1, 3, 3)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_muon_updates_have_singular_values_near_one(shape, scale):
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    # Singular values between a tenth and one.
    u, _, v = torch.linalg.svd(gradient.flatten(1), full_matrices=False)
    spread = (u * torch.linspace(0.1, 1.0, u.shape[1])) @ v
    update = muon_updates([scale * spread.view(shape), scale * spread.view(shape)])[1].flatten(1)
    values = torch.linalg.svdvals(update) / max(1.0, update.shape[0] / update.shape[1]) ** 0.5
    assert values.min() > 0.6
    assert values.max() < 1.25


def test_muon_without_a_gradient_gives_no_update():
    (update,) = muon_updates([torch.zeros(4, 3, 3, 3)])
    assert torch.equal(update, torch.zeros(4, 3, 3, 3))


def test_muon_multiplies_matrices_once_per_shape(monkeypatch):
    shapes = []
    product = torch.bmm

    def watched(first: Tensor, second: Tensor) -> Tensor:
        shapes.append(tuple(first.shape))
        return product(first, second)

    monkeypatch.setattr(torch, "bmm", watched)
    muon_updates([torch.randn(8, 4, 3, 3), torch.randn(8, 36), torch.randn(6, 20)])
    assert {shape[:2] for shape in shapes} == {(2, 8), (1, 6)}
    # Products of whole kernels are the slow ones.
    assert shapes.count((2, 8, 36)) == 1


@pytest.mark.parametrize("shape", [(8, 72), (72, 8), (8, 15), (16, 16)])
def test_muon_is_exact_for_singular_values_of_six_magnitudes(shape):
    generator = np.random.default_rng(0)
    u, _, v = np.linalg.svd(generator.normal(size=shape), full_matrices=False)
    matrix = (u * np.logspace(0, -6, len(v))) @ v
    (found,) = muon_updates([torch.from_numpy(matrix).float()])
    expected = slow_orthogonal(matrix) * max(1.0, shape[0] / shape[1]) ** 0.5
    np.testing.assert_allclose(found.double().numpy(), expected, rtol=0, atol=2e-3)


def test_muon_leaves_out_classifier_and_frozen_kernels():
    network = convolutions()
    network[3].requires_grad_(False)
    chosen = [id(kernel) for kernel in hidden_kernels(network)]
    assert chosen == [id(network[i].weight) for i in (0, 2, 4, 5, 6, 7)]


# Trainable parameters


def normed_candidate(**changes: Any) -> Candidate:
    """A network with batch norms, other norms and biases."""
    builder = Builder((1, 8, 8))
    x = builder.add(Norm("batch"), builder.add(Convolution(6, bias=True), builder.image))
    x = builder.add(Norm("group", 2), builder.add(Convolution(6), builder.add(Activation(), x)))
    x = builder.add(Norm("batch"), builder.add(Convolution(6), x))
    builder.add(Linear(10), builder.add(GlobalPooling(), builder.add(Activation(), x)))
    return Candidate(builder.build(), Recipe(0.05, 1e-2, 32, 0.1, 0.9, **changes))


def test_all_parameters_are_trained_by_default():
    network = small_network()
    chosen = select_trainable(network, "all")
    assert [id(p) for p in chosen] == [id(p) for p in network.parameters()]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_batchnorm_trains_exactly_scales_and_shifts(few_digits, name):
    candidate = normed_candidate(optimizer=name, trainable="batchnorm", ema=0.9, clip=1.0)
    trained = Training(candidate, few_digits, epochs=2, seed=0)
    before = {n: p.detach().clone() for n, p in trained.network.named_parameters()}
    trained.run_epoch()
    moved = {
        parameter_name
        for parameter_name, parameter in trained.network.named_parameters()
        if not torch.equal(parameter, before[parameter_name])
    }
    norms = {
        f"{module_name}.{part}"
        for module_name, module in trained.network.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for part in ("weight", "bias")
    }
    assert len(norms) == 4
    assert moved == norms
    # Frozen parameters are equal in the average, too.
    for parameter_name, parameter in trained.evaluated.named_parameters():
        same_as_before = torch.equal(parameter, before[parameter_name])
        assert same_as_before == (parameter_name not in norms)


def test_training_only_batch_norms_needs_batch_norms(few_digits, monkeypatch):
    builder = Builder((1, 8, 8))
    x = builder.add(Norm("batch", affine=False), builder.add(Convolution(4), builder.image))
    x = builder.add(Norm("layer"), builder.add(Convolution(4), x))
    builder.add(Linear(10), builder.add(GlobalPooling(), x))
    candidate = Candidate(builder.build(), dataclasses.replace(RECIPE, trainable="batchnorm"))
    monkeypatch.setattr(Training, "run_epoch", None)
    with pytest.raises(BadInputError) as caught:
        Training(candidate, few_digits, epochs=1, seed=0)
    assert str(caught.value) == (
        "recipe.trainable = batchnorm: the network has no such parameters; use all, or a batch norm"
    )


# Lookahead


@pytest.mark.parametrize(("every", "synchronised"), [(1, [1] * 5), (3, [0, 1, 0, 0, 1])])
def test_lookahead_synchronises_every_k_steps_and_at_the_epochs_end(every, synchronised):
    """Steps count from the start of the training; this epoch starts with the fifth."""
    lookahead = Lookahead([torch.zeros(2)], every)
    assert lookahead.synchronisations(4, 5).tolist() == synchronised


def test_lookahead_equals_the_published_algorithm():
    generator = torch.Generator().manual_seed(3)
    trained = [torch.randn(4, 3, generator=generator), torch.randn(5, generator=generator)]
    slow = [value.clone() for value in trained]
    expected = [value.clone() for value in trained]
    lookahead = Lookahead(trained, 2)
    for mark in (0.0, 1.0, 0.0, 0.0, 1.0):
        for index, value in enumerate(trained):
            step = torch.randn(value.shape, generator=generator)
            value.add_(step)
            expected[index] += step
            if mark:
                slow[index] += 0.5 * (expected[index] - slow[index])
                expected[index] = slow[index].clone()
        lookahead.update(torch.tensor(mark))
        assert all(torch.equal(a, b) for a, b in zip(trained, expected, strict=True))


def test_epochs_end_with_the_slow_weights_of_lookahead(few_digits):
    trained = Training(normed_candidate(lookahead=4), few_digits, epochs=2, seed=0)
    plain = Training(normed_candidate(), few_digits, epochs=2, seed=0)
    for _ in range(2):
        trained.run_epoch()
        plain.run_epoch()
        pairs = zip(trained._lookahead._slow, trained.network.parameters(), strict=True)
        assert all(torch.equal(slow, weight) for slow, weight in pairs)
    assert not same(trained.network.state_dict(), plain.network.state_dict())


# The moving average


def slow_average(states: list[dict[str, Tensor]], decay: float) -> dict[str, np.ndarray]:
    """Average states one by one in float64, starting with the state before any step."""
    average = {name: value.double().numpy().copy() for name, value in states[0].items()}
    for step, state in enumerate(states[1:]):
        kept = min(decay, (1 + step) / (10 + step))
        for name, value in state.items():
            average[name] = kept * average[name] + (1 - kept) * value.double().numpy()
    return average


def kept_state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("decay", [0.3, 0.99])
def test_average_covers_weights_and_statistics_with_ramp(decay):
    network = small_network()
    average = MovingAverage(network, decay)
    generator = torch.Generator().manual_seed(2)
    states = [kept_state(network)]
    news = torch.cat([average.ema_weights(0, 7), average.ema_weights(7, 13)])
    for share in news:
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.randn(value.shape, generator=generator))
        states.append(kept_state(network))
        average.update(share)
    expected = slow_average(states, decay)
    for name, value in average.network.state_dict().items():
        if value.is_floating_point():
            np.testing.assert_allclose(value.numpy(), expected[name], rtol=1e-4, atol=1e-5)
        else:
            assert value.item() == 0, "a batch norm does not count its batches"
    assert {"1.running_mean", "1.running_var", "1.num_batches_tracked"} <= expected.keys()
    assert same(kept_state(network), states[-1])


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def test_average_of_constant_weights_is_bitwise_equal():
    network = small_network()
    average = MovingAverage(network, 0.9)
    for share in average.ema_weights(0, 5):
        average.update(share)
    assert same(average.network.state_dict(), network.state_dict())


def test_average_is_a_separate_untrained_network():
    network = small_network()
    average = MovingAverage(network, 0.9)
    assert all(p.requires_grad for p in network.parameters())
    assert not any(p.requires_grad for p in average.network.parameters())
    mine = {p.data_ptr() for p in network.state_dict().values()}
    assert not mine & {p.data_ptr() for p in average.network.state_dict().values()}


def observed(trained: Training) -> list[dict[str, Tensor]]:
    """Run all epochs; return the network's state before and after every step."""
    states = [kept_state(trained.network)]
    step = trained._step

    def watched() -> None:
        step()
        states.append(kept_state(trained.network))

    trained._step = watched
    while trained.epoch < trained.epochs:
        trained.run_epoch()
    return states


def test_average_is_updated_after_every_step_of_all_epochs(few_digits):
    trained = Training(normed_candidate(ema=0.8), few_digits, epochs=3, seed=0)
    states = observed(trained)
    assert len(states) == 1 + math.ceil(3 * len(few_digits.train) / 32)
    expected = slow_average(states, 0.8)
    for name, value in trained.evaluated.state_dict().items():
        if value.is_floating_point():
            np.testing.assert_allclose(value.numpy(), expected[name], rtol=1e-4, atol=1e-5)
        else:
            assert torch.equal(value, trained.network.state_dict()[name])


def test_average_is_scored_without_affecting_the_training(few_digits):
    plain = Training(normed_candidate(schedule=Constant()), few_digits, epochs=2, seed=0)
    averaged = Training(
        normed_candidate(ema=0.95, schedule=Constant()), few_digits, epochs=2, seed=0
    )
    for _ in range(2):
        first, second = plain.run_epoch(), averaged.run_epoch()
        assert (first.train_loss, first.train_accuracy) == (
            second.train_loss,
            second.train_accuracy,
        )
        assert first.validation_loss != second.validation_loss
    assert plain.evaluated is plain.network
    assert same(plain.network.state_dict(), averaged.network.state_dict())
    assert not same(averaged.evaluated.state_dict(), averaged.network.state_dict())
    expected = scored(averaged.evaluated, few_digits, few_digits.test)
    assert averaged.score("test") == pytest.approx(expected, rel=1e-5)


def scored(network: nn.Module, dataset: Dataset, rows: np.ndarray) -> tuple[float, float]:
    images = (dataset.images[rows] / 255 - np.array(dataset.mean)) / np.array(dataset.std)
    labels = torch.from_numpy(dataset.labels[rows])
    with torch.no_grad():
        logits = network.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2)).float())
    hits = (logits.argmax(1) == labels).double().mean()
    return F.cross_entropy(logits.double(), labels).item(), hits.item()
