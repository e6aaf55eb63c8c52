"""Exported files: equal answers in every form, and use without Borderline."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spaces.architecture import Builder
from spaces.errors import BadInputError
from spaces.operations import Activation, Convolution, GlobalPooling, Linear, Norm, Pooling
from trainables.builder import Network
from trainables.data import Dataset
from trainables.export.checking import DifferentAnswersError, check_forms
from trainables.export.folder import FormChoice, WrittenForms, write_folder
from trainables.export.forms import Form, run_onnx, run_program
from trainables.export.names import FILES
from trainables.export.preprocessing import Preprocessing
from trainables.export.readme import ModelCard, readme
from trainables.export.subject import ExportSubject, Member
from trainables.images.pixels import read_pixels
from trainables.specs import Decoding, Fit

CARD = ModelCard("Trial 1", ("data",), ("protocol",), ("accuracy",), ("costs",))
WITHOUT_BORDERLINE = (
    "import sys; sys.modules.update(dict.fromkeys(['search', 'trainables', 'spaces', 'cluster']))\n"
)


def make_subject(count: int = 1, fit: Fit = "crop") -> ExportSubject:
    """Return networks with random weights for 12x8 colour images of three classes."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (24, 12, 8, 3), dtype=np.uint8)
    rows = np.arange(24)
    dataset = Dataset(
        images, rows % 3, ("ape", "bär", "cat"), rows[:12], rows[12:16], rows[16:], None
    )
    builder = Builder((3, 12, 8))
    x = builder.add(Convolution(6, (3, 3), padding=(1, 1)), builder.image)
    x = builder.add(Activation(), builder.add(Norm(), x))
    x = builder.add(GlobalPooling(), builder.add(Pooling(), x))
    builder.add(Linear(3), x)
    architecture = builder.build()
    torch.manual_seed(0)
    members = [Member(Network(architecture), dataset, seed) for seed in range(count)]
    for member in members:
        # Far from uniform probabilities, so that differences show.
        torch.nn.init.normal_(list(member.module.parameters())[-2], std=3.0)
    decoding = Decoding(fit=fit, background="red")
    return ExportSubject(architecture, tuple(members), False, decoding, 100)


@dataclass(frozen=True)
class Exported:
    """An export in a folder."""

    subject: ExportSubject
    folder: Path
    written: WrittenForms


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Return an ensemble of two networks in all forms."""
    folder = tmp_path_factory.mktemp("exported")
    subject = make_subject(2, "pad")
    return Exported(
        subject,
        folder,
        write_folder(subject, folder, FormChoice(int8=True), "Trial 1", lambda _: CARD),
    )


def test_all_files_are_written(exported: Exported) -> None:
    assert {path.name for path in exported.folder.iterdir()} == set(FILES)
    assert exported.written.left_out == []
    assert json.loads((exported.folder / "labels.json").read_text("utf-8")) == ["ape", "bär", "cat"]


def test_every_form_answers_as_the_networks(exported: Exported) -> None:
    *exact, int8 = exported.written.checked
    assert all(form.difference < 1e-5 and not form.other_answers for form in exact)
    assert 1e-5 < int8.difference < 0.2
    assert all(form.latency_ms > 0 for form in exported.written.checked)
    weights = (exported.folder / "model.safetensors").stat().st_size
    assert all(form.bytes > weights for form in exact)


@pytest.mark.parametrize("run", [run_program, run_onnx])
def test_forms_pad_any_size_and_batch(exported: Exported, run: Callable[[Path], object]) -> None:
    name = "model.pt2" if run is run_program else "model.onnx"
    model = run(exported.folder / name)
    assert callable(model)
    images = np.random.default_rng(1).integers(0, 256, (1, 3, 31, 47), dtype=np.uint8)
    rules = Preprocessing.read(exported.folder).rules
    pixels, _ = read_pixels(np.ascontiguousarray(images[0].transpose(1, 2, 0)), (8, 12), rules)
    fitted = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
    assert np.abs(model(images) - model(fitted)).max() < 0.02
    assert model(fitted.repeat(5, 0)).shape == (5, 3)


def test_readme_examples_run_without_borderline(exported: Exported, tmp_path: Path) -> None:
    readme = (exported.folder / "README.md").read_text("utf-8")
    examples = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(examples) == 3
    image = exported.subject.dataset.images[16]
    photo = tmp_path / "photo.png"
    Image.fromarray(image).save(photo)
    expected = exported.subject.expected()[0]
    ranked = sorted(zip(expected.tolist(), ("ape", "bär", "cat"), strict=True), reverse=True)
    program = exported.folder / "predict.py"
    program.write_text("\n".join([WITHOUT_BORDERLINE, *examples]), encoding="utf-8")
    try:
        # From another folder than that of the export.
        result = subprocess.run(
            [sys.executable, "-X", "utf8", program, photo],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        program.unlink()
    assert result.stderr == ""
    assert result.stdout.splitlines() == 3 * [f"{label}: {p:.4f}" for p, label in ranked]


@pytest.mark.parametrize(
    ("fit", "sentence"),
    [
        ("crop", "It resizes the shorter side and crops the centre."),
        ("pad", "It resizes the longer side and fills the rest with red."),
        ("squash", "It resizes both sides, whatever the proportions."),
    ],
)
def test_readme_says_how_the_model_resizes(fit: Fit, sentence: str) -> None:
    text = readme(CARD, make_subject(1, fit), "uint8", [])
    assert sentence in text
    assert "The search put transparent pixels on red." in text


def test_left_out_onnx_leaves_out_int8_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no such operation")

    monkeypatch.setattr("trainables.export.folder.write_onnx", fail)
    monkeypatch.setattr("trainables.export.folder.check_forms", lambda *_: [])
    choice = FormChoice(int8=True)
    written = write_folder(make_subject(), tmp_path, choice, "Trial 1", lambda _: CARD)
    assert written.left_out == [
        "model.onnx is left out: the network cannot be converted (no such operation)",
        "model-int8.onnx is left out: it is made from model.onnx",
    ]


def test_form_with_other_answers_is_refused(tmp_path: Path) -> None:
    subject = make_subject()
    (tmp_path / "model.onnx").touch()
    for wrong in (0.01, np.nan):
        form = Form(
            "model.onnx", "", lambda images, by=wrong: subject.expected()[: len(images)] + by
        )
        with pytest.raises(DifferentAnswersError, match="differs from the network by"):
            check_forms([form], subject, tmp_path, "uint8", lambda _: None)


def test_damaged_description_is_refused(tmp_path: Path) -> None:
    (tmp_path / "preprocess.json").write_text("{}")
    with pytest.raises(BadInputError, match=r"its preprocess\.json cannot be read"):
        Preprocessing.read(tmp_path)


def test_description_is_read_as_written(tmp_path: Path) -> None:
    written = make_subject().preprocessing("float")
    written.write(tmp_path)
    assert Preprocessing.read(tmp_path) == written
    assert written.range == (0, 1)
