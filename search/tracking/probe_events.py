"""Probes in the journal: two files of a run, and metrics with one step for each convolution."""

from __future__ import annotations

from search.tracking.journal import Journal
from search.tracking.journal_events import Metrics
from search.tracking.probe_plot import probe_plot
from trainables.probes.records import METRICS, NetworkProbes


def record_probes(
    journal: Journal,
    key: str,
    probes: NetworkProbes,
    *,
    name: str = "probes",
    measured: NetworkProbes | None = None,
    metrics: bool = True,
) -> None:
    """Record probes as files of a run and, by default, as its metrics.

    Args:
        journal: of the search.
        key: of the run, which has started.
        probes: of its network, for the files.
        name: of the files, without suffix.
        measured: the probes whose metrics are new; None for all.
        metrics: whether to record metrics, whose steps are the numbers of the convolutions.
    """
    files = {f"{name}.json": probes.to_json(), f"{name}.svg": probe_plot(probes)}
    journal.update(key, artifacts=files)
    for number, layer in enumerate((measured or probes).layers, start=1):
        if metrics and layer.metrics:
            journal.metrics(key, number, layer.metrics)


def is_of_probes(event: Metrics) -> bool:
    """Tell whether metrics belong to a convolution rather than to an epoch or a seed."""
    return bool(event.metrics) and event.metrics.keys() <= set(METRICS)
