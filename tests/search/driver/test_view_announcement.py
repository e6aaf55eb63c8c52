"""The line that says where MLflow shows a running search."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from search.driver import view_announcement as module
from search.driver.view_announcement import ViewAnnouncement
from search.experiment.folder import Home
from search.experiment.loading import parse_experiment
from search.tracking.mlflow_destination import Destination, view_links
from spaces.task import Task
from trainables.epoch_metrics import EpochMetrics


@pytest.mark.parametrize(
    ("uri", "begins"),
    [
        ("https://me:secret@mlflow.example.com", "MLflow: https://***@mlflow.example.com/#/"),
        ("", "MLflow: http://127.0.0.1:5000/#/experiments/7/runs?viewStateShareKey="),
    ],
)
def test_view_is_announced_once_the_search_has_arrived(
    tmp_path: Path,
    metrics: Callable[..., EpochMetrics],
    monkeypatch: pytest.MonkeyPatch,
    uri: str,
    begins: str,
) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.0)
    home = Home(tmp_path)
    folder = home.folder("mine")
    folder.create(parse_experiment({"name": "mine"}).to_yaml(), Task(1, 8, 8, 10))
    local = Destination.from_environment(tmp_path)
    destination = Destination(uri or local.tracking_uri, tmp_path)
    lines: list[str] = []
    announcement = ViewAnnouncement(destination, folder, lines.append)
    announcement.reported(0, metrics(0.5))
    assert not lines
    assert not view_links(destination, folder)
    progress = {"store": destination.shown, "experiment_id": "7"}
    (folder.path / "tracking.json").write_text(json.dumps(progress))
    for _ in range(2):
        announcement.reported(0, metrics(0.5))
    (line,) = lines
    assert line.startswith(begins)
    assert ("to serve it" in line) is (not uri)
    assert "secret" not in line
    assert len(view_links(destination, folder)) == 3
