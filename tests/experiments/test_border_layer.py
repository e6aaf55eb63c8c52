"""The experiment on the border layer: networks, curves and page. Nothing is trained."""

from __future__ import annotations

from dataclasses import replace

import pytest

from experiments.published.border_layer.curves import Curve, at_equal_depth, curves
from experiments.published.border_layer.experiment import EXPERIMENT, FULL, POOLS, REDUCED
from experiments.published.border_layer.networks import (
    border_on_main_path,
    main_path,
    truncate_residual,
)
from experiments.published.border_layer.page import PUBLISHED_BORDERS, PUBLISHED_TRUNCATIONS
from experiments.published.border_layer.selection import (
    equal_when_truncated,
    truncation_differences,
)
from experiments.published.networks import full_cases, narrowed, published, reduced_cases
from experiments.published.summaries import by_case
from experiments.reproduction.records import Case, Table
from spaces.architecture import Architecture
from spaces.operations import Linear, Norm
from spaces.task import Task
from tests.experiments.outcomes import probes, result


def images(pixels: int) -> Task:
    return Task(channels=3, height=pixels, width=pixels, classes=10)


def case(name: str) -> Case:
    return next(each for each in REDUCED.cases() if each.name == name)


def extractor(architecture: Architecture) -> tuple[float, float]:
    """Return million parameters and million MACs of convolutions and the norms before the head."""
    last = main_path(architecture)[-1] + 1
    params = macs = 0
    for index, (operation, inputs, *_) in enumerate(architecture.layers[: last + 1]):
        taken = tuple(architecture.shapes[i] for i in inputs)
        params += operation.params(taken)
        macs += operation.macs(taken, architecture.shapes[index])
    return params / 1e6, macs / 1e6


@pytest.mark.parametrize(
    ("name", "borders"),
    [
        ("vgg11", (6, 6, 8)),
        ("vgg13", (7, 8, 9)),
        ("vgg16", (7, 8, 10)),
        ("vgg19", (7, 8, 10)),
        ("resnet18", (11, 11, 15)),
    ],
)
def test_main_path_has_published_border(name: str, borders: tuple[int, ...]) -> None:
    """At 28, 32 and 64 pixels; neither attention nor narrower layers move it."""
    for pixels, border in zip((28, 32, 64), borders, strict=True):
        for network in (
            published(name, images(pixels)),
            narrowed(name, images(pixels)),
            narrowed(name, images(pixels), attention="both"),
        ):
            assert border_on_main_path(network) == border


def test_full_vggs_have_published_costs_whole_and_truncated() -> None:
    cases = {each.name: each.candidate.architecture for each in FULL.cases()}
    for name, (params, macs, fewer_params, fewer_macs) in PUBLISHED_TRUNCATIONS.items():
        for found, expected_params, expected_macs in (
            (cases[name], params, macs),
            (cases[f"{name} truncated, border kept"], fewer_params, fewer_macs),
        ):
            own_params, own_macs = extractor(found)
            assert own_params == pytest.approx(expected_params, abs=0.0006)
            assert own_macs == pytest.approx(expected_macs, abs=0.06)


