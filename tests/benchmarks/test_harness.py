"""Rows of a benchmark: each is saved when measured, and a failed row affects no other."""

import argparse
import json
from pathlib import Path

import pytest
import sharing
from harness import Figure, Table, last_error, show
from sharing import measure_sharing, train_together

VALUES = (3.0, 2.0, 1.5)
QUICK = argparse.Namespace(quick=True, data="none")


def rows(file: Path) -> list[dict[str, object]]:
    return json.loads(file.read_text(encoding="utf-8"))


# The table


def test_row_is_saved_and_printed_before_the_next_measurement(tmp_path, capsys):
    file = tmp_path / "rows.json"
    table = Table(file)
    table.measure("first", "ratio >= 1", "s", lambda: VALUES)

    def second() -> tuple[float, float, float]:
        assert [row["figure"] for row in rows(file)] == ["first"]
        assert "first" in capsys.readouterr().out
        return VALUES

    table.measure("second", "-", "s", second)
    assert not table.failed
    expected = {"ours": 3.0, "baseline": 2.0, "ratio": 1.5, "unit": "s"}
    assert rows(file) == [
        {"figure": "first", "target": "ratio >= 1"} | expected,
        {"figure": "second", "target": "-"} | expected,
    ]


def test_failed_row_has_its_cause_and_others_continue(tmp_path, capsys):
    file = tmp_path / "rows.json"
    table = Table(file)

    def broken() -> tuple[float, float, float]:
        raise RuntimeError("no memory\nand more")

    table.measure("broken", "ratio >= 1", "s", broken)
    table.measure("fine", "-", "s", lambda: VALUES)
    assert table.failed
    failed, fine = rows(file)
    assert failed == {
        "figure": "broken",
        "ours": None,
        "baseline": None,
        "ratio": None,
        "target": "ratio >= 1",
        "unit": "s",
        "error": "RuntimeError: no memory",
    }
    assert "error" not in fine
    assert "failed: RuntimeError: no memory" in capsys.readouterr().out


def test_row_replaces_the_file_atomically(tmp_path):
    file = tmp_path / "rows.json"
    show([Figure("one", *VALUES, "-", "s")], file)
    before = file.open(encoding="utf-8")
    show([Figure("other", *VALUES, "-", "s")], file)
    with before:
        assert json.load(before)[0]["figure"] == "one"
    assert rows(file)[0]["figure"] == "other"
    assert [path.name for path in tmp_path.iterdir()] == ["rows.json"]


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("Traceback ..\n  line\ntorch.AcceleratorError: CUDA error\nFor debugging", "CUDA error"),
        ("first\nlast\n\n", "last"),
        ("", "no message"),
    ],
)
def test_error_of_a_process_is_found_in_its_output(log, expected):
    assert last_error(log).endswith(expected)


# Sharing


@pytest.fixture
def loops(tmp_path, monkeypatch) -> Path:
    """A script in place of a training."""
    script = tmp_path / "loops.py"
    monkeypatch.setattr(sharing, "LOOPS", script)
    return script


def test_throughput_of_several_trainings_is_their_sum(loops):
    loops.write_text("print('ready', flush=True); input(); print(2.5)", encoding="utf-8")
    assert train_together(QUICK, 2, {}, on_gpu=False) == 5.0


@pytest.mark.parametrize("begin", ["", "print('ready', flush=True); input()"])
def test_failed_trainings_report_their_cause(loops, begin):
    loops.write_text(f"{begin}\nraise OSError('no device')", encoding="utf-8")
    with pytest.raises(RuntimeError, match="2 at a time: OSError: no device"):
        train_together(QUICK, 2, {}, on_gpu=False)


def test_hung_trainings_are_killed(loops, monkeypatch):
    monkeypatch.setattr(sharing, "HANG_SECONDS", -2.5)
    loops.write_text("import time; time.sleep(600)", encoding="utf-8")
    with pytest.raises(RuntimeError, match="2 at a time"):
        train_together(QUICK, 2, {}, on_gpu=False)


@pytest.fixture
def mps(tmp_path, monkeypatch) -> Path:
    """A fake MPS program, and trainings that report whether they use it."""
    program = tmp_path / "nvidia-cuda-mps-control"
    program.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def train(_given: object, count: int, environment: dict[str, str], *, on_gpu: bool) -> float:
        if "CUDA_MPS_PIPE_DIRECTORY" in environment and count > 1:
            raise RuntimeError("the MPS server is not ready")
        return 10.0

    monkeypatch.setattr(sharing, "train_together", train)
    return program


NO_SERVER = "RuntimeError: the MPS server does not start"
HALF = "RuntimeError: the MPS server does not answer"
NOT_READY = "RuntimeError: the MPS server is not ready"


@pytest.mark.parametrize(
    ("program", "errors"),
    [
        ("exit 1", [NO_SERVER]),
        ('[ "${1-}" = -d ]', [HALF]),
        ("exit 0", [NOT_READY] * 3),
    ],
    ids=["does not start", "half-starts", "clients fail"],
)
def test_failed_mps_server_loses_only_its_rows(mps, program, errors):
    mps.write_text(f"#!/bin/sh\n{program}\n", encoding="utf-8")
    table = Table()
    measure_sharing(table, QUICK, on_gpu=True)
    alone, together = table.figures[:4], table.figures[4:-1]
    assert [figure.error for figure in alone] == [None] * 4
    assert [figure.error for figure in together] == errors
    assert all("MPS" in figure.figure for figure in together)


def test_mps_rows_are_omitted_without_mps(mps, monkeypatch, capsys):
    mps.unlink()
    monkeypatch.setattr("shutil.which", lambda _: None)
    table = Table()
    measure_sharing(table, QUICK, on_gpu=True)
    assert len(table.figures) == 5
    assert "MPS is not installed here" in capsys.readouterr().out


def test_last_row_is_the_best_number_of_trainings(monkeypatch):
    totals = {1: 10.0, 2: 18.0, 4: 35.0, 8: 20.0}
    monkeypatch.setattr(sharing, "train_together", lambda _given, count, *_, **__: totals[count])
    monkeypatch.setattr("shutil.which", lambda _: None)
    table = Table()
    measure_sharing(table, QUICK, on_gpu=True)
    best = table.figures[-1]
    assert "best is GPU: 4 trainings" in best.figure
    assert (best.ours, best.baseline, best.ratio, best.target) == (35, 10, 3.5, "ratio >= 3")


def test_best_number_of_trainings_is_known_when_time_runs_out(monkeypatch):
    def train(_given: object, count: int, *_: object, **__: object) -> float:
        if count == 4:
            raise SystemExit(143)
        return 10.0 * count

    monkeypatch.setattr(sharing, "train_together", train)
    table = Table()
    with pytest.raises(SystemExit):
        measure_sharing(table, QUICK, on_gpu=True)
    assert [figure.ratio for figure in table.figures] == [1, 8, 8]
