"""The source ``images:PATH``: a local folder or archive with one folder per class."""

import hashlib
import os
import stat
from collections.abc import Callable, Generator, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from trainables.images.archives import ARCHIVE_SUFFIXES, open_archive
from trainables.images.errors import UnusableDataError, cause, shown
from trainables.images.file_kinds import (
    HEAD_BYTES,
    Kind,
    LeftOut,
    begins_like_image,
    kind_of,
    skipped_part,
)
from trainables.images.layout.arrangement import Arrangement, arrange
from trainables.images.sources import Item, Listing, Source

# Files are read into memory, and an archive can claim any size.
LARGEST_IMAGE = 256 * 2**20


def open_images(path: str) -> Source:
    """Return the source for a local folder or archive; ``~`` is the user's home.

    Raises:
        UnusableDataError: the path is missing, remote, or neither a folder nor a known archive.
    """
    if "://" in path:
        raise UnusableDataError(
            "only local files and those in S3 are read",
            "copy the images here and give images:PATH, or give images:s3://bucket/prefix/",
        )
    if not path:
        raise UnusableDataError("the path is missing", "give images:PATH")
    try:
        place = Path(path).expanduser().resolve()
        status = place.stat()
    except FileNotFoundError as error:
        raise UnusableDataError(
            f"there is no file or folder {shown(str(place))}", "check the path"
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise UnusableDataError(f"it cannot be read ({cause(error)})", "check the path") from error
    if stat.S_ISDIR(status.st_mode):
        return ImageFolder(place)
    if stat.S_ISREG(status.st_mode) and place.name.lower().endswith(ARCHIVE_SUFFIXES):
        return ImageArchive(place, status.st_size, status.st_mtime_ns)
    raise UnusableDataError(
        f"it is neither a folder nor an archive that is known ({', '.join(ARCHIVE_SUFFIXES)})",
        "give a folder or an archive of class folders",
    )


@dataclass(frozen=True)
class ImageArchive:
    """Class folders inside a tar or zip archive."""

    path: Path
    size: int
    changed_ns: int

    def version(self) -> str:
        """See :class:`trainables.images.sources.Source`."""
        return f"archive {self.path} {self.size} {self.changed_ns}"

    def listing(self) -> Listing:
        """See :class:`trainables.images.sources.Source`.

        Reads all names first, because the images, their classes and their number must be known
        before decoding.
        """
        archive = open_archive(self.path)
        # A later member replaces an earlier one of the same name, as on extraction.
        images: dict[str, tuple[int, int]] = {}
        seen: set[str] = set()
        folders: set[str] = set()
        left_out = LeftOut()
        for member in archive.members(_is_unknown):
            if part := skipped_part(member.path):
                left_out.skip(part)
                continue
            folders.add(member.path if member.is_folder else member.path.rpartition("/")[0])
            if not member.is_folder:
                if member.path in seen:
                    left_out.repeat(member.path)
                seen.add(member.path)
            images.pop(member.path, None)
            if not member.is_folder and _is_taken(member.path, member.head, left_out):
                images[member.path] = (member.ordinal, member.size)
        names = list(images)
        arrangement = _arranged(names, with_parents(folders), left_out)
        rows = {
            images[names[position]][0]: (row, names[position])
            for row, position in enumerate(arrangement.chosen)
        }

        def items() -> Generator[Item, None, None]:
            for ordinal, content in archive.contents(rows):
                row, name = rows[ordinal]
                yield Item(row, shown(name), content, len(content))

        return Listing(
            classes=arrangement.classes,
            labels=arrangement.labels,
            splits=arrangement.splits,
            total_size=total_size(
                (names[position], images[names[position]][1]) for position in arrangement.chosen
            ),
            items=items,
            names=tuple(names[position] for position in arrangement.chosen),
            notes=(*arrangement.notes, *left_out.notes()),
            origin=arrangement.origin,
        )


@dataclass(frozen=True)
class _File:
    name: str
    size: int
    changed_ns: int


@dataclass(frozen=True)
class ImageFolder:
    """Class folders on a local disk."""

    path: Path

    def version(self) -> str:
        """See :class:`trainables.images.sources.Source`.

        Content is not read: size and modification time reveal changed files.
        """
        digest = hashlib.sha256()
        files, folders, _ = self._found
        for file in files:
            digest.update(f"{file.name!r} {file.size} {file.changed_ns}\n".encode())
        for folder in folders:
            digest.update(f"{folder!r}\n".encode())
        return f"folder {self.path} {digest.hexdigest()}"

    def listing(self) -> Listing:
        """See :class:`trainables.images.sources.Source`."""
        files, folders, others = self._found
        left_out = deepcopy(others)
        images = [
            (file.name, file.size)
            for file in files
            if not _is_unknown(file.name)
            or _is_taken(file.name, _head(self.path / file.name), left_out)
        ]
        return list_files(images, folders, lambda name: str(self.path / name), left_out)

    @cached_property
    def _found(self) -> tuple[list[_File], list[str], LeftOut]:
        """The files that are images or may be, the folders, and the other files."""
        files: list[_File] = []
        folders: list[str] = []
        left_out = LeftOut()
        try:
            _walk(self.path, files, folders, left_out)
        except OSError as error:
            name = os.path.relpath(str(error.filename or self.path), self.path)
            raise UnusableDataError(
                f"{shown(name)} cannot be read ({error.strerror or cause(error)})",
                "remove it or correct its permissions",
            ) from error
        return sorted(files, key=lambda file: file.name), sorted(folders), left_out


def list_files(
    files: Sequence[tuple[str, int]],
    folders: Iterable[str],
    path_of: Callable[[str], str],
    left_out: LeftOut,
    bring: Callable[[list[str]], None] = lambda names: None,
) -> Listing:
    """Return the listing of class folders.

    Args:
        files: relative name and size in bytes of each image.
        folders: names of all folders.
        path_of: returns the path of a file by name.
        left_out: the other files.
        bring: called with the names of all used images before the first is read.

    Raises:
        UnusableDataError: the layout is wrong, or an image is too large.
    """
    arrangement = _arranged([name for name, _ in files], folders, left_out)
    chosen = [files[position] for position in arrangement.chosen]
    total = total_size(chosen)

    def items() -> Generator[Item, None, None]:
        bring([name for name, _ in chosen])
        for row, (name, size) in enumerate(chosen):
            # The decoding processes read the files in parallel.
            yield Item(row, shown(name), path_of(name), size)

    return Listing(
        classes=arrangement.classes,
        labels=arrangement.labels,
        splits=arrangement.splits,
        total_size=total,
        items=items,
        names=tuple(name for name, _ in chosen),
        notes=(*arrangement.notes, *left_out.notes()),
        origin=arrangement.origin,
    )


def _arranged(images: Sequence[str], folders: Iterable[str], left_out: LeftOut) -> Arrangement:
    """Arrange images; if that fails, also name the files that are no images."""
    try:
        return arrange(images, folders)
    except UnusableDataError as error:
        problem = "; ".join([error.problem, *left_out.notes()])
        raise UnusableDataError(problem, error.remedy) from error


def _is_unknown(path: str) -> bool:
    return kind_of(path) is Kind.UNKNOWN


def _is_taken(path: str, head: bytes, left_out: LeftOut) -> bool:
    """Tell whether a file is an image; record it if it is none or only its content tells."""
    kind = kind_of(path)
    if kind is Kind.UNKNOWN and begins_like_image(head):
        left_out.take(path)
        return True
    if kind is not Kind.IMAGE:
        left_out.add(path, Kind.OTHER if kind is Kind.UNKNOWN else kind)
    return kind is Kind.IMAGE


def _head(path: Path) -> bytes:
    """Return the first bytes of a file; none if it is unreadable."""
    try:
        with open(path, "rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""


def _walk(root: Path, files: list[_File], folders: list[str], left_out: LeftOut) -> None:
    """Collect files and folders; follow links unless they form a cycle."""
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while pending:
        folder, above = pending.pop()
        status = os.stat(root / folder)
        here = (status.st_dev, status.st_ino)
        if here in above:
            continue
        with os.scandir(root / folder) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if skipped_part(entry.name):
                    left_out.skip(name)
                    continue
                if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(root):
                    left_out.lead_outside(name)
                if entry.is_dir():
                    folders.append(name)
                    pending.append((name, above | {here}))
                elif (kind := kind_of(entry.name)) in (Kind.IMAGE, Kind.UNKNOWN):
                    _add(entry, name, kind, files, left_out)
                else:
                    left_out.add(name, kind)


def _add(
    entry: os.DirEntry[str], name: str, kind: Kind, files: list[_File], left_out: LeftOut
) -> None:
    try:
        found = entry.stat()
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "not a regular file", entry.path)
    except OSError:
        if kind is Kind.IMAGE:
            raise
        left_out.add(name, Kind.OTHER)
        return
    files.append(_File(name, found.st_size, found.st_mtime_ns))


def total_size(sizes: Iterable[tuple[str, int]]) -> int:
    """Return the size in bytes of all images, given name and size of each.

    Raises:
        UnusableDataError: an image is too large.
    """
    total = 0
    for name, size in sizes:
        if size > LARGEST_IMAGE:
            raise UnusableDataError(
                f"the image {shown(name)} has {size} bytes, more than {LARGEST_IMAGE}",
                "save it with compression or with fewer pixels, or remove it",
            )
        total += size
    return total


def with_parents(folders: set[str]) -> set[str]:
    """Add the parents of all folders."""
    complete: set[str] = set()
    for folder in folders:
        path = folder
        while path and path not in complete:
            complete.add(path)
            path = path.rpartition("/")[0]
    return complete
