"""Options, table and JSON file of every benchmark."""

from __future__ import annotations

import argparse
import json
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from cluster.files import write_atomically

# Unlike the other packages, experiments/ is not installed.
sys.path.append(str(Path(__file__).resolve().parents[1]))

Values = tuple[float, float, float]
"""Our value, the baseline's, and their ratio."""

_HEADER = ("figure (ours against baseline)", "ours", "baseline", "unit", "ratio", "target")
_WIDTHS = (72, 10, 10, 12, 7, 0)


@dataclass(frozen=True)
class Figure:
    """One row: a measured figure, its unit and its baseline.

    Attributes:
        figure: name of the figure and of the baseline.
        ours: our value.
        baseline: the baseline's value, measured in the same run.
        ratio: ours relative to the baseline, in the sense of ``target``.
        target: goal of the ratio, or of our value if it says so.
        unit: unit of both values.
        error: cause of missing values, or None.
    """

    figure: str
    ours: float | None
    baseline: float | None
    ratio: float | None
    target: str
    unit: str
    error: str | None = None

    def as_json(self) -> dict[str, str | float | None]:
        """Return the row for the JSON file; only a failed row has an ``error``."""
        row = asdict(self)
        if self.error is None:
            del row["error"]
        return row

    def cells(self) -> tuple[str, ...]:
        """Return the row for the table."""
        if self.error is not None:
            return (self.figure, f"failed: {self.error}")
        return (
            self.figure,
            f"{self.ours:,.4g}",
            f"{self.baseline:,.4g}",
            self.unit,
            f"{self.ratio:.3g}",
            self.target,
        )


class Table:
    """Prints each measured row immediately, and rewrites the JSON file.

    Args:
        json_file: file for the rows, or None.

    Attributes:
        figures: the rows so far.
    """

    def __init__(self, json_file: Path | None = None) -> None:
        self.figures: list[Figure] = []
        self._json_file = json_file

    @property
    def failed(self) -> bool:
        """Tell whether any row failed."""
        return any(figure.error is not None for figure in self.figures)

    def add(self, figure: Figure) -> None:
        """Print and keep one row."""
        if not self.figures:
            _print_row(_HEADER)
        self.figures.append(figure)
        _print_row(figure.cells())
        if self._json_file is not None:
            write_json(self._json_file, [figure.as_json() for figure in self.figures])

    def measure(self, figure: str, target: str, unit: str, work: Callable[[], Values]) -> None:
        """Add the row that a function measures; if it fails, add a row with the error."""
        try:
            ours, baseline, ratio = work()
        except Exception as error:
            traceback.print_exc()
            self.fail(figure, target, unit, one_line(error))
        else:
            self.add(Figure(figure, ours, baseline, ratio, target, unit))

    def fail(self, figure: str, target: str, unit: str, error: str) -> None:
        """Add a row that could not be measured."""
        self.add(Figure(figure, None, None, None, target, unit, error))


def _print_row(cells: Sequence[str]) -> None:
    line = "  ".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=False))
    print(line.rstrip(), flush=True)


def one_line(error: BaseException) -> str:
    """Return an error's type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def last_error(log: str) -> str:
    """Return the last line of error output that names an error, or else the last line."""
    lines = [line for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Interrupt)\b", line)]
    return (errors or lines or ["no message"])[-1].strip()


def write_json(file: Path, content: object) -> None:
    """Replace a JSON file atomically."""
    write_atomically(file, json.dumps(content, indent=1) + "\n")


def option_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of ``--quick`` and ``--json FILE``, to which a benchmark can add options."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="measure less; the figures are noisier"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the figures to this file"
    )
    return parser


def options(description: str | None) -> argparse.Namespace:
    """Parse ``--quick`` and ``--json FILE``."""
    return option_parser(description).parse_args()


def show(figures: Sequence[Figure], json_file: Path | None) -> None:
    """Print the table and write the JSON."""
    table = Table(json_file)
    for figure in figures:
        table.add(figure)


def alternate(ours: Callable[[], float], baseline: Callable[[], float], rounds: int) -> Values:
    """Measure two functions in turn, so that a slower machine slows both.

    Returns:
        Median of ours, median of the baseline, median of the ratios of neighbouring rounds.
    """
    pairs = [(ours(), baseline()) for _ in range(rounds)]
    return (
        median([a for a, _ in pairs]),
        median([b for _, b in pairs]),
        median([a / b for a, b in pairs]),
    )
