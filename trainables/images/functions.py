"""The source ``module:function``: images that a function of the user returns."""

import hashlib
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from spaces.errors import BadInputError
from spaces.user_code import load_object, place_of
from trainables.images.decoding import Content
from trainables.images.errors import (
    UnusableDataError,
    brief,
    cause,
    counted,
    printable,
    shown,
    some,
)
from trainables.images.labelling import (
    check_classes,
    describe_doubtful,
    is_missing,
    one_form,
    ordered_classes,
    split_of,
)
from trainables.images.layout.split_names import SPLITS
from trainables.images.sources import Item, Listing
from trainables.images.summary import summarize

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels")

# Modes whose pixels NumPy reads as they are.
_PLAIN_MODES = frozenset({"L", "LA", "RGB", "RGBA", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})


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
        with self._blamed("the function"):
            returned = self._function()
        with self._blamed("the data set"):
            parts = [
                _Part(self, name, split, data, _labels(self, name, data))
                for name, split, data in _by_split(returned)
            ]
            names, labels = _classes(parts)
        used = np.unique(labels)
        notes = [self._reuse]
        if any(_is_masked(part.data) for part in parts):
            notes.append("images are masked arrays; their masks are ignored")
        if unused := [name for label, name in enumerate(names) if label not in used]:
            notes.append(f"classes without images are left out: {some(unused)}")
            names = [names[label] for label in used]
            labels = np.searchsorted(used, labels)
        splits = np.concatenate([np.full(len(part.labels), part.split, np.int8) for part in parts])
        check_classes(names, labels, splits)
        places = {part.split: shown(part.name) for part in parts if part.name}
        notes = [summarize(names, labels, splits, places), *notes, *describe_doubtful(names)]

        def items() -> Generator[Item, None, None]:
            row = 0
            for part in parts:
                for name, content in part.images():
                    yield Item(row, name, content, _size(content))
                    row += 1

        return Listing(
            classes=tuple(printable(name) for name in names),
            labels=labels,
            splits=splits,
            total_size=0,
            items=items,
            notes=tuple(notes),
        )

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
        with self._blamed("its version"):
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

    @contextmanager
    def _blamed(self, what: str) -> Iterator[None]:
        """Report an error in the user's code with its file and line."""
        try:
            yield
        except (UnusableDataError, BadInputError):
            raise
        except (Exception, SystemExit) as error:
            exits = isinstance(error, SystemExit)
            raise UnusableDataError(
                f"{what} raised {type(error).__name__}: {cause(error)}{place_of(error)}",
                "call neither sys.exit nor argparse in it" if exits else "fix the function",
            ) from error


@dataclass(frozen=True)
class _Part:
    """The images of one split; their labels are numbers or names."""

    owner: ImageFunction
    name: str
    split: int
    data: Any
    labels: list[int] | list[str]

    def images(self) -> Generator[tuple[str, Content], None, None]:
        """Yield the name and the content of each image."""
        for position, expected in enumerate(self.labels):
            name = _item_name(self.name, position)
            image, label = _item(self.owner, name, self.data, position)
            with self.owner._blamed(f"the image of {name}"):
                content = _content(name, image)
            if _label(name, label) != expected:
                raise UnusableDataError(
                    f"the label of {name} changed from {expected!r} to {_label(name, label)!r}",
                    "return the same item each time, with labels as in `targets`",
                )
            yield name, content


@dataclass(frozen=True)
class _Arrays:
    """The data set of ``(images, labels)``."""

    images: Any
    targets: Any

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> tuple[Any, Any]:
        return self.images[position], self.targets[position]


def _is_masked(data: Any) -> bool:
    """Tell whether images are masked arrays; only those that need not be read one by one."""
    images = data.images if isinstance(data, _Arrays) else ()
    parts = images if isinstance(images, list | tuple) else (images,)
    return any(isinstance(part, np.ma.MaskedArray) for part in parts)


def _by_split(returned: Any) -> list[tuple[str, int, Any]]:
    """Return the name and the index of each split, and its data set."""
    if not isinstance(returned, Mapping):
        return [("", 0, _as_dataset("the result", returned))]
    if not returned:
        raise UnusableDataError("the function returned no splits", "return at least train")
    parts = [
        (str(name), split_of(str(name)), _as_dataset(str(name), data))
        for name, data in returned.items()
    ]
    splits = [split for _, split, _ in parts]
    for split in set(splits):
        if splits.count(split) > 1:
            names = [name for name, other, _ in parts if other == split]
            raise UnusableDataError(
                f"{' and '.join(names)} are both the {SPLITS[split]} split", "return one of them"
            )
    return sorted(parts, key=lambda part: part[1])


