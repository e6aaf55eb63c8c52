"""Snapshots of a running search in a bucket, and restoring a search from them."""

from __future__ import annotations

import itertools
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState

from cluster.folder_store import FolderStore
from cluster.s3 import BucketStore, open_bucket
from search.backup import snapshots as module
from search.backup.bucket_lock import LOCK_FILE, BucketLock
from search.backup.checkpoint_cleanup import CheckpointCleanup, move_checkpoints
from search.backup.restore import restore
from search.backup.snapshots import Snapshots, is_copied, parts_of, whole_lines
from search.experiment.folder import Home, SearchFolder
from search.experiment.loading import parse_experiment
from search.study.database import Database
from search.study.storages import read_trials
from search.tracking.journal import Journal
from search.tracking.journal_events import Metrics
from search.tracking.journal_reader import read_all
from spaces.errors import BadInputError
from spaces.task import Task
from tests import s3

StoredTrial = Callable[..., FrozenTrial]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def folder(home: Home, s3_place: str) -> SearchFolder:
    """Return the folder of a new search."""
    folder = home.folder("pets")
    experiment = parse_experiment({"name": "pets", "storage": s3_place})
    folder.create(experiment.to_yaml(), Task(1, 8, 8, 10))
    return folder


@pytest.fixture
def store(s3_place: str) -> BucketStore:
    return open_bucket(s3_place).within("pets")


@pytest.fixture
def cleanup(store: BucketStore) -> CheckpointCleanup:
    return CheckpointCleanup(store.within("checkpoints"), at_once=False)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def snapshots(
    folder: SearchFolder, store: BucketStore, cleanup: CheckpointCleanup, said: list[str]
) -> Iterator[Snapshots]:
    lock = BucketLock(store, "pets")
    lock.acquire()
    folder.add_driver(lock.token)
    yield Snapshots(folder, store, lock, cleanup, say=said.append, every=0.05)
    lock.release()


@pytest.fixture
def database(folder: SearchFolder) -> Iterator[Database]:
    database = Database(folder.study, "pets", identity=folder.identity)
    yield database
    database.close()


def elsewhere(tmp_path: Path) -> Home:
    return Home(tmp_path / "fresh head")


def remove_lock(store: BucketStore) -> None:
    """Remove the lock, as if the driver had ended."""
    store.remove(LOCK_FILE)


def contents(folder: SearchFolder) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder.path)): path.read_bytes()
        for path in folder.path.rglob("*")
        if path.is_file() and path.name != "drivers" and not path.name.startswith("study.db")
    }


# Restoring


def test_restore_recovers_every_copied_file(
    folder: SearchFolder,
    snapshots: Snapshots,
    database: Database,
    store: BucketStore,
    stored_trial: StoredTrial,
    s3_place: str,
    tmp_path: Path,
) -> None:
    database.enter(stored_trial(0, value=0.5, params={"depth": 3}))
    database.flush()
    with Journal(folder.journal) as journal:
        journal.start("0", "trial 0")
        journal.metrics("0", 1, {"accuracy": 0.5})
    (folder.finalists).mkdir()
    (folder.finalists / "results.json").write_text("[]")
    (folder.finalists / "trial-0-seed-1.pt").write_bytes(b"weights")
    folder.report.write_text("<p>report</p>")
    assert snapshots.finish()
    remove_lock(store)

    fresh = restore(elsewhere(tmp_path), "pets", s3_place)
    assert fresh is not None
    assert contents(fresh) == contents(folder)
    assert (fresh.identity, fresh.task) == (folder.identity, folder.task)
    (trial,) = read_trials(fresh.study, "pets")
    assert (trial.params, trial.value) == ({"depth": 3}, 0.5)
    assert not list(fresh.path.parent.glob(".*"))


def test_files_of_one_machine_are_not_copied(folder: SearchFolder) -> None:
    copied = ("report.html", "finalists/trial-1.pt", "nights/report.md", "id", "data.json")
    not_copied = (
        *("study.db", "study.db-wal", "journal.jsonl", "tracking.json", "tracking.lock"),
        *(
            "driver.lock",
            "drivers",
            "checkpoints/1/a.pt",
            "tune/x",
            ".aside",
            "a/.b",
            "driver.json",
        ),
        *("../x", "/x", "a//b"),
    )
    assert [name for name in copied if not is_copied(name)] == []
    assert [name for name in not_copied if is_copied(name)] == []


def test_restore_without_snapshot_returns_none(s3_place: str, tmp_path: Path) -> None:
    home = elsewhere(tmp_path)
    assert restore(home, "pets", s3_place) is None
    assert not home.path.exists()


def test_running_search_is_not_restored(
    snapshots: Snapshots, s3_place: str, tmp_path: Path
) -> None:
    snapshots.finish()
    with pytest.raises(BadInputError, match="is being run by process"):
        restore(elsewhere(tmp_path), "pets", s3_place)


