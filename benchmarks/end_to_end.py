"""Compares a whole search with one by Ray Tune and Optuna: ``end_to_end.py --data images:MNIST``.

For each seed, draws 1,500 training images (a third of them for validation) and 5,000 test images,
and searches plain networks twice:

- ours: ``search.py run`` with an experiment of images, space, recipe, epochs and 20 trials; all
  else has its default: sampler, screens, ASHA, and three finalists of three seeds;
- the baseline (`quality.plain_tune`): Ray Tune with ``OptunaSearch`` and ``ASHAScheduler``, as
  their documentation writes it. It draws from the same space, and trains by the same function on
  the same images, until it has spent the device-seconds of our whole search.

Device-seconds are the wall-clock time of epochs, and for finalists of whole trainings. A search may
be stopped after any number of them, so one run of the baseline gives its choice at each budget: the
trial whose last validation accuracy is best. Each chosen network is then trained with three further
seeds. A figure is the mean error of these trainings; its ratio is that of the mean errors over the
seeds, with a standard error (jackknife).

Seeds 1000 and above are for development: report others. Each finished seed is appended to
``--work``, and the same command continues. ``--write`` writes
``benchmarks/results/end_to_end.csv``.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml
from harness import Table, option_parser
from optuna.trial import TrialState
from PIL import Image
from quality.choices import Choice, Run, Settings, figures, write_csv
from quality.plain_tune import Report, search_with_tune

from experiments.reproduction.record_lines import append_line, complete_lines, drop_incomplete_line
from search.backend.connection import connected
from search.experiment.folder import SearchFolder
from search.experiment.training_spec import describe_training
from search.reporting.stored_search import StoredSearch
from search.study.records import TrialRecord
from trainables.data import Dataset, load
from trainables.specs import DataSpec, TrainingSpec
from trainables.training.process import prepare_process
from trainables.trial import start_training

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results"
WORK = Path("runs/end_to_end.jsonl")
FRESH_SEED = 1_000_000
"""First seed of the trainings that judge a choice; no search uses it."""
EXPERIMENT: Mapping[str, Any] = {
    "space": {
        "name": "vgg",
        "depth": [2, 8],
        "features": [8, 32],
        "kernel": [3, 5],
        "convs_before_pool": [1, 4],
    },
    "recipe": {
        "learning_rate": [0.02, 0.5],
        "weight_decay": [1e-5, 1e-2],
        "batch_size": 64,
        "label_smoothing": [0.0, 0.1],
    },
    "tracking": {"enabled": False},
}


class Args(argparse.Namespace):
    """The options."""

    quick: bool
    json: Path | None
    data: str
    resolution: int | None
    seeds: list[int]
    work: Path
    address: str
    write: bool


def parse(arguments: Sequence[str] | None = None) -> Args:
    """Return the options."""
    parser = option_parser(__doc__)
    parser.add_argument("--data", default="digits", help="source of the images")
    parser.add_argument("--resolution", type=int, help="side of the images in pixels")
    parser.add_argument("--seeds", type=_range, default=list(range(10)), help="such as 0-9")
    parser.add_argument("--work", type=Path, default=WORK, help=f"default: {WORK}")
    parser.add_argument("--address", default="local", help="Ray cluster; local starts one")
    parser.add_argument("--write", action="store_true", help="write the CSV file")
    return parser.parse_args(arguments, namespace=Args())


def _range(text: str) -> list[int]:
    first, dash, last = text.partition("-")
    return list(range(int(first), int(last if dash else first) + 1))


def write_images(dataset: Dataset, folder: Path, seed: int, settings: Settings) -> None:
    """Write random images to ``train/CLASS`` and ``test/CLASS``, equally many of each class."""
    chance = np.random.default_rng(seed)
    pools = {
        "train": (np.concatenate([dataset.train, dataset.validation]), settings.images),
        "test": (dataset.test, settings.tested),
    }
    for split, (rows, number) in pools.items():
        for label, name in enumerate(dataset.classes):
            place = folder / split / name
            place.mkdir(parents=True)
            of_class = chance.permutation(rows[dataset.labels[rows] == label])
            for row in of_class[: number // len(dataset.classes)]:
                pixels = dataset.images[row]
                shown = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
                Image.fromarray(shown).save(place / f"{row}.png")


def search(home: Path, images: Path, seed: int, settings: Settings) -> StoredSearch:
    """Run our search."""
    count, seeds = settings.finalists
    experiment = dict(EXPERIMENT) | {
        "name": "ours",
        "seed": seed,
        "data": f"images:{images}",
        "validation": settings.validation,
        "epochs": settings.epochs,
        "budget": {"trials": settings.trials},
        "finalists": {"count": count, "seeds": seeds},
        "resources": {"concurrent": settings.cpus},
    }
    file = home / "experiment.yaml"
    file.write_text(yaml.safe_dump(experiment), encoding="utf-8")
    command: list[str | Path] = [
        sys.executable,
        ROOT / "search.py",
        "run",
        file,
        "--home",
        home / "runs",
    ]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"seed {seed}: our search failed:\n{done.stdout}{done.stderr}")
    return StoredSearch(SearchFolder(home / "runs" / "ours"))


def our_choices(found: StoredSearch) -> dict[str, Choice]:
    """Return what our search chooses, before and after it retrains its finalists."""
    records = {trial.number: TrialRecord.of(trial) for trial in found.trials}
    trained = {number: each for number, each in records.items() if each.is_trained}
    seconds = sum(each.device_seconds for each in trained.values())
    complete = [n for n, each in trained.items() if each.outcome is TrialState.COMPLETE]
    best = max(complete, key=lambda number: trained[number].accuracy or 0.0)
    params = {trial.number: trial.params for trial in found.trials}
    finalist = found.finalists[0]
    retrained = sum(result.seconds for each in found.finalists for result in each.results)
    return {
        "ours": Choice(
            params=params[best],
            shown=trained[best].accuracy or 0.0,
            trials=len(trained),
            seconds=seconds,
        ),
        "ours with finalists": Choice(
            params=params[finalist.number],
            shown=finalist.validation_accuracy,
            trials=len(trained),
            seconds=seconds + retrained,
        ),
    }


def choose(reports: Sequence[Report]) -> Choice:
    """Return the trial whose last accuracy is best, as Tune's ``get_best_result`` does."""
    last = {report.trial: report for report in reports}
    best = max(last.values(), key=lambda report: report.accuracy)
    seconds = sum(report.seconds for report in reports)
    return Choice(params=dict(best.params), shown=best.accuracy, trials=len(last), seconds=seconds)


