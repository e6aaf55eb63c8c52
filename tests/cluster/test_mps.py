"""The script for NVIDIA's MPS, with a fake daemon that records its commands."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "cluster" / "mps.sh"
DAEMON = """#!/bin/sh
state=$CUDA_MPS_PIPE_DIRECTORY/control
if [ "${1-}" = -d ]; then
    echo start >>"$CALLS"
    [ -z "${REFUSES-}" ] || exit 1
    touch "$state"
    exit 0
fi
read -r command
[ -e "$state" ] || exit 1
echo "$command" >>"$CALLS"
[ "$command" != quit ] || { [ -z "${BUSY-}" ] || exit 1; rm "$state"; }
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def mps(tmp_path: Path) -> Run:
    """Return a function that runs the script with its own fake daemon."""
    tools = tmp_path / "bin"
    tools.mkdir()
    control = tools / "nvidia-cuda-mps-control"
    control.write_text(DAEMON, encoding="utf-8")
    control.chmod(0o755)

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "BORDERLINE_MPS": str(tmp_path / "my mps"),
            "CALLS": str(tmp_path / "calls"),
        }
        return subprocess.run(
            ["sh", str(SCRIPT), *arguments],
            env=environment | variables,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def commands(folder: Path) -> list[str]:
    """Return the commands that changed the daemon's state."""
    calls = (folder / "calls").read_text(encoding="utf-8").split()
    return [call for call in calls if call != "get_server_list"]


def test_start_runs_the_daemon_and_prints_client_variables(mps: Run, tmp_path: Path) -> None:
    result = mps("start")
    assert result.returncode == 0
    assert result.stderr == "mps.sh: started\n"
    assert commands(tmp_path) == ["start"]
    shown = subprocess.run(
        ["sh", "-c", f"{result.stdout}\nenv"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    folder = tmp_path / "my mps"
    assert f"CUDA_MPS_PIPE_DIRECTORY={folder}/pipe" in shown
    assert f"CUDA_MPS_LOG_DIRECTORY={folder}/log" in shown
    assert folder.stat().st_mode & 0o777 == 0o700


def test_second_start_runs_no_second_daemon(mps: Run, tmp_path: Path) -> None:
    first, second = mps("start"), mps("start")
    assert (second.returncode, second.stderr) == (0, "mps.sh: runs already\n")
    assert second.stdout == first.stdout
    assert commands(tmp_path) == ["start"]


def test_daemon_can_be_stopped_and_started_again(mps: Run, tmp_path: Path) -> None:
    mps("start")
    result = mps("stop")
    assert (result.returncode, result.stderr) == (0, "mps.sh: stopped\n")
    assert mps("start").returncode == 0
    assert commands(tmp_path) == ["start", "quit", "start"]


def test_stopping_a_stopped_daemon_succeeds(mps: Run) -> None:
    result = mps("stop")
    assert (result.returncode, result.stderr) == (0, "mps.sh: does not run\n")


def test_status_is_reported_as_text_and_exit_code(mps: Run) -> None:
    before = mps("status")
    assert (before.returncode, before.stderr) == (1, "mps.sh: does not run\n")
    started = mps("start")
    after = mps("status")
    assert (after.returncode, after.stderr) == (0, "mps.sh: runs\n")
    assert after.stdout == started.stdout


def test_daemon_that_does_not_start_is_reported(mps: Run) -> None:
    result = mps("start", REFUSES="yes")
    assert result.returncode == 1
    assert "does not start; see" in result.stderr
    assert result.stdout == ""


def test_daemon_in_use_is_not_stopped(mps: Run) -> None:
    mps("start")
    result = mps("stop", BUSY="yes")
    assert result.returncode == 1
    assert "end them first" in result.stderr
    assert mps("status").returncode == 0


def test_default_folder_belongs_to_the_user(mps: Run, tmp_path: Path) -> None:
    result = mps("start", BORDERLINE_MPS="", XDG_RUNTIME_DIR=str(tmp_path))
    assert result.returncode == 0
    assert f'"{tmp_path}/borderline-mps-{os.getuid()}/pipe"' in result.stdout


@pytest.mark.parametrize("command", ["start", "stop", "status"])
def test_missing_driver_is_reported_in_one_line(mps: Run, tmp_path: Path, command: str) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "sh").symlink_to("/bin/sh")
    (empty / "id").symlink_to("/usr/bin/id")
    result = mps(command, PATH=str(empty))
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "nvidia-cuda-mps-control is not on the PATH" in result.stderr


@pytest.mark.parametrize("arguments", [(), ("restart",)])
def test_unknown_command_is_refused_with_the_known_ones(
    mps: Run, arguments: tuple[str, ...]
) -> None:
    result = mps(*arguments)
    assert result.returncode == 2
    assert result.stderr.endswith("use start, stop or status\n")
