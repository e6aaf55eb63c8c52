"""The source ``images:PATH``: a local folder or archive with one folder per class."""

import hashlib
import os
import stat
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from trainables.images.archives import ARCHIVE_SUFFIXES, open_archive
from trainables.images.errors import UnusableDataError, cause, shown
from trainables.images.layout import arrange, is_hidden, is_image
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

    def identity(self) -> str:
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
        folders: set[str] = set()
        for member in archive.members():
            if is_hidden(member.path):
                continue
            folders.add(member.path if member.is_folder else member.path.rpartition("/")[0])
            if not member.is_folder and is_image(member.path):
                images[member.path] = (member.ordinal, member.size)
        names = list(images)
        arrangement = arrange(names, with_parents(folders))
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

    def identity(self) -> str:
        """See :class:`trainables.images.sources.Source`.

        Content is not read: size and modification time reveal changed files.
        """
        digest = hashlib.sha256()
        files, folders = self._found
        for file in files:
            digest.update(f"{file.name!r} {file.size} {file.changed_ns}\n".encode())
        for folder in folders:
            digest.update(f"{folder!r}\n".encode())
        return f"folder {self.path} {digest.hexdigest()}"

    def listing(self) -> Listing:
        """See :class:`trainables.images.sources.Source`."""
        files, folders = self._found
        return list_files(
            [(file.name, file.size) for file in files],
            folders,
            lambda name: str(self.path / name),
        )

    @cached_property
    def _found(self) -> tuple[list[_File], list[str]]:
        files: list[_File] = []
        folders: list[str] = []
        try:
            _walk(self.path, "", frozenset(), files, folders)
        except OSError as error:
            name = os.path.relpath(str(error.filename or self.path), self.path)
            raise UnusableDataError(
                f"{shown(name)} cannot be read ({error.strerror or cause(error)})",
                "remove it or correct its permissions",
            ) from error
        return sorted(files, key=lambda file: file.name), sorted(folders)


def list_files(
    files: Sequence[tuple[str, int]],
    folders: Iterable[str],
    path_of: Callable[[str], str],
    bring: Callable[[list[str]], None] = lambda names: None,
) -> Listing:
    """Return the listing of class folders.

    Args:
        files: relative name and size in bytes of each image.
        folders: names of all folders.
        path_of: returns the path of a file by name.
        bring: called with the names of all used images before the first is read.

    Raises:
        UnusableDataError: the layout is wrong, or an image is too large.
    """
    arrangement = arrange([name for name, _ in files], folders)
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
    )


def _walk(
    folder: Path,
    prefix: str,
    above: frozenset[tuple[int, int]],
    files: list[_File],
    folders: list[str],
) -> None:
    """Collect files and folders recursively; follow links unless they form a cycle."""
    status = os.stat(folder)
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            name = prefix + entry.name
            if entry.is_dir():
                folders.append(name)
                _walk(Path(entry.path), f"{name}/", above | {here}, files, folders)
            elif is_image(entry.name):
                found = entry.stat()
                if not stat.S_ISREG(found.st_mode):
                    raise OSError(0, "not a regular file", entry.path)
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
