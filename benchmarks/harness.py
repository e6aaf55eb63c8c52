"""What every benchmark shares: its options, its table, its JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median


@dataclass(frozen=True)
class Figure:
    """One row: what was measured, in which unit, against which baseline.

    Attributes:
        figure: what was measured, and the baseline's name.
        ours: our value.
        baseline: the baseline's value, measured in the same run.
        ratio: ours against the baseline, as ``target`` is to be read.
        target: what the ratio (or, where it says so, our value) has to reach.
        unit: of both values.
    """

    figure: str
    ours: float
    baseline: float
    ratio: float
    target: str
    unit: str


def option_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of ``--quick`` and ``--json FILE``, for a benchmark that has more."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="smaller and noisier")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    return parser


def options(description: str | None) -> argparse.Namespace:
    """Read ``--quick`` and ``--json FILE``."""
    return option_parser(description).parse_args()


def show(figures: Sequence[Figure], json_file: Path | None) -> None:
    """Print the table and write the JSON."""
    header = ("figure (ours against baseline)", "ours", "baseline", "unit", "ratio", "target")
    rows = [
        (f.figure, f"{f.ours:,.4g}", f"{f.baseline:,.4g}", f.unit, f"{f.ratio:.3g}", f.target)
        for f in figures
    ]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(f) for f in figures], indent=1), encoding="utf-8")


def alternate(
    ours: Callable[[], float], baseline: Callable[[], float], rounds: int
) -> tuple[float, float, float]:
    """Measure two things in turn, so that a machine that slows down slows both.

    Returns:
        Median of ours, median of the baseline, median of the ratios of neighbouring rounds.
    """
    pairs = [(ours(), baseline()) for _ in range(rounds)]
    return (
        median([a for a, _ in pairs]),
        median([b for _, b in pairs]),
        median([a / b for a, b in pairs]),
    )
