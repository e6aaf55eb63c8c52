"""Timers, parsed as systemd, cron and a shell parse them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.timers import Daily, Timer, cron_manifest
from tests.requirements import lack

PROGRAM = "/usr/bin/printenv"


def make(*arguments: str, folder: str = "/srv/nets", log: str = "/srv/runs/a.log") -> Timer:
    return Timer(
        name="borderline-mine",
        what="Nightly search mine",
        command=[PROGRAM, *arguments],
        folder=Path(folder),
        environment=Path(folder) / "nightly.env",
        log=Path(log),
        at=Daily(1, 30),
    )


@pytest.mark.parametrize(
    ("text", "cron", "calendar"),
    [
        ("01:30", "30 1 * * *", "*-*-* 01:30:00"),
        ("0:00", "0 0 * * *", "*-*-* 00:00:00"),
        ("23:59", "59 23 * * *", "*-*-* 23:59:00"),
    ],
)
def test_time_of_day_is_written_in_each_timers_format(text: str, cron: str, calendar: str) -> None:
    at = Daily.parse(text)
    assert (at.cron, at.calendar) == (cron, calendar)


@pytest.mark.parametrize("text", ["24:00", "1:60", "1", "01:30:00", "", "-1:30", "noon"])
def test_invalid_time_of_day_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a time of day"):
        Daily.parse(text)


# systemd


def split_by_systemd(line: str) -> list[str]:
    """Return the arguments that systemd finds in an ExecStart (man systemd.service)."""
    words = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', line)
    escapes = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}
    return [
        re.sub(r"\\.", lambda match: escapes[match[0]], quoted or plain)
        .replace("$$", "$")
        .replace("%%", "%")
        for quoted, plain in words
    ]


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


@given(st.lists(texts, max_size=3))
@example(["space.depth=[2, 5]", "a b", 'say "50 %"', "$HOME", "back\\slash", "two\nlines"])
def test_systemd_starts_the_command_with_these_arguments(arguments: list[str]) -> None:
    (line,) = re.findall(r"^ExecStart=(.*)$", make(*arguments).service(), re.MULTILINE)
    assert split_by_systemd(line) == [PROGRAM, *arguments]


def test_missed_night_starts_later_and_stop_allows_last_epochs() -> None:
    timer = make()
    assert "OnCalendar=*-*-* 01:30:00\nPersistent=true\n" in timer.timer()
    assert "KillMode=mixed\nTimeoutStopSec=900\n" in timer.service()
    assert "EnvironmentFile=-/srv/nets/nightly.env\n" in timer.service()


def verify(folder: Path, timer: Timer) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        lack("the Debian package systemd")
    units = [folder / f"{timer.name}.service", folder / f"{timer.name}.timer"]
    for path, text in zip(units, (timer.service(), timer.timer()), strict=True):
        path.write_text(text, encoding="utf-8")
    runtime = folder / "runtime"
    runtime.mkdir(exist_ok=True)
    return subprocess.run(
        [program, "verify", "--user", "--man=no", *units],
        env=os.environ | {"XDG_RUNTIME_DIR": str(runtime)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    result = verify(tmp_path, make("space.depth=[2, 5]", "50 %", folder="/srv/my nets 50%"))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_systemd_rejects_an_invalid_unit(tmp_path: Path) -> None:
    timer = make()
    wrong = Timer(**{**vars(timer), "command": ["/not/there"]})
    assert "/not/there is not executable" in verify(tmp_path, wrong).stderr


# cron


def run_by_cron(line: str) -> subprocess.CompletedProcess[str]:
    """Run a crontab line as cron does: with sh, up to the first bare percent sign."""
    command = re.split(r"(?<!\\)%", line.split(None, 5)[5])[0].replace("\\%", "%")
    return subprocess.run(
        ["/bin/sh", "-c", command],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_cron_runs_command_with_folder_secrets_and_log(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "my nets 50%"
    folder.mkdir()
    (folder / "nightly.env").write_text("SECRET='json://a/b?c=1&d=2 mailto://x'\n")
    log = tmp_path / "the log.txt"
    timer = make("SECRET", folder=str(folder), log=str(log))
    line = timer.crontab_line()
    assert line.startswith("30 1 * * * ")
    assert "\n" not in line
    assert "json://" not in line
    for _ in range(2):
        result = run_by_cron(line)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert log.read_text() == "json://a/b?c=1&d=2 mailto://x\n" * 2


def test_cron_runs_command_without_secrets_file(tmp_path: Path) -> None:
    timer = make("PATH", folder=str(tmp_path), log=str(tmp_path / "log"))
    assert run_by_cron(timer.crontab_line()).returncode == 0
    assert (tmp_path / "log").read_text() == "/usr/bin:/bin\n"


def test_cron_job_fails_when_the_night_fails(tmp_path: Path) -> None:
    timer = make("NOT_SET", folder=str(tmp_path), log=str(tmp_path / "log"))
    assert run_by_cron(timer.crontab_line()).returncode == 1


def test_crontab_gets_one_line_and_keeps_the_others() -> None:
    others = "MAILTO=me\n5 4 * * * echo borderline-mine\n"
    once = make().in_crontab(others)
    assert once == f"{others}{make().crontab_line()}\n"
    assert make().in_crontab(once) == once
    assert make().in_crontab("") == f"{make().crontab_line()}\n"


def test_changed_timer_replaces_its_crontab_line() -> None:
    before = f"{make('OLD').crontab_line()}\n1 1 * * * true\n{make('OLD').crontab_line()}\n"
    assert make("NEW").in_crontab(before) == f"{make('NEW').crontab_line()}\n1 1 * * * true\n"


def test_same_search_in_another_home_has_its_own_line() -> None:
    other = make(log="/srv/others/a.log")
    both = other.in_crontab(make().in_crontab(""))
    assert both.splitlines() == [make().crontab_line(), other.crontab_line()]


# Ray and Kubernetes


def test_ray_job_runs_the_command_on_the_given_cluster(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    ray = tools / "ray"
    ray.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    ray.chmod(0o755)
    (tmp_path / "nightly.env").write_text("SECRET='hidden'\n")
    log = tmp_path / "log"
    timer = make(folder=str(tmp_path), log=str(log))
    timer = Timer(**{**vars(timer), "command": [str(tools / "python"), "a b", "50%"]})
    line = timer.ray_job("http://127.0.0.1:8265")
    assert run_by_cron(line).returncode == 0
    *submit, inside = log.read_text().splitlines()
    assert submit == [
        *("job", "submit", "--no-wait", "--address", "http://127.0.0.1:8265"),
        *("--", "sh", "-c"),
    ]
    (tools / "python").write_text('#!/bin/sh\nprintf "%s\\n" "$PWD" "$SECRET" "$@"\n')
    (tools / "python").chmod(0o755)
    done = subprocess.run(["sh", "-c", inside], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(tmp_path), "hidden", "a b", "50%"]
    assert "hidden" not in line
    assert shlex.split(line, comments=True)


MANIFEST = """\
spec:
  schedule: "0 0 * * *"  # midnight
  jobTemplate:
    entrypoint: cd /home/ray && python search.py nightly experiments/nightly.yaml
"""


def test_manifest_gets_time_and_command() -> None:
    command = ["python", "search.py", "nightly", "a.yaml", "--set", 'name="a: b"']
    spec = yaml.safe_load(cron_manifest(MANIFEST, Daily(2, 5), command))["spec"]
    assert spec["schedule"] == "5 2 * * *"
    begin, _, run = spec["jobTemplate"]["entrypoint"].partition(" && ")
    assert begin == "cd /home/ray"
    assert shlex.split(run) == command


@pytest.mark.parametrize("lacking", ["schedule", "entrypoint"])
def test_manifest_of_another_kind_is_refused(lacking: str) -> None:
    with pytest.raises(ValueError, match="has no schedule, or does not run a night"):
        cron_manifest(MANIFEST.replace(lacking, "something"), Daily(2, 5), ["true"])
