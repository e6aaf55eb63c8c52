"""What the space of plain networks can do beside free amounts and max pooling."""

from contextlib import suppress
from itertools import pairwise

import pytest
from optuna.trial import FixedTrial

from spaces import Architecture, BadInputError, InvalidCandidateError, Task, costs
from spaces.operations import Activation, Convolution, Dropout, GlobalPooling, Linear, Norm, Pooling
from spaces.vgg import vgg
from tests.spaces.drawing import assert_one_helpful_line, random_trial
from tests.spaces.test_feature_amounts import PUBLISHED

TASK = Task(channels=3, height=32, width=32, classes=10)
FIXED = {"depth": 4, "features": 16, "kernel": 3, "pool_after": [1, 3]}
VGG_D = {
    "depth": 13,
    "hidden": 2,
    "kernel": 3,
    "pool_after": [2, 4, 7, 10, 13],
    "amounts": "skew-normal",
    "total_features": 5248,
    "location": [0, 15],
    "scale": [0.5, 5.5],
    "skew": [-40, 40],
    "dropout": 0.5,
}


def operations(architecture: Architecture, kind: type) -> list:
    return [architecture.layers[i].operation for i in architecture.indices(kind)]


def bare_params(architecture: Architecture) -> int:
    """Count parameters as published: without those of norms and biases."""
    of_norms = sum(2 * architecture.shapes[i][0] for i in architecture.indices(Norm))
    return costs(architecture).params - of_norms - 10


@pytest.mark.parametrize(("distribution", "features", "params"), PUBLISHED)
def test_the_published_skew_normal_networks_are_in_the_space(distribution, features, params):
    trial = FixedTrial(dict(zip(("location", "scale", "skew"), distribution, strict=True)))
    architecture = vgg(trial, TASK, **(VGG_D | {"bias": False}))

    drawn = operations(architecture, Convolution) + operations(architecture, Linear)
    assert [operation.features for operation in drawn] == [*features, 10]
    assert bare_params(architecture) == params


@pytest.mark.parametrize(("depth", "hidden", "total"), [(8, 2, 3776), (10, 2, 3968), (16, 2, 6528)])
def test_other_depths_of_vgg_can_be_skew_normal_too(depth, hidden, total):
    params = {"location": (depth + hidden) / 2, "scale": (depth + hidden) / 5, "skew": 0}
    options = VGG_D | {"depth": depth, "hidden": hidden, "total_features": total}
    architecture = vgg(FixedTrial(params), TASK, **options)

    linear = operations(architecture, Linear)[:-1]
    amounts = [o.features for o in operations(architecture, Convolution) + linear]
    assert len(amounts) == depth + hidden
    assert 0.95 * total < sum(amounts) < total + depth + hidden


def test_invalid_distribution_is_no_candidate():
    params = {"location": 7, "scale": 0.5, "skew": 0}

    with pytest.raises(InvalidCandidateError, match="skew-normal") as caught:
        vgg(FixedTrial(params), TASK, **VGG_D)
    assert caught.value.violation > 0


@pytest.mark.parametrize("seed", range(10))
def test_all_is_drawn_before_a_distribution_is_refused(seed):
    options = VGG_D | {"dropout": [0.1, 0.6], "activation": ["relu", "gelu"], "depth": [4, 9]}
    trial = random_trial(seed)
    with suppress(InvalidCandidateError):
        vgg(trial, TASK, **options)
    assert {"dropout", "activation", "depth", "location", "scale", "skew"} == set(trial.params)


def test_hidden_layers_have_norm_activation_and_dropout():
    architecture = vgg(
        random_trial(), TASK, **FIXED, hidden=2, hidden_features=[30, 40], dropout=0.5
    )

    head = [layer.operation for layer in architecture.layers][-10:]
    hidden = [Linear, Norm, Activation, Dropout]
    assert [type(o) for o in head] == [GlobalPooling, *hidden, *hidden, Linear]
    assert all(30 <= o.features <= 40 for o in operations(architecture, Linear)[:-1])


@pytest.mark.parametrize("norm", ["batch", "instance", "layer", "group"])
def test_hidden_layers_omit_instance_norm(norm):
    architecture = vgg(random_trial(), TASK, **FIXED, hidden=1, norm=norm)

    assert architecture.shapes[-1] == (10, 1, 1)
    assert len(operations(architecture, Norm)) == (4 if norm == "instance" else 5)


def test_hidden_layers_have_a_bias_when_convolutions_have():
    for bias in (False, True):
        architecture = vgg(random_trial(), TASK, **FIXED, hidden=1, bias=bias)
        assert [o.bias for o in operations(architecture, Linear)] == [bias, True]


def test_pooling_follows_the_convolutions_that_are_named():
    architecture = vgg(random_trial(), TASK, **(FIXED | {"pool_after": [1, 4, 9]}))

    names = [layer.name for layer in architecture.layers]
    pools = [(a, b) for a, b in pairwise(names) if b.startswith("pool")]
    assert pools == [("activation1", "pool1"), ("activation4", "pool4")]


def test_named_positions_are_no_parameters():
    trial = random_trial()
    vgg(trial, TASK, **FIXED)

    assert trial.params == {}


@pytest.mark.parametrize("mode", ["max", "average"])
def test_downsampling_by_pooling(mode):
    architecture = vgg(random_trial(), TASK, **FIXED, downsampling=mode)

    assert operations(architecture, Pooling) == [Pooling(mode), Pooling(mode)]
    assert {o.stride for o in operations(architecture, Convolution)} == {(1, 1)}


def test_downsampling_by_stride():
    strided = vgg(random_trial(), TASK, **FIXED, downsampling="stride")
    pooled = vgg(random_trial(), TASK, **FIXED)

    assert operations(strided, Pooling) == []
    strides = [o.stride for o in operations(strided, Convolution)]
    assert strides == [(2, 2), (1, 1), (2, 2), (1, 1)]
    ends = [architecture.shapes[-3] for architecture in (strided, pooled)]
    assert ends == [(16, 8, 8), (16, 8, 8)]
    assert costs(strided).params == costs(pooled).params


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_dilation_keeps_the_size_of_the_map(kernel, dilation):
    options = FIXED | {"kernel": kernel, "pool_after": [], "dilation": dilation}
    architecture = vgg(random_trial(), TASK, **options)

    assert {shape[1:] for shape in architecture.shapes[:-2]} == {(32, 32)}
    assert {o.dilation for o in operations(architecture, Convolution)} == {(dilation, dilation)}


BAD = [
    ("pool_after", 3, "is no list"),
    ("pool_after", "2, 4", "is no list"),
    ("pool_after", [2, 0], "is no list"),
    ("pool_after", [2, "4"], "is no list"),
    ("pool_after", [True], "is no list"),
    ("hidden", -1, "-1 is under 0"),
    ("hidden", "two", "is not a range"),
    ("amounts", "normal", "normal is unknown"),
    ("downsampling", "none", "none is unknown"),
    ("downsampling", ["max", "min"], "min is unknown"),
]


@pytest.mark.parametrize(("option", "value", "problem"), BAD, ids=str)
def test_a_bad_option_is_refused_at_every_draw(option, value, problem):
    for seed in range(4):
        with pytest.raises(BadInputError) as caught:
            vgg(random_trial(seed), TASK, **{option: value})
        assert problem in caught.value.problem
        assert_one_helpful_line(caught.value, f"space.{option}", value)
