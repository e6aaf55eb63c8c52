"""Applies a recipe to a network: trainable parameters, optimiser, moving average."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn

from spaces.errors import BadInputError
from spaces.recipe import Recipe

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
_SGD = _without_compiler(torch.optim.SGD)


def build_optimizer(
    parameters: list[nn.Parameter], recipe: Recipe, rate: Tensor
) -> torch.optim.Optimizer:
    """Return the recipe's optimiser; weight decay applies to kernels and weight matrices only.

    The optimiser is fused, on GPU and CPU.

    Args:
        parameters: trainable parameters, all on one device.
        recipe: optimiser and its hyperparameters.
        rate: learning rate, a scalar on the same device. Writing to it changes the rate of the
            next step without a wait for the device.
    """
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "adamw":
        optimizer = _AdamW(
            groups,
            betas=(recipe.momentum, 0.999),
            fused=True,
            capturable=rate.device.type == "cuda",
        )
        # Suppress the warning about uncaptured steps: warm-up steps are intended.
        optimizer._warned_capturable_if_run_uncaptured = True
    else:
        nesterov = recipe.momentum > 0
        optimizer = _SGD(groups, momentum=recipe.momentum, nesterov=nesterov, fused=True)
    for group in optimizer.param_groups:
        # Set afterwards: the constructor would compare it with 0 and wait for the device.
        group["lr"] = rate
    return optimizer


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


def _state(network: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in network.state_dict(keep_vars=True).values()]
