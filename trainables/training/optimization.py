"""What a recipe makes of a network's weights: which are trained, by which optimiser, averaged."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn

from spaces.errors import BadInputError
from spaces.recipe import Recipe

_RAMP = 10
"""Steps over which the moving average begins to trust its past."""


def select_trainable(network: nn.Module, subset: str) -> list[nn.Parameter]:
    """Freeze what is not to be trained, and return the rest.

    Args:
        network: all of whose parameters are trainable so far.
        subset: ``all``, or ``batchnorm``: the scales and shifts of batch norms alone (Frankle et
            al. 2020, arXiv 2003.00152).

    Raises:
        BadInputError: nothing is left to train.
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
    """Return an optimiser of torch that does not load torch's compiler.

    Methods of the original load it when first called, if only to tell it to leave them alone; that
    costs each process 1.5 s and 150 MB.
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
    """Return the recipe's optimiser; only kernels and weight matrices decay.

    One fused kernel updates many tensors, on a GPU and on a processor.

    Args:
        parameters: what is trained, all on one device.
        recipe: names the optimiser and its constants.
        rate: learning rate, a scalar on their device: whoever writes to it changes the rate of
            the next step without the host having to wait for the device.
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
        # It would warn of steps outside of a graph; those before the capture are meant to be.
        optimizer._warned_capturable_if_run_uncaptured = True
    else:
        nesterov = recipe.momentum > 0
        optimizer = _SGD(groups, momentum=recipe.momentum, nesterov=nesterov, fused=True)
    for group in optimizer.param_groups:
        # Not before: torch would compare it with zero, and so wait for the device.
        group["lr"] = rate
    return optimizer


class MovingAverage:
    """The exponential moving average of a network's weights and statistics.

    Until it has seen many steps it forgets faster: step t keeps at most (1 + t) / (10 + t) of the
    past, so that the random beginning does not weigh on short trainings.

    Args:
        network: what is averaged, step by step.
        decay: share of the past that is kept at each step, below 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self.network = copy.deepcopy(network).requires_grad_(False)
        # Whole numbers are constants: batch norms do not count their batches.
        pairs = zip(_state(self.network), _state(network), strict=True)
        changing = [(ours, current) for ours, current in pairs if ours.is_floating_point()]
        self._average = [ours for ours, _ in changing]
        self._current = [current for _, current in changing]

    def ema_weights(self, first: int, steps: int) -> Tensor:
        """Return what the weights after each of some steps count, float32 ``[steps]``."""
        step = torch.arange(first, first + steps, dtype=torch.float64)
        return (1 - ((1 + step) / (_RAMP + step)).clamp(max=self._decay)).float()

    @torch.no_grad()
    def update(self, ema_weight: Tensor) -> None:
        """Take in the network as it is now; ``ema_weight`` is a scalar on its device."""
        difference = torch._foreach_sub(self._current, self._average)
        torch._foreach_mul_(difference, ema_weight)
        torch._foreach_add_(self._average, difference)


def _state(network: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in network.state_dict(keep_vars=True).values()]
