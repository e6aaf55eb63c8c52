"""Finds and builds the module that the user names, without downloading weights."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from contextlib import nullcontext
from difflib import get_close_matches
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from spaces.errors import BadInputError
from spaces.user_code import (
    RAISED_BY_USERS,
    load_object,
    place_of,
    remedy_of,
    search_folders,
)
from trainables.tracing.decisions import without_values
from trainables.tracing.exporting import quiet

_FILLS = {
    *("uniform_", "normal_", "zero_", "fill_", "copy_", "exponential_", "bernoulli_"),
    *("erfinv_", "mul_", "add_", "sub_", "div_", "clamp_", "clamp_min_", "clamp_max_"),
    *("kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "xavier_normal_"),
    *("trunc_normal_", "constant_", "orthogonal_"),
}
_TORCHVISION_OPTIONS: dict[str, dict[str, bool]] = {
    # Auxiliary classifiers exist only during training.
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
}


class _WithoutInitialisation(TorchFunctionMode):
    """Skip the initialisation of new parameters, because an analysis reads no weights."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if getattr(func, "__name__", "") in _FILLS:
            filled = args[0] if args else (kwargs or {}).get("tensor")
            if isinstance(filled, nn.Parameter):
                return filled
        return func(*args, **(kwargs or {}))


def load_model(reference: str, *, initialised: bool = False) -> nn.Module:
    """Build the module named by ``torchvision:NAME`` or ``module:attribute``.

    The attribute is a class or function that is called without arguments, or a module itself; it
    is looked for in the current folder first. Weights are not downloaded, and in general not
    initialised: the module is for analysis, not for training.

    Args:
        reference: of the module.
        initialised: whether to initialise weights, for a module that runs.

    Raises:
        BadInputError: there is no such thing, it cannot be built, or it is no module.
    """
    source, colon, name = reference.partition(":")
    if not colon or not source or not name:
        remedy = "give torchvision:NAME, or module:Class of your own"
        raise BadInputError("NETWORK", reference, "names no module", remedy)
    if source == "torchvision":
        return _from_torchvision(reference, name, initialised)
    with quiet():
        found = load_object("NETWORK", reference, search_folders(None))
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        problem = f"is a {type(found).__name__}, no module, class or function"
        raise BadInputError("NETWORK", reference, problem, "name a class or a function")
    module = _built(reference, found, {}, initialised)
    if not isinstance(module, nn.Module):
        problem = f"returned a {type(module).__name__}, no torch.nn.Module"
        raise BadInputError("NETWORK", reference, problem, "return a module")
    if not initialised:
        without_values(module, partial(load_model, reference, initialised=True))
    return module


def _from_torchvision(reference: str, name: str, initialised: bool) -> nn.Module:
    from torchvision import models  # noqa: PLC0415 - takes a second

    known = models.list_models()
    if name not in known:
        # A number in a name may differ much, its first word may not: resnext999 is no resnet.
        family = re.match(r"[a-z_]*", name.lower())
        related = [each for each in known if family and family[0] and each.startswith(family[0])]
        close = get_close_matches(name, related, n=3, cutoff=0) or get_close_matches(name, known)
        named = " or ".join(f"torchvision:{each}" for each in close)
        hint = f"did you mean {named}?" if named else f"known are {', '.join(_images())}"
        raise BadInputError("NETWORK", reference, "torchvision has no such model", hint)
    builder = models.get_model_builder(name)
    options: dict[str, Any] = dict(_TORCHVISION_OPTIONS.get(name, {}))
    if "weights_backbone" in inspect.signature(builder).parameters:
        options["weights_backbone"] = None
    options["weights"] = None
    module: object
    if initialised:
        options.pop("init_weights", None)
        module = _built(reference, builder, options, initialised)
        assert isinstance(module, nn.Module)  # noqa: S101 - torchvision promises it
        return module
    try:
        with quiet(), torch.device("meta"):
            module = builder(**options)
    except Exception:  # Some calculate with tensors while they are built.
        module = _built(reference, builder, options, initialised)
    assert isinstance(module, nn.Module)  # noqa: S101 - torchvision promises it
    return module


def _images() -> list[str]:
    """Return torchvision's models of images, without those of boxes, masks and videos."""
    from torchvision import models  # noqa: PLC0415 - takes a second

    return list(models.list_models(module=models))


def _built(
    reference: str, build: Callable[..., object], options: dict[str, Any], initialised: bool
) -> object:
    """Call a function or class that builds a module.

    Raises:
        BadInputError: it raises.
    """
    try:
        with quiet(), nullcontext() if initialised else _WithoutInitialisation():
            return build(**options)
    except RAISED_BY_USERS as error:
        problem = f"building it raised {type(error).__name__}: {error}{place_of(error)}"
        remedy = remedy_of(error, "fix it, or name a function without arguments that builds it")
        raise BadInputError("NETWORK", reference, problem, remedy) from error
