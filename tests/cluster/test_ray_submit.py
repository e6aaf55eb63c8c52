"""Real ``ray up``, ``ray submit`` and ``ray down`` over SSH in an isolated world."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.world import INSIDE, ROOT, World, plain, world
from tests.requirements import lack

# Generous, because the machine may be busy.
pytestmark = pytest.mark.timeout(600)

PROJECT = INSIDE / "project"
CLUSTER = "cluster/one-machine.yaml"
SEARCH = {
    "data": "digits",
    "space": {"depth": [1, 2], "features": [2, 6], "kernel": 3},
    "recipe": {"batch_size": 128},
    "epochs": 2,
    "scheduler": {"name": "none"},
    "budget": {"trials": 2},
    "finalists": {"count": 1, "seeds": 1},
    "tracking": {"enabled": False},
}
NOT_MOUNTED = shutil.ignore_patterns(".*", "__pycache__", "runs", "tests", "benchmarks", "docs")
Result = subprocess.CompletedProcess[str]


class Machine:
    """A machine that is reachable by SSH, with a copy of the project.

    Args:
        world: the world that contains the machine.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        home = world.folder / "home"
        (home / ".ssh").mkdir(mode=0o700)
        keys = (world.home / ".ssh" / "id_ed25519", INSIDE / "host_key")
        for key in keys:
            world.must("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        shutil.copy(home / ".ssh" / "id_ed25519.pub", home / ".ssh" / "authorized_keys")
        self._serve_ssh(keys[1])
        shutil.copytree(ROOT, world.folder / "project", ignore=NOT_MOUNTED)
        experiment = world.folder / "project" / "experiments" / "tiny.yaml"
        experiment.write_text(yaml.safe_dump(SEARCH))
        world.must("sh", "-c", "umask 077; ray get-auth-token --generate")

    def _serve_ssh(self, key: Path) -> None:
        lines = [
            *("ListenAddress 127.0.0.1", f"HostKey {key}", "PidFile none", "UsePAM no"),
            *("PasswordAuthentication no", "StrictModes no", "PermitRootLogin prohibit-password"),
            f"SetEnv BORDERLINE_ENVIRONMENT={sys.prefix}",
        ]
        (self.world.folder / "sshd_config").write_text("\n".join(lines) + "\n")
        server = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
        assert server is not None
        self.world.must(server, "-f", INSIDE / "sshd_config", "-E", INSIDE / "sshd.log")

    def ray(self, *arguments: str) -> Result:
        """Run a Ray command in the project's root, as a user does."""
        return self.world.run("ray", *arguments, cwd=PROJECT)

    def listeners(self) -> list[str]:
        """Return the listening sockets, except those of sshd."""
        lines = self.world.must("ss", "-ltnpH").splitlines()
        return [line for line in lines if '"sshd"' not in line]

    def processes(self) -> str:
        return self.world.must("ps", "-eo", "args", "-ww")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Return an isolated machine."""
    for program, package in (("ssh", "openssh-client"), ("rsync", "rsync"), ("ss", "iproute2")):
        if shutil.which(program) is None:
            lack(f"the Debian package {package}")
    if shutil.which("sshd", path="/usr/sbin:/usr/local/sbin") is None:
        lack("the Debian package openssh-server")
    with world(tmp_path_factory.mktemp("world")) as made:
        yield Machine(made)


@pytest.fixture(scope="module")
def up(machine: Machine) -> Machine:
    """Return the machine after ``ray up`` has made it a cluster."""
    result = machine.ray("up", "-y", CLUSTER)
    assert result.returncode == 0, plain(result.stdout + result.stderr)
    return machine


@pytest.fixture(scope="module")
def submitted(up: Machine) -> Result:
    """Return the result of a search that the documented command submitted."""
    return up.ray("submit", CLUSTER, "search.py", "--", "run", "experiments/tiny.yaml")


def test_documented_command_submits_a_search(up: Machine, submitted: Result) -> None:
    said = plain(submitted.stdout + submitted.stderr)
    assert submitted.returncode == 0, said
    assert "[2/2] trial" in said
    assert "Result: trial" in said
    home = up.world.folder / "home"
    assert (home / "search.py").read_bytes() == (ROOT / "search.py").read_bytes()
    assert (home / "runs" / "tiny" / "report.html").is_file()


def test_submitted_search_runs_on_that_cluster(up: Machine, submitted: Result) -> None:
    assert submitted.returncode == 0
    sessions = [path.name for path in (up.world.folder / "tmp" / "ray").glob("session_2*")]
    assert len(sessions) == 1, "a second Ray was started"


def test_one_machine_cluster_listens_on_loopback_only(up: Machine) -> None:
    found = up.listeners()
    assert any("gcs_server" in line for line in found)
    for line in found:
        local = line.split()[3].rpartition(":")[0].strip("[]").removeprefix("::ffff:")
        assert local == "127.0.0.1", line


def test_token_appears_in_no_process_list_or_log(up: Machine, submitted: Result) -> None:
    token = (up.world.folder / "home" / ".ray" / "auth_token").read_text().strip()
    assert len(token) >= 32
    assert token not in up.processes()
    assert token not in submitted.stdout + submitted.stderr
    for folder in (up.world.folder / "tmp" / "ray", up.world.folder / "home" / "runs"):
        for path in folder.rglob("*"):
            if path.is_file():
                assert token.encode() not in path.read_bytes(), path


def test_bad_input_ends_a_submitted_search_in_one_line(up: Machine) -> None:
    result = up.ray("submit", CLUSTER, "search.py", "--", "run", "experiments/none.yaml")
    assert result.returncode != 0
    said = [line for line in plain(result.stdout).splitlines() if line.startswith("search.py: ")]
    (line,) = said
    assert line.startswith("search.py: EXPERIMENT = experiments/none.yaml: No such file")


def test_results_are_fetched_from_the_head(up: Machine, submitted: Result) -> None:
    assert submitted.returncode == 0
    result = up.ray("rsync-down", CLUSTER, "~/runs/tiny/report.html", "./fetched.html")
    assert result.returncode == 0, plain(result.stdout + result.stderr)
    assert "Result: trial" in (up.world.folder / "project" / "fetched.html").read_text()


def test_ray_down_ends_what_ray_up_started(up: Machine, submitted: Result) -> None:
    result = up.ray("down", "-y", CLUSTER)
    assert result.returncode == 0, plain(result.stdout + result.stderr)
    assert "raylet" not in up.processes()
    assert up.listeners() == []


def test_search_on_the_head_reports_a_stopped_cluster(up: Machine) -> None:
    """A search on the head uses the cluster, never a private Ray beside it."""
    script = up.world.home / "search.py"
    command = ("run", "experiments/tiny.yaml", "--set", "name=again")
    result = up.world.run(sys.executable, script, *command, cwd=up.world.home)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("search.py: --address = 127.0.0.1:6379: no Ray cluster answers (")