def test_restore_does_not_overwrite_another_folder(
    snapshots: Snapshots, store: BucketStore, s3_place: str, tmp_path: Path
) -> None:
    snapshots.finish()
    remove_lock(store)
    home = elsewhere(tmp_path)
    (home.path / "pets").mkdir(parents=True)
    (home.path / "pets" / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(BadInputError, match="exists, but is not a search"):
        restore(home, "pets", s3_place)


def test_failed_restore_leaves_no_files(
    snapshots: Snapshots,
    database: Database,
    store: BucketStore,
    s3_gate: s3.Gate,
    s3_place: str,
    tmp_path: Path,
) -> None:
    snapshots.finish()
    remove_lock(store)
    s3_gate.answer = lambda method, path: (403, "AccessDenied") if "study" in path else None
    home = elsewhere(tmp_path)
    with pytest.raises(BadInputError, match="access is denied"):
        restore(home, "pets", s3_place)
    assert list(home.path.iterdir()) == []


# Order of uploads


def test_stored_study_is_never_behind_the_stored_journal(
    folder: SearchFolder,
    snapshots: Snapshots,
    database: Database,
    store: BucketStore,
    stored_trial: StoredTrial,
    s3_gate: s3.Gate,
    s3_place: str,
    tmp_path: Path,
) -> None:
    """The journal receives a trial after the study has stored it, as in a driver."""
    heads = itertools.count()
    seen: list[tuple[int, int]] = []

    def look() -> None:
        remove_lock(store)
        fresh = restore(Home(tmp_path / f"head {next(heads)}"), "pets", s3_place)
        if fresh is not None:
            known = len(read_trials(fresh.study, "pets"))
            told = sum(isinstance(event, Metrics) for event in read_all(fresh.journal))
            seen.append((known, told))

    with Journal(folder.journal) as journal:
        numbers = itertools.count()

        def grow() -> None:
            number = next(numbers)
            database.enter(stored_trial(number, value=0.5))
            database.then(lambda: journal.metrics(str(number), 1, {"accuracy": 0.5}))
            database.flush()

        def grow_and_look(method: str, path: str) -> None:
            if method == "PUT" and ("study" in path or "journal" in path):
                s3_gate.answer = lambda method, path: None
                grow()
                look()
                s3_gate.answer = grow_and_look

        grow()
        snapshots._take()
        for _ in range(3):
            s3_gate.answer = grow_and_look
            grow()
            snapshots._take()
            s3_gate.answer = lambda method, path: None
            look()
    assert len(seen) == 9
    assert all(known >= told for known, told in seen)
    assert seen[-1][1] > seen[0][1]


def test_experiment_file_is_uploaded_last(
    folder: SearchFolder, snapshots: Snapshots, s3_gate: s3.Gate
) -> None:
    folder.finalists.mkdir()
    (folder.finalists / "results.json").write_text("[]")
    (folder.finalists / "trial-1.pt").write_bytes(b"x")
    assert snapshots.finish()
    puts = [Path(path).name for method, path in s3_gate.asked if method == "PUT"]
    assert puts[-2:] == ["results.json", "experiment.yaml"]


def test_checkpoints_are_removed_once_a_snapshot_has_the_end(
    snapshots: Snapshots, cleanup: CheckpointCleanup, store: BucketStore, s3_gate: s3.Gate
) -> None:
    for number in (1, 2):
        store.write(f"checkpoints/{number}/seed/epoch.pt", b"x")
    cleanup.finished(1, TrialState.COMPLETE, "")
    assert len(store.within("checkpoints").entries()) == 2
    s3_gate.answer = lambda method, path: (403, "AccessDenied") if "task" in path else None
    assert not snapshots._attempt()
    assert len(store.within("checkpoints").entries()) == 2
    s3_gate.answer = lambda method, path: None
    assert snapshots._attempt()
    assert store.within("checkpoints").names() == ["2"]
    assert cleanup.due() == []


# Uploads of changes only


def test_unchanged_files_are_not_uploaded_again(
    folder: SearchFolder,
    snapshots: Snapshots,
    database: Database,
    s3_gate: s3.Gate,
) -> None:
    def brought() -> list[str]:
        s3_gate.asked.clear()
        snapshots._take()
        puts = {Path(path).name for method, path in s3_gate.asked if method == "PUT"}
        return sorted(puts)

    with Journal(folder.journal) as journal:
        everything = ["000000000000000", "experiment.yaml", "id", "study.db", "task.json"]
        assert brought() == everything
        assert brought() == []
        journal.start("0", "trial 0")
        assert brought() == ["000000000000000"]
        folder.report.write_text("x")
        assert brought() == ["report.html"]


@given(
    lines=st.lists(st.binary(min_size=0, max_size=20).map(lambda line: line.replace(b"\n", b""))),
    size=st.integers(1, 30),
    data=st.data(),
)
def test_parts_of_a_journal_add_up_to_the_journal(
    lines: list[bytes], size: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    parts: dict[int, bytes] = {}
    start = 0
    written = b""
    for line in lines:
        written += line + b"\n"
        # An incomplete line waits for the next snapshot.
        path.write_bytes(written + b"torn"[: data.draw(st.integers(0, 4))])
        assert whole_lines(path) == len(written)
        if data.draw(st.booleans()):
            for offset, part in parts_of(path, start, len(written), size):
                parts[offset] = part
                start = offset
    parts |= dict(parts_of(path, start, len(written), size)) if lines else {}
    assert b"".join(parts[offset] for offset in sorted(parts)) == written
    assert all(part.endswith(b"\n") for part in parts.values())
    *closed, _ = [parts[offset] for offset in sorted(parts)] or [b""]
    assert all(len(part) >= size for part in closed)


def test_shorter_journal_replaces_the_one_in_the_bucket(
    folder: SearchFolder,
    snapshots: Snapshots,
    store: BucketStore,
    s3_place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PART", 100)
    monkeypatch.setattr(module.parts_of, "__defaults__", (100,))
    with Journal(folder.journal) as journal:
        journal.start("0", "trial 0")
    for offset in range(0, 1000, 100):
        store.write(f"journal/{offset:015}", b"of before the power cut")
    assert snapshots.finish()
    remove_lock(store)
    fresh = restore(elsewhere(tmp_path), "pets", s3_place)
    assert fresh is not None
    assert fresh.journal.read_bytes() == folder.journal.read_bytes()


def test_restored_journal_ends_at_the_first_missing_part(
    folder: SearchFolder,
    snapshots: Snapshots,
    store: BucketStore,
    s3_place: str,
    tmp_path: Path,
) -> None:
    snapshots.finish()
    remove_lock(store)
    for offset, line in ((0, b"12\n"), (3, b"34\n"), (9, b"78\n")):
        store.write(f"journal/{offset:015}", line)
    fresh = restore(elsewhere(tmp_path), "pets", s3_place)
    assert fresh is not None
    assert fresh.journal.read_bytes() == b"12\n34\n"


def test_study_copy_is_consistent_during_writes(
    folder: SearchFolder, database: Database, stored_trial: StoredTrial, tmp_path: Path
) -> None:
    for number in range(200):
        database.enter(stored_trial(number, value=0.5))
        if number % 50 == 20:
            module.copy_study(folder.study, tmp_path / f"{number}.db")
    database.flush()
    for number in (20, 70, 120, 170):
        copied = read_trials(tmp_path / f"{number}.db", "pets")
        assert [trial.number for trial in copied] == list(range(len(copied)))
        with sqlite3.connect(tmp_path / f"{number}.db") as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()


# Outages of the storage


def test_outage_and_recovery_of_storage_are_each_reported_once(
    folder: SearchFolder,
    snapshots: Snapshots,
    s3_gate: s3.Gate,
    said: list[str],
    s3_place: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_TIME_FRACTION", 1.0)
    snapshots.start()
    deadline = time.monotonic() + 200
    while not s3_gate.count("PUT", "experiment.yaml"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    s3_gate.answer = s3_gate.deny
    while not said:
        assert time.monotonic() < deadline
        folder.report.write_text(str(time.monotonic()))
        time.sleep(0.05)
    time.sleep(0.5)
    s3_gate.answer = lambda method, path: None
    while len(said) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    where = f"{s3_place}/pets"
    assert said == [
        f"snapshots are not written to {where} (access is denied (PutObject)); the search "
        f"continues, and everything is saved in {folder.path}",
        f"snapshots are written to {where} again",
    ]
    assert snapshots.finish()


def test_failed_last_snapshot_is_reported(
    snapshots: Snapshots, s3_gate: s3.Gate, said: list[str]
) -> None:
    s3_gate.answer = s3_gate.deny
    assert not snapshots.finish()
    assert len(said) == 1


def test_replaced_driver_writes_no_snapshot(
    folder: SearchFolder, snapshots: Snapshots, store: BucketStore, said: list[str]
) -> None:
    assert snapshots._attempt()
    store.write(LOCK_FILE, b"{}")
    folder.report.write_text("x")
    assert not snapshots._attempt()
    assert "report.html" not in store.names()
    assert said == []


# Checkpoints


def test_checkpoints_move_to_another_store(store: BucketStore, tmp_path: Path) -> None:
    old = FolderStore(tmp_path / "checkpoints")
    names = ["1/aa/epoch.pt", "2/bb/epoch.pt"]
    for name in names:
        old.write(name, name.encode())
    move_checkpoints(old, store)
    assert [entry.name for entry in store.entries()] == names
    assert old.entries() == []
    move_checkpoints(store, old)
    assert old.read(names[1]) == names[1].encode()


def test_only_checkpoints_of_unfinished_trials_remain(
    store: BucketStore, stored_trial: StoredTrial
) -> None:
    for number in range(3):
        store.write(f"{number}/seed/epoch.pt", b"x")
    trials = [stored_trial(0, value=0.5), stored_trial(1, "WAITING"), stored_trial(2, "FAIL")]
    CheckpointCleanup(store, at_once=False).remove_ended(trials)
    assert store.names() == ["1"]
