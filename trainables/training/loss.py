"""The loss of a step: cross-entropy with mixed labels, smoothing and weights of classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def mixed_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    mixup_lambda: Tensor | None,
    smoothing: float,
    weights: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropy with and without weights of classes.

    For mixed images both labels count, weighted by their part of the image.

    Args:
        logits: of the images, ``[n, classes]``.
        labels: true class of each image, int64 ``[n]``.
        mixup_lambda: weight of each image; the rest is that of the previous image, whose label
            counts as well. None without mixup.
        smoothing: probability mass spread over all classes.
        weights: of the classes, ``[classes]``; None for equal ones.
    """
    if mixup_lambda is None and weights is None:
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        return loss, loss
    targets = [labels] if mixup_lambda is None else [labels, labels.roll(1)]
    losses = [
        F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="none")
        for target in targets
    ]
    unweighted = _mean(losses, mixup_lambda)
    if weights is None:
        return unweighted, unweighted
    weighted = [
        loss * weights.index_select(0, target) for loss, target in zip(losses, targets, strict=True)
    ]
    return _mean(weighted, mixup_lambda), unweighted


def _mean(losses: Sequence[Tensor], mixup_lambda: Tensor | None) -> Tensor:
    """Return the mean of losses for the own labels, mixed with those for other labels if any."""
    if mixup_lambda is None:
        return losses[0].mean()
    own, other = losses
    return torch.lerp(other, own, mixup_lambda).mean()
