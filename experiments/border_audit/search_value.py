"""The expected result of a random search over the table, exactly.

A search draws n different accepted networks, trains each with one seed and chooses the best on the
validation images. Its result is the chosen network's test accuracy with the other seeds, as of a
retrained finalist. Averages over all possible draws have a closed form, so nothing is simulated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.border_audit.networks import Floats, Mask, Networks

GROUPS = 20
"""Of the delete-a-group jackknife."""
COVERAGE = 0.9
"""Smallest share of the networks that a seed must have trained to count."""


@dataclass(frozen=True)
class Gain:
    """Difference between two expected results.

    Attributes:
        ours: expected test accuracy with the filter.
        baseline: expected test accuracy without it.
        error: standard error of their difference, by the jackknife over networks.
        trials: networks that the search with the filter trains.
    """

    ours: float
    baseline: float
    error: float
    trials: float


def expected_best(validation: Floats, test: Floats, trials: float) -> float:
    """Return the mean test accuracy of the network that a random search chooses.

    Args:
        validation: accuracy of each network, by which the search chooses.
        test: accuracy of each network, which counts.
        trials: number of different networks that the search draws; between two whole numbers, the
            result is interpolated. More than all networks count as all.
    """
    order = np.argsort(-validation, kind="stable")
    trials = min(max(trials, 1.0), float(len(order)))
    below = int(trials)
    above = min(below + 1, len(order))
    results = [float(_chances(len(order), n) @ test[order]) for n in (below, above)]
    return float(np.interp(trials - below, [0, 1], results))


def _chances(networks: int, trials: int) -> Floats:
    """Return with which probability the k-th best network is the best of those drawn."""
    chances = np.zeros(networks)
    chances[0] = trials / networks
    for k in range(1, networks - trials + 1):
        chances[k] = chances[k - 1] * (networks - k - trials + 1) / (networks - k)
    return chances


def search_gain(
    networks: Networks, rejected: Mask, trials: int, *, equal_seconds: bool = False
) -> Gain:
    """Compare a random search among the accepted networks with one among all.

    Args:
        networks: of the table.
        rejected: networks that the filter rejects.
        trials: of the search without the filter.
        equal_seconds: give the search with the filter as many trials as take the same seconds;
            otherwise, give it the same number of trials.
    """
    everything = np.ones(len(networks), np.bool_)
    group = np.arange(len(networks)) % GROUPS

    def of(kept: Mask) -> tuple[float, float, float]:
        given = float(trials)
        if equal_seconds:
            of_all, of_ours = networks.seconds[kept], networks.seconds[kept & ~rejected]
            given *= float(np.mean(of_all) / np.mean(of_ours))
        ours = _result(networks, kept & ~rejected, given)
        return ours, _result(networks, kept, trials), given

    ours, baseline, given = of(everything)
    left_out = np.array([np.subtract(*of(group != number)[:2]) for number in range(GROUPS)])
    error = np.sqrt((GROUPS - 1) / GROUPS * np.sum((left_out - left_out.mean()) ** 2))
    return Gain(ours, baseline, float(error), given)


def _result(networks: Networks, chosen: Mask, trials: float) -> float:
    """Return the mean over the seeds that choose."""
    results = []
    for seed in range(networks.validation.shape[1]):
        trained = np.isfinite(networks.validation[:, seed])
        if np.mean(trained) < COVERAGE:
            continue
        picked = chosen & trained
        others = np.delete(networks.test[picked], seed, axis=1)
        alone = np.isnan(others).all(axis=1)
        test = np.where(alone, networks.test[picked, seed], 0.0)
        test[~alone] = np.nanmean(others[~alone], axis=1)
        results.append(expected_best(networks.validation[picked, seed], test, trials))
    return float(np.mean(results))
