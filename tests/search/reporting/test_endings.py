"""How the ends of trials are shown and recorded in the journal."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.samplers import RandomSampler

from search.experiment.loading import parse_experiment
from search.experiment.objectives import Objective
from search.loop.trials import Trials
from search.reporting.progress import ProgressDisplay
from search.study.study import Study
from search.study.summary import summarise
from search.tracking.journal import Journal
from search.tracking.journal_events import (
    PARENT,
    Finish,
    Metrics,
    Start,
    Update,
)
from search.tracking.journal_reader import read
from search.tracking.journal_recorder import JournalRecorder
from spaces.candidate import CandidateSpace
from trainables.epoch_metrics import EpochMetrics

OBJECTIVES: tuple[Objective, ...] = ("accuracy", "params", "latency")


@pytest.fixture
def events(
    make_trials: Callable[..., Trials],
    eight_candidates: CandidateSpace,
    metrics: Callable[..., EpochMetrics],
    tmp_path: Path,
    printed: Callable[..., str],
) -> tuple[list[Any], str]:
    """Return journal and output of three trials that end in different ways."""
    journal = Journal(tmp_path / "journal.jsonl")
    study = Study("ends", RandomSampler(seed=0), objectives=OBJECTIVES)
    experiment = parse_experiment({"name": "ends", "objectives": list(OBJECTIVES)})
    recorder = JournalRecorder(journal, experiment, lambda: summarise(study.trials()))

    def search(console: Any) -> None:
        progress = ProgressDisplay(console, 3, 3)
        trials = make_trials(
            eight_candidates, study=study, limit=3, epochs=3, observers=[recorder, progress]
        )
        recorder.begin()
        endings = [
            {"cause": "out of memory: 3 GB", "violation": 0.5},
            {"stopped": "no better than a guess"},
            {},
        ]
        for ending in endings:
            started = None
            while started is None:
                started = trials.next()
            if "cause" not in ending:
                trials.report(started.number, metrics(0.2).with_latencies({"latency_ms": 1.25}))
            trials.finish(started.number, **ending)
        recorder.end("FINISHED")

    text = printed(search)
    return read(journal.path)[0], text


def test_progress_shows_how_and_why_each_trial_ended(events: tuple[list[Any], str]) -> None:
    first, second, third = events[1].splitlines()
    assert re.search(r" FAILED: out of memory: 3 GB +\|", first)
    assert re.search(r" 1\.25 ms +stopped early: no better than a guess \|", second)
    assert re.search(r" 1\.25 ms +stopped early +\|", third)
    assert " ms" not in first


def test_run_of_trial_has_reason_status_and_latency(
    events: tuple[list[Any], str],
) -> None:
    found = [event for event in events[0] if getattr(event, "run", PARENT) != PARENT]
    runs = [event.run for event in found if isinstance(event, Start)]
    tags = [event.tags for event in found if isinstance(event, Update)]
    assert tags == [
        {"verdict": "fail", "cause": "out of memory: 3 GB"},
        {"verdict": "pruned", "stopped": "no better than a guess"},
        {"verdict": "pruned"},
    ]
    ends = {event.run: event.status for event in found if isinstance(event, Finish)}
    assert [ends[run] for run in runs] == ["FAILED", "FINISHED", "FINISHED"]
    epochs = [event.metrics for event in found if isinstance(event, Metrics)]
    assert [epoch["latency_ms"] for epoch in epochs] == [1.25, 1.25]


def test_run_of_search_has_objectives_and_front_size(
    events: tuple[list[Any], str],
) -> None:
    parent = [event for event in events[0] if getattr(event, "run", None) == PARENT]
    (start,) = (event for event in parent if isinstance(event, Start))
    assert start.params["objectives"] == "accuracy, params, latency"
    totals = [event.metrics for event in parent if isinstance(event, Metrics)][-1]
    assert totals["pareto_front"] == 1
    assert (totals["trials_pruned"], totals["trials_failed"]) == (2, 1)
