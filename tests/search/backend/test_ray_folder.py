"""Where a private Ray keeps its temporary files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from ray._private.utils import validate_socket_filepath

from search.backend import connection
from search.backend.connection import connected
from search.backend.ray_folder import LONGEST, VARIABLE, temporary_folder
from search.private_apis import job_with_path
from spaces.errors import BadInputError

SYSTEM = Path(os.sep, "tmp")
SOCKET = "ray/session_2026-11-27_23-40-00_123456_4194304/sockets/plasma_store.1"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (VARIABLE, "TMPDIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("variable", ["TMPDIR", VARIABLE])
@pytest.mark.parametrize("length", [43, 60, 150])
def test_long_folder_is_reached_by_a_short_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, length: int
) -> None:
    folder = Path(str(tmp_path / "ü").ljust(length, "x"))
    folder.mkdir()
    monkeypatch.setenv(variable, str(folder))
    with temporary_folder():
        short = Path(os.environ[VARIABLE])
        assert len(os.fsencode(short)) <= LONGEST
        validate_socket_filepath(str(short / SOCKET))
        assert short.resolve() == folder.resolve()
        assert stat.S_IMODE(short.parent.stat().st_mode) == 0o700
        (short / "ray").mkdir()
    assert not short.parent.exists()
    assert (folder / "ray").is_dir()
    assert os.environ.get(VARIABLE) == (str(folder) if variable == VARIABLE else None)


def test_short_folder_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(SYSTEM))
    with temporary_folder():
        assert os.environ[VARIABLE] == str(SYSTEM)
    validate_socket_filepath(f"/{'x' * (LONGEST - 1)}/{SOCKET}")


def test_unusable_tmpdir_is_replaced_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    with temporary_folder():
        assert os.environ[VARIABLE] == str(SYSTEM)
    said = f"search.py: TMPDIR = {tmp_path / 'none'}: cannot be written (No such file or directory)"
    assert capsys.readouterr().err == f"{said}; Ray uses {SYSTEM}\n"
    assert not (tmp_path / "none").exists()


def test_unusable_ray_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file"))
    with pytest.raises(BadInputError, match=r"RAY_TMPDIR = .*file: cannot be written"):
        temporary_folder().__enter__()
    assert os.environ[VARIABLE] == str(tmp_path / "file")


def test_ray_that_does_not_start_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(address: str) -> None:
        raise ValueError("two\nlines")

    monkeypatch.setattr(os, "environ", {**os.environ, "RAY_AUTH_TOKEN": "a" * 64})
    monkeypatch.setattr(connection, "_init", fail)
    with pytest.raises(BadInputError) as caught, connected("local"):
        pass
    assert str(caught.value) == (
        "--address = local: Ray does not start (ValueError: two lines); "
        "fix the cause, and check the variables RAY_* of the environment"
    )


def test_workers_do_not_import_from_the_current_folder() -> None:
    job = job_with_path(["/own"])
    job._py_driver_sys_path.extend(["/script", "/current"])
    job._serialize()
    assert job._py_driver_sys_path == ["/own"]


def test_check_of_an_address_ignores_files_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "random.py").write_text("raise RuntimeError('of the user')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInputError, match="Invalid address format: rubbish"):
        connection._check_answer("rubbish")
