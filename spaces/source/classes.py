"""Turns blocks of one form into one class with parameters, and writes its code."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

from spaces.operations import (
    Add,
    ChannelPooling,
    Concat,
    Convolution,
    Gate,
    GlobalPooling,
    Linear,
    Norm,
    Pooling,
)
from spaces.source.forms import Value, atom, literal
from spaces.source.graph import Block, Item, Leaf, Step, Use, leaves_of
from spaces.source.layout import INDENT, WIDTH, Entry, listed, sequence, statement
from spaces.source.parameters import Parameter, Parameters, UnclearError, seeds

_MOST_INLINED = 4
"""Layers without weights in a block that is written as one expression."""


@dataclass(frozen=True)
class Class:
    """A generated class.

    Attributes:
        name: in the code.
        parameters: of its constructor.
        paths: attribute of each layer, such as ``branch.0``; empty for a layer without a module.
        lines: its code.
    """

    name: str
    parameters: tuple[Parameter, ...]
    paths: tuple[str, ...]
    lines: tuple[str, ...]

    def call(self, expressions: Sequence[str]) -> str:
        """Return the code of an instance."""
        passed = [
            given
            for parameter, expression in zip(self.parameters, expressions, strict=True)
            if (given := parameter.passed(expression)) is not None
        ]
        return f"{self.name}({', '.join(passed)})"


# Blocks of one form


def key_of(item: Item) -> tuple[object, ...]:
    """Return what items of one form have in common; see `shortcut_key` for shortcuts."""
    if isinstance(item, Leaf):
        return item.form.token
    if isinstance(item, Use):
        return ("use", item.name)
    if item.is_residual:
        branch, _, last = item.steps
        return ("residual", *map(key_of, branch.chain), "then", *map(key_of, last.chain))
    return (
        "block",
        *(
            (step.inputs, step.join and step.join.form.token, *map(key_of, step.chain))
            for step in item.steps
        ),
    )


def _shortcut_key(block: Block) -> tuple[object, ...]:
    return tuple(map(key_of, block.steps[1].chain)) if block.is_residual else ()


def is_inline(block: Block) -> bool:
    """Tell whether a block is written as one expression: few layers, none with a module."""
    leaves = list(leaves_of([block]))
    items = [item for step in block.steps for item in step.chain]
    return (
        len(leaves) <= _MOST_INLINED
        and all(isinstance(item, Leaf) for item in items)
        and all(
            leaf.form.function is not None and leaf.form.tensor is None
            for leaf in leaves
            if leaf.form.states or leaf.form.module or leaf.form.function
        )
    )


def _atoms(block: Block, template: Block) -> Iterator[Leaf | Use | None]:
    """Yield the layers and uses of a block; None for each that only the template has."""
    for step, model in zip(block.steps, template.steps, strict=True):
        if model.chain and not step.chain:
            for item in model.chain:
                yield from [None] * sum(1 for _ in _atoms_of(item, item))
            continue
        for item, known in zip(step.chain, model.chain, strict=True):
            yield from _atoms_of(item, known)


def _atoms_of(item: Item, template: Item) -> Iterator[Leaf | Use | None]:
    if isinstance(item, Block):
        yield from _atoms(item, cast("Block", template))
    else:
        yield item


class Classes:
    """The classes of a module, in the order in which they must be defined."""

    def __init__(self) -> None:
        self.known: dict[str, Class] = {}

    def replace_blocks(self, chain: list[Item]) -> None:
        """Replace every block that is not inline by a use of a class, the innermost first."""
        while places := list(_innermost(chain)):
            groups: dict[tuple[object, ...], list[tuple[list[Item], Block]]] = {}
            for owner, block in places:
                groups.setdefault(key_of(block), []).append((owner, block))
            for group in groups.values():
                uses = self.define([block for _, block in group])
                for (owner, block), use in zip(group, uses, strict=True):
                    owner[owner.index(block)] = use

    def define(self, blocks: list[Block], name: str = "") -> list[Use]:
        """Return uses of one class for blocks of one form; of several if their shortcuts differ."""
        kinds = list(dict.fromkeys(key for block in blocks if (key := _shortcut_key(block))))
        parts = [[b for b in blocks if _shortcut_key(b) == kind] for kind in kinds]
        plain = [b for b in blocks if not _shortcut_key(b)]
        if len(parts) == 1 and plain:
            try:
                return self._define(blocks, parts[0][0], name)
            except UnclearError:
                pass
        if plain:
            parts.insert(0, plain)
        used: dict[int, Use] = {}
        for part in parts:
            for block, use in zip(part, self._define(part, part[0], name), strict=True):
                used[id(block)] = use
        return [used[id(block)] for block in blocks]

    def _define(self, blocks: list[Block], template: Block, name: str) -> list[Use]:
        rows = [list(_atoms(block, template)) for block in blocks]
        model = cast("list[Leaf | Use]", list(_atoms(template, template)))
        found = Parameters(_seeds(blocks, template), _new_name(template))
        expressions: dict[int, list[str]] = {}
        for number, atom_ in enumerate(model):
            columns = [_slots(row[number], self.known) for row in rows]
            expressions[id(atom_)] = [
                found.resolve(
                    kind, [None if column is None else column[slot][1] for column in columns], hint
                )
                for slot, (kind, _, hint) in enumerate(_slots(atom_, self.known) or [])
            ]
        condition = _condition(blocks, template, found)
        shown = self._free(name or _name(template))
        local = _name_repeated(expressions, {each.name for each in found.used()})
        writer = Writer(self.known, expressions, local=local)
        lines = writer.write_class(shown, template, found.used(), condition)
        self.known[shown] = Class(shown, tuple(found.used()), tuple(writer.paths_of(model)), lines)
        return [
            Use(
                shown,
                {each.name: each.values[number] for each in found.used()},
                [
                    leaf
                    for atom_, known in zip(row, model, strict=True)
                    for leaf in _all(atom_, known)
                ],
                block.shape,
                block.origin,
            )
            for number, (block, row) in enumerate(zip(blocks, rows, strict=True))
        ]

    def _free(self, name: str) -> str:
        number, free = 1, name
        while free in self.known:
            number += 1
            free = f"{name}{number}"
        return free


def _name_repeated(expressions: dict[int, list[str]], taken: set[str]) -> str:
    """Name the first expression that recurs; return the assignment, empty if none does."""
    name = next(each for each in ("hidden", "squeezed", "width", "inner") if each not in taken)
    counts = Counter(text for each in expressions.values() for text in each if " " in text)
    for text, count in counts.items():
        if count > 1:
            for each in expressions.values():
                each[:] = [name if known == text else known for known in each]
            return f"{name} = {text}"
    return ""


def _all(item: Leaf | Use | None, template: Leaf | Use | None) -> list[Leaf | None]:
    if isinstance(item, Use):
        return item.leaves
    if item is None and isinstance(template, Use):
        return [None] * len(template.leaves)
    return [item]


def _innermost(chain: list[Item]) -> Iterator[tuple[list[Item], Block]]:
    """Yield blocks that hold no other block, except for inline ones, with the chain they lie in."""
    for item in chain:
        if isinstance(item, Block) and not is_inline(item):
            below = [found for step in item.steps for found in _innermost(step.chain)]
            yield from below or [(chain, item)]


def _slots(item: Leaf | Use | None, known: dict[str, Class]) -> list[tuple[str, Value, str]] | None:
    """Return kind, value and name of what an item's code leaves open; None for no item."""
    if item is None:
        return None
    if isinstance(item, Leaf):
        return [(kind, value, "") for kind, value in item.form.slots]
    return [
        (each.kind, item.arguments[each.name], each.name) for each in known[item.name].parameters
    ]


