"""Measures the overhead of a search over Ray Tune: ``python benchmarks/trial_overhead.py``.

Ours: a whole search with 60 trials of near-zero training (one epoch over some 250 images of 8x8
pixels): loading, pre-flight, draws, screens, study in sqlite, complete tracking into a fresh MLflow
store, report. Baseline: bare Ray Tune with ``reuse_actors=True`` trains the same number of
candidates of the same space with the same trainable. The figures are wall-clock times, each in its
own process, from before Ray starts until after its shutdown, without imports of torch and Ray.

Last figures (November 2026; two cores; Python 3.11, torch 2.14.1, Ray 2.60.0, Optuna 5.0.0, MLflow
3.17.2): ratio 1.4 to 1.6.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
from harness import Figure, alternate, options, show
from optuna.samplers import RandomSampler
from ray import tune
from rich.console import Console

from search.backend.connection import connected
from search.backend.trial_actor import TrialActor
from search.backend.tuning import concurrent_trials, plan_packing
from search.driver.run import run_search
from search.experiment.folder import Home
from search.experiment.loading import parse_experiment
from search.experiment.schema import Experiment
from search.experiment.training_spec import describe_task, describe_training, load_images
from search.loop.screens import build_screens, judge
from search.study.study import Study
from trainables.specs import TrainingSpec


def experiment(trials: int) -> Experiment:
    return parse_experiment(
        {
            "name": "overhead",
            "data": "digits",
            "subset": 0.2,
            "space": {"name": "vgg", "depth": [2, 8], "features": [8, 48]},
            "recipe": {"batch_size": 64},
            "epochs": 1,
            "sampler": "random",
            "scheduler": {"name": "none"},
            "budget": {"trials": trials},
            "finalists": {"count": 0},
        }
    )


class BareTrial(TrialActor):
    """The same training with configs that are drawn beforehand and passed by Tune's grid."""

    def setup(self, config: dict[str, Any], spec: TrainingSpec) -> None:  # type: ignore[override]
        """Begin with the drawn config."""
        super().setup(config["candidate"], spec)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Go on with the next drawn config."""
        return super().reset_config(new_config["candidate"])


def run_ours(trials: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        run_search(experiment(trials), Home(Path(folder)), Console(quiet=True))
        return time.perf_counter() - started


def run_bare(trials: int) -> float:
    asked = experiment(trials)
    spec = describe_training(asked, describe_task(load_images(asked, Console(quiet=True))))
    space, screens = spec.candidates(), build_screens(asked.screens)
    study = Study("bare", RandomSampler(seed=0))
    configs: list[dict[str, object]] = []
    while len(configs) < trials:
        trial = study.ask()
        if judge(space.draw(trial), screens) is None:
            configs.append({"number": trial.number, "params": trial.params, "seed": trial.number})
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        with connected("local"):
            packing = plan_packing(asked)
            tune.Tuner(
                tune.with_resources(
                    tune.with_parameters(BareTrial, spec=spec),
                    {"cpu": packing.cpus, "gpu": packing.smallest_fraction},
                ),
                param_space={"candidate": tune.grid_search(configs)},
                tune_config=tune.TuneConfig(
                    max_concurrent_trials=concurrent_trials(asked, packing), reuse_actors=True
                ),
                run_config=tune.RunConfig(
                    storage_path=folder,
                    verbose=0,
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            ).fit()
        ray.shutdown()
        return time.perf_counter() - started


def in_process(which: str, trials: int) -> float:
    result = subprocess.run(
        [sys.executable, __file__, which, str(trials)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return float(result.stdout.split()[-1])


def main() -> None:
    if len(sys.argv) == 3 and sys.argv[1] in ("ours", "bare"):
        run = run_ours if sys.argv[1] == "ours" else run_bare
        print(run(int(sys.argv[2])))
        return
    given = options(__doc__)
    trials, rounds = (8, 1) if given.quick else (60, 3)
    ours, bare, ratio = alternate(
        lambda: in_process("ours", trials), lambda: in_process("bare", trials), rounds
    )
    figure = f"{trials} trials through the whole search; against bare Ray Tune"
    show([Figure(figure, ours, bare, ratio, "ratio <= 1.3", "s")], given.json)


if __name__ == "__main__":
    main()
