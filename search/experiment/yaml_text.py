"""Reads and writes YAML so that every value is what its author wrote.

The rules are those of YAML 1.2's core schema, with three additions. Fields decide how text is read:
a plain scalar in a field for text is taken as it stands, so ``name: 2026-11-27`` and ``data: 10``
are text. In a field that is true or false, the words of YAML 1.1 (``yes``, ``no``, ``on``, ``off``)
still count. Numbers may contain underscores between digits. Merge keys (``<<``) are followed; a
field of the mapping itself replaces the merged one.

What could be misread is refused: a field that is given twice, a word of YAML 1.1 where either a
word or a truth value could be meant, and text that is followed by ``#`` without a space.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

WORDS: Mapping[str, bool] = {
    **dict.fromkeys(("yes", "on", "true"), True),
    **dict.fromkeys(("no", "off", "false"), False),
}
"""Words that YAML 1.1 reads as true or false, in lower case."""
_MOST_VALUES = 100_000
_PREFIX = "tag:yaml.org,2002:"
_NULL = re.compile(r"(~|null|Null|NULL)?")
_RULES: tuple[tuple[str, re.Pattern[str], str], ...] = (
    ("null", re.compile(r"^(?:~|null|Null|NULL|)$"), "~nN"),
    ("bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    (
        "int",
        re.compile(r"^(?:[-+]?[0-9]+(?:_[0-9]+)*|0o[0-7]+|0x[0-9a-fA-F]+)$"),
        "-+0123456789",
    ),
    (
        "float",
        re.compile(
            r"""^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:_[0-9]+)*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?
            |[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$""",
            re.VERBOSE,
        ),
        "-+.0123456789",
    ),
)


class YamlTextError(ValueError):
    """A text is not YAML, or could be misread.

    Args:
        problem: what is wrong, with the line where that is known.
        remedy: what to write instead.
    """

    def __init__(self, problem: str, remedy: str = "fix the syntax") -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(problem, remedy)


class _Loader(yaml.SafeLoader):
    """PyYAML's loader with the scalars of YAML 1.2's core schema."""


class _Dumper(yaml.SafeDumper):
    """PyYAML's dumper, which quotes text that YAML 1.1 or `_Loader` would read as another value."""


_Loader.yaml_implicit_resolvers = {}
for _kind, _pattern, _first in _RULES:
    starts = ["", *_first] if _kind == "null" else list(_first)
    _Loader.add_implicit_resolver(_PREFIX + _kind, _pattern, starts)
    _Dumper.add_implicit_resolver(_PREFIX + _kind, _pattern, starts)
_Loader.add_implicit_resolver(_PREFIX + "merge", re.compile(r"^<<$"), ["<"])


def read_yaml(text: str, annotation: Any = Any) -> Any:
    """Return the value that a text describes.

    Args:
        text: one YAML document.
        annotation: type of the value. Sections are pydantic models. The type only decides how
            scalars are read; the result is not validated.

    Raises:
        YamlTextError: the text is not YAML, or could be misread.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
        return None if node is None else _Reader(text).value(node, annotation, ())
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"is not YAML in line {line}: {error.reason}"
        raise YamlTextError(problem, "remove the character") from None
    except yaml.MarkedYAMLError as error:
        where = "" if error.problem_mark is None else f" in line {error.problem_mark.line + 1}"
        problem = f"is not YAML{where}: {error.problem or error.context}"
        raise YamlTextError(problem, _remedy(error)) from None
    except RecursionError:
        raise YamlTextError("is not YAML: it is nested too deeply") from None


def write_yaml(value: Any) -> str:
    """Return a value as YAML that `read_yaml` and readers of YAML 1.1 read as the same value."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False)
    return text


def is_text(annotation: Any) -> bool:
    """Tell whether a field takes text."""
    return any(
        (isinstance(kind, type) and issubclass(kind, str))
        or (get_origin(kind) is Literal and all(isinstance(one, str) for one in get_args(kind)))
        for kind in _members(annotation)
    )


def plain_text(value: str, annotation: Any) -> str | None:
    """Return plain text for a field that takes text.

    Nothing, ``~`` and ``null`` are None in a field that may be empty.
    """
    may_be_empty = type(None) in _members(annotation)
    return None if may_be_empty and _NULL.fullmatch(value) else value


def _remedy(error: yaml.MarkedYAMLError) -> str:
    if error.problem == "but found another document":
        return "keep one document; remove the others, and the line ---"
    if error.problem is not None and "tab" in error.problem:
        return "indent with spaces"
    return "fix the syntax; quote text that contains ': ' or starts with one of * & ! % @ ` [ {"


def _members(annotation: Any) -> tuple[Any, ...]:
    """Return the alternatives of a type without their metadata."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return tuple(member for each in get_args(annotation) for member in _members(each))
    return (annotation,)


class _Reader:
    """Builds the values of one document.

    Args:
        text: of the document, for what follows a scalar.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._values = 0
        self._open: list[Node] = []

    def value(self, node: Node, annotation: Any, path: tuple[str, ...]) -> Any:
        """Return the value of a node in a field of this type."""
        self._values += 1
        if self._values > _MOST_VALUES:
            raise YamlTextError(f"describes over {_MOST_VALUES} values", "use fewer aliases")
        if isinstance(node, ScalarNode):
            return self._scalar(node, annotation, path)
        if any(node is each for each in self._open):
            raise YamlTextError(f"contains itself{_line(node)}", "remove the alias")
        self._open.append(node)
        try:
            if isinstance(node, SequenceNode) and node.tag == _PREFIX + "seq":
                inner = _items(annotation)
                return [
                    self.value(each, inner, (*path, str(index)))
                    for index, each in enumerate(node.value)
                ]
            if isinstance(node, MappingNode) and node.tag == _PREFIX + "map":
                return self._mapping(node, annotation, path)
        finally:
            self._open.pop()
        raise _unknown_tag(node)

    def _mapping(self, node: MappingNode, annotation: Any, path: tuple[str, ...]) -> dict[Any, Any]:
        merged: dict[Any, Any] = {}
        own: dict[Any, Any] = {}
        lines: dict[Any, int] = {}
        for key_node, value_node in node.value:
            is_merge = key_node.tag == _PREFIX + "merge"
            key = "<<" if is_merge else self._key(key_node, path)
            line = key_node.start_mark.line + 1
            if key in lines:
                first = lines[key]
                both = f"in lines {first} and {line}" if first != line else f"in line {line}"
                name = ".".join((*path, str(key)))
                raise YamlTextError(f"gives {name} twice, {both}", "keep one of them")
            lines[key] = line
            if is_merge:
                for other in self._merged(value_node, annotation, path):
                    merged = other | merged
            else:
                inner = _field(annotation, key)
                own[key] = self.value(value_node, inner, (*path, str(key)))
        return merged | own

    def _merged(self, node: Node, annotation: Any, path: tuple[str, ...]) -> list[dict[Any, Any]]:
        parts = node.value if isinstance(node, SequenceNode) else [node]
        found = [self.value(part, annotation, path) for part in parts]
        if not all(isinstance(each, dict) for each in found):
            raise YamlTextError(f"merges what is no mapping{_line(node)}", "merge an alias: *name")
        return found

    def _key(self, node: Node, path: tuple[str, ...]) -> Any:
        key = self.value(node, Any if _is_word(node) is None else str, path)
        if not isinstance(key, Hashable):
            raise YamlTextError(f"has a key that is no name{_line(node)}", "write field: value")
        return key

    def _scalar(self, node: ScalarNode, annotation: Any, path: tuple[str, ...]) -> Any:
        kinds = _members(annotation)
        tag = node.tag.removeprefix(_PREFIX)
        if tag not in ("null", "bool", "int", "float", "str", "merge"):
            raise _unknown_tag(node)
        is_plain = node.style is None
        name = ".".join(path) or "value"
        if is_plain and is_text(annotation):
            self._refuse_lost_text(node, name)
            text = plain_text(node.value, annotation)
            # A field without a value is empty, whether it may be or not.
            return None if node.value == "" else text
        word = _is_word(node)
        if word is not None and bool in kinds:
            return word
        if word is not None and tag == "str" and _is_untyped(kinds):
            problem = f"has {name}: {node.value}{_line(node)}, which can mean a word or {word}"
            remedy = f'write "{node.value}" in quotes for the word, or {str(word).lower()}'
            raise YamlTextError(problem, remedy)
        if tag == "float" and is_plain and int in kinds and float not in kinds:
            # Validation refuses a decimal number here, and shows what was written.
            return node.value
        return _core_value(tag, node)

    def _refuse_lost_text(self, node: ScalarNode, name: str) -> None:
        """Refuse text that YAML cuts off at a ``#``, unless a comment is evident."""
        rest = re.match(r"[ \t]*(#\S+)", self._text[node.end_mark.index :])
        if rest is not None and re.match(r"#+\Z", rest[1]) is None:
            problem = f"has {name}: {node.value} {rest[1]}{_line(node)}, where # starts a comment"
            raise YamlTextError(
                problem, "quote the whole text, or write '# ' with a space for a comment"
            )


def _core_value(tag: str, node: ScalarNode) -> Any:
    text = node.value
    try:
        if tag == "null":
            return None
        if tag == "bool":
            return WORDS[text.lower()]
        if tag == "int":
            prefixed = text[:2] in ("0o", "0x")
            return int(text, 0) if prefixed else int(text)
        if tag == "float":
            return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
    except (KeyError, ValueError):
        problem = f"has a wrong or too long value{_line(node)}"
        raise YamlTextError(problem, f"write a {tag}") from None
    return text


def _is_word(node: Node) -> bool | None:
    """Return what YAML 1.1 reads a plain scalar as, if that is a truth value."""
    if isinstance(node, ScalarNode) and node.style is None:
        return WORDS.get(node.value.lower())
    return None


def _is_untyped(kinds: tuple[Any, ...]) -> bool:
    return any(kind is Any or kind is object for kind in kinds)


def _items(annotation: Any) -> Any:
    """Return the type of a list's items."""
    for kind in _members(annotation):
        if get_origin(kind) in (list, tuple) and get_args(kind):
            return get_args(kind)[0]
    return Any


def _field(annotation: Any, key: object) -> Any:
    """Return the type of a field of a section."""
    for kind in _members(annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            known = kind.model_fields.get(key) if isinstance(key, str) else None
            return Any if known is None else known.annotation
    return Any


def _unknown_tag(node: Node) -> YamlTextError:
    problem = f"is not YAML{_line(node)}: it has the unknown tag {node.tag}"
    return YamlTextError(problem, "remove the tag, or quote text that starts with !")


def _line(node: Node) -> str:
    return f" in line {node.start_mark.line + 1}"
