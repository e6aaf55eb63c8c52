"""Training by folds: each fold as if alone, every image scored, one network at a time."""

from __future__ import annotations

import copy
import dataclasses
import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from spaces.candidate import Candidate
from trainables.data import Dataset, load
from trainables.folds import Folds
from trainables.specs import Augmentation, DataSpec
from trainables.training.folded import FoldedTraining
from trainables.training.loop import Training
from trainables.training.seeds import fold_seed

pytestmark = pytest.mark.usefixtures("one_thread")

EPOCHS = 3
METRICS = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")


@pytest.fixture(scope="module")
def folded_digits(image_cache: Path) -> Dataset:
    return load(DataSpec("digits", subset=0.1, validation=Folds(3, 2)), cache=image_cache)


@pytest.fixture
def start(folded_digits: Dataset, plain_candidate: Candidate) -> Callable[[int], Training]:
    """Return what begins the training of a fold; everything that has a state is in use."""
    recipe = dataclasses.replace(plain_candidate.recipe, ema=0.9, lookahead=3, momentum=0.9)
    candidate = dataclasses.replace(plain_candidate, recipe=recipe)

    def begin(fold: int) -> Training:
        return Training(
            candidate,
            folded_digits.parts[fold],
            epochs=EPOCHS,
            seed=fold_seed(7, fold),
            augmentation=Augmentation(crop=1, flip="alternating"),
            device="cpu",
        )

    return begin


def same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        timeless = one.keys() - {"epoch_seconds"}
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in timeless)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_each_fold_trains_as_if_alone(
    folded_digits: Dataset, start: Callable[[int], Training]
) -> None:
    training = FoldedTraining(folded_digits.parts, start)
    results = [training.run_epoch() for _ in range(EPOCHS)]
    alone = [start(fold) for fold in range(6)]
    for epoch in range(EPOCHS):
        each = [fold.run_epoch() for fold in alone]
        for name in METRICS:
            split = name.split("_")[0]
            images = [len(getattr(part, split)) for part in folded_digits.parts]
            mean = np.average([getattr(one, name) for one in each], weights=images)
            assert getattr(results[epoch], name) == pytest.approx(float(mean), rel=1e-12)
    assert same(training.state_dict()["folds"], [fold.state_dict() for fold in alone])
    assert training.epoch == results[-1].epoch == EPOCHS
    with pytest.raises(RuntimeError, match="all 3 epochs are done"):
        training.run_epoch()


def test_plan_of_an_epoch_is_drawn_once(
    folded_digits: Dataset, start: Callable[[int], Training], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    draw = Training._draw
    monkeypatch.setattr(
        Training, "_draw", lambda self, epoch: drawn.append(epoch) or draw(self, epoch)
    )
    training = FoldedTraining(folded_digits.parts, start)
    for _ in range(2):
        training.run_epoch()
    assert sorted(drawn) == [0] * 6 + [1] * 6


def test_validation_scores_each_image_once_per_repetition(
    folded_digits: Dataset, start: Callable[[int], Training]
) -> None:
    training = FoldedTraining(folded_digits.parts, start)
    result = training.run_epoch()
    predicted, true, _ = training.predict("validation")
    assert len(true) == 2 * len(folded_digits.train)
    assert float((predicted == true).double().mean()) == pytest.approx(result.validation_accuracy)
    assert training.score("validation") == pytest.approx(
        (result.validation_loss, result.validation_accuracy)
    )


@pytest.mark.parametrize("stopped_after", [1, 2])
def test_resumed_folds_continue_bit_by_bit(
    folded_digits: Dataset, start: Callable[[int], Training], stopped_after: int
) -> None:
    whole = FoldedTraining(folded_digits.parts, start)
    states = []
    for _ in range(EPOCHS):
        whole.run_epoch()
        states.append(copy.deepcopy(whole.state_dict()))
    resumed = FoldedTraining(folded_digits.parts, start)
    resumed.load_state_dict(copy.deepcopy(states[stopped_after - 1]))
    for _ in range(EPOCHS - stopped_after):
        resumed.run_epoch()
    assert same(resumed.state_dict(), states[-1])


def test_only_one_network_is_held_at_a_time(
    folded_digits: Dataset, start: Callable[[int], Training]
) -> None:
    begun: list[weakref.ref[torch.nn.Module]] = []
    most = 0

    def counted(fold: int) -> Training:
        nonlocal most
        most = max(most, sum(each() is not None for each in begun))
        training = start(fold)
        begun.append(weakref.ref(training.network))
        return training

    gc.collect()
    gc.disable()  # On a GPU, memory must not wait for the collector.
    try:
        FoldedTraining(folded_digits.parts, counted).run_epoch()
    finally:
        gc.enable()
    assert (len(begun), most) == (6, 0)
