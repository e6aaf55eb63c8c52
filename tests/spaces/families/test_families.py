"""What holds for every family: a draw is a network, is rebuilt from its parameters, and is what
its module is."""

import inspect
import json
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FixedTrial
from torch.utils.flop_counter import FlopCounterMode

from spaces import FAMILIES, Architecture, BadInputError, CandidateSpace, Task, costs, find_border
from spaces.architecture import CollapsedLayerError
from spaces.blocks import ACTIVATIONS, ATTENTIONS, DOWNSAMPLINGS, STEMS
from spaces.errors import InvalidCandidateError
from spaces.operations import NORMS, ChannelPooling, Convolution, Dropout, Gate, Norm
from tests.spaces.drawing import OPTIONS, assert_one_helpful_line, random_trial
from tests.spaces.graphs import examples
from trainables.builder import Network

TASK = Task(channels=3, height=18, width=15, classes=5)
IMAGES = 2
DRAWS = 25

STYLE = {
    "activation": list(ACTIVATIONS),
    "norm": list(NORMS),
    "attention": list(ATTENTIONS),
    "dropout": [0.0, 0.5],
    "kernel": [1, 3, 5],
    "dilation": [1, 2],
}
WIDE: dict[str, dict[str, Any]] = {
    "vgg": STYLE
    | {
        "depth": [1, 6],
        "features": [2, 24],
        "downsampling": list(DOWNSAMPLINGS),
        "hidden": [0, 2],
        "hidden_features": [2, 20],
        "amounts": ["free", "skew-normal"],
        "total_features": [64, 256],
    },
    "resnet": STYLE
    | {
        "block": ["basic", "bottleneck"],
        "stem": list(STEMS),
        "stages": [1, 3],
        "blocks": [1, 2],
        "width": [3, 20],
        "amounts": ["doubling", "free"],
        "widening": [1, 2],
        "groups": [1, 2, 5],
        "width_per_group": [4, 96],
        "stage_stride": [1, 3],
        "downsampling": list(DOWNSAMPLINGS),
    },
    "densenet": STYLE
    | {
        "stem": list(STEMS),
        "growth": [1, 9],
        "blocks": [1, 3],
        "layers": [1, 4],
        "bottleneck": [0, 4],
        "compression": [0.2, 1.0],
        "stem_features": [3, 20],
        "downsampling": list(DOWNSAMPLINGS),
    },
    "convmixer": STYLE | {"width": [3, 24], "depth": [1, 4], "patch": [1, 5]},
}
"""Options that leave open all that can be searched."""
NEVER_SEARCHED = {"bias", "pools", "pool_after"}


@dataclass(frozen=True)
class Drawn:
    params: dict[str, Any]
    architecture: Architecture


@cache
def draws(family: str) -> list[Drawn]:
    """Return networks drawn at random with everything left open."""
    found: list[Drawn] = []
    seed = 0
    while len(found) < DRAWS:
        seed += 1
        trial = random_trial(seed)
        try:
            architecture = FAMILIES[family](trial, TASK, **WIDE[family])
            _ = architecture.shapes
        except (InvalidCandidateError, CollapsedLayerError):
            continue
        found.append(Drawn(trial.params, architecture))
    assert seed < 4 * DRAWS
    return found


@cache
def networks(family: str) -> list[tuple[Architecture, Network]]:
    torch.manual_seed(0)
    return [(drawn.architecture, Network(drawn.architecture)) for drawn in draws(family)]


def images() -> torch.Tensor:
    return torch.randn(IMAGES, *TASK.image_shape, generator=torch.Generator().manual_seed(1))


families = pytest.mark.parametrize("family", FAMILIES)


@families
def test_all_options_are_left_open_here_and_have_a_default(family):
    _, _, *options = inspect.signature(FAMILIES[family]).parameters.values()
    searched = {"location", "scale", "skew", "convs_before_pool"}  # By their defaults.

    assert {o.name for o in options} - NEVER_SEARCHED - searched == set(WIDE[family])
    assert all(o.default is not o.empty and o.kind is o.KEYWORD_ONLY for o in options)


