"""Operations that users' nets bring along, judged by torch: shapes, costs, receptive fields."""

import json
from dataclasses import replace
from fractions import Fraction
from math import ceil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from spaces import Architecture, CollapsedLayerError, ReceptiveField, costs, receptive_fields
from spaces.border import find_border
from spaces.operations import (
    ACTIVATIONS,
    FILLS,
    INTERPOLATIONS,
    NORMS,
    OTHER_ACTIVATIONS,
    OTHER_NORMS,
    Activation,
    AdaptivePooling,
    ChannelShuffle,
    Concat,
    Convolution,
    Flatten,
    Norm,
    Operation,
    Padding,
    ParametricRelu,
    PixelShuffle,
    PixelUnshuffle,
    Pooling,
    Product,
    Resizing,
    Scale,
    Shape,
    Shift,
    Slice,
    TransposedConvolution,
    Upsampling,
)
from tests.spaces.graphs import examples
from tests.spaces.nets import Builder, chain, conv, pool
from trainables.builder import Network, build_layer

SINGLE: list[tuple[Operation, Shape]] = [
    (TransposedConvolution(6), (4, 5, 7)),
    (TransposedConvolution(6, (3, 5), (2, 3), (1, 2), (1, 0), (1, 2), 2, True), (4, 5, 7)),
    (TransposedConvolution(4, (1, 1), (3, 2), (0, 0), (2, 1)), (4, 5, 7)),
    (Upsampling((2, 3)), (4, 5, 7)),
    (Upsampling((2, 3), "bilinear"), (4, 5, 7)),
    (Upsampling((3, 2), "bicubic"), (4, 5, 7)),
    (Resizing((3, 11)), (4, 5, 7)),
    (Resizing((3, 11), "bilinear", align_corners=True), (4, 5, 7)),
    (Pooling("blur", 3, 2, 1), (4, 5, 7)),
    (Pooling("blur", (2, 3), (2, 1)), (4, 5, 7)),
    (AdaptivePooling((3, 7)), (4, 5, 7)),
    (AdaptivePooling((8, 2), "max"), (4, 5, 7)),
    (PixelShuffle((2, 2)), (8, 5, 7)),
    (PixelUnshuffle((2, 2)), (3, 6, 4)),
    (Slice(1, 3), (4, 5, 7)),
    (ChannelShuffle(2), (6, 5, 7)),
    (Padding((0, 1, 2), (0, 3, 0)), (4, 5, 7)),
    (Padding((2, -1, 0), (2, -2, -3)), (4, 5, 7)),
    *[(Padding((0, 1, 2), (0, 3, 0), fill), (4, 5, 7)) for fill in FILLS],
    (Flatten(), (4, 5, 7)),
    (Scale(value=0.5), (4, 5, 7)),
    (Scale((4, 1, 1), learned=True), (4, 5, 7)),
    (Scale((1, 5, 7)), (4, 5, 7)),
    (Shift((4, 5, 7), learned=True), (4, 5, 7)),
    (ParametricRelu(), (4, 5, 7)),
    (ParametricRelu(4), (4, 5, 7)),
    *[(Norm(norm, 2, affine=False), (4, 5, 7)) for norm in NORMS + OTHER_NORMS],
    (Norm("channel"), (4, 5, 7)),
    *[(Activation(function), (4, 5, 7)) for function in ACTIVATIONS + OTHER_ACTIVATIONS],
]


@pytest.mark.parametrize(("operation", "shape"), SINGLE, ids=lambda value: repr(value)[:60])
def test_shape_parameters_and_macs_are_those_of_torch(operation: Operation, shape: Shape) -> None:
    module = build_layer(operation, (shape,)).eval()
    with FlopCounterMode(display=False) as counter:
        output = module(torch.rand(2, *shape))

    architecture = chain(shape, operation)
    assert architecture.shapes[-1] == output.shape[1:]
    assert costs(architecture).params == sum(p.numel() for p in module.parameters())
    assert 2 * 2 * costs(architecture).macs == counter.get_total_flops()
    assert Architecture.from_json(architecture.to_json()) == architecture


def test_a_product_multiplies_and_counts_both_branches() -> None:
    builder = Builder((3, 32, 32))
    wide = builder.add(conv(7), builder.image)
    narrow = builder.add(conv(3), builder.image)
    builder.add(Product(), wide, narrow)
    architecture = builder.build()

    assert receptive_fields(architecture)[-1] == ReceptiveField((3, 3), (7, 7))
    values = torch.rand(2, 1, 3, 4, 4)
    product = build_layer(Product(), ((3, 4, 4), (3, 4, 4)))(*values)
    assert torch.equal(product, values[0] * values[1])


