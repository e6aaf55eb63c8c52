"""Finds in-place operations that change more than the tensor they are called on.

The recorded operations read as if nothing shared memory: ``y = x[:, :1]; y += 1`` leaves x
unchanged in them.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch.fx import Node


def changes_aliases(nodes: Sequence[Node]) -> bool:
    """Tell whether there are in-place operations whose effect the recorded operations do not show.

    Args:
        nodes: all operations, in order.
    """
    position = {node: number for number, node in enumerate(nodes)}
    roots: dict[Node, Node] = {}
    families: dict[Node, list[Node]] = {}
    for node in nodes:
        target = _shared(node)
        roots[node] = root = node if target is None else roots[target]
        families.setdefault(root, []).append(node)
    for node in nodes:
        if not _writes(node):
            continue
        for alias in families[roots[node]]:
            if position[alias] >= position[node]:
                break
            if any(position[user] > position[node] for user in alias.users):
                return True
    return False


def _shared(node: Node) -> Node | None:
    """Return the operation whose memory holds the result of another operation."""
    if node.op != "call_function" or not node.args or not isinstance(node.args[0], Node):
        return None
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return node.args[0]  # The item of a list.
    return node.args[0] if schema.arguments[0].alias_info is not None else None


def _writes(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.arguments:
        return False
    alias = schema.arguments[0].alias_info
    return alias is not None and alias.is_write
