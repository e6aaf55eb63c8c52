"""Loads and validates experiments: a file, overrides and error messages."""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeGuard, get_args

from pydantic import BaseModel, ValidationError

from search.experiment.folder import SearchFolder
from search.experiment.schema import Experiment
from search.experiment.sections import SpaceSection, seconds
from search.experiment.type_errors import explain_value
from search.experiment.yaml_text import YamlTextError, is_text, plain_text, read_yaml
from spaces.errors import BadInputError

_MOST_DIGITS = 15
"""Digits of the largest whole number that a message writes out."""


def load_experiment(path: Path, overrides: Sequence[str] = (), *, adds: bool = False) -> Experiment:
    """Read and validate an experiment file.

    Args:
        path: the YAML file; its stem is the default name of the search.
        overrides: ``key=value`` with dotted keys, applied in order. A field for text takes the text
            as it stands; other values are YAML.
        adds: whether ``+`` adds to a number, as on resume: ``budget.trials=+100``.

    Raises:
        BadInputError: for the first invalid field, or a value that could be misread.
    """
    experiment = _load(path, overrides, adds=adds)
    gpus = experiment.resources.gpus
    if gpus is not None and gpus > 1:
        # Not in the schema, because searches that were stored before may have it.
        problem = "a training uses one GPU, so the others would stay idle"
        remedy = "use 1, or a fraction of a GPU"
        raise BadInputError("resources.gpus", f"{gpus:g}", problem, remedy)
    return experiment


def _load(path: Path, overrides: Sequence[str], *, adds: bool = False) -> Experiment:
    document = _parse(_read(path), "EXPERIMENT", path, Experiment)
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise BadInputError("EXPERIMENT", path, "is not a mapping", "write `field: value` lines")
    document = {"name": path.stem} | document
    for override in overrides:
        _apply(document, override, adds=adds)
    experiment = parse_experiment(document)
    if not experiment.names_own_code:
        return experiment
    # Absolute, because the stored copy of the file lies elsewhere.
    folder = path.parent if experiment.modules is None else Path(experiment.modules)
    return experiment.model_copy(update={"modules": str(folder.resolve())})


def _read(path: Path) -> str:
    """Return the text of a file: UTF-8, or UTF-16 with its byte order mark."""
    try:
        content = path.read_bytes()
        is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return content.decode("utf-16" if is_wide else "utf-8-sig")
    except OSError as error:
        problem = error.strerror or str(error)
        raise BadInputError("EXPERIMENT", path, problem, "name a YAML file") from error
    except UnicodeDecodeError as error:
        raise BadInputError("EXPERIMENT", path, "is not text", "save it as UTF-8") from error


def load_stored(folder: SearchFolder) -> Experiment:
    """Load the stored experiment of a search.

    Raises:
        BadInputError: the file was changed or damaged.
    """
    stored = _load(folder.experiment, ())
    if stored.name != folder.name:
        problem = f"its {folder.experiment} belongs to another search"
        raise BadInputError("NAME", folder.name, problem, "restore the file")
    return stored


def parse_experiment(document: Mapping[str, Any]) -> Experiment:
    """Validate an experiment.

    Raises:
        BadInputError: for the first invalid field.
    """
    try:
        experiment = Experiment.model_validate(document)
    except ValidationError as error:
        raise _explain(error) from None
    try:
        experiment.to_yaml()
    except ValueError as error:
        # Options of a space may be any YAML value, even a list that contains itself.
        problem = f"has options that cannot be saved as YAML ({error})"
        raise BadInputError("EXPERIMENT", experiment.name, problem, "use plain values") from None
    return experiment


def _parse(text: str, field: str, value: object, annotation: Any) -> Any:
    try:
        return read_yaml(text, annotation)
    except YamlTextError as error:
        raise BadInputError(field, value, error.problem, error.remedy) from None


def _apply(document: dict[str, Any], override: str, *, adds: bool) -> None:
    """Apply one override to a document."""
    key, equals, text = override.partition("=")
    location = key.split(".")
    if not equals or not all(location):
        raise BadInputError("--set", override, "is not key=value", "write e.g. budget.trials=50")
    if key != key.strip():
        problem = "has a space before ="
        raise BadInputError("--set", override, problem, "write key=value without spaces around =")
    value = _override_value(location, text, override)
    *parents, last = location
    section = document
    for parent in parents:
        inner = section.get(parent)
        if parent == "space" and isinstance(inner, str):
            inner = {"name": inner}
        section[parent] = dict(inner) if isinstance(inner, dict) else {}
        section = section[parent]
    if text.lstrip().startswith("+") and not is_text(_annotation_at(location)):
        if not adds:
            problem = "+ adds only when a search is resumed with the command resume"
            raise BadInputError("--set", override, problem, "remove the +")
        value = _sum(location, section.get(last), value, override)
    section[last] = value


