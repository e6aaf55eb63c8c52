"""Saved views of MLflow's run list: filter, order, columns and charts, as tags of an experiment.

MLflow's front end stores a saved view as the experiment tag ``mlflow.sharedViewState.<id>`` and
opens it at ``?viewStateShareKey=<id>``. The value of the tag is JSON: either the state itself, or
an envelope with a name, two times and the state as text, which the menu *Views* lists. A state may
be compressed: ``deflate;`` and zlib data in base 64.

`tests/search/tracking/test_saved_views.py` opens the views in a browser with the pinned version.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from search.tracking.run_tag import RUN_TAG, run_tag

TAG = "mlflow.sharedViewState."
PRIMARY_METRIC_TAG = "mlflow.experiment.primaryMetric.name"
"""The metric whose chart MLflow shows first."""
FIRST_COLUMNS = ("objective", "test_accuracy_mean", "params", "macs", "seconds")
"""Metrics that searches, trials and finalists have in common; the first columns of each view."""
LOADED = 100
"""Runs that MLflow's front end loads at a time; charts and tables hold no others."""

_COMPRESSED = "deflate;"
_AXES = (
    *("convolutions", "pools", "features_first", "features_middle", "features_last"),
    *("features_largest", "learning_rate", "weight_decay"),
)
"""Params on the axes of the parallel coordinates: every candidate has each of them."""


@dataclass(frozen=True)
class SavedView:
    """A saved view of an experiment.

    Attributes:
        key: of the view in the address and in the tag.
        name: shown to people.
        state: as MLflow's front end holds it.
        is_listed: the menu *Views* lists the view; it holds at most 40.
        shows_charts: the view opens on its charts instead of its table.
    """

    key: str
    name: str
    state: dict[str, Any]
    is_listed: bool
    shows_charts: bool

    @property
    def tag(self) -> str:
        """The key of the experiment's tag."""
        return f"{TAG}{self.key}"

    def value(self, time: int) -> str:
        """Return the value of the experiment's tag.

        Args:
            time: of creation, in milliseconds since the epoch.
        """
        packed = zlib.compress(json.dumps(self.state, separators=(",", ":")).encode(), 9)
        state = _COMPRESSED + base64.b64encode(packed).decode()
        if not self.is_listed:
            return state
        envelope = {"name": self.name, "createdAt": time, "updatedAt": time, "state": state}
        return json.dumps(envelope)

    def address(self, server: str, experiment: str) -> str:
        """Return where a server shows the view.

        Args:
            server: address of the tracking server.
            experiment: id of the experiment.
        """
        query = urlencode(
            {
                "viewStateShareKey": self.key,
                "compareRunsMode": "CHART" if self.shows_charts else "TABLE",
                # Without it, MLflow opens its pages for language models.
                "workflowType": "machine_learning",
            }
        )
        return f"{server.rstrip('/')}/#/experiments/{experiment}/runs?{query}"


def experiment_views() -> tuple[SavedView, ...]:
    """Return the views of an experiment over all of its searches; the menu *Views* lists them."""
    return (
        _table("borderline-searches", "All searches", "tags.kind = 'search'", is_listed=True),
        _pareto("borderline-pareto", "Trials: accuracy and costs", _TRIALS, is_listed=True),
        _parallel("borderline-parallel", "Trials: parallel coordinates", _TRIALS, is_listed=True),
    )


def search_views(search: str) -> tuple[SavedView, ...]:
    """Return the views of one search: leaderboard, Pareto scatter and parallel coordinates.

    Args:
        search: identity of the search in the store.
    """
    own = f"tags.`{RUN_TAG}` LIKE '{run_tag(search, '')}%'"
    trials = f"{own} AND {_TRIALS}"
    key = quote(search, safe="")
    return (
        _table(f"borderline-leaderboard-{key}", "Leaderboard", own),
        _pareto(f"borderline-pareto-{key}", "Accuracy and costs", trials),
        _parallel(f"borderline-parallel-{key}", "Parallel coordinates", trials),
    )


_TRIALS = "tags.kind = 'trial'"
_STRUCTURE = ("convolutions", "features", "pools_after")
_SECTION = "borderline"


def _table(key: str, name: str, runs: str, *, is_listed: bool = False) -> SavedView:
    state = _state(runs, [_scatter("params"), _bars("objective")], columns=2, height=420)
    return SavedView(key, name, state, is_listed, shows_charts=False)


def _pareto(key: str, name: str, runs: str, *, is_listed: bool = False) -> SavedView:
    charts = [_scatter(cost) for cost in ("params", "macs", "seconds")]
    state = _state(runs, charts, columns=2, height=420)
    return SavedView(key, name, state, is_listed, shows_charts=True)


def _parallel(key: str, name: str, runs: str, *, is_listed: bool = False) -> SavedView:
    chart = {
        **_card("PARALLEL", "parallel"),
        "selectedParams": [*_AXES],
        # The last metric colours the lines.
        "selectedMetrics": ["params", "macs", "seconds", "objective"],
        "showAllRuns": True,
    }
    state = _state(runs, [chart], columns=1, height=560)
    return SavedView(key, name, state, is_listed, shows_charts=True)


def _state(
    runs: str, charts: Sequence[dict[str, Any]], *, columns: int, height: int
) -> dict[str, Any]:
    """Return a state that shows runs by objective, with charts in a grid of cards.

    Args:
        runs: filter of the runs.
        charts: configuration of each chart.
        columns: of the grid.
        height: of each card in pixels.
    """
    shown = [
        *(f"metrics.`{name}`" for name in FIRST_COLUMNS),
        *(f"params.`{name}`" for name in _STRUCTURE),
    ]
    own = _section(_SECTION, "Search", display=True)
    return {
        "searchFilter": runs,
        "orderByKey": "metrics.`objective`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": shown,
        "columnOrder": shown,
        "columnWidths": {},
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": [*charts],
        "compareRunSections": [
            {**own, "columns": columns, "cardHeight": height},
            # MLflow adds a chart for each metric to these sections.
            _section("model-metrics", "Model metrics", display=False),
            _section("system-metrics", "System metrics", display=False),
        ],
        "isAccordionReordered": True,
    }


def _section(key: str, name: str, *, display: bool) -> dict[str, Any]:
    return {
        "uuid": key,
        "name": name,
        "display": display,
        "isReordered": False,
        "deleted": False,
        "isGenerated": False,
    }


def _card(kind: str, key: str) -> dict[str, Any]:
    return {
        "uuid": key,
        "type": kind,
        "metricSectionId": _SECTION,
        "runsCountToCompare": LOADED,
        "deleted": False,
        "isGenerated": False,
    }


def _scatter(cost: str) -> dict[str, Any]:
    return {
        **_card("SCATTER", f"objective-{cost}"),
        "xaxis": {"key": cost, "type": "METRIC"},
        "yaxis": {"key": "objective", "type": "METRIC"},
    }


def _bars(metric: str) -> dict[str, Any]:
    return {**_card("BAR", f"bar-{metric}"), "metricKey": metric}
