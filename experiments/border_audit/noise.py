"""Noise of a network's measured mean accuracy, from seeds and from the choice of images.

Three parts, estimated without a model of the networks:

- The seed changes the trained network. The accuracies on validation and test images, which are
  disjoint, share this part: it is their covariance over the seeds of a network.
- Each trained network is right on some images by chance. This part differs between the seeds, and
  between validation and test images.
- Each network suits some images better than others. This part is the same for all seeds, and
  differs between validation and test images. What all networks share cancels in comparisons.

The difference between validation and test accuracy contains the second part (its variance over
seeds) and the third (its variance over networks). Noise depends on the accuracy, so each network
takes the mean over the networks with the most similar accuracies.
"""

from __future__ import annotations

import numpy as np

from experiments.border_audit.networks import Floats, Networks

FEWEST_REPEATED = 10
"""Networks with two seeds that the noise of seeds needs."""
NEIGHBOURS = 60
"""Networks over which noise is averaged."""


def covers_seeds(networks: Networks) -> bool:
    """Tell whether enough networks have two seeds to estimate the noise of seeds."""
    return int(np.sum(networks.seeds >= 2)) >= FEWEST_REPEATED


def noise_variance(networks: Networks) -> Floats:
    """Return the variance of each network's mean accuracy around its expected accuracy.

    Without enough networks with two seeds (`covers_seeds`), the first part is left out, and the
    others are estimated together.

    Args:
        networks: of the table.
    """
    seeds = networks.seeds
    gap = np.nanmean(networks.validation - networks.test, axis=1)
    accuracy = networks.accuracy
    near = _neighbours(accuracy, accuracy)
    image = np.var(gap[near], axis=1, ddof=1)
    seed = image_and_seed = np.zeros(len(networks))
    if covers_seeds(networks):
        repeated = seeds >= 2
        within_both, within_gap = _within(networks)
        repeated_near = _neighbours(accuracy, accuracy[repeated])
        seed = np.mean(within_both[repeated][repeated_near], axis=1)
        image_and_seed = np.mean(within_gap[repeated][repeated_near], axis=1)
        image -= image_and_seed * np.mean(1 / seeds[near], axis=1)

    validation, test = networks.images
    to_all = validation * test / (validation + test) ** 2
    parts = np.maximum(seed, 0) / seeds + to_all * (image_and_seed / seeds + np.maximum(image, 0))
    return np.asarray(parts, np.float64)


def _within(networks: Networks) -> tuple[Floats, Floats]:
    """Return, per network over its seeds, cov(validation, test) and var(validation - test)."""
    degrees = np.maximum(networks.seeds - 1, 1)
    validation, test = (
        part - np.nanmean(part, axis=1, keepdims=True)
        for part in (networks.validation, networks.test)
    )
    covariance = np.nansum(validation * test, axis=1) / degrees
    gap = np.nansum((validation - test) ** 2, axis=1) / degrees
    return covariance, gap


def _neighbours(values: Floats, among: Floats) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Return, per value, the indices of the nearest values among others."""
    distances = np.abs(values[:, None] - among[None, :])
    return np.argsort(distances, axis=1, kind="stable")[:, :NEIGHBOURS]
