"""Reads fields of the first GPU from ``nvidia-smi``."""

from __future__ import annotations

import os
import shutil
import subprocess


def query(field: str) -> str | None:
    """Return a field of ``nvidia-smi --help-query-gpu``, or None if it is unavailable.

    Memory is in MiB.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    # Torch sees only the GPUs in this variable.
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    if first in ("", "-1"):
        return None
    try:
        result = subprocess.run(
            [program, f"--query-gpu={field}", "--format=csv,noheader,nounits", f"--id={first}"],
            capture_output=True,
            text=True,
            timeout=15,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    value = result.stdout.strip()
    return value if value and not value.startswith("[") else None
