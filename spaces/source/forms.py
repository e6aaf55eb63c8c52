"""Spells each operation as PyTorch code: a module, an expression of a tensor, or both."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import TypeAlias

from spaces.errors import BadInputError
from spaces.operations import (
    Activation,
    AdaptivePooling,
    ChannelPooling,
    ChannelShuffle,
    Convolution,
    Dropout,
    Flatten,
    GlobalPooling,
    Linear,
    Norm,
    Operation,
    Padding,
    Pair,
    ParametricRelu,
    PixelShuffle,
    PixelUnshuffle,
    Pooling,
    Resizing,
    Scale,
    Shape,
    Shift,
    Slice,
    TransposedConvolution,
    Upsampling,
)

Value: TypeAlias = int | float | tuple[int, ...]
"""The value of a slot."""

CHANNELS = "channels"
"""The kind of slots that hold numbers of channels or features."""


@dataclass(frozen=True)
class Form:
    """An operation as code, with slots where two operations of one form may differ.

    Attributes:
        token: equal for operations of one form.
        slots: kind and value of each slot; the kind becomes the name of a parameter.
        module: writes a constructor from the slots' expressions; None if there is no module.
        function: writes an expression from a tensor's expression, followed by the slots'; None if
            the operation needs a module.
        states: names of the module's tensors, as in its ``state_dict``.
        tensor: writes the tensor that ``function`` takes as its second argument, from the slots'
            expressions; None unless there is such a tensor.
        learned: whether that tensor is a parameter rather than a constant.
        brief: the operation in words, for docstrings.
    """

    token: tuple[object, ...]
    slots: tuple[tuple[str, Value], ...] = ()
    module: Callable[..., str] | None = None
    function: Callable[..., str] | None = None
    states: tuple[str, ...] = ()
    tensor: Callable[..., str] | None = None
    learned: bool = False
    brief: str = ""


@dataclass(frozen=True, slots=True)
class Unflatten(Operation):
    """Turns the features of a vector into the channels of one pixel."""

    kind = "unflatten"


def literal(value: Value) -> str:
    """Return a number or pair as code."""
    return repr(value)


def short(value: Pair) -> Value:
    """Return a pair of equal numbers as one number."""
    return value[0] if value[0] == value[1] else value


def atom(expression: str) -> str:
    """Return an expression in parentheses if an operator or a method would bind more tightly."""
    node = ast.parse(expression, mode="eval").body
    loose = isinstance(node, ast.BinOp | ast.UnaryOp | ast.IfExp)
    return f"({expression})" if loose else expression


def call(name: str, *arguments: str, **keywords: str | None) -> str:
    """Return a call; keywords with None are left out."""
    given = [f"{key}={value}" for key, value in keywords.items() if value is not None]
    return f"{name}({', '.join([*arguments, *given])})"


def _unless(expression: str, default: str) -> str | None:
    return None if expression == default else expression


def product(left: str, right: str) -> str:
    """Return a product, computed if both factors are numbers.

    >>> product("2", "3"), product("1", "dilation"), product("2", "kernel_size // 2")
    ('6', 'dilation', '2 * (kernel_size // 2)')
    """
    if left.isdigit() and right.isdigit():
        return str(int(left) * int(right))
    if "1" in (left, right):
        return right if left == "1" else left
    return f"{atom(left)} * {atom(right)}"


def _half(kernel: str) -> str:
    return str(int(kernel) // 2) if kernel.isdigit() else f"{kernel} // 2"


@singledispatch
def form(operation: Operation, inputs: tuple[Shape, ...], vector: bool) -> Form:
    """Return the form of an operation.

    Args:
        operation: one that takes a single input.
        inputs: shapes ``(c, h, w)`` of its inputs.
        vector: whether the input is a vector ``[n, c]`` rather than a map ``[n, c, h, w]``.

    Raises:
        BadInputError: the operation has no form.
    """
    raise BadInputError(
        "export",
        operation.kind,
        "has no PyTorch code",
        "register its form in spaces/source/forms.py, or export weights only",
    )


_WEIGHT, _BIAS = "weight", "bias"


@form.register
def _(operation: Convolution, inputs: tuple[Shape, ...], vector: bool) -> Form:
    channels = inputs[0][0]
    kernel, stride = short(operation.kernel), short(operation.stride)
    dilation, padding = short(operation.dilation), short(operation.padding)
    same = (
        isinstance(kernel, int)
        and isinstance(dilation, int)
        and padding == dilation * (kernel // 2)
    )
    depthwise = operation.groups == channels > 1
    slots: list[tuple[str, Value]] = [
        (CHANNELS, channels),
        (CHANNELS, operation.features),
        ("kernel_size", kernel),
        ("stride", stride),
        ("dilation", dilation),
    ]
    grouped = operation.groups > 1 and not depthwise
    if grouped:
        slots.append(("groups", operation.groups))
    if not same:
        slots.append(("padding", padding))
    bias = None if operation.bias else "False"

    def module(wide: str, features: str, size: str, step: str, spread: str, *rest: str) -> str:
        groups = rest[0] if grouped else wide if depthwise else None
        around = product(spread, _half(size)) if same else rest[-1]
        return call(
            "nn.Conv2d",
            wide,
            features,
            size,
            stride=_unless(step, "1"),
            padding=_unless(around, "0"),
            dilation=_unless(spread, "1"),
            groups=groups,
            bias=bias,
        )

    kind = "depthwise " if depthwise else ""
    return Form(
        ("convolution", same, depthwise, grouped, operation.bias),
        tuple(slots),
        module,
        states=(_WEIGHT, _BIAS) if operation.bias else (_WEIGHT,),
        brief=f"{kind}convolution",
    )


@form.register
def _(operation: TransposedConvolution, inputs: tuple[Shape, ...], vector: bool) -> Form:
    kinds = ("kernel_size", "stride", "padding", "output_padding")
    values = (operation.kernel, operation.stride, operation.padding, operation.output_padding)
    bias = None if operation.bias else "False"

    def module(
        wide: str, features: str, size: str, step: str, crop: str, more: str, *rest: str
    ) -> str:
        return call(
            "nn.ConvTranspose2d",
            wide,
            features,
            size,
            stride=_unless(step, "1"),
            padding=_unless(crop, "0"),
            output_padding=_unless(more, "0"),
            groups=_unless(rest[1], "1"),
            bias=bias,
            dilation=_unless(rest[0], "1"),
        )

    return Form(
        ("transposed convolution", operation.bias),
        (
            (CHANNELS, inputs[0][0]),
            (CHANNELS, operation.features),
            *zip(kinds, map(short, values), strict=True),
            ("dilation", short(operation.dilation)),
            ("groups", operation.groups),
        ),
        module,
        states=(_WEIGHT, _BIAS) if operation.bias else (_WEIGHT,),
        brief="transposed convolution",
    )


@form.register
def _(operation: Linear, inputs: tuple[Shape, ...], vector: bool) -> Form:
    channels, height, width = inputs[0]
    bias = None if operation.bias else "False"
    return Form(
        ("linear", operation.bias),
        ((CHANNELS, channels * height * width), (CHANNELS, operation.features)),
        lambda wide, features: call("nn.Linear", wide, features, bias=bias),
        states=(_WEIGHT, _BIAS) if operation.bias else (_WEIGHT,),
        brief="linear layer",
    )


@form.register
def _(operation: Norm, inputs: tuple[Shape, ...], vector: bool) -> Form:
    channels, norm = inputs[0][0], operation.norm
    affine = None if operation.affine else "False"
    token = ("norm", norm, operation.affine, vector)
    states: tuple[str, ...] = (_WEIGHT, _BIAS) if operation.affine else ()
    slots: tuple[tuple[str, Value], ...] = ((CHANNELS, channels),)
    brief = f"{norm} norm"
    if norm == "batch":
        name = "nn.BatchNorm1d" if vector else "nn.BatchNorm2d"
        states += ("running_mean", "running_var", "num_batches_tracked")
        return Form(
            token, slots, lambda c: call(name, c, affine=affine), states=states, brief=brief
        )
    if norm == "instance":
        given = "True" if operation.affine else None
        return Form(
            token,
            slots,
            lambda c: call("nn.InstanceNorm2d", c, affine=given),
            states=states,
            brief=brief,
        )
    if norm == "layer":
        return Form(
            token,
            slots,
            lambda c: call("nn.GroupNorm", "1", c, affine=affine),
            states=states,
            brief=brief,
        )
    if norm == "group":
        return Form(
            token,
            (("norm_groups", operation.groups), (CHANNELS, channels)),
            lambda groups, c: call("nn.GroupNorm", groups, c, affine=affine),
            states=states,
            brief=brief,
        )
    if norm != "channel":
        raise BadInputError("export", f"norm {norm}", "has no PyTorch code", "use another norm")
    if vector:
        return Form(
            token,
            slots,
            lambda c: call("nn.LayerNorm", c, elementwise_affine=affine),
            states=states,
            brief=brief,
        )
    return Form(
        (*token, "functional"),
        slots,
        lambda c: call("ChannelNorm", c, elementwise_affine=affine),
        states=states,
        brief=brief,
    )


ACTIVATION_MODULES = {
    "relu": "nn.ReLU()",
    "leaky_relu": "nn.LeakyReLU()",
    "celu": "nn.CELU()",
    "gelu": "nn.GELU()",
    "silu": "nn.SiLU()",
    "sigmoid": "nn.Sigmoid()",
    "relu6": "nn.ReLU6()",
    "elu": "nn.ELU()",
    "selu": "nn.SELU()",
    "mish": "nn.Mish()",
    "softplus": "nn.Softplus()",
    "hardtanh": "nn.Hardtanh()",
    "hardsigmoid": "nn.Hardsigmoid()",
    "hardswish": "nn.Hardswish()",
    "hardshrink": "nn.Hardshrink()",
    "softshrink": "nn.Softshrink()",
    "tanh": "nn.Tanh()",
    "log_sigmoid": "nn.LogSigmoid()",
    "softmax": "nn.Softmax(dim=1)",
    "log_softmax": "nn.LogSoftmax(dim=1)",
}
_CALLS = {
    "sigmoid": "torch.sigmoid({})",
    "tanh": "torch.tanh({})",
    "log_sigmoid": "F.logsigmoid({})",
    "softmax": "F.softmax({}, dim=1)",
    "log_softmax": "F.log_softmax({}, dim=1)",
}
_ARITHMETIC: dict[str, Callable[[str], str]] = {
    "exp": lambda x: f"{atom(x)}.exp()",
    "sqrt": lambda x: f"{atom(x)} ** 0.5",
    "square": lambda x: f"{atom(x)} ** 2",
    "abs": lambda x: f"{atom(x)}.abs()",
}


@form.register
def _(operation: Activation, inputs: tuple[Shape, ...], vector: bool) -> Form:
    name = operation.function
    token = ("activation", name)
    if name in _ARITHMETIC:
        return Form(token, function=_ARITHMETIC[name], brief=name)
    if name not in ACTIVATION_MODULES:
        raise BadInputError(
            "export", f"activation {name}", "has no PyTorch code", "use another activation"
        )
    spelled = _CALLS.get(name, f"F.{name}({{}})")
    return Form(
        token,
        module=lambda: ACTIVATION_MODULES[name],
        function=spelled.format,
        brief=ACTIVATION_MODULES[name].removeprefix("nn.").partition("(")[0],
    )


@form.register
def _(operation: Pooling, inputs: tuple[Shape, ...], vector: bool) -> Form:
    if operation.mode == "blur":
        return _blur(operation, inputs[0][0])
    name = "nn.MaxPool2d" if operation.mode == "max" else "nn.AvgPool2d"
    ceil = "True" if operation.ceil else None

    def module(size: str, step: str, around: str) -> str:
        return call(
            name,
            size,
            stride=_unless(step, size),
            padding=_unless(around, "0"),
            ceil_mode=ceil,
        )

    return Form(
        ("pooling", operation.mode, operation.ceil),
        (
            ("kernel_size", short(operation.kernel)),
            ("stride", short(operation.stride)),
            ("padding", short(operation.padding)),
        ),
        module,
        brief=f"{operation.mode} pooling",
    )


def _blur(operation: Pooling, channels: int) -> Form:
    def module(wide: str, size: str, step: str, around: str) -> str:
        return call("BlurPool", wide, size, stride=step, padding=_unless(around, "0"))

    return Form(
        ("blur pooling",),
        (
            (CHANNELS, channels),
            ("kernel_size", operation.kernel),
            ("stride", short(operation.stride)),
            ("padding", short(operation.padding)),
        ),
        module,
        brief="blur pooling",
    )


@form.register
def _(operation: GlobalPooling, inputs: tuple[Shape, ...], vector: bool) -> Form:
    name = "nn.AdaptiveMaxPool2d" if operation.mode == "max" else "nn.AdaptiveAvgPool2d"
    return Form(
        ("global pooling", operation.mode),
        module=lambda: f"{name}(1)",
        brief=f"global {operation.mode} pooling",
    )


@form.register
def _(operation: AdaptivePooling, inputs: tuple[Shape, ...], vector: bool) -> Form:
    name = "nn.AdaptiveMaxPool2d" if operation.mode == "max" else "nn.AdaptiveAvgPool2d"
    return Form(
        ("adaptive pooling", operation.mode),
        (("output_size", short(operation.size)),),
        lambda size: f"{name}({size})",
        brief=f"adaptive {operation.mode} pooling",
    )


@form.register
def _(operation: ChannelPooling, inputs: tuple[Shape, ...], vector: bool) -> Form:
    method = "amax" if operation.mode == "max" else "mean"
    return Form(
        ("channel pooling", operation.mode),
        function=lambda x: f"{atom(x)}.{method}(dim=1, keepdim=True)",
        brief=f"channel {operation.mode}",
    )


@form.register
def _(operation: Dropout, inputs: tuple[Shape, ...], vector: bool) -> Form:
    return Form(
        ("dropout",),
        (("dropout", operation.rate),),
        lambda rate: f"nn.Dropout({rate})",
        brief="dropout",
    )


@form.register
def _(operation: Flatten, inputs: tuple[Shape, ...], vector: bool) -> Form:
    return Form(
        ("flatten",),
        module=lambda: "nn.Flatten()",
        function=lambda x: f"{atom(x)}.flatten(1)",
        brief="flattening",
    )


@form.register
def _(operation: Unflatten, inputs: tuple[Shape, ...], vector: bool) -> Form:
    return Form(
        ("unflatten",),
        ((CHANNELS, inputs[0][0]),),
        lambda c: f"nn.Unflatten(1, ({c}, 1, 1))",
        lambda x, c: f"{atom(x)}[:, :, None, None]",
        brief="one pixel",
    )


@form.register
def _(operation: Upsampling, inputs: tuple[Shape, ...], vector: bool) -> Form:
    mode = operation.interpolation
    given = None if mode == "nearest" else f'"{mode}"'
    return Form(
        ("upsampling", mode),
        (("factor", short(operation.factor)),),
        lambda factor: call("nn.Upsample", scale_factor=factor, mode=given),
        brief=f"{mode} upsampling",
    )


@form.register
def _(operation: Resizing, inputs: tuple[Shape, ...], vector: bool) -> Form:
    mode, aligned = operation.interpolation, operation.align_corners
    # Torch refuses align_corners for nearest-neighbour interpolation.
    corners = "True" if aligned and mode != "nearest" else None
    given = None if mode == "nearest" else f'"{mode}"'
    return Form(
        ("resizing", mode, corners),
        (("output_size", operation.size),),
        lambda size: call("nn.Upsample", size, mode=given, align_corners=corners),
        brief=f"{mode} resizing",
    )


@form.register
def _(operation: PixelShuffle, inputs: tuple[Shape, ...], vector: bool) -> Form:
    return Form(
        ("pixel shuffle",),
        (("factor", operation.factor[0]),),
        lambda factor: f"nn.PixelShuffle({factor})",
        brief="pixel shuffle",
    )


@form.register
def _(operation: PixelUnshuffle, inputs: tuple[Shape, ...], vector: bool) -> Form:
    return Form(
        ("pixel unshuffle",),
        (("factor", operation.factor[0]),),
        lambda factor: f"nn.PixelUnshuffle({factor})",
        brief="pixel unshuffle",
    )


@form.register
def _(operation: Slice, inputs: tuple[Shape, ...], vector: bool) -> Form:
    def function(x: str, start: str, stop: str) -> str:
        space = "" if start.isdigit() and stop.isdigit() else " "
        low = "" if start == "0" else f"{start}{space}"
        return f"{atom(x)}[:, {low}:{space}{stop}]"

    return Form(
        ("slice",),
        (("start", operation.start), ("stop", operation.stop)),
        function=function,
        brief="slice of the channels",
    )


@form.register
def _(operation: ChannelShuffle, inputs: tuple[Shape, ...], vector: bool) -> Form:
    return Form(
        ("channel shuffle",),
        (("shuffled_groups", operation.groups),),
        lambda groups: f"nn.ChannelShuffle({groups})",
        brief="channel shuffle",
    )


_PADDINGS = {
    "constant": "nn.ZeroPad2d",
    "reflect": "nn.ReflectionPad2d",
    "replicate": "nn.ReplicationPad2d",
    "circular": "nn.CircularPad2d",
}


@form.register
def _(operation: Padding, inputs: tuple[Shape, ...], vector: bool) -> Form:
    (front, top, left), (back, bottom, right) = operation.before, operation.after
    if operation.fill == "constant" and (front or back):
        return Form(
            ("channel padding",),
            (("padding", (left, right, top, bottom, front, back)),),
            function=lambda x, around: f"F.pad({x}, {around})",
            brief="padding",
        )
    amounts = (left, right, top, bottom)
    around: Value = left if len(set(amounts)) == 1 else amounts
    name = _PADDINGS[operation.fill]
    return Form(
        ("padding", operation.fill),
        (("padding", around),),
        lambda amounts: f"{name}({amounts})",
        brief="padding",
    )


@form.register(Scale)
@form.register(Shift)
def _(operation: Scale | Shift, inputs: tuple[Shape, ...], vector: bool) -> Form:
    scaling = isinstance(operation, Scale)
    sign = "*" if scaling else "+"
    if operation.shape == (1, 1, 1) and not operation.learned:
        return Form(
            (operation.kind, "number"),
            ((operation.kind, operation.value),),
            function=lambda x, value: f"{atom(x) if scaling else x} {sign} {atom(value)}",
            brief=operation.kind,
        )
    channels, height, width = operation.shape

    def tensor(*slots: str) -> str:
        wide, value = slots
        shape = f"({wide}, {height}, {width})"
        if value in ("0.0", "1.0"):
            return f"torch.{'ones' if value == '1.0' else 'zeros'}{shape}"
        return f"torch.full({shape}, {value})"

    return Form(
        (operation.kind, operation.shape[1:], operation.learned),
        ((CHANNELS, channels), ("initial", operation.value)),
        function=lambda x, value, *_: f"{atom(x) if scaling else x} {sign} {value}",
        states=("value",),
        tensor=tensor,
        learned=operation.learned,
        brief="learned scale" if scaling else "learned shift",
    )


@form.register
def _(operation: ParametricRelu, inputs: tuple[Shape, ...], vector: bool) -> Form:
    if operation.slopes == 1:
        return Form(("prelu", "one"), module=lambda: "nn.PReLU()", states=(_WEIGHT,), brief="PReLU")
    return Form(
        ("prelu", "each"),
        ((CHANNELS, operation.slopes),),
        lambda slopes: f"nn.PReLU({slopes})",
        states=(_WEIGHT,),
        brief="PReLU",
    )
