"""The report of a search: sections, terminal and web page."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

import pytest
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from search.experiment.loading import parse_experiment
from search.experiment.schema import Experiment
from search.experiment.sections import ScreensSection
from search.loop.trials import Trials
from search.reporting.comparison import comparability, compare
from search.reporting.intervals import ties_with_first, wilson
from search.reporting.page.frame import as_html
from search.reporting.rendering import Section, print_report
from search.reporting.report import build_report
from search.reporting.standing import GUESS, REGRESSION, Standing
from search.study.finalists import Finalist, FinalistResult
from search.study.records import TrialRecord
from search.study.significance import Comparison
from search.study.study import Study
from search.study.summary import summarise
from spaces.candidate import CandidateSpace
from trainables.baseline import Baseline
from trainables.data_identity import ClassIdentity, DataIdentity, FoldIdentity
from trainables.epoch_metrics import EpochMetrics
from trainables.folds import Folds

Printed = Callable[..., str]

DATA = DataIdentity(
    (ClassIdentity("cat", (8, 500, 1), "a"), ClassIdentity("dog", (8, 500, 2), "b")),
    ("1", "2", "3"),
    (8, 8, 1),
    "",
)


def with_validation_images(images: int) -> DataIdentity:
    """Return the data with another number of validation images."""
    return dataclasses.replace(DATA, classes=(ClassIdentity("cat", (16, images, 3), "a"),))


@dataclass
class Search:
    """A finished search in memory."""

    experiment: Experiment
    trials: list[FrozenTrial]
    space: CandidateSpace

    def sections(
        self,
        finalists: list[Finalist] | None = None,
        data: DataIdentity | None = None,
        standing: Standing | None = None,
        behind: dict[int, Comparison] | None = None,
    ) -> dict[str, Section]:
        built = build_report(
            self.experiment,
            self.trials,
            finalists or [],
            self.space,
            data or DATA,
            standing,
            behind,
        )
        return {section.heading: section for section in built}


@pytest.fixture(scope="module")
def search_for(
    make_trials: Callable[..., Trials],
    vgg_space: Callable[..., CandidateSpace],
    train: Callable[..., None],
) -> Callable[..., Search]:
    """Return a function that runs a search whose accuracies follow from the network's size."""

    def run(limit: int = 15, seed: int = 0, **screens: Any) -> Search:
        truncation = ScreensSection.model_validate(screens).truncation
        space = vgg_space(depth=[1, 10], truncation=truncation)
        trials = make_trials(space, screens=screens, limit=limit, seed=seed, epochs=2)
        while not trials.is_finished:
            started = trials.next()
            if started is None:
                continue
            accuracy = min(0.99, 0.3 + started.costs.params / 10_000)
            if started.number % 5 == 4:
                train(trials, started.number, accuracy)
            else:
                train(trials, started.number, accuracy / 2, accuracy)
        experiment = parse_experiment({"name": "mine", "screens": screens, "epochs": 2})
        return Search(experiment, trials.study.trials(), space)

    return run


@pytest.fixture(scope="module")
def screened(search_for: Callable[..., Search]) -> Search:
    return search_for()


@pytest.fixture(scope="module")
def free(search_for: Callable[..., Search]) -> Search:
    """Return the same search without the border screen, long enough for the same draws."""
    return search_for(limit=60, border="off")


def finalist(number: int, validation: float, *tests: float) -> Finalist:
    return Finalist(
        number,
        tuple(
            FinalistResult(number, seed, validation, test, 1.0)
            for seed, test in enumerate(tests, start=1)
        ),
    )


def by_reason(search: Search) -> dict[str, int]:
    counts: dict[str, int] = {}
    for trial in search.trials:
        if "rejected" in trial.user_attrs:
            reason = trial.user_attrs["rejected"]
            counts[reason] = counts.get(reason, 0) + 1
    return counts


