"""The state of a search: running, interrupted, failed or finished."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from optuna.samplers import RandomSampler
from rich.console import Console

from search.experiment.folder import Home, SearchFolder
from search.experiment.loading import parse_experiment
from search.reporting.status import show_report, show_status, sync_search, watch_status
from search.reporting.stored_search import StoredSearch
from search.study.database import Database
from search.study.file_lock import hold
from search.study.finalists import Finalist, FinalistStore, write_results
from search.study.live_state import LiveState
from search.study.storages import read_trials
from search.study.study import Study
from search.tracking.journal import Journal
from search.tracking.journal_events import PARENT, Status
from search.tracking.journal_reader import last_status
from search.tracking.mlflow_destination import Destination
from search.tracking.tracking_process import SyncReport
from spaces.errors import BadInputError
from spaces.task import Task
from trainables.baseline import Baseline
from trainables.specs import FinalistResult


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Return a home with a search whose driver died during the training of two trials."""
    home = Home(tmp_path / "home")
    folder = home.folder("mine")
    folder.create(parse_experiment({"name": "mine"}).to_yaml(), Task(1, 8, 8, 10))
    database = Database(folder.study, "mine")
    study = Study("mine", RandomSampler(seed=0), database=database)
    for _ in range(2):
        study.start(study.ask(), {"digest": "d", "share": 1.0})
    database.close()
    return home


@pytest.fixture
def folder(home: Home) -> SearchFolder:
    """Return the folder of the search."""
    return home.folder("mine")


def ends(folder: SearchFolder, status: Status) -> None:
    """Let a driver end with a status."""
    with Journal(folder.journal) as journal:
        journal.start(PARENT, "mine")
        journal.finish(PARENT, status)


def shown(home: Home, printed: Callable[..., str]) -> tuple[list[str], str]:
    """Return the cells of the search's row, and the lines below the table."""

    def show(console: Console) -> None:
        show_status(None, home, console)

    _, row, *rest = printed(show).splitlines()
    return row.split(), "\n".join(rest)


