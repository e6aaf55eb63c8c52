"""The border layer on the main path of a network, and networks cut there."""

from __future__ import annotations

from spaces.architecture import Architecture, Layer
from spaces.border import find_border
from spaces.operations import CONVOLUTIONS, Add, GlobalPooling
from spaces.receptive_field import gate_branches, receptive_fields

SHORTCUT = ".shortcut"


def main_path(architecture: Architecture) -> list[int]:
    """Return the convolutions without those of shortcuts and attention, in forward order."""
    aside = gate_branches(architecture)
    return [
        index
        for index in architecture.indices(*CONVOLUTIONS)
        if index not in aside and not architecture.layers[index].name.endswith(SHORTCUT)
    ]


def border_on_main_path(architecture: Architecture) -> int | None:
    """Return the 1-based number of the border layer on the main path; None without one.

    In plain networks this is the border layer of `spaces.border`. In residual networks it is the
    line in the figures of Richter et al.: the first layer from which the smallest receptive fields
    of all later layers exceed the image. The border layer of `spaces.border` is stricter there: it
    also counts paths through later shortcuts.
    """
    path = main_path(architecture)
    if not architecture.indices(Add):
        analysis = find_border(architecture)
        if analysis.border is None:
            return None
        return path.index(analysis.convolutions[analysis.border - 1]) + 1
    fields = receptive_fields(architecture)
    _, height, width = architecture.shapes[0]
    border = None
    for number in range(len(path), 0, -1):
        rows, columns = fields[path[number - 1]].smallest
        if rows <= height or columns <= width:
            break
        border = number
    return border


def truncate_residual(
    architecture: Architecture, *, keep_border: bool = False
) -> Architecture | None:
    """Drop the residual blocks beyond the border on the main path.

    Args:
        architecture: a network of the family ``resnet``, with a linear head.
        keep_border: keep the block that contains the border layer.

    Returns:
        The shorter network; None without a border, or with nothing to drop.
    """
    border = border_on_main_path(architecture)
    if border is None:
        return None
    names = [layer.name for layer in architecture.layers]
    block = names[main_path(architecture)[border - 1]].rpartition(".")[0]
    # The activation after the sum ends a block.
    last = names.index(f"{block}.add") + 1 if keep_border else names.index(f"{block}.conv1") - 1
    pool = max(architecture.indices(GlobalPooling))
    if last + 1 >= pool:
        return None
    removed = pool - (last + 1)
    head = [
        Layer(operation, tuple(index - removed for index in inputs), name)
        for operation, inputs, name, *_ in architecture.layers[pool:]
    ]
    return Architecture((*architecture.layers[: last + 1], *head))
