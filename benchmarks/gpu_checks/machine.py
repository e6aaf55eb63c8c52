"""Stage 1: device, driver and versions of the other stages."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

import torch

from gpu_checks.records import NO_GPU, PROJECT, Finding, NotMeasuredError, Recorder, expect
from gpu_checks.smi import query
from gpu_checks.subjects import Setting

PACKAGES = ("torch", "torchvision", "numpy", "optuna", "pytest")


def check_machine(setting: Setting, recorder: Recorder) -> None:
    """Describe the machine; a GPU that torch cannot use is a failure."""
    recorder.check("versions", _versions)
    recorder.check("device", lambda: _device(setting))


def _versions() -> Finding:
    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "-"
    found["cuda"] = torch.version.cuda or "-"
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    found["cudnn"] = str(cudnn) if cudnn else "-"
    found["project"] = _commit()
    return Finding(f"torch {found['torch']}, CUDA {found['cuda']}", found)


def _commit() -> str:
    """Return the commit of the project, or ``-`` if unknown."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        result = subprocess.run(
            command, cwd=PROJECT, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "-"
    return result.stdout.strip()


def _device(setting: Setting) -> Finding:
    driver, name = query("driver_version"), query("name")
    if not setting.on_gpu:
        problem = f"torch {torch.__version__} cannot use the {name} with driver {driver}"
        expect(name is None, f"{problem}: update the driver, or install an older torch")
        raise NotMeasuredError(f"{NO_GPU}; {os.cpu_count()} CPU cores")
    properties = torch.cuda.get_device_properties(setting.device)
    figures = {
        "name": properties.name,
        "memory": properties.total_memory,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "bfloat16": torch.cuda.is_bf16_supported(including_emulation=False),
        "driver": driver,
        "cpus": os.cpu_count(),
    }
    # The device must compute something before any check.
    expect(float(torch.ones(8, device=setting.device).sum()) == 8, "the device cannot add", figures)
    return Finding(f"{properties.name}, driver {driver}", figures)
