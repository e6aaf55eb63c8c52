"""The readable source of a network, and the trained weights under its names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from spaces.architecture import Architecture
from spaces.source.module import module_source, state_dict_names

__all__ = ["exported_state", "module_source", "state_dict_names"]


def exported_state(architecture: Architecture, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a trained state under the names of the generated module.

    Args:
        architecture: the graph.
        state: of its `trainables.builder.Network`.

    Returns:
        The ``state_dict`` of the module that `spaces.source.module.module_source` writes. Tensors
        of layers that do not reach the output are left out.
    """
    return {new: state[old] for old, new in state_dict_names(architecture).items()}