def _seeds(blocks: list[Block], template: Block) -> list[Parameter]:
    growth = None
    if _name(template) == "SpatialAttention":
        return []  # Its channels are those of the mean, the maximum and the gate.
    if _is_dense(template):
        growth = [
            leaves[-1].shape[0] for b in blocks if (leaves := list(leaves_of(b.steps[0].chain)))
        ]
    return seeds([b.entry[0] for b in blocks], [b.shape[0] for b in blocks], growth)


def _condition(blocks: list[Block], template: Block, found: Parameters) -> str:
    """Return when a residual block has a shortcut with layers; empty if all or none have.

    Raises:
        UnclearError: the parameters do not tell.
    """
    has = [bool(_shortcut_key(block)) for block in blocks]
    if len(set(has)) < 2:
        return ""
    terms = [
        (f"{each.name} != 1", [value != 1 for value in each.values])
        for each in found.used()
        if each.kind == "stride"
    ]
    if {"in_channels", "out_channels"} <= {each.name for each in found.used()}:
        widens = [block.entry[0] != block.shape[0] for block in blocks]
        terms.append(("in_channels != out_channels", widens))
    for chosen in (terms, terms[-1:], terms[:1]):
        if (
            chosen
            and [any(told) for told in zip(*(told for _, told in chosen), strict=True)] == has
        ):
            return " or ".join(text for text, _ in chosen)
    raise UnclearError


