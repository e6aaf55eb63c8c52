"""Whole searches with a backup in S3: storage outages, lost heads and refusals."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from cluster.s3 import open_bucket
from search import cli
from search.driver.resume import migrate_checkpoints
from search.experiment.folder import Home
from search.experiment.loading import parse_experiment
from search.study.storages import read_trials
from search.tracking.journal_events import Metrics
from search.tracking.journal_reader import read_all
from spaces.task import Task
from tests import s3
from tests.search.users import ROOT, SMALL, User, end_of, wait_for

# Whole searches run one after another, possibly on a busy machine.
pytestmark = pytest.mark.timeout(600)

NOT_TRACKED = {"enabled": False}

OFTEN = """
import sys

import search.backup.snapshots
from search.cli import main

search.backup.snapshots.EVERY = 1.0
search.backup.snapshots._TIME_FRACTION = 1.0
sys.exit(main())
"""


@pytest.fixture
def user(tmp_path: Path, s3_gate: s3.Gate) -> User:
    """Return a user whose S3 is behind the gate and whose snapshots are frequent."""
    user = User(tmp_path)
    user.environment = {
        name: value for name, value in user.environment.items() if not name.startswith("AWS_")
    } | s3.settings(s3_gate.url)
    # Processes of the cluster import from the folder of the driver's program.
    user.environment["PYTHONPATH"] = str(ROOT)
    user.program = tmp_path / "often.py"
    user.program.write_text(OFTEN)
    return user


def trained(user: User, name: str) -> dict[int, FrozenTrial]:
    trials = read_trials(user.home / name / "study.db", name)
    return {trial.number: trial for trial in trials if "rejected" not in trial.user_attrs}


def seconds(user: User, name: str) -> dict[tuple[str, int], float]:
    """Return the duration of each epoch; training an epoch again gives another duration."""
    return {
        (event.run, event.step): event.metrics["epoch_seconds"]
        for event in read_all(user.home / name / "journal.jsonl")
        if isinstance(event, Metrics) and event.run.isdecimal()
    }


def assert_whole(user: User, name: str, epochs: int) -> None:
    for trial in trained(user, name).values():
        assert trial.state is TrialState.COMPLETE
        assert sorted(trial.intermediate_values) == list(range(1, epochs + 1))
    expected = {(str(n), e) for n in trained(user, name) for e in range(1, epochs + 1)}
    assert set(seconds(user, name)) == expected


def test_search_survives_a_storage_outage_and_catches_up(
    user: User, s3_gate: s3.Gate, s3_place: str, tmp_path: Path
) -> None:
    path = user.write(
        "saved", storage=s3_place, epochs=150, budget={"trials": 2}, tracking=NOT_TRACKED
    )
    store = open_bucket(s3_place).within("saved")
    with user.start("run", path) as driver:
        wait_for(lambda: user.journal("saved").count('"metrics"') > 3, driver)
        wait_for(lambda: "experiment.yaml" in store.names(), driver)

        other = User(tmp_path, tmp_path / "another home")
        other.environment |= s3.settings(s3_gate.url) | {"BORDERLINE_HOME": str(other.home)}
        refused = other.ask("resume", "saved", "--storage", s3_place)
        assert refused.returncode == 2, refused
        (line,) = refused.stderr.splitlines()
        assert line.startswith(
            f"search.py: NAME = saved: it is being run by process {driver.pid} on "
        )
        assert not other.home.exists() or not list(other.home.iterdir())

        s3_gate.shut()
        before = user.journal("saved").count('"metrics"')
        wait_for(lambda: user.journal("saved").count('"metrics"') > before + 20, driver)
        s3_gate.asked.clear()
        s3_gate.answer = s3_gate.slow_down
        s3_gate.open()
        # More requests than heartbeats alone: snapshots are retried, too.
        wait_for(lambda: s3_gate.count("PUT", "driver.json") > 6, driver)
        s3_gate.answer = lambda method, path: None
        ended = end_of(driver)
    assert ended.returncode == 0, ended
    said = [line for line in ended.stderr.splitlines() if line.startswith("storage: ")]
    assert len(said) == 2, ended.stderr
    assert "snapshots are not written" in said[0]
    assert said[1].endswith("are written to " + store.location + " again")
    assert_whole(user, "saved", 150)
    assert "correct-horse" not in ended.stdout + ended.stderr

    names = set(store.names())
    assert {"study.db", "journal", "finalists", "report.html", "id", "task.json"} <= names
    assert "checkpoints" not in names
    assert store.read("finalists/results.json")
    assert b'"released": true' in store.read("driver.json")


def test_fresh_head_resumes_without_repeating_epochs(
    user: User, s3_gate: s3.Gate, s3_place: str, tmp_path: Path
) -> None:
    path = user.write(
        "lost",
        epochs=30,
        finalists={"count": 0},
        tracking=NOT_TRACKED,
    )
    place = {"BORDERLINE_STORAGE": s3_place}
    store = open_bucket(s3_place).within("lost")
    copied = tmp_path / "copied.db"

    def snapshot() -> dict[int, FrozenTrial]:
        try:
            copied.write_bytes(store.read("study.db"))
        except FileNotFoundError:
            return {}
        return {trial.number: trial for trial in read_trials(copied, "lost")}

    def one_ended_and_another_started() -> bool:
        states = {trial.state for trial in snapshot().values()}
        return {TrialState.COMPLETE, TrialState.RUNNING} <= states and bool(
            store.within("checkpoints").entries()
        )

    with user.start("run", path, **place) as driver:
        wait_for(lambda: "experiment.yaml" in store.names(), driver)
        wait_for(one_ended_and_another_started, driver)
        os.kill(driver.pid, signal.SIGKILL)
        end_of(driver)
    known = snapshot()
    lost = seconds(user, "lost")
    checkpoints = {
        entry.name.split("/")[0]: int(entry.name.split("epoch-")[1][:5])
        for entry in store.within("checkpoints").entries()
    }
    shutil.rmtree(user.home)

    resumed = user.ask("resume", "lost", "--storage", s3_place)
    assert resumed.returncode == 0, resumed
    assert f"search lost: restored from {s3_place}" in resumed.stderr
    assert_whole(user, "lost", 30)
    after = trained(user, "lost")
    assert len(after) == SMALL["budget"]["trials"]
    for number, trial in known.items():
        if trial.state is TrialState.COMPLETE:
            assert after[number].datetime_complete == trial.datetime_complete
            assert after[number].user_attrs == trial.user_attrs
    # The epochs in the checkpoint of the running trial are not trained again.
    (number, epoch) = next(
        (number, epoch)
        for number, epoch in checkpoints.items()
        if known[int(number)].state is TrialState.RUNNING
    )
    history: dict[str, Any] = after[int(number)].user_attrs["history"]
    for each in range(1, epoch + 1):
        if (number, each) in lost:
            assert history[str(each)]["epoch_seconds"] == lost[number, each]

    # Resuming the finished search on another fresh head trains nothing.
    shutil.rmtree(user.home)
    again = user.ask("run", path, "--resume", **place)
    assert again.returncode == 0, again
    assert trained(user, "lost").keys() == after.keys()
    for number, trial in trained(user, "lost").items():
        assert trial.datetime_complete == after[number].datetime_complete


# Refusals before anything is written


@pytest.fixture
def refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Return a function that runs an experiment and returns the line that refuses it."""
    monkeypatch.delenv("BORDERLINE_STORAGE", raising=False)

    def run(storage: str, *arguments: str) -> str:
        path = User(tmp_path).write("saved", tracking=NOT_TRACKED)
        home = tmp_path / "home"
        command = ["run", str(path), "--home", str(home), "--set", f"storage={storage}"]
        assert cli.main([*command, *arguments]) == cli.BAD_INPUT
        assert not home.exists()
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"search.py: storage = {storage}: ")
        return line.removeprefix(f"search.py: storage = {storage}: ")

    return run