def test_full_head_halves_the_features_before_the_classifier() -> None:
    for each in FULL.cases():
        layers = each.candidate.architecture.layers
        pool = next(i for i, layer in enumerate(layers) if layer.name == "global_pool")
        head = [layer.operation for layer in layers[pool + 1 :]]
        features = each.candidate.architecture.shapes[pool][0]
        kinds = ["norm", "dropout", "linear", "activation", "norm", "dropout", "linear"]
        assert [operation.kind for operation in head] == kinds
        assert head[0] == Norm("batch")
        assert head[2] == Linear(features // 2)
        assert head[6] == Linear(10)


@pytest.mark.parametrize("protocol", ["reduced", "full"])
def test_every_case_of_a_protocol_builds_once(protocol: str) -> None:
    cases = EXPERIMENT.protocols[protocol].cases()
    assert len({each.name for each in cases}) == len(cases)
    for each in cases:
        assert each.candidate.architecture.shapes[-1] == (10, 1, 1)
        assert each.candidate.architecture.shapes[0] == each.images.task.image_shape


@pytest.mark.parametrize(("scale", "shared"), [(REDUCED, reduced_cases), (FULL, full_cases)])
def test_whole_networks_are_those_that_other_experiments_train(scale, shared) -> None:
    own = {each.name: each for each in scale.cases()}
    for each in shared():
        assert replace(own[each.name], factors=each.factors) == each


def test_pooling_placements_have_different_borders() -> None:
    borders = [int(case(f"vgg16 {variant}").factors["border"]) for variant in POOLS]
    assert borders == [5, 6, 7, 8, 9, 10]


def test_residual_network_is_cut_between_blocks() -> None:
    whole = narrowed("resnet18")
    for keep, last in ((False, "stage2.block2"), (True, "stage3.block1")):
        cut = truncate_residual(whole, keep_border=keep)
        assert cut is not None
        assert cut.layers[main_path(cut)[-1]].name == f"{last}.conv2"
        assert cut.layers[-2].name == "global_pool"
        assert cut.shapes[-1] == (10, 1, 1)


def test_residual_network_within_the_image_is_not_cut() -> None:
    assert truncate_residual(narrowed("resnet14c")) is None


def test_curve_separates_layers_before_the_border_from_later_ones() -> None:
    curve = Curve(0, 4, (0.2, 0.3, 0.4, 0.39, 0.41), (0.9, 0.7, 0.8, 0.3, 0.1))
    assert curve.gain_before == pytest.approx(0.1)
    assert curve.gain_beyond == pytest.approx(0.005)
    assert curve.saturation_before == pytest.approx(0.8)
    assert curve.saturation_beyond == pytest.approx(0.2)
    assert curve.plateau == 3


def test_equal_depth_compares_the_same_layers_on_both_sides() -> None:
    """Layers 3 and 4 are beyond the early border and before the late one; layer 2 is in neither."""
    early = Curve(0, 3, (0.1, 0.2, 0.2, 0.22, 0.22), (0.5,) * 5)
    late = Curve(0, 5, (0.1, 0.3, 0.35, 0.45, 0.5), (0.5,) * 5)
    compared = at_equal_depth([early, late])
    assert compared is not None
    assert compared.layers == (3, 4)
    assert compared.before == pytest.approx((0.075,))
    assert compared.beyond == pytest.approx((0.01,))
    assert at_equal_depth([early]) is None
    assert at_equal_depth([early, replace(late, seed=1)]) is None


def test_curve_leaves_out_shortcuts_and_gates() -> None:
    for name, layers in (("resnet18", 17), ("resnet18 squeeze-excitation attention", 17)):
        each = case(name)
        made = probes(each, [0.3] * layers, [0.5] * layers)
        found = curves([result(each, probes=made)])[name]
        assert len(found[0].probe) == layers


def test_page_gives_gains_on_both_sides_of_the_border() -> None:
    whole = case("vgg16")
    made = probes(whole, [0.2 + 0.05 * min(n, 6) for n in range(13)], [0.9] * 7 + [0.3] * 6)
    page = EXPERIMENT.page([result(whole, seed, probes=made) for seed in (0, 1)])
    assert "gains +5.0 ± 0.0 percentage points per layer before the border" in page.answer[0]
    assert "+0.0 ± 0.0 from the border on" in page.answer[0]
    assert "smaller beyond the border in 2 of 2 trainings" in page.answer[0]
    assert "90.0 ± 0.0 % before the border and 30.0 ± 0.0 %" in page.answer[1]


def test_page_compares_truncated_networks_seed_by_seed() -> None:
    whole, cut = case("vgg11"), case("vgg11 truncated")
    kept = case("vgg11 truncated, border kept")
    made = probes(whole, [0.3] * 8, [0.5] * 8)
    page = EXPERIMENT.page(
        [
            result(whole, 0, 0.5, probes=made),
            result(whole, 1, 0.6, probes=made),
            result(cut, 0, 0.51),
            result(cut, 1, 0.63),
            result(cut, 2, 0.9),
            result(kept, 1, 0.57),
        ]
    )
    assert "Truncated plain networks reach +2.0 ± 1.4 percentage points" in page.answer[-1]
    assert "and -3.0 with the border kept (seed by seed, 2 and 1 trainings of" in page.answer[-1]


def test_page_describes_any_single_result() -> None:
    for each in REDUCED.cases():
        page = EXPERIMENT.page([result(each)])
        assert page.answer
        for section in page.sections:
            for part in section.parts:
                if isinstance(part, Table):
                    assert all(len(row) == len(part.header) for row in part.rows)


def test_page_puts_published_numbers_beside_measured_ones() -> None:
    page = EXPERIMENT.page([result(each, accuracy=0.25) for each in REDUCED.cases()])
    rows = page.comparison.rows
    for name, border in PUBLISHED_BORDERS.items():
        assert (name, "border layer", str(border), str(border)) in rows
    assert ("resnet18 at 16 px, less downsampling", "test accuracy", "34 %", "25.0 %") in rows


def test_page_compares_pooling_placements_at_equal_depth() -> None:
    """Every layer gains 5 points before the border, and none beyond it."""
    found = []
    for name in ("vgg16 pool added", "vgg16 first pool removed"):
        each = case(name)
        border = int(each.factors["border"])
        accuracies = [0.2 + 0.05 * min(n, border - 2) for n in range(13)]
        found.append(result(each, probes=probes(each, accuracies, [0.5] * 13)))
    sentence = next(each for each in EXPERIMENT.page(found).answer if "equal depth" in each)
    assert "layers 6 to 9 of VGG16" in sentence
    assert "gains +5.0 percentage points where it is before the border, and +0.0" in sentence


def test_networks_that_are_equal_when_truncated_count_once() -> None:
    known = {each.name: each for each in REDUCED.cases()}
    accuracies = {"vgg16": 0.3, "vgg19": 0.1, "vgg16 truncated": 0.4, "vgg19 truncated": 0.4}
    cases = {name: known[name] for name in accuracies}
    assert cases["vgg16 truncated"].candidate.digest == cases["vgg19 truncated"].candidate.digest
    results = [result(cases[name], 0, accuracy) for name, accuracy in accuracies.items()]
    groups = by_case(results)
    assert truncation_differences(groups, "vgg", "truncated") == pytest.approx([0.2])
    assert "vgg16 and vgg19 are one network when truncated" in equal_when_truncated(groups)
