"""A night: continues a search, compares its best finalist with the champion, and reports.

A night can end at any point because each step stores its result before the next one starts: the
search in its study, finalists in files, the decision in the registry. The next start continues an
unfinished night (see `search.nightly.history.History.begin`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from apprise import NotifyType
from optuna.trial import FrozenTrial
from rich.console import Console

from search.backup.backup import back_up_now
from search.backup.restore import restore_missing
from search.console import say, warn
from search.driver.data_check import check_data
from search.driver.new_search import next_name
from search.driver.outcome import Outcome, SearchFailedError
from search.driver.resume import as_resumed
from search.driver.run import run_search
from search.experiment.folder import Home, default_storage
from search.experiment.loading import load_experiment, load_stored
from search.experiment.schema import Experiment
from search.experiment.training_spec import describe_task, describe_training, load_images
from search.formatting import root_cause
from search.loop.budget import Spent, beyond
from search.nightly.history import History, Night, Score, State, take_snapshot
from search.nightly.identity import JudgedImages, identify
from search.nightly.report import build_night, headline, index_page
from search.notifications import Notifier, take_addresses
from search.reporting.page.frame import as_html
from search.reporting.rendering import as_markdown, print_report
from search.reporting.standing import read_distances, read_standing
from search.signals import interrupting
from search.study.file_lock import hold
from search.study.finalist_ties import tied_with_first
from search.study.finalists import Finalist, best_validated, read_results
from search.study.probes import CHAMPION
from search.study.records import TrialRecord
from search.study.storages import read_trials
from search.tracking.journal import Journal
from search.tracking.journal_events import PARENT
from search.tracking.journal_reader import last_status, worked_seconds
from search.tracking.journal_recorder import candidate_json
from search.tracking.mlflow_destination import Destination
from search.tracking.mlflow_errors import UnavailableError
from search.tracking.model_description import describe_model
from search.tracking.pyfunc_model import PyfuncModel
from search.tracking.tracking_process import quiet, sync
from spaces.candidate import Candidate
from spaces.errors import BadInputError
from trainables.data import Dataset
from trainables.probes.records import title_of_trial

if TYPE_CHECKING:
    from search.nightly.champions import ChampionStore

_TRIES, _PAUSE = 3, 2.0
_RESUMED_NEXT = "The next start continues this night."
_Found = TypeVar("_Found")

_KINDS = {
    State.FINISHED: NotifyType.SUCCESS,
    State.INTERRUPTED: NotifyType.WARNING,
}


class NightFailedError(SearchFailedError):
    """A night failed; its search is saved."""


def run_night(
    path: Path, overrides: Sequence[str], home: Home, console: Console, address: str = "local"
) -> bool:
    """Run a night and send notifications about its result, also if it fails.

    Args:
        path: file of the experiment.
        overrides: see `search.experiment.loading.load_experiment`.
        home: folder of all searches.
        console: shows progress and report.
        address: of the Ray cluster; ``local`` starts a private one on this machine.

    Returns:
        Whether the night was interrupted.

    Raises:
        BadInputError: the experiment is invalid, another night runs, the data changed since the
            last night, or the champion was judged on other images.
        SearchFailedError: the search failed, the comparison is pending, or results cannot be
            written.
    """
    notifier = Notifier(take_addresses(), warn)
    night: _Night | None = None
    name = path.stem
    try:
        with interrupting():
            experiment = load_experiment(path, overrides)
            name = experiment.name
            notifier.add(experiment.nightly.notify)
            notifier.check()
            _check(experiment)
            folder = home.folder(name)
            _make(home.path)
            with _written(), hold(folder.nightly_lock, name, "its night"):
                restore_missing(home, name, experiment.storage or default_storage())
                night = _Night(experiment, home, console, address)
                return night.run()
    except BaseException as error:
        if night is None or night.message is None:
            cause = "interrupted" if isinstance(error, KeyboardInterrupt) else _one_line(error)
            notifier.send(f"{name}: the night failed", cause, NotifyType.FAILURE)
        raise
    finally:
        if night is not None and night.message is not None:
            notifier.send(*night.message)


def _check(experiment: Experiment) -> None:
    """Check that nights of the experiment can decide about the champion."""
    section = experiment.finalists
    if section.count < 1:
        problem = "without finalists there is nothing to compare with the champion"
        raise BadInputError("finalists.count", section.count, problem, "use 1 or more")
    if section.seeds < 2:
        problem = "one seed does not distinguish skill from luck"
        raise BadInputError("finalists.seeds", section.seeds, problem, "use 2 or more")


def _make(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = f"cannot create the folder: {error.strerror}"
        raise BadInputError("--home", home, problem, "name a folder") from error


@contextmanager
def _written() -> Iterator[None]:
    """Report in one line that results cannot be written, and the remedy."""
    try:
        yield
    except OSError as error:
        raise NightFailedError(
            f"cannot write the results of the night: {root_cause(error)}. Everything saved so far "
            "is intact. Free disk space, then start the night again"
        ) from error


class _Night:
    """One night; the caller holds its lock.

    Attributes:
        message: title, body and kind of the notification; None before the night has ended.
    """

    def __init__(self, experiment: Experiment, home: Home, console: Console, address: str) -> None:
        self.message: tuple[str, str, NotifyType] | None = None
        self._folder = home.folder(experiment.name)
        self._resume = self._folder.experiment.exists()
        if self._resume:
            experiment = as_resumed(self._folder, experiment)
        self._experiment = experiment
        self._home = home
        self._console = console
        self._address = address
        self._history = History(self._folder.nights)
        self._destination = Destination.of_search(self._folder, experiment.tracking.experiment)
        self._model = experiment.nightly.model or experiment.name

    def run(self) -> bool:
        """Run the night and tell whether it was interrupted."""
        self._check_data()
        self._check_champion()
        night = self._history.begin(self._spent())
        self._history.write(night)
        try:
            outcome = self._search(night)
            if outcome.interrupted:
                night = night.end(State.INTERRUPTED, _RESUMED_NEXT)
            else:
                night = self._judge(
                    replace(night, finalists=self._scores(outcome.finalists)), outcome
                )
        except BaseException as error:
            self._abort(night, error)
            raise
        self._close(night)
        if night.state is State.UNDECIDED:
            raise NightFailedError(night.note)
        return night.state is State.INTERRUPTED

    def _abort(self, night: Night, error: BaseException) -> None:
        """Store and report why a night was aborted, as far as possible."""
        if not self._folder.experiment.exists():
            self._history.forget(night)
            return
        if isinstance(error, KeyboardInterrupt):
            night = night.end(State.INTERRUPTED, _RESUMED_NEXT)
        else:
            night = night.end(State.FAILED, _one_line(error))
        with suppress(Exception):  # The first error matters more.
            self._close(night)

    def _check_data(self) -> None:
        """Check that the data are those of the earlier nights, before anything is spent."""
        if not self._resume:
            return
        folder, model = self._folder, self._experiment.nightly.model
        settings = [f"name: {next_name(self._home, folder.name)}", f"warm_start: [{folder.name}]"]
        if model is not None:
            settings.append("another nightly.model")
        remedy = (
            f"set {', '.join(settings)} in the experiment file: a new search learns from the "
            "trials of this one, and its nights have a champion of their own"
        )
        found = self._dataset.identify(self._experiment.decoding)
        check_data(folder, self._experiment, found, remedy)

    def _check_champion(self) -> None:
        """Check that the champion can be compared with, before anything is spent."""
        try:
            with quiet():
                from search.nightly.challenge import refuse_other_data  # noqa: PLC0415

                champion = self._store().current()
                if champion is not None:
                    refuse_other_data(self._model, champion, self._data)
        except UnavailableError as error:
            warn(
                f"cannot read the champion at {self._destination.shown} ({error}). The search "
                "continues and reads it again at the end"
            )

    def _search(self, night: Night) -> Outcome:
        budget = beyond(self._experiment.budget, night.before)
        return run_search(
            self._experiment.model_copy(update={"budget": budget}),
            self._home,
            self._console,
            address=self._address,
            resume=self._resume,
        )

    def _judge(self, night: Night, outcome: Outcome) -> Night:
        """Compare the best finalist with the champion."""
        if not outcome.finalists:
            raise NightFailedError("no finalist was retrained; the cause is above")
        best = outcome.finalists[0]
        trial = next(TrialRecord.of(each) for each in self._trials() if each.number == best.number)
        task = describe_task(self._dataset)
        # The stored experiment holds what the search chose itself, such as the batch size.
        spec = describe_training(load_stored(self._folder), task)
        rebuilt = spec.candidates().rebuild(trial.params, trial.digest)
        candidate = candidate_json(trial.params, rebuilt.architecture)
        model = self._model_of(best, rebuilt, flip=spec.test_time_flip)
        try:
            with quiet():
                from search.nightly.challenge import Challenge  # noqa: PLC0415

                challenge = Challenge(
                    self._folder.identity,
                    night.name,
                    trial,
                    best,
                    candidate,
                    self._data,
                    self._dataset.labels[self._dataset.test],
                    self._folder.finalists,
                    model,
                )
                decision = _retry(
                    lambda: challenge.decide(self._store(), self._experiment.nightly.alpha)
                )
        except UnavailableError as error:
            note = (
                f"The search is saved, but the champion at {self._destination.shown} is "
                f"unavailable ({error}). The comparison of trial {best.number} with it is pending: "
                "the next night makes it, or start this night again."
            )
            return night.end(State.UNDECIDED, note)
        return replace(night, decision=decision).end(State.FINISHED)

    def _model_of(self, best: Finalist, rebuilt: Candidate, *, flip: bool) -> PyfuncModel | None:
        """Return a finalist's network as a model of MLflow; None if it has no source."""
        title = title_of_trial(best.number, rebuilt.truncated)
        try:
            return describe_model(
                rebuilt.architecture,
                self._dataset.finalist_part(best_validated(best.results).seed),
                self._experiment.decoding,
                f"{title[0].upper()}{title[1:]} of {self._experiment.name}",
                flip=flip,
            )
        except BadInputError as error:
            warn(f"trial {best.number} has no model in MLflow: {error}")
            return None

    def _scores(self, finalists: list[Finalist]) -> tuple[Score, ...]:
        ties = tied_with_first(read_distances(self._folder, finalists))
        tied = {finalists[0].number, *ties} if ties else set()
        truncated = {each.number: TrialRecord.of(each).truncated for each in self._trials()}
        return tuple(
            Score(
                each.number,
                each.validation_accuracy,
                *each.test_accuracy,
                seeds=len(each.results),
                tied=each.number in tied,
                truncated=str(truncated.get(each.number) or ""),
            )
            for each in finalists
        )

    def _store(self) -> ChampionStore:
        from search.nightly.champions import ChampionStore  # noqa: PLC0415 - imports MLflow

        return ChampionStore(self._destination, self._model)

    @cached_property
    def _dataset(self) -> Dataset:
        # The search prints the notes.
        return load_images(self._experiment, self._console, notes=False)

    @cached_property
    def _data(self) -> JudgedImages:
        return identify(self._dataset)

    def _trials(self) -> list[FrozenTrial]:
        stored = load_stored(self._folder)
        return read_trials(self._folder.location(stored.database), stored.name)

    def _spent(self) -> Spent:
        if not self._resume:
            return Spent()
        return Spent.of(self._trials(), worked_seconds(self._folder.journal))

    def _close(self, night: Night) -> None:
        """Store and print the result of the night, and prepare the notification."""
        trials = self._trials()
        night = replace(night, after=take_snapshot(trials, worked_seconds(self._folder.journal)))
        self._history.write(night)
        last = self._history.before(night)
        standing = read_standing(self._folder, read_results(self._folder.finalists))
        sections = build_night(self._experiment, night, last, standing)
        title = f"{self._experiment.name}, {night.name}"
        place = self._history.place(night)
        page, text = as_html(title, sections), as_markdown(title, sections)
        (place / "report.html").write_text(page, encoding="utf-8")
        (place / "report.md").write_text(text, encoding="utf-8")
        index = self._history.folder / "index.html"
        index.write_text(
            index_page(self._experiment.name, self._history.nights()), encoding="utf-8"
        )
        short = f"{self._experiment.name}: {headline(night, last)}"
        self.message = (short, text, _KINDS.get(night.state, NotifyType.FAILURE))
        print_report(self._console, sections)
        for what, path in (("Night:  ", place / "report.html"), ("Nights: ", index)):
            say(self._console, f"{what} {path}")
        if night.decision is not None:
            champion = self._home.export_command(f"{self._experiment.name}:{CHAMPION}")
            say(self._console, f"Use it:  {champion}")
        if self._experiment.tracking.enabled:
            self._attach(night, page)
        self._back_up(trials)

    def _back_up(self, trials: Sequence[FrozenTrial]) -> None:
        """Back up what the night has written after its search."""
        storage = load_stored(self._folder).storage
        try:
            whole, cause = back_up_now(storage, self._folder, trials), ""
        except BadInputError as error:
            whole, cause = False, f" ({error})"
        if not whole:
            warn(f"the night is not in {storage} yet{cause}; the next night backs it up")

    def _attach(self, night: Night, page: str) -> None:
        """Add the report to the search's run in MLflow."""
        folder = self._folder
        try:
            with hold(folder.lock, folder.name):
                ending = last_status(folder.journal) or "FAILED"
                with Journal(folder.journal) as book:
                    book.update(PARENT, artifacts={f"nights/{night.name}.html": page})
                    book.finish(PARENT, ending)
            # If MLflow was unavailable just now, the next night or `sync` sends the report.
            if night.state is not State.UNDECIDED:
                sync(folder.journal, self._destination, folder.identity)
        except Exception as error:  # Tracking must not fail a finished night.
            warn(f"the report is not in MLflow yet: {_one_line(error)}")


def _retry(call: Callable[[], _Found]) -> _Found:
    """Retry a call if the store is unavailable, because hours of work depend on this last step.

    Raises:
        UnavailableError: the store stayed unavailable.
    """
    for _ in range(_TRIES - 1):
        with suppress(UnavailableError):
            return call()
        time.sleep(_PAUSE)
    return call()


def _one_line(error: BaseException) -> str:
    text = str(error) if isinstance(error, BadInputError | SearchFailedError) else root_cause(error)
    return " ".join(text.split())
