"""Whitening of the first layer: filters of the training images' patches, which stay fixed."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from spaces.architecture import Architecture, Builder
from spaces.candidate import Candidate
from spaces.errors import BadInputError
from spaces.operations import Activation, Convolution, GlobalPooling, Linear, Norm
from spaces.recipe import Recipe
from trainables.builder import Network
from trainables.data import Dataset
from trainables.training.loop import Training
from trainables.training.whitening import EPSILON, whiten_first_layer

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = Recipe(0.05, 1e-2, 16, 0.0, 0.9, first_layer="whitening")


def images(channels: int, side: int = 9, count: int = 40) -> Dataset:
    """Random images whose neighbouring pixels and channels are correlated; half are for training.

    The other images are white, so that a sample with them gives other filters.
    """
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(count, side + 2, side + 2, channels))
    smooth = noise[:, 2:, 2:] + noise[:, 1:-1, 2:] + noise[:, :-2, 1:-1]
    smooth = 128 + 30 * smooth + 20 * smooth.mean(3, keepdims=True)
    smooth[1::2] = 255
    rows = np.arange(count)
    return Dataset(
        np.clip(smooth, 0, 255).astype(np.uint8),
        rows % 2,
        ("a", "b"),
        train=rows[::2],
        validation=rows[1::4],
        test=rows[3::4],
    )


def architecture(convolution: Convolution, channels: int, side: int = 9) -> Architecture:
    builder = Builder((channels, side, side))
    x = builder.add(Norm("batch"), builder.add(convolution, builder.image))
    builder.add(Linear(2), builder.add(GlobalPooling(), builder.add(Activation(), x)))
    return builder.build()


def whitened(convolution: Convolution, dataset: Dataset) -> nn.Conv2d:
    torch.manual_seed(0)
    net = architecture(convolution, dataset.channels, dataset.shape[0])
    network = Network(net)
    whiten_first_layer(network, net, dataset)
    layer = network.layers[1]
    assert isinstance(layer, nn.Conv2d)
    return layer


def slow_patches(convolution: Convolution, dataset: Dataset) -> np.ndarray:
    """Cut every patch out of every training image, one value after another."""
    patches = []
    down, right = convolution.kernel
    for row in dataset.train:
        image = (dataset.images[row] / 255 - np.array(dataset.mean)) / np.array(dataset.std)
        height, width, channels = image.shape
        for top in range(0, height, convolution.stride[0]):
            for left in range(0, width, convolution.stride[1]):
                ys = [top + i * convolution.dilation[0] for i in range(down)]
                xs = [left + j * convolution.dilation[1] for j in range(right)]
                if ys[-1] < height and xs[-1] < width:
                    patches.append(
                        [image[y, x, c] for c in range(channels) for y in ys for x in xs]
                    )
    return np.array(patches).reshape(len(patches), -1)


CONVOLUTIONS = {
    "3x3": Convolution(60),
    "2x2": Convolution(24, (2, 2), padding=(0, 0)),
    "patches": Convolution(70, (3, 3), (3, 3), (0, 0)),
    "wide": Convolution(20, (1, 3), padding=(0, 1)),
    "dilated": Convolution(30, (2, 2), (2, 1), (1, 1), (3, 2)),
    "1x1": Convolution(9, (1, 1), padding=(0, 0)),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_filters_equal_a_slow_reference(name, channels):
    convolution, dataset = CONVOLUTIONS[name], images(channels)
    found = whitened(convolution, dataset).weight.detach().double().flatten(1).numpy()
    patches = slow_patches(convolution, dataset)
    centred = patches - patches.mean(0)
    covariance = sum(np.outer(patch, patch) for patch in centred) / (len(patches) - 1)
    variances, directions = np.linalg.eigh(np.atleast_2d(covariance))
    for rank in range(min(len(found) // 2, len(variances))):
        expected = directions[:, -1 - rank] / np.sqrt(variances[-1 - rank] + EPSILON)
        own, negative = found[2 * rank : 2 * rank + 2]
        np.testing.assert_array_equal(own, -negative)
        sign = np.sign(own @ expected)
        np.testing.assert_allclose(sign * own, expected, rtol=1e-3, atol=1e-3)
    # Filters beyond two per direction give outputs of the same variance.
    for own in found[2 * len(variances) :]:
        assert own @ covariance @ own == pytest.approx(1.0, abs=0.02)


def test_outputs_are_uncorrelated_with_unit_variance():
    dataset = images(3)
    layer = whitened(Convolution(54, padding=(0, 0)), dataset)
    patches = slow_patches(CONVOLUTIONS["3x3"], dataset)
    outputs = patches @ layer.weight.detach().double().flatten(1).numpy()[::2].T
    np.testing.assert_allclose(np.cov(outputs.T), np.eye(27), atol=0.02)


def test_fewer_filters_are_those_of_the_largest_variances():
    dataset = images(3)
    many, few = whitened(Convolution(54), dataset), whitened(Convolution(11), dataset)
    assert torch.equal(few.weight, many.weight[:11])


def test_random_filters_depend_on_the_seed_alone():
    first, again = (whitened(Convolution(80), images(3)).weight for _ in range(2))
    assert torch.equal(first, again)
    assert len({tuple(each.flatten().tolist()) for each in first}) == 80


def test_kernel_beyond_the_image_sees_padded_patches():
    dataset = images(1, side=5)
    found = whitened(Convolution(98, (7, 7), padding=(3, 3)), dataset).weight.detach()
    values = dataset.images[dataset.train][..., 0].astype(float)
    padded = np.pad((values - values.mean()) / values.std(), ((0, 0), (3, 3), (3, 3)))
    patches = [each[y : y + 7, x : x + 7] for each in padded for y in range(5) for x in range(5)]
    outputs = np.array(patches).reshape(-1, 49) @ found[:20:2].double().flatten(1).numpy().T
    np.testing.assert_allclose(np.cov(outputs.T), np.eye(10), atol=0.02)


def test_images_of_one_colour_give_finite_filters():
    plain = dataclasses.replace(images(3), images=np.full((40, 9, 9, 3), 7, np.uint8))
    assert whitened(Convolution(60), plain).weight.isfinite().all()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
@pytest.mark.parametrize("trainable", ["all", "batchnorm"])
def test_training_keeps_the_filters_and_trains_the_rest(optimizer, trainable):
    dataset = images(3)
    recipe = dataclasses.replace(
        RECIPE, optimizer=optimizer, trainable=trainable, ema=0.5, lookahead=2, norm_bias_rate=2.0
    )
    net = architecture(Convolution(12, bias=True), 3)
    training = Training(Candidate(net, recipe), dataset, epochs=2, seed=0, device="cpu")
    before = {name: value.clone() for name, value in training.network.state_dict().items()}
    for _ in range(2):
        training.run_epoch()
    after = training.network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    trained = {"layers.2.weight", "layers.2.bias"}
    if trainable == "all":
        trained |= {"layers.5.weight", "layers.5.bias"}
    # A bias before a batch norm has no gradient but rounding errors.
    assert changed - {"layers.1.bias"} == trained | {
        "layers.2.running_mean",
        "layers.2.running_var",
    }
    average = training.evaluated.state_dict()
    assert torch.equal(average["layers.1.weight"], before["layers.1.weight"])


def first_layers() -> dict[str, Any]:
    grouped = Builder((2, 9, 9))
    x = grouped.add(Convolution(4, groups=2), grouped.image)
    grouped.add(Linear(2), grouped.add(GlobalPooling(), x))
    normed = Builder((2, 9, 9))
    x = normed.add(Convolution(4), normed.add(Norm("batch"), normed.image))
    normed.add(Linear(2), normed.add(GlobalPooling(), x))
    none = Builder((2, 9, 9))
    none.add(Linear(2), none.image)
    return {"grouped": grouped.build(), "after a norm": normed.build(), "none": none.build()}


@pytest.mark.parametrize("name", ["grouped", "after a norm", "none"])
def test_first_convolution_must_take_the_whole_image(name):
    candidate = Candidate(first_layers()[name], RECIPE)
    with pytest.raises(BadInputError) as caught:
        Training(candidate, images(2), epochs=1, seed=0, device="cpu")
    assert str(caught.value) == (
        "recipe.first_layer = whitening: the first convolution does not take all channels of the "
        "image itself; use standard"
    )
