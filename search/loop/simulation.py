"""Simulates a search: the real loop with a function for the training and a simulated clock.

A simulation makes every decision of a real search by the same code: it draws and screens
candidates, rejects duplicates, packs trials on a cluster, stops them early, handles failures and
keeps budgets. Only two parts differ: a function that you write returns the values in place of a
training, and the events of a simulated clock take the place of Ray. A search of thousands of trials
on hundreds of devices replays in minutes, for example to compare samplers on a table of trained
networks.

Drawing, starting and saving take no simulated time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, TypeAlias

from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from search.experiment.defaults import with_grace
from search.experiment.loading import parse_experiment
from search.experiment.objectives import ACCURACY, Objective
from search.experiment.schema import Experiment
from search.loop.assembly import build_trials
from search.loop.budget import Budget
from search.loop.samplers import make_sampler
from search.loop.simulated_clock import SimulatedClock
from search.loop.simulated_cluster import Cluster, Occupancy, Place
from search.loop.trials import Decision, Trials
from search.study.events import Observer, StartedTrial
from search.study.records import TrialRecord
from search.study.study import Study
from spaces.architecture import Architecture
from spaces.candidate import Candidate, CandidateSpace
from spaces.errors import BadInputError
from spaces.task import Task
from trainables.epoch_metrics import EpochMetrics

Evaluate: TypeAlias = Callable[[Candidate, Mapping[str, Any], int], float]
"""Returns the value of a candidate with its parameters after an epoch, counted from 1."""

FIXED_RECIPE: Mapping[str, Any] = {"learning_rate": 0.1, "weight_decay": 5e-4}
"""Recipe of a simulation that searches architectures alone: nothing of it is drawn."""


class SimulatedFailureError(Exception):
    """Raise it in ``evaluate`` to let a training fail, as an error on a worker does.

    Args:
        cause: why the training fails.
        violation: over 0 if it runs out of memory: the excess relative to the limit. The search
            does not try such a candidate again.
    """

    def __init__(self, cause: str, violation: float = 0.0) -> None:
        super().__init__(cause)
        self.violation = violation


class LostProcessError(Exception):
    """Raise it in ``evaluate`` to lose the process of a trial, which then repeats the epoch.

    After as many retries as ``failures.retries`` of an experiment, the trial fails.
    """


@dataclass(frozen=True)
class SimulatedTrial:
    """The result of a simulated trial.

    Attributes:
        number: of the trial in the study, which also numbers rejected candidates.
        params: from which the space rebuilds the candidate.
        value: after the last epoch; NaN if the trial failed.
        started: simulated time in seconds at which the training started.
        ended: simulated time in seconds at which it ended.
        epochs: that were trained.
        outcome: COMPLETE, PRUNED (stopped early) or FAIL.
        reason: why the trial failed; empty if it did not.
    """

    number: int
    params: Mapping[str, Any]
    value: float
    started: float
    ended: float
    epochs: int
    outcome: TrialState
    reason: str = ""


def simulate(
    space: str | Callable[..., Architecture],
    task: Task,
    evaluate: Evaluate,
    *,
    trials: int,
    seed: int = 0,
    sampler: str | BaseSampler = "auto",
    recipe: Mapping[str, Any] | None = None,
    workers: int = 1,
    epochs: int = 1,
    seconds: Callable[[Candidate], float] | None = None,
    space_options: Mapping[str, Any] | None = None,
    screens: Mapping[str, Any] | None = None,
    scheduler: Mapping[str, Any] | None = None,
    budget: Mapping[str, Any] | None = None,
    objectives: Sequence[Objective] = ACCURACY,
    retries: int = 3,
    cluster: Cluster | None = None,
    enqueue: Sequence[Mapping[str, Any]] = (),
    warm_start: Sequence[FrozenTrial] = (),
    observers: Sequence[Observer] = (),
    clock: SimulatedClock | None = None,
) -> list[SimulatedTrial]:
    """Run a search on a simulated clock, with a function in place of training.

    The search is deterministic: it depends on the arguments alone. Its study is in memory only.

    Args:
        space: a family's name (``vgg``), ``module:function``, or a function of trial and task that
            returns an architecture.
        task: the images and classes.
        evaluate: returns the value of a candidate after an epoch; larger is better. NaN is a
            training that diverged. See also `SimulatedFailureError` and `LostProcessError`.
        trials: number of candidates to train. Rejected candidates and duplicates do not count.
        seed: of the draws.
        sampler: ``auto`` (the default of an experiment), another name that an experiment may give,
            or a sampler of Optuna, which then has its own seed.
        recipe: options of `spaces.recipe.recipe`; None draws nothing of the recipe.
        workers: trials at a time, each on a device of its own.
        epochs: length of a whole training.
        seconds: returns the time of an epoch in seconds; None for one second.
        space_options: keyword arguments of the space function.
        screens: fields of the section ``screens`` of an experiment.
        scheduler: fields of the section ``scheduler``, such as ``{"name": "none"}``.
        budget: further limits, as in the section ``budget``; time is simulated time.
        objectives: accuracy, then ``params`` or ``macs``.
        retries: of a trial whose process is lost.
        cluster: nodes that trials share, in place of ``workers``.
        enqueue: parameters to try first.
        warm_start: trials of other searches; the sampler learns from them.
        observers: receive all events of the search, in this order.
        clock: for observers that read the time; it starts at 0.

    Returns:
        The ended trials in order of completion. Trials that a spent budget interrupts are missing.

    Raises:
        BadInputError: an argument is invalid, or the space function fails.

    Example:
        >>> from search.loop.simulation import simulate
        >>> from spaces.task import Task
        >>> def larger_is_better(candidate, params, epoch):
        ...     return candidate.costs.params / 1e6
        >>> found = simulate(
        ...     "vgg",
        ...     Task(channels=3, height=32, width=32, classes=10),
        ...     larger_is_better,
        ...     trials=4,
        ...     sampler="random",
        ...     workers=2,
        ... )
        >>> [(result.started, result.ended) for result in found]
        [(0.0, 1.0), (0.0, 1.0), (1.0, 2.0), (1.0, 2.0)]
    """
    given = sampler if isinstance(sampler, str) else "auto"
    experiment = _experiment(
        given,
        seed=seed,
        epochs=epochs,
        screens=dict(screens or {}),
        scheduler=dict(scheduler or {}),
        budget={**(budget or {}), "trials": trials},
        objectives=list(objectives),
        failures={"retries": retries},
    )
    if cluster is None:
        cluster = Cluster.of_workers(workers)
    elif workers != 1:
        problem = "a cluster determines how many trials run at a time"
        raise BadInputError("workers", workers, problem, "give workers or cluster")
    cluster.check()
    drawn = CandidateSpace(
        task,
        space,
        dict(space_options or {}),
        FIXED_RECIPE if recipe is None else recipe,
        truncation=experiment.screens.truncation,
    )
    study = Study(
        "simulation",
        make_sampler(experiment, seed, drawn, cluster.packing)
        if isinstance(sampler, str)
        else sampler,
        seed=seed,
        objectives=experiment.objectives,
    )
    for trial in warm_start:
        study.add(trial)
    for params in enqueue:
        study.enqueue(params)
    clock = clock or SimulatedClock()
    search = build_trials(
        experiment,
        study,
        drawn,
        cluster.packing,
        Budget(experiment.budget, clock=clock.read),
        observers=observers,
    )
    return _Simulation(experiment, search, cluster, clock, evaluate, seconds).run()


def _experiment(sampler: str, **fields: Any) -> Experiment:
    """Return the experiment of a simulation, with its grace period.

    Raises:
        BadInputError: a field is invalid or cannot be simulated.
    """
    experiment = with_grace(parse_experiment(fields | {"sampler": sampler}))
    after = experiment.scheduler.hopeless_after
    if after is not None:
        problem = "a simulation has no training accuracy to compare"
        raise BadInputError("scheduler.hopeless_after", after, problem, "leave it out")
    for objective in experiment.objectives:
        if "latency" in objective:
            problem = "a simulation measures no latency"
            raise BadInputError("objectives", objective, problem, "use accuracy, params or macs")
    return experiment


@dataclass
class _Training:
    """A trial in simulated training."""

    trial: StartedTrial
    place: Place
    started: float
    seconds: float
    """Time of an epoch."""
    epoch: int = 0
    lost: int = 0
    """How often its process was lost."""


class _Simulation:
    """Passes the events of a simulated backend to the trials of a search, as Ray Tune does."""

    def __init__(
        self,
        experiment: Experiment,
        trials: Trials,
        cluster: Cluster,
        clock: SimulatedClock,
        evaluate: Evaluate,
        seconds: Callable[[Candidate], float] | None,
    ) -> None:
        self._epochs = experiment.whole_epochs
        self._retries = experiment.failures.retries
        self._trials = trials
        self._concurrent = cluster.concurrent
        self._occupancy = Occupancy(cluster)
        self._clock = clock
        self._evaluate = evaluate
        self._seconds = seconds
        self._waiting: list[StartedTrial] = []
        """Started trials for which no node has room yet."""
        self._training: dict[int, _Training] = {}
        self._events: list[tuple[float, int, int]] = []
        """Heap of the ends of epochs: time, order of scheduling, number of the trial."""
        self._scheduled = 0
        self._results: list[SimulatedTrial] = []

    def run(self) -> list[SimulatedTrial]:
        """Run the search to its end and return its results."""
        self._start_trials()
        while self._events:
            self._clock.now, _, number = heappop(self._events)
            self._end_epoch(self._training[number])
            self._start_trials()
        self._trials.pause_all()
        return self._results

    def _start_trials(self) -> None:
        """Start the trials that fit, and draw further ones until there are enough."""
        self._start_waiting()
        while len(self._training) + len(self._waiting) < self._concurrent:
            started = self._next()
            if started is None:
                break
            self._waiting.append(started)
            self._start_waiting()

    def _next(self) -> StartedTrial | None:
        while not self._trials.is_finished:
            # None only means that the time slice is over.
            started = self._trials.next()
            if started is not None:
                return started
        return None

    def _start_waiting(self) -> None:
        """Start the waiting trials that fit, in their order."""
        self._trials.check_budget()
        if self._trials.is_stopping:
            return  # The trials pause them in the end.
        waiting, self._waiting = self._waiting, []
        for trial in waiting:
            place = self._occupancy.take(trial.candidate)
            if place is None:
                self._waiting.append(trial)
                continue
            seconds = self._seconds_of(trial.candidate)
            training = _Training(trial, place, self._clock.now, seconds)
            self._training[trial.number] = training
            self._schedule(training)

    def _seconds_of(self, candidate: Candidate) -> float:
        seconds = 1.0 if self._seconds is None else float(self._seconds(candidate))
        if not (math.isfinite(seconds) and seconds >= 0):
            problem = "is no duration of an epoch"
            raise BadInputError("seconds", seconds, problem, "return a number of seconds")
        return seconds

    def _schedule(self, training: _Training) -> None:
        """Schedule the end of the next epoch; events of equal time keep their order."""
        self._scheduled += 1
        end = self._clock.now + training.seconds
        heappush(self._events, (end, self._scheduled, training.trial.number))

    def _end_epoch(self, training: _Training) -> None:
        trial, epoch = training.trial, training.epoch + 1
        try:
            value = float(self._evaluate(trial.candidate, trial.params, epoch))
        except SimulatedFailureError as error:
            self._finish(training, str(error), error.violation)
            return
        except LostProcessError as error:
            training.lost += 1
            if training.lost > self._retries:
                self._finish(training, f"its process failed repeatedly: {error}")
            else:
                self._schedule(training)
            return
        training.epoch = epoch
        self._trials.report(
            trial.number, EpochMetrics(epoch, 0.0, value, 0.0, value, training.seconds)
        )
        if epoch >= self._epochs or math.isnan(value):
            self._finish(training)
            return
        decision = self._trials.decide(trial.number)
        if decision is Decision.STOP:
            self._finish(training)
        elif decision is Decision.PAUSE:
            self._free(training)
            self._trials.pause(trial.number)
        else:
            self._schedule(training)

    def _finish(self, training: _Training, cause: str = "", violation: float = 0.0) -> None:
        self._free(training)
        trial = training.trial
        self._trials.finish(trial.number, cause, violation=violation)
        record = TrialRecord.of(self._trials.study.trial(trial.number))
        self._results.append(
            SimulatedTrial(
                number=trial.number,
                params=trial.params,
                value=math.nan if record.accuracy is None else record.accuracy,
                started=training.started,
                ended=self._clock.now,
                epochs=training.epoch,
                outcome=record.outcome,
                reason=record.reason,
            )
        )

    def _free(self, training: _Training) -> None:
        del self._training[training.trial.number]
        self._occupancy.give_back(training.place)
