"""Opens the images that a source names: a folder, a table, a published set or a function."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from cluster.storage import is_bucket
from trainables.images.errors import UnusableDataError, printable
from trainables.images.files import open_images
from trainables.images.functions.image_function import ImageFunction
from trainables.images.named_sets import SET_NAMES, open_named
from trainables.images.sources import Source
from trainables.images.store import Progress
from trainables.images.tables.label_table import TABLE_SUFFIXES, open_table
from trainables.specs import LOCAL_KINDS, DataSpec, is_function

_IMAGES, _TABLE = (f"{kind}:" for kind in LOCAL_KINDS)


def open_source(data: DataSpec, root: Path, report: Progress, *, wait_for_bucket: bool) -> Source:
    """Open the images that a source names.

    Args:
        data: names the source.
        root: folder of the cache, for downloads.
        report: called with the bytes fetched and their total.
        wait_for_bucket: whether to wait for an unavailable bucket.

    Raises:
        UnusableDataError: there is no such source, or it cannot be used.
        StorageError: a bucket cannot be used.
    """
    source = data.source
    if source.startswith(_IMAGES):
        path = source.removeprefix(_IMAGES)
        if is_bucket(path):
            # Importing boto3 takes half a second, so only buckets do it.
            from trainables.images.remote import open_bucket_images  # noqa: PLC0415

            return open_bucket_images(path, root, report, wait_for_bucket=wait_for_bucket)
        return open_images(path)
    if source.startswith(_TABLE):
        return open_table(source.removeprefix(_TABLE), data.table)
    if source in SET_NAMES:
        return open_named(source, root / "downloads")
    meant = _misspelt_path(source)
    if meant is None and is_function(source):
        return ImageFunction(source, data.folders)
    known = [*SET_NAMES, f"{_IMAGES}PATH", f"{_TABLE}PATH", "module:function"]
    remedy = f"use one of {', '.join(known)}"
    if os.path.exists(os.path.expanduser(source)):
        kind = _TABLE if source.lower().endswith(TABLE_SUFFIXES) else _IMAGES
        remedy = f"for your own images write {kind}{printable(source)}"
    elif meant is not None:
        remedy = f"did you mean {printable(meant)}?"
    elif close := difflib.get_close_matches(source.lower(), SET_NAMES, n=1):
        remedy = f"did you mean {close[0]}? Otherwise {remedy}"
    raise UnusableDataError("there is no such data set", remedy)


def _misspelt_path(source: str) -> str | None:
    """Return the source that is meant if the kind of an existing path is misspelt."""
    kind, _, path = source.partition(":")
    close = difflib.get_close_matches(kind.lower(), LOCAL_KINDS, n=1)
    exists = bool(path) and os.path.exists(os.path.expanduser(path))
    return f"{close[0]}:{path}" if close and exists else None


def is_pinned(source: str) -> bool:
    """Tell whether workers load what the driver has found, without looking at the source again."""
    return is_bucket(source.removeprefix(_IMAGES)) or is_function(source)


def is_table(source: str) -> bool:
    """Tell whether a source is a table of labels."""
    return source.startswith(_TABLE)