def test_missing_credentials_are_refused(
    refused: Callable[..., str], s3_place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert refused(s3_place).startswith("there are no credentials (")


def test_missing_bucket_is_refused(refused: Callable[..., str], s3_gate: s3.Gate) -> None:
    line = refused("s3://no-such-bucket/team")
    assert line == "there is no such bucket; create it, or name another"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_bucket_with_a_denied_operation_is_refused(
    refused: Callable[..., str], s3_gate: s3.Gate, s3_place: str, method: str
) -> None:
    s3_gate.answer = lambda asked, path: (403, "AccessDenied") if asked == method else None
    line = refused(s3_place)
    assert line.startswith("access is denied (")
    assert line.endswith("cluster/iam-policy.json")


def test_bucket_in_another_region_is_refused(
    refused: Callable[..., str], s3_gate: s3.Gate, s3_place: str
) -> None:
    s3_gate.answer = lambda method, path: (400, "AuthorizationHeaderMalformed")
    assert refused(s3_place).startswith("the bucket lies in another region (")


def test_unreachable_server_is_refused(
    refused: Callable[..., str], s3_gate: s3.Gate, s3_place: str
) -> None:
    s3_gate.shut()
    assert refused(s3_place).startswith("its server does not answer (")


@pytest.mark.parametrize("storage", ["folder/of/mine", "s3://", "https://example.com/x"])
def test_invalid_bucket_address_is_refused(refused: Callable[..., str], storage: str) -> None:
    assert "s3://bucket/prefix" in refused(storage)


def test_search_name_that_the_bucket_holds_is_refused(
    s3_gate: s3.Gate, s3_place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_bucket(s3_place).within("saved")
    store.write("experiment.yaml", b"name: saved")
    store.write("id", b"saved-0123456789ab")
    path = User(tmp_path).write("saved", tracking=NOT_TRACKED, storage=s3_place)
    assert cli.main(["run", str(path), "--home", str(tmp_path / "home")]) == cli.BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{s3_place} already holds a search of that name" in line
    assert line.endswith(f"python search.py resume saved --storage {s3_place}")


def test_resume_of_unknown_search_is_refused(
    s3_gate: s3.Gate, s3_place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = str(tmp_path / "home")
    arguments = ["resume", "nothing", "--home", home, "--storage", s3_place]
    assert cli.main(arguments) == cli.BAD_INPUT
    assert "no such search in" in capsys.readouterr().err


def test_resume_with_another_storage_moves_checkpoints(
    s3_gate: s3.Gate, s3_place: str, tmp_path: Path
) -> None:
    folder = Home(tmp_path).folder("moving")
    before = parse_experiment({"name": "moving"})
    after = parse_experiment({"name": "moving", "storage": s3_place})
    folder.create(before.to_yaml(), Task(1, 8, 8, 10))
    saved = folder.checkpoints / "3" / "seed" / "epoch.pt"
    saved.parent.mkdir(parents=True)
    saved.write_bytes(b"weights")

    assert migrate_checkpoints(folder, before)
    assert saved.exists()
    s3_gate.answer = s3_gate.deny
    assert not migrate_checkpoints(folder, after)
    assert saved.exists()
    s3_gate.answer = lambda method, path: None
    assert migrate_checkpoints(folder, after)
    assert not saved.exists()
    assert open_bucket(s3_place).read("moving/checkpoints/3/seed/epoch.pt") == b"weights"

    folder.write_experiment(after.to_yaml())
    assert migrate_checkpoints(folder, before)
    assert saved.read_bytes() == b"weights"


def test_night_on_fresh_head_continues_earlier_nights(
    user: User, s3_gate: s3.Gate, s3_place: str
) -> None:
    path = user.write(
        "nights",
        storage=s3_place,
        epochs=1,
        budget={"trials": 1},
        finalists={"count": 1, "seeds": 2},
    )
    started = user.ask("nightly", path)
    assert started.returncode == 0, started
    nights = user.home / "nights" / "nights"
    (first,) = sorted(each.name for each in nights.iterdir() if each.is_dir())
    # The registry of champions is in another store and survives the loss of a head.
    shutil.rmtree(user.home / "nights")
    continued = user.ask("nightly", path)
    assert continued.returncode == 0, continued
    assert "restored from" in continued.stderr
    assert len(trained(user, "nights")) == 2
    again, second = sorted(each.name for each in nights.iterdir() if each.is_dir())
    assert again == first
    report = (nights / second / "report.md").read_text()
    assert f"## Since the night {first}" in report
    assert "| complete | 1 | 2 | +1 |" in report