# Names and descriptions


def _is_dense(block: Block) -> bool:
    last = block.steps[-1]
    return (
        len(block.steps) == 2
        and last.join is not None
        and isinstance(last.join.operation, Concat)
        and last.inputs == (-1, 0)
        and not last.chain
    )


def _convolutions(chain: list[Item]) -> list[Convolution]:
    return [
        item.operation
        for item in chain
        if isinstance(item, Leaf) and isinstance(item.operation, Convolution)
    ]


def _pattern(chain: list[Item]) -> str:
    """Return one letter for each convolution: p 1x1, d depthwise, c other."""
    return "".join(
        "p" if op.kernel == (1, 1) else "d" if op.groups == op.features > 1 else "c"
        for op in _convolutions(chain)
    )


_RESIDUAL = {
    "cc": ("BasicBlock", "Two convolutions and a shortcut."),
    "pcp": ("Bottleneck", "A convolution between two 1x1 convolutions, and a shortcut."),
    "pdp": ("InvertedResidual", "Widens the input, convolves each channel, narrows it again."),
    "dpp": ("ConvNeXtBlock", "A depthwise convolution, two 1x1 convolutions and a shortcut."),
    "d": ("DepthwiseResidual", "A depthwise convolution with a skip connection."),
}


def _described(block: Block) -> tuple[str, str]:
    """Return the name and the docstring of a block's class."""
    last = block.steps[-1]
    if last.join is None:
        return _described_unit(block.steps[0].chain)
    if block.is_residual:
        pattern = _pattern(block.steps[0].chain)
        if pattern == "d" and _pattern(last.chain) == "p":
            said = "A depthwise convolution with a skip connection, then a 1x1 convolution."
            return "MixerBlock", said
        return _RESIDUAL.get(pattern, ("ResidualBlock", "Layers with a skip connection."))
    kinds = {type(leaf.operation) for leaf in leaves_of([block])}
    if isinstance(last.join.operation, Gate):
        if ChannelPooling in kinds:
            return "SpatialAttention", "Scales each pixel by a gate that sees all channels."
        if GlobalPooling in kinds:
            said = "Scales each channel by a gate that sees all pixels (squeeze-and-excitation)."
            return "SqueezeExcitation", said
        return "GatedBlock", "Scales its input by a gate."
    if _is_dense(block):
        return "DenseLayer", "Appends ``growth`` new channels to its input."
    if isinstance(last.join.operation, Concat) and all(s.join is None for s in block.steps[:-1]):
        return "Branches", "Parallel branches, concatenated."
    return "Block", "Layers with several paths."


_ATTENTIONS = {
    "SqueezeExcitation": "squeeze-and-excitation",
    "SpatialAttention": "spatial attention",
}


def _described_unit(chain: list[Item]) -> tuple[str, str]:
    operations = [item.operation for item in chain if isinstance(item, Leaf)]
    briefs = [
        item.form.brief if isinstance(item, Leaf) else _ATTENTIONS.get(item.name, item.name)
        for item in chain
        if not isinstance(item, Block)
    ]
    said = briefs[0] if len(briefs) == 1 else f"{', '.join(briefs[:-1])} and {briefs[-1]}"
    said = f"{said[0].upper()}{said[1:]}."
    if isinstance(operations[0], Norm) and Pooling in map(type, operations):
        return "Transition", said
    if any(isinstance(op, Linear) for op in operations):
        return "LinearBlock", said
    return ("DepthwiseConv" if "d" in _pattern(chain) else "ConvBlock"), said


def _name(block: Block) -> str:
    return _described(block)[0]


