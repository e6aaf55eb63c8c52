"""Affine maps: their draws, and their effect compared with Pillow, one image at a time."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor

from trainables.specs import Augmentation
from trainables.training import geometry
from trainables.training.augmentation import Variation, change, draw_variation

UNLIKELY = 1e-4
"""Probability that a correct distribution fails a test; fixed seeds make results repeatable."""
SHAPES = [(8, 8, 1), (9, 14, 3)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int, *shape: int) -> Tensor:
    return torch.randint(1, 256, (count, *shape), generator=generator(), dtype=torch.uint8)


def drawn(augmentation: Augmentation, count: int, shape: tuple[int, int]) -> Variation:
    rows = torch.arange(count)
    passes = torch.zeros_like(rows)
    return draw_variation(augmentation, rows, shape, seed=0, passes=passes, generator=generator())


def sampled_by_pillow(image: Tensor, affine: Tensor) -> np.ndarray:
    """Return one image changed by its map; Pillow measures from the top left corner."""
    height, width, _ = image.shape
    linear, offset = affine[:, :2].double().numpy(), affine[:, 2].double().numpy()
    centre = np.array([width, height]) / 2
    corner = offset + centre - linear @ centre
    numbers = [*linear[0], corner[0], *linear[1], corner[1]]
    return np.stack(
        [
            np.asarray(
                Image.fromarray(channel.float().numpy()).transform(
                    (width, height), Image.Transform.AFFINE, numbers, Image.Resampling.BILINEAR
                )
            )
            for channel in image.unbind(-1)
        ],
        -1,
    )


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(zoom=(0.3, 1.0)),
        Augmentation(rotate=180.0),
        Augmentation(zoom=(0.5, 0.9), rotate=30.0, translate=0.3, flip="random"),
    ],
    ids=["zoom", "rotate", "all"],
)
@pytest.mark.parametrize("shape", SHAPES, ids=["grey", "colour"])
def test_sampling_agrees_with_pillow(augmentation, shape):
    images = noise(40, *shape)
    original = images.clone()
    variation = drawn(augmentation, 40, shape[:2])
    results = change(images, variation, augmentation.padding(*shape[:2]))
    assert (results.shape, results.dtype) == (images.shape, torch.float32)
    for image, affine, result in zip(images, variation.affine, results, strict=True):
        assert np.allclose(result.numpy(), sampled_by_pillow(image, affine), atol=0.01)
    assert torch.equal(images, original), "the images themselves were written to"


def test_sampled_shift_and_flip_equal_those_without_sampling():
    images = noise(60, 7, 10, 3)
    for moved in ({"crop": 3}, {"flip": "random"}, {"translate": 0.4, "flip": "alternating"}):
        exact, sampled = (
            change(images, drawn(each, 60, (7, 10)), each.padding(7, 10))
            for each in (Augmentation(**moved), Augmentation(**moved, zoom=(1.0, 1.0)))
        )
        assert exact.dtype == torch.uint8
        assert sampled.dtype == torch.float32
        assert torch.allclose(sampled, exact.float(), atol=0.01)


def test_rotation_is_clockwise_around_the_centre():
    image = torch.zeros(1, 5, 5, 1)
    image[0, 0, 2] = 255
    turned = geometry.sample(image, geometry.rotation(torch.tensor([90.0])))
    assert turned[0, 2, 4].item() == pytest.approx(255, abs=0.01)


def test_changes_are_composed_in_their_order():
    image = noise(1, 9, 9, 1)
    shift = geometry.translation(torch.tensor([[0, 2]]), (0, 0))
    mirror = geometry.mirroring(torch.tensor([1]))
    both = geometry.sample(image, geometry.compose(shift, mirror))
    one_by_one = geometry.sample(geometry.sample(image, shift), mirror)
    assert torch.allclose(both, one_by_one, atol=0.01)
    assert not torch.allclose(both, geometry.sample(image, geometry.compose(mirror, shift)), atol=9)


def test_zoomed_windows_have_uniform_area_and_stay_inside():
    shape = (30, 50)
    affine = geometry.draw_zoom((0.2, 0.9), (20_000,), shape, generator()).double()
    across, down = affine[:, 0, 0], affine[:, 1, 1]
    assert (affine[:, 0, 1] == 0).all()
    assert (affine[:, 1, 0] == 0).all()
    assert stats.kstest((across * down).numpy(), stats.uniform(0.2, 0.7).cdf).pvalue > UNLIKELY
    ratio = across / down
    assert ratio.min() == pytest.approx(3 / 4, abs=0.01)
    assert ratio.max() == pytest.approx(4 / 3, abs=0.01)
    for part, offset, side in ((across, affine[:, 0, 2], 50), (down, affine[:, 1, 2], 30)):
        assert (part <= 1).all()
        room = (1 - part) * side / 2
        assert (offset.abs() <= room + 1e-4).all()
        some = room > 0.1
        places = (offset / room)[some].numpy()
        assert stats.kstest(places, stats.uniform(-1, 2).cdf).pvalue > UNLIKELY


def test_angles_are_uniform_in_both_directions():
    affine = geometry.draw_rotation(25.0, (20_000,), generator()).double()
    angles = torch.atan2(affine[:, 0, 1], affine[:, 0, 0]).numpy() * 180 / math.pi
    assert stats.kstest(angles, stats.uniform(-25, 50).cdf).pvalue > UNLIKELY
