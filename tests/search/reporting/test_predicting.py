"""The command `predict`: its output in all formats, and what it skips."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from search.cli import main
from search.reporting.predicting import (
    Prediction,
    Predictions,
    Predictor,
    find_files,
    is_exported,
    open_exported,
    predict_files,
    show_predictions,
)
from spaces.errors import BadInputError
from trainables.export.preprocessing import Preprocessing


def brightness(images: NDArray[Any]) -> NDArray[np.float32]:
    """Return the brightness as probability of the second of two classes."""
    assert images.dtype == np.uint8
    light = images.mean((1, 2, 3)) / 255
    return np.stack([1 - light, light], 1).astype(np.float32)


def predictor(pixels: str = "uint8") -> Predictor:
    described = Preprocessing.model_validate(
        {
            "input": "images",
            "pixels": pixels,
            "range": (0, 255),
            "channels": 1,
            "size": (2, 2),
            "mean": [[0.5]],
            "std": [[0.5]],
            "flip": False,
            "background": "white",
            "value_range": None,
            "max_megapixels": 1.0,
        }
    )
    return Predictor(("dark", "[bold]"), described, brightness)


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Return a dark image, a text and a light image."""
    paths = [tmp_path / f"{name}.png" for name in ("dark", "text", "light")]
    Image.new("L", (2, 2), 51).save(paths[0])
    paths[1].write_text("no image")
    Image.new("L", (4, 2), 255).save(paths[2])
    return paths


def test_unreadable_files_are_named_and_skipped(
    photos: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    found = predict_files(predictor(), photos, Console(file=io.StringIO()))
    assert [(each.file, each.label) for each in found.found] == [
        (str(photos[0]), "dark"),
        (str(photos[2]), "[bold]"),
    ]
    assert found.unreadable == {str(photos[1]): "not in a known image format"}
    assert f"{photos[1]} is skipped: not in a known image format" in capsys.readouterr().err


def test_every_format_holds_the_same_answers(
    photos: list[Path], printed: Callable[..., str]
) -> None:
    found = predict_files(predictor(), photos, Console(file=io.StringIO()))
    document = json.loads(json.dumps(found.as_document()))
    assert document["images"][0] == {
        "file": str(photos[0]),
        "label": "dark",
        "probabilities": pytest.approx({"dark": 0.8, "[bold]": 0.2}),
    }
    assert document["unreadable"] == [
        {"file": str(photos[1]), "cause": "not in a known image format"}
    ]
    rows = list(csv.DictReader(io.StringIO(found.as_csv())))
    assert [(row["file"], row["label"]) for row in rows] == [
        (str(photos[0]), "dark"),
        (str(photos[2]), "[bold]"),
    ]
    assert [float(rows[0][name]) for name in ("probability", "dark", "[bold]")] == pytest.approx(
        [0.8, 0.8, 0.2]
    )
    table = printed(lambda console: show_predictions(found, 2, console))
    assert "0.8000" in table
    assert "[bold]" in table
    assert "0.2000" in table
    assert "0.2000" not in printed(lambda console: show_predictions(found, 1, console))


def test_csv_escapes_bytes_of_names_that_are_no_text() -> None:
    found = Predictions(("a",), [Prediction("b\udcff.png", {"a": 1.0})], {})
    assert found.as_csv().encode("utf-8").splitlines()[1] == rb"b\udcff.png,a,1.0,1.0"


def test_models_for_floats_get_images_in_0_to_1(photos: list[Path]) -> None:
    taken: list[NDArray[Any]] = []

    def run(images: NDArray[Any]) -> NDArray[np.float32]:
        taken.append(images)
        return np.full((len(images), 2), 0.5, dtype=np.float32)

    floats = Predictor(("a", "b"), predictor("float").preprocessing, run)
    predict_files(floats, [photos[2]], Console(file=io.StringIO()))
    assert taken[0].dtype == np.float32
    assert taken[0].max() == 1


def test_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="has no images; name images, or a folder with images"):
        find_files([tmp_path])


def test_damaged_export_is_one_line(tmp_path: Path) -> None:
    predictor().preprocessing.write(tmp_path)
    (tmp_path / "labels.json").write_text('["a", "b"]')
    (tmp_path / "model.pt2").write_text("no program")
    assert is_exported(str(tmp_path))
    with pytest.raises(BadInputError, match=r"cannot be read \(.*\); export the network again"):
        open_exported(tmp_path)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ('["dark"]', "names 1 classes, the model 2; name each class once"),
        ('["dark", "dark"]', "names 1 classes, the model 2"),
        ('["dark", 3]', "is no list of texts; write the name of each class in quotes"),
        ('{"dark": 0}', "is no list of texts"),
    ],
)
def test_edited_labels_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labels: str, says: str
) -> None:
    monkeypatch.setattr("trainables.export.forms.run_program", lambda _: brightness)
    predictor().preprocessing.write(tmp_path)
    (tmp_path / "labels.json").write_text(labels)
    with pytest.raises(BadInputError, match=says):
        open_exported(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.png"], "PATH = missing.png: does not exist"),
        (["--csv", "--json", "missing.png"], "--csv = --json: are two formats"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "nothing", *arguments]) == 2
    assert message in capsys.readouterr().err
