"""Resources that trials request from Ray, on a private cluster with simulated GPUs."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from optuna.trial import TrialState
from ray import tune

from cluster.sizing import Gpu
from search.backend import tuning
from search.backend.tune_searcher import StudySearcher
from search.backend.tuning import concurrent_trials, find_gpus, plan_packing, train_trials
from search.experiment.loading import parse_experiment
from search.experiment.schema import Experiment
from search.experiment.sections import BudgetSection
from search.experiment.training_spec import describe_training
from search.loop.budget import Budget
from search.loop.packing import Packing
from search.loop.trials import Trials
from search.study.events import Observer, StartedTrial
from spaces.candidate import Candidate, CandidateSpace
from spaces.errors import BadInputError
from spaces.task import Task
from trainables.epoch_metrics import EpochMetrics

GPUS = 1
GB = 10**9
SMALL, LARGE = Gpu(8 * GB, True), Gpu(16 * GB, False)


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that sets the nodes of the cluster and their GPUs."""

    def give(*there: dict[str, float], gpus: tuple[Gpu, ...] = ()) -> None:
        known = [
            {"Alive": True, "NodeID": str(number), "Resources": node}
            for number, node in enumerate(there)
        ]
        monkeypatch.setattr(ray, "nodes", lambda: known)
        monkeypatch.setattr(tuning, "find_gpus", lambda: list(gpus))

    return give


def experiment(**fields: Any) -> Experiment:
    return parse_experiment({"name": "mine", "epochs": 1, **fields})


# Requests


def test_trials_without_gpus_request_one_cpu(nodes: Callable[..., None]) -> None:
    nodes({"CPU": 4})
    assert plan_packing(experiment()) == Packing(cpus=1, fixed=0.0)


def test_concurrent_trials_divide_the_cpus(nodes: Callable[..., None]) -> None:
    nodes({"CPU": 8}, {"CPU": 8})
    asked = experiment(resources={"concurrent": 4})
    packing = plan_packing(asked)
    assert packing.cpus == 4
    assert concurrent_trials(asked, packing) == 4


@pytest.mark.parametrize(
    "fields", [{"resources": {"cpus": 2, "concurrent": 2}}, {"resources": {"cpus": 2}}]
)
def test_explicit_cpus_override_concurrency(
    nodes: Callable[..., None], fields: dict[str, Any]
) -> None:
    nodes({"CPU": 8})
    assert plan_packing(experiment(**fields)).cpus == 2


def test_trials_on_gpus_request_one_cpu(nodes: Callable[..., None]) -> None:
    nodes({"CPU": 32, "GPU": 2}, gpus=(SMALL,))
    assert plan_packing(experiment(resources={"concurrent": 4})).cpus == 1


def test_gpu_memory_determines_gpu_fractions(nodes: Callable[..., None]) -> None:
    nodes({"CPU": 8, "GPU": 1}, {"CPU": 8, "GPU": 1}, gpus=(LARGE, SMALL))
    packing = plan_packing(experiment(), image_bytes=7)
    assert packing == Packing(1, None, smallest=SMALL, largest=LARGE, image_bytes=7)
    assert not packing.bfloat16  # One of the GPUs does not support it.
    assert concurrent_trials(experiment(), packing) == 16


def test_silent_gpus_lead_to_the_default_fraction(nodes: Callable[..., None]) -> None:
    nodes({"CPU": 32, "GPU": 2})
    packing = plan_packing(experiment())
    assert packing.is_guessed
    assert concurrent_trials(experiment(), packing) == 8


def test_explicit_gpu_fraction_limits_the_largest_training(
    nodes: Callable[..., None],
) -> None:
    nodes({"CPU": 32, "GPU": 2}, gpus=(SMALL,))
    packing = plan_packing(experiment(resources={"gpus": 0.3}))
    assert packing.fixed == 0.3
    assert packing.largest_training is not None
    assert concurrent_trials(experiment(), packing) == 6


def test_search_on_cpus_requests_no_gpu(nodes: Callable[..., None]) -> None:
    nodes({"CPU": 8, "GPU": 2}, gpus=(SMALL,))
    assert plan_packing(experiment(device="cpu")) == Packing(cpus=1, fixed=0.0)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"device": "cuda"}, "device = cuda: the cluster has no GPU"),
        ({"resources": {"cpus": 9}}, "resources.cpus = 9: the largest node has 8 CPUs"),
        ({"resources": {"gpus": 0.5}}, "resources.gpus = 0.5: the largest node has 0 GPUs"),
    ],
)
def test_request_beyond_every_node_is_refused(
    nodes: Callable[..., None], fields: dict[str, Any], line: str
) -> None:
    nodes({"CPU": 8}, {"CPU": 4})
    with pytest.raises(BadInputError, match=line):
        plan_packing(experiment(**fields))


