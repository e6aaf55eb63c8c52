"""Where a search is kept beside its folder: in a bucket, by one driver at a time, or nowhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from optuna.trial import FrozenTrial

from cluster.storage import StorageError, probe
from cluster.stores import open_store
from search.backup.bucket_lock import BucketLock, find_holder
from search.backup.checkpoint_cleanup import CheckpointCleanup
from search.backup.snapshots import EXPERIMENT, Snapshots
from search.experiment.folder import SearchFolder
from spaces.errors import BadInputError

if TYPE_CHECKING:
    from cluster.s3 import BucketStore


class Backup(Protocol):
    """A second copy of a search, which one driver at a time writes."""

    @property
    def is_remote(self) -> bool:
        """Whether there is a copy at all, outside the folder of the search."""

    def acquire(self, folder: SearchFolder, *, new: bool) -> None:
        """Take the right to write there.

        Args:
            folder: of the search; that of a new one need not exist.
            new: whether the search is to be begun.

        Raises:
            BadInputError: another driver runs the search, or has gone on with it elsewhere.
        """

    def record_driver(self, folder: SearchFolder) -> None:
        """Note in a folder that was made just now whose work it is about to hold."""

    def on_lost(self, call: Callable[[str], None]) -> None:
        """Have something called, in a thread, with the host that has taken the search over."""

    def start(self, folder: SearchFolder, cleanup: CheckpointCleanup) -> None:
        """Begin to write snapshots."""

    def finish(self, trials: Sequence[FrozenTrial]) -> bool:
        """Write the last snapshot of what has come to rest.

        Args:
            trials: of the study; checkpoints of those that have ended are removed.

        Returns:
            Whether nothing is missing.
        """

    def release(self) -> None:
        """Give up the right to write there."""


class NoBackup:
    """A search whose only copy is its folder."""

    is_remote = False

    def acquire(self, folder: SearchFolder, *, new: bool) -> None:
        """See `Backup`."""

    def record_driver(self, folder: SearchFolder) -> None:
        """See `Backup`."""

    def on_lost(self, call: Callable[[str], None]) -> None:
        """See `Backup`."""

    def start(self, folder: SearchFolder, cleanup: CheckpointCleanup) -> None:
        """See `Backup`."""

    def finish(self, trials: Sequence[FrozenTrial]) -> bool:
        """See `Backup`."""
        return True

    def release(self) -> None:
        """See `Backup`."""


class S3Backup:
    """A search that is kept in a bucket as well.

    Args:
        storage: ``s3://bucket/prefix``, in which searches lie by name.
        store: of this search in it.
    """

    is_remote = True

    def __init__(self, storage: str, store: BucketStore, name: str) -> None:
        self._storage = storage
        self._store = store
        self._lock = BucketLock(store, name)
        self._cleanup: CheckpointCleanup | None = None
        self._snapshots: Snapshots | None = None

    def acquire(self, folder: SearchFolder, *, new: bool) -> None:
        """See `Backup`."""
        with as_bad_input(self._storage):
            if new:
                self._lock.acquire()
                return
            known = folder.drivers()
            # Before: killed in between, this driver must not be taken for that of another machine.
            self.record_driver(folder)
            self._lock.acquire(known)

    def record_driver(self, folder: SearchFolder) -> None:
        """See `Backup`."""
        folder.add_driver(self._lock.token)

    def on_lost(self, call: Callable[[str], None]) -> None:
        """See `Backup`."""
        self._lock.on_lost(call)

    def start(self, folder: SearchFolder, cleanup: CheckpointCleanup) -> None:
        """See `Backup`."""
        self._cleanup = cleanup
        self._snapshots = Snapshots(folder, self._store, self._lock, cleanup)
        self._snapshots.start()

    def finish(self, trials: Sequence[FrozenTrial]) -> bool:
        """See `Backup`."""
        if self._snapshots is None or self._cleanup is None:
            return False
        whole = self._snapshots.finish()
        if whole:
            self._cleanup.remove_ended(trials)
        self.release()
        return whole

    def release(self) -> None:
        """See `Backup`."""
        self._lock.release()


def open_backup(storage: str | None, folder: SearchFolder, *, new: bool) -> Backup:
    """Return where a search is to be kept, having checked that it can be.

    Args:
        storage: of the experiment.
        folder: of the search; nothing is written to it.
        new: whether the search is to be begun.

    Raises:
        BadInputError: see `check_bucket`.
    """
    if storage is None:
        return NoBackup()
    return S3Backup(storage, check_bucket(storage, folder, new=new), folder.name)


def back_up_now(storage: str | None, folder: SearchFolder, trials: Sequence[FrozenTrial]) -> bool:
    """Write one more snapshot of a search that nobody runs.

    Args:
        storage: of the experiment.
        folder: of the search.
        trials: of its study.

    Returns:
        Whether nothing is missing there.

    Raises:
        BadInputError: see `check_bucket`.
    """
    backup = open_backup(storage, folder, new=False)
    backup.acquire(folder, new=False)
    checkpoints = open_store(folder.checkpoints_in(storage))
    backup.start(folder, CheckpointCleanup(checkpoints, at_once=not backup.is_remote))
    return backup.finish(trials)


def check_bucket(storage: str, folder: SearchFolder, *, new: bool) -> BucketStore:
    """Check, before anything is written here, that a bucket will take a search.

    Args:
        storage: ``s3://bucket/prefix``, in which searches lie by name.
        folder: of the search.
        new: whether it is to be begun.

    Returns:
        The store of the search in it.

    Raises:
        BadInputError: the bucket cannot be listed, written, read and cleared, or it holds another
            search of that name, or another driver is running this one.
    """
    # Costs half a second, which only those pay who have a bucket.
    from cluster.s3 import open_bucket  # noqa: PLC0415

    store = open_bucket(storage).within(folder.name)
    with as_bad_input(storage):
        probe(store)
        find_holder(store, folder.name)
        found = _identity(store)
    if found is not None and (new or found != folder.identity):
        problem = f"{storage} already holds {'a' if new else 'another'} search of that name"
        remedy = f"choose another name, or go on with it: python search.py resume {folder.name}"
        raise BadInputError("name", folder.name, problem, f"{remedy} --storage {storage}")
    return store


def _identity(store: BucketStore) -> str | None:
    """Return what tells the search in a bucket from others; None where there is none."""
    try:
        store.entry(EXPERIMENT)
        return store.read("id").decode().strip()
    except FileNotFoundError:
        return None


@contextmanager
def as_bad_input(storage: str) -> Iterator[None]:
    """Say of a storage that cannot be used that it is the storage.

    Raises:
        BadInputError: as said.
    """
    try:
        yield
    except StorageError as error:
        raise BadInputError("storage", storage, error.problem, error.remedy) from error
