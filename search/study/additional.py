"""Additional finalists: networks trained as the finalists are, which the search did not choose.

A trial that ``retrain`` trains otherwise and a named baseline are additional finalists. Each has a
folder of its own in ``additional/`` of the search, with the files of `FinalistStore`. A user names
it as ``quickstart:3@epochs-200``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from cluster.files import write_atomically
from search.study.finalists import Finalist, FinalistStore, rank_finalists
from spaces.errors import BadInputError
from trainables.specs import FinalistResult

LABEL = "@"
"""Separates the number of a trial from the label of its retraining."""
_RECORD, _EXPERIMENT = "training.json", "experiment.yaml"

Kind = Literal["retrained", "baseline"]


@dataclass(frozen=True)
class AdditionalFinalist:
    """How an additional finalist is trained.

    Attributes:
        key: name within the search: ``3@epochs-200`` for a retrained trial, or the name of a
            baseline.
        kind: retrained or baseline.
        number: of the trial that it retrains, or with whose recipe a baseline trains.
        params: from which its space rebuilds the candidate.
        digest: of the candidate.
        seeds: of its trainings.
        changes: settings that differ from those of the search, such as ``epochs: 10 -> 200``.
        weights: key of the finalist whose weights the trainings start from; empty for none.
        param_count: parameters of the network; 0 for unknown.
        macs: multiply-accumulates for one image; 0 for unknown.
    """

    key: str
    kind: Kind
    number: int
    params: Mapping[str, Any]
    digest: str
    seeds: tuple[int, ...]
    changes: tuple[str, ...] = ()
    weights: str = ""
    param_count: int = 0
    macs: int = 0

    @property
    def title(self) -> str:
        """The network in words."""
        if self.kind == "baseline":
            return f"baseline {self.key}"
        how = [*self.changes, *([f"from the weights of {self.weights}"] if self.weights else [])]
        return f"trial {self.number} retrained ({'; '.join(how) or 'as in the search'})"


@dataclass(frozen=True)
class AdditionalStore:
    """Stores one additional finalist.

    Attributes:
        path: of its folder.
        finalists: its results, weights and predictions.
    """

    path: Path
    finalists: FinalistStore = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "finalists", FinalistStore(self.path))

    @property
    def lock(self) -> Path:
        """Lock of the process that trains it."""
        return self.path / ".lock"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints of its trainings; hidden, so that no snapshot copies them."""
        return self.path / ".checkpoints"

    @property
    def experiment(self) -> Path:
        """The experiment of its trainings, complete with defaults."""
        return self.path / _EXPERIMENT

    def write(self, network: AdditionalFinalist, experiment_yaml: str) -> None:
        """Store how it is trained, before its first training.

        Raises:
            OSError: it could not be written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.experiment, experiment_yaml)
        # Last, because this file marks the folder as complete.
        document = TypeAdapter(AdditionalFinalist).dump_json(network, indent=1)
        write_atomically(self.path / _RECORD, document)

    def read(self) -> AdditionalFinalist | None:
        """Return how it is trained; None if nothing is stored.

        Raises:
            BadInputError: the file is damaged.
        """
        path = self.path / _RECORD
        if not path.is_file():
            return None
        try:
            return TypeAdapter(AdditionalFinalist).validate_json(path.read_bytes())
        except (OSError, ValidationError):
            problem = f"{path} is damaged"
            remedy = f"remove the folder {self.path}, and train the network again"
            raise BadInputError("NETWORK", self.path.name, problem, remedy) from None

    def results(self, network: AdditionalFinalist) -> list[FinalistResult]:
        """Return the complete results of its seeds, by seed."""
        found = [each for each in self.finalists.results() if each.seed in network.seeds]
        return sorted(found, key=lambda result: result.seed)

    def finalist(self, network: AdditionalFinalist) -> Finalist | None:
        """Return its results together; None before its first training ended."""
        ranked = rank_finalists({network.number: self.results(network)})
        return ranked[0] if ranked else None


def additional_finalists(folder: Path) -> list[tuple[AdditionalStore, AdditionalFinalist]]:
    """Return the additional finalists of a search: retrained trials by number, then baselines.

    Args:
        folder: of all of them; see `search.experiment.folder.SearchFolder.additional`.

    Raises:
        BadInputError: a file is damaged.
    """
    if not folder.is_dir():
        return []
    stores = [AdditionalStore(path) for path in sorted(folder.iterdir()) if path.is_dir()]
    found = [(store, network) for store in stores if (network := store.read()) is not None]
    return sorted(found, key=lambda each: (each[1].kind == "baseline", each[1].number, each[1].key))
