"""A night: goes on with a search, compares its best with the champion, and says what changed.

Everything that a night finds is kept before the next step is taken, so that it can end anywhere:
the study by the search itself, retrainings by file, the decision by the registry. A night that has
not come to its end is gone on with by the next start (see `search.nightly.history.History.begin`).
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
from search.driver.outcome import Outcome, SearchFailedError
from search.driver.resume import as_resumed
from search.driver.run import run_search
from search.experiment.folder import Home, default_storage
from search.experiment.loading import load_experiment, load_kept
from search.experiment.schema import Experiment
from search.experiment.training_spec import describe_task, describe_training, load_images
from search.formatting import root_cause
from search.loop.budget import Spent, beyond
from search.nightly.history import History, Night, Score, State, take_snapshot
from search.nightly.identity import DataIdentity, identify
from search.nightly.report import build_night, headline, index_page
from search.notifications import Notifier, take_addresses
from search.reporting.sections import as_html, as_markdown, print_report
from search.signals import interrupting
from search.study.file_lock import hold
from search.study.finalists import Finalist
from search.study.records import TrialRecord
from search.study.storages import read_trials
from search.tracking.destination import Destination
from search.tracking.journal import Journal
from search.tracking.journal_events import PARENT
from search.tracking.journal_reader import last_status, worked_seconds
from search.tracking.mlflow_errors import UnavailableError
from search.tracking.recorder import candidate_json
from search.tracking.tracker import quiet, sync
from spaces.errors import BadInputError
from trainables.data import Dataset

if TYPE_CHECKING:
    from search.nightly.champions import ChampionStore

_TRIES, _PAUSE = 3, 2.0
_RESUMED_NEXT = "The next start goes on with it."
_Found = TypeVar("_Found")

_KINDS = {
    State.FINISHED: NotifyType.SUCCESS,
    State.INTERRUPTED: NotifyType.WARNING,
}


class NightFailedError(SearchFailedError):
    """A night whose search is kept, but which has not come to its end."""


def run_night(
    path: Path, overrides: Sequence[str], home: Home, console: Console, address: str = "local"
) -> bool:
    """Run a night, and tell people how it went, whatever that is.

    Args:
        path: of the experiment.
        overrides: as of `search.experiment.loading.load_experiment`.
        home: where the search's folder is, or is made.
        console: where progress and report are shown.
        address: of the Ray cluster; ``local`` starts a private one on this machine.

    Returns:
        Whether it was interrupted.

    Raises:
        BadInputError: something in the experiment cannot be used, another night runs, or the
            champion was judged on other images.
        SearchFailedError: the search failed, the comparison could not be made, or what came of it
            cannot be written.
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
    """Refuse an experiment of which no night could come to a decision."""
    section = experiment.finalists
    if section.count < 1:
        problem = "without a finalist nothing can be compared with the champion"
        raise BadInputError("finalists.count", section.count, problem, "use 1 or more")
    if section.seeds < 2:
        problem = "a single seed does not tell skill from luck"
        raise BadInputError("finalists.seeds", section.seeds, problem, "use 2 or more")


