"""The audit of the border screen on constructed tables with known answers."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from experiments.border_audit.filters import (
    DROP_BORDER,
    at_random,
    border_screen,
    largest,
    smallest,
)
from experiments.border_audit.networks import Floats, Mask, Networks, from_rows
from experiments.border_audit.noise import noise_variance
from experiments.border_audit.pairs import gain, pair
from experiments.border_audit.picture import best_so_far, draw
from experiments.border_audit.quality import at_equal_cost, best_rejected
from experiments.border_audit.rejections import ALPHA, Count, false_rejections
from experiments.border_audit.search_value import expected_best, search_gain
from experiments.border_audit.verdicts import Table
from experiments.plain_networks.networks import Drawn, draw_networks
from experiments.plain_networks.protocols import DIGITS
from experiments.plain_networks.records import Measurement
from experiments.plain_networks.table import analyse
from experiments.plain_networks.twins import rejected_networks, twin, twin_rows
from search.loop.screens import BorderScreen
from spaces.border import Rule

IMAGES = (100, 100)


def networks(
    accuracy: Floats,
    *,
    test: Floats | None = None,
    macs: list[int] | None = None,
    seconds: Floats | None = None,
    images: tuple[int, int] = IMAGES,
) -> Networks:
    """Return networks with these accuracies, of shape (networks, seeds)."""
    count = len(accuracy)
    cost = np.array(macs if macs is not None else range(1, count + 1))
    none = dict.fromkeys(Rule, np.zeros(count, np.int64))
    return Networks(
        validation=accuracy,
        test=accuracy if test is None else test,
        train=accuracy,
        images=images,
        macs=cost,
        parameters=cost,
        seconds=np.ones(count) if seconds is None else seconds,
        depth=np.full(count, 3),
        border=none,
        beyond=none,
    )


def mask(*rejected: int) -> Mask:
    return np.array(rejected, np.bool_)


def measurement(network: Drawn, **changed: object) -> Measurement:
    fields = dict.fromkeys(
        (
            "accuracy",
            "validation_accuracy",
            "test_accuracy",
            "test_loss",
            "train_accuracy",
            "cpu_seconds",
        ),
        0.5,
    )
    curves = dict.fromkeys(("validation_accuracies", "validation_losses", "train_losses"), (0.5,))
    identity = {"number": network.number, "seed": 0, "digest": network.digest, "versions": "none"}
    return Measurement.model_validate(
        {"params": network.params} | fields | curves | identity | changed
    )


# Filters


def test_audit_rejects_what_the_screen_of_a_search_rejects():
    drawn = draw_networks(DIGITS, 40)
    measured = [measurement(each) for each in drawn]
    audited = from_rows(analyse(DIGITS, measured), (DIGITS.validation, DIGITS.test))
    candidates = [DIGITS.space().rebuild(each.params) for each in drawn]
    for rule in Rule:
        for allowed in (0, 1, 2):
            screen = BorderScreen(rule, allowed)
            expected = [screen(candidate) is not None for candidate in candidates]
            assert any(expected)
            assert border_screen(audited, rule, allowed).tolist() == expected
        has_border = (audited.border[rule] > 0).tolist()
        assert border_screen(audited, rule, DROP_BORDER).tolist() == has_border


def test_controls_reject_the_given_number():
    cost = np.array([3, 1, 3, 2])
    assert largest(cost, 1).tolist() == [True, False, False, False]
    assert largest(cost, 3).tolist() == [True, False, True, True]
    assert smallest(cost, 2).tolist() == [False, True, False, True]
    assert at_random(4, 3, np.random.default_rng(0)).sum() == 3


# False rejections


def test_worse_and_costlier_networks_are_no_false_rejections():
    accuracy = np.array([0.9, 0.8, 0.7, 0.6])
    found = false_rejections(mask(0, 0, 1, 1), accuracy, np.zeros(4), np.array([1, 2, 3, 4]))
    assert (found.measured, found.incomparable) == (Count(0, 2), 0)
    assert found.beyond_noise == Count(0, 2)


@pytest.mark.parametrize("wrong", [0, 1, 3])
def test_exactly_the_better_rejected_networks_are_counted(wrong: int):
    accuracy = np.concatenate([np.full(5, 0.8), np.full(wrong, 0.9), np.full(4, 0.7)])
    rejected = np.arange(len(accuracy)) >= 5
    cost = np.arange(len(accuracy))
    found = false_rejections(rejected, accuracy, np.full(len(accuracy), 1e-6), cost)
    assert found.measured == found.beyond_noise == Count(wrong, wrong + 4)


def test_only_accepted_networks_of_no_higher_cost_are_compared():
    accuracy = np.array([0.7, 0.9, 0.8, 0.99])
    rejected = mask(0, 0, 1, 1)
    cost = np.array([2, 9, 2, 1])
    by_cost = false_rejections(rejected, accuracy, np.zeros(4), cost)
    assert by_cost.measured == Count(1, 1)
    assert by_cost.incomparable == 1
    assert false_rejections(rejected, accuracy, np.zeros(4)).measured == Count(1, 2)


def test_upper_range_counts_networks_above_most_accepted_ones():
    accuracy = np.concatenate([np.linspace(0.5, 0.69, 20), [0.6895, 0.6795, 0.8, 0.8]])
    rejected = np.arange(24) >= 20
    cost = np.array([2] * 20 + [2, 2, 2, 1])
    found = false_rejections(rejected, accuracy, np.zeros(24), cost)
    # 19, 18 and 20 of 20 accepted networks are exceeded; the last one has none to exceed.
    assert found.upper == Count(2, 3)
    assert found.measured == Count(1, 3)


def test_random_filter_rejects_its_part_of_the_upper_range():
    generator = np.random.default_rng(0)
    for count in (60, 600):
        shares = [
            false_rejections(
                at_random(count, count // 2, generator),
                generator.random(count),
                np.zeros(count),
                generator.random(count),
            ).upper.share
            for _ in range(60)
        ]
        assert 0.04 < np.mean(shares) < 0.14  # Few accepted networks are cheaper than the cheapest.
    assert np.mean(shares) < 0.07


def test_equal_accuracy_is_no_false_rejection():
    found = false_rejections(mask(0, 1), np.array([0.8, 0.8]), np.zeros(2), np.array([1, 1]))
    assert found.measured == Count(0, 1)


def test_gain_within_noise_is_not_beyond_noise():
    accuracy = np.array([0.80, 0.82, 0.83])
    variance = np.full(3, 0.01**2)
    found = false_rejections(mask(0, 1, 1), accuracy, variance, np.array([1, 2, 2]))
    assert found.measured.hits == 2
    assert found.beyond_noise.hits == 1  # 1.64 standard errors of the difference are 0.0233


def test_wilson_interval_matches_published_values():
    # Newcombe 1998, table I: 0 of 20, 1 of 29, 15 of 148.
    for hits, total, low, high in ((0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)):
        assert Count(hits, total).interval == pytest.approx((low, high), abs=5e-5)
    assert Count(15, 148).interval == pytest.approx((0.0624, 0.1605), abs=5e-5)


# Noise


def simulated(count: int, generator: np.random.Generator) -> Networks:
    """Return networks that are right on 90 % of all images, with all three parts of noise."""
    images = (150, 130)
    total = sum(images)
    skill = np.where(generator.random((count, 1, total)) < 0.25, 0.6, 1.0)  # on each image
    shift = generator.normal(0, 0.012, (count, 3, 1))  # of each seed
    right = generator.random((count, 3, total)) < skill + shift
    right = right.astype(np.float64)
    return networks(
        right[:, :, : images[0]].mean(axis=2),
        test=right[:, :, images[0] :].mean(axis=2),
        images=images,
    )


def test_noise_of_equal_networks_is_their_variance():
    found = simulated(1500, np.random.default_rng(1))
    observed = np.var(found.accuracy)
    assert np.mean(noise_variance(found)) == pytest.approx(observed, rel=0.1)


def test_noise_of_one_seed_is_larger():
    many = simulated(300, np.random.default_rng(1))
    one = networks(
        np.where([[True, False, False]] * 300, many.validation, np.nan),
        test=np.where([[True, False, False]] * 300, many.test, np.nan),
        images=many.images,
    )
    one.validation[:60], one.test[:60] = many.validation[:60], many.test[:60]
    variance = noise_variance(one)
    assert np.mean(variance[60:]) > 1.3 * np.mean(variance[:60])


def test_false_rejections_of_equal_networks_stay_at_the_stated_level():
    generator = np.random.default_rng(2)
    equal = simulated(1200, generator)
    accuracy, variance = equal.accuracy, noise_variance(equal)
    pairs = [
        false_rejections(mask(0, 1), accuracy[i : i + 2], variance[i : i + 2])
        for i in range(0, 1200, 2)
    ]
    with_one_comparison = Count(sum(each.beyond_noise.hits for each in pairs), 600)
    low, high = with_one_comparison.interval
    assert low <= ALPHA <= high
    rejected = at_random(1200, 800, generator)
    found = false_rejections(rejected, accuracy, variance, equal.macs)
    assert found.beyond_noise.share < ALPHA / 5
    assert found.measured.share < ALPHA


# Groups


def test_best_tenth_is_counted():
    accuracy = np.linspace(0.5, 0.9, 40)
    rejected = np.zeros(40, np.bool_)
    rejected[[0, 38, 39]] = True
    assert best_rejected(rejected, accuracy) == Count(2, 4)


def test_difference_at_equal_cost_is_free_of_the_cost():
    generator = np.random.default_rng(0)
    cost = np.tile(np.array([100, 200, 400, 800, 1600]), 40)
    group = np.arange(200) % 7 == 0
    group[cost == 800] = np.arange(200)[cost == 800] % 2 == 0  # More are expensive.
    group |= cost == 1600  # Has no counterpart.
    accuracy = 0.5 + 0.05 * np.log2(cost) - 0.02 * group + generator.normal(0, 0.001, 200)
    found = at_equal_cost(group, ~group, accuracy, cost, generator, draws=100)
    assert found.mean == pytest.approx(-0.02, abs=0.001)
    assert found.low < found.mean < found.high < -0.018
    assert (found.pairs, found.unmatched) == (np.sum(group) - 40, 40)


# Searches


def test_expected_best_is_the_mean_over_all_draws():
    validation = np.array([0.3, 0.9, 0.5, 0.7, 0.1, 0.6])
    test = np.array([0.35, 0.8, 0.55, 0.85, 0.2, 0.4])
    for trials in range(1, 7):
        draws = [
            max(chosen, key=lambda i: validation[i]) for chosen in combinations(range(6), trials)
        ]
        assert expected_best(validation, test, trials) == pytest.approx(np.mean(test[draws]))
    halfway = (expected_best(validation, test, 2) + expected_best(validation, test, 3)) / 2
    assert expected_best(validation, test, 2.5) == pytest.approx(halfway)
    assert expected_best(validation, test, 99) == pytest.approx(0.8)


def test_search_is_scored_with_other_seeds_than_those_that_choose():
    rising = np.linspace(0.0, 1.0, 40)
    validation = np.column_stack([rising, rising[::-1]])
    test = np.column_stack([rising, np.full(40, 0.5)])
    none = np.zeros(40, np.bool_)
    found = search_gain(networks(validation, test=test), none, 40)
    # Seed 0 chooses the last network, scored with seed 1; seed 1 chooses the first.
    assert found.ours == found.baseline == pytest.approx((0.5 + 0.0) / 2)
    only_seed = networks(validation[:, :1], test=test[:, :1])
    assert search_gain(only_seed, none, 40).ours == pytest.approx(1.0)


def test_equal_seconds_give_more_trials_of_cheaper_networks():
    accuracy = np.tile(np.linspace(0.5, 0.9, 80)[:, None], (1, 2))
    expensive = np.arange(80) % 2 == 1
    seconds = np.where(expensive, 3.0, 1.0)
    made = networks(accuracy, seconds=seconds)
    same_trials = search_gain(made, expensive, 10)
    same_seconds = search_gain(made, expensive, 10, equal_seconds=True)
    assert (same_trials.trials, same_seconds.trials) == (10, 20)
    assert same_seconds.ours > same_trials.ours
    assert same_seconds.baseline == same_trials.baseline


# Twins


def test_twins_are_paired_by_network_seed_and_kind():
    first, second = rejected_networks(DIGITS, draw_networks(DIGITS, 20), 2)

    def of_twin(network: Drawn, *, keep_border: bool, **changed: object) -> Measurement:
        shorter = twin(DIGITS.space().rebuild(network.params), keep_border=keep_border)
        return measurement(network, digest=shorter.digest, cpu_seconds=0.25, **changed)

    trained = analyse(
        DIGITS,
        [
            measurement(first, seed=0, accuracy=0.9),
            measurement(first, seed=1, accuracy=0.8),
            measurement(second, seed=0, accuracy=0.7),
        ],
    )
    twins = twin_rows(
        DIGITS,
        [
            of_twin(first, keep_border=True, seed=0, accuracy=0.88),
            of_twin(first, keep_border=True, seed=1, accuracy=0.74),
            of_twin(first, keep_border=False, seed=1, accuracy=0.1),
            of_twin(second, keep_border=True, seed=0, accuracy=0.71),
            of_twin(second, keep_border=True, seed=1, accuracy=0.2),  # Its network has no seed 1.
        ],
    )
    found = pair(trained, twins, keep_border=True)
    assert found.gain == pytest.approx([0.04, -0.01])
    assert found.seconds == pytest.approx([0.5, 0.5])
    assert (found.macs < 1).all()
    assert pair(trained, twins, keep_border=False).gain == pytest.approx([0.7])
    tail = gain(found, np.ones(2, np.bool_))
    # Two values 0.05 apart: their standard error is half of that. 12.706: t with one degree.
    margin = 12.706 * 0.05 / 2
    assert (tail.mean, tail.low, tail.high) == pytest.approx(
        (0.015, 0.015 - margin, 0.015 + margin), abs=1e-4
    )
    assert (tail.better, tail.number) == (0.5, 2)


# Picture


def test_best_network_up_to_a_cost_is_drawn():
    cost, best = best_so_far(np.array([30, 10, 20, 40]), np.array([0.7, 0.6, 0.8, 0.9]))
    assert cost.tolist() == [10, 20, 30, 40]
    assert best.tolist() == [0.6, 0.8, 0.8, 0.9]


def test_equal_tables_give_equal_pictures(tmp_path: Path):
    made = networks(np.linspace(0.5, 0.9, 20)[:, None])
    table = Table(made, made.accuracy, np.zeros(20))
    pictures = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for path in pictures:
        draw({"digits": table}, path)
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
    assert "digits: 0% of 20 rejected" in pictures[0].read_text(encoding="utf-8")
