"""The champion of a model in MLflow's registry: reading and replacing it.

Each promotion is one version of the registered model, and the alias ``champion`` names the current
one. The files of a version belong to a run of its own, below that of the search. They hold all that
a comparison needs, and none of them can execute code.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from search.console import warn
from search.nightly.identity import JudgedImages
from search.study.finalists import best_validated, read_record
from search.tracking.journal_events import PARENT, Metrics
from search.tracking.local_store import prepare
from search.tracking.mlflow_destination import Destination
from search.tracking.mlflow_errors import (
    RefusedError,
    UnavailableError,
    VanishedError,
    translated,
)
from search.tracking.mlflow_runs import RunStore
from search.tracking.pyfunc_model import PyfuncModel
from spaces.errors import BadInputError
from trainables.specs import FinalistResult

ALIAS = "champion"
_FOLDER = "champion"
_DESCRIPTION = "champion.json"


@dataclass(frozen=True)
class Contender:
    """A finalist in the registry, or about to enter it.

    Attributes:
        search: identity of its search.
        trial: its number in that search.
        night: name of the night that promoted it.
        digest: of the candidate: network and recipe.
        data: identity of the test images.
        results: one for each seed.
    """

    search: str
    trial: int
    night: str
    digest: str
    data: JudgedImages
    results: tuple[FinalistResult, ...]

    @property
    def best_seed(self) -> int:
        """Seed of the training with the best validation accuracy."""
        return best_validated(self.results).seed


@dataclass(frozen=True, eq=False)
class Champion:
    """The version of a model with the alias ``champion``.

    Attributes:
        version: number of the version.
        contender: its description.
        predictions: for each of its results, in order, the predicted class of each test image,
            int32 [images].
    """

    version: str
    contender: Contender
    predictions: tuple[NDArray[np.int32], ...]


@dataclass(frozen=True)
class Files:
    """The files of a promotion, apart from its description.

    Attributes:
        candidate: JSON of the candidate.
        records: by seed, the file with scores and predictions.
        weights: by seed, the file of the weights.
        model: the network as a model that MLflow loads and serves; None without one.
    """

    candidate: str
    records: Mapping[int, Path]
    weights: Mapping[int, Path]
    model: PyfuncModel | None = None


class ChampionStore:
    """The registry of an MLflow store.

    Args:
        destination: the store, and the experiment for the runs of promotions.
        model: name of the registered model.

    Raises:
        UnavailableError: the store is unavailable.
    """

    def __init__(self, destination: Destination, model: str) -> None:
        self._destination = destination
        self.model = model
        uri = destination.tracking_uri
        # Its bars would end up in logs and between the lines of a command.
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        with _reached():
            prepare(uri)
            registry = os.environ.get("MLFLOW_REGISTRY_URI") or uri
            self._client = MlflowClient(tracking_uri=uri, registry_uri=registry)

    def current(self) -> Champion | None:
        """Return the champion; None if there is none.

        Raises:
            UnavailableError: the store is unavailable.
            BadInputError: no night promoted the version with the alias.
        """
        try:
            with _reached():
                aliases = self._client.get_registered_model(self.model).aliases
                if ALIAS not in aliases:
                    return None
                version = self._client.get_model_version(self.model, aliases[ALIAS])
        except VanishedError:
            return None
        with tempfile.TemporaryDirectory() as folder:
            return self._read(version, Path(folder))

    def network(self, champion: Champion, seed: int) -> tuple[str, bytes]:
        """Return the JSON of the champion's candidate and the file of its weights.

        Args:
            champion: from `current`.
            seed: of one of its results.

        Raises:
            UnavailableError: the store is unavailable or has lost the files.
        """
        with _reached(), tempfile.TemporaryDirectory() as folder:
            version = self._client.get_model_version(self.model, champion.version)
            candidate, weights = (
                self._fetch(version, name, Path(folder)).read_bytes()
                for name in ("candidate.json", _weights(seed))
            )
        return candidate.decode(), weights

    def _read(self, version: ModelVersion, folder: Path) -> Champion:
        try:
            description = self._fetch(version, _DESCRIPTION, folder)
            contender = TypeAdapter(Contender).validate_json(description.read_bytes())
            records = [
                read_record(self._fetch(version, _record(result.seed), folder))
                for result in contender.results
            ]
        except (VanishedError, ValidationError):
            raise self._unusable(version) from None
        whole = [record["predictions"] for record in records if record is not None]
        if len(whole) < len(records) or {len(each) for each in whole} != {contender.data.images}:
            raise self._unusable(version)
        return Champion(str(version.version), contender, tuple(whole))

    def _fetch(self, version: ModelVersion, name: str, folder: Path) -> Path:
        run_id = version.run_id
        path = f"{_FOLDER}/{name}"
        if not run_id:
            raise self._unusable(version)
        with _reached():
            # A proxy reports a missing file as an error of the server.
            if path not in {each.path for each in self._client.list_artifacts(run_id, _FOLDER)}:
                raise VanishedError(path)
            return Path(self._client.download_artifacts(run_id, path, str(folder)))

    def _unusable(self, version: ModelVersion) -> BadInputError:
        problem = f"its version {version.version} has the alias {ALIAS}, but no night promoted it"
        remedy = "remove the alias, or set another nightly.model"
        return BadInputError("nightly.model", self.model, problem, remedy)

    def promote(self, contender: Contender, files: Files, metrics: Mapping[str, float]) -> str:
        """Register a version and set the alias; an interrupted promotion is completed.

        Args:
            contender: to promote.
            files: stored with it.
            metrics: logged on the run of the promotion.

        Returns:
            The number of the version.

        Raises:
            UnavailableError: the store is unavailable or does not accept the promotion.
        """
        try:
            run_id = self._record(contender, files, metrics)
            with translated():
                version = self._version(contender, run_id)
                self._client.set_registered_model_alias(self.model, ALIAS, version)
        except UnavailableError:
            raise
        except Exception as error:
            # What a store refuses now it may accept later, from a user with more permissions.
            raise UnavailableError(str(error)) from error
        return version

    def _record(self, contender: Contender, files: Files, metrics: Mapping[str, float]) -> str:
        """Log the files with their own run and return its id."""
        where = self._destination
        store = RunStore(
            where.tracking_uri, where.experiment, where.artifacts, contender.search, lambda _: None
        )
        key = f"champion/{self.model}/{contender.night}"
        now = time.time_ns() // 1_000_000
        run_id = store.find(key)
        if run_id is None:
            tags = {"kind": "champion", "night": contender.night, "digest": contender.digest}
            name = f"champion of {contender.night}"
            run_id = store.create(key, name, now, tags, store.find(PARENT))
        values = [Metrics(key, now, 0, metrics)]
        store.log(run_id, key, params={"trial": contender.trial}, metrics=values)
        with tempfile.TemporaryDirectory() as aside:
            folder = Path(aside)
            (folder / _DESCRIPTION).write_text(_to_json(contender), encoding="utf-8")
            (folder / "candidate.json").write_text(files.candidate, encoding="utf-8")
            for seed, path in files.records.items():
                (folder / _record(seed)).symlink_to(path.absolute())
            for seed, path in files.weights.items():
                (folder / _weights(seed)).symlink_to(path.absolute())
            if files.model is not None:
                _add_model(files.model, files.weights[contender.best_seed], folder)
            with translated():
                self._client.log_artifacts(run_id, str(folder), _FOLDER)
        store.finish(run_id, key, "FINISHED", time.time_ns() // 1_000_000)
        return run_id

    def _version(self, contender: Contender, run_id: str) -> str:
        for known in self._versions():
            if known.run_id == run_id:
                return str(known.version)
        created = self._client.create_model_version(
            self.model,
            f"runs:/{run_id}/{_FOLDER}",
            run_id,
            tags={
                "search": contender.search,
                "trial": str(contender.trial),
                "night": contender.night,
                "digest": contender.digest,
                "data": contender.data.digest,
            },
            description=f"Trial {contender.trial} of {contender.search}, promoted in the night "
            f"{contender.night}.",
        )
        return str(created.version)

    def _versions(self) -> Sequence[Any]:
        """Return the versions of the model, which is created if it is missing."""
        try:
            with translated():
                self._client.get_registered_model(self.model)
        except VanishedError:
            text = f"Champions of nightly searches; the alias {ALIAS} marks the current one."
            self._client.create_registered_model(self.model, description=text)
        found: list[Any] = self._client.search_model_versions(f"name = '{self.model}'")
        return found


@contextmanager
def _reached() -> Iterator[None]:
    """Report a store that is not a registry, or refuses a request, as unavailable."""
    try:
        with translated():
            yield
    except RefusedError as error:
        raise UnavailableError(str(error)) from error


def _add_model(model: PyfuncModel, weights: Path, folder: Path) -> None:
    """Write a model beside the files of a promotion; without it, the promotion is still valid."""
    with tempfile.TemporaryDirectory() as aside:
        made = Path(aside) / _FOLDER
        try:
            model.save(made, weights)
        except (RefusedError, OSError) as error:
            warn(f"MLflow cannot serve the champion: {error}")
            return
        shutil.copytree(made, folder, dirs_exist_ok=True)


def _record(seed: int) -> str:
    return f"seed-{seed}.npz"


def _weights(seed: int) -> str:
    return f"seed-{seed}.pt"


def _to_json(contender: Contender) -> str:
    return json.dumps(asdict(contender), indent=1)