def test_leaderboard_says_that_a_space_was_changed(
    screened: Search, vgg_space: Callable[..., CandidateSpace]
) -> None:
    assert len(screened.sections()["Leaderboard"].sentences) == 1
    edited = vgg_space(depth=[1, 10], recipe={"batch_size": [16, 32], "momentum": 0.5})
    section = dataclasses.replace(screened, space=edited).sections()["Leaderboard"]
    numbers = ", ".join(row[1] for row in section.rows)
    assert section.sentences[1].startswith(
        f"The space vgg changed: trials {numbers} trained another network than it draws now."
    )


def test_intervals_with_folds_count_the_training_images_once(screened: Search) -> None:
    folds = FoldIdentity(Folds(5, 2), training_images=320, digest="d")
    classes = (ClassIdentity("cat", (400, 0, 3), "a"),)
    section = screened.sections(data=dataclasses.replace(DATA, classes=classes, folds=folds))[
        "Leaderboard"
    ]
    best = dict(zip(section.header, section.rows[0], strict=True))
    assert best["95%"] == str(wilson(float(best["validation"]), 400))
    assert section.sentences[1].startswith(
        "Validation is by folds=5x2: each accuracy counts all 400 training images"
    )


def test_ties_with_folds_name_the_images_that_the_folds_score(screened: Search) -> None:
    folds = FoldIdentity(Folds(5), training_images=40, digest="d")
    classes = (ClassIdentity("cat", (50, 0, 3), "a"),)
    data = dataclasses.replace(DATA, classes=classes, folds=folds)
    sentences = screened.sections(data=data)["Leaderboard"].sentences
    (ties,) = (each for each in sentences if "marked =1" in each)
    assert "chance on the 50 training images, each held out by one fold, explains" in ties


def test_leaderboard_shows_ten_best_with_structure(screened: Search) -> None:
    section = screened.sections()["Leaderboard"]
    trained = [trial for trial in screened.trials if "rejected" not in trial.user_attrs]
    assert "15 candidates trained" in section.sentences[0]
    assert len(section.rows) == 10
    complete = sorted(
        (t for t in trained if t.state.name == "COMPLETE"), key=lambda t: (-t.value, t.number)
    )
    assert [int(row[1]) for row in section.rows] == [t.number for t in complete[:10]]
    assert [row[0] for row in section.rows] == [str(rank) for rank in range(1, 11)]
    best = dict(zip(section.header, section.rows[0], strict=True))
    params = complete[0].params
    features = [params[f"features_{n}"] for n in range(1, params["depth"] + 1)]
    assert best["validation"] == f"{complete[0].value:.4f}"
    assert best["95%"] == str(wilson(complete[0].value, 1000))
    assert best["params"] == f"{complete[0].user_attrs['params']:,}"
    # 64x3 stands for three equal amounts in a row.
    runs = [run.partition("x") for run in best["features"].split("-")]
    assert [int(n) for n, _, times in runs for _ in range(int(times or 1))] == features
    assert best["kernel"] == str(params["kernel"])
    assert best["epochs"] == "2"


def test_candidates_within_noise_of_the_best_share_its_rank(
    screened: Search,
) -> None:
    board = summarise(screened.trials).leaderboard
    best_first = [trial.accuracy for trial in board if trial.outcome is TrialState.COMPLETE]
    ties = ties_with_first(best_first, 50)
    assert 1 < ties < 10
    section = screened.sections(data=with_validation_images(50))["Leaderboard"]
    assert [row[0] for row in section.rows] == [
        "=1" if rank <= ties else str(rank) for rank in range(1, 11)
    ]
    assert section.sentences[1] == (
        f"{ties} candidates are marked =1: chance on 50 validation images explains their "
        "distance from the best."
    )
    data = with_validation_images(50)
    assert section.sentences[2] == (
        f"A new search with validation: folds=5 would score each on {data.split_images(0) + 50} "
        "images, at five times the cost."
    )


