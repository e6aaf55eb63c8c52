"""Assembles the trials of an experiment, for a real search and for a simulated one."""

from __future__ import annotations

from collections.abc import Sequence

from search.experiment.schema import Experiment
from search.loop.asha import Asha
from search.loop.budget import Budget
from search.loop.packing import Packing
from search.loop.screens import build_screens
from search.loop.trials import Trials
from search.study.events import Observer
from search.study.study import Study
from spaces.candidate import CandidateSpace


def build_trials(
    experiment: Experiment,
    study: Study,
    space: CandidateSpace,
    packing: Packing,
    budget: Budget,
    *,
    observers: Sequence[Observer] = (),
) -> Trials:
    """Return the trials of an experiment with its screens, early stopping and budget.

    Args:
        experiment: with a known number of epochs.
        study: stores everything.
        space: to draw candidates from.
        packing: how trials share the cluster.
        budget: says when the search ends.
        observers: receive all events, in this order.
    """
    section = experiment.scheduler

    def prospect() -> float | None:
        # Only the sampler that models the network has an estimate.
        found: float | None = getattr(study.sampler, "prospect", None)
        return found

    return Trials(
        study,
        space,
        build_screens(experiment.screens, packing),
        budget=budget,
        epochs=experiment.whole_epochs,
        asha=(
            Asha(experiment.whole_epochs, section.grace_epochs, section.reduction)
            if section.name == "asha"
            else None
        ),
        seed=experiment.seed,
        duplicates=experiment.screens.duplicates,
        rule=experiment.screens.rule,
        device_fraction=packing.device_fraction,
        prospect=prospect,
        observers=observers,
    )
