"""Names of split folders."""

import pytest

from trainables.images.layout.split_names import split_folders, split_of_name


@pytest.mark.parametrize(
    ("split", "names"),
    [
        (
            "train",
            "train Training TRAIN train_set trainset train-images TrainImages train2017 my_train "
            "trainval train_256x256 traindata img_train 01_train",
        ),
        (
            "validation",
            "val valid validation Val dev eval evaluation val2017 valset validation-data ValImages",
        ),
        (
            "test",
            "test testing Test test_set testdata hold-out holdout held_out test_images images_test",
        ),
    ],
)
def test_usual_names_of_splits_are_recognised(split, names):
    assert {split_of_name(name) for name in names.split()} == {split}


@pytest.mark.parametrize(
    "name",
    [
        "cat",
        "tests",
        "trains",
        "contest",
        "invalid",
        "latest",
        "test_tube",
        "train_val",
        "data",
        "",
        "2017",
    ],
)
def test_other_names_are_no_splits(name):
    assert split_of_name(name) is None


def test_splits_may_share_the_name_of_the_data_set():
    assert split_folders(["flowers_train", "flowers-Test", "readme"]) == {
        "flowers_train": "train",
        "flowers-Test": "test",
    }


@pytest.mark.parametrize(
    "names",
    [
        ["test_tube", "beaker"],
        ["steam_train", "diesel_train"],
        ["flowers_train", "trees_test"],
        ["flowers_val", "flowers_test"],
    ],
)
def test_one_split_word_in_a_longer_name_is_not_enough(names):
    assert split_folders(names) == {}
