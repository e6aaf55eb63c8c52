"""The GPU checks: they run without a GPU, and a failing stage loses only its own results."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import training
from gpu_checks import operations, reuse, rows, runner
from gpu_checks.machine import check_machine
from gpu_checks.operations import examples
from gpu_checks.records import Check, Outcome, Recorder, read_checks
from gpu_checks.runner import run_stage, run_stages
from gpu_checks.stages import STAGES, Stage, stages_of
from gpu_checks.subjects import Setting
from gpu_checks.suite import lacks, read_report
from harness import Table

from spaces import operations as known
from trainables.builder import build_layer

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "benchmarks" / "on_gpu.sh"
QUICK = ("machine", "capture", "exactness", "failures", "operations")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute as a stage does; restore the process afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(torch.device("cpu"), time.monotonic() + 60, None, tmp_path)


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder("stage", tmp_path / "checks.jsonl")


def checks_of(recorder: Recorder) -> list[Check]:
    return read_checks(recorder._file)[0]


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'benchmarks'}")


# The whole script


def test_script_without_a_gpu_succeeds_and_marks_gpu_checks(tmp_path):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    started = time.monotonic()
    command = ["sh", str(SCRIPT), "tests", "results", "--stages", ",".join(QUICK)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "There is no GPU here" in done.stdout
    results = json.loads((tmp_path / "results" / "results.json").read_text(encoding="utf-8"))
    assert results["stages"] == list(QUICK)
    assert results["device"] is None
    assert results["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert results["date"].endswith("+00:00")
    assert 0 < results["seconds"] < time.monotonic() - started
    outcomes = {stage: set() for stage in QUICK}
    for check in results["checks"]:
        outcomes[check["stage"]].add(check["outcome"])
        assert f"{check['stage']}: {check['name']}: {check['outcome']}" in done.stdout
        if check["outcome"] == "not measured":
            assert check["detail"].startswith("no GPU")
    assert outcomes == {stage: {"passed", "not measured"} for stage in QUICK}
    kinds = {check["name"]: check for check in results["checks"] if check["stage"] == "operations"}
    (result,) = kinds["dropout"]["figures"]["operations"]
    assert result["operation"] == "Dropout(rate=0.3)"
    assert result["error"] is None


@pytest.mark.parametrize("part", ["tests", "bench", "all"])
def test_every_stage_exists_and_the_machine_comes_first(part):
    stages = stages_of(part)
    assert stages[0].name == "machine"
    for stage in stages:
        module, _, function = stage.work.partition(":")
        assert callable(getattr(__import__(module, fromlist=[function]), function))


def test_stages_that_figures_depend_on_come_before_the_benchmark():
    names = [stage.name for stage in stages_of("all")]
    assert names[:4] == ["machine", "capture", "exactness", "record"]
    assert names[-1] == "tests"


def test_every_stage_is_a_test_or_a_measurement():
    both = [*stages_of("tests"), *stages_of("bench")[1:]]
    assert sorted(stage.name for stage in both) == sorted(stage.name for stage in STAGES)
    assert stages_of("all") == list(STAGES)


def test_every_group_of_rows_has_a_stage():
    groups = {stage.name for stage in STAGES if stage.work.startswith("gpu_checks.rows:")}
    assert groups == set(training.ROWS)


def test_script_imports_only_packages_of_training(path):
    """The script imports neither Ray nor MLflow nor their dependencies."""
    modules = [stage.work.partition(":")[0] for stage in STAGES]
    program = f"import sys, training, {', '.join(modules)}; print(*sys.modules)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert {"torch", "optuna"} <= loaded
    assert not loaded & {"ray", "mlflow", "yaml", "rich", "typer", "moto", "pytest"}


# Failing stages


def broken(name: str, seconds: float = 60.0) -> Stage:
    return Stage(name, f"tests.benchmarks.broken_stages:{name}", seconds, least=1)


@pytest.mark.usefixtures("path")
def test_crashing_or_raising_stage_loses_only_its_results(tmp_path, capsys):
    stages = [broken(name) for name in ("crashing", "raising", "failing", "good")]
    assert run_stages(stages, tmp_path, None) == 1
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    found = [(c["stage"], c["name"], c["outcome"], c["detail"]) for c in results["checks"]]
    refused = found.pop(6)
    assert refused[:3] == ("failing", "refused", "failed")
    # The line that raised the error follows.
    assert re.search(r"there are only \d+ training images.*\(trainables/.*:\d+\)$", refused[3])
    fine = ("fine", "passed", "as it should be")
    assert found == [
        ("crashing", *fine),
        ("crashing", "the stage ends", "failed", "killed by SIGSEGV during: crash"),
        ("raising", *fine),
        ("raising", "the stage ends", "failed", "exit code 1: ValueError: between two checks"),
        ("failing", "wrong", "failed", "one is not two"),
        ("failing", "broken", "failed", "KeyError: 'nothing'"),
        ("failing", *fine),
        ("good", *fine),
    ]
    assert "4 passed, 0 below target, 5 failed, 0 not measured" in capsys.readouterr().out
    with tarfile.open(tmp_path / "logs.tar.gz") as logs:
        log = logs.extractfile("./raising.log")
        assert log is not None
        assert b"between two checks" in log.read()


@pytest.mark.usefixtures("path")
def test_hanging_stage_is_killed_and_keeps_its_checks(tmp_path, monkeypatch):
    monkeypatch.setattr("gpu_checks.processes.GRACE_SECONDS", 0.2)
    started = time.monotonic()
    fine, hung = run_stage(broken("hanging"), tmp_path, None, 10.0)
    assert time.monotonic() - started < 20
    assert fine.outcome is Outcome.PASSED
    assert hung.outcome is Outcome.FAILED
    assert hung.detail == "not ended after 10 s during: hang"


def test_stage_does_not_start_without_time_left(tmp_path):
    assert run_stages([broken("good")], tmp_path, None, seconds=5) == 0
    (check,) = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["checks"]
    assert (check["outcome"], check["detail"]) == ("not measured", "no time left")


def test_results_are_written_after_every_stage(tmp_path, monkeypatch):
    written = []

    def stand_in(stage: Stage, folder: Path, *_: Any) -> list[Check]:
        file = folder.parent / "results.json"
        written.append(json.loads(file.read_text("utf-8"))["checks"] if file.exists() else None)
        return [Check(stage.name, "fine", Outcome.PASSED, figures={"row": {"ours": 1}})]

    monkeypatch.setattr(runner, "run_stage", stand_in)
    run_stages([broken("one"), broken("two")], tmp_path, None)
    assert written[0] is None
    assert [check["stage"] for check in written[1]] == ["one"]
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert results["figures"] == [{"ours": 1}, {"ours": 1}]


# Rows of the benchmark

ROW = {"figure": "f", "ours": 2.0, "baseline": 1.0, "ratio": 2.0, "target": "-", "unit": "s"}
FAILED_ROW = ROW | {"ours": None, "baseline": None, "ratio": None, "error": "RuntimeError: no room"}


def measured(monkeypatch: pytest.MonkeyPatch, target: str = "-") -> list[str]:
    """Let a benchmark measure two rows, of which the second fails; return the asked groups."""
    asked: list[str] = []

    def fail() -> tuple[float, float, float]:
        raise RuntimeError("no room")

    def measure_rows(groups: list[str], table: Table, *_: Any) -> None:
        asked.extend(groups)
        table.measure("f", target, "s", lambda: (2.0, 1.0, 2.0))
        table.measure("f", target, "s", fail)

    monkeypatch.setattr(training, "measure_rows", measure_rows)
    return asked


def test_every_row_is_a_check_and_a_failed_one_has_its_cause(setting, recorder, monkeypatch):
    asked = measured(monkeypatch)
    rows.memory(setting, recorder)
    assert asked == ["memory"]
    good, failed = checks_of(recorder)
    assert (good.outcome, good.figures) == (Outcome.PASSED, {"row": ROW})
    assert good.detail == "2 against 1 s, ratio 2, target: -"
    assert (failed.outcome, failed.detail) == (Outcome.FAILED, "RuntimeError: no room")
    assert failed.figures == {"row": FAILED_ROW}


@pytest.mark.parametrize(
    ("target", "outcome"),
    [
        ("ratio >= 3", Outcome.MISSED),
        ("ratio >= 2", Outcome.PASSED),
        ("ratio 1", Outcome.PASSED),
        ("above 1", Outcome.PASSED),
        ("-", Outcome.PASSED),
    ],
)
def test_row_below_its_target_is_reported_as_missed(
    setting, recorder, monkeypatch, target, outcome
):
    measured(monkeypatch, target)
    rows.memory(setting, recorder)
    assert checks_of(recorder)[0].outcome is outcome


def test_recorded_row_is_named_before_it_is_measured(recorder):
    table = rows.RecordedTable(recorder, "speed")

    def work() -> tuple[float, float, float]:
        assert read_checks(recorder._file) == ([], "slow")
        return 2.0, 1.0, 2.0

    table.measure("slow", "-", "s", work)
    ((check,), begun) = read_checks(recorder._file)
    assert (check.stage, check.outcome, begun) == ("speed", Outcome.PASSED, None)


@pytest.mark.parametrize(
    ("part", "outcome"), [("bench", Outcome.NOT_MEASURED), ("tests", Outcome.FAILED)]
)
def test_lack_of_time_for_rows_is_no_failure(tmp_path, monkeypatch, part, outcome):
    monkeypatch.setattr(runner, "run_limited", lambda *_, **__: None)
    (check,) = run_stage(Stage("speed", "", 9, part), tmp_path, None, 9)
    assert check.outcome is outcome
    assert check.detail.startswith("not ended after 9 s")


def test_rows_without_a_gpu_name_the_reason(setting, recorder):
    for group in (rows.record, rows.accuracy, rows.speed, rows.cudnn, rows.compiled):
        group(setting, recorder)
    found = checks_of(recorder)
    assert len(found) == 5
    assert {(check.outcome, check.detail) for check in found} == {(Outcome.NOT_MEASURED, "no GPU")}


def test_stages_that_need_a_gpu_start_unless_there_is_none(tmp_path, monkeypatch):
    begun: list[str] = []

    def stand_in(stage: Stage, *_: Any) -> list[Check]:
        begun.append(stage.name)
        return [Check(stage.name, "device", Outcome.NOT_MEASURED)]

    monkeypatch.setattr(runner, "run_stage", stand_in)
    lacking = [stage for stage in STAGES if stage.needs_gpu]
    assert run_stages([STAGES[0], *lacking], tmp_path, None) == 0
    assert begun == ["machine"]
    checks = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["checks"]
    assert [check["detail"] for check in checks[1:]] == ["no GPU"] * len(lacking)
    # Nothing is known without the first stage.
    run_stages(lacking[:1], tmp_path, None)
    assert begun == ["machine", lacking[0].name]


@pytest.mark.parametrize(
    ("device", "started"), [(Outcome.PASSED, True), (Outcome.NOT_MEASURED, False)]
)
def test_images_are_decoded_beside_stages_only_with_a_gpu(tmp_path, monkeypatch, device, started):
    now: list[int] = []
    seen: list[int] = []

    @contextmanager
    def decoding(data: str | None, logs: Path) -> Iterator[None]:
        assert data == "images:here"
        now.append(1)
        yield
        now.clear()

    def stand_in(stage: Stage, *_: Any) -> list[Check]:
        seen.append(len(now))
        return [Check(stage.name, "device", device)]

    monkeypatch.setattr(runner, "run_stage", stand_in)
    monkeypatch.setattr(runner, "_decoding", decoding)
    chosen = [stage for stage in STAGES if stage.name in ("machine", "capture", "record")]
    run_stages(chosen, tmp_path, "images:here")
    # Without a GPU the last stage, rows, does not start.
    assert seen == ([0, 1, 1] if started else [0, 0])
    assert not now


# Stages


def test_unusable_gpu_is_a_failure(setting, recorder, tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho something\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    check_machine(setting, recorder)
    device = checks_of(recorder)[-1]
    assert device.outcome is Outcome.FAILED
    assert "update the driver" in device.detail


def test_reuse_stage_trains_without_a_gpu(setting, recorder, monkeypatch):
    monkeypatch.setattr(reuse, "TRAININGS", 4)
    reuse.check_reuse(setting, recorder)
    trained, *others = checks_of(recorder)
    assert trained.outcome is Outcome.PASSED, trained.detail
    assert len(trained.figures["host"]) == 4
    assert {(check.outcome, check.detail) for check in others} == {(Outcome.NOT_MEASURED, "no GPU")}


def test_every_operation_with_a_layer_has_an_example():
    kinds = {type(operation) for operation, _ in examples()}
    assert kinds == set(known.OPERATIONS.values()) - {known.Input, known.Generic}
    assert kinds == {kind for kind in build_layer.registry if kind is not object}


@pytest.mark.parametrize("field", ["norm", "function", "interpolation", "fill", "mode"])
def test_every_mode_of_an_operation_has_an_example(field):
    found: dict[type, set[str]] = {}
    for operation, _ in examples():
        if field in {each.name for each in dataclasses.fields(operation)}:
            found.setdefault(type(operation), set()).add(getattr(operation, field))
    assert found
    assert found == {operation: set(operation.names[field]) for operation in found}


def test_operation_with_a_nan_gradient_is_named(setting, recorder, monkeypatch):
    wrong = (known.Activation("sqrt"), ((1, 2, 2),))
    monkeypatch.setattr(operations, "examples", lambda: iter([wrong]))
    monkeypatch.setattr(torch, "rand", lambda size, **_: torch.full(size, -0.5))
    operations.check_operations(setting, recorder)
    check = checks_of(recorder)[0]
    assert check.outcome is Outcome.FAILED
    assert "sqrt" in check.detail
    assert "not finite" in check.detail


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("training/test_loop.py", None),
        ("training/test_cuda_graphs.py", None),
        ("test_trial.py", "needs ray"),
        ("test_finalist.py", None),
        ("training/test_bucket_checkpoints.py", "needs tests.s3"),
        ("images/splitting/test_splits.py", "uses no device"),
    ],
)
def test_test_files_run_if_all_their_imports_exist(name, reason):
    assert lacks(ROOT / "tests" / "trainables" / name) == reason


def test_each_test_file_of_a_report_is_a_check(tmp_path):
    report = tmp_path / "tests.xml"
    report.write_text(
        "<testsuites><testsuite>"
        '<testcase classname="tests.trainables.test_a" name="one" time="1.5"/>'
        '<testcase classname="tests.trainables.test_a" name="two" time="1"><skipped/></testcase>'
        '<testcase classname="tests.trainables.test_b" name="bad"><failure/></testcase>'
        "</testsuite></testsuites>",
        encoding="utf-8",
    )
    first, second = read_report(report)
    assert (first.name, first.outcome, first.seconds) == ("test_a.py", Outcome.PASSED, 2.5)
    assert first.detail == "1 passed, 1 skipped"
    assert (second.name, second.outcome) == ("test_b.py", Outcome.FAILED)
    assert second.detail == "1 failure; bad"
