"""Published networks: their counts, and their places in the spaces of their families."""

import json
from collections import Counter

import optuna
import pytest
import torch
from optuna.trial import FixedTrial

from spaces import FAMILIES, Architecture, BadInputError, Task, costs, find_border
from spaces.named import NAMED, named, named_params, seed_params
from spaces.operations import Convolution, Linear, Norm
from tests.spaces.nets import cut, feature_extractor
from trainables.builder import Network

CIFAR = Task(channels=3, height=32, width=32, classes=10)
IMAGENET = Task(channels=3, height=224, width=224, classes=1000)

DIGESTS = {
    "vgg16": "226ed02e8dc5da213d42830f7a16e59a",
    "vgg-d": "6729abfd34becf06ab56f371d4f5b933",
    "resnet18c": "7fff5284cd93a1fc965e987a28a5a866",
    "resnext18": "fea03ff844138cbba443b9c7ae13a76e",
    "se_resnet50": "f8c6bf9efafc5083abbdb298d1166726",
    "densenet121": "0e48ac6c90a7eef85e9bd827b59cc378",
    "convmixer256d8": "3bdd9da990d688a2aac89a81ae245460",
}
"""With ten classes at 224 px. Stored studies hold such digests."""


@pytest.mark.parametrize("name", DIGESTS)
def test_digests_of_networks_never_change(name):
    assert named(name, Task(3, 224, 224, 10)).digest == DIGESTS[name]


# Counts


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("resnet18c", "11.17"),
        ("vgg16", "14.72"),
        ("densenet121c", "6.95"),
        ("resnext18", "10.02"),
        ("convmixer256d16", "1.28"),
        ("resnet34c", "21.28"),
        ("wide_resnet14", "21.06"),
    ],
)
def test_published_parameters_on_cifar_10(name, millions):
    """The published decimals are cut off, not rounded: DenseNet-121 has 6.956 million."""
    params = costs(named(name, CIFAR)).params

    assert f"{params // 10_000 / 100:.2f}" == millions


VGG_TABLE = {
    "vgg11": (8, 9.226, 152.8, 6, 4.504, 133.9),
    "vgg13": (10, 9.411, 228.3, 8, 4.689, 209.4),
    "vgg16": (13, 14.723, 313.2, 8, 2.919, 209.4),
    "vgg19": (16, 20.035, 398.1, 8, 2.328, 228.3),
}
"""Convolutions, parameters and MACs in millions at 32 px; then those of the truncated net."""


@pytest.mark.parametrize("name", VGG_TABLE)
def test_published_costs_of_vgg_and_truncated_vgg(name):
    family, options, params = named_params(name)
    with_bias = FAMILIES[family](FixedTrial(params), CIFAR, **(options | {"bias": True}))
    whole = feature_extractor(with_bias)

    row = []
    for network in (whole, cut(whole, find_border(whole).border)):
        counted = costs(network)
        convolutions = len(network.indices(Convolution))
        row += [convolutions, round(counted.params / 1e6, 3), round(counted.macs / 1e6, 1)]
    assert tuple(row) == VGG_TABLE[name]


@pytest.mark.parametrize(
    ("name", "layers", "features"),
    [("vgg-a", 10, 3776), ("vgg-b", 12, 3968), ("vgg-d", 15, 5248), ("vgg-e", 18, 6528)],
)
def test_layers_and_features_of_vgg_with_hidden_layers(name, layers, features):
    architecture = named(name, CIFAR)

    with_features = [*architecture.indices(Convolution), *architecture.indices(Linear)[:-1]]
    assert len(with_features) == layers
    assert sum(architecture.shapes[i][0] for i in with_features) == features


@pytest.mark.parametrize(
    ("name", "params"), [("se_resnet50", 28.1), ("wrn28_10", 36.5), ("densenet100c", 0.8)]
)
def test_published_parameters_of_other_networks(name, params):
    task = CIFAR if name != "se_resnet50" else IMAGENET

    assert round(costs(named(name, task)).params / 1e6, 1) == params


# Against torchvision

TORCHVISION = [
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "wide_resnet50_2",
    "densenet121",
    "densenet169",
    "densenet201",
]


def torchvisions(name: str, classes: int) -> torch.nn.Module:
    import torchvision  # noqa: PLC0415 - nothing but this comparison needs it

    return torchvision.models.get_model(name, weights=None, num_classes=classes)


@pytest.mark.parametrize("name", TORCHVISION)
def test_the_weights_are_of_the_shapes_of_torchvisions(name):
    with torch.device("meta"):
        theirs = torchvisions(name, 1000)
        ours = Network(named(name, IMAGENET))

    shapes = [Counter(tuple(p.shape) for p in module.parameters()) for module in (ours, theirs)]
    assert shapes[0] == shapes[1]
    count = sum(p.numel() for p in theirs.parameters())
    assert costs(named(name, IMAGENET)).params == count


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d", "densenet121"])
def test_with_torchvisions_weights_the_logits_are_torchvisions(name):
    torch.manual_seed(0)
    task = Task(3, 64, 64, 7)
    theirs = torchvisions(name, 7).eval()
    ours = Network(named(name, task)).eval()
    with torch.no_grad():
        for mine, yours in zip(ours.parameters(), theirs.parameters(), strict=True):
            mine.copy_(yours)
        images = torch.randn(2, 3, 64, 64)
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-3, atol=1e-4)


