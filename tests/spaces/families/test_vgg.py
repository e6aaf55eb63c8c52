"""The space of plain networks."""

import itertools
import json

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.samplers import BruteForceSampler, RandomSampler, TPESampler
from optuna.trial import FixedTrial

from spaces import Architecture, BadInputError, Task, find_border
from spaces.operations import (
    Activation,
    Convolution,
    GlobalPooling,
    Linear,
    Norm,
    Pooling,
)
from spaces.vgg import vgg
from tests.spaces import nets
from tests.spaces.drawing import OPTIONS, assert_one_helpful_line, random_trial, study
from tests.spaces.graphs import examples

TASK = Task(channels=3, height=32, width=32, classes=10)
FIXED = {"depth": 4, "features": 16, "kernel": 3, "convs_before_pool": 2}


def convolutions(architecture: Architecture) -> list[Convolution]:
    return [architecture.layers[i].operation for i in architecture.indices(Convolution)]


def convs_before_pools(architecture: Architecture) -> list[int]:
    """Return how many convolutions stand before each pooling, and behind the last."""
    counts = [0]
    for layer in architecture.layers:
        counts[-1] += isinstance(layer.operation, Convolution)
        if isinstance(layer.operation, Pooling):
            counts.append(0)
    return counts


@pytest.mark.parametrize("name", nets.VGG_BLOCKS)
def test_published_networks_are_in_the_space(name):
    architecture = nets.classic_vgg(name)

    widths = [64, 128, 256, 512, 512]
    blocks = nets.VGG_BLOCKS[name]
    features = [w for w, n in zip(widths, blocks, strict=True) for _ in range(n)]
    assert [c.features for c in convolutions(architecture)] == features
    assert convs_before_pools(architecture) == [*blocks, 0]
    assert architecture.shapes[-3] == (512, 1, 1)
    assert architecture.shapes[-1] == (10, 1, 1)


def test_network_is_conv_norm_activation_pooling_and_linear_head():
    architecture = vgg(random_trial(), TASK, **FIXED)

    block = [Convolution, Norm, Activation]
    expected = [*block * 2, Pooling, *block * 2, Pooling, GlobalPooling, Linear]
    assert [type(layer.operation) for layer in architecture.layers[1:]] == expected
    assert [layer.inputs for layer in architecture.layers[1:]] == [
        (index,) for index in range(len(expected))
    ]


@examples(80)
@given(st.integers(0, 2**31 - 1), st.data())
def test_draws_respect_their_ranges(seed, data):
    def ranges(most):
        return st.tuples(st.integers(1, most), st.integers(1, most)).map(sorted)

    depth, before_pool = data.draw(ranges(9)), data.draw(ranges(5))
    features = data.draw(ranges(300))
    kernels = data.draw(st.lists(st.sampled_from([1, 3, 5, 7]), min_size=1, unique=True))
    pools = data.draw(st.none() | st.integers(0, 4))
    architecture = vgg(
        random_trial(seed),
        TASK,
        depth=depth,
        features=features,
        kernel=kernels,
        pools=pools,
        convs_before_pool=before_pool,
    )

    drawn = convolutions(architecture)
    assert depth[0] <= len(drawn) <= depth[1]
    assert all(features[0] <= c.features <= features[1] for c in drawn)
    assert len({c.kernel for c in drawn}) == 1
    assert drawn[0].kernel in [(k, k) for k in kernels]
    *between, rest = convs_before_pools(architecture)
    assert all(before_pool[0] <= count <= before_pool[1] for count in between)
    assert len(between) <= (5 if pools is None else pools)
    if len(between) < (5 if pools is None else pools):
        assert rest < before_pool[1]  # Or there would have been one more.


def test_all_ends_of_all_ranges_are_drawn():
    drawn = [vgg(random_trial(seed), TASK, depth=(1, 3), features=(4, 5)) for seed in range(60)]

    assert {len(convolutions(a)) for a in drawn} == {1, 2, 3}
    assert {c.features for a in drawn for c in convolutions(a)} == {4, 5}
    assert {c.kernel for a in drawn for c in convolutions(a)} == {(3, 3), (5, 5)}


