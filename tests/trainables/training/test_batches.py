"""Training batches, compared with a pipeline of single images."""

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from spaces.errors import BadInputError
from trainables.data import Dataset
from trainables.specs import Augmentation
from trainables.training.augmentation import (
    Augment,
    Variation,
    change,
    check_user_augmentation,
    draw_variation,
    user_augmentation,
)
from trainables.training.batches import Batches

ASKED = {
    "nothing": Augmentation(),
    "crop": Augmentation(crop=2),
    "crop and flip": Augmentation(crop=1, flip="random"),
    "flip": Augmentation(flip="alternating"),
    "translation": Augmentation(translate=0.3, flip="alternating"),
    "erasing": Augmentation(erase=0.8),
    "cutout": Augmentation(cutout=3),
    "mixup": Augmentation(mixup=0.5),
    "zoom and colour": Augmentation(zoom=(0.3, 0.9), rotate=40.0, color=0.5, flip="random"),
    "policy": Augmentation(policy="trivial", crop=1, erase=0.5, mixup=0.5),
    "everything": Augmentation(crop=2, flip="random", erase=0.7, cutout=2, mixup=1.0),
}


def images_of(height: int, width: int, channels: int) -> Dataset:
    """Thirty random images whose channels have different ranges."""
    numbers = np.random.default_rng(height * width * channels)
    ranges = np.array([256, 60, 130])[:channels]
    return Dataset(
        images=numbers.integers(0, ranges, (30, height, width, channels)).astype(np.uint8),
        labels=numbers.integers(0, 4, 30),
        classes=("a", "b", "c", "d"),
        train=np.arange(0, 20),
        validation=np.arange(20, 25),
        test=np.arange(25, 30),
    )


def normalised(dataset: Dataset, image: np.ndarray) -> np.ndarray:
    """Return an image as [channels, height, width]; 0 is the mean of the training images."""
    return ((image / 255 - np.array(dataset.mean)) / np.array(dataset.std)).transpose(2, 0, 1)


def varied_one_by_one(
    dataset: Dataset, rows: list[int], variation: Variation, padding: tuple[int, int]
) -> np.ndarray:
    """Shift, mirror, normalise and erase; then mix each image with the previous one.

    The tests of geometry, colour and policy compare what `change` does with references.
    """
    height, width, _ = dataset.shape
    results = []
    for place, row in enumerate(rows):
        image = dataset.images[row]
        if variation.shift is not None:
            (down, across), (top, left) = padding, variation.shift[place].tolist()
            padded = np.pad(image, ((down, down), (across, across), (0, 0)))
            image = padded[top : top + height, left : left + width]
        if variation.mirrored is not None and variation.mirrored[place]:
            image = image[:, ::-1]
        if variation.affine is not None:
            alone = variation.map(lambda tensor, place=place: tensor[place : place + 1])
            image = change(torch.from_numpy(image[None].copy()), alone, padding)[0].numpy()
        result = normalised(dataset, image)
        for box in [] if variation.boxes is None else variation.boxes[place].tolist():
            result[:, box[0] : box[1], box[2] : box[3]] = 0
        results.append(result)
    if variation.mixup_lambda is not None:
        shares = variation.mixup_lambda.double().tolist()
        results = [
            share * results[place] + (1 - share) * results[place - 1]
            for place, share in enumerate(shares)
        ]
    return np.stack(results)


