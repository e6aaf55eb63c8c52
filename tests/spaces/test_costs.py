"""Costs: published counts, and the memory that autograd really takes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spaces import Candidate, CollapsedLayerError, Recipe, costs, find_border
from spaces.operations import (
    ACTIVATIONS,
    NORMS,
    Activation,
    Convolution,
    GlobalPooling,
    Linear,
    Norm,
    Pooling,
)
from tests.spaces import nets
from tests.spaces.graphs import architectures, examples
from tests.spaces.nets import chain, conv, pool
from tests.spaces.reference import TorchRun

VGG_TABLE = {
    "VGG11": (8, 9.226, 152.8, 6, 4.504, 133.9),
    "VGG13": (10, 9.411, 228.3, 8, 4.689, 209.4),
    "VGG16": (13, 14.723, 313.2, 8, 2.919, 209.4),
    "VGG19": (16, 20.035, 398.1, 8, 2.328, 228.3),
}
"""Convolutions, parameters and MACs in millions at 32 px; then those of the truncated net."""


@pytest.mark.parametrize("name", VGG_TABLE)
def test_published_costs_of_vgg_and_truncated_vgg(name):
    feature_extractor = nets.feature_extractor(nets.classic_vgg(name))
    border = find_border(feature_extractor).border
    truncated = nets.cut(feature_extractor, border)

    row = []
    for network in (feature_extractor, truncated):
        counted = costs(network)
        convolutions = len(network.indices(Convolution))
        row += [convolutions, round(counted.params / 1e6, 3), round(counted.macs / 1e6, 1)]
    assert tuple(row) == VGG_TABLE[name]
    assert border == VGG_TABLE[name][3]


@pytest.mark.parametrize(
    ("blocks", "params", "norm_params"),
    [(2, 175_258, 1_120), (5, 466_906, 2_464), (9, 855_770, 4_256), (18, 1_730_714, 8_288)],
)
def test_published_parameters_of_cifar_resnets(blocks, params, norm_params):
    architecture = nets.cifar_resnet(blocks)
    of_norms = [
        architecture.layers[i].operation.params((architecture.shapes[i],))
        for i in architecture.indices(Norm)
    ]

    assert costs(architecture).params == params
    assert sum(of_norms) == norm_params


@pytest.mark.parametrize(
    ("build", "params", "macs"),
    [
        (nets.resnet18, 11_689_512, 1_814_073_344),
        (nets.densenet121, 7_978_856, 2_834_161_664),
        (nets.mobilenet_v2, 3_504_872, 300_774_272),
    ],
    ids=["ResNet18", "DenseNet-121", "MobileNetV2"],
)
def test_costs_are_those_of_torchvisions_networks(build, params, macs):
    counted = costs(build())

    assert counted.params == params
    assert counted.macs == macs


def test_a_collapsed_network_has_no_costs():
    with pytest.raises(CollapsedLayerError):
        costs(chain((1, 2, 2), pool(), pool()))


# Memory

RELU, GELU = Activation("relu"), Activation("gelu")
IMAGE = (3, 24, 24)


def block(activation: Activation = RELU, norm: Norm = nets.BATCH_NORM) -> list:
    return [conv(features=16), norm, activation]


HEAD = [GlobalPooling(), Linear(10)]

MEMORY_NETS = {
    "VGG11": nets.classic_vgg("VGG11"),
    "residual": nets.cifar_resnet(1, size=24),
    "squeeze and excitation": nets.squeeze_and_excitation(size=24),
    "average pooling of a convolution": chain(IMAGE, conv(), pool(mode="average"), conv(), *HEAD),
    "max pooling of a convolution": chain(IMAGE, conv(), pool(), conv(), *HEAD),
    "max pooling of an activation": chain(IMAGE, *block(), pool(), *block(), *HEAD),
    "no activation": chain(IMAGE, conv(), conv(), *HEAD),
    "global maximum": chain(IMAGE, conv(), conv(), GlobalPooling("max"), Linear(10)),
    "linear layer over a map": chain(IMAGE, *block(), pool(4, 4), Linear(10)),
    "two activations": chain(IMAGE, conv(), RELU, GELU, Activation("sigmoid"), conv(), *HEAD),
    **{name: chain(IMAGE, *block(Activation(name)) * 2, *HEAD) for name in ACTIVATIONS},
    **{norm: chain(IMAGE, *block(norm=Norm(norm, 4)) * 2, *HEAD) for norm in NORMS},
}


def saved_by_autograd(architecture, batch_size):
    """Return how many values and indices a forward pass leaves to the backward pass.

    Counts every storage once, and no weights: those are in memory anyway.
    """
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    images = torch.rand(batch_size, *architecture.shapes[0])
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run = TorchRun(architecture, images, training=True)
    for weight in run.parameters:
        saved.pop(weight.untyped_storage().data_ptr(), None)
    sizes = {torch.float32: 0, torch.int64: 0}
    for tensor in saved.values():
        sizes[tensor.dtype] += tensor.untyped_storage().nbytes() // tensor.element_size()
    return sizes[torch.float32], sizes[torch.int64]


@pytest.mark.parametrize("name", MEMORY_NETS)
def test_kept_values_are_those_that_autograd_saves(name):
    """Up to 2 %: normalisation also saves a mean and a deviation per channel (or group)."""
    architecture = MEMORY_NETS[name]
    batch_size = 8
    values, indices = saved_by_autograd(architecture, batch_size)

    predicted = costs(architecture)
    assert values == pytest.approx(batch_size * predicted.kept_values, rel=0.02)
    assert indices == batch_size * predicted.kept_indices


def test_a_forward_pass_holds_the_input_and_the_output_of_one_layer():
    architecture = chain((3, 8, 8), conv(features=4), conv(features=16), Pooling(), Linear(10))

    assert costs(architecture).live_values == (4 + 16) * 8 * 8


def test_output_is_held_until_its_last_consumer():
    builder = nets.Builder((2, 4, 4))
    x = builder.add(RELU, builder.image)
    x = builder.add(RELU, x)
    builder.add(nets.Add(), builder.image, x, x)

    # At the second activation: the image, which waits for the sum, its input and its output.
    assert costs(builder.build()).live_values == 3 * 2 * 4 * 4


def test_training_peak_counts_kept_values_and_gradients():
    wide_first = chain((1, 8, 8), conv(features=8), conv(features=8), Pooling(), Linear(10))
    counted = costs(wide_first)
    # At the pooling layer: what it and all before it keep, with the gradients of its two sides.
    image, wide, pooled = 64, 512, 128
    assert counted.kept_values == image + wide + wide + pooled
    assert counted.peak_values == (image + wide + wide) + (wide + pooled)


def test_training_memory_adds_up_weights_and_samples():
    architecture = chain((1, 4, 4), Convolution(2), Pooling(), Linear(3))
    counted = costs(architecture)
    assert counted.params == 2 * 9 + 3 * 8 + 3
    assert counted.kept_values == 16 + 32 + 8  # what convolution, pooling and classifier take
    assert counted.kept_indices == 8
    assert counted.peak_values == 16 + 32 + (32 + 8)

    weights = 3 * 4 * counted.params  # value, gradient, momentum
    assert counted.training_memory(10) == weights + 10 * (4 * 88 + 8 * 8)
    # Beside half as large activations: a second format of the kernels and of the images.
    kernels, images = 2 * counted.params, 4 * 16
    half = weights + kernels + 10 * (images + 2 * 88 + 8 * 8)
    assert counted.training_memory(10, bfloat16=True) == half
    with_adam = counted.training_memory(10, optimizer_values=2)
    assert with_adam == counted.training_memory(10) + 4 * counted.params


def test_scoring_holds_what_a_forward_pass_holds():
    counted = costs(chain((1, 4, 4), Convolution(2), Pooling(), Linear(3)))

    assert counted.evaluation_memory(10) == 10 * 4 * (16 + 32)
    assert counted.evaluation_memory(10, bfloat16=True) == 10 * (2 * (16 + 32) + 4 * 16)


def test_float32_norms_count_float32_and_copies():
    """Its input, its output, and the copy of that which the next convolution makes."""
    batch, group = (
        costs(chain(IMAGE, *block(norm=Norm(norm, 4)) * 3, *HEAD)) for norm in ("batch", "group")
    )

    assert group.peak_values == batch.peak_values
    assert batch.mixed_peak == 2 * batch.peak_values
    assert 4 * group.peak_values < group.mixed_peak < 6 * group.peak_values
    assert group.mixed_live > batch.mixed_live


def test_norms_in_float32_keep_every_format_that_a_layer_takes():
    values = 16 * 24 * 24
    counted = costs(chain(IMAGE, *block(norm=Norm("group", 4)) * 2, GlobalPooling(), Linear(10)))

    image = 2 * 3 * 24 * 24
    # Of a block: what the norm takes and what the activation gives, both in float32; and in
    # bfloat16 what the next convolution takes.
    kept = image + (4 + 4 + 2) * values + (4 + 4) * values
    assert counted.mixed_peak == kept + (4 + 4) * values


@examples(60)
@given(architectures(), st.integers(1, 512), st.integers(1, 512), st.booleans())
def test_training_memory_grows_with_the_batch(architecture, batch_size, more, bfloat16):
    counted = costs(architecture)

    small = counted.training_memory(batch_size, bfloat16=bfloat16)
    assert small < counted.training_memory(batch_size + more, bfloat16=bfloat16)


@examples(60)
@given(architectures())
def test_training_holds_more_than_scoring(architecture):
    counted = costs(architecture)

    assert counted.live_values <= counted.peak_values
    assert counted.mixed_live <= counted.mixed_peak
    assert counted.kept_values <= counted.peak_values
    assert 2 * counted.peak_values <= counted.mixed_peak <= 6 * counted.peak_values


def test_candidate_memory_depends_on_batch_and_optimiser():
    architecture = chain((1, 4, 4), Convolution(2), Pooling(), Linear(3))
    counted = costs(architecture)

    def memory(**recipe):
        fields = {"learning_rate": 0.1, "weight_decay": 0.0, "label_smoothing": 0.0}
        with_recipe = Recipe(**fields | {"batch_size": 10, "momentum": 0.9} | recipe)
        return Candidate(architecture, with_recipe).training_memory()

    a_value_each = 4 * counted.params
    assert memory() == counted.training_memory(10)
    assert memory(batch_size=20) == counted.training_memory(20)
    assert memory(momentum=0.0) == memory() - a_value_each
    assert memory(optimizer="adamw") == memory() + a_value_each
    assert memory(optimizer="muon") == memory()
    assert memory(optimizer="muon", momentum=0.0) == memory() - a_value_each
    assert memory(lookahead=5) == memory() + a_value_each
    assert memory(ema=0.99) == memory() + a_value_each
