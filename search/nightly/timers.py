"""Installs or prints the timer that starts the nights of a search."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.timers import MANIFEST, Daily, Timer, cron_manifest
from search.console import note, output
from search.experiment.folder import Home
from search.experiment.loading import load_experiment
from search.notifications import VARIABLE
from spaces.errors import BadInputError

PROGRAM = Path(__file__).resolve().parents[2] / "search.py"
DASHBOARD = "http://127.0.0.1:8265"
_INSTALLED = ("systemd", "cron")
_SHOWN = (*_INSTALLED, "ray-job", "kubernetes")


def install_timer(
    kind: str, at: str, experiment: Path, overrides: Sequence[str], home: Home, address: str
) -> None:
    """Install a timer for the user; it replaces an earlier timer of the same search.

    Args:
        kind: systemd or cron.
        at: time of day, ``HH:MM``.
        experiment: file of the experiment.
        overrides: of the experiment.
        home: folder of all searches.
        address: of the Ray cluster.

    Raises:
        BadInputError: the experiment or the time is invalid, or this machine has no such timers.
    """
    if kind not in _INSTALLED:
        problem = "cannot be installed from here"
        raise BadInputError("--install", kind, problem, f"use one of {', '.join(_INSTALLED)}")
    timer = describe_timer(at, experiment, overrides, home, address)
    if kind == "cron":
        _refuse_line_breaks(experiment, overrides, home, address)
        _install_cron(timer)
    else:
        _install_systemd(timer)
    note(f"put secrets such as {VARIABLE} into {timer.environment} (mode 600): NAME='value'")


def show_timer(
    kind: str, at: str, experiment: Path, overrides: Sequence[str], home: Home, address: str
) -> None:
    """Print a timer; see `install_timer`.

    Raises:
        BadInputError: the experiment, the time or the kind is invalid.
    """
    if kind not in _SHOWN:
        raise BadInputError("--show", kind, "no such timer", f"use one of {', '.join(_SHOWN)}")
    timer = describe_timer(at, experiment, overrides, home, address)
    if kind in ("cron", "ray-job"):
        _refuse_line_breaks(experiment, overrides, home, address)
    if kind == "systemd":
        for path, text in _units(timer).items():
            output(f"# {path}\n{text}")
    elif kind == "cron":
        output(timer.crontab_line())
    elif kind == "ray-job":
        output(timer.ray_job(os.environ.get("RAY_API_SERVER_ADDRESS", DASHBOARD)))
    else:
        command = ["python", PROGRAM.name, "nightly", _in_image(experiment), *_sets(overrides)]
        try:
            output(cron_manifest(MANIFEST.read_text(encoding="utf-8"), timer.at, command))
        except (OSError, ValueError) as error:
            cause = error.strerror if isinstance(error, OSError) else error
            remedy = "see cluster/README.md"
            raise BadInputError("--show", kind, f"{MANIFEST}: {cause}", remedy) from None


def describe_timer(
    at: str, experiment: Path, overrides: Sequence[str], home: Home, address: str
) -> Timer:
    """Return the timer that repeats this command line every night.

    Raises:
        BadInputError: the experiment or the time is invalid.
    """
    name = load_experiment(experiment, overrides).name
    try:
        time = Daily.parse(at)
    except ValueError as error:
        raise BadInputError("--at", at, str(error), "write it as 01:30") from None
    # The path of the interpreter may be a link, as in a virtual environment: keep the link.
    script = [str(PROGRAM)] if PROGRAM.is_file() else ["-P", "-m", "search.cli"]
    command = [sys.executable, *script, "nightly", str(experiment.absolute())]
    command += _sets(overrides)
    command += ["--home", str(home.path)]
    if address != "local":
        command += ["--address", address]
    return Timer(
        name=f"borderline-{name}",
        what=f"Nightly search {name}",
        command=command,
        folder=Path.cwd(),
        environment=_configuration() / "borderline" / "nightly.env",
        log=home.path / f"{name}-nightly.log",
        at=time,
    )


def _refuse_line_breaks(
    experiment: Path, overrides: Sequence[str], home: Home, address: str
) -> None:
    """Refuse arguments that a crontab cannot hold: it has one command per line."""
    arguments = [("--set", each) for each in overrides]
    arguments += [("EXPERIMENT", str(experiment.absolute())), ("--home", str(home.path))]
    arguments += [("--address", address)]
    for field, text in arguments:
        if text.splitlines() != [text]:
            problem = "has a line break, which a line of a crontab cannot hold"
            remedy = "write the value in the experiment file" if field == "--set" else "rename it"
            raise BadInputError(field, text, problem, remedy)


def _sets(overrides: Sequence[str]) -> list[str]:
    return [part for override in overrides for part in ("--set", override)]


def _in_image(experiment: Path) -> str:
    """Return the path of an experiment within the project, which the image contains."""
    try:
        return experiment.resolve().relative_to(PROGRAM.parent).as_posix()
    except ValueError:
        problem = f"is not in {PROGRAM.parent}, from which the image is built"
        remedy = "move it to experiments/ and build the image again"
        raise BadInputError("EXPERIMENT", experiment, problem, remedy) from None


def _configuration() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def _units(timer: Timer) -> dict[Path, str]:
    folder = _configuration() / "systemd" / "user"
    return {
        folder / f"{timer.name}.service": timer.service(),
        folder / f"{timer.name}.timer": timer.timer(),
    }


def _install_systemd(timer: Timer) -> None:
    systemctl = _find("systemctl", "systemd")
    # Check before writing any file: containers often have no service manager.
    _run([systemctl, "--user", "show-environment"], "systemd")
    for path, text in _units(timer).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        note(f"written: {path}")
    _run([systemctl, "--user", "daemon-reload"], "systemd")
    _run([systemctl, "--user", "enable", "--now", f"{timer.name}.timer"], "systemd")
    note(f"next: systemctl --user list-timers {timer.name}.timer")
    note(f"logs: journalctl --user -u {timer.name}")
    note('to run nights while you are logged out: loginctl enable-linger "$USER"')


def _install_cron(timer: Timer) -> None:
    crontab = _find("crontab", "cron")
    listed = subprocess.run(  # noqa: S603
        [crontab, "-l"], capture_output=True, text=True, check=False
    )
    if listed.returncode and "no crontab" not in listed.stderr:
        raise _refused("cron", listed.stderr)
    timer.log.parent.mkdir(parents=True, exist_ok=True)
    before = listed.stdout if listed.returncode == 0 else ""
    _run([crontab, "-"], "cron", timer.in_crontab(before))
    note(f"installed: {timer.crontab_line()}")
    note(f"logs: {timer.log}")


def _find(program: str, kind: str) -> str:
    found = shutil.which(program)
    if found is None:
        problem = f"there is no {program} on this machine"
        raise BadInputError("--install", kind, problem, f"print it instead: --show {kind}")
    return found


def _run(command: Sequence[str], kind: str, given: str | None = None) -> None:
    result = subprocess.run(  # noqa: S603
        command, input=given, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise _refused(kind, result.stderr)


def _refused(kind: str, said: str) -> BadInputError:
    problem = " ".join(said.split()) or "the command failed without a message"
    return BadInputError("--install", kind, problem, f"print it instead: --show {kind}")
