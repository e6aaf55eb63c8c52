"""Smaller images in the first epochs: their size, the resizing, and the steps."""

import dataclasses
import logging
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from spaces.architecture import Architecture, Builder
from spaces.candidate import FAMILIES, Candidate, CandidateSpace
from spaces.errors import BadInputError
from spaces.operations import Convolution, Flatten, GlobalPooling, Linear, PixelUnshuffle, Pooling
from spaces.recipe import Recipe
from spaces.task import Task
from tests.spaces.drawing import random_trial
from trainables.training import loop
from trainables.training.loop import Training
from trainables.training.small_images import resize, small_image_size, with_image_size

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = Recipe(0.05, 1e-2, 32, 0.0, 0.9, small_images=0.5)


def pooled(pools: int, side: int, height: int | None = None) -> Architecture:
    builder = Builder((1, height or side, side))
    x = builder.add(Convolution(4), builder.image)
    for _ in range(pools):
        x = builder.add(Pooling(), x)
    builder.add(Linear(10), builder.add(GlobalPooling(), x))
    return builder.build()


def slow_resize(lines: np.ndarray, size: int) -> np.ndarray:
    """Weigh the values of each column with a triangle as wide as two new pixels."""
    scale = len(lines) / size
    rows = []
    for row in range(size):
        centre = (row + 0.5) * scale
        weights = [max(0.0, 1 - abs(i + 0.5 - centre) / scale) for i in range(len(lines))]
        rows.append(sum(w * line for w, line in zip(weights, lines, strict=True)) / sum(weights))
    return np.array(rows)


@pytest.mark.parametrize("size", [(6, 6), (7, 4), (1, 8)])
def test_resizing_equals_a_slow_reference(size):
    images = np.random.default_rng(0).normal(size=(2, 3, 8, 9))
    found = resize(torch.from_numpy(images).float(), size)
    for image, own in zip(images, found, strict=True):
        for channel, mine in zip(image, own, strict=True):
            expected = slow_resize(slow_resize(channel, size[0]).T, size[1]).T
            np.testing.assert_allclose(mine.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "side", "expected"),
    [
        (pooled(0, 16), 0.75, (12, 12)),
        (pooled(3, 16), 0.5, (8, 8)),
        (pooled(3, 16), 0.25, (8, 8)),
        (pooled(2, 28), 0.5, (14, 14)),
        (pooled(1, 8, height=16), 0.75, (12, 6)),
        (pooled(3, 8, height=20), 0.25, (19, 8)),
        (pooled(0, 8), 0.01, (1, 1)),
    ],
)
def test_size_is_the_smallest_that_the_network_takes(architecture, side, expected):
    assert small_image_size(architecture, side) == expected


def test_network_that_needs_the_full_size_keeps_it_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        assert small_image_size(pooled(4, 16), 0.5) == (16, 16)
    assert [record.getMessage() for record in caplog.records] == [
        "small_images: the network takes no images under 16x16 pixels, so all epochs have these"
    ]


def test_size_that_an_operation_refuses_is_passed_over():
    builder = Builder((1, 16, 16))
    x = builder.add(Convolution(4), builder.add(PixelUnshuffle((4, 4)), builder.image))
    builder.add(Linear(10), builder.add(GlobalPooling(), x))
    assert small_image_size(builder.build(), 0.55) == (12, 12)


@pytest.mark.parametrize("flat", [True, False])
def test_weights_that_depend_on_the_size_are_refused(flat, few_digits):
    builder = Builder((1, 8, 8))
    x = builder.add(Pooling(), builder.add(Convolution(4), builder.image))
    builder.add(Linear(10), builder.add(Flatten(), x) if flat else x)
    candidate = Candidate(builder.build(), RECIPE)
    with pytest.raises(BadInputError) as caught:
        Training(candidate, few_digits, epochs=2, seed=0, device="cpu")
    assert str(caught.value) == (
        "recipe.small_side = 0.75: the network takes images of one size only; set "
        "recipe.small_images to 0, or pool globally before the first linear layer"
    )


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_takes_smaller_images(family):
    task = Task(3, 32, 32, 10)
    for seed in range(20):
        net = CandidateSpace(task, family, {}, {}).draw(random_trial(seed)).architecture
        height, width = small_image_size(net, 0.75)
        assert 24 <= height == width <= 32
        assert with_image_size(net, height, width).shapes[-1] == (10, 1, 1)


def sizes_per_epoch(training: Training, epochs: int) -> list[tuple[set, set]]:
    """Return the sizes of trained and of scored images of each epoch."""
    seen: dict[bool, set] = {}
    training.network.register_forward_pre_hook(
        lambda module, inputs: seen[module.training].add(tuple(inputs[0].shape[2:]))
    )
    found = []
    for _ in range(epochs):
        seen.update({True: set(), False: set()})
        training.run_epoch()
        found.append((seen[True], seen[False]))
    return found


@pytest.mark.parametrize(
    ("fraction", "epochs", "small"), [(0.5, 4, 2), (0.5, 3, 1), (0.3, 10, 3), (0.2, 4, 0)]
)
def test_first_epochs_train_small_and_all_score_at_full_size(
    few_digits, plain_candidate, fraction, epochs, small
):
    recipe = dataclasses.replace(plain_candidate.recipe, small_images=fraction)
    candidate = dataclasses.replace(plain_candidate, recipe=recipe)
    training = Training(candidate, few_digits, epochs=epochs, seed=0, device="cpu")
    full = (8, 8)
    found = sizes_per_epoch(training, min(epochs, small + 1))
    assert found == [({(6, 6)}, {full})] * small + [({full}, {full})] * (len(found) - small)


def test_each_size_has_its_own_captured_step(few_digits, plain_candidate, monkeypatch):
    made: list[int] = []
    calls: list[int] = []

    class Watched:
        def __init__(self, device: torch.device, steps: int) -> None:
            made.append(steps)
            self._number = len(made)

        def __call__(self, step: Callable[[], None]) -> None:
            calls.append(self._number)

    monkeypatch.setattr(loop, "GraphedStep", Watched)
    recipe = dataclasses.replace(plain_candidate.recipe, small_images=0.5)
    candidate = dataclasses.replace(plain_candidate, recipe=recipe)
    training = Training(candidate, few_digits, epochs=4, seed=0, device="cpu")
    for _ in range(4):
        training.run_epoch()
    images = len(few_digits.train)
    small = math.ceil(2 * images / 32)
    whole = math.ceil(4 * images / 32)
    assert made == [small, whole - small]
    assert calls == [1] * small + [2] * (whole - small)
