"""The second phase of a search: retrain the best candidates with fresh seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial

from search.backend.finalist_training import FinalistTraining, retrain_finalists
from search.backend.node_wait import NodeWait
from search.backend.tuning import nodes_waited_for
from search.driver.report_inputs import record_errors
from search.driver.session import SearchSession
from search.formatting import duration, plural
from search.signals import stopping_gently
from search.study.finalist_seeds import SeedPlan, plan_seeds
from search.study.finalists import (
    Finalist,
    FinalistStore,
    best_validated,
    choose_finalists,
    rank_finalists,
    write_results,
)
from search.study.probes import ProbeStore, trial_name
from search.study.records import TrialRecord
from search.study.summary import summarise
from search.tracking.model_description import describe_model
from search.tracking.probe_plot import probe_plot
from search.tracking.pyfunc_model import PyfuncModel
from spaces.candidate import Candidate
from spaces.errors import BadInputError
from trainables.data import Dataset, load
from trainables.probes.records import title_of_trial
from trainables.specs import FinalistResult, Retraining


def retrain_best(search: SearchSession) -> list[Finalist]:
    """Retrain the best candidates, those within noise of the leader with more seeds.

    Returns:
        Finalists, best first; none if the search is interrupted meanwhile.
    """
    best = choose_finalists(summarise(search.study.trials()), search.experiment.finalists.count)
    if not best:
        return []
    search.journal.retrain()
    phase = _FinalistPhase(search, best)
    with stopping_gently(search.stop_requested.set):
        phase.run()
    if search.stop_requested.is_set():
        return []
    stored = ProbeStore(search.folder.probes)
    phase.name_unprobed()
    images = cache(partial(load, search.spec.data))
    for finalist in phase.finalists:
        params = search.study.trial(finalist.number).params
        candidate = search.space.rebuild(params)
        search.recorder.finalist(finalist, candidate)
        _record_model(search, finalist, candidate, images)
        if search.experiment.probes and (probes := stored.read(trial_name(finalist.number))):
            search.recorder.probes(f"finalist-{finalist.number}", probes)
    record_errors(search.folder, images, phase.finalists)
    return phase.finalists


def _record_model(
    search: SearchSession,
    finalist: Finalist,
    candidate: Candidate,
    images: Callable[[], Dataset],
) -> None:
    """Record the network of a finalist as a model of MLflow."""
    if search.tracker is None:
        return
    best = best_validated(finalist.results)
    title = title_of_trial(finalist.number, candidate.truncated)

    def describe() -> PyfuncModel:
        return describe_model(
            candidate.architecture,
            images().finalist_part(best.seed),
            search.experiment.decoding,
            f"{title[0].upper()}{title[1:]} of {search.experiment.name}",
            flip=search.spec.test_time_flip,
        )

    weights = FinalistStore(search.folder.finalists).weights(finalist.number, best.seed)
    try:
        search.recorder.model(
            f"finalist-{finalist.number}",
            weights.relative_to(search.folder.path).as_posix(),
            describe,
        )
    except BadInputError as error:  # A network without source does not end its search.
        search.say(f"  trial {finalist.number:<4} has no model in MLflow: {error}")


class _FinalistPhase:
    """The rounds of trainings that choose between finalists.

    Args:
        search: to choose the finalists of.
        chosen: their trials.
    """

    def __init__(self, search: SearchSession, chosen: Sequence[TrialRecord]) -> None:
        self._search = search
        self._section = search.experiment.finalists
        self._chosen = {trial.number: trial for trial in chosen}
        self._first_seed = search.experiment.seed + 1
        self._folder = search.folder.finalists
        self._results: dict[int, dict[int, FinalistResult]] = {n: {} for n in self._chosen}
        self._failed: set[tuple[int, int]] = set()
        self._unprobed: set[int] = set()
        last = self._first_seed + self._section.most_seeds
        for result in FinalistStore(self._folder).results():
            if result.number in self._results and self._first_seed <= result.seed < last:
                self._add(result)

    @property
    def finalists(self) -> list[Finalist]:
        """Candidates with any result, best first; those that left come last."""
        results = {n: list(found.values()) for n, found in self._results.items()}
        return rank_finalists(results, self._plan().contenders)

    def run(self) -> None:
        """Train round by round until the choice has ended or the search is interrupted."""
        search, has_trained = self._search, False
        wait = NodeWait(
            search.experiment.resources.wait, search.say, partial(nodes_waited_for, search.packing)
        )
        while (plan := self._plan()).missing and not search.stop_requested.is_set():
            for line in _announcement(plan, self._section.seeds, self._section.most_seeds):
                search.say(line)
            has_trained = True
            search.clock.plan_finalists(plan.missing)
            retrain_finalists(
                replace(search.spec, checkpoints=None),
                [
                    FinalistTraining(
                        self._chosen[number], self._first_seed + index, probed=index == 0
                    )
                    for number, index in plan.missing
                ],
                folder=self._folder,
                packing=search.packing,
                wait=wait,
                on_result=self._show,
                on_failure=self._fail,
                on_probes=self._keep_probes,
                stopped=search.stop_requested.is_set,
            )
        write_results(self._folder, self.finalists)
        if has_trained and not plan.missing:
            rivals = len(self._chosen) > 1 and self._section.most_seeds > self._section.seeds
            for line in _ending(plan, self._section.seeds, rivals=rivals):
                search.say(line)

    def _plan(self) -> SeedPlan:
        known: dict[int, dict[int, float | None]] = {
            number: {index: result.validation_accuracy for index, result in found.items()}
            for number, found in self._results.items()
        }
        for number, index in self._failed:
            known[number][index] = None
        return plan_seeds(known, self._section.seeds, self._section.most_seeds)

    def _add(self, result: FinalistResult) -> None:
        index = result.seed - self._first_seed
        self._results[result.number][index] = result
        self._search.clock.finalist(
            result.number, index, result.validation_accuracy, result.seconds
        )

    def _show(self, result: FinalistResult) -> None:
        self._add(result)
        write_results(self._folder, self.finalists)
        left = self._search.clock.left()
        self._search.say(
            f"  trial {result.number:<4} seed {result.seed}  validation "
            f"{result.validation_accuracy:.4f}  test {result.test_accuracy:.4f}"
            + (f" | {duration(left.seconds)} left" if left else "")
        )

    def _keep_probes(self, retraining: Retraining) -> None:
        number = retraining.result.number
        if retraining.probes is None:
            self._unprobed.add(number)
            self._search.say(
                f"  trial {number:<4} was not probed ({retraining.probe_failure}); to try again "
                f"after the search, run: {self._probe_command(number)}"
            )
            return
        store = ProbeStore(self._search.folder.probes)
        store.write(trial_name(number), retraining.probes, probe_plot(retraining.probes))

    def name_unprobed(self) -> None:
        """Say which finalists have no probes, because they finished before these were wanted."""
        if not self._search.experiment.probes:
            return
        store = ProbeStore(self._search.folder.probes)
        missing = [
            each.number
            for each in self.finalists
            if each.number not in self._unprobed and store.read(trial_name(each.number)) is None
        ]
        if missing:
            trials = f"{'trial' if len(missing) == 1 else 'trials'} {', '.join(map(str, missing))}"
            self._search.say(
                f"not probed: {trials}, trained before probes were set; to probe one, run after "
                f"the search: {self._probe_command(missing[0])}"
            )

    def _probe_command(self, number: int) -> str:
        search = self._search
        return search.home.command("probe", f"{search.experiment.name}:{number}")

    def _fail(self, training: FinalistTraining, cause: str) -> None:
        number, seed = training.trial.number, training.seed
        self._failed.add((number, seed - self._first_seed))
        self._search.clock.finalist(number, seed - self._first_seed, None)
        self._search.say(f"  trial {number:<4} seed {seed}  failed to retrain: {cause}")


def _announcement(plan: SeedPlan, seeds: int, max_seeds: int) -> Iterator[str]:
    """Yield the lines before a round of trainings."""
    if plan.seeds > seeds:
        yield (
            f"{_names(plan.contenders)} are within noise: one more seed each "
            f"({plan.seeds} of at most {max_seeds})"
        )
        return
    count = len(plan.contenders)
    what = "candidate" if count == 1 else f"{count} candidates"
    how = "one fresh seed" if seeds == 1 else f"{seeds} fresh seeds"
    yield f"\nretraining the best {what} with {how}{' each' if count > 1 else ''}"


def _ending(plan: SeedPlan, seeds: int, *, rivals: bool) -> Iterator[str]:
    """Yield the lines after all rounds: why no finalist gets further seeds."""
    if len(plan.contenders) > 1 and plan.seeds > seeds:
        yield (
            f"{_names(plan.contenders)} are still within noise after "
            f"{plural(plan.seeds, 'seed')} each"
        )
    elif len(plan.contenders) == 1 and rivals:
        yield (
            f"trial {plan.contenders[0]} leads by more than the noise of "
            f"{plural(plan.seeds, 'seed')}, so "
            "no finalist gets further seeds; the ranks also count the noise of the test images"
        )


def _names(numbers: Sequence[int]) -> str:
    *others, last = map(str, numbers)
    return f"trials {', '.join(others)} and {last}"
