"""Muon: momentum SGD whose updates of kernels are orthogonalised (Jordan et al. 2024).

Source: https://kellerjordan.github.io/posts/muon/. The update of a kernel, taken as a matrix
``[out, in * height * width]``, is replaced by a nearby matrix whose singular values are close to 1,
so every direction of the kernel learns equally fast.

- Learning rate: an update is multiplied by ``sqrt(max(1, rows / columns))``. The same peak suits
  Muon and the SGD that trains all other parameters.
- Weight decay of kernels is decoupled from the gradient: each step multiplies a kernel by
  ``1 - rate * weight_decay``.
- The last layer with a kernel, the classifier, is trained by SGD with Nesterov momentum, like
  biases and norms.
"""

from __future__ import annotations

import inspect
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic polynomial: steep at 0, and within about 0.7 to 1.2 after five iterations."""
ITERATIONS = 5
_WIDE = 2
"""Ratio of columns to rows from which iterating on squares is faster."""
_TINY = 1e-7
"""Added to norms, so that the update of a kernel without a gradient is 0."""


def kernel_layers(network: nn.Module) -> list[nn.Conv2d | nn.ConvTranspose2d | nn.Linear]:
    """Return the layers whose weight is a kernel or a matrix: convolutions and linear layers."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    return [module for module in network.modules() if isinstance(module, kinds)]


def hidden_kernels(network: nn.Module) -> list[Tensor]:
    """Return the kernels that Muon trains: all but that of the last layer, the classifier.

    Frozen kernels are left out.
    """
    return [layer.weight for layer in kernel_layers(network)[:-1] if layer.weight.requires_grad]


def orthogonalise(matrices: Tensor) -> Tensor:
    """Return matrices with the same singular vectors and singular values close to 1.

    A Newton-Schulz iteration: matrix products only. Singular values far below the largest one may
    stay smaller.

    Args:
        matrices: ``[count, rows, columns]``, of any scale.
    """
    transposed = matrices.shape[1] > matrices.shape[2]
    wide = matrices.mT if transposed else matrices
    # Squares of singular values need the precision of float32.
    is_wide = wide.shape[2] >= _WIDE * wide.shape[1] and wide.dtype == torch.float32
    found = _iterate_square(wide) if is_wide else _iterate(wide)
    return found.mT if transposed else found


def _iterate(wide: Tensor) -> Tensor:
    first, third, fifth = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = torch.bmm(wide, wide.mT)
        polynomial = torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth)
        wide = torch.baddbmm(wide, polynomial, wide, beta=first)
    return wide


def _iterate_square(wide: Tensor) -> Tensor:
    """Iterate on the square matrices ``wide @ wide.T`` instead, which are smaller.

    Each iteration multiplies ``wide`` from the left by a polynomial P of its square, which becomes
    P @ square @ P. The product of all P is applied once, at the end: kernels of 3x3 convolutions
    need a third of the time.
    """
    first, third, fifth = COEFFICIENTS
    gram = torch.bmm(wide, wide.mT)
    product = None
    for iteration in range(ITERATIONS):
        polynomial = torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth)
        polynomial.diagonal(dim1=1, dim2=2).add_(first)
        product = polynomial if product is None else torch.bmm(polynomial, product)
        if iteration + 1 < ITERATIONS:
            gram = torch.bmm(torch.bmm(polynomial, gram), polynomial)
    assert product is not None  # noqa: S101 - there are iterations
    return torch.bmm(product, wide)


def muon_updates(directions: Sequence[Tensor], kind: torch.dtype = torch.float32) -> list[Tensor]:
    """Return the orthogonalised and scaled updates of kernels.

    Kernels whose matrices have the same shape are iterated together.

    Args:
        directions: gradients with momentum, each ``[out, ..]``.
        kind: number format of the iteration.
    """
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, direction in enumerate(directions):
        rows = len(direction)
        groups[rows, direction.numel() // rows].append(index)
    updates = list(directions)
    for (rows, columns), indices in groups.items():
        matrices = torch.stack([directions[index].reshape(rows, columns) for index in indices])
        norms = torch.linalg.vector_norm(matrices, dim=(1, 2), keepdim=True)
        found = orthogonalise((matrices / (norms + _TINY)).to(kind)).to(matrices.dtype)
        found *= math.sqrt(max(1.0, rows / columns))
        for index, update in zip(indices, found, strict=True):
            updates[index] = update.reshape(directions[index].shape)
    return updates


class Muon(torch.optim.SGD):
    """Muon for the groups with ``muon``, SGD for the others.

    Groups have ``lr`` as a tensor on their device, ``muon`` (whether Muon trains its kernels) and
    ``bfloat16`` (whether the iteration runs in it). A step clears the gradients of the kernels that
    Muon trains, and never waits for the device.
    """

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            if group["muon"]:
                self._update(group)
        inspect.unwrap(torch.optim.SGD.step)(self)

    def _update(self, group: dict[str, Any]) -> None:
        trained = [(kernel, kernel.grad) for kernel in group["params"] if kernel.grad is not None]
        kernels = [kernel for kernel, _ in trained]
        directions = [gradient for _, gradient in trained]
        momentum, rate = group["momentum"], group["lr"]
        if momentum > 0:
            for kernel in kernels:
                if "momentum_buffer" not in self.state[kernel]:
                    self.state[kernel]["momentum_buffer"] = torch.zeros_like(kernel)
            averages = [self.state[kernel]["momentum_buffer"] for kernel in kernels]
            torch._foreach_lerp_(averages, directions, 1 - momentum)
            directions = list(torch._foreach_lerp(directions, averages, momentum))
        kind = torch.bfloat16 if group["bfloat16"] else torch.float32
        updates = muon_updates(directions, kind)
        torch._foreach_mul_(updates, -rate)
        if group["weight_decay"] > 0:
            torch._foreach_mul_(kernels, 1 - rate * group["weight_decay"])
        torch._foreach_add_(kernels, updates)
        for kernel in kernels:
            kernel.grad = None  # SGD skips parameters without a gradient.
