"""The README of an exported folder: a first example, the files, and the model card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from trainables.export.checking import CheckedForm
from trainables.export.names import (
    CLASSIFIER_FILE,
    INPUT,
    INT8_FILE,
    LABELS_FILE,
    ONNX_FILE,
    OUTPUT,
    PREPROCESSING_FILE,
    PROGRAM_FILE,
    SOURCE_FILE,
    WEIGHTS_FILE,
    Pixels,
)
from trainables.export.subject import ExportSubject

_FILES = {
    SOURCE_FILE: "the network as PyTorch code, which needs torch alone; read and change it",
    CLASSIFIER_FILE: "resizing and normalisation around it",
    PROGRAM_FILE: "the model for PyTorch: `torch.export.load`",
    ONNX_FILE: "the model for ONNX Runtime and other runtimes",
    INT8_FILE: "the same with int8 convolutions and linear layers",
    WEIGHTS_FILE: "its weights",
    LABELS_FILE: "the class of each probability, in order",
    PREPROCESSING_FILE: "what the models do with images, and how files became pixels",
}


@dataclass(frozen=True)
class ModelCard:
    """The facts of an exported model, as sentences.

    Attributes:
        title: the model in words.
        data: on what it was trained.
        protocol: how it was trained and chosen.
        accuracy: what it reaches.
        costs: parameters, operations and border.
    """

    title: str
    data: tuple[str, ...]
    protocol: tuple[str, ...]
    accuracy: tuple[str, ...]
    costs: tuple[str, ...]


def readme(
    card: ModelCard, subject: ExportSubject, pixels: Pixels, forms: Sequence[CheckedForm]
) -> str:
    """Return the README of an export as Markdown.

    Args:
        card: facts of the model.
        subject: of the export.
        pixels: type of the input images.
        forms: as checked.
    """
    height, width, channels = subject.dataset.shape
    kind = "greyscale" if channels == 1 else "RGB"
    black_to_white = "uint8 in 0..255" if pixels == "uint8" else "float32 in 0..1"
    written = {form.name for form in forms}
    optional = {ONNX_FILE, INT8_FILE} - written
    names = [name for name in _FILES if name not in optional]
    sections = [
        f"# {card.title}",
        "Save this as `predict.py` in this folder, and run it from any folder: "
        "`python FOLDER/predict.py photo.jpg`. It needs torch, numpy and pillow.",
        _code(_torch_example(channels, pixels)),
        f"The input is `{INPUT}`, {kind} images `[n, {channels}, height, width]`, {black_to_white}."
        f" The model brings images to {height}x{width} pixels and normalises; batch, height and "
        f"width are free. {_resizing(subject)} The output is the probability of each class.",
        "The examples ignore transparency and expect 8 bits per channel. "
        f"{_files_of_data(subject)}",
    ]
    if ONNX_FILE in written:
        sections += [
            "The same without PyTorch (needs onnxruntime, numpy and pillow):",
            _code(_onnx_example(channels, pixels)),
        ]
    sections += [
        "From the source (needs torch, safetensors, numpy and pillow); the model takes uint8 in "
        "0..255 and float in 0..1:",
        _code(_source_example(channels)),
        "## Files",
        "\n".join(f"- `{name}`: {_FILES[name]}." for name in names),
        "## Model card",
    ]
    for heading, lines in (
        ("Data", card.data),
        ("Protocol", card.protocol),
        ("Accuracy", card.accuracy),
        ("Costs", card.costs),
    ):
        sections += [f"### {heading}", "\n".join(f"- {line}" for line in lines)]
    sections += ["### Measured", _measured(forms, len(subject.rows))]
    return "\n\n".join(sections) + "\n"


def _resizing(subject: ExportSubject) -> str:
    """Return what the model does with images of other proportions."""
    match subject.decoding.fit:
        case "pad":
            colour = subject.decoding.background
            return f"It resizes the longer side and fills the rest with {colour}."
        case "squash":
            return "It resizes both sides, whatever the proportions."
    return "It resizes the shorter side and crops the centre."


def _files_of_data(subject: ExportSubject) -> str:
    """Return how the search read files that the examples do not read."""
    known = subject.decoding.value_range or subject.dataset.value_range
    deep = (
        ", and mapped {:g} to black and {:g} to white in 16-bit and 32-bit images".format(*known)
        if known
        else ""
    )
    return f"The search put transparent pixels on {subject.decoding.background}{deep}."


def _measured(forms: Sequence[CheckedForm], images: int) -> str:
    rows = [
        f"| `{form.name}` | {form.bytes / 1e3:,.0f} kB | {form.difference:.1e} | "
        f"{form.other_answers} | {form.accuracy:.4f} | {form.latency_ms:.3f} |"
        for form in forms
    ]
    head = (
        "| file | size | largest difference | other answers | accuracy | ms per image |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |"
    )
    threads = torch.get_num_threads()
    return (
        "\n".join([head, *rows])
        + f"\n\nEach file was run on {images:,} test images. The difference is that of a "
        "probability from the network of the search. One image at a time, on the CPU with "
        f"{threads} thread{'' if threads == 1 else 's'}: the median of several runs on the machine "
        "of the export. Other programs that ran at the time make all times longer, so compare "
        "them within this table, and measure on your own machine."
    )


def _code(text: str) -> str:
    return f"```python\n{text}```"


def _reading(channels: int) -> tuple[str, str]:
    """Return the mode of Pillow, and how an array becomes ``[1, channels, height, width]``."""
    return ("L", "[None, None]") if channels == 1 else ("RGB", ".transpose(2, 0, 1)[None]")


def _torch_example(channels: int, pixels: Pixels) -> str:
    loaded = f'model = torch.export.load(here / "{PROGRAM_FILE}").module()\n'
    return _pytorch(loaded, "", channels, pixels)


def _source_example(channels: int) -> str:
    imported = "from classifier import load\nfrom model import Network\n"
    return _pytorch("model = load(Network)\n", imported, channels, "uint8")


def _pytorch(loaded: str, imported: str, channels: int, pixels: Pixels) -> str:
    mode, axes = _reading(channels)
    scaled = "" if pixels == "uint8" else " / 255"
    return (
        "import json, sys\n"
        "from pathlib import Path\n"
        "import numpy as np, torch\n"
        f"from PIL import Image, ImageOps\n{imported}\n"
        "here = Path(__file__).parent\n"
        f"{loaded}"
        'labels = json.loads((here / "labels.json").read_text(encoding="utf-8"))\n'
        f'image = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("{mode}")\n'
        f"pixels = torch.from_numpy(np.array(image){axes}){scaled}\n"
        "probabilities = model(pixels)[0].tolist()\n"
        "for probability, label in sorted(zip(probabilities, labels), reverse=True)[:3]:\n"
        '    print(f"{label}: {probability:.4f}")\n'
    )


def _onnx_example(channels: int, pixels: Pixels) -> str:
    mode, axes = _reading(channels)
    scaled = "" if pixels == "uint8" else ".astype(np.float32) / 255"
    return (
        "import json, sys\n"
        "from pathlib import Path\n"
        "import numpy as np, onnxruntime\n"
        "from PIL import Image, ImageOps\n\n"
        "here = Path(__file__).parent\n"
        f'model = onnxruntime.InferenceSession(here / "{ONNX_FILE}")\n'
        'labels = json.loads((here / "labels.json").read_text(encoding="utf-8"))\n'
        f'image = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("{mode}")\n'
        f"pixels = np.array(image){axes}{scaled}\n"
        f'probabilities = model.run(["{OUTPUT}"], {{"{INPUT}": pixels}})[0][0].tolist()\n'
        "for probability, label in sorted(zip(probabilities, labels), reverse=True)[:3]:\n"
        '    print(f"{label}: {probability:.4f}")\n'
    )
