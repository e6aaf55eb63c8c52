"""The tracking process: every event arrives once, whatever fails."""

import contextlib
import copy
import dataclasses
import fcntl
import http.client
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from search.tracking.journal import Journal
from search.tracking.journal_events import (
    PARENT,
    Finish,
    Metrics,
    Start,
    Status,
    Update,
)
from search.tracking.journal_reader import read
from search.tracking.mlflow_runs import RunStore, has_experiment
from search.tracking.pyfunc_model import PyfuncModel
from search.tracking.tracking_process import (
    Destination,
    SyncReport,
    Tracker,
    create_local_store,
    quiet,
    sync,
    ui_command,
)
from spaces.errors import BadInputError
from tests.ports import free_port
from tests.search.tracking_server import PROJECT, TIMEOUT, Server, wait_for


@pytest.fixture(autouse=True)
def no_progress_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


class Search:
    """The journal of a driver and its destination."""

    def __init__(self, folder: Path, uri: str, home: Path) -> None:
        self.id = f"{folder.name}-{uuid.uuid4().hex[:8]}"
        self.path = folder / "journal.jsonl"
        self.destination = Destination(uri, home, experiment=f"experiment of {self.id}")
        self.journal = Journal(self.path)

    def tracker(self) -> Tracker:
        return Tracker(self.path, self.destination, self.id)

    def begin(self) -> None:
        self.journal.start(
            PARENT, "quickstart", params={"space": "vgg", "trials": 3}, tags={"kind": "search"}
        )

    def trial(self, key: str, epochs: int = 3, status: Status | None = "FINISHED") -> None:
        self.journal.start(
            key,
            f"trial {key}",
            params={f"p{n}": n / 3 for n in range(10)},
            tags={f"t{n}": f"it's {n}" for n in range(5)},
            artifacts={"candidate.json": f'{{"trial": "{key}"}}', "notes/drawing.txt": "│ conv │"},
        )
        for epoch in range(epochs):
            self.journal.metrics(
                key, epoch, {"accuracy": epoch / 7, "loss": math.nan if epoch == 1 else 1 / 3}
            )
        if status is not None:
            self.journal.finish(key, status)

    def end(self) -> None:
        self.journal.update(PARENT, tags={"trials": 3}, artifacts={"report.html": "<h1>done</h1>"})
        self.journal.finish(PARENT, "FINISHED")
        self.journal.close()

    def sync(self, **settings: bool) -> SyncReport:
        return sync(self.path, self.destination, self.id, **settings)

    def could_sync(self) -> bool:
        """Sync, unless the tracking process still runs."""
        with contextlib.suppress(BadInputError):
            self.sync()
            return True
        return False

    def through(self, uri: str) -> Self:
        """Return the same search, tracked under another address."""
        other = copy.copy(self)
        other.destination = dataclasses.replace(self.destination, tracking_uri=uri)
        return other

    def client(self) -> MlflowClient:
        return MlflowClient(self.destination.tracking_uri)

    def runs(self, view: int = ViewType.ACTIVE_ONLY) -> dict[str, Run]:
        """Return the runs in the store by key; a key that has two fails the test."""
        client = self.client()
        experiment = client.get_experiment_by_name(self.destination.experiment)
        assert experiment is not None
        found: dict[str, Run] = {}
        for run in client.search_runs([experiment.experiment_id], run_view_type=view):
            search, _, key = run.data.tags["borderline.run"].partition("/")
            assert search == self.id
            assert key not in found, f"two runs of {key!r}"
            found[key] = run
        return found

    def assert_arrived(self) -> None:
        """Compare the store with the journal: every event is there, once."""
        client = self.client()
        runs = self.runs()
        events = read(self.path, limit=1 << 30)[0]
        assert set(runs) == {event.run for event in events if isinstance(event, Start)}
        for key, run in runs.items():
            mine = [event for event in events if getattr(event, "run", None) == key]
            starts = [event for event in mine if isinstance(event, Start)]
            assert run.info.run_name == starts[0].name
            assert run.info.start_time == starts[0].time
            assert run.data.params == {
                name: str(value) for event in starts for name, value in event.params.items()
            }
            tags, files = {}, {}
            for event in mine:
                if isinstance(event, Start | Update):
                    tags |= event.tags
                    files |= event.artifacts
            assert tags.items() <= run.data.tags.items()
            parent = None if key == PARENT else runs[PARENT].info.run_id
            assert run.data.tags.get("mlflow.parentRunId") == parent
            lifecycle = [event for event in mine if isinstance(event, Start | Finish)]
            if isinstance(lifecycle[-1], Finish):
                assert run.info.status == lifecycle[-1].status
                assert run.info.end_time == lifecycle[-1].time
            else:
                assert run.info.status == "RUNNING"
            reported = [event for event in mine if isinstance(event, Metrics)]
            for name in {name for event in reported for name in event.metrics}:
                history = client.get_metric_history(run.info.run_id, name)
                assert sorted((m.step, m.timestamp, repr(m.value)) for m in history) == sorted(
                    (event.step, event.time, repr(event.metrics[name]))
                    for event in reported
                    if name in event.metrics
                )
            for name, text in files.items():
                with contextlib.ExitStack() as stack:
                    folder = self.path.parent / "downloaded" / run.info.run_id
                    folder.mkdir(parents=True, exist_ok=True)
                    stack.callback(shutil.rmtree, folder)
                    local = client.download_artifacts(run.info.run_id, name, str(folder))
                    assert Path(local).read_text() == text


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("empty")
    create_local_store(home)
    return home / "mlflow.db"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Server]:
    """A server that is not started yet."""
    server = Server(tmp_path_factory.mktemp("server"), empty_store)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """A home with a local store."""
    home = tmp_path_factory.mktemp("home")
    shutil.copy(empty_store, home / "mlflow.db")
    return home


