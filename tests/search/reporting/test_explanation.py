"""Why a trial was rejected, stopped or failed, with the value and the limit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from search.experiment.folder import Home
from search.experiment.loading import parse_experiment
from search.loop.screens import build_screens, judge
from search.reporting.explanation import Explanation, explain_trial
from search.study.database import Database
from search.study.study import Study
from spaces.candidate import CandidateSpace
from spaces.task import Task

OPTIONS = {"depth": [1, 8], "features": [2, 6], "kernel": [3, 5]}


@pytest.fixture
def explained(
    tmp_path: Path, vgg_space: Callable[..., CandidateSpace]
) -> Callable[..., Explanation]:
    """Return a function that explains the last trial of a search, filled by a function."""

    def explain(fill: Callable[[Study, CandidateSpace], None], **fields: Any) -> Explanation:
        home = Home(tmp_path)
        document = {"name": "mine", "space": OPTIONS, "recipe": {"batch_size": [16, 32]}}
        experiment = parse_experiment({**document, "epochs": 9, **fields})
        folder = home.folder("mine")
        folder.create(experiment.to_yaml(), Task(1, 8, 8, 10))
        database = Database(folder.study, "mine")
        study = Study("mine", RandomSampler(seed=0), database=database)
        space = vgg_space()
        fill(study, space)
        database.close()
        last = study.trials()[-1].number
        return explain_trial(f"mine:{last}", home)

    return explain


def reject_first(**screens: Any) -> Callable[[Study, CandidateSpace], None]:
    """Return a function that draws until the screens reject a candidate, and stores it."""

    def fill(study: Study, space: CandidateSpace) -> None:
        section = parse_experiment({"screens": screens}).screens
        while True:
            trial = study.ask()
            candidate = space.draw(trial)
            rejection = judge(candidate, build_screens(section))
            if rejection is not None:
                facts = {"params": candidate.costs.params, "macs": candidate.costs.macs}
                attributes = {"digest": candidate.digest, "detail": rejection.detail, **facts}
                study.reject(trial, rejection.reason, rejection.violation, attributes)
                return

    return fill


@pytest.mark.parametrize(
    ("screens", "reason"),
    [
        ({"border": "off", "max_params": 300}, "params"),
        ({"border": "off", "max_macs": 5000}, "macs"),
        ({"border": "off", "min_params": 10_000}, "params"),
        ({"border": "off", "min_macs": 10_000_000}, "macs"),
        ({"border": "off", "max_memory_mb": 0.2}, "memory"),
        ({"allow_beyond": 1}, "border"),
    ],
)
def test_rejection_names_value_limit_and_remedy(
    explained: Callable[..., Explanation], screens: dict[str, Any], reason: str
) -> None:
    found = explained(reject_first(**screens), screens=screens)
    assert (found.outcome, found.reason) == ("rejected", reason)
    assert found.value is not None
    assert found.limit == list(screens.values())[-1]
    is_least = any(name.startswith("min_") for name in screens)
    assert (found.value < found.limit) == is_least
    (field,) = [name for name in screens if name != "border"]
    assert f"screens.{field}" in " ".join(found.sentences)


def test_early_stop_names_the_limit_of_its_rung(explained: Callable[..., Explanation]) -> None:
    def fill(study: Study, space: CandidateSpace) -> None:
        for accuracy in (0.9, 0.8, 0.7, 0.3):
            number = study.ask().number
            study.start(study.trial(number), {"digest": f"{number}", "share": 1.0})
            study.report(number, 1, accuracy)
        study.finish(number, TrialState.PRUNED, {"epochs": 1})

    found = explained(fill)
    assert (found.outcome, found.reason, found.value) == ("stopped early", "asha", 0.3)
    assert found.limit == pytest.approx(0.8)
    assert "after 1 epoch of 9" in found.sentences[0]
    assert "over the 4 trials" in found.sentences[1]


def test_failure_names_its_cause(explained: Callable[..., Explanation]) -> None:
    def fill(study: Study, space: CandidateSpace) -> None:
        trial = study.ask()
        study.start(trial, {"digest": "d", "share": 1.0})
        study.finish(trial.number, TrialState.FAIL, {"cause": "out of memory", "epochs": 2})

    found = explained(fill)
    assert (found.outcome, found.reason) == ("failed", "out of memory")
    assert found.sentences == ("The trial failed after 2 of 9 epochs: out of memory.",)
