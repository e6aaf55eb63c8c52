"""The command `export`: its options, and how it replaces an earlier export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from search.reporting.exporting import ExportRequest, earlier_export, replacing
from spaces.errors import BadInputError
from trainables.export.preprocessing import Preprocessing
from trainables.specs import FinalistResult

RESULTS = [FinalistResult(3, seed, accuracy, 0.5, 1.0) for seed, accuracy in ((1, 0.7), (2, 0.8))]


def request(to: Path) -> ExportRequest:
    return ExportRequest(to, ensemble=False, seed=None, pixels="uint8", int8=True, images=10)


def described() -> Preprocessing:
    return Preprocessing(
        input="images",
        pixels="uint8",
        range=(0, 255),
        channels=1,
        size=(8, 8),
        mean=((0.5,),),
        std=((0.5,),),
        flip=False,
        background="white",
        value_range=None,
        max_megapixels=1.0,
    )


def test_seed_with_best_validation_accuracy_is_exported(tmp_path: Path) -> None:
    asked = request(tmp_path)
    assert [result.seed for result in asked.choose(RESULTS)] == [2]
    assert [result.seed for result in replace(asked, seed=1).choose(RESULTS)] == [1]
    assert [result.seed for result in replace(asked, ensemble=True).choose(RESULTS)] == [1, 2]
    with pytest.raises(BadInputError, match="use one of 1, 2"):
        replace(asked, seed=5).choose(RESULTS)


def test_bad_options_are_refused(tmp_path: Path) -> None:
    asked = request(tmp_path / "new")
    asked.check()
    with pytest.raises(BadInputError, match="--input = int: is unknown; use uint8 or float"):
        replace(asked, pixels="int").check()
    with pytest.raises(BadInputError, match="--ensemble takes all seeds"):
        replace(asked, ensemble=True, seed=1).check()


def test_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    asked = request(tmp_path)
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(BadInputError, match="has other files; name a new folder"):
        asked.check()
    (tmp_path / "preprocess.json").write_text('{"mean": [0.5]}')
    with pytest.raises(BadInputError, match="has other files; name a new folder"):
        asked.check()
    described().write(tmp_path)
    asked.check()
    with pytest.raises(BadInputError, match="is a file; name a folder"):
        request(tmp_path / "thesis.txt").check()


def test_new_export_replaces_files_of_the_earlier_one_only(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    for name in ("model-int8.onnx", "labels.json", "mine.py"):
        (target / name).write_text("old")
    with replacing(target) as folder:
        (folder / "labels.json").write_text("new")
    assert sorted(path.name for path in target.iterdir()) == ["labels.json", "mine.py"]
    assert (target / "labels.json").read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_earlier_export_is_named_by_its_readme(tmp_path: Path) -> None:
    assert earlier_export(tmp_path / "new") == earlier_export(tmp_path) == ""
    described().write(tmp_path)
    assert earlier_export(tmp_path) == "without a README"
    (tmp_path / "README.md").write_text("# Trial 3 of quickstart\n\nSave this")
    assert earlier_export(tmp_path) == "Trial 3 of quickstart"


def test_current_folder_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, other = tmp_path / "model", tmp_path / ".model.new"
    target.mkdir()
    other.mkdir()
    monkeypatch.chdir(target)
    with replacing(Path()) as folder:
        (folder / "labels.json").write_text("new")
    assert (target / "labels.json").read_text() == "new"
    assert sorted(tmp_path.iterdir()) == [other, target]


def test_failed_export_leaves_the_earlier_one(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "labels.json").write_text("old")

    def fail() -> None:
        with replacing(target) as folder:
            (folder / "labels.json").write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (target / "labels.json").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_unwritable_target_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInputError, match="cannot be written"), replacing(tmp_path / "file/new"):
        pass