@pytest.fixture
def remote(tmp_path: Path, server: Server) -> Iterator[Search]:
    """A search that is tracked by the server."""
    search = Search(tmp_path / "quickstart", server.uri, tmp_path)
    yield search
    search.journal.close()


@pytest.fixture
def local(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Search]:
    """A search that is tracked in the local store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = Destination.from_environment(home).tracking_uri
    search = Search(tmp_path / "quickstart", uri, home)
    yield search
    search.journal.close()


def lines(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return capfd.readouterr().err.splitlines()


def test_reused_trial_number_of_lost_head_gets_its_own_run(
    local: Search,
) -> None:
    """A head restored from a snapshot draws later trials again."""
    local.begin()
    before = local.path.read_bytes()
    local.journal.start("7", "trial 7", params={"depth": 3}, tags={"digest": "lost"})
    local.sync()

    local.journal.close()
    local.path.write_bytes(before)
    local.path.with_name("tracking.json").unlink()
    local.journal = Journal(local.path)
    local.journal.start("7", "trial 7", params={"depth": 5}, tags={"digest": "drawn anew"})
    assert local.sync().refused == 0
    runs = local.runs()
    assert runs["7"].data.params == {"depth": "5"}
    assert runs["7 (lost)"].data.params == {"depth": "3"}
    assert runs["7 (lost)"].data.tags["verdict"] == "lost"
    assert runs["7 (lost)"].info.status == "KILLED"


# The tracking process and a real server.


def test_late_server_receives_search_from_its_beginning(
    remote: Search, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    server.stop()
    tracker = remote.tracker()
    tracker.start()
    remote.begin()
    remote.trial("0")
    said: list[str] = []
    wait_for(lambda: said.extend(lines(capfd)) or said, "a warning")

    server.start()
    remote.trial("1", status="FAILED")
    remote.end()

    assert tracker.finish(TIMEOUT)
    remote.assert_arrived()
    said += lines(capfd)
    assert said == [
        f"tracking: MLflow at {server.uri} does not accept records (Connection refused). Nothing "
        f"is lost: {remote.path} holds all events and is replayed once the server answers; after "
        f"the search, run: python search.py sync quickstart --home {remote.path.parent.parent}",
        f"tracking: MLflow at {server.uri} works again; replaying the journal",
    ]


def test_search_survives_death_of_server(remote: Search, server: Server) -> None:
    server.start()
    tracker = remote.tracker()
    tracker.start()
    remote.begin()
    remote.trial("0", status=None)
    wait_for(lambda: server.runs() >= 2, "the first trial arrives")

    server.stop()
    remote.trial("1")
    remote.journal.finish("0", "KILLED")
    server.start()
    remote.trial("2")
    remote.end()

    assert tracker.finish(TIMEOUT)
    remote.assert_arrived()


def test_emptied_server_receives_everything_again(
    remote: Search, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    server.start()
    tracker = remote.tracker()
    tracker.start()
    remote.begin()
    remote.trial("0")
    remote.trial("1", status=None)
    saved = remote.path.with_name("tracking.json")
    wait_for(saved.exists, "the first trials arrive")

    server.stop()
    server.empty()
    server.start()
    remote.journal.metrics("1", 9, {"accuracy": 0.9})
    remote.end()

    assert tracker.finish(TIMEOUT)
    remote.assert_arrived()
    assert any("no longer has the runs of this search" in line for line in lines(capfd))


def test_killed_processes_lose_and_duplicate_nothing(remote: Search, server: Server) -> None:
    server.start()
    tracker = remote.tracker()
    remote.begin()
    for key in range(20):
        remote.trial(str(key))
    before = server.runs()

    for more in (2, 5, 3):
        tracker.start()
        goal = server.runs() + more
        wait_for(lambda goal=goal: server.runs() >= goal, "some trials arrive")
        assert tracker.pid is not None
        os.kill(tracker.pid, signal.SIGKILL)
        wait_for(lambda: tracker.pid is None, "the tracking process ends")
    assert server.runs() < before + 21
    remote.end()

    assert tracker.finish(TIMEOUT)
    remote.assert_arrived()


def test_dead_process_is_replaced_at_the_end(remote: Search, server: Server) -> None:
    server.start()
    tracker = remote.tracker()
    tracker.start()
    assert tracker.pid is not None
    os.kill(tracker.pid, signal.SIGKILL)
    remote.begin()
    remote.trial("0")
    remote.end()

    assert tracker.finish(TIMEOUT)
    remote.assert_arrived()


def test_process_has_low_priority_and_ignores_ctrl_c_of_driver(
    remote: Search, server: Server
) -> None:
    tracker = remote.tracker()
    tracker.start()
    pid = tracker.pid
    assert pid is not None
    remote.end()

    assert os.getsid(pid) == pid
    wait_for(lambda: os.getpriority(os.PRIO_PROCESS, pid) > 0, "a lower priority")

    server.start()
    assert tracker.finish(TIMEOUT)


DRIVER = """
import os, sys
from pathlib import Path
from search.tracking.journal import Journal
from search.tracking.tracking_process import Destination, Tracker

