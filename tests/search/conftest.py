"""What the tests of the search share: small spaces, trials that report, a recording observer."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from search.experiment.sections import BudgetSection, ScreensSection
from search.loop.budget import Budget
from search.loop.screens import build_screens
from search.loop.trials import Trials
from search.study.events import Observer, StartedTrial
from search.study.records import Rejection
from search.study.study import Study
from spaces.architecture import Architecture, Builder
from spaces.candidate import Candidate, CandidateSpace
from spaces.operations import Activation, Convolution, GlobalPooling, Linear, Pooling
from spaces.recipe import Recipe
from spaces.remedies import Truncation
from spaces.task import Task
from tests.ray_node import ray_node
from trainables.epoch_metrics import EpochMetrics

ROOT = Path(__file__).resolve().parents[2]
DIGITS = Task(channels=1, height=8, width=8, classes=10)


@pytest.fixture(scope="session")
def task() -> Task:
    """8x8 greyscale images of ten classes."""
    return DIGITS


@pytest.fixture(scope="session")
def plain() -> Callable[..., Architecture]:
    """Return a function that builds a plain net: convolutions ("c" or "c5") and pools ("p")."""

    def build(
        layers: str, *, size: int = 8, features: int = 4, padded: bool = True
    ) -> Architecture:
        builder = Builder((1, size, size))
        x = builder.image
        for number, layer in enumerate(layers.split(), start=1):
            if layer == "p":
                x = builder.add(Pooling(), x)
            else:
                kernel = int(layer[1:] or 3)
                padding = kernel // 2 if padded else 0
                conv = Convolution(features, (kernel, kernel), padding=(padding, padding))
                x = builder.add(conv, x, name=f"conv{number}")
        x = builder.add(GlobalPooling(), x)
        builder.add(Linear(10), x)
        return builder.build()

    return build


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """Return a recipe for candidates of which only the architecture matters."""
    return Recipe(0.1, 1e-4, 64, 0.0, 0.9)


@pytest.fixture(scope="session")
def candidate(recipe: Recipe) -> Callable[[Architecture], Candidate]:
    """Return a function that gives an architecture a recipe."""
    return lambda architecture: Candidate(architecture, recipe)


@pytest.fixture(scope="session")
def vgg_space() -> Callable[..., CandidateSpace]:
    """Return a function that makes a space of plain nets for 8x8 images."""

    def make(
        recipe: Mapping[str, Any] | None = None,
        truncation: Truncation | None = None,
        **options: Any,
    ) -> CandidateSpace:
        options = {"depth": [1, 8], "features": [2, 6], "kernel": [3, 5]} | options
        recipe = recipe or {"batch_size": [16, 32]}
        return CandidateSpace(DIGITS, "vgg", options, recipe, truncation=truncation)

    return make


@pytest.fixture(scope="session")
def function_space() -> Iterator[Callable[..., CandidateSpace]]:
    """Return a function that makes a space of any function of (trial, task)."""
    module = ModuleType("functions_of_tests")
    sys.modules[module.__name__] = module

    def make(function: Callable[..., Any], **recipe: Any) -> CandidateSpace:
        name = f"function_{len(vars(module))}"
        setattr(module, name, function)
        fixed = {"learning_rate": 0.1, "weight_decay": 1e-4} | recipe
        return CandidateSpace(DIGITS, f"{module.__name__}:{name}", {}, fixed)

    yield make
    del sys.modules[module.__name__]


def one_convolution(trial: optuna.trial.BaseTrial, task: Task) -> Architecture:
    """Draw one of eight networks that no screen rejects."""
    builder = Builder(task.image_shape)
    x = builder.add(Convolution(trial.suggest_int("features", 1, 8)), builder.image)
    x = builder.add(GlobalPooling(), builder.add(Activation(), x))
    builder.add(Linear(task.classes), x)
    return builder.build()


@pytest.fixture(scope="session")
def eight_candidates(function_space: Callable[..., CandidateSpace]) -> CandidateSpace:
    """Return a space of eight networks, none of them rejected by any screen."""
    return function_space(one_convolution)


@dataclass
class Recorder(Observer):
    """Keeps what it is told, in order."""

    events: list[tuple[Any, ...]] = field(default_factory=list)

    def rejected(self, number: int, rejection: Rejection) -> None:
        self.events.append(("rejected", number, rejection))

    def started(self, trial: StartedTrial) -> None:
        self.events.append(("started", trial.number, trial))

    def reported(self, number: int, metrics: EpochMetrics) -> None:
        self.events.append(("reported", number, metrics))

    def paused(self, number: int) -> None:
        self.events.append(("paused", number))

    def finished(self, number: int, state: TrialState, cause: str) -> None:
        self.events.append(("finished", number, state, cause))

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [event[1:] for event in self.events if event[0] == kind]


@pytest.fixture
def recorder() -> Recorder:
    """Return an observer that keeps what it is told."""
    return Recorder()


@pytest.fixture(scope="session")
def metrics() -> Callable[..., EpochMetrics]:
    """Return a function that makes what an epoch reports."""

    def make(
        accuracy: float, epoch: int = 1, *, seconds: float = 1.0, loss: float = 0.5
    ) -> EpochMetrics:
        return EpochMetrics(epoch, loss, accuracy, loss, accuracy, seconds)

    return make


@pytest.fixture(scope="session")
def make_trials() -> Callable[..., Trials]:
    """Return a function that makes the trials of a search in memory, drawn at random."""

    def make(
        space: CandidateSpace,
        *,
        screens: Mapping[str, Any] | None = None,
        study: Study | None = None,
        limit: int = 10,
        budget: Budget | None = None,
        epochs: int = 3,
        seed: int = 0,
        **options: Any,
    ) -> Trials:
        section = ScreensSection.model_validate(dict(screens or {}))
        return Trials(
            study or Study("test", RandomSampler(seed=seed)),
            space,
            build_screens(section),
            budget=budget or Budget(BudgetSection(trials=limit)),
            epochs=epochs,
            seed=seed,
            duplicates=section.duplicates,
            rule=section.rule,
            **options,
        )

    return make


@pytest.fixture(scope="session")
def train(metrics: Callable[..., EpochMetrics]) -> Callable[..., None]:
    """Return a function that lets a started trial report accuracies and end."""

    def run(
        trials: Trials, number: int, *accuracies: float, cause: str = "", **ending: Any
    ) -> None:
        for epoch, accuracy in enumerate(accuracies, start=1):
            trials.report(number, metrics(accuracy, epoch))
        trials.finish(number, cause, **ending)

    return run


@pytest.fixture
def printed() -> Callable[..., str]:
    """Return a function that tells what something prints into a file of 140 columns."""

    def show(call: Callable[[Console], None]) -> str:
        out = io.StringIO()
        call(Console(file=out, width=140))
        return out.getvalue()

    return show


@pytest.fixture(scope="session")
def stored_trial() -> Callable[..., FrozenTrial]:
    """Return a function that makes a trial as the study keeps it."""

    def make(
        number: int,
        state: str = "COMPLETE",
        value: float | tuple[float, ...] | None = None,
        params: Mapping[str, Any] | None = None,
        **attributes: Any,
    ) -> FrozenTrial:
        params = dict(params or {})
        values = None if value is None else list(value) if isinstance(value, tuple) else [value]
        trial = optuna.trial.create_trial(
            state=TrialState[state],
            values=values,
            params=params,
            distributions={
                key: optuna.distributions.CategoricalDistribution((each,))
                for key, each in params.items()
            },
            user_attrs={"digest": f"digest {number}"} | attributes,
            intermediate_values={1: values[0]} if state == "PRUNED" and values else {},
        )
        trial.number = number
        return trial

    return make


@pytest.fixture(scope="session")
def environment(own_cache: None) -> dict[str, str]:
    """Return the environment of a user who has set nothing but the cache of the session."""
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MLFLOW_", "BORDERLINE_", "RAY_"))
    }
    return variables | {
        "BORDERLINE_CACHE": os.environ["BORDERLINE_CACHE"],
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@pytest.fixture(scope="session")
def command_line(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs ``python search.py`` as a user does, from a folder of theirs."""

    def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, ROOT / "search.py", *map(str, arguments)],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """One node with four CPUs that believes it has a GPU."""
    with ray_node(4, gpus=1):
        yield
