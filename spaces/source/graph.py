"""Reduces a graph to chains of layers and blocks, as a person structures a network.

A chain is a sequence of items; an item is a layer or a block. A block has one input and one output,
and parallel paths between them: a residual connection, attention, a dense layer. The reduction
merges layers in series and paths in parallel until a single chain is left (series-parallel
reduction); paths that cross become one block with a step for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from spaces.architecture import Architecture
from spaces.operations import (
    Activation,
    Add,
    Concat,
    Dropout,
    Flatten,
    Gate,
    GlobalPooling,
    Linear,
    Norm,
    Operation,
    ParametricRelu,
    Product,
    Scale,
    Shape,
    Shift,
)
from spaces.source.forms import Form, Unflatten, Value, form

JOINS = (Add, Concat, Gate, Product)
"""Operations that combine several tensors."""
_LAYOUT_FREE = (*JOINS, Activation, Norm, Dropout, ParametricRelu, GlobalPooling)
"""Operations that may return vectors."""
_ENTRY = -1


@dataclass(frozen=True, eq=False)
class Leaf:
    """A layer as code.

    Attributes:
        operation: what it computes.
        shape: ``(c, h, w)`` of its output.
        form: its spelling.
        origin: index of the layer in the architecture; None for an inserted change of layout.
    """

    operation: Operation
    shape: Shape
    form: Form
    origin: int | None


@dataclass(eq=False)
class Step:
    """A step of a block: combines tensors, if it has a join, and applies a chain.

    Attributes:
        inputs: numbers of earlier steps; -1 is the block's input.
        join: the layer that combines the inputs; None for a single input.
        chain: items applied to it.
    """

    inputs: tuple[int, ...]
    join: Leaf | None
    chain: list[Item] = field(default_factory=list)


@dataclass(eq=False)
class Block:
    """A part of the graph with one input, one output and several paths.

    Attributes:
        steps: in forward order; the last returns the output.
        entry: ``(c, h, w)`` of its input.
        shape: ``(c, h, w)`` of its output.
    """

    steps: list[Step]
    entry: Shape
    shape: Shape

    @property
    def origin(self) -> int | None:
        """Index of the layer that returns the output; see `Leaf`."""
        last = self.steps[-1]
        if last.chain:
            return last.chain[-1].origin
        return None if last.join is None else last.join.origin

    @property
    def is_residual(self) -> bool:
        """Whether it is a branch (step 0), a shortcut (step 1) and their sum (step 2)."""
        return (
            len(self.steps) == 3
            and self.steps[2].join is not None
            and isinstance(self.steps[2].join.operation, Add)
            and [step.inputs for step in self.steps] == [(_ENTRY,), (_ENTRY,), (0, 1)]
        )


Item: TypeAlias = "Leaf | Block | Use"


@dataclass(eq=False)
class Use:
    """A block or a few layers that became an instance of a class; see `spaces.source.classes`.

    Attributes:
        name: of the class.
        arguments: value of each parameter of the class, by name.
        leaves: its layers, in the order of ``Class.paths``; None where a shortcut is the identity.
        shape: ``(c, h, w)`` of its output.
        origin: index of the layer that returns the output; see `Leaf`.
    """

    name: str
    arguments: dict[str, Value]
    leaves: list[Leaf | None]
    shape: Shape
    origin: int | None


def leaves_of(chain: list[Item]) -> Iterator[Leaf]:
    """Yield the layers of a chain, those within blocks included."""
    for item in chain:
        if isinstance(item, Leaf):
            yield item
        elif isinstance(item, Block):
            for step in item.steps:
                if step.join is not None:
                    yield step.join
                yield from leaves_of(step.chain)
        else:
            yield from (leaf for leaf in item.leaves if leaf is not None)


def chain_of(architecture: Architecture) -> list[Item]:
    """Return a graph as one chain; layers that do not reach the output are left out.

    Raises:
        BadInputError: an operation has no form.
    """
    chain = _reduce(_Flow(architecture))
    _fold_activations(chain)
    return chain


@dataclass(eq=False)
class _Node:
    """A chain behind a join or a single input, during the reduction."""

    inputs: list[int]
    join: Leaf | None
    chain: list[Item]


class _Flow:
    """The graph with explicit changes between maps and vectors, and without needless layers.

    Attributes:
        nodes: of each value, by number; 0 is the image.
        shapes: of each value.
        output: number of the last value.
    """

    def __init__(self, architecture: Architecture) -> None:
        self._architecture = architecture
        self.nodes: dict[int, _Node] = {}
        self.shapes: dict[int, Shape] = {0: architecture.shapes[0]}
        self._live = _live(architecture)
        self._vector = _vectors(architecture, self._live)
        self._changed: dict[int, int] = {}
        self._concatenations: dict[tuple[int, ...], int] = {}
        number = {0: 0}
        for index in self._live[1:]:
            layer = architecture.layers[index]
            inputs = [number[i] for i in layer.inputs]
            number[index] = self._append(index, layer.operation, layer.inputs, inputs)
        last = self._live[-1]
        self.output = number[last]
        if not self._vector[last]:
            self.output = self._change(self.output, to_vector=True)

    def _append(
        self, index: int, operation: Operation, sources: tuple[int, ...], inputs: list[int]
    ) -> int:
        shapes = tuple(self._architecture.shapes[i] for i in sources)
        shape = self._architecture.shapes[index]
        vector = self._vector[index]
        if isinstance(operation, Flatten):
            return inputs[0] if self._vector[sources[0]] else self._change(inputs[0], True)
        pools = isinstance(operation, GlobalPooling)
        wanted = isinstance(operation, Linear) or (vector and not pools)
        inputs = [
            number if self._vector[source] == wanted else self._change(number, wanted)
            for number, source in zip(inputs, sources, strict=True)
        ]
        if isinstance(operation, JOINS) and len(inputs) == 1:
            return inputs[0]  # The sum or concatenation of one tensor.
        if isinstance(operation, JOINS):
            if isinstance(operation, Concat):
                inputs = self._nested(inputs)
            leaf = Leaf(operation, shape, Form((operation.kind,)), index)
            added = self._add(shape, inputs, leaf, [])
            if isinstance(operation, Concat):
                self._concatenations[tuple(inputs)] = added
            return added
        leaf = Leaf(operation, shape, form(operation, shapes, wanted), index)
        added = self._add(shape, inputs, None, [leaf])
        if pools and vector:
            return self._change(added, to_vector=True)
        return added

    def _nested(self, inputs: list[int]) -> list[int]:
        """Return inputs of a concatenation with the first ones replaced by their concatenation.

        In a dense block, each layer then appends to its input.
        """
        while True:
            for count in range(len(inputs) - 1, 1, -1):
                known = self._concatenations.get(tuple(inputs[:count]))
                if known is not None:
                    inputs = [known, *inputs[count:]]
                    break
            else:
                return inputs

    def _add(self, shape: Shape, inputs: list[int], join: Leaf | None, chain: list[Item]) -> int:
        number = len(self.nodes) + 1
        self.nodes[number] = _Node(inputs, join, chain)
        self.shapes[number] = shape
        return number

    def _change(self, number: int, to_vector: bool) -> int:
        """Return a value as a vector, or as a map of one pixel."""
        if number not in self._changed:
            channels, height, width = self.shapes[number]
            operation = Flatten() if to_vector else Unflatten()
            shape = (channels * height * width, 1, 1)
            leaf = Leaf(operation, shape, form(operation, (self.shapes[number],), False), None)
            self._changed[number] = self._add(shape, [number], None, [leaf])
        return self._changed[number]


def _live(architecture: Architecture) -> list[int]:
    """Return the layers that reach the output, and the image."""
    seen = {0}
    remaining = [len(architecture.layers) - 1]
    while remaining:
        index = remaining.pop()
        if index not in seen:
            seen.add(index)
            remaining.extend(architecture.layers[index].inputs)
    return sorted(seen)


def _vectors(architecture: Architecture, live: list[int]) -> dict[int, bool]:
    """Tell which values are vectors ``[n, c]`` in code; the others are maps.

    Linear layers return vectors. A single pixel is a vector where everything before and after it
    allows that.
    """
    layers, shapes = architecture.layers, architecture.shapes
    users: dict[int, list[int]] = {i: [] for i in live}
    for index in live:
        for source in layers[index].inputs:
            users[source].append(index)
    native = {i: isinstance(layers[i].operation, Linear | Flatten) for i in live}
    vector = {i: native[i] or _may_be_vector(layers[i].operation, shapes[i]) for i in live}
    pools = {i for i in live if isinstance(layers[i].operation, GlobalPooling)}
    changed = True
    while changed:
        changed = False
        for index in live:
            if native[index] or not vector[index]:
                continue
            fits = index in pools or all(vector[i] for i in layers[index].inputs)
            if not (fits and all(vector[user] and user not in pools for user in users[index])):
                vector[index], changed = False, True
    return vector


def _may_be_vector(operation: Operation, shape: Shape) -> bool:
    if isinstance(operation, Scale | Shift):
        return shape[1:] == (1, 1) and operation.shape == (1, 1, 1) and not operation.learned
    return shape[1:] == (1, 1) and isinstance(operation, _LAYOUT_FREE)


def _reduce(flow: _Flow) -> list[Item]:
    """Return the chain of a graph."""
    nodes = flow.nodes
    changed = True
    while changed:
        changed = False
        users = _users(nodes)
        for number in list(nodes):
            node = nodes[number]
            if node.join is not None:
                changed |= _merge_parallel(flow, users, number)
            if node.join is None and (source := node.inputs[0]) in nodes:
                before = nodes[source]
                if users[source] == {number}:
                    nodes[number] = _Node(before.inputs, before.join, before.chain + node.chain)
                    del nodes[source]
                    for each in before.inputs:
                        users[each] = {number if user == source else user for user in users[each]}
                    changed = True
    return _joined(flow)


def _users(nodes: dict[int, _Node]) -> dict[int, set[int]]:
    users: dict[int, set[int]] = {number: set() for number in (0, *nodes)}
    for number, node in nodes.items():
        for source in node.inputs:
            users[source].add(number)
    return users


def _merge_parallel(flow: _Flow, users: dict[int, set[int]], number: int) -> bool:
    """Turn a join and its paths into a block if all paths start at one value."""
    nodes = flow.nodes
    node = nodes[number]
    roots: set[int] | None = None
    for source in node.inputs:
        possible = {source}
        if _is_path(nodes, users, source, number):
            possible.add(nodes[source].inputs[0])
        roots = possible if roots is None else roots & possible
    if not roots:
        return False
    root = max(roots)
    steps: list[Step] = []
    known = {root: _ENTRY}
    for source in node.inputs:
        if source not in known:
            known[source] = len(steps)
            steps.append(Step((_ENTRY,), None, nodes[source].chain))
            del nodes[source]
    steps.append(Step(tuple(known[source] for source in node.inputs), node.join))
    block = Block(_ordered(steps), flow.shapes[root], cast("Leaf", node.join).shape)
    nodes[number] = _Node([root], None, [block, *node.chain])
    users[root] = {user for user in users[root] if user in nodes} | {number}
    return True


def _is_path(nodes: dict[int, _Node], users: dict[int, set[int]], source: int, user: int) -> bool:
    return source in nodes and nodes[source].join is None and users[source] == {user}


def _ordered(steps: list[Step]) -> list[Step]:
    """Return the steps of a residual block as branch, shortcut and sum; others unchanged."""
    last = steps[-1]
    if last.join is None or not isinstance(last.join.operation, Add) or len(last.inputs) != 2:
        return steps
    if len(steps) == 2 and set(last.inputs) == {_ENTRY, 0}:
        branch, shortcut = steps[0], Step((_ENTRY,), None)
    elif len(steps) == 3:
        shortcut, branch = sorted(steps[:2], key=lambda step: len(step.chain))
        if sum(bool(leaf.form.states) for leaf in leaves_of(shortcut.chain)) > 2:
            return steps
    else:
        return steps
    last.inputs = (0, 1)
    return [branch, shortcut, last]


def _joined(flow: _Flow) -> list[Item]:
    """Return the chain of a reduced graph, with one block for each part of crossing paths."""
    nodes = flow.nodes
    last_use = {source: n for n in sorted(nodes) for source in nodes[n].inputs}
    chain: list[Item] = []
    entry = 0
    part: list[int] = []
    for number in sorted(nodes):
        part.append(number)
        if any(last_use[each] > number for each in [entry, *part[:-1]]):
            continue
        if len(part) == 1 and nodes[number].join is None:
            chain.extend(nodes[number].chain)
        else:
            chain.extend(_crossing(flow, entry, part))
        entry, part = number, []
    return chain


def _crossing(flow: _Flow, entry: int, part: list[int]) -> list[Item]:
    """Return paths that cross as a block, and what follows them."""
    nodes = flow.nodes
    place = {entry: _ENTRY} | {number: step for step, number in enumerate(part)}
    steps = [
        Step(tuple(place[i] for i in nodes[n].inputs), nodes[n].join, list(nodes[n].chain))
        for n in part
    ]
    tail = steps[-1].chain
    steps[-1].chain = []
    join = steps[-1].join
    shape = flow.shapes[part[-1]] if join is None else join.shape
    return [Block(steps, flow.shapes[entry], shape), *tail]


def _fold_activations(chain: list[Item]) -> None:
    """Move an activation behind a sum into the block that ends in the sum."""
    number = 0
    while number < len(chain):
        item = chain[number]
        if isinstance(item, Block):
            for step in item.steps:
                _fold_activations(step.chain)
            after = chain[number + 1] if number + 1 < len(chain) else None
            join = item.steps[-1].join
            if (
                join is not None
                and isinstance(join.operation, Add)
                and isinstance(after, Leaf)
                and isinstance(after.operation, Activation)
            ):
                item.steps[-1].chain.append(after)
                item.shape = after.shape
                del chain[number + 1]
        number += 1