def test_candidate_stopped_early_is_never_tied_with_the_best(
    make_trials: Callable[..., Trials],
    eight_candidates: CandidateSpace,
    train: Callable[..., None],
) -> None:
    trials = make_trials(eight_candidates, limit=2, epochs=2)
    for accuracies in ((0.5, 0.6), (0.6,)):
        while (started := trials.next()) is None:
            pass
        train(trials, started.number, *accuracies)
    search = Search(Experiment(), trials.study.trials(), eight_candidates)
    assert [row[0] for row in search.sections()["Leaderboard"].rows] == ["1", "2"]


def test_report_compares_with_guess_and_logistic_regression(screened: Search) -> None:
    best = int(screened.sections()["Leaderboard"].rows[0][1])
    baseline = Baseline("d", 0, 0.5, 0.25, 16, 0.75, (0, 1), (0, 1), (0, 0))
    no_better = Comparison(-0.25, -0.5, 0.0, 0.9, 0.025)
    better = Comparison(0.25, 0.125, 0.375, 0.001, 0.025)
    standing = Standing(baseline, best, {GUESS: better, REGRESSION: no_better})
    sections = screened.sections([finalist(best, 0.8, 0.5)], standing=standing)
    assert sections["Leaderboard"].sentences[-1] == (
        "For comparison, on validation a guess reaches 0.5000, and logistic regression on the "
        "pixels 0.7500."
    )
    interval, against, success, warning = sections["Finalists"].sentences[1:]
    assert interval == "95% interval for 3 test images: 0.13-0.87."
    assert against == (
        "For comparison, on test a guess reaches 0.2500, and logistic regression on the pixels "
        "0.5000."
    )
    assert success == (f"Trial {best} exceeds a guess by 0.2500 (95% interval 0.1250 to 0.3750).")
    assert warning.startswith(f"Warning: trial {best} is not better than logistic regression")
    # Two epochs of 16 images in one batch of at most 128.
    assert "A training had 1 step (0.125 an epoch, with batches of 128)" in warning
    standing = Standing(baseline, best, {GUESS: better, REGRESSION: better})
    sections = screened.sections([finalist(best, 0.8, 0.5)], standing=standing)
    *before, success = sections["Finalists"].sentences[1:]
    assert before == [interval, against]
    assert success == (
        f"Trial {best} exceeds a guess by 0.2500 (95% interval 0.1250 to 0.3750) and logistic "
        "regression on the pixels by 0.2500 (95% interval 0.1250 to 0.3750)."
    )


def test_early_stopped_trials_are_marked(
    make_trials: Callable[..., Trials],
    eight_candidates: CandidateSpace,
    train: Callable[..., None],
) -> None:
    trials = make_trials(eight_candidates, limit=2, epochs=2)
    for accuracies in ((0.5, 0.6), (0.4,)):
        started = trials.next()
        assert started is not None
        train(trials, started.number, *accuracies)
    search = Search(Experiment(), trials.study.trials(), eight_candidates)
    section = search.sections()["Leaderboard"]
    assert [row[-1] for row in section.rows] == ["2", "1, stopped"]
    assert "1 complete, 1 stopped early, 0 failed; 0 running" in section.sentences[0]


def test_failures_are_listed_by_cause_most_frequent_first(
    make_trials: Callable[..., Trials],
    eight_candidates: CandidateSpace,
    train: Callable[..., None],
    metrics: Callable[..., EpochMetrics],
) -> None:
    trials = make_trials(eight_candidates, limit=5, epochs=2)
    numbers = []
    for cause in ("boom", "", "no such file", "no such file", None):
        while (started := trials.next()) is None:
            pass
        numbers.append(started.number)
        if cause is None:
            train(trials, started.number, 0.5, 0.6)
        elif cause:
            trials.finish(started.number, cause)
        else:
            trials.report(started.number, metrics(0.1, loss=math.nan))
            trials.finish(started.number)
    search = Search(Experiment(), trials.study.trials(), eight_candidates)
    section = search.sections()["Failed"]
    assert section.header == ("cause", "candidates", "trials")
    assert section.rows == (
        ("no such file", "2", f"{numbers[2]}, {numbers[3]}"),
        ("boom", "1", str(numbers[0])),
        ("the loss is no longer a number", "1", str(numbers[1])),
    )