@pytest.mark.parametrize(
    ("operation", "inputs", "rule"),
    [
        (TransposedConvolution(8, groups=3), [(4, 5, 5)], "divisible by groups"),
        (PixelShuffle((2, 2)), [(6, 5, 5)], "divisible by 2"),
        (PixelUnshuffle((2, 2)), [(4, 5, 4)], "divisible by 2"),
        (Slice(2, 5), [(4, 5, 5)], "start < stop <= channels"),
        (Slice(2, 2), [(4, 5, 5)], "start < stop <= channels"),
        (ChannelShuffle(3), [(4, 5, 5)], "divisible by groups"),
        (Scale((3, 1, 1)), [(4, 5, 5)], "does not broadcast"),
        (ParametricRelu(3), [(4, 5, 5)], "slopes must be 1 or 4"),
        (Product(), [(4, 5, 5), (4, 1, 1)], "equal shapes"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(operation, inputs, rule) -> None:
    with pytest.raises(ValueError, match=rule):
        operation.output_shape(tuple(inputs))


@pytest.mark.parametrize(
    "operation",
    [TransposedConvolution(1, (1, 1), (1, 1), (3, 3)), Padding((0, -3, 0), (0, -2, 0))],
)
def test_maps_without_pixels_have_collapsed(operation) -> None:
    with pytest.raises(CollapsedLayerError, match="layer 1"):
        _ = chain((1, 5, 5), operation).shapes


@pytest.mark.parametrize(
    ("operation", "field", "value"),
    [
        (Upsampling(), "interpolation", "cubic"),
        (Padding((0, 0, 0), (0, 0, 0)), "fill", "zeros"),
        (Padding((0, 0, 0), (0, 0, 0)), "before", (0, 0)),
        (Slice(1, 2), "start", -1),
        (Scale(), "shape", (0, 1, 1)),
        (Scale(), "value", float("nan")),
        (AdaptivePooling(2), "size", (0, 2)),
        (Activation(), "function", "unknown"),
        (Pooling(), "mode", "maximum"),
        (Pooling(), "ceil", 1),
        (Convolution(8), "features", 8.0),
        (Convolution(8), "kernel", "5"),
        (Convolution(8), "kernel", 5.0),
        (Convolution(8), "kernel", (5, 5, 5)),
        (Convolution(8), "stride", 0),
        (Convolution(8), "stride", True),
        (Convolution(8), "padding", -1),
        (Convolution(8), "dilation", "2"),
    ],
)
def test_values_that_no_layer_can_have_are_refused(operation, field, value) -> None:
    problem = f"^{field} of {operation.kind} cannot be [^;]+; use "
    with pytest.raises(ValueError, match=problem) as refused:
        replace(operation, **{field: value})
    assert len(str(refused.value).splitlines()) == 1
    document = json.loads(chain((4, 5, 5), operation).to_json())
    document["layers"][-1][field] = value
    with pytest.raises(ValueError, match=f"{field} of {operation.kind} cannot be"):
        Architecture.from_json(json.dumps(document))


@pytest.mark.parametrize(
    ("short", "full"),
    [
        (Convolution(16, 5, stride=2), Convolution(16, (5, 5), (2, 2), (2, 2))),
        (Convolution(16, (1, 5), dilation=2), Convolution(16, (1, 5), (1, 1), (0, 4), (2, 2))),
        (Convolution(16, 4, stride=4, padding=0), Convolution(16, (4, 4), (4, 4), (0, 0))),
        (Pooling("average", 3), Pooling("average", (3, 3), (3, 3), (0, 0))),
        (Pooling("max", 3, 2, 1), Pooling("max", (3, 3), (2, 2), (1, 1))),
        (TransposedConvolution(8, 4, padding=1), TransposedConvolution(8, (4, 4), (2, 2), (1, 1))),
        (Upsampling(3), Upsampling((3, 3))),
        (Resizing(7, "bilinear"), Resizing((7, 7), "bilinear")),
        (AdaptivePooling(2, "max"), AdaptivePooling((2, 2), "max")),
        (PixelShuffle(3), PixelShuffle((3, 3))),
        (PixelUnshuffle(3), PixelUnshuffle((3, 3))),
    ],
)
def test_one_number_stands_for_a_pair(short, full) -> None:
    assert short == full
    assert repr(short) == repr(full)  # Digests hash this text.


@pytest.mark.parametrize("kernel", [1, 3, 7, (1, 5)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_convolution_keeps_the_size_by_default(kernel, dilation) -> None:
    operation = Convolution(2, kernel, dilation=dilation)
    assert operation.output_shape(((1, 9, 8),)) == (2, 9, 8)


def test_even_kernel_without_padding_is_refused() -> None:
    with pytest.raises(ValueError, match=r"even kernel \(4\); give one, such as padding=0$"):
        Convolution(8, 4)


# Receptive fields


def measured_extent(architecture: Architecture) -> int:
    """Return the largest extent, along the height, of what any output position depends on."""
    network = Network(architecture).double().eval()
    for parameter in network.parameters():
        torch.nn.init.uniform_(parameter, 0.5, 1.5)
    height = architecture.shapes[0][1]
    values: dict[int, Tensor] = {0: torch.eye(height, dtype=torch.float64)[:, None, :, None]}
    for index, layer in enumerate(architecture.layers[1:], start=1):
        values[index] = network.layers[index](*[values[i] for i in layer.inputs])
    depends = values[len(architecture.layers) - 1][:, 0, :, 0] != 0  # [pixel, output position]
    extents = []
    for column in depends.T:
        rows = column.nonzero()
        extents.append(int(rows.max() - rows.min()) + 1 if len(rows) else 0)
    return max(extents)


def tall(size: int) -> tuple[int, int]:
    return (size, 1)


@st.composite
def coarsening(draw: st.DrawFn) -> Operation:
    kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 2))
    if draw(st.booleans()):
        return Pooling("average", tall(kernel), tall(stride))
    padding = (draw(st.integers(0, 2)), 0)
    return Convolution(1, tall(kernel), tall(stride), padding, tall(draw(st.integers(1, 2))))


@st.composite
def refining(draw: st.DrawFn) -> Operation:
    factor = draw(st.integers(2, 4))
    if draw(st.booleans()):
        return Upsampling(tall(factor), draw(st.sampled_from(INTERPOLATIONS)))
    kernel = draw(st.integers(1, 6))
    padding = draw(st.integers(0, min(2, (kernel - 1) // 2)))
    return TransposedConvolution(1, tall(kernel), tall(factor), (padding, 0))


def smoothing() -> st.SearchStrategy[Operation]:
    return st.integers(2, 5).map(lambda k: Convolution(1, tall(k), padding=(k // 2, 0)))


def within(operations: list[Operation], height: int) -> Architecture:
    """Chain operations as long as fields stay well inside the image and maps stay small."""
    path: list[Operation] = []
    for operation in operations:
        longer = chain((1, height, 1), *path, operation)
        try:
            low = longer.shapes[-1][1]
        except CollapsedLayerError:
            break
        if receptive_fields(longer)[-1].largest[0] > height // 3 or not 4 <= low <= 400:
            break
        path.append(operation)
    return chain((1, height, 1), Convolution(1, (1, 1), padding=(0, 0)), *path)


@examples(150)
@given(
    st.lists(coarsening(), max_size=3),
    st.lists(st.one_of(refining(), smoothing()), min_size=1, max_size=4),
)
def test_fields_after_whole_factors_match_gradient_extents(coarse, fine) -> None:
    architecture = within([*coarse, *fine], height=96)

    assert receptive_fields(architecture)[-1].largest[0] == max(1, measured_extent(architecture))


anything = st.one_of(
    coarsening(),
    refining(),
    smoothing(),
    st.integers(2, 60).map(lambda n: Resizing(tall(n))),
    st.integers(2, 60).map(lambda n: Resizing(tall(n), "bilinear")),
    st.integers(2, 60).map(lambda n: Resizing(tall(n), "bicubic", align_corners=True)),
    st.integers(2, 60).map(lambda n: AdaptivePooling(tall(n))),
)


@examples(200)
@given(st.lists(anything, min_size=1, max_size=5))
def test_fields_after_any_resampling_are_a_bound(operations) -> None:
    architecture = within(operations, height=60)

    assert receptive_fields(architecture)[-1].largest[0] >= measured_extent(architecture)


@pytest.mark.parametrize("new", [2, 3, 5, 6, 7, 10, 15, 23, 30, 31, 40, 45, 90])
@pytest.mark.parametrize(
    "resampled",
    [
        lambda n: AdaptivePooling(tall(n)),
        lambda n: Resizing(tall(n)),
        lambda n: Resizing(tall(n), "bilinear"),
        lambda n: Resizing(tall(n), "bicubic"),
        lambda n: Resizing(tall(n), "bilinear", align_corners=True),
    ],
    ids=["adaptive", "nearest", "bilinear", "bicubic", "aligned"],
)
def test_the_window_of_one_resampling_is_the_largest_that_occurs(resampled, new) -> None:
    architecture = chain((1, 30, 1), resampled(new))

    assert receptive_fields(architecture)[-1].largest[0] == measured_extent(architecture)


def test_two_convolutions_on_an_upsampled_map_share_the_roundings() -> None:
    architecture = chain((1, 8, 8), Upsampling((4, 4)), conv(3), conv(3), conv(3))

    largest = [field.largest[0] for field in receptive_fields(architecture)]
    assert largest == [1, 1, ceil(1 + Fraction(2, 4)), 2, ceil(1 + Fraction(6, 4))]


def test_a_decoder_goes_on_from_the_jump_of_its_coarsest_map() -> None:
    architecture = chain(
        (3, 32, 32),
        conv(3),  # r 3, j 1
        pool(2, 2),  # r 4, j 2
        conv(3),  # r 8
        TransposedConvolution(8),  # j 1, each output takes one pixel
        conv(3),  # two or three coarse pixels apart: 8 + 1 * 2
        pool(2, 2),  # back at j 2
        conv(3),  # 4 on
    )

    largest = [field.largest[0] for field in receptive_fields(architecture)]
    assert largest == [1, 3, 4, 8, 8, 10, 12, 16]


def test_a_u_net_joins_branches_of_both_resolutions() -> None:
    builder = Builder((3, 32, 32))
    fine = builder.add(conv(3), builder.image)
    coarse = builder.add(conv(3), builder.add(pool(2, 2), fine))
    joined = builder.add(Concat(), fine, builder.add(Upsampling(), coarse))
    last = builder.add(conv(3), joined)

    fields = receptive_fields(builder.build())
    assert fields[joined] == ReceptiveField((3, 3), (8, 8))
    assert fields[last] == ReceptiveField((5, 5), (10, 10))


def test_adaptive_pooling_to_the_same_size_and_to_one_pixel() -> None:
    same = chain((3, 6, 8), conv(3), AdaptivePooling((6, 8)))
    one = chain((3, 6, 8), conv(3), AdaptivePooling((1, 1)))

    assert receptive_fields(same)[-1].largest == (3, 3)
    assert receptive_fields(one)[-1].largest == (8, 10)


def test_axes_of_a_resampling_are_told_apart() -> None:
    architecture = chain((3, 16, 16), conv(3), TransposedConvolution(8, (4, 1), (2, 1)), conv(3))

    assert receptive_fields(architecture)[-1].largest == (5, 5)
    assert architecture.shapes[-1] == (8, 34, 16)


def test_a_transposed_convolution_is_one_of_the_convolutions() -> None:
    architecture = chain((3, 4, 4), conv(3), TransposedConvolution(8), conv(3), conv(3))
    analysis = find_border(architecture)

    assert analysis.convolutions == (1, 2, 3, 4)
    assert [field.largest[0] for field in analysis.fields] == [3, 3, 4, 5]
    assert find_border(architecture, resolution=(2, 2)).border == 2


def test_cropping_padding_and_shuffling_keep_the_field() -> None:
    operations = [
        *(Padding((0, 2, 2), (0, -1, 0)), Slice(0, 4), ChannelShuffle(2), Scale((4, 1, 1))),
        *(Shift(), ParametricRelu(), Norm("channel")),
    ]
    fields = receptive_fields(chain((8, 16, 16), conv(5), *operations))

    assert set(fields[1:]) == {ReceptiveField((5, 5), (5, 5))}


def test_flattening_sees_the_whole_map() -> None:
    assert receptive_fields(chain((3, 8, 8), conv(3), Flatten()))[-1].largest == (10, 10)


def test_pair_of_a_channel_norm_is_layer_norm_over_channels() -> None:
    values = torch.rand(2, 6, 3, 4, dtype=torch.float64)
    module = build_layer(Norm("channel"), ((6, 3, 4),)).double()

    centred = values - values.mean(1, keepdim=True)
    expected = centred / (values.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(module(values), expected)
