"""Where a search keeps its state: one folder, everything by name."""

from __future__ import annotations

import json
import os
import shlex
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.files import write_atomically
from cluster.storage import below, is_bucket
from cluster.stores import open_store
from spaces.errors import BadInputError
from spaces.task import Task

HOME_VARIABLE = "BORDERLINE_HOME"
DATABASE_VARIABLE = "BORDERLINE_DATABASE"
STORAGE_VARIABLE = "BORDERLINE_STORAGE"


def default_database() -> str | None:
    """Return what BORDERLINE_DATABASE names for new searches, without its password.

    Raises:
        BadInputError: it is no address of a database.
    """
    given = os.environ.get(DATABASE_VARIABLE)
    if not given:
        return None
    from search.urls import without_password  # noqa: PLC0415 - few have a server

    return without_password(given)


def default_storage() -> str | None:
    """Return the bucket that BORDERLINE_STORAGE names for new searches.

    Raises:
        BadInputError: it is no location in S3.
    """
    given = os.environ.get(STORAGE_VARIABLE)
    return check_location(given, STORAGE_VARIABLE) if given else None


def check_location(location: str, field: str = "storage") -> str:
    """Return a location in S3 as it is given.

    Raises:
        BadInputError: it is none.
    """
    try:
        if not is_bucket(location):
            raise ValueError("only buckets of S3 are storages")
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
        """Return the home that the user means."""
        path = given or Path(os.environ.get(HOME_VARIABLE, "runs"))
        try:
            return cls(path.expanduser().resolve())
        except RuntimeError as error:
            raise BadInputError("--home", path, str(error), "name a folder") from None

    def folder(self, name: str) -> SearchFolder:
        """Return the folder of the search with this name, which need not exist."""
        return SearchFolder(self.path / name)

    def existing(self, name: str) -> SearchFolder:
        """Return the folder of a search that has been started.

        Raises:
            BadInputError: there is none of that name.
        """
        folder = self.folder(name)
        if not folder.experiment.is_file():
            if folder.path.is_dir() and not folder.is_unfinished():
                problem = f"its {folder.experiment} is gone"
                raise BadInputError("NAME", name, problem, "bring the file back as it was")
            known = ", ".join(self.names()) or "none yet"
            raise BadInputError("NAME", name, f"no such search in {self.path}", f"known: {known}")
        return folder

    def command(self, command: str, name: str) -> str:
        """Return a command about a search as the user would type it here."""
        option = "" if self == Home.locate() else f" --home {shlex.quote(str(self.path))}"
        return f"python search.py {command} {name}{option}"

    def names(self) -> list[str]:
        """Return the names of all searches."""
        return sorted(path.parent.name for path in self.path.glob("*/experiment.yaml"))


