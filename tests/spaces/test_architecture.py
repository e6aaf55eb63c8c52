"""The graph: what it refuses, its JSON, and the digest that finds duplicates."""

import doctest
import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from itertools import combinations, product
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import spaces.architecture
from spaces import Architecture, CollapsedLayerError, Layer, costs, find_border
from spaces.operations import (
    ACTIVATIONS,
    NORMS,
    POOLING_MODES,
    Activation,
    Add,
    Concat,
    Convolution,
    Dropout,
    Gate,
    Input,
    Linear,
    Norm,
)
from tests.spaces import nets
from tests.spaces.graphs import architectures, examples
from tests.spaces.nets import chain, conv, pool
from tests.spaces.reference import has_twin_summands, isomorphic, reaching_output

ROOT = Path(__file__).parents[2]
IMAGE = Layer(Input(3, 8, 8))
RELU = Activation("relu")
GELU = Activation("gelu")


def graph(*layers: Layer) -> Architecture:
    return Architecture((IMAGE, *layers))


@pytest.mark.parametrize(
    ("layers", "rule"),
    [
        ((), "layer 0 must be the Input"),
        ((Layer(RELU, (0,)),), "layer 0 must be the Input"),
        ((Layer(Input(3, 8, 8), (0,)),), r"layer 0 \(input\) takes 0 input\(s\), but got \(0,\)"),
        ((IMAGE, Layer(RELU)), r"layer 1 \(activation\) takes 1 input\(s\), but got \(\)"),
        ((IMAGE, Layer(RELU, (0, 0))), r"takes 1 input\(s\), but got \(0, 0\)"),
        ((IMAGE, Layer(Gate(), (0,))), r"takes 2 input\(s\), but got \(0,\)"),
        ((IMAGE, Layer(Add())), r"layer 1 \(add\) takes at least one input\(s\), but got \(\)"),
        ((IMAGE, Layer(Concat())), "at least one"),
        ((IMAGE, Layer(RELU, (1,))), r"layer 1 .* from layers before it, but got \(1,\)"),
        ((IMAGE, Layer(RELU, (2,)), Layer(RELU, (0,))), "from layers before it"),
        ((IMAGE, Layer(RELU, (-1,))), "from layers before it"),
        ((IMAGE, IMAGE, Layer(Add(), (0, 1))), "layer 1 is a second Input"),
    ],
)
def test_layers_that_form_no_graph_are_refused_with_the_rule(layers, rule):
    with pytest.raises(ValueError, match=rule):
        Architecture(layers)


def test_the_first_collapsed_layer_is_named():
    architecture = chain((1, 4, 4), conv(), pool(), pool(), pool(), pool())

    for analysis in (lambda a: a.shapes, lambda a: a.windows, costs, find_border):
        with pytest.raises(
            CollapsedLayerError, match=r"layer 4: a window of 2 does not fit into 1"
        ):
            analysis(architecture)
        with pytest.raises(CollapsedLayerError) as caught:
            analysis(architecture)
        assert caught.value.index == 4


def test_inputs_that_do_not_fit_are_reported_with_their_layer():
    architecture = graph(Layer(conv(features=4), (0,)), Layer(Add(), (0, 1)))

    with pytest.raises(ValueError, match=r"layer 2 \(add\): only equal shapes can be added"):
        _ = architecture.shapes


def test_indices_are_those_of_one_kind_in_forward_order():
    architecture = nets.classic_vgg("VGG11")

    layers = architecture.layers
    expected = [i for i, layer in enumerate(layers) if isinstance(layer.operation, Convolution)]
    assert architecture.indices(Convolution) == expected
    assert len(expected) == 8


def test_the_example_of_the_builder_runs():
    assert doctest.testmod(spaces.architecture) == doctest.TestResults(failed=0, attempted=6)


# JSON


@examples(100)
@given(architectures(), st.text(max_size=5))
def test_json_gives_back_an_equal_graph(architecture, name):
    architecture = renamed(architecture, name)
    copy = Architecture.from_json(architecture.to_json())

    assert copy == architecture
    assert hash(copy) == hash(architecture)
    assert copy.to_json() == architecture.to_json()
    assert [type(layer) for layer in copy.layers] == [Layer] * len(architecture.layers)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 40) | st.floats() | st.text(max_size=3),
    lambda junk: (
        st.lists(junk, max_size=3) | st.dictionaries(st.text(max_size=3), junk, max_size=2)
    ),
    max_leaves=4,
)


