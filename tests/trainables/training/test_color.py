"""Colour: draws in their range, and their effect compared with torchvision, image by image."""

import pytest
import torch
from scipy import stats

from trainables.training import color


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("strength", [0.4, 1.0])
def test_colours_agree_with_torchvision(channels, strength):
    from torchvision.transforms import functional as reference  # noqa: PLC0415 - imports slowly

    numbers = generator()
    images = torch.randint(0, 256, (40, 6, 9, channels), generator=numbers, dtype=torch.uint8)
    factors = color.draw_factors(strength, (40,), numbers)
    results = color.adjust(images, factors)
    assert (results.shape, results.dtype) == (images.shape, torch.float32)
    for image, (brightness, contrast, saturation), result in zip(
        images, factors.tolist(), results, strict=True
    ):
        expected = image.permute(2, 0, 1).float() / 255
        expected = reference.adjust_brightness(expected, brightness)
        expected = reference.adjust_contrast(expected, contrast)
        expected = reference.adjust_saturation(expected, saturation)
        assert torch.allclose(result, 255 * expected.permute(1, 2, 0), atol=0.01)


def test_factors_of_one_change_nothing():
    images = torch.randint(0, 256, (5, 4, 4, 3), generator=generator(), dtype=torch.uint8)
    assert torch.equal(color.adjust(images, torch.ones(5, 3)), images.float())


def test_factors_are_uniform_and_independent():
    factors = color.draw_factors(0.3, (20_000,), generator()).double().T
    for each in factors:
        assert stats.kstest(each.numpy(), stats.uniform(0.7, 0.6).cdf).pvalue > 1e-4
    assert (torch.corrcoef(factors) - torch.eye(3)).abs().max() < 0.04
