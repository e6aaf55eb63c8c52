"""The sampler in a study: distinct, screened, repeatable suggestions for any space."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search.experiment.objectives import ACCURACY, Objective
from search.loop.sampling.network_sampler import NetworkSampler, block_of
from search.loop.sampling.options import SamplerOptions
from search.loop.screens import CostScreen, Screen, judge, reject_collapsed
from search.loop.simulation import simulate
from search.study.events import Observer
from search.study.records import Rejection, TrialAttributes
from search.study.study import Study
from spaces.architecture import Architecture, Builder
from spaces.candidate import Candidate, CandidateSpace
from spaces.errors import InvalidCandidateError
from spaces.operations import Activation, Convolution, GlobalPooling, Linear, Pooling
from spaces.task import Task

TASK = Task(3, 16, 16, 10)
FIXED = {"learning_rate": 0.1, "weight_decay": 0.0}
LIMIT = CostScreen(None, 700_000, None)
SMALL = SamplerOptions(draws=96, mutations=4, least_mutations=16)
START = SMALL.start


def conditional(trial: optuna.trial.BaseTrial, task: Task) -> Architecture:
    """Draw other parameters for other depths; a kernel that does not fit is invalid."""
    builder = Builder(task.image_shape)
    x = builder.image
    for number in range(trial.suggest_int("depth", 1, 4)):
        kernel = trial.suggest_categorical(f"kernel_{number}", (1, 3, 5))
        padding = (kernel // 2,) * 2
        width = trial.suggest_int(f"width_{number}", 2, 64, log=True)
        conv = Convolution(width, (kernel, kernel), (1, 1), padding)
        x = builder.add(Activation("relu"), builder.add(conv, x))
        if trial.suggest_categorical(f"pool_{number}", (False, True)):
            x = builder.add(Pooling(), x)
        if kernel == 5 and number == 3:
            raise InvalidCandidateError("a last kernel of 5", 1.0)
    builder.add(Linear(task.classes), builder.add(GlobalPooling(), x))
    return builder.build()


def few(trial: optuna.trial.BaseTrial, task: Task) -> Architecture:
    """Draw one of 12 networks."""
    builder = Builder(task.image_shape)
    width = 8 * trial.suggest_int("width", 1, 12)
    x = builder.add(Convolution(width), builder.image)
    builder.add(Linear(task.classes), builder.add(GlobalPooling(), x))
    return builder.build()


SPACE = CandidateSpace(TASK, conditional, {}, FIXED)
SCREENS: Sequence[Screen] = (reject_collapsed, LIMIT)


def accuracy(candidate: Candidate) -> float:
    """Wide networks with one or two poolings are best."""
    poolings = len(candidate.architecture.indices(Pooling))
    return math.log2(candidate.costs.params) - abs(poolings - 1.5)


def new_study(seed: int = 0, objectives: Sequence[Objective] = ACCURACY) -> Study:
    sampler = NetworkSampler(SPACE, SCREENS, seed, SMALL)
    return Study("study", sampler, objectives=objectives)


def begin(study: Study) -> tuple[int, Candidate]:
    trial = study.ask()
    candidate = SPACE.draw(trial)
    study.start(trial, TrialAttributes(digest=candidate.digest))
    return trial.number, candidate


def end(
    study: Study,
    number: int,
    candidate: Candidate,
    state: TrialState = TrialState.COMPLETE,
    costs: Sequence[float] = (),
) -> None:
    study.report(number, 1, accuracy(candidate))
    study.finish(number, state, TrialAttributes(), costs=costs)


def run(study: Study, trials: int, *, costly: bool = False) -> list[Mapping[str, Any]]:
    """Run a study one trial at a time and return all parameters."""
    for _ in range(trials):
        number, candidate = begin(study)
        end(study, number, candidate, costs=[float(candidate.costs.macs)] if costly else ())
    return [trial.params for trial in study.trials()]


def test_suggestions_are_new_and_pass_the_screens() -> None:
    study, digests = new_study(), set()
    for _ in range(40):
        number, candidate = begin(study)
        assert judge(candidate, SCREENS) is None
        assert candidate.digest not in digests
        digests.add(candidate.digest)
        end(study, number, candidate)


def test_suggestions_repeat_with_their_seed() -> None:
    assert run(new_study(1), 20) == run(new_study(1), 20)
    assert run(new_study(1), 3) != run(new_study(2), 3)


@pytest.mark.parametrize("cut", [3, 13, 22])
def test_resumed_study_continues_as_if_never_stopped(cut: int) -> None:
    whole = run(new_study(), 28)
    first, second = new_study(), new_study()
    run(first, cut)
    second.restore(first.trials())
    assert run(second, 28 - cut) == whole


def test_resumed_study_of_several_objectives_continues_alike() -> None:
    objectives = ("accuracy", "macs")
    whole = run(new_study(objectives=objectives), 28, costly=True)
    first, second = (new_study(objectives=objectives) for _ in range(2))
    run(first, 22, costly=True)
    second.restore(first.trials())
    assert run(second, 6, costly=True) == whole


def lent_trials(sign: float = 1.0) -> list[optuna.trial.FrozenTrial]:
    """Trials of a search on another task, whose accuracies have another scale."""
    lender = new_study(7)
    run(lender, 24)
    return [
        optuna.trial.create_trial(
            state=TrialState.COMPLETE,
            params=trial.params,
            distributions=trial.distributions,
            value=sign * trial.value / 100 - 3,
            user_attrs={"inherited": "lender", "inherited_number": trial.number},
        )
        for trial in lender.trials()
    ]


def warm_study() -> Study:
    study = new_study()
    for trial in lent_trials():
        study.add(trial)
    return study


def test_inherited_trials_belong_to_their_own_task_unless_marked() -> None:
    for attributes, source in (({}, "lender"), ({"same_task": True}, "")):
        study = new_study()
        for trial in lent_trials()[:9]:
            trial.user_attrs.update(attributes)
            study.add(trial)
        begin(study)
        sampler = study.sampler
        assert isinstance(sampler, NetworkSampler)
        known = sampler._history.observations[0]
        assert (known.source, known.inherited) == (source, True)


def test_warm_started_search_begins_with_a_good_candidate() -> None:
    study, lender = warm_study(), new_study(7)
    run(study, 1)
    run(lender, 24)
    known = sorted((trial.value for trial in lender.trials()), reverse=True)
    assert study.trials()[-1].value >= known[5]


def test_warm_started_search_resumes_as_if_never_stopped() -> None:
    whole = run(warm_study(), 14)
    first, second = warm_study(), new_study()
    run(first, 5)
    second.restore(first.trials())
    assert run(second, 9) == whole


def test_warm_started_search_serves_parallel_trials_at_once() -> None:
    study = warm_study()
    assert len({begin(study)[1].digest for _ in range(8)}) == 8


def test_expected_improvement_falls_during_a_search() -> None:
    study = new_study()
    sampler = study.sampler
    assert isinstance(sampler, NetworkSampler)
    run(study, 10)
    assert sampler.prospect is None
    run(study, 1)
    early = sampler.prospect
    run(study, 35)
    assert early is not None
    assert sampler.prospect is not None
    assert 0 <= sampler.prospect < 0.8 * early


def test_search_starts_among_the_largest_that_the_screens_allow() -> None:
    study = new_study()
    macs = sorted(begin(study)[1].costs.macs for _ in range(START))
    draws = NetworkSampler(SPACE, SCREENS, options=SMALL)._random_draws()
    assert macs[0] >= sorted(each.macs for each in draws)[-START]


def test_many_workers_start_with_the_largest_half() -> None:
    study = new_study()
    draws = NetworkSampler(SPACE, SCREENS, options=SMALL)._random_draws()
    macs = [begin(study)[1].costs.macs for _ in range(len(draws) // 3)]
    assert min(macs) >= sorted(each.macs for each in draws)[len(draws) // 2]


def test_running_trials_get_distinct_candidates() -> None:
    study = new_study()
    run(study, 12)
    digests = {begin(study)[1].digest for _ in range(30)}
    assert len(digests) == 30


def test_failed_trials_are_ignored_and_not_repeated() -> None:
    study, failed = new_study(), set()
    for index in range(30):
        number, candidate = begin(study)
        assert candidate.digest not in failed
        if index % 3:
            failed.add(candidate.digest)
            study.finish(number, TrialState.FAIL, TrialAttributes(cause="broken"))
        else:
            end(study, number, candidate)


def test_candidates_without_enough_memory_are_avoided() -> None:
    study, fits = new_study(), []
    for _ in range(32):
        number, candidate = begin(study)
        excess = candidate.costs.macs / 100_000 - 1
        fits.append(excess <= 0)
        if excess <= 0:
            end(study, number, candidate)
        else:
            broken = TrialAttributes(cause="out of memory")
            study.finish(number, TrialState.FAIL, broken, constraints={"memory": excess})
    assert not any(fits[: START // 2])
    assert sum(fits[-16:]) >= 12


def test_sampler_finds_better_networks_than_random_draws() -> None:
    study = new_study()
    run(study, 40)
    found = [trial.value for trial in study.trials()]
    draws = NetworkSampler(SPACE, SCREENS, 5, SMALL)._random_draws()
    assert max(found) > max(accuracy(SPACE.rebuild(each.params)) for each in draws)


def test_enqueued_parameters_come_first() -> None:
    study = new_study()
    enqueued = {"depth": 1, "kernel_0": 3, "width_0": 7, "pool_0": True}
    study.enqueue(enqueued)
    assert run(study, 12)[0] == enqueued


def test_missing_enqueued_parameters_are_drawn_alike() -> None:
    drawn = []
    for _ in range(2):
        study = new_study()
        study.enqueue({"depth": 3})
        drawn.append(run(study, 1)[0])
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 10


def test_small_space_is_searched_to_its_end_without_a_duplicate() -> None:
    space = CandidateSpace(TASK, few, {}, FIXED)
    sampler = NetworkSampler(space, [], 0, SMALL)
    results = simulate(
        few, TASK, lambda candidate, *_: candidate.costs.macs, trials=12, sampler=sampler
    )
    # Rejected draws would be numbered, too.
    study = Study("few", NetworkSampler(space, [], 0, SMALL))
    digests = set()
    for _ in range(12):
        trial = study.ask()
        candidate = space.draw(trial)
        digests.add(candidate.digest)
        study.start(trial, TrialAttributes(digest=candidate.digest))
        study.report(trial.number, 1, float(candidate.costs.macs))
        study.finish(trial.number, TrialState.COMPLETE, TrialAttributes())
    assert len(digests) == len(results) == 12
    space.draw(study.ask())  # Nothing is left: the draw repeats one, and a search rejects it.


def test_exhausted_space_ends_a_search_after_one_further_draw() -> None:
    rejected: list[int] = []

    class Counter(Observer):
        def rejected(self, number: int, rejection: Rejection) -> None:
            rejected.append(number)

    def costs(candidate: Candidate, params: Mapping[str, Any], epoch: int) -> float:
        return float(candidate.costs.macs)

    found = simulate(few, TASK, costs, trials=50, observers=[Counter()])
    assert len(found) == 12
    assert len(rejected) == 1


def test_several_objectives_reach_both_ends() -> None:
    study = new_study(objectives=("accuracy", "macs"))
    costs = []
    for _ in range(40):
        number, candidate = begin(study)
        end(study, number, candidate, costs=[float(candidate.costs.macs)])
        costs.append(candidate.costs.macs)
    later = costs[START:]
    assert min(later) < 0.02 * LIMIT.max_macs < 0.5 * LIMIT.max_macs < max(later)


def test_stopped_trials_of_several_objectives_are_learned_from() -> None:
    study = new_study(objectives=("accuracy", "macs"))
    for index in range(16):
        number, candidate = begin(study)
        state = TrialState.PRUNED if index % 2 else TrialState.COMPLETE
        end(study, number, candidate, state, [float(candidate.costs.macs)])
    assert judge(begin(study)[1], SCREENS) is None


def test_trials_of_a_plain_optuna_study_work_by_ask_and_tell() -> None:
    study = optuna.create_study(
        direction="minimize", sampler=NetworkSampler(SPACE, SCREENS, options=SMALL)
    )
    for _ in range(14):
        trial = study.ask()
        study.tell(trial, -accuracy(SPACE.draw(trial)))
    assert len({SPACE.rebuild(trial.params).digest for trial in study.trials}) == 14


def test_blocks_are_a_partition_of_all_numbers() -> None:
    for number in range(2100):
        start = block_of(number)
        assert start <= number
        assert block_of(start) == start
        assert number == 0 or block_of(number) in (number, block_of(number - 1))


def test_space_may_add_features() -> None:
    def added(architecture: Architecture) -> Mapping[str, float]:
        return {"layers": float(len(architecture.layers))}

    def own(trial: optuna.trial.BaseTrial, task: Task) -> Architecture:
        return conditional(trial, task)

    own.features = added  # type: ignore[attr-defined]
    space = CandidateSpace(TASK, own, {}, FIXED)
    study = Study("own", NetworkSampler(space, SCREENS, options=SMALL))
    space.draw(study.ask())
    assert space.feature_names[-1] == "layers"
