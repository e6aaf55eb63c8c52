"""Shifts a constant total of features to early or late layers of VGGs.

Mundt, Majumder, Weis & Ramesh 2018, "Rethinking Layer-wise Feature Amounts in Convolutional Neural
Network Architectures", arXiv 1812.05836.
"""

from __future__ import annotations

from experiments.published.layerwise_features.experiment import EXPERIMENT

__all__ = ["EXPERIMENT"]
