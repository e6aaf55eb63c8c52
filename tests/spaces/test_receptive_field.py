"""Receptive fields: published values, enumeration of all paths, measured gradients."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spaces import Architecture, ReceptiveField, receptive_fields
from spaces.operations import Convolution, Gate, GlobalPooling, Linear, Norm, Operation
from spaces.receptive_field import gate_branches, previous_convolution_fields
from tests.spaces import nets
from tests.spaces.graphs import architectures, convolutions, examples, poolings
from tests.spaces.nets import chain, conv, pool
from tests.spaces.reference import TorchRun, field_along, over_axes, paths_to

IMAGE = (3, 224, 224)

PUBLISHED = {
    "VGG11": (nets.classic_vgg("VGG11"), [3, 8, 18, 26, 46, 62, 102, 134]),
    "VGG13": (nets.classic_vgg("VGG13"), [3, 5, 10, 14, 24, 32, 52, 68, 108, 140]),
    "VGG16": (
        nets.classic_vgg("VGG16"),
        [3, 5, 10, 14, 24, 32, 40, 60, 76, 92, 132, 164, 196],
    ),
    "VGG19": (
        nets.classic_vgg("VGG19"),
        [3, 5, 10, 14, 24, 32, 40, 48, 68, 84, 100, 116, 156, 188, 220, 252],
    ),
    "AlexNet": (nets.alexnet(), [11, 51, 99, 131, 163]),
    "5x5, pool 2, twice": (chain(IMAGE, conv(5), pool(), conv(5), pool()), [5, 14]),
    "16 convolutions": (chain(IMAGE, *[conv()] * 16), [*range(3, 34, 2)]),
    "dilation 1 to 16": (
        chain(IMAGE, *[conv(dilation=d) for d in (1, 2, 4, 8, 16)]),
        [3, 7, 15, 31, 63],
    ),
    "7x7/2, pool 3/2, 8 convolutions": (
        chain(IMAGE, conv(7, 2), pool(3, 2), *[conv()] * 8),
        [7, 19, 27, 35, 43, 51, 59, 67, 75],
    ),
    "convolution and pool 3/2, five times": (
        chain(IMAGE, *[conv(), pool(3, 2)] * 5),
        [3, 9, 21, 45, 93],
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_fields_of_published_plain_networks(name):
    architecture, expected = PUBLISHED[name]
    fields = receptive_fields(architecture)

    of_convolutions = [fields[i] for i in architecture.indices(Convolution)]
    assert of_convolutions == [ReceptiveField((r, r), (r, r)) for r in expected]


def test_resnet18_field_is_smallest_over_shortcuts():
    architecture = nets.resnet18()
    fields = [receptive_fields(architecture)[i] for i in nets.main_path_convolutions(architecture)]

    smallest = [7, 19, 27, 19, 27, 19, 35, 27, 43, 27, 59, 43, 75, 43, 107, 75, 139]
    assert [field.smallest for field in fields] == [(r, r) for r in smallest]
    assert fields[-1].largest == (435, 435)


@pytest.mark.parametrize(
    ("build", "smallest", "largest"),
    [(nets.densenet121, 103, 2071), (nets.mobilenet_v2, 163, 491)],
    ids=["DenseNet-121", "MobileNetV2"],
)
def test_field_of_the_last_convolution(build, smallest, largest):
    architecture = build()
    last = receptive_fields(architecture)[architecture.indices(Convolution)[-1]]

    assert last == ReceptiveField((smallest, smallest), (largest, largest))


@pytest.mark.parametrize("include_gates", [False, True])
@examples(150)
@given(architectures())
def test_fields_are_the_extremes_over_all_paths(include_gates, architecture):
    fields = receptive_fields(architecture, include_gates=include_gates)

    for index, field in enumerate(fields):
        paths = list(paths_to(architecture, index, gates=include_gates))
        along = [
            over_axes(lambda axis, p=path: field_along(architecture, p, axis)) for path in paths
        ]
        assert field.smallest == (min(h for h, _ in along), min(w for _, w in along))
        assert field.largest == (max(h for h, _ in along), max(w for _, w in along))


@pytest.mark.parametrize("include_gates", [False, True])
@examples(150)
@given(architectures())
def test_the_previous_convolution_is_the_last_one_on_any_path(include_gates, architecture):
    fields = receptive_fields(architecture, include_gates=include_gates)
    previous = previous_convolution_fields(architecture, fields, include_gates=include_gates)

    convolutions = set(architecture.indices(Convolution))
    for index, field in enumerate(previous):
        before = [
            path[: max([n for n, i in enumerate(path[:-1]) if i in convolutions], default=0) + 1]
            for path in paths_to(architecture, index, gates=include_gates)
        ]
        assert field == over_axes(
            lambda axis, ends=before: min(field_along(architecture, path, axis) for path in ends)
        )


def averaging_path(operations: list[Operation], side: int) -> Architecture:
    """Chain operations, one channel wide, as long as the centre's field lies in the image."""
    path = [Convolution(1)]
    for operation in operations:
        is_convolution = isinstance(operation, Convolution)
        path.append(replace(operation, features=1, groups=1) if is_convolution else operation)
        longer = chain((1, side, side), *path)
        if max(receptive_fields(longer)[-1].largest) > side // 2 or min(longer.shapes[-1][1:]) < 5:
            return chain((1, side, side), *path[:-1])
    return chain((1, side, side), *path)


