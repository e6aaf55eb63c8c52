"""Kernel sizes, attentions and kinds of downsampling drawn for each part of a network."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.trial import FixedTrial

from spaces import FAMILIES, BadInputError, CandidateSpace, Task
from spaces.named import named, seed_params
from spaces.operations import Convolution, Gate, Pooling
from tests.spaces.drawing import assert_one_helpful_line, random_trial

TASK = Task(channels=3, height=32, width=32, classes=10)
VGG = {"depth": 4, "features": 16, "pool_after": [1, 3]}
PER_PART: dict[str, tuple[str, dict[str, Any]]] = {
    "vgg": ("layer", VGG),
    "resnet": ("stage", {"stages": 3, "blocks": 1, "width": 8}),
    "convmixer": ("block", {"depth": 3, "width": 8, "patch": 2}),
}
NONE = "none"


def per(part: str, *choices: Any) -> dict[str, Any]:
    return {"per": part, "choices": list(choices)}


def test_kernel_is_drawn_for_each_layer() -> None:
    sizes = {"kernel_1": 5, "kernel_2": 3, "kernel_3": 1, "kernel_4": 3}
    options = VGG | {"kernel": per("layer", 1, 3, 5)}
    network = FAMILIES["vgg"](FixedTrial(sizes), TASK, **options)
    convolutions = [network.layers[i].operation for i in network.indices(Convolution)]
    assert [each.kernel[0] for each in convolutions] == list(sizes.values())
    assert [each.padding[0] for each in convolutions] == [2, 1, 0, 1]


def test_downsampling_is_drawn_for_each_position() -> None:
    kinds = {"downsampling_1": "stride", "downsampling_2": "average"}
    options = VGG | {"kernel": 3, "downsampling": per("layer", "max", "average", "stride")}
    network = FAMILIES["vgg"](FixedTrial(kinds), TASK, **options)
    convolutions = [network.layers[i].operation for i in network.indices(Convolution)]
    assert [each.stride[0] for each in convolutions] == [2, 1, 1, 1]
    assert [network.layers[i].operation for i in network.indices(Pooling)] == [
        Pooling("average", 2)
    ]


@pytest.mark.parametrize("family", PER_PART)
def test_attention_is_drawn_for_each_part(family: str) -> None:
    part, fixed = PER_PART[family]
    options = {"kernel": 3} | fixed | {"attention": per(part, NONE, "spatial")}
    kinds = {f"attention_{n}": "spatial" if n == 2 else NONE for n in range(1, 5)}
    network = FAMILIES[family](FixedTrial(kinds), TASK, **options)
    assert len(network.indices(Gate)) == 1


@pytest.mark.parametrize("family", PER_PART)
def test_drawn_network_is_rebuilt_from_its_parameters(family: str) -> None:
    part, fixed = PER_PART[family]
    searched = {"kernel": per(part, 3, 5), "attention": per(part, NONE, "both")}
    space = CandidateSpace(TASK, family, fixed | searched, {})
    trial = random_trial()
    candidate = space.draw(trial)
    parts = 4 if family == "vgg" else 3
    assert {f"kernel_{n}" for n in range(1, parts + 1)} <= set(trial.params)
    assert space.rebuild(trial.params).digest == candidate.digest


def test_equal_choices_give_the_network_of_one_choice() -> None:
    once = FAMILIES["vgg"](FixedTrial({}), TASK, **VGG, kernel=3)
    each = FAMILIES["vgg"](
        FixedTrial({f"kernel_{n}": 3 for n in range(1, 5)}),
        TASK,
        **VGG,
        kernel=per("layer", 3, 5),
    )
    assert each == once


@pytest.mark.parametrize(
    "option",
    [
        {"per": "stage", "choices": [3]},
        {"per": "layer"},
        {"per": "layer", "choices": []},
        {"per": "layer", "choices": 3},
        {"per": "layer", "choices": [4]},
        {},
    ],
)
def test_wrong_choices_for_each_layer_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(BadInputError) as caught:
        FAMILIES["vgg"](random_trial(), TASK, **VGG, kernel=option)
    assert caught.value.field == "space.kernel"
    assert str(caught.value).count("\n") == 0


def test_family_without_parts_refuses_choices_for_each() -> None:
    option = per("layer", 3, 5)
    with pytest.raises(BadInputError) as caught:
        FAMILIES["densenet"](random_trial(), TASK, kernel=option)
    assert_one_helpful_line(caught.value, "space.kernel", option)


def test_published_network_fits_kernels_drawn_for_each_layer() -> None:
    options = {
        "depth": [6, 16],
        "features": [64, 512],
        "kernel": per("layer", 3, 5),
        "convs_before_pool": [1, 4],
    }
    params = seed_params("vgg11", TASK, options)
    assert {f"kernel_{n}": 3 for n in range(1, 9)}.items() <= params.items()
    network = FAMILIES["vgg"](FixedTrial(params), TASK, **options)
    assert network.digest == named("vgg11", TASK).digest
