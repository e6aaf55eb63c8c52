"""Writes the readable source of an export with its weights, and runs it as a user would."""

from __future__ import annotations

import runpy
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from trainables.export.forms import Form, run_module
from trainables.export.names import CLASSIFIER_FILE, SOURCE_FILE, WEIGHTS_FILE
from trainables.export.source import exported_state, module_source
from trainables.export.subject import ExportSubject


def write_source(subject: ExportSubject, folder: Path, title: str) -> Form:
    """Write the source of the networks, their weights, and the classifier.

    Args:
        subject: of the export.
        folder: receives the files, and has the description of the preprocessing.
        title: the networks in words.
    """
    source = module_source(subject.architecture, title=title)
    (folder / SOURCE_FILE).write_text(source, encoding="utf-8")
    classifier = Path(__file__).with_name(CLASSIFIER_FILE).read_text(encoding="utf-8")
    (folder / CLASSIFIER_FILE).write_text(classifier, encoding="utf-8")
    weights: dict[str, Tensor] = {}
    for index, member in enumerate(subject.members):
        number = f"{index}." if len(subject.members) > 1 else ""
        state = exported_state(subject.architecture, member.module.cpu().float().state_dict())
        weights |= {f"{number}{name}": tensor.contiguous() for name, tensor in state.items()}
    (folder / WEIGHTS_FILE).write_bytes(save(weights, {"format": "pt"}))
    network = runpy.run_path(str(folder / SOURCE_FILE))["Network"]
    load = runpy.run_path(str(folder / CLASSIFIER_FILE))["load"]
    run = run_module(load(network, folder))
    return Form(SOURCE_FILE, "PyTorch", run, weights=WEIGHTS_FILE)
