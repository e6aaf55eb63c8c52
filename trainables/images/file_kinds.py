"""Decides which files are images, and counts the files that are left out."""

import mimetypes
from collections import defaultdict
from collections.abc import Callable, Iterable
from enum import Enum
from functools import cache

from PIL import Image

from trainables.images.errors import shown
from trainables.images.pixels import FORMATS

HEAD_BYTES = 32
"""Number of bytes at the start of a file that tell whether it is an image."""

_SYSTEM_NAMES = frozenset(
    name.casefold()
    for name in (
        *("__MACOSX", "@eaDir", "#recycle", "#snapshot", "~snapshot", "$RECYCLE.BIN", "lost+found"),
        *(
            "System Volume Information",
            "@Recycle",
            "@Recently-Snapshot",
            "Thumbs.db",
            "ehthumbs.db",
        ),
        *("desktop.ini", "Network Trash Folder", "Temporary Items", "found.000"),
    )
)

# Every file manager leaves them behind, so nobody misses them.
_JUNK_NAMES = frozenset({".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx"})

# Their content begins like that of TIFF or JPEG, but Pillow would read a preview.
_RAW_SUFFIXES = frozenset(
    (
        *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef"),
        *(".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2"),
        *(".srf", ".srw", ".x3f"),
    )
)
# Image formats that mimetypes does not know.
_UNREAD_SUFFIXES = _RAW_SUFFIXES | frozenset(
    (
        *(".avif", ".bif", ".czi", ".dcm", ".dds", ".exr", ".hdr", ".hif", ".j2c", ".j2k", ".jp2"),
        *(".jpf", ".jpx", ".jxl", ".lif", ".mrxs", ".ndpi", ".nii", ".psd", ".scn", ".svs"),
        *(".tga", ".vms", ".xcf"),
    )
)
# Copies and previews of other files, whose content is that of an image.
_COPY_SUFFIXES = frozenset(
    (
        *(".bak", ".bkp", ".crdownload", ".jpg_original", ".old", ".orig", ".part", ".partial"),
        *(".thm", ".tmp"),
    )
)
_MEDIA_TYPES = mimetypes.MimeTypes(()).types_map[True]
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)


class Kind(Enum):
    """How a file is treated according to its name."""

    IMAGE = "image"
    UNKNOWN = "its content decides"
    UNREAD = "image in a format that is not read"
    OTHER = "not an image"


def kind_of(path: str) -> Kind:
    """Return how a file is treated according to the suffix of its name."""
    suffix = _suffix(path)
    if suffix in _image_suffixes():
        return Kind.IMAGE
    if suffix in _COPY_SUFFIXES or path.endswith("~"):
        return Kind.OTHER
    media = _MEDIA_TYPES.get(suffix, "")
    if suffix in _UNREAD_SUFFIXES or media.startswith("image/"):
        return Kind.UNREAD
    return Kind.OTHER if media and media != "application/octet-stream" else Kind.UNKNOWN


def begins_like_image(head: bytes) -> bool:
    """Tell from the first :data:`HEAD_BYTES` bytes of a file whether it is an image.

    Only formats that :mod:`trainables.images.pixels` reads count.
    """
    if head.startswith(b"BM"):  # Two letters can also begin a text.
        return int.from_bytes(head[14:18], "little") in _BMP_HEADERS
    return any(accept(head) is True for accept in _signatures())


def skipped_part(path: str) -> str | None:
    """Return the start of a path up to its first hidden or system folder or file; None if none."""
    parts = path.split("/")
    for position, part in enumerate(parts):
        if part.startswith(".") or part.casefold() in _SYSTEM_NAMES:
            return "/".join(parts[: position + 1])
    return None


class LeftOut:
    """The files of a source that are left out."""

    def __init__(self) -> None:
        self._files: dict[Kind, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self._skipped: set[str] = set()
        self._by_content: list[str] = []
        self._outside: list[str] = []
        self._repeated: set[str] = set()

    def add(self, path: str, kind: Kind) -> None:
        """Count a file that is no readable image."""
        self._files[kind][_suffix(path) or "without suffix"].append(path)

    def skip(self, part: str) -> None:
        """Count a hidden or system folder or file, given by :func:`skipped_part`."""
        name = part.rpartition("/")[2]
        if name.casefold() not in _JUNK_NAMES and not name.startswith("._"):
            self._skipped.add(part)

    def take(self, path: str) -> None:
        """Count an image that only its content reveals."""
        self._by_content.append(path)

    def lead_outside(self, path: str) -> None:
        """Count a link to a file or folder outside the data set."""
        self._outside.append(path)

    def repeat(self, path: str) -> None:
        """Count a file of an archive that has several members of its name."""
        self._repeated.add(path)

    def notes(self) -> tuple[str, ...]:
        """Return one line for each kind of files."""
        lines = []
        for kind, one, many, remedy in (
            (Kind.OTHER, "file is not an image", "files are not images", ""),
            (
                Kind.UNREAD,
                "image is in a format that is not read",
                "images are in a format that is not read",
                "; convert them to PNG or JPEG to use them",
            ),
            (
                Kind.UNKNOWN,
                "file has no suffix of an image",
                "files have no suffix of an image",
                "; add a suffix such as .jpg to use them",
            ),
        ):
            if by_suffix := self._files[kind]:
                count = sum(map(len, by_suffix.values()))
                lines.append(
                    f"{count:,} {one if count == 1 else many}: {_counts(by_suffix)}{remedy}"
                )
        if self._skipped:
            lines.append(
                f"hidden and system files and folders are skipped: {_examples(self._skipped)}"
            )
        if self._by_content:
            lines.append(
                "images without the suffix of one are recognised by content: "
                f"{_examples(self._by_content)}"
            )
        if self._outside:
            lines.append(
                f"links that lead outside the folder are followed: {_examples(self._outside)}"
            )
        if self._repeated:
            lines.append(
                "files of one name occur repeatedly in the archive, and the last of each counts: "
                f"{_examples(self._repeated)}"
            )
        return tuple(lines)


def _counts(by_suffix: dict[str, list[str]], most: int = 5) -> str:
    ordered = sorted(by_suffix.items(), key=lambda item: (-len(item[1]), item[0]))
    parts = [
        f"{len(paths)} {suffix} (e.g. {shown(min(paths))})" for suffix, paths in ordered[:most]
    ]
    if rest := sum(len(paths) for _, paths in ordered[most:]):
        parts.append(f"{rest} others")
    return ", ".join(parts)


def _examples(paths: Iterable[str]) -> str:
    ordered = sorted(paths)
    return f"{len(ordered)} (e.g. {shown(ordered[0])})"


def _suffix(path: str) -> str:
    name = path.rpartition("/")[2]
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


@cache
def _image_suffixes() -> frozenset[str]:
    return frozenset(
        suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS
    )


@cache
def _signatures() -> list[Callable[[bytes], bool | str]]:
    Image.init()
    # DIB has no signature: its first bytes are those of many other files.
    found = (Image.OPEN[kind][1] for kind in FORMATS if kind != "DIB" and kind in Image.OPEN)
    return [accept for accept in found if accept is not None]