def first_trials(reports: Sequence[Report], trials: int) -> list[Report]:
    """Return the reports of the trials that started first."""
    names = list(dict.fromkeys(report.trial for report in reports))[:trials]
    return [report for report in reports if report.trial in names]


def first_seconds(reports: Sequence[Report], seconds: float) -> list[Report]:
    """Return the reports until some device-seconds are spent, at least one."""
    spent = 0.0
    for count, report in enumerate(reports):
        if spent >= seconds:
            return list(reports[:count])
        spent += report.seconds
    return list(reports)


def judge(spec: TrainingSpec, params: Mapping[str, Any], settings: Settings) -> tuple[float, float]:
    """Return mean validation and test accuracy of trainings of a network with further seeds."""
    candidate = spec.candidates().rebuild(params)
    validation, test = [], []
    for seed in range(FRESH_SEED, FRESH_SEED + settings.judged):
        training = start_training(spec, candidate, seed)
        while training.epoch < spec.epochs:
            training.run_epoch()
        validation.append(training.score("validation")[1])
        test.append(training.score("test")[1])
    return mean(validation), mean(test)


def measure(dataset: Dataset, seed: int, settings: Settings) -> Run:
    """Search with both, and judge what they chose."""
    with TemporaryDirectory() as folder:
        home = Path(folder)
        write_images(dataset, home / "images", seed, settings)
        found = search(home, home / "images", seed, settings)
        choices = our_choices(found)
        before, whole = (choices[name].seconds for name in ("ours", "ours with finalists"))
        spec = describe_training(found.experiment, found.folder.task)
        reports = search_with_tune(
            spec, seed, seconds=whole, trials=settings.trials, cpus=settings.cpus, folder=home
        )
        choices |= {
            "tune at equal trials": choose(first_trials(reports, settings.trials)),
            "tune at equal seconds": choose(first_seconds(reports, before)),
            "tune at the whole seconds": choose(first_seconds(reports, whole)),
        }
        judged: dict[str, Choice] = {}
        for name, choice in choices.items():
            same = [each for each in judged.values() if each.params == choice.params]
            validation, test = same[0].accuracies if same else judge(spec, choice.params, settings)
            judged[name] = choice.model_copy(update={"validation": validation, "test": test})
    return Run(settings=settings, seed=seed, choices=judged)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison."""
    args = parse(arguments)
    settings = Settings(data=args.data, resolution=args.resolution)
    if args.quick:
        smaller = {"images": 200, "tested": 100, "epochs": 2, "trials": 3, "judged": 1}
        settings = settings.model_copy(update=smaller | {"finalists": (1, 1)})
        args.seeds = args.seeds[:1]
    prepare_process(1)
    dataset = load(DataSpec(args.data, resolution=args.resolution))
    args.work.parent.mkdir(parents=True, exist_ok=True)
    with args.work.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lines = complete_lines(drop_incomplete_line(file)).splitlines()
        runs = [Run.model_validate_json(line) for line in lines]
        runs = [each for each in runs if each.settings == settings and each.seed in args.seeds]
        missing = sorted(set(args.seeds) - {each.seed for each in runs})
        with connected(args.address) if missing else nullcontext():
            for seed in missing:
                runs.append(measure(dataset, seed, settings))
                append_line(file, runs[-1])
                tests = [f"{name} {one.test:.4f}" for name, one in runs[-1].choices.items()]
                print(f"seed {seed}: {', '.join(tests)}", file=sys.stderr, flush=True)
    table = Table(args.json)
    for figure in figures(runs):
        table.add(figure)
    if args.write:
        write_csv(RESULTS / "end_to_end.csv", runs)


if __name__ == "__main__":
    # One thread each: Ray's processes and our search read it.
    os.environ["OMP_NUM_THREADS"] = "1"
    main()
