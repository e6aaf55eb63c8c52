"""The champion of a model in MLflow's registry: reading and replacing it.

Each promotion is one version of the registered model, and the alias ``champion`` names the current
one. The files of a version belong to a run of its own, below that of the search. They hold all that
a comparison needs, and none of them can execute code.
"""

from __future__ import annotations

import json
import os
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

from search.nightly.identity import DataIdentity
from search.study.finalists import read_record
from search.tracking.destination import Destination
from search.tracking.journal_events import PARENT, Metrics
from search.tracking.local_store import prepare
from search.tracking.mlflow_errors import (
    RefusedError,
    UnavailableError,
    VanishedError,
    translated,
)
from search.tracking.mlflow_runs import RunStore
from spaces.errors import BadInputError
from trainables.specs import FinalistResult

ALIAS = "champion"
_FOLDER = "champion"
_DESCRIPTION = "champion.json"


@dataclass(frozen=True)
class Contender:
    """A finalist as it enters the registry, or as it lies there.

    Attributes:
        search: identity of the search that found it.
        trial: its number there.
        night: in which it was promoted.
        digest: of the candidate: network and recipe.
        data: the images that it was judged on.
        results: of its retrainings, one for each seed.
    """

    search: str
    trial: int
    night: str
    digest: str
    data: DataIdentity
    results: tuple[FinalistResult, ...]


@dataclass(frozen=True, eq=False)
class Champion:
    """The version of a model that bears the alias.

    Attributes:
        version: its number.
        contender: what it is.
        predictions: for each of its results, in their order, the class predicted for each test
            image, int32 [images].
    """

    version: str
    contender: Contender
    predictions: tuple[NDArray[np.int32], ...]


@dataclass(frozen=True)
class Files:
    """What is kept of a promotion beside its description.

    Attributes:
        candidate: JSON of the whole candidate.
        records: by seed, the file with scores and predictions.
        weights: by seed, the file of the weights.
    """

    candidate: str
    records: Mapping[int, Path]
    weights: Mapping[int, Path]


class ChampionStore:
    """The registry of an MLflow store.

    Args:
        destination: the store, and the experiment that promotions are runs of.
        model: name of the registered model.

    Raises:
        UnavailableError: the store cannot be reached or used.
    """

    def __init__(self, destination: Destination, model: str) -> None:
        self._destination = destination
        self.model = model
        uri = destination.tracking_uri
        with _reached():
            prepare(uri)
            registry = os.environ.get("MLFLOW_REGISTRY_URI") or uri
            self._client = MlflowClient(tracking_uri=uri, registry_uri=registry)

    def current(self) -> Champion | None:
        """Return the champion, None while there is none.

        Raises:
            UnavailableError: the store cannot be reached or used.
            BadInputError: what bears the alias was not promoted by a night.
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
            # A proxy answers a file that is not there with an error of the server.
            if path not in {each.path for each in self._client.list_artifacts(run_id, _FOLDER)}:
                raise VanishedError(path)
            return Path(self._client.download_artifacts(run_id, path, str(folder)))

    def _unusable(self, version: ModelVersion) -> BadInputError:
        problem = (
            f"its version {version.version} bears the alias {ALIAS}, but holds nothing that a "
            "night has put there"
        )
        remedy = "take the alias from it, or set another nightly.model"
        return BadInputError("nightly.model", self.model, problem, remedy)

    def promote(self, contender: Contender, files: Files, metrics: Mapping[str, float]) -> str:
        """Register a version and give it the alias; a promotion that was broken off is completed.

        Args:
            contender: what is promoted.
            files: kept with it.
            metrics: logged on the run of the promotion.

        Returns:
            Its number.

        Raises:
            UnavailableError: the store cannot be reached or does not take it.
        """
        try:
            run_id = self._record(contender, files, metrics)
            with translated():
                version = self._version(contender, run_id)
                self._client.set_registered_model_alias(self.model, ALIAS, version)
        except UnavailableError:
            raise
        except Exception as error:
            # What a store refuses for its own sake it may take later, from someone with the rights.
            raise UnavailableError(str(error)) from error
        return version

    def _record(self, contender: Contender, files: Files, metrics: Mapping[str, float]) -> str:
        """Log the files with a run of their own and return its id."""
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
                (folder / f"seed-{seed}.pt").symlink_to(path.absolute())
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
        """Return the versions there are, after making the model where there is none."""
        try:
            with translated():
                self._client.get_registered_model(self.model)
        except VanishedError:
            text = f"Champions that nightly searches promote; the alias {ALIAS} says which counts."
            self._client.create_registered_model(self.model, description=text)
        found: list[Any] = self._client.search_model_versions(f"name = '{self.model}'")
        return found


@contextmanager
def _reached() -> Iterator[None]:
    """Say of a store that is no registry, or refuses the question, that it cannot be used."""
    try:
        with translated():
            yield
    except RefusedError as error:
        raise UnavailableError(str(error)) from error


def _record(seed: int) -> str:
    return f"seed-{seed}.npz"


def _to_json(contender: Contender) -> str:
    return json.dumps(asdict(contender), indent=1)
