"""Stored searches as plain values, for other programs: JSON of the commands that read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from search.experiment.folder import Home, SearchFolder
from search.experiment.loading import load_stored
from search.reporting.additional_results import additional_documents
from search.reporting.gathering import Gathered
from search.reporting.spending import Spending
from search.reporting.standing import read_standing
from search.reporting.stored_search import StoredSearch
from search.reporting.trial_table import trial_rows
from search.study.summary import summarise
from spaces.errors import BadInputError


def status_documents(names: list[str], home: Home) -> list[dict[str, Any]]:
    """Return the progress of searches; one that cannot be read has only an error."""
    found: list[dict[str, Any]] = []
    for name in names:
        try:
            found.append(status_document(StoredSearch(home.existing(name))))
        except BadInputError as error:
            found.append({"name": name, "error": str(error)})
    return found


def status_document(stored: StoredSearch) -> dict[str, Any]:
    """Return the progress of a search."""
    summary, finalists = summarise(stored.trials), stored.finalists
    standing = read_standing(stored.folder, finalists)
    best = summary.best
    return {
        "name": stored.folder.name,
        "state": stored.state,
        "trained": summary.trained,
        "budget_trials": stored.experiment.budget.trials,
        "running": summary.running,
        **Spending.of(stored).document(),
        "interrupted": summary.interrupted,
        "rejected": summary.rejections,
        "best": None if best is None else {"trial": best.number, "accuracy": best.accuracy},
        "pareto_front": [record.number for record in summary.front],
        "finalists": [
            {
                "trial": finalist.number,
                "test_accuracy": finalist.test_accuracy[0],
                "test_accuracy_std": finalist.test_accuracy[1],
                "validation_accuracy": finalist.validation_accuracy,
                "seeds": len(finalist.results),
            }
            for finalist in finalists
        ],
        "additional": additional_documents(stored.additional),
        "baseline_test_accuracy": standing.baseline.test if standing else None,
    }


def report_document(stored: StoredSearch) -> dict[str, Any]:
    """Return everything that the report of a search says."""
    gathered = Gathered.of(stored)
    data = gathered.data
    return {
        **status_document(stored),
        "experiment": stored.experiment.model_dump(mode="json"),
        "data": None if data is None else data.describe(),
        "trials": trial_rows(stored.experiment, stored.trials),
        "sections": [
            {
                "heading": section.heading,
                "sentences": section.sentences,
                "header": section.header,
                "rows": section.rows,
            }
            for section in gathered.sections()
            if not section.picture
        ],
    }


def list_documents(home: Home) -> list[dict[str, Any]]:
    """Return where each search is and what it searches, without reading its trials."""
    found: list[dict[str, Any]] = []
    for name in home.names():
        folder = home.folder(name)
        try:
            experiment = load_stored(folder)
        except BadInputError as error:
            found.append({"name": name, "folder": str(folder.path), "error": str(error)})
            continue
        found.append(
            {
                "name": name,
                "folder": str(folder.path),
                "started": _started(folder),
                "data": experiment.data,
                "space": experiment.space.name,
                "size_mb": round(folder.size / 1e6, 1),
                "database": experiment.database,
                "storage": experiment.storage,
                "tracked_at": folder.tracked_at,
            }
        )
    return found


def _started(folder: SearchFolder) -> str | None:
    path = folder.path / "id"
    try:
        started = path.stat().st_mtime
    except FileNotFoundError:  # Of an older version, or just deleted.
        return None
    return datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds")