def test_section_on_failures_needs_a_failure(screened: Search) -> None:
    assert "Failed" not in screened.sections()


def test_several_objectives_show_pareto_front_with_costs(
    make_trials: Callable[..., Trials],
    eight_candidates: CandidateSpace,
    metrics: Callable[..., EpochMetrics],
    printed: Printed,
) -> None:
    objectives = ("accuracy", "macs", "params", "batch_latency")
    study = Study("several", RandomSampler(seed=0), objectives=objectives)
    trials = make_trials(eight_candidates, study=study, limit=3, epochs=2)
    # The second is stopped early, and the third is beaten by both.
    for endings, milliseconds in (((0.5, 0.8), 9.0), ((0.6,), 4.5), ((0.5, 0.55), 50.0)):
        started = None
        while started is None:
            started = trials.next()
        for epoch, accuracy in enumerate(endings, start=1):
            latency = {"batch_latency_ms": milliseconds}
            trials.report(started.number, metrics(accuracy, epoch).with_latencies(latency))
        trials.finish(started.number)
    experiment = parse_experiment({"objectives": list(objectives), "latency_batch": 64})
    search = Search(experiment, trials.study.trials(), eight_candidates)
    section = search.sections()["Pareto front"]
    costs = ("MMACs", "params", "ms for 64 images")
    assert section.header[:6] == ("trial", "validation", "95%", *costs)
    front = summarise(search.trials).front
    assert [int(row[0]) for row in section.rows] == [trial.number for trial in front]
    best = dict(zip(section.header, section.rows[0], strict=True))
    assert (best["validation"], best["ms for 64 images"], best["epochs"]) == ("0.8000", "9.00", "2")
    assert best["params"] == f"{front[0].param_count:,}"
    assert best["95%"] == str(wilson(front[0].accuracy or 0.0, DATA.split_images(1)))
    assert best["MMACs"] == f"{front[0].macs / 1e6:,.2f}"
    stopped = dict(zip(section.header, section.rows[1], strict=True))
    assert (stopped["validation"], stopped["epochs"]) == ("0.6000", "1, stopped")
    board = search.sections()["Leaderboard"]
    assert board.rows[0][2] == "0.8000"
    assert "2 complete, 1 stopped early" in board.sentences[0]
    assert "Pareto front" in printed(lambda c: print_report(c, list(search.sections().values())))


def test_one_objective_shows_no_pareto_front(screened: Search) -> None:
    assert "Pareto front" not in screened.sections()


def test_rejections_are_counted_by_reason_with_savings(screened: Search) -> None:
    section = screened.sections()["Rejected before training"]
    counts = by_reason(screened)
    assert counts["border"] >= 3
    assert {row[0]: int(row[1]) for row in section.rows} == counts
    text = " ".join(section.sentences)
    assert "Border screen: previous-conv. The border layer itself is accepted." in text
    assert f"{sum(counts.values())} candidates rejected before training" in text
    assert "device-hours" in text


