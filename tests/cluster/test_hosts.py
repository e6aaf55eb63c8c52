"""A search on several hosts, one of which dies during the search."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from optuna.trial import TrialState

from search.study.storages import read_trials
from search.tracking.journal_events import Metrics
from search.tracking.journal_reader import read
from tests.cluster.world import ROOT, World, world
from tests.search.users import SMALL

# Generous, because the machine may be busy.
pytestmark = pytest.mark.timeout(600)

EPOCHS = 60
TRIALS = 5
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "3" * 64}
TIMEOUT = 240.0


class Hosts:
    """Hosts with one CPU each, connected by a network, with shared files as by NFS.

    Args:
        world: the world that contains the hosts.
        names: names of the hosts; the first is the head.
    """

    def __init__(self, world: World, names: tuple[str, ...]) -> None:
        self.world = world
        self.names = names
        world.must("ip", "link", "add", "switch", "type", "bridge")
        world.must("ip", "link", "set", "switch", "up")
        self._addresses = {name: f"10.77.0.{n}" for n, name in enumerate(names, start=1)}
        for name, address in self._addresses.items():
            self._plug_in(name, f"{address}/24")
        self.address = f"{self._addresses[names[0]]}:6379"
        self.start_ray(names[0], "--head", "--port=6379", "--include-dashboard=false")
        for name in names[1:]:
            self.start_ray(name, f"--address={self.address}")

    def _plug_in(self, name: str, address: str) -> None:
        for command in (
            f"netns add {name}",
            f"link add {name}-cable type veth peer name eth0 netns {name}",
            f"link set {name}-cable master switch up",
            f"-n {name} link set lo up",
            f"-n {name} address add {address} dev eth0",
            f"-n {name} link set eth0 up",
        ):
            self.world.must("ip", *command.split())

    def on(self, name: str, *command: str | Path) -> tuple[str | Path, ...]:
        """Return a command line that runs a command on a host."""
        return ("ip", "netns", "exec", name, *command)

    def start_ray(self, name: str, *options: str) -> None:
        """Start Ray on a host with its own folder for temporary files."""
        self.world.must(
            *self.on(name, "ray", "start", *options, f"--temp-dir=/tmp/{name}"),
            *("--num-cpus=1", "--disable-usage-stats", "--object-store-memory=80000000"),
            f"--node-ip-address={self._addresses[name]}",
            **TOKEN,
        )

    def processes(self, name: str) -> list[int]:
        """Return the process ids of a host, as seen in the world."""
        return [int(pid) for pid in self.world.must("ip", "netns", "pids", name).split()]

    def trainings(self, name: str) -> int:
        """Return the number of trials that train on a host."""
        found = self.world.must("ps", "-o", "args=", "-p", ",".join(map(str, self.processes(name))))
        return len(re.findall(r"^ray::(?!IDLE|RuntimeEnv|Dashboard)", found, re.MULTILINE))

    def kill(self, name: str) -> None:
        """Kill a host: disconnect its network and kill all its processes at once."""
        self.world.must("ip", "link", "delete", f"{name}-cable")
        deadline = time.monotonic() + TIMEOUT
        # The next round kills processes that were started meanwhile.
        while pids := self.processes(name):
            assert time.monotonic() < deadline, pids
            self.world.run("kill", "-KILL", *map(str, pids))


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Return three hosts with room for one trial each."""
    with world(tmp_path_factory.mktemp("world")) as made:
        yield Hosts(made, ("one", "two", "three"))


class Search:
    """A search on all hosts through the command line, during which the last host dies."""

    def __init__(self, hosts: Hosts) -> None:
        self.home = hosts.world.folder / "home"
        fields = SMALL | {
            "epochs": EPOCHS,
            "budget": {"trials": TRIALS},
            "resources": {},
            "finalists": {"count": 0},
            "tracking": {"enabled": False},
        }
        (self.home / "spread.yaml").write_text(yaml.safe_dump(fields))
        command = (sys.executable, ROOT / "search.py", "run", "spread.yaml")
        driver = hosts.world.start(
            *hosts.on(hosts.names[0], *command, "--address", hosts.address), **TOKEN
        )
        with driver:
            last = hosts.names[-1]
            self._wait(lambda: hosts.trainings(last) and len(self.steps()) >= 3, driver)
            self._wait(lambda: min(map(len, self.steps().values())) >= 2, driver)
            self.there = {name: hosts.trainings(name) for name in hosts.names}
            hosts.kill(last)
            out, err = driver.communicate(timeout=TIMEOUT)
        self.result = subprocess.CompletedProcess([], driver.returncode, out, err)

    @staticmethod
    def _wait(condition: Callable[[], object], driver: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            if driver.poll() is not None or time.monotonic() > deadline:
                driver.kill()
                raise AssertionError(f"in vain\n{driver.communicate(timeout=60)}")
            time.sleep(0.2)

    def steps(self) -> dict[str, list[int]]:
        """Return the epochs of each trial in the journal, in order."""
        journal = self.home / "runs" / "spread" / "journal.jsonl"
        found: dict[str, list[int]] = {}
        if journal.exists():
            events, _ = read(journal, limit=1 << 30)
            for event in events:
                if isinstance(event, Metrics) and event.run.isdecimal():
                    found.setdefault(event.run, []).append(event.step)
        return found


@pytest.fixture(scope="module")
def search(hosts: Hosts) -> Search:
    """Return the finished search."""
    return Search(hosts)


def test_search_uses_all_hosts(search: Search) -> None:
    assert search.there == {"one": 1, "two": 1, "three": 1}


def test_search_loses_nothing_when_a_host_dies(search: Search) -> None:
    assert search.result.returncode == 0, search.result
    trials = read_trials(search.home / "runs" / "spread" / "study.db", "spread")
    trained = [trial for trial in trials if "rejected" not in trial.user_attrs]
    every = list(range(1, EPOCHS + 1))
    assert len(trained) == TRIALS
    for trial in trained:
        assert trial.state is TrialState.COMPLETE, trial
        assert sorted(trial.intermediate_values) == every
    assert search.steps() == {str(trial.number): every for trial in trained}
