"""Recognises the names that people give to the folders of splits."""

import re
from collections import defaultdict
from collections.abc import Iterable

SPLITS = ("train", "validation", "test")
"""The splits; arrays of splits hold indices of this tuple."""

_WORDS = {
    **dict.fromkeys(("train", "training", "trainval", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "devel"), "validation"),
    **dict.fromkeys(("eval", "evaluation"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "holdout", "heldout"), "test"),
}

# Words beside the name of a split that say nothing about classes.
_FILLERS = frozenset(
    (
        *("set", "sets", "data", "dataset", "datasets", "split", "splits", "subset", "part"),
        *("image", "images", "img", "imgs", "photo", "photos", "pic", "pics", "picture"),
        *("pictures", "file", "files", "folder", "dir", "sample", "samples", "all", "final"),
        *("full", "new", "raw", "clean", "original", "resized", "cropped", "jpg", "jpeg", "png"),
        *("x", "px", "my", "the"),
    )
)
THUMBNAILS = frozenset(("thumb", "thumbs", "thumbnail", "thumbnails"))
"""Folders of small copies of images, in lower case."""

_TOKEN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
_TWO_WORDS = re.compile(r"(hold|held)[\s_-]*out", re.IGNORECASE)


def split_of_name(name: str) -> str | None:
    """Return the split that a folder is named after: train, validation or test; None otherwise.

    Case, numbers and words such as "set" or "images" do not matter.

    >>> [split_of_name(name) for name in ("Training", "test_set", "valImages2017", "tests", "cat")]
    ['train', 'test', 'validation', None, None]
    """
    split, rest = _parse(name)
    return None if rest else split


def says_nothing(name: str) -> bool:
    """Tell whether the name of a folder consists of words such as "images" or "thumbs"."""
    tokens = [token.casefold() for token in _TOKEN.findall(name)]
    return bool(tokens) and all(token in _FILLERS | THUMBNAILS for token in tokens)


def split_folders(names: Iterable[str]) -> dict[str, str]:
    """Return the split of each folder that is named after one, among folders side by side.

    Folders may also share any other words, as ``flowers_train`` and ``flowers_test`` do.
    """
    parsed = {name: _parse(name) for name in names}
    found = {name: split for name, (split, rest) in parsed.items() if split and not rest}
    alike: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for name, (split, rest) in parsed.items():
        if split and rest:
            alike[rest][name] = split
    for group in alike.values():
        if len(group) > 1 and "train" in group.values() and not found:
            found |= group
    return found


def _parse(name: str) -> tuple[str | None, tuple[str, ...]]:
    """Return the split that a name contains, and its other words."""
    tokens = [token.casefold() for token in _TOKEN.findall(_TWO_WORDS.sub(r"\1out", name))]
    words = [word for token in tokens for word in _divide(token)]
    splits = [_WORDS[word] for word in words if word in _WORDS]
    rest = tuple(
        word
        for word in words
        if word not in _WORDS and word not in _FILLERS and not word.isdecimal()
    )
    return (splits[0], rest) if len(splits) == 1 else (None, rest)


def _divide(token: str) -> tuple[str, ...]:
    """Divide a token such as ``trainset`` or ``imgtest`` into its two words."""
    if token in _WORDS or token in _FILLERS:
        return (token,)
    for at in range(1, len(token)):
        start, end = token[:at], token[at:]
        if (start in _WORDS and end in _FILLERS) or (start in _FILLERS and end in _WORDS):
            return start, end
    return (token,)
