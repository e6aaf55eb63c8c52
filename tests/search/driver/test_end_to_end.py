"""Whole searches from the command line, and every way in which a search can end."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest
import yaml
from optuna.trial import FixedTrial, FrozenTrial, TrialState
from PIL import Image

from cluster.sizing import Gpu
from search.backend.finalist_training import FinalistTraining
from search.backend.node_wait import NoNodesError
from search.backend.tune_searcher import StudySearcher
from search.backup.backup import NoBackup
from search.cli import main
from search.driver.baseline_process import BaselineProcess
from search.driver.outcome import Outcome, SearchFailedError
from search.driver.run import run_search
from search.experiment.defaults import as_completed
from search.experiment.folder import Home, SearchFolder
from search.experiment.loading import parse_experiment
from search.formatting import plural
from search.loop.budget import Budget
from search.loop.packing import Packing
from search.loop.simulation import simulate
from search.study.finalists import read_results
from search.study.storages import read_trials
from search.tracking.journal_events import (
    PARENT,
    Event,
    Finish,
    Metrics,
    Start,
)
from search.tracking.journal_reader import read, read_all
from search.tracking.tracking_process import quiet
from spaces.architecture import Architecture
from spaces.errors import BadInputError
from spaces.task import Task
from spaces.vgg import vgg
from tests.search.conftest import DIGITS, Recorder
from trainables.epoch_metrics import EpochMetrics
from trainables.probes.records import NetworkProbes
from trainables.specs import FinalistResult

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

WITHOUT_GPUS = Packing(cpus=1, fixed=0.0)
ROOT = Path(__file__).resolve().parents[3]
CALLED = f"python {ROOT / 'search.py'}"
"""How messages call the program in another folder."""

# MLflow uses a deprecated feature of SQLAlchemy.
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
]

Result = subprocess.CompletedProcess[str]
CommandLine = Callable[..., Result]

FIRST = """\
data: digits
seed: 1
space: {depth: [2, 6], features: [4, 10], kernel: [3, 5]}
recipe: {batch_size: 128, learning_rate: [0.05, 0.3]}
epochs: 3
sampler: random
budget: {trials: 8}
scheduler: {grace_epochs: 1, reduction: 2}
resources: {concurrent: 1}
finalists: {count: 1, seeds: 2}
probes: true
"""

# A user-defined space. With this seed, one of the four learning rates does not diverge.
DIVERGING = """\
data: digits
seed: 14
space: {name: "my_space:space", depth: [1, 12]}
recipe: {batch_size: 128, learning_rate: [0.1, 1.0e+30], weight_decay: 0.0}
epochs: 2
screens: {border: off}
resources: {concurrent: 1, cpus: 1}
sampler: random
scheduler: {name: none}
budget: {trials: 4}
finalists: {count: 0}
"""

MY_SPACE = """\
from spaces import Builder
from spaces.operations import Activation, Convolution, GlobalPooling, Linear


def space(trial, task, *, depth):
    builder = Builder(task.image_shape)
    x = builder.image
    for number in range(trial.suggest_int("depth", *depth)):
        x = builder.add(Convolution(trial.suggest_int(f"width_{number}", 2, 6)), x)
        x = builder.add(Activation(), x)
    builder.add(Linear(task.classes), builder.add(GlobalPooling(), x))
    return builder.build()
"""


@dataclass
class Searched:
    """A search that a user ran in a folder."""

    name: str
    folder: Path
    result: Result

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def trials(self) -> list[FrozenTrial]:
        return read_trials(self.home / self.name / "study.db", self.name)

    @property
    def trained(self) -> list[FrozenTrial]:
        return [trial for trial in self.trials if "rejected" not in trial.user_attrs]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that the user starts from."""
    return tmp_path_factory.mktemp("user")


def searched(command_line: CommandLine, folder: Path, name: str, experiment: str) -> Searched:
    (folder / f"{name}.yaml").write_text(experiment)
    result = command_line("run", f"{name}.yaml", "--home", "home", cwd=folder)
    return Searched(name, folder, result)


@pytest.fixture(scope="module")
def first(command_line: CommandLine, folder: Path) -> Searched:
    """Return a whole search of the bundled digits."""
    return searched(command_line, folder, "first", FIRST)


@pytest.fixture(scope="module")
def diverging(command_line: CommandLine, folder: Path, first: Searched) -> Searched:
    """Return a search of a user-defined space in which most trainings diverge."""
    (folder / "my_space.py").write_text(MY_SPACE)
    return searched(command_line, folder, "diverging", DIVERGING)


def store_of(home: Path) -> MlflowClient:
    """Return a client of the local MLflow store of a home."""
    from mlflow import MlflowClient  # noqa: PLC0415 - the import takes seconds

    return MlflowClient(f"sqlite:///{home}/mlflow.db")


@pytest.fixture(scope="module")
def client(first: Searched, diverging: Searched) -> MlflowClient:
    """Return a client of the local MLflow store after both searches."""
    assert first.result.returncode == diverging.result.returncode == 0
    return store_of(first.home)


def runs_of(client: MlflowClient, name: str) -> tuple[Run, dict[str, list[Run]]]:
    """Return the parent run of a search and its children by kind."""
    (experiment,) = client.search_experiments(filter_string="name = 'borderline'")
    runs = client.search_runs([experiment.experiment_id], f"tags.search = '{name}'")
    (parent,) = (run for run in runs if run.data.tags["kind"] == "search")
    children: dict[str, list[Run]] = {}
    for run in runs:
        if run is not parent:
            assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
            children.setdefault(run.data.tags["kind"], []).append(run)
    return parent, children


def artifact(run: Run, name: str) -> str:
    """Return a text artifact of the local store."""
    place = Path(run.info.artifact_uri.removeprefix("file://"))
    return (place / name).read_text(encoding="utf-8")


# The search itself


def test_search_of_bundled_images_succeeds(first: Searched) -> None:
    assert first.result.returncode == 0, first.result.stderr
    assert "Traceback" not in first.result.stdout + first.result.stderr


