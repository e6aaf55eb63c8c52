"""What an architecture costs: parameters, multiply-accumulates, memory while training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spaces.architecture import Architecture
from spaces.operation import Operation
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
"""Max pooling keeps the position of every maximum as a 64-bit integer."""
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
"""Operations that have no parameters and multiply nothing: not worth the question."""


@dataclass(frozen=True)
class Costs:
    """Costs of one architecture.

    Attributes:
        params: number of trainable parameters.
        macs: multiply-accumulates of a forward pass of one sample.
        kept_values: values per sample that backpropagation keeps.
        kept_indices: positions of maxima per sample that backpropagation keeps.
        live_values: most values per sample that a forward pass holds at one time when nothing is
            kept for backpropagation.
        peak_values: most values per sample that training holds at one time: at the layer where
            what is still kept and the gradients on their way back are the most together.
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

    def training_memory(
        self, batch_size: int, *, bfloat16: bool = False, optimizer_values: int = 1
    ) -> int:
        """Predict the most bytes that the tensors of a training take at one time.

        Counted are weights, gradients, what the optimiser keeps, activations, the gradients of
        activations, and the batch of images. Not counted is what lies outside of torch's tensors:
        workspaces of the convolution library and the process's own share of a device.

        Args:
            batch_size: samples a step.
            bfloat16: whether convolutions and matrix products run in bfloat16 by autocast, which
                keeps the weights in float32 and makes a copy of the kernels in bfloat16.
            optimizer_values: values kept per parameter beside value and gradient: 1 for SGD with
                momentum, 2 for Adam, 1 more for an average of the weights.
        """
        weight = _FLOAT32 * (2 + optimizer_values)
        if bfloat16:
            weight += _BFLOAT16
            # The images themselves stay beside the copy that the first layer takes.
            sample = self.mixed_peak + _FLOAT32 * self.image_values
        else:
            sample = _FLOAT32 * self.peak_values
        return weight * self.params + batch_size * (sample + _INDEX_BYTES * self.kept_indices)

    def evaluation_memory(self, batch_size: int, *, bfloat16: bool = False) -> int:
        """Predict the bytes that scoring takes beside the weights: images and activations."""
        if bfloat16:
            return batch_size * (self.mixed_live + _FLOAT32 * self.image_values)
        return batch_size * _FLOAT32 * self.live_values


def costs(architecture: Architecture) -> Costs:
    """Derive the costs of an architecture.

    Raises:
        CollapsedLayerError: a feature map has no pixel left.
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
    for index, (operation, inputs, _) in enumerate(layers):
        kind = type(operation)
        if kind not in _FREE:
            taken = tuple([shapes[i] for i in inputs])
            params += operation.params(taken)
            macs += operation.macs(taken, shapes[index])
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
        # On the way back, the gradients are there of exactly those tensors that were live on the
        # way here; and of what is kept, all that was kept up to here.
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
    """Return the last layer that takes the output of each layer that is taken at all."""
    return {i: index for index, layer in enumerate(architecture.layers) for i in layer[1]}


def _runs_in_float32(operation: Operation) -> bool:
    """Tell whether autocast on a GPU runs it in float32, whatever comes in.

    See "CUDA Ops that can autocast to float32" in torch's documentation of torch.amp.
    """
    if type(operation) is Norm:
        return operation.norm in _FLOAT32_NORMS
    return type(operation) is Activation and operation.function in _FLOAT32_ACTIVATIONS


def _mixed_memory(architecture: Architecture, sizes: Sequence[int]) -> tuple[int, int]:
    """Return ``mixed_live`` and ``mixed_peak`` of a net in which some layers run in float32.

    A layer that takes another format than its input has makes a copy, and keeps that.
    """
    last_use = _last_uses(architecture)
    formats: list[int] = []
    kept: set[tuple[int, int]] = set()
    kept_bytes = live = most_live = peak = 0
    for index, (operation, inputs, _) in enumerate(architecture.layers):
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
