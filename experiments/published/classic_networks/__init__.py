"""Seven classic networks on CIFAR-10, and the choices of activation, norm and augmentation."""

from __future__ import annotations

from experiments.published.classic_networks.experiment import EXPERIMENT

__all__ = ["EXPERIMENT"]
