"""A sampler that models the network: it chooses a candidate first, then serves its parameters.

Before a trial draws anything, the sampler takes the best of a pool of proposals: candidates that
every screen accepts and that no trial has used. While the space function runs, each parameter gets
its planned value. So a suggestion is neither rejected nor a duplicate, whatever the space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from search.loop.sampling.epoch_times import relative_seconds
from search.loop.sampling.gaussian_process import Floats
from search.loop.sampling.history import History, Observation, Standing
from search.loop.sampling.options import DEFAULTS, SamplerOptions
from search.loop.sampling.proposals import Proposal, Proposer, random_of
from search.loop.sampling.scaling import Scaling
from search.loop.sampling.surrogate import COSTS, Surrogate
from search.loop.sampling.targets import draw_weights, scalarise
from search.loop.sampling.transfer import OtherTasks, best_of_each, thinned
from search.loop.screens import Screen
from search.private_apis import contains
from search.study.records import AHEAD
from spaces.candidate import CandidateSpace

KEPT_MUTATIONS = 512
"""Mutations before a block that stay in the pool. A resumed search makes them again."""
BLIND = 1.5
"""Largest draws per trial that starts before the first results: hundreds of workers start with the
largest candidates that are there, too."""
MOST_TIMED = 300
"""Trials from which the device time is predicted, the latest."""
LEAST_POOL = 64
"""Unused proposals below which more are drawn: a small space runs dry."""
LENT_PROPOSALS = 8
"""Best candidates of each other task that are proposed."""


def block_of(number: int) -> int:
    """Return the number of the first trial of the block of a trial.

    Blocks grow, because a new trial changes less the more there are.

    Example:
        >>> [block_of(number) for number in (3, 5, 77, 300, 5000)]
        [0, 4, 72, 288, 4992]
    """
    size = _size(number)
    return number - number % size


def _size(number: int) -> int:
    return 4 if number < 64 else 8 if number < 256 else 16 if number < 1024 else 32


@dataclass
class _Block:
    """The state that the trials of a block share."""

    start: int
    surrogate: Surrogate


class NetworkSampler(BaseSampler):
    """Proposes candidates by expected improvement under a Gaussian process over their features.

    Every suggestion depends on the trials of the study, its number and the seed alone, so a search
    of one trial at a time resumes as if it had never stopped. With several, a resumed search
    also knows the results that arrived after its last suggestions, and may continue otherwise.

    Args:
        space: of the candidates.
        screens: that proposals must pass.
        seed: of all choices.
        options: settings, which a benchmark varies.

    Attributes:
        prospect: by how much the next `search.study.records.AHEAD` trials are expected to improve
            the best value, estimated with the last suggestion; None if that made no estimate.
        exhausted: whether hundreds of draws found no unused candidate for the last suggestion.
    """

    def __init__(
        self,
        space: CandidateSpace,
        screens: Sequence[Screen],
        seed: int = 0,
        options: SamplerOptions = DEFAULTS,
    ) -> None:
        self.prospect: float | None = None
        self.exhausted = False
        self._space = space
        self._seed = seed
        self._options = options
        self._proposer = Proposer(space, screens)
        self._history = History(self._proposer)
        self._plans: dict[int, Proposal] = {}
        self._draws: list[Proposal] | None = None
        self._mutations: dict[int, list[Proposal]] = {}
        """By the number of the trial for which they were made."""
        self._block: _Block | None = None
        self._scaling: Scaling | None = None
        self._tasks: OtherTasks | None = None
        self._lent: list[Proposal] | None = None

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Choose the candidate of a new trial; an enqueued one keeps its parameters."""
        self._plans.clear()
        self.prospect = None
        if "fixed_params" in trial.system_attrs:
            return
        trials = study.get_trials(deepcopy=False)
        self._history.update(trials, study.directions, trial.number)
        chosen = self._choose(trial.number, len(study.directions))
        if chosen is not None:
            self._plans[trial.number] = chosen
            self._history.plan(trial.number, chosen)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return nothing: parameters are served one by one, as the space asks for them."""
        return {}

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: Mapping[str, BaseDistribution],
    ) -> dict[str, Any]:
        """Return nothing; see `infer_relative_search_space`."""
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return the planned value of a parameter; a random one where the plan has none."""
        plan = self._plans.get(trial.number)
        if plan is not None and param_name in plan.params:
            planned = plan.params[param_name]
            if contains(param_distribution, planned):
                return planned
        seed = random_of(self._seed, trial.number, param_name).getrandbits(32)
        return RandomSampler(seed=seed).sample_independent(
            study, trial, param_name, param_distribution
        )

    def _choose(self, number: int, objectives: int) -> Proposal | None:
        """Return the candidate of a trial; None if no unused one was found."""
        draws = self._random_draws()
        if not draws:
            return None
        start = self._options.start
        ended = self._history.ended(start)
        if ended < start:
            chosen = self._start(draws)
            if chosen is not None and (len(self._history.used) < start or ended < start // 2):
                return chosen
        weights = self._weights(number, objectives)
        start = self._start_of(number)
        surrogate = self._enter_block(start, number, objectives)
        unused = [each.digest not in self._history.used for each in surrogate.pool]
        if not any(unused):
            random = random_of(self._seed, number, "last")
            more = self._proposer.at_random(random, LEAST_POOL, self._history.used)
            self.exhausted = not more
            return more[0] if more else None
        later = _of_this_task(self._history.between(start, number))
        gains = surrogate.improvement(later, weights)
        gains = self._per_second(gains, surrogate, number)
        if objectives == 1:
            self.prospect = surrogate.prospect(unused, AHEAD)
        return surrogate.pool[int(np.argmax(np.where(unused, gains, -np.inf)))]

    def _per_second(self, gains: Floats, surrogate: Surrogate, number: int) -> Floats:
        """Return improvements relative to the predicted device time, if the options say so."""
        if not self._options.cost_exponent or self._scaling is None:
            return gains
        known = self._history.between(0, number)
        timed = [each for each in known if each.epoch_seconds > 0][-MOST_TIMED:]
        inputs, pool = (
            self._scaling(proposals)[:, COSTS]
            for proposals in ([each.proposal for each in timed], surrogate.pool)
        )
        seconds = relative_seconds(timed, inputs, pool)
        if seconds is None:
            return gains
        return np.asarray(gains / seconds**self._options.cost_exponent, dtype=np.float64)

    def _start(self, draws: Sequence[Proposal]) -> Proposal | None:
        """Return an unused one of the largest draws, which are in random order."""
        most = max(self._options.start, int(self._options.largest * len(draws)))
        if len(self._history.used) >= self._options.start:
            most = max(most, int(BLIND * len(self._history.used)) + 1)
        least = sorted((each.macs for each in draws), reverse=True)[:most][-1]
        for each in draws:
            if each.macs >= least and each.digest not in self._history.used:
                return each
        return None

    def _random_draws(self) -> list[Proposal]:
        if self._draws is None:
            random = random_of(self._seed, "draws")
            self._draws = self._proposer.at_random(random, self._options.draws)
        return self._draws

    def _start_of(self, number: int) -> int:
        """Return the number of the first trial of a block; inherited trials belong to none."""
        inherited = self._history.inherited
        return inherited + block_of(number - inherited) if number > inherited else number

    def _enter_block(self, start: int, number: int, objectives: int) -> Surrogate:
        """Return the surrogate of a block, with the mutations up to a trial."""
        self._make_mutations(start, number, objectives)
        if self._block is None or self._block.start != start:
            before = self._history.between(0, start)
            weights = self._weights(start, objectives)
            if self._scaling is None:
                self._scaling = Scaling(
                    self._space.feature_names,
                    self._random_draws(),
                    costs_only=not self._options.network_features,
                )
            pool = self._pool(start, before)
            own = _of_this_task(before)
            tasks = self._other_tasks(before, self._scaling)
            surrogate = Surrogate(self._scaling, pool, own, weights, self._options, tasks)
            self._block = _Block(start, surrogate)
        used = self._history.used
        for each in range(start, number + 1):
            new = [one for one in self._mutations[each] if one.digest not in used]
            self._block.surrogate.extend(new)
        return self._block.surrogate

    def _other_tasks(
        self, observations: Sequence[Observation], scaling: Scaling
    ) -> OtherTasks | None:
        """Return what trials of other tasks tell; they all ended before the search began."""
        if self._tasks is None:
            lent = thinned([each for each in observations if each.source and each.values])
            if lent:
                inputs = scaling([each.proposal for each in lent])
                self._tasks = OtherTasks(lent, inputs, COSTS)
        return self._tasks

    def _pool(self, start: int, observations: Sequence[Observation]) -> list[Proposal]:
        """Return the draws and the mutations before a block, without used candidates."""
        found = {each.digest: each for each in self._random_draws()}
        found.update((each.digest, each) for each in self._lent_proposals(observations))
        for number, mutations in self._mutations.items():
            if number < start:
                found.update((each.digest, each) for each in mutations)
        used = {digest for digest, first in self._history.used.items() if first < start}
        pool = [each for digest, each in found.items() if digest not in used]
        if len(pool) < LEAST_POOL:
            avoid = used | {each.digest for each in pool}
            pool += self._proposer.at_random(
                random_of(self._seed, start, "more"), LEAST_POOL, avoid
            )
        return pool

    def _lent_proposals(self, observations: Sequence[Observation]) -> list[Proposal]:
        """Return the best candidates of other searches; all of these trials have ended."""
        if self._lent is None:
            ended = (Standing.FINISHED, Standing.STOPPED)
            lent = [each for each in observations if each.inherited and each.standing in ended]
            best = [each.proposal for each in best_of_each(lent, LENT_PROPOSALS)]
            self._lent = [each for each in best if self._proposer.accepts(each)]
        return self._lent

    def _make_mutations(self, start: int, number: int, objectives: int) -> None:
        """Mutate the best trials before each of the latest numbers, up to a number."""
        per_trial = self._mutations_per_trial(start)
        first = max(start - KEPT_MUTATIONS // max(per_trial, 1), self._history.inherited)
        kept = {}
        for each in range(first, number + 1):
            known = self._mutations.get(each)
            kept[each] = self._mutate(each, objectives) if known is None else known
        self._mutations = kept

    def _mutate(self, number: int, objectives: int) -> list[Proposal]:
        observations = self._history.between(0, number)
        ended = [each for each in observations if each.standing is Standing.FINISHED]
        most = self._options.parents
        best = self._best(_of_this_task(ended), self._weights(number, objectives))
        lent = best_of_each([each for each in ended if each.source], most)
        parents = [each.proposal.params for each in [*best, *lent][:most]]
        count = self._mutations_per_trial(number)
        if not parents or not count:
            return []
        return self._proposer.mutated(random_of(self._seed, number), parents, count)

    def _best(
        self, observations: Sequence[Observation], weights: Sequence[float]
    ) -> list[Observation]:
        """Return the trials that are mutated, best first."""
        most = self._options.parents
        if len(weights) == 1:  # Much faster than arrays of thousands of trials.
            return nlargest(most, observations, key=lambda each: each.values[0])
        if not observations:
            return []
        values = scalarise(np.array([each.values for each in observations]), weights)
        return [observations[index] for index in np.argsort(-values, kind="stable")[:most]]

    def _mutations_per_trial(self, number: int) -> int:
        if not self._options.mutations:
            return 0
        size = _size(max(number - self._history.inherited, 0))
        return max(self._options.least_mutations // size, self._options.mutations)

    def _weights(self, number: int, objectives: int) -> list[float]:
        random = random_of(self._seed, number, "weights")
        return draw_weights([random.random() for _ in range(objectives)])


def _of_this_task(observations: Sequence[Observation]) -> list[Observation]:
    return [each for each in observations if not each.source]
