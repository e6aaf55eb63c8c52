"""A trial retrained otherwise: its name, what may change, and how it compares with the trial."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from rich.console import Console

from search.api.searches import load as open_search
from search.driver import additional_training, retrain
from search.driver.additional_training import EpochProgress
from search.driver.outcome import SearchFailedError
from search.driver.retrain import RetrainRequest, plan_retraining, retrain_trial
from search.experiment.folder import Home
from search.experiment.loading import parse_experiment
from search.loop.packing import Packing
from search.reporting.additional_results import describe_additional
from search.reporting.stored_search import StoredSearch
from search.reporting.trained_networks import SearchNetworks
from search.study.additional import AdditionalStore
from search.study.database import Database
from search.study.finalists import Finalist, FinalistStore, write_results
from search.study.study import Study
from spaces.candidate import CandidateSpace
from spaces.errors import BadInputError
from spaces.task import Task
from trainables import finalist
from trainables.baseline import Baseline
from trainables.data import load
from trainables.epoch_metrics import EpochMetrics
from trainables.specs import DataSpec, FinalistResult

pytestmark = pytest.mark.usefixtures("own_cache")

SPACE = {"name": "vgg", "depth": [1, 2], "features": [2, 4]}
RECIPE = {"learning_rate": 0.1, "weight_decay": 1e-3, "batch_size": 32}
CONSOLE = Console(file=io.StringIO(), width=300)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Return a home with a search of one trained trial on a few digits."""
    home = Home(tmp_path / "home")
    folder = home.folder("mine")
    document = {"name": "mine", "subset": 0.1, "epochs": 1, "space": SPACE, "recipe": RECIPE}
    experiment = parse_experiment({**document, "device": "cpu", "finalists": {"seeds": 2}})
    task = Task(1, 8, 8, 10)
    folder.create(experiment.to_yaml(), task)
    options = {name: value for name, value in SPACE.items() if name != "name"}
    space = CandidateSpace(task, "vgg", options, RECIPE)
    database = Database(folder.study, "mine")
    study = Study("mine", RandomSampler(seed=0), database=database)
    trial = study.ask()
    candidate = space.draw(trial)
    study.start(trial, {"digest": candidate.digest, "share": 1.0})
    study.report(trial.number, 1, 0.5)
    study.finish(trial.number, TrialState.COMPLETE, {"epochs": 1, "history": {}})
    database.close()
    return home


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Train in this process instead of on Ray; return the trainings that ran."""
    ran: list[Any] = []

    @contextmanager
    def connected(_: str) -> Iterator[None]:
        yield

    def train(spec: Any, trainings: Any, *, folder: Path, **calls: Any) -> None:
        for each in trainings:
            ran.append(each)
            found = finalist.retrain(
                *(spec, each.trial.number, each.trial.params, each.seed, 0.0, each.trial.digest),
                weights=each.weights,
            )
            FinalistStore(folder).write(found.result, found.weights, found.predictions)
            calls["on_result"](found.result)

    monkeypatch.setattr(retrain, "connected", connected)
    monkeypatch.setattr(retrain, "plan_packing", lambda *_: Packing(cpus=1, fixed=0.0))
    monkeypatch.setattr(additional_training, "retrain_finalists", train)
    return ran


def planned(home: Home, *changes: str, **options: Any) -> Any:
    request = RetrainRequest("mine:0", changes=changes, **options)
    return plan_retraining(SearchNetworks(home, "mine:0", CONSOLE), request)


def run(home: Home, printed: Callable[..., str], reference: str = "mine:0", **options: Any) -> str:
    request = RetrainRequest(reference, **options)
    return printed(lambda console: retrain_trial(request, home, console, "local"))


def add_labels(home: Home) -> None:
    """Store the labels of the test images, as the baseline of a search does."""
    dataset = load(DataSpec("digits", subset=0.1))
    labels = tuple(dataset.labels[dataset.test].tolist())
    zeros = (0,) * len(labels)
    baseline = Baseline("d", 0, 0.1, 0.1, 10, 0.5, tuple(range(len(labels))), labels, zeros)
    home.folder("mine").baseline_file.write_bytes(baseline.to_json())


def test_label_names_the_changes(home: Home) -> None:
    plan = planned(home, "augmentation.flip=random", epochs="200")
    assert plan.network.key == "0@epochs-200_flip-random"
    assert plan.network.changes == ("epochs: 1 -> 200", "augmentation.flip: none -> random")
    assert plan.network.seeds == (1, 2)
    assert planned(home).network.key == "0@as-searched"
    assert planned(home, epochs="9", label="longer", seeds=5).network.seeds == (1, 2, 3, 4, 5)
    assert planned(home, epochs="40 steps").network.changes == ("epochs: 1 -> 10",)
    with pytest.raises(BadInputError, match=r"--as = a/b: is no label of at most 60 letters"):
        planned(home, label="a/b")


def test_recipe_may_change_but_not_network_or_images(home: Home) -> None:
    plan = planned(home, "recipe.learning_rate=0.01")
    original = SearchNetworks(home, "mine:0", CONSOLE).trial
    assert plan.network.digest != original.digest
    for change in ("space.depth=3", "data=mnist", "seed=3", "scheduler.reduction=2"):
        with pytest.raises(BadInputError, match=r"is no setting of a training; start a new search"):
            planned(home, change)
    with pytest.raises(BadInputError, match=r"mine: does not name a trial; write mine:TRIAL"):
        plan_retraining(SearchNetworks(home, "mine", CONSOLE), RetrainRequest("mine"))


def test_weights_need_a_finalist(home: Home) -> None:
    with pytest.raises(
        BadInputError, match=r"trial 0 has no stored weights, because it is no finalist; leave"
    ):
        planned(home, from_weights=True)


def test_retrained_trial_is_found_and_compared(
    home: Home, here: list[Any], printed: Callable[..., str]
) -> None:
    add_labels(home)
    text = run(home, printed)
    assert "trial 0 retrained (as in the search) of mine, with 2 seeds of 1 epoch each" in text
    assert "0@as-searched is compared with nothing: trial 0 is no finalist" in text
    text = run(home, printed, epochs="2", from_weights=True, reference="mine:0@as-searched")
    assert "from the weights of 0@as-searched" in text
    assert [each.weights is None for each in here] == [True, True, False, False]
    assert "The test pairs the networks by test image" in text
    key = "0@epochs-2_from-weights"
    assert f"export mine:{key}" in text
    (_, second) = StoredSearch(home.folder("mine")).additional
    assert (second.network.key, second.challenger, second.other) == (key, key, "0@as-searched")
    assert second.comparison is not None
    assert describe_additional(second) in text
    (network,) = SearchNetworks(home, f"mine:{key}", CONSOLE).load(lambda results: results[:1])
    assert network.title == "trial 0 retrained (epochs: 1 -> 2; from the weights of 0@as-searched)"
    stored = AdditionalStore(home.folder("mine").additional / key)
    weights = torch.load(stored.finalists.weights(0, 1), weights_only=True)
    assert all(torch.equal(weights[n], each) for n, each in network.module.state_dict().items())
    with pytest.raises(BadInputError, match=rf"names no trial; write mine, .*mine:{key}"):
        SearchNetworks(home, "mine:0@other", CONSOLE)


def test_same_command_continues_and_another_is_refused(
    home: Home, here: list[Any], printed: Callable[..., str]
) -> None:
    run(home, printed, label="x", seeds=1)
    text = run(home, printed, label="x", seeds=2)
    assert "; 1 seed done already" in text
    assert [each.seed for each in here] == [1, 2]
    with pytest.raises(BadInputError, match=r"exists, and is another training: trial 0 retrained"):
        run(home, printed, label="x", epochs="3")
    with pytest.raises(BadInputError, match=r"0@x has 2 seeds already; use 2 or more"):
        run(home, printed, label="x", seeds=1)


def test_failed_training_fails_the_command(
    home: Home,
    here: list[Any],
    printed: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: Any, trainings: Any, **calls: Any) -> None:
        calls["on_failure"](trainings[0], "out of memory")

    monkeypatch.setattr(additional_training, "retrain_finalists", fail)
    with pytest.raises(SearchFailedError, match=r"1 training of mine:0@as-searched failed; fix"):
        run(home, printed)
    with pytest.raises(BadInputError, match=r"has no complete training yet; wait for it"):
        SearchNetworks(home, "mine:0@as-searched", CONSOLE).load()


def test_retrained_finalist_is_compared_with_the_finalist(home: Home) -> None:
    add_labels(home)
    folder = home.folder("mine")
    plan = planned(home, epochs="5")
    plan.store.write(plan.network, plan.experiment.to_yaml())
    baseline = folder.baseline
    assert baseline is not None
    labels = np.array(baseline.labels, dtype=np.int32)
    results = tuple(FinalistResult(0, seed, 0.5, 0.0, 1.0) for seed in (1, 2))
    for result in results:
        wrong = (labels + 1) % 10
        wrong[result.seed] = labels[result.seed]
        FinalistStore(folder.finalists).write(result, b"", wrong)
        plan.store.finalists.write(result, b"", labels)
    write_results(folder.finalists, [Finalist(0, results)])
    (found,) = StoredSearch(folder).additional
    assert found.comparison is not None
    assert found.comparison.difference == pytest.approx(1 - 1 / len(labels))
    assert found.verdict.startswith("0@epochs-5 is better than trial 0 by 0.9")


def test_progress_names_epochs_and_time_left() -> None:
    now, lines = [0.0], []
    progress = EpochProgress(10, 2, lines.append, every=5, clock=lambda: now[0])
    progress.show({1: (2, 0.5)})
    assert lines == []
    now[0] = 8.0
    progress.show({1: (6, 0.75), 2: (0, 0.1)})
    assert lines == [
        "  seed 1: epoch 6 of 10, validation 0.7500; seed 2: epoch 0 of 10, "
        "validation 0.1000; about 28s left"
    ]
    progress.show({1: (7, 0.75)})
    assert len(lines) == 1


def test_lost_training_continues_from_its_checkpoint(
    tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = SearchNetworks(home, "mine:0", CONSOLE)
    trial = networks.trial
    spec = replace(networks.spec, epochs=3)
    whole = finalist.retrain(spec, 0, trial.params, 1)
    kept = replace(spec, checkpoints=tmp_path / "checkpoints")

    def stop(metrics: EpochMetrics) -> None:
        if metrics.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finalist.retrain(kept, 0, trial.params, 1, progress=stop)
    epochs: list[int] = []
    again = finalist.retrain(kept, 0, trial.params, 1, progress=lambda m: epochs.append(m.epoch))
    assert epochs[0] > 1
    assert torch.equal(torch.from_numpy(whole.predictions), torch.from_numpy(again.predictions))


def test_python_retrains_and_loads_the_result(home: Home, here: list[Any]) -> None:
    search = open_search("mine", home.path)
    key = search.retrain(0, epochs=2, changes={"augmentation.flip": "random"}, seeds=1)
    assert key == "0@epochs-2_flip-random"
    assert [each.network.key for each in search.additional] == [key]
    assert search.architecture(key).digest == search.architecture(0).digest
