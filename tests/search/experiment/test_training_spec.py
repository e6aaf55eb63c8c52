"""The images of an experiment, and the batch size that fits them."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from search.experiment import training_spec
from search.experiment.schema import Experiment
from spaces.errors import BadInputError
from trainables.data import Dataset


def test_each_note_on_the_images_is_printed_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.arange(2)
    pixels = np.zeros((2, 1, 1, 1), dtype=np.uint8)
    notes = ("classes: [b]cat[/b] " + "x" * 200, "2 files are not images")
    dataset = Dataset(pixels, rows, ("a", "b"), rows, rows, rows, notes=notes)
    monkeypatch.setattr(training_spec, "load", lambda spec, progress: dataset)
    printed = io.StringIO()
    training_spec.load_images(Experiment(name="pets"), Console(file=printed, width=80))
    assert printed.getvalue().splitlines() == [f"data: {note}" for note in notes]
    quiet = io.StringIO()
    training_spec.load_images(Experiment(name="pets"), Console(file=quiet), notes=False)
    assert quiet.getvalue() == ""


def test_paths_of_the_images_are_absolute_for_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fields = {"validation_list": "list.txt", "table": {"root": "images"}}
    data = training_spec.describe_data(
        Experiment.model_validate({"data": "csv:labels.csv", **fields})
    )
    assert data.source == f"csv:{tmp_path / 'labels.csv'}"
    assert data.validation_list == str(tmp_path / "list.txt")
    assert data.table.root == str(tmp_path / "images")
    for source in ("digits", "images:s3://bucket/prefix/", "my_module:dataset"):
        assert training_spec.describe_data(Experiment(data=source)).source == source


@pytest.mark.skipif(os.name == "nt", reason="Windows has these paths")
@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"data": r"images:C:\photos"}, "data"),
        ({"data": "csv:a.csv", "table": {"root": r"D:\photos"}}, "table.root"),
        ({"data": "csv:a.csv", "table": {"root": r"\\server\photos"}}, "table.root"),
    ],
)
def test_absolute_path_of_windows_is_refused(fields: dict[str, object], field: str) -> None:
    experiment = Experiment.model_validate({"name": "pets", **fields})
    with pytest.raises(BadInputError) as raised:
        training_spec.describe_data(experiment)
    assert raised.value.field == field
    assert raised.value.problem == "it is a path of Windows, which this system does not have"