# Their places in the spaces


@pytest.mark.parametrize("name", NAMED)
def test_a_named_network_is_drawn_by_its_options_and_parameters(name):
    family, options, params = named_params(name)
    params = json.loads(json.dumps(params))

    for task in (CIFAR, IMAGENET, Task(1, 64, 48, 3)):
        drawn = FAMILIES[family](FixedTrial(params), task, **options)
        assert drawn == named(name, task)
        assert drawn.shapes[-1] == (task.classes, 1, 1)


@pytest.mark.parametrize("name", NAMED)
def test_params_cover_exactly_the_open_options(name):
    family, options, params = named_params(name)
    trial = FixedTrial(params)
    FAMILIES[family](trial, IMAGENET, **options)

    assert trial.params == params


def test_no_two_named_networks_are_the_same():
    digests = Counter(named(name, CIFAR).digest for name in NAMED)

    assert set(digests.values()) == {1}


def test_every_named_network_has_an_origin():
    assert all(net.origin for net in NAMED.values())


def test_every_family_has_a_named_network():
    assert {net.family for net in NAMED.values()} == set(FAMILIES)


def enqueued(name: str, options: dict) -> Architecture:
    """Return the first network of a search that starts with a named one."""
    family = NAMED[name].family
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(seed_params(name, CIFAR, options))
    return FAMILIES[family](study.ask(), CIFAR, **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vgg16", {"depth": [8, 20], "features": [32, 600], "kernel": [3, 5, 7]}),
        ("vgg11", {"depth": [8, 20], "features": [32, 600], "pool_after": [1, 2, 4, 6, 8]}),
        ("vgg-d", {"depth": 13, "features": [32, 512], "hidden": [0, 2], "dropout": [0, 0.5]}),
        ("resnet14c", {}),
        ("resnet18c", {"norm": ["layer", "batch"], "activation": ["gelu", "relu"]}),
        ("resnet50c", {"block": ["basic", "bottleneck"], "blocks": [1, 8]}),
        ("resnext18", {"groups": [1, 32], "width_per_group": [4, 64]}),
        ("densenet121c", {"layers": [1, 24]}),
        ("convmixer256d16", {}),
    ],
)
def test_a_named_network_can_be_the_first_of_a_search(name, options):
    assert enqueued(name, options).digest == named(name, CIFAR).digest


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("vgg16", {}, "it needs depth 13, features [64, 512]"),
        ("vgg16", {"depth": 13, "features": [8, 512], "kernel": 5}, "it needs kernel 3"),
        ("vgg16", {"depth": 13, "features": [8, 512], "pools": 3}, "widen the space's options"),
        ("vgg-d", {"depth": 13, "features": [8, 512]}, "it needs dropout 0.5, hidden 2"),
        ("resnet18", {}, "it needs stem imagenet"),
        ("resnet34c", {"blocks": [1, 4]}, "it needs blocks [3, 6]"),
        ("resnet18c", {"norm": ["layer", "group"]}, "it needs norm batch"),
        ("convmixer256d8", {"width": [16, 128]}, "it needs width 256"),
    ],
)
def test_error_names_the_options_that_a_network_needs(name, options, problem):
    with pytest.raises(BadInputError, match="is not in the space") as caught:
        seed_params(name, CIFAR, options)
    assert str(caught.value).endswith(problem)


def test_error_of_a_network_outside_the_space_is_in_words():
    with pytest.raises(BadInputError) as caught:
        seed_params("vgg16", CIFAR, {"depth": 13, "features": [8, 48]})
    assert "(features_1 is 64, but the space draws 8 to 48)" in str(caught.value)
    with pytest.raises(BadInputError) as caught:
        seed_params("vgg16", CIFAR, {"depth": 13, "features": [8, 512], "kernel": [5, 7]})
    assert "(the space draws 5, 7, but not 3)" in str(caught.value)
    assert "Distribution" not in str(caught.value)


def test_other_mistakes_in_space_options_keep_their_error():
    with pytest.raises(BadInputError, match="4 is not an odd size"):
        seed_params("vgg16", CIFAR, {"depth": 13, "kernel": 4})


@pytest.mark.parametrize("call", [lambda n: named(n, CIFAR), named_params])
@pytest.mark.parametrize(
    ("name", "hint"),
    [("resnet19", "did you mean resnet"), ("vgg 16", "did you mean vgg16?"), ("zzz", "use one of")],
)
def test_an_unknown_network_is_refused_with_the_nearest_name(call, name, hint):
    with pytest.raises(BadInputError, match="unknown network") as caught:
        call(name)
    assert hint in str(caught.value)


def test_batch_norm_stands_behind_every_convolution_of_a_resnet():
    architecture = named("resnet50", IMAGENET)

    assert len(architecture.indices(Norm)) == len(architecture.indices(Convolution))
