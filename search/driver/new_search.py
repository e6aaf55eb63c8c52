"""The command that starts a new search where an existing one may not be changed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from search.experiment.folder import Home, SearchFolder
from search.experiment.loading import load_stored
from search.experiment.schema import Experiment


def new_search(folder: SearchFolder, experiment: Experiment, fields: Iterable[str] = ()) -> str:
    """Return a command that searches with a changed experiment, from the trials of a search.

    Args:
        folder: of the search.
        experiment: the stored one with changes.
        fields: whose changes the command contains; none for all.
    """
    home = Home(folder.path.parent)
    stored = load_stored(folder)
    before, after = (each.model_dump(mode="json") for each in (stored, experiment))
    warm_start = ", ".join([*stored.warm_start, folder.name])
    is_named = experiment.name != folder.name
    name = experiment.name if is_named else next_name(home, folder.name)
    settings = [f"name={name}", f"warm_start=[{warm_start}]"]
    changed = [field for field in fields or after if field not in ("name", "warm_start")]
    settings += _changes(before, after, changed)
    run = home.command("run", shlex.quote(_typed(folder.experiment)))
    options = " ".join(f"--set {shlex.quote(each)}" for each in settings)
    return f"{run} {options}"


def next_name(home: Home, name: str) -> str:
    """Return the first of NAME-2, NAME-3 and so on that no search has."""
    number = 2
    while home.folder(f"{name}-{number}").path.exists():
        number += 1
    return f"{name}-{number}"


def _changes(
    before: Mapping[str, object], after: Mapping[str, object], fields: Iterable[str], of: str = ""
) -> Iterator[str]:
    """Yield the settings that change some fields."""
    for field in fields:
        old, new = before.get(field), after[field]
        if old == new:
            continue
        # A setting adds options to a section, and removes none.
        if isinstance(old, dict) and isinstance(new, dict) and old.keys() <= new.keys():
            yield from _changes(old, new, new, f"{of}{field}.")
        else:
            yield f"{of}{field}={_text(new)}"


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value or '""'
    return json.dumps(value)


def _typed(path: Path) -> str:
    """Return a path as a user would type it in the current folder."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
