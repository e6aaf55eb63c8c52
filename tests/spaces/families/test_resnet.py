"""The space of residual networks."""

import pytest
from optuna.trial import FixedTrial

from spaces import Architecture, BadInputError, Task, costs, find_border
from spaces.named import named
from spaces.operations import Add, Convolution, Norm, Pooling
from spaces.resnet import resnet
from tests.spaces.drawing import assert_one_helpful_line, random_trial

CIFAR = Task(channels=3, height=32, width=32, classes=10)
IMAGENET = Task(channels=3, height=224, width=224, classes=1000)
FIXED = {"stages": 3, "blocks": 2, "width": 16}


def draw(task: Task = CIFAR, **options) -> Architecture:
    return resnet(random_trial(), task, **(FIXED | options))


def convolutions(architecture: Architecture, ending: str = "") -> list[Convolution]:
    return [
        architecture.layers[i].operation
        for i in architecture.indices(Convolution)
        if architecture.layers[i].name.endswith(ending)
    ]


def map_sizes(architecture: Architecture) -> list[int]:
    """Return the heights of the maps at the end of each block."""
    return [architecture.shapes[i][1] for i in architecture.indices(Add)]


def test_fixed_option_is_not_a_study_parameter():
    trial = random_trial()
    resnet(trial, CIFAR, **FIXED)

    assert trial.params == {}


def test_blocks_of_each_stage_and_the_first_width_are_drawn():
    trial = random_trial()
    architecture = resnet(trial, CIFAR, stages=2, blocks=[1, 3], width=[16, 32])

    assert set(trial.params) == {"blocks_1", "blocks_2", "width"}
    assert len(architecture.indices(Add)) == trial.params["blocks_1"] + trial.params["blocks_2"]


def test_widths_double_or_are_drawn_for_each_stage():
    doubling = convolutions(draw(width=10), "conv2")
    assert [c.features for c in doubling] == [10, 10, 20, 20, 40, 40]

    widths = {"width_1": 30, "width_2": 11, "width_3": 17}
    options = FIXED | {"width": [8, 32], "amounts": "free"}
    free = convolutions(resnet(FixedTrial(widths), CIFAR, **options), "conv2")
    assert [c.features for c in free] == [30, 30, 11, 11, 17, 17]


def test_widening_leaves_the_stem_as_it_is():
    wide = draw(widening=4)

    assert [c.features for c in convolutions(wide, "stem")] == [16]
    assert [c.features for c in convolutions(wide, "conv1")] == [64, 64, 128, 128, 256, 256]


def test_shortcut_is_a_convolution_only_if_the_shape_changes():
    basic, bottleneck = draw(), draw(block="bottleneck")

    def shortcuts(architecture: Architecture) -> list[str]:
        return [
            layer.name.removesuffix(".shortcut")
            for layer in architecture.layers
            if layer.name.endswith("shortcut")
        ]

    assert shortcuts(basic) == ["stage2.block1", "stage3.block1"]
    assert shortcuts(bottleneck) == ["stage1.block1", "stage2.block1", "stage3.block1"]
    assert all(c.kernel == (1, 1) for c in convolutions(basic, "shortcut"))
    assert len(basic.indices(Norm)) == len(basic.indices(Convolution))


