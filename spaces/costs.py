"""What an architecture costs: parameters, multiply-accumulates, memory while training."""

from __future__ import annotations

from dataclasses import dataclass

from spaces.architecture import Architecture
from spaces.operations import GlobalPooling, Pooling

_INDEX_BYTES = 8
"""Max pooling keeps the position of every maximum as a 64-bit integer."""


@dataclass(frozen=True)
class Costs:
    """Costs of one architecture.

    Attributes:
        params: number of trainable parameters.
        macs: multiply-accumulates of a forward pass of one sample.
        kept_values: values per sample that backpropagation keeps.
        kept_indices: positions of maxima per sample that backpropagation keeps.
        widest_values: values per sample of the largest layer's input and output together: what
            the gradients of one layer take at the same time.
    """

    params: int
    macs: int
    kept_values: int
    kept_indices: int
    widest_values: int

    def training_memory(
        self, batch_size: int, *, value_bytes: int = 4, optimizer_values: int = 1
    ) -> int:
        """Predict the memory of training, in bytes.

        Args:
            batch_size: samples a step.
            value_bytes: bytes of one activation: 4 for float32, 2 for bfloat16.
            optimizer_values: values the optimiser keeps per parameter: 1 for SGD with momentum,
                2 for Adam.
        """
        weights = 4 * self.params * (2 + optimizer_values)
        sample = value_bytes * (self.kept_values + self.widest_values)
        return weights + batch_size * (sample + _INDEX_BYTES * self.kept_indices)


def costs(architecture: Architecture) -> Costs:
    """Derive the costs of an architecture.

    Raises:
        CollapsedLayerError: a feature map has no pixel left.
    """
    shapes = architecture.shapes
    sizes = [channels * height * width for channels, height, width in shapes]
    params = macs = indices = 0
    widths: list[int] = []
    kept: set[int] = set()
    for index, (operation, inputs, _) in enumerate(architecture.layers):
        taken = tuple([shapes[i] for i in inputs])
        params += operation.params(taken)
        macs += operation.macs(taken, shapes[index])
        width = sizes[index]
        for i in inputs:
            width += sizes[i]
        widths.append(width)
        if operation.keeps_input:
            kept.update(inputs)
        if operation.keeps_output:
            kept.add(index)
        if (
            type(operation) is Pooling or type(operation) is GlobalPooling
        ) and operation.mode == "max":
            indices += sizes[index]
    return Costs(
        params=params,
        macs=macs,
        kept_values=sum([sizes[i] for i in kept]),
        kept_indices=indices,
        widest_values=max(widths),
    )
