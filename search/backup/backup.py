"""Where a search is kept beside its folder: in a bucket, by one driver at a time, or nowhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from optuna.trial import FrozenTrial

from cluster.storage import StorageError, probe
from cluster.stores import open_store
from search.backup.bucket_lock import Claim, find_holder
from search.backup.checkpoint_cleanup import CheckpointSweep
from search.backup.snapshots import EXPERIMENT, Snapshots
from search.experiment.folder import SearchFolder
from spaces.errors import BadInputError

if TYPE_CHECKING:
    from cluster.s3 import BucketStore


class Kept:
    """A search that is kept in its folder alone."""

    is_elsewhere = False
    """Whether it is kept in a bucket, too."""

    def claim(self, folder: SearchFolder, *, new: bool) -> None:
        """Take the right to write there.

        Args:
            folder: of the search; that of a new one need not exist.
            new: whether the search is to be begun.

        Raises:
            BadInputError: another driver runs the search, or has gone on with it elsewhere.
        """

    def note(self, folder: SearchFolder) -> None:
        """Note in a folder that was made just now whose work it is about to hold."""

    def when_lost(self, call: Callable[[str], None]) -> None:
        """Have something called, in a thread, with the host that has taken the search over."""

    def start(self, folder: SearchFolder, sweep: CheckpointSweep) -> None:
        """Begin to write snapshots."""

    def finish(self, trials: Sequence[FrozenTrial]) -> bool:
        """Write the last snapshot of what has come to rest.

        Args:
            trials: of the study; checkpoints of those that have ended are removed.

        Returns:
            Whether nothing is missing.
        """
        return True

    def release(self) -> None:
        """Give up the right to write there."""


class KeptInBucket(Kept):
    """A search that is kept in a bucket as well.

    Args:
        storage: ``s3://bucket/prefix``, in which searches lie by name.
        store: of this search in it.
    """

    is_elsewhere = True

    def __init__(self, storage: str, store: BucketStore, name: str) -> None:
        self._storage = storage
        self._store = store
        self._claim = Claim(store, name)
        self._sweep: CheckpointSweep | None = None
        self._snapshots: Snapshots | None = None

    def claim(self, folder: SearchFolder, *, new: bool) -> None:
        """See `Kept`."""
        with usable(self._storage):
            if new:
                self._claim.take()
                return
            known = folder.drivers()
            # Before: killed in between, this driver must not be taken for that of another machine.
            self.note(folder)
            self._claim.take(known)

    def note(self, folder: SearchFolder) -> None:
        """See `Kept`."""
        folder.add_driver(self._claim.token)

    def when_lost(self, call: Callable[[str], None]) -> None:
        """See `Kept`."""
        self._claim.when_lost(call)

    def start(self, folder: SearchFolder, sweep: CheckpointSweep) -> None:
        """See `Kept`."""
        self._sweep = sweep
        self._snapshots = Snapshots(folder, self._store, self._claim, sweep)
        self._snapshots.start()

    def finish(self, trials: Sequence[FrozenTrial]) -> bool:
        """See `Kept`."""
        if self._snapshots is None or self._sweep is None:
            return False
        whole = self._snapshots.finish()
        if whole:
            self._sweep.remove_ended(trials)
        self.release()
        return whole

    def release(self) -> None:
        """See `Kept`."""
        self._claim.release()


def find_place(storage: str | None, folder: SearchFolder, *, new: bool) -> Kept:
    """Return where a search is to be kept, having checked that it can be.

    Args:
        storage: of the experiment.
        folder: of the search; nothing is written to it.
        new: whether the search is to be begun.

    Raises:
        BadInputError: see `check_bucket`.
    """
    if storage is None:
        return Kept()
    return KeptInBucket(storage, check_bucket(storage, folder, new=new), folder.name)


def keep_now(storage: str | None, folder: SearchFolder, trials: Sequence[FrozenTrial]) -> bool:
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
    kept = find_place(storage, folder, new=False)
    kept.claim(folder, new=False)
    checkpoints = open_store(folder.checkpoints_in(storage))
    kept.start(folder, CheckpointSweep(checkpoints, at_once=not kept.is_elsewhere))
    return kept.finish(trials)


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
    with usable(storage):
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
def usable(storage: str) -> Iterator[None]:
    """Say of a storage that cannot be used that it is the storage.

    Raises:
        BadInputError: as said.
    """
    try:
        yield
    except StorageError as error:
        raise BadInputError("storage", storage, error.problem, error.remedy) from error
