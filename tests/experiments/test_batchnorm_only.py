"""The experiment batchnorm_only: its networks and its page."""

from __future__ import annotations

import pytest

from experiments.published.batchnorm_only import (
    ALL,
    BATCHNORM,
    EXPERIMENT,
    full_cases,
    page,
    reduced_cases,
)
from experiments.reproduction.records import Case, Probes, Result
from tests.experiments.outcomes import result
from trainables.builder import Network
from trainables.training.optimization import select_trainable

FULL = full_cases()


def named(cases: list[Case], depth: int, trained: str) -> Case:
    return next(case for case in cases if case.factors == {"depth": depth, "trained": trained})


def finished(case: Case, accuracy: float, disabled: float, seed: int = 0) -> Result:
    probes = Probes(
        accuracy=accuracy, images=10, border=None, disabled_features=disabled, layers=()
    )
    return result(case, seed, accuracy, trained_params=1_120, probes=probes)


@pytest.mark.parametrize(
    ("depth", "parameters"),
    [
        (14, 175_258),
        (32, 466_906),
        (56, 855_770),
        (110, 1_730_714),
        (218, 3_480_602),
        (434, 6_980_378),
        (866, 13_979_930),
    ],
)
def test_full_networks_have_the_published_parameters(depth: int, parameters: int) -> None:
    for trained in (BATCHNORM, ALL):
        assert named(FULL, depth, trained).candidate.costs.params == parameters


@pytest.mark.parametrize(("depth", "parameters"), [(14, 1_120), (32, 2_464)])
def test_trained_parameters_are_those_published(depth: int, parameters: int) -> None:
    candidate = named(FULL, depth, BATCHNORM).candidate
    network = Network(candidate.architecture)
    trained = select_trainable(network, candidate.recipe.trainable)
    assert sum(each.numel() for each in trained) == parameters


def test_scales_start_at_random_as_published() -> None:
    for case in [*FULL, *reduced_cases()]:
        assert case.candidate.recipe.initialization == "random_scale"


def test_page_has_measured_beside_published_numbers() -> None:
    cases = reduced_cases()
    norms, everything = (named(cases, 14, trained) for trained in (BATCHNORM, ALL))
    deep = named(cases, 56, BATCHNORM)
    found = page(
        [
            finished(norms, 0.30, 0.02),
            finished(norms, 0.32, 0.04, seed=1),
            finished(everything, 0.5, 0.0),
            finished(deep, 0.35, 0.1),
        ]
    )
    (first, second) = found.comparison.rows
    for text in ("175,258", "31.0 ± 1.4 %", "48.0 %", "46.7 %", "50.0 %", "3.0 ± 1.4 %"):
        assert text in first
    assert "55.2 %" in second
    assert "-" in second  # All parameters are not trained yet, and the paper's number is unknown.
    answer = " ".join(found.answer)
    assert "35.0 % of the test images" in answer
    assert "4.0 percentage points more than depth 14" in answer
    assert "disables 10.0 %" in answer


def test_page_of_any_part_of_the_results_is_built() -> None:
    results = [finished(case, 0.3, 0.1) for case in reduced_cases()]
    for end in range(1, len(results) + 1):
        assert EXPERIMENT.page(results[-end:]).answer
