"""Lists of validation images, groups by name, and notes on the balance of classes."""

import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spaces.errors import BadInputError
from trainables.data import Dataset, load
from trainables.images.splitting.balance import describe_balance
from trainables.specs import DataSpec

NAMES = [f"{kind}/p{number}-{view}.png" for kind in "ab" for number in range(4) for view in "xy"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images of four patients in each of two classes."""
    for shade, name in enumerate(NAMES):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), shade).save(path)
    return tmp_path


def read(folder: Path, source: str | None = None, **fields: object) -> Dataset:
    spec = DataSpec(source or f"images:{folder / 'images'}", **fields)
    return load(spec, cache=folder / "cache")


def named(data: Dataset, rows: np.ndarray) -> set[str]:
    return {NAMES[shade] for shade in data.images[rows, 0, 0, 0]}


def listed(folder: Path, text: str) -> str:
    path = folder / "validation.txt"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_listed_images_are_the_validation_split(folder):
    path = listed(folder, "\ufeffa/p1-x.png\r\n\r\n./b/p2-y.png\r\na\\p1-x.png\r\n")
    data = read(folder, validation_list=path)
    assert named(data, data.validation) == {"a/p1-x.png", "b/p2-y.png"}
    assert len(data.train) + len(data.validation) + len(data.test) == 16
    assert data.notes[0].endswith(
        ": validation from the list validation.txt (2), test is drawn from train"
    )


def test_list_made_for_a_folder_suits_an_archive_around_it(folder):
    archive = folder / "images.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(folder / "images", "images")
    path = listed(folder, "a/p1-x.png\nimages/b/p2-y.png\n")
    data = read(folder, f"images:{archive}", validation_list=path)
    assert named(data, data.validation) == {"a/p1-x.png", "b/p2-y.png"}


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        (
            "a/p1-x.png\nb/p2_y.png\nc.png\n",
            "2 of its 3 lines name no image, the first is b/p2_y.png",
            "did you mean b/p2-y.png? write paths relative to the images, such as a/p0-x.png",
        ),
        ("\n", "it lists no images", "write one relative path per line"),
        (
            "a/p1-x.png\n",
            "the validation split has no image of b, and each split needs one of each class",
            "add images to it or remove the class",
        ),
    ],
)
def test_list_that_does_not_fit_the_images_is_refused(folder, text, problem, remedy):
    with pytest.raises(BadInputError) as raised:
        read(folder, validation_list=listed(folder, text))
    assert raised.value.field == "validation_list"
    assert (raised.value.problem, raised.value.remedy) == (problem, remedy)


def test_missing_list_is_refused(folder):
    with pytest.raises(BadInputError, match=r"there is no file .*none\.txt; check the path"):
        read(folder, validation_list=str(folder / "none.txt"))


def test_list_beside_given_splits_is_refused(folder):
    (folder / "images").rename(folder / "train")
    (folder / "images").mkdir()
    (folder / "train").rename(folder / "images" / "train")
    for split in ("test", "val"):
        for kind in "ab":
            place = folder / "images" / split / kind / "1.png"
            place.parent.mkdir(parents=True)
            Image.new("L", (4, 4)).save(place)
        path = listed(folder, "train/a/p1-x.png\ntrain/b/p1-x.png\ntest/a/1.png\n")
        with pytest.raises(BadInputError) as raised:
            read(folder, validation_list=path)
        assert raised.value.problem == (
            "it lists 1 image of the test split, such as test/a/1.png"
            if split == "test"
            else "the data has a validation split already"
        )


def test_list_and_groups_need_names_of_files(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mine.py").write_text(
        "import numpy as np\ndef dataset(): return np.zeros((12, 4, 4), np.uint8), [0, 1] * 6\n"
    )
    for field, value in (("validation_list", "list.txt"), ("groups", "(x)")):
        spec = DataSpec("mine:dataset", folders=(str(tmp_path),), **{field: value})
        with pytest.raises(BadInputError) as raised:
            load(spec, cache=tmp_path)
        assert raised.value.field == field
        assert raised.value.problem == "the images of this data set are not files"


def test_images_with_equal_captured_text_stay_in_one_split(folder):
    for seed in range(10):
        data = read(folder, groups=r"/p(\d)-", split_seed=seed)
        patients = [
            {name[3] for name in named(data, rows)}
            for rows in (data.train, data.validation, data.test)
        ]
        assert sum(map(len, patients)) == 4
    assert "16 images in 4 groups that no split divides" in data.notes


def test_first_group_that_matches_is_captured(folder):
    data = read(folder, groups=r"a/p(\d)|b/p(\d)")
    assert "16 images in 4 groups that no split divides" in data.notes


def test_pattern_that_misses_images_is_refused_with_their_number(folder):
    with pytest.raises(BadInputError) as raised:
        read(folder, groups=r"a/p(\d)")
    assert raised.value.problem == "does not match 8 images, such as b/p0-x.png"
    assert raised.value.remedy.endswith(r"append '|(.*)': a/p(\d)|(.*)")
    assert "16 images in 12 groups that no split divides" in (
        read(folder, groups=r"a/p(\d)|(.*)").notes
    )


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        (r"p(\d", "is not a regular expression (missing ), unterminated subpattern at position 1)"),
        (r"p\d", "marks no part of the path as the group"),
    ],
)
def test_pattern_without_a_group_is_refused(folder, pattern, problem):
    with pytest.raises(BadInputError) as raised:
        read(folder, groups=pattern)
    assert (raised.value.field, raised.value.problem) == ("groups", problem)


def test_list_that_divides_a_group_is_refused(folder):
    path = listed(folder, "a/p1-x.png\nb/p1-x.png\nb/p1-y.png\n")
    with pytest.raises(BadInputError, match=r"the splits divide 1 group: a/p1-y\.png is in train"):
        read(folder, validation_list=path, groups=r"/p(\d)-")


def test_changed_groups_and_lists_do_not_decode_again(folder):
    read(folder)

    def entries() -> list[int]:
        return [each.stat().st_mtime_ns for each in (folder / "cache" / "decoded").iterdir()]

    before = entries()
    read(folder, groups=r"/p(\d)-")
    read(folder, validation_list=listed(folder, "a/p1-x.png\nb/p2-y.png\n"))
    assert entries() == before


def test_unbalanced_classes_are_noted_with_their_counts():
    labels = np.repeat([0, 1, 2], [1600, 401, 400])
    assert describe_balance(labels, ("cat", "dog", "owl")) == (
        "the classes are unbalanced: cat has 1,600 training images, owl has 400; accuracy favours "
        "the large classes (balance: weights or sampling gives classes equal influence on "
        "training)",
    )
    assert describe_balance(np.repeat([0, 1], [1200, 400]), ("cat", "dog")) == ()


def test_small_classes_are_noted_by_name():
    labels = np.repeat([0, 1, 2], [20, 19, 19])
    assert describe_balance(labels, ("cat", "dog", "owl")) == (
        "2 classes have fewer than 20 training images: dog, owl",
    )


def test_loading_notes_small_classes_of_the_training_split(folder):
    assert read(folder).notes[-1] == "2 classes have fewer than 20 training images: a, b"
