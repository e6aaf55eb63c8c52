"""Classes and splits from folders: what is read, noted and refused."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trainables.images.errors import UnusableDataError
from trainables.images.layout.arrangement import Arrangement, arrange
from trainables.images.summary import summarize


def files(*folders: str, count: int = 2) -> list[str]:
    return [f"{folder}/{number}.png" for folder in folders for number in range(count)]


def arranged(paths: list[str], empty: tuple[str, ...] = ()) -> Arrangement:
    folders = {path.rpartition("/")[0] for path in paths} | set(empty)
    parents = {"/".join(folder.split("/")[:end]) for folder in folders for end in range(1, 9)}
    return arrange(paths, parents - {""})


def refusal(paths: list[str], empty: tuple[str, ...] = ()) -> UnusableDataError:
    with pytest.raises(UnusableDataError) as raised:
        arranged(paths, empty)
    assert_plain(raised.value)
    return raised.value


def assert_plain(error: UnusableDataError) -> None:
    assert f"{error.problem}{error.remedy}".isprintable()
    assert error.problem
    assert error.remedy


def pairs(*splits: str) -> list[str]:
    return files(*(f"{split}/{name}" for split in splits for name in ("cat", "dog")))


def of(found: Arrangement) -> list[tuple[str, int]]:
    """Return class and split of each row."""
    return [
        (found.classes[label], split)
        for label, split in zip(found.labels.tolist(), found.splits.tolist(), strict=True)
    ]


def first_line(found: Arrangement) -> str:
    return summarize(found.classes, found.labels, found.splits, found.origin)


# Layouts that are read


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train", "val", "test"),
        ("Training", "Validation", "Test"),
        ("train_set", "dev-set", "testset"),
        ("train2017", "val2017", "test2017"),
        ("pets_train", "pets_valid", "pets_holdout"),
        ("pets/train", "pets/val", "pets/test"),
        ("pets/pets/train", "pets/pets/val", "pets/pets/test"),
        ("train/images", "val/images", "test/images"),
        ("train/train", "val/val", "test/test"),
        ("test/train", "test/val", "test/test"),
    ],
)
def test_split_folders_of_any_usual_name_become_splits(train, validation, test):
    found = arranged(pairs(train, validation, test))
    assert found.classes == ("cat", "dog")
    assert found.splits.tolist() == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize("wrapper", ["", "pets/", "pets/pets/", "a/b/c/"])
def test_folders_that_contain_everything_are_seen_through(wrapper):
    found = arranged(files(f"{wrapper}cat", f"{wrapper}dog"))
    assert of(found) == [("cat", 0), ("cat", 0), ("dog", 0), ("dog", 0)]


def test_splits_inside_class_folders_are_read():
    found = arranged(files("cat/train", "cat/test", "dog/Training", "dog/test"))
    assert of(found) == [(name, split) for split in (0, 2) for name in ("cat", "cat", "dog", "dog")]
    assert "train from CLASS/Training/ (4), test from CLASS/test/ (4)" in first_line(found)


def test_first_note_says_how_the_folders_are_read():
    found = arranged(pairs("pets/Training", "pets/Test") + files("pets/Test/cat", count=3)[2:])
    assert found.notes == ()
    assert first_line(found) == (
        "9 images of 2 classes (cat 5, dog 4): train from pets/Training/ (4), "
        "test from pets/Test/ (5), validation is drawn from train"
    )


def test_first_note_on_many_classes_names_the_extremes():
    paths = files("rare", count=1) + files(*(f"class{n}" for n in range(9)), "often", count=3)
    found = arranged([*paths, "often/9.png"])
    assert found.notes == ()
    assert first_line(found) == (
        "32 images of 11 classes (from 1 of rare to 4 of often): "
        "validation and test are drawn from train"
    )


# Images that are not used are noted


def test_images_outside_class_folders_are_counted():
    beside = ["overview.png", "train/montage.png", *files("extra/cat", "more/x/y", count=3)]
    found = arranged(pairs("train", "test") + beside)
    assert len(found.labels) == 8
    assert found.notes == (
        "8 images outside the class folders left out: 3 in extra/, 3 in more/, "
        "1 beside the folders, 1 in train/ (e.g. extra/cat/0.png)",
    )


def test_class_folders_that_are_equal_numbers_are_noted():
    found = arranged(files("1", "01", "-1", "2"))
    assert found.classes == ("-1", "01", "1", "2")
    assert found.notes == ("the classes 01, 1 are the same number and stay separate",)


def test_split_without_class_folders_is_noted():
    found = arranged(pairs("train") + files("test", count=5), empty=("val",))
    assert "val/ has no images, so the validation split is drawn" in found.notes
    assert "test/ has no class folders, so the test split is drawn" in found.notes
    assert any(note.startswith("5 images outside") for note in found.notes)


def test_subfolders_that_do_not_count_as_classes_are_noted():
    found = arranged(files("animals/cat", "animals/dog", "vehicles/car", "vehicles/bus"))
    assert found.classes == ("animals", "vehicles")
    assert found.notes == (
        "8 images in subfolders counted for the class folder above (e.g. animals/cat/0.png)",
    )


def test_class_named_train_is_noted():
    found = arranged(files("train", "plane"))
    assert found.classes == ("plane", "train")
    assert "train/ is taken as a class, not as a split" in found.notes


def test_valid_can_be_a_class_beside_invalid():
    assert arranged(files("valid", "invalid")).classes == ("invalid", "valid")


# Two readings are refused


@pytest.mark.parametrize(
    ("paths", "problem", "remedy"),
    [
        (
            files("train", "test"),
            "there are no class folders inside test/ and train/, named like splits",
            "arrange the images as train/CLASS/*.jpg, or rename the folders if they are classes",
        ),
        (
            pairs("test", "val"),
            "there is no training split: test/ and val/ are named like other splits",
            "add train/ with the same class folders, or rename the folders if they are classes",
        ),
        (
            pairs("test"),
            "there is no training split: the only folder is test/, named like another split",
            "add train/ beside it; if test/ has all images, give its own path or rename it",
        ),
        (
            files("cat", "dog", "test"),
            "test/ beside cat/ is either a class or the test split of a data set without a folder "
            "of the training split",
            "move cat/ and the like into train/, or rename test/ if it is a class",
        ),
        (
            files("cat", "dog", "val/cat", "val/dog"),
            "val/ beside cat/ is either a class or the validation split of",
            "move cat/ and the like into train/, or rename val/",
        ),
        (
            files("plane", "train/steam", "train/diesel"),
            "train/ beside plane/ is either a class, or the training split with the classes "
            "diesel, steam",
            "rename train/ if it is a class, or move plane/ away if it is none",
        ),
        (
            files("cat/train", "cat/test", "dog"),
            "cat/test/ is named like a split in a class folder, but dog/0.png is in no folder "
            "CLASS/SPLIT/",
            "arrange the images as train/CLASS/*.jpg, rename the folder if it is no split, or give",
        ),
        (
            files("cat/test", "dog/test"),
            "the class folders hold folders named like splits, but none of the training split",
            "arrange the images as train/CLASS/*.jpg",
        ),
        (
            pairs("old/train", "old/test", "new/train", "new/test"),
            "new/test/ is named like a split in a class folder, but new/train/cat/0.png is in no",
            "arrange",
        ),
        (
            pairs("amazon", "dslr"),
            "the classes are either the folders amazon, dslr or their subfolders, which are the "
            "same in each (cat, dog)",
            "name the outer folders train/, val/ and test/, or move the images from the subfolders",
        ),
        (
            files("2024/cat", "2024/dog", "2025/cat", "2025/bird"),
            "the classes are either the folders 2024, 2025 or their subfolders, because several "
            "have a subfolder cat",
            "move the images into one folder for each class, or name the outer folders",
        ),
        (
            files("p1/benign", "p2/malignant", "p3/benign"),
            "the classes are either the folders p1, p2, p3 or their subfolders, because several",
            "move",
        ),
        (
            files("train/p1/benign", "train/p2/malignant", "train/p3/benign", "test/p1/benign"),
            "the classes are either the folders p1, p2, p3 or their subfolders",
            "move",
        ),
        (
            [*pairs("train", "test"), *pairs("Validierung")],
            "Validierung/ beside train/ has the same class folders (cat, dog) but is not named",
            "rename Validierung/ to val/ or test/ if it is a split, or move it away",
        ),
        (
            [*pairs("train"), *pairs("train_old")],
            "train_old/ beside train/ has the same class folders (cat, dog)",
            "rename",
        ),
        (
            files("train/good", "test/good", "test/broken"),
            "the class broken is in test/ but has no training images: good is the only class in",
            "give both the same class folders",
        ),
        (
            files("images/a", "labels/b"),
            "the folders images, labels look like images and marked regions in them",
            "arrange the images as CLASS/*.jpg",
        ),
        (
            files("train/images", "train/masks", "test/images", "test/masks"),
            "the folders images, masks look like images and marked regions in them",
            "arrange",
        ),
        (
            pairs("train", "training"),
            "train/ and training/ are both the train split",
            "keep one of them",
        ),
        (files("images/train"), "there are no class folders inside train/", "arrange the images"),
        (
            ["0.png", "1.png"],
            "there are no images (.jpg, .png, ..) inside class folders: 2 are",
            "",
        ),
    ],
)
def test_folders_with_two_readings_are_refused_with_both(paths, problem, remedy):
    error = refusal(paths)
    assert error.problem.startswith(problem)
    assert error.remedy.startswith(remedy)


def test_folders_of_marks_are_named_before_those_without_images():
    error = refusal(files("JPEGImages", "SegmentationClass"), empty=("Annotations", "ImageSets"))
    assert error.problem == (
        "the folders Annotations, JPEGImages, SegmentationClass look like images and marked "
        "regions in them, not like classes"
    )


@pytest.mark.parametrize(
    "paths",
    [
        files("cat/images", "dog/images", "dog/more"),
        files("cat/day1", "dog/day1"),
        [*files("cat", "dog", count=9), *files("cat/crops", "dog/crops", "dog/rotated", count=1)],
    ],
)
def test_subfolders_that_cannot_be_classes_are_seen_through(paths):
    assert arranged(paths).classes == ("cat", "dog")


@pytest.mark.parametrize(
    "mask", ["1_mask", "1-mask", "1_seg", "1_label", "1_gt", "1_annotation", "1_mask_2", "1 Mask"]
)
def test_masks_beside_images_are_refused(mask):
    error = refusal([*files("benign", "malignant", count=4), f"malignant/{mask}.tif"])
    assert error.problem == (
        "1 of 5 images of the class malignant are named like masks of others in the same folder "
        f"(e.g. malignant/{mask}.tif beside malignant/1.png)"
    )
    assert error.remedy == "move the masks out of the class folders"


def test_few_names_like_masks_are_noted():
    found = arranged([*files("cat", "dog", count=9), "cat/1_mask.png", "dog/x_mask.png"])
    assert len(found.labels) == 20
    assert found.notes == (
        "masks may count as images: 1 named like masks of others in the same folder (e.g. "
        "cat/1_mask.png beside cat/1.png); move them out of the class folders if they are masks",
    )


@pytest.mark.parametrize("folder", ["thumbs", "Thumbnails", "small/thumb"])
def test_thumbnails_in_class_folders_are_left_out(folder):
    found = arranged(files("thumbs", "dog", f"dog/{folder}"))
    assert of(found) == [("dog", 0)] * 2 + [("thumbs", 0)] * 2
    assert found.notes == (f"2 images in folders of thumbnails left out (e.g. dog/{folder}/0.png)",)


def test_folder_name_that_is_not_utf8_is_noted():
    found = arranged(files("caf\udce9", "tea"))
    assert found.notes[0] == (
        "the name of the class folder caf\\udce9 is not UTF-8, and escapes stand for some bytes"
    )


def test_mask_can_be_a_class():
    assert arranged(files("mask", "no_mask")).classes == ("mask", "no_mask")


@pytest.mark.parametrize("paths", [files("cat", "dog"), files("cat/train", "dog/train")])
def test_class_folder_without_images_is_refused(paths):
    assert refusal(paths, empty=("ox",)).problem == "the class folder ox has no images"


# Names that look the same

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Käse") for form in ("NFC", "NFD"))


def test_unicode_forms_of_a_name_are_one_class():
    found = arranged(files(f"train/{DECOMPOSED}", "train/Brot", f"test/{COMPOSED}", "test/Brot"))
    assert found.classes == ("Brot", COMPOSED)
    assert found.notes[0] == (
        f"folders of {COMPOSED} differ in their Unicode form and are taken as one class"
    )


def test_unicode_forms_side_by_side_are_one_class():
    found = arranged(files(DECOMPOSED, COMPOSED, "Brot"))
    assert of(found) == [("Brot", 0)] * 2 + [(COMPOSED, 0)] * 4


@pytest.mark.parametrize("other", ["dog", "DOG ", "  Dog", "dOg_"])
def test_names_alike_in_different_splits_are_one_class(other):
    found = arranged(files("train/Dog", "train/Cat", f"test/{other}", "test/Cat"))
    assert found.classes == ("Cat", "Dog")
    assert f"{other} of the test split is taken as the class Dog" in found.notes


def test_names_alike_in_one_split_stay_separate_with_a_note():
    found = arranged(files("a", "A", "b", "B"))
    assert found.classes == ("A", "B", "a", "b")
    assert found.notes[0] == (
        "the classes A, a differ only in case, blanks, hyphens or underscores and stay separate "
        "(2 such cases)"
    )


def test_name_alike_to_two_classes_is_refused():
    error = refusal(files("train/a b", "train/a_b", "test/A b", "test/a-b"))
    assert error.problem == "the class A b is in test/ but not in train/"


# Any folders

parts = st.sampled_from(
    [
        "train",
        "Test",
        "val",
        "cat",
        "dog",
        "Dog",
        "images",
        "labels",
        "x_train",
        "x_test",
        "\x1b",
        "\udcff",
    ]
)
trees = st.lists(st.lists(parts, max_size=4).map("/".join), min_size=1, max_size=8)


@given(trees, trees)
@example(["cat/Test", "dog/val"], [])
@example(["train"], ["train/cat"])
@example(["train/train/cat", "train/train/dog"], ["Test/cat"])
def test_any_folders_are_arranged_or_refused_plainly(folders, empty):
    paths = sorted({f"{folder}/{n}.png".lstrip("/") for folder in folders for n in (0, 1)})
    try:
        found = arranged(paths, tuple(empty))
    except UnusableDataError as error:
        assert_plain(error)
        return
    assert len(set(found.chosen.tolist())) == len(found.chosen)
    assert all(note.isprintable() for note in found.notes)
    is_noted = any("outside the class folders left out" in note for note in found.notes)
    assert is_noted == (len(paths) > len(found.chosen))
    for split in {0, *found.splits.tolist()}:
        assert set(found.labels[found.splits == split]) == set(range(len(found.classes)))
