"""Users' modules: found beside the experiment first, whatever their name."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import spaces
from spaces.errors import BadInputError
from spaces.user_code import is_reference, load_object, place_of, search_folders

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that writes a file below the folder of the experiment."""
    monkeypatch.setattr(sys, "path", [*sys.path])

    def call(name: str, source: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)

    return call


def refusal(reference: str, *folders: Path) -> BadInputError:
    with pytest.raises(BadInputError) as caught:
        load_object("space", reference, [str(folder) for folder in folders])
    assert (caught.value.field, caught.value.value) == ("space", reference)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    "name", ["cluster", "spaces", "search", "trainables", "random", "test", "yaml", "own_0"]
)
def test_file_in_the_folder_precedes_any_other_module(
    write: Write, tmp_path: Path, name: str
) -> None:
    before = sys.modules.get(name)
    write(f"{name}.py", "def space(): return 'mine'\n")
    found = load_object("space", f"{name}:space", [str(tmp_path)])
    assert callable(found)
    assert found() == "mine"
    assert load_object("space", f"{name}:space", [str(tmp_path)]) is found
    if before is not None:
        assert sys.modules[name] is before
    assert load_object("space", "spaces:vgg") is spaces.vgg
    assert load_object("space", "random:Random") is random.Random


def test_first_folder_with_the_module_wins(write: Write, tmp_path: Path) -> None:
    write("first/own_1.py", "value = 1")
    write("second/own_1.py", "value = 2")
    write("second/own_2.py", "value = 3")
    folders = [str(tmp_path / name) for name in ("first", "second")]
    assert load_object("space", "own_1:value", folders) == 1
    assert load_object("space", "own_1:value", folders[::-1]) == 2
    assert load_object("space", "own_2:value", folders) == 3


@pytest.mark.parametrize("package", ["own_3", "cluster"])
def test_package_with_relative_imports_is_found(write: Write, tmp_path: Path, package: str) -> None:
    write(f"{package}/__init__.py", "")
    write(f"{package}/parts.py", "value = 5")
    write(f"{package}/nets.py", "from .parts import value")
    assert load_object("space", f"{package}.nets:value", [str(tmp_path)]) == 5


@pytest.mark.parametrize("folder", ["own_4", "spaces"])
def test_folder_without_init_is_found(write: Write, tmp_path: Path, folder: str) -> None:
    write(f"{folder}/mine.py", "value = 6")
    assert load_object("space", f"{folder}.mine:value", [str(tmp_path)]) == 6


def test_module_may_import_its_neighbours(write: Write, tmp_path: Path) -> None:
    write("own_5_helper.py", "value = 7")
    write("cluster.py", "from own_5_helper import value")
    assert load_object("space", "cluster:value", [str(tmp_path)]) == 7


@pytest.mark.parametrize(
    ("reference", "whose"),
    [
        ("cluster:space", "Borderline's own module cluster has no space"),
        ("random:space", "Python's own module random has no space"),
        ("sys:space", "Python's own module sys has no space"),
        ("yaml:space", "yaml ("),
    ],
)
def test_message_says_whose_module_lacks_the_name(
    tmp_path: Path, reference: str, whose: str
) -> None:
    error = refusal(reference, tmp_path)
    assert whose in error.problem
    assert f"{reference.partition(':')[0]}.py must lie in {tmp_path}" in error.remedy


def test_wrong_name_in_own_module_names_the_nearest(write: Write, tmp_path: Path) -> None:
    write("own_6.py", "def space(): ...\n")
    error = refusal("own_6:spaec", tmp_path)
    assert error.problem == f"own_6 ({tmp_path / 'own_6.py'}) has no spaec"
    assert error.remedy == "did you mean own_6:space?"


def test_missing_module_names_the_searched_folders(tmp_path: Path) -> None:
    error = refusal("no_such.thing:space", tmp_path, tmp_path / "b")
    assert "No module named 'no_such'" in error.problem
    assert f"no_such/thing.py must lie in {tmp_path} or {tmp_path / 'b'}" in error.remedy
    assert refusal("no_such.py:space", tmp_path).remedy == "leave out .py: no_such:name"


@pytest.mark.parametrize(
    ("source", "cause", "line"),
    [
        ("\n\n1 / 0", "ZeroDivisionError: division by zero", 3),
        ("\ndef f(\n", "SyntaxError: '(' was never closed", 2),
        ("\nimport not_there_at_all", "ModuleNotFoundError: No module named", 2),
        ("import sys\nsys.exit(0)", "SystemExit: 0", 2),
        ("import json\n\njson.loads('{')", "JSONDecodeError", 3),
    ],
)
@pytest.mark.parametrize("name", ["own_7", "random"])
def test_failing_module_is_named_with_file_and_line(
    write: Write, tmp_path: Path, name: str, source: str, cause: str, line: int
) -> None:
    write(f"{name}.py", source)
    error = refusal(f"{name}:space", tmp_path)
    assert f"cannot be imported ({cause}" in error.problem
    assert f" in {tmp_path / name}.py, line {line})" in error.problem


def test_place_is_the_deepest_line_of_the_user(write: Write, tmp_path: Path) -> None:
    write("own_8.py", "import json\ndef space():\n    return json.loads('{')\n")
    space = load_object("space", "own_8:space", [str(tmp_path)])
    assert callable(space)
    with pytest.raises(ValueError, match="Expecting") as caught:
        space()
    assert place_of(caught.value) == f" in {tmp_path / 'own_8.py'}, line 3"
    assert place_of(ValueError()) == ""


def test_folders_are_the_experiments_then_the_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert search_folders(None) == (str(tmp_path),)
    assert search_folders("/x/y") == ("/x/y", str(tmp_path))
    assert search_folders(str(tmp_path)) == (str(tmp_path),)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("a:b", True), ("a.b:c", True), ("vgg", False), ("images:/x", False), ("a:b:c", False),
     (":b", False), ("a:", False), ("a-b:c", False)],
)  # fmt: skip
def test_reference_is_module_and_name(text: str, is_one: bool) -> None:
    assert is_reference(text) is is_one