@pytest.mark.parametrize("sampler", [RandomSampler, TPESampler])
def test_a_draw_is_rebuilt_from_its_parameters_alone(sampler):
    search = study(sampler(seed=1))
    for _ in range(30):
        trial = search.ask()
        drawn = vgg(trial, TASK)
        params = json.loads(json.dumps(trial.params))
        rebuilt = vgg(FixedTrial(params), TASK)
        assert rebuilt == drawn
        assert rebuilt.digest == drawn.digest
        search.tell(trial, -len(drawn.layers))


def test_equal_seeds_draw_equal_networks_and_others_differ():
    digests = [vgg(random_trial(seed), TASK).digest for seed in (1, 1, 2, 3)]

    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_fixed_option_is_not_a_study_parameter():
    trial = random_trial()
    vgg(trial, TASK, **FIXED)

    assert trial.params == {}


@pytest.mark.parametrize(
    ("option", "names"),
    [
        ({"depth": [4, 5]}, ["depth"]),
        ({"kernel": [3, 5]}, ["kernel"]),
        ({"features": [8, 9]}, ["features_1", "features_2", "features_3", "features_4"]),
        ({"convs_before_pool": [4, 5]}, ["convs_before_pool_1"]),
    ],
    ids=str,
)
def test_searched_option_is_a_study_parameter(option, names):
    trial = random_trial()
    vgg(trial, TASK, **(FIXED | option))

    assert set(trial.params) == set(names)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("low", [1, 2, 3])
@pytest.mark.parametrize("high", [3, 5])
@pytest.mark.parametrize("pools", [None, 0, 1, 2])
def test_every_draw_of_pooling_positions_is_another_network(low, high, pools):
    depth = 5
    search = study(BruteForceSampler(seed=0))
    drawn: list[str] = []

    def draw(trial):
        options = {**FIXED, "depth": depth, "convs_before_pool": [low, high], "pools": pools}
        drawn.append(vgg(trial, TASK, **options).digest)
        return 0.0

    search.optimize(draw, n_trials=1000)

    most = 5 if pools is None else pools
    possible = 0
    for number in range(depth + 1):
        for positions in itertools.combinations(range(1, depth + 1), number):
            gaps = [b - a for a, b in itertools.pairwise((0, *positions))]
            left = depth - (positions[-1] if positions else 0)
            in_range = all(low <= gap <= high for gap in gaps)
            possible += in_range and (number == most or (number < most and left < high))
    assert len(set(drawn)) == len(drawn) == possible


@examples(60)
@given(st.integers(0, 2**31 - 1), st.integers(1, 300), st.integers(1, 300), st.integers(1, 4))
def test_no_draw_collapses_with_the_default_poolings(seed, height, width, channels):
    task = Task(channels, height, width, classes=7)
    options = {"depth": (1, 12), "kernel": (1, 3, 7), "convs_before_pool": (1, 2)}
    architecture = vgg(random_trial(seed), task, **options)

    assert architecture.shapes[0] == (channels, height, width)
    assert architecture.shapes[-1] == (7, 1, 1)
    assert find_border(architecture).resolution == (height, width)


@pytest.mark.parametrize(("size", "pools"), [(1, 0), (2, 1), (28, 4), (31, 4), (32, 5), (224, 7)])
def test_the_default_poolings_leave_one_pixel(size, pools):
    options = {**FIXED, "depth": 12, "convs_before_pool": 1}
    architecture = vgg(random_trial(), Task(1, size, size, 2), **options)

    assert len(architecture.indices(Pooling)) == pools
    assert architecture.shapes[-3] == (16, 1, 1)


def test_too_many_poolings_are_left_to_the_screens():
    architecture = vgg(random_trial(), TASK, **(FIXED | {"pools": 6, "depth": 12}))

    with pytest.raises(ValueError, match="does not fit into 1"):
        _ = vgg(random_trial(), Task(3, 4, 4, 10), **(FIXED | {"pools": 6, "depth": 12})).shapes
    assert len(architecture.indices(Pooling)) == 6


def test_bias_is_given_to_all_convolutions_or_none():
    for bias in (False, True):
        assert {c.bias for c in convolutions(vgg(random_trial(), TASK, bias=bias))} == {bias}