def _new_name(block: Block) -> str:
    return "squeezed" if _name(block) == "SqueezeExcitation" else "hidden"


# Code


@dataclass
class Writer:
    """Writes the body of one class.

    Attributes:
        known: classes that it may use.
        expressions: expressions of the slots of each layer and use, by ``id``; literals if absent.
        said: returns the comment behind and the note above an item.
        starts: tells whether a run of equal items ends before an item.
        local: assignment of an expression that several layers use.
    """

    known: dict[str, Class]
    expressions: dict[int, list[str]] = field(default_factory=dict)
    said: Callable[[list[Item]], tuple[str, str]] = lambda _: ("", "")
    starts: Callable[[Item], bool] = lambda _: False
    local: str = ""
    init: list[str] = field(default_factory=list)
    body: list[str] = field(default_factory=list)
    paths: dict[int, str] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)
    _indent: int = 2 * INDENT

    def paths_of(self, items: Sequence[Leaf | Use | None]) -> Iterator[str]:
        """Yield the attribute path of each layer, those within uses included."""
        for item in items:
            own = self.paths.get(id(item), "")
            if isinstance(item, Use):
                for path in self.known[item.name].paths:
                    yield f"{own}.{path}" if path else ""
            else:
                yield own

    def code(self, item: Leaf | Use) -> str:
        """Return the constructor of a layer or use."""
        given = self._given(item)
        if isinstance(item, Use):
            return self.known[item.name].call(given)
        return cast("Callable[..., str]", item.form.module)(*given)

    def _given(self, item: Leaf | Use) -> list[str]:
        if id(item) in self.expressions:
            return self.expressions[id(item)]
        return [literal(value) for _, value, _ in _slots(item, self.known) or []]

    def write_class(
        self, name: str, block: Block, parameters: list[Parameter], condition: str
    ) -> tuple[str, ...]:
        """Return the code of a block's class."""
        said = _described(block)[1]
        declared = ["self", *(each.declared for each in parameters)]
        head = statement(
            f"__init__({', '.join(declared)})", INDENT, before="def ", after=" -> None:"
        )
        chain = block.steps[0].chain
        whole = len(block.steps) == 1 and all(_has_module(item) for item in chain)
        if whole and not self.local:
            lines = listed([Entry(self.code(item)) for item in chain], 2 * INDENT)  # type: ignore[arg-type]
            self.paths |= {id(item): str(number) for number, item in enumerate(chain)}
            return (
                f"class {name}(nn.Sequential):",
                f'    """{said}"""',
                "",
                *head,
                "        super().__init__(",
                *lines,
                "        )",
            )
        self.write_block(block, condition)
        return (
            f"class {name}(nn.Module):",
            f'    """{said}"""',
            "",
            *(
                [*head, "        super().__init__()", *self._local(), *self.init, ""]
                if self.init or parameters
                else []
            ),
            "    def forward(self, x: Tensor) -> Tensor:",
            *self.body,
        )

    def _local(self) -> list[str]:
        return [f"{' ' * self._indent}{self.local}"] if self.local else []

    def write_block(self, block: Block, condition: str = "") -> None:
        """Write the forward pass of a block, in one line if it fits."""
        for inline in (True, False):
            self.init, self.body, self._names = [], [], set()
            result = self._steps(block, condition, inline)
            line = f"{' ' * self._indent}return {result}"
            if len(line) <= WIDTH or not inline:
                self.body += statement(result, self._indent, before="return ")
                return

    def _steps(self, block: Block, condition: str, inline: bool) -> str:
        values = {-1: "x"}
        uses = [source for step in block.steps for source in step.inputs]
        role = _roles(block)
        for number, step in enumerate(block.steps):
            taken = [values[source] for source in step.inputs]
            if number == 1 and block.is_residual:
                values[number] = self._shortcut(step, condition, inline)
                continue
            value = taken[0] if step.join is None else _join(step.join, taken)
            if step.join is not None and step.chain and not inline:
                value = self.assign("y", value)
            value = self.flow(step.chain, value, role[number], inline)
            last = number == len(block.steps) - 1
            if not last and value != "x" and (uses.count(number) > 1 or not inline):
                value = self.assign(role[number], value)
            values[number] = value
        return value

    def _shortcut(self, step: Step, condition: str, inline: bool) -> str:
        if not condition:
            value = self.flow(step.chain, "x", "shortcut", inline)
            return value if inline or value == "x" else self.assign("shortcut", value)
        pad = " " * self._indent
        entries = [Entry(self.code(item)) for item in step.chain]  # type: ignore[arg-type]
        self.init.append(f"{pad}self.shortcut: nn.Module = nn.Identity()")
        self.init.append(f"{pad}if {condition}:")
        self.init += sequence("self.shortcut", entries, self._indent + INDENT)
        single = len(step.chain) == 1
        for number, item in enumerate(step.chain):
            self.paths[id(item)] = "shortcut" if single else f"shortcut.{number}"
        return "self.shortcut(x)"

    def assign(self, name: str, value: str) -> str:
        """Add ``name = value``, numbered if the name is taken; return the name."""
        name = self._free(name, variable=True)
        self.body += statement(value, self._indent, before=f"{name} = ")
        return name

    def flow(self, chain: list[Item], value: str, role: str, inline: bool = True) -> str:
        """Apply a chain to a value: modules in sequence, functions by expression."""
        pieces = _pieces(chain)
        modules = sum(isinstance(piece, list) for piece in pieces)
        for number, piece in enumerate(pieces):
            if isinstance(piece, list):
                alone = role != "y" and modules == 1 and (len(pieces) == 1 or role == "gate")
                name = self._free(role if alone else _content(piece, role))
                self.sequence(name, piece)
                value = f"self.{name}({value})"
            elif isinstance(piece, Block):
                if not value.isidentifier():
                    value = self.assign("y", value)
                value = self._inlined(piece, value)
                if number + 1 < len(pieces):
                    value = self.assign("pooled" if role == "gate" else role, value)
            else:
                value = self._function(piece, value)
            if not inline and number + 1 < len(pieces) and not value.isidentifier():
                value = self.assign(role, value)
        return value

    def _function(self, leaf: Leaf, value: str) -> str:
        given = self._given(leaf)
        form = leaf.form
        function = cast("Callable[..., str]", form.function)
        if form.tensor is None:
            kinds = [kind for kind, _ in form.slots]
            return function(value, *map(self._kept, kinds, given))
        name = self._free(leaf.operation.kind)
        tensor = form.tensor(*given)
        pad = " " * self._indent
        if form.learned:
            self.init.append(f"{pad}self.{name} = nn.Parameter({tensor})")
        else:
            self.init.append(f'{pad}self.register_buffer("{name}", {tensor})')
        self.paths[id(leaf)] = name
        return function(value, f"self.{name}")

    def _kept(self, kind: str, expression: str) -> str:
        """Return the expression of a slot in ``forward``, where parameters are unknown."""
        if not re.search(r"[a-z]", expression):
            return expression
        kept = f"{' ' * self._indent}self.{kind} = {expression}"
        if kept not in self.init:
            kept = f"{' ' * self._indent}self.{self._free(kind)} = {expression}"
            self.init.append(kept)
        return kept.strip().partition(" = ")[0]

    def _inlined(self, block: Block, value: str) -> str:
        values = {-1: value}
        for number, step in enumerate(block.steps):
            taken = [values[source] for source in step.inputs]
            each = taken[0] if step.join is None else _join(step.join, taken)
            for item in step.chain:
                each = self._function(cast("Leaf", item), each)
            values[number] = each
        return each

    def sequence(self, name: str, items: list[Item]) -> None:
        """Add a module, or several in sequence, as an attribute."""
        entries: list[Entry] = []
        number = 0
        single = len(items) == 1
        for run in _repeated(items, self.starts):
            text = self._repeat(run) if len(run) > 1 else self.code(run[0])  # type: ignore[arg-type]
            entries.append(Entry(text, *self.said(run)))
            for item in run:
                self.paths[id(item)] = name if single else f"{name}.{number}"
                number += 1
        self.init += sequence(f"self.{name}", entries, self._indent)

    def _repeat(self, run: list[Item]) -> str:
        """Return equal uses, or uses with an increasing argument, as a comprehension."""
        first, second = cast("list[Use]", run[:2])
        given = self._given(first)
        loop = f"_ in range({len(run)})"
        for place, (name, start) in enumerate(first.arguments.items()):
            if start != second.arguments[name]:
                step = second.arguments[name] - start  # type: ignore[operator]
                variable = "channels" if name == "in_channels" else name
                given[place] = variable
                loop = f"{variable} in range({start}, {start + step * len(run)}, {step})"  # type: ignore[operator]
        return f"*[{self.known[first.name].call(given)} for {loop}]"

    def _free(self, name: str, variable: bool = False) -> str:
        taken = self._names if not variable else {*self._names, "x"}
        number, free = 1, name
        while (f"{free}=" if variable else free) in taken:
            number += 1
            free = f"{name}{number}"
        self._names.add(f"{free}=" if variable else free)
        return free


