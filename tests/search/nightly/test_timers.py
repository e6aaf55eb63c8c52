"""`nightly --install` and `--show`, on machines with and without timers."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from cluster.timers import MANIFEST
from search.cli import main

ROOT = Path(__file__).resolve().parents[3]
TOOL = """#!/bin/sh
echo "$(basename "$0") $*" >>"$CALLS"
case "$*" in
-l) cat "$CRONTAB" 2>/dev/null || { echo "no crontab for me" >&2; exit 1; } ;;
-) cat >"$CRONTAB" ;;
*) [ -z "${REFUSES-}" ] || { echo "Failed to connect to bus: No medium found" >&2; exit 1; } ;;
esac
"""


Capture = pytest.CaptureFixture[str]


@dataclass(frozen=True)
class Answer:
    """The result of a command."""

    code: int
    out: str
    err: str


class Machine:
    """A machine whose systemctl and crontab, if present, only record their arguments."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, capture: Capture) -> None:
        self.folder = folder
        self.home = folder / "runs"
        self.crontab = folder / "crontab"
        self._tools = folder / "bin"
        self._tools.mkdir()
        self._capture = capture
        variables = {
            "PATH": self._tools,
            "HOME": folder,
            "BORDERLINE_HOME": self.home,
            "CALLS": folder / "calls",
            "CRONTAB": self.crontab,
        }
        for name, value in variables.items():
            patch.setenv(name, str(value))
        for name in ("XDG_CONFIG_HOME", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
            patch.delenv(name, raising=False)
        patch.chdir(folder)
        for name in ("sh", "cat", "basename"):
            (self._tools / name).symlink_to(f"/bin/{name}")
        (folder / "mine.yaml").write_text("epochs: 3\n")

    def has(self, program: str) -> None:
        tool = self._tools / program
        tool.write_text(TOOL)
        tool.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    def nightly(self, *options: str, experiment: str = "mine.yaml") -> Answer:
        code = main(["nightly", experiment, *options])
        said = self._capture.readouterr()
        return Answer(code, said.out, said.err)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Machine:
    return Machine(tmp_path, monkeypatch, capsys)


def test_systemd_timer_is_written_and_enabled(machine: Machine) -> None:
    machine.has("systemctl")
    result = machine.nightly("--install", "systemd", "--at", "02:05", "--set", "epochs=2")
    assert result.code == 0, result.err
    units = machine.folder / ".config" / "systemd" / "user"
    service = (units / "borderline-mine.service").read_text()
    assert f"{sys.executable} {ROOT / 'search.py'} nightly {machine.folder}/mine.yaml" in service
    assert f"--set epochs=2 --home {machine.home}\n" in service
    assert "02:05" in (units / "borderline-mine.timer").read_text()
    assert machine.calls == [
        "systemctl --user show-environment",
        "systemctl --user daemon-reload",
        "systemctl --user enable --now borderline-mine.timer",
    ]
    assert "journalctl --user -u borderline-mine" in result.err


def test_repeated_installation_keeps_one_cron_line(machine: Machine) -> None:
    machine.has("crontab")
    first = machine.nightly("--install", "cron")
    assert first.code == 0, first.err
    (line,) = machine.crontab.read_text().splitlines()
    assert line.startswith("30 1 * * * ")
    machine.crontab.write_text(f"1 1 * * * true\n{line}\n")
    again = machine.nightly("--install", "cron", "--at", "03:00")
    assert again.code == 0, again.err
    other, line = machine.crontab.read_text().splitlines()
    assert other == "1 1 * * * true"
    assert line.startswith("0 3 * * * ")


@pytest.mark.parametrize("kind", ["systemd", "cron"])
def test_missing_timer_program_is_one_line(machine: Machine, kind: str) -> None:
    result = machine.nightly("--install", kind)
    assert result.code == 2
    (line,) = result.err.splitlines()
    assert line.startswith(f"search.py: --install = {kind}: there is no ")
    assert line.endswith(f"print it instead: --show {kind}")
    assert not (machine.folder / ".config").exists()


def test_missing_service_manager_is_one_line_without_files(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUSES", "yes")
    machine.has("systemctl")
    result = machine.nightly("--install", "systemd")
    assert result.code == 2
    (line,) = result.err.splitlines()
    assert "Failed to connect to bus: No medium found; print it instead" in line
    assert not (machine.folder / ".config").exists()


def test_shown_timer_has_no_secrets_and_installs_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BORDERLINE_NOTIFY", "json://h/s3cret")
    machine.has("crontab")
    for kind, says in (("systemd", "[Timer]"), ("cron", "30 1 * * *"), ("ray-job", "job submit")):
        result = machine.nightly("--show", kind)
        assert (result.code, result.err) == (0, "")
        assert says in result.out
        assert "s3cret" not in result.out
    assert not machine.crontab.exists()
    assert not machine.home.exists()


def test_manifest_is_shown_with_time_and_experiment(machine: Machine) -> None:
    experiment = str(ROOT / "experiments" / "quickstart.yaml")
    options = ("--show", "kubernetes", "--at", "02:05", "--set", "epochs=4")
    result = machine.nightly(*options, experiment=experiment)
    assert (result.code, result.err) == (0, "")
    shown = yaml.safe_load(result.out)
    assert shown["spec"]["schedule"] == "5 2 * * *"
    entrypoint = "python search.py nightly experiments/quickstart.yaml --set epochs=4"
    assert shown["spec"]["jobTemplate"]["entrypoint"] == f"cd /home/ray && {entrypoint}"
    before = yaml.safe_load(MANIFEST.read_text())
    shown["spec"]["jobTemplate"]["entrypoint"] = before["spec"]["jobTemplate"]["entrypoint"]
    shown["spec"]["schedule"] = before["spec"]["schedule"]
    assert shown == before


def test_experiment_outside_the_image_is_refused_in_manifest(machine: Machine) -> None:
    result = machine.nightly("--show", "kubernetes")
    assert result.code == 2
    assert result.err.startswith("search.py: EXPERIMENT = mine.yaml: is not in ")
    assert "move it to experiments/" in result.err


@pytest.mark.parametrize("kind", ["systemd", "cron", "ray-job"])
def test_timer_starts_existing_program(machine: Machine, kind: str) -> None:
    assert (ROOT / "search.py").is_file()
    assert f"{ROOT / 'search.py'} nightly {machine.folder / 'mine.yaml'}" in machine.nightly(
        "--show", kind
    ).out.replace('"', "")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--install", "launchd"), "--install = launchd: cannot be installed"),
        (("--show", "at"), "--show = at: no such timer; use one of systemd, cron, ray-job"),
        (("--show", "cron", "--at", "25:00"), "--at = 25:00: is not a time of day"),
        (("--show", "cron", "--set", "epoch=3"), "epoch = 3: unknown field"),
        *(
            (options, "--set = data=one two: has a line break")
            for kind in ("cron", "ray-job")
            for options in [("--show", kind, "--set", "data=one\ntwo")]
        ),
        (("--show", "cron", "--home", "a\nb"), "--home = "),
        (("--install", "cron", "--set", "data=one\ntwo"), "--set = data=one two: has a line"),
    ],
)
def test_invalid_timer_is_one_line(machine: Machine, options: tuple[str, ...], says: str) -> None:
    result = machine.nightly(*options)
    assert result.code == 2
    (line,) = result.err.splitlines()
    assert line.startswith(f"search.py: {says}")


def test_cron_and_shell_can_read_the_line(machine: Machine) -> None:
    line = machine.nightly("--show", "cron").out
    assert len(line.splitlines()) == 1
    assert len(line.encode()) < 1000  # The longest that cron reads.
    assert os.path.isabs(line.split()[6])
    subprocess.run(["/bin/sh", "-n", "-c", line.split(None, 5)[5]], check=True)
