"""The surrogate of one block of trials: a Gaussian process over a pool of proposals.

A block is a run of trial numbers that share hyperparameters, pool and the trials before the block.
So the expensive steps are taken once per block, and a suggestion only appends the trials since.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from search.loop.sampling.gaussian_process import NOISES, Floats, GaussianProcess, choose
from search.loop.sampling.history import Observation, Standing
from search.loop.sampling.options import DEFAULTS, SamplerOptions
from search.loop.sampling.proposals import Proposal
from search.loop.sampling.prospect import FEWEST, accuracy_per_score, expected_gain
from search.loop.sampling.scaling import Scaling
from search.loop.sampling.targets import scalarise, targets_of
from search.loop.sampling.transfer import OtherTasks

MOST_OBSERVATIONS = 400
"""Trials from which the surrogate learns: the best half of them, the latest and a sample of all."""
COSTS = slice(0, 2)
"""The first two scaled features: parameters and multiply-accumulates."""


class _Latest(NamedTuple):
    """The last prediction of a surrogate, in the units of the scores."""

    mean: Floats
    """At each proposal."""
    deviation: Floats
    """At each proposal."""
    best: float
    """Mean at the best trial."""
    scores: Floats
    """Of the trials."""


class Surrogate:
    """Scores a pool of proposals by the trials so far.

    Args:
        scaling: of the features.
        pool: the proposals.
        observations: trials of this task before the block, by number.
        weights: of the objectives, with which the hyperparameters are chosen.
        options: of the sampler.
        tasks: trials of other tasks; None for none.
    """

    def __init__(
        self,
        scaling: Scaling,
        pool: Sequence[Proposal],
        observations: Sequence[Observation],
        weights: Sequence[float],
        options: SamplerOptions = DEFAULTS,
        tasks: OtherTasks | None = None,
    ) -> None:
        self.pool = list(pool)
        self._digests = {each.digest for each in pool}
        self._scaling = scaling
        self._options = options
        self._rows = self._seen(_subset(observations, weights))
        targets, extra = targets_of(self._rows, weights, options)
        inputs = scaling([each.proposal for each in self._rows])
        candidates = scaling(pool)
        self._prior = tasks.prior_mean(candidates, inputs) if tasks else None
        if self._prior is not None:
            targets = self._prior.explain(targets, weights).residuals
        known = np.isfinite(targets)
        costs = COSTS if options.linear_mean else slice(0, 0)
        noises = NOISES if options.noise else NOISES[:1]
        hyper = choose(inputs[known], targets[known], extra[known], costs, noises)
        self._process = GaussianProcess(hyper, inputs, extra, candidates, costs)
        self._appended = [each.standing for each in self._rows]
        """Standing of each trial when it was appended."""
        self._latest: _Latest | None = None

    def extend(self, proposals: Sequence[Proposal]) -> None:
        """Add proposals to the pool; those that it holds are left out."""
        new = [each for each in proposals if each.digest not in self._digests]
        if new:
            self.pool += new
            self._digests.update(each.digest for each in new)
            candidates = self._scaling(new)
            self._process.extend(candidates)
            if self._prior is not None:
                self._prior.extend(candidates)

    def improvement(self, later: Sequence[Observation], weights: Sequence[float]) -> Floats:
        """Return the expected improvement of each proposal over the best trial.

        The improvement is over the best mean at a finished trial, because the largest of many noisy
        values is too high. Trials that another search trained do not count: this search needs its
        own.

        Args:
            later: trials of this task in the block, by number.
            weights: of the objectives.
        """
        appended = {each.number for each in self._rows}
        self._rows += [each for each in self._seen(later) if each.number not in appended]
        targets, extra = targets_of(self._rows, weights, self._options)
        self._append(extra)
        mean, fitted = np.zeros(len(self.pool)), np.zeros(len(targets))
        shift = fitted
        if self._prior is not None:
            explained = self._prior.explain(targets, weights)
            targets, mean, fitted = explained.residuals, explained.at_pool, explained.at_rows
            shift = fitted
        found = self._process.predict(targets)
        mean, fitted = mean + found.mean, fitted + found.fitted
        known = np.isfinite(targets)
        own = known & np.array([not each.inherited for each in self._rows], dtype=bool)
        if not known.any():
            self._latest = None
            # Of equal candidates, those far from running trials come first.
            alone = found.deviation / self._process.prior_deviation
            return np.asarray(mean + alone / alone.max(), dtype=np.float64)
        best = fitted[own if own.any() else known].max()
        self._latest = _Latest(mean, found.deviation, float(best), targets + shift)
        gain = (mean - best) / found.deviation
        density = np.exp(-0.5 * np.square(gain)) / np.sqrt(2 * np.pi)
        return np.asarray(found.deviation * (gain * ndtr(gain) + density), dtype=np.float64)

    def prospect(self, unused: Sequence[bool], trials: int) -> float | None:
        """Return the expected improvement of the best value by further trials.

        Args:
            unused: for each proposal, whether it can be tried.
            trials: how many are tried.

        Returns:
            The improvement in units of the first objective; None before
            `search.loop.sampling.prospect.FEWEST` trials of this search have finished.
        """
        finished = [
            index
            for index, each in enumerate(self._rows)
            if each.standing is Standing.FINISHED and not each.inherited
        ]
        if self._latest is None or len(finished) < FEWEST:
            return None
        latest, free = self._latest, np.array(unused, dtype=bool)
        gain = expected_gain(latest.mean[free], latest.deviation[free], latest.best, trials)
        values = [self._rows[index].values[0] for index in finished]
        return gain * accuracy_per_score(values, latest.scores[finished])

    def _append(self, extra: Floats) -> None:
        """Append the new trials, and again those that stopped early since they were appended.

        The value of a stopped trial is predicted from its curve, which adds to its noise.
        """
        for index, standing in enumerate(self._appended):
            if standing is Standing.RUNNING and self._rows[index].standing is Standing.STOPPED:
                del self._appended[index:]
                self._process.truncate(index)
                break
        placed = 0 if self._prior is None else self._prior.observations
        for index in range(len(self._appended), len(self._rows)):
            row = self._scaling([self._rows[index].proposal])[0]
            self._process.append(row, float(extra[index]))
            self._appended.append(self._rows[index].standing)
            if self._prior is not None and index >= placed:
                self._prior.append(row)

    def _seen(self, observations: Sequence[Observation]) -> list[Observation]:
        """Return the observations of which the surrogate knows."""
        running = self._options.running
        return [each for each in observations if running or each.standing is not Standing.RUNNING]


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
