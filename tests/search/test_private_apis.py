"""Private parts of libraries: used in one module, pinned to a version, imported late."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray._private import services

from search import private_apis

ROOT = Path(__file__).resolve().parents[2]
MODULE = Path(private_apis.__file__)
FUNCTIONS = [
    name
    for name, member in vars(private_apis).items()
    if getattr(member, "__module__", "") == private_apis.__name__
]
OWN = {"self", "cls"}
"""Objects whose private attributes the code may use."""
PUBLIC = {"_exit", "_replace"}
"""Public attributes of the standard library that begin with an underscore."""


def private_parts(source: str) -> Iterator[str]:
    """Yield the private modules and attributes that source uses."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
            if node.module != "__future__" and any(name.startswith("_") for name in names):
                yield f"from {node.module}"
        elif isinstance(node, ast.Attribute) and re.match(r"_[^_]", node.attr):
            value = node.value
            is_own = isinstance(value, ast.Name) and value.id in OWN
            if not is_own and node.attr not in PUBLIC:
                yield ast.unparse(node)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from ray._private import services", ["from ray._private"]),
        ("from optuna.study import _tell", ["from optuna.study"]),
        ("trial._trial_id", ["trial._trial_id"]),
        ("self._x; os._exit(0); a.__class__; from __future__ import annotations", []),
    ],
)
def test_private_parts_in_source_are_found(source: str, expected: list[str]) -> None:
    assert list(private_parts(source.replace("; ", "\n"))) == expected


def test_private_parts_of_libraries_are_in_one_module() -> None:
    used = {
        f"{path.relative_to(ROOT)}: {part}"
        for path in (ROOT / "search").rglob("*.py")
        if path != MODULE
        for part in private_parts(path.read_text(encoding="utf-8"))
    }
    assert used == set()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_private_part_names_pinned_version_and_reason(name: str) -> None:
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if line
    )
    found = re.search(
        r"Checked with (Ray|Optuna) (\S+): .{20}", inspect.getdoc(getattr(private_apis, name)) or ""
    )
    assert found is not None
    assert pins[found[1].lower()] == found[2]


def test_importing_private_apis_loads_neither_ray_nor_optuna() -> None:
    program = "import sys, search.private_apis; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"ray", "optuna", "torch"} & set(loaded)


def test_a_private_ray_may_take_longer_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 0

    def get_node(*arguments: object) -> dict[str, str]:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise RuntimeError("no such node")
        return {"node": str(arguments)}

    monkeypatch.setattr(services, "get_node", get_node)
    with private_apis.ray_start_timeout(60, pause=0):
        assert services.get_node("address", "id") == {"node": "('address', 'id')"}
    assert services.get_node is get_node
    tries = 0
    with private_apis.ray_start_timeout(0, pause=0), pytest.raises(RuntimeError):
        services.get_node("address", "id")