@families
def test_every_option_is_documented(family):
    function = FAMILIES[family]
    _, _, *options = inspect.signature(function).parameters

    documented = inspect.getdoc(function)
    assert all(f"\n    {name}: " in documented for name in options)


@families
def test_every_choice_is_drawn(family):
    for option, values in WIDE[family].items():
        if isinstance(values[0], str):
            assert {drawn.params[option] for drawn in draws(family)} == set(values), option


@families
def test_a_draw_is_rebuilt_from_its_parameters_alone(family):
    for drawn in draws(family):
        params = json.loads(json.dumps(drawn.params))
        rebuilt = FAMILIES[family](FixedTrial(params), TASK, **WIDE[family])
        assert rebuilt == drawn.architecture
        assert rebuilt.digest == drawn.architecture.digest


@families
def test_draws_differ(family):
    assert len({drawn.architecture.digest for drawn in draws(family)}) == DRAWS


@families
def test_a_draw_survives_json(family):
    for drawn in draws(family)[:5]:
        assert Architecture.from_json(drawn.architecture.to_json()) == drawn.architecture


@families
def test_the_defaults_draw_trainable_networks_for_small_images(family):
    space = CandidateSpace(Task(3, 32, 32, 10), family, {}, {})
    borders = []
    for seed in range(30):
        candidate = space.draw(random_trial(seed))
        space.check_output(candidate)
        assert candidate.architecture.shapes[-1] == (10, 1, 1)
        borders.append(find_border(candidate.architecture).border)
    assert None in borders  # Or nothing would be left to train.


@families
def test_the_module_has_as_many_parameters_as_the_graph_says(family):
    for architecture, network in networks(family):
        assert sum(p.numel() for p in network.parameters()) == costs(architecture).params


def shapes_of(network: Network) -> list[tuple[int, ...]]:
    """Return the shape of what each layer but the first gives out, of one sample."""
    seen = []
    hooks = [
        layer.register_forward_hook(lambda _, __, output: seen.append(tuple(output.shape[1:])))
        for layer in network.layers[1:]
    ]
    with torch.no_grad():
        network.eval()(images())
    for hook in hooks:
        hook.remove()
    return seen


@families
def test_the_modules_maps_have_the_shapes_of_the_graph(family):
    for architecture, network in networks(family):
        assert shapes_of(network) == list(architecture.shapes[1:])


@families
def test_twice_the_multiply_accumulates_are_the_flops_torch_counts(family):
    for architecture, network in networks(family):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network.eval()(images())
        assert counter.get_total_flops() == 2 * IMAGES * costs(architecture).macs


@families
def test_forward_and_backward_run_and_reach_every_parameter(family):
    for _, network in networks(family):
        network.zero_grad()
        loss = F.cross_entropy(network.train()(images()), torch.zeros(IMAGES, dtype=torch.long))
        loss.backward()
        assert loss.isfinite()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


# Options that all families share


def kinds(architecture: Architecture, kind: type) -> list:
    return [architecture.layers[i].operation for i in architecture.indices(kind)]


