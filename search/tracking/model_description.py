"""Describes a trained network as a model of MLflow, without MLflow and without torch."""

from __future__ import annotations

import base64

from search.tracking.pyfunc_model import PyfuncModel
from spaces.architecture import Architecture
from trainables.data import Dataset
from trainables.export.preprocessing import Preprocessing
from trainables.export.pyfunc import (
    example_image,
    network_sources,
    predictor_source,
    requirements,
)
from trainables.specs import Decoding


def describe_model(
    architecture: Architecture, dataset: Dataset, decoding: Decoding, title: str, *, flip: bool
) -> PyfuncModel:
    """Return the model of a network.

    Args:
        architecture: of the network.
        dataset: the images with whose statistics it was trained.
        decoding: how files became pixels.
        title: the network in words.
        flip: whether predictions are averaged over each image and its mirror image.
    """
    preprocessing = Preprocessing.of([dataset], decoding, "uint8", flip=flip)
    return PyfuncModel(
        predictor_source(architecture, dataset.classes, preprocessing),
        network_sources(architecture, title),
        base64.b64encode(example_image(dataset)).decode(),
        requirements(),
    )
