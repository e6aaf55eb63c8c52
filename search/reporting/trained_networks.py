"""The trained networks of a stored search: with stored weights, or trained again."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from rich.console import Console

from search.console import note, say
from search.experiment.folder import Home, SearchFolder
from search.experiment.loading import load_experiment
from search.experiment.schema import Experiment
from search.experiment.sections import ResourcesSection
from search.experiment.training_spec import describe_training, load_images
from search.formatting import plural
from search.loop.candidates import training_seed
from search.loop.packing import fair_threads
from search.reporting.stored_search import StoredSearch
from search.study.additional import AdditionalFinalist, AdditionalStore, additional_finalists
from search.study.finalists import FinalistStore, best_validated
from search.study.probes import CHAMPION
from search.study.records import TrialRecord
from search.study.summary import summarise
from spaces.architecture import Architecture
from spaces.errors import BadInputError
from trainables.epoch_metrics import EpochMetrics
from trainables.folds import Folds
from trainables.probes.records import title_of_trial
from trainables.specs import FinalistResult, TrainingSpec

if TYPE_CHECKING:
    from torch import nn

    from trainables.data import Dataset


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A trained network of a search, on the CPU unless it was just trained.

    Attributes:
        architecture: its graph.
        module: the network with its weights; see `trainables.builder.Network`.
        dataset: the images, without the fold of its seed if validation is by folds.
        seed: of its training.
        title: the network in words.
        origin: where its weights come from, in words.
        split: on which its accuracy is reported: ``test`` only for finalists and champions.
        results: of all trainings of the finalist or champion, by seed; empty for another trial.
        note: difference from the trial, for a network that was trained again; empty if none.
    """

    architecture: Architecture
    module: nn.Module
    dataset: Dataset
    seed: int
    title: str
    origin: str
    split: str
    results: tuple[FinalistResult, ...] = ()
    note: str = ""


Choice = Callable[[Sequence[FinalistResult]], Sequence[FinalistResult]]
"""Selects trainings of one finalist or champion, given all of them by seed."""


def first_seed(results: Sequence[FinalistResult]) -> Sequence[FinalistResult]:
    """Choose the training with the first seed."""
    return results[:1]


def best_seed(results: Sequence[FinalistResult]) -> Sequence[FinalistResult]:
    """Choose the training with the best validation accuracy."""
    return [best_validated(results)]


