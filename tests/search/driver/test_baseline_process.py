"""The process that computes the baseline beside a search."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from search.driver.baseline_process import BaselineProcess
from search.experiment.folder import Home, SearchFolder
from search.experiment.loading import parse_experiment
from spaces.errors import BadInputError
from spaces.task import Task
from trainables.data import load
from trainables.specs import DataSpec, Decoding


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SearchFolder:
    monkeypatch.setenv("BORDERLINE_CACHE", str(tmp_path / "cache"))
    folder = Home(tmp_path / "home").folder("mine")
    folder.create(parse_experiment({"name": "mine"}).to_yaml(), Task(1, 8, 8, 10))
    return folder


def test_baseline_is_computed_once_for_the_same_data(folder: SearchFolder) -> None:
    data = DataSpec("digits", subset=0.3)
    data = replace(data, expected=load(data).identify(Decoding()))
    with BaselineProcess(folder, data) as first:
        assert first.is_running
        assert first.wait() == ""
    found = folder.baseline
    assert found is not None
    assert data.expected is not None
    assert found.data == data.expected.digest
    assert found.test > 0.8
    with BaselineProcess(folder, data) as second:
        assert not second.is_running
        assert second.wait() == ""


def test_failure_costs_one_line_with_its_cause(folder: SearchFolder) -> None:
    with BaselineProcess(folder, DataSpec("digit")) as process:
        line = process.wait()
    assert line.startswith("The report has no logistic regression to compare with: ")
    assert "there is no such data set" in line
    assert folder.baseline is None


def test_process_ends_with_its_search(folder: SearchFolder) -> None:
    with BaselineProcess(folder, DataSpec("digits")) as process:
        late = process.wait(0)
    assert late.endswith("it was not ready 0s after the search")
    assert not process.is_running


def test_damaged_baseline_is_refused_with_the_remedy(folder: SearchFolder) -> None:
    folder.baseline_file.write_text('{"data": ')
    with pytest.raises(BadInputError, match="remove it; a resumed search computes it again"):
        BaselineProcess(folder, DataSpec("digits")).__enter__()
