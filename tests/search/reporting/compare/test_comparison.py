"""The comparison of searches: what differs, what is comparable, who is better, and at what cost."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from search.cli.reading import compare as compare_command
from search.experiment.folder import Home
from search.experiment.loading import parse_experiment
from search.reporting.compare.arm import Arm
from search.reporting.compare.comparability import obstacle
from search.reporting.compare.comparison import build, document, page_line, render, write_page
from search.reporting.compare.curves import best_so_far, common_accuracy, reached
from search.reporting.compare.results import headline
from search.reporting.compare.settings import different_settings
from search.reporting.rendering import Section
from search.study.finalists import Finalist
from spaces.errors import BadInputError
from tests.mlflow.browser import browser
from tests.requirements import lack
from trainables.data_identity import ClassIdentity, DataIdentity
from trainables.specs import FinalistResult

CLASSES = (ClassIdentity("cat", (8, 50, 100), "a"), ClassIdentity("dog", (8, 50, 100), "b"))
DATA = DataIdentity(CLASSES, ("1", "2", "3"), (8, 8, 1), "")
START = datetime(2026, 1, 1, tzinfo=UTC)


def trial(
    number: int,
    accuracy: float | None,
    *,
    ends: float = 0.0,
    seconds: float = 60.0,
    state: TrialState = TrialState.COMPLETE,
    **attributes: Any,
) -> FrozenTrial:
    """Return an ended trial on half a device; its end is given in minutes."""
    known = {"digest": f"d{number}", "params": 10, "macs": 100, "epochs": 3, "share": 0.5}
    created = optuna.trial.create_trial(
        state=state, value=accuracy, user_attrs=known | {"seconds": seconds} | attributes
    )
    created.number = number
    created.datetime_complete = START + timedelta(minutes=ends or number)
    return created


def right(*accuracies: float) -> NDArray[np.bool_]:
    """Return trainings that are right about the first images, of 200."""
    return np.stack([np.arange(200) < 200 * each for each in accuracies])


def arm(
    name: str, trials: Sequence[FrozenTrial] = (), test: Sequence[float] = (), **settings: Any
) -> Arm:
    """Return a finished search with a finalist of the given test accuracies."""
    results = [FinalistResult(0, seed, 0.5, each, 1.0) for seed, each in enumerate(test)]
    return Arm(
        name,
        "finished",
        parse_experiment({"name": name} | settings),
        DATA,
        trials,
        [Finalist(0, tuple(results))] if test else [],
        right(*test) if test else None,
    )


def section(arms: Sequence[Arm], heading: str) -> Section:
    (found,) = [each for each in build(arms) if each.heading == heading]
    return found


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (replace(DATA, shape=(16, 16, 1)), "other data: images of 16x16 pixels in grey instead"),
        (replace(DATA, splits=("4", "5", "3")), "other data: the same images in other splits"),
        (replace(DATA, classes=CLASSES[:1]), "other data: dog is gone"),
        (None, "the data of two are not recorded"),
    ],
)
def test_search_on_other_data_is_named_with_the_reason(
    data: DataIdentity | None, reason: str
) -> None:
    one = arm("one", [trial(0, 0.5)], (0.5, 0.51))
    two = replace(arm("two", [trial(0, 0.9)], (0.9, 0.91)), data=data)
    assert obstacle(one, two).startswith(reason)
    said = " ".join(section([one, two], "Comparable").sentences)
    assert f"Not comparable with one: two. Reason: {reason}" in said
    assert section([one, two], "Results").rows[1][-2:] == ("-", "not comparable")
    assert headline([one, two]).startswith(f"No search can be compared with one: {reason}")
    page = render([one, two], build([one, two]))
    assert "trial 0: 0.9000" not in page
    assert "trial 0: 0.5000" in page


def test_settings_that_differ_are_shown_without_the_name() -> None:
    experiments = [
        parse_experiment({"name": "one", "epochs": 3, "screens": {"border": "off"}}),
        parse_experiment({"name": "two", "epochs": 3, "recipe": {"batch_size": [16, 32]}}),
    ]
    found = different_settings(experiments)
    assert found["screens.border"] == ["off", "previous-conv"]
    assert found["recipe.batch_size"][1] == "[16, 32]"
    assert not {"name", "epochs"} & set(found)


def test_long_settings_that_differ_at_their_end_are_found() -> None:
    paths = [f"images:/{'x' * 90}/{end}" for end in "ab"]
    found = different_settings([parse_experiment({"data": each}) for each in paths])
    assert list(found) == ["data"]


def test_best_so_far_follows_the_ends_and_the_device_time() -> None:
    trials = [
        trial(0, 0.6, ends=9),
        trial(1, 0.5, ends=1, seconds=120),
        trial(2, 0.9, ends=2, state=TrialState.PRUNED),
        trial(3, None, ends=3, state=TrialState.FAIL),
        trial(4, 0.4, ends=10),
        trial(5, None, ends=4, state=TrialState.PRUNED, rejected="border"),
    ]
    found = [
        (step.trials, step.device_seconds, step.best, step.number)
        for step in best_so_far(arm("one", trials))
    ]
    assert found == [(1, 60.0, 0.5, 1), (4, 150.0, 0.6, 0), (5, 180.0, 0.6, 0)]


def test_time_to_equal_accuracy_is_that_of_the_lower_best() -> None:
    slow = arm("slow", [trial(0, 0.3), trial(1, 0.5), trial(2, 0.7, seconds=180)])
    fast = arm("fast", [trial(0, 0.6)])
    assert common_accuracy([slow, fast]) == 0.6
    step = reached(slow, 0.6)
    assert step is not None
    assert step.number == 2
    rows = section([slow, fast], "Time to equal accuracy").rows
    assert rows == (("slow", "3", "2m30s", "1.00"), ("fast", "1", "30s", "0.20"))


def test_search_without_complete_trial_has_no_equal_accuracy() -> None:
    arms = [arm("one", [trial(0, 0.3)]), arm("two", [trial(0, 0.9, state=TrialState.PRUNED)])]
    assert common_accuracy(arms) is None
    assert not section(arms, "Time to equal accuracy").rows


@pytest.mark.parametrize(
    ("test", "verdict", "sure"),
    [
        ((0.8, 0.82, 0.81), "better", "exceeds every other"),
        ((0.2, 0.21, 0.22), "worse", "exceeds every other"),
        ((0.5, 0.51, 0.52), "chance may explain it", "chance may explain"),
    ],
)
def test_difference_of_winners_counts_images_and_seeds(
    test: tuple[float, ...], verdict: str, sure: str
) -> None:
    arms = [arm("one", test=(0.49, 0.5, 0.51)), arm("two", test=test)]
    assert section(arms, "Results").rows[1][-1] == verdict
    assert sure in headline(arms)


def test_winners_without_predictions_have_unknown_difference() -> None:
    arms = [arm("one", test=(0.4, 0.5)), replace(arm("two", test=(0.9, 0.9)), right=None)]
    assert section(arms, "Results").rows[1][-2:] == ("-", "unknown")
    assert "chance may explain its distance from one" in headline(arms)


def test_candidates_that_one_rejected_and_another_trained_are_shown() -> None:
    rejecting = arm("strict", [trial(0, None, state=TrialState.PRUNED, rejected="border")])
    training = arm("open", [trial(0, 0.4), trial(1, 0.5)])
    found = section([rejecting, training], "Rejected in strict, trained in open")
    assert [row[0] for row in found.rows] == ["0"]
    headings = [each.heading for each in build([rejecting, training])]
    assert "Rejected in open, trained in strict" not in headings


def test_costs_name_each_search() -> None:
    trials = [trial(0, 0.4), trial(1, 0.2, state=TrialState.PRUNED), trial(2, 0.5)]
    arms = [arm("one", trials), arm("two", trials[:1], (0.5, 0.6))]
    rows = section(arms, "Costs").rows
    assert rows[0][:8] == ("one", "3", "2", "1", "0", "0", "9", "1m30s")
    assert rows[1][:8] == ("two", "1", "1", "0", "0", "0", "3", "30s")


def test_page_overwrites_no_file(tmp_path: Path) -> None:
    arms = [arm("one"), replace(arm("two"), name="two:2026-01-01")]
    home = Home(tmp_path)
    paths = [write_page(home, arms, text) for text in ("first", "second", "third")]
    assert [path.name for path in paths] == [
        "one-vs-two-2026-01-01.html",
        "one-vs-two-2026-01-01-2.html",
        "one-vs-two-2026-01-01-3.html",
    ]
    assert [path.read_text() for path in paths] == ["first", "second", "third"]


def test_home_of_others_gets_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "read-only", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    arms = [arm("one"), arm("two")]
    line = page_line(Home(tmp_path), arms, build(arms))
    assert line == f"Web page: not written; {tmp_path} is not yours to write"


def test_page_has_both_curves_of_each_search() -> None:
    arms = [
        replace(arm(name, [trial(0, 0.5), trial(1, 0.6)]), name=f"<{name}>")
        for name in ("one", "two")
    ]
    page = render(arms, build(arms))
    assert page.count("&lt;one&gt;, trial 1: 0.6000") == 2
    assert "<one>" not in page
    assert "trained trials" in page
    assert "device minutes" in page


def test_document_names_obstacles_and_settings() -> None:
    one, two = arm("one", seed=1), replace(arm("two", seed=2), data=None)
    found = document([one, two], build([one, two]))
    assert found["arms"] == ["one", "two"]
    assert found["obstacles"] == {"two": "the data of two are not recorded"}
    assert found["settings"] == {"seed": ["1", "2"]}


@pytest.mark.parametrize("names", [["mine"], ["mine", "mine"]])
def test_search_is_not_compared_with_itself(names: list[str]) -> None:
    with pytest.raises(BadInputError, match="two or more different searches"):
        compare_command(names)


def test_page_opens_in_a_browser_without_network(tmp_path: Path) -> None:
    program = shutil.which("chromium")
    if program is None:
        lack("the Debian package chromium")
    arms = [arm(name, [trial(0, 0.5), trial(1, 0.6)], (0.5, 0.51)) for name in ("one", "two")]
    file = tmp_path / "comparison.html"
    file.write_text(render(arms, build(arms)), encoding="utf-8")
    with browser(program, tmp_path) as shown:
        shown.open(file.as_uri())
        shown.wait(lambda: shown.value("document.readyState") == "complete")
        text = shown.text()
        for section in build(arms):
            assert section.heading in text
        assert shown.value("document.querySelectorAll('svg.plot').length") == 2
        assert [url for url in shown.requests if not url.startswith("data:")] == [file.as_uri()]
        assert shown.errors == []
