"""Reads the values of constants that a forward pass asks for, so that its export can follow them.

``torch.export`` runs on shapes only. Code such as ``if (std == 0).any()`` asks for a value that
depends on no image. A run on one image records these values, and the export reads them again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree
from torch.utils.weak import WeakIdKeyDictionary

_READING = frozenset(
    (
        *("__bool__", "__int__", "__float__", "__index__", "__array__", "item", "tolist", "numpy"),
        *("equal", "allclose", "is_nonzero"),
    )
)
"""Functions that turn a tensor into a value of Python."""
_AUGMENTED = frozenset(
    (
        *("__iadd__", "__isub__", "__imul__", "__itruediv__", "__ifloordiv__", "__imod__"),
        *("__iand__", "__ior__", "__ixor__", "__ipow__"),
    )
)


class _Recording(TorchFunctionMode):
    """Records the values read, and tells whether one depends on the image.

    Args:
        constants: the parameters and buffers of the module.
    """

    def __init__(self, constants: list[Tensor]) -> None:
        super().__init__()
        self.values: list[tuple[str, Any]] = []
        self.depends_on_image = False
        self._constants = WeakIdKeyDictionary(dict.fromkeys(constants, True))

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = _pytree.tree_leaves((args, kwargs))
        tensors = [value for value in given if isinstance(value, Tensor)]
        known = self._constants
        is_constant = all(tensor in known and known[tensor] for tensor in tensors) and not any(
            isinstance(value, np.ndarray) for value in given
        )
        name = getattr(func, "__name__", "")
        if name in _READING:
            self.values.append((name, result))
            self.depends_on_image |= not is_constant
            return result
        if not is_constant and tensors and _writes(name):
            self._forget(tensors[0])
        for tensor in _pytree.tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._constants[tensor] = is_constant
        return result

    def _forget(self, written: Tensor) -> None:
        """Mark a tensor into which values of the image were written, and all that share memory."""
        memory = written.untyped_storage().data_ptr()
        for tensor in list(self._constants):
            if tensor.untyped_storage().data_ptr() == memory:
                self._constants[tensor] = False


def _writes(name: str) -> bool:
    """Tell whether a function changes its first tensor in place."""
    return name == "__setitem__" or name in _AUGMENTED or (name.endswith("_") and name[-2:] != "__")


class Decided(TorchFunctionMode):
    """Answers with the recorded values, in order.

    Raises:
        LookupError: other values are read than when they were recorded.
    """

    def __init__(self, values: list[tuple[str, Any]]) -> None:
        super().__init__()
        self._values = iter(values)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name not in _READING:
            return func(*args, **(kwargs or {}))
        recorded, value = next(self._values, ("", None))
        if recorded != name:
            raise LookupError(f"reads another value: {name}")
        return value


_BUILDERS: WeakKeyDictionary[nn.Module, Callable[[], nn.Module]] = WeakKeyDictionary()
"""Modules whose parameters were not initialised, with what builds each with initial values."""


def without_values(module: nn.Module, build: Callable[[], nn.Module]) -> None:
    """Note that the parameters of a module hold no values until a forward pass asks for them.

    Args:
        module: whose initialisation was skipped.
        build: returns the same module with initialised parameters.
    """
    _BUILDERS[module] = build


def _initialise(module: nn.Module) -> bool:
    """Initialise a module if that was skipped; tell whether its parameters hold values."""
    if module not in _BUILDERS:
        return True
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = dict(_BUILDERS[module]().named_parameters())
    own = dict(module.named_parameters())
    if [(n, p.shape) for n, p in own.items()] != [(n, p.shape) for n, p in found.items()]:
        return False
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(found[name])
    del _BUILDERS[module]
    return True


def decisions(module: nn.Module, image: Tensor) -> Decided | None:
    """Return the values that a forward pass reads, None if one may depend on the image.

    Args:
        module: in evaluation mode; it is initialised first if `without_values` noted it.
        image: a batch of one image with values.
    """
    constants = [*module.parameters(), *module.buffers()]
    if any(tensor.is_meta for tensor in constants) or not _initialise(module):
        return None
    recording = _Recording(constants)
    try:
        with torch.no_grad(), recording:
            module(image)
    except Exception:  # A user's module may raise anything; the export says what.
        return None
    return None if recording.depends_on_image else Decided(recording.values)
