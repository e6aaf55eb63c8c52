"""Where searches keep their state."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from search.experiment.folder import HOME_VARIABLE, Home, SearchFolder
from spaces.errors import BadInputError
from spaces.task import Task
from trainables.data_identity import ClassIdentity, DataIdentity

DIGITS = Task(channels=1, height=8, width=6, classes=10)


def test_home_option_precedes_variable_and_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(HOME_VARIABLE, raising=False)
    assert Home.locate().path == tmp_path.resolve() / "runs"
    monkeypatch.setenv(HOME_VARIABLE, "")
    assert Home.locate().path == tmp_path.resolve() / "runs"
    monkeypatch.setenv(HOME_VARIABLE, "elsewhere")
    assert Home.locate().path == tmp_path.resolve() / "elsewhere"
    assert Home.locate(Path("given")).path == tmp_path.resolve() / "given"


def test_a_home_in_the_users_folder_can_be_written_with_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Home.locate(Path("~/searches")).path == tmp_path.resolve() / "searches"


@pytest.mark.parametrize("below", ["", "/deep/below"])
def test_home_in_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    (tmp_path / "file").touch()
    home = f"{tmp_path / 'file'}{below}"
    line = f"{home}: {tmp_path / 'file'} is a file; name a folder"
    with pytest.raises(BadInputError) as caught:
        Home.locate(Path(home))
    assert str(caught.value) == f"--home = {line}"
    monkeypatch.setenv(HOME_VARIABLE, home)
    with pytest.raises(BadInputError) as caught:
        Home.locate()
    assert str(caught.value) == f"{HOME_VARIABLE} = {line}"


@pytest.mark.parametrize("home", ["~no_such_user/x", "a\0b"])
def test_home_that_cannot_be_a_path_is_refused(home: str) -> None:
    with pytest.raises(BadInputError, match="name a folder"):
        Home.locate(Path(home))


def test_locating_a_home_makes_nothing(tmp_path: Path) -> None:
    Home.locate(tmp_path / "new").folder("mine").refuse_existing()
    assert list(tmp_path.iterdir()) == []


def test_a_search_has_its_own_folder_with_its_experiment(tmp_path: Path) -> None:
    home = Home(tmp_path / "deep" / "home")
    folder = home.folder("mine")
    folder.create("data: digits\n", DIGITS)
    assert folder.experiment.read_text() == "data: digits\n"
    assert folder.task == DIGITS
    assert home.names() == ["mine"]
    assert home.existing("mine") == folder
    files = (folder.study, folder.journal, folder.finalists, folder.checkpoints, folder.report)
    assert all(path.parent == folder.path for path in files)
    assert len(set(files)) == len(files)


def test_equal_names_in_two_homes_have_different_identities(tmp_path: Path) -> None:
    folders = [Home(tmp_path / each).folder("mine") for each in ("a", "b")]
    for folder in folders:
        folder.create("", DIGITS)
    first, second = (folder.identity for folder in folders)
    assert first != second
    assert first.startswith("mine-")
    assert folders[0].identity == first


def test_existing_search_is_refused_and_unchanged(tmp_path: Path) -> None:
    folder = Home(tmp_path).folder("mine")
    folder.create("data: digits\n", DIGITS)
    identity = folder.identity
    for attempt in (folder.refuse_existing, lambda: folder.create("data: cifar10\n", DIGITS)):
        with pytest.raises(BadInputError) as caught:
            attempt()
        assert (caught.value.field, caught.value.value) == ("name", "mine")
        assert "--set name=" in caught.value.remedy
    assert folder.experiment.read_text() == "data: digits\n"
    assert folder.identity == identity


def test_folder_of_a_killed_start_is_unfinished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataIdentity((ClassIdentity("cat", (1, 1, 1), "a"),), ("1", "2", "3"), (8, 8, 1), "")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    folder = Home(tmp_path).folder("mine")
    with monkeypatch.context() as patch:
        patch.setattr(SearchFolder, "write_experiment", killed)
        with pytest.raises(KeyboardInterrupt):
            folder.create("", DIGITS, data)
    assert folder.data == data
    assert folder.is_unfinished()
    folder.create("", DIGITS, data)
    assert not folder.is_unfinished()


def test_a_home_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError) as caught:
        Home(tmp_path / "file").folder("mine").create("", DIGITS)
    assert caught.value.field == "--home"


def test_unknown_search_is_refused_with_known_names(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with pytest.raises(BadInputError, match="known: none yet"):
        home.existing("mine")
    home.folder("b").create("", DIGITS)
    home.folder("a").create("", DIGITS)
    (tmp_path / "mlartifacts").mkdir()
    with pytest.raises(BadInputError, match=r"known: a, b$"):
        home.existing("mine")


@pytest.mark.parametrize("name", ["../mine", "sub/mine", "..", "mine/"])
def test_path_is_no_name_of_a_search(tmp_path: Path, name: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "experiment.yaml").touch()
    with pytest.raises(BadInputError, match="is a path, not the name of a search; give the name"):
        Home(tmp_path / "home").existing(name)


def test_unknown_search_says_how_to_name_another_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="--home or BORDERLINE_HOME names another"):
        Home(tmp_path).existing("mine")


def test_size_ignores_files_that_vanish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Home(tmp_path).folder("mine")
    folder.path.mkdir()
    (folder.path / "id").write_text("mine")
    monkeypatch.setattr(os, "walk", lambda path: [(path, [], ["id", "gone"])])
    assert folder.size == 4
