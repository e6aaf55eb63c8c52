import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces.architecture import Architecture, Builder, CollapsedLayerError, Layer
from spaces.candidate import FAMILIES, CandidateSpace
from spaces.features.network import NETWORK_FEATURES, network_features
from spaces.named import named
from spaces.operations import Add, Convolution, GlobalPooling, Linear, Pooling
from spaces.task import Task
from tests.spaces.drawing import random_trial

TASK = Task(3, 32, 32, 10)
SPACES = {name: CandidateSpace(TASK, name, {}, {}) for name in FAMILIES}


def described(net: Architecture) -> dict[str, float]:
    return dict(zip(NETWORK_FEATURES, network_features(net), strict=True))


def plain(*operations: Convolution | Pooling) -> Architecture:
    builder = Builder((3, 32, 32))
    x = builder.image
    for operation in operations:
        x = builder.add(operation, x)
    builder.add(Linear(10), builder.add(GlobalPooling(), x))
    return builder.build()


@given(st.sampled_from(sorted(FAMILIES)), st.integers(0, 10**6))
def test_every_candidate_has_the_same_finite_features(family: str, seed: int) -> None:
    space = SPACES[family]
    try:
        candidate = space.draw(random_trial(seed))
        features = space.features(candidate)
    except CollapsedLayerError:
        return
    assert len(features) == len(space.feature_names) == len(set(space.feature_names))
    assert all(map(math.isfinite, features))


def test_names_and_order_of_layers_do_not_change_features() -> None:
    layers = named("resnet18", TASK).layers
    renamed = Architecture(tuple(Layer(each.operation, each.inputs, "x") for each in layers))
    swapped = Architecture(
        tuple(
            Layer(each.operation, each.inputs[::-1] if type(each.operation) is Add else each.inputs)
            for each in layers
        )
    )
    assert network_features(renamed) == network_features(swapped) == network_features(renamed)
    assert renamed.digest == swapped.digest


def test_features_of_a_small_network_are_known() -> None:
    found = described(plain(Convolution(8), Pooling(), Convolution(16, groups=8)))
    assert 2 ** found["depth"] == pytest.approx(3)
    assert found["grouped"] == 0.5
    assert (found["poolings"], found["max_poolings"]) == (1, 1)
    assert (found["width_1"], found["width_8"]) == (3, 4)
    assert (found["resolution_1"], found["resolution_8"]) == (0, -2)
    assert found["largest_field_8"] == found["smallest_field_8"] == pytest.approx(math.log2(1 / 16))
    assert [round(2 ** found[f"convolutions_{level}"]) for level in range(3)] == [2, 2, 1]


def test_paths_differ_in_a_residual_network() -> None:
    found = described(named("resnet18", TASK))
    assert found["shortest_path"] < found["longest_path"] <= found["depth"]
    assert found["beyond_shortest"] < found["beyond_longest"]


def test_gate_branches_do_not_count_as_depth() -> None:
    options = {"depth": 4, "features": 16, "kernel": 3, "pools": 0}
    plain_net, gated = (
        CandidateSpace(TASK, "vgg", {**options, "attention": attention}, {})
        .draw(random_trial())
        .architecture
        for attention in ("none", "squeeze-excitation")
    )
    assert described(plain_net)["depth"] == described(gated)["depth"]
    assert described(plain_net)["gates"] == 0 < described(gated)["gates"]


def test_collapsed_network_has_no_features() -> None:
    with pytest.raises(CollapsedLayerError):
        network_features(plain(*[Pooling()] * 6))
