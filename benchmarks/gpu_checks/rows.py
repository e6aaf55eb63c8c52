"""The rows of ``benchmarks/training.py``: each group is a stage, and each row a check."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable

import training
from harness import Figure, Table, Values

from gpu_checks.records import NO_GPU, Check, Outcome, Recorder
from gpu_checks.subjects import Setting
from trainables.training.device import select_device


def memory(setting: Setting, recorder: Recorder) -> None:
    """Compare predicted with measured memory; also fast without a GPU."""
    _measure(setting, recorder, "memory")


def record(setting: Setting, recorder: Recorder) -> None:
    """Compare with a script of the CIFAR-10 speed record."""
    _measure_on_gpu(setting, recorder, "record")


def accuracy(setting: Setting, recorder: Recorder) -> None:
    """Train for sixty seconds."""
    _measure_on_gpu(setting, recorder, "accuracy")


def first_step(setting: Setting, recorder: Recorder) -> None:
    """Time the first steps of new networks; also fast without a GPU."""
    _measure(setting, recorder, "first_step")


def speed(setting: Setting, recorder: Recorder) -> None:
    """Compare with the loop of a practitioner, and with the bare step."""
    _measure_on_gpu(setting, recorder, "speed")


def utilisation(setting: Setting, recorder: Recorder) -> None:
    """Compare a large network with a matrix product."""
    _measure_on_gpu(setting, recorder, "utilisation")


def sharing(setting: Setting, recorder: Recorder) -> None:
    """Compare trainings that share the GPU with one alone."""
    _measure_on_gpu(setting, recorder, "sharing")


def cudnn(setting: Setting, recorder: Recorder) -> None:
    """Let cuDNN time its kernels."""
    _measure_on_gpu(setting, recorder, "cudnn")


def roofline(setting: Setting, recorder: Recorder) -> None:
    """Compare each kind of layer with the ceilings of the device."""
    _measure_on_gpu(setting, recorder, "roofline")


def compiled(setting: Setting, recorder: Recorder) -> None:
    """Train a compiled network."""
    _measure_on_gpu(setting, recorder, "compile")


class RecordedTable(Table):
    """Records each row as a check instead of printing a table.

    Args:
        recorder: recorder of the checks.
        group: name of the group of rows.
    """

    def __init__(self, recorder: Recorder, group: str) -> None:
        super().__init__()
        self._recorder = recorder
        self._group = group
        self._last = time.perf_counter()

    def measure(self, figure: str, target: str, unit: str, work: Callable[[], Values]) -> None:
        """Record the row; if the process dies, the file names the row."""
        self._recorder.begin(figure)
        super().measure(figure, target, unit, work)

    def add(self, figure: Figure) -> None:
        """Record one row."""
        now = time.perf_counter()
        self.figures.append(figure)
        self._recorder.add(_as_check(self._group, figure, round(now - self._last, 2)))
        self._last = now


def _measure_on_gpu(setting: Setting, recorder: Recorder, group: str) -> None:
    if setting.on_gpu:
        _measure(setting, recorder, group)
    else:
        recorder.lack([f"the rows of {group}"], NO_GPU)


def _measure(setting: Setting, recorder: Recorder, group: str) -> None:
    given = argparse.Namespace(quick=True, data=setting.data or training.DEFAULT_DATA)
    training.measure_rows([group], RecordedTable(recorder, group), given, select_device())


def _as_check(group: str, row: Figure, seconds: float) -> Check:
    figures = {"row": row.as_json()}
    if row.error is not None or row.ours is None or row.baseline is None or row.ratio is None:
        return Check(group, row.figure, Outcome.FAILED, row.error or "", figures, seconds)
    values = f"{row.ours:.4g} against {row.baseline:.4g} {row.unit}"
    detail = f"{values}, ratio {row.ratio:.3g}, target: {row.target}"
    least = re.fullmatch(r"ratio (?:>= )?([\d.]+)", row.target)
    missed = least is not None and row.ratio < float(least[1])
    outcome = Outcome.MISSED if missed else Outcome.PASSED
    return Check(group, row.figure, outcome, detail, figures, seconds)
