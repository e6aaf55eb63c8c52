"""Outages during a search: of its disk, tracking, processes and nodes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from search.study.storages import read_trials
from search.tracking.journal_events import (
    Finish,
    Metrics,
)
from search.tracking.journal_reader import read
from search.urls import sqlite_uri
from tests.search.users import CALLED, ROOT, Result, User, descendants, end_of, wait_for

# Whole searches run one after another, possibly on a busy machine.
pytestmark = pytest.mark.timeout(600)

NO_FINALISTS = {"count": 0}
NOT_TRACKED = {"enabled": False}


def trained(user: User, name: str) -> list[FrozenTrial]:
    trials = read_trials(user.home / name / "study.db", name)
    return [trial for trial in trials if "rejected" not in trial.user_attrs]


def steps(user: User, name: str) -> dict[str, list[int]]:
    """Return the epochs of each trial in the order of the journal."""
    events, _ = read(user.home / name / "journal.jsonl", limit=1 << 30)
    found: dict[str, list[int]] = {}
    for event in events:
        if isinstance(event, Metrics) and event.run.isdecimal():
            found.setdefault(event.run, []).append(event.step)
    return found


def assert_whole(user: User, name: str, epochs: int) -> None:
    """Assert that study and journal hold every epoch of every trial once."""
    every = list(range(1, epochs + 1))
    for trial in trained(user, name):
        assert trial.state is TrialState.COMPLETE, trial
        assert sorted(trial.intermediate_values) == every
        assert trial.user_attrs["epochs"] == epochs
    assert steps(user, name) == {str(trial.number): every for trial in trained(user, name)}


# The disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return the folder of a file system of six megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", place]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_search_on_full_disk_stops_and_resumes_after_cleanup(
    tmp_path: Path, small_disk: Path
) -> None:
    user = User(tmp_path, small_disk)
    path = user.write("full", epochs=60, finalists=NO_FINALISTS, tracking=NOT_TRACKED)
    with user.start("run", path) as driver:
        wait_for(lambda: user.journal("full").count('"metrics"') > 5, driver)
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        stopped = end_of(driver)
    assert stopped.returncode == 1, stopped
    (line,) = stopped.stderr.splitlines()
    assert line.startswith("search.py: cannot write results (")
    assert line.endswith(f"disk space, then run: {CALLED} resume full")
    still = user.ask("resume", "full")
    assert (still.returncode, len(still.stderr.splitlines())) == (1, 1), still
    assert still.stderr.endswith(f"disk space, then run: {CALLED} resume full\n")

    ballast.unlink()
    before = {trial.number: trial.intermediate_values for trial in trained(user, "full")}
    resumed = user.ask("resume", "full")
    assert resumed.returncode == 0, resumed
    after = {trial.number: trial.intermediate_values for trial in trained(user, "full")}
    assert len(after) == 4
    for number, values in before.items():
        assert values.items() <= after[number].items()
    assert_whole(user, "full", 60)


# Tracking


@contextlib.contextmanager
def answering(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class SlowAndBroken(BaseHTTPRequestHandler):
    """Answers each request with an error after two seconds."""

    def do_GET(self) -> None:
        time.sleep(2)
        with contextlib.suppress(OSError):
            self.send_error(500)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


def training_seconds(user: User, name: str) -> tuple[float, float]:
    """Return the time from the first epoch to the end of the last trial, and that of all epochs."""
    events, _ = read(user.home / name / "journal.jsonl", limit=1 << 30)
    epochs = [e for e in events if isinstance(e, Metrics) and e.run.isdecimal()]
    ended = [e.time for e in events if isinstance(e, Finish) and e.run.isdecimal()]
    trained = sum(epoch.metrics["epoch_seconds"] for epoch in epochs)
    return (max(ended) - min(epoch.time for epoch in epochs)) / 1000, trained


def test_broken_mlflow_delays_nothing_and_sync_sends_once(
    tmp_path: Path,
) -> None:
    user = User(tmp_path)
    # The warning follows the second failure: allow time for two failures and the start.
    path = user.write("slowly", finalists=NO_FINALISTS, tracking={"wait": 20})
    with answering(SlowAndBroken) as uri:
        result = user.ask("run", path, MLFLOW_TRACKING_URI=uri)
    assert result.returncode == 0, result
    said = [line for line in result.stderr.splitlines() if line]
    assert len(said) == 1, said
    assert said[0].startswith(f"tracking: MLflow at {uri} does not accept records")
    assert f"to send them later, run: {CALLED} sync slowly" in result.stdout
    passed, trained = training_seconds(user, "slowly")
    assert 0 < passed < 3 * trained + 10

    refused = user.ask("sync", "slowly")
    assert refused.returncode == 2
    assert uri in refused.stderr
    local = sqlite_uri(user.home / "mlflow.db")
    brought = user.ask("sync", "slowly", MLFLOW_TRACKING_URI=local)
    assert brought.returncode == 0, brought
    again = user.ask("sync", "slowly", MLFLOW_TRACKING_URI=local)
    assert "\n0 events of 0 runs" in again.stdout, again
    found = runs(user.home / "mlflow.db", "slowly")
    assert set(found) == {"", *steps(user, "slowly")}
    assert {status for status, _ in found.values()} == {"FINISHED"}
    for key, epochs in steps(user, "slowly").items():
        assert found[key][1] == epochs


def runs(store: Path, name: str) -> dict[str, tuple[str, list[int]]]:
    """Return the status and epochs of each run of a search in a store, by key."""
    found: dict[str, tuple[str, list[int]]] = {}
    with contextlib.closing(sqlite3.connect(store)) as database:
        rows = database.execute(
            "SELECT runs.run_uuid, status, value FROM runs JOIN tags USING (run_uuid) "
            "WHERE key = 'borderline.run'"
        ).fetchall()
        for run, status, value in rows:
            search, _, key = value.partition("/")
            if search.rpartition("-")[0] == name:
                assert key not in found, f"two runs of {key!r}"
                epochs = database.execute(
                    "SELECT step FROM metrics WHERE run_uuid = ? AND key = 'validation_accuracy' "
                    "ORDER BY step",
                    (run,),
                ).fetchall()
                found[key] = (status, [step for (step,) in epochs])
    return found


def tags(store: Path, name: str, key: str) -> dict[str, str]:
    with contextlib.closing(sqlite3.connect(store)) as database:
        rows = database.execute(
            "SELECT one.value, two.value FROM tags AS one JOIN tags AS two USING (run_uuid) "
            "WHERE one.key = 'borderline.run' AND two.key = ?",
            (key,),
        ).fetchall()
    return {
        run.partition("/")[2]: value
        for run, value in rows
        if run.partition("/")[0].rpartition("-")[0] == name
    }


# The processes of trials

HANGING_SPACE = """\
import sys
import time
from pathlib import Path

