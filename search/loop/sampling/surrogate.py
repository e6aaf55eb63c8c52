"""The surrogate of one block of trials: a Gaussian process over a pool of proposals.

A block is a run of trial numbers that share hyperparameters, pool and the trials before the block.
So the expensive steps are taken once per block, and a suggestion only appends the trials since.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from search.loop.sampling.curves import Forecaster
from search.loop.sampling.gaussian_process import (
    NOISES,
    Floats,
    GaussianProcess,
    Hyperparameters,
    choose,
)
from search.loop.sampling.history import Observation, Standing
from search.loop.sampling.options import DEFAULTS, SamplerOptions
from search.loop.sampling.proposals import Proposal, features_of
from search.loop.sampling.targets import normal_scores, scalarise, standardised

MOST_OBSERVATIONS = 700
"""Trials from which the surrogate learns: the best half of them, the latest and a sample of all."""
INHERITED_EXTRA = 1.0
"""Variance that a trial of another search has beside the noise, in units of the smooth part."""
UNKNOWN_EXTRA = 1.0
"""The same for a stopped trial where the error of its prediction is unknown."""
COSTS = slice(0, 2)
"""The first two scaled features: parameters and multiply-accumulates."""
_FARTHEST = 5.0


class Scaling:
    """Standardises features by their distribution among random draws from the space.

    Features that do not vary there are left out. The scale stays the same during a search, so
    distances between candidates do not change.

    Args:
        names: of the features.
        draws: candidates at random.
        costs_only: leave out all features but parameters and multiply-accumulates.
    """

    def __init__(
        self, names: Sequence[str], draws: Sequence[Proposal], *, costs_only: bool = False
    ) -> None:
        found = features_of(draws)
        spread = found.std(axis=0)
        costs = [names.index("params"), names.index("macs")]
        varies = [i for i in range(len(names)) if spread[i] > 1e-9 and i not in costs]
        if costs_only:
            varies = []
        self._columns = np.array([*costs, *varies])
        self._mean = found.mean(axis=0)[self._columns]
        self._spread = np.where(spread[self._columns] > 1e-9, spread[self._columns], 1.0)

    def __call__(self, proposals: Sequence[Proposal]) -> Floats:
        """Return standardised features, of shape (proposals, columns)."""
        if not proposals:
            return np.zeros((0, len(self._columns)))
        scaled = (features_of(proposals)[:, self._columns] - self._mean) / self._spread
        return np.asarray(np.clip(scaled, -_FARTHEST, _FARTHEST), dtype=np.float64)


class Surrogate:
    """Scores a pool of proposals by the trials so far.

    Args:
        scaling: of the features.
        pool: the proposals.
        observations: trials before the block, by number.
        weights: of the objectives, with which the hyperparameters are chosen.
        options: of the sampler.
    """

    def __init__(
        self,
        scaling: Scaling,
        pool: Sequence[Proposal],
        observations: Sequence[Observation],
        weights: Sequence[float],
        options: SamplerOptions = DEFAULTS,
    ) -> None:
        self.pool = pool
        self._scaling = scaling
        self._options = options
        self._rows = self._seen(_subset(observations, weights))
        targets, extra = targets_of(self._rows, weights, options)
        inputs = scaling([each.proposal for each in self._rows])
        inherited = np.array([bool(each.source) for each in self._rows], dtype=bool)
        self._offset = _offset(inputs, targets, extra, inherited)
        targets[~inherited] += self._offset
        known = np.isfinite(targets)
        costs = COSTS if options.linear_mean else slice(0, 0)
        noises = NOISES if options.noise else NOISES[:1]
        hyper = choose(inputs[known], targets[known], extra[known], costs, noises)
        self._process = GaussianProcess(hyper, inputs, extra, scaling(pool), costs)

    def improvement(self, later: Sequence[Observation], weights: Sequence[float]) -> Floats:
        """Return the expected improvement of each proposal over the best trial.

        The improvement is over the best mean at a finished trial, because the largest of many noisy
        values is too high.

        Args:
            later: trials of the block, by number.
            weights: of the objectives.
        """
        appended = {each.number for each in self._rows}
        new = [each for each in self._seen(later) if each.number not in appended]
        self._rows += new
        targets, extra = targets_of(self._rows, weights, self._options)
        for each, noise in zip(new, extra[len(targets) - len(new) :], strict=True):
            self._process.append(self._scaling([each.proposal])[0], float(noise))
        targets += [0.0 if each.source else self._offset for each in self._rows]
        found = self._process.predict(targets)
        best = found.fitted[np.isfinite(targets)].max(initial=-np.inf)
        if not np.isfinite(best):
            return found.deviation
        gain = (found.mean - best) / found.deviation
        density = np.exp(-0.5 * np.square(gain)) / np.sqrt(2 * np.pi)
        return np.asarray(found.deviation * (gain * ndtr(gain) + density), dtype=np.float64)

    def _seen(self, observations: Sequence[Observation]) -> list[Observation]:
        """Return the observations of which the surrogate knows."""
        running = self._options.running
        return [each for each in observations if running or each.standing is not Standing.RUNNING]


def targets_of(
    observations: Sequence[Observation],
    weights: Sequence[float],
    options: SamplerOptions = DEFAULTS,
) -> tuple[Floats, Floats]:
    """Return the target of each trial, NaN without a value, and the variance beside the noise.

    Trials of other searches are scored among themselves: values of another task shift, but their
    order tells something.

    Args:
        observations: trials, by number.
        weights: of the objectives.
        options: of the sampler.
    """
    targets = np.full(len(observations), np.nan)
    extra = np.zeros(len(observations))
    sources: dict[str, list[int]] = {}
    for index, each in enumerate(observations):
        if each.standing in (Standing.FINISHED, Standing.STOPPED):
            sources.setdefault(each.source, []).append(index)
    for source, members in sources.items():
        values, errors = _final_values([observations[index] for index in members], options.curves)
        scores = normal_scores if options.ranks else standardised
        targets[members] = scores(scalarise(values, weights))
        spread = float(np.std(values[:, 0])) or 1.0
        extra[members] = np.nan_to_num(np.square(errors / spread), nan=UNKNOWN_EXTRA)
        if source:
            extra[members] += INHERITED_EXTRA
    return targets, extra


def _offset(inputs: Floats, targets: Floats, extra: Floats, inherited: NDArray[np.bool_]) -> float:
    """Return the mean target of the trials of this search in units of the inherited ones.

    A search that starts from other searches tries good candidates first. Scored among themselves
    these are average; the offset tells the surrogate that the others are worse.
    """
    own = ~inherited & np.isfinite(targets)
    lent = inherited & np.isfinite(targets)
    if not own.any() or not lent.any():
        return 0.0
    process = GaussianProcess(Hyperparameters(), inputs[lent], extra[lent], inputs[own], COSTS)
    return float(process.predict(targets[lent]).mean.mean())


def _final_values(observations: Sequence[Observation], curves: bool) -> tuple[Floats, Floats]:
    """Return the values of ended trials and their errors; those of stopped ones are predicted."""
    values = np.array([each.values for each in observations], dtype=np.float64)
    errors = np.zeros(len(observations))
    stopped = [i for i, each in enumerate(observations) if each.standing is Standing.STOPPED]
    if stopped and curves:
        finished = [each for each in observations if each.standing is Standing.FINISHED]
        forecaster = Forecaster([(each.curve, each.values[0]) for each in finished])
        for index in stopped:
            forecast = forecaster.predict(observations[index].curve)
            if forecast is not None:
                values[index, 0] = forecast.value
            errors[index] = forecast.error if forecast is not None else np.nan
    return values, errors


def _subset(observations: Sequence[Observation], weights: Sequence[float]) -> list[Observation]:
    """Return the trials from which is learned; those that run come last.

    A trial without a target counts as what the rows before it predict.
    """
    known = [each for each in observations if each.standing is not Standing.RUNNING]
    running = [each for each in observations if each.standing is Standing.RUNNING]
    if len(known) > MOST_OBSERVATIONS:
        part = MOST_OBSERVATIONS // 4
        values = scalarise(np.array([each.values for each in known]), weights)
        chosen = set(np.argsort(-values, kind="stable")[: 2 * part].tolist())
        chosen |= set(np.linspace(0, len(known) - 1, part).astype(int).tolist())
        chosen |= set(range(len(known) - part, len(known)))
        known = [known[index] for index in sorted(chosen)]
    return known + running[-MOST_OBSERVATIONS:]
