"""Stage 6: every operation of a network, forward, backward and captured, as in a training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby

import torch
from harness import one_line
from torch import Tensor

from gpu_checks.inside import Repetition, Warnings
from gpu_checks.records import CheckFailedError, Finding, Recorder
from gpu_checks.subjects import Setting
from spaces.operations import (
    ACTIVATIONS,
    FILLS,
    INTERPOLATIONS,
    NORMS,
    OTHER_ACTIVATIONS,
    OTHER_NORMS,
    POOLING_MODES,
    Activation,
    AdaptivePooling,
    Add,
    ChannelPooling,
    ChannelShuffle,
    Concat,
    Convolution,
    Dropout,
    Flatten,
    Gate,
    GlobalPooling,
    Linear,
    Norm,
    Operation,
    Padding,
    ParametricRelu,
    PixelShuffle,
    PixelUnshuffle,
    Pooling,
    Product,
    Resizing,
    Scale,
    Shape,
    Shift,
    Slice,
    TransposedConvolution,
    Upsampling,
)
from trainables.builder import build_layer

MAP: Shape = (8, 6, 10)
IMAGES = 4
TOLERANCE = 0.02
"""Maximum difference between a replay and the same step without a graph, in bfloat16."""


def examples() -> Iterator[tuple[Operation, tuple[Shape, ...]]]:
    """Yield operations of every kind and mode with the shapes of their inputs."""
    of_one: list[Operation] = [
        Convolution(12, bias=True),
        Convolution(8, (3, 5), (2, 1), (1, 2), (1, 2), groups=8),
        *(Pooling(mode) for mode in POOLING_MODES),
        *(Pooling(mode, (3, 3), (2, 2), (1, 1), ceil=True) for mode in POOLING_MODES),
        Pooling("blur", 3, 2, 1),
        *(GlobalPooling(mode) for mode in POOLING_MODES),
        *(Norm(norm, 4, affine) for norm in NORMS + OTHER_NORMS for affine in (True, False)),
        *(Activation(function) for function in ACTIVATIONS + OTHER_ACTIVATIONS),
        Dropout(0.3),
        Linear(10),
        Linear(10, bias=False),
        *(ChannelPooling(mode) for mode in POOLING_MODES),
        TransposedConvolution(6, bias=True),
        TransposedConvolution(8, (3, 5), (2, 3), (1, 2), (1, 0), (1, 2), 2),
        *(Upsampling((2, 3), interpolation) for interpolation in INTERPOLATIONS),
        *(Resizing((3, 11), interpolation) for interpolation in INTERPOLATIONS),
        Resizing((3, 11), "bilinear", align_corners=True),
        *(AdaptivePooling((4, 3), mode) for mode in POOLING_MODES),
        PixelShuffle(),
        PixelUnshuffle(),
        Slice(1, 5),
        ChannelShuffle(4),
        *(Padding((0, 1, 2), (0, 3, 0), fill) for fill in FILLS),
        Padding((2, -1, 0), (2, -2, -3)),
        Flatten(),
        Scale(value=0.5),
        Scale((8, 1, 1), learned=True),
        Scale((1, 6, 10)),
        Shift((8, 6, 10), learned=True),
        ParametricRelu(),
        ParametricRelu(8),
    ]
    for operation in of_one:
        yield operation, (MAP,)
    yield Add(), (MAP, MAP, MAP)
    yield Concat(), (MAP, (4, *MAP[1:]))
    yield Gate(), (MAP, (8, 1, 1))
    yield Gate(), (MAP, (1, *MAP[1:]))
    yield Product(), (MAP, MAP)


@dataclass(frozen=True)
class Result:
    """Result of one operation.

    Attributes:
        operation: the operation with its values.
        error: cause of a failed forward or backward pass, or None.
        captured: whether the step is replayed from a graph; None without a GPU.
        problem: cause of a missing capture, or difference of a replay.
        channels_last: whether the output keeps the channels-last format, in which convolutions are
            fast.
    """

    operation: str
    error: str | None = None
    captured: bool | None = None
    problem: str | None = None
    channels_last: bool | None = None


def check_operations(setting: Setting, recorder: Recorder) -> None:
    """Check every operation; name those that cannot be captured, which still train."""
    kinds = groupby(examples(), lambda example: example[0].kind)
    left: list[str] = []
    for kind, group in kinds:
        recorder.check(kind, lambda group=list(group): _check_kind(setting, group, left))  # type: ignore[misc]

    def captures() -> Finding:
        setting.need_gpu()
        named = f"not captured: {', '.join(left)}" if left else "all of them"
        return Finding(named, {"not captured": left})

    recorder.check("operations that are captured", captures)


def _check_kind(
    setting: Setting, group: list[tuple[Operation, tuple[Shape, ...]]], left: list[str]
) -> Finding:
    results = [_try(setting, operation, shapes) for operation, shapes in group]
    figures = {"operations": [asdict(result) for result in results]}
    left += [result.operation for result in results if result.captured is False]
    wrong = [f"{r.operation}: {r.error}" for r in results if r.error is not None]
    # A replay with a wrong result is worse than no replay.
    wrong += [f"{r.operation}: {r.problem}" for r in results if r.captured and r.problem]
    if wrong:
        raise CheckFailedError("; ".join(wrong), figures)
    slow = [f"{r.operation} is not captured: {r.problem}" for r in results if r.captured is False]
    return Finding("; ".join(slow), figures)


def _try(setting: Setting, operation: Operation, shapes: tuple[Shape, ...]) -> Result:
    """Run steps of one operation in bfloat16, channels last."""
    step = _Step(setting.device, operation, shapes)
    name = repr(operation)
    try:
        step()
        expected = step.values()
    except Exception as error:
        return Result(name, one_line(error))
    if not all(bool(value.isfinite().all()) for value in expected):
        return Result(name, "values or gradients are not finite")
    last = step.output.is_contiguous(memory_format=torch.channels_last)
    if not setting.on_gpu:
        return Result(name, channels_last=last)
    repetition = Repetition(setting.device)
    with Warnings() as warned:
        repetition.run(step)
    if not repetition.is_captured:
        return Result(name, None, False, "; ".join(warned.messages) or "no warning", last)
    if isinstance(operation, Dropout):
        return Result(name, None, True, None, last)
    difference = max(
        float((value - other).abs().max() / (1 + other.abs().max()))
        for value, other in zip(step.values(), expected, strict=True)
    )
    # NaN is wrong, too.
    fine = difference <= TOLERANCE
    problem = None if fine else f"a replay differs by {difference:.2g}"
    return Result(name, None, True, problem, last)


class _Step:
    """Forward and backward pass of one layer, always on the same values."""

    def __init__(
        self, device: torch.device, operation: Operation, shapes: tuple[Shape, ...]
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        torch.manual_seed(0)
        layer = build_layer(operation, shapes).train()
        self._layer = layer.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Positive, because some functions are defined only there. The input of a layer comes from
        # a convolution, so it has 16 bits.
        self._inputs = [
            (torch.rand((IMAGES, *shape), generator=generator) + 0.1)
            .to(device, torch.bfloat16, memory_format=torch.channels_last)
            .requires_grad_()
            for shape in shapes
        ]
        self._learned = [*self._inputs, *self._layer.parameters()]
        self.output = torch.empty(0)
        self._gradients: tuple[Tensor, ...] = ()

    def __call__(self) -> None:
        device = self._inputs[0].device
        with torch.autocast(device.type, torch.bfloat16):
            output = self._layer(*self._inputs)
            loss = output.float().square().mean()
        self._gradients = torch.autograd.grad(loss, self._learned)
        self.output = output.detach()

    def values(self) -> list[Tensor]:
        """Return copies of the output and all gradients of the last step."""
        return [value.float().clone() for value in (self.output, *self._gradients)]