def test_status_tells_what_further_trials_may_bring(
    tmp_path: Path, printed: Callable[..., str]
) -> None:
    home = Home(tmp_path)
    folder = home.folder("mine")
    folder.create(parse_experiment({"name": "mine"}).to_yaml(), Task(1, 8, 8, 10))
    database = Database(folder.study, "mine")
    study = Study("mine", RandomSampler(seed=0), database=database)
    study.start(study.ask(), {"digest": "d", "prospect": 0.0042})
    database.close()
    _, below = shown(home, printed)
    assert "mine: the next 20 trials are expected to improve the best validation" in below
    assert "accuracy by 0.0042" in below


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let this process, even as root, read a folder but not write it."""
    closed = [each for each in folder.parents if not each.stat().st_mode & stat.S_IXOTH]
    modes = {each: each.stat().st_mode for each in (*closed, folder, *folder.rglob("*"))}
    for path, mode in modes.items():
        if path in closed:
            path.chmod(mode | 0o555)  # Pytest's own folders, which only their owner may enter.
        else:
            path.chmod((mode | 0o555 if path.is_dir() else mode | 0o444) & ~0o222)
    nobody = os.getuid() == 0
    if nobody:
        os.seteuid(65534)
    try:
        yield
    finally:
        if nobody:
            os.seteuid(0)
        for path, mode in modes.items():
            path.chmod(mode)


def test_status_and_report_need_no_right_to_write(
    home: Home, folder: SearchFolder, printed: Callable[..., str]
) -> None:
    before = printed(lambda console: show_report("mine", None, home, console))
    folder.report.unlink()
    rows = shown(home, printed)
    with read_only(home.path):
        assert shown(home, printed) == rows
        report = printed(lambda console: show_report("mine", None, home, console))
    assert report.partition("Web page")[0] == before.partition("Web page")[0]
    assert report.splitlines()[-1].startswith("Web page: not written")
    assert not folder.report.exists()


def test_study_that_a_driver_writes_is_read_without_the_right_to_write(
    folder: SearchFolder,
) -> None:
    database = Database(folder.study, "mine", resume=True)
    try:
        database.load()
        database.report(0, 1, 0.5)
        database.flush()
        with read_only(folder.path):
            trials = read_trials(folder.study, "mine")
    finally:
        database.close()
    assert trials[0].intermediate_values == {1: 0.5}


def sent_to(home: Home, monkeypatch: pytest.MonkeyPatch, printed: Callable[..., str]) -> str:
    """Return the address to which `sync` sends the events of the search."""
    asked: list[Destination] = []

    def sync(journal: Path, destination: Destination, search: str) -> SyncReport:
        asked.append(destination)
        return SyncReport(1, 1, 0)

    monkeypatch.setattr("search.reporting.status.sync", sync)
    printed(lambda console: sync_search("mine", home, console))
    return asked[0].tracking_uri


def test_sync_sends_to_the_server_of_the_run(
    home: Home, folder: SearchFolder, monkeypatch: pytest.MonkeyPatch, printed: Callable[..., str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert sent_to(home, monkeypatch, printed).startswith("sqlite:")
    Destination("http://mlflow.example.com", home.path).record(folder)
    assert sent_to(home, monkeypatch, printed) == "http://mlflow.example.com"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://other.example.com")
    assert sent_to(home, monkeypatch, printed) == "http://other.example.com"


def test_sync_asks_for_an_address_whose_password_is_not_stored(
    home: Home, folder: SearchFolder, monkeypatch: pytest.MonkeyPatch, printed: Callable[..., str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Destination("http://ann:secret@mlflow.example.com", home.path).record(folder)
    assert "secret" not in "".join(path.read_text() for path in folder.path.glob("tracked*"))
    with pytest.raises(BadInputError, match=r"MLFLOW_TRACKING_URI .*mlflow\.example\.com"):
        sent_to(home, monkeypatch, printed)


def test_search_runs_while_driver_holds_lock(
    home: Home, folder: SearchFolder, printed: Callable[..., str]
) -> None:
    with hold(folder.lock, "mine"):
        row, below = shown(home, printed)
    assert row[:4] == ["mine", "0/30", "2", "0"]
    assert (row[-1], below) == ("running", "")


def test_search_of_dead_driver_is_interrupted_with_resume_command(
    home: Home, folder: SearchFolder, printed: Callable[..., str]
) -> None:
    with hold(folder.lock, "mine"):
        pass
    row, below = shown(home, printed)
    assert row[:4] == ["mine", "0/30", "0", "2"]
    assert row[-1] == "interrupted"
    assert below == (
        f"mine was interrupted; resume it with: python search.py resume mine --home {home.path}"
    )


def test_status_shows_baseline_and_a_winner_that_does_not_exceed_it(
    home: Home, folder: SearchFolder, printed: Callable[..., str]
) -> None:
    wrong, right = (0,) * 20, (1,) * 20
    baseline = Baseline("d", 0, 0.5, 0.0, 20, 0.9, tuple(range(20)), right, right)
    folder.baseline_file.write_bytes(baseline.to_json())
    result = FinalistResult(0, 1, 0.5, 0.0, 1.0)
    FinalistStore(folder.finalists).write(result, b"", np.array(wrong, dtype=np.int32))
    write_results(folder.finalists, [Finalist(0, (result,))])
    row, below = shown(home, printed)
    assert row[-5:-1] == ["0.0000", "(trial", "0)", "1.0000"]
    assert "mine: trial 0 is not better than a guess (" in below
    assert "or logistic regression on the pixels (difference -1.0000" in below


def test_status_counts_truncated_trials(
    home: Home, folder: SearchFolder, printed: Callable[..., str]
) -> None:
    database = Database(folder.study, "mine", resume=True)
    study = Study("mine", RandomSampler(seed=1), database=database)
    study.restore(database.load())
    study.start(study.ask(), {"digest": "e", "truncated_from": 9, "truncated_to": 4})
    database.close()
    assert "0/30 (1 truncated)" in printed(lambda console: show_status(None, home, console))


def test_status_shows_seeds_and_ties_of_finalists(
    home: Home, folder: SearchFolder, printed: Callable[..., str]
) -> None:
    store, finalists = FinalistStore(folder.finalists), []
    for number, seeds in ((0, 3), (1, 2)):
        results = [FinalistResult(number, seed, 0.5, 0.25, 1.0) for seed in range(seeds)]
        for result in results:
            store.write(result, b"", np.zeros(4, dtype=np.int32), np.arange(20) < 10)
        finalists.append(Finalist(number, tuple(results)))
    write_results(folder.finalists, finalists)
    out = printed(lambda console: show_status(None, home, console))
    assert "0.2500 ± 0.0000 (trial 0, 3 seeds)" in out
    assert "mine: trials 0 (seeds: 3) and 1 (seeds: 2) are the best finalists within noise" in out
    assert f"Use it: {home.export_command('mine')}" in out


def test_report_counts_trials_of_dead_driver_as_interrupted(folder: SearchFolder) -> None:
    assert {trial.state.name for trial in StoredSearch(folder).trials} == {"WAITING"}
    with hold(folder.lock, "mine"):
        assert {trial.state.name for trial in StoredSearch(folder).trials} == {"RUNNING"}


@pytest.mark.parametrize(
    ("status", "state", "said"),
    [
        ("FINISHED", "finished", ""),
        ("KILLED", "interrupted", "mine was interrupted; resume it with: "),
        ("FAILED", "failed", "mine has failed; resume it with: "),
    ],
)
def test_status_shows_how_driver_ended(
    home: Home,
    folder: SearchFolder,
    printed: Callable[..., str],
    status: Status,
    state: str,
    said: str,
) -> None:
    ends(folder, status)
    row, below = shown(home, printed)
    assert row[-1] == state
    assert below.startswith(said)
    assert bool(below) == bool(said)


def test_status_of_resumed_search_is_that_of_last_driver(folder: SearchFolder) -> None:
    assert last_status(folder.journal) is None
    ends(folder, "KILLED")
    assert last_status(folder.journal) == "KILLED"
    with Journal(folder.journal) as journal:
        assert last_status(folder.journal) is None
        journal.start(PARENT, "mine", artifacts={"experiment.yaml": "x" * 10_000})
        assert last_status(folder.journal) is None
    assert last_status(folder.journal) is None
    ends(folder, "FINISHED")
    assert last_status(folder.journal) == "FINISHED"


def test_status_shows_budget_and_devices_of_running_search(
    home: Home, folder: SearchFolder, printed: Callable[..., str]
) -> None:
    experiment = parse_experiment({"name": "mine", "budget": {"device_hours": 2.0}})
    folder.write_experiment(experiment.to_yaml())
    LiveState(time.time(), False, 754.0, 2, 16.0, 4.0, 8.0, 3.5).write(folder.live)
    with hold(folder.lock, "mine"):
        text = printed(lambda console: show_status("mine", home, console))
    assert "mine: budget: 0 device-hours spent, 2 left\n" in text
    assert "mine: 2 nodes, 3.5 of 8 GPUs in use\n" in text
    assert "mine: about 12m3" in text
    stopped = printed(lambda console: show_status("mine", home, console))
    assert "GPUs in use" not in stopped


def test_watch_ends_with_the_last_running_search(
    home: Home, folder: SearchFolder, printed: Callable[..., str]
) -> None:
    with ExitStack() as driver:
        driver.enter_context(hold(folder.lock, "mine"))
        waits: list[float] = []

        def wait(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 2:
                driver.close()

        text = printed(lambda console: watch_status(None, home, console, wait))
    assert len(waits) == 2
    assert re.findall(r"(running|interrupted) *\n", text) == ["running", "running", "interrupted"]


def test_status_counts_epochs_of_running_trials(
    home: Home, folder: SearchFolder, printed: Callable[..., str]
) -> None:
    database = Database(folder.study, "mine", resume=True)
    study = Study("mine", RandomSampler(seed=0), database=database)
    study.restore(database.load())
    for epoch in (1, 2, 3):
        study.report(0, epoch, 0.5)
    database.close()
    text = printed(lambda console: show_status("mine", home, console))
    assert "mine: 3 epochs trained in 0s, 0s of device time\n" in text
