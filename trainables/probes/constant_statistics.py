"""Treats the statistics of norms and gates as constants, as receptive fields do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

_SQUASHING = frozenset({"sigmoid", "hardsigmoid", "softmax", "tanh"})
_PRODUCTS = frozenset({"mul", "mul_", "multiply", "__mul__", "__rmul__", "__imul__"})


class ConstantStatistics(TorchFunctionMode):
    """Stops gradients through statistics over positions and through gates.

    The published receptive fields leave both out, because each makes every field the whole image.
    A gate is the smaller factor of a product, or else the factor that a sigmoid or tanh returned.
    The values of the network do not change.
    """

    def __init__(self) -> None:
        super().__init__()
        # Kept for the pass, because the identity of a freed tensor may return.
        self._squashed: dict[int, Tensor] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _PRODUCTS and len(args) > 1 and not given:
            return func(*self._gated(args[0], args[1]))
        result = func(*args, **given)
        if name in _SQUASHING and isinstance(result, Tensor):
            self._squashed[id(result)] = result
        if name in _SCALES and isinstance(result, Tensor) and args and args[0].requires_grad:
            scale = _SCALES[name](*args, **given)
            if scale is not None:
                return result.detach() + scale.detach() * (args[0] - args[0].detach())
        return result

    def _gated(self, one: Any, other: Any) -> tuple[Any, Any]:
        if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
            return one, other
        if one.numel() != other.numel():
            first = one.numel() < other.numel()
        else:
            first, second = (id(x) in self._squashed for x in (one, other))
            if not (first or second):
                return one, other
            first = not second
        return (one.detach(), other) if first else (one, other.detach())


def _of_groups(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: object,
) -> Tensor:
    """Return the factor of each channel under group norm, ``[n, c, 1, ..]``."""
    samples, channels = x.shape[:2]
    parts = x.detach().reshape(samples, groups, -1)
    factor = (parts.var(-1, unbiased=False) + eps).rsqrt().repeat_interleave(channels // groups, 1)
    if weight is not None:
        factor = factor * weight
    return factor.reshape(samples, channels, *(1,) * (x.ndim - 2))


def _of_instances(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *_: object,
) -> Tensor | None:
    if not use_input_stats and running_mean is not None:
        return None
    return _of_groups(x, x.shape[1], weight, bias, eps)


def _of_layers(
    x: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: object,
) -> Tensor | None:
    if len(normalized_shape) == 1:
        return None  # Over the channels of a position.
    dims = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    factor = (x.detach().var(dims, unbiased=False, keepdim=True) + eps).rsqrt()
    return factor if weight is None else factor * weight


_SCALES: dict[str, Callable[..., Tensor | None]] = {
    "group_norm": _of_groups,
    "instance_norm": _of_instances,
    "layer_norm": _of_layers,
}
"""The factor by which each norm multiplies its input; None if nothing is stopped."""