# On Ray


@pytest.mark.usefixtures("ray_cluster")
def test_find_gpus_asks_each_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "find_gpu", lambda: Gpu(4 * GB, True))
    assert find_gpus() == [Gpu(4 * GB, True)]


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("fault", ["slow", "broken"])
def test_silent_node_does_not_block_finding_gpus(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def look() -> None:
        if fault == "slow":
            time.sleep(60)
        if fault == "broken":
            raise RuntimeError("no driver")

    monkeypatch.setattr(tuning, "find_gpu", look)
    monkeypatch.setattr(tuning, "ANSWER_TIMEOUT", 1.0 if fault == "slow" else 60.0)
    started = time.monotonic()
    assert find_gpus() == []
    assert time.monotonic() - started < 30


@pytest.mark.usefixtures("ray_cluster")
def test_gpus_that_torch_cannot_use_are_refused_with_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def look() -> Gpu:
        raise BadInputError("device", "cuda", "the driver is too old", "renew it")

    monkeypatch.setattr(tuning, "find_gpu", look)
    with pytest.raises(BadInputError, match="device = cuda: the driver is too old; renew it"):
        find_gpus()


@pytest.fixture(scope="module")
def stretches(
    ray_cluster: None,
    tmp_path_factory: pytest.TempPathFactory,
    make_trials: Callable[..., Trials],
    eight_candidates: CandidateSpace,
    metrics: Callable[..., EpochMetrics],
) -> list[dict[str, Any]]:
    """Return the times and the process of each trial: eight trials on one GPU.

    The first three use half a GPU each, the next five a quarter.
    """
    folder = tmp_path_factory.mktemp("stretches")
    reported = metrics(0.5).as_dict() | {"done": True}

    class Stretch(tune.Trainable):
        def setup(self, config: dict[str, Any], spec: object) -> None:
            self.config = config

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.config = new_config
            return True

        def step(self) -> dict[str, Any]:
            started = time.time()
            number = self.config["number"]
            (folder / f"{number}.started").touch()
            time.sleep(0.5)
            # The first trial waits for another one, because processes start slowly.
            while len(list(folder.glob("*.started"))) < 2 and time.time() < started + 60:
                time.sleep(0.05)
            entry = {
                "pid": os.getpid(),
                "gpus": self.config["gpus"],
                "started": started,
                "ended": time.time(),
            }
            (folder / f"{number}.json").write_text(json.dumps(entry), encoding="utf-8")
            return dict(reported)

        def save_checkpoint(self, checkpoint_dir: str) -> None: ...

    gpu_fractions = iter([0.5] * 3 + [0.25] * 5)
    trials = make_trials(
        eight_candidates, limit=8, epochs=1, screens={"duplicates": False, "border": "off"}
    )

    def gpu_fraction(_: Candidate) -> float:
        return next(gpu_fractions)

    asked = experiment(budget={"trials": 8})
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        patch.setattr(tuning, "TrialActor", Stretch)
        spec = describe_training(asked, Task(1, 8, 8, 10))
        packing = Packing(cpus=1, fixed=None)
        train_trials(asked, spec, packing, StudySearcher(trials, gpu_fraction), folder / "ray")
    states = [trial.state for trial in trials.study.trials()]
    assert states == [TrialState.COMPLETE] * 8
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def taken(stretches: list[dict[str, Any]], moment: float) -> float:
    return float(
        sum(each["gpus"] for each in stretches if each["started"] <= moment < each["ended"])
    )


def test_trials_get_the_gpu_fraction_in_their_config(stretches: list[dict[str, Any]]) -> None:
    assert sorted(each["gpus"] for each in stretches) == [0.25] * 5 + [0.5] * 3


def test_concurrent_trials_fill_but_never_exceed_the_gpus(
    stretches: list[dict[str, Any]],
) -> None:
    loads = [taken(stretches, each["started"]) for each in stretches]
    assert max(loads) <= GPUS
    assert max(loads) > 0.5  # Several trials ran at a time.


def test_process_is_reused_for_an_equal_gpu_fraction(
    stretches: list[dict[str, Any]],
) -> None:
    fractions_of: dict[int, set[float]] = {}
    for each in stretches:
        fractions_of.setdefault(each["pid"], set()).add(each["gpus"])
    assert len(fractions_of) < len(stretches)
    assert all(len(gpu_fractions) == 1 for gpu_fractions in fractions_of.values())


# A search that stops while trials wait


class Endless(tune.Trainable):
    """Trains until Tune stops it."""

    def setup(self, config: dict[str, Any], spec: object) -> None:
        self.epoch = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.epoch = 0
        return True

    def step(self) -> dict[str, Any]:
        time.sleep(0.3)
        self.epoch += 1
        return EpochMetrics(self.epoch, 0.5, 0.5, 0.5, 0.5, 0.5).as_dict()

    def save_checkpoint(self, checkpoint_dir: str) -> None: ...


@pytest.fixture
def stopped(
    ray_cluster: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_trials: Callable[..., Trials],
    eight_candidates: CandidateSpace,
) -> Callable[..., Trials]:
    """Return a function that trains three trials until it is stopped.

    Each requests so many GPUs; the cluster has one. ``interrupt_at`` is the epoch of any trial that
    interrupts the search. ``when_all_wait`` is called once all three trials are requested.
    """
    monkeypatch.setattr(tuning, "TrialActor", Endless)

    def run(
        gpus: float,
        *,
        interrupt_at: int = 0,
        when_all_wait: Callable[[Trials], None] = lambda trials: None,
        **options: Any,
    ) -> Trials:
        class Interrupt(Observer):
            def started(self, trial: StartedTrial) -> None:
                if trial.number == 2:
                    when_all_wait(trials)

            def reported(self, number: int, metrics: EpochMetrics) -> None:
                if metrics.epoch == interrupt_at:
                    trials.stop("interrupted")

        trials = make_trials(
            eight_candidates,
            epochs=1000,
            screens={"duplicates": False, "border": "off"},
            observers=[Interrupt()],
            **options,
        )
        asked = experiment(budget={"trials": 10}, resources={"concurrent": 3})
        spec = describe_training(asked, Task(1, 8, 8, 10))
        packing = Packing(cpus=1, fixed=gpus)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            searcher = StudySearcher(trials, lambda _: gpus)
            train_trials(asked, spec, packing, searcher, tmp_path / "ray")
        return trials

    return run


def epochs_of(trials: Trials) -> list[int]:
    """Return the number of epochs of each trial, and check that all trials are paused."""
    found = trials.study.trials()
    assert {trial.state for trial in found} == {TrialState.WAITING}
    return [len(trial.intermediate_values) for trial in found]


def test_stop_finishes_running_epochs_and_starts_no_trial(
    stopped: Callable[..., Trials],
) -> None:
    trained, *waited = epochs_of(stopped(1.0, interrupt_at=2))
    assert trained in (2, 3)
    assert waited == [0, 0]


def test_training_imports_no_mlflow_integration(
    stopped: Callable[..., Trials], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray.air.integrations.mlflow", None)  # Makes its import fail.
    assert any(epochs_of(stopped(1.0, interrupt_at=1)))


def test_stop_ends_each_process_after_its_own_epoch(
    stopped: Callable[..., Trials], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OneIsSlow(Endless):
        """Trains trial 1 for ten seconds; the process of trial 0 records its cleanup."""

        def setup(self, config: dict[str, Any], spec: object) -> None:
            super().setup(config, spec)
            self.number = config["number"]

        def step(self) -> dict[str, Any]:
            if self.number == 1:
                (tmp_path / "slow started").touch()
                time.sleep(10)
                (tmp_path / "slow ended").touch()
            until = time.monotonic() + 60
            while not (tmp_path / "slow started").exists() and time.monotonic() < until:
                time.sleep(0.05)
            return super().step()

        def cleanup(self) -> None:
            if self.number == 0:
                (tmp_path / "quick closed").touch()

    monkeypatch.setattr(tuning, "TrialActor", OneIsSlow)
    quick, slow, waited = epochs_of(stopped(0.5, interrupt_at=2))
    assert (quick, slow, waited) == (2, 1, 0)
    moments = [(tmp_path / name).stat().st_mtime for name in ("quick closed", "slow ended")]
    assert moments == sorted(moments)


def test_stop_does_not_wait_for_missing_nodes(
    stopped: Callable[..., Trials], capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(trials: Trials) -> None:
        threading.Timer(1.0, trials.stop, ["interrupted"]).start()

    assert epochs_of(stopped(2.0, when_all_wait=interrupt)) == [0, 0, 0]
    assert "completed" not in capsys.readouterr().out


def test_spent_time_ends_a_search_that_waits_for_nodes(
    stopped: Callable[..., Trials],
) -> None:
    budget = Budget(BudgetSection(trials=10, wall_clock=3600.0))

    def spend(trials: Trials) -> None:
        budget.seconds_before = 3599.0 - (budget.seconds - budget.seconds_before)

    trials = stopped(2.0, budget=budget, when_all_wait=spend)
    assert epochs_of(trials) == [0, 0, 0]
    assert trials.stopping == "the budget of time is spent"
