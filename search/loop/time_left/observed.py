"""The trainings of a search so far, as the prediction of its time left needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from search.study.records import Workload


@dataclass
class Training:
    """A trial that has started.

    Attributes:
        number: of the trial.
        workload: what decides the time of an epoch.
        device_fraction: of a device that it occupies.
        since: when its running epoch began, in seconds of the observer's clock.
        epochs: that it has trained.
        seconds: of these epochs.
        accuracy: of the last one; None before the first.
        ended: whether the training has ended.
    """

    number: int
    workload: Workload
    device_fraction: float = 1.0
    since: float = 0.0
    epochs: int = 0
    seconds: float = 0.0
    accuracy: float | None = None
    ended: bool = False


@dataclass
class FinalistsSeen:
    """The finalists so far.

    Attributes:
        results: validation accuracy by finalist and index of the seed; None for a failed training.
        seconds: of the trainings of each finalist.
        running: when each running training began, as finalist and index of the seed.
    """

    results: dict[int, dict[int, float | None]] = field(default_factory=dict)
    seconds: dict[int, list[float]] = field(default_factory=dict)
    running: dict[tuple[int, int], float] = field(default_factory=dict)


@dataclass(frozen=True)
class Observed:
    """A search at some moment.

    Attributes:
        now: the moment, in seconds of the observer's clock.
        trainings: trials that have started.
        busy: trainings at a time so far, on average; None before it is known.
        seconds: that the budget of time counts.
        startup: seconds that the first process took to start.
        finalists: None before the search has ended.
        baselines: workloads of the named networks that train after the finalists.
        baseline_began: when the first of these began; None before.
    """

    now: float
    trainings: Sequence[Training]
    busy: float | None
    seconds: float
    startup: float = 0.0
    finalists: FinalistsSeen | None = None
    baselines: tuple[Workload, ...] = ()
    baseline_began: float | None = None

    @property
    def by_number(self) -> Mapping[int, Training]:
        """The trainings by the number of the trial."""
        return {each.number: each for each in self.trainings}

    @property
    def device_seconds(self) -> float:
        """Device time of the trials so far."""
        return sum(each.seconds * each.device_fraction for each in self.trainings)
