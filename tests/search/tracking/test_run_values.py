"""Params, tags and inputs of runs: numbers for charts, and where runs come from."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from search.experiment.loading import parse_experiment
from search.tracking.journal import Journal
from search.tracking.journal_events import EXPERIMENT_ID, RUN_ID, Inputs, fill_ids, has_ids
from search.tracking.journal_reader import read_all
from search.tracking.network_params import LAYERS, layer_params
from search.tracking.provenance import data_inputs, source_tags
from search.tracking.run_description import FIELDS, REPORT, describe_search
from spaces.named import named
from spaces.task import Task
from trainables.data_identity import ClassIdentity, DataIdentity

TASK = Task(channels=3, height=32, width=32, classes=10)
CLASSES = (ClassIdentity("cat", (8, 2, 0), "a"), ClassIdentity("dog", (7, 2, 0), "b"))
DATA = DataIdentity(CLASSES, ("1a", "2b", "3c"), (8, 8, 1), "")


@pytest.mark.parametrize("name", ["vgg11", "resnet18", "resnet50"])
def test_networks_of_any_depth_have_the_same_numbers(name: str) -> None:
    found = layer_params(named(name, TASK))
    assert [*found] == [*layer_params(named("vgg16", TASK))]
    assert all(isinstance(value, int) for value in found.values())


def test_layers_that_a_network_lacks_have_no_features() -> None:
    found = layer_params(named("vgg11", TASK))
    layers = [found[f"features_{number:02}"] for number in range(1, LAYERS + 1)]
    assert layers == [64, 128, 256, 256, 512, 512, 512, 512, *[0] * (LAYERS - 8)]
    assert found["pools"] == 5
    assert [found[f"features_{each}"] for each in ("first", "middle", "last", "largest")] == [
        *(64, 512, 512, 512)
    ]


def test_each_split_with_images_is_an_input_with_its_digest(tmp_path: Path) -> None:
    inputs = data_inputs("s3://alice:secret@store/pets", DATA)
    assert [(each.digest, each.context) for each in inputs] == [
        ("1a", "training"),
        ("2b", "validation"),
    ]
    assert {each.name for each in inputs} == {"s3://***@store/pets"}
    assert json.loads(inputs[0].profile)["images"] == 15
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.inputs("", inputs)
    (stored,) = [each for each in read_all(journal.path) if isinstance(each, Inputs)]
    assert stored.data == inputs


def test_source_tags_hold_commit_and_command_without_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["search.py", "run", "a b.yaml", "--set", "storage=s3://me:secret@store/x"]
    )
    tags = source_tags()
    assert tags["mlflow.source.name"] == "search.py"
    assert tags["command"] == "python search.py run 'a b.yaml' --set storage=s3://***@store/x"
    assert len(tags["mlflow.source.git.commit"]) == 40


def test_description_links_views_report_and_picture_of_the_run() -> None:
    experiment = parse_experiment({"name": "mine", "data": "folder:<b>pets_1</b>"})
    text = describe_search(experiment, DATA, "mine-12", "Best: 0.9.", files=(REPORT, FIELDS))
    assert has_ids(text)
    text = fill_ids(text, "r7", "3")
    assert RUN_ID not in text
    assert EXPERIMENT_ID not in text
    assert "(#/experiments/3/runs?viewStateShareKey=borderline-parallel-mine-12&" in text
    assert "[Report](#/experiments/3/runs/r7/artifacts/report.html)" in text
    assert "(get-artifact?path=receptive_field.svg&run_uuid=r7)" in text
    assert "<b>" not in text
    early = describe_search(experiment, DATA, "mine-12")
    assert "report.html" not in early
    assert "get-artifact" not in early
