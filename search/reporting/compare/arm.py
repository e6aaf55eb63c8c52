"""One arm of a comparison: a search, or a night of a search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from search.experiment.folder import Home, SearchFolder
from search.experiment.schema import Experiment
from search.reporting.stored_search import StoredSearch
from search.study.finalists import Finalist, FinalistStore
from search.study.records import TrialRecord
from search.study.summary import Summary, summarise
from search.tracking.journal_reader import worked_seconds
from trainables.data_identity import DataIdentity


@dataclass(frozen=True)
class Arm:
    """A search, or a night of a search, as a comparison sees it.

    Attributes:
        name: shown to people.
        state: running, finished, failed or interrupted.
        experiment: of the search.
        data: identity of its data; None if an older version started the search.
        trials: that it drew.
        finalists: best first.
        right: whether each training of the first finalist is right about each test image that is
            known, bool [trainings, images]; None if it is unknown.
        driver_seconds: time that drivers worked.
    """

    name: str
    state: str
    experiment: Experiment
    data: DataIdentity | None
    trials: Sequence[FrozenTrial]
    finalists: Sequence[Finalist] = ()
    right: NDArray[np.bool_] | None = None
    driver_seconds: float = 0.0

    @cached_property
    def summary(self) -> Summary:
        """Summary of its trials."""
        return summarise(self.trials)

    @cached_property
    def ended(self) -> list[TrialRecord]:
        """Trained trials in the order of their ends."""
        over = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        records = [TrialRecord.of(trial) for trial in self.trials]
        found = [each for each in records if each.is_trained and each.outcome in over]
        return sorted(found, key=lambda each: (each.ended_at, each.number))

    @cached_property
    def device_seconds(self) -> float:
        """Device time of its trials."""
        return self.summary.savings.trained_seconds


def search_arm(home: Home, name: str) -> Arm:
    """Return a stored search as an arm.

    Raises:
        BadInputError: there is no such search, or it cannot be read.
    """
    stored = StoredSearch(home.existing(name))
    folder, finalists = stored.folder, stored.finalists
    return Arm(
        name,
        stored.state,
        stored.experiment,
        folder.data,
        stored.trials,
        finalists,
        read_right(folder, finalists[0]) if finalists else None,
        worked_seconds(folder.journal),
    )


def read_right(folder: SearchFolder, finalist: Finalist) -> NDArray[np.bool_] | None:
    """Return whether each training of a finalist is right about each test image.

    The labels are those of the images that the baseline was scored on.

    Returns:
        bool [trainings, images]; None without a baseline, or without all predictions.
    """
    baseline, store = folder.baseline, FinalistStore(folder.finalists)
    if baseline is None or len(baseline.rows) < 2:
        return None
    rows, labels = np.array(baseline.rows), np.array(baseline.labels)
    found = [store.predictions(finalist.number, each.seed) for each in finalist.results]
    known = [each[rows] for each in found if each is not None and len(each) > rows[-1]]
    if not known or len(known) < len(found):
        return None
    right: NDArray[np.bool_] = np.stack(known) == labels
    return right
