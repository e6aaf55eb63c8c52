"""Converts the operations recorded by ``torch.export`` to an architecture."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind
from torch.fx import GraphModule, Node
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from spaces.architecture import Architecture
from spaces.errors import BadInputError
from spaces.operations import Generic, Shape
from trainables.tracing import elementwise, products, shaping, windows
from trainables.tracing.aliasing import changes_aliases
from trainables.tracing.calls import TRACED, Call, Constant, Parts, Results, Value
from trainables.tracing.counting import count_macs, decompose, tensor_inputs
from trainables.tracing.exporting import export, first_line, quiet
from trainables.tracing.fallback import fall_back, flat
from trainables.tracing.graph import Graph
from trainables.tracing.handlers import HANDLERS
from trainables.tracing.layout import Map, UnsupportedError, batch, single_image
from trainables.tracing.reach import maps_of, opaque

HANDLING = (elementwise, products, shaping, windows)
"""Modules that register handlers."""
_WEIGHT = re.compile(r"(^|\.)(parametrizations\.weight\.original|weight)$")
"""Suffix of a parameter's name after the name of its layer."""
_REMEDY = "return a tensor that is calculated from the image"
_PART = "analyse the part before"
_WITHOUT_VALUES = frozenset(
    (
        *("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like"),
        *("new_zeros", "new_ones", "new_empty", "new_full"),
    )
)
"""Operations that take only the shape of a tensor."""


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
    architecture, mixes_batch = _traced(module, image_shape, reference)
    if mixes_batch:
        with suppress(BadInputError), single_image():
            architecture, _ = _traced(module, image_shape, reference)
    return architecture


