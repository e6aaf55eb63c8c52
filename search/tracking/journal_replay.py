"""Replays a journal into MLflow in batches; replaying twice gives the same runs.

Two cursors read the journal independently: one sends runs, parameters, tags and metrics, the other
text files and models. Artifact stores have their own addresses and permissions, and a failure there
must not delay the metrics.
"""

import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster.files import write_atomically
from search.experiment.folder import Home
from search.tracking.journal_events import (
    PARENT,
    Finish,
    Model,
    has_ids,
)
from search.tracking.journal_reader import read
from search.tracking.journal_work import Work, group_events, models, text_files
from search.tracking.mlflow_destination import PROGRESS, Destination
from search.tracking.mlflow_errors import RefusedError, UnavailableError, VanishedError
from search.tracking.mlflow_runs import RunStore
from search.tracking.pyfunc_model import PyfuncModel

MODEL_FOLDER = "model"
"""Folder of a run's artifacts that MLflow loads as its model."""
_WINDOW = 1 << 20
_FIRST_DELAY = 0.5
_LONGEST_DELAY = 30.0
_LONGEST_DELAY_AT_THE_END = 2.0
# Seconds within which a run appears that a slow server created after a repeated request.
_DOUBT = 30.0


@dataclass
class _Progress:
    """What has arrived in the store.

    Args:
        store: the store's address without credentials.
        experiment: name of the experiment.
        search: identity of the search.
        records: all events before this offset are in the store, except text files.
        artifacts: the same for text files; never beyond `records`.
        runs: id of each run in the store, by its key.
        experiment_id: id of the experiment in the store; empty before the store is connected.
    """

    store: str
    experiment: str
    search: str
    records: int = 0
    artifacts: int = 0
    runs: dict[str, str] = field(default_factory=dict)
    experiment_id: str = ""

    @property
    def identity(self) -> tuple[str, str, str]:
        """The store, experiment and search to which the offsets and ids apply."""
        return self.store, self.experiment, self.search

    @classmethod
    def load(cls, path: Path, fresh: "_Progress") -> "_Progress":
        """Return the saved progress if it has the identity of `fresh`, otherwise `fresh`."""
        try:
            saved = cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return fresh
        return saved if saved.identity == fresh.identity else fresh

    def save(self, path: Path) -> None:
        """Write the file whole or not at all."""
        write_atomically(path, json.dumps(asdict(self)))


