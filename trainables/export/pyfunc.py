"""Writes the code of a network for MLflow's pyfunc flavour; it needs no Borderline."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

from spaces.architecture import Architecture
from spaces.source.module import module_source, state_dict_names
from trainables.data import Dataset
from trainables.export.names import (
    CLASSIFIER_FILE,
    IMAGE,
    LABEL,
    PROBABILITIES,
    PROBABILITY,
    SOURCE_FILE,
    WEIGHTS,
)
from trainables.export.preprocessing import Preprocessing
from trainables.images.pixels import FORMATS

_PACKAGES = ("numpy", "pandas", "pillow", "torch")

# Torch is imported late: MLflow runs the code whenever it saves the model.
_PREDICTOR = f'''\
import io
import runpy

import mlflow
import numpy as np
import pandas as pd


class Predictor(mlflow.pyfunc.PythonModel):
    """Content of image files to labels and probabilities."""

    def load_context(self, context):
        import torch

        paths = context.artifacts
        state = torch.load(paths["{WEIGHTS}"], "cpu", weights_only=True)
        network = runpy.run_path(paths["{SOURCE_FILE}"])["Network"]()
        network.load_state_dict({{name: state[stored] for stored, name in NAMES.items()}})
        classifier = runpy.run_path(paths["{CLASSIFIER_FILE}"])["Classifier"]
        size, mean, std = PREPROCESSING["size"], PREPROCESSING["mean"], PREPROCESSING["std"]
        flip, mode, fill = (PREPROCESSING[name] for name in ("flip", "fit", "fill"))
        self.classifier = classifier([network], size, mean, std, flip, mode, fill).eval()

    def predict(self, context, model_input: pd.DataFrame, params=None):
        import torch

        rows = []
        with torch.inference_mode():
            for content in model_input["{IMAGE}"]:
                pixels = torch.from_numpy(read(content))
                probabilities = self.classifier(pixels)[0].tolist()
                best = max(range(len(LABELS)), key=probabilities.__getitem__)
                rows.append((LABELS[best], probabilities[best], probabilities))
        return pd.DataFrame(rows, columns=["{LABEL}", "{PROBABILITY}", "{PROBABILITIES}"])


def read(content):
    """Return the content of an image file as uint8 [1, channels, height, width]."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content), formats=FORMATS))
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        if PREPROCESSING["value_range"] is None:
            raise ValueError("16 or 32 bits per pixel, and the range of such values is unknown")
        low, high = PREPROCESSING["value_range"]
        values = (np.asarray(image, dtype=np.float64) - low) * (255 / (high - low or 1))
        image = Image.fromarray(np.rint(values.clip(0, 255)).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        behind = Image.new("RGBA", image.size, PREPROCESSING["background"])
        image = Image.alpha_composite(behind, image)
    pixels = np.array(image.convert("L" if PREPROCESSING["channels"] == 1 else "RGB"))
    return np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1)[None])


mlflow.models.set_model(Predictor())
'''


def predictor_source(
    architecture: Architecture, classes: Sequence[str], preprocessing: Preprocessing
) -> str:
    """Return the source of the predictor: "models from code" in MLflow's terms.

    Args:
        architecture: of the network.
        classes: names of the classes.
        preprocessing: of its images, with the statistics of one network.
    """
    constants = {
        "LABELS": json.dumps(list(classes), ensure_ascii=False),
        "PREPROCESSING": repr(preprocessing.model_dump(mode="json")),
        "FORMATS": repr(FORMATS),
        "NAMES": repr(state_dict_names(architecture)),
    }
    lines = [f"{name} = {value}" for name, value in constants.items()]
    return "\n".join([*lines, "", _PREDICTOR])


def network_sources(architecture: Architecture, title: str) -> dict[str, str]:
    """Return the files that the predictor runs, by name.

    Args:
        architecture: of the network.
        title: the network in words.
    """
    classifier = Path(__file__).with_name(CLASSIFIER_FILE).read_text(encoding="utf-8")
    return {
        SOURCE_FILE: module_source(architecture, title=title),
        CLASSIFIER_FILE: classifier,
    }


def requirements() -> list[str]:
    """Return the packages that the code imports, with the versions installed here."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in _PACKAGES]


def example_image(dataset: Dataset) -> bytes:
    """Return a PNG of the mean colour of the data, which shows the format but none of the data."""
    height, width, channels = dataset.shape
    colour = np.rint(255 * np.array(dataset.mean)).astype(np.uint8)
    pixels = np.empty((height, width, channels), dtype=np.uint8)
    pixels[:] = colour
    content = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels).save(content, "PNG")
    return content.getvalue()