def _traced(module: nn.Module, image_shape: Shape, reference: str) -> tuple[Architecture, bool]:
    """Trace a module, and tell whether it combines or separates the images of a batch.

    Raises:
        BadInputError: it cannot be traced.
    """
    program = export(module, image_shape, reference)
    try:
        if changes_aliases(list(program.graph.nodes)):
            with quiet():
                program = program.run_decompositions({})
        conversion = _Conversion(module, program, image_shape)
        return conversion.run(), conversion.mixes_batch
    except UnsupportedError as error:
        raise BadInputError("NETWORK", reference, str(error), _REMEDY) from None
    except GuardOnDataDependentSymNode as error:
        problem = "the size of a tensor depends on values"
        raise BadInputError("NETWORK", reference, problem, _PART) from error
    except Exception as error:
        # Whatever torch records must not end an analysis that can measure instead.
        problem = (
            f"its operations cannot be converted ({type(error).__name__}: {first_line(error)})"
        )
        raise BadInputError("NETWORK", reference, problem, _PART) from error


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
        self._values: dict[Node, Any] = {}

    @property
    def mixes_batch(self) -> bool:
        """Tell whether an operation combines or separates the images of a batch."""
        return self._graph.mixes_batch

    def run(self) -> Architecture:
        """Convert all operations on which the output depends."""
        results = self._results()
        live = _ancestors(results)
        for node in self._nodes:
            if node not in live:
                continue
            if node.op == "placeholder":
                self._values[node] = self._input(node)
            else:
                self._calculate(node)
        self._finish([self._values[result] for result in results])
        return self._graph.build()

    def _results(self) -> list[Node]:
        """Return the tensors that the module returns."""
        return [
            node
            for node, spec in zip(
                self._nodes[-1].args[0], self._signature.output_specs, strict=True
            )
            if spec.kind is OutputKind.USER_OUTPUT and isinstance(node, Node) and _shapes(node)
        ]

    def _finish(self, values: list[Value]) -> None:
        """Make the result the last layer.

        Raises:
            UnsupportedError: no result depends on the image.
        """
        maps = maps_of(values)
        if not maps:
            raise UnsupportedError("its forward returns no tensor that depends on the image")
        if len(maps) == 1:
            with suppress(UnsupportedError):
                maps = [self._graph.as_map(values[0], "output")]
        if len(maps) > 1 or maps[0].layer != len(self._graph.shapes) - 1:
            layers = tuple(dict.fromkeys(x.layer for x in maps))
            shapes = tuple(self._graph.shapes[layer] for layer in layers)
            self._graph.layer(Generic("outputs", shapes, shapes[0]), *layers, name="outputs")

    def _input(self, node: Node) -> Value:
        target = self._targets.get(node.name)
        if target is None:
            return self._graph.image
        sources = [self._parameters[target]] if target in self._parameters else []
        return Constant(_shapes(node)[0], frozenset(sources))

    def _calculate(self, node: Node) -> None:
        """Note the value of an operation or attribute, and add its layers."""
        if node.op == "get_attr":
            attribute = _attribute(node)
            is_graph = isinstance(attribute, GraphModule)
            shapes = _shapes(node) or (tuple(getattr(attribute, "shape", ())),)
            self._values[node] = attribute if is_graph else Constant(shapes[0])
            return
        inner = [a for a in node.args if isinstance(a, Node) and _is_graph(self._values[a])]
        if inner:
            self._values[node] = self._inlined(node, self._values[inner[0]])
        else:
            self._values[node] = self._convert(node)

    def _inlined(self, node: Node, block: GraphModule) -> Value:
        """Convert the operations of a block, such as one without gradients."""
        given = [a for a in node.args if isinstance(a, Node) and not _is_graph(self._values[a])]
        return self._run_block(block, [self._values[a] for a in given], node)

    def _run_block(self, block: GraphModule, given: list[Any], node: Node) -> Value:
        inputs = iter(given)
        *nodes, output = block.graph.nodes
        results = output.args[0]
        live = _ancestors([output])
        for inner in nodes:
            if inner.op == "placeholder":
                self._values[inner] = next(inputs)
            elif inner in live:
                if not inner.meta.get("nn_module_stack"):
                    inner.meta["nn_module_stack"] = node.meta.get("nn_module_stack")
                self._calculate(inner)
        if isinstance(results, Node):
            return self._value(results)
        return Results(tuple([self._value(r) for r in results if isinstance(r, Node)]))

    def _value(self, node: Node) -> Value:
        value: Value = self._values[node]
        return value

    def _convert(self, node: Node) -> Value:
        """Return the value of an operation, and add its layers."""
        operation = _operation(node)
        path = _path(node)
        arguments = self._arguments(node)
        values = list(flat(arguments.values()))
        if operation in _WITHOUT_VALUES:
            return Constant(_shapes(node)[0])
        if not any(isinstance(value, TRACED) for value in values):
            return self._constant(node, arguments)
        shapes = _shapes(node)
        single = isinstance(node.meta.get("val"), Tensor)
        call = Call(
            operation,
            arguments,
            shapes[0] if single else None,
            shapes,
            self._name(arguments, operation, path),
            lambda: count_macs(node) // batch(),
        )
        mark = self._graph.mark()
        for way in (self._handled, self._by_rule, self._decomposed):
            try:
                return _checked(way(call, node), call)
            except UnsupportedError:
                self._graph.reset(mark)
        return self._opaque(call, values)

    def _handled(self, call: Call, node: Node) -> Value:
        if call.operation not in HANDLERS:
            raise UnsupportedError("is not supported")
        return HANDLERS[call.operation](self._graph, call)

    def _by_rule(self, call: Call, node: Node) -> Value:
        return fall_back(self._graph, call, getattr(node.target, "tags", ()))

    def _decomposed(self, call: Call, node: Node) -> Value:
        block = decompose(node)
        if block is None:
            raise UnsupportedError("is not supported")
        given = [self._values[a] for a in tensor_inputs(node)]
        value = self._run_block(block, given, node)
        if call.shape is not None and isinstance(value, Results):
            return value.items[0]
        return value

    def _opaque(self, call: Call, values: list[Any]) -> Value:
        results = [opaque(self._graph, call, call.shapes[0] if call.shapes else (), values)]
        for shape in call.shapes[1:]:
            # One layer bears the cost.
            free = replace(call, count_macs=lambda: 0)
            results.append(opaque(self._graph, free, shape, values))
        return results[0] if call.shape is not None else Results(tuple(results))

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

    def _constant(self, node: Node, arguments: dict[str, Any]) -> Value:
        """Return a value that depends only on constants."""
        found = [v for v in flat(arguments.values()) if isinstance(v, Constant)]
        if _operation(node) == "getitem" and isinstance(arguments["self"], list):
            value: Value = arguments["self"][arguments["index"]]
            return value
        empty = frozenset[str]()
        sources = empty.union(*[constant.sources for constant in found])
        calculations = empty.union(*[constant.calculations for constant in found])
        shapes = _shapes(node)
        repeated = bool(shapes and shapes[0] and shapes[0][0] % batch() == 0)
        macs = count_macs(node) // (batch() if repeated else 1)
        calculations |= self._graph.calculation(node.name, macs)
        return Constant(shapes[0] if shapes else (), sources, calculations)

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
    return type(module).__module__.startswith("torch.nn.") and not list(module.children())


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


def _shapes(node: Node) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of all results of an operation."""
    value = node.meta.get("val")
    values = value if isinstance(value, (list, tuple)) else [value]
    return tuple(tuple(v.shape) for v in values if isinstance(v, torch.Tensor))


def _ancestors(nodes: Iterable[Node]) -> set[Node]:
    """Return all operations on which some operations depend, including themselves."""
    found: set[Node] = set()
    remaining = list(nodes)
    while remaining:
        node = remaining.pop()
        if node not in found:
            found.add(node)
            remaining.extend(node.all_input_nodes)
    return found


def _is_graph(value: object) -> bool:
    return isinstance(value, GraphModule)


def _attribute(node: Node) -> object:
    value: object = node.graph.owning_module
    for name in str(node.target).split("."):
        value = getattr(value, name)
    return value


def _checked(value: Value, call: Call) -> Value:
    """Return a value if it has the shape that torch reports.

    Raises:
        UnsupportedError: it has not.
    """
    if isinstance(value, Map) and call.shape is not None and value.sizes != call.shape:
        raise UnsupportedError(f"gives {call.shape[1:]}, where the graph has {value.sizes[1:]}")
    if call.shape is None and not isinstance(value, (Parts, Results)):
        raise UnsupportedError("returns several tensors")
    if isinstance(value, Results):
        for item, shape in zip(value.items, call.shapes, strict=False):
            if isinstance(item, Map) and item.sizes != shape:
                raise UnsupportedError("returns tensors of different shapes")
    return value
