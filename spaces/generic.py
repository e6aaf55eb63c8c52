"""An operation without a class of its own, described by its shape and its reach only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from spaces.operation_base import Operation, Pair, Shape, Window


@dataclass(frozen=True, slots=True)
class Generic(Operation):
    """An operation of a user's network that is known only by its reach.

    The smallest field of its output follows from kernel and stride. A stride of 0 means that
    neighbouring pixels have the same field. Where the reach is unbounded, kernel and stride are a
    lower bound, and the largest field is unknown: it may be the whole image.

    Attributes:
        function: its name in torch, such as ``matmul``.
        taken: shapes of the inputs for which the other values hold.
        shape: of the output.
        kernel: window (height, width) in pixels of the inputs.
        stride: of this window; 0 if all its positions are the same.
        unbounded: whether it may reach further than the window, per axis.
        multiplications: multiply-accumulates per sample.
    """

    kind: ClassVar[str] = "generic"
    arity: ClassVar[int | None] = None
    keeps_input: ClassVar[bool] = True

    function: str
    taken: tuple[Shape, ...]
    shape: Shape
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    unbounded: tuple[bool, bool] = (False, False)
    multiplications: int = 0

    @property
    def is_pixelwise(self) -> bool:
        """Tell whether every output pixel depends only on the same pixel of the inputs."""
        return self.kernel == self.stride == (1, 1) and not any(self.unbounded)

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the shape of the output.

        Raises:
            ValueError: the shape for these inputs is unknown: they differ from the traced ones,
                and the operation is not pixel-wise.
        """
        if inputs == self.taken:
            return self.shape
        channels = [shape[0] for shape in inputs]
        if not self.is_pixelwise or channels != [shape[0] for shape in self.taken]:
            raise ValueError(
                f"{self.function} was traced with inputs of {self.taken}, but got {inputs}"
            )
        return (self.shape[0], self._size(inputs, 1), self._size(inputs, 2))

    def _size(self, inputs: tuple[Shape, ...], axis: int) -> int:
        traced = self.shape[axis]
        sizes = {
            now[axis]
            for now, before in zip(inputs, self.taken, strict=True)
            if before[axis] == traced
        }
        others = any(
            now[axis] != before[axis]
            for now, before in zip(inputs, self.taken, strict=True)
            if before[axis] != traced
        )
        if len(sizes) != 1 or others:
            raise ValueError(f"{self.function} takes maps of equal size, but got {inputs}")
        return sizes.pop()

    def macs(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        """Return the traced multiply-accumulates, scaled by the number of pixels."""
        pixels, traced = output[1] * output[2], self.shape[1] * self.shape[2]
        return self.multiplications * pixels // traced

    def windows(self, inputs: tuple[Shape, ...]) -> tuple[Window, Window] | None:
        """Return kernel and stride; None for a pixel-wise operation."""
        if self.kernel == self.stride == (1, 1):
            return None
        return ((self.kernel[0], self.stride[0]), (self.kernel[1], self.stride[1]))
