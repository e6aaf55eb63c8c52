"""Shapes, parameters and multiply-accumulates, judged by torch itself."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from spaces import Architecture, CollapsedLayerError, costs
from spaces.operations import (
    OPERATIONS,
    Activation,
    Add,
    CollapsedMapError,
    Concat,
    Convolution,
    Dropout,
    Gate,
    GlobalPooling,
    Linear,
    Norm,
    Operation,
    Pooling,
    pair,
)
from tests.spaces.graphs import architectures, convolutions, examples, pairs, poolings
from tests.spaces.nets import chain
from tests.spaces.reference import TorchRun


def run(architecture: Architecture) -> TorchRun:
    images = torch.rand(2, *architecture.shapes[0])
    return TorchRun(architecture, images, training=False)


@examples(150)
@given(architectures())
def test_shapes_are_those_that_torch_gives(architecture):
    shapes = [tuple(output.shape[1:]) for output in run(architecture).outputs]

    assert list(architecture.shapes) == shapes


@examples(100)
@given(architectures())
def test_parameters_are_the_weights_that_torch_needs(architecture):
    weights = run(architecture).parameters

    assert costs(architecture).params == sum(weight.numel() for weight in weights)


@examples(60)
@given(architectures())
def test_macs_are_half_of_what_the_flop_counter_of_torch_counts(architecture):
    with FlopCounterMode(display=False) as counter:
        samples = len(run(architecture).outputs[-1])

    assert 2 * samples * costs(architecture).macs == counter.get_total_flops()


@pytest.mark.parametrize("mode", ["max", "average"])
@pytest.mark.parametrize("ceil", [False, True])
def test_pooling_windows_are_counted_and_refused_as_torch_does(mode, ceil):
    pool = F.max_pool2d if mode == "max" else F.avg_pool2d
    for size, kernel, stride in product(range(1, 8), range(1, 5), range(1, 5)):
        for padding in range(kernel // 2 + 1):
            operation = Pooling(mode, pair(kernel), pair(stride), pair(padding), ceil)
            try:
                image = torch.zeros(1, 1, size, size)
                expected = pool(image, kernel, stride, padding, ceil_mode=ceil).shape[1:]
            except RuntimeError:
                with pytest.raises(CollapsedMapError):
                    operation.output_shape(((1, size, size),))
            else:
                assert operation.output_shape(((1, size, size),)) == expected, operation


@examples(150)
@given(convolutions(), pairs(1, 7))
def test_convolutions_collapse_a_map_exactly_where_torch_refuses(convolution, size):
    architecture = chain((1, *size), convolution)
    image = torch.zeros(1, 1, *size)
    try:
        expected = TorchRun(architecture, image, training=False).outputs[-1].shape[1:]
    except RuntimeError:
        with pytest.raises(CollapsedLayerError):
            _ = architecture.shapes
    else:
        assert architecture.shapes[-1] == expected


@examples(100)
@given(st.one_of(convolutions(), poolings()), pairs(1, 30))
def test_a_map_never_keeps_less_than_one_pixel(operation, size):
    try:
        _, height, width = operation.output_shape(((1, *size),))
    except CollapsedMapError:
        return
    assert height >= 1
    assert width >= 1


@pytest.mark.parametrize(
    ("operation", "inputs", "names"),
    [
        (Convolution(8, groups=3), [(4, 5, 5)], "4 -> 8 with groups=3"),
        (Convolution(8, groups=3), [(3, 5, 5)], "3 -> 8 with groups=3"),
        (Norm("group", groups=3), [(4, 5, 5)], "4 with groups=3"),
        (Add(), [(4, 5, 5), (4, 5, 6)], "equal shapes"),
        (Add(), [(4, 5, 5), (4, 5, 5), (3, 5, 5)], "equal shapes"),
        (Concat(), [(4, 5, 5), (4, 6, 5)], "equal size"),
        (Gate(), [(4, 5, 5), (2, 5, 5)], "broadcast"),
        (Gate(), [(4, 5, 5), (4, 5, 1), (4, 1, 1)][:2][::-1], "broadcast"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_with_the_rule(operation, inputs, names):
    with pytest.raises(ValueError, match=names):
        operation.output_shape(tuple(inputs))


@pytest.mark.parametrize("gate", [(4, 5, 6), (4, 1, 1), (1, 5, 6), (1, 1, 1), (4, 5, 1)])
def test_a_gate_may_be_one_pixel_or_one_channel_wide(gate):
    assert Gate().output_shape(((4, 5, 6), gate)) == (4, 5, 6)


def test_a_single_pixel_cannot_be_normalised_by_itself():
    with pytest.raises(CollapsedMapError, match="more than one pixel"):
        Norm("instance").output_shape(((4, 1, 1),))
    assert Norm("instance").output_shape(((4, 1, 2),)) == (4, 1, 2)


def test_groups_of_a_norm_concern_group_norm_only():
    assert Norm("batch", groups=3).output_shape(((4, 5, 5),)) == (4, 5, 5)


def test_layers_that_mix_all_pixels_have_a_window_of_the_whole_map():
    map_shape = ((4, 5, 6),)

    assert GlobalPooling().windows(map_shape) == ((5, 5), (6, 6))
    assert Linear(10).windows(map_shape) == ((5, 5), (6, 6))
    assert Linear(10).windows(((4, 1, 1),)) is None


@pytest.mark.parametrize("operation", [Norm(), Activation(), Dropout(), Add(), Concat()])
def test_layers_that_keep_pixels_apart_have_no_window(operation):
    assert operation.windows(((4, 5, 6),)) is None


def test_dilation_widens_the_window():
    convolution = Convolution(8, (3, 5), (1, 2), dilation=(4, 2))

    assert convolution.windows(((1, 20, 20),)) == ((9, 1), (9, 2))


def test_every_operation_is_known_by_its_kind():
    def kinds(operation: type[Operation]) -> set[str]:
        # Operations of the written source are no part of an architecture.
        is_known = hasattr(operation, "kind") and operation.__module__.split(".")[1] != "source"
        own = {operation.kind} if is_known else set()
        return own.union(*[kinds(special) for special in operation.__subclasses__()])

    assert set(OPERATIONS) == kinds(Operation)
    assert all(operation.kind == kind for kind, operation in OPERATIONS.items())


def test_a_pair_is_a_number_for_both_axes_or_height_and_width():
    assert pair(3) == (3, 3)
    assert pair((3, 5)) == (3, 5)
