"""Where a search keeps its state: one folder, everything by name."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from spaces.errors import BadInputError
from spaces.task import Task

HOME_VARIABLE = "BORDERLINE_HOME"


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
            known = ", ".join(self.names()) or "none yet"
            raise BadInputError("NAME", name, f"no such search in {self.path}", f"known: {known}")
        return folder

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
        """What tells this search from every other of the same name, anywhere."""
        return (self.path / "id").read_text(encoding="utf-8").strip()

    @property
    def study(self) -> Path:
        """The Optuna study."""
        return self.path / "study.db"

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
        """Folder of Ray Tune's files."""
        return self.path / "checkpoints"

    @property
    def report(self) -> Path:
        """The report as a web page."""
        return self.path / "report.html"

    @property
    def task(self) -> Task:
        """Images and classes, so that candidates can be rebuilt without the images."""
        return Task(**json.loads((self.path / "task.json").read_text(encoding="utf-8")))

    def create(self, experiment_yaml: str, task: Task) -> None:
        """Make the folder with what the search is about.

        Raises:
            BadInputError: a search of that name exists, or the folder cannot be written.
        """
        self.refuse_existing()
        try:
            self.path.mkdir(parents=True)
        except OSError as error:
            problem = f"cannot make {self.path}: {error.strerror}"
            raise BadInputError("--home", self.path.parent, problem, "name a folder") from error
        identity = f"{self.name}-{uuid.uuid4().hex[:12]}"
        (self.path / "id").write_text(f"{identity}\n", encoding="utf-8")
        (self.path / "task.json").write_text(json.dumps(asdict(task)), encoding="utf-8")
        # Last, since by it a folder is known as a search.
        self.experiment.write_text(experiment_yaml, encoding="utf-8")

    def refuse_existing(self) -> None:
        """Refuse to start a search under a name that is taken.

        Raises:
            BadInputError: as said.
        """
        if self.path.exists():
            remedy = "give another one with --set name=..., or remove that folder"
            problem = f"a search of that name exists in {self.path}"
            raise BadInputError("name", self.name, problem, remedy)
