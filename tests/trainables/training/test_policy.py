"""TrivialAugment: every operation compared with Pillow, which the published code uses."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats
from torch import Tensor

from trainables.specs import Augmentation
from trainables.training.augmentation import Variation, change, draw_variation
from trainables.training.policy import STRENGTHS, Operation, Operations, draw_operations, look_up

Picture = Image.Image
Reference = Callable[[Picture, float], Picture]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moved(*numbers: float) -> Reference:
    """Return an affine change, whose numbers are multiples of the magnitude; -1 stands for 1."""

    def call(image: Picture, magnitude: float) -> Picture:
        data = [1.0 if each < 0 else each * magnitude for each in numbers]
        bilinear = Image.Resampling.BILINEAR
        return image.transform(image.size, Image.Transform.AFFINE, data, bilinear)

    return call


def enhanced(kind: Callable[[Picture], ImageEnhance._Enhance]) -> Reference:
    return lambda image, magnitude: kind(image).enhance(1 + magnitude)


REFERENCES: dict[Operation, Reference] = {
    Operation.IDENTITY: lambda image, _: image,
    Operation.SHEAR_X: moved(-1, 1, 0, 0, -1, 0),
    Operation.SHEAR_Y: moved(-1, 0, 0, 1, -1, 0),
    Operation.TRANSLATE_X: moved(-1, 0, 1, 0, -1, 0),
    Operation.TRANSLATE_Y: moved(-1, 0, 0, 0, -1, 1),
    Operation.ROTATE: lambda image, degrees: image.rotate(-degrees, Image.Resampling.BILINEAR),
    Operation.BRIGHTNESS: enhanced(ImageEnhance.Brightness),
    Operation.CONTRAST: enhanced(ImageEnhance.Contrast),
    Operation.SATURATION: enhanced(ImageEnhance.Color),
    Operation.SHARPNESS: enhanced(ImageEnhance.Sharpness),
    Operation.POSTERIZE: lambda image, bits: ImageOps.posterize(image, 8 - int(bits)),
    Operation.SOLARIZE: ImageOps.solarize,
    Operation.AUTOCONTRAST: lambda image, _: ImageOps.autocontrast(image),
    Operation.EQUALIZE: lambda image, _: ImageOps.equalize(image),
}
ENHANCED = {Operation.BRIGHTNESS, Operation.CONTRAST, Operation.SATURATION, Operation.SHARPNESS}


def pictures(count: int, height: int, width: int, channels: int) -> Tensor:
    """Random smooth images of low contrast, so that every operation has an effect."""
    numbers = np.random.default_rng(0)
    coarse = numbers.integers(40, 200, (count, 3, 4, channels), np.uint8)
    fine = [
        np.asarray(
            Image.fromarray(each.squeeze()).resize((width, height), Image.Resampling.BICUBIC)
        ).reshape(height, width, channels)
        for each in coarse
    ]
    return torch.from_numpy(np.stack(fine))


def varied(images: Tensor) -> tuple[Variation, Tensor]:
    """Return the drawn changes of images and the changed images."""
    asked = Augmentation(policy="trivial")
    rows = torch.arange(len(images))
    shape = (images.shape[1], images.shape[2])
    passes = torch.zeros_like(rows)
    variation = draw_variation(asked, rows, shape, seed=0, passes=passes, generator=generator())
    return variation, change(images, variation, (0, 0))


@pytest.mark.parametrize("shape", [(25, 25, 1), (21, 33, 3)], ids=["grey", "colour"])
def test_every_operation_of_a_batch_agrees_with_pillow(shape):
    images = pictures(600, *shape)
    variation, results = varied(images)
    assert (results.shape, results.dtype) == (images.shape, torch.float32)
    seen = set()
    for image, kind, magnitude, result in zip(
        images,
        map(Operation, variation.operation.tolist()),
        variation.magnitude.tolist(),
        results.numpy(),
        strict=True,
    ):
        picture = Image.fromarray(image.squeeze(-1).numpy())
        if shape[2] == 1 and kind is Operation.SATURATION:
            expected = picture
        else:
            expected = REFERENCES[kind](picture, magnitude)
        # Pillow rounds several times when it enhances an image.
        allowed = 2 if kind in ENHANCED else 1.01
        difference = result - np.asarray(expected, dtype=np.float32).reshape(shape)
        assert np.abs(difference).max() <= allowed, (kind, magnitude)
        seen.add(kind)
    assert seen == set(Operation)


@pytest.mark.parametrize("kind", [Operation.POSTERIZE, Operation.SOLARIZE, Operation.EQUALIZE])
def test_tables_of_values_are_those_of_pillow(kind):
    images = pictures(31, 30, 40, 3)
    magnitude = {Operation.POSTERIZE: 6.0, Operation.SOLARIZE: 255.0}.get(kind, 0.0)
    magnitudes = (torch.linspace(0, 1, 31) * magnitude).round()
    results = look_up(images.float(), Operations(torch.full((31,), kind), magnitudes))
    for image, value, result in zip(images, magnitudes.tolist(), results.numpy(), strict=True):
        expected = REFERENCES[kind](Image.fromarray(image.numpy()), value)
        assert np.array_equal(result, np.asarray(expected))


@pytest.mark.parametrize("kind", [Operation.AUTOCONTRAST, Operation.EQUALIZE])
def test_constant_image_has_no_contrast_to_change(kind):
    image = torch.full((1, 8, 8, 3), 77.0)
    operations = Operations(torch.tensor([kind]), torch.zeros(1))
    assert torch.equal(look_up(image, operations), image)


def test_operations_and_strengths_are_equally_likely():
    drawn = draw_operations((40_000,), (64, 64), generator())
    counts = np.bincount(drawn.operation.numpy(), minlength=len(Operation))
    assert stats.chisquare(counts).pvalue > 1e-4
    degrees = drawn.magnitude[drawn.operation == Operation.ROTATE] / 135 * (STRENGTHS - 1)
    steps = degrees.round().long().numpy()
    assert np.abs(degrees.numpy() - steps).max() < 1e-3
    counts = np.bincount(steps + STRENGTHS - 1, minlength=2 * STRENGTHS - 1)
    # The strength 0 has no sign.
    expected = np.full(len(counts), len(steps) / (2 * STRENGTHS))
    expected[STRENGTHS - 1] *= 2
    assert stats.chisquare(counts, expected).pvalue > 1e-4


@pytest.mark.parametrize(
    ("kind", "least", "most"),
    [
        (Operation.SHEAR_X, -0.99, 0.99),
        (Operation.TRANSLATE_X, -32, 32),
        (Operation.TRANSLATE_Y, -16, 16),
        (Operation.BRIGHTNESS, -0.99, 0.99),
        (Operation.POSTERIZE, 0, 6),
        (Operation.SOLARIZE, 0, 255),
        (Operation.EQUALIZE, 0, 0),
    ],
)
def test_magnitudes_span_the_wide_space_of_the_paper(kind, least, most):
    drawn = draw_operations((20_000,), (16, 40), generator())
    magnitudes = drawn.magnitude[drawn.operation == kind]
    assert magnitudes.min().item() == pytest.approx(least)
    assert magnitudes.max().item() == pytest.approx(most)
