"""The command `predict`: labels and probabilities of image files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from search.console import say, warn
from search.reporting.trained_networks import SearchNetworks, TrainedNetwork
from spaces.errors import BadInputError
from trainables.export.names import LABELS_FILE, PREPROCESSING_FILE, PROGRAM_FILE
from trainables.export.photos import UnreadablePhotoError, find_photos, read_photo
from trainables.export.preprocessing import Preprocessing
from trainables.images.errors import printable

if TYPE_CHECKING:
    from trainables.export.subject import ExportSubject

_BATCH = 32


@dataclass(frozen=True)
class Predictor:
    """A model that predicts image files.

    Attributes:
        labels: the class of each probability.
        preprocessing: of its images.
        run: images ``[n, channels, height, width]``, uint8 or float, to probabilities.
    """

    labels: tuple[str, ...]
    preprocessing: Preprocessing
    run: Callable[[NDArray[Any]], NDArray[np.float32]]

    def predict(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return the probabilities ``[n, classes]`` of images that `read_photo` has read."""
        stacked = np.stack(images)
        if self.preprocessing.pixels == "float":
            return self.run(stacked.astype(np.float32) / 255)
        return self.run(stacked)


@dataclass(frozen=True)
class Prediction:
    """The probabilities of one file.

    Attributes:
        file: its path as given or found.
        probabilities: by class, the most likely first.
    """

    file: str
    probabilities: dict[str, float]

    @property
    def label(self) -> str:
        """The most likely class."""
        return next(iter(self.probabilities))


@dataclass(frozen=True)
class Predictions:
    """The result of all files.

    Attributes:
        labels: the classes.
        found: of each file that could be read.
        unreadable: cause by file.
    """

    labels: tuple[str, ...]
    found: list[Prediction]
    unreadable: dict[str, str]

    def as_document(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        images = [
            {"file": p.file, "label": p.label, "probabilities": p.probabilities} for p in self.found
        ]
        unreadable = [{"file": file, "cause": cause} for file, cause in self.unreadable.items()]
        return {"images": images, "unreadable": unreadable}

    def as_csv(self) -> str:
        """Return what ``--csv`` prints: a row for each file, a column for each class."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["file", "label", "probability", *self.labels])
        for each in self.found:
            known = each.probabilities
            # Names of files need not be text; such bytes are escaped.
            file = each.file.encode("utf-8", "backslashreplace").decode()
            rows.writerow([file, each.label, known[each.label], *map(known.get, self.labels)])
        return text.getvalue().rstrip("\n")

    def as_table(self, top: int) -> Table:
        """Return a table with the most likely classes of each file."""
        table = Table(box=None, header_style="dim")
        table.add_column("file", overflow="fold")
        for rank in range(1, min(top, len(self.labels)) + 1):
            table.add_column("label" if rank == 1 else f"label {rank}", overflow="fold")
            table.add_column("probability", justify="right")
        for each in self.found:
            ranked = list(each.probabilities.items())[:top]
            cells = [cell for label, p in ranked for cell in (label, f"{p:.4f}")]
            table.add_row(*(Text(printable(cell)) for cell in (each.file, *cells)))
        return table


def is_exported(network: str) -> bool:
    """Tell whether a user names an exported folder rather than a network of a search."""
    return (Path(network) / PREPROCESSING_FILE).is_file()


def open_exported(folder: Path) -> Predictor:
    """Return the predictor of an exported folder.

    Raises:
        BadInputError: a file of it is missing or damaged.
    """
    from trainables.export.forms import run_program

    preprocessing = Preprocessing.read(folder)
    try:
        given = json.loads((folder / LABELS_FILE).read_text(encoding="utf-8"))
        run = run_program(folder / PROGRAM_FILE)
    except Exception as error:  # torch.export raises errors of many types for a damaged file.
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        problem = f"its {LABELS_FILE} or {PROGRAM_FILE} cannot be read ({cause})"
        raise BadInputError("NETWORK", folder, problem, "export the network again") from error
    labels = TypeAdapter(list[str])
    try:
        found = Predictor(tuple(labels.validate_python(given)), preprocessing, run)
    except ValidationError:
        problem = f"its {LABELS_FILE} is no list of texts"
        remedy = "write the name of each class in quotes, or export the network again"
        raise BadInputError("NETWORK", folder, problem, remedy) from None
    blank = np.zeros((preprocessing.channels, *preprocessing.size), dtype=np.uint8)
    classes = found.predict([blank]).shape[1]
    if len(found.labels) != classes or len(set(found.labels)) != classes:
        problem = f"its {LABELS_FILE} names {len(set(found.labels))} classes, the model {classes}"
        remedy = "name each class once, in the order of the export, or export the network again"
        raise BadInputError("NETWORK", folder, problem, remedy)
    return found


def predictor_of(networks: SearchNetworks, found: Sequence[TrainedNetwork]) -> Predictor:
    """Return the predictor of networks of a search.

    Args:
        networks: the search.
        found: networks of one candidate.
    """
    from trainables.export.forms import run_module

    subject = subject_of(networks, found, 1)
    classes = subject.dataset.classes
    preprocessing = subject.preprocessing("uint8")
    return Predictor(classes, preprocessing, run_module(subject.classifier))


def subject_of(
    networks: SearchNetworks, found: Sequence[TrainedNetwork], images: int
) -> ExportSubject:
    """Return networks of a search as those of an export.

    Args:
        networks: the search.
        found: networks of one candidate.
        images: most test images for a check.
    """
    from trainables.export.subject import ExportSubject, Member

    return ExportSubject(
        found[0].architecture,
        tuple(Member(each.module, each.dataset, each.seed) for each in found),
        networks.spec.test_time_flip,
        networks.stored.experiment.decoding,
        images,
    )


def find_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files to predict.

    Raises:
        BadInputError: a path does not exist, or there is no image.
    """
    files = find_photos(paths)
    if not files:
        named = ", ".join(map(str, paths))
        raise BadInputError("PATH", named, "has no images", "name images, or a folder with images")
    return files


def predict_files(predictor: Predictor, files: Sequence[Path], console: Console) -> Predictions:
    """Predict files; a warning names each file that cannot be read.

    Args:
        predictor: the model.
        files: to predict.
        console: shows the progress.
    """
    predictions = Predictions(predictor.labels, [], {})
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("predicting", total=len(files))
        for start in range(0, len(files), _BATCH):
            some = files[start : start + _BATCH]
            names, images = [], []
            for path, image in _read(some, predictor.preprocessing, predictions.unreadable):
                names.append(str(path))
                images.append(image)
            if images:
                for name, probabilities in zip(names, predictor.predict(images), strict=True):
                    ranked = sorted(
                        zip(predictor.labels, probabilities.tolist(), strict=True),
                        key=lambda pair: -pair[1],
                    )
                    predictions.found.append(Prediction(name, dict(ranked)))
            bar.advance(task, len(some))
    for file, cause in predictions.unreadable.items():
        warn(f"{printable(file)} is skipped: {cause}")
    return predictions


def _read(
    files: Sequence[Path], preprocessing: Preprocessing, unreadable: dict[str, str]
) -> Iterator[tuple[Path, NDArray[np.uint8]]]:
    for path in files:
        try:
            yield path, read_photo(path, preprocessing)
        except UnreadablePhotoError as error:
            unreadable[str(path)] = str(error)


def show_predictions(predictions: Predictions, top: int, console: Console) -> None:
    """Print a table of predictions."""
    if predictions.found:
        console.print(predictions.as_table(top), highlight=False)
    else:
        say(console, "no image could be read")
