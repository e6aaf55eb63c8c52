"""Makes every path of a module carry a gradient while it runs.

A rectifier stops the gradient where its input is negative, max pooling passes it to one position,
and a norm over channels cancels it if all channels are equal. To measure how far a convolution
sees, such functions are replaced, and weights become positive and random.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_IDENTITIES = frozenset(
    (
        *("relu", "relu_", "relu6", "relu6_", "hardtanh", "hardtanh_", "hardswish", "hardswish_"),
        *("hardsigmoid", "threshold", "threshold_", "gelu", "silu", "silu_", "mish", "clamp"),
        *("clamp_", "clamp_min", "clamp_max", "hardshrink", "softshrink", "sigmoid", "sigmoid_"),
        *("tanh", "tanh_", "softplus", "elu", "elu_", "selu", "celu", "leaky_relu", "leaky_relu_"),
        *("prelu", "rrelu", "logsigmoid", "batch_norm", "layer_norm", "group_norm"),
        *("instance_norm", "rms_norm", "local_response_norm"),
    )
)
"""Functions that can make a gradient vanish. The statistics of norms do not count for fields."""
_OF_MAXIMA = ("dilation", "return_indices")


def _pooled(*args: Any, **options: Any) -> Tensor:
    return F.avg_pool2d(*args[:4], **{k: v for k, v in options.items() if k not in _OF_MAXIMA})


def _pooled_to(x: Tensor, size: Any, **_: Any) -> Tensor:
    return F.adaptive_avg_pool2d(x, size)


def _averaged(x: Tensor, other: Tensor) -> Tensor:
    return (x + other) / 2


_REPLACEMENTS: dict[Any, Callable[..., Any]] = {
    F.max_pool2d: _pooled,
    torch.max_pool2d: _pooled,
    F.adaptive_max_pool2d: _pooled_to,
    torch.maximum: _averaged,
    torch.minimum: _averaged,
    torch.amax: torch.mean,
    torch.amin: torch.mean,
    Tensor.amax: torch.mean,
    Tensor.amin: torch.mean,
}
_EXTREMES = (torch.max, torch.min, Tensor.max, Tensor.min)
"""Functions of two tensors, or of one and a dimension."""


class Unmasked(TorchFunctionMode):
    """Replaces functions that mask gradients."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        options = kwargs or {}
        tensor = args[0] if args else options.get("input")
        if getattr(func, "__name__", "") in _IDENTITIES and isinstance(tensor, Tensor):
            return tensor * 1
        if func in _REPLACEMENTS and not options.get("return_indices"):
            return _REPLACEMENTS[func](*args, **options)
        if func in _EXTREMES and len(args) == 2 and isinstance(args[1], Tensor):
            return _averaged(*args)
        return func(*args, **options)


@contextmanager
def evenly_weighted(module: nn.Module) -> Iterator[None]:
    """Switch to evaluation with positive weights; restore weights and mode afterwards.

    Weights are random, so that channels differ and no norm cancels the gradient.
    """
    training = {part: part.training for part in module.modules()}
    kept = {name: value.detach().clone() for name, value in module.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    try:
        module.eval()
        with torch.no_grad():
            for name, value in module.named_parameters():
                if value.ndim > 1:
                    random = torch.rand(value.shape, generator=generator) + 0.5
                    value.copy_(random / value[0].numel())
                else:
                    value.fill_(0 if name.endswith("bias") else 1)
            for name, buffer in module.named_buffers():
                if name.endswith(("running_mean", "running_var")):
                    buffer.fill_(float(name.endswith("var")))
        yield
    finally:
        with torch.no_grad():
            for name, stored in module.state_dict().items():
                stored.copy_(kept[name])
        for part, was_training in training.items():
            part.training = was_training