def test_truncated_candidates_are_shown_as_such(search_for: Callable[..., Search]) -> None:
    search = search_for(border="truncate", limit=12)
    records = [TrialRecord.of(trial) for trial in search.trials]
    cut = {each.number: each.truncated for each in records if each.is_trained and each.truncated}
    assert "border" not in by_reason(search)
    assert len(cut) >= 3
    board = search.sections()["Leaderboard"]
    assert f" {len(cut)} were truncated at the border layer." in board.sentences[0]
    shown = {int(row[1]): row[6] for row in board.rows}
    assert any(number in cut for number in shown)
    for number, features in shown.items():
        assert (f"({cut[number]})" in features) if number in cut else ("of" not in features)
    winner = next(iter(cut))
    (row,) = search.sections([finalist(winner, 0.5, 0.5)])["Finalists"].rows
    assert any(f"({cut[winner]})" in cell for cell in row)
    assert "Trained beyond the border" not in search.sections()
    rejected = " ".join(search.sections()["Rejected before training"].sentences)
    assert rejected.startswith("Border screen: truncate. Truncated networks keep the border layer.")


@pytest.mark.parametrize(
    ("high", "expected"),
    [
        (7200.0, "saved: 1h00m to 2h00m (1.0000 to 2.0000 device-hours, "
         "36.0 to 72.0 times the time spent on training)"),
        (None, "saved: at least 1h00m (at least 1.0000 device-hours, "
         "at least 36.0 times the time spent on training)"),
    ],
)  # fmt: skip
def test_saved_time_is_an_interval_in_the_report(
    stored_trial: Callable[..., FrozenTrial],
    eight_candidates: CandidateSpace,
    high: float | None,
    expected: str,
) -> None:
    trials = [
        stored_trial(0, "RUNNING", seconds=100.0),
        stored_trial(1, "PRUNED", rejected="border", macs=9, saved_low=3600.0, saved_high=high),
    ]
    section = Search(Experiment(), trials, eight_candidates).sections()["Rejected before training"]
    text = " ".join(section.sentences)
    assert expected in text
    assert ('"At least": some rejected candidates cost more' in text) == (high is None)
    assert section.rows == (
        ("border", "1", "at least 1h00m" if high is None else "1h00m to 2h00m"),
    )


def test_unknown_savings_are_said_to_be_unknown(
    stored_trial: Callable[..., FrozenTrial], eight_candidates: CandidateSpace
) -> None:
    trials = [stored_trial(0, "PRUNED", rejected="border", macs=9)]
    section = Search(Experiment(), trials, eight_candidates).sections()["Rejected before training"]
    assert (
        "1 candidate rejected before training; the time that they saved is predicted once"
        in section.sentences[-1]
    )
    assert section.rows == (("border", "1", "-"),)


def test_leaderboard_tells_what_further_trials_may_bring(
    make_trials: Callable[..., Trials], eight_candidates: CandidateSpace
) -> None:
    trials = make_trials(eight_candidates, limit=1, prospect=lambda: 0.0042)
    trials.next()
    found = Search(Experiment(), trials.study.trials(), eight_candidates).sections()
    assert found["Leaderboard"].sentences[1] == (
        "The next 20 trials are expected to improve the best validation accuracy by 0.0042."
    )


def test_search_without_rejections_is_reported(
    make_trials: Callable[..., Trials], eight_candidates: CandidateSpace
) -> None:
    trials = make_trials(eight_candidates, screens={"duplicates": False}, limit=1)
    trials.next()
    found = Search(Experiment(), trials.study.trials(), eight_candidates).sections()
    section = found["Rejected before training"]
    assert section.sentences[-1] == "No candidate was rejected."
    assert section.sentences[-2].startswith("The sampler auto proposes only")
    assert section.rows == ()
    assert "1 running" in found["Leaderboard"].sentences[0]


def test_report_names_the_data_in_one_line(
    eight_candidates: CandidateSpace, printed: Printed
) -> None:
    search = Search(Experiment(), [], eight_candidates)
    (line,) = search.sections()["Data"].sentences
    assert line == f"digits: {DATA.describe()}."
    older = build_report(search.experiment, [], [], search.space, None)[0]
    assert "not recorded" in older.sentences[0]


