"""Converts the operations recorded by ``torch.export`` to an architecture."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind
from torch.fx import Node

from spaces.architecture import Architecture
from spaces.errors import BadInputError
from spaces.operations import Shape
from trainables.tracing import elementwise, shaping, windows
from trainables.tracing.aliasing import check_mutations
from trainables.tracing.exporting import export, is_users
from trainables.tracing.graph import TRACED, Call, Constant, Graph, Value
from trainables.tracing.handlers import HANDLERS
from trainables.tracing.layout import Map, UnsupportedError

HANDLING = (elementwise, shaping, windows)
"""Modules that register handlers."""
_WEIGHT = re.compile(r"(^|\.)(parametrizations\.weight\.original|weight)$")
"""Suffix of a parameter's name after the name of its layer."""
_REMEDY = "analyse a network, or a part of this one, that does without"


def trace(module: nn.Module, image_shape: Shape, *, reference: str | None = None) -> Architecture:
    """Trace a module into an architecture.

    The module runs in evaluation mode on shapes only; its weights are neither read nor changed.
    Layers are named by the module that they come from (``layer1.0.conv1``), functional calls by
    the module that makes them (``layer1.0.add``).

    Args:
        module: takes one batch of images ``[n, c, h, w]`` and returns one tensor.
        image_shape: ``(channels, height, width)`` of the images.
        reference: what the user called the module, for messages.

    Raises:
        BadInputError: the module cannot be expressed as such a graph; the message names the
            operation and the place.
    """
    reference = type(module).__name__ if reference is None else reference
    if min(image_shape) < 1:
        size = " x ".join(map(str, image_shape))
        raise BadInputError("--resolution", size, "is no image", "use 1 pixel or more")
    program = export(module, image_shape, reference)
    try:
        return _Conversion(module, program, image_shape).run()
    except UnsupportedError as error:
        raise BadInputError("NETWORK", reference, str(error), _REMEDY) from None


