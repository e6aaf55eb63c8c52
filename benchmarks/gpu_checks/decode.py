"""Decodes the images of the benchmark into the cache: ``gpu_checks.decode [DATA]``.

It runs beside the first stages, which need a GPU but no images. Stages that need the images wait
for it, because `load` does.
"""

from __future__ import annotations

import sys

from training import DEFAULT_DATA

from trainables.data import load
from trainables.specs import DataSpec


def main(data: str = DEFAULT_DATA) -> None:
    """Decode the images at the resolution of the benchmark."""
    load(DataSpec(data, 32, validation=0.002))


if __name__ == "__main__":
    main(*sys.argv[1:])
