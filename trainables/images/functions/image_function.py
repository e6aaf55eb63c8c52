"""The source ``module:function``: images that a function of the user returns."""

import hashlib
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from spaces.errors import BadInputError
from spaces.user_code import load_object
from trainables.images.decoding import Content
from trainables.images.errors import UnusableDataError, shown, some
from trainables.images.functions.contents import content_of, size_of
from trainables.images.functions.data_sets import by_split, is_masked, item_name, read_item
from trainables.images.functions.labels import Labelled, classes_of, label_of, labels_of
from trainables.images.functions.user_errors import blamed
from trainables.images.sources import Item, Listing, Origin
from trainables.images.summary import check_listing


@dataclass(frozen=True)
class ImageFunction:
    """Images that ``module:function`` returns.

    The function takes no arguments. It returns ``(images, labels)``, a data set whose items are
    ``(image, label)`` or have the columns ``image`` and ``label``, or a mapping from splits to
    these. An image is an image of Pillow, an array [h, w] or [h, w, c], a tensor [c, h, w], or the
    path or the content of an image file.

    Args:
        reference: ``module:function``.
        folders: absolute folders of users' modules; see `spaces.user_code.search_folders`.
    """

    reference: str
    folders: tuple[str, ...]

    def version(self) -> str:
        """See :class:`trainables.images.sources.Source`.

        The function is not called: the text of its module and its attribute ``version`` reveal
        changes. The folders count, because equal modules read other files elsewhere.
        """
        return f"function {self.reference} {self.folders} {self._version!r} {self._text_digest}"

    def listing(self) -> Listing:
        """See :class:`trainables.images.sources.Source`."""
        with blamed("the function"):
            returned = self._function()
        with blamed("the data set"):
            parts = [
                Labelled(name, split, data, labels_of(name, data))
                for name, split, data in by_split(returned)
            ]
            names, labels = classes_of(parts)
        used = np.unique(labels)
        notes = [self._reuse]
        if any(is_masked(part.data) for part in parts):
            notes.append("images are masked arrays; their masks are ignored")
        if unused := [name for label, name in enumerate(names) if label not in used]:
            notes.append(f"classes without images are left out: {some(unused)}")
            names = [names[label] for label in used]
            labels = np.searchsorted(used, labels)
        splits = np.concatenate([np.full(len(part.labels), part.split, np.int8) for part in parts])
        places = {part.split: shown(part.name) for part in parts if part.name}

        def items() -> Generator[Item, None, None]:
            row = 0
            for part in parts:
                for name, content in _images(part):
                    yield Item(row, name, content, size_of(content))
                    row += 1

        listing = Listing(
            classes=tuple(names),
            labels=labels,
            splits=splits,
            total_size=0,
            items=items,
            notes=tuple(notes),
            origin=Origin(places),
        )
        return check_listing(listing)

    @cached_property
    def _function(self) -> Callable[[], Any]:
        function = load_object("data", self.reference, self.folders)
        if not callable(function):
            raise UnusableDataError(
                f"it is {type(function).__name__}, not a function",
                "name a function without arguments that returns the data set",
            )
        return function

    @property
    def _version(self) -> str | None:
        version = getattr(self._function, "version", None)
        with blamed("its version"):
            return None if version is None else str(version() if callable(version) else version)

    @property
    def _file(self) -> Path | None:
        module = self.reference.partition(":")[0]
        try:
            return Path(str(load_object("data", f"{module}:__file__", self.folders)))
        except BadInputError:
            return None  # A module of Python's own has no file.

    @property
    def _text_digest(self) -> str:
        file = self._file
        return hashlib.sha256(file.read_bytes()).hexdigest() if file else sys.version

    @property
    def _reuse(self) -> str:
        file, name = self._file, self.reference.partition(":")[2]
        module = shown(file.name) if file else "Python"
        kept = f"decoded images of {self.reference} are reused until {module}"
        if self._version is not None:
            return f"{kept} or {name}.version changes"
        return f"{kept} changes; set {name}.version to a text that changes with its data"


def _images(part: Labelled) -> Generator[tuple[str, Content], None, None]:
    """Yield the name and the content of each image."""
    for position, expected in enumerate(part.labels):
        name = item_name(part.name, position)
        image, label = read_item(name, part.data, position)
        with blamed(f"the image of {name}"):
            content = content_of(name, image)
        if label_of(name, label) != expected:
            raise UnusableDataError(
                f"the label of {name} changed from {expected!r} to {label_of(name, label)!r}",
                "return the same item each time, with labels as in `targets`",
            )
        yield name, content
