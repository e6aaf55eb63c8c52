"""A search as Ray Tune's documentation writes it: OptunaSearch with ASHAScheduler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from optuna.trial import Trial as OptunaTrial
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from ray.tune.stopper import Stopper

from trainables.specs import TrainingSpec

ACCURACY, SECONDS = "validation_accuracy", "epoch_seconds"
METRICS = (ACCURACY, SECONDS)


@dataclass(frozen=True)
class Report:
    """An epoch of a trial, as Tune received it.

    Attributes:
        trial: identifier of the trial.
        params: that the search drew.
        accuracy: on the validation split, 0..1.
        seconds: wall clock of the epoch.
    """

    trial: str
    params: Mapping[str, Any]
    accuracy: float
    seconds: float


@dataclass
class Until(Stopper):
    """Ends a search after some device-seconds and trials, and keeps all reports in their order."""

    seconds: float
    trials: int
    reports: list[Report] = field(default_factory=list)

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Keep a report; no trial ends by it."""
        self.reports.append(
            Report(trial_id, dict(result["config"]), result[ACCURACY], result[SECONDS])
        )
        return False

    def stop_all(self) -> bool:
        """Tell whether the search has had its budget."""
        # One more trial, so that all before it have had the chance to end.
        started = len({report.trial for report in self.reports})
        spent = sum(report.seconds for report in self.reports)
        return started > self.trials and spent >= self.seconds


def define_by_run(spec: TrainingSpec, trial: OptunaTrial) -> None:
    """Suggest the parameters of a candidate."""
    spec.candidates().draw(trial)


def search_with_tune(
    spec: TrainingSpec, seed: int, *, seconds: float, trials: int, cpus: int, folder: Path
) -> list[Report]:
    """Search with Ray Tune, Optuna's default sampler and ASHA with Tune's defaults.

    Ray is connected.

    Args:
        spec: the images, the space, and the training.
        seed: of the sampler and the trainings.
        seconds: device-seconds after which the search ends.
        trials: fewest trials.
        cpus: trials at a time, each on one CPU.
        folder: for Tune's files.
    """

    def train(config: dict[str, Any]) -> None:
        from trainables.trial import start_training  # noqa: PLC0415 - imports torch

        training = start_training(spec, spec.candidates().rebuild(config), seed)
        for _ in range(spec.epochs):
            values = training.run_epoch().values
            tune.report({name: values[name] for name in METRICS})

    until = Until(seconds, trials)
    tune.Tuner(
        train,
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(
                space=partial(define_by_run, spec), metric=ACCURACY, mode="max", seed=seed
            ),
            scheduler=ASHAScheduler(metric=ACCURACY, mode="max", max_t=spec.epochs),
            num_samples=-1,
            max_concurrent_trials=cpus,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(storage_path=str(folder), stop=until, verbose=0),
    ).fit()
    return until.reports
