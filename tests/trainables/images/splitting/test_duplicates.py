"""Copies of images: on one side of drawn splits, and reported otherwise."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data import Dataset, load
from trainables.images.similarity import similar_pairs, thumbnails
from trainables.specs import DataSpec

Pixels = np.ndarray


def pictures(count: int, side: int = 32, seed: int = 0) -> Pixels:
    """Return different images with smooth structure, as photos have."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 3), np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(each).resize((side, side), Image.BICUBIC)) for each in coarse]
    )


def saved(pixels: Pixels, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def loaded(tmp_path: Path, files: dict[str, bytes], **options: float) -> tuple[Dataset, list[str]]:
    """Return the data set and the name of each of its rows."""
    for name, content in files.items():
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    data = load(DataSpec(f"images:{tmp_path}/images", **options), cache=tmp_path / "cache")
    return data, sorted(files, key=lambda name: (not name.startswith("train/"), name))


def sides(data: Dataset) -> np.ndarray:
    result = np.full(len(data.labels), -1)
    for number, rows in enumerate((data.train, data.validation, data.test)):
        result[rows] = number
    return result


def folder(name: str, images: Pixels) -> dict[str, bytes]:
    return {f"{name}/{number:03}.png": saved(each) for number, each in enumerate(images)}


def copy_notes(data: Dataset) -> list[str]:
    return [note for note in data.notes if "copies" in note or "almost" in note]


@pytest.mark.parametrize("seed", range(3))
def test_exact_copies_are_on_one_side_of_drawn_splits(tmp_path, seed):
    cats, dogs = pictures(20), pictures(20, seed=1)
    files = folder("cat", np.concatenate([cats, cats])) | folder("dog", dogs)
    data, _ = loaded(tmp_path, files, test=0.3, validation=0.3, split_seed=seed)
    assert np.array_equal(sides(data)[:20], sides(data)[20:40])
    assert copy_notes(data)[0].startswith("exact copies of other images: 20 (e.g. cat/0")
    assert len(copy_notes(data)) == 1


def test_copies_across_given_splits_are_reported_and_stay(tmp_path):
    cats, dogs = pictures(6), pictures(6, seed=1)
    files = folder("train/cat", cats) | folder("train/dog", dogs)
    files |= folder("test/cat", cats[:2]) | folder("test/dog", pictures(2, seed=2))
    data, _ = loaded(tmp_path, files)
    assert len(data.test) == 4
    first, second = copy_notes(data)
    assert first.startswith("exact copies of other images: 2 (e.g. train/cat/00")
    assert second.startswith("exact copies in different splits: 2 (e.g. train/cat/00")
    assert second.endswith("; scores on them are too optimistic")


def test_one_image_in_two_classes_is_reported(tmp_path):
    cats, dogs = pictures(8), pictures(8, seed=1)
    dogs[5] = cats[3]
    data, _ = loaded(tmp_path, folder("cat", cats) | folder("dog", dogs))
    assert copy_notes(data)[1] == (
        "exact copies in different classes: 1 (e.g. cat/003.png and dog/005.png); "
        "one of the labels is wrong"
    )
    assert sides(data)[3] == sides(data)[8 + 5]


def test_class_of_copies_alone_is_split_as_before(tmp_path):
    cats, dogs = np.repeat(pictures(1), 6, axis=0), pictures(6, seed=1)
    data, _ = loaded(tmp_path, folder("cat", cats) | folder("dog", dogs))
    assert [np.bincount(data.labels[part]).tolist() for part in (data.train, data.test)] == [
        [4, 4],
        [1, 1],
    ]
    assert copy_notes(data)[0] == (
        "exact copies in cat are not kept in one split: there are too few different images"
    )
    assert copy_notes(data)[2].startswith("exact copies in different splits: 2 ")


def test_cached_set_gives_the_same_notes_and_splits(tmp_path):
    cats, dogs = pictures(8), pictures(8, seed=1)
    cats[7] = cats[0]
    files = folder("cat", cats) | folder("dog", dogs)
    (first, _), (second, _) = loaded(tmp_path, files), loaded(tmp_path, {})
    assert first.notes == second.notes
    assert np.array_equal(first.train, second.train)


@pytest.mark.parametrize("side", [64, 200])
def test_resaved_photos_in_other_splits_are_counted(tmp_path, side):
    # The large images are compared on a grid. Copies of one of them do not hide the other pair.
    cats, dogs = pictures(6, side=side), pictures(6, side=side, seed=1)
    dogs = np.concatenate([dogs, np.repeat(dogs[2:3], 9, axis=0)])
    files = folder("train/cat", cats) | folder("train/dog", dogs)
    files |= folder("test/cat", pictures(2, side=side, seed=2))
    files |= {f"test/dog/{n}.jpg": saved(dogs[n], "JPEG", quality=85) for n in (2, 4)}
    data, _ = loaded(tmp_path, files)
    assert copy_notes(data)[1:] == [
        "pairs of images in different splits that look almost the same: at least 2 "
        "(e.g. train/dog/002.png and test/dog/2.jpg)"
    ]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda image: np.asarray(Image.open(io.BytesIO(saved(image, "JPEG", quality=80)))), True),
        (lambda image: np.clip(image * 0.9 + 20, 0, 255).astype(np.uint8), True),
        (lambda image: image[:, ::-1], False),
        (lambda image: np.roll(image, 8, axis=1), False),
        (lambda image: 255 - image, False),
    ],
)
def test_similar_pairs_are_photos_saved_again_not_altered_ones(change, found):
    originals = pictures(50, side=48)
    images = np.concatenate([originals, np.stack([change(image) for image in originals])])
    pairs = similar_pairs(thumbnails(images), images)
    matched = {one for one, two in pairs.tolist() if two == one + 50}
    assert len(pairs) == len(matched)
    assert len(matched) >= 40 if found else not matched


def test_blank_or_tiny_images_are_not_similar():
    blank = np.full((20, 32, 32, 1), 200, dtype=np.uint8)
    blank[::2, 0, 0] = 199
    tiny = np.repeat(pictures(3, side=8), 2, axis=0)
    for images in (blank, tiny):
        assert len(similar_pairs(thumbnails(images), images)) == 0


def test_time_stays_bounded_if_all_images_are_similar():
    images = np.repeat(pictures(1, side=16), 2000, axis=0)
    images[:, 0, 0, 0] = np.arange(2000) % 200
    # Each image is compared with a few others, not with all.
    assert 2000 < len(similar_pairs(thumbnails(images), images)) < 20_000


def test_thumbnail_is_the_mean_of_areas():
    images = np.zeros((1, 16, 18, 3), dtype=np.uint8)
    images[0, 2:4, 4:6] = (30, 60, 90)
    expected = np.zeros((8, 9))
    expected[1, 2] = 60
    assert np.array_equal(thumbnails(images)[0], expected)
    uneven = thumbnails(np.full((2, 20, 31, 1), 77, dtype=np.uint8))
    assert np.all(uneven == 77)