def _override_value(location: Sequence[str], text: str, override: str) -> Any:
    """Return the value of an override: text as it stands, or YAML."""
    annotation = _annotation_at(location)
    if is_text(annotation):
        # Nothing leaves a field empty, so quotes alone are the way to write an empty text.
        return "" if text in ('""', "''") else plain_text(text, annotation)
    if annotation is SpaceSection and not text.lstrip().startswith("{"):
        return text  # The name of the space alone.
    return _parse(text, "--set", override, annotation)


def _sum(location: Sequence[str], before: object, value: object, override: str) -> object:
    """Return the old value plus that of an override: ``budget.trials=+100``."""
    key, _, text = override.partition("=")
    added = text.strip().removeprefix("+")
    if _is_duration(location):
        with suppress(ValueError):  # Not a duration.
            before, value = seconds(before), seconds(added)
    if not _is_number(before):
        problem = "cannot add to a value that is not a number"
        raise BadInputError("--set", override, problem, "remove the +")
    if _is_number(value):
        return before + value
    if isinstance(_plain(added), float):
        whole = _whole(added)
        remedy = f"write {key}=+{whole}" if whole.isdigit() else "write + and a whole number"
        raise BadInputError("--set", override, "is not a whole number", remedy)
    problem = "cannot add a value that is not a number"
    raise BadInputError("--set", override, problem, "write + and a number")


def _misread_number(kind: str, value: object) -> tuple[str, str] | None:
    """Return problem and remedy of a number or truth value that has another type."""
    text = str(value) if isinstance(value, float) else value
    if not isinstance(text, str):
        return None
    plain = _plain(text, bool if kind == "bool_type" else Any)
    if kind == "int_type" and isinstance(plain, float):
        return "is not a whole number", f"write {_whole(text)}"
    meant = {"int_type": (int,), "float_type": (int, float), "bool_type": (bool,)}[kind]
    if type(plain) in meant:
        return "is text", "remove the quotes"
    return None


def _plain(text: str, annotation: Any = Any) -> object:
    """Return what a text means without quotes; None if it is not YAML."""
    with suppress(YamlTextError):
        return read_yaml(text, annotation)
    return None


def _whole(text: str) -> str:
    """Return the digits of a whole number that is written as a decimal, such as 1e2."""
    with suppress(InvalidOperation):
        number = Decimal(text.replace("_", ""))
        if number.is_finite() and number.adjusted() < _MOST_DIGITS and number % 1 == 0:
            return str(int(number))
    return "a whole number"


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_duration(location: Sequence[str]) -> bool:
    """Tell whether a field is a duration such as 90m, 8h or 2d."""
    try:
        field = _section_at(location[:-1]).model_fields[location[-1]]
    except (KeyError, StopIteration):
        return False
    return any(getattr(each, "func", None) is seconds for each in field.metadata)


def _explain(error: ValidationError) -> BadInputError:
    """Convert pydantic's first error to a `BadInputError`."""
    first = error.errors(include_url=False)[0]
    location = [str(part) for part in first["loc"]]
    field = ".".join(location) or "EXPERIMENT"
    value = first["input"]
    if first["type"] == "extra_forbidden":
        known = _fields_at(location[:-1])
        close = get_close_matches(location[-1], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        return BadInputError(field, value, "unknown field", hint)
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, BadInputError):
        return cause  # Raised by a validator that names the field itself.
    if first["type"] in ("int_type", "float_type", "bool_type"):
        misread = _misread_number(first["type"], value)
        if misread is not None:
            return BadInputError(field, value, *misread)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return BadInputError(field, value, "is not allowed", message)
    if first["type"] in ("model_type", "model_attributes_type"):
        return BadInputError(field, value, "is not a section", "write it as {field: value, ..}")
    if first["type"] == "string_pattern_mismatch":
        message = "does not match the pattern of a name"
        remedy = (
            "use up to 100 ASCII letters, digits, dots, dashes and underscores, a letter or digit "
            "first; give one with --set name=..."
        )
        return BadInputError(field, value, message, remedy)
    explained = explain_value(first["type"], value, first.get("ctx", {}))
    if explained is not None:
        return BadInputError(field, value, *explained)
    message = message[0].lower() + message[1:]
    return BadInputError(field, value, message, f"it takes: {_describe(location)}")


def _annotation_at(location: Sequence[str]) -> Any:
    """Return the type of a field; Any if there is no such field."""
    try:
        return _section_at(location[:-1]).model_fields[location[-1]].annotation
    except (KeyError, StopIteration):
        return Any


def _section_at(location: Sequence[str]) -> type[BaseModel]:
    model: type[BaseModel] = Experiment
    for part in location:
        annotation = model.model_fields[part].annotation
        inner = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type)]
        model = next(a for a in inner if issubclass(a, BaseModel))
    return model


def _fields_at(location: Sequence[str]) -> list[str]:
    return list(_section_at(location).model_fields)


def _describe(location: Sequence[str]) -> str:
    """Return the description of a field."""
    try:
        field = _section_at(location[:-1]).model_fields[location[-1]]
    except (KeyError, StopIteration, IndexError):
        return "docs/experiment.md"
    return field.description or "docs/experiment.md"
