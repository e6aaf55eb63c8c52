"""The experiment layer_triviality: where channels change, and what the page says about it."""

from __future__ import annotations

from collections.abc import Callable

from experiments.published.layer_triviality import EXPERIMENT, channels_of, networks, page
from experiments.published.networks import reduced_cases
from experiments.reproduction.records import Case, Chart, Probes, Result
from tests.experiments.outcomes import result
from trainables.probes.records import LayerProbes


def finished(case: Case, lost: Callable[[int, int], float], seed: int = 0) -> Result:
    layers = tuple(
        LayerProbes(
            name,
            (1, 1) if "shortcut" in name else (3, 3),
            after,
            zero_kernel_accuracy=0.5 - lost(before, after),
            zero_branch_accuracy=0.5,
        )
        for name, (before, after) in channels_of(case).items()
    )
    probes = Probes(accuracy=0.5, images=10, border=None, disabled_features=None, layers=layers)
    return result(case, seed, probes=probes)


def at_changes(before: int, after: int) -> float:
    return 0.2 if before != after else 0.01


CASES = {case.name: case for case in reduced_cases()}


def test_channels_change_at_the_start_of_each_stage() -> None:
    changing = [name for name, (a, b) in channels_of(CASES["resnet18"]).items() if a != b]
    assert len(changing) == 1 + 3 * 2  # The stem, and convolution and shortcut of three stages.
    assert [pair for pair in channels_of(CASES["vgg11"]).values() if pair[0] != pair[1]] == [
        (3, 8),
        (8, 16),
        (16, 32),
        (32, 64),
    ]


def test_page_answers_where_non_trivial_layers_are() -> None:
    results = [finished(CASES[name], at_changes) for name in ("vgg11", "resnet18")]
    found = page(results)
    residual, plain = found.answer
    assert residual.startswith("ResNets: ")
    assert "accuracy drops by 20.0 percentage points on average; without another one, by 1.0" in (
        residual
    )
    assert "13 of 19 convolutions are trivial" in residual
    assert "0 of them change the number of channels" in residual
    assert plain.startswith("VGGs: ")
    assert found.comparison.rows[2][1:] == (
        "non-trivial where channels change",
        "20.0 / 1.0 points",
    )


def test_figure_of_each_network_marks_changes() -> None:
    found = page([finished(CASES["vgg11"], at_changes)])
    (chart,) = found.sections[-1].parts
    assert isinstance(chart, Chart)
    assert [(mark.x, mark.label) for mark in chart.marks] == [
        (1, "3→8"),
        (2, "8→16"),
        (3, "16→32"),
        (5, "32→64"),
    ]


def test_losses_are_means_over_seeds() -> None:
    case = CASES["vgg11"]
    results = [
        finished(case, lambda *_, loss=loss: loss, seed) for seed, loss in enumerate((0.1, 0.3))
    ]
    (network,) = networks(results)
    assert round(network.layers[3].loss("zero kernel"), 6) == 0.2


def test_page_of_any_part_of_the_results_is_built() -> None:
    results = [finished(case, at_changes) for case in CASES.values()]
    for end in range(1, len(results) + 1):
        assert EXPERIMENT.page(results[-end:]).answer