def test_search_trains_its_trial_budget_and_leaves_none_running(first: Searched) -> None:
    assert len(first.trained) == 8
    assert all(trial.state.is_finished() for trial in first.trials)
    assert {trial.state for trial in first.trained} <= {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in first.trained:
        epochs = trial.user_attrs["epochs"]
        assert epochs == len(trial.intermediate_values)
        assert (epochs == 3) == (trial.state is TrialState.COMPLETE)


def test_candidates_beyond_the_border_are_not_trained(first: Searched) -> None:
    rejected = [t for t in first.trials if t.user_attrs.get("rejected") == "border"]
    assert rejected
    for trial in rejected:
        assert trial.constraints["border"] > 0
        assert not trial.intermediate_values
    assert all(trial.user_attrs["beyond"] == 0 for trial in first.trained)


def test_simulation_takes_the_decisions_of_the_real_search(first: Searched) -> None:
    stored = parse_experiment(yaml.safe_load((first.home / "first/experiment.yaml").read_text()))
    real = {trial.user_attrs["digest"]: trial.intermediate_values for trial in first.trained}
    recorder = Recorder()
    simulated = simulate(
        stored.space.name,
        DIGITS,
        lambda candidate, params, epoch: real[candidate.digest][epoch],
        trials=stored.budget.trials,
        seed=stored.seed,
        sampler=stored.sampler,
        recipe=stored.recipe,
        epochs=stored.whole_epochs,
        space_options=stored.space.options,
        scheduler=stored.scheduler.model_dump(),
        observers=[recorder],
    )
    assert [(each.number, each.params, each.outcome, each.value) for each in simulated] == [
        (trial.number, trial.params, trial.state, list(trial.intermediate_values.values())[-1])
        for trial in first.trained
    ]
    assert {each.outcome for each in simulated} == {TrialState.COMPLETE, TrialState.PRUNED}
    rejected = {trial.number: trial for trial in first.trials if trial not in first.trained}
    assert rejected
    assert {number: rejection.reason for number, rejection in recorder.of("rejected")} == {
        number: trial.user_attrs["rejected"] for number, trial in rejected.items()
    }


def test_few_steps_are_warned_of_before_training(first: Searched) -> None:
    out = first.result.stdout
    assert out.index("warning: a training has only 31 steps (10.1 an epoch") < out.index("[1/8]")


def test_each_trial_prints_progress_and_remaining_time(
    first: Searched,
) -> None:
    lines = re.findall(r"^\[(\d)/8\] trial (\d+) .* \| (.*)$", first.result.stdout, re.MULTILINE)
    assert [int(done) for done, _, _ in lines] == list(range(1, 9))
    assert {int(number) for _, number, _ in lines} == {trial.number for trial in first.trained}
    assert re.search(r"rejected \d+ \(.*border \d+.*\)", first.result.stdout)
    assert re.search(r"elapsed, \w+ left", lines[0][2])


def test_report_prints_leaderboard_finalists_and_savings(first: Searched) -> None:
    out = first.result.stdout
    assert "Leaderboard\n8 candidates trained" in out
    assert re.search(
        r"test accuracy [01]\.\d{4} ± 0\.\d{4} \(mean and standard deviation of 2", out
    )
    compared = r"on test a guess reaches 0\.\d{4}, and logistic regression on the pixels 0\.9"
    assert re.search(compared, out)
    rejected = sum("rejected" in trial.user_attrs for trial in first.trials)
    said = (
        f"{plural(rejected, 'candidate')} rejected before training. Predicted device time saved: "
    )
    assert said in out
    assert re.search(r"^border +\d+ ", out, re.MULTILINE)
    assert re.search(r"\((at least )?\d+\.\d{4} (to \d+\.\d{4} )?device-hours", out)


def test_search_prints_ui_command_and_report_path(first: Searched) -> None:
    out = first.result.stdout
    first_lines, ending = re.findall(r"^Compare: (.*)$", out, re.MULTILINE)
    assert first_lines == ending
    assert str(first.home) in ending
    (page,) = re.findall(r"^Report: +(.*)$", out, re.MULTILINE)
    assert Path(page) == first.home / "first" / "report.html"
    assert Path(page).is_file()
    assert f"{CALLED} report first" in out


def test_finalists_are_retrained_with_new_seeds_and_tested(
    first: Searched,
) -> None:
    (finalist,) = json.loads((first.home / "first" / "finalists" / "results.json").read_text())
    best = max(
        (t for t in first.trained if t.state is TrialState.COMPLETE), key=lambda t: t.value or 0
    )
    assert finalist["number"] == best.number
    seeds = [result["seed"] for result in finalist["results"]]
    assert len(set(seeds)) == 2
    assert all(0 < result["test_accuracy"] <= 1 for result in finalist["results"])
    weights = {path.name for path in (first.home / "first" / "finalists").glob("*.pt")}
    assert weights == {f"trial-{best.number}-seed-{seed}.pt" for seed in seeds}


def test_winner_is_exported_predicts_files_and_is_a_model_of_mlflow(
    first: Searched,
    client: MlflowClient,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = f"export first --home {first.home} --to first-model"
    assert re.search(rf"^Use it:  .* {re.escape(command)}$", first.result.stdout, re.MULTILINE)
    at_home = ("--home", str(first.home))
    monkeypatch.setenv("BORDERLINE_CACHE", environment["BORDERLINE_CACHE"])
    photo, model = tmp_path / "photo.png", tmp_path / "model"
    Image.fromarray(np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)).save(photo)
    assert main(["export", "first", "--to", str(model), "--no-int8", *at_home]) == 0
    capsys.readouterr()

    def predicted(network: str) -> dict[str, float]:
        assert main(["predict", network, str(photo), "--json", *at_home]) == 0
        (image,) = json.loads(capsys.readouterr().out)["images"]
        probabilities: dict[str, float] = image["probabilities"]
        return probabilities

    probabilities = predicted("first")
    assert predicted(str(model)) == pytest.approx(probabilities, abs=1e-5)
    _, children = runs_of(client, "first")
    (run,) = children["finalist"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{first.home}/mlflow.db")
    with quiet():
        from mlflow import pyfunc  # noqa: PLC0415 - the import takes seconds, and warns

        loaded = pyfunc.load_model(f"runs:/{run.info.run_id}/model")
        row = loaded.predict(pd.DataFrame({"image": [photo.read_bytes()]})).iloc[0]
    assert row["label"] == next(iter(probabilities))
    assert row["probabilities"] == pytest.approx(
        [probabilities[label] for label in sorted(probabilities)], abs=1e-5
    )


def test_probes_of_finalist_are_stored_shown_and_tracked(
    first: Searched, client: MlflowClient
) -> None:
    (finalist,) = json.loads((first.home / "first" / "finalists" / "results.json").read_text())
    number = finalist["number"]
    stored = first.home / "first" / "probes" / f"trial-{number}.json"
    probes = NetworkProbes.from_json(stored.read_bytes())
    assert probes.split == "test"
    assert probes.weights == f"finalist with seed {finalist['results'][0]['seed']}"
    assert f"trial {number}: " in first.result.stdout
    page = (first.home / "first" / "report.html").read_text()
    assert f'href="probes/trial-{number}.svg"' in page
    assert 'class="probes"' in page
    _, children = runs_of(client, "first")
    (run,) = children["finalist"]
    assert NetworkProbes.from_json(artifact(run, "probes.json")) == probes
    assert ET.fromstring(artifact(run, "probes.svg")).tag.endswith("svg")
    history = client.get_metric_history(run.info.run_id, "zero_kernel_accuracy")
    measured = [layer.zero_kernel_accuracy for layer in probes.layers]
    assert [point.value for point in sorted(history, key=lambda each: each.step)] == measured
    assert len(client.get_metric_history(run.info.run_id, "test_accuracy")) == 2


def test_complete_experiment_is_stored(first: Searched) -> None:
    stored = yaml.safe_load((first.home / "first" / "experiment.yaml").read_text())
    asked = parse_experiment({"name": "first"} | yaml.safe_load(FIRST))
    assert parse_experiment(stored) == as_completed(asked, parse_experiment(stored))
    assert stored["recipe"]["optimizer"] == "muon"


# The search in MLflow


def test_mlflow_has_one_child_run_per_trained_trial(first: Searched, client: MlflowClient) -> None:
    parent, children = runs_of(client, "first")
    assert parent.info.status == "FINISHED"
    assert parent.data.params["data"] == "digits"
    assert parent.data.params["border_screen"] == "previous-conv"
    trained = {trial.number: trial for trial in first.trained}
    found = {int(run.data.params["trial"]): run for run in children["trial"]}
    assert set(found) == set(trained)
    assert {run.info.status for run in children["trial"]} == {"FINISHED"}
    for number, run in found.items():
        assert run.data.tags["verdict"] == trained[number].state.name.lower()
        assert run.data.tags["digest"] == trained[number].user_attrs["digest"]
    (finalist,) = children["finalist"]
    assert finalist.info.status == "FINISHED"
    assert {"test_accuracy_mean", "test_accuracy_std"} <= set(finalist.data.metrics)


def test_all_trial_runs_have_the_same_params_and_metrics(
    first: Searched, client: MlflowClient
) -> None:
    _, children = runs_of(client, "first")
    names = {frozenset(run.data.params) for run in children["trial"]}
    assert len(names) == 1
    assert {"params", "macs", "features", "kernel", "border", "learning_rate"} <= set(*names)
    assert {"features_first", "features_16", "pools"} <= set(*names)
    (measured,) = {frozenset(run.data.metrics) for run in children["trial"]}
    assert {"objective", "params", "macs", "seconds"} <= measured
    stored = {trial.number: trial for trial in first.trained}
    for run in children["trial"]:
        trial = stored[int(run.data.params["trial"])]
        assert int(run.data.params["params"]) == trial.user_attrs["params"]
        assert run.data.metrics["params"] == trial.user_attrs["params"]
        assert run.data.metrics["objective"] == trial.value
        assert float(run.data.params["learning_rate"]) == trial.params["learning_rate"]


def test_each_epoch_is_one_accuracy_point_in_mlflow(first: Searched, client: MlflowClient) -> None:
    _, children = runs_of(client, "first")
    stored = {trial.number: trial for trial in first.trained}
    for run in children["trial"]:
        history = client.get_metric_history(run.info.run_id, "validation_accuracy")
        trial = stored[int(run.data.params["trial"])]
        assert {point.step: point.value for point in history} == trial.intermediate_values
        assert len(history) == trial.user_attrs["epochs"]


def test_candidate_artifact_rebuilds_the_architecture(
    first: Searched, client: MlflowClient
) -> None:
    _, children = runs_of(client, "first")
    options = parse_experiment(yaml.safe_load(FIRST)).space.options
    for run in children["trial"]:
        document = json.loads(artifact(run, "candidate.json"))
        stored = Architecture.from_json(json.dumps(document["architecture"]))
        rebuilt = vgg(FixedTrial(document["params"]), Task(1, 8, 8, 10), **options)
        assert rebuilt == stored
        picture = ET.fromstring(artifact(run, "receptive_field.svg"))
        bars = [e for e in picture.iter() if (e.text or "").startswith("convolution ")]
        titles = [e for e in bars if e.tag.endswith("title")]
        assert len(titles) == int(run.data.params["convolutions"])


def test_parent_run_has_totals_and_report(first: Searched, client: MlflowClient) -> None:
    parent, _ = runs_of(client, "first")
    reasons: dict[str, int] = {}
    for trial in first.trials:
        if "rejected" in trial.user_attrs:
            reason = trial.user_attrs["rejected"]
            reasons[reason] = reasons.get(reason, 0) + 1
    totals = parent.data.metrics
    assert {key.removeprefix("rejected_"): totals[key] for key in totals if "rejected_" in key} == (
        reasons
    )
    assert totals["rejected"] == sum(reasons.values())
    assert totals["saved_device_hours"] > 0
    assert totals["trained_device_hours"] == pytest.approx(
        sum(trial.user_attrs["seconds"] for trial in first.trained) / 3600
    )
    best = max(t.value or 0 for t in first.trained if t.state is TrialState.COMPLETE)
    assert totals["best_validation_accuracy"] == best
    assert 0 < totals["test_accuracy_mean"] <= 1
    assert totals["baseline_test_accuracy"] > 0.9
    assert 0.05 < totals["guess_test_accuracy"] < 0.15
    page = (first.home / "first" / "report.html").read_text(encoding="utf-8")
    assert artifact(parent, "report.html") == page
    stored = (first.home / "first" / "experiment.yaml").read_text()
    assert artifact(parent, "experiment.yaml") == stored


# A user-defined space in which most trainings diverge


def test_diverged_trials_fail_and_the_search_succeeds(diverging: Searched) -> None:
    assert diverging.result.returncode == 0, diverging.result.stderr
    assert "Traceback" not in diverging.result.stdout + diverging.result.stderr
    survived = {trial.number: trial.params["learning_rate"] < 1 for trial in diverging.trained}
    assert sorted(survived.values()) == [False, False, False, True]
    for trial in diverging.trained:
        fine = survived[trial.number]
        assert trial.state is (TrialState.COMPLETE if fine else TrialState.FAIL)
        assert trial.user_attrs["epochs"] == (2 if fine else 1)
    assert "1 complete, 0 stopped early, 3 failed" in diverging.result.stdout
    assert diverging.result.stdout.count("FAILED: the loss is no longer a number") == 3


def test_finalist_count_of_zero_retrains_none(diverging: Searched) -> None:
    assert "Finalists" not in diverging.result.stdout
    assert not (diverging.home / "diverging" / "finalists").exists()


def test_disabled_border_screen_trains_layers_beyond_border(
    diverging: Searched,
) -> None:
    assert not [t for t in diverging.trials if t.user_attrs.get("rejected") == "border"]
    assert any(trial.user_attrs["beyond"] > 0 for trial in diverging.trained)


def test_failed_trials_are_failed_runs_in_mlflow(client: MlflowClient) -> None:
    parent, children = runs_of(client, "diverging")
    assert parent.info.status == "FINISHED"
    statuses = sorted(run.info.status for run in children["trial"])
    assert statuses == ["FAILED", "FAILED", "FAILED", "FINISHED"]
    assert parent.data.metrics["trials_failed"] == 3
    assert "finalist" not in children


# Commands about finished searches


def test_status_shows_every_search(
    first: Searched, diverging: Searched, command_line: CommandLine
) -> None:
    result = command_line("status", "--home", "home", cwd=first.folder)
    assert result.returncode == 0, result.stderr
    assert re.search(r"^ *first +8/8 +0 ", result.stdout, re.MULTILINE)
    assert re.search(r"^ *diverging +4/4 +0 ", result.stdout, re.MULTILINE)
    assert re.search(r"0\.\d{4} ± 0\.\d{4}", result.stdout)


def test_report_command_reprints_and_compares(
    first: Searched, diverging: Searched, command_line: CommandLine
) -> None:
    arguments = ("report", "first", "--against", "diverging", "--home", "home")
    result = command_line(*arguments, cwd=first.folder)
    assert result.returncode == 0, result.stderr
    begin, end = (first.result.stdout.index(part) for part in ("Leaderboard", "\nReport:"))
    assert first.result.stdout[begin:end].strip() in result.stdout
    assert "Rejected in first, trained in diverging" in result.stdout
    page = (first.home / "first" / "report.html").read_text(encoding="utf-8")
    assert "Rejected in first, trained in diverging" in page


def test_analyze_accepts_trials_of_a_search(first: Searched, command_line: CommandLine) -> None:
    for trial in (first.trained[0], next(t for t in first.trials if "rejected" in t.user_attrs)):
        arguments = ("analyze", f"first:{trial.number}", "--json", "--home", "home")
        result = command_line(*arguments, cwd=first.folder)
        assert result.returncode == 0, result.stderr
        document = json.loads(result.stdout)
        assert document["resolution"] == [8, 8]
        assert len(document["layers"]) == trial.params["depth"]
        assert document["params"] == trial.user_attrs["params"]
        beyond = len(document["layers"]) - (document["border"] or len(document["layers"]))
        assert (beyond > 0) == (trial.user_attrs.get("rejected") == "border")


def test_sync_of_finished_search_sends_nothing(
    first: Searched, client: MlflowClient, command_line: CommandLine
) -> None:
    result = command_line("sync", "first", "--home", "home", cwd=first.folder)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("0 events of 0 runs")


def test_existing_search_name_is_refused_and_changes_nothing(
    first: Searched, command_line: CommandLine
) -> None:
    before = sorted(first.home.rglob("*"))
    result = command_line("run", "first.yaml", "--home", "home", cwd=first.folder)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("search.py: name = first: ")
    assert sorted(first.home.rglob("*")) == before


# Interrupted, killed and resumed searches

LONG = """\
data: digits
validation: folds=2
seed: 2
space: {depth: [2, 3], features: [4, 10], kernel: 3}
recipe: {batch_size: 128, learning_rate: [0.05, 0.3]}
epochs: 15k images
scheduler: {name: none}
sampler: random
budget: {trials: 4}
resources: {concurrent: 1, cpus: 1}
finalists: {count: 1, seeds: 1}
"""
EPOCHS = 20
"""Passes over the 764 images of each fold."""


@contextmanager
def running(
    folder: Path, environment: dict[str, str], *command: str, until: Callable[[list[Event]], bool]
) -> Iterator[subprocess.Popen[str]]:
    """Start a command on the search ``long`` and wait until its journal satisfies a condition."""
    with subprocess.Popen(
        [sys.executable, ROOT / "search.py", *command, "--home", "home"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        journal = folder / "home" / "long" / "journal.jsonl"
        while not until(list(read_all(journal))):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        yield process


def check_whole(folder: Path, name: str) -> None:
    """Check that study, journal and MLflow hold the same complete trials, each once."""
    ended = Searched(name, folder, subprocess.CompletedProcess([], 0))
    assert [trial.number for trial in ended.trials] == list(range(len(ended.trials)))
    assert [trial.state for trial in ended.trained] == [TrialState.COMPLETE] * 4
    assert len({trial.user_attrs["digest"] for trial in ended.trained}) == 4
    steps = list(range(1, EPOCHS + 1))
    for trial in ended.trained:
        assert sorted(trial.intermediate_values) == steps
        assert [int(epoch) for epoch in trial.user_attrs["history"]] == steps
    numbers = {str(trial.number) for trial in ended.trained}
    events = list(read_all(folder / "home" / name / "journal.jsonl"))
    written = [
        (event.run, event.step)
        for event in events
        if isinstance(event, Metrics) and event.run in numbers
    ]
    assert sorted(written) == sorted((number, step) for number in numbers for step in steps)
    last = {event.run: event.status for event in events if isinstance(event, Finish)}
    assert set(last) == {PARENT, *numbers, *(run for run in last if run.startswith("finalist-"))}
    assert set(last.values()) == {"FINISHED"}
    client = store_of(folder / "home")
    parent, children = runs_of(client, name)
    assert parent.info.status == "FINISHED"
    runs = {run.data.params["trial"]: run for run in children["trial"]}
    assert set(runs) == numbers
    assert len(children["trial"]) == 4
    for trial in ended.trained:
        run = runs[str(trial.number)]
        assert (run.info.status, run.data.tags["verdict"]) == ("FINISHED", "complete")
        history = client.get_metric_history(run.info.run_id, "validation_accuracy")
        points = [(point.step, point.value) for point in history]
        assert sorted(points) == sorted(trial.intermediate_values.items())
    (finalist,) = children["finalist"]
    assert finalist.info.status == "FINISHED"
    assert not list((folder / "home" / name / "checkpoints").iterdir())


@dataclass
class EndState:
    """The trials and events of a search at the moment when its driver ended."""

    result: Result
    trials: list[FrozenTrial]
    events: list[Event]

    @classmethod
    def by(cls, folder: Path, result: Result) -> EndState:
        events = list(read_all(folder / "home" / "long" / "journal.jsonl"))
        return cls(result, Searched("long", folder, result).trained, events)


@dataclass
class Continued:
    """One long search: killed, resumed, interrupted, and resumed until it finished."""

    folder: Path
    killed: EndState
    interrupted: EndState
    resumed: Result


@pytest.fixture(scope="module")
def continued(folder: Path, environment: dict[str, str], command_line: CommandLine) -> Continued:
    """Return a search whose driver was killed once and interrupted once."""
    (folder / "long.yaml").write_text(LONG)

    def one_ended_and_another_trains(events: list[Event]) -> bool:
        ended = {event.run for event in events if isinstance(event, Finish)}
        epochs = Counter(event.run for event in events if isinstance(event, Metrics) if event.run)
        return bool(ended) and any(count > 5 for run, count in epochs.items() if run not in ended)

    with running(
        folder, environment, "run", "long.yaml", until=one_ended_and_another_trains
    ) as driver:
        os.kill(driver.pid, signal.SIGKILL)
        out, err = driver.communicate(timeout=60)
    killed = EndState.by(folder, subprocess.CompletedProcess([], driver.returncode, out, err))

    def two_more_epochs(events: list[Event]) -> bool:
        return sum(isinstance(event, Metrics) for event in events[len(killed.events) :]) > 2

    with running(folder, environment, "resume", "long", until=two_more_epochs) as driver:
        os.kill(driver.pid, signal.SIGINT)
        out, err = driver.communicate(timeout=120)
    interrupted = EndState.by(folder, subprocess.CompletedProcess([], driver.returncode, out, err))
    resumed = command_line("resume", "long", "--home", "home", cwd=folder)
    return Continued(folder, killed, interrupted, resumed)


def test_killed_search_resumes_without_loss_or_repetition(continued: Continued) -> None:
    states = Counter(trial.state for trial in continued.killed.trials)
    assert continued.killed.result.returncode == -signal.SIGKILL
    assert states[TrialState.COMPLETE] >= 1
    assert states[TrialState.RUNNING] >= 1
    assert continued.resumed.returncode == 0, continued.resumed.stderr
    assert "Traceback" not in continued.resumed.stdout + continued.resumed.stderr
    check_whole(continued.folder, "long")
    after = Searched("long", continued.folder, continued.resumed).trials
    for before in continued.killed.trials + continued.interrupted.trials:
        if before.state is TrialState.COMPLETE:
            trial = after[before.number]
            assert trial.params == before.params
            assert trial.intermediate_values == before.intermediate_values
            assert trial.datetime_complete == before.datetime_complete


def test_search_with_folds_says_how_it_validates(continued: Continued) -> None:
    before, after = continued.killed.result.stdout, continued.resumed.stdout
    assert "each trial trains 2 networks, so the search costs about 2 times as much" in before
    assert "epochs: 20, for 15,000 images of 764 per epoch" in before
    assert "1528 train, validation by folds=2, 269 test" in after
    assert "each accuracy counts all 1,528 training images" in " ".join(after.split())
    stored = (continued.folder / "home" / "long" / "experiment.yaml").read_text()
    assert "epochs: 20\n" in stored
    assert "validation: folds=2\n" in stored


def test_interrupted_search_pauses_its_trials(continued: Continued) -> None:
    left = continued.interrupted
    assert left.result.returncode == 130, left.result.stderr
    assert "Traceback" not in left.result.stdout + left.result.stderr
    assert f"{CALLED} resume long" in left.result.stdout
    assert left.trials
    assert {trial.state for trial in left.trials} <= {TrialState.WAITING, TrialState.COMPLETE}
    assert any(trial.state is TrialState.WAITING for trial in left.trials)
    finished = {event.run: event.status for event in left.events if isinstance(event, Finish)}
    assert set(finished) == {event.run for event in left.events if isinstance(event, Start)}
    waiting = {str(t.number) for t in left.trials if t.state is TrialState.WAITING}
    assert {run for run, status in finished.items() if status == "KILLED"} == {PARENT, *waiting}


def test_resuming_a_finished_search_starts_no_trial(
    continued: Continued, command_line: CommandLine
) -> None:
    again = command_line("resume", "long", "--home", "home", cwd=continued.folder)
    assert again.returncode == 0, again.stderr
    check_whole(continued.folder, "long")


# Ends of a search, without Ray

Drive = Callable[[StudySearcher], None]


@pytest.fixture
def ends(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    metrics: Callable[..., EpochMetrics],
) -> Callable[..., tuple[Home, str, Any]]:
    """Return a function that runs a search in which ``drive`` stands in for Ray Tune."""
    monkeypatch.setenv("BORDERLINE_CACHE", str(tmp_path / "cache"))

    def run(
        drive: Drive,
        printed: Callable[..., str],
        *,
        retrain: Callable[[], None] = lambda: None,
        validation: Callable[[int, int], float | None] = lambda *_: 0.5,
        packing: Packing = WITHOUT_GPUS,
        resume: bool = False,
        **fields: Any,
    ) -> tuple[Home, str, Any]:
        document = yaml.safe_load(FIRST) | {"name": "mine", "tracking": {"enabled": False}}
        experiment = parse_experiment(document | fields)
        home = Home(tmp_path / "home")

        def train(_: Any, __: Any, ___: Any, searcher: StudySearcher, *____: Any) -> None:
            drive(searcher)

        def finalists(
            _: Any, trainings: Sequence[FinalistTraining], *, on_failure: Any, **told: Any
        ) -> None:
            retrain()
            for each in trainings:
                score = validation(each.trial.number, each.seed)
                if score is None:
                    on_failure(each, "diverged")
                else:
                    told["on_result"](FinalistResult(each.trial.number, each.seed, score, 0.5, 1.0))

        monkeypatch.setattr("search.driver.run.connected", lambda _: nullcontext())
        monkeypatch.setattr("search.driver.run.plan_packing", lambda *_: packing)
        monkeypatch.setattr("search.driver.search_phase.train_trials", train)
        monkeypatch.setattr(BaselineProcess, "_start", lambda _: None)
        monkeypatch.setattr("search.driver.finalist_phase.retrain_finalists", finalists)
        outcome: list[Any] = []

        def call(console: Any) -> None:
            try:
                outcome.append(run_search(experiment, home, console, resume=resume))
            except BaseException as error:
                outcome.append(error)

        return home, printed(call), outcome[0]

    return run


@pytest.fixture
def trained(metrics: Callable[..., EpochMetrics]) -> Callable[..., None]:
    """Return a function that completes some trials and leaves others running."""

    def drive(searcher: StudySearcher, whole: int = 10**6, running: int = 0) -> None:
        names = map(str, count())
        for _ in range(whole):
            name = next(names)
            while (config := searcher.suggest(name)) is None:
                pass
            if not isinstance(config, dict):
                return
            for epoch in (1, 2, 3):
                searcher.on_trial_result(name, metrics(0.5, epoch).as_dict())
            searcher.on_trial_complete(name, metrics(0.5, 3).as_dict())
        for _ in range(running):
            name = next(names)
            while searcher.suggest(name) is None:
                pass
            searcher.on_trial_result(name, metrics(0.5).as_dict())

    return drive


def ending_each_with(result: dict[str, Any]) -> Drive:
    """Return a function that ends every trial with the same result."""

    def drive(searcher: StudySearcher) -> None:
        for name in map(str, count()):
            config = searcher.suggest(name)
            if config is None:
                continue
            if not isinstance(config, dict):
                return
            searcher.on_trial_complete(name, result)

    return drive


def ending(home: Home) -> tuple[dict[str, str], set[TrialState]]:
    """Return the final status of each run in the journal, and the states in the study."""
    folder = home.folder("mine")
    events, _ = read(folder.journal)
    started = {event.run: "RUNNING" for event in events if isinstance(event, Start)}
    finished = {event.run: event.status for event in events if isinstance(event, Finish)}
    states = {trial.state for trial in read_trials(folder.study, "mine")}
    return started | finished, states


def test_search_with_spent_budget_is_finished(
    ends: Callable[..., Any], trained: Callable[..., None], printed: Callable[..., str]
) -> None:
    home, out, outcome = ends(trained, printed)
    statuses, states = ending(home)
    assert not outcome.interrupted
    assert (outcome.summary.trained, len(outcome.finalists)) == (8, 1)
    assert set(statuses.values()) == {"FINISHED"}
    assert len(statuses) == 1 + 8 + 1
    assert TrialState.RUNNING not in states
    assert "MLflow" not in out


def test_wall_clock_budget_excludes_retraining_of_finalists(
    ends: Callable[..., Any],
    trained: Callable[..., None],
    printed: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = time.time_ns

    def takes_an_hour() -> None:
        monkeypatch.setattr(time, "time_ns", lambda: now() + 3600 * 10**9)

    budget = {"trials": 3, "wall_clock": 1800}
    _, _, first = ends(trained, printed, retrain=takes_an_hour, budget=budget)
    assert first.summary.trained == 3
    _, _, extended = ends(trained, printed, resume=True, budget=budget | {"trials": 5})
    assert extended.summary.trained == 5


def test_finalists_within_noise_get_further_seeds(
    ends: Callable[..., Any], trained: Callable[..., None], printed: Callable[..., str]
) -> None:
    worst: list[int] = []

    def validation(number: int, seed: int) -> float | None:
        worst[:] = worst or [number]
        if seed == 4:
            return None
        return 0.3 if number in worst else 0.5 + (seed + number) % 2 / 10

    fields = {"finalists": {"count": 3, "seeds": 2, "max_seeds": 4}}
    home, out, outcome = ends(trained, printed, validation=validation, **fields)
    found = {each.number: len(each.results) for each in outcome.finalists}
    # The experiment has seed 1, so the third training of each has seed 4, and fails.
    first, second = (number for number in found if number not in worst)
    assert found == {first: 3, second: 3, worst[0]: 2}
    line = r"trials (\d+) and (\d+) are within noise: one more seed each \((\d) of at most 4\)"
    told = [(sorted(map(int, pair)), seeds) for *pair, seeds in re.findall(line, out)]
    assert told == [(sorted((first, second)), "3"), (sorted((first, second)), "4")]
    assert out.count("failed to retrain: diverged") == 2
    assert re.search(r"trials \d+ and \d+ are still within noise after 4 seeds each", out)
    stored = read_results(home.folder("mine").finalists)
    assert stored == outcome.finalists
    events = list(read_all(home.folder("mine").journal))
    steps = {
        event.step
        for event in events
        if isinstance(event, Metrics)
        and event.run == f"finalist-{first}"
        and "test_accuracy" in event.metrics
    }
    assert steps == {1, 2, 4}


def test_gpu_fraction_of_each_trial_is_recorded(
    ends: Callable[..., Any], trained: Callable[..., None], printed: Callable[..., str]
) -> None:
    gpu = Gpu(8 * 10**9, bfloat16=True)
    packing = Packing(cpus=1, fixed=None, smallest=gpu, largest=gpu)
    home, out, _ = ends(trained, printed, packing=packing)
    trials = read_trials(home.folder("mine").study, "mine")
    assert {trial.user_attrs["share"] for trial in trials if trial.intermediate_values} == {1 / 8}
    assert "resources.gpus" not in out


def test_guessed_gpu_fraction_is_reported(
    ends: Callable[..., Any], trained: Callable[..., None], printed: Callable[..., str]
) -> None:
    _, out, _ = ends(trained, printed, packing=Packing(cpus=1, fixed=None))
    assert "each trial uses 0.25 of one; set resources.gpus for another fraction" in out


def test_exhausted_space_finishes_the_search(
    ends: Callable[..., Any],
    trained: Callable[..., None],
    printed: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("search.loop.candidates.GIVE_UP_AFTER", 50)
    space = {"depth": 1, "features": [4, 6], "kernel": 3, "pools": 0}
    fixed = {"batch_size": 128, "learning_rate": 0.1, "weight_decay": 0.0}
    _, out, outcome = ends(trained, printed, space=space, recipe=fixed)
    assert not outcome.interrupted
    assert outcome.summary.trained == 3
    assert "The space is exhausted" in out


def test_early_end_of_tune_counts_as_interruption(
    ends: Callable[..., Any], trained: Callable[..., None], printed: Callable[..., str]
) -> None:
    home, _, outcome = ends(lambda searcher: trained(searcher, 2, 1), printed)
    statuses, states = ending(home)
    assert outcome.interrupted
    assert outcome.finalists == []
    assert statuses.pop(PARENT) == "KILLED"
    assert sorted(statuses.values()) == ["FINISHED", "FINISHED", "KILLED"]
    assert TrialState.RUNNING not in states
    assert home.folder("mine").report.is_file()


def test_changed_images_are_refused_on_resume_and_equal_ones_are_not(
    ends: Callable[..., Any],
    trained: Callable[..., None],
    printed: Callable[..., str],
    tmp_path: Path,
) -> None:
    photos = tmp_path / "photos"
    for shade in range(20):
        path = photos / ("cat" if shade < 10 else "dog") / f"{shade}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), shade).save(path)
    fields = {
        "data": f"images:{photos}",
        "finalists": {"count": 0},
        "recipe": {"batch_size": 8, "learning_rate": 0.1},
    }
    home, _, outcome = ends(lambda searcher: trained(searcher, 2, 1), printed, **fields)
    assert isinstance(outcome, Outcome), outcome
    before = (home.folder("mine").path / "data.json").read_text()
    start = next(e for e in read_all(home.folder("mine").journal) if isinstance(e, Start))
    recorded = home.folder("mine").data
    assert recorded is not None
    assert (start.run, start.params["data_digest"]) == (PARENT, recorded.digest)

    shutil.copy(photos / "dog/19.png", photos / "cat/99.png")
    _, _, outcome = ends(trained, printed, resume=True, **fields)
    assert isinstance(outcome, BadInputError), outcome
    assert "the data changed since the search started: 1 image more in cat" in str(outcome)
    assert "--set name=mine-2 --set 'warm_start=[mine]'" in str(outcome)
    (photos / "cat/99.png").unlink()

    photos = photos.rename(tmp_path / "moved")
    _, _, outcome = ends(trained, printed, resume=True, **fields)
    assert "resume mine --home" in str(outcome)
    assert "--set data=images:NEW_PATH" in str(outcome)
    os.utime(photos / "cat/1.png", (1, 1))
    fields["data"] = f"images:{photos}"
    _, text, outcome = ends(lambda s: trained(s, 1, 1), printed, resume=True, **fields)
    assert isinstance(outcome, Outcome), outcome
    assert "the data moved from" in " ".join(text.split())
    assert (home.folder("mine").path / "data.json").read_text() == before

    (home.folder("mine").path / "data.json").unlink()
    _, text, outcome = ends(trained, printed, resume=True, **fields)
    assert isinstance(outcome, Outcome), outcome
    assert "search mine has no record of the data" in " ".join(text.split())
    assert (home.folder("mine").path / "data.json").read_text() == before


def test_search_resumes_after_its_warm_start_source_is_removed(
    ends: Callable[..., Any], trained: Callable[..., None], printed: Callable[..., str]
) -> None:
    home, _, _ = ends(trained, printed, name="lender")
    ends(lambda searcher: trained(searcher, 2, 1), printed, warm_start=["lender"])
    shutil.rmtree(home.folder("lender").path)
    _, _, outcome = ends(trained, printed, warm_start=["lender"], resume=True)
    assert isinstance(outcome, Outcome), outcome
    assert outcome.summary.trained == 8
    stored = read_trials(home.folder("mine").study, "mine")
    assert sum("inherited" in trial.user_attrs for trial in stored) == 8


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyboardInterrupt(), "KILLED"),
        (RuntimeError("the cluster is gone"), "FAILED"),
        (SystemExit(1), "FAILED"),
    ],
)
def test_error_during_training_leaves_no_trial_running(
    ends: Callable[..., Any],
    trained: Callable[..., None],
    printed: Callable[..., str],
    error: BaseException,
    status: str,
) -> None:
    def drive(searcher: StudySearcher) -> None:
        trained(searcher, 2, 2)
        raise error

    home, _, outcome = ends(drive, printed)
    statuses, states = ending(home)
    assert outcome is error
    assert statuses.pop(PARENT) == status
    assert sorted(statuses.values()) == ["FINISHED", "FINISHED", "KILLED", "KILLED"]
    assert TrialState.RUNNING not in states
    assert TrialState.WAITING in states  # A later driver resumes these.


def test_full_disk_fails_the_search_and_resume_completes_it(
    ends: Callable[..., Any],
    trained: Callable[..., None],
    printed: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = os.write

    def full(file: int, data: bytes) -> int:
        if Path(f"/proc/self/fd/{file}").resolve().name == "journal.jsonl":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data)

    def drive(searcher: StudySearcher) -> None:
        trained(searcher, 2, 1)
        monkeypatch.setattr(os, "write", full)
        trained(searcher)

    _, _, outcome = ends(drive, printed)
    assert isinstance(outcome, SearchFailedError), outcome
    assert "No space left on device" in str(outcome)
    monkeypatch.setattr(os, "write", write)
    home, _, outcome = ends(trained, printed, resume=True)
    assert isinstance(outcome, Outcome), outcome
    statuses, states = ending(home)
    assert set(statuses.values()) == {"FINISHED"}
    assert all(state.is_finished() for state in states)


def test_full_disk_on_resume_fails_with_one_line(
    ends: Callable[..., Any],
    trained: Callable[..., None],
    printed: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Full(NoBackup):
        def claimed(self, folder: SearchFolder, *, new: bool) -> AbstractContextManager[None]:
            raise OSError(errno.ENOSPC, "No space left on device")

    ends(trained, printed)
    monkeypatch.setattr("search.driver.run.open_backup", lambda *_, **__: Full())
    _, _, outcome = ends(trained, printed, resume=True)
    assert isinstance(outcome, SearchFailedError), outcome
    assert "No space left on device" in str(outcome)


def test_interrupted_retraining_preserves_finished_trials(
    ends: Callable[..., Any], trained: Callable[..., None], printed: Callable[..., str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    home, _, outcome = ends(trained, printed, retrain=interrupted)
    statuses, states = ending(home)
    assert isinstance(outcome, KeyboardInterrupt)
    assert statuses.pop(PARENT) == "KILLED"
    assert list(statuses.values()) == ["FINISHED"] * 8
    assert TrialState.RUNNING not in states


def test_interrupted_report_leaves_the_search_finished(
    ends: Callable[..., Any],
    trained: Callable[..., None],
    printed: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("search.driver.execution.print_report", interrupted)
    home, _, outcome = ends(trained, printed)
    assert isinstance(outcome, KeyboardInterrupt)
    assert ending(home)[0][PARENT] == "FINISHED"


def test_failing_space_ends_the_search_with_its_error(
    ends: Callable[..., Any],
    trained: Callable[..., None],
    printed: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def drive(searcher: StudySearcher) -> None:
        trained(searcher, 2, 1)

        def fail(*_: Any) -> Any:
            raise BadInputError("space", "mine:space", "the space function raised", "mend it")

        monkeypatch.setattr("search.loop.candidates.judge", fail)
        trained(searcher)

    home, _, outcome = ends(drive, printed)
    statuses, states = ending(home)
    assert isinstance(outcome, BadInputError)
    assert statuses.pop(PARENT) == "FAILED"
    assert sorted(statuses.values()) == ["FINISHED", "FINISHED", "KILLED"]
    assert TrialState.RUNNING not in states


def test_common_cause_of_failed_trials_fails_the_search(
    ends: Callable[..., Any], printed: Callable[..., str]
) -> None:
    home, _, outcome = ends(ending_each_with({"failure": "no such device"}), printed)
    statuses, states = ending(home)
    assert isinstance(outcome, SearchFailedError)
    assert str(outcome) == (
        "stopped: the first trials all failed (no such device). Fix the cause, then run: "
        f"{home.command('resume', 'mine')} --set budget.trials=+5"
    )
    assert set(statuses.values()) == {"FAILED"}
    assert TrialState.RUNNING not in states


def test_search_without_nodes_prints_its_resume_command(
    ends: Callable[..., Any], printed: Callable[..., str]
) -> None:
    def drive(_: StudySearcher) -> None:
        raise NoNodesError("nothing could be trained for 30m00s: a GPU")

    home, _, outcome = ends(drive, printed)
    assert isinstance(outcome, SearchFailedError)
    assert str(outcome) == (
        "nothing could be trained for 30m00s: a GPU. Once nodes are available, run: "
        f"{home.command('resume', 'mine')}"
    )


def test_spent_time_budget_reports_and_offers_a_larger_one(
    ends: Callable[..., Any],
    trained: Callable[..., None],
    printed: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def drive(searcher: StudySearcher) -> None:
        trained(searcher, 1)
        monkeypatch.setattr(Budget, "seconds", 3600.0)
        assert searcher.is_stopping()

    home, out, outcome = ends(drive, printed, budget={"trials": 3, "wall_clock": "1h"})
    assert (outcome.interrupted, outcome.summary.complete) == (False, 1)
    more = f"{home.command('resume', 'mine')} --set budget.wall_clock=+3600"
    assert f"The budget of time is spent. To continue with more, run: {more}\n" in out


@pytest.mark.parametrize("diverged", [0, 1])
def test_spent_budget_without_complete_trial_fails_until_raised(
    ends: Callable[..., Any],
    trained: Callable[..., None],
    printed: Callable[..., str],
    metrics: Callable[..., EpochMetrics],
    monkeypatch: pytest.MonkeyPatch,
    diverged: int,
) -> None:
    def drive(searcher: StudySearcher) -> None:
        for name in ["diverges", "waits"][1 - diverged :]:
            while not isinstance(searcher.suggest(name), dict):
                pass
        if diverged:
            nothing = metrics(0.1, loss=math.nan).as_dict()
            searcher.on_trial_complete("diverges", nothing)
        monkeypatch.setattr(Budget, "seconds", 3700.0)
        assert searcher.is_stopping()
        searcher.withdraw("waits")
        searcher.on_trial_complete("waits")

    home, _, outcome = ends(drive, printed, budget={"trials": 2, "wall_clock": "1h"})
    assert isinstance(outcome, SearchFailedError)
    failed = f"; 1 failed (causes: {home.command('report', 'mine')})" if diverged else ""
    more = ["budget.wall_clock=+3800", *["budget.trials=+1"] * diverged]
    assert str(outcome) == (
        f"the budget of time is spent, and no trial has completed{failed}. Raise the budget, for "
        f"example: {' --set '.join([home.command('resume', 'mine'), *more])}"
    )
    statuses, states = ending(home)
    assert statuses.pop(PARENT) == "FAILED"
    assert sorted(statuses.values()) == ["FAILED", "KILLED"][1 - diverged :]
    assert TrialState.WAITING in states
    assert TrialState.RUNNING not in states
    larger = {"trials": 2 + diverged, "wall_clock": 3600 + 3800}
    _, _, outcome = ends(trained, printed, resume=True, budget=larger)
    assert outcome.summary.complete == 2


def test_search_fails_if_every_training_diverges(
    ends: Callable[..., Any], printed: Callable[..., str], metrics: Callable[..., EpochMetrics]
) -> None:
    diverged = metrics(0.1, loss=math.nan).as_dict()
    home, _, outcome = ends(ending_each_with(diverged), printed)
    statuses, states = ending(home)
    assert isinstance(outcome, SearchFailedError)
    assert str(outcome) == (
        f"all 8 trained candidates failed (causes: {home.command('report', 'mine')}). Fix the "
        f"cause, then run: {home.command('resume', 'mine')} --set budget.trials=+8"
    )
    assert set(statuses.values()) == {"FAILED"}
    assert TrialState.RUNNING not in states
