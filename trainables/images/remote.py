"""The source ``images:s3://..``: class folders below a prefix of a bucket, or an archive."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cluster.s3 import BucketStore, parse_location
from cluster.storage import Entry
from trainables.images.archives import ARCHIVE_SUFFIXES
from trainables.images.errors import UnusableDataError, shown
from trainables.images.file_kinds import Kind, LeftOut, kind_of, skipped_part
from trainables.images.files import ImageArchive, list_files, with_parents
from trainables.images.sources import Listing, Source
from trainables.images.staging import Staging, Wanted, name_of

Progress = Callable[[int, int | None], None]


def open_bucket_images(
    location: str, root: Path, progress: Progress, *, wait_for_bucket: bool
) -> Source:
    """Return the source for a prefix or an archive in a bucket.

    Args:
        location: ``s3://bucket/prefix/`` or ``s3://bucket/key.tar.xz`` and the like.
        root: the cache folder, to which files are fetched before decoding.
        progress: called with the fetched bytes and their total.
        wait_for_bucket: retry while the bucket is unavailable, also on first access.

    Raises:
        UnusableDataError: the location is invalid.
    """
    try:
        bucket, prefix = parse_location(location)
    except ValueError as error:
        raise UnusableDataError(str(error), "give images:s3://bucket/prefix/") from error
    store = BucketStore(bucket, prefix)
    staging = Staging(root, store, progress)
    if not location.endswith("/") and prefix.lower().endswith(ARCHIVE_SUFFIXES):
        return BucketArchive(store, staging, wait_for_bucket)
    return BucketFolder(store, staging, wait_for_bucket)


@dataclass(frozen=True)
class BucketArchive:
    """Class folders inside a tar or zip archive in a bucket."""

    store: BucketStore
    staging: Staging
    wait_for_bucket: bool

    def version(self) -> str:
        """See :class:`trainables.images.sources.Source`."""
        return f"bucket {self.store.location} {self._found.version} {self._found.size}"

    def listing(self) -> Listing:
        """See :class:`trainables.images.sources.Source`."""
        key, found = self.store.prefix, self._found
        # The suffix determines the format.
        suffix = next(each for each in ARCHIVE_SUFFIXES if key.lower().endswith(each))
        name = name_of(key, found.version, found.size) + suffix
        wanted = Wanted(key, found.size, found.version, self.staging.folder / name)
        self.staging.bring([wanted])
        return ImageArchive(wanted.path, found.size, 0).listing()

    @cached_property
    def _found(self) -> Entry:
        def look() -> Entry:
            try:
                return self.store.entry()
            except FileNotFoundError as error:
                raise UnusableDataError(
                    f"there is no {shown(self.store.prefix)} in the bucket {self.store.bucket}",
                    "check the key",
                ) from error

        return self.staging.insist(look) if self.wait_for_bucket else look()


@dataclass(frozen=True)
class BucketFolder:
    """Class folders below a prefix of a bucket."""

    store: BucketStore
    staging: Staging
    wait_for_bucket: bool

    def version(self) -> str:
        """See :class:`trainables.images.sources.Source`."""
        digest = hashlib.sha256()
        files, folders, _ = self._found
        for file in files:
            digest.update(f"{file.name!r} {file.size} {file.version}\n".encode())
        for folder in folders:
            digest.update(f"{folder!r}\n".encode())
        return f"bucket {self.store.location} {digest.hexdigest()}"

    def listing(self) -> Listing:
        """See :class:`trainables.images.sources.Source`."""
        files, folders, left_out = self._found
        wanted = {file.name: self._wanted(file) for file in files}

        def bring(names: list[str]) -> None:
            self.staging.bring([wanted[name] for name in names])

        return list_files(
            [(file.name, file.size) for file in files],
            folders,
            lambda name: str(wanted[name].path),
            left_out,
            bring,
        )

    def _wanted(self, file: Entry) -> Wanted:
        key = self.store.key(file.name)
        name = name_of(key, file.version, file.size)
        return Wanted(key, file.size, file.version, self.staging.folder / name)

    @cached_property
    def _found(self) -> tuple[list[Entry], list[str], LeftOut]:
        """The images, the folders, which may be empty objects, and the other files.

        Suffixes decide which objects are images, because each look into one is a request.
        """
        entries = (
            self.staging.insist(self.store.entries)
            if self.wait_for_bucket
            else self.store.entries()
        )
        if not entries:
            raise UnusableDataError(
                f"there is nothing below {shown(self.store.prefix)}/ in the bucket "
                f"{self.store.bucket}",
                "check the prefix",
            )
        left_out = LeftOut()
        images: list[Entry] = []
        parents: set[str] = set()
        for entry in entries:
            if part := skipped_part(entry.name):
                left_out.skip(part)
                continue
            parents.add(entry.name.rpartition("/")[0])
            if entry.name.endswith("/"):
                continue
            if (kind := kind_of(entry.name)) is Kind.IMAGE:
                images.append(entry)
            else:
                left_out.add(entry.name, kind)
        return (
            sorted(images, key=lambda entry: entry.name),
            sorted(with_parents(parents)),
            left_out,
        )
