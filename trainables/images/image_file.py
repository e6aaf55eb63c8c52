"""Writes the pixels of a decoded set to one file."""

import shutil
from collections.abc import Iterator
from io import FileIO
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spaces.errors import BadInputError
from trainables.images.cache import VARIABLE, root_of

# Bounds the memory of reading a file back.
_BLOCK_BYTES = 16 * 2**20


class ImageFile:
    """An ``.npy`` file of images, filled in any order.

    It has one channel until the first colour image, then three.

    Args:
        path: path of the file, which must not exist.
        count: number of images.
        size: (width, height) in pixels.
    """

    def __init__(self, path: Path, count: int, size: tuple[int, int]) -> None:
        self._path = path
        self._count = count
        self._width, self._height = size
        self._file: FileIO | None = None
        self._start = 0
        self.channels = 1

    def __enter__(self) -> "ImageFile":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def put(self, rows: NDArray[np.int64], images: NDArray[np.uint8]) -> None:
        """Write images [k, height, width, channels] at their rows [k]."""
        if self._file is None:
            self.channels = images.shape[3]
            self._file, self._start = self._create(self._path, self.channels)
        elif images.shape[3] > self.channels:
            self._turn_to_colour(self._file)
        for run in _runs(rows):
            self._write(self._file, int(rows[run.start]), images[run])

    def _create(self, path: Path, channels: int) -> tuple[FileIO, int]:
        needed = self._count * self._width * self._height * channels
        free = shutil.disk_usage(path.parent).free
        if needed > free:
            raise BadInputError(
                VARIABLE,
                root_of(path.parent),
                f"the decoded images need {_gigabytes(needed)}, and {_gigabytes(free)} are free",
                f"set {VARIABLE} to a folder with room, or choose a smaller resolution",
            )
        # Unbuffered, so that a full disk fails the write, not the close.
        file = FileIO(path, "x+")
        header = {
            "descr": "|u1",
            "fortran_order": False,
            "shape": (self._count, self._height, self._width, channels),
        }
        try:
            np.lib.format.write_array_header_1_0(file, header)
            return file, file.tell()
        except BaseException:
            file.close()
            raise

    def _write(self, file: FileIO, row: int, images: NDArray[np.uint8]) -> None:
        if images.shape[3] < self.channels:
            images = np.repeat(images, self.channels, axis=3)
        file.seek(self._start + row * self._height * self._width * self.channels)
        left = np.ascontiguousarray(images).data.cast("B")
        while left:
            left = left[file.write(left) :]

    def _turn_to_colour(self, grey: FileIO) -> None:
        pixels = self._height * self._width
        at_once = max(1, _BLOCK_BYTES // pixels)
        grey.seek(self._start)
        beside = self._path.with_suffix(".colour")
        self._file, self._start = self._create(beside, channels=3)
        self.channels = 3
        with grey:
            row = 0
            # The file is shorter if the last rows are not written yet.
            while len(block := np.fromfile(grey, dtype=np.uint8, count=at_once * pixels)):
                images = block.reshape(-1, self._height, self._width, 1)
                self._write(self._file, row, images)
                row += len(images)
        beside.replace(self._path)


def _runs(rows: NDArray[np.int64]) -> Iterator[slice]:
    """Yield the slices of consecutive ``rows``, each of which is one write."""
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    bounds = [0, *breaks.tolist(), len(rows)]
    for start, end in pairwise(bounds):
        yield slice(start, end)


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
