"""Allowed imports between packages, and forbidden content in files of this repository."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

MAY_IMPORT: dict[str, set[str]] = {
    "spaces": set(),
    "cluster": set(),
    "trainables": {"spaces", "cluster"},
    "search": {"spaces", "cluster", "trainables"},
}
LAYERS = (
    "cli",
    "api",
    "nightly",
    "driver",
    "reporting",
    "backend",
    "tracking",
    "backup",
    "loop",
    "study",
    "experiment",
    "templates",
    "base",
)
"""The packages of `search/`, from the top down: each imports only those below it."""
NEVER_IMPORTS = {
    "reporting": {"backend"},
    "backend": {"tracking", "backup"},
    "tracking": {"backup", "loop"},
    "backup": {"loop"},
    "base": {"base"},
}
"""Lower packages that a package of `search/` must not import."""
ALSO_IMPORTS = {"search/cli/publishing.py": {"experiments"}}
"""Imports within a command. Published experiments are not installed, because they need the results
and pages of the repository; `reproduce` says so in one line where they are missing."""
MOST_MODULES = 24
NOT_OURS = {
    *(".git", ".venv", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache"),
    *("__pycache__", "runs"),
}


def imported_by(source: str) -> set[str]:
    """Return the top-level names of the modules that Python source imports absolutely."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


