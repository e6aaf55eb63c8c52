"""Counts what a search loses when its processes are killed: ``python benchmarks/chaos.py``.

One search trains short trials on the bundled digits, two at a time, with a real MLflow server. The
benchmark kills its driver with SIGKILL at random moments and resumes it each time. It also kills
the processes of trials, and kills and restarts the server on the same store. It does not disturb
the last resume. Then it compares the study, the journal and MLflow: nothing may be lost, finished
twice, left running, or reported twice. The search does not know about the benchmark, which reads
only the files that any search leaves.

A killed trial loses its current epoch. Epochs that are trained again after their report are counted
in two ways: at each kill, reports without a checkpoint; at the end, reports in the journal (from
the first training) whose duration differs from the study's (from the trial's final training).

Last figures (three runs with seeds 5, 6 and 7, 26 November 2026; two cores; Python 3.11,
Ray 2.60.0, Optuna 5.0.0, MLflow 3.17.2): 61 drivers, 79 processes of trials and 26 servers killed;
of 210 trials and 8,805 metrics none lost, finished twice, left running, missing or doubled.
"""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from harness import Figure, option_parser, show
from mlflow import MlflowClient
from optuna.trial import FrozenTrial, TrialState

from search.experiment.folder import DATABASE_VARIABLE, HOME_VARIABLE, Home, SearchFolder
from search.study.records import TrialRecord
from search.study.storages import read_trials
from search.tracking.journal_events import (
    PARENT,
    Event,
    Finish,
    Metrics,
)
from search.tracking.journal_reader import read, read_all
from spaces.errors import BadInputError

ROOT = Path(__file__).resolve().parent.parent
BOUND = 120.0
"""Seconds without progress after which a search counts as stuck."""
GLANCE = 0.05
TRACKING_EXPERIMENT = "chaos"
TRIAL = ("ray::ResourceTrainable", "ray::Trial")
"""Names of a trial's process."""
_CHECKPOINT = re.compile(r"epoch-(\d+)-.*\.pt")


@dataclass(frozen=True)
class Plan:
    """Size of the search, and minimum numbers of kills."""

    trials: int
    drivers: int
    workers: int
    servers: int

    def experiment(self, name: str, seed: int) -> dict[str, Any]:
        """Return the content of the experiment file."""
        return {
            "name": name,
            "data": "digits",
            "seed": seed,
            "space": {"name": "vgg", "depth": [2, 5], "features": [16, 40]},
            "recipe": {"batch_size": 32},
            "epochs": 10,
            "scheduler": {"name": "asha", "grace_epochs": 5, "reduction": 2},
            "budget": {"trials": self.trials},
            # A trial may be killed repeatedly: the benchmark measures losses, not failed trials.
            "failures": {"retries": 100},
            "finalists": {"count": 0},
            "resources": {"concurrent": 2, "cpus": 1},
            "tracking": {"experiment": TRACKING_EXPERIMENT},
        }


FULL = Plan(trials=70, drivers=20, workers=20, servers=5)
QUICK = Plan(trials=12, drivers=1, workers=1, servers=1)


class StuckError(RuntimeError):
    """Something made no progress within its time limit."""


def wait_for(what: str, there: Callable[[], bool], seconds: float = BOUND) -> float:
    """Wait until a condition holds; return the waiting time in seconds."""
    started = time.monotonic()
    while not there():
        if time.monotonic() - started > seconds:
            raise StuckError(f"waited {seconds:g} s without success: {what}")
        time.sleep(GLANCE)
    return time.monotonic() - started


