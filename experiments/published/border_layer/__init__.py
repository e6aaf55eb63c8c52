"""Do layers beyond the border help? Truncation, probes, attention and pooling.

Richter et al. 2021, "Should You Go Deeper?", arXiv 2106.12307.
"""

from __future__ import annotations

from experiments.published.border_layer.experiment import EXPERIMENT

__all__ = ["EXPERIMENT"]
