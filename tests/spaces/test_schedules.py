"""Learning-rate schedules: the shares of torch's own, and which lengths of training they fit."""

import dataclasses
import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from spaces import BadInputError
from spaces.schedules import (
    WARM_UP,
    Constant,
    Cosine,
    MultiStep,
    OneCycle,
    Schedule,
    WarmRestarts,
)
from tests.spaces.drawing import assert_one_helpful_line
from tests.spaces.graphs import examples

PEAK = 0.3
LENGTHS = [(1, 1), (1, 7), (5, 1), (3, 4), (12, 9), (30, 11)]
"""(Epochs, steps per epoch)."""

EPOCHS = st.integers(1, 24)
STEPS = st.integers(1, 12)
FLOORS = st.floats(0, 0.999)
FACTORS = st.floats(0, 0.999)


def shares(schedule: Schedule, epochs: int, steps: int) -> list[float]:
    """Return the share of every step of a whole training."""
    return [schedule.ratio(step, steps, epochs) for step in range(epochs * steps)]


def torch_shares(make, epochs: int, steps: int, *, every: int = 1) -> list[float]:
    """Return those of torch's scheduler, which goes on after ``every`` so many steps."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=PEAK)
    scheduler = make(optimizer)
    rates = []
    for step in range(epochs * steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (step + 1) % every == 0:
            scheduler.step()
    return [rate / PEAK for rate in rates]


# Torch computes each rate from the last one, so its errors add up.
def equal(expected: list[float]):
    return pytest.approx(expected, rel=1e-6, abs=1e-9)


# One cycle


def test_one_cycle_rises_linearly_and_falls_with_a_half_cosine():
    for step, share in enumerate(shares(OneCycle(), epochs=5, steps=20)):
        position = (step + 0.5) / 100
        if position <= 0.2:
            expected = position / 0.2
        else:
            expected = math.cos(math.pi / 2 * (position - 0.2) / 0.8) ** 2
        assert share == pytest.approx(expected)


def test_one_cycle_is_bitwise_reproducible():
    for step in range(35):
        position = (step + 0.5) / 35
        rise = position / WARM_UP
        fall = 0.5 * (1 + math.cos(math.pi * (position - WARM_UP) / (1 - WARM_UP)))
        assert OneCycle().ratio(step, 5, 7) == (rise if position < WARM_UP else fall)


@examples(60)
@given(EPOCHS, STEPS)
def test_one_cycle_rises_to_the_peak_once_and_falls_from_there(epochs, steps):
    all_shares = shares(OneCycle(), epochs, steps)
    assert all(0 < share <= 1 for share in all_shares)
    top = all_shares.index(max(all_shares))
    assert all_shares[: top + 1] == sorted(all_shares[: top + 1])
    assert all_shares[top:] == sorted(all_shares[top:], reverse=True)
    assert top == pytest.approx(0.2 * epochs * steps, abs=1)


def test_one_cycle_starts_low_peaks_at_one_and_ends_near_zero():
    all_shares = shares(OneCycle(), epochs=10, steps=100)
    assert all_shares[0] < 0.01
    assert max(all_shares) == pytest.approx(1, abs=0.01)
    assert all_shares[-1] < 1e-5


@pytest.mark.parametrize("steps", [5, 100])
def test_the_mean_of_one_cycle_is_half_the_peak(steps):
    all_shares = shares(OneCycle(), epochs=10, steps=steps)
    assert sum(all_shares) / len(all_shares) == pytest.approx(0.5, abs=1 / len(all_shares))


@examples(60)
@given(EPOCHS, STEPS)
def test_one_cycle_depends_only_on_the_number_of_steps(epochs, steps):
    assert shares(OneCycle(), epochs, steps) == shares(OneCycle(), 1, epochs * steps)


# The schedules of torch


def check_cosine(epochs: int, steps: int, floor: float) -> None:
    def make(optimizer):
        return lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps, eta_min=floor * PEAK)

    assert shares(Cosine(floor), epochs, steps) == equal(torch_shares(make, epochs, steps))


@pytest.mark.parametrize("floor", [0.0, 0.01, 0.5])
@pytest.mark.parametrize(("epochs", "steps"), LENGTHS)
def test_cosine_is_the_cosine_annealing_of_torch_over_all_steps(epochs, steps, floor):
    check_cosine(epochs, steps, floor)


@examples(40)
@given(EPOCHS, STEPS, FLOORS)
def test_cosine_is_that_of_torch_for_any_length_and_floor(epochs, steps, floor):
    check_cosine(epochs, steps, floor)


def check_multi_step(epochs: int, steps: int, milestones: list[int], factor: float) -> None:
    def make(optimizer):
        return lr_scheduler.MultiStepLR(optimizer, milestones, gamma=factor)

    ours = shares(MultiStep(tuple(milestones), factor), epochs, steps)
    assert ours == equal(torch_shares(make, epochs, steps, every=steps))


@pytest.mark.parametrize("milestones", [[1], [2, 4], [1, 2, 3], [10, 20, 25]], ids=str)
@pytest.mark.parametrize(("epochs", "steps"), LENGTHS)
def test_multi_step_is_that_of_torch_stepped_once_an_epoch(epochs, steps, milestones):
    check_multi_step(epochs, steps, milestones, factor=0.2)


@examples(40)
@given(EPOCHS, STEPS, st.sets(st.integers(1, 30), min_size=1, max_size=6), FACTORS)
def test_multi_step_is_that_of_torch_for_any_milestones_and_factor(
    epochs, steps, milestones, factor
):
    check_multi_step(epochs, steps, sorted(milestones), factor)


def test_multi_step_falls_with_the_first_step_after_a_milestone():
    schedule = MultiStep(milestones=(1, 2), factor=0.5)
    assert shares(schedule, epochs=3, steps=2) == [1, 1, 0.5, 0.5, 0.25, 0.25]


def check_warm_restarts(epochs: int, steps: int, schedule: WarmRestarts) -> None:
    def make(optimizer):
        return lr_scheduler.CosineAnnealingWarmRestarts(
            optimizer, schedule.first * steps, schedule.growth, eta_min=schedule.floor * PEAK
        )

    assert shares(schedule, epochs, steps) == equal(torch_shares(make, epochs, steps))


@pytest.mark.parametrize("growth", [1, 2, 3])
@pytest.mark.parametrize("first", [1, 2, 10])
@pytest.mark.parametrize(("epochs", "steps"), LENGTHS)
def test_warm_restarts_are_those_of_torch_stepped_with_every_step(epochs, steps, first, growth):
    check_warm_restarts(epochs, steps, WarmRestarts(first, growth, floor=0.01))


@examples(40)
@given(EPOCHS, STEPS, st.builds(WarmRestarts, st.integers(1, 30), st.integers(1, 5), FLOORS))
def test_warm_restarts_are_those_of_torch_for_any_cycles_and_floor(epochs, steps, schedule):
    check_warm_restarts(epochs, steps, schedule)


@examples(40)
@given(EPOCHS, STEPS, FLOORS)
def test_one_cycle_of_warm_restarts_is_the_cosine(epochs, steps, floor):
    restarts = WarmRestarts(first=epochs, growth=3, floor=floor)
    assert shares(restarts, epochs, steps) == shares(Cosine(floor), epochs, steps)


@pytest.mark.parametrize(("epochs", "steps"), LENGTHS)
def test_constant_is_the_peak_throughout(epochs, steps):
    assert shares(Constant(), epochs, steps) == [1.0] * (epochs * steps)


# What all have in common

SCHEDULES = st.one_of(
    st.just(Constant()),
    st.just(OneCycle()),
    st.builds(Cosine, FLOORS),
    st.builds(
        MultiStep,
        st.sets(st.integers(1, 30), min_size=1, max_size=6).map(lambda s: tuple(sorted(s))),
        FACTORS,
    ),
    st.builds(WarmRestarts, st.integers(1, 30), st.integers(1, 5), FLOORS),
)


@examples(100)
@given(SCHEDULES, EPOCHS, STEPS)
def test_ratio_is_between_zero_and_one(schedule, epochs, steps):
    assert all(0 <= share <= 1 for share in shares(schedule, epochs, steps))


@examples(100)
@given(SCHEDULES, SCHEDULES)
def test_schedules_have_equal_reprs_exactly_if_equal(first, second):
    """Digests of candidates are taken of the text."""
    assert (repr(first) == repr(second)) == (first == second)
    assert repr(dataclasses.replace(first)) == repr(first)


# Which lengths of training they fit


@examples(60)
@given(st.builds(Cosine, FLOORS) | st.sampled_from([OneCycle(), Constant()]), EPOCHS)
def test_one_cycle_cosine_and_constant_fit_every_length(schedule, epochs):
    schedule.check(epochs)


def refusal(schedule: Schedule, epochs: int) -> BadInputError:
    with pytest.raises(BadInputError) as caught:
        schedule.check(epochs)
    return caught.value


def test_milestones_must_come_before_the_last_epoch():
    schedule = MultiStep(milestones=(30, 60), factor=0.1)
    schedule.check(61)

    error = refusal(schedule, 60)
    assert_one_helpful_line(error, "recipe.milestones", error.value)
    assert error.value == [30, 60]
    assert "60 is not before the end of the 60 epochs" in error.problem
    assert "under 60" in error.remedy


@pytest.mark.parametrize(
    ("milestones", "problem"),
    [
        ((), "needs a list of epochs"),
        ((0, 30), "0 is no number of epochs"),
        ((-1,), "-1 is no number of epochs"),
        ((60, 30), "30 does not come after 60"),
        ((30, 30), "30 does not come after 30"),
    ],
)
def test_milestones_must_be_positive_and_rise(milestones, problem):
    error = refusal(MultiStep(milestones, factor=0.1), 100)
    assert error.field == "recipe.milestones"
    assert problem in error.problem


@examples(60)
@given(st.lists(st.integers(-2, 30), max_size=4), EPOCHS)
def test_exactly_rising_milestones_within_the_training_fit(milestones, epochs):
    within = all(0 < milestone < epochs for milestone in milestones)
    fits = bool(milestones) and within and milestones == sorted(set(milestones))
    schedule = MultiStep(tuple(milestones), factor=0.1)
    if fits:
        schedule.check(epochs)
    else:
        assert refusal(schedule, epochs).field == "recipe.milestones"


@pytest.mark.parametrize(
    ("growth", "fitting"),
    [(1, [10, 20, 30, 40, 150]), (2, [10, 30, 70, 150]), (3, [10, 40, 130])],
)
def test_warm_restarts_fit_where_a_cycle_ends_with_the_training(growth, fitting):
    for epochs in fitting:
        WarmRestarts(first=10, growth=growth, floor=0.0).check(epochs)


@pytest.mark.parametrize(
    ("epochs", "growth", "nearest"),
    [
        (1, 2, "10"),
        (9, 1, "10"),
        (11, 2, "10 or 30"),
        (29, 2, "10 or 30"),
        (69, 2, "30 or 70"),
        (100, 2, "70 or 150"),
        (99, 1, "90 or 100"),
        (10**9 + 1, 1, "1000000000 or 1000000010"),
    ],
)
def test_incomplete_warm_restarts_name_the_nearest_lengths(epochs, growth, nearest):
    """A training that ends within a cycle ends at a high learning rate."""
    error = refusal(WarmRestarts(first=10, growth=growth, floor=0.0), epochs)
    assert_one_helpful_line(error, "recipe.first_cycle", error.value)
    assert error.value == 10
    assert f"no cycle ends with the {epochs} epochs" in error.problem
    assert error.remedy == f"set epochs to {nearest}, or change recipe.first_cycle"


@examples(60)
@given(EPOCHS, STEPS, st.integers(1, 24), st.integers(1, 4))
def test_warm_restarts_fit_if_the_next_step_starts_a_cycle(epochs, steps, first, growth):
    schedule = WarmRestarts(first, growth, floor=0.0)
    if schedule.ratio(epochs * steps, steps, epochs) == 1.0:
        schedule.check(epochs)
    else:
        assert refusal(schedule, epochs).field == "recipe.first_cycle"


@examples(60)
@given(EPOCHS, st.integers(1, 24), st.integers(1, 4))
def test_the_lengths_that_a_refusal_names_fit(epochs, first, growth):
    schedule = WarmRestarts(first, growth, floor=0.0)
    try:
        schedule.check(epochs)
    except BadInputError as error:
        named = error.remedy.removeprefix("set epochs to ").split(",")[0].split(" or ")
    else:
        assume(False)
    for each in named:
        schedule.check(int(each))
