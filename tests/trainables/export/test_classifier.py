"""The classifier of an export: resizing, normalisation and the mean over networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from trainables.export.classifier import Classifier, fit
from trainables.images.pixels import Rules, read_pixels


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Return noise with structure on several scales, uint8 [h, w, channels]."""
    random = np.random.default_rng(height)
    coarse = Image.fromarray(random.integers(0, 256, (5, 7, channels), dtype=np.uint8).squeeze())
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=float)
    noisy = smooth.reshape(height, width, channels) + random.normal(0, 20, (height, width, 1))
    return noisy.clip(0, 255).astype(np.uint8)


def batch(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None]


@pytest.mark.parametrize(
    ("height", "width"), [(16, 12), (77, 133), (133, 77), (20, 25), (5, 9), (16, 13)]
)
def test_images_are_resized_as_the_search_reads_files(height: int, width: int) -> None:
    image = picture(height, width)
    expected, _ = read_pixels(image, (12, 16), Rules())
    found = fit(batch(image).float(), (16, 12), rounded=True)[0].permute(1, 2, 0).numpy()
    # Pillow computes with integers, so that one rounding in a thousand may differ.
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.01


SHAPES = [(16, 12), (77, 133), (133, 77), (20, 25), (5, 9), (16, 13), (31, 21)]


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize("mode", ["pad", "squash"])
def test_models_pad_and_squash_as_the_search(mode: str, height: int, width: int) -> None:
    image = picture(height, width)
    expected, _ = read_pixels(image, (12, 16), Rules((200, 100, 50), fit=mode))
    fill = torch.tensor([200.0, 100.0, 50.0])[:, None, None]
    found = fit(batch(image).float(), (16, 12), True, mode, fill)[0].permute(1, 2, 0).numpy()
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.01


def test_narrow_images_are_squashed_nearly_as_the_search() -> None:
    image = picture(60, 30)
    expected, _ = read_pixels(image, (12, 16), Rules(fit="squash"))
    found = fit(batch(image).float(), (16, 12), True, "squash")[0].permute(1, 2, 0).numpy()
    # Pillow resizes along the other axis first, and rounds between.
    assert np.abs(found - expected).max() <= 2


def test_padding_is_normalised_as_pixels_of_its_colour() -> None:
    network, statistics = Scores(1.0), ([[0.4] * 3], [[0.2] * 3])
    image = torch.full((1, 3, 16, 4), 90, dtype=torch.uint8)
    padded = torch.full((1, 3, 16, 12), 90, dtype=torch.uint8)
    padded[..., :4] = padded[..., 8:] = 30
    classifier = Classifier([network], (16, 12), *statistics, mode="pad", fill=[30] * 3)
    assert torch.allclose(classifier(image), classifier(padded))
    assert torch.allclose(classifier(image / 255), classifier(padded))


@pytest.mark.parametrize("mode", ["crop", "pad", "squash"])
@pytest.mark.parametrize(("height", "width"), [(16, 12), (49, 49)])
def test_images_of_the_size_of_the_network_stay_unchanged(
    mode: str, height: int, width: int
) -> None:
    image, fill = batch(picture(height, width)).float(), torch.zeros(3, 1, 1)
    for rounded in (True, False):
        assert torch.equal(fit(image, (height, width), rounded, mode, fill), image)


class Scores(nn.Module):
    """Logits that grow with the brightness of the left and the right half."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, images: Tensor) -> Tensor:
        left, right = images.mean((1, 2)).chunk(2, dim=1)
        return self.factor * torch.stack([left.mean(1), 2 * right.mean(1)], 1)


def test_floats_in_0_to_1_give_the_answer_of_uint8() -> None:
    classifier = Classifier([Scores(1.0)], (16, 12), [[0.4] * 3], [[0.2] * 3])
    image = batch(picture(16, 12))
    assert torch.allclose(classifier(image), classifier(image.float() / 255), atol=1e-6)


def test_ensemble_averages_probabilities_with_own_normalisation() -> None:
    means, stds = [[0.1] * 3, [0.6] * 3], [[0.2] * 3, [0.3] * 3]
    image = batch(picture(16, 12))
    alone = [
        Classifier([Scores(factor)], (16, 12), [mean], [std])(image)
        for factor, mean, std in zip((1.0, 3.0), means, stds, strict=True)
    ]
    together = Classifier([Scores(1.0), Scores(3.0)], (16, 12), means, stds)(image)
    assert not torch.allclose(*alone, atol=1e-3)
    assert torch.allclose(together, (alone[0] + alone[1]) / 2)


def test_flip_averages_over_the_mirror_image() -> None:
    image = batch(picture(16, 12))
    arguments = ([Scores(1.0)], (16, 12), [[0.4] * 3], [[0.2] * 3])
    plain = Classifier(*arguments)
    both = Classifier(*arguments, flip=True)(image)
    assert torch.allclose(both, (plain(image) + plain(image.flip(3))) / 2)
