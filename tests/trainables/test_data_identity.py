"""The identity of data: equal content has one identity, and each difference is a phrase."""

from __future__ import annotations

import doctest
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spaces.errors import BadInputError
from trainables import colours, data_identity
from trainables.data import Dataset, NodeDataError, load
from trainables.data_identity import DataIdentity
from trainables.specs import DataSpec, Decoding


def dataset(images: dict[str, list[int]], validation: int = 1, test: int = 1) -> Dataset:
    """Return images of one shade each, the last of each class in validation and test."""
    shades = [shade for each in images.values() for shade in each]
    labels = np.repeat(np.arange(len(images)), [len(each) for each in images.values()])
    rows = [np.flatnonzero(labels == label) for label in range(len(images))]
    held = validation + test
    return Dataset(
        np.array(shades, dtype=np.uint8)[:, None, None, None] * np.ones((4, 4, 1), dtype=np.uint8),
        labels,
        tuple(images),
        np.concatenate([each[:-held] for each in rows]),
        np.concatenate([each[-held:-test] for each in rows]),
        np.concatenate([each[-test:] for each in rows]),
    )


BEFORE = {"cat": [1, 2, 3, 4, 5], "dog": [6, 7, 8, 9], "owl": [10, 11, 12, 13]}


def identity(images: dict[str, list[int]] = BEFORE, **held: int) -> DataIdentity:
    return dataset(images, **held).identify(Decoding())


def difference(**changes: list[int]) -> list[str]:
    after = {name: shades for name, shades in (BEFORE | changes).items() if shades}
    return identity().difference(identity(after))


@pytest.mark.parametrize(
    ("changes", "phrases"),
    [
        ({}, []),
        # The order within a split is irrelevant.
        ({"cat": [2, 1, 3, 4, 5]}, []),
        ({"owl": [], "zebra": [20, 21, 22, 23]}, ["new class zebra", "owl is gone"]),
        ({"owl": [], "raven": BEFORE["owl"]}, ["class owl is now raven"]),
        ({"zebra": [20, 21, 22]}, ["new class zebra", "3 images more"]),
        ({"cat": [0, *BEFORE["cat"]], "dog": []}, ["dog is gone", "3 images fewer (cat 1 more)"]),
        ({"dog": [], "owl": []}, ["dog and owl are gone", "8 images fewer"]),
        ({"cat": [0, *BEFORE["cat"]]}, ["1 image more in cat"]),
        ({"cat": [1, 2, 4, 5], "dog": [6, 8, 9]},
         ["2 images fewer (cat 1 fewer and dog 1 fewer)"]),
        ({"cat": [1, 2, 4, 5], "dog": [3, 6, 7, 8, 9]},
         ["other numbers of images (cat 1 fewer and dog 1 more)"]),
        ({"dog": [99, 7, 8, 9]}, ["other images in dog"]),
        ({"dog": BEFORE["owl"], "owl": BEFORE["dog"]}, ["dog and owl are swapped"]),
        ({"dog": [6, 7, 9, 8]}, ["the same images in other splits"]),
    ],
)  # fmt: skip
def test_each_change_of_the_images_is_a_phrase(
    changes: dict[str, list[int]], phrases: list[str]
) -> None:
    assert difference(**changes) == phrases


def test_other_order_of_the_classes_is_named() -> None:
    reordered = dataset(dict(reversed(BEFORE.items()))).identify(Decoding())
    assert identity().difference(reordered) == ["the classes are in another order"]


def test_many_changed_classes_are_counted_not_listed() -> None:
    after = BEFORE | {f"new{number}": [100 + number, 2, 3] for number in range(9)}
    first = identity().difference(identity(after))[0]
    assert first == "new classes new0, new1, new2 and 6 more"


def test_other_sizes_of_splits_are_named() -> None:
    assert identity().difference(identity(test=2)) == [
        "4 train images instead of 7",
        "6 test images instead of 3",
    ]


def test_other_shape_and_decoding_are_differences() -> None:
    before = identity()
    other = replace(before, shape=(32, 16, 3))
    assert before.difference(other) == [
        "images of 32x16 pixels in colour instead of 4x4 pixels in grey"
    ]
    black = dataset(BEFORE).identify(Decoding(background="black"))
    (phrase,) = before.difference(black)
    assert phrase.startswith("decoded with background black")
    assert not before.difference(dataset(BEFORE).identify(Decoding(max_megapixels=1)))


