"""Retraining finalists: what a resumed search says about finished ones."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from search.driver.finalist_phase import _FinalistPhase
from search.driver.session import SearchSession
from search.experiment.folder import Home
from search.experiment.loading import parse_experiment
from search.loop.time_left.observer import SearchClock
from search.loop.time_left.plan import Plan
from search.study.finalists import FinalistStore
from search.study.records import TrialRecord
from trainables.specs import FinalistResult


@pytest.mark.parametrize(
    ("probes", "said"),
    [
        (["field"], ["not probed: trials 3, 5, trained before probes were set; to probe one, "]),
        ([], []),
    ],
)
def test_finalists_that_finished_without_probes_are_named(
    probes: list[str], said: list[str], tmp_path: Path
) -> None:
    experiment = parse_experiment({"name": "x", "seed": 0, "probes": probes})
    folder = Home(tmp_path).folder("x")
    for number in (3, 5):
        result = FinalistResult(number, 1, 0.9 - number / 100, 0.8, 1.0)
        FinalistStore(folder.finalists).write(result, b"", np.zeros(2, dtype=np.int32))
    lines: list[str] = []
    search = SimpleNamespace(
        experiment=experiment,
        folder=folder,
        say=lines.append,
        home=Home(tmp_path),
        clock=SearchClock(Plan.of(experiment, 1)),
    )
    chosen: Any = [SimpleNamespace(number=number) for number in (3, 5)]
    phase = _FinalistPhase(cast("SearchSession", search), cast("list[TrialRecord]", chosen))
    phase.name_unprobed()
    assert [line[: len(text)] for line, text in zip(lines, said, strict=True)] == said
    command = f"probe x:3 --home {tmp_path}"
    assert all("run after the search: " in line and line.endswith(command) for line in lines)
