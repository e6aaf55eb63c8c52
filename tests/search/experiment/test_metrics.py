"""Metrics of finalists agree with scikit-learn's."""

from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    balanced_accuracy_score,
    f1_score,
    roc_auc_score,
    top_k_accuracy_score,
)

from search.experiment import metrics
from search.experiment.loading import parse_experiment
from search.experiment.metrics import auc, balanced_accuracy, f1, load_metrics, top5
from spaces.errors import BadInputError

PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
@given(pairs=PAIRS)
def test_metrics_agree_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    labels, predictions = (np.array(each, dtype=np.int64) for each in zip(*pairs, strict=True))
    known = sorted(set(labels.tolist()))
    expected = f1_score(labels, predictions, labels=known, average="macro", zero_division=0)
    assert f1(labels, predictions) == pytest.approx(expected)
    if len(known) > 1:
        expected = balanced_accuracy_score(labels, predictions)
        assert balanced_accuracy(labels, predictions) == pytest.approx(expected)


def test_examples_of_metrics_hold() -> None:
    assert doctest.testmod(metrics).failed == 0


@pytest.mark.parametrize(
    ("given_names", "says"),
    [
        (["f1_"], "did you mean f1?"),
        (["recall"], "use balanced_accuracy, f1, top5, auc or module:function"),
        (["f1", "f1"], "name each metric once"),
    ],
)
def test_unknown_metric_is_refused(given_names: list[str], says: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse_experiment({"metrics": given_names})
    assert says in str(caught.value)


def test_metrics_of_probabilities_agree_with_scikit_learn() -> None:
    random = np.random.default_rng(0)
    labels = np.concatenate([np.arange(8), random.integers(0, 8, 60)])
    scores = random.dirichlet(np.ones(8), len(labels)).astype(np.float32)
    predicted = scores.argmax(axis=1)
    assert top5(labels, predicted, scores) == pytest.approx(
        top_k_accuracy_score(labels, scores, k=5)
    )
    expected = np.mean([roc_auc_score(labels == each, scores[:, each]) for each in range(8)])
    assert auc(labels, predicted, scores) == pytest.approx(expected)
    # A class without a test image does not count.
    wider = np.concatenate([scores, np.zeros((len(labels), 1), dtype=np.float32)], axis=1)
    assert auc(labels, predicted, wider) == pytest.approx(expected)


def test_only_a_third_argument_takes_probabilities(tmp_path: Path) -> None:
    (tmp_path / "my_scores.py").write_text(
        "def sure(labels, predictions, probabilities): return 1.0\n"
        "def known(labels, predictions, probabilities=None): return 1.0\n"
        "def scaled(labels, predictions, beta=1.0): return 1.0\n"
        "def named(labels, predictions, *, average='macro'): return 1.0\n"
        "def more(labels, predictions, probabilities, beta=1.0): return 1.0\n"
    )
    names = [f"my_scores:{name}" for name in ("sure", "known", "scaled", "named", "more")]
    found = load_metrics(names, [str(tmp_path)])
    assert [found[name].of_probabilities for name in names] == [True, True, False, False, True]
