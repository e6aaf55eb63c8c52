"""The number of steps of a training, and the settings that raise it."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from search.experiment.batch_size import SMALLEST_BATCH
from search.experiment.loading import parse_experiment
from search.experiment.training_length import FEW_STEPS, TrainingLength

LENGTHS = st.builds(
    TrainingLength,
    images=st.integers(1, 100_000),
    batch_size=st.integers(1, 1024),
    epochs=st.integers(1, 100),
)


def test_few_images_in_large_batches_are_warned_of() -> None:
    experiment = parse_experiment({"epochs": 20, "recipe": {"batch_size": [8, 32]}})
    assert TrainingLength.of(experiment, 200).warning == (
        "warning: a training has only 125 steps (6.25 an epoch, with batches of 32), which is "
        "seldom enough. Set either recipe.batch_size to 8 (500 steps) or epochs to 48 (300 steps)."
    )


def test_training_of_many_steps_is_not_warned_of() -> None:
    assert TrainingLength(images=FEW_STEPS * 10, batch_size=10, epochs=1).warning == ""


def test_default_batch_size_is_that_of_the_recipe() -> None:
    assert TrainingLength.of(parse_experiment({}), 1000).batch_size == 128


@given(LENGTHS)
def test_settings_that_a_warning_names_give_their_steps(length: TrainingLength) -> None:
    wanted = max(300, 2 * length.steps)
    remedy = length.remedy
    settings = re.findall(
        r"(?:recipe\.batch_size to (\d+)|epochs to ([\d,]+)) \((?:then )?([\d,]+) step", remedy
    )
    assert remedy.startswith(("Set either", "Set both", "Set epochs"))
    if "Set both" in remedy:
        (batch, _, steps), (_, epochs, steps_of_both) = settings
        shorter = TrainingLength(length.images, int(batch), length.epochs)
        assert length.steps < shorter.steps == int(steps.replace(",", "")) < wanted
        settings = [(batch, epochs, steps_of_both)]
    assert settings
    for batch, epochs, steps in settings:
        assert int(batch or length.batch_size) >= min(SMALLEST_BATCH, length.batch_size)
        longer = TrainingLength(
            length.images,
            int(batch or length.batch_size),
            int(epochs.replace(",", "") or length.epochs),
        )
        assert longer.steps == int(steps.replace(",", "")) >= wanted