def test_searches_of_other_data_are_said_not_to_be_comparable() -> None:
    cat, dog = DATA.classes
    grown = dataclasses.replace(
        DATA, classes=(cat, dataclasses.replace(dog, images=(9, 500, 2), digest="c"))
    )

    def answer(one: DataIdentity | None, two: DataIdentity | None) -> str:
        section = comparability(("old", one), ("new", two))
        assert section.heading == "Are old and new comparable?"
        return section.sentences[0]

    assert answer(DATA, DATA) == "Yes, both searches have the same data."
    assert answer(DATA, grown) == "No. Compared with old, new has other data: 1 image more in dog."
    assert answer(DATA, None) == "Unknown: the data of new are not recorded."


def test_empty_search_has_a_report(eight_candidates: CandidateSpace, printed: Printed) -> None:
    search = Search(Experiment(), [], eight_candidates)
    sections = build_report(search.experiment, [], [], search.space, None)
    assert "0 candidates trained" in printed(lambda console: print_report(console, sections))


def test_finalists_show_mean_spread_and_each_seed_on_test(
    screened: Search,
) -> None:
    first, second = (int(row[1]) for row in screened.sections()["Leaderboard"].rows[:2])
    found = [finalist(first, 0.8, 0.7, 0.9), finalist(second, 0.7, 0.95)]
    section = screened.sections(found)["Finalists"]
    # Mean 0.8; the sample standard deviation of two values is half their distance times root two.
    assert section.rows[0][:5] == ("1", str(first), "0.8000 ± 0.1414", "0.7000, 0.9000", "0.8000")
    assert section.rows[1][:5] == ("2", str(second), "0.9500", "0.9500", "0.7000")
    assert [row[7] for row in section.rows] == ["2", "1"]
    # The result is the best on validation: the test split decides nothing.
    assert f"trial {first} with test accuracy 0.8000 ± 0.1414" in section.sentences[0]
    assert "2 fresh seeds" in section.sentences[0]


def test_finalists_within_noise_share_the_first_rank(screened: Search) -> None:
    first, second, third = (int(row[1]) for row in screened.sections()["Leaderboard"].rows[:3])
    found = [finalist(number, 0.8, 0.7) for number in (first, second, third)]
    behind = {
        second: Comparison(0.01, -0.004, 0.024, 0.1, 0.025),
        third: Comparison(0.05, 0.03, 0.07, 0.001, 0.025),
    }
    section = screened.sections(found, behind=behind)["Finalists"]
    assert [row[0] for row in section.rows] == ["=1", "=1", "3"]
    column = section.header.index("behind the first")
    assert [row[column] for row in section.rows] == [
        "-",
        "0.0100 (-0.0040 to +0.0240)",
        "0.0500 (+0.0300 to +0.0700)",
    ]
    assert section.sentences[-1].startswith("2 finalists are marked =1: chance, of the validation")
    alone = screened.sections(found, behind={third: behind[third]})["Finalists"]
    assert [row[0] for row in alone.rows] == ["1", "2", "3"]
    assert "=1" not in " ".join(alone.sentences)


def test_section_on_finalists_needs_a_finalist(screened: Search) -> None:
    assert "Finalists" not in screened.sections()


def test_plot_shows_first_finalist_or_best_trial(
    screened: Search,
) -> None:
    heading = "Receptive field of the best candidate"
    best = screened.sections()["Leaderboard"].rows[0][1]
    assert f"trial {best}: " in screened.sections()[heading].picture
    other = screened.sections()["Leaderboard"].rows[3][1]
    chosen = screened.sections([finalist(int(other), 0.9, 0.9)])
    assert f"trial {other}: " in chosen[heading].picture


