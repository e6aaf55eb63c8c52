"""Results as CSV files: one row per case and seed, and one per probed convolution."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from experiments.reproduction.records import Case, Outcome, Probes, Result
from search.console import note
from spaces.errors import BadInputError
from trainables.probes.records import LayerProbes

RESULTS = Path(__file__).resolve().parent.parent / "results"
"""Folder of the published results."""

_LAYERS = TypeAdapter(tuple[LayerProbes, ...])
_LAYER_COLUMNS = tuple(each.name for each in fields(LayerProbes))
_PROBED = {
    "probed_accuracy": "accuracy",
    "probed_images": "images",
    "border": "border",
    "disabled_features": "disabled_features",
}
"""Columns of `Probes`, and the names of their attributes."""
_OUTCOME_COLUMNS = tuple(name for name in Outcome.model_fields if name not in ("seed", "probes"))
_FACTOR = "factor "
"""Starts the names of columns with factors."""


def _setting(case: Case) -> dict[str, str]:
    """Return the columns with the setting of a case, which results have in common with it."""
    images, changes = case.images, case.augmentation.model_dump(exclude_defaults=True)
    return {
        "epochs": str(case.epochs),
        "resolution": f"{images.task.height}x{images.task.width}",
        "train_images": _count(images.train),
        "validation_images": _count(images.validation),
        "test_images": _count(images.test),
        "augmentation": " ".join(f"{name}={value}" for name, value in changes.items()),
        "probes": " ".join(case.probes),
        "probe_images": str(case.probe_images) if case.probes else "",
        "abort": f"{case.abort.epoch} {case.abort.train_accuracy:g}" if case.abort else "",
    }


def _count(images: int | None) -> str:
    return "all" if images is None else str(images)


def write_results(folder: Path, stem: str, results: Sequence[Result]) -> list[Path]:
    """Write ``STEM.csv``, and ``STEM.layers.csv`` if there are probes.

    Equal results give equal bytes.

    Args:
        folder: of the files; it is created.
        stem: of the names.
        results: in the order of the rows.

    Returns:
        The written files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    factors = list(dict.fromkeys(name for result in results for name in result.case.factors))
    rows = [_row(result, factors) for result in results]
    written = [_write(folder / f"{stem}.csv", rows)]
    layers = [
        {"case": result.case.name, "seed": result.outcome.seed, "layer": number}
        | {name: _text(value) for name, value in asdict(layer).items()}
        for result in results
        if result.outcome.probes is not None
        for number, layer in enumerate(result.outcome.probes.layers, start=1)
    ]
    if layers:
        written.append(_write(folder / f"{stem}.layers.csv", layers))
    return written


def read_results(folder: Path, stem: str, cases: Sequence[Case]) -> list[Result]:
    """Read what `write_results` wrote.

    Args:
        folder: of the files.
        stem: of their names.
        cases: of the protocol.

    Raises:
        BadInputError: a file is missing or damaged, or its trainings do not fit the protocol.
    """
    path = folder / f"{stem}.csv"
    by_name = {case.name: case for case in cases}
    try:
        layers: dict[tuple[str, str], list[dict[str, object]]] = {}
        for row in _read(folder / f"{stem}.layers.csv", missing_is_empty=True):
            layers.setdefault((row["case"], row["seed"]), []).append(
                {name: _value(name, row[name]) for name in _LAYER_COLUMNS if row[name]}
            )
        rows = _read(path)
        _compare_settings(path, rows, by_name)
        return [_result(row, by_name, layers.get((row["case"], row["seed"]), [])) for row in rows]
    except FileNotFoundError:
        remedy = "run the experiment with --results"
        raise BadInputError("--from", path, "the file does not exist", remedy) from None
    except BadInputError:
        raise
    except (KeyError, ValueError, ValidationError, OSError) as error:
        problem = "it contains no results of this version of the experiment"
        if isinstance(error, OSError):
            problem = str(error)
        remedy = "run the experiment again with --results"
        raise BadInputError("--from", path, problem, remedy) from None


def _compare_settings(
    path: Path, rows: Sequence[Mapping[str, str]], cases: Mapping[str, Case]
) -> None:
    """Check that trainings have the setting of their case; say which columns are not there.

    Raises:
        BadInputError: a setting differs.
    """
    for row in rows:
        case = cases[row["case"]]
        expected = _setting(case)
        found = {name: row.get(name) for name in expected}
        # The description of images begins with the name of their set.
        found["images"], expected["images"] = row["images"].split(",")[0], case.images.source
        for name, value in found.items():
            if value is not None and value != expected[name]:
                problem = (
                    f"{case.name} has {name} {value or 'none'}, but the protocol has "
                    f"{expected[name] or 'none'}"
                )
                remedy = "run the experiment again with --results"
                raise BadInputError("--from", path, problem, remedy)
    missing = [name for name in expected if name not in rows[0]] if rows else []
    if missing:
        note(f"note: {path} has no column {', '.join(missing)}: not compared with the protocol")


def _row(result: Result, factors: Iterable[str]) -> dict[str, object]:
    case, outcome = result.case, result.outcome
    values = outcome.model_dump(exclude={"probes"})
    probes = outcome.probes
    return {
        "case": case.name,
        "seed": outcome.seed,
        **{f"{_FACTOR}{name}": _text(case.factors.get(name)) for name in factors},
        **_setting(case),
        "candidate": case.candidate.digest,
        **{name: values[name] for name in _OUTCOME_COLUMNS},
        **{
            column: _text(getattr(probes, name)) if probes is not None else ""
            for column, name in _PROBED.items()
        },
    }


def _result(
    row: Mapping[str, str], cases: Mapping[str, Case], layers: list[dict[str, object]]
) -> Result:
    case = cases[row["case"]]
    if row["candidate"] != case.candidate.digest:
        raise ValueError(row["case"])
    if case.probes and not layers:
        raise ValueError(row["case"])
    probes = None
    if row["probed_images"]:
        found = {name: row[column] or None for column, name in _PROBED.items()}
        probes = Probes.model_validate(found | {"layers": _LAYERS.validate_python(layers)})
    values = {name: row[name] for name in _OUTCOME_COLUMNS}
    outcome = Outcome.model_validate({"seed": row["seed"], **values, "probes": probes})
    if case.abort is None and len(outcome.train_accuracies) != case.epochs:
        raise ValueError(row["case"])
    return Result(case, outcome)


def _text(value: object) -> str:
    if value is None:
        return ""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _value(name: str, text: str) -> object:
    several = name in ("kernel", "field_min", "field_max", "effective_extent", "mass_within")
    return text.split() if several else text


def _write(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def _read(path: Path, *, missing_is_empty: bool = False) -> list[dict[str, str]]:
    if missing_is_empty and not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
