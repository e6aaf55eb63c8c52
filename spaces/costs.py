"""Derives the costs of an architecture: parameters, multiply-accumulates, training memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spaces.architecture import Architecture
from spaces.operation_base import Operation
from spaces.operations import (
    OPERATIONS,
    Activation,
    Convolution,
    GlobalPooling,
    Linear,
    Norm,
    Pooling,
    TransposedConvolution,
)

_INDEX_BYTES = 8
"""Max pooling keeps the index of every maximum as a 64-bit integer."""
_FLOAT32, _BFLOAT16 = 4, 2
_FLOAT32_NORMS = frozenset(("layer", "group", "channel"))
_FLOAT32_ACTIVATIONS = frozenset(("softplus", "softmax", "log_softmax", "exp", "square", "sqrt"))
_MULTIPLYING = frozenset((Convolution, Linear, TransposedConvolution))
_MAX_POOLING = frozenset((Pooling, GlobalPooling))
_FORMAT_CHOOSING = frozenset((Norm, Activation))
_FREE = frozenset(
    kind
    for kind in OPERATIONS.values()
    if kind.params is Operation.params and kind.macs is Operation.macs
)
"""Operations without parameters and multiply-accumulates; skipped for speed."""


@dataclass(frozen=True)
class Costs:
    """Costs of one architecture.

    Attributes:
        params: number of trainable parameters.
        macs: multiply-accumulates of a forward pass of one sample.
        kept_values: values per sample that backpropagation keeps.
        kept_indices: indices of maxima per sample that backpropagation keeps.
        live_values: maximum number of values per sample that inference holds at one time.
        peak_values: maximum number of values per sample that training holds at one time: kept
            values plus gradients, at the layer where their sum is largest.
        mixed_live: bytes per sample of ``live_values`` under bfloat16 autocast.
        mixed_peak: bytes per sample of ``peak_values`` under bfloat16 autocast.
        image_values: values of one sample.
    """

    params: int
    macs: int
    kept_values: int
    kept_indices: int
    live_values: int
    peak_values: int
    mixed_live: int
    mixed_peak: int
    image_values: int

    @property
    def activation_bytes(self) -> int:
        """Bytes per sample that backpropagation keeps, in float32."""
        return _FLOAT32 * self.kept_values + _INDEX_BYTES * self.kept_indices

    def training_memory(
        self, batch_size: int, *, bfloat16: bool = False, optimizer_values: int = 1
    ) -> int:
        """Predict the peak memory of a training's tensors in bytes.

        Includes weights, gradients, optimiser state, activations, gradients of activations and
        the batch of images. Excludes memory outside of torch's tensors: workspaces of the
        convolution library and the CUDA context of the process.

        Args:
            batch_size: samples per step.
            bfloat16: whether autocast runs convolutions and matrix products in bfloat16, which
                keeps the weights in float32 and copies the kernels to bfloat16.
            optimizer_values: values per parameter besides weight and gradient: 1 for SGD or Muon
                with momentum, 2 for Adam, plus 1 each for a moving average of the weights and for
                the slow weights of lookahead.
        """
        weight = _FLOAT32 * (2 + optimizer_values)
        if bfloat16:
            weight += _BFLOAT16
            # The float32 images stay in memory beside the copy for the first layer.
            sample = self.mixed_peak + _FLOAT32 * self.image_values
        else:
            sample = _FLOAT32 * self.peak_values
        return weight * self.params + batch_size * (sample + _INDEX_BYTES * self.kept_indices)

    def evaluation_memory(self, batch_size: int, *, bfloat16: bool = False) -> int:
        """Predict the memory of inference in bytes, without weights: images and activations."""
        if bfloat16:
            return batch_size * (self.mixed_live + _FLOAT32 * self.image_values)
        return batch_size * _FLOAT32 * self.live_values


def costs(architecture: Architecture) -> Costs:  # noqa: PLR0912 - one pass, for speed
    """Derive the costs of an architecture.

    Raises:
        CollapsedLayerError: a feature map has less than one pixel.

    Example:
        >>> from spaces.named import named
        >>> from spaces.task import Task
        >>> costs(named("resnet18", Task(channels=3, height=224, width=224, classes=1000))).params
        11689512
    """
    layers = architecture.layers
    shapes = architecture.shapes
    sizes = [channels * height * width for channels, height, width in shapes]
    last_use = _last_uses(architecture)
    params = macs = indices = kept_values = live = 0
    lives: list[int] = []
    totals: list[int] = []
    kept: set[int] = set()
    mixed = False
    for index, (operation, inputs, _, weights) in enumerate(layers):
        kind = type(operation)
        if kind not in _FREE:
            taken = tuple([shapes[i] for i in inputs])
            params += operation.params(taken) if weights is None else weights.params
            macs += operation.macs(taken, shapes[index]) + (0 if weights is None else weights.macs)
        elif weights is not None:
            params, macs = params + weights.params, macs + weights.macs
        if operation.keeps_input:
            for i in inputs:
                if i not in kept:
                    kept.add(i)
                    kept_values += sizes[i]
        if operation.keeps_output:
            kept.add(index)
            kept_values += sizes[index]
        if kind in _MAX_POOLING:
            if operation.mode == "max":  # type: ignore[attr-defined]
                indices += sizes[index]
        elif kind in _FORMAT_CHOOSING and _runs_in_float32(operation):
            mixed = True
        # At this layer, backpropagation holds gradients of the tensors that are live in the
        # forward pass, and all values kept up to here.
        live += sizes[index]
        lives.append(live)
        totals.append(kept_values + live)
        for i in inputs:
            if last_use[i] == index:
                last_use[i] = -1
                live -= sizes[i]
    most_live, peak = max(lives), max(totals)
    mixed_live, mixed_peak = _BFLOAT16 * most_live, _BFLOAT16 * peak
    if mixed:
        mixed_live, mixed_peak = _mixed_memory(architecture, sizes)
    return Costs(
        params=params,
        macs=macs,
        kept_values=kept_values,
        kept_indices=indices,
        live_values=most_live,
        peak_values=peak,
        mixed_live=mixed_live,
        mixed_peak=mixed_peak,
        image_values=sizes[0],
    )


def _last_uses(architecture: Architecture) -> dict[int, int]:
    """Return the last consumer of every layer that has one."""
    return {i: index for index, layer in enumerate(architecture.layers) for i in layer[1]}


def _runs_in_float32(operation: Operation) -> bool:
    """Tell whether autocast on a GPU runs the operation in float32, whatever its input.

    See "CUDA Ops that can autocast to float32" in torch's documentation of torch.amp.
    """
    if type(operation) is Norm:
        return operation.norm in _FLOAT32_NORMS
    return type(operation) is Activation and operation.function in _FLOAT32_ACTIVATIONS


def _mixed_memory(architecture: Architecture, sizes: Sequence[int]) -> tuple[int, int]:
    """Return ``mixed_live`` and ``mixed_peak`` of a network with some layers in float32.

    A layer whose format differs from its input's makes a copy and keeps the copy.
    """
    last_use = _last_uses(architecture)
    formats: list[int] = []
    kept: set[tuple[int, int]] = set()
    kept_bytes = live = most_live = peak = 0
    for index, (operation, inputs, *_) in enumerate(architecture.layers):
        if type(operation) in _MULTIPLYING:
            wanted = made = _BFLOAT16
        elif _runs_in_float32(operation):
            wanted = made = _FLOAT32
        else:
            wanted, made = 0, max([formats[i] for i in inputs], default=_BFLOAT16)
        formats.append(made)
        copies = 0
        for i in inputs:
            copied = wanted not in (0, formats[i])
            if copied:
                copies += wanted * sizes[i]
            keeper = (i, index if copied else -1)
            if operation.keeps_input and keeper not in kept:
                kept.add(keeper)
                kept_bytes += (wanted or formats[i]) * sizes[i]
        if operation.keeps_output:
            kept.add((index, -1))
            kept_bytes += made * sizes[index]
        live += made * sizes[index]
        most_live = max(most_live, live + copies)
        peak = max(peak, kept_bytes + live + copies)
        for i in inputs:
            if last_use[i] == index:
                last_use[i] = -1
                live -= formats[i] * sizes[i]
    return most_live, peak
