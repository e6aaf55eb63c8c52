"""The experiment on classic networks: builders, cases and page. Nothing is trained."""

from __future__ import annotations

from statistics import stdev

import pytest

from experiments.published.classic_networks.experiment import EXPERIMENT, FULL, REDUCED
from experiments.published.classic_networks.published import (
    ACTIVATIONS,
    AUGMENTATIONS,
    NETWORKS,
    NORMS,
)
from experiments.published.summaries import is_beyond_chance, rank_correlation_p
from experiments.reproduction.page import Run, build_page
from experiments.reproduction.records import Case, Table
from spaces.operations import Convolution
from spaces.schedules import Cosine, MultiStep
from tests.experiments.outcomes import result


def cases() -> dict[str, Case]:
    return {each.name: each for each in REDUCED.cases()}


@pytest.mark.parametrize("name", NETWORKS)
def test_full_network_has_published_parameters(name: str) -> None:
    params = {each.name: each.candidate.costs.params for each in FULL.cases()}[f"{name} erasing"]
    assert int(params / 1e4) / 100 == NETWORKS[name].params


@pytest.mark.parametrize("protocol", ["reduced", "full"])
def test_every_case_of_a_protocol_builds_once(protocol: str) -> None:
    found = EXPERIMENT.protocols[protocol].cases()
    assert len({each.name for each in found}) == len(found)
    trained = {
        (each.candidate.digest, each.augmentation.model_dump_json(), each.epochs) for each in found
    }
    assert len(trained) == len(found)
    for each in found:
        assert each.candidate.architecture.shapes[0] == each.images.task.image_shape
        assert each.candidate.architecture.shapes[-1] == (10, 1, 1)
        each.candidate.recipe.schedule.check(each.epochs)
        each.augmentation.check(*each.images.task.image_shape[1:])


def test_full_trainings_take_250_epochs_from_rate_one_tenth() -> None:
    schedules = set()
    for each in FULL.cases():
        assert (each.epochs, each.candidate.recipe.learning_rate) == (250, 0.1)
        assert each.images.train is None
        schedules.add(type(each.candidate.recipe.schedule))
    assert schedules == {Cosine, MultiStep}


def test_narrowed_groups_keep_their_width() -> None:
    narrow = cases()["resnext18 erasing"].candidate.architecture
    grouped = [
        (narrow.shapes[layer.inputs[0]][0] // layer.operation.groups)
        for layer in narrow.layers
        if isinstance(layer.operation, Convolution) and layer.operation.groups > 1
    ]
    assert grouped == [4, 4, 8, 8, 16, 16, 32, 32]


def test_every_published_value_has_a_case() -> None:
    page = EXPERIMENT.page([result(each, accuracy=0.4) for each in REDUCED.cases()])
    shown = {section.heading: section.parts[0] for section in page.sections}
    for heading, values in (
        ("Activations", ACTIVATIONS),
        ("Norms", NORMS),
        ("Augmentations", AUGMENTATIONS),
    ):
        table = shown[heading]
        assert isinstance(table, Table)
        assert [row[0] for row in table.rows] == list(values)
    assert len(page.comparison.rows) == 7


def test_page_counts_pairs_of_networks_in_published_order() -> None:
    known = cases()
    order = ["wide resnet14", "densenet121", "convmixer256d16", "resnet18"]
    results = [
        result(known[f"{name} erasing"], seed, 0.6 - 0.1 * place + 0.01 * seed)
        for place, name in enumerate(order)
        for seed in (0, 1)
    ]
    page = EXPERIMENT.page(results)
    assert "over 4 networks is 0.80 (0.80, 0.80 for single seeds)" in page.answer[0]
    assert "The exact two-sided p-value is 0.33, so it can be chance." in page.answer[0]
    assert "5 of 6 pairs of networks have the published order. 6 pairs differ" in page.answer[1]
    assert "5 of these" in page.answer[1]


def test_few_seeds_need_a_clear_difference() -> None:
    """Student's t of level 0.05 is 4.3 standard errors for three seeds, not 2."""
    error = stdev([-0.1, 0.0, 0.1]) / 3**0.5
    for errors, is_clear in ((2.1, False), (4.2, False), (4.4, True)):
        differences = [errors * error + noise for noise in (-0.1, 0.0, 0.1)]
        assert is_beyond_chance(differences) == is_clear
    assert not is_beyond_chance([0.5])


def test_rank_correlation_of_four_values_is_never_beyond_chance() -> None:
    perfect = [(float(number), float(number)) for number in range(7)]
    assert rank_correlation_p(perfect[:4]) == pytest.approx(2 / 24)
    assert rank_correlation_p(perfect) == pytest.approx(2 / 5040)
    assert rank_correlation_p([(1, 3), (2, 1), (3, 2)]) == 1


def test_page_compares_options_seed_by_seed() -> None:
    known = cases()
    results = [
        result(known[name], seed, accuracy)
        for name, values in (("resnet18", (0.5, 0.6)), ("resnet18 gelu", (0.52, 0.61)))
        for seed, accuracy in enumerate(values)
    ]
    table = next(
        each for each in EXPERIMENT.page(results).sections if each.heading == "Activations"
    )
    part = table.parts[0]
    assert isinstance(part, Table)
    assert part.rows[1] == ("gelu", "94.71 %", "56.5 ± 6.4 %", "-1.5", "+1.5 ± 0.7")


def test_page_describes_any_single_result() -> None:
    for each in REDUCED.cases():
        page = EXPERIMENT.page([result(each)])
        assert page.answer
        for section in page.sections:
            for part in section.parts:
                if isinstance(part, Table):
                    assert all(len(row) == len(part.header) for row in part.rows)


def test_page_names_no_arxiv_number_where_none_is_known() -> None:
    protocol = EXPERIMENT.protocols["reduced"]
    results = [result(each) for each in protocol.cases()]
    html = build_page(Run(EXPERIMENT, "reduced", protocol, results, len(results), "command"))
    assert EXPERIMENT.publication.title in html
    assert "arxiv" not in html.lower()
    assert "None" not in html
