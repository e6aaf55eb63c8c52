"""Recipes: optimisers that match torch's plain ones, and the moving average."""

import dataclasses
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
)
from spaces.recipe import Recipe
from spaces.schedules import Constant
from trainables.data import Dataset
from trainables.training import loop as training
from trainables.training.device import Device
from trainables.training.loop import Training
from trainables.training.optimization import MovingAverage, build_optimizer, select_trainable

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


# Optimisers


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_every_step_equals_the_plain_optimisers(name, momentum):
    recipe = dataclasses.replace(RECIPE, optimizer=name, momentum=momentum)
    network, reference = small_network(), small_network()
    rate = torch.zeros(())
    optimizer = build_optimizer(list(network.parameters()), recipe, rate)
    found = step_by_step(network, optimizer, rate.fill_)
    expected = step_by_step(reference, *plain_optimizer(reference, recipe))
    for step, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        for parameter, other in zip(mine, theirs, strict=True):
            torch.testing.assert_close(parameter, other, rtol=2e-6, atol=1e-6, msg=f"step {step}")
    assert not torch.equal(found[0][0], found[1][0])


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_without_gradients_only_kernels_and_matrices_shrink(name):
    recipe = dataclasses.replace(RECIPE, optimizer=name, momentum=0.0)
    network = small_network()
    before = [p.detach().clone() for p in network.parameters()]
    optimizer = build_optimizer(list(network.parameters()), recipe, torch.tensor(0.1))
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert {p.ndim for p in network.parameters()} == {1, 2, 4}
    for parameter, start in zip(network.parameters(), before, strict=True):
        if parameter.ndim > 1:
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
    optimizer = build_optimizer(list(network.parameters()), recipe, torch.tensor(0.1))
    for group in optimizer.param_groups:
        group["capturable"] = True
    cuda = torch.device("cuda")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: cuda)
    monkeypatch.setattr(torch.accelerator, "current_stream", Stream)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer._accelerator_graph_capture_health_check()


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
    steps = len(few_digits.train) // 32
    assert len(states) == 1 + 3 * steps
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