def test_candidates_beyond_border_are_compared_with_others(screened: Search, free: Search) -> None:
    assert "Trained beyond the border" not in screened.sections()
    (sentence,) = free.sections()["Trained beyond the border"].sentences
    trained = [t for t in free.trials if "beyond" in t.user_attrs and t.value is not None]
    trained = [t for t in trained if "rejected" not in t.user_attrs]
    beyond = [t.value for t in trained if t.user_attrs["beyond"] > 0]
    within = [t.value for t in trained if t.user_attrs["beyond"] == 0]
    assert beyond
    assert within
    assert sentence.startswith(f"{len(beyond)} of {len(trained)} trained candidates")
    assert "the border screen was off" in sentence
    assert f"{max(beyond):.4f} against {max(within):.4f} of the {len(within)}" in sentence


def test_comparison_covers_rejected_in_one_and_trained_in_other(
    screened: Search, free: Search
) -> None:
    section = compare(("screened", screened.trials), ("free", free.trials))
    assert section.heading == "Rejected in screened, trained in free"
    rejected = {
        t.user_attrs["digest"] for t in screened.trials if t.user_attrs.get("rejected") == "border"
    }
    trained = [
        t
        for t in free.trials
        if t.user_attrs.get("digest") in rejected and "rejected" not in t.user_attrs
    ]
    assert len(rejected) >= 3
    assert len(trained) == len(rejected)
    (sentence,) = section.sentences
    assert f"free trained {len(trained)} candidates that screened rejected before" in sentence
    assert f"best validation accuracy is {max(t.value for t in trained):.4f}" in sentence
    assert {int(row[0]) for row in section.rows} <= {t.number for t in trained}
    assert all(int(row[2]) > 0 for row in section.rows)
    back = compare(("free", free.trials), ("screened", screened.trials))
    assert back.sentences == ("No candidate.",)


def test_terminal_shows_all_text_and_no_picture(screened: Search, printed: Printed) -> None:
    sections = list(screened.sections().values())
    text = printed(lambda console: print_report(console, sections))
    flat = " ".join(text.split())
    assert "<svg" not in text
    for section in sections:
        assert " ".join(section.header) in flat
        if not section.picture:
            assert section.heading in flat
        for sentence in section.sentences:
            assert " ".join(sentence.split()) in flat
        for row in section.rows:
            assert " ".join(row) in flat


def test_brackets_are_plain_text_on_terminal(printed: Printed) -> None:
    section = Section("[bold]h[/bold]", ("a [red]word[/red]",), ("x",), (("1",),))
    text = printed(lambda console: print_report(console, [section]))
    assert "[bold]h[/bold]" in text
    assert "a [red]word[/red]" in text


class Page(HTMLParser):
    """Collects the tags and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []
        self.cells = 0
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_page_is_self_contained(screened: Search) -> None:
    sections = list(screened.sections().values())
    page = as_html("Search mine", sections)
    parsed = Page(page)
    assert page.startswith("<!doctype html>")
    assert page.count("<svg") == 1
    assert parsed.tags.count("h2") == len(sections)
    assert parsed.tags.count("td") == sum(len(row) for s in sections for row in s.rows)
    assert not {"link", "img", "iframe"} & set(parsed.tags)
    assert parsed.tags.count("script") == 1
    assert "src=" not in page
    assert "@import" not in page
    text = " ".join("".join(parsed.text).split())
    for section in sections:
        for sentence in section.sentences:
            assert " ".join(sentence.split()) in text


def test_markup_in_names_is_escaped_on_page() -> None:
    evil = '<script>alert("&")</script>'
    section = Section(evil, (evil,), (evil,), ((evil,),))
    page = as_html(evil, [section])
    parsed = Page(page)
    assert parsed.tags.count("script") == 1
    # Twice in the title, twice in the heading and its link, and in sentence, column and cell.
    assert "".join(parsed.text).count(evil) == 7


def test_brackets_in_a_cell_are_printed_as_text(printed: Printed) -> None:
    section = Section("Classes", header=("[i]class",), rows=(("[/b]",),))
    shown = printed(lambda console: print_report(console, [section]))
    assert "[i]class" in shown
    assert "[/b]" in shown