@pytest.mark.parametrize("size", [1, 6])
@pytest.mark.parametrize("shape", [(8, 8, 1), (5, 7, 3)], ids=["grey", "colour"])
@pytest.mark.parametrize("asked", ASKED)
def test_batch_equals_a_pipeline_of_single_images(asked, shape, size):
    dataset, augmentation = images_of(*shape), ASKED[asked]
    augmentation.check(*shape[:2])
    before = dataset.images.copy()
    batches = Batches(dataset, augmentation, size, torch.device("cpu"))
    numbers = torch.Generator().manual_seed(3)
    order = torch.from_numpy(dataset.train)[torch.randperm(20, generator=numbers)]
    epoch = order[: 3 * size].view(3, size)
    passes = torch.ones_like(epoch)
    variation = draw_variation(
        augmentation, epoch, shape[:2], seed=5, passes=passes, generator=numbers
    )
    for step, _ in enumerate(batches.feed(epoch.unbind())):
        rows, its_variation = epoch[step], variation.map(lambda tensor, step=step: tensor[step])
        images, labels = batches.current(rows, its_variation)
        assert (images.shape, images.dtype) == ((size, shape[2], *shape[:2]), torch.float32)
        # For a single image torch cannot distinguish the memory formats.
        assert size == 1 or images.is_contiguous(memory_format=torch.channels_last)
        assert labels.tolist() == dataset.labels[rows.numpy()].tolist()
        expected = varied_one_by_one(
            dataset, rows.tolist(), its_variation, augmentation.padding(*shape[:2])
        )
        np.testing.assert_allclose(images.numpy(), expected, rtol=0, atol=1e-5)
    assert np.array_equal(dataset.images, before), "the images themselves were written to"


def test_scored_images_are_normalised_without_augmentation():
    dataset = images_of(6, 5, 3)
    batches = Batches(dataset, ASKED["everything"], 4, torch.device("cpu"))
    rows = torch.from_numpy(dataset.validation)
    for part, (images, labels) in zip(rows.split(3), batches.sweep(rows.split(3)), strict=True):
        expected = np.stack([normalised(dataset, dataset.images[row]) for row in part])
        np.testing.assert_allclose(images.numpy(), expected, rtol=0, atol=1e-5)
        assert labels.tolist() == dataset.labels[part.numpy()].tolist()


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str], Augment | None]:
    """Return a function that loads an augmentation with a body of its own."""

    def load(body: str) -> Augment | None:
        name = f"augmentation_{zlib.crc32(body.encode())}"
        (tmp_path / f"{name}.py").write_text(f"def augment(images):\n    {body}\n")
        return user_augmentation(f"{name}:augment", [str(tmp_path)])

    return load


def test_own_augmentation_changes_training_images_only(own: Callable[[str], Augment]) -> None:
    dataset = images_of(6, 5, 3)
    rows = torch.arange(4)
    changed, plain = (
        Batches(dataset, Augmentation(), 4, torch.device("cpu"), each)
        for each in (own("return 1 - images"), None)
    )
    next(changed.feed([rows]))
    images, _ = changed.current(rows, Variation())
    expected = [normalised(dataset, 255 - dataset.images[row]) for row in range(4)]
    assert torch.allclose(images, torch.tensor(np.stack(expected)).float(), atol=1e-5)
    (scored, _), (same, _) = (next(each.sweep([rows])) for each in (changed, plain))
    assert torch.equal(scored, same)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return images.nothing", r"raised AttributeError: .* in .*augmentation_\d+.py, line 2"),
        ("return images[:1]", r"returned \[1, 3, 6, 5\] for images \[2, 3, 6, 5\] \(.*line 1\)"),
        ("return None", r"returned NoneType for images .*; return images of the same shape"),
        ("return images / 0", r"returned values that are not finite; return images in 0..1"),
        ("raise SystemExit", r"raised SystemExit: .*; call neither sys.exit"),
    ],
)
def test_failing_augmentation_is_refused_with_its_line(
    tmp_path: Path, own: Callable[[str], Augment], body: str, says: str
) -> None:
    own(body)
    name = f"augmentation_{zlib.crc32(body.encode())}:augment"
    with pytest.raises(BadInputError, match=rf"augmentation.function = {name}: {says}"):
        check_user_augmentation(name, [str(tmp_path)], images_of(6, 5, 3).images[:2])


def test_new_fields_leave_stored_keys_of_augmentations() -> None:
    assert Augmentation(crop=2).identity == (
        '{"crop":2,"translate":0.0,"flip":"none","zoom":null,"rotate":0.0,"color":0.0,'
        '"policy":"none","erase":0.0,"cutout":0,"mixup":null}'
    )
    assert '"function":"a:b"' in Augmentation(function="a:b").identity