def _as_dataset(what: str, data: Any) -> Any:
    if isinstance(data, tuple) and len(data) == 2:
        images, labels = data
        if all(isinstance(each, tuple) and len(each) == 2 for each in data) and not isinstance(
            labels[1], str | int
        ):
            raise UnusableDataError(
                f"{what} is two pairs ((images, labels), (images, labels))",
                'name the splits: return {"train": (images, labels), "test": (images, labels)}',
            )
        if not (hasattr(images, "__len__") and hasattr(labels, "__len__")):
            raise UnusableDataError(
                f"{what} has a pair without lengths", "return (images, labels) as arrays or lists"
            )
        if len(images) != len(labels):
            raise UnusableDataError(
                f"{what} has {counted(len(images), 'image')} and {counted(len(labels), 'label')}",
                "return one label per image",
            )
        data = _Arrays(images, labels)
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        raise UnusableDataError(
            f"{what} is {type(data).__name__}, which has no length or no items",
            "return (images, labels), or a data set with len(data) and data[i]",
        )
    if not len(data):
        raise UnusableDataError(f"{what} has no images", "return at least one of each class")
    return data


def _column(data: Any, usual: Sequence[str]) -> str | None:
    """Return the column of a table-like data set or item with one of the usual names."""
    columns = getattr(data, "column_names", None) or data
    found = next((name for name in usual if name in columns), None)
    if found is None:
        known = some([str(each) for each in columns])
        raise UnusableDataError(
            f"there is no column {' or '.join(usual)}, only {known}",
            f"rename the column to {usual[0]}",
        )
    return found


def _labels(owner: ImageFunction, split: str, data: Any) -> list[int] | list[str]:
    """Return all labels, without reading images if the data set has a list of them."""
    count = len(data)
    known: Any = None
    if hasattr(data, "column_names"):
        with owner._blamed("reading the labels"):
            known = data[_column(data, LABEL_COLUMNS)]
    elif getattr(data, "target_transform", None) is None:
        known = getattr(data, "targets", None)
    if known is None or not hasattr(known, "__len__") or len(known) != count:
        known = (
            _item(owner, _item_name(split, position), data, position)[1]
            for position in range(count)
        )
    labels = [_label(_item_name(split, position), raw) for position, raw in enumerate(known)]
    if len({type(label) for label in labels}) > 1:
        raise UnusableDataError(
            "some labels are numbers and some are names", "return labels of one kind"
        )
    return cast("list[int] | list[str]", labels)


def _item(owner: ImageFunction, name: str, data: Any, position: int) -> tuple[Any, Any]:
    with owner._blamed(f"reading {name}"):
        item = data[position]
    if isinstance(item, Mapping):
        return item[_column(item, IMAGE_COLUMNS)], item[_column(item, LABEL_COLUMNS)]
    if isinstance(item, tuple | list) and len(item) == 2:
        return item[0], item[1]
    raise UnusableDataError(
        f"{name} is {type(item).__name__}, not an image and its label",
        "return items (image, label), or mappings with image and label",
    )


def _item_name(split: str, position: int) -> str:
    return f"item {position} of {shown(split)}" if split else f"item {position}"


def _label(name: str, raw: Any) -> int | str:
    """Return a label as a number or a name."""
    value = raw
    if raw is np.ma.masked:
        raise UnusableDataError(
            f"the label of {name} is masked", "leave out images without a label"
        )
    if isinstance(raw, Image.Image) or len(getattr(raw, "shape", ())) > 1:
        shape = np.shape(raw)
        raise UnusableDataError(
            f"the label of {name} has the shape {tuple(shape)} of an image",
            "return images before labels: (images, labels), or items (image, label)",
        )
    if hasattr(raw, "item"):
        with suppress(ValueError, RuntimeError):  # An array with several elements.
            value = raw.item()
    problem = f"the label of {name} is {brief(repr(value), 60)}"
    if isinstance(value, str) and is_missing(value):
        raise UnusableDataError(
            f"{problem}, which stands for a missing label",
            "leave out images without a label, or rename the class if it is one",
        )
    if isinstance(value, str) and value:
        return one_form(value)
    if isinstance(value, int) and value >= 0:
        return int(value)
    if isinstance(value, int):
        raise UnusableDataError(problem, "leave out images without a label")
    raise UnusableDataError(problem, "return the number or the name of one class")


