"""Finds out which folders are splits and which are classes."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from trainables.images.errors import UnusableDataError, shown, some
from trainables.images.layout.split_names import SPLITS, says_nothing, split_folders, split_of_name

Parts = tuple[str, ...]
"""The folders of a path and its last part."""

REGIONS = frozenset(
    (
        *("annotation", "annotations", "annots", "bboxes", "boxes", "gt", "groundtruth", "label"),
        *("ground_truth", "labels", "mask", "masks", "segmentation", "segmentations"),
        *("segmentationclass", "segmentationobject"),
    )
)
"""Folders that mark regions of images and are no classes, in lower case."""

# Names under which a split is also a likely class.
_LIKELY_CLASSES = frozenset({"valid", "dev", "eval"})


@dataclass(frozen=True)
class Layout:
    """How the folders of a path give class and split.

    Args:
        wrapper: folders that contain everything.
        roots: the folder that holds the class folders of each split, and the split; the empty path
            without splits.
        inner: split of each folder in a class folder, by class folder; empty if splits are outside.
    """

    wrapper: Parts
    roots: Mapping[Parts, int]
    inner: Mapping[str, Mapping[str, int]]
    notes: tuple[str, ...] = ()

    def place(self, parts: Parts, *, is_file: bool) -> tuple[int, str] | None:
        """Return the split and the class folder of a path, None if it is in neither."""
        depth = len(parts) - is_file
        if self.inner:
            if not is_file and parts and parts[0] not in self.inner:
                return 0, parts[0]  # A class folder without images.
            split = self.inner.get(parts[0], {}).get(parts[1]) if depth > 1 else None
            return None if split is None else (split, parts[0])
        for root, split in self.roots.items():
            if depth > len(root) and parts[: len(root)] == root and parts[len(root)]:
                return split, parts[len(root)]
        return None

    def folder(self, split: int) -> str:
        """Return the folder of a split for messages."""
        if self.inner:
            name = min(
                name for inner in self.inner.values() for name in inner if inner[name] == split
            )
            return shown_folder(*self.wrapper, "CLASS", name)
        root = next(root for root, of in self.roots.items() if of == split)
        return shown_folder(*self.wrapper, *root)


def find_wrapper(paths: Iterable[Parts]) -> Parts:
    """Return the folders that contain all images in folders, outermost first."""
    wrapper: Parts = ()
    below = [parts for parts in paths if len(parts) > 1]
    while True:
        tops = {parts[0] for parts in below}
        deep = [parts[1:] for parts in below if len(parts) > 2]
        if len(tops) != 1 or not deep:
            return wrapper
        (top,) = tops
        if split_of_name(top):
            # Usually the only split, but also a good name for everything.
            inner = split_folders({parts[0] for parts in deep if len(parts) > 2})
            if "train" not in inner.values():
                return wrapper
        wrapper, below = (*wrapper, top), deep


def find_layout(wrapper: Parts, files: Sequence[Parts], folders: set[str]) -> Layout:
    """Find out how the folders below the wrapper give class and split.

    Args:
        wrapper: folders that contain everything.
        files: paths of the images below the wrapper.
        folders: names of the folders directly in the wrapper.
    """
    tops: dict[str, list[Parts]] = defaultdict(list)
    for parts in files:
        if len(parts) > 1:
            tops[parts[0]].append(parts)
    if not tops:
        flat = f": {len(files)} are in no folder" if files else ""
        raise UnusableDataError(
            f"there are no images (.jpg, .png, ..) inside class folders{flat}",
            "arrange the images as CLASS/*.jpg or train/CLASS/*.jpg",
        )
    splits = split_folders({*folders, *tops})
    deep = {top for top, paths in tops.items() if any(len(parts) > 2 for parts in paths)}
    if any(splits.get(top) == "train" for top in deep):
        return _outer_splits(wrapper, tops, splits, deep)
    named = sorted(top for top in tops if top in splits)
    if not named:
        return _inner_splits(wrapper, tops) or _class_folders(wrapper, tops)
    if len(named) == len(tops):
        raise _only_splits(named, splits)
    other = shown_folder(min(tops.keys() - splits.keys()))
    for name in named:
        if name in deep or not (splits[name] == "train" or name.casefold() in _LIKELY_CLASSES):
            raise UnusableDataError(
                f"{shown_folder(name)} beside {other} is either a class or the {splits[name]} "
                "split of a data set without a folder of the training split",
                f"move {other} and the like into train/, or rename {shown_folder(name)} if it is a "
                "class",
            )
    listed = " and ".join(shown_folder(name) for name in named)
    note = f"{listed} is taken as a class, not as a split"
    return Layout(wrapper, {(): 0}, {}, (note,))


def _only_splits(named: Sequence[str], splits: Mapping[str, str]) -> UnusableDataError:
    """Return the error for folders that are all named like splits."""
    listed = " and ".join(shown_folder(name) for name in named)
    if any(splits[name] == "train" for name in named):
        return UnusableDataError(
            f"there are no class folders inside {listed}, named like splits",
            "arrange the images as train/CLASS/*.jpg, or rename the folders if they are classes",
        )
    if len(named) > 1:
        return UnusableDataError(
            f"there is no training split: {listed} are named like other splits",
            "add train/ with the same class folders, or rename the folders if they are classes",
        )
    return UnusableDataError(
        f"there is no training split: the only folder is {listed}, named like another split",
        f"add train/ beside it; if {listed} has all images, give its own path or rename it",
    )


def _outer_splits(
    wrapper: Parts, tops: Mapping[str, list[Parts]], splits: Mapping[str, str], deep: set[str]
) -> Layout:
    """Return the layout ``SPLIT/CLASS``."""
    roots: dict[Parts, int] = {}
    notes = []
    for split in SPLITS:
        names = sorted(name for name, of in splits.items() if of == split)
        if len(names) > 1:
            raise UnusableDataError(
                f"{' and '.join(shown_folder(name) for name in names)} are both the {split} split",
                "keep one of them",
            )
        for name in names:
            roots[_class_root(name, tops.get(name, []))] = SPLITS.index(split)
            if name not in deep:
                what = "class folders" if name in tops else "images"
                notes.append(f"{shown_folder(name)} has no {what}, so the {split} split is drawn")
    train = next(root for root, split in roots.items() if split == 0)
    classes = {parts[len(train)] for parts in tops[train[0]] if len(parts) > len(train) + 1}
    for other in sorted(tops.keys() - splits.keys()):
        root = _class_root(other, tops[other])
        same = classes & {parts[len(root)] for parts in tops[other] if len(parts) > len(root) + 1}
        if len(same) > 1 and other.casefold() not in REGIONS:
            raise UnusableDataError(
                f"{shown_folder(other)} beside {shown_folder(train[0])} has the same class folders "
                f"({some(sorted(same), 4)}) but is not named like a split",
                f"rename {shown_folder(other)} to val/ or test/ if it is a split, or move it away",
            )
    _check_levels([parts[len(train) :] for parts in tops[train[0]] if len(parts) > len(train) + 1])
    if {splits[top] for top in deep & splits.keys()} == {"train"}:
        for other in sorted(tops.keys() - splits.keys()):
            inner = {parts[1] for parts in tops[other] if len(parts) > 2}
            if not inner or not inner <= classes:
                name, beside = shown_folder(train[0]), shown_folder(other)
                raise UnusableDataError(
                    f"{name} beside {beside} is either a class, or the training split with the "
                    f"classes {some(sorted(classes), 4)}",
                    f"rename {name} if it is a class, or move {beside} away if it is none",
                )
    return Layout(wrapper, roots, {}, tuple(notes))


def _class_root(split: str, paths: Sequence[Parts]) -> Parts:
    """Return the folder in a split folder that holds the class folders."""
    root: Parts = (split,)
    while True:
        inner = {parts[len(root)] for parts in paths}
        if len(inner) != 1 or not all(len(parts) > len(root) + 2 for parts in paths):
            return root
        root = (*root, *inner)


def _inner_splits(wrapper: Parts, tops: Mapping[str, list[Parts]]) -> Layout | None:
    """Return the layout ``CLASS/SPLIT``, None without folders of splits in the class folders."""
    inner: dict[str, dict[str, int]] = {}
    for top, paths in tops.items():
        found = split_folders({parts[1] for parts in paths if len(parts) > 2})
        inner[top] = {name: SPLITS.index(split) for name, split in found.items()}
    if not any(inner.values()):
        return None
    if not any(0 in splits.values() for splits in inner.values()):
        raise UnusableDataError(
            "the class folders hold folders named like splits, but none of the training split",
            "arrange the images as train/CLASS/*.jpg, or rename the folders if they are no splits",
        )
    for top, paths in sorted(tops.items()):
        odd = next(
            (parts for parts in paths if len(parts) != 3 or parts[1] not in inner[top]), None
        )
        if odd is not None or len(set(inner[top].values())) < len(inner[top]):
            name = next(f"{top}/{min(names)}" for top, names in sorted(inner.items()) if names)
            raise UnusableDataError(
                f"{shown_folder(name)} is named like a split in a class folder, but "
                + (
                    f"{shown('/'.join(odd))} is in no folder CLASS/SPLIT/"
                    if odd
                    else f"{shown_folder(top)} has several folders of one split"
                ),
                "arrange the images as train/CLASS/*.jpg, rename the folder if it is no split, or "
                "give the path of one data set",
            )
    return Layout(wrapper, {}, inner)


def _class_folders(wrapper: Parts, tops: Mapping[str, list[Parts]]) -> Layout:
    """Return the layout ``CLASS``."""
    _check_levels([parts for paths in tops.values() for parts in paths])
    return Layout(wrapper, {(): 0}, {})


def _check_levels(paths: Sequence[Parts]) -> None:
    """Reject class folders whose subfolders could be the classes, because their names recur.

    Names such as ``images`` say nothing. If most images lie in no other subfolder, or all of them
    in subfolders of one name, the outer folders are the classes.

    Args:
        paths: class folder, further folders and name of each image.
    """
    inner: dict[str, set[str]] = defaultdict(set)
    direct = 0
    for top, *between, _ in paths:
        name = next((part for part in between if not says_nothing(part)), None)
        direct += name is None
        if name is not None:
            inner[top].add(name)
    counts = Counter(name for names in inner.values() for name in names)
    recurring = sorted(name for name, count in counts.items() if count > 1)
    if not recurring or len(counts) == 1 or 2 * direct >= len(paths):
        return
    tops = some(sorted({parts[0] for parts in paths}), 4)
    if all(names == counts.keys() for names in inner.values()):
        raise UnusableDataError(
            f"the classes are either the folders {tops} or their subfolders, which are the same in "
            f"each ({some(recurring, 4)})",
            "name the outer folders train/, val/ and test/, or move the images from the subfolders "
            "into the outer folders",
        )
    raise UnusableDataError(
        f"the classes are either the folders {tops} or their subfolders, because several have a "
        f"subfolder {some(recurring, 4)}",
        "move the images into one folder for each class, or name the outer folders train/, val/ "
        "and test/ if they are splits",
    )


def shown_folder(*parts: str) -> str:
    """Return the path of a folder for messages."""
    return f"{shown('/'.join(parts))}/"
