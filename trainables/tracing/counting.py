"""Counts and decomposes single operations with torch's own tools, on shapes only."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._decomp import core_aten_decompositions
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree
from torch.utils.flop_counter import FlopCounterMode

_FREE = frozenset(
    (
        *(
            "add",
            "sub",
            "mul",
            "div",
            "view",
            "reshape",
            "permute",
            "transpose",
            "expand",
            "getitem",
        ),
        *(
            "slice",
            "select",
            "cat",
            "stack",
            "squeeze",
            "unsqueeze",
            "softmax",
            "mean",
            "sum",
            "exp",
        ),
        *(
            "arange",
            "zeros",
            "ones",
            "full",
            "batch_norm",
            "layer_norm",
            "group_norm",
            "contiguous",
        ),
        *("flatten", "clone", "detach", "to", "unbind", "split", "chunk", "index", "pow", "rsqrt"),
    )
)
"""Frequent operations without multiply-accumulates; skipped for speed."""


RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
"""Operations that are unrolled into thousands of others when they are decomposed."""


def count_macs(node: Node) -> int:
    """Return the multiply-accumulates of an operation, half of torch's FLOPs, 0 if it has none."""
    name = getattr(getattr(node.target, "_schema", None), "name", "getitem").partition("::")[2]
    if name.removesuffix("_") in _FREE or not callable(node.target):
        return 0
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        try:
            _call(node)(*_on_meta(tensor_inputs(node)))
        except (NotImplementedError, RuntimeError):
            return 0
    return int(counter.get_total_flops()) // 2


def decompose(node: Node) -> GraphModule | None:
    """Return an operation as a graph of simpler ones that takes `tensor_inputs`; None for none."""
    if getattr(getattr(node.target, "_schema", None), "name", "").partition("::")[2] in RECURRENT:
        return None
    known = _decompositions()
    table: dict[Any, Any] = {node.target: known[node.target]} if node.target in known else {}
    try:
        with torch.no_grad():
            block = make_fx(_call(node), decomposition_table=table)(*_on_meta(tensor_inputs(node)))
    except Exception:  # Any operation of a user may fail on shapes alone.
        return None
    calls = [inner for inner in block.graph.nodes if inner.op == "call_function"]
    if not calls or any(inner.target is node.target for inner in calls):
        return None
    return block


@cache
def _decompositions() -> dict[Any, Any]:
    """Return torch's table, which takes 50 ms to build."""
    return dict(core_aten_decompositions())


def tensor_inputs(node: Node) -> list[Node]:
    """Return the inputs of an operation that are tensors, in the order of its arguments."""
    leaves = _pytree.tree_leaves((node.args, node.kwargs))
    return [leaf for leaf in leaves if isinstance(leaf, Node)]


def _call(node: Node) -> Callable[..., Any]:
    """Return an operation as a function of its tensors alone."""
    leaves, spec = _pytree.tree_flatten((node.args, node.kwargs))

    def call(*tensors: Tensor) -> Any:
        given = iter(tensors)
        filled = [next(given) if isinstance(leaf, Node) else leaf for leaf in leaves]
        args, kwargs = _pytree.tree_unflatten(filled, spec)
        assert callable(node.target)  # noqa: S101 - called for functions only
        return node.target(*args, **kwargs)

    return call


def _on_meta(nodes: list[Node]) -> list[Any]:
    return [_as_meta(node.meta.get("val")) for node in nodes]


def _as_meta(value: Any) -> Any:
    if isinstance(value, Tensor):
        with torch._C._DisableTorchDispatch():
            return torch.empty_strided(
                tuple(value.shape), value.stride(), dtype=value.dtype, device="meta"
            )
    if isinstance(value, (list, tuple)):
        return [_as_meta(item) for item in value]
    return value
