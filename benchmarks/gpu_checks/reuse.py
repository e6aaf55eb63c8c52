"""Stage 5: the memory of a process does not grow over many trainings."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cluster.sizing import PROCESS_BYTES
from gpu_checks.exact import results
from gpu_checks.records import CheckFailedError, Finding, NotMeasuredError, Recorder, expect
from gpu_checks.subjects import EVERYTHING, Setting
from trainables.training.process import release_memory

TRAININGS = 30
SETTLED = 6
"""Trainings after which the process has loaded everything."""
GROWTH = 32 << 20
"""Maximum later growth in bytes: blocks of the allocator, pages of the driver."""


@dataclass(frozen=True)
class Memory:
    """Memory of the process between two trainings, in bytes.

    Attributes:
        reserved: GPU memory that torch's allocator reserves.
        outside: other GPU memory, of all processes.
        host: memory of the machine.
    """

    reserved: int
    outside: int
    host: int


def check_reuse(setting: Setting, recorder: Recorder) -> None:
    """Train thirty networks in this process, and measure its memory after each."""
    memory: list[Memory] = []

    def train_all() -> Finding:
        for number in range(TRAININGS):
            _train(setting, number)
            memory.append(_memory(setting))
        return Finding(figures={"host": [each.host for each in memory]})

    def flat(values: list[int]) -> Finding:
        setting.need_gpu()
        if len(values) < TRAININGS:
            raise NotMeasuredError("the trainings did not end")
        settled, most = values[SETTLED - 1], max(values[SETTLED:])
        figures = {"bytes": values, "settled": settled, "most": most}
        problem = f"{most / 1e6:.0f} MB after {settled / 1e6:.0f} MB"
        expect(most <= settled + GROWTH, problem, figures)
        return Finding(problem, figures)

    def process_bytes() -> Finding:
        setting.need_gpu()
        if not memory:
            raise NotMeasuredError("no training ended")
        if setting.used_before is None:
            raise NotMeasuredError("nvidia-smi does not tell what others use")
        taken = memory[-1].outside - setting.used_before
        figures = {"bytes": taken, "allowed": PROCESS_BYTES}
        problem = f"{taken / 1e6:.0f} MB; {PROCESS_BYTES / 1e6:.0f} MB are set aside for it"
        expect(taken <= PROCESS_BYTES, problem, figures)
        return Finding(problem, figures)

    recorder.check(f"{TRAININGS} trainings in one process", train_all)
    recorder.check("reserved memory stays flat", lambda: flat([each.reserved for each in memory]))
    recorder.check(
        "memory outside torch's allocator stays flat",
        lambda: flat([each.outside for each in memory]),
    )
    recorder.check("memory of the process outside torch's allocator", process_bytes)


def _train(setting: Setting, number: int) -> None:
    """Train a network that differs from the previous one in almost everything."""
    optimizer, rate = (("sgd", 0.02), ("adamw", 0.002))[number % 2]
    chosen = setting.candidate(
        dropout=(0.0, 0.2)[number // 2 % 2],
        optimizer=optimizer,
        learning_rate=rate,
        ema=(0.0, 0.99)[number // 4 % 2],
        batch_size=setting.batch >> number % 3,
    )
    options: dict[str, Any] = {"augmentation": EVERYTHING} if number % 5 == 0 else {}
    trained = setting.train(chosen, epochs=1, seed=number, **options)
    (result,) = results(trained)
    if result.has_diverged:
        raise CheckFailedError(f"training {number} diverged")
    if setting.on_gpu and not trained.is_captured:
        raise CheckFailedError(f"training {number} was not captured")


def _memory(setting: Setting) -> Memory:
    gc.collect()
    release_memory()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    host = pages * os.sysconf("SC_PAGE_SIZE")
    if not setting.on_gpu:
        return Memory(0, 0, host)
    free, total = torch.cuda.mem_get_info(setting.device)
    reserved = torch.cuda.memory_reserved(setting.device)
    return Memory(reserved, total - free - reserved, host)
