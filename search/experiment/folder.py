"""Defines the folder of a search: the names of all its files."""

from __future__ import annotations

import json
import os
import shlex
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.files import write_atomically
from cluster.folder_store import open_store
from cluster.storage import below, is_bucket
from search.console import program
from spaces.errors import BadInputError
from spaces.task import Task
from trainables.baseline import Baseline
from trainables.data_identity import DataIdentity

HOME_VARIABLE = "BORDERLINE_HOME"
DATABASE_VARIABLE = "BORDERLINE_DATABASE"
STORAGE_VARIABLE = "BORDERLINE_STORAGE"
_DATA = "data.json"
_TRACKED_AT = "tracked-at"


def default_database() -> str | None:
    """Return the database for new searches from BORDERLINE_DATABASE, without its password.

    Raises:
        BadInputError: it is not the URL of a database.
    """
    given = os.environ.get(DATABASE_VARIABLE)
    if not given:
        return None
    from search.urls import without_password  # noqa: PLC0415 - imports sqlalchemy

    return without_password(given)


def default_storage() -> str | None:
    """Return the storage for new searches from BORDERLINE_STORAGE.

    Raises:
        BadInputError: it is not a location in S3.
    """
    given = os.environ.get(STORAGE_VARIABLE)
    return check_location(given, STORAGE_VARIABLE) if given else None


def check_location(location: str, field: str = "storage") -> str:
    """Check a location in S3.

    Raises:
        BadInputError: it is not one.
    """
    try:
        if not is_bucket(location):
            raise ValueError("storage must be an S3 bucket")
        open_store(location)
    except ValueError as error:
        raise BadInputError(field, location, str(error), "write s3://bucket/prefix") from None
    return location.rstrip("/")


@dataclass(frozen=True)
class Home:
    """The folder of all searches: ``--home``, BORDERLINE_HOME or ``runs``."""

    path: Path

    @classmethod
    def locate(cls, given: Path | None = None) -> Home:
        """Return the given home, or the default.

        Raises:
            BadInputError: it cannot be a folder.
        """
        field = HOME_VARIABLE if given is None else "--home"
        path = given or Path(os.environ.get(HOME_VARIABLE) or "runs")
        try:
            resolved = path.expanduser().resolve()
            there = next(each for each in (resolved, *resolved.parents) if each.exists())
        except (OSError, RuntimeError, ValueError) as error:
            problem = getattr(error, "strerror", None) or str(error)
            raise BadInputError(field, path, problem, "name a folder") from None
        if not there.is_dir():
            raise BadInputError(field, path, f"{there} is a file", "name a folder")
        return cls(resolved)

    def folder(self, name: str) -> SearchFolder:
        """Return the folder of a search, which may not exist."""
        return SearchFolder(self.path / name)

    def existing(self, name: str) -> SearchFolder:
        """Return the folder of an existing search.

        Raises:
            BadInputError: there is no such search.
        """
        folder = self.folder(name)
        if Path(name).name != name or name in ("", ".."):
            problem = "is a path, not the name of a search"
            remedy = "give the name alone; --home names the folder of all searches"
            raise BadInputError("NAME", name, problem, remedy)
        if not folder.experiment.is_file():
            if folder.path.is_dir() and not folder.is_unfinished():
                problem = f"its {folder.experiment} is missing"
                raise BadInputError("NAME", name, problem, "restore the file")
            known = ", ".join(self.names()) or "none yet"
            problem = f"no such search in {self.path} (--home or {HOME_VARIABLE} names another)"
            raise BadInputError("NAME", name, problem, f"known: {known}")
        return folder

    def command(self, command: str, name: str) -> str:
        """Return a command for a search, as typed in the current folder."""
        option = "" if self == Home.locate() else f" --home {shlex.quote(str(self.path))}"
        return f"{program()} {command} {name}{option}"

    def export_command(self, network: str) -> str:
        """Return the command that exports a trained network, as typed in the current folder.

        Args:
            network: NAME, NAME:TRIAL or NAME:champion.
        """
        target = shlex.quote(f"{network.partition(':')[0]}-model")
        return f"{self.command('export', network)} --to {target}"

    def names(self) -> list[str]:
        """Return the names of all searches."""
        return sorted(path.parent.name for path in self.path.glob("*/experiment.yaml"))