class Server:
    """An MLflow server on loopback that can be killed and restarted with the same store.

    Args:
        folder: folder of the store, artifacts and log.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.kills = 0
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, which answers some seconds later."""
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
            *("--port", str(self._port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{self._folder}/store.db"),
            *("--artifacts-destination", str(self._folder / "artifacts")),
        ]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                # Otherwise MLflow starts four more processes, which the benchmark does not need.
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Kill the server and its workers."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def wait_until_up(self) -> None:
        """Wait until the server answers."""
        wait_for("the MLflow server answers", self._answers)

    def _answers(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:  # noqa: S310
            return bool(answer.status == 200)
        return False

    @contextmanager
    def tormented(self, seed: int) -> Iterator[None]:
        """Kill the server repeatedly at random moments, and restart it after a pause."""
        moments = random.Random(seed)
        calm = threading.Event()

        def torment() -> None:
            while not calm.wait(moments.uniform(2, 40)):
                self.kill()
                self.kills += 1
                calm.wait(moments.uniform(0.5, 12))
                self.start()
                # Starting may take long on a busy machine; kill only a working server.
                while not self._answers() and not calm.wait(1.0):
                    pass

        thread = threading.Thread(target=torment)
        thread.start()
        try:
            yield
        finally:
            calm.set()
            thread.join()


def session_of(pid: int) -> dict[int, str]:
    """Return the command lines of the processes in a leader's session, by process id."""
    found: dict[int, str] = {}
    for other, command in commands().items():
        with suppress(OSError, IndexError):
            # After the name in brackets: state, parent, group, session.
            fields = Path(f"/proc/{other}/stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == pid and fields[0] != "Z":
                found[other] = command
    return found


def working(pid: int) -> bool:
    """Tell whether a process of a session trains or can start training."""
    lines = session_of(pid).values()
    return any(line.startswith(TRIAL) or "/raylet/raylet " in line for line in lines)


def commands() -> dict[int, str]:
    """Return the command lines of all processes, by process id."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit():
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(entry.name)] = line.decode(errors="replace").strip()
    return found


@dataclass
class Tally:
    """Observations during the kills.

    Attributes:
        drivers: number of killed drivers.
        workers: number of killed processes of trials.
        at_stake: trials that were running when their driver or process was killed.
        lost_reports: epochs that were reported at a kill but are in no checkpoint.
        changed: trials that ended again after they had ended.
        ended: trials that have ended, with their outcome.
        numbers: numbers of all trials seen.
        lingered: seconds for which processes of trials outlived each driver.
        rest: seconds from the end of the search until no process of any driver was left.
        trackers: maximum number of tracking processes after a driver had died.
    """

    drivers: int = 0
    workers: int = 0
    at_stake: int = 0
    lost_reports: int = 0
    changed: set[int] = field(default_factory=set)
    ended: dict[int, tuple[object, ...]] = field(default_factory=dict)
    numbers: set[int] = field(default_factory=set)
    lingered: list[float] = field(default_factory=list)
    rest: float = 0.0
    trackers: int = 0

    def see(self, trials: list[FrozenTrial]) -> None:
        """Compare the study with its earlier state."""
        for trial in trials:
            self.numbers.add(trial.number)
            if trial.state.is_finished():
                how = (trial.state, tuple(trial.values or ()), trial.datetime_complete)
                if self.ended.setdefault(trial.number, how) != how:
                    self.changed.add(trial.number)


class Driver:
    """Runs the drivers of the search, one after the other.

    Args:
        file: path of the experiment.
        home: home folder of the search.
        uri: address of the MLflow server.
        log: file for the output of all drivers.
    """

    def __init__(self, file: Path, home: Home, uri: str, log: Path) -> None:
        self.folder = home.folder(file.stem)
        self.log = log
        self._file = file
        self._home = home
        self._environment = {
            key: value
            for key, value in os.environ.items()
            if key not in (DATABASE_VARIABLE, "RAY_ADDRESS")
        } | {
            HOME_VARIABLE: str(home.path),
            "MLFLOW_TRACKING_URI": uri,
        }
        self.process: subprocess.Popen[bytes] | None = None
        self._dead: list[int] = []
        self._seen = 0

    def command(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command of the command line."""
        with self.log.open("ab") as log:
            log.write(f"== {time.strftime('%X')} {' '.join(arguments)}\n".encode())
            log.flush()
            return subprocess.Popen(
                [sys.executable, "search.py", *arguments],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start(self) -> None:
        """Start or resume the search."""
        self._seen = read(self.folder.journal, 0, sys.maxsize)[1]
        there = self.folder.experiment.is_file()
        self.process = self.command(*(("resume", self.folder.name) if there else self._first()))

    def _first(self) -> tuple[str, ...]:
        return "run", str(self._file)

    @property
    def pid(self) -> int:
        """Process id of the latest driver."""
        assert self.process is not None
        return self.process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the latest driver has finished by itself.

        Raises:
            StuckError: the driver failed.
        """
        assert self.process is not None
        code = self.process.poll()
        if code not in (None, 0):
            raise StuckError(f"a driver ended with exit code {code}")
        return code == 0

    def got_on(self) -> bool:
        """Tell whether any trial has reported or ended since the last call."""
        events, self._seen = read(self.folder.journal, self._seen, sys.maxsize)
        return any(is_progress(event) for event in events)

    def kill(self) -> float:
        """Kill the driver and wait for its workers to end; return that time in seconds."""
        pid = self.pid
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self._dead.append(pid)
        return wait_for("the trials end after their driver", lambda: not working(pid))

    def wait_for_the_last(self) -> float:
        """Wait until no process of any driver is left, including Ray's and tracking."""

        def gone() -> bool:
            return not self.trackers() and not any(map(session_of, self._dead))

        return wait_for("what drivers have left behind ends", gone)

    def kill_worker(self, moments: random.Random) -> bool:
        """Kill the process of a trial; return whether one existed."""
        workers = self.workers()
        if not workers:
            return False
        with suppress(ProcessLookupError):
            os.kill(moments.choice(workers), signal.SIGKILL)
        return True

    def workers(self) -> list[int]:
        """Return the process ids of the driver's trials."""
        return [pid for pid, line in session_of(self.pid).items() if line.startswith(TRIAL)]

    def trackers(self) -> int:
        """Return the number of tracking processes that deliver the journal or wait to."""
        mark = str(self.folder.journal)
        return sum(
            "search.tracking.tracking_process" in line and mark in line
            for line in commands().values()
        )

    def run_to_end(self) -> None:
        """Run a driver without disturbing it."""
        self.start()
        while not self.has_ended:
            self.wait_until_it_gets_on()

    def wait_until_it_gets_on(self) -> None:
        """Wait until any trial has reported since the last call, or the driver has ended."""
        wait_for("the search gets on", lambda: self.has_ended or self.got_on())

    def trials(self) -> list[FrozenTrial]:
        """Return the trials of the study."""
        try:
            return read_trials(self.folder.study, self.folder.name)
        except BadInputError:
            return []


def is_progress(event: Event) -> bool:
    """Tell whether an event is progress of a trial."""
    return isinstance(event, Metrics | Finish) and event.run != PARENT


def last_checkpoint(folder: SearchFolder, number: int) -> int:
    """Return the epoch from which a trial would continue; 0 is the start."""
    found = [0]
    with suppress(OSError):
        names = [path.name for path in (folder.checkpoints / str(number)).glob("*/*")]
        found += [int(match[1]) for name in names if (match := _CHECKPOINT.fullmatch(name))]
    return max(found)


class Chaos:
    """Kills drivers and processes of trials until the plan is fulfilled.

    Args:
        driver: the drivers of the search.
        server: the server, which another thread kills meanwhile.
        plan: minimum numbers of kills.
        seed: seed of the random moments.
    """

    def __init__(self, driver: Driver, server: Server, plan: Plan, seed: int) -> None:
        self.tally = Tally()
        self._driver = driver
        self._server = server
        self._plan = plan
        self._moments = random.Random(seed)

    def reign(self) -> None:
        """Run and kill drivers; return early if the search ends meanwhile."""
        while not self._is_enough():
            self._driver.start()
            if self._let_work():
                print("the search ended before all planned kills", flush=True)
                return
            self._kill_driver()

    def _is_enough(self) -> bool:
        tally, plan = self.tally, self._plan
        killed = (tally.drivers, tally.workers, self._server.kills)
        return all(
            n >= least
            for n, least in zip(killed, (plan.drivers, plan.workers, plan.servers), strict=True)
        )

    def _let_work(self) -> bool:
        """Run a driver for a while; return whether the search has ended."""
        if self._moments.random() < 0.2:
            # At any moment from its start, also while it loads, restores and connects.
            return self._ends_within(self._moments.uniform(0.5, 15))
        self._driver.wait_until_it_gets_on()
        for _ in range(self._moments.choice((1, 1, 2, 2))):
            if self._ends_within(self._moments.uniform(0.1, 2)):
                return True
            before = self._losses()
            if self._driver.kill_worker(self._moments):
                self.tally.workers += 1
                self.tally.at_stake += 1
                # The process may belong to either trial: assume the one that lost progress.
                self.tally.lost_reports += max(before.values(), default=0)
        return self._ends_within(self._moments.uniform(0, 3))

    def _ends_within(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._driver.has_ended:
            time.sleep(GLANCE)
        return self._driver.has_ended

    def _kill_driver(self) -> None:
        tally = self.tally
        training = len(self._driver.workers())
        tally.lingered.append(self._driver.kill())
        tally.drivers += 1
        tally.trackers = max(tally.trackers, self._driver.trackers())
        tally.see(self._driver.trials())
        if training:
            # Otherwise no trial that the study lists as running had been resumed.
            losses = self._losses()
            tally.at_stake += min(training, len(losses))
            tally.lost_reports += sum(losses.values())
        records = map(TrialRecord.of, self._driver.trials())
        ended = sum(each.is_trained and each.outcome.is_finished() for each in records)
        print(
            f"driver {tally.drivers} killed; {tally.workers} workers, {self._server.kills} servers "
            f"so far; {ended} of {self._plan.trials} trials have ended; its trials "
            f"lingered {tally.lingered[-1]:.1f} s",
            flush=True,
        )

    def _losses(self) -> dict[int, int]:
        """Return the number of reported epochs without a checkpoint, per running trial."""
        return {
            trial.number: max(
                0,
                max(trial.intermediate_values, default=0)
                - last_checkpoint(self._driver.folder, trial.number),
            )
            for trial in self._driver.trials()
            if not trial.state.is_finished()
        }


@dataclass
class Findings:
    """Errors at the end, and the numbers of compared records.

    Attributes:
        twice: trials that ended twice, in the study or in the journal, or have two runs in MLflow.
        lost: trials that are missing, failed, or were never trained.
        running: trials that run or wait in the study, and runs that run in MLflow.
        missing: metrics that are absent from MLflow or differ there.
        doubled: metrics that MLflow has more than once.
        left: checkpoints that are no longer needed.
        retrained: epochs that were trained again after their report.
        trained: number of trained trials in the study.
        compared: number of metrics that MLflow should have.
    """

    twice: int = 0
    lost: int = 0
    running: int = 0
    missing: int = 0
    doubled: int = 0
    left: int = 0
    retrained: int = 0
    trained: int = 0
    compared: int = 0


def compare(driver: Driver, uri: str, plan: Plan, tally: Tally) -> Findings:
    """Compare the study, the journal and MLflow."""
    trials = driver.trials()
    tally.see(trials)
    trained = [record for record in map(TrialRecord.of, trials) if record.is_trained]
    events = list(read_all(driver.folder.journal))
    ends = Counter(
        event.run for event in events if isinstance(event, Finish) and event.status != "KILLED"
    )
    twice = tally.changed | {t.number for t in trained if ends[str(t.number)] > 1}
    present = {trial.number for trial in trials}
    given_up = [t for t in trained if t.outcome is TrialState.FAIL]
    found = Findings(
        twice=len(twice),
        lost=len(tally.numbers - present)
        + len(set(range(len(trials))) - present)
        + len(given_up)
        + max(0, plan.trials - len(trained)),
        running=sum(not trial.state.is_finished() for trial in trials),
        left=len(list(driver.folder.checkpoints.glob("*/*"))),
        trained=len(trained),
    )
    first = {
        (event.run, event.step): event.metrics.get("epoch_seconds")
        for event in reversed(events)
        if isinstance(event, Metrics)
    }
    found.retrained = sum(
        first.get((str(trial.number), epoch)) != metrics.epoch_seconds
        for trial in trained
        for epoch, metrics in trial.history.items()
    )
    compare_runs(driver.folder.name, trained, first, uri, found)
    return found


def compare_runs(
    name: str,
    trained: list[TrialRecord],
    first: Mapping[tuple[str, int], float | None],
    uri: str,
    found: Findings,
) -> None:
    """Compare the trials with their runs in MLflow."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(TRACKING_EXPERIMENT)
    assert experiment is not None
    runs: dict[str, list[Any]] = {}
    wanted = f"tags.search = '{name}'"
    for run in client.search_runs([experiment.experiment_id], wanted, max_results=50_000):
        key = run.data.params.get("trial", PARENT) if run.data.tags["kind"] == "trial" else PARENT
        runs.setdefault(key, []).append(run)
        found.running += run.info.status == "RUNNING"
    found.twice += sum(len(each) - 1 for each in runs.values())
    found.lost += PARENT not in runs
    for trial in trained:
        key = str(trial.number)
        if key not in runs:
            found.lost += 1
            continue
        expected = {epoch: metrics.values for epoch, metrics in trial.history.items()}
        for metric in {name for metrics in expected.values() for name in metrics}:
            told = client.get_metric_history(runs[key][0].info.run_id, metric)
            values = {each.step: each.value for each in told}
            found.doubled += len(told) - len(values) + len(values.keys() - expected.keys())
            found.compared += len(expected)
            for epoch, metrics in expected.items():
                # An epoch that is trained again takes another time but gives equal results.
                seconds = metric == "epoch_seconds"
                value = first.get((key, epoch)) if seconds else metrics.get(metric)
                found.missing += values.get(epoch) != value


def report(
    plan: Plan, tally: Tally, kills: int, found: Findings, clock: tuple[float, float]
) -> list[Figure]:
    """Return the rows of the table."""

    def none(what: str, count: int, of: int) -> Figure:
        return Figure(f"{what}; of", count, of, count / max(1, of), "0", "")

    def enough(what: str, count: int, least: int) -> Figure:
        return Figure(f"{what} killed; against the least", count, least, count / least, ">= 1", "")

    stake = max(1, tally.at_stake)
    reported = "epochs reported and trained again"
    return [
        enough("drivers", tally.drivers, plan.drivers),
        enough("processes of trials", tally.workers, plan.workers),
        enough("MLflow servers", kills, plan.servers),
        none("trials finished twice", found.twice, found.trained),
        none("trials lost", found.lost, plan.trials),
        none("trials or runs left running", found.running, found.trained),
        none("metrics missing in MLflow", found.missing, found.compared),
        none("metrics doubled in MLflow", found.doubled, found.compared),
        none("checkpoints left behind", found.left, found.trained),
        Figure(
            f"{reported}, by checkpoints at each kill; against running trials killed",
            tally.lost_reports,
            tally.at_stake,
            tally.lost_reports / stake,
            "ratio <= 1",
            "",
        ),
        Figure(
            f"{reported}, by their seconds at the end; against running trials killed",
            found.retrained,
            tally.at_stake,
            found.retrained / stake,
            "ratio <= 1",
            "",
        ),
        Figure(
            "processes of trials outlive a killed driver, at most; against the bound",
            max(tally.lingered, default=0.0),
            BOUND,
            max(tally.lingered, default=0.0) / BOUND,
            "ratio <= 1",
            "s",
        ),
        Figure(
            "anything of drivers outlives the search; against the bound",
            tally.rest,
            BOUND,
            tally.rest / BOUND,
            "ratio <= 1",
            "s",
        ),
        Figure(
            "tracking processes after a driver was killed, at most; against one",
            tally.trackers,
            1,
            tally.trackers,
            "-",
            "",
        ),
        Figure("wall clock; against the undisturbed search", *clock, clock[0] / clock[1], "-", "s"),
    ]


def run(plan: Plan, seed: int, folder: Path) -> list[Figure]:
    """Run the undisturbed and the disturbed search, and compare them."""
    home = Home(folder / "runs")
    server = Server(folder / "mlflow")
    server.start()
    server.wait_until_up()

    def driver(name: str) -> Driver:
        file = folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(plan.experiment(name, seed)), encoding="utf-8")
        return Driver(file, home, server.uri, folder / f"{name}.log")

    running = calm = driver("calm")
    try:
        started = time.monotonic()
        calm.run_to_end()
        undisturbed = time.monotonic() - started
        print(f"undisturbed: {undisturbed:.1f} s", flush=True)
        running = driver("chaos")
        started = time.monotonic()
        chaos = Chaos(running, server, plan, seed)
        with server.tormented(seed):
            chaos.reign()
        server.wait_until_up()
        running.run_to_end()
        disturbed = time.monotonic() - started
        sync = running.command("sync", running.folder.name)
        wait_for("everything is brought to MLflow", lambda: sync.poll() is not None)
        chaos.tally.rest = running.wait_for_the_last()
        found = compare(running, server.uri, plan, chaos.tally)
        return report(plan, chaos.tally, server.kills, found, (disturbed, undisturbed))
    except StuckError:
        print(running.log.read_text(encoding="utf-8", errors="replace")[-20_000:], file=sys.stderr)
        raise
    finally:
        if running.process is not None and running.process.poll() is None:
            running.kill()
        server.kill()


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the search and of the moments of kills"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep all files in this folder")
    given = parser.parse_args()
    plan = QUICK if given.quick else FULL
    if given.keep is not None:
        given.keep.mkdir(parents=True)
        show(run(plan, given.seed, given.keep.resolve()), given.json)
        return
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        show(run(plan, given.seed, Path(folder)), given.json)


if __name__ == "__main__":
    main()