BAD = [
    ("depth", 0, "0 is under 1"),
    ("depth", -3, "-3 is under 1"),
    ("depth", [0, 4], "0 is under 1"),
    ("depth", [8, 2], "low <= high must hold, but got low=8, high=2"),
    ("depth", "8", "is text"),
    ("depth", "28", "is text"),
    ("depth", b"\x02\x08", "is not a range"),
    ("depth", 8.0, "is not a range"),
    ("depth", [2.0, 8.0], "is not a range"),
    ("depth", True, "is not a range"),
    ("depth", [True, 8], "is not a range"),
    ("depth", None, "is not a range"),
    ("depth", [], "is not a range"),
    ("depth", [2], "is not a range"),
    ("depth", [2, 4, 8], "is not a range"),
    ("depth", [[2, 4], [6, 8]], "is not a range"),
    ("depth", {2: 0, 8: 0}, "is not a range"),
    ("features", [64, 8], "low <= high must hold"),
    ("features", 2**53 + 1, "is too large"),
    ("features", [8, 10**400], "is too large"),
    ("features", float("nan"), "is not a range"),
    ("features", [8, float("nan")], "is not a range"),
    ("convs_before_pool", 0, "0 is under 1"),
    ("convs_before_pool", [0, 2], "0 is under 1"),
    ("kernel", 0, "0 is not an odd size"),
    ("kernel", -3, "-3 is not an odd size"),
    ("kernel", 4, "4 is not an odd size"),
    ("kernel", [3, 4], "4 is not an odd size"),
    ("kernel", [4, 3], "4 is not an odd size"),
    ("kernel", [3, True], "True is not an odd size"),
    ("kernel", [3, 5.0], "5.0 is not an odd size"),
    ("kernel", "3", "3 is not an odd size"),
    ("kernel", True, "True is not an odd size"),
    ("kernel", 3.0, "3.0 is not an odd size"),
    ("kernel", float("nan"), "nan is not an odd size"),
    ("kernel", [], "is no choice"),
    ("kernel", None, "is no choice"),
    ("kernel", {3: 5}, "is no choice"),
    ("kernel", [[3], [5]], "[3] is no single value"),
    ("kernel", [3, None], "None is no single value"),
    ("pools", -1, "is no number of layers"),
    ("pools", "2", "is no number of layers"),
    ("pools", 2.0, "is no number of layers"),
    ("pools", True, "is no number of layers"),
    ("pools", [1, 2], "is no number of layers"),
    ("bias", "yes", "is neither true nor false"),
    ("bias", 1, "is neither true nor false"),
    ("bias", None, "is neither true nor false"),
]


@pytest.mark.parametrize(("option", "value", "problem"), BAD, ids=str)
def test_bad_option_is_refused_with_field_value_and_remedy(option, value, problem):
    for seed in range(6):
        with pytest.raises(BadInputError) as caught:
            vgg(random_trial(seed), TASK, **{option: value})
        assert problem in caught.value.problem
        assert_one_helpful_line(caught.value, f"space.{option}", value)


@examples(400)
@given(
    st.sampled_from(["depth", "features", "kernel", "pools", "convs_before_pool", "bias"]), OPTIONS
)
def test_option_value_gives_only_networks_or_only_refusals(option, value):
    verdicts = set()
    for seed in (1, 2, 3):
        try:
            architecture = vgg(random_trial(seed), TASK, **{option: value})
        except BadInputError as error:
            assert_one_helpful_line(error, f"space.{option}", value)
            verdicts.add("refused")
        else:
            assert architecture.shapes[-1] == (10, 1, 1) or option == "pools"
            verdicts.add("drawn")
    assert len(verdicts) == 1


def test_the_study_accepts_all_draws_into_one_storage(tmp_path):
    """Ranges that depend on other draws must stay compatible with what is stored."""
    url = f"sqlite:///{tmp_path / 'study.db'}"
    search = optuna.create_study(storage=url, sampler=TPESampler(seed=0, n_startup_trials=3))
    for _ in range(8):
        trial = search.ask()
        drawn = vgg(trial, TASK)
        search.tell(trial, len(drawn.layers))

    stored = optuna.load_study(study_name=search.study_name, storage=url).trials
    assert len(stored) == 8
    assert all(vgg(FixedTrial(t.params), TASK).layers for t in stored)
