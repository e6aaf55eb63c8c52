"""Applies a recipe to a network: trainable parameters, optimiser, averages of the weights."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spaces.errors import BadInputError
from spaces.recipe import Recipe
from trainables.training.muon import Muon, hidden_kernels, kernel_layers

_RAMP = 10
"""Controls how fast the decay of the moving average grows at the start."""


def select_trainable(network: nn.Module, subset: str) -> list[nn.Parameter]:
    """Freeze all other parameters, and return the trainable ones.

    Args:
        network: network with only trainable parameters.
        subset: ``all``, or ``batchnorm`` for only the scales and shifts of batch norms (Frankle et
            al. 2021, arXiv 2003.00152).

    Raises:
        BadInputError: there are no such parameters.
    """
    if subset == "batchnorm":
        network.requires_grad_(False)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(True)
    chosen = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not chosen:
        problem = "the network has no such parameters"
        raise BadInputError("recipe.trainable", subset, problem, "use all, or a batch norm")
    return chosen


def _without_compiler(kind: type[torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """Return a torch optimiser that does not load torch's compiler.

    The original methods load the compiler at their first call, only to disable it. That costs each
    process 1.5 s and 150 MB.
    """
    names = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    methods["step"] = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), methods)


_AdamW = _without_compiler(torch.optim.AdamW)
_Muon = _without_compiler(Muon)
_SGD = _without_compiler(torch.optim.SGD)


class Rates:
    """The current learning rates, in fixed memory on the device.

    Args:
        norm_bias_rate: factor of the rate of batch-norm biases.
        device: device of the parameters.

    Attributes:
        rate: of all other parameters, a scalar.
        norm_bias: of batch-norm biases, a scalar.
    """

    def __init__(self, norm_bias_rate: float, device: torch.device) -> None:
        self._factors = torch.tensor([1.0, norm_bias_rate], device=device)
        self._rates = torch.zeros(2, device=device)
        self.rate, self.norm_bias = self._rates.unbind()

    def set(self, rate: Tensor) -> None:
        """Set the rate of the next step, a scalar on the device, without a wait for the device."""
        self._rates.copy_(self._factors * rate)


def build_optimizer(
    network: nn.Module, recipe: Recipe, rates: Rates, *, bfloat16: bool = False
) -> torch.optim.Optimizer:
    """Return the recipe's optimiser of the trainable parameters.

    Weight decay applies to kernels and weight matrices only, not to the values of `Scale` and
    `Shift`. The optimiser is fused, on GPU and
    CPU, except for the kernels that Muon trains.

    Args:
        network: all its parameters are on one device.
        recipe: optimiser and its hyperparameters.
        rates: learning rates on the same device.
        bfloat16: whether Muon multiplies matrices in bfloat16.
    """
    groups = _groups(network, recipe, rates, bfloat16=bfloat16)
    given = [group["lr"] for group in groups]
    for group in groups:
        del group["lr"]
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "adamw":
        optimizer = _AdamW(
            groups,
            betas=(recipe.momentum, 0.999),
            fused=True,
            capturable=rates.rate.device.type == "cuda",
        )
        # Suppress the warning about uncaptured steps: warm-up steps are intended.
        optimizer._warned_capturable_if_run_uncaptured = True
    else:
        kind = _Muon if recipe.optimizer == "muon" else _SGD
        nesterov = recipe.momentum > 0
        optimizer = kind(groups, momentum=recipe.momentum, nesterov=nesterov, fused=True)
    for group, rate in zip(optimizer.param_groups, given, strict=True):
        # Set afterwards: the constructor would compare it with 0 and wait for the device.
        group["lr"] = rate
    return optimizer


def _groups(
    network: nn.Module, recipe: Recipe, rates: Rates, *, bfloat16: bool
) -> list[dict[str, Any]]:
    """Return the parameter groups that are not empty, each with its learning rate ``lr``."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    kernels: set[int] = set()
    if recipe.optimizer == "muon":
        kernels = {id(kernel) for kernel in hidden_kernels(network)}
    biases: set[int] = set()
    if recipe.norm_bias_rate != 1:
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        biases = {id(norm.bias) for norm in norms}
    others = [p for p in parameters if id(p) not in kernels | biases]
    # A learned scale or shift has three dimensions, and is no kernel.
    decayed = {id(layer.weight) for layer in kernel_layers(network)}
    decay, rate = recipe.weight_decay, rates.rate
    groups: list[dict[str, Any]] = [
        {"params": [p for p in others if id(p) in decayed], "weight_decay": decay, "lr": rate},
        {"params": [p for p in others if id(p) not in decayed], "weight_decay": 0.0, "lr": rate},
        {
            "params": [p for p in parameters if id(p) in biases],
            "weight_decay": 0.0,
            "lr": rates.norm_bias,
        },
        {
            "params": [p for p in parameters if id(p) in kernels],
            "weight_decay": decay,
            "lr": rate,
            "muon": True,
        },
    ]
    if recipe.optimizer == "muon":
        groups = [{"muon": False, "bfloat16": bfloat16} | group for group in groups]
    return [group for group in groups if group["params"]]


