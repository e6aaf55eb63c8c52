"""Templates of modules that users write: a space, a data set, a metric or an augmentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

KINDS: Mapping[str, str] = {
    "space": "--set space={module}:space",
    "data": "--set data={module}:dataset",
    "metric": "--set metrics=[{module}:metric]",
    "augmentation": "--set augmentation.function={module}:augment",
}
"""Kinds of modules, with the setting that uses one."""


def new_module(kind: str, module: str, program: str) -> str:
    """Return the text of a new module.

    Args:
        kind: one of `KINDS`.
        module: its name.
        program: how to call the command line.
    """
    template = Path(__file__).with_name(f"new_{kind}.py.txt").read_text(encoding="utf-8")
    return template.format(module=module, program=program)
