"""Networks, protocols and page of the experiment about feature amounts over depth."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from experiments.published import find
from experiments.published.layerwise_features.cases import (
    BROAD,
    PUBLISHED_PARAMS,
    REDUCED_D,
    amounts,
    full_cases,
    reduced_cases,
)
from experiments.published.layerwise_features.findings import accuracy, gap, groups
from experiments.published.layerwise_features.networks import (
    VGG_A,
    VGG_B,
    VGG_D,
    VGG_E,
    Distribution,
    build,
    centre_of_mass,
    reduced,
    valid_distributions,
    weights,
)
from experiments.published.layerwise_features.page import page
from experiments.reproduction.records import Case, Result
from experiments.reproduction.scatter3d import Axis, Place, Scatter3D, draw_3d
from spaces.task import Task
from tests.experiments.outcomes import result
from tests.mlflow.browser import browser
from tests.requirements import lack

CIFAR10 = Task(channels=3, height=32, width=32, classes=10)
PUBLISHED_AMOUNTS = {
    Distribution(0, 4, 8): (
        *(823, 961, 852, 708, 552, 405, 279, 181),
        *(110, 63, 34, 17, 9, 4, 2),
    ),
    Distribution(7, 3.5, 0): (
        *(107, 173, 260, 359, 458, 539, 585, 585),
        *(540, 459, 360, 261, 174, 107, 61),
    ),
    Distribution(15, 5.5, -12): (
        *(24, 38, 58, 85, 123, 170, 229, 298),
        *(375, 457, 539, 615, 679, 724, 617),
    ),
}


@pytest.fixture(scope="module")
def small() -> list[Case]:
    """Return the cases of the reduced protocol."""
    return reduced_cases()


def results_of(cases: Sequence[Case], seeds: int = 3) -> list[Result]:
    """Return results whose accuracy falls and whose overfitting grows with the centre of mass."""
    return [
        result(
            case,
            seed,
            accuracy=0.6 - 0.2 * float(case.factors["centre"]) + 0.01 * seed,
            train_accuracy=0.6 + 0.1 * float(case.factors["centre"]) + 0.01 * seed,
        )
        for case in cases
        for seed in range(seeds)
    ]


# Networks


@pytest.mark.parametrize(
    ("net", "layers", "total", "valid"),
    [
        (VGG_D, 15, 5248, 193),
        (VGG_B, 12, 3968, 194),
        (VGG_E, 18, 6528, 139),
        (VGG_A, 10, 3776, 155),
    ],
    ids=["D", "B", "E", "A"],
)
def test_grid_has_the_published_number_of_valid_distributions(net, layers, total, valid):
    # For VGG-A, no number is published.
    assert (net.layers, net.total) == (layers, total)
    assert len(valid_distributions(net)) == valid


@pytest.mark.parametrize("distribution", PUBLISHED_AMOUNTS, ids=str)
def test_networks_have_the_published_features_and_parameters(distribution):
    features = amounts(VGG_D, distribution)

    assert features == PUBLISHED_AMOUNTS[distribution]
    network = build(VGG_D, features, CIFAR10, dropout=0.5)
    assert weights(network) == PUBLISHED_PARAMS[distribution]


@pytest.mark.parametrize("net", [VGG_A, VGG_D], ids=["A", "D"])
def test_small_images_keep_the_maps_after_the_second_pooling_layer(net):
    small = Task(channels=3, height=16, width=16, classes=10)
    heights = [
        [
            shape[1]
            for layer, shape in zip(net_.layers, net_.shapes, strict=True)
            if "conv" in layer.name
        ]
        for net_ in (build(net, net.pyramid, task, dropout=0.0) for task in (CIFAR10, small))
    ]

    after = net.pools[1]
    assert heights[0][after:] == heights[1][after:]
    assert heights[1][0] == 16
    assert heights[1][net.pools[0]] == 8


def test_reduction_leaves_eight_features_to_layers_that_have_them():
    assert reduced((823, 65, 64, 9, 8, 4, 2), 8) == (103, 9, 8, 8, 8, 4, 2)


def test_centre_of_mass_is_a_fraction_of_the_depth():
    assert centre_of_mass((9, 0, 0)) == 0
    assert centre_of_mass((0, 0, 9)) == 1
    assert centre_of_mass((1, 0, 0, 0, 3)) == 0.75


# Protocols


def test_full_protocol_trains_each_valid_distribution_as_published():
    cases = full_cases()

    counts = Counter(
        (case.factors["network"], case.images.source)
        for case in cases
        if case.factors["shape"] == "skew-normal"
    )
    sets = ("cifar10", "fashion-mnist", "mnist")
    assert counts == {("VGG-D", name): 193 for name in sets} | {
        ("VGG-A", name): 155 for name in sets
    }
    assert len({case.name for case in cases}) == len(cases)
    schedule = cases[0].candidate.recipe.schedule
    ratios = [schedule.ratio(epoch, steps_per_epoch=1, epochs=150) for epoch in range(150)]
    assert [epoch for epoch, ratio in enumerate(ratios) if ratio == 1] == [0, 10, 30, 70]
    for case in cases:
        recipe = case.candidate.recipe
        assert (recipe.learning_rate, recipe.schedule) == (0.01, schedule)
        recipe.schedule.check(case.epochs)
        assert (case.epochs, case.images.task.height, recipe.batch_size) == (150, 32, 128)
        assert case.abort is not None
        assert (case.abort.epoch, case.abort.train_accuracy) == (10, 0.2)
        assert case.candidate.architecture.shapes[-1] == (10, 1, 1)


def test_reduced_protocol_spans_early_to_late_features(small):
    cases = [case for case in small if case.factors["network"] == "VGG-D"]
    centres = sorted(
        float(c.factors["centre"]) for c in cases if c.factors["shape"] == "skew-normal"
    )

    assert set(PUBLISHED_PARAMS) <= set(REDUCED_D) <= set(valid_distributions(VGG_D))
    assert centres[0] < 0.25
    assert centres[-1] > 0.75
    assert max(after - before for before, after in pairwise(centres)) < 0.12


def test_only_the_wide_pyramid_has_another_total(small):
    for case in small:
        total = sum(map(int, str(case.factors["features"]).split()))
        expected = {"VGG-D": 656, "VGG-A": 472}[str(case.factors["network"])]
        if case.factors["shape"] == "wide pyramid":
            assert total > 1.5 * expected
        else:
            assert total == pytest.approx(expected, rel=0.04)


def test_wide_pyramid_computes_as_much_as_early_features(small):
    macs = {case.name: case.candidate.costs.macs for case in small}

    for net in (VGG_D, VGG_A):
        broad = macs[f"{net.name} cifar10 {BROAD[net]}"]
        assert 1 <= macs[f"{net.name} cifar10 wide pyramid"] / broad < 1.03


# Findings and page


def test_differences_are_paired_by_seed(small):
    group = groups(results_of(small))[0]
    centre = {each.label: each.centre for each in group.trained}
    early = sum(each.centre for each in group.early) / len(group.early)

    expected = 0.2 * (centre["pyramid"] - early)
    assert group.differences(group.early, "pyramid", accuracy) == pytest.approx([expected] * 3)


def test_rank_correlations_follow_the_centre_of_mass(small):
    group = groups(results_of(small))[0]

    assert group.correlation(lambda each: each.centre, accuracy) == pytest.approx((-1, -1, -1))
    assert group.correlation(lambda each: each.centre, gap) == pytest.approx((1, 1, 1))


def test_answer_states_difference_correlation_overfitting_and_cost(small):
    text = " ".join(page(results_of(small)).answer)

    assert "VGG-D on CIFAR-10: early-heavy networks classify 55.0 % of the test images" in text
    assert "a difference of +6.9 ± 0.0 points; rank correlation of accuracy with the centre" in text
    assert "of mass -1.00 (-1.00 to -1.00). Training minus test accuracy differs by -10.4" in text
    assert "± 0.0 points; rank correlation +1.00 (+1.00 to +1.00)" in text
    assert "take 6.3 to 8.6 times the multiply-accumulates of the pyramid" in text


def test_page_of_one_seed_names_no_range_over_seeds(small):
    """The full protocol has one seed."""
    found = page(results_of(small, seeds=1))
    text = " ".join(found.answer) + " ".join(" ".join(each.sentences) for each in found.sections)

    assert "of mass -1.00. Training minus test" in text
    assert "single seeds" not in text
    assert "seeds" not in found.comparison.caption


def test_comparison_shows_published_beside_measured_numbers(small):
    rows = page(results_of(small)).comparison.rows

    assert ("valid of 4,032 distributions of VGG-D", "193", "193") in rows
    assert ("parameters of (0, 4, 8), VGG-D", "27,206,551", "27,206,551") in rows


def test_page_works_with_each_single_result(small):
    for case in small:
        assert page(results_of([case], seeds=1)).comparison.rows


def test_experiment_is_registered():
    assert find("layerwise-features").page is page


# Plot


def plot(label: str = "a network") -> Scatter3D:
    """Return a plot with three points."""
    axes = (Axis("xi", 0, 15), Axis("omega", 0, 5.5), Axis("alpha", -40, 40))
    places = [
        Place((position, 4, 8), value, label, (f"accuracy {value}",))
        for position, value in ((0, 0.5), (7, 0.7), (15, 0.6))
    ]
    return Scatter3D("Accuracy", axes, "accuracy", places)


def test_text_of_a_plot_cannot_end_its_script():
    drawn = draw_3d(plot("</script><b>"))

    assert drawn.count("</script>") == 1
    assert "<b>" not in drawn


def test_plot_needs_no_other_file():
    drawn = draw_3d(plot())

    assert "src=" not in drawn
    assert "@import" not in drawn
    assert drawn.replace("http://www.w3.org/2000/svg", "").count("//") == 0


def test_plot_without_points_says_so():
    assert "no results yet" in draw_3d(Scatter3D("Accuracy", plot().axes, "accuracy", ()))


def test_plot_rotates_and_shows_the_network_under_the_pointer(tmp_path: Path):
    program = shutil.which("chromium")
    if program is None:
        lack("the Debian package chromium")
    file = tmp_path / "plot.html"
    file.write_text(f"<!doctype html><meta charset=utf-8>{draw_3d(plot())}", encoding="utf-8")
    with browser(program, tmp_path) as shown:
        shown.open(file.as_uri())
        shown.wait(lambda: shown.value("document.querySelectorAll('circle').length") == 3)
        output = "document.querySelector('output').innerText"
        assert "accuracy 0.7" in shown.value(output)

        # The farthest point is drawn first.
        place = "(r => [r.x + r.width / 2, r.y + r.height / 2])"
        circle = "document.querySelector('circle').getBoundingClientRect()"
        x, y = shown.value(f"{place}({circle})")
        shown.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        assert "accuracy 0.6" in shown.value(output)

        shown.value("document.querySelector('[data-step=\"1\"]').click()")
        assert "accuracy 0.5" in shown.value(output)

        edge = "document.querySelector('line').getAttribute('x1')"
        before = shown.value(edge)
        shown.value("document.querySelector('svg').focus()")
        shown.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowLeft", code="ArrowLeft")
        turned = shown.value(edge)
        assert turned != before
        for kind, moved in (("mousePressed", 0), ("mouseMoved", 60), ("mouseReleased", 60)):
            at = {"x": x + moved, "y": y, "button": "left", "buttons": 1, "clickCount": 1}
            shown.call("Input.dispatchMouseEvent", type=kind, **at)
        assert shown.value(edge) != turned
