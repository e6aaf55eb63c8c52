"""Settings that change nothing are said."""

from __future__ import annotations

from typing import Any

import pytest

from search.experiment.loading import parse_experiment
from search.experiment.unused_settings import unused_settings


def lines(epochs: int = 10, **recipe: Any) -> list[str]:
    return list(unused_settings(parse_experiment({"epochs": epochs, "recipe": recipe})))


@pytest.mark.parametrize(
    ("epochs", "recipe", "line"),
    [
        (10, {"small_side": 0.5}, "recipe.small_side has no effect without recipe.small_images"),
        (1, {"small_images": 0.5}, "0.5 of 1 epoch is less than one epoch"),
        (3, {"small_images": [0.1, 0.3]}, "0.3 of 3 epochs is less than one epoch"),
        (10, {"floor": 0.1}, "floor has no effect with schedule one_cycle; it belongs to cosine"),
        (10, {"schedule": ["constant", "one_cycle"], "decay": 0.1}, "constant or one_cycle"),
    ],
)
def test_setting_without_effect_is_said(epochs: int, recipe: dict[str, Any], line: str) -> None:
    (found,) = lines(epochs, **recipe)
    assert line in found
    assert found.startswith("note: recipe.")


def test_setting_with_effect_is_not_named() -> None:
    assert lines(4, small_images=0.25, small_side=0.5) == []
    assert lines(4, small_images=[0, 0.5], small_side=0.5) == []
    assert lines(schedule=["one_cycle", "cosine"], floor=0.1) == []
    assert lines() == []
