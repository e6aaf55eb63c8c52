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
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from spaces.architecture import Architecture, Builder, Weights
from spaces.errors import BadInputError
from spaces.operations import (
    CONVOLUTIONS,
    MEASURED,
    Convolution,
    Generic,
    Operation,
    Pair,
    Shape,
    TransposedConvolution,
)
from spaces.user_code import RAISED_BY_USERS
from trainables.tracing.conversion import trace
from trainables.tracing.exporting import check_parts, quiet
from trainables.tracing.unmasking import Unmasked, evenly_weighted


@dataclass(frozen=True)
class _Call:
    """One call of a convolution."""

    name: str
    operation: Operation
    parameters: tuple[Tensor, ...]
    taken: Shape
    centre: Tensor


def trace_or_measure(
    module: nn.Module, image_shape: Shape, *, reference: str
) -> tuple[Architecture, tuple[str, ...]]:
    """Trace a module; if that fails although the module runs, measure it.

    Args:
        module: takes one batch of images ``[n, c, h, w]``.
        image_shape: ``(channels, height, width)`` of the images.
        reference: what the user called the module, for messages.

    Returns:
        The architecture, and notes for the user on what was measured and what is missing.

    Raises:
        BadInputError: it cannot be traced and does not run, either.
    """
    try:
        return trace(module, image_shape, reference=reference), ()
    except BadInputError as untraced:
        try:
            measured = measure(module, image_shape, reference=reference)
        except RAISED_BY_USERS:
            raise untraced from None
        reason = f"cannot be traced ({untraced.problem})"
        notes = [f"{reference} {reason}, so its fields are measured instead"]
    named = {measured.layers[i].name for i in measured.indices(*CONVOLUTIONS)}
    missing = [
        name
        for name, part in module.named_modules()
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d)) and name not in named
    ]
    if missing:
        listed = ", ".join(missing[:5]) + (", .." if len(missing) > 5 else "")
        notes.append(f"the measured run did not call {len(missing)} convolution(s): {listed}")
    return measured, tuple(notes)


def measure(module: nn.Module, image_shape: Shape, *, reference: str) -> Architecture:
    """Run a module and return an architecture with the measured fields of its convolutions.

    The weights and the mode of the module are restored.

    Args:
        module: takes one batch of images ``[n, c, h, w]``.
        image_shape: ``(channels, height, width)`` of the images.
        reference: what the user called the module, for messages.

    Raises:
        BadInputError: no convolution of the module was called, or a part hides its operations.
        Exception: whatever the module raises.
    """
    check_parts(module, reference)
    if any(parameter.is_meta for parameter in module.parameters()):
        module = module.to_empty(device="cpu")
    listening = _Listening(module)
    with quiet(), evenly_weighted(module), Unmasked(), listening, torch.enable_grad():
        generator = torch.Generator().manual_seed(0)
        image = (torch.rand(1, *image_shape, generator=generator) + 0.5).requires_grad_()
        with FlopCounterMode(display=False) as counter, listening.following():
            module(image * 1)
        extents = [_extent(call.centre, image) for call in listening.calls]
    if not extents:
        problem, remedy = "no convolution was called", "analyse a CNN"
        raise BadInputError("NETWORK", reference, problem, remedy)
    params = sum(parameter.numel() for parameter in module.parameters())
    macs = counter.get_total_flops() // 2
    return _architecture(image_shape, listening.calls, extents, params, macs)


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
        own = sum(p.numel() for p in call.parameters if id(p) not in used)
        used |= {id(p) for p in call.parameters}
        layers.append(builder.add(call.operation, near, name=call.name, weights=Weights(own)))
        taken = (call.taken,)
        shapes.append(call.operation.output_shape(taken))
        params -= own
        macs -= call.operation.macs(taken, shapes[-1])
    rest = Generic(
        "outputs",
        tuple(shapes),
        shapes[-1],
        unbounded=(True, True),
        multiplications=max(macs, 0),
    )
    builder.add(rest, *layers, name="outputs", weights=Weights(max(params, 0)))
    return builder.build()


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


_DEFAULTS = {"bias": None, "stride": 1, "padding": 0, "output_padding": 0, "dilation": 1}
_ORDERS = {
    torch.conv2d: ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    torch.conv_transpose2d: (
        *("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"),
    ),
}
"""Arguments of torch's convolutions, in order."""


class _Listening(TorchFunctionMode):
    """Notes every call of a convolution, by a module or as a function."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.calls: list[_Call] = []
        self._module = module
        self._path = [""]
        self._parameters = {id(p): name for name, p in module.named_parameters()}

    @contextmanager
    def following(self) -> Iterator[None]:
        """Follow which module runs."""
        handles = []
        for name, part in self._module.named_modules():
            handles.append(part.register_forward_pre_hook(self._enter(name)))
            handles.append(part.register_forward_hook(self._leave))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, name: str) -> Callable[..., None]:
        return lambda *_: self._path.append(name)

    def _leave(self, *_: object) -> None:
        self._path.pop()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in _ORDERS:
            given = {**_DEFAULTS, "groups": 1, **dict(zip(_ORDERS[func], args, strict=False))}
            self._note(func is torch.conv_transpose2d, given | (kwargs or {}), output)
        return output

    def _note(self, transposed: bool, given: dict[str, Any], output: Tensor) -> None:
        """Note one call with its arguments."""
        weight, bias, path = given["weight"], given["bias"], self._path[-1]
        is_module = isinstance(self._module.get_submodule(path), (nn.Conv2d, nn.ConvTranspose2d))
        own = self._parameters.get(id(weight), "").removesuffix(".weight")
        name = path if is_module else own or f"{path}.conv2d".removeprefix(".")
        parameters = [p for p in (weight, bias) if p is not None and id(p) in self._parameters]
        taken = given["input"]
        _, channels, height, width = taken.shape if taken.ndim == 4 else (1, *taken.shape)
        high, wide = output.shape[-2:]
        centre = output.reshape(-1, *output.shape[-3:])[0, :, high // 2, wide // 2].sum()
        operation = _operation(transposed, given)
        shape = (channels, height, width)
        self.calls.append(_Call(name, operation, tuple(parameters), shape, centre))


def _operation(transposed: bool, given: dict[str, Any]) -> Operation:
    """Return the operation of a convolution with these arguments."""

    def both(value: Any) -> Pair:
        values = tuple(value) if isinstance(value, (list, tuple)) else (value,)
        return (int(values[0]), int(values[-1]))

    weight, bias, groups = given["weight"], given["bias"] is not None, given["groups"]
    kernel, dilation, stride = (
        both(weight.shape[2:]),
        both(given["dilation"]),
        both(given["stride"]),
    )
    if transposed:
        features = weight.shape[1] * groups
        padding, extra = both(given["padding"]), both(given["output_padding"])
        return TransposedConvolution(
            features, kernel, stride, padding, extra, dilation, groups, bias
        )
    padding = given["padding"]
    if isinstance(padding, str):
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        padding = (total[0] // 2, total[1] // 2) if padding == "same" else (0, 0)
    return Convolution(weight.shape[0], kernel, stride, both(padding), dilation, groups, bias)
