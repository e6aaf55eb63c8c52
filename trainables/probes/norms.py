"""Disabled features: batch norms whose scale is close to zero."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainables.probes.records import DISABLED_BELOW, NormShare


def count_disabled(network: nn.Module) -> tuple[NormShare, ...]:
    """Count the disabled features of each batch norm (Frankle et al. 2020, arXiv 2003.00152).

    Batch norms without a scale are left out.
    """
    return tuple(
        NormShare(name, len(part.weight), int((part.weight.detach().abs() < DISABLED_BELOW).sum()))
        for name, part in network.named_modules()
        if isinstance(part, _BatchNorm) and part.affine
    )
