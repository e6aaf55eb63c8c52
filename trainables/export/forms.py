"""Writes a classifier in the formats of an export, each with a function that runs the file."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.export.names import (
    INPUT,
    INT8_FILE,
    ONNX_FILE,
    OUTPUT,
    PROGRAM_FILE,
    Pixels,
)
from trainables.export.subject import ExportSubject

Run = Callable[[NDArray[np.generic]], NDArray[np.float32]]
"""Images ``[n, channels, height, width]`` to probabilities ``[n, classes]``."""

CALIBRATION_IMAGES = 256
"""Most training images from which the ranges of an int8 model are measured."""
_DYNAMIC = {0: "batch", 2: "height", 3: "width"}
_QUANTISED = ("Conv", "Gemm")


@dataclass(frozen=True)
class Form:
    """A file that predicts without Borderline.

    Attributes:
        name: of the file.
        runtime: program that runs it.
        run: predicts with the file as it was written.
        exact: whether it computes the same as the network, apart from rounding.
        weights: name of the file of its weights, if they are not part of it.
    """

    name: str
    runtime: str
    run: Run
    exact: bool = True
    weights: str | None = None


def trace(subject: ExportSubject, pixels: Pixels) -> torch.export.ExportedProgram:
    """Return the program of a classifier with dynamic batch, height and width."""
    # A side of another size than the network's: torch.export would otherwise fix it.
    height, width, channels = subject.dataset.shape
    sample = np.zeros((2, channels, 2 * height + 3, 2 * width + 5), dtype=np.uint8)
    shapes = {INPUT: {axis: torch.export.Dim(name) for axis, name in _DYNAMIC.items()}}
    with torch.no_grad(), quiet():
        return torch.export.export(
            subject.classifier,
            (torch.from_numpy(as_pixels(sample, pixels)),),
            dynamic_shapes=shapes,
        )


def write_program(program: torch.export.ExportedProgram, folder: Path) -> Form:
    """Write a program of ``torch.export``."""
    path = folder / PROGRAM_FILE
    with quiet():
        torch.export.save(program, path)
    return Form(PROGRAM_FILE, f"PyTorch {torch.__version__.partition('+')[0]}", run_program(path))


def run_program(path: Path) -> Run:
    """Return a function that runs a program of ``torch.export``."""
    with quiet():
        module: nn.Module = torch.export.load(path).module()
    return run_module(module)


def run_module(module: nn.Module) -> Run:
    """Return a function that runs a module on the CPU."""

    @torch.inference_mode()
    def run(images: NDArray[np.generic]) -> NDArray[np.float32]:
        found: Tensor = module(torch.from_numpy(images))
        return found.numpy()

    return run


def write_onnx(program: torch.export.ExportedProgram, folder: Path) -> Form:
    """Write a program as an ONNX model."""
    path = folder / ONNX_FILE
    with quiet():
        model = torch.onnx.export(
            program,
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=(_DYNAMIC,),
            verbose=False,
        )
        assert model is not None  # noqa: S101 - of the exporter with dynamo
        model.save(path)
    return Form(ONNX_FILE, "ONNX Runtime", run_onnx(path))


def run_onnx(path: Path) -> Run:
    """Return a function that runs an ONNX model on the CPU with the threads of torch."""
    import onnxruntime  # noqa: PLC0415 - takes half a second

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: NDArray[np.generic]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = session.run([OUTPUT], {INPUT: images})[0]
        return found

    return run


def write_int8(subject: ExportSubject, folder: Path, pixels: Pixels) -> Form:
    """Quantise the ONNX model of a folder to int8: convolutions and linear layers.

    Weights have one scale per feature; the ranges of activations are those of training images.
    """
    from onnxruntime import quantization  # noqa: PLC0415 - imports onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        """Training images for the calibration."""

        def __init__(self) -> None:
            rows = subject.dataset.train
            if len(rows) > CALIBRATION_IMAGES:
                rows = np.random.default_rng(0).choice(rows, CALIBRATION_IMAGES, replace=False)
            self._batches = subject.batches(np.sort(rows))

        def get_next(self) -> Mapping[str, NDArray[np.generic]] | None:
            images = next(self._batches, None)
            return None if images is None else {INPUT: as_pixels(images, pixels)}

    path = folder / INT8_FILE
    with quiet(), TemporaryDirectory() as aside:
        prepared = Path(aside) / ONNX_FILE
        quant_pre_process(folder / ONNX_FILE, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            path,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTISED),
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    return Form(INT8_FILE, "ONNX Runtime, int8", run_onnx(path), exact=False)


def as_pixels(images: NDArray[np.uint8], pixels: Pixels) -> NDArray[np.generic]:
    """Return images as a model takes them."""
    return images if pixels == "uint8" else images.astype(np.float32) / 255


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the notes of exporters about their own progress and future versions."""
    level: Any = logging.root.manager.disable
    logging.disable(logging.WARNING)
    nowhere = io.StringIO()
    try:
        with warnings.catch_warnings(), redirect_stdout(nowhere), redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