@dataclass(frozen=True)
class SearchFolder:
    """The files of one search."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the search."""
        return self.path.name

    @property
    def size(self) -> int:
        """Bytes of the files; those that vanish meanwhile do not count."""
        found = 0
        for parent, _, names in os.walk(self.path):
            for name in names:
                with suppress(FileNotFoundError):
                    found += Path(parent, name).lstat().st_size
        return found

    @property
    def experiment(self) -> Path:
        """The complete experiment with defaults."""
        return self.path / "experiment.yaml"

    @property
    def identity(self) -> str:
        """Globally unique identity of the search.

        Raises:
            BadInputError: the file is missing.
        """
        return self._read("id").strip()

    @property
    def study(self) -> Path:
        """The Optuna study, unless it is on a server."""
        return self.path / "study.db"

    def location(self, database: str | None) -> Path | str:
        """Return the location of the study: a local file or a database URL.

        Args:
            database: database of the experiment without a password, which BORDERLINE_DATABASE may
                contain.
        """
        if database is None:
            return self.study
        from search.urls import without_password  # noqa: PLC0415 - imports sqlalchemy

        given = os.environ.get(DATABASE_VARIABLE)
        known = bool(given) and without_password(str(given)) == without_password(database)
        return str(given) if known else database

    @property
    def journal(self) -> Path:
        """The journal of events."""
        return self.path / "journal.jsonl"

    @property
    def finalists(self) -> Path:
        """Folder of the finalists' results and weights."""
        return self.path / "finalists"

    @property
    def additional(self) -> Path:
        """Folder of networks that were trained as finalists besides those of the search."""
        return self.path / "additional"

    @property
    def probes(self) -> Path:
        """Folder of the probes of trained networks."""
        return self.path / "probes"

    @property
    def checkpoints(self) -> Path:
        """Folder of the trials' checkpoints by trial number, unless they are in storage."""
        return self.path / "checkpoints"

    def checkpoints_in(self, storage: str | None) -> Path | str:
        """Return the location of the trials' checkpoints.

        Args:
            storage: storage of the experiment, which contains searches by name.
        """
        return self.checkpoints if storage is None else below(storage, self.name, "checkpoints")

    @property
    def tune(self) -> Path:
        """Folder of Ray Tune's files, which are never read again."""
        return self.path / "tune"

    @property
    def report(self) -> Path:
        """The report as a web page."""
        return self.path / "report.html"

    @property
    def machine(self) -> Path:
        """Device, versions and command of the last driver."""
        return self.path / "machine.json"

    @property
    def pictures(self) -> Path:
        """Small images for the report."""
        return self.path / "pictures.json"

    @property
    def live(self) -> Path:
        """State of the running search; absent while none runs."""
        return self.path / "live.json"

    @property
    def lock(self) -> Path:
        """Lock of the driver that runs the search."""
        return self.path / "driver.lock"

    def drivers(self) -> set[str]:
        """Return the tokens of the drivers whose work this folder contains."""
        path = self._drivers
        return set(path.read_text(encoding="utf-8").split()) if path.is_file() else set()

    def add_driver(self, token: str) -> None:
        """Record that this folder contains the work of a driver, or soon will."""
        with self._drivers.open("a", encoding="utf-8") as file:
            file.write(f"{token}\n")

    @property
    def _drivers(self) -> Path:
        return self.path / "drivers"

    @property
    def nightly_lock(self) -> Path:
        """Lock of a night, which is held even before the folder exists."""
        return self.path.with_name(f".{self.name}.nightly.lock")

    @property
    def nights(self) -> Path:
        """Folder of the nights' reports by date."""
        return self.path / "nights"

    @property
    def task(self) -> Task:
        """The task, which allows rebuilding candidates without the images.

        Raises:
            BadInputError: the file is missing or damaged.
        """
        text = self._read("task.json")
        try:
            return Task(**json.loads(text))
        except (ValueError, TypeError):
            raise self._damaged("task.json", "is damaged") from None

    def _read(self, name: str) -> str:
        """Return the text of a file that was written when the search started."""
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise self._damaged(name, getattr(error, "strerror", None) or "is not text") from None

    def _damaged(self, name: str, how: str) -> BadInputError:
        problem = f"its {self.path / name} cannot be read ({how})"
        return BadInputError("NAME", self.name, problem, "restore the file")

    @property
    def data(self) -> DataIdentity | None:
        """Identity of the data; None for a search that an older version started.

        Raises:
            BadInputError: the file is damaged.
        """
        if not (self.path / _DATA).exists():
            return None
        try:
            return DataIdentity.from_json(self._read(_DATA))
        except ValueError as error:
            if isinstance(error, BadInputError):
                raise
            raise self._damaged(_DATA, "is damaged") from None

    @property
    def tracked_at(self) -> str | None:
        """Address of the MLflow server that receives the runs, without its password.

        None for the local store, or for a search of an older version.
        """
        path = self.path / _TRACKED_AT
        return (self._read(_TRACKED_AT).strip() or None) if path.exists() else None

    def write_tracked_at(self, address: str | None) -> None:
        """Write the address of the MLflow server atomically; None for the local store."""
        write_atomically(self.path / _TRACKED_AT, f"{address or ''}\n")

    @property
    def baseline_file(self) -> Path:
        """Logistic regression and a guess on the same images."""
        return self.path / "baseline.json"

    @property
    def baseline(self) -> Baseline | None:
        """The stored baseline; None before it is computed.

        Raises:
            BadInputError: the file is damaged.
        """
        path = self.baseline_file
        try:
            return Baseline.from_json(path.read_bytes()) if path.exists() else None
        except (OSError, ValueError):
            remedy = "remove it; a resumed search computes it again"
            raise BadInputError("NAME", self.name, f"{path} is damaged", remedy) from None

    def write_data(self, data: DataIdentity) -> None:
        """Write the identity of the data atomically."""
        write_atomically(self.path / _DATA, data.to_json())

    def create(self, experiment_yaml: str, task: Task, data: DataIdentity | None = None) -> None:
        """Create the folder with experiment, task and identity of the data.

        Raises:
            BadInputError: the search exists, or the folder cannot be written.
        """
        self.refuse_existing()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            problem = f"cannot create {self.path}: {error.strerror}"
            raise BadInputError("--home", self.path.parent, problem, "name a folder") from error
        identity = f"{self.name}-{uuid.uuid4().hex[:12]}"
        (self.path / "id").write_text(f"{identity}\n", encoding="utf-8")
        (self.path / "task.json").write_text(json.dumps(asdict(task)), encoding="utf-8")
        if data is not None:
            self.write_data(data)
        # Last, because this file marks the folder as a search.
        self.write_experiment(experiment_yaml)

    def write_experiment(self, experiment_yaml: str) -> None:
        """Write the experiment atomically."""
        write_atomically(self.experiment, experiment_yaml)

    def refuse_existing(self) -> None:
        """Check that no search of this name exists.

        Raises:
            BadInputError: one does.
        """
        if self.path.exists() and not self.is_unfinished():
            remedy = (
                f"resume it ({program()} resume {self.name}), choose another name with "
                f"--set name=..., or delete it ({program()} delete {self.name})"
            )
            problem = f"a search of this name exists in {self.path}"
            raise BadInputError("name", self.name, problem, remedy)

    def is_unfinished(self) -> bool:
        """Tell whether the folder is incomplete: a driver was killed, or a night is starting."""
        made = {"id", "task.json", _DATA, self.nights.name}
        return self.path.is_dir() and all(
            path.name in made or path.name.startswith((".experiment.", ".data."))
            for path in self.path.iterdir()
        )
