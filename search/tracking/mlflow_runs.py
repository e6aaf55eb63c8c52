"""The runs of one search in MLflow, by key.

A call succeeds or raises one of two errors: `UnavailableError` (try again later) or
`VanishedError` (replay the journal from its start). A value that the server refuses is left out
with a warning: one bad value never blocks the others.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag, ViewType
from mlflow.entities.model_registry import RegisteredModel

from search.tracking.journal_events import DataInput, Metrics, Scalar, Status, fill_ids
from search.tracking.local_store import prepare
from search.tracking.mlflow_entries import Entry, batches, clean, shown
from search.tracking.mlflow_errors import (
    RefusedError,
    UnavailableError,
    VanishedError,
    translated,
)
from search.tracking.run_tag import RUN_TAG, run_tag
from search.tracking.saved_views import PRIMARY_METRIC_TAG, experiment_views, search_views

_PARENT_TAG = "mlflow.parentRunId"

# Lengths that every server accepts by the client's documentation; longer text is cut.
_LONGEST_PARAM = 6000
_LONGEST_TAG = 5000
_LONGEST_NAME = 250
_LONGEST_DATA_NAME = 500

_PLAIN_NAME = re.compile(r"[/\w.\- :]{1,250}")
_PLAIN_FILE = re.compile(r"(?:(?!\.\.?/)[\w.\- ]{1,200}/)*(?!\.\.?$)[\w.\- ]{1,200}")


def has_experiment(tracking_uri: str, experiment: str) -> bool:
    """Tell whether a store has an experiment, deleted or not, without creating it.

    Raises:
        UnavailableError: the store cannot be reached or used.
    """
    with _opening(), translated():
        prepare(tracking_uri)
        return MlflowClient(tracking_uri).get_experiment_by_name(experiment) is not None


class RunStore:
    """The runs of one search in one experiment of an MLflow store.

    Args:
        tracking_uri: address of the store.
        experiment: name of the experiment; it is created if absent.
        artifacts: URI at which a new experiment stores its artifacts; None for the store's default.
        search: identifies the search among all others in the store.
        warn: called with a line about each entry that the store refuses.

    Raises:
        UnavailableError: the store cannot be reached or used.
        VanishedError: the store has lost the experiment.
    """

    def __init__(
        self,
        tracking_uri: str,
        experiment: str,
        artifacts: str | None,
        search: str,
        warn: Callable[[str], None],
    ) -> None:
        self._search = search
        self._warn = warn
        with _opening(), translated():
            prepare(tracking_uri)
            self._client = MlflowClient(tracking_uri)
            found = self._client.get_experiment_by_name(experiment)
            if found is not None and found.lifecycle_stage != "active":
                raise UnavailableError(
                    f"the experiment {experiment!r} was deleted there; restore it with "
                    f"`mlflow experiments restore --experiment-id {found.experiment_id}`"
                )
            self._experiment: str = (
                found.experiment_id
                if found is not None
                else self._client.create_experiment(
                    experiment,
                    artifact_location=artifacts,
                    # Without it the UI shows the runs as those of a language model.
                    tags={"mlflow.experimentKind": "custom_model_development"},
                )
            )
            self._experiment_tags: set[str] = set(found.tags) if found is not None else set()

    @property
    def experiment_id(self) -> str:
        """Id of the experiment in the store."""
        return self._experiment

    def install_views(self, time: int) -> None:
        """Install the saved views of the experiment and of the search.

        Existing ones stay as they are: somebody may have changed them.

        Args:
            time: of creation, in milliseconds since the epoch.
        """
        views = (*experiment_views(), *search_views(self._search))
        tags = {PRIMARY_METRIC_TAG: "objective"} | {view.tag: view.value(time) for view in views}
        for name, value in tags.items():
            if name in self._experiment_tags:
                continue
            try:
                with translated():
                    self._client.set_experiment_tag(self._experiment, name, value)
            except RefusedError as error:
                self._warn(f"the saved view {name!r} is left out: {error}")
            self._experiment_tags.add(name)

    def log_inputs(self, run_id: str, key: str, inputs: Sequence[DataInput]) -> None:
        """Add data sets to a run; those that it has stay."""
        sets = [
            DatasetInput(
                Dataset(
                    name=clean(each.name, _LONGEST_DATA_NAME),
                    digest=each.digest,
                    source_type="local",
                    source=json.dumps({"uri": each.source}),
                    profile=each.profile,
                ),
                [InputTag("mlflow.data.context", each.context)],
            )
            for each in inputs
        ]
        try:
            with translated():
                self._client.log_inputs(run_id, sets)
        except RefusedError as error:
            self._warn(f"run {key!r}: its data sets are left out: {error}")

    def holds_runs(self) -> bool:
        """Tell whether any run of the search is in the store, including deleted ones."""
        with translated():
            return bool(
                self._client.search_runs(
                    [self._experiment],
                    f"tags.`{RUN_TAG}` LIKE '{self._tag('')}%'",
                    ViewType.ALL,
                    max_results=1,
                )
            )

    def count(self) -> int:
        """Return the number of the search's runs, without deleted ones."""
        with translated():
            return len(self._own_runs())

    def in_use(self) -> dict[str, str]:
        """Return the search's runs whose model has an alias, such as the champion of nights.

        Returns:
            By id of the run: the model and its alias, as ``NAME@champion``.
        """
        with translated():
            own, found = set(self._own_runs()), {}
            for model in self._models():
                for alias, number in dict(model.aliases).items():
                    version = self._client.get_model_version(model.name, str(number))
                    if version.run_id in own:
                        found[version.run_id] = f"{model.name}@{alias}"
            return found

    def _models(self) -> Iterator[RegisteredModel]:
        """Yield all registered models of the store, which returns them in pages."""
        token: str | None = None
        while True:
            page = self._client.search_registered_models(page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def delete_all(self) -> None:
        """Delete the search's views and runs; MLflow keeps deleted runs until ``mlflow gc``.

        Runs in use stay: ``mlflow gc`` would remove the files of their models.
        """
        kept = self.in_use()
        with translated():
            for run_id in self._own_runs():
                if run_id not in kept:
                    self._client.delete_run(run_id)
            for view in search_views(self._search):
                if view.tag in self._experiment_tags:
                    self._client.delete_experiment_tag(self._experiment, view.tag)

    def _own_runs(self) -> list[str]:
        found: list[str] = []
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self._experiment],
                f"tags.`{RUN_TAG}` LIKE '{self._tag('')}%'",
                ViewType.ACTIVE_ONLY,
                page_token=token,
            )
            found += [run.info.run_id for run in page]
            token = page.token
            if not token:
                return found

    def exists(self, run_id: str) -> bool:
        """Tell whether a run is in the store, deleted or not."""
        try:
            with translated():
                self._client.get_run(run_id)
        except VanishedError:
            return False
        return True

    def find(self, key: str, known: str | None = None, digest: str | None = None) -> str | None:
        """Return the id of the run with a key.

        A server that answers too late may create a run twice; all but one are deleted.

        Args:
            key: the run's key within the search.
            known: the id to keep, if it is known.
            digest: of the candidate, if it is known. A head node that was lost may have used the
                number for another candidate; its run is marked as lost.
        """
        with translated():
            runs = self._client.search_runs(
                [self._experiment], f"tags.`{RUN_TAG}` = '{self._tag(key)}'", ViewType.ALL
            )
            for run in list(runs) if digest is not None else ():
                if run.data.tags.get("digest", digest) != digest:
                    self._mark_lost(run.info.run_id, key)
                    runs.remove(run)
            active = sorted(run.info.run_id for run in runs if run.info.lifecycle_stage == "active")
            # If none is active, somebody has deleted the run, and the store refuses to write to it.
            keep = known or next(iter(active or [run.info.run_id for run in runs]), None)
            for run_id in active:
                if run_id != keep:
                    self._client.delete_run(run_id)
            return keep

    def _mark_lost(self, run_id: str, key: str) -> None:
        """Detach a run from its key."""
        self._client.set_tag(run_id, RUN_TAG, f"{self._tag(key)} (lost)")
        self._client.set_tag(run_id, "verdict", "lost")
        self._client.set_terminated(run_id, "KILLED")

    def create(
        self, key: str, name: str, time: int, tags: Mapping[str, str], parent: str | None
    ) -> str:
        """Create a run and return its id.

        Args:
            key: the run's key within the search.
            name: shown to people.
            time: start in milliseconds since the epoch.
            tags: of the run, without ids of the store.
            parent: id of the parent run.
        """
        own = {RUN_TAG: self._tag(key)} | ({} if parent is None else {_PARENT_TAG: parent})
        # A name that no store accepts would have the whole run refused, or created in part.
        plain = {label: text for label, text in tags.items() if _PLAIN_NAME.fullmatch(label)}
        labels = {label: clean(text, _LONGEST_TAG) for label, text in plain.items()} | own
        try:
            with translated():
                run = self._client.create_run(
                    self._experiment, time, labels, clean(name, _LONGEST_NAME)
                )
                run_id: str = run.info.run_id
        except RefusedError as error:
            # The run itself is valid: for example, its experiment was deleted.
            raise UnavailableError(str(error)) from error
        self.log(run_id, key, tags={label: tags[label] for label in tags.keys() - plain.keys()})
        return run_id

    def log(
        self,
        run_id: str,
        key: str,
        *,
        params: Mapping[str, Scalar] | None = None,
        tags: Mapping[str, str] | None = None,
        metrics: Sequence[Metrics] = (),
    ) -> None:
        """Write to a run without changing what it has.

        Writing twice is harmless: MLflow keeps one row for metrics of equal name, step, time and
        value, and accepts a parameter again if its value is the same.
        """
        entries: list[Entry] = [
            *(Param(name, clean(str(value), _LONGEST_PARAM)) for name, value in _items(params)),
            *(
                RunTag(name, clean(fill_ids(value, run_id, self._experiment), _LONGEST_TAG))
                for name, value in _items(tags)
            ),
            *(
                Metric(name, value, event.time, event.step)
                for event in metrics
                for name, value in event.metrics.items()
            ),
        ]
        for batch in batches(entries):
            self._log(run_id, key, batch)

    def log_text(self, run_id: str, key: str, name: str, text: str) -> None:
        """Write a text file to the artifacts of a run."""
        if not _PLAIN_FILE.fullmatch(name):
            self._warn(f"run {key!r}: the file {name[:60]!r} is left out: not a plain path")
            return
        try:
            with translated():
                self._client.log_text(run_id, clean(text), name)
        except RefusedError as error:
            self._warn(f"run {key!r}: the file {name!r} is left out: {error}")

    def log_folder(self, run_id: str, key: str, folder: Path, name: str) -> None:
        """Write a folder to the artifacts of a run."""
        try:
            with translated():
                self._client.log_artifacts(run_id, str(folder), name)
        except RefusedError as error:
            self._warn(f"run {key!r}: the folder {name!r} is left out: {error}")

    def finish(self, run_id: str, key: str, status: Status, time: int) -> None:
        """Set the status and the end of a run."""
        self._change(run_id, key, lambda: self._client.set_terminated(run_id, status, time))

    def resume(self, run_id: str, key: str) -> None:
        """Set an ended run to running."""
        self._change(run_id, key, lambda: self._client.update_run(run_id, status="RUNNING"))

    def _tag(self, key: str) -> str:
        return run_tag(self._search, key)

    def _log(self, run_id: str, key: str, entries: Sequence[Entry]) -> None:
        try:
            with translated():
                self._client.log_batch(
                    run_id,
                    [entry for entry in entries if isinstance(entry, Metric)],
                    [entry for entry in entries if isinstance(entry, Param)],
                    [entry for entry in entries if isinstance(entry, RunTag)],
                )
        except RefusedError as error:
            if self._is_deleted(run_id):
                return
            if len(entries) == 1:
                self._warn(f"run {key!r}: {shown(entries[0])} is left out: {error}")
                return
            # One bad entry has the whole batch refused: find it by bisection.
            half = len(entries) // 2
            self._log(run_id, key, entries[:half])
            self._log(run_id, key, entries[half:])

    def _change(self, run_id: str, key: str, call: Callable[[], object]) -> None:
        try:
            with translated():
                call()
        except RefusedError as error:
            if not self._is_deleted(run_id):
                self._warn(f"run {key!r}: its status stays unchanged: {error}")

    def _is_deleted(self, run_id: str) -> bool:
        """Tell whether somebody has deleted a run; such a run stays deleted.

        Raises:
            UnavailableError: its whole experiment was deleted.
        """
        with translated():
            if self._client.get_run(run_id).info.lifecycle_stage == "active":
                return False
            if self._client.get_experiment(self._experiment).lifecycle_stage != "active":
                raise UnavailableError("its experiment was deleted there; restore it")
            return True


@contextmanager
def _opening() -> Iterator[None]:
    """Report a store that refuses to open as unavailable: its address can be corrected."""
    try:
        yield
    except RefusedError as error:
        raise UnavailableError(str(error)) from error


def _items(mapping: Mapping[str, Any] | None) -> Iterator[tuple[str, Any]]:
    return iter((mapping or {}).items())