def places(document, path=()):
    """Yield the path of every value within a JSON document."""
    yield path
    if isinstance(document, dict | list):
        keys = document if isinstance(document, dict) else range(len(document))
        for key in keys:
            yield from places(document[key], (*path, key))


def analyse(text: str) -> None:
    """Read a graph and derive everything from it: only a ValueError may come of that."""
    try:
        architecture = Architecture.from_json(text)
        assert Architecture.from_json(architecture.to_json()) == architecture
        assert len(architecture.digest) == 32
        costs(architecture)
        find_border(architecture)
    except ValueError:
        pass


@examples(400)
@given(architectures(steps=4), st.data())
def test_changed_json_is_refused_or_another_graph(architecture, data):
    document = json.loads(architecture.to_json())
    *parents, key = data.draw(st.sampled_from([path for path in places(document) if path]))
    container = document
    for parent in parents:
        container = container[parent]
    change = data.draw(st.sampled_from(["replace", "delete", "repeat"]))
    if change == "replace":
        container[key] = data.draw(JUNK)
    elif change == "delete":
        del container[key]
    elif isinstance(container, list):
        container.insert(data.draw(st.integers(0, len(container))), container[key])
    else:
        container[data.draw(st.text(max_size=5))] = container[key]

    analyse(json.dumps(document))


@examples(200)
@given(architectures(steps=3), st.data())
def test_damaged_json_text_is_refused_or_another_graph(architecture, data):
    text = architecture.to_json()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))

    analyse(text[:start] + data.draw(st.text(max_size=3)) + text[end:])


@examples(200)
@given(JUNK.map(json.dumps) | st.text())
def test_other_text_is_refused_with_value_error(text):
    with pytest.raises(ValueError, match=r"."):
        Architecture.from_json(text)


def entry(**changes: object) -> str:
    layer = {"kind": "convolution", "inputs": [0], "name": "", "features": 8} | changes
    image = {"kind": "input", "inputs": [], "name": "", "channels": 3, "height": 8, "width": 8}
    return json.dumps({"format": 1, "layers": [image, layer]})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Expecting value"),
        ("[" * 100_000, "not an architecture: RecursionError"),
        ("[]", "not an architecture: TypeError"),
        ("{}", "not an architecture: KeyError 'format'"),
        ('{"format": 2, "layers": []}', "format must be 1, but got 2"),
        ('{"format": 1, "layers": [3]}', "not an architecture: AttributeError"),
        (entry(kind="magic"), "not an architecture: KeyError 'magic'"),
        (entry(kind=["convolution"]), "not an architecture: TypeError"),
        (entry(magic=1), "not an architecture: TypeError .*magic"),
        (entry(inputs="0"), "no name and inputs"),
        (entry(inputs=[0.0]), "no name and inputs"),
        (entry(inputs=[False]), "no name and inputs"),
        (entry(name=None), "no name and inputs"),
        (entry(features=0), "features of convolution cannot be 0"),
        (entry(features="8"), "features of convolution cannot be '8'"),
        (entry(features=True), "features of convolution cannot be True"),
        (entry(kernel=3), "kernel of convolution cannot be 3"),
        (entry(kernel=[3]), r"kernel of convolution cannot be \(3,\)"),
        (entry(stride=[0, 1]), r"stride of convolution cannot be \(0, 1\)"),
        (entry(padding=[0, -1]), r"padding of convolution cannot be \(0, -1\)"),
        (entry(bias=1), "bias of convolution cannot be 1"),
        (entry(kind="dropout", rate=2), "not an architecture: TypeError"),
    ],
)
def test_json_that_is_no_graph_is_refused_with_the_problem(text, problem):
    with pytest.raises(ValueError, match=problem):
        Architecture.from_json(text)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("dropout", {"rate": 1.5}),
        ("dropout", {"rate": float("nan")}),
        ("dropout", {"rate": "0.5"}),
        ("norm", {"norm": "spectral"}),
        ("norm", {"groups": 0}),
        ("activation", {"function": None}),
        ("pooling", {"mode": "median"}),
        ("pooling", {"ceil": 0}),
        ("global_pooling", {"mode": ["max"]}),
    ],
)
def test_json_with_values_that_no_layer_can_have_is_refused(kind, values):
    layer = {"kind": kind, "inputs": [0], "name": "", **values}
    document = json.loads(entry())
    document["layers"][1] = layer

    (name,) = values
    with pytest.raises(ValueError, match=f"{name} of {kind} cannot be"):
        Architecture.from_json(json.dumps(document))


