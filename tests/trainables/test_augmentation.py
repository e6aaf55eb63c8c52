"""Crop and flip: what comes out is a padded, cropped and perhaps mirrored version of each image."""

import itertools
from collections import Counter
from typing import TypeAlias

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainables.augmentation import crop_and_flip

Version: TypeAlias = tuple[int, int, bool]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def recognisable(count: int, height: int, width: int, channels: int) -> Tensor:
    """Images without symmetry and without zeros: whatever was done to one can be told."""
    values = np.arange(count * height * width * channels) % 251 + 1
    return torch.from_numpy(values.astype(np.uint8).reshape(count, height, width, channels))


def legal_versions(image: np.ndarray, padding: int, flip: bool) -> dict[bytes, Version]:
    """Pad, crop with the corner at (down, right) of the padded image, mirror: in every way."""
    height, width, _ = image.shape
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    corners = range(2 * padding + 1)
    versions: dict[bytes, Version] = {}
    for down, right, mirrored in itertools.product(corners, corners, (False, True)[: flip + 1]):
        cropped = padded[down : down + height, right : right + width]
        content = (cropped[:, ::-1] if mirrored else cropped).tobytes()
        versions.setdefault(content, (down, right, mirrored))
    return versions


def versions_taken(images: Tensor, results: Tensor, padding: int, flip: bool) -> list[Version]:
    """Return for every result the (down, right, mirrored) that made it of its image."""
    known: dict[bytes, dict[bytes, Version]] = {}
    taken = []
    for image, result in zip(images.numpy(), results.numpy(), strict=True):
        content = image.tobytes()
        if content not in known:
            known[content] = legal_versions(image, padding, flip)
        assert result.tobytes() in known[content], "not a legal version of its image"
        taken.append(known[content][result.tobytes()])
    return taken


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(1, 9),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    channels=st.sampled_from([1, 3]),
    padding=st.integers(0, 3),
    flip=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_every_image_becomes_a_padded_cropped_and_perhaps_mirrored_version_of_itself(
    count, height, width, channels, padding, flip, seed
):
    images = recognisable(count, height, width, channels)
    original = images.clone()
    results = crop_and_flip(images, padding, flip, generator(seed))
    assert results.shape == images.shape
    assert results.dtype == torch.uint8
    versions_taken(images, results, padding, flip)
    assert torch.equal(images, original), "the images themselves were written to"


def test_a_shift_larger_than_the_image_leaves_zeros():
    images = recognisable(200, 3, 4, 1)
    results = crop_and_flip(images, 6, False, generator())
    versions_taken(images, results, 6, False)
    assert any(not result.any() for result in results)


def test_shifts_and_flips_are_independent_and_equally_likely():
    images = recognisable(1, 6, 6, 1).expand(5000, 6, 6, 1)
    taken = Counter(versions_taken(images, crop_and_flip(images, 2, True, generator()), 2, True))
    cells = 5 * 5 * 2
    expected = len(images) / cells
    assert len(taken) == cells
    chi_square = sum((count - expected) ** 2 / expected for count in taken.values())
    degrees = cells - 1
    assert abs(chi_square - degrees) < 5 * (2 * degrees) ** 0.5


def test_one_image_says_nothing_about_the_next():
    images = recognisable(1, 6, 6, 1).expand(4001, 6, 6, 1)
    taken = versions_taken(images, crop_and_flip(images, 1, True, generator(1)), 1, True)
    numbers = np.array([[down, right, flipped] for down, right, flipped in taken], dtype=float)
    standard = (numbers - numbers.mean(axis=0)) / numbers.std(axis=0)
    correlations = standard[:-1].T @ standard[1:] / 4000
    assert np.abs(correlations).max() < 5 / 4000**0.5


@pytest.mark.parametrize("flip", [False, True])
def test_without_padding_nothing_is_shifted(flip):
    images = recognisable(50, 5, 4, 3)
    taken = versions_taken(images, crop_and_flip(images, 0, flip, generator()), 0, flip)
    assert {mirrored for _, _, mirrored in taken} == ({False, True} if flip else {False})


def test_without_flip_nothing_is_mirrored():
    images = recognisable(300, 5, 5, 1)
    taken = versions_taken(images, crop_and_flip(images, 1, True, generator()), 1, True)
    assert any(mirrored for _, _, mirrored in taken)
    versions_taken(images, crop_and_flip(images, 1, False, generator()), 1, False)


def test_with_nothing_to_do_the_very_same_tensor_comes_back_and_no_number_is_drawn():
    images = recognisable(4, 5, 5, 1)
    numbers = generator()
    before = numbers.get_state()
    assert crop_and_flip(images, 0, False, numbers) is images
    assert torch.equal(numbers.get_state(), before)


def test_all_randomness_comes_from_the_generator():
    images = recognisable(64, 6, 6, 3)
    first = crop_and_flip(images, 2, True, generator(7))
    torch.manual_seed(99)
    before = torch.get_rng_state()
    again = crop_and_flip(images, 2, True, generator(7))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, crop_and_flip(images, 2, True, generator(8)))


def test_a_generator_used_on_gives_other_versions():
    images = recognisable(64, 6, 6, 1)
    numbers = generator(7)
    first = crop_and_flip(images, 2, True, numbers)
    assert not torch.equal(first, crop_and_flip(images, 2, True, numbers))
