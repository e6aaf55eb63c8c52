"""Runs each form of an export on test images, and measures its latency."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from trainables.export.forms import Form, as_pixels
from trainables.export.names import Pixels
from trainables.export.subject import ExportSubject

LARGEST_DIFFERENCE = 1e-3
"""Largest difference of a probability by which an exact form may differ from the network."""
_WARM_UP, _REPEATS, _SECONDS = 3, (5, 100), 0.5


@dataclass(frozen=True)
class CheckedForm:
    """A form and how it did on the test images.

    Attributes:
        name: of the file.
        runtime: program that runs it.
        bytes: size of the file, with its weights.
        difference: largest difference of a probability from the network of the search.
        other_answers: number of images for which it predicts another class.
        accuracy: 0..1.
        latency_ms: median time of one image on the CPU.
    """

    name: str
    runtime: str
    bytes: int
    difference: float
    other_answers: int
    accuracy: float
    latency_ms: float


class DifferentAnswersError(RuntimeError):
    """An exported file does not compute what the network computes."""


def check_forms(
    forms: Sequence[Form],
    subject: ExportSubject,
    folder: Path,
    pixels: Pixels,
    progress: Callable[[str], None],
) -> list[CheckedForm]:
    """Run forms on the test images.

    Args:
        forms: written to the folder.
        subject: of the export.
        folder: of the files.
        pixels: type of the input images.
        progress: called with the name of each form.

    Raises:
        DifferentAnswersError: a form that should be exact is not.
    """
    expected = subject.expected()
    checked = []
    for form in forms:
        progress(form.name)
        found = np.concatenate([form.run(as_pixels(each, pixels)) for each in subject.batches()])
        difference = float(np.abs(found - expected).max())
        # NaN compares false.
        if form.exact and not difference <= LARGEST_DIFFERENCE:
            raise DifferentAnswersError(
                f"{folder / form.name} differs from the network by {difference:.3g} on the test "
                f"images, which is more than {LARGEST_DIFFERENCE:g}; do not use it"
            )
        answers = found.argmax(1)
        checked.append(
            CheckedForm(
                form.name,
                form.runtime,
                sum((folder / name).stat().st_size for name in (form.name, form.weights) if name),
                difference,
                int((answers != expected.argmax(1)).sum()),
                float((answers == subject.labels).mean()),
                _latency(form, next(subject.batches(subject.rows[:1])), pixels),
            )
        )
    return checked


def _latency(form: Form, image: NDArray[np.uint8], pixels: Pixels) -> float:
    """Return the median time in milliseconds for one image of the size of the network."""
    given = as_pixels(image, pixels)
    seconds: list[float] = []
    fewest, most = _REPEATS
    for _ in range(_WARM_UP):
        form.run(given)
    while len(seconds) < fewest or (len(seconds) < most and sum(seconds) < _SECONDS):
        started = time.perf_counter()
        form.run(given)
        seconds.append(time.perf_counter() - started)
    return 1000 * median(seconds)
