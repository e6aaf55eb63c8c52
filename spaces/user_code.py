"""Loads what users name as ``module:name``: spaces, data sets and networks of their own.

This module is the only place that imports users' modules, on the driver and on workers. Use
`load_object` for every setting that names a user's function. `search_folders` gives the folders to
pass: the folder of the experiment file, then the current folder. Specs carry these folders to
workers, so that every process finds the same file.

A user's file comes first, whatever its name: ``cluster.py``, ``random.py`` or ``test.py`` beside an
experiment is found before the modules of Borderline, Python and installed packages, and does not
replace them for anyone else.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from spaces.errors import BadInputError

_ROOT = Path(__file__).resolve().parents[1]
_OURS = frozenset({"spaces", "trainables", "search", "cluster"})

RAISED_BY_USERS: tuple[type[BaseException], ...] = (Exception, SystemExit)
"""What users' code may raise: also the end of the process, by sys.exit or argparse."""


def search_folders(modules: str | None) -> tuple[str, ...]:
    """Return the absolute folders in which users' modules are looked for, first to last.

    Args:
        modules: `Experiment.modules`, the folder of the experiment file; None if it is unknown.
    """
    folders = [] if modules is None else [Path(modules)]
    return tuple(dict.fromkeys(str(folder.absolute()) for folder in (*folders, Path.cwd())))


def is_reference(value: str) -> bool:
    """Tell whether a text has the form ``module:name``."""
    module, colon, name = value.partition(":")
    return bool(colon) and name.isidentifier() and all(map(str.isidentifier, module.split(".")))


def load_object(field: str, reference: str, folders: Sequence[str] = ()) -> object:
    """Return the object that ``module:name`` names.

    Args:
        field: setting that contains the reference, for messages.
        reference: ``module:name``; the module may be dotted.
        folders: absolute folders that are searched before all other modules.

    Raises:
        BadInputError: there is no such module or name, or the module fails to import. The message
            names the file, and the line that failed.
    """
    module_name, _, name = reference.partition(":")
    if not module_name or not name:
        raise BadInputError(field, reference, "names no object", "write module:name")
    module = _load_module(field, reference, module_name, folders)
    try:
        return getattr(module, name)
    except AttributeError:
        problem = f"{_whose(module, module_name)} has no {name}"
        raise BadInputError(
            field, reference, problem, _nearest(module, module_name, name, folders)
        ) from None


def remedy_of(error: BaseException, otherwise: str) -> str:
    """Return what to do about an error of a user's code.

    Args:
        error: one of `RAISED_BY_USERS`.
        otherwise: the remedy unless the code ended the process.
    """
    exits = isinstance(error, SystemExit)
    return "call neither sys.exit nor argparse in it" if exits else otherwise


def place_of(error: BaseException) -> str:
    """Return `` in FILE, line N``: where an error arose in a user's module; empty if elsewhere."""
    if isinstance(error, SyntaxError) and error.filename and _is_users(error.filename):
        return f" in {error.filename}, line {error.lineno}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if _is_users(frame.filename):
            return f" in {frame.filename}, line {frame.lineno}"
    return ""


def defined_at(function: object) -> str:
    """Return `` (FILE, line N)``: where a user's function is defined; empty for any other."""
    code = getattr(inspect.unwrap(function) if callable(function) else None, "__code__", None)
    if code is None or not _is_users(code.co_filename):
        return ""
    return f" ({code.co_filename}, line {code.co_firstlineno})"


def _load_module(
    field: str, reference: str, module_name: str, folders: Sequence[str]
) -> ModuleType:
    file = _find(module_name, folders)
    try:
        if file is None:
            return import_module(module_name)
        return _import_file(module_name, *file)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            problem = f"cannot be imported (ModuleNotFoundError: {error})"
            raise BadInputError(
                field, reference, problem, _where_to_put(module_name, folders)
            ) from None
        raise _failed(field, reference, error) from error
    except RAISED_BY_USERS as error:
        raise _failed(field, reference, error) from error


