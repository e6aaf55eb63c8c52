"""The space of ConvMixers."""

import pytest

from spaces import Architecture, BadInputError, CollapsedLayerError, Task, costs, find_border
from spaces.convmixer import convmixer
from spaces.named import named
from spaces.operations import Add, Convolution
from tests.spaces.drawing import assert_one_helpful_line, random_trial

TASK = Task(channels=3, height=32, width=32, classes=10)
FIXED = {"width": 16, "depth": 3, "kernel": 5, "patch": 2}


def draw(task: Task = TASK, **options) -> Architecture:
    return convmixer(random_trial(), task, **(FIXED | options))


def convolutions(architecture: Architecture) -> list[Convolution]:
    return [architecture.layers[i].operation for i in architecture.indices(Convolution)]


def test_fixed_option_is_not_a_study_parameter():
    trial = random_trial()
    convmixer(trial, TASK, **FIXED)

    assert trial.params == {}


def test_patches_then_depthwise_and_pointwise_convolutions_in_turn():
    patches, *mixing = convolutions(draw())

    assert (patches.kernel, patches.stride) == ((2, 2), (2, 2))
    assert [(c.kernel, c.groups) for c in mixing] == [((5, 5), 16), ((1, 1), 1)] * 3
    assert all(c.bias and c.features == 16 for c in [patches, *mixing])


def test_there_is_a_skip_around_each_depthwise_convolution():
    architecture = draw()

    sums = [architecture.layers[i] for i in architecture.indices(Add)]
    assert len(sums) == 3
    for _, (_, skipped), name, _ in sums:
        depthwise = name.replace("add", "depthwise")
        assert (skipped,) in [la.inputs for la in architecture.layers if la.name == depthwise]


def test_patches_are_the_only_downsampling():
    architecture = draw(patch=3, dilation=2)

    assert {shape[1:] for shape in architecture.shapes[1:-2]} == {(10, 10)}


def test_fields_grow_by_the_kernel_alone():
    assert find_border(draw()).fields[-1].largest == (2 + 2 * 3 * 4,) * 2
    assert find_border(draw()).fields[-1].smallest == (2, 2)
    assert find_border(draw(dilation=2)).fields[-1].largest == (2 + 2 * 3 * 8,) * 2


def test_patches_larger_than_the_image_are_left_to_the_screens():
    with pytest.raises(CollapsedLayerError):
        _ = draw(Task(3, 8, 8, 10), patch=9).shapes


def test_published_parameters_for_imagenet():
    task = Task(3, 224, 224, 1000)

    assert round(costs(named("convmixer1536d20", task)).params / 1e6, 1) == 51.6


BAD = [
    ("width", 0, "0 is under 1"),
    ("depth", [4, 2], "low <= high must hold"),
    ("kernel", [3, 8], "8 is not an odd size"),
    ("patch", 0, "0 is under 1"),
]


@pytest.mark.parametrize(("option", "value", "problem"), BAD, ids=str)
def test_a_bad_option_is_refused_at_every_draw(option, value, problem):
    for seed in range(4):
        with pytest.raises(BadInputError) as caught:
            convmixer(random_trial(seed), TASK, **{option: value})
        assert problem in caught.value.problem
        assert_one_helpful_line(caught.value, f"space.{option}", value)
