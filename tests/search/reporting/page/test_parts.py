"""What the parts of a page show: records first, then sentences and tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.experiment.loading import parse_experiment
from search.reporting.gathering import Gathered
from search.reporting.page.advice import TOP, advice_part, ranges_at_edge
from search.reporting.page.classes import (
    Bin,
    Scored,
    calibrate,
    classes_part,
    read_scored,
    score_classes,
)
from search.reporting.page.coordinates import MOST_LINES, chosen_lines
from search.reporting.page.costs import Priced, cheapest_first, hypervolume
from search.reporting.page.curves import Rung, curves_part, rungs_of
from search.reporting.page.drawn_values import drawn_values
from search.reporting.page.effort import efforts
from search.reporting.page.finalists import finalists_part
from search.reporting.page.importance import importance_part, importances
from search.reporting.page.networks import layer_rows
from search.reporting.page.progress import best_so_far
from search.reporting.page.rejections import examples
from search.reporting.page.result import lead
from search.study.records import TrialRecord
from spaces.border import find_border

MakeGathered = Callable[..., Gathered]
StoredTrial = Callable[..., FrozenTrial]


def records(
    stored_trial: StoredTrial, *accuracies: float | tuple[str, float], **stored: Any
) -> list[TrialRecord]:
    found = []
    for number, each in enumerate(accuracies):
        state, accuracy = each if isinstance(each, tuple) else ("COMPLETE", each)
        found.append(TrialRecord.of(stored_trial(number, state, accuracy, **stored)))
    return found


def scored(true: Sequence[int], predicted: Sequence[int], confident: Any = None) -> Scored:
    return Scored(
        1,
        ("cat", "dog"),
        np.array(true),
        np.array(predicted),
        None if confident is None else np.array(confident),
    )


# Progress, curves and costs


def test_only_complete_trials_raise_the_best(stored_trial: StoredTrial) -> None:
    found = best_so_far(records(stored_trial, ("PRUNED", 0.9), 0.5, 0.4, 0.6, seconds=1800.0))
    assert [each.best for each in found] == [None, 0.5, 0.5, 0.6]
    assert [each.improved for each in found] == [False, True, False, True]
    assert [each.device_hours for each in found] == [0.5, 1.0, 1.5, 2.0]


@pytest.mark.parametrize(
    ("finalists", "said"),
    [((), "In colour 5 best trials; dim 31 other trials."), ((0,), "In colour 1 finalist, as")],
)
def test_curves_say_how_many_they_draw(
    make_gathered: MakeGathered, finalists: tuple[int, ...], said: str
) -> None:
    part = curves_part(make_gathered(finalists=finalists))
    assert part is not None
    assert said in part.content[0]


def test_rungs_count_who_got_there_and_who_stopped(stored_trial: StoredTrial) -> None:
    experiment = parse_experiment({"epochs": 9, "scheduler": {"grace_epochs": 1, "reduction": 3}})
    trials = [
        TrialRecord.of(stored_trial(n, state, 0.5, epochs=epochs))
        for n, (state, epochs) in enumerate([("PRUNED", 1), ("PRUNED", 3), ("COMPLETE", 9)])
    ]
    assert rungs_of(experiment, trials) == [Rung(1, 3, 1), Rung(3, 2, 1)]


def test_front_is_cheapest_first_and_strictly_better(stored_trial: StoredTrial) -> None:
    priced = [
        Priced(record, cost)
        for record, cost in zip(
            records(stored_trial, 0.5, 0.7, 0.7, 0.6), (1.0, 10.0, 5.0, 7.0), strict=True
        )
    ]
    assert [each.record.number for each in cheapest_first(priced)] == [0, 2]


def test_hypervolume_is_a_fraction_of_the_rectangle(stored_trial: StoredTrial) -> None:
    low, high = (
        Priced(r, c) for r, c in zip(records(stored_trial, 0.5, 1.0), (1, 10), strict=True)
    )
    assert hypervolume([low, high], 0.0, 1, 100) == pytest.approx(0.75)
    assert hypervolume([], 0.0, 1, 100) == 0.0
    assert hypervolume([low], 0.0, 1, 1) == 0.0


# Classes


def test_precision_and_recall_of_a_class_never_predicted_are_undefined() -> None:
    cat, dog = score_classes(scored([0, 0, 0, 1], [0, 0, 0, 0]))
    assert (cat.recall, cat.precision) == (1.0, 0.75)
    assert (dog.images, dog.right, dog.recall, dog.precision) == (1, 0, 0.0, None)


def test_calibration_error_weighs_bins_by_images() -> None:
    bins, error = calibrate(scored([0, 0, 0, 0], [0, 0, 0, 1], [0.95, 0.95, 0.95, 0.55]))
    assert bins == [Bin(1, 0.55, 0.0), Bin(3, pytest.approx(0.95), 1.0)]
    assert error == pytest.approx(0.25 * 0.55 + 0.75 * 0.05)


def test_calibration_counts_a_confidence_of_1() -> None:
    assert calibrate(scored([0], [0], [1.0])) == ([Bin(1, 1.0, 1.0)], 0.0)


def test_winner_is_scored_with_its_best_validated_seed(make_gathered: MakeGathered) -> None:
    found = read_scored(make_gathered())
    assert found is not None
    assert found.counts.sum() == 60
    assert found.counts.trace() == 57
    assert found.confident is not None


def test_classes_without_stored_predictions_say_so(make_gathered: MakeGathered) -> None:
    gathered = make_gathered()
    for path in gathered.folder.finalists.glob("*.npz"):
        path.unlink()
    part = classes_part(gathered)
    assert part is not None
    assert "not stored" in part.sentences[0]


# The network


def test_layers_sum_to_the_parameters_but_norms(make_gathered: MakeGathered) -> None:
    gathered = make_gathered()
    architecture = gathered.candidate(gathered.best[0]).architecture
    analysis = find_border(architecture)
    rows = layer_rows(architecture, analysis)
    convolutions = [row for row in rows if row.field is not None]
    assert len(convolutions) == len(analysis.convolutions)
    assert [row.field for row in convolutions] == [each.smallest[0] for each in analysis.fields]
    assert rows[-1].name == "linear"
    assert rows[-1].channels == 10
    assert 0 < sum(row.params for row in rows) <= (gathered.best[0].param_count or 0)


# Parameters


def test_parameters_of_layers_count_as_their_mean(stored_trial: StoredTrial) -> None:
    trials = [stored_trial(0, "COMPLETE", 0.5, {"depth": 2, "features_1": 8, "features_2": 16})]
    found = {each.name: each.values for each in drawn_values([*map(TrialRecord.of, trials)])}
    assert found == {"depth": {0: 2.0}, "mean features": {0: 12.0}}


def test_lines_are_the_best_and_a_sample_with_the_best_last(stored_trial: StoredTrial) -> None:
    ranked = records(stored_trial, *(1 - n / 10_000 for n in range(3 * MOST_LINES)))
    shown = chosen_lines(ranked)
    assert len(shown) == MOST_LINES
    assert [each.number for each in shown[-MOST_LINES // 2 :]] == list(range(MOST_LINES // 2))[::-1]
    assert shown[0].number > 2 * MOST_LINES


def test_importance_finds_the_parameter_that_matters() -> None:
    random = np.random.default_rng(0)
    distribution = FloatDistribution(0, 1)
    trials = []
    for _ in range(100):
        x, y = random.random(2)
        params = {"x": x, "y": y} | ({"deep": y} if x > 0.5 else {})
        trials.append(
            create_trial(
                value=x,
                params=params,
                distributions=dict.fromkeys(params, distribution),
            )
        )
    found = {each.name: each for each in importances(trials)}
    assert found["x"].value > 3 * found["y"].value
    assert found["y"].trials == 100
    assert found["deep"].trials == sum("deep" in trial.params for trial in trials)


def test_few_trials_have_no_importance(make_gathered: MakeGathered) -> None:
    part = importance_part(make_gathered(trials=10))
    assert part is not None
    assert part.sentences[0].startswith("Importance needs 20 trials")


# Rejections and effort


def test_each_reason_has_its_last_example(stored_trial: StoredTrial) -> None:
    trials = [
        stored_trial(0, "PRUNED", rejected="border", detail="first"),
        stored_trial(1, "PRUNED", None, {"depth": 9}, rejected="border", detail="second"),
        stored_trial(2, "COMPLETE", 0.5),
        stored_trial(3, "PRUNED", rejected="params", detail="large"),
    ]
    found = examples(trials)
    assert {reason: each.number for reason, each in found.items()} == {"border": 1, "params": 3}
    assert (found["border"].detail, found["border"].drawn) == ("second", "depth 9")


def test_device_time_is_summed_by_outcome(stored_trial: StoredTrial) -> None:
    trials = [
        stored_trial(0, "COMPLETE", 0.5, seconds=10.0, share=0.5, epochs=2),
        stored_trial(1, "FAIL", seconds=4.0, epochs=1),
        stored_trial(2, "PRUNED", rejected="border"),
    ]
    found = efforts([*map(TrialRecord.of, trials)])
    assert [(each.kind, each.seconds, each.epochs) for each in found] == [
        ("complete", 5.0, 2),
        ("failed", 4.0, 1),
    ]


def trials_of(*pairs: tuple[float, float]) -> list[FrozenTrial]:
    """Return trials by accuracy and rate; their depth is always 4."""
    distributions = {"rate": FloatDistribution(0.0, 1.0), "depth": IntDistribution(1, 8)}
    return [
        create_trial(value=accuracy, params={"rate": rate, "depth": 4}, distributions=distributions)
        for accuracy, rate in pairs
    ]


def test_importance_needs_values_that_differ() -> None:
    rates = [place / 30 for place in range(30)]
    assert importances(trials_of(*((0.5, rate) for rate in rates))) == []
    found = importances(trials_of(*((rate, rate) for rate in rates)))
    assert [(each.name, each.value) for each in found] == [("rate", 1.0)]


# The first sentences


def test_lead_says_what_won_and_how_sure_that_is(make_gathered: MakeGathered) -> None:
    found, sure = lead(make_gathered())
    assert found.startswith("Trial 0, ")
    assert "parameters, wins with test accuracy 0.9500 ± 0.0000 (2 fresh seeds)" in found
    assert sure.startswith("The 95% interval for 60 test images is 0.86-0.98; chance explains")
    assert "finalist 1; it exceeds a guess (0.3000)" in sure


def test_lead_without_a_size_has_no_comma(make_gathered: MakeGathered) -> None:
    gathered = make_gathered()
    for trial in gathered.trials:
        trial.user_attrs.pop("params", None)
    assert lead(gathered)[0].startswith("Trial 0 wins with")


def test_lead_of_an_unfinished_search_says_so(make_gathered: MakeGathered) -> None:
    found, sure, state = lead(make_gathered(finalists=(), state="interrupted"))
    assert found.startswith("Best so far: trial ")
    assert "the maximum of many scores on 60 validation images" in sure
    assert state == "The search was interrupted, and can be resumed."


def test_lead_without_a_complete_trial_promises_nothing(make_gathered: MakeGathered) -> None:
    assert lead(make_gathered(trials=0, finalists=())) == [
        "No result yet: no trial is complete (0 trained candidates, 0 rejected candidates)."
    ]


# Advice


def at(*values: float, log: bool = False) -> list[FrozenTrial]:
    return [
        create_trial(
            state=TrialState.COMPLETE,
            value=0.5,
            params={"rate": value, "features_1": 48, "depth": 4},
            distributions={
                "rate": FloatDistribution(0.01, 1.0, log=log),
                "features_1": IntDistribution(8, 48),
                "depth": IntDistribution(1, 8),
            },
        )
        for value in values
    ]


def test_ranges_whose_end_all_best_trials_share_are_found() -> None:
    assert ranges_at_edge(at(0.01, 0.5)) == [("features", "upper", 48.0)]
    assert ("rate", "lower", 0.01) in ranges_at_edge(at(0.0101, 0.0102))
    assert ("rate", "lower", 0.01) in ranges_at_edge(at(0.03, 0.04))
    assert ("rate", "lower", 0.01) not in ranges_at_edge(at(0.03, 0.04, log=True))


def test_advice_names_ties_and_the_cheaper_finalist(make_gathered: MakeGathered) -> None:
    part = advice_part(make_gathered())
    assert part is not None
    assert "chance explains the lead over 1 finalist" in part.content[0]


@pytest.mark.parametrize(("state", "is_advised"), [("finished", True), ("running", False)])
def test_more_trials_are_advised_after_the_budget(
    make_gathered: MakeGathered, state: str, *, is_advised: bool
) -> None:
    gathered = make_gathered(finalists=(), state=state)
    last = next(trial for trial in reversed(gathered.trials) if trial.value is not None)
    last.values = [0.99]
    assert last.state is TrialState.COMPLETE
    part = advice_part(gathered)
    assert part is not None
    assert any("More trials: " in each for each in part.content) is is_advised


def test_stopped_trials_do_not_advise_a_wider_range(make_gathered: MakeGathered) -> None:
    trials = at(*[1.0] * TOP)
    for number, trial in enumerate(trials):
        trial.number = number
        trial.state = TrialState.COMPLETE if number < TOP - 1 else TrialState.PRUNED
    part = advice_part(replace(make_gathered(finalists=()), trials=trials))
    assert part is not None
    assert not any("A wider range" in each for each in part.content)


def test_no_complete_trial_gives_no_advice(make_gathered: MakeGathered) -> None:
    assert advice_part(make_gathered(trials=0, finalists=())) is None


def test_a_finalist_may_lack_a_metric(make_gathered: MakeGathered) -> None:
    gathered = make_gathered()
    # Resumed with another metric: only the newer finalist has stored probabilities.
    gathered.__dict__["metrics"] = {
        0: {"f1": (0.5, None), "top5": (0.75, 0.1)},
        1: {"f1": (0.6, None)},
    }
    part = finalists_part(gathered)
    assert part is not None
    shown = str(part.content[-1])
    assert "0.7500 ± 0.1000" in shown
    assert "no probabilities are stored" in shown