def _failed(field: str, reference: str, error: BaseException) -> BadInputError:
    cause = error.msg if isinstance(error, SyntaxError) else error
    problem = f"cannot be imported ({type(error).__name__}: {cause}{place_of(error)})"
    return BadInputError(field, reference, problem, remedy_of(error, "fix the module"))


def _find(module_name: str, folders: Iterable[str]) -> tuple[Path, Path] | None:
    """Return the first folder that contains a module, and the module's file."""
    parts = module_name.split(".")
    if not all(map(str.isidentifier, parts)):
        return None
    for folder in map(Path, folders):
        stem = folder.joinpath(*parts)
        for file in (stem / "__init__.py", stem.with_suffix(".py")):
            if file.is_file():
                return folder, file
    return None


def _import_file(module_name: str, folder: Path, file: Path) -> ModuleType:
    """Import the module in a file, under another name if its own is taken."""
    # Last, so that files of the user hide no other module; the user's modules may import others.
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    top, *below = module_name.split(".")
    if _is_free(top, folder):
        module = import_module(module_name)
        if module.__file__ is not None and Path(module.__file__).resolve() == file.resolve():
            return module
    package = folder / top / "__init__.py"
    if below and package.is_file():
        alias = _alias(top, package)
        _import_as(alias, package)
        return import_module(".".join([alias, *below]))
    return _import_as(_alias(module_name.replace(".", "_"), file), file)


def _is_free(top: str, folder: Path) -> bool:
    """Tell whether a top-level name leads to the folder, whatever else has been imported."""
    known = sys.modules.get(top)
    spec = getattr(known, "__spec__", None) if known is not None else find_spec(top)
    if spec is None:
        return False
    places = [spec.origin] if spec.has_location else spec.submodule_search_locations or ()
    wanted = (folder / top, folder / f"{top}.py", folder / top / "__init__.py")
    return any(
        Path(place).resolve() == each.resolve() for place in places if place for each in wanted
    )


def _alias(name: str, file: Path) -> str:
    return f"{name}_{hashlib.blake2b(str(file.resolve()).encode(), digest_size=6).hexdigest()}"


def _import_as(alias: str, file: Path) -> ModuleType:
    if alias in sys.modules:
        return sys.modules[alias]
    inside = [str(file.parent)] if file.name == "__init__.py" else None
    spec = spec_from_file_location(alias, file, submodule_search_locations=inside)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no module of Python")
    module = module_from_spec(spec)
    sys.modules[alias] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[alias]
        raise
    return module


def _is_users(filename: str) -> bool:
    """Tell whether a file is neither Borderline's nor Python's nor an installed package's."""
    if filename.startswith("<"):
        return False
    path = Path(filename).resolve()
    paths = sysconfig.get_paths()
    installed = {
        Path(paths[key]).resolve() for key in ("stdlib", "platstdlib", "purelib", "platlib")
    }
    ours = {_ROOT / name for name in _OURS}
    return not any(path.is_relative_to(folder) for folder in installed | ours)


def _whose(module: ModuleType, module_name: str) -> str:
    """Describe a module by its name, its owner and its file."""
    top = module_name.partition(".")[0]
    file = getattr(module, "__file__", None)
    if top in _OURS and module.__name__ == module_name:
        return f"Borderline's own module {module_name}"
    if file is None or (not _is_users(file) and top in sys.stdlib_module_names):
        return f"Python's own module {module_name}"
    return f"{module_name} ({file})"


def _nearest(module: ModuleType, module_name: str, name: str, folders: Sequence[str]) -> str:
    public = [known for known in vars(module) if not known.startswith("_")]
    close = get_close_matches(name, public, n=1)
    hint = f"did you mean {module_name}:{close[0]}?" if close else "check the name"
    file = getattr(module, "__file__", None)
    if file is not None and _is_users(file):
        return hint
    where = _where_to_put(module_name, folders)
    return f"{hint} {where}" if close else where


def _where_to_put(module_name: str, folders: Sequence[str]) -> str:
    if module_name.endswith(".py"):
        return f"leave out .py: {module_name.removesuffix('.py')}:name"
    if not folders:
        return "check the name"
    file = f"{module_name.replace('.', '/')}.py"
    return f"your own {file} must lie in {' or '.join(folders)}"
