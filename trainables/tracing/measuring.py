"""Measures the fields of a module that cannot be traced, by running it.

All weights become positive and non-linearities the identity while it runs, so that every path
carries a gradient. The extent of a field is that of the gradient of the centre of a convolution's
output. It is a union over all paths, cut off at the edges of the image, so only a kernel is known
of the smallest field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from spaces.architecture import Architecture, Builder, Weights
from spaces.errors import BadInputError
from spaces.operations import (
    MEASURED,
    Convolution,
    Generic,
    Operation,
    Pair,
    Shape,
    TransposedConvolution,
)
from trainables.tracing.exporting import quiet

_MASKING = frozenset(
    (
        *("relu", "relu_", "relu6", "relu6_", "hardtanh", "hardtanh_", "hardswish", "hardswish_"),
        *("hardsigmoid", "threshold", "threshold_", "gelu", "silu", "silu_", "mish", "clamp"),
        *("clamp_", "hardshrink", "softshrink", "sigmoid", "tanh", "softplus", "elu", "elu_"),
    )
)
"""Functions that can make a gradient vanish, replaced by the identity."""


@dataclass(frozen=True)
class _Call:
    """One call of a convolution."""

    name: str
    module: nn.Conv2d | nn.ConvTranspose2d
    taken: Shape
    centre: Tensor


class _Unmasked(TorchFunctionMode):
    """Replaces functions that mask gradients."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in _MASKING and args and isinstance(args[0], Tensor):
            return args[0] * 1
        if name in ("max_pool2d", "boolean_dispatch") and not (kwargs or {}).get("return_indices"):
            options = {k: v for k, v in (kwargs or {}).items() if k not in _OF_MAXIMA}
            return F.avg_pool2d(*args[:4], **options)
        return func(*args, **(kwargs or {}))


_OF_MAXIMA = ("dilation", "return_indices")


def measure(module: nn.Module, image_shape: Shape, *, reference: str) -> Architecture:
    """Run a module and return an architecture with the measured fields of its convolutions.

    The weights and the mode of the module are restored.

    Args:
        module: takes one batch of images ``[n, c, h, w]``.
        image_shape: ``(channels, height, width)`` of the images.
        reference: what the user called the module, for messages.

    Raises:
        BadInputError: no convolution of the module was called.
        Exception: whatever the module raises.
    """
    if any(parameter.is_meta for parameter in module.parameters()):
        module = module.to_empty(device="cpu")
    calls: list[_Call] = []
    with quiet(), _prepared(module), _listening(module, calls), _Unmasked(), torch.enable_grad():
        image = torch.ones(1, *image_shape, requires_grad=True)
        with FlopCounterMode(display=False) as counter:
            module(image * 1)
        extents = [_extent(call.centre, image) for call in calls]
    if not calls:
        problem, remedy = "no convolution was called", "analyse a CNN"
        raise BadInputError("NETWORK", reference, problem, remedy)
    params = sum(parameter.numel() for parameter in module.parameters())
    return _architecture(image_shape, calls, extents, params, counter.get_total_flops() // 2)


def _architecture(
    image_shape: Shape, calls: list[_Call], extents: list[Pair | None], params: int, macs: int
) -> Architecture:
    """Return a graph whose convolutions have the measured fields."""
    builder = Builder(image_shape)
    used: set[int] = set()
    shapes, layers = [], []
    for call, extent in zip(calls, extents, strict=True):
        unknown = extent is None
        seen = Generic(
            MEASURED, (image_shape,), call.taken, extent or (1, 1), (0, 0), (unknown, unknown)
        )
        far = builder.add(seen, builder.image, name=f"{call.name}.field")
        # The smallest field is only known to be one pixel of the input.
        joined = Generic(MEASURED, (image_shape, call.taken), call.taken)
        near = builder.add(joined, builder.image, far, name=f"{call.name}.input")
        operation = _operation(call.module)
        own = sum(p.numel() for p in call.module.parameters() if id(p) not in used)
        used |= {id(p) for p in call.module.parameters()}
        layers.append(builder.add(operation, near, name=call.name, weights=Weights(own)))
        taken = (call.taken,)
        shapes.append(operation.output_shape(taken))
        params -= own
        macs -= operation.macs(taken, shapes[-1])
    rest = Generic(
        "outputs",
        tuple(shapes),
        shapes[-1],
        unbounded=(True, True),
        multiplications=max(macs, 0),
    )
    builder.add(rest, *layers, name="outputs", weights=Weights(max(params, 0)))
    return builder.build()


def _operation(module: nn.Conv2d | nn.ConvTranspose2d) -> Operation:
    def both(value: Any) -> Pair:
        return (value[0], value[1]) if isinstance(value, tuple) else (value, value)

    kernel, dilation = both(module.kernel_size), both(module.dilation)
    padding: Any = module.padding
    if isinstance(padding, str):
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        padding = (total[0] // 2, total[1] // 2) if padding == "same" else (0, 0)
    if isinstance(module, nn.ConvTranspose2d):
        return TransposedConvolution(
            module.out_channels,
            kernel,
            both(module.stride),
            both(padding),
            both(module.output_padding),
            dilation,
            module.groups,
            module.bias is not None,
        )
    return Convolution(
        module.out_channels,
        kernel,
        both(module.stride),
        both(padding),
        dilation,
        module.groups,
        module.bias is not None,
    )


def _extent(centre: Tensor, image: Tensor) -> Pair | None:
    """Return rows and columns with a gradient; None if no gradient reaches the image."""
    if not centre.requires_grad:
        return None
    (gradient,) = torch.autograd.grad(centre, image, retain_graph=True, allow_unused=True)
    if gradient is None:
        return None
    mass = gradient[0].abs().sum(0)
    spans = []
    for axis in (1, 0):
        places = torch.nonzero(mass.sum(dim=axis)).flatten()
        if not len(places):
            return None
        spans.append(int(places[-1] - places[0]) + 1)
    return (spans[0], spans[1])


@contextmanager
def _prepared(module: nn.Module) -> Iterator[None]:
    """Make all weights positive; restore them and the mode afterwards."""
    training = {part: part.training for part in module.modules()}
    kept = {name: value.detach().clone() for name, value in module.state_dict().items()}
    try:
        module.eval()
        with torch.no_grad():
            for name, value in module.named_parameters():
                if value.ndim > 1:
                    value.fill_(1 / value[0].numel())
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


@contextmanager
def _listening(module: nn.Module, calls: list[_Call]) -> Iterator[None]:
    """Note every call of a convolution."""

    def listener(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            assert isinstance(part, (nn.Conv2d, nn.ConvTranspose2d))  # noqa: S101 - by selection
            _, channels, height, width = inputs[0].shape
            high, wide = output.shape[2:]
            centre = output[0, :, high // 2, wide // 2].sum()
            calls.append(_Call(name, part, (channels, height, width), centre))

        return hook

    handles = [
        part.register_forward_hook(listener(name))
        for name, part in module.named_modules()
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d))
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
