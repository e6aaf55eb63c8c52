"""Runs a module through ``torch.export`` quietly, and explains failures in one line."""

from __future__ import annotations

import inspect
import io
import linecache
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from traceback import walk_tb

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.nn.parameter import is_lazy

from spaces.errors import BadInputError
from spaces.operations import Shape
from spaces.user_code import RAISED_BY_USERS, remedy_of
from trainables.tracing.layout import BATCH

_TORCH = Path(torch.__file__).parent


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress torch's output, logs and warnings."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def export(module: nn.Module, image_shape: Shape, reference: str) -> ExportedProgram:
    """Return the operations that a forward pass in evaluation mode calls.

    The pass runs on shapes only and computes no values.

    Raises:
        BadInputError: the module is none of one image, its control flow depends on values, or it
            raises at this resolution.
    """
    _check_inputs(module, reference)
    training = {part: part.training for part in module.modules()}
    weight = next(module.parameters(), torch.empty(0))
    try:
        with quiet():
            module.eval()
            if any(is_lazy(parameter) for parameter in module.parameters()):
                module(torch.zeros(BATCH, *image_shape))
                weight = next(module.parameters())
            dtype = weight.dtype if weight.is_floating_point() else torch.float32
            image = torch.empty(BATCH, *image_shape, device=weight.device, dtype=dtype)
            return torch.export.export(module, (image,), strict=False)
    except GuardOnDataDependentSymNode as error:
        problem = f"its control flow depends on the values of tensors{_place(module, error)}"
        remedy = "make it depend on shapes only, or analyse the part without it"
        raise BadInputError("NETWORK", reference, problem, remedy) from error
    except RAISED_BY_USERS as error:
        channels, height, width = image_shape
        problem = (
            f"its forward raised {type(error).__name__} for an image of {channels} x {height} x "
            f"{width}{_place(module, error)}: {_first_line(error)}"
        )
        remedy = remedy_of(error, "fix it, or try another resolution or number of channels")
        raise BadInputError("NETWORK", reference, problem, remedy) from error
    finally:
        for part, was_training in training.items():
            part.training = was_training


def _check_inputs(module: nn.Module, reference: str) -> None:
    """Check that the module's forward takes one image.

    Raises:
        BadInputError: it does not, or it is a TorchScript module.
    """
    if isinstance(module, torch.jit.ScriptModule):
        problem, remedy = "is a TorchScript module", "name the module that it was scripted from"
        raise BadInputError("NETWORK", reference, problem, remedy)
    parameters = inspect.signature(module.forward).parameters.values()
    positional = [
        p
        for p in parameters
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)
    ]
    required = [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if len(required) > 1:
        problem = f"its forward takes {len(required)} inputs ({', '.join(required)})"
    elif not positional:
        problem = "its forward takes no input"
    else:
        return
    raise BadInputError("NETWORK", reference, problem, "wrap it in a module that takes one image")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"


def _place(module: nn.Module, error: BaseException) -> str:
    """Return the innermost module and the last line of user code of an error."""
    paths = {id(part): path for path, part in module.named_modules()}
    path = code = ""
    for frame, line in walk_tb(error.__traceback__):
        path = paths.get(id(frame.f_locals.get("self"))) or path
        file = Path(frame.f_code.co_filename)
        if is_users(file):
            code = f"{file.name}, line {line}: {linecache.getline(str(file), line).strip()}"
    place = ", ".join(part for part in (path, code) if part)
    return f" in {place}" if place else ""


def is_users(path: Path) -> bool:
    """Tell whether a source file is user code: neither torch's, nor ours, nor generated."""
    ours = Path(__file__).parent
    return path.is_file() and not any(
        str(path).startswith(str(folder) + os.sep) for folder in (_TORCH, ours)
    )
