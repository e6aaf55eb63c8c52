"""The JSON Schema of the experiment file, by which editors complete and check it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.experiment.schema import Experiment
from search.experiment.sections import seconds

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ALSO: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "Experiment": {
        "space": {"type": "string"},
        "probes": {"type": "boolean"},
    },
    "ScreensSection": {"border": {"type": "boolean"}},
    "Augmentation": {"flip": {"type": "boolean"}},
}
"""Forms of fields that validators accept beside the type of the field."""
_DURATION = {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*[smhd]?\s*$"}


def experiment_schema() -> dict[str, Any]:
    """Return the JSON Schema of the experiment file."""
    schema = Experiment.model_json_schema()
    definitions = schema["$defs"]
    for name, model in {"Experiment": schema, **definitions}.items():
        model.pop("title", None)
        for field, described in model.get("properties", {}).items():
            described.pop("title", None)
            _allow(described, _ALSO.get(name, {}).get(field))
    for field in Experiment.model_fields.values():
        section: Any = field.annotation
        for name, inner in getattr(section, "model_fields", {}).items():
            if any(getattr(each, "func", None) is seconds for each in inner.metadata):
                _allow(definitions[section.__name__]["properties"][name], _DURATION)
    return {"$schema": DIALECT, "title": "Borderline experiment", **schema}


def _allow(described: dict[str, Any], form: Mapping[str, Any] | None) -> None:
    """Let a field also take another form."""
    if form is None:
        return
    aside = ("description", "default")
    own = {key: described.pop(key) for key in list(described) if key not in aside}
    described["anyOf"] = [*own.pop("anyOf", [own]), dict(form)]
