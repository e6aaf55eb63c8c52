"""Writes and checks the files of an export."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables.export.checking import CheckedForm, check_forms
from trainables.export.forms import Form, trace, write_int8, write_onnx, write_program
from trainables.export.names import (
    INT8_FILE,
    LABELS_FILE,
    ONNX_FILE,
    PROGRAM_FILE,
    README_FILE,
    Pixels,
)
from trainables.export.readme import ModelCard, readme
from trainables.export.source_form import write_source
from trainables.export.subject import ExportSubject
from trainables.images.errors import cause


@dataclass(frozen=True)
class WrittenForms:
    """What an export consists of.

    Attributes:
        checked: the forms, in order of their files.
        left_out: a line for each form that could not be written, with the cause.
    """

    checked: list[CheckedForm]
    left_out: list[str]


@dataclass(frozen=True)
class FormChoice:
    """What is written.

    Attributes:
        pixels: type of the input images.
        int8: whether to write a quantised model, too.
    """

    pixels: Pixels = "uint8"
    int8: bool = False


def write_folder(
    subject: ExportSubject,
    folder: Path,
    choice: FormChoice,
    title: str,
    describe: Callable[[Sequence[CheckedForm]], ModelCard],
    progress: Callable[[str], None] = lambda _: None,
) -> WrittenForms:
    """Write the networks of an export to an empty folder, and run every form on test images.

    Args:
        subject: of the export.
        folder: receives the files.
        choice: what is written.
        title: the networks in words.
        describe: returns the model card, given the checked forms.
        progress: called with each step in words.

    Raises:
        DifferentAnswersError: a form does not compute what the network computes.
        OSError: a file cannot be written.
    """
    subject.preprocessing(choice.pixels).write(folder)
    labels = json.dumps(list(subject.dataset.classes), indent=1, ensure_ascii=False)
    (folder / LABELS_FILE).write_text(labels + "\n", encoding="utf-8")
    progress(f"writing {PROGRAM_FILE} ..")
    program = trace(subject, choice.pixels)
    forms = [write_source(subject, folder, title), write_program(program, folder)]
    left_out = []
    writers: dict[str, Callable[[], Form]] = {ONNX_FILE: lambda: write_onnx(program, folder)}
    if choice.int8:
        writers[INT8_FILE] = lambda: write_int8(subject, folder, choice.pixels)
    for name, write in writers.items():
        progress(f"writing {name} ..")
        try:
            forms.append(write())
        except OSError:
            raise
        except Exception as error:  # The converters raise errors of many types.
            (folder / name).unlink(missing_ok=True)
            left_out.append(f"{name} is left out: the network cannot be converted ({cause(error)})")
            if name == ONNX_FILE and choice.int8:
                left_out.append(f"{INT8_FILE} is left out: it is made from {ONNX_FILE}")
            break
    checked = check_forms(
        forms,
        subject,
        folder,
        choice.pixels,
        lambda name: progress(f"running {name} on {len(subject.rows):,} test images .."),
    )
    text = readme(describe(checked), subject, choice.pixels, checked)
    (folder / README_FILE).write_text(text, encoding="utf-8")
    return WrittenForms(checked, left_out)