from spaces import Builder
from spaces.operations import Activation, Convolution, GlobalPooling, Linear

HANG = Path(__file__).with_name("hang")


def space(trial, task):
    # The driver only draws candidates; the process of a trial hangs once.
    if "search.py" not in sys.argv[0] and HANG.exists():
        HANG.unlink()
        HANG.with_name("hung").touch()
        time.sleep(10_000)
    builder = Builder(task.image_shape)
    x = builder.add(Convolution(trial.suggest_int("features", 2, 30)), builder.image)
    x = builder.add(GlobalPooling(), builder.add(Activation(), x))
    builder.add(Linear(task.classes), x)
    return builder.build()
"""
EPOCHS = 25
TRAINING = re.compile(r"ray::(?!IDLE|Dashboard|RuntimeEnv)")
"""Matches the names that Ray gives to processes of trials."""


class FaultySearch:
    """A search whose trial processes are killed while it runs."""

    def __init__(self, user: User) -> None:
        self.user = user
        (user.folder / "hanging.py").write_text(HANGING_SPACE)
        path = user.write(
            "faulty",
            space="hanging:space",
            epochs=EPOCHS,
            failures={"retries": 1, "hang_after": "20s"},
            finalists=NO_FINALISTS,
        )
        with user.start("run", path) as self.driver:
            # Kill the first trial once and the second until it fails; the third hangs at its start.
            self.kill(after="0", epochs=3)
            self.kill(after="1", epochs=3)
            self.kill(after="1", epochs=6)
            (user.folder / "hang").touch()
            self.result = end_of(self.driver)

    def kill(self, *, after: str, epochs: int) -> None:
        """Kill the process of a trial after so many epochs."""
        wait_for(lambda: len(steps(self.user, "faulty").get(after, [])) >= epochs, self.driver)
        below = descendants(self.driver.pid)
        found = [pid for pid, command in below.items() if TRAINING.match(command)]
        assert len(found) == 1, below.values()
        os.kill(found[0], signal.SIGKILL)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> FaultySearch:
    """Return a search that survived these failures."""
    return FaultySearch(User(tmp_path_factory.mktemp("user")))


def test_search_survives_lost_trial_processes(
    faulty: FaultySearch,
) -> None:
    assert faulty.result.returncode == 0, faulty.result
    states = [trial.state for trial in trained(faulty.user, "faulty")]
    assert sorted(Counter(states).items()) == [(TrialState.COMPLETE, 3), (TrialState.FAIL, 1)]


def test_trial_with_killed_process_resumes_from_checkpoint(faulty: FaultySearch) -> None:
    first = trained(faulty.user, "faulty")[0]
    assert first.state is TrialState.COMPLETE
    assert f"trial {first.number} lost its process and restarts: " in faulty.result.stdout
    assert steps(faulty.user, "faulty")[str(first.number)] == list(range(1, EPOCHS + 1))


def test_trial_fails_after_its_process_is_killed_repeatedly(
    faulty: FaultySearch,
) -> None:
    second = trained(faulty.user, "faulty")[1]
    assert second.state is TrialState.FAIL
    assert second.user_attrs["cause"].startswith("its process failed repeatedly: ")
    assert "worker process has died" in second.user_attrs["cause"]
    store = faulty.user.home / "mlflow.db"
    key = str(second.number)
    assert runs(store, "faulty")[key][0] == "FAILED"
    assert tags(store, "faulty", "cause") == {key: second.user_attrs["cause"]}
    assert f"trial {key}" in faulty.result.stdout
    assert "FAILED: its process failed repeatedly" in faulty.result.stdout
    assert "common causes" not in second.user_attrs["cause"]


def test_trial_restarts_after_a_hanging_epoch(
    faulty: FaultySearch,
) -> None:
    assert (faulty.user.folder / "hung").exists()
    last = trained(faulty.user, "faulty")[2:]
    assert [trial.state for trial in last] == [TrialState.COMPLETE] * 2
    for trial in last:
        assert steps(faulty.user, "faulty")[str(trial.number)] == list(range(1, EPOCHS + 1))


# Nodes

CLUSTER = """\
import json
import sys

