"""Plans the steps of an epoch on the CPU before the epoch starts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.training.augmentation import Variation


@dataclass(frozen=True)
class EpochPlan:
    """The plan of an epoch, or of one step without the first dimension.

    Attributes:
        rows: indices of the images of each step in the data set, int64 ``[steps, batch]``.
        rate: learning rate, float32 ``[steps]``.
        ema_weight: weight of the new values in the moving average, float32 ``[steps]``; None
            without a moving average.
        lookahead: 1 for each step after which lookahead synchronises, else 0, float32 ``[steps]``;
            None without lookahead.
        variation: augmentation of each image.
    """

    rows: Tensor
    rate: Tensor
    ema_weight: Tensor | None
    lookahead: Tensor | None
    variation: Variation

    def tensors(self) -> list[Tensor]:
        """Return the tensors that are present, always in the same order."""
        optional = [t for t in (self.ema_weight, self.lookahead) if t is not None]
        return [self.rows, self.rate, *optional, *self.variation.tensors()]

    def with_tensors(self, tensors: Iterable[Tensor]) -> EpochPlan:
        """Return a plan of the same structure with other tensors, in the order of `tensors`."""
        given = iter(tensors)
        return EpochPlan(
            next(given),
            next(given),
            None if self.ema_weight is None else next(given),
            None if self.lookahead is None else next(given),
            self.variation.map(lambda _: next(given)),
        )


class DevicePlan:
    """The plan of the current epoch in fixed memory on the device.

    All tensors of a dtype are packed into one, so a single kernel selects those of a step.

    Args:
        plan: plan of the first epoch of this process; later plans have the same shapes.
        steps: largest number of steps of an epoch. A resumed training may begin with fewer.
        device: device of the steps.
    """

    def __init__(self, plan: EpochPlan, steps: int, device: torch.device) -> None:
        # Copies: views would hold the whole first plan in memory.
        self._structure = plan.with_tensors(tensor[0].clone() for tensor in plan.tensors())
        self._packed = {
            kind: torch.empty((steps, tensor.shape[1]), dtype=kind, device=device)
            for kind, tensor in _pack(plan).items()
        }
        self.load(plan)

    def load(self, plan: EpochPlan) -> None:
        """Copy the plan of another epoch into the same memory, which captured steps read."""
        for kind, tensor in _pack(plan).items():
            self._packed[kind][: len(tensor)].copy_(tensor)

    def at(self, step: Tensor) -> EpochPlan:
        """Return the plan of one step.

        Args:
            step: index of the step, int64 ``[1]`` on the device; the host does not wait for it.
        """
        shapes = self._structure.tensors()
        parts = {}
        for kind, packed in self._packed.items():
            sizes = [shape.numel() for shape in shapes if shape.dtype == kind]
            picked = packed.index_select(0, step).squeeze(0)
            parts[kind] = iter(torch.split(picked, sizes))
        return self._structure.with_tensors(
            next(parts[shape.dtype]).view(shape.shape) for shape in shapes
        )


def _pack(plan: EpochPlan) -> dict[torch.dtype, Tensor]:
    """Return one tensor ``[steps, values]`` per dtype."""
    tensors = plan.tensors()
    return {
        kind: torch.cat([t.reshape(len(t), -1) for t in tensors if t.dtype == kind], dim=1)
        for kind in dict.fromkeys(tensor.dtype for tensor in tensors)
    }
