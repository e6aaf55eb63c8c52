"""Makes the sampler of an experiment."""

from __future__ import annotations

from typing import cast

from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import BaseTrial

from search.experiment.schema import Experiment
from search.loop.packing import Packing
from search.loop.sampling.options import DEFAULTS, TIMED
from search.loop.sampling.proposals import ProposalTrial, random_of
from search.loop.screens import build_screens
from spaces.candidate import CandidateSpace
from spaces.errors import BadInputError, InvalidCandidateError

_DRAWS = 32
"""Draws in which a space shows whether its parameters depend on each other."""


def make_sampler(
    experiment: Experiment, seed: int, space: CandidateSpace, packing: Packing | None = None
) -> BaseSampler:
    """Return the sampler that an experiment names.

    Args:
        experiment: names the sampler and the screens.
        seed: of Optuna's samplers; another one for each driver of a search. ``auto`` needs only the
            seed of the experiment, because its suggestions depend on the number of the trial.
        space: of the candidates.
        packing: how trials share the cluster; None while it is unknown.

    Raises:
        BadInputError: the sampler does not support the space.
    """
    check_sampler(experiment, space)
    match experiment.sampler:
        case "auto":
            # It imports SciPy, which takes longer than all else that a driver of TPE imports here.
            from search.loop.sampling.network_sampler import NetworkSampler  # noqa: PLC0415

            screens = build_screens(experiment.screens, packing)
            options = TIMED if experiment.budget.limits_time else DEFAULTS
            return NetworkSampler(space, screens, experiment.seed, options)
        case "gp":
            return GPSampler(seed=seed)
        case "random":
            return RandomSampler(seed=seed)
        case _:
            return TPESampler(seed=seed)


def check_sampler(experiment: Experiment, space: CandidateSpace) -> None:
    """Check that the sampler of an experiment supports the space.

    Optuna's Gaussian process models the parameters that all trials share, and draws the others at
    random.

    Raises:
        BadInputError: it does not.
    """
    if experiment.sampler != "gp":
        return
    first: set[str] | None = None
    for number in range(_DRAWS):
        trial = ProposalTrial(random_of(experiment.seed, "check", number))
        try:
            space.draw(cast("BaseTrial", trial))
        except InvalidCandidateError:
            continue  # It may have stopped drawing.
        names = set(trial.params)
        first = names if first is None else first
        if names != first:
            odd = sorted(names ^ first)[0]
            problem = f"models fixed spaces only, but {space.name} draws {odd} for some networks"
            remedy = "use auto, which supports every space"
            raise BadInputError("sampler", "gp", problem, remedy)