# Digest


def relisted(architecture: Architecture, rank) -> Architecture:
    """List the layers in another forward order: of those that can come next, the lowest rank."""
    last = len(architecture.layers) - 1
    remaining = set(range(1, last))
    order = [0]
    while remaining:
        ready = [i for i in remaining if not remaining & set(architecture.layers[i].inputs)]
        order.append(min(ready, key=lambda i: rank[i]))
        remaining.remove(order[-1])
    order.extend([last] if last else [])
    number = {old: new for new, old in enumerate(order)}
    return Architecture(
        tuple(
            architecture.layers[old]._replace(
                inputs=tuple(number[i] for i in architecture.layers[old].inputs)
            )
            for old in order
        )
    )


def renamed(architecture: Architecture, name: str) -> Architecture:
    return Architecture(
        tuple(layer._replace(name=f"{name}{i}") for i, layer in enumerate(architecture.layers))
    )


def with_layer(architecture: Architecture, index: int, layer: Layer) -> Architecture:
    layers = architecture.layers
    return Architecture((*layers[:index], layer, *layers[index + 1 :]))


@examples(150)
@given(architectures(), st.data())
def test_the_order_of_independent_layers_does_not_change_the_digest(architecture, data):
    rank = data.draw(st.permutations(range(len(architecture.layers))))

    assert relisted(architecture, rank).digest == architecture.digest


@examples(50)
@given(architectures(), st.text())
def test_names_do_not_change_the_digest(architecture, name):
    assert renamed(architecture, name).digest == architecture.digest


@examples(150)
@given(architectures(), st.data())
def test_the_order_of_summands_does_not_change_the_digest(architecture, data):
    assume(not has_twin_summands(architecture))
    shuffled = Architecture(
        tuple(
            layer._replace(inputs=tuple(data.draw(st.permutations(layer.inputs))))
            if isinstance(layer.operation, Add)
            else layer
            for layer in architecture.layers
        )
    )

    assert shuffled.digest == architecture.digest


@examples(100)
@given(architectures())
def test_dead_layers_do_not_change_the_digest(architecture):
    alive = sorted(reaching_output(architecture))
    number = {old: new for new, old in enumerate(alive)}
    bare = Architecture(
        tuple(
            architecture.layers[old]._replace(
                inputs=tuple(number[i] for i in architecture.layers[old].inputs)
            )
            for old in alive
        )
    )

    assert bare.digest == architecture.digest


def test_a_dead_layer_in_a_chain_does_not_change_its_digest():
    alive = graph(Layer(conv(), (0,)), Layer(RELU, (1,)))
    with_dead = graph(Layer(conv(), (0,)), Layer(GELU, (1,)), Layer(RELU, (1,)))

    assert with_dead.digest == alive.digest


OTHER_NAMES = {"mode": POOLING_MODES, "norm": NORMS, "function": ACTIVATIONS}


def other_values(field: str, value: object) -> st.SearchStrategy:
    match value:
        case bool():
            return st.just(not value)
        case int():
            return st.integers(1, 50).filter(lambda other: other != value)
        case float():
            return st.floats(0, 1).filter(lambda other: other != value)
        case str():
            return st.sampled_from([name for name in OTHER_NAMES[field] if name != value])
        case (height, width):
            return st.sampled_from([(height + 1, width), (height, width + 1), (height + 2, width)])
    raise NotImplementedError(field)


