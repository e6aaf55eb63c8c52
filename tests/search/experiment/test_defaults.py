"""Specifies what a search chooses where its experiment is silent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.experiment.batch_size import default_batch_size
from search.experiment.defaults import FEWEST_STEPS, as_completed, complete, describe_choices
from search.experiment.loading import parse_experiment
from search.experiment.schema import Experiment
from spaces.errors import BadInputError


def completed(images: int = 215, side: int = 12, **fields: Any) -> Experiment:
    return complete(parse_experiment(fields), images, side)[0]


@pytest.mark.parametrize(
    ("images", "batch"), [(5, 5), (40, 8), (215, 16), (1000, 64), (1536, 128), (50_000, 128)]
)
def test_default_batch_size_follows_from_the_number_of_images(images: int, batch: int) -> None:
    assert completed(images).recipe["batch_size"] == batch


@given(st.integers(1, 10**7))
def test_default_batch_leaves_a_dozen_steps_or_is_the_smallest(images: int) -> None:
    batch = default_batch_size(images)
    assert 1 <= batch <= images
    assert images // batch >= 12 or batch in (8, images)
    assert batch == 128 or images // (2 * batch) < 12


@pytest.mark.parametrize("asked", [32, [64, 256]])
def test_given_batch_size_stays(asked: object) -> None:
    assert completed(recipe={"batch_size": asked}).recipe["batch_size"] == asked


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({}, {"optimizer": "muon", "learning_rate": [0.03, 0.3], "label_smoothing": 0.1}),
        ({}, {"weight_decay": [0.0005, 0.05]}),
        ({"optimizer": "adamw"}, {"optimizer": "adamw", "learning_rate": [0.0005, 0.005]}),
        ({"optimizer": ["adamw"]}, {"learning_rate": [0.0005, 0.005]}),
        ({"optimizer": ["sgd", "muon"]}, {"learning_rate": [0.03, 0.3]}),
        (
            {"optimizer": ["sgd", "adamw"]},
            {"learning_rate": {"sgd": [0.03, 0.3], "adamw": [0.0005, 0.005]}},
        ),
        (
            {"optimizer": ["sgd", "muon"]},
            {"weight_decay": {"sgd": [1e-5, 1e-2], "muon": [0.0005, 0.05]}},
        ),
        ({"learning_rate": 1e-3}, {"optimizer": "muon", "learning_rate": 1e-3}),
        ({"label_smoothing": [0.0, 0.2]}, {"label_smoothing": [0.0, 0.2]}),
    ],
)
def test_default_recipe(recipe: dict[str, Any], expected: dict[str, Any]) -> None:
    found = completed(recipe=recipe).recipe
    assert found | expected == found


@given(st.integers(1, 10**6))
def test_default_length_is_ten_epochs_or_a_thousand_steps(images: int) -> None:
    epochs = completed(images).whole_epochs
    batch = default_batch_size(images)
    assert epochs >= 10
    assert epochs * images >= FEWEST_STEPS * batch
    assert epochs == 10 or (epochs - 1) * images < FEWEST_STEPS * batch


@pytest.mark.parametrize(
    "fields", [{"epochs": 10}, {"recipe": {"schedule": "multi_step", "milestones": [3]}}]
)
def test_given_epochs_and_schedules_written_for_epochs_stay(fields: dict[str, Any]) -> None:
    assert completed(**fields).whole_epochs == 10


@given(st.integers(1, 10**6), st.sampled_from([1, 8, 32, 512, [16, 512]]))
def test_default_length_counts_steps_of_given_batches(images: int, batch: Any) -> None:
    epochs = completed(images, recipe={"batch_size": batch}).whole_epochs
    largest = max(batch) if isinstance(batch, list) else batch
    assert epochs >= 10
    assert -(-epochs * images // largest) >= FEWEST_STEPS


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", ["cosine", "constant"]])
def test_schedules_of_any_length_are_lengthened(schedule: object) -> None:
    assert completed(recipe={"schedule": schedule}).whole_epochs == 75


def test_settings_are_checked_against_the_chosen_length() -> None:
    late = {"scheduler": {"hopeless_after": 20}}
    assert completed(215, **late).scheduler.hopeless_after == 20
    with pytest.raises(BadInputError, match="a training ends after 10 epochs anyway"):
        completed(50_000, **late)


def test_default_length_is_said() -> None:
    assert complete(Experiment(), 215, 8)[1] == "epochs: 75, for 1,000 steps of 16 images"
    assert complete(Experiment(), 50_000, 8)[1] == ""


def test_default_length_says_that_large_batches_multiply_the_work() -> None:
    _, line = complete(parse_experiment({"recipe": {"batch_size": 128}}), 215, 8)
    assert line == (
        "epochs: 596, for 1,000 steps of 128 images: 7.9 times the 75 epochs of the default batch "
        "size 16; set epochs for shorter trainings"
    )
    for fields in ({"recipe": {"batch_size": 8}}, {"epochs": 596, "recipe": {"batch_size": 128}}):
        assert "times" not in complete(parse_experiment(fields), 215, 8)[1]


def test_chosen_settings_are_said_in_one_line() -> None:
    given = parse_experiment({"recipe": {"optimizer": ["sgd", "adamw"], "label_smoothing": 0.0}})
    assert describe_choices(given, complete(given, 215, 32)[0]) == (
        "chosen by default: learning_rate 0.03 to 0.3 (sgd) or 0.0005 to 0.005 (adamw), "
        "weight_decay 1e-05 to 0.01 (sgd) or 0.001 to 0.1 (adamw), batch_size 16, "
        "augmentation.translate 0.125"
    )
    stored = complete(given, 215, 32)[0]
    assert describe_choices(stored, stored) == ""


@pytest.mark.parametrize(("epochs", "grace"), [(1, 1), (9, 1), (10, 2), (75, 9)])
def test_default_grace_period_is_a_ninth_of_the_epochs(epochs: int, grace: int) -> None:
    assert completed(epochs=epochs).scheduler.grace_epochs == grace
    given = completed(epochs=epochs, scheduler={"grace_epochs": 2})
    assert given.scheduler.grace_epochs == 2


@pytest.mark.parametrize(
    ("augmentation", "shift"),
    [({}, 0.125), ({"flip": "random"}, 0.125), ({"crop": 4}, 0.0), ({"translate": 0}, 0.0)],
)
def test_images_shift_unless_told_otherwise(augmentation: dict[str, Any], shift: float) -> None:
    assert completed(augmentation=augmentation).augmentation.translate == shift
    assert completed(side=11, augmentation=augmentation).augmentation.translate == 0.0


def test_search_keeps_what_it_chose() -> None:
    asked = parse_experiment({"recipe": {"momentum": 0.8}, "augmentation": {"flip": "random"}})
    started, _ = complete(asked, 215, 32)
    stored = parse_experiment(started.model_dump(mode="json"))
    # More images would lead to other choices.
    assert as_completed(asked, stored) == stored
    assert complete(stored, 50_000, 32)[0] == stored


def test_resumed_search_keeps_its_sampler_unless_another_is_named() -> None:
    older = parse_experiment(parse_experiment({"sampler": "tpe"}).model_dump(mode="json"))
    assert as_completed(Experiment(), older).sampler == "tpe" != Experiment().sampler
    assert as_completed(parse_experiment({"sampler": "random"}), older).sampler == "random"


def test_budget_until_is_refused_where_the_stored_sampler_has_no_estimate() -> None:
    older = parse_experiment(parse_experiment({"sampler": "tpe"}).model_dump(mode="json"))
    asked = parse_experiment({"budget": {"until": "improvement < 0.001"}})
    with pytest.raises(BadInputError, match="sampler: tpe does not estimate improvements"):
        as_completed(asked, older)


def test_search_of_an_older_version_keeps_its_recipe() -> None:
    older = parse_experiment(Experiment().model_dump(mode="json"))
    assert as_completed(Experiment(), older).recipe == {}
    assert as_completed(Experiment(), older).augmentation.translate == 0.0
