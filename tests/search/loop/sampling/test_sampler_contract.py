"""What every sampler holds: Optuna's own test cases, and ours for all names of an experiment."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase
from optuna.trial import TrialState

from search.experiment.loading import parse_experiment
from search.experiment.objectives import ACCURACY, Objective
from search.loop import samplers
from search.loop.samplers import make_sampler
from search.loop.sampling.history import Observation, Standing
from search.loop.sampling.network_sampler import NetworkSampler
from search.loop.sampling.options import SamplerOptions
from search.loop.sampling.proposals import Proposer, random_of
from search.study.records import TrialAttributes
from search.study.study import Study
from spaces.architecture import Architecture, Builder
from spaces.candidate import CandidateSpace
from spaces.operations import Convolution, GlobalPooling, Linear
from spaces.task import Task

TASK = Task(3, 8, 8, 10)
FIXED = {"learning_rate": 0.1, "weight_decay": 0.0}
SMALL = SamplerOptions(draws=32, start=3, mutations=2, least_mutations=4)
NAMES = ("auto", "tpe", "gp", "random")


def widths(trial: optuna.trial.BaseTrial, task: Task) -> Architecture:
    """Draw one of 4,096 networks of two layers."""
    builder = Builder(task.image_shape)
    x = builder.add(Convolution(trial.suggest_int("first", 1, 64)), builder.image)
    x = builder.add(Convolution(trial.suggest_int("second", 1, 64)), x)
    builder.add(Linear(task.classes), builder.add(GlobalPooling(), x))
    return builder.build()


SPACE = CandidateSpace(TASK, widths, {}, FIXED)


class _Foreign:
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        """Return the sampler, whose space draws other parameters than Optuna's objectives."""
        return lambda: NetworkSampler(SPACE, [], 0, SMALL)


class TestOptunaBasics(_Foreign, BasicSamplerTestCase):
    """Parameters that no space of ours draws are drawn at random, and belong to their range."""


class TestOptunaSeveralObjectives(_Foreign, MultiObjectiveSamplerTestCase):
    """The same with several objectives."""


@pytest.fixture(autouse=True)
def _small_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samplers, "DEFAULTS", SMALL)


def new_study(name: str, seed: int = 0, objectives: Sequence[Objective] = ACCURACY) -> Study:
    experiment = parse_experiment({"sampler": name, "seed": seed})
    return Study("contract", make_sampler(experiment, seed, SPACE), objectives=objectives)


def run(study: Study, trials: int) -> list[dict[str, Any]]:
    """Run trials that end in every way, and return the parameters of all."""
    costs = len(study.objectives) - 1
    for _ in range(trials):
        trial = study.ask()
        candidate = SPACE.draw(trial)
        if trial.number % 5 == 4:
            study.reject(trial, "params", 0.5, TrialAttributes())
            continue
        study.start(trial, TrialAttributes(digest=candidate.digest))
        if trial.number % 5 == 3:
            continue  # It stays in training.
        study.report(trial.number, 1, 0.01 * trial.params["first"])
        state = TrialState.PRUNED if trial.number % 5 == 1 else TrialState.COMPLETE
        cause = TrialAttributes(cause="broken") if trial.number % 5 == 2 else TrialAttributes()
        state = TrialState.FAIL if cause else state
        study.finish(trial.number, state, cause, costs=[1.0 * trial.params["second"]] * costs)
    return [dict(trial.params) for trial in study.trials()]


@pytest.mark.parametrize("name", NAMES)
def test_draws_repeat_with_seed_and_history(name: str) -> None:
    assert run(new_study(name), 12) == run(new_study(name), 12)
    assert run(new_study(name), 2) != run(new_study(name, seed=1), 2)


@pytest.mark.parametrize("name", NAMES)
def test_every_ending_of_a_trial_is_accepted(name: str) -> None:
    found = run(new_study(name), 12)
    assert all(1 <= params[each] <= 64 for params in found for each in ("first", "second"))


@pytest.mark.parametrize("name", ["auto", "tpe", "random"])
def test_several_objectives_are_accepted(name: str) -> None:
    assert len(run(new_study(name, objectives=("accuracy", "params")), 12)) == 12


@pytest.mark.parametrize("name", NAMES)
def test_enqueued_parameters_come_first(name: str) -> None:
    study = new_study(name)
    study.enqueue({"first": 7, "second": 9})
    assert run(study, 2)[0] == {"first": 7, "second": 9}


@pytest.mark.parametrize("name", NAMES)
def test_stored_search_continues(name: str) -> None:
    before, after = new_study(name), new_study(name, seed=5)
    run(before, 7)
    after.restore(before.trials())
    assert len(run(after, 3)) == 10


def test_ten_thousand_trials_cost_little_per_suggestion() -> None:
    """50 ms are the goal on a fast core; the bound allows for slow ones."""
    sampler = NetworkSampler(SPACE, [], 0, SMALL)
    known = Proposer(SPACE, []).at_random(random_of(1), 200)
    sampler._history.observations = {
        number: Observation(
            number, known[number % 200], Standing.FINISHED, (known[number % 200].macs + number,)
        )
        for number in range(9_984)
    }
    sampler._history.used = {each.digest: 0 for each in known}
    sampler._choose(9_984, 1)
    before = time.process_time()
    for number in range(9_985, 9_995):
        assert sampler._choose(number, 1) is not None
    assert time.process_time() - before < 10 * 0.25
