"""The logistic-regression probe: how well a layer's features separate the classes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 4
"""Rows and columns to which a feature map is pooled."""
_WORK = 8e9
"""Products of images, features, classes and iterations that a fit may take: seconds."""
_LEAST, _MOST = 30, 300
"""Limits of the iterations of a fit."""


@dataclass(frozen=True)
class ProbeScore:
    """The result of a probe.

    Attributes:
        accuracy: on the scored images, 0..1; None if the features are not finite.
        converged: whether the fit converged within its iterations.
    """

    accuracy: float | None
    converged: bool


def pooled(maps: Tensor) -> Tensor:
    """Pool feature maps ``[n, c, h, w]`` adaptively to 4x4, float32 ``[n, c * 16]`` on the CPU."""
    return F.adaptive_avg_pool2d(maps.float(), SIDE).flatten(1).cpu()


def score_probe(
    features: Tensor, labels: Tensor, scored: Tensor, scored_labels: Tensor
) -> ProbeScore:
    """Fit multinomial logistic regression to features, and score it on others.

    Features are standardised by the fitted images; the penalty is scikit-learn's default.

    Args:
        features: of the fitted images, float ``[n, f]``.
        labels: their classes, int64 ``[n]``.
        scored: features of other images, ``[m, f]``.
        scored_labels: their classes, ``[m]``.
    """
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - imports slowly
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    if not (features.isfinite().all() and scored.isfinite().all()):
        return ProbeScore(None, converged=True)
    seen = torch.from_numpy(np.unique(labels.numpy()))
    if len(seen) == 1:
        return ProbeScore(float((scored_labels == seen).double().mean()), converged=True)
    features, scored = features.double(), scored.double()
    mean, deviation = features.mean(dim=0), features.std(dim=0, correction=0)
    deviation[deviation == 0] = 1
    features, scored = (features - mean) / deviation, (scored - mean) / deviation
    if features.shape[1] > len(features):
        # The solution lies in the span of the fitted images, and rotations keep the penalty: the
        # coordinates in that span give the same predictions at a fraction of the cost.
        basis = torch.linalg.qr(features.T).Q
        features, scored = features @ basis, scored @ basis
    work = features.numel() * len(seen)
    model = LogisticRegression(max_iter=int(min(_MOST, max(_LEAST, _WORK / work))))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(features.numpy(), labels.numpy())
    converged = not any(issubclass(each.category, ConvergenceWarning) for each in caught)
    return ProbeScore(float(model.score(scored.numpy(), scored_labels.numpy())), converged)
