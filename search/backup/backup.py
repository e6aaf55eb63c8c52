"""The backup of a search: a copy in a bucket that one driver at a time writes, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol

from optuna.trial import FrozenTrial

from cluster.folder_store import open_store
from cluster.storage import StorageError, probe
from search.backup.bucket_lock import BucketLock, last_driver
from search.backup.checkpoint_cleanup import CheckpointCleanup
from search.backup.snapshots import EXPERIMENT, Snapshots
from search.console import program
from search.experiment.folder import SearchFolder
from spaces.errors import BadInputError

if TYPE_CHECKING:
    from cluster.s3 import BucketStore


class Backup(Protocol):
    """A second copy of a search, which one driver at a time writes."""

    @property
    def is_remote(self) -> bool:
        """Whether there is a copy outside the folder of the search."""

    @property
    def is_complete(self) -> bool:
        """Whether the last snapshot, written at the end of `copying`, lacks nothing."""

    def claimed(self, folder: SearchFolder, *, new: bool) -> AbstractContextManager[None]:
        """Hold the right to write the copy inside the block.

        Args:
            folder: of the search; that of a new search need not exist.
            new: whether the search starts now.

        Raises:
            BadInputError: another driver runs the search, or has continued it elsewhere.
        """

    def record_driver(self, folder: SearchFolder) -> None:
        """Record in the new folder of a search that this driver writes it."""

    def on_lost(self, call: Callable[[str], None]) -> None:
        """Call a function, in a thread, with the host that took the search over."""

    def copying(
        self,
        folder: SearchFolder,
        cleanup: CheckpointCleanup,
        trials: Callable[[], Sequence[FrozenTrial]],
    ) -> AbstractContextManager[None]:
        """Write snapshots inside the block, and a last one at its end.

        The last snapshot is written even if the block fails, so study and journal must be closed
        inside the block. It also ends the claim: the search may then continue elsewhere, however
        long this driver still works.

        Args:
            folder: of the search.
            cleanup: of checkpoints.
            trials: returns those of the study; checkpoints of ended ones are removed in the end.
        """


class NoBackup:
    """A search whose only copy is its folder."""

    is_remote = False
    is_complete = True

    def claimed(self, folder: SearchFolder, *, new: bool) -> AbstractContextManager[None]:
        """See `Backup`."""
        return nullcontext()

    def record_driver(self, folder: SearchFolder) -> None:
        """See `Backup`."""

    def on_lost(self, call: Callable[[str], None]) -> None:
        """See `Backup`."""

    def copying(
        self,
        folder: SearchFolder,
        cleanup: CheckpointCleanup,
        trials: Callable[[], Sequence[FrozenTrial]],
    ) -> AbstractContextManager[None]:
        """See `Backup`."""
        return nullcontext()


class S3Backup:
    """A copy of a search in a bucket.

    Args:
        storage: ``s3://bucket/prefix``; searches are below it by name.
        store: of this search in it.
        name: of the search.
    """

    is_remote = True

    def __init__(self, storage: str, store: BucketStore, name: str) -> None:
        self.is_complete = False
        self._storage = storage
        self._store = store
        self._lock = BucketLock(store, name)

    @contextmanager
    def claimed(self, folder: SearchFolder, *, new: bool) -> Iterator[None]:
        """See `Backup`."""
        try:
            with as_bad_input(self._storage):
                self._acquire(folder, new=new)
            yield
        finally:
            self._lock.release()

    def _acquire(self, folder: SearchFolder, *, new: bool) -> None:
        if new:
            self._lock.acquire()
            return
        known = folder.drivers()
        # Before acquiring: a driver killed in between must not look like one of another machine.
        self.record_driver(folder)
        self._lock.acquire(known)

    def record_driver(self, folder: SearchFolder) -> None:
        """See `Backup`."""
        folder.add_driver(self._lock.token)

    def on_lost(self, call: Callable[[str], None]) -> None:
        """See `Backup`."""
        self._lock.on_lost(call)

    @contextmanager
    def copying(
        self,
        folder: SearchFolder,
        cleanup: CheckpointCleanup,
        trials: Callable[[], Sequence[FrozenTrial]],
    ) -> Iterator[None]:
        """See `Backup`."""
        snapshots = Snapshots(folder, self._store, self._lock, cleanup)
        snapshots.start()
        try:
            yield
        finally:
            self.is_complete = snapshots.finish()
            if self.is_complete:
                cleanup.remove_ended(trials())
            self._lock.release()


def open_backup(storage: str | None, folder: SearchFolder, *, new: bool) -> Backup:
    """Return the backup of a search, after a check that it can be written.

    Args:
        storage: of the experiment; None for no backup.
        folder: of the search; nothing is written to it.
        new: whether the search starts now.

    Raises:
        BadInputError: see `check_bucket`.
    """
    if storage is None:
        return NoBackup()
    return S3Backup(storage, check_bucket(storage, folder, new=new), folder.name)


def back_up_now(storage: str | None, folder: SearchFolder, trials: Sequence[FrozenTrial]) -> bool:
    """Write one more snapshot of a search that no driver runs.

    Args:
        storage: of the experiment.
        folder: of the search.
        trials: of its study.

    Returns:
        Whether the snapshot is complete.

    Raises:
        BadInputError: see `check_bucket`.
    """
    backup = open_backup(storage, folder, new=False)
    checkpoints = open_store(folder.checkpoints_in(storage))
    cleanup = CheckpointCleanup(checkpoints, at_once=not backup.is_remote)
    with backup.claimed(folder, new=False), backup.copying(folder, cleanup, lambda: trials):
        pass  # The last snapshot is the one that is wanted.
    return backup.is_complete


def check_bucket(storage: str, folder: SearchFolder, *, new: bool) -> BucketStore:
    """Check that a bucket accepts a search, before anything is written locally.

    Args:
        storage: ``s3://bucket/prefix``; searches are below it by name.
        folder: of the search.
        new: whether the search starts now.

    Returns:
        The store of the search in it.

    Raises:
        BadInputError: the bucket cannot be listed, written, read or cleared, it holds another
            search of that name, or another driver runs this search.
    """
    # The import takes half a second, and only a search with a bucket needs it.
    from cluster.s3 import open_bucket  # noqa: PLC0415

    store = open_bucket(storage).within(folder.name)
    with as_bad_input(storage):
        probe(store)
        last_driver(store, folder.name)
        found = _identity(store)
    if found is not None and (new or found != folder.identity):
        problem = f"{storage} already holds {'a' if new else 'another'} search of that name"
        remedy = f"choose another name, or resume it: {program()} resume {folder.name}"
        raise BadInputError("name", folder.name, problem, f"{remedy} --storage {storage}")
    return store


def _identity(store: BucketStore) -> str | None:
    """Return the identity of the search in a bucket; None if there is no search."""
    try:
        store.entry(EXPERIMENT)
        return store.read("id").decode().strip()
    except FileNotFoundError:
        return None


@contextmanager
def as_bad_input(storage: str) -> Iterator[None]:
    """Turn an error of the storage into one that names the field.

    Raises:
        BadInputError: the storage cannot be used.
    """
    try:
        yield
    except StorageError as error:
        raise BadInputError("storage", storage, error.problem, error.remedy) from error