@examples(400)
@given(architectures(), st.data())
def test_any_change_of_a_live_layer_changes_the_digest(architecture, data):
    changeable = [
        (index, field.name)
        for index in sorted(reaching_output(architecture))
        for field in fields(architecture.layers[index].operation)
    ]
    assume(changeable)
    index, field = data.draw(st.sampled_from(changeable))
    layer = architecture.layers[index]
    value = data.draw(other_values(field, getattr(layer.operation, field)))
    changed = layer._replace(operation=replace(layer.operation, **{field: value}))

    assert with_layer(architecture, index, changed).digest != architecture.digest


@examples(300)
@given(architectures(), st.data())
def test_rewired_graph_has_equal_digest_only_if_equivalent(architecture, data):
    index = data.draw(st.sampled_from(sorted(reaching_output(architecture))))
    assume(index > 0)
    layer = architecture.layers[index]
    slot = data.draw(st.integers(0, len(layer.inputs) - 1))
    inputs = list(layer.inputs)
    inputs[slot] = data.draw(st.integers(0, index - 1))
    rewired = with_layer(architecture, index, layer._replace(inputs=tuple(inputs)))
    assume(not has_twin_summands(architecture))

    assert (rewired.digest == architecture.digest) == isomorphic(rewired, architecture)


def test_digests_distinguish_exactly_the_different_small_graphs():
    """All graphs of three layers out of ReLU, addition and concatenation.

    A duplicate may be missed where an addition has twin summands; a different graph may never be
    taken for one.
    """
    choices = [
        [Layer(RELU, (i,)) for i in range(size)]
        + [
            Layer(join, pair)
            for join in (Add(), Concat())
            for pair in product(range(size), repeat=2)
        ]
        for size in (1, 2, 3)
    ]
    by_digest: dict[str, list[Architecture]] = {}
    for layers in product(*choices):
        architecture = graph(*layers)
        by_digest.setdefault(architecture.digest, []).append(architecture)

    for first, *others in by_digest.values():
        assert all(isomorphic(first, other) for other in others)
    for one, other in combinations([same[0] for same in by_digest.values()], 2):
        assert not isomorphic(one, other) or has_twin_summands(one)
    assert sum(map(len, by_digest.values())) == 3 * 10 * 21
    assert len(by_digest) > 100


def test_a_layer_used_twice_differs_from_two_equal_layers():
    once = graph(Layer(conv(), (0,)), Layer(Add(), (1, 1)))
    twice = graph(Layer(conv(), (0,)), Layer(conv(), (0,)), Layer(Add(), (1, 2)))

    assert once.digest != twice.digest


def test_order_matters_for_concatenation_not_for_addition():
    def join(operation, *inputs):
        return graph(Layer(RELU, (0,)), Layer(GELU, (0,)), Layer(operation, inputs)).digest

    assert join(Add(), 1, 2) == join(Add(), 2, 1)
    assert join(Concat(), 1, 2) != join(Concat(), 2, 1)
    assert join(Gate(), 1, 2) != join(Gate(), 2, 1)


def test_a_digest_is_32_hexadecimal_digits():
    digest = nets.classic_vgg("VGG11").digest

    assert len(digest) == 32
    assert int(digest, 16) >= 0


def test_digests_are_the_same_in_every_process_and_need_no_torch():
    architectures_here = [nets.resnet18(), nets.squeeze_and_excitation(), nets.densenet121()]
    program = (
        "import json, sys\n"
        "from spaces import Architecture\n"
        "texts = json.load(sys.stdin)\n"
        "print(*[Architecture.from_json(text).digest for text in texts])\n"
        "assert not {'torch', 'ray'} & set(sys.modules)\n"
    )
    for seed in ("1", "2"):
        process = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed},
            input=json.dumps([architecture.to_json() for architecture in architectures_here]),
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, process.stderr
        assert process.stdout.split() == [here.digest for here in architectures_here]


def test_values_of_every_kind_of_layer_are_part_of_the_digest():
    """Not only those that random graphs happen to contain."""
    operations = [
        Convolution(8),
        Convolution(8, bias=True),
        Convolution(8, (3, 5)),
        Convolution(8, (5, 3)),
        Norm("batch"),
        Norm("group", 2),
        Dropout(0.5),
        Dropout(0.25),
        Linear(8),
        Linear(8, bias=False),
    ]
    digests = {graph(Layer(operation, (0,))).digest for operation in operations}

    assert len(digests) == len(operations)
