"""The space of densely connected networks."""

import pytest

from spaces import Architecture, BadInputError, Task, find_border, receptive_fields
from spaces.densenet import densenet
from spaces.named import named
from spaces.operations import Concat, Convolution, Pooling
from tests.spaces.drawing import assert_one_helpful_line, random_trial

TASK = Task(channels=3, height=32, width=32, classes=10)
FIXED = {"growth": 6, "blocks": 2, "layers": 3}


def draw(**options) -> Architecture:
    return densenet(random_trial(), TASK, **(FIXED | options))


def convolutions(architecture: Architecture, part: str = "") -> list[Convolution]:
    return [
        architecture.layers[i].operation
        for i in architecture.indices(Convolution)
        if part in architecture.layers[i].name
    ]


def test_fixed_option_is_not_a_study_parameter():
    trial = random_trial()
    densenet(trial, TASK, **FIXED)

    assert trial.params == {}


def test_every_layer_adds_growth_features_to_all_before_it():
    architecture = draw(compression=1)

    widths = [architecture.shapes[i][0] for i in architecture.indices(Concat)]
    assert widths == [18, 24, 30, 36, 42, 48]
    assert [c.features for c in convolutions(architecture, "conv2")] == [6] * 6


def test_every_layer_sees_all_layers_before_it_in_its_block():
    """A chain of concatenations gives the fields of the published wiring: 1 to n convolutions."""
    architecture = draw(blocks=1, layers=4)

    fields = receptive_fields(architecture)
    last = fields[architecture.indices(Concat)[-1]]
    assert (last.smallest, last.largest) == ((3, 3), (11, 11))


def test_a_bottleneck_is_a_1x1_convolution_or_is_left_out():
    assert [c.features for c in convolutions(draw(bottleneck=4), "conv1")] == [24] * 6
    assert {c.kernel for c in convolutions(draw(bottleneck=4), "conv1")} == {(1, 1)}
    assert convolutions(draw(bottleneck=0), "conv1") == []


@pytest.mark.parametrize(("compression", "features"), [(1, 30), (0.5, 15), (0.49, 14), (0.01, 1)])
def test_transition_keeps_a_fraction_of_the_features(compression, features):
    architecture = draw(compression=compression)

    assert [c.features for c in convolutions(architecture, "transition")] == [features]


@pytest.mark.parametrize("mode", ["max", "average"])
def test_a_transition_pools(mode):
    architecture = draw(downsampling=mode)

    pools = [architecture.layers[i].operation for i in architecture.indices(Pooling)]
    assert pools == [Pooling(mode)]
    assert architecture.shapes[-3][1:] == (16, 16)


def test_a_transition_may_stride_instead():
    architecture = draw(downsampling="stride")

    assert architecture.indices(Pooling) == []
    assert [c.kernel for c in convolutions(architecture, "transition")] == [(2, 2)]
    assert architecture.shapes[-3][1:] == (16, 16)


def test_stem_has_twice_the_growth_by_default():
    assert convolutions(draw(), "stem")[0].features == 12
    assert convolutions(draw(stem_features=20), "stem")[0].features == 20


def test_kernel_and_dilation_are_those_of_the_layers():
    architecture = draw(kernel=5, dilation=2)

    assert {(c.kernel, c.dilation) for c in convolutions(architecture, "conv2")} == {
        ((5, 5), (2, 2))
    }


def test_published_fields_of_densenet121():
    architecture = named("densenet121", Task(3, 224, 224, 1000))

    last = find_border(architecture).fields[-1]
    assert last.smallest == (103, 103)
    assert last.largest == (2071, 2071)


BAD = [
    ("stem", "large", "large is unknown"),
    ("growth", 0, "0 is under 1"),
    ("blocks", 0, "0 is under 1"),
    ("layers", [0, 2], "0 is under 1"),
    ("bottleneck", -1, "-1 is under 0"),
    ("compression", 0, "0 is not 0.01 or more"),
    ("compression", 1.5, "1.5 is over 1"),
    ("compression", [0.5, 2], "2 is over 1"),
    ("stem_features", 0, "0 is under 1"),
    ("downsampling", "none", "none is unknown"),
]


@pytest.mark.parametrize(("option", "value", "problem"), BAD, ids=str)
def test_a_bad_option_is_refused_at_every_draw(option, value, problem):
    for seed in range(4):
        with pytest.raises(BadInputError) as caught:
            densenet(random_trial(seed), TASK, **{option: value})
        assert problem in caught.value.problem
        assert_one_helpful_line(caught.value, f"space.{option}", value)