@families
@pytest.mark.parametrize(
    ("attention", "gates", "channel_poolings"),
    [("none", 0, 0), ("squeeze-excitation", 1, 0), ("spatial", 1, 2), ("both", 2, 2)],
)
def test_attention_gates_channels_pixels_or_both(family, attention, gates, channel_poolings):
    plain = FAMILIES[family](random_trial(1), TASK, attention="none")
    attentive = FAMILIES[family](random_trial(1), TASK, attention=attention)

    places = max(1, len(kinds(attentive, Gate)) // max(1, gates))
    assert len(kinds(attentive, Gate)) == gates * places
    assert len(kinds(attentive, ChannelPooling)) == channel_poolings * places
    assert find_border(attentive).border is None or find_border(plain).border is not None
    assert costs(attentive).params >= costs(plain).params


@families
def test_the_branch_of_a_gate_moves_no_border(family):
    """The fields of the main path are those of the network without attention."""

    def main_path(attention):
        architecture = FAMILIES[family](random_trial(1), TASK, attention=attention)
        names = [architecture.layers[i].name for i in architecture.indices(Convolution)]
        fields = find_border(architecture).fields
        apart = ("reduce", "excite", "look")
        return [f for n, f in zip(names, fields, strict=True) if not n.endswith(apart)]

    assert main_path("both") == main_path("none")


@families
@pytest.mark.parametrize("norm", NORMS)
def test_all_norms_are_of_the_chosen_kind(family, norm):
    architecture = FAMILIES[family](random_trial(2), TASK, norm=norm)

    norms = kinds(architecture, Norm)
    assert {n.norm for n in norms} == {norm}


@families
def test_groups_of_group_norm_have_more_than_one_channel(family):
    for seed in range(10):
        architecture = FAMILIES[family](random_trial(seed), TASK, norm="group")
        for index in architecture.indices(Norm):
            groups = architecture.layers[index].operation.groups
            channels = architecture.shapes[index][0]
            assert channels % groups == 0
            assert channels // groups >= 2
            if channels % 16 == 0:
                assert groups == 8


@families
def test_the_activation_is_the_chosen_one(family):
    architecture = FAMILIES[family](random_trial(2), TASK, activation="celu")

    functions = {
        layer.operation.function
        for layer in architecture.layers
        if layer.operation.kind == "activation"
    }
    assert functions == {"celu"}


@families
def test_dropout_stands_in_the_head_alone(family):
    plain = FAMILIES[family](random_trial(2), TASK)
    dropping = FAMILIES[family](random_trial(2), TASK, dropout=0.3)

    assert kinds(plain, Dropout) == []
    assert kinds(dropping, Dropout) == [Dropout(0.3)]
    assert dropping.layers[-2].operation == Dropout(0.3)


BAD = [
    ("activation", "tanh", "tanh is unknown"),
    ("activation", "sigmoid", "sigmoid is unknown"),
    ("activation", ["relu", 3], "3 is unknown"),
    ("activation", [], "is no choice"),
    ("norm", "weight", "weight is unknown"),
    ("norm", None, "is no choice"),
    ("attention", ["none", "self"], "self is unknown"),
    ("dropout", 1.0, "1 is 1 or more"),
    ("dropout", -0.1, "-0.1 is not 0 or more"),
    ("kernel", 4, "4 is not an odd size"),
    ("dilation", 0, "0 is under 1"),
]


@families
@pytest.mark.parametrize(("option", "value", "problem"), BAD, ids=str)
def test_a_bad_option_is_refused_at_every_draw(family, option, value, problem):
    for seed in range(4):
        with pytest.raises(BadInputError) as caught:
            FAMILIES[family](random_trial(seed), TASK, **{option: value})
        assert problem in caught.value.problem
        assert_one_helpful_line(caught.value, f"space.{option}", value)


@examples(150)
@families
@given(data=st.data())
def test_option_value_gives_only_networks_or_only_refusals(family, data):
    known = sorted(set(inspect.signature(FAMILIES[family]).parameters) - {"trial", "task"})
    option = data.draw(st.sampled_from(known))
    value = data.draw(OPTIONS)
    skewed = {"amounts": "skew-normal"} if option in ("location", "scale", "skew") else {}
    verdicts = set()
    for seed in (1, 2, 3):
        try:
            architecture = FAMILIES[family](random_trial(seed), TASK, **skewed | {option: value})
        except InvalidCandidateError:
            continue
        except BadInputError as error:
            assert_one_helpful_line(error, f"space.{option}", value)
            verdicts.add("refused")
        else:
            with suppress(CollapsedLayerError):
                assert architecture.shapes[-1] == (5, 1, 1)
            verdicts.add("drawn")
    assert len(verdicts) <= 1
