"""A search as an object: trials as a data frame, the best network, its export."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.console import make_console
from search.driver.resume import as_resumed
from search.driver.retrain import RetrainRequest, retrain_trial
from search.driver.run import run_search
from search.experiment.folder import Home
from search.experiment.loading import load_experiment, parse_experiment
from search.experiment.schema import Experiment
from search.nightly.champion_probe import load_named
from search.reporting.additional_results import AdditionalResult
from search.reporting.documents import report_document, status_document
from search.reporting.explanation import explain_trial
from search.reporting.exporting import ExportRequest, export_networks
from search.reporting.stored_search import StoredSearch
from search.reporting.trained_networks import SearchNetworks, best_seed
from search.reporting.trial_table import trial_rows
from spaces.architecture import Architecture

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn


class Search:
    """A stored search, running or not. Every call reads its present state.

    Args:
        name: of the search.
        home: folder of all searches.

    Raises:
        BadInputError: there is no such search.
    """

    def __init__(self, name: str, home: Home) -> None:
        self.name = name
        self._home = home
        self._folder = home.existing(name)

    def __repr__(self) -> str:
        status = self.status
        return f"Search({self.name}: {status['state']}, {status['trained']} trained)"

    @property
    def path(self) -> Path:
        """Folder of the search."""
        return self._folder.path

    @property
    def experiment(self) -> Experiment:
        """The experiment with all defaults."""
        return self._stored.experiment

    @property
    def status(self) -> dict[str, Any]:
        """State, counts, best trial and finalists: the document of ``status NAME --json``."""
        return status_document(self._stored)

    @property
    def report(self) -> dict[str, Any]:
        """Everything that the report says: the document of ``report NAME --json``."""
        return report_document(self._stored)

    def trials(self) -> pd.DataFrame:
        """Return one row per candidate, indexed by the number of the trial.

        The columns are those of ``trials NAME --csv``: outcome, objectives, costs and drawn values.
        """
        import pandas as pd  # noqa: PLC0415 - takes half a second

        stored = self._stored
        rows = trial_rows(stored.experiment, stored.trials)
        return pd.DataFrame(rows).set_index("trial") if rows else pd.DataFrame()

    def follow(self, every: float = 2.0) -> Iterator[dict[str, Any]]:
        """Yield the status of a running search until it ends, its last status included.

        Args:
            every: seconds between two looks.
        """
        while True:
            status = self.status
            yield status
            if status["state"] != "running":
                return
            time.sleep(every)

    def architecture(self, trial: int | str | None = None) -> Architecture:
        """Return the graph of a trial, or of the best network.

        Args:
            trial: number of the trial, or the name that `retrain` returned; None for the best
                finalist, or else the best trial.

        Raises:
            BadInputError: there is no such trained network.
        """
        return self._networks(trial).architecture

    def module(self, trial: int | str | None = None) -> nn.Module:
        """Return the trained network of a trial, or the best network, on the CPU.

        A finalist has stored weights; of its seeds, the best on validation is returned. Another
        trial is trained again. The module takes images as the training does, normalised, float32
        [batch, channels, height, width]; `export` writes one that takes raw images.

        Args:
            trial: number of the trial, or the name that `retrain` returned; None for the best
                finalist, or else the best trial.

        Raises:
            BadInputError: there is no such trained network, or its images have changed.
        """
        (network,) = load_named(self._networks(trial), best_seed)
        return network.module.eval()

    def export(self, to: str | Path, trial: int | str | None = None, *, int8: bool = True) -> Path:
        """Write a network to files that need nothing of Borderline; see ``export --help``.

        Args:
            to: folder of the files.
            trial: number of the trial, or the name that `retrain` returned; None for the best
                finalist, or else the best trial.
            int8: also write a quantised model.

        Returns:
            The folder.

        Raises:
            BadInputError: there is no such trained network, or files cannot be written.
            DifferentAnswersError: a file does not compute what the network computes; nothing is
                written. From `trainables.export.checking`, a RuntimeError.
        """
        folder = Path(to)
        request = ExportRequest(folder, False, None, "uint8", int8, 2000)
        request.check()
        networks = self._networks(trial)
        found = load_named(networks, request.choose)
        export_networks(networks, found, request, make_console())
        return folder

    def retrain(
        self,
        trial: int | str,
        epochs: int | str | None = None,
        changes: Mapping[str, Any] | None = None,
        *,
        from_weights: bool = False,
        label: str | None = None,
        seeds: int | None = None,
        address: str = "local",
    ) -> str:
        """Train a trial longer or otherwise as a finalist of its own; see ``retrain --help``.

        Args:
            trial: number of the trial, or the name of an earlier retraining.
            epochs: number, or a length such as ``2000 steps``; None for those of the search.
            changes: values of training fields by dotted key, such as ``augmentation.flip``.
            from_weights: start from the weights of the finalist.
            label: of the retraining; None for one that names the changes.
            seeds: number of seeds; None for as many as each finalist has.
            address: of the Ray cluster; ``local`` starts a private one on this machine.

        Returns:
            Its name, which the other calls take: ``3@epochs-200``.

        Raises:
            BadInputError: the trial cannot be trained so.
            SearchFailedError: a training failed; the same call continues with the others.
        """
        request = RetrainRequest(
            f"{self.name}:{trial}",
            None if epochs is None else str(epochs),
            [f"{key}={_typed(value)}" for key, value in (changes or {}).items()],
            from_weights,
            label,
            seeds,
        )
        return retrain_trial(request, self._home, make_console(), address).key

    @property
    def additional(self) -> list[AdditionalResult]:
        """Results of retrained trials, with their comparisons."""
        return self._stored.additional

    def explain(self, trial: int) -> str:
        """Return why a trial was rejected, stopped or failed.

        Raises:
            BadInputError: there is no such trial.
        """
        found = explain_trial(f"{self.name}:{trial}", self._home)
        return " ".join((f"{found.trial}: {found.outcome}.", *found.sentences))

    @property
    def _stored(self) -> StoredSearch:
        return StoredSearch(self._folder)

    def _networks(self, trial: int | str | None) -> SearchNetworks:
        reference = self.name if trial is None else f"{self.name}:{trial}"
        return SearchNetworks(self._home, reference, make_console())


def load(name: str, home: str | Path | None = None) -> Search:
    """Return a stored search, running or not.

    Args:
        name: of the search.
        home: folder of all searches; None for BORDERLINE_HOME or ``runs``.

    Raises:
        BadInputError: there is no such search.
    """
    return Search(name, _home(home))


def run(
    experiment: Experiment | Mapping[str, Any] | str | Path,
    home: str | Path | None = None,
    *,
    address: str = "local",
    resume: bool = False,
) -> Search:
    """Run a search to its end, and return it; progress is printed.

    An interruption (the stop button of a notebook) ends it early; `run` with ``resume`` continues.

    Args:
        experiment: an `Experiment`, its fields as a mapping, or the path of an experiment file.
        home: folder of all searches; None for BORDERLINE_HOME or ``runs``.
        address: of the Ray cluster; ``local`` starts a private one on this machine.
        resume: continue the search of that name if it exists.

    Raises:
        BadInputError: a value of the experiment cannot be used, or the search exists.
        SearchFailedError: no candidate completed its training, or results cannot be written.
    """
    place = _home(home)
    asked = _experiment(experiment)
    resumes = resume and place.folder(asked.name).experiment.exists()
    if resumes:
        asked = as_resumed(place.folder(asked.name), asked)
    run_search(asked, place, make_console(), address=address, resume=resumes)
    return Search(asked.name, place)


def _experiment(given: Experiment | Mapping[str, Any] | str | Path) -> Experiment:
    if isinstance(given, str | Path):
        return load_experiment(Path(given))
    experiment = given if isinstance(given, Experiment) else parse_experiment(dict(given))
    if experiment.names_own_code and experiment.modules is None:
        # Absolute, because the stored experiment lies elsewhere.
        return experiment.model_copy(update={"modules": str(Path.cwd())})
    return experiment


def _typed(value: object) -> str:
    """Return a value as a user types it after ``--set``."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value)


def _home(given: str | Path | None) -> Home:
    return Home.locate(None if given is None else Path(given))