@examples(60)
@given(
    st.lists(
        st.one_of(convolutions(padding=0), poolings(modes=("average",), padded=False)),
        min_size=1,
        max_size=8,
    ).map(lambda operations: averaging_path(operations, side=160))
)
def test_largest_field_is_the_extent_of_the_input_gradient(architecture):
    image = torch.rand(1, *architecture.shapes[0], dtype=torch.float64, requires_grad=True)
    output = TorchRun(architecture, image, training=False).outputs[-1][0, 0]
    output[output.shape[0] // 2, output.shape[1] // 2].backward()

    rows, columns = torch.nonzero(image.grad[0, 0], as_tuple=True)
    extent = (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1)
    assert receptive_fields(architecture)[-1].largest == extent


def test_axes_are_told_apart():
    tall = Convolution(8, (5, 1), (2, 1), (0, 0), dilation=(3, 1))
    architecture = chain((1, 64, 64), tall, conv(), Convolution(8, (1, 7), (1, 3), (0, 0)), conv())

    smallest = [field.smallest for field in receptive_fields(architecture)]
    assert smallest == [(1, 1), (13, 1), (17, 3), (17, 9), (21, 15)]


def test_padding_changes_no_field():
    padded = chain((1, 32, 32), Convolution(8, (5, 5), padding=(4, 4)), pool(3, 2, 1))
    bare = chain((1, 32, 32), Convolution(8, (5, 5), padding=(0, 0)), pool(3, 2, 0))

    assert receptive_fields(padded) == receptive_fields(bare)


def test_branches_of_different_jump_are_followed_separately():
    builder = nets.Builder((1, 9, 9))
    far_apart = builder.add(Convolution(1, (1, 1), (3, 3), (0, 0)), builder.image)  # r 1, j 3
    close_by = builder.add(Convolution(1, (7, 7), (1, 1), (0, 0)), builder.image)  # r 7, j 1
    join = builder.add(nets.Add(), far_apart, close_by)
    last = builder.add(conv(3), join)

    fields = receptive_fields(builder.build())
    assert fields[join] == ReceptiveField((1, 1), (7, 7))
    assert fields[last] == ReceptiveField((7, 7), (9, 9))  # 1 + 2 * 3 and 7 + 2 * 1


def test_a_linear_layer_over_a_map_sees_all_of_it():
    architecture = chain((1, 8, 12), conv(), pool(), Linear(10))

    assert receptive_fields(architecture)[-1] == ReceptiveField((10, 14), (10, 14))


def test_global_pooling_sees_the_whole_map():
    architecture = chain((1, 8, 8), conv(), GlobalPooling(), Norm(), Linear(10))

    fields = receptive_fields(architecture)
    assert fields[2] == ReceptiveField((10, 10), (10, 10))
    assert fields[2:] == [fields[2]] * 3


def test_the_branch_of_a_gate_counts_only_on_demand():
    architecture = nets.squeeze_and_excitation(size=32, convolutions=1)
    gate = architecture.indices(Gate)[0]

    assert receptive_fields(architecture)[gate].largest == (3, 3)
    assert receptive_fields(architecture, include_gates=True)[gate].largest == (34, 34)
    assert receptive_fields(architecture, include_gates=True)[gate].smallest == (3, 3)


def test_gate_branches_are_the_layers_that_only_calculate_gates():
    architecture = nets.squeeze_and_excitation(convolutions=2)

    branches = gate_branches(architecture)
    assert branches == {2, 3, 4, 5, 6, 9, 10, 11, 12, 13}
    assert gate_branches(nets.resnet18()) == set()


@examples(100)
@given(architectures())
def test_a_layer_of_a_gate_branch_is_on_no_path_but_through_a_gate(architecture):
    last = len(architecture.layers) - 1
    with_gates = set().union(*paths_to(architecture, last, gates=True))
    without = set().union(*paths_to(architecture, last, gates=False))

    branches = gate_branches(architecture)
    assert branches & without == set()
    assert with_gates - without <= branches