class _Conversion:
    """Converts one exported program."""

    def __init__(self, module: nn.Module, program: ExportedProgram, image_shape: Shape) -> None:
        self._nodes = list(program.graph.nodes)
        self._signature = program.graph_signature
        self._targets = {
            spec.arg.name: spec.target
            for spec in self._signature.input_specs
            if hasattr(spec.arg, "name")
        }
        named = dict(module.named_parameters(remove_duplicate=False))
        # Tied weights use the name of the first.
        first = {id(parameter): name for name, parameter in reversed(named.items())}
        self._parameters = {name: first[id(parameter)] for name, parameter in named.items()}
        self._leaves = {name for name, part in module.named_modules() if _is_leaf(part)}
        sizes = {name: parameter.numel() for name, parameter in named.items()}
        self._graph = Graph(image_shape, sizes)
        self._values: dict[Node, Value] = {}

    def run(self) -> Architecture:
        """Convert all operations on which the output depends."""
        result = self._result()
        live = _ancestors(result)
        self._check_operations(live)
        for node in self._nodes:
            if node not in live:
                continue
            if node.op == "placeholder":
                self._values[node] = self._input(node)
            elif node.op == "get_attr":
                self._values[node] = Constant(_shapes(node)[0])
            else:
                self._values[node] = self._convert(node)
        with _explained("forward"):
            check_mutations(self._nodes, {*live, self._nodes[-1]})
        with _explained("the output"):
            self._graph.as_map(self._values[result], "output")
        return self._graph.build()

    def _check_operations(self, live: Collection[Node]) -> None:
        """Refuse unknown operations first: they explain more than errors that follow from them.

        Raises:
            UnsupportedError: there is such an operation.
        """
        on_image = {n for n in self._nodes if n.op == "placeholder" and n.name not in self._targets}
        on_image |= {n for n in self._nodes if self._targets.get(n.name, "") is None}
        for node in self._nodes:
            if on_image.isdisjoint(node.all_input_nodes):
                continue
            on_image.add(node)
            if node in live and _operation(node) not in HANDLERS:
                with _explained(_operation(node), node):
                    raise UnsupportedError("is not supported")

    def _result(self) -> Node:
        """Return the single tensor that the module returns.

        Raises:
            UnsupportedError: the module returns no tensor or several.
        """
        results = [
            node
            for node, spec in zip(
                self._nodes[-1].args[0], self._signature.output_specs, strict=True
            )
            if spec.kind is OutputKind.USER_OUTPUT
        ]
        nodes = [node for node in results if isinstance(node, Node)]
        if len(nodes) != 1 or len(_shapes(nodes[0])) != 1:
            raise UnsupportedError(f"its forward returns {len(nodes)} tensors instead of one")
        return nodes[0]

    def _input(self, node: Node) -> Value:
        target = self._targets.get(node.name)
        if target is None:
            return self._graph.image
        sources = [self._parameters[target]] if target in self._parameters else []
        return Constant(_shapes(node)[0], frozenset(sources))

    def _convert(self, node: Node) -> Value:
        """Return the value of an operation, and add its layers."""
        operation = _operation(node)
        path = _path(node)
        with _explained(operation, node):
            arguments = self._arguments(node)
            if not any(isinstance(value, TRACED) for value in _flat(arguments.values())):
                return self._constant(node, arguments)
            shapes = _shapes(node)
            single = isinstance(node.meta.get("val"), Tensor)
            call = Call(
                operation,
                arguments,
                shapes[0] if single else None,
                shapes,
                self._name(arguments, operation, path),
            )
            value = HANDLERS[operation](self._graph, call)
            if isinstance(value, Map) and value.sizes != call.result_shape:
                raise UnsupportedError(
                    f"gives {call.result_shape[1:]}, where the graph has {value.sizes[1:]}"
                )
            return value

    def _arguments(self, node: Node) -> dict[str, Any]:
        """Return the arguments of an operation by name, defaults included."""
        schema = getattr(node.target, "_schema", None)
        if schema is None:  # The item of a list.
            given: dict[str, Any] = dict(zip(("self", "index"), node.args, strict=True))
        else:
            given = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
            given |= {a.name: v for a, v in zip(schema.arguments, node.args, strict=False)}
            given |= node.kwargs
        return {name: self._resolved(value) for name, value in given.items()}

    def _resolved(self, value: Any) -> Any:
        if isinstance(value, Node):
            return self._values[value]
        if isinstance(value, (list, tuple)):
            return [self._resolved(item) for item in value]
        return value

    def _constant(self, node: Node, arguments: dict[str, Any]) -> Constant:
        """Return a value that depends only on constants."""
        found = [v for v in _flat(arguments.values()) if isinstance(v, Constant)]
        sources = frozenset[str]().union(*[constant.sources for constant in found])
        shapes = _shapes(node)
        return Constant(shapes[0] if shapes else (), sources)

    def _name(self, arguments: dict[str, Any], operation: str, path: str) -> str:
        """Return the name of the operation's module or functional call."""
        weights = [arguments.get(name) for name in ("weight", "self", "other")]
        for weight in weights:
            if isinstance(weight, Constant) and len(weight.sources) == 1:
                (source,) = weight.sources
                return _WEIGHT.sub("", source) or operation
        if path in self._leaves:
            return path
        return f"{path}.{operation}" if path else operation


def _is_leaf(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn.") and not any(module.children())


def _operation(node: Node) -> str:
    """Return the ATen name of an operation, without the in-place suffix."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return getattr(node.target, "__name__", str(node.target))
    name: str = schema.name.partition("::")[2]
    return name.removesuffix("_")


def _path(node: Node) -> str:
    """Return the path of the module that calls an operation."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return re.sub(r"@\d+", "", stack[-1][0]) if stack else ""


def _place(node: Node) -> str:
    """Return the caller of an operation: module and line of user code."""
    path = _path(node)
    lines = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    own = [f"{Path(file).name}, line {line}" for file, line in lines if is_users(Path(file))]
    return ", ".join([*([path] if path else []), *own[-1:]])


def _shapes(node: Node) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of all results of an operation."""
    value = node.meta.get("val")
    values = value if isinstance(value, (list, tuple)) else [value]
    return tuple(tuple(v.shape) for v in values if isinstance(v, torch.Tensor))


def _ancestors(node: Node) -> set[Node]:
    """Return all operations on which an operation depends, including itself."""
    found: set[Node] = set()
    remaining = [node]
    while remaining:
        node = remaining.pop()
        if node not in found:
            found.add(node)
            remaining.extend(node.all_input_nodes)
    return found


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list):
            yield from _flat(value)
        else:
            yield value


@contextmanager
def _explained(operation: str, node: Node | None = None) -> Iterator[None]:
    """Add operation and place to an `UnsupportedError`."""
    try:
        yield
    except UnsupportedError as error:
        place = _place(node) if node is not None else ""
        raise UnsupportedError(f"{operation}{place and f' in {place}'} {error}") from None
