"""Compares a night's best finalist with the champion and promotes it if it is better."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search.nightly.champions import Champion, ChampionStore, Contender, Files
from search.nightly.history import Decision, Ruling
from search.nightly.identity import JudgedImages
from search.study.finalists import Finalist, FinalistStore
from search.study.records import TrialRecord
from search.study.significance import Comparison, compare
from search.tracking.pyfunc_model import PyfuncModel
from spaces.errors import BadInputError


class Challenge:
    """The comparison of a night's best finalist with the champion.

    Args:
        search: identity of the search.
        night: name of the night.
        trial: of the finalist.
        finalist: the best by validation accuracy.
        candidate: JSON of the candidate.
        data: identity of the test images.
        labels: true class of each test image, int64 [images].
        folder: of the finalists' results.
        model: the finalist's network as a model of MLflow; None without one.
    """

    def __init__(
        self,
        search: str,
        night: str,
        trial: TrialRecord,
        finalist: Finalist,
        candidate: str,
        data: JudgedImages,
        labels: NDArray[np.int64],
        folder: Path,
        model: PyfuncModel | None = None,
    ) -> None:
        results = finalist.results
        self.contender = Contender(search, trial.number, night, trial.digest, data, results)
        self._finalist = finalist
        self._candidate = candidate
        self._labels = labels
        self._results = FinalistStore(folder)
        self._model = model

    def decide(self, store: ChampionStore, alpha: float) -> Decision:
        """Compare, promote the finalist if it is better, and return the decision.

        Args:
            store: of the champion.
            alpha: see `search.study.significance.compare`.

        Raises:
            BadInputError: the champion was judged on other images, or no night promoted it.
            UnavailableError: the store is unavailable or does not accept the promotion.
        """
        own, champion = self.contender, store.current()
        if champion is None:
            return Decision(Ruling.FIRST, own.trial, self._promote(store, None))
        refuse_other_data(store.model, champion, own.data)
        other = champion.contender
        rival = describe(champion)
        if (other.search, other.digest) == (own.search, own.digest):
            return Decision(Ruling.SAME, own.trial, champion.version, rival)
        comparison = compare(
            self._right(self._predictions()), self._right(champion.predictions), alpha
        )
        if not comparison.is_better:
            return Decision(Ruling.KEPT, own.trial, champion.version, rival, comparison)
        version = self._promote(store, comparison)
        return Decision(Ruling.PROMOTED, own.trial, version, rival, comparison)

    def _predictions(self) -> list[NDArray[np.int32]]:
        number = self._finalist.number
        found = [self._results.predictions(number, each.seed) for each in self._finalist.results]
        return [each for each in found if each is not None]

    def _right(self, predictions: Sequence[NDArray[np.int32]]) -> NDArray[np.bool_]:
        """Return whether each training is right about each image, bool [trainings, images]."""
        right: NDArray[np.bool_] = np.stack(predictions) == self._labels
        return right

    def _promote(self, store: ChampionStore, comparison: Comparison | None) -> str:
        number, seeds = self._finalist.number, [each.seed for each in self._finalist.results]
        files = Files(
            self._candidate,
            {seed: self._results.record(number, seed) for seed in seeds},
            {seed: self._results.weights(number, seed) for seed in seeds},
            self._model,
        )
        mean, spread = self._finalist.test_accuracy
        metrics = {
            "test_accuracy_mean": mean,
            "test_accuracy_std": spread,
            "validation_accuracy": self._finalist.validation_accuracy,
        }
        if comparison is not None:
            metrics |= {"difference": comparison.difference, "p_value": comparison.p_value}
        return store.promote(self.contender, files, metrics)


def refuse_other_data(model: str, champion: Champion, data: JudgedImages) -> None:
    """Check that the champion was judged on the same images.

    Raises:
        BadInputError: it was judged on other images.
    """
    difference = champion.contender.data.difference(data)
    if difference:
        problem = f"its champion (version {champion.version}) cannot be compared: {difference}"
        remedy = "restore the images, or set another nightly.model"
        raise BadInputError("nightly.model", model, problem, remedy)


def describe(champion: Champion) -> str:
    """Return a description of the champion."""
    own = champion.contender
    return f"version {champion.version} (trial {own.trial} of the night {own.night})"