@dataclass(frozen=True)
class SearchFolder:
    """The files of one search."""

    path: Path

    @property
    def name(self) -> str:
        """Of the search."""
        return self.path.name

    @property
    def experiment(self) -> Path:
        """The complete experiment, defaults included."""
        return self.path / "experiment.yaml"

    @property
    def identity(self) -> str:
        """What tells this search from every other of the same name, anywhere.

        Raises:
            BadInputError: it is gone.
        """
        return self._kept("id").strip()

    @property
    def study(self) -> Path:
        """The Optuna study, unless it lies on a server."""
        return self.path / "study.db"

    def location(self, database: str | None) -> Path | str:
        """Return where the study lies: in the folder, or on a database server.

        Args:
            database: of the experiment, without a password; BORDERLINE_DATABASE may know it.
        """
        if database is None:
            return self.study
        from search.urls import without_password  # noqa: PLC0415 - few have a server

        given = os.environ.get(DATABASE_VARIABLE)
        known = bool(given) and without_password(str(given)) == without_password(database)
        return str(given) if known else database

    @property
    def journal(self) -> Path:
        """Every event, for tracking."""
        return self.path / "journal.jsonl"

    @property
    def finalists(self) -> Path:
        """Folder of the finalists' results and weights."""
        return self.path / "finalists"

    @property
    def checkpoints(self) -> Path:
        """Folder of the trials' checkpoints, one for each by its number, unless in a storage."""
        return self.path / "checkpoints"

    def checkpoints_in(self, storage: str | None) -> Path | str:
        """Return where the trials' checkpoints lie.

        Args:
            storage: of the experiment, in which searches lie by name.
        """
        return self.checkpoints if storage is None else below(storage, self.name, "checkpoints")

    @property
    def tune(self) -> Path:
        """Folder of Ray Tune's own files, of which nothing is ever read again."""
        return self.path / "tune"

    @property
    def report(self) -> Path:
        """The report as a web page."""
        return self.path / "report.html"

    @property
    def lock(self) -> Path:
        """Held by the driver that runs the search."""
        return self.path / "driver.lock"

    def drivers(self) -> set[str]:
        """Return the tokens of the drivers of which this folder holds the work."""
        path = self._drivers
        return set(path.read_text(encoding="utf-8").split()) if path.is_file() else set()

    def add_driver(self, token: str) -> None:
        """Note that this folder holds, or is about to hold, the work of a driver."""
        with self._drivers.open("a", encoding="utf-8") as file:
            file.write(f"{token}\n")

    @property
    def _drivers(self) -> Path:
        return self.path / "drivers"

    @property
    def nightly_lock(self) -> Path:
        """Held by a night from its beginning to its end, before there is a folder, too."""
        return self.path.with_name(f".{self.name}.nightly.lock")

    @property
    def nights(self) -> Path:
        """Folder of the nights' reports, one for each by its date."""
        return self.path / "nights"

    @property
    def task(self) -> Task:
        """Images and classes, so that candidates can be rebuilt without the images.

        Raises:
            BadInputError: it is gone or damaged.
        """
        text = self._kept("task.json")
        try:
            return Task(**json.loads(text))
        except (ValueError, TypeError):
            raise self._damaged("task.json", "is damaged") from None

    def _kept(self, name: str) -> str:
        """Return what a file says that was written when the search began."""
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise self._damaged(name, getattr(error, "strerror", None) or "is no text") from None

    def _damaged(self, name: str, how: str) -> BadInputError:
        problem = f"its {self.path / name} cannot be read ({how})"
        return BadInputError("NAME", self.name, problem, "bring the file back as it was")

    def create(self, experiment_yaml: str, task: Task) -> None:
        """Make the folder with what the search is about.

        Raises:
            BadInputError: a search of that name exists, or the folder cannot be written.
        """
        self.refuse_existing()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            problem = f"cannot make {self.path}: {error.strerror}"
            raise BadInputError("--home", self.path.parent, problem, "name a folder") from error
        identity = f"{self.name}-{uuid.uuid4().hex[:12]}"
        (self.path / "id").write_text(f"{identity}\n", encoding="utf-8")
        (self.path / "task.json").write_text(json.dumps(asdict(task)), encoding="utf-8")
        # Last, since by it a folder is known as a search.
        self.write_experiment(experiment_yaml)

    def write_experiment(self, experiment_yaml: str) -> None:
        """Write the experiment, whole or not at all."""
        write_atomically(self.experiment, experiment_yaml)

    def refuse_existing(self) -> None:
        """Refuse to start a search under a name that is taken.

        Raises:
            BadInputError: as said.
        """
        if self.path.exists() and not self.is_unfinished():
            remedy = (
                f"go on with it (python search.py resume {self.name}), give another one with "
                f"--set name=..., or remove that folder"
            )
            problem = f"a search of that name exists in {self.path}"
            raise BadInputError("name", self.name, problem, remedy)

    def is_unfinished(self) -> bool:
        """Tell whether a driver was killed while it made the folder, or a night is about to."""
        made = {"id", "task.json", self.nights.name}
        return self.path.is_dir() and all(
            path.name in made or path.name.startswith(".experiment.")
            for path in self.path.iterdir()
        )
