"""Reads untrusted image archives member by member, without extracting them to disk."""

import bz2
import gzip
import lzma
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, Self, cast

from trainables.images.errors import UnusableDataError, cause, shown
from trainables.images.file_kinds import HEAD_BYTES

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
ZIP_SUFFIXES = (".zip",)
ARCHIVE_SUFFIXES = TAR_SUFFIXES + ZIP_SUFFIXES

_DRIVE = re.compile(r"^[A-Za-z]:/")
_DECOMPRESSORS = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\x00", lzma.open))


@dataclass(frozen=True, slots=True)
class Member:
    """A file or folder in an archive.

    Args:
        ordinal: position in the archive; names may repeat, positions do not.
        path: relative path with ``/`` between parts.
        size: bytes of content.
        is_folder: whether it is a folder.
        head: first bytes of content, if asked for.
    """

    ordinal: int
    path: str
    size: int
    is_folder: bool
    head: bytes = b""


class Archive(Protocol):
    """An archive that is read sequentially."""

    def members(self, needs_head: Callable[[str], bool]) -> Iterator[Member]:
        """Yield all files and folders.

        Args:
            needs_head: tells by the path whether to read the first bytes of a file.

        Raises:
            UnusableDataError: the archive is damaged, or a member is a link or a device, or its
                path leads outside.
        """

    def contents(self, ordinals: Collection[int]) -> Iterator[tuple[int, bytes]]:
        """Yield ordinal and content of the files at these positions, in archive order.

        Raises:
            UnusableDataError: as for ``members``.
        """


def open_archive(path: Path) -> Archive:
    """Return a reader for an archive whose name ends in one of :data:`ARCHIVE_SUFFIXES`."""
    is_zip = path.name.lower().endswith(ZIP_SUFFIXES)
    return ZipArchive(path) if is_zip else TarArchive(path)


@dataclass(frozen=True)
class TarArchive:
    """A tar archive; its compression is detected from its first bytes."""

    path: Path

    def members(self, needs_head: Callable[[str], bool]) -> Iterator[Member]:
        """See :class:`Archive`."""
        for ordinal, (archive, info) in enumerate(self._walk()):
            if not (info.isreg() or info.isdir()):
                raise _special(info.name)
            path = _safe(info.name)
            head = b""
            if info.isreg() and needs_head(path):
                with _readable(self.path):
                    head = cast(IO[bytes], archive.extractfile(info)).read(HEAD_BYTES)
            yield Member(ordinal, path, info.size, info.isdir(), head)

    def contents(self, ordinals: Collection[int]) -> Iterator[tuple[int, bytes]]:
        """See :class:`Archive`."""
        for ordinal, (archive, info) in enumerate(self._walk()):
            if ordinal not in ordinals:
                continue
            with _readable(self.path):
                file = cast(IO[bytes], archive.extractfile(info))
                content = file.read()
            yield ordinal, content

    def _walk(self) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        with (
            _readable(self.path),
            _decompressed(self.path) as stream,
            tarfile.open(fileobj=stream, mode="r:", tarinfo=_StrictTarInfo) as archive,
        ):
            reached = -1
            while (info := archive.next()) is not None:
                # A negative size would lead back to an earlier member, forever.
                if info.offset <= reached or info.size < 0:
                    raise tarfile.ReadError("its members overlap")
                reached = info.offset
                yield archive, info
                # tarfile keeps every member; millions of them would fill the memory.
                archive.members.clear()  # type: ignore[attr-defined]
            # Decompressors verify checksums only at the end.
            if not _is_plain(stream):
                while stream.read(2**20):
                    pass


class _StrictTarInfo(tarfile.TarInfo):
    """Raises on damage: tarfile treats a later bad header as a regular end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except (tarfile.EOFHeaderError, tarfile.EmptyHeaderError):  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


@dataclass(frozen=True)
class ZipArchive:
    """A zip archive."""

    path: Path

    def members(self, needs_head: Callable[[str], bool]) -> Iterator[Member]:
        """See :class:`Archive`."""
        with _readable(self.path), zipfile.ZipFile(self.path) as archive:
            yield from self._members(archive, needs_head)

    def _members(
        self, archive: zipfile.ZipFile, needs_head: Callable[[str], bool]
    ) -> Iterator[Member]:
        for ordinal, info in enumerate(archive.infolist()):
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _special(info.filename)
            if info.flag_bits & 1:
                raise UnusableDataError(
                    f"the member {shown(info.filename)} is encrypted",
                    "make the archive without a password",
                )
            path = _safe(info.filename)
            head = b""
            if not info.is_dir() and needs_head(path):
                with archive.open(info) as file:
                    head = file.read(HEAD_BYTES)
            yield Member(ordinal, path, info.file_size, info.is_dir(), head)

    def contents(self, ordinals: Collection[int]) -> Iterator[tuple[int, bytes]]:
        """See :class:`Archive`."""
        with _readable(self.path), zipfile.ZipFile(self.path) as archive:
            for ordinal, info in enumerate(archive.infolist()):
                if ordinal in ordinals:
                    yield ordinal, archive.read(info)


def _safe(name: str) -> str:
    """Return the normalised path of a member.

    Although nothing is extracted, a path that leads outside means a malicious or broken archive.
    """
    path = name.replace("\\", "/")  # Some tools on Windows write backslashes.
    parts = path.split("/")
    if path.startswith("/") or _DRIVE.match(path) or ".." in parts:
        raise UnusableDataError(
            f"the archive member {shown(name)} leads outside the archive",
            "use an archive with relative paths only, from a source you trust",
        )
    return "/".join(part for part in parts if part not in ("", "."))


def _special(name: str) -> UnusableDataError:
    return UnusableDataError(
        f"the archive member {shown(name)} is a link or a device, not a file or folder",
        "make the archive of plain files (tar --dereference --hard-dereference)",
    )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except UnusableDataError:
        raise
    except FileNotFoundError as error:
        raise UnusableDataError("there is no such file", "check the path") from error
    except PermissionError as error:
        raise UnusableDataError("it may not be read", "check its permissions") from error
    # For wrong bytes tarfile, zipfile and the decompressors also raise undocumented errors:
    # ValueError, KeyError, struct.error, OverflowError and others.
    except Exception as error:
        raise UnusableDataError(
            f"the archive {shown(path.name)} is damaged or incomplete ({cause(error)})",
            "copy or download it again",
        ) from error


@contextmanager
def _decompressed(path: Path) -> Iterator[IO[bytes]]:
    with open(path, "rb") as file:
        start = file.read(8)
        file.seek(0)
        for magic, decompressor in _DECOMPRESSORS:
            if start.startswith(magic):
                with cast(IO[bytes], decompressor(file, "rb")) as stream:
                    yield stream
                return
        yield file


def _is_plain(stream: IO[bytes]) -> bool:
    return not isinstance(stream, gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile)