class _Lane:
    """One cursor: the pending calls of its current part of the journal, and its failures."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.calls: deque[Callable[[], None]] = deque()
        self.end = 0
        self.failures = 0
        self.warned = False
        self.failed_at = 0.0

    def waits_until(self, hurry: bool) -> float:
        if not self.failures:
            return 0.0
        longest = _LONGEST_DELAY_AT_THE_END if hurry else _LONGEST_DELAY
        return self.failed_at + min(longest, _FIRST_DELAY * 2.0 ** min(self.failures - 1, 16))


class Replayer:
    """Sends each event of a journal to an MLflow store once.

    Progress is saved beside the journal after each part. A part that is sent again changes nothing.
    Only one replayer may work on a journal at a time.

    Args:
        journal: the file.
        destination: store and experiment of the runs.
        search: identifies the search among all others in the store.
        say: called with each line for the user.
        warn_after: consecutive failures before a warning. Proxies and restarts often cause a single
            one.
    """

    def __init__(
        self,
        journal: Path,
        destination: Destination,
        search: str,
        say: Callable[[str], None],
        warn_after: int = 2,
    ) -> None:
        self.events = 0
        self.runs: set[str] = set()
        self.refusals = 0
        self.trouble = ""
        self._journal = journal
        self._destination = destination
        self._search = search
        self._say = say
        self._warn_after = warn_after
        self._file = journal.with_name(PROGRESS)
        self._store: RunStore | None = None
        self._progress = _Progress.load(self._file, self._fresh())
        if self._progress.records > self._journal_size():
            self._progress = self._fresh()
        self._records = _Lane("MLflow")
        self._artifacts = _Lane("MLflow's artifact store")
        # Runs that start before this offset, and doubted ones, may exist in the store already.
        self._known_from = 0
        self._doubted: dict[str, float] = {}

    @property
    def failures(self) -> int:
        """Number of consecutive failed attempts."""
        return max(self._records.failures, self._artifacts.failures)

    @property
    def offset(self) -> int:
        """Offset in the journal up to which everything has arrived."""
        return self._progress.artifacts

    def step(self, hurry: bool = False) -> bool:
        """Send the next part of the journal.

        Args:
            hurry: pause only briefly between attempts.

        Returns:
            Whether everything has arrived. False also after a failure: call again after `pause`.
        """
        records = self._attempt(self._records, self._step_records, hurry)
        artifacts = self._attempt(self._artifacts, self._step_artifacts, hurry)
        if records and artifacts and self._doubted:
            return self._attempt(self._records, partial(self._settle, hurry), hurry)
        return records and artifacts

    def retry_now(self) -> None:
        """Forget the failures so far, so that the next step does not wait."""
        self._records.failures = self._artifacts.failures = 0

    def pause(self, hurry: bool = False) -> float:
        """Return the seconds to wait before the next step."""
        troubled = [lane for lane in (self._records, self._artifacts) if lane.failures]
        if not troubled:
            return 0.0
        return max(0.0, min(lane.waits_until(hurry) for lane in troubled) - time.monotonic())

    def _fresh(self) -> _Progress:
        where = self._destination
        return _Progress(where.shown, where.experiment, self._search)

    def _attempt(self, lane: _Lane, step: Callable[[], bool], hurry: bool) -> bool:
        if time.monotonic() < lane.waits_until(hurry):
            return False
        try:
            done = step()
        except VanishedError as error:
            if self._progress.runs:
                self._say(
                    f"MLflow at {self._destination.shown} no longer has the runs of this search; "
                    f"replaying them from {self._journal}"
                )
            self.restart()
            self._failed(lane, f"it has lost runs: {error}")
            return False
        except (UnavailableError, OSError) as error:
            self._failed(lane, str(error))
            return False
        if lane.warned:
            self._say(f"{self._named(lane)} works again; replaying the journal")
        lane.warned = False
        lane.failures = 0
        return done

    def _failed(self, lane: _Lane, cause: str) -> None:
        lane.failures += 1
        lane.failed_at = time.monotonic()
        self.trouble = f"{lane.what} does not accept records ({cause})"
        # The store may return as a different one: look up the experiment and the runs again.
        self._store = None
        if lane.failures >= self._warn_after and not lane.warned:
            lane.warned = True
            name = self._journal.parent.name
            self._say(
                f"{self._named(lane)} does not accept records ({cause}). Nothing is lost: "
                f"{self._journal} holds all events and is replayed once the server answers; after "
                f"the search, run: {Home(self._destination.home).command('sync', name)}"
            )

    def _named(self, lane: _Lane) -> str:
        return f"{lane.what} at {self._destination.shown}"

    def restart(self) -> None:
        """Replay the journal from its start; existing runs in the store are reused."""
        self._progress = self._fresh()
        self._records.calls.clear()
        self._artifacts.calls.clear()
        self._doubted.clear()

    def _connected(self) -> RunStore:
        if self._store is None:
            where = self._destination
            store = RunStore(
                where.tracking_uri, where.experiment, where.artifacts, self._search, self._refused
            )
            oldest = next(iter(self._progress.runs.values()), None)
            if oldest is not None and not store.exists(oldest):
                raise VanishedError(f"run {oldest} is not there")
            self._known_from = self._journal_size() if store.holds_runs() else 0
            store.install_views(time.time_ns() // 1_000_000)
            self._progress.experiment_id = store.experiment_id
            self._store = store
        return self._store

    def _journal_size(self) -> int:
        return self._journal.stat().st_size if self._journal.exists() else 0

    def _refused(self, line: str) -> None:
        self.refusals += 1
        self._say(f"MLflow at {self._destination.shown} refuses a value: {line}")

    def _step_records(self) -> bool:
        # Connect even without new events: the store may have lost runs.
        self._connected()
        lane = self._records
        if not lane.calls:
            begin = self._progress.records
            events, lane.end = read(self._journal, begin, _WINDOW)
            if lane.end == begin:
                return True
            for key, work in group_events(events, self._search).items():
                lane.calls.append(partial(self._write, key, work, begin))
            self.events += len(events)
        self._drain(lane)
        self._progress.records = lane.end
        self._progress.save(self._file)
        return False

    def _step_artifacts(self) -> bool:
        lane = self._artifacts
        if not lane.calls:
            begin = self._progress.artifacts
            ahead = self._progress.records - begin
            if not ahead:
                return True
            events, lane.end = read(self._journal, begin, min(_WINDOW, ahead))
            for (key, name), text in text_files(events).items():
                lane.calls.append(partial(self._write_file, key, name, text))
            for model in models(events):
                lane.calls.append(partial(self._write_model, model))
        self._drain(lane)
        self._progress.artifacts = lane.end
        self._progress.save(self._file)
        return False

    def _drain(self, lane: _Lane) -> None:
        # Calls that succeeded are not repeated when a later one fails.
        while lane.calls:
            lane.calls[0]()
            lane.calls.popleft()
            lane.failures = 0

    def _write(self, key: str, work: Work, begin: int) -> None:
        store = self._connected()
        runs = self._progress.runs
        created = False
        if key not in runs and (begin < self._known_from or key in self._doubted):
            found = store.find(key, digest=work.tags.get("digest"))
            if found is not None:
                runs[key] = found
        if key not in runs:
            parent = None if key == PARENT else runs.get(PARENT)
            known = {name: text for name, text in work.tags.items() if not has_ids(text)}
            try:
                runs[key] = store.create(key, work.name, work.time, known, parent)
            except UnavailableError:
                self._doubted[key] = time.monotonic()
                raise
            created = True
        run_id = runs[key]
        tags = {name: text for name, text in work.tags.items() if not created or has_ids(text)}
        store.log(run_id, key, params=work.params, tags=tags, metrics=work.metrics)
        if work.inputs:
            store.log_inputs(run_id, key, [*work.inputs.values()])
        if isinstance(work.status, Finish):
            store.finish(run_id, key, work.status.status, work.status.time)
        elif work.status is not None and not created:
            store.resume(run_id, key)
        self.runs.add(key)

    def _write_file(self, key: str, name: str, text: str) -> None:
        store = self._connected()
        run_id = self._progress.runs.get(key) or store.find(key)
        if run_id is not None:
            store.log_text(run_id, key, name, text)

    def _write_model(self, event: Model) -> None:
        store = self._connected()
        run_id = self._progress.runs.get(event.run) or store.find(event.run)
        if run_id is None:
            return
        model = PyfuncModel(event.code, event.sources, event.example, event.requirements)
        with TemporaryDirectory() as aside:
            folder = Path(aside) / MODEL_FOLDER
            try:
                model.save(folder, self._journal.parent / event.weights)
            except (RefusedError, OSError) as error:
                # Sending it again would fail again.
                self._refused(f"run {event.run!r}: its model is left out: {error}")
                return
            store.log_folder(run_id, event.run, folder, MODEL_FOLDER)

    def _settle(self, hurry: bool) -> bool:
        """Delete duplicate runs that a slow server created after a repeated request."""
        store = self._connected()
        for key, since in list(self._doubted.items()):
            if hurry or time.monotonic() - since > _DOUBT:
                store.find(key, self._progress.runs.get(key))
                del self._doubted[key]
        return True
