"""The rule by which a night's best finalist becomes the champion, or does not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search.nightly.champions import Champion, ChampionStore, Contender, Files
from search.nightly.history import Decision, Ruling
from search.nightly.identity import DataIdentity
from search.nightly.significance import Comparison, compare
from search.study.finalists import Finalist, FinalistStore
from search.study.records import TrialRecord
from spaces.errors import BadInputError


class Challenge:
    """A night's best finalist, about to be compared with the champion.

    Args:
        search: identity of the search.
        night: name of the night.
        trial: that the finalist comes from.
        finalist: the best one by its validation accuracy.
        candidate: JSON of the whole candidate.
        data: what it was judged on.
        labels: true class of each test image, int64 [images].
        folder: of the retrainings.
    """

    def __init__(
        self,
        search: str,
        night: str,
        trial: TrialRecord,
        finalist: Finalist,
        candidate: str,
        data: DataIdentity,
        labels: NDArray[np.int64],
        folder: Path,
    ) -> None:
        results = finalist.results
        self.contender = Contender(search, trial.number, night, trial.digest, data, results)
        self._finalist = finalist
        self._candidate = candidate
        self._labels = labels
        self._kept = FinalistStore(folder)

    def decide(self, store: ChampionStore, alpha: float) -> Decision:
        """Compare, promote what is better, and say what came of it.

        Args:
            store: of the champion.
            alpha: see `search.nightly.significance.compare`.

        Raises:
            BadInputError: the champion was judged on other images, or is none of ours.
            UnavailableError: the store cannot be reached or does not take it.
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
        found = [self._kept.predictions(number, each.seed) for each in self._finalist.results]
        return [each for each in found if each is not None]

    def _right(self, predictions: Sequence[NDArray[np.int32]]) -> NDArray[np.bool_]:
        """Return whether each training is right about each image, bool [trainings, images]."""
        right: NDArray[np.bool_] = np.stack(predictions) == self._labels
        return right

    def _promote(self, store: ChampionStore, comparison: Comparison | None) -> str:
        number, seeds = self._finalist.number, [each.seed for each in self._finalist.results]
        files = Files(
            self._candidate,
            {seed: self._kept.record(number, seed) for seed in seeds},
            {seed: self._kept.weights(number, seed) for seed in seeds},
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


def refuse_other_data(model: str, champion: Champion, data: DataIdentity) -> None:
    """Refuse to compare with a champion that was judged on other images.

    Raises:
        BadInputError: as said.
    """
    difference = champion.contender.data.difference(data)
    if difference:
        problem = f"its champion (version {champion.version}) cannot be compared: {difference}"
        remedy = "bring back the images, or set another nightly.model"
        raise BadInputError("nightly.model", model, problem, remedy)


def describe(champion: Champion) -> str:
    """Return what the champion is, in words."""
    own = champion.contender
    return f"version {champion.version} (trial {own.trial} of the night {own.night})"
