"""Writes a remedied network as code: a patch of the user's modules, or a module of its own."""

from __future__ import annotations

import runpy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.files import write_atomically
from search.console import note
from search.reporting.analysis.models import ModelReference
from spaces.architecture import Architecture
from spaces.border import Rule, find_border
from spaces.costs import costs
from spaces.errors import BadInputError
from spaces.remedies import Remedy
from spaces.remedies.editing import Argument, module_arguments
from spaces.source.module import module_source
from spaces.user_code import RAISED_BY_USERS

_PATCH = '''

def patch(network: nn.Module) -> nn.Module:
    """Change arguments of modules in place and return the network; weights stay as they are."""
{calls}
    return network


def _set(network: nn.Module, name: str, **arguments: object) -> None:
    module = network.get_submodule(name)
    for attribute, value in arguments.items():
        if not hasattr(module, attribute):
            raise AttributeError(f"{{name}} is a {{type(module).__name__}} without {{attribute}}")
        setattr(module, attribute, value)
'''


@dataclass(frozen=True)
class RemedyChoice:
    """Which remedy to write, and where.

    Attributes:
        number: of the remedy in the table, from 1.
        path: of the Python file.
    """

    number: int
    path: Path

    def of(self, remedies: Sequence[Remedy], model: str) -> Remedy:
        """Return the chosen remedy.

        Raises:
            BadInputError: there is none.
        """
        if not remedies:
            problem = f"{model} has no remedy to write"
            raise BadInputError("--write", self.path, problem, "leave it out")
        if not 1 <= self.number <= len(remedies):
            problem = f"{model} has {len(remedies)} remedies"
            raise BadInputError("--remedy", self.number, problem, f"use 1 to {len(remedies)}")
        return remedies[self.number - 1]


def write_remedy(
    remedy: Remedy,
    path: Path,
    reference: ModelReference,
    original: Architecture,
    rule: Rule,
) -> None:
    """Write a remedied network as code, run the code, and analyse the result again.

    A module of the user or of torchvision is patched if every change is an argument of its
    modules. Else the code is that of a network of its own, without weights.

    Args:
        remedy: to write.
        path: of the Python file.
        reference: the original as the user names it.
        original: its architecture.
        rule: border rule.

    Raises:
        BadInputError: the file exists or cannot be written, or an operation has no PyTorch code.
    """
    if path.exists():
        problem = "exists, and may be your own code"
        raise BadInputError("--write", path, problem, "name another file, or remove it")
    _, height, width = original.shapes[0]
    title = (
        f"{reference.model} for images of {height}x{width} pixels, {remedy.kind}: "
        f"{remedy.description}"
    )
    if reference.is_module and remedy.changes:
        arguments = module_arguments(original, remedy.changes)
        refused = "a change adds a layer"
        if arguments is not None:
            _write(path, patch_source(title, path.stem, arguments))
            refused = _check_patch(path, reference, remedy, rule)
        if arguments is not None and not refused:
            for name, values in _by_module(arguments).items():
                note(f"{name}: {values}")
            note(f"written: {path}, a patch that was verified by analysing the patched network")
            return
        path.unlink(missing_ok=True)  # The network may have no code, either.
        note(f"{reference.model} cannot be patched ({refused}), so the whole network is written")
    try:
        _write(path, module_source(remedy.architecture, title=f"{title}."))
    except BadInputError as error:
        problem = f"{error.value} {error.problem}"
        raise BadInputError("--write", path, problem, "choose another --remedy") from None
    refused = _check(runpy.run_path(str(path))["Network"](), remedy, rule)
    if refused:
        path.unlink(missing_ok=True)
        raise BadInputError("--write", path, refused, "report this as a fault")
    note(f"written: {path}, a network without weights that was verified by analysing it")


def patch_source(title: str, module: str, arguments: Sequence[Argument]) -> str:
    """Return a Python module whose function ``patch`` sets arguments of modules."""
    calls = [
        f'    _set(network, "{name}", {values})' for name, values in _by_module(arguments).items()
    ]
    head = f'"""{title}.\n\n    from {module} import patch\n\n    network = patch(network)\n"""\n\n'
    return f"{head}from torch import nn\n" + _PATCH.format(calls="\n".join(calls))


def _by_module(arguments: Sequence[Argument]) -> dict[str, str]:
    """Return the arguments of each module as in a call."""
    found: dict[str, list[str]] = {}
    for argument in arguments:
        found.setdefault(argument.module, []).append(f"{argument.name}={argument.value}")
    return {name: ", ".join(values) for name, values in found.items()}


def _write(path: Path, source: str) -> None:
    try:
        write_atomically(path, source)
    except OSError as error:
        problem = f"cannot be written ({error.strerror})"
        raise BadInputError("--write", path, problem, "name a file to write") from None


def _check_patch(path: Path, reference: ModelReference, remedy: Remedy, rule: Rule) -> str:
    """Patch a new module; return why the result is not the remedied network, or nothing."""
    from trainables.tracing import load_model

    try:
        patched = runpy.run_path(str(path))["patch"](load_model(reference.model))
    except RAISED_BY_USERS as error:
        return f"{type(error).__name__}: {error}"
    return _check(patched, remedy, rule)


def _check(module: Any, remedy: Remedy, rule: Rule) -> str:
    """Return why a module is not the remedied network, or nothing."""
    from trainables.tracing import trace

    wanted = remedy.architecture
    try:
        found = trace(module, wanted.shapes[0])
        before, after = find_border(wanted, rule), find_border(found, rule)
    except (BadInputError, ValueError) as error:
        return str(error)
    fields = [[field.smallest for field in each.fields] for each in (before, after)]
    if fields[0] != fields[1] or before.border != after.border:
        return "the analysis of the changed network finds other fields"
    counts = [(total.params, total.macs) for total in (costs(wanted), costs(found))]
    if counts[0] != counts[1]:
        return "the analysis of the changed network finds other costs"
    return ""
