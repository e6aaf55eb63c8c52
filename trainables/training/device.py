"""Selects the training device and its fastest number format."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from cluster.sizing import Gpu
from spaces.errors import BadInputError


@dataclass(frozen=True)
class Device:
    """A torch device and its number format.

    Attributes:
        device: the torch device.
        bfloat16: whether convolutions and matrix products run in bfloat16; weights stay float32.
    """

    device: torch.device
    bfloat16: bool

    def autocast(self) -> torch.autocast:
        """Return the autocast context of the forward pass."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)


def find_gpu() -> Gpu:
    """Return the first GPU of this process.

    Raises:
        BadInputError: torch cannot use it; the error states why.
    """
    device = select_device("cuda")
    memory = torch.cuda.get_device_properties(device.device).total_memory
    return Gpu(memory, device.bfloat16)


def select_device(name: str = "auto") -> Device:
    """Choose the device.

    Args:
        name: ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        BadInputError: the device is unknown or unavailable.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return Device(torch.device("cpu"), _cpu_gains_from_bfloat16())
    gpu = re.fullmatch(r"cuda(?::(0|[1-9][0-9]*))?", name)
    if gpu is None:
        raise BadInputError("device", name, "unknown device", "use auto, cpu, cuda or cuda:N")
    if not torch.cuda.is_available():
        remedy = f"fix that (torch {torch.__version__} is built for {_build()}), or use cpu"
        raise BadInputError("device", name, _initialization_error(), remedy)
    if int(gpu[1] or 0) >= torch.cuda.device_count():
        problem = f"there are {torch.cuda.device_count()} CUDA devices here"
        raise BadInputError("device", name, problem, "use auto or cpu")
    # With its index: torch refuses plain "cuda" for memory, streams and generators.
    device = torch.device("cuda", int(gpu[1] or 0))
    return Device(device, torch.cuda.is_bf16_supported(including_emulation=False))


def _cpu_gains_from_bfloat16() -> bool:
    """Tell whether the CPU computes bfloat16 natively; emulation is slower than float32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _build() -> str:
    return f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"


def _initialization_error() -> str:
    """Return why torch cannot use CUDA: no driver, an old driver, or no device."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        # The cause comes first, general advice follows.
        return " ".join(str(error).split()).partition(" Please ")[0].rstrip(".")
    return f"there are {torch.cuda.device_count()} CUDA devices here"