class SearchNetworks:
    """Loads trained networks of a stored search.

    Args:
        home: folder of all searches.
        reference: network as the user names it: NAME, NAME:TRIAL, NAME:champion, or NAME:KEY of an
            additional finalist.
        console: shows the decoding of images.
        device: for training again; None for the device of the search.

    Raises:
        BadInputError: there is no such search, or the reference names no trial.
    """

    def __init__(
        self, home: Home, reference: str, console: Console, device: str | None = None
    ) -> None:
        name, colon, key = reference.partition(":")
        is_number = key.isascii() and key.isdigit()
        self.home = home
        self.name = name
        self.reference = reference
        self.console = console
        self.stored = StoredSearch(home.existing(name))
        self.folder: SearchFolder = self.stored.folder
        self._number = int(key) if is_number else None
        self.additional: AdditionalFinalist | None = None
        self._store = FinalistStore(self.folder.finalists)
        self.experiment: Experiment = self.stored.experiment
        if colon and not is_number and key != CHAMPION:
            store, self.additional = self._additional(key)
            self._store = store.finalists
            self.experiment = load_experiment(store.experiment)
        spec = describe_training(self.experiment, self.folder.task)
        threads = _trial_threads(self.experiment.resources)
        self.spec: TrainingSpec = replace(spec, device=device or spec.device, threads=threads)

    def _additional(self, key: str) -> tuple[AdditionalStore, AdditionalFinalist]:
        """Return the additional finalist of a name."""
        known = additional_finalists(self.folder.additional)
        for store, network in known:
            if network.key == key:
                return store, network
        others = "".join(f", {self.name}:{network.key}" for _, network in known)
        remedy = f"write {self.name}, {self.name}:TRIAL{others} or {self.name}:{CHAMPION}"
        raise BadInputError("NETWORK", self.reference, "names no trial", remedy)

    @cached_property
    def dataset(self) -> Dataset:
        """The images of the search.

        Raises:
            BadInputError: they have changed.
        """
        experiment = self.stored.experiment
        dataset = load_images(experiment, self.console, notes=False)
        known = self.folder.data
        if known is not None and (
            difference := known.difference(dataset.identify(experiment.decoding))
        ):
            problem = f"the images have changed since the search ({'; '.join(difference)})"
            raise BadInputError("data", experiment.data, problem, "restore them")
        return dataset

    @cached_property
    def trial(self) -> TrialRecord:
        """The trial of the reference; for a search, that of its best network.

        Raises:
            BadInputError: there is none, or it was never trained.
        """
        trials = {trial.number: TrialRecord.of(trial) for trial in self.stored.trials}
        number = self._best() if self._number is None else self._number
        trial = trials.get(number)
        if trial is None:
            problem = f"{self.name} has no trial {number}"
            remedy = f"use one of 0 to {len(trials) - 1}" if trials else "wait for its first trial"
            raise BadInputError("NETWORK", self.reference, problem, remedy)
        if not trial.is_trained or not trial.epochs:
            why = f"was rejected ({trial.rejected_for})" if trial.is_rejected else "was not trained"
            problem = f"trial {number} of {self.name} {why}"
            raise BadInputError("NETWORK", self.reference, problem, "name a trained trial")
        return trial

    def _best(self) -> int:
        if finalists := self.stored.finalists:
            return finalists[0].number
        best = summarise(self.stored.trials).best
        if best is None:
            problem = "has no trained network yet"
            raise BadInputError("NETWORK", self.reference, problem, "wait, or name a trial")
        say(
            self.console,
            f"{self.name} has no finalists: using trial {best.number}, its best on validation",
        )
        return best.number

    @cached_property
    def results(self) -> list[FinalistResult]:
        """The results of the trial as a finalist, by seed; none if it is no finalist."""
        wanted = self.trial.number if self.additional is None else self.additional.number
        mine = [result for result in self._store.results() if result.number == wanted]
        return sorted(mine, key=lambda result: result.seed)

    @cached_property
    def architecture(self) -> Architecture:
        """The graph of the network.

        Raises:
            BadInputError: there is no such trained network.
        """
        found = self.trial if self.additional is None else self.additional
        return self.spec.candidates().rebuild(found.params, found.digest).architecture

    @property
    def title(self) -> str:
        """The network in words."""
        if self.additional is not None:
            return self.additional.title
        return title_of_trial(self.trial.number, self.trial.truncated)

    def load(self, choose: Choice = first_seed) -> list[TrainedNetwork]:
        """Load the networks of a finalist, or train the network of another trial again.

        Args:
            choose: trainings of a finalist.

        Raises:
            BadInputError: the images have changed, or the weights are damaged.
        """
        if not self.results:
            if self.additional is not None:
                problem = f"{self.title} has no complete training yet"
                remedy = "wait for it, or run the command that trains it again"
                raise BadInputError("NETWORK", self.reference, problem, remedy)
            return [self._train_again()]
        return [
            self.restored(
                self.architecture,
                self._store.weights(result.number, result.seed).read_bytes(),
                result.seed,
                self.results,
                self.title,
                "finalist",
            )
            for result in choose(self.results)
        ]

    def restored(
        self,
        architecture: Architecture,
        state: bytes,
        seed: int,
        results: Sequence[FinalistResult],
        title: str,
        kind: str,
    ) -> TrainedNetwork:
        """Return a network with stored weights.

        Args:
            architecture: of the network.
            state: content of the file of its ``state_dict``.
            seed: of its training.
            results: of all trainings of the candidate.
            title: the network in words.
            kind: finalist or champion.

        Raises:
            BadInputError: the weights are damaged or do not fit the network.
        """
        from trainables.probes.trained import restore_network

        origin = f"{kind} with seed {seed}"
        return TrainedNetwork(
            architecture=architecture,
            module=restore_network(architecture, state, title, origin),
            dataset=self.dataset.finalist_part(seed),
            seed=seed,
            title=title,
            origin=origin,
            split="test",
            results=tuple(results),
        )

    def _train_again(self) -> TrainedNetwork:
        from trainables.probes.trained import train_again

        trial, spec = self.trial, self.spec
        _ = self.dataset  # Refuses changed images before anything is trained.
        title = title_of_trial(trial.number, trial.truncated)
        seed = training_seed(trial.digest, self.stored.experiment.seed)
        part = ", without one fold" if isinstance(spec.data.validation, Folds) else ""
        say(
            self.console,
            f"{title} has no stored weights: training it again with its seed {seed} for "
            f"{trial.epochs} of {spec.epochs} epochs{part}",
        )

        def report(epoch: int) -> None:
            note(f"epoch {epoch} of {trial.epochs}")

        training, last = train_again(spec, trial.params, trial.digest, seed, trial.epochs, report)
        return TrainedNetwork(
            architecture=training.architecture,
            module=training.evaluated,
            dataset=training.dataset,
            seed=seed,
            title=title,
            origin=f"trained again with seed {seed} for {trial.epochs} epochs{part}",
            split="validation",
            note="" if part else describe_difference(trial, last, spec.threads),
        )


def _trial_threads(resources: ResourcesSection) -> int:
    """Return the CPU threads that trained each trial, if its node has as many CPUs as this one."""
    if resources.cpus is not None or resources.concurrent is None:
        return resources.cpus or 1
    return fair_threads([{"CPU": os.cpu_count() or 1}], resources.concurrent)


def describe_difference(trial: TrialRecord, again: EpochMetrics, threads: int) -> str:
    """Return how the accuracy of a trial that was trained again differs; empty if it does not."""
    before = trial.history.get(again.epoch)
    if before is None or before.validation_accuracy == again.validation_accuracy:
        return ""
    return (
        f"trained again with {plural(threads, 'CPU thread')}, the network reaches a validation "
        f"accuracy of {again.validation_accuracy:.4f} instead of {before.validation_accuracy:.4f}: "
        "another device, processor or number of threads rounds sums differently"
    )
