"""A stored search: what its folder and database tell without a driver."""

from __future__ import annotations

from optuna.trial import FrozenTrial, TrialState

from search.experiment.folder import SearchFolder
from search.experiment.loading import load_stored
from search.experiment.training_spec import describe_training
from search.reporting.additional_results import AdditionalResult, read_additional
from search.study.file_lock import DriverFileLock
from search.study.finalists import Finalist, read_results
from search.study.storages import is_written, read_trials
from search.tracking.journal_reader import last_status
from spaces.candidate import CandidateSpace

_ENDINGS: dict[str | None, str] = {"FINISHED": "finished", "FAILED": "failed"}


class StoredSearch:
    """A stored search, running or not.

    Args:
        folder: of the search.
        ended_as: failed or interrupted, if its driver is known to have ended so; else empty.

    Attributes:
        state: running, finished, failed or interrupted; a search is interrupted if its driver died.
    """

    def __init__(self, folder: SearchFolder, ended_as: str = "") -> None:
        self.folder = folder
        self.experiment = load_stored(folder)
        location = folder.location(self.experiment.database)
        # Read before the journal: a search that ends in between is read as ended.
        held = not ended_as and DriverFileLock(folder.lock, folder.name).holder() is not None
        if not ended_as and not held and isinstance(location, str):
            held = is_written(location, self.experiment.name)
        ended_as = ended_as or _ENDINGS.get(last_status(folder.journal), "interrupted")
        self.state = "running" if held else ended_as
        self.trials: list[FrozenTrial] = read_trials(location, self.experiment.name)
        for trial in self.trials:
            # Without a driver no trial runs, whatever state a killed driver left.
            if trial.state is TrialState.RUNNING and not held:
                trial.state = TrialState.WAITING

    @property
    def space(self) -> CandidateSpace:
        """The space that rebuilds the candidates, without images."""
        return describe_training(self.experiment, self.folder.task).candidates()

    @property
    def finalists(self) -> list[Finalist]:
        """Best first; empty before they are retrained."""
        return read_results(self.folder.finalists)

    @property
    def additional(self) -> list[AdditionalResult]:
        """Retrained trials and baselines, with their comparisons."""
        return read_additional(self.folder, self.finalists)