def test_bottleneck_expands_four_times_and_strides_in_the_middle():
    architecture = draw(block="bottleneck")

    assert [c.kernel[0] for c in convolutions(architecture, "stage2.block1.conv1")] == [1]
    assert [c.stride[0] for c in convolutions(architecture, "block1.conv2")] == [1, 2, 2]
    assert {c.stride[0] for c in convolutions(architecture, "conv1")} == {1}
    wide = [c.features for c in convolutions(architecture, "conv3")]
    assert wide == [64, 64, 128, 128, 256, 256]


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_groups_split_a_blocks_convolution(block):
    architecture = draw(block=block, groups=8, width_per_group=16, width=32)

    assert {c.groups for c in convolutions(architecture, "conv2")} == {8}
    assert {c.groups for c in convolutions(architecture, "conv1")} == {1}
    inner = convolutions(architecture, "conv1")[0].features
    assert inner == 8 * (32 * 16 // 64)


@pytest.mark.parametrize("width", [1, 5, 17, 30])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_any_width_can_be_grouped(block, width):
    architecture = draw(block=block, groups=8, width_per_group=4, width=width)

    assert architecture.shapes[-1] == (10, 1, 1)


def test_the_stems():
    small, large = draw(), draw(IMAGENET, stem="imagenet")

    assert convolutions(small, "stem")[0].kernel == (3, 3)
    assert map_sizes(small) == [32, 32, 16, 16, 8, 8]
    assert convolutions(large, "stem")[0].kernel == (7, 7)
    assert [large.layers[i].operation for i in large.indices(Pooling)] == [
        Pooling("max", (3, 3), (2, 2), (1, 1))
    ]
    assert map_sizes(large) == [56, 56, 28, 28, 14, 14]


@pytest.mark.parametrize("mode", ["max", "average"])
def test_downsampling_by_pooling_between_stages(mode):
    pooled = draw(downsampling=mode)

    assert [pooled.layers[i].operation for i in pooled.indices(Pooling)] == [Pooling(mode)] * 2
    assert {c.stride for c in convolutions(pooled)} == {(1, 1)}
    assert map_sizes(pooled) == [32, 32, 16, 16, 8, 8]
    assert costs(pooled).params == costs(draw()).params


def test_where_to_downsample_can_be_searched():
    strides = {"stage_stride_2": 1, "stage_stride_3": 2}
    architecture = resnet(FixedTrial(strides), CIFAR, **FIXED, stage_stride=[1, 2])

    assert map_sizes(architecture) == [32, 32, 32, 32, 16, 16]


def test_kernel_and_dilation_are_those_of_the_blocks():
    architecture = draw(kernel=5, dilation=2)

    inner = convolutions(architecture, "conv1") + convolutions(architecture, "conv2")
    assert {(c.kernel, c.dilation, c.padding) for c in inner} == {((5, 5), (2, 2), (4, 4))}
    assert convolutions(architecture, "stem")[0].kernel == (3, 3)


# Published networks

RESNETS = {
    14: (175_258, 1_120),
    32: (466_906, 2_464),
    56: (855_770, 4_256),
    110: (1_730_714, 8_288),
    218: (3_480_602, 16_352),
    434: (6_980_378, 32_480),
    866: (13_979_930, 64_736),
}
"""Parameters, and those of them that belong to norms."""


@pytest.mark.parametrize("depth", RESNETS)
def test_published_parameters_of_cifar_resnets(depth):
    architecture = named(f"resnet{depth}c", CIFAR)

    of_norms = sum(2 * architecture.shapes[i][0] for i in architecture.indices(Norm))
    assert (costs(architecture).params, of_norms) == RESNETS[depth]
    main_path = len(convolutions(architecture)) - len(convolutions(architecture, "shortcut"))
    assert main_path + 1 == depth  # The classifier counts.


@pytest.mark.parametrize("depth", RESNETS)
@pytest.mark.parametrize("rule", ["previous-conv", "direct-input", "non-strict"])
def test_cifar_resnets_have_no_border_so_that_pruning_is_a_no_op(depth, rule):
    analysis = find_border(named(f"resnet{depth}c", CIFAR), rule)

    assert analysis.border is None
    assert analysis.beyond == 0


def test_fields_along_the_main_path_of_resnet18():
    architecture = named("resnet18", IMAGENET)
    analysis = find_border(architecture)

    main_path = [
        field
        for index, field in zip(analysis.convolutions, analysis.fields, strict=True)
        if not architecture.layers[index].name.endswith("shortcut")
    ]
    smallest = [field.smallest[0] for field in main_path]
    assert smallest == [7, 19, 27, 19, 27, 19, 35, 27, 43, 27, 59, 43, 75, 43, 107, 75, 139]
    assert main_path[-1].largest == (435, 435)


BAD = [
    ("block", "dense", "dense is unknown"),
    ("stem", ["cifar", "mnist"], "mnist is unknown"),
    ("stages", 0, "0 is under 1"),
    ("blocks", [0, 2], "0 is under 1"),
    ("width", [64, 16], "low <= high must hold"),
    ("amounts", "skew-normal", "skew-normal is unknown"),
    ("widening", 0, "0 is under 1"),
    ("groups", 0, "0 is no number of groups"),
    ("groups", [1, 2.5], "2.5 is no number of groups"),
    ("groups", "8", "8 is no number of groups"),
    ("width_per_group", 0, "0 is under 1"),
    ("stage_stride", 0, "0 is under 1"),
    ("downsampling", "none", "none is unknown"),
]


@pytest.mark.parametrize(("option", "value", "problem"), BAD, ids=str)
def test_a_bad_option_is_refused_at_every_draw(option, value, problem):
    for seed in range(4):
        with pytest.raises(BadInputError) as caught:
            resnet(random_trial(seed), CIFAR, **{option: value})
        assert problem in caught.value.problem
        assert_one_helpful_line(caught.value, f"space.{option}", value)