from ray.cluster_utils import Cluster

from search.private_apis import ray_without_services

with ray_without_services():
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes = [cluster.add_node(num_cpus=1)]
print(json.dumps([cluster.address, nodes[0].node_id]), flush=True)
for line in sys.stdin:
    if line.strip() == "lose":
        cluster.remove_node(nodes.pop(), allow_graceful=False)
    print(json.dumps(line.strip()), flush=True)
cluster.shutdown()
"""


TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
"""Token of the cluster and its users, independent of earlier tests in this process."""


def of_the_cluster() -> dict[str, str]:
    """Return the environment of the cluster and of commands that use it."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return others | TOKEN | {"RAY_prestart_worker_first_driver": "0", "PYTHONPATH": str(ROOT)}


class Nodes:
    """A cluster of two nodes on this machine; it stops when its standard input closes."""

    def __init__(self, folder: Path) -> None:
        with (folder / "cluster.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", CLUSTER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                env=of_the_cluster(),
            )
        self.address, self.worker = self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):
                return json.loads(line)
        raise AssertionError("the cluster has ended")

    def lose(self) -> None:
        """Remove the second node without notice."""
        assert self._process.stdin is not None
        print("lose", file=self._process.stdin, flush=True)
        assert self._answer() == "lose"

    def drain(self) -> None:
        """Announce the preemption of the second node."""
        ray = shutil.which("ray", path=str(Path(sys.executable).parent))
        assert ray is not None
        subprocess.run(
            [
                *(ray, "drain-node", "--address", self.address, "--node-id", self.worker),
                *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "reclaimed"),
                *("--deadline-remaining-seconds", "5"),
            ],
            check=True,
            capture_output=True,
            timeout=60,
            env=of_the_cluster(),
        )

    def end(self) -> None:
        """Stop the cluster."""
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """Return a cluster with a node that can be lost."""
    cluster = Nodes(tmp_path)
    yield cluster
    cluster.end()


def search_on(user: User, nodes: Nodes, harm: Callable[[], None], **failures: object) -> Result:
    path = user.write(
        "spread",
        epochs=80,
        failures=failures,
        finalists=NO_FINALISTS,
        tracking=NOT_TRACKED,
        # Each of the two nodes trains one trial.
        resources={"concurrent": 2},
    )
    with user.start("run", path, "--address", nodes.address, **TOKEN) as driver:
        wait_for(lambda: sum(map(len, steps(user, "spread").values())) > 10, driver)
        # Each node trains one trial at a time, so both nodes are busy now.
        wait_for(lambda: len(steps(user, "spread")) >= 2, driver)
        harm()
        return end_of(driver)


def test_search_survives_the_loss_of_a_node(tmp_path: Path, nodes: Nodes) -> None:
    user = User(tmp_path)
    result = search_on(user, nodes, nodes.lose)
    assert result.returncode == 0, result
    assert len(trained(user, "spread")) == 4
    assert_whole(user, "spread", 80)


def test_preempted_node_counts_as_no_trial_failure(tmp_path: Path, nodes: Nodes) -> None:
    def reclaim() -> None:
        nodes.drain()
        time.sleep(6)
        nodes.lose()

    user = User(tmp_path)
    result = search_on(user, nodes, reclaim, retries=0)
    assert result.returncode == 0, result
    assert_whole(user, "spread", 80)
