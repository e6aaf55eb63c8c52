"""Names of an exported folder's files, and of what its models take and return; free of torch."""

from __future__ import annotations

from typing import Literal

Pixels = Literal["uint8", "float"]
"""Type of the input images: uint8 in 0..255, or float32 in 0..1."""

INPUT, OUTPUT = "images", "probabilities"

IMAGE, LABEL, PROBABILITY, PROBABILITIES = "image", "label", "probability", "probabilities"
"""Columns of the input (content of an image file) and of the output of a model of MLflow."""
WEIGHTS = "weights"
"""Artifact of such a model: the ``state_dict`` of the network as the search stores it."""

SOURCE_FILE = "model.py"
CLASSIFIER_FILE = "classifier.py"
WEIGHTS_FILE = "model.safetensors"
PROGRAM_FILE = "model.pt2"
ONNX_FILE = "model.onnx"
INT8_FILE = "model-int8.onnx"
LABELS_FILE = "labels.json"
PREPROCESSING_FILE = "preprocess.json"
README_FILE = "README.md"
FILES = (
    SOURCE_FILE,
    CLASSIFIER_FILE,
    WEIGHTS_FILE,
    PROGRAM_FILE,
    ONNX_FILE,
    INT8_FILE,
    LABELS_FILE,
    PREPROCESSING_FILE,
    README_FILE,
)
"""All files that an export may consist of."""
