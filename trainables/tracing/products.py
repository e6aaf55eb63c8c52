"""Rules for products of matrices, attention included."""

from __future__ import annotations

from string import ascii_letters

from trainables.tracing.calls import Call, Constant, Value
from trainables.tracing.graph import Graph
from trainables.tracing.handlers import rule
from trainables.tracing.layout import Map, UnsupportedError
from trainables.tracing.reach import contraction


@rule("matmul", "bmm", "mm")
def _matmul(graph: Graph, call: Call) -> Value:
    one = call.taken
    other = call["other"] if "other" in call.arguments else call["mat2"]
    ranks = [_rank(one), _rank(other)]
    if min(ranks) < 2:
        raise UnsupportedError("takes vectors")
    batch = ascii_letters[26 : 26 + max(ranks) - 2]
    letters = [f"{batch[len(batch) - rank + 2 :]}" for rank in ranks]
    operands = [(one, f"{letters[0]}ij"), (other, f"{letters[1]}jk")]
    return contraction(graph, call, operands, f"{batch}ik")


def _rank(value: object) -> int:
    if isinstance(value, Map):
        return len(value.dims)
    if isinstance(value, Constant):
        return len(value.shape)
    raise UnsupportedError("takes no tensors")


@rule("baddbmm")
def _shifted_product(graph: Graph, call: Call) -> Value:
    shift = call.taken
    if isinstance(shift, Map):
        raise UnsupportedError("adds to a product of matrices")
    operands = [(call["batch1"], "bij"), (call["batch2"], "bjk")]
    return contraction(graph, call, operands, "bik", weights=(shift,))


@rule("einsum")
def _einsum(graph: Graph, call: Call) -> Value:
    equation = call["equation"].replace(" ", "")
    taken, arrow, result = equation.partition("->")
    letters = taken.split(",")
    if not arrow or "." in equation or any(len(set(each)) < len(each) for each in letters):
        raise UnsupportedError("has an equation without a rule")
    return contraction(graph, call, list(zip(call["tensors"], letters, strict=True)), result)


@rule("scaled_dot_product_attention")
def _attention(graph: Graph, call: Call) -> Value:
    query, key, value, mask = (call[name] for name in ("query", "key", "value", "attn_mask"))
    if isinstance(mask, Map):
        raise UnsupportedError("has a mask that depends on the image")
    ranks = {_rank(x) for x in (query, key, value)}
    if len(ranks) > 1:
        raise UnsupportedError("broadcasts")
    batch = ascii_letters[26 : 26 + ranks.pop() - 2]
    operands = [(query, f"{batch}nd"), (key, f"{batch}md"), (value, f"{batch}me")]
    return contraction(graph, call, operands, f"{batch}ne", weights=(mask,))
