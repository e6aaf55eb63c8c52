"""The settings in which experiments differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from search.experiment.schema import Experiment

_UNRELATED = ("name", "database", "storage", "tracking")
"""Settings that decide nothing about what is searched."""
_WIDEST = 60


def different_settings(experiments: Sequence[Experiment]) -> dict[str, list[str]]:
    """Return the settings that are not equal in all experiments.

    Returns:
        By the dotted name of the setting: its text in each experiment; ``-`` where it is absent.
    """
    found = [dict(_flat(each.model_dump(mode="json"))) for each in experiments]
    names = dict.fromkeys(name for settings in found for name in settings)
    rows = {name: [settings.get(name, "-") for settings in found] for name in names}
    return {
        name: [_short(text) for text in row]
        for name, row in rows.items()
        if len(set(row)) > 1 and name.partition(".")[0] not in _UNRELATED
    }


def _short(text: str) -> str:
    return f"{text[: _WIDEST - 2]}.." if len(text) > _WIDEST else text


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value if isinstance(value, str) else json.dumps(value)
