"""Lengths of a training in steps or images: how they are read, and the epochs that they give."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.experiment.length import Length
from search.experiment.loading import load_experiment, parse_experiment
from search.experiment.schema import Experiment
from search.experiment.training_length import TrainingLength, with_whole_epochs
from search.experiment.yaml_text import read_yaml
from spaces.errors import BadInputError


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("2000 steps", Length(2000, "steps")),
        ("2_000 Steps", Length(2000, "steps")),
        ("1 step", Length(1, "steps")),
        ("300k images", Length(300_000, "images")),
        ("1.5M images", Length(1_500_000, "images")),
        ("20 epochs", 20),
        ("20", 20),
    ],
)
def test_length_is_read_from_file_and_option(
    tmp_path: Path, text: str, length: Length | int
) -> None:
    file, empty = tmp_path / "mine.yaml", tmp_path / "empty.yaml"
    file.write_text(f"epochs: {text}")
    empty.write_text("")
    assert load_experiment(file).epochs == length
    assert load_experiment(empty, [f"epochs={text}"]).epochs == length


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0 steps", "use a whole number of steps, 1 or more"),
        ("1.5 epochs", "use a whole number of epochs, 1 or more"),
        ("1.0001k images", "use a whole number of images, 1 or more"),
        ("9e9 steps", "such as 2000 steps or 300k images"),
        ("20 hours", "such as 2000 steps or 300k images"),
        ("many", "use a number of epochs, or a text such as 2000 steps or 300k images"),
        ("-5 steps", "use a number of epochs, or a text such as 2000 steps"),
        ("20.000 images", "write 20000 or 20k"),
        ("1.505 steps", "write 1505 or 1,505"),
    ],
)
def test_bad_length_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse_experiment({"epochs": text})
    line = str(caught.value)
    assert line.startswith(f"epochs = {text}: ")
    assert says in line
    assert "\n" not in line


def test_length_is_written_as_it_is_read() -> None:
    experiment = parse_experiment({"epochs": "300k images"})
    document = read_yaml(experiment.to_yaml(), Experiment)
    assert document["epochs"] == "300000 images"
    assert parse_experiment(document) == experiment


def resolved(epochs: str, images: int, **recipe: object) -> tuple[int, str]:
    experiment = parse_experiment({"epochs": epochs, "recipe": recipe})
    found, line = with_whole_epochs(experiment, images)
    return found.whole_epochs, line


def test_line_says_which_epochs_a_length_gives() -> None:
    assert resolved("2000 steps", 421, batch_size=8) == (
        39,
        "epochs: 39, for 2,000 steps of 8 images",
    )
    assert resolved("300k images", 215) == (
        1396,
        "epochs: 1,396, for 300,000 images of 215 per epoch",
    )
    assert resolved("2000 steps", 215, batch_size=[8, 32]) == (
        298,
        "epochs: 298, for 2,000 steps of 32 images, the largest batch size; smaller batches give "
        "more steps",
    )


def test_number_of_epochs_needs_no_images() -> None:
    experiment = parse_experiment({"epochs": 7})
    assert with_whole_epochs(experiment, 215) == (experiment, "")


@given(
    st.integers(1, 10_000),
    st.sampled_from(["steps", "images"]),
    st.integers(1, 5000),
    st.integers(1, 256),
)
def test_epochs_are_the_fewest_with_the_length(
    amount: int, unit: str, images: int, batch: int
) -> None:
    epochs, _ = resolved(f"{amount} {unit}", images, batch_size=batch)

    def reached(epochs: int) -> int:
        return TrainingLength(images, batch, epochs).steps if unit == "steps" else epochs * images

    assert epochs >= 1
    assert reached(epochs) >= amount
    # Steps round up, so one epoch less may end within the last step.
    assert (epochs - 1) * images < amount * (batch if unit == "steps" else 1)


def test_hopeless_after_is_checked_once_the_epochs_are_known() -> None:
    experiment = parse_experiment({"epochs": "100 images", "scheduler": {"hopeless_after": 5}})
    assert with_whole_epochs(experiment, 10)[0].epochs == 10
    with pytest.raises(BadInputError, match="a training ends after 5 epochs anyway"):
        with_whole_epochs(experiment, 20)


@pytest.mark.parametrize("size", ["eight", 0, [], [8, None]])
def test_steps_of_a_bad_batch_size_are_refused(size: object) -> None:
    with pytest.raises(BadInputError, match=r"recipe\.batch_size"):
        resolved("2000 steps", 215, batch_size=size)


def test_epochs_are_unknown_without_images() -> None:
    with pytest.raises(BadInputError, match="depends on the images"):
        _ = parse_experiment({"epochs": "2000 steps"}).whole_epochs
