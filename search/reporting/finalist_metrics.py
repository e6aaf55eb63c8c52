"""The metrics of finalists beside accuracy, from the stored predictions of the test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

import numpy as np

from search.experiment.folder import SearchFolder
from search.experiment.metrics import load_metrics, measure
from search.experiment.schema import Experiment
from search.reporting.rendering import Section
from search.study.finalists import Finalist, FinalistStore
from spaces.user_code import search_folders

_NONE = np.empty((0, 0), dtype=np.float32)

Values = Mapping[int, Mapping[str, tuple[float, float | None]]]
"""By number of the finalist and name of the metric: mean over the seeds, and their deviation,
which is None for one seed."""


def read_metrics(
    folder: SearchFolder, experiment: Experiment, finalists: Sequence[Finalist]
) -> Values:
    """Return the metrics of finalists on test.

    Empty without metrics, or before the labels of the test images are stored with the baseline. The
    baseline holds the labels of at most 10,000 test images.

    Raises:
        BadInputError: a metric fails.
    """
    baseline = folder.baseline
    if not experiment.metrics or baseline is None:
        return {}
    metrics = load_metrics(experiment.metrics, search_folders(experiment.modules))
    rows = np.array(baseline.rows, dtype=np.int64)
    labels = np.array(baseline.labels, dtype=np.int64)
    store = FinalistStore(folder.finalists)
    found: dict[int, dict[str, tuple[float, float | None]]] = {}
    for finalist in finalists:
        stored = [store.predictions(finalist.number, each.seed) for each in finalist.results]
        scores = [store.probabilities(finalist.number, each.seed) for each in finalist.results]
        known = [
            (each[rows].astype(np.int64), None if score is None else score[rows])
            for each, score in zip(stored, scores, strict=True)
            if each is not None
        ]
        values: dict[str, tuple[float, float | None]] = {}
        for name, metric in metrics.items():
            needs = metric.of_probabilities
            each = [
                measure(name, metric, labels, predicted, _NONE if score is None else score)
                for predicted, score in known
                if not needs or score is not None
            ]
            if each:
                values[name] = (fmean(each), stdev(each) if len(each) > 1 else None)
        if values:
            found[finalist.number] = values
    return found


def metrics_section(values: Values) -> list[Section]:
    """Return the section of a report; none without metrics."""
    if not values:
        return []
    names = list(dict.fromkeys(name for each in values.values() for name in each))
    rows = [
        (str(number), *(_shown(*each[name]) if name in each else "-" for name in names))
        for number, each in values.items()
    ]
    sentences = [
        "Mean and standard deviation over the seeds, on the test images; they rank nothing."
    ]
    if any(len(each) < len(names) for each in values.values()):
        sentences.append("-: trained before the metric was set, so no probabilities are stored.")
    header = ("trial", *names)
    return [Section("Further metrics of the finalists", tuple(sentences), header, tuple(rows))]


def _shown(mean: float, deviation: float | None) -> str:
    return f"{mean:.4f}" if deviation is None else f"{mean:.4f} ± {deviation:.4f}"