def _has_module(item: Item) -> bool:
    return isinstance(item, Use) or (isinstance(item, Leaf) and item.form.module is not None)


def _pieces(chain: list[Item]) -> list[list[Item] | Leaf | Block]:
    """Split a chain into runs of modules and single functions."""
    pieces: list[list[Item] | Leaf | Block] = []
    for item in chain:
        if isinstance(item, Block) or (isinstance(item, Leaf) and item.form.module is None):
            pieces.append(item)
        elif pieces and isinstance(pieces[-1], list):
            pieces[-1].append(item)
        else:
            pieces.append([item])
    return [
        piece[0]
        if isinstance(piece, list)
        and len(piece) == 1
        and isinstance(piece[0], Leaf)
        and piece[0].form.function is not None
        else piece
        for piece in pieces
    ]


def _join(leaf: Leaf, values: list[str]) -> str:
    if isinstance(leaf.operation, Concat):
        return f"torch.cat([{', '.join(values)}], dim=1)"
    if isinstance(leaf.operation, Add):
        first, *others = values
        if others == ["x"]:  # The sum of two numbers is the same in either order.
            first, others = "x", [first]
        return " + ".join([first, *map(atom, others)])
    return " * ".join(map(atom, values))


def _roles(block: Block) -> list[str]:
    """Return the name of the modules and the value of each step."""
    last = block.steps[-1]
    if block.is_residual:
        branch = "depthwise" if _pattern(block.steps[0].chain) == "d" else "branch"
        return [branch, "shortcut", "y"]
    if last.join is not None and isinstance(last.join.operation, Gate) and len(block.steps) == 2:
        return ["gate", "y"]
    if _is_dense(block):
        return ["layers", "y"]
    if len(block.steps) == 1:
        return ["layers"]
    return [f"branch{number}" for number in range(1, len(block.steps))] + ["y"]


