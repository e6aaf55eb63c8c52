"""The published numbers of the comparison of classic networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A row of the published table, with random erasing.

    Attributes:
        builder: name in `spaces.named.NAMED`.
        params: million parameters.
        train: accuracy on training images in percent.
        valid: accuracy on validation images in percent.
    """

    builder: str
    params: float
    train: float
    valid: float


BASE = "resnet18"
"""Network of which activation, norm, augmentation and schedule vary."""
NETWORKS: Mapping[str, Published] = {
    "resnet18": Published("resnet18c", 11.17, 98.957, 96.015),
    "vgg16": Published("vgg16", 14.72, 98.661, 95.214),
    "densenet121": Published("densenet121c", 6.95, 99.257, 96.301),
    "resnext18": Published("resnext18", 10.02, 99.025, 95.827),
    "convmixer256d16": Published("convmixer256d16", 1.28, 98.649, 93.701),
    "resnet34": Published("resnet34c", 21.28, 98.454, 95.659),
    "wide resnet14": Published("wide_resnet14", 21.06, 99.365, 96.539),
}
ACTIVATIONS: Mapping[str, float] = {
    "relu": 96.193,
    "leaky_relu": 95.372,
    "celu": 91.475,
    "gelu": 94.709,
}
"""Validation accuracy of resnet18 in percent, without erasing."""
NORMS: Mapping[str, float] = {
    "batch": 96.193,
    "instance": 95.085,
    "layer": 95.115,
    "group": 95.045,
}
"""The same by norm."""
AUGMENTATIONS: Mapping[str, float] = {
    "none": 96.193,
    "erasing": 96.015,
    "mixup 0.2": 95.926,
    "mixup 0.3": 95.767,
    "mixup 0.4": 96.005,
}
"""The same by augmentation."""
WITHOUT_ERASING: Mapping[str, float] = {
    "resnet18": 96.193,
    "vgg16": 94.165,
    "convmixer256d16": 92.692,
}
"""Validation accuracy without erasing in percent; `NETWORKS` has the one with erasing."""