def test_identity_survives_json() -> None:
    before = identity()
    assert DataIdentity.from_json(before.to_json()) == before
    with pytest.raises(ValueError, match="classes"):
        DataIdentity.from_json("{}")


@pytest.mark.parametrize(
    ("text", "name"),
    [("#ffffff", "white"), ("#FFF", "white"), ("rgb(255, 255, 255)", "white"), ("Black", "black")],
)
def test_one_colour_has_one_identity(text: str, name: str) -> None:
    settings = Decoding(background=text)
    assert settings == Decoding(background=name)
    expected = dataset(BEFORE).identify(Decoding(background=name))
    assert dataset(BEFORE).identify(settings) == expected
    kept = replace(expected, decoding=f"background {text}, value_range None")
    assert DataIdentity.from_json(kept.to_json()) == expected


def test_colour_without_a_name_is_hexadecimal() -> None:
    assert Decoding(background="#0A0b0C").background == "#0a0b0c"
    assert Decoding(background="#102030").background == "#102030"
    assert Decoding().background == Decoding(background="white").background == "white"


def test_examples_run() -> None:
    assert doctest.testmod(data_identity) == (0, 5)
    assert doctest.testmod(colours) == (0, 1)


def test_description_names_counts_and_digest() -> None:
    line = identity().describe()
    assert line.startswith("3 classes, 13 images of 4x4 pixels in grey (7 train, 3 validation, ")
    assert line != identity(BEFORE | {"cat": [99, 2, 3, 4, 5]}).describe()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, shades in BEFORE.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        for shade in shades:
            path = tmp_path / "photos" / name / f"{shade:02}.png"
            Image.new("L", (4, 4), shade).save(path)
    return tmp_path / "photos"


def touch(photos: Path) -> Path:
    os.utime(photos / "cat/01.png", (1, 1))
    return photos


def move(photos: Path) -> Path:
    return photos.rename(photos.with_name("moved"))


@pytest.mark.parametrize("change", [touch, move])
def test_touched_or_moved_images_keep_their_identity(
    photos: Path, change: Callable[[Path], Path]
) -> None:
    cache = photos.parent / "cache"
    expected = load(DataSpec(f"images:{photos}"), cache=cache).identify(Decoding())
    after = change(photos)
    # Raises an error if they differ.
    load(DataSpec(f"images:{after}", expected=expected), cache=cache)


def test_node_with_other_images_is_named(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = photos.parent / "cache"
    expected = load(DataSpec(f"images:{photos}"), cache=cache).identify(Decoding())
    (photos / "cat/01.png").unlink()
    monkeypatch.setattr("platform.node", lambda: "gpu-3")
    with pytest.raises(NodeDataError) as caught:
        load(DataSpec(f"images:{photos}", expected=expected), cache=cache)
    assert "the images on the node gpu-3 differ" in caught.value.problem
    assert "1 image fewer in cat" in caught.value.problem
    assert "\n" not in str(caught.value)


def test_empty_folder_is_an_error_that_names_the_node_only_on_workers(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = photos.parent / "cache"
    expected = load(DataSpec(f"images:{photos}"), cache=cache).identify(Decoding())
    photos.rename(photos.with_name("unmounted"))
    photos.mkdir()
    monkeypatch.setattr("platform.node", lambda: "gpu-3")
    with pytest.raises(BadInputError, match="there are no images") as caught:
        load(DataSpec(f"images:{photos}"), cache=cache)
    assert not isinstance(caught.value, NodeDataError)
    assert "gpu-3" not in str(caught.value)
    with pytest.raises(NodeDataError, match="images on the node gpu-3 cannot be used: there are"):
        load(DataSpec(f"images:{photos}", expected=expected), cache=cache)
    listed = DataSpec("digits", expected=expected, validation_list=str(photos / "gone.txt"))
    with pytest.raises(NodeDataError, match=r"validation_list = .*gone.txt: .* the node gpu-3"):
        load(listed, cache=cache)


def test_cached_identity_reads_no_image(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, cache = DataSpec(f"images:{photos}"), photos.parent / "cache"
    load(data, cache=cache)
    monkeypatch.setattr("trainables.data.digest", lambda _: pytest.fail("read again"))
    monkeypatch.setattr("trainables.images.store.write", lambda *_: pytest.fail("decoded again"))
    load(data, cache=cache).identify(Decoding())