def imports_of(package: str) -> dict[str, set[str]]:
    """Return what each module of a package imports, by its path in the repository."""
    return {
        str(path.relative_to(ROOT)): imported_by(path.read_text(encoding="utf-8"))
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def files() -> list[Path]:
    """Return every file that belongs to the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:  # A copy without a Git repository.
        return [path for path in ROOT.rglob("*") if path.is_file() and not is_aside(path)]
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def is_aside(path: Path) -> bool:
    """Tell whether a file is an output rather than a part of the repository."""
    parts = path.relative_to(ROOT).parts
    return any(part in NOT_OURS or part.endswith(".egg-info") for part in parts)


def modules_after(statement: str, *, cwd: Path = ROOT) -> set[str]:
    """Return the top-level modules that are loaded after a statement in a fresh interpreter."""
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in result.stdout.split()}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import ray.tune as tune", {"ray"}),
        ("from torch.nn import functional", {"torch"}),
        ("def f():\n    import search.run", {"search"}),
        ("from . import sibling", set()),
    ],
)
def test_imports_are_found_anywhere_in_a_module(source: str, expected: set[str]) -> None:
    assert imported_by(source) == expected


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_packages_import_only_allowed_packages(package: str) -> None:
    forbidden = set(MAY_IMPORT) - MAY_IMPORT[package] - {package}
    modules = imports_of(package)
    assert modules
    assert {path: found for path, names in modules.items() if (found := names & forbidden)} == {}


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_packages_import_only_installed_packages(package: str) -> None:
    aside = {"tests", "benchmarks", "experiments", "docs"}
    assert {
        path: found
        for path, names in imports_of(package).items()
        if (found := (names & aside) - ALSO_IMPORTS.get(path, set()))
    } == {}


def test_command_line_loads_no_experiments() -> None:
    loaded = modules_after("import search.cli")
    assert "search" in loaded
    assert "experiments" not in loaded


def module_name(path: Path) -> str:
    """Return the dotted name of a module of the repository."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


OURS: dict[str, Path] = {
    module_name(path): path
    for package in MAY_IMPORT
    for path in sorted((ROOT / package).rglob("*.py"))
}


def modules_imported_by(source: str, known: Collection[str]) -> set[str]:
    """Return the known modules that source imports, including inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = submodules & set(known)
            found |= modules
            if modules != submodules:
                found.add(node.module)
    return found & set(known)


def imports_between_modules() -> dict[str, set[str]]:
    """Return the modules of this repository that each of its modules imports."""
    return {
        name: modules_imported_by(path.read_text(encoding="utf-8"), OURS) - {name}
        for name, path in OURS.items()
    }


def layer_of(module: str) -> str:
    """Return the layer of a module of `search/`."""
    parts = module.split(".")
    if parts == ["search"]:
        return "api"  # It exports the names of `search.api`, on demand.
    return parts[1] if len(parts) > 1 and parts[1] in LAYERS else "base"


def cycle_in(graph: Mapping[str, set[str]]) -> list[str]:
    """Return the modules of an import cycle in order; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_imports_inside_functions_count_between_modules() -> None:
    known = {"search.cli", "search.loop", "search.loop.trials", "search.urls"}
    source = (
        "from search.loop import trials\nimport optuna\ndef f():\n    from search.urls import shown"
    )
    assert modules_imported_by(source, known) == {"search.loop.trials", "search.urls"}


def test_import_cycle_is_found() -> None:
    assert set(cycle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == {"b", "c"}
    assert cycle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize("layer", LAYERS)
def test_packages_of_search_import_only_lower_layers(layer: str) -> None:
    below = set(LAYERS[LAYERS.index(layer) + 1 :])
    allowed = (below | {layer}) - NEVER_IMPORTS.get(layer, set())
    imports = {
        name: {found for found in modules if found.partition(".")[0] == "search"}
        for name, modules in imports_between_modules().items()
        if name.partition(".")[0] == "search" and layer_of(name) == layer
    }
    assert imports
    assert {
        f"{name} imports {found}"
        for name, modules in imports.items()
        for found in modules
        if layer_of(found) not in allowed
    } == set()


def test_every_folder_of_search_is_a_layer() -> None:
    folders = {path.parent.name for path in (ROOT / "search").glob("*/__init__.py")}
    assert folders == set(LAYERS) - {"base"}


def test_no_module_is_in_an_import_cycle() -> None:
    assert cycle_in(imports_between_modules()) == []


def test_no_folder_holds_too_many_modules() -> None:
    modules = Counter(path.parent for path in files() if path.suffix == ".py")
    assert {
        str(folder.relative_to(ROOT)): count
        for folder, count in modules.items()
        if count > MOST_MODULES
    } == {}


def test_only_backend_and_private_apis_import_ray() -> None:
    importing = {
        layer_of(module_name(ROOT / path))
        for path, names in imports_of("search").items()
        if "ray" in names and path != "search/private_apis.py"
    }
    assert importing == {"backend"}


def test_every_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    find = listed["tool"]["setuptools"]["packages"]["find"]
    assert not find["namespaces"]
    packages = {module_name(path) for path in files() if path.name == "__init__.py"}
    assert {
        package
        for package in packages
        if any(fnmatchcase(package, pattern) for pattern in find["include"])
    } == {name for name, path in OURS.items() if path.name == "__init__.py"}


def test_every_template_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = listed["tool"]["setuptools"]["package-data"]["search.templates"]
    templates = [path.name for path in files() if path.parent == ROOT / "search" / "templates"]
    assert {"page.html", "trend.svg"} <= set(templates)
    assert [
        name
        for name in templates
        if not any(fnmatchcase(name, pattern) for pattern in (*patterns, "*.py"))
    ] == []


def names_in(module: Path) -> set[str]:
    """Return the names that a module defines or imports at its top."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    stored = (ast.Name, ast.FunctionDef, ast.ClassDef, ast.alias)
    nodes = [
        node for top in tree.body for node in (top, *ast.walk(top)) if isinstance(node, stored)
    ]
    return {
        node.id if isinstance(node, ast.Name) else getattr(node, "asname", None) or node.name
        for node in nodes
    }


def test_benchmarks_import_only_existing_names() -> None:
    missing = [
        f"{script.name}: {node.module}.{alias.name}"
        for script in sorted((ROOT / "benchmarks").rglob("*.py"))
        for node in ast.walk(ast.parse(script.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if node.module and (path := ROOT / f"{node.module.replace('.', '/')}.py").is_file()
        if alias.name not in names_in(path)
    ]
    assert missing == []


@pytest.mark.parametrize("package", ["spaces", "cluster"])
def test_spaces_and_cluster_import_neither_torch_nor_ray(package: str) -> None:
    heavy = {"torch", "torchvision", "ray", "mlflow"}
    assert {
        path: found for path, names in imports_of(package).items() if (found := names & heavy)
    } == {}


def test_importing_spaces_loads_neither_torch_nor_ray() -> None:
    statement = (
        "import importlib, pkgutil, spaces\n"
        "for module in pkgutil.iter_modules(spaces.__path__):\n"
        "    importlib.import_module(f'spaces.{module.name}')"
    )
    loaded = modules_after(statement)
    assert {"spaces", "optuna"} <= loaded
    assert not loaded & {"torch", "torchvision", "ray", "mlflow", "search", "trainables"}


def test_status_loads_neither_torch_nor_ray() -> None:
    loaded = modules_after("import search.reporting.status")
    assert "search" in loaded
    assert not loaded & {"torch", "torchvision", "ray", "mlflow"}


def test_training_loop_loads_no_ray() -> None:
    loaded = modules_after("import trainables.builder, trainables.data, trainables.training.loop")
    assert "torch" in loaded
    assert not loaded & {"ray", "mlflow", "search"}


def test_worker_that_retrains_loads_neither_ray_tune_nor_tracing() -> None:
    loaded = modules_after("import search.backend.retraining")
    assert {"search", "trainables"} <= loaded
    assert not loaded & {"ray", "torch", "pandas"}
    loaded = modules_after("import trainables.finalist")
    assert "torch" in loaded
    assert not loaded & {"ray", "sympy"}  # Tracing imports SymPy.


def test_trainables_imports_no_ray() -> None:
    assert [path for path, names in imports_of("trainables").items() if "ray" in names] == []


def test_driver_loads_neither_torch_nor_scipy() -> None:
    loaded = modules_after("import search.driver.run, search.nightly.night")
    assert "ray" in loaded
    assert not loaded & {"torch", "torchvision", "mlflow", "scipy"}


def test_mlflow_folder_does_not_shadow_the_library() -> None:
    assert (ROOT / "mlflow").is_dir()
    assert not (ROOT / "mlflow" / "__init__.py").exists()
    program = "import mlflow; print(mlflow.__file__, mlflow.MlflowClient.__name__)"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    place, client = result.stdout.split()
    assert client == "MlflowClient"
    assert not Path(place).resolve().is_relative_to(ROOT / "mlflow")


MACHINE_PATH = re.compile(
    r"(?<![\w.$}~-])/(?:home/(?!ray\b|ubuntu\b)|Users/|root/|work/|workspace/)\w"
)
REGISTRY = re.compile(
    r"--?(?:extra-)?index-url|--find-links|trusted-host|pythonhosted\.org|pypi\.org/simple"
    r"|artifactory|/simple/?(?:\s|$)"
)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (MACHINE_PATH, "open('/home/alice/data')"),
        (MACHINE_PATH, "see /root/x"),
        (REGISTRY, "pip install --index-url x"),
        (REGISTRY, "https://example.org/simple/"),
    ],
)
def test_machine_paths_and_registries_are_recognised(pattern: re.Pattern[str], text: str) -> None:
    assert pattern.search(text)


@pytest.mark.parametrize("text", ["file_mounts: /home/ray/x", "../shared/data", "it is simple."])
def test_relative_and_container_paths_are_allowed(text: str) -> None:
    assert not MACHINE_PATH.search(text)
    assert not REGISTRY.search(text)


def test_no_file_has_a_machine_path_or_registry_address() -> None:
    found = []
    assert ROOT / "search.py" in files()
    for path in files():
        if path == Path(__file__).resolve():
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        for number, line in enumerate(text.splitlines(), start=1):
            if MACHINE_PATH.search(line) or REGISTRY.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_constraints_pin_exact_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.!+_-]+")
    assert [line for line in lines if not pinned.fullmatch(line)] == []
    names = {line.partition("==")[0].lower() for line in lines}
    assert {"ray", "torch", "torchvision", "optuna", "mlflow"} <= names
    assert len(names) == len(lines)