def _names_of(data: Any) -> list[str] | None:
    """Return the class names of a data set, or None."""
    features = getattr(data, "features", None)
    if isinstance(features, Mapping) and hasattr(data, "column_names"):
        names = getattr(features[_column(data, LABEL_COLUMNS)], "names", None)
    else:
        while (names := getattr(data, "classes", None)) is None and hasattr(data, "dataset"):
            data = data.dataset  # A subset of torch wraps another data set.
    if names is not None and not isinstance(names, Iterable):
        raise UnusableDataError(
            f"the classes of the data set are {brief(repr(names), 60)}",
            "give the list of their names",
        )
    return None if names is None else [one_form(str(name)) for name in names]


def _classes(parts: Sequence[_Part]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the names of all classes and the class index of each image."""
    given = {part.name: names for part in parts if (names := _names_of(part.data)) is not None}
    raw = [label for part in parts for label in part.labels]
    if not given:
        names = ordered_classes({str(label) for label in raw})
    else:
        names = next(iter(given.values()))
        if differing := [name for name, other in given.items() if other != names]:
            raise UnusableDataError(
                f"the class names of {next(iter(given))} and {differing[0]} differ",
                "give both the same classes in the same order",
            )
        if len(set(names)) < len(names):
            raise UnusableDataError("two classes have the same name", "rename one of them")
    index: dict[int | str, int] = {name: position for position, name in enumerate(names)}
    index |= (
        {position: position for position in range(len(names))}
        if given
        else {int(name): position for name, position in index.items() if str(name).isdecimal()}
    )
    if unknown := [label for label in raw if label not in index]:
        raise UnusableDataError(
            f"the label {unknown[0]!r} is none of the {len(names)} classes ({some(names)})",
            "correct the labels or the class names",
        )
    return names, np.array([index[label] for label in raw], dtype=np.int64)


def _content(name: str, image: Any) -> Content:
    """Return an image for decoding; files are read by the decoding processes."""
    if isinstance(image, str | os.PathLike):
        return str(Path(image).expanduser().absolute())
    return image if isinstance(image, bytes) else _pixels(name, image)


def _size(content: Content) -> int:
    if isinstance(content, str):
        return os.path.getsize(content) if os.path.isfile(content) else 0
    return len(content) if isinstance(content, bytes) else content.nbytes


def _pixels(name: str, image: Any) -> NDArray[np.uint8]:
    """Return an image as an array for decoding: [h, w] or [h, w, c]."""
    if isinstance(image, Image.Image):
        return _from_pillow(name, image)
    channels_first = hasattr(image, "detach")
    pixels = image.detach().cpu().numpy() if channels_first else image
    if not isinstance(pixels, np.ndarray):
        raise UnusableDataError(
            f"the image of {name} is {type(image).__name__}",
            "return an image of Pillow, an array, a tensor, or the path of a file",
        )
    if channels_first and pixels.ndim == 3:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if not pixels.size or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] <= 4)):
        shape, layout = ("[c, h, w]", "1 to 4") if channels_first else ("[h, w, c]", "1 to 4")
        raise UnusableDataError(
            f"the image of {name} has the shape {tuple(image.shape)}",
            f"return [h, w] or {shape} with {layout} channels",
        )
    return np.ascontiguousarray(_bytes(name, pixels))


def _from_pillow(name: str, image: Image.Image) -> NDArray[np.uint8]:
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode in ("L", "RGB") and upright.has_transparency_data:
            upright = upright.convert(f"{upright.mode}A")
        elif upright.mode == "1":
            upright = upright.convert("L")
        elif upright.mode not in _PLAIN_MODES:
            upright = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
        return np.asarray(upright)
    except Exception as error:  # Pillow reads files late, and raises many undocumented types.
        raise UnusableDataError(
            f"the image of {name} cannot be read ({cause(error)})", "remove or repair it"
        ) from error


def _bytes(name: str, pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert pixels to 8 bits; 16-bit greyscale is left to the decoding."""
    kind = pixels.dtype.kind
    if pixels.dtype == np.uint8 or (pixels.dtype == np.uint16 and pixels.ndim == 2):
        return cast("NDArray[np.uint8]", pixels)
    if kind == "b":
        return np.where(pixels, np.uint8(255), np.uint8(0))
    low, high = (pixels.min(), pixels.max()) if kind in "iuf" else (np.nan, np.nan)
    if kind in "iu" and low >= 0 and high <= 255:
        return pixels.astype(np.uint8)
    if kind == "f" and low >= 0 and high <= 1:
        scaled: NDArray[np.float64] = np.rint(pixels * 255.0)
        return scaled.astype(np.uint8)
    raise UnusableDataError(
        f"the pixels of {name} are {pixels.dtype} from {low:g} to {high:g}",
        "return uint8 from 0 to 255 or floats from 0 to 1, without normalisation",
    )
