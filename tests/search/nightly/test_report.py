"""The report of a night: its figures, in Markdown and on the page."""

from __future__ import annotations

import html
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown import markdown

from search.experiment.loading import parse_experiment
from search.loop.budget import Spent
from search.nightly.history import NOTHING, Best, Decision, Night, Ruling, Score, State
from search.nightly.report import build_night, headline, index_page
from search.reporting.page.frame import as_html
from search.reporting.rendering import Section, as_markdown
from search.reporting.standing import GUESS, REGRESSION, Standing
from search.study.significance import Comparison
from trainables.baseline import Baseline

BEFORE = replace(
    NOTHING,
    complete=3,
    rejections={"border": 4},
    best=Best(1, 0.9),
    front={1: (0.9, 100.0), 2: (0.8, 50.0)},
    failures={4: "an old one"},
    failed=1,
    saved_seconds=30.0,
    spent=Spent(5, 600.0, 3600.0),
)
AFTER = replace(
    BEFORE,
    complete=5,
    failed=2,
    interrupted=1,
    rejections={"border": 9, "duplicate": 2},
    best=Best(7, 0.925),
    front={7: (0.925, 90.0), 2: (0.8, 50.0)},
    failures={4: "an old one", 8: "RuntimeError: boom"},
    saved_seconds=20.0,
    spent=Spent(9, 1200.0, 9000.0),
)
COMPARISON = Comparison(0.0213, 0.0041, 0.0385, 0.0032, 0.01)
LAST = Night("2026-01-01", "2026-01-01T01:30:00+00:00", Spent(), State.FINISHED, after=BEFORE)
TONIGHT = Night(
    "2026-01-02",
    "2026-01-02T01:30:00+00:00",
    BEFORE.spent,
    State.FINISHED,
    ended="2026-01-02T05:00:00+00:00",
    after=AFTER,
    decision=Decision(Ruling.PROMOTED, 7, "3", "version 2 (trial 1 of x)", COMPARISON),
    finalists=(Score(7, 0.93, 0.912, 0.004, 3), Score(2, 0.8, 0.79, 0.0, 1)),
)


EXPERIMENT = parse_experiment(
    {"name": "mine", "objectives": ["accuracy", "params"], "budget": {"price": 2.0}}
)


def sections(night: Night = TONIGHT, last: Night | None = LAST) -> dict[str, Section]:
    built = build_night(EXPERIMENT, night, last)
    return {section.heading: section for section in built}


def test_report_starts_with_gain_of_night() -> None:
    assert sections()["In short"].sentences == (
        "Began 2026-01-02 01:30, ended 2026-01-02 05:00: finished.",
        "New best validation accuracy 0.9250 (trial 7), +0.0250.",
    )


def test_truncated_trials_are_counted_and_marked() -> None:
    score = Score(7, 0.93, 0.912, 0.004, 3, truncated="4 of 9 convolutions")
    night = replace(TONIGHT, after=replace(AFTER, truncated=2), finalists=(score,))
    found = sections(night)
    changes = {row[0]: row[1:] for row in found["Since the night 2026-01-01"].rows}
    assert changes["truncated at the border layer"] == ("0", "2", "+2")
    assert found["Finalists"].rows[0][1] == "7 (4 of 9 convolutions)"
    assert sections()["Finalists"].rows[0][1] == "7"


def test_totals_are_shown_beside_previous_night() -> None:
    changes = sections()["Since the night 2026-01-01"]
    rows = {name: values for name, *values in changes.rows}
    assert rows["complete"] == ["3", "5", "+2"]
    assert rows["failed"] == ["1", "2", "+1"]
    assert rows["interrupted"] == ["0", "1", "+1"]
    assert rows["rejected before training"] == ["4", "11", "+7"]
    assert rows["on the Pareto front"] == ["2", "2", "+0"]
    assert rows["device time spent"] == ["1h00m", "2h30m", "+1h30m"]
    assert rows["driver time"] == ["10m00s", "20m00s", "+10m00s"]
    assert rows["money"] == ["2.00", "5.00", "+3.00"]


def test_first_night_is_compared_with_empty_search() -> None:
    found = sections(last=None)
    assert found["Since the search began"].rows[0] == ("complete", "0", "5", "+5")
    assert "Best validation accuracy 0.9250 (trial 7)." in found["In short"].sentences


@pytest.mark.parametrize(
    ("decision", "says"),
    [
        (TONIGHT.decision, "Trial 7 replaces version 2 (trial 1 of x) as version 3 of"),
        (
            Decision(Ruling.FIRST, 7, "1"),
            "Trial 7 is the first champion, version 1 of",
        ),
        (
            Decision(Ruling.KEPT, 7, "2", "version 2", COMPARISON),
            "is not significantly better than the champion of mine: version 2 stays",
        ),
        (Decision(Ruling.SAME, 7, "2", "version 2"), "is the champion of mine itself, version 2"),
        (None, "This night made no comparison"),
    ],
)
def test_report_states_decision_about_champion(decision: Decision | None, says: str) -> None:
    first, *figures = sections(replace(TONIGHT, decision=decision))["Champion"].sentences
    assert says in first
    assert bool(figures) == (decision is not None and decision.comparison is not None)