path, uri, experiment, search = Path(sys.argv[1]), *sys.argv[2:]
journal = Journal(path)
Tracker(path, Destination(uri, path.parent, experiment), search).start()
journal.start("", "quickstart")
journal.start("0", "trial 0")
journal.metrics("0", 1, {"accuracy": 0.5})
os._exit(1)
"""


def driver_that_dies(search: Search, uri: str) -> None:
    where = search.destination
    command = [sys.executable, "-c", DRIVER, str(search.path), uri, where.experiment, search.id]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    assert subprocess.run(command, env=environment, check=False).returncode == 1


def test_process_of_dead_driver_sends_the_rest_and_ends(remote: Search, server: Server) -> None:
    server.start()
    driver_that_dies(remote, server.uri)

    wait_for(lambda: remote.path.with_name("tracking.json").exists(), "something arrives")
    wait_for(remote.could_sync, "the tracking process ends")
    remote.assert_arrived()
    assert remote.runs()["0"].info.status == "RUNNING"


def test_process_of_dead_driver_ends_if_server_is_dead(
    remote: Search, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    driver_that_dies(remote, f"http://127.0.0.1:{free_port()}")
    wait_for(lambda: "Connection refused" in capfd.readouterr().err, "a warning")

    server.start()
    wait_for(remote.could_sync, "the tracking process ends")
    remote.assert_arrived()


# A server that misbehaves.


@contextlib.contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    listener = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.server_address[1]}"
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def answer(self) -> None:
        raise NotImplementedError


class Forwarding(Handler):
    """A proxy in front of a real server."""

    port: int

    def forward(self, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(self.command, self.path, body, dict(self.headers.items()))
            answer = connection.getresponse()
            return answer.status, answer.read()

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_lost_responses_duplicate_nothing(remote: Search, server: Server) -> None:
    server.start()
    calls = 0

    class LosesAnswers(Forwarding):
        port = server.port

        def answer(self) -> None:
            nonlocal calls
            calls += 1
            done = self.forward(self.body())
            if calls % 11:
                self.reply(*done)

    remote.begin()
    for key in "01":
        remote.trial(key)
    remote.end()
    with listening(LosesAnswers) as uri:
        remote.through(uri).sync()

    assert calls > 20
    remote.assert_arrived()


def test_run_created_too_late_is_deleted_as_duplicate(remote: Search, server: Server) -> None:
    server.start()
    asked: list[bytes] = []

    class CreatesLate(Forwarding):
        port = server.port

        def answer(self) -> None:
            body = self.body()
            if not self.path.endswith("/runs/create") or f"{remote.id}/0".encode() not in body:
                self.reply(*self.forward(body))
                return
            asked.append(body)
            if len(asked) == 2:
                self.reply(*self.forward(body))
                self.forward(asked[0])

    remote.begin()
    remote.trial("0")
    remote.end()
    with listening(CreatesLate) as uri:
        remote.through(uri).sync()

    assert len(asked) == 2
    remote.assert_arrived()
    assert (
        len(
            remote.client().search_runs(
                [remote.runs()[PARENT].info.experiment_id], run_view_type=ViewType.DELETED_ONLY
            )
        )
        == 1
    )


@pytest.mark.parametrize(
    ("status", "body", "cause"),
    [
        (500, b"oh", "it answers with error 500"),
        (403, b"Invalid Host header - possible DNS rebinding attack", "Invalid Host header"),
        (404, b"<html>another server</html>", "404"),
    ],
)
def test_refusing_server_is_reported_in_one_line(
    remote: Search, status: int, body: bytes, cause: str
) -> None:
    class Refuses(Forwarding):
        def answer(self) -> None:
            self.body()
            self.reply(status, body)

    remote.begin()
    with listening(Refuses) as uri, pytest.raises(BadInputError, match=cause) as error:
        remote.through(uri).sync()

    assert "MLFLOW_TRACKING_URI = http://127.0.0.1" in str(error.value)
    assert f"sync again; all events are saved in {remote.path}" in str(error.value)


class Silent(Handler):
    """Accepts every request and never answers."""

    def answer(self) -> None:
        time.sleep(TIMEOUT)


def test_silent_server_is_reported_in_one_line(
    remote: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    remote.begin()

    with (
        listening(Silent) as uri,
        pytest.raises(BadInputError, match="does not answer in time"),
    ):
        remote.through(uri).sync()


def test_driver_never_waits_longer_than_timeout(remote: Search) -> None:
    remote.begin()
    remote.end()
    with listening(Silent) as uri:
        tracker = remote.through(uri).tracker()
        tracker.start()

        assert not tracker.finish(timeout=2)

    assert tracker.pid is None


def test_failed_start_of_process_does_not_reach_driver(
    remote: Search, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    tracker = remote.tracker()
    tracker.start()

    assert tracker.pid is None
    assert not tracker.finish(timeout=TIMEOUT)
    assert f"all events are saved in {remote.path}" in lines(capfd)[0]


# The local store.


def test_local_store_is_created_silently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home = tmp_path / "my runs #1"
    uri = Destination.from_environment(home).tracking_uri
    search = Search(home / "quickstart", uri, home)
    tracker = search.tracker()
    tracker.start()
    search.begin()
    search.trial("0")
    search.end()

    assert tracker.finish(TIMEOUT)

    search.assert_arrived()
    assert capfd.readouterr() == ("", "")
    assert len(list((home / "mlartifacts").rglob("candidate.json"))) == 1
    assert not list(home.glob("*.new-*"))


def test_kill_during_creation_leaves_no_incomplete_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = Destination.from_environment(tmp_path).tracking_uri
    search = Search(tmp_path / "quickstart", uri, tmp_path)
    search.begin()
    search.trial("0")
    tracker = search.tracker()
    tracker.start()
    wait_for(lambda: list(tmp_path.glob(".mlflow.db.new-*")), "the store is being made")
    assert tracker.pid is not None
    os.kill(tracker.pid, signal.SIGKILL)
    wait_for(lambda: tracker.pid is None, "the tracking process ends")
    assert not (tmp_path / "mlflow.db").exists()

    search.sync()

    search.assert_arrived()
    assert not list(tmp_path.glob(".mlflow.db.new-*"))


def test_sync_sends_the_rest(local: Search) -> None:
    local.begin()
    local.trial("0")
    # The parent, its opening, and the trial's five events.
    assert local.sync() == SyncReport(events=7, runs=2, refused=0)
    local.assert_arrived()

    local.journal.metrics("0", 7, {"accuracy": 0.9})
    assert local.sync() == SyncReport(events=1, runs=1, refused=0)
    local.assert_arrived()

    assert local.sync() == SyncReport(events=0, runs=0, refused=0)


def test_sync_from_start_changes_nothing(local: Search) -> None:
    local.begin()
    local.trial("0")
    local.end()
    local.sync()
    before = local.runs()

    report = local.sync(from_start=True)
    local.path.with_name("tracking.json").unlink()
    local.sync()
    local.path.with_name("tracking.json").write_text('{"torn')
    local.sync()

    assert report.runs == 2
    assert {run.info.run_id for run in local.runs().values()} == {
        run.info.run_id for run in before.values()
    }
    local.assert_arrived()


def test_new_address_receives_everything(local: Search, server: Server) -> None:
    server.start()
    local.begin()
    local.trial("0")
    local.sync()

    remote = local.through(server.uri)
    remote.sync()

    remote.assert_arrived()
    local.assert_arrived()


def test_resumed_run_continues(local: Search) -> None:
    local.begin()
    local.trial("0", status="KILLED")
    local.journal.finish(PARENT, "KILLED")
    local.journal.close()
    local.sync()
    local.assert_arrived()

    local.journal = Journal(local.path)
    local.begin()
    local.journal.start("0", "trial 0")
    local.journal.metrics("0", 3, {"accuracy": 0.9})
    local.sync()
    assert {run.info.status for run in local.runs().values()} == {"RUNNING"}

    local.journal.finish("0", "FINISHED")
    local.end()
    local.sync()
    local.assert_arrived()


def test_missing_weights_leave_out_the_model_alone(
    local: Search, capfd: pytest.CaptureFixture[str]
) -> None:
    local.begin()
    local.trial("finalist-1")
    model = PyfuncModel("code", {}, "", [])
    local.journal.model("finalist-1", model, "finalists/trial-1-seed-1.pt")
    local.end()
    assert local.sync().refused == 1
    local.assert_arrived()
    assert "its model is left out" in capfd.readouterr().err


def test_searches_in_one_experiment_stay_separate(local: Search, tmp_path: Path) -> None:
    other = local.through(local.destination.tracking_uri)
    other.id = f"{local.id}'s twin"
    other.path = tmp_path / "twin" / "journal.jsonl"
    other.journal = Journal(other.path)
    for search in (local, other):
        search.begin()
        search.trial("0")
        search.end()
        search.sync()
        search.sync(from_start=True)

    experiment = local.client().get_experiment_by_name(local.destination.experiment)
    assert experiment is not None
    runs = local.client().search_runs([experiment.experiment_id])
    assert sorted(run.data.tags["borderline.run"] for run in runs) == [
        f"{local.id}%27s twin/",
        f"{local.id}%27s twin/0",
        f"{local.id}/",
        f"{local.id}/0",
    ]


def test_only_one_process_replays_a_journal(local: Search) -> None:
    local.begin()
    with local.path.with_name("tracking.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        with pytest.raises(BadInputError, match="another process is replaying its journal"):
            local.sync()

    local.sync()
    local.assert_arrived()


def test_infinite_metrics_arrive_as_largest_numbers(local: Search) -> None:
    local.begin()
    local.journal.metrics(PARENT, 0, {"up": math.inf, "down": -math.inf}, time=5)
    local.sync()

    metrics = local.runs()[PARENT].data.metrics
    assert metrics["up"] == sys.float_info.max
    assert metrics["down"] == -sys.float_info.max


def test_large_requests_are_split_and_long_values_cut(remote: Search, server: Server) -> None:
    server.start()
    remote.journal.start(
        PARENT,
        "n" * 300,
        params={f"p{n}": "é" * 7000 for n in range(120)},
        tags={f"t{n}": "x" * 9000 for n in range(120)},
    )
    for step in range(1100):
        remote.journal.metrics(PARENT, step, {"accuracy": step / 7, "loss": 1.0}, time=step)

    assert remote.sync() == SyncReport(events=1102, runs=1, refused=0)

    run = remote.runs()[PARENT]
    assert set(run.data.params) == {f"p{n}" for n in range(120)}
    assert set(run.data.params.values()) == {"é" * 5999 + "…"}
    assert {run.data.tags[f"t{n}"] for n in range(120)} == {"x" * 4999 + "…"}
    history = remote.client().get_metric_history(run.info.run_id, "accuracy")
    assert [m.step for m in sorted(history, key=lambda m: m.step)] == list(range(1100))


def test_refused_value_does_not_block_other_values(
    remote: Search, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    server.start()
    remote.begin()
    remote.journal.start(
        "0",
        "trial \0 0",
        params={"good": "\ud800 half a pair", "bad*": 1, "k" * 300: 2},
        tags={"good": "nul \0", "bad*": "1"},
        artifacts={"../outside.txt": "no", "a/./b.txt": "no", "in side/a.b.txt": "yes"},
    )
    remote.journal.metrics("0", 0, {"bad*": 1.0, "accuracy": 0.5})
    remote.journal.finish("0", "FINISHED")
    remote.sync()
    remote.journal.start("0", "trial 0", params={"good": "changed", "new": 1})
    remote.journal.finish("0", "FINISHED")

    report = remote.sync()

    run = remote.runs()["0"]
    assert report.refused == 1
    assert run.data.params == {"good": "? half a pair", "new": "1"}
    assert run.data.tags["good"] == "nul \N{REPLACEMENT CHARACTER}"
    assert run.data.metrics == {"accuracy": 0.5}
    assert run.info.status == "FINISHED"
    assert [file.path for file in remote.client().list_artifacts(run.info.run_id)] == ["in side"]
    said = lines(capfd)
    for entry in (
        "the parameter 'bad*' = '1'",
        f"the parameter '{'k' * 60}' = '2'",
        "the tag 'bad*' = '1'",
        "the metric 'bad*' = '1.0'",
        "the file '../outside.txt'",
        "the file 'a/./b.txt'",
        "the parameter 'good' = 'changed'",
    ):
        assert sum(f"run '0': {entry} is left out" in line for line in said) == 1
    assert len(said) == 7


def test_deleted_run_stays_deleted(local: Search) -> None:
    local.begin()
    local.trial("0", status=None)
    local.sync()
    local.client().delete_run(local.runs()["0"].info.run_id)

    local.journal.metrics("0", 5, {"accuracy": 0.9})
    local.journal.finish("0", "FINISHED")
    local.trial("1")
    assert local.sync().refused == 0
    assert local.sync(from_start=True).refused == 0

    assert set(local.runs()) == {PARENT, "1"}
    assert set(local.runs(ViewType.ALL)) == {PARENT, "0", "1"}


def test_deleted_experiment_is_reported_with_restore_command(local: Search) -> None:
    local.begin()
    local.trial("0", status=None)
    local.sync()
    experiment = local.runs()[PARENT].info.experiment_id
    local.client().delete_experiment(experiment)
    local.journal.finish("0", "FINISHED")

    with pytest.raises(BadInputError, match=f"mlflow experiments restore .* {experiment}"):
        local.sync()

    local.client().restore_experiment(experiment)
    local.sync()
    local.assert_arrived()


def test_failing_artifact_store_does_not_delay_metrics(
    tmp_path: Path, home: Path, local: Search
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(home / "mlflow.db", elsewhere / "mlflow.db")
    local.destination = Destination(
        f"sqlite:///{elsewhere}/mlflow.db", elsewhere, local.destination.experiment
    )
    (elsewhere / "mlartifacts").write_text("in the way")
    local.begin()
    local.trial("0")

    with pytest.raises(BadInputError, match="artifact store does not accept records"):
        local.sync()
    assert local.runs()["0"].data.metrics["accuracy"] == 2 / 7
    local.trial("1")
    with pytest.raises(BadInputError, match="artifact store does not accept records"):
        local.sync()
    assert local.runs()["1"].info.status == "FINISHED"

    (elsewhere / "mlartifacts").unlink()
    local.sync()
    local.assert_arrived()


def test_invalid_database_is_reported_in_one_line(local: Search, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("a letter, not a database" * 100)
    local.begin()

    with pytest.raises(BadInputError, match="file is not a database"):
        local.through(f"sqlite:///{tmp_path}/mlflow.db").sync()


@pytest.mark.parametrize("address", ["foo://x", "not-an-address"])
def test_invalid_address_is_reported_in_one_line(local: Search, address: str) -> None:
    local.begin()

    expected = f"^MLFLOW_TRACKING_URI = {address}: .*events are saved in "
    with pytest.raises(BadInputError, match=expected):
        local.through(address).sync()


def test_sync_without_journal_is_refused(tmp_path: Path) -> None:
    where = Destination.from_environment(tmp_path)

    with pytest.raises(BadInputError, match=r"there is no .*/gone/journal.jsonl"):
        sync(tmp_path / "gone" / "journal.jsonl", where, "gone-1")


def test_sync_reports_arrived_fraction(local: Search) -> None:
    local.begin()
    for key in range(3):
        local.trial(str(key))
    told: list[float] = []

    sync(local.path, local.destination, local.id, progress=told.append)

    assert told == sorted(told)
    assert told[-1] == 1.0


def test_passwords_in_addresses_are_never_shown(
    remote: Search, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = remote.through(f"http://me:secret@127.0.0.1:{free_port()}")
    remote.begin()

    with pytest.raises(BadInputError) as error:
        secret.sync()

    assert "http://***@127.0.0.1" in str(error.value)
    for text in (str(error.value), ui_command(secret.destination), *lines(capfd)):
        assert "secret" not in text
    tracking = remote.path.with_name("tracking.json")
    assert not tracking.exists() or "secret" not in tracking.read_text()


def test_driver_does_not_import_mlflow() -> None:
    code = (
        "import sys, search.tracking.tracking_process, search.tracking.journal; "
        "sys.exit('mlflow' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}

    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    )


# How to look at it.


def test_ui_command_serves_this_machine_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("BORDERLINE_HOME", raising=False)
    monkeypatch.chdir(PROJECT)
    usual = Destination.from_environment(Path("runs"))
    assert usual.tracking_uri == f"sqlite:///{PROJECT}/runs/mlflow.db"
    assert ui_command(usual) == "sh mlflow/serve.sh"

    monkeypatch.chdir(tmp_path)
    assert ui_command(Destination.from_environment(PROJECT / "runs")) == (
        f"sh {PROJECT}/mlflow/serve.sh"
    )
    assert ui_command(Destination.from_environment(Path("my runs"))) == (
        f"BORDERLINE_HOME='{tmp_path}/my runs' sh {PROJECT}/mlflow/serve.sh"
    )

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.com")
    assert ui_command(Destination.from_environment(tmp_path)) == "https://mlflow.example.com"

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@db.example.com/mlflow")
    assert ui_command(Destination.from_environment(tmp_path)) == (
        f"{sys.executable} -m mlflow server --host 127.0.0.1 --workers 1"
        ' --backend-store-uri "$MLFLOW_TRACKING_URI"'
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "http"], "--port http is no number"),
        (["--port"], "--port needs a number"),
        (["--open"], "--open is no option"),
    ],
)
def test_serve_script_reports_invalid_options(arguments: list[str], said: str) -> None:
    script = str(PROJECT / "mlflow" / "serve.sh")

    done = subprocess.run(["sh", script, *arguments], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stderr.startswith(f"serve.sh: {said}")


def test_deleting_the_runs_of_a_search_leaves_those_of_others(
    local: Search, tmp_path: Path, home: Path
) -> None:
    uri = local.destination.tracking_uri
    other = Search(tmp_path / "other", uri, home)
    for search in (local, other):
        search.destination = local.destination
        search.begin()
        search.trial("1", epochs=1)
        search.end()
        search.sync()

    def store(search: Search) -> RunStore:
        return RunStore(uri, local.destination.experiment, None, search.id, print)

    with quiet():
        assert (store(local).count(), store(other).count()) == (2, 2)
        store(local).delete_all()
        assert (store(local).count(), store(other).count()) == (0, 2)
        # `mlflow gc` removes the files of deleted runs, and so those of a champion among them.
        client = MlflowClient(uri)
        run = client.search_runs([store(other).experiment_id])[0].info.run_id
        client.create_registered_model("nights")
        version = client.create_model_version("nights", "file:///nowhere", run)
        client.set_registered_model_alias("nights", "champion", version.version)
        assert store(other).in_use() == {run: "nights@champion"}
        store(other).delete_all()
        assert store(other).count() == 1
        assert [has_experiment(uri, name) for name in ("no", local.destination.experiment)] == [
            False,
            True,
        ]
        assert client.get_experiment_by_name("no") is None