_CONTENTS = {
    "Linear": "linear",
    "Norm": "norm",
    "Dropout": "dropout",
    "Pooling": "pool",
    "GlobalPooling": "pool",
    "TransposedConvolution": "conv",
}


def _content(piece: list[Item], role: str) -> str:
    """Return a name for a run of modules by what it holds."""
    convolutions = _pattern(piece)
    if len(convolutions) == 1:
        return {"p": "pointwise", "d": "depthwise", "c": "conv"}[convolutions]
    if len(piece) == 1 and isinstance(piece[0], Leaf):
        return _CONTENTS.get(type(piece[0].operation).__name__, role)
    return "layers" if role == "y" else role


def _repeated(items: list[Item], starts: Callable[[Item], bool]) -> Iterator[list[Item]]:
    """Yield runs of at least three uses of a class with equal or evenly growing arguments."""
    start = 0
    while start < len(items):
        end = start + 1
        while end < len(items) and not starts(items[end]) and _continues(items[start : end + 1]):
            end += 1
        if end - start < 3:
            end = start + 1
        yield items[start:end]
        start = end


def _continues(run: list[Item]) -> bool:
    if not all(isinstance(item, Use) for item in run):
        return False
    uses = [item for item in run if isinstance(item, Use)]
    if len({use.name for use in uses}) > 1:
        return False
    changing = 0
    for name, start in uses[0].arguments.items():
        values = [use.arguments[name] for use in uses]
        if len(set(values)) == 1:
            continue
        if not all(type(value) is int for value in values):
            return False
        step = values[1] - start  # type: ignore[operator]
        if step == 0 or values != [start + step * place for place in range(len(values))]:  # type: ignore[operator]
            return False
        changing += 1
    return changing <= 1