def test_comparison_shows_difference_interval_and_p_value() -> None:
    *_, figures = sections()["Champion"].sentences
    assert figures == (
        "Difference of the mean test accuracies: +0.0213 (98% confidence interval +0.0041 to "
        "+0.0385); p = 0.0032 (promotion needs p < 0.01)."
    )


def test_front_shows_new_and_beaten_candidates() -> None:
    front = sections()["Pareto front"]
    assert "2 candidates" in front.sentences[0]
    assert front.rows == (("7", "0.9250", "90", "new"), ("1", "0.9000", "100", "beaten"))


def test_rejections_and_failures_of_night_exclude_older_ones() -> None:
    found = sections()
    assert found["Rejected before training"].rows == (
        ("border", "+5", "9"),
        ("duplicate", "+2", "2"),
    )
    assert found["Failures"].rows == (("8", "RuntimeError: boom"),)
    assert found["Failures"].sentences == ("1 trial failed in this night.",)


def test_finalists_show_spread_over_seeds() -> None:
    assert sections()["Finalists"].rows == (
        ("1", "7", "0.9300", "0.9120 ± 0.0040", "3"),
        ("2", "2", "0.8000", "0.7900", "1"),
    )
    tied = replace(TONIGHT, finalists=tuple(replace(each, tied=True) for each in TONIGHT.finalists))
    section = sections(tied)["Finalists"]
    assert [row[:2] for row in section.rows] == [("=1", "7"), ("=1", "2")]
    assert "explains how far those marked =1 are apart" in section.sentences[-1]


def test_finalists_are_compared_with_the_baseline() -> None:
    baseline = Baseline("d", 0, 0.1, 0.11, 20, 0.9, (0,), (1,), (1,))
    better = Comparison(0.5, 0.4, 0.6, 0.0, 0.025)
    standing = Standing(baseline, 7, {GUESS: better, REGRESSION: replace(better, p_value=0.3)})
    built = build_night(EXPERIMENT, TONIGHT, LAST, standing)
    sentences = next(each.sentences for each in built if each.heading == "Finalists")
    assert "on test a guess reaches 0.1100, and logistic regression on the pixels" in sentences[1]
    assert sentences[2].startswith("Trial 7 exceeds a guess by 0.5000")
    assert sentences[3].startswith("Warning: trial 7 is not better than logistic regression")


def test_failed_night_without_snapshot_shows_cause() -> None:
    failed = replace(TONIGHT, state=State.FAILED, note="the disk is full", after=None)
    assert list(sections(failed)) == ["In short"]
    assert "the disk is full" in sections(failed)["In short"].sentences
    assert headline(failed, LAST) == "failed"


def test_headline_has_decision_and_gain() -> None:
    assert headline(TONIGHT, LAST) == (
        "trial 7 is the new champion; new best validation accuracy 0.9250 (trial 7), +0.0250"
    )
    undecided = replace(TONIGHT, state=State.UNDECIDED)
    assert headline(undecided, LAST) == "the comparison with the champion is pending"


def test_markdown_and_page_have_the_same_facts() -> None:
    built = list(sections().values())
    text, page = as_markdown("mine", built), as_html("mine", built)
    for fact in ("+1h30m", "RuntimeError: boom", "0.9120 ± 0.0040", "Since the night 2026-01-01"):
        assert fact in text
        assert fact in page
    assert text.startswith("# mine\n")
    assert "| trial | validation | test accuracy | seeds |\n| --- |" in text


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1))
def test_markdown_escapes_every_cause(cause: str) -> None:
    rendered = markdown(as_markdown("t", [Section("h", (f"x{cause}",))]))
    body = rendered.split("</h2>")[1].strip().removeprefix("<p>").removesuffix("</p>")
    assert "<" not in body
    assert html.unescape(body) == f"x{cause}"


def test_index_page_shows_last_night_first_and_trend() -> None:
    first = replace(LAST, decision=Decision(Ruling.FIRST, 1, "1"), finalists=TONIGHT.finalists[1:])
    page = index_page("mine", [first, TONIGHT])
    assert page.index("2026-01-02/report.html") < page.index("2026-01-01/report.html")
    assert "trial 7 is the new champion; new best validation accuracy" in page
    assert page.count("<circle") == 6  # Two accuracies of two nights, and a ring on each.
    assert "<td>4</td><td>0.9250</td><td>0.9120 ± 0.0040</td>" in page


def test_index_page_without_results_has_no_plot() -> None:
    killed = Night("2026-01-01", "2026-01-01T01:30:00+00:00", Spent())
    page = index_page("mine", [killed])
    assert "<svg" not in page
    assert "running, or killed" in page