def _make(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = f"cannot be made: {error.strerror}"
        raise BadInputError("--home", home, problem, "name a folder") from error


@contextmanager
def _written() -> Iterator[None]:
    """Say in one line that what a night has come to cannot be written, and how to go on."""
    try:
        yield
    except OSError as error:
        raise NightFailedError(
            f"what the night has come to cannot be written down ({root_cause(error)}); all that "
            "was is kept: make room, then start it again"
        ) from error


class _Night:
    """One night, whose lock is held.

    Attributes:
        message: title, body and kind of what people are told, once it has ended.
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
        self._destination = Destination.from_environment(home.path, experiment.tracking.experiment)
        self._model = experiment.nightly.model or experiment.name

    def run(self) -> bool:
        """Run it; return whether it was interrupted."""
        self._look_at_champion()
        night = self._history.begin(self._spent())
        self._history.write(night)
        try:
            outcome = self._search(night)
            if outcome.interrupted:
                night = night.end(State.INTERRUPTED, _RESUMED_NEXT)
            else:
                night = self._judge(replace(night, finalists=_scores(outcome.finalists)), outcome)
        except BaseException as error:
            self._abort(night, error)
            raise
        self._close(night)
        if night.state is State.UNDECIDED:
            raise NightFailedError(night.note)
        return night.state is State.INTERRUPTED

    def _abort(self, night: Night, error: BaseException) -> None:
        """Write down with what a night was broken off, as far as it can be written."""
        if not self._folder.experiment.exists():
            self._history.forget(night)
            return
        if isinstance(error, KeyboardInterrupt):
            night = night.end(State.INTERRUPTED, _RESUMED_NEXT)
        else:
            night = night.end(State.FAILED, _one_line(error))
        with suppress(Exception):  # What it was broken off with is more to the point.
            self._close(night)

    def _look_at_champion(self) -> None:
        """Refuse a champion that cannot be compared with, before anything is spent."""
        try:
            with quiet():
                from search.nightly.challenge import refuse_other_data  # noqa: PLC0415

                champion = self._store().current()
                if champion is not None:
                    refuse_other_data(self._model, champion, self._data)
        except UnavailableError as error:
            warn(
                f"the champion at {self._destination.shown} cannot be read now ({error}); the "
                "search goes on, and it is looked for again at the end"
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
        """Let the best finalist stand against the champion."""
        if not outcome.finalists:
            raise NightFailedError("no finalist could be retrained; see the cause above")
        best = outcome.finalists[0]
        trial = next(TrialRecord.of(each) for each in self._trials() if each.number == best.number)
        task = describe_task(self._dataset)
        architecture = describe_training(self._experiment, task).candidates()
        candidate = candidate_json(trial.params, architecture.rebuild(trial.params).architecture)
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
                )
                decision = _insist(
                    lambda: challenge.decide(self._store(), self._experiment.nightly.alpha)
                )
        except UnavailableError as error:
            note = (
                f"the search is kept, but the champion at {self._destination.shown} cannot be "
                f"reached ({error}): the comparison of trial {best.number} with it is still to be "
                "made, by the next night or by starting this one again"
            )
            return night.end(State.UNDECIDED, note)
        return replace(night, decision=decision).end(State.FINISHED)

    def _store(self) -> ChampionStore:
        from search.nightly.champions import ChampionStore  # noqa: PLC0415 - imports MLflow

        return ChampionStore(self._destination, self._model)

    @cached_property
    def _dataset(self) -> Dataset:
        return load_images(self._experiment, self._console)

    @cached_property
    def _data(self) -> DataIdentity:
        return identify(self._dataset)

    def _trials(self) -> list[FrozenTrial]:
        kept = load_kept(self._folder)
        return read_trials(self._folder.location(kept.database), kept.name)

    def _spent(self) -> Spent:
        if not self._resume:
            return Spent()
        return Spent.of(self._trials(), worked_seconds(self._folder.journal))

    def _close(self, night: Night) -> None:
        """Write down what the night has come to, and get the message about it ready."""
        trials = self._trials()
        night = replace(night, after=take_snapshot(trials, worked_seconds(self._folder.journal)))
        self._history.write(night)
        last = self._history.before(night)
        sections = build_night(self._experiment, night, last)
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
        if self._experiment.tracking.enabled:
            self._attach(night, page)
        self._bring(trials)

    def _bring(self, trials: Sequence[FrozenTrial]) -> None:
        """Bring what the night has added after its search to where the search is kept."""
        storage = load_kept(self._folder).storage
        try:
            whole, cause = back_up_now(storage, self._folder, trials), ""
        except BadInputError as error:
            whole, cause = False, f" ({error})"
        if not whole:
            warn(f"the night is not in {storage} yet{cause}; the next one brings it")

    def _attach(self, night: Night, page: str) -> None:
        """Add the report to the search's run in MLflow."""
        folder = self._folder
        try:
            with hold(folder.lock, folder.name):
                ending = last_status(folder.journal) or "FAILED"
                with Journal(folder.journal) as book:
                    book.update(PARENT, artifacts={f"nights/{night.name}.html": page})
                    book.finish(PARENT, ending)
            # Where MLflow was away just now, the next night or `sync` brings it.
            if night.state is not State.UNDECIDED:
                sync(folder.journal, self._destination, folder.identity)
        except Exception as error:  # Tracking never hurts, least of all when all is done.
            warn(f"the report is not in MLflow yet: {_one_line(error)}")


def _scores(finalists: Sequence[Finalist]) -> tuple[Score, ...]:
    return tuple(
        Score(each.number, each.validation_accuracy, *each.test_accuracy, seeds=len(each.results))
        for each in finalists
    )


def _insist(call: Callable[[], _Found]) -> _Found:
    """Do something again a few times where a store does not answer: it is the last step of hours.

    Raises:
        UnavailableError: it never answered.
    """
    for _ in range(_TRIES - 1):
        with suppress(UnavailableError):
            return call()
        time.sleep(_PAUSE)
    return call()


def _one_line(error: BaseException) -> str:
    text = str(error) if isinstance(error, BadInputError | SearchFailedError) else root_cause(error)
    return " ".join(text.split())