class MovingAverage:
    """The exponential moving average of a network's weights and statistics.

    The decay of step t is at most (1 + t) / (10 + t), so that the random initial weights do not
    dominate short trainings.

    Args:
        network: the network to average.
        decay: weight of the past at each step, below 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self.network = copy.deepcopy(network).requires_grad_(False)
        # Integers are constant, because batch norms do not count their batches.
        pairs = zip(_state(self.network), _state(network), strict=True)
        changing = [(ours, current) for ours, current in pairs if ours.is_floating_point()]
        self._average = [ours for ours, _ in changing]
        self._current = [current for _, current in changing]

    def ema_weights(self, first: int, steps: int) -> Tensor:
        """Return the weights of the new values for consecutive steps, float32 ``[steps]``."""
        step = torch.arange(first, first + steps, dtype=torch.float64)
        return (1 - ((1 + step) / (_RAMP + step)).clamp(max=self._decay)).float()

    @torch.no_grad()
    def update(self, ema_weight: Tensor) -> None:
        """Update the average with the current network; ``ema_weight`` is a scalar on its device."""
        difference = torch._foreach_sub(self._current, self._average)
        torch._foreach_mul_(difference, ema_weight)
        torch._foreach_add_(self._average, difference)


class Lookahead:
    """Slow weights, to which the trained weights return (Zhang et al. 2019, arXiv 1907.08610).

    Every few steps, and after the last step of each epoch, the slow weights move halfway to the
    trained weights, and the trained weights continue from there. Both are equal between epochs, so
    checkpoints and scores need only one of them.

    Args:
        parameters: the trained parameters.
        steps: number of steps between two synchronisations.
    """

    def __init__(self, parameters: Sequence[Tensor], steps: int) -> None:
        self._steps = steps
        self._trained = [parameter.detach() for parameter in parameters]
        self._slow = [parameter.detach().clone() for parameter in parameters]

    def synchronisations(self, first: int, steps: int) -> Tensor:
        """Return 1 for each step of an epoch that synchronises, else 0, float32 ``[steps]``.

        Args:
            first: index of the epoch's first step in the whole training.
            steps: number of steps of the epoch.
        """
        marks = (torch.arange(first + 1, first + steps + 1) % self._steps == 0).float()
        marks[-1] = 1.0
        return marks

    @torch.no_grad()
    def update(self, mark: Tensor) -> None:
        """Synchronise if ``mark``, a scalar on the device, is 1; change nothing if it is 0."""
        difference = torch._foreach_sub(self._trained, self._slow)
        torch._foreach_mul_(difference, mark / 2)
        torch._foreach_add_(self._slow, difference)
        # Exact for both values of the mark.
        torch._foreach_mul_(self._trained, 1 - mark)
        torch._foreach_add_(self._trained, torch._foreach_mul(self._slow, mark))

    @torch.no_grad()
    def restart(self) -> None:
        """Set the slow weights to the trained ones, as they are between epochs."""
        torch._foreach_copy_(self._slow, self._trained)


def _state(network: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in network.state_dict(keep_vars=True).values()]
