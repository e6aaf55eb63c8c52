"""Stores what the report shows and only the driver knows: the machine, and small images."""

from __future__ import annotations

import io
import platform
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from search.experiment.folder import SearchFolder
from search.study.finalists import Finalist, FinalistStore, best_validated
from search.study.machine import this_machine, write_machine
from search.study.pictures import Picture, PictureStore
from spaces.errors import BadInputError
from trainables.data import Dataset

CLASSES, WRONG = 20, 24
"""Most classes with an example, and most errors."""
_SIDE = 96


def record_inputs(folder: SearchFolder, dataset: Dataset, *, gpus: bool) -> None:
    """Store the machine and an example of each class.

    Args:
        folder: of the search.
        dataset: its images.
        gpus: whether trials run on GPUs.
    """
    write_machine(folder, this_machine(_device(gpus=gpus)))
    rows = [
        (name, dataset.train[dataset.labels[dataset.train] == number])
        for number, name in enumerate(dataset.classes[:CLASSES])
    ]
    examples = [
        Picture.of(thumbnail(dataset.images[found[0]]), name) for name, found in rows if len(found)
    ]
    PictureStore(folder.pictures).write_examples(examples)


def record_errors(
    folder: SearchFolder, images: Callable[[], Dataset], finalists: Sequence[Finalist]
) -> None:
    """Store the test images that the winner's best network gets wrong with most confidence.

    Args:
        folder: of the search.
        images: loads its images; the report lacks the pictures if it cannot.
        finalists: best first.
    """
    if not finalists:
        return
    best, store = best_validated(finalists[0].results), FinalistStore(folder.finalists)
    predicted = store.predictions(best.number, best.seed)
    confident = store.confidences(best.number, best.seed)
    if predicted is None or confident is None:
        return
    try:
        dataset = images()
    except BadInputError:
        return
    true = dataset.labels[dataset.test]
    wrong = np.flatnonzero(predicted != true)
    wrong = wrong[np.argsort(-confident[wrong], kind="stable")][:WRONG]
    PictureStore(folder.pictures).write_wrong(
        [
            Picture.of(
                thumbnail(dataset.images[dataset.test[position]]),
                dataset.classes[true[position]],
                dataset.classes[predicted[position]],
                float(confident[position]),
            )
            for position in wrong.tolist()
        ]
    )


def thumbnail(image: NDArray[np.uint8]) -> bytes:
    """Return an image as the content of a PNG file, reduced to at most 96 pixels.

    Args:
        image: uint8 [height, width, channels], of 1 or 3 channels.
    """
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    picture.thumbnail((_SIDE, _SIDE))
    content = io.BytesIO()
    picture.save(content, "PNG", optimize=True)
    return content.getvalue()


def _device(*, gpus: bool) -> str:
    if gpus:
        import torch  # noqa: PLC0415 - on a GPU alone

        if torch.cuda.is_available():
            return str(torch.cuda.get_device_name(0))
        return "GPUs of the cluster"
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    return f"{model}, {len(models) or 1} threads" if models else model
