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
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.nn.parameter import is_lazy

from spaces.errors import BadInputError
from spaces.operations import Shape
from spaces.user_code import RAISED_BY_USERS, remedy_of
from trainables.tracing.decisions import decisions
from trainables.tracing.layout import batch

_TORCH = Path(torch.__file__).parent
_QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")


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
                module(torch.zeros(batch(), *image_shape))
                weight = next(module.parameters())
            dtype = weight.dtype if weight.is_floating_point() else torch.float32
            image = torch.empty(batch(), *image_shape, device=weight.device, dtype=dtype)
            return _exported(module, image)
    except GuardOnDataDependentSymNode as error:
        problem = f"its control flow depends on the values of tensors{_place(module, error)}"
        remedy = "make it depend on shapes only, or analyse the part without it"
        raise BadInputError("NETWORK", reference, problem, remedy) from error
    except RAISED_BY_USERS as error:
        channels, height, width = image_shape
        problem = (
            f"its forward raised {type(error).__name__} for an image of {channels} x {height} x "
            f"{width}{_place(module, error)}: {first_line(error)}"
        )
        remedy = remedy_of(error, "fix it, or try another resolution or number of channels")
        raise BadInputError("NETWORK", reference, problem, remedy) from error
    finally:
        for part, was_training in training.items():
            part.training = was_training


def _exported(module: nn.Module, image: Tensor) -> ExportedProgram:
    try:
        return torch.export.export(module, (image,), strict=False)
    except GuardOnDataDependentSymNode:
        decided = decisions(module, torch.rand_like(image[:1]))
        if decided is None:
            raise
        with decided:
            return torch.export.export(module, (image,), strict=False)


def check_parts(module: nn.Module, reference: str) -> None:
    """Check that the operations of a module can be seen.

    Raises:
        BadInputError: a part is a TorchScript module or quantised.
    """
    for name, part in module.named_modules():
        place = f" (its part {name})" if name else ""
        if isinstance(part, torch.jit.ScriptModule):
            problem = f"is a TorchScript module{place}"
            remedy = "name the module that it was scripted from"
        elif type(part).__module__.startswith(_QUANTISED):
            problem = f"is quantised to integers{place}"
            remedy = "name the module that it was quantised from"
        else:
            continue
        raise BadInputError("NETWORK", reference, problem, remedy)


def _check_inputs(module: nn.Module, reference: str) -> None:
    """Check that the module's forward takes one image.

    Raises:
        BadInputError: it does not, or it hides its operations.
    """
    check_parts(module, reference)
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


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
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
