"""What can be looked at without training: spaces, candidates, running and finished searches."""

from __future__ import annotations

from collections import Counter

from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table

from search.experiment import Experiment
from search.experiment_file import load_experiment, load_kept
from search.finalists import Finalist, read_results
from search.home import Home, SearchFolder
from search.job import describe_job, describe_task, load_images
from search.journal import outcome
from search.lock import is_held
from search.report import as_html, build_report, compare, print_report
from search.screens import Rejection, build_screens, judge, reject_invalid
from search.storages import is_written, read_trials
from search.study import Study
from search.summary import Summary, summarise
from search.tracking import Destination, sync, ui_command
from search.verdict import accuracy
from search.words import duration
from spaces.candidate import CandidateSpace
from spaces.errors import BadInputError, InvalidCandidateError


def screen_space(experiment: Experiment, draws: int, console: Console) -> None:
    """Draw candidates at random, judge them and show what the screens do to the space."""
    task = describe_task(load_images(experiment, console))
    space = describe_job(experiment, task).candidates()
    screens = build_screens(experiment.screens)
    study = Study("screen", RandomSampler(seed=experiment.seed))
    reasons: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for _ in range(draws):
        rejection: Rejection | None
        try:
            candidate = space.draw(study.ask())
        except InvalidCandidateError as error:
            rejection = reject_invalid(error)
        else:
            space.check_output(candidate)
            rejection = judge(candidate, screens)
        reason = "accepted" if rejection is None else rejection.reason
        reasons[reason] += 1
        if rejection is not None:
            examples.setdefault(reason, rejection.detail)
    table = Table(box=None, header_style="dim")
    for column in ("verdict", "candidates", "share", "example"):
        table.add_column(column)
    for reason, count in reasons.most_common():
        table.add_row(reason, str(count), f"{count / draws:.1%}", examples.get(reason, ""))
    console.print(
        f"{draws} random candidates of {space.name}, none trained", highlight=False, markup=False
    )
    console.print(table, highlight=False)


_STOPPED = {"interrupted": "is interrupted", "failed": "has failed"}
_ENDINGS: dict[str | None, str] = {"FINISHED": "finished", "FAILED": "failed"}


class SearchView:
    """A search as it lies on disk, running or not.

    Attributes:
        state: running, finished, failed or interrupted, also by the death of its driver.
    """

    def __init__(self, folder: SearchFolder) -> None:
        self.folder = folder
        self.experiment = load_kept(folder)
        location = folder.location(self.experiment.database)
        # Asked first: what has ended since then is read as ended.
        held = is_held(folder.lock)
        if not held and isinstance(location, str):
            held = is_written(location, self.experiment.name)
        self.state = "running" if held else _ENDINGS.get(outcome(folder.journal), "interrupted")
        self.trials: list[FrozenTrial] = read_trials(location, self.experiment.name)
        for trial in self.trials:
            # Without a driver nothing runs, whatever it has left behind.
            if trial.state is TrialState.RUNNING and not held:
                trial.state = TrialState.WAITING

    @property
    def space(self) -> CandidateSpace:
        """Rebuilds the candidates, without their images."""
        return describe_job(self.experiment, self.folder.task).candidates()

    @property
    def finalists(self) -> list[Finalist]:
        """Best first; empty before the search has come to them."""
        return read_results(self.folder.finalists)


def show_status(name: str | None, home: Home, console: Console) -> None:
    """Show how far one search, or every search, is."""
    names = home.names() if name is None else [home.existing(name).name]
    if not names:
        console.print(f"no search in {home.path} yet; start one: python search.py", markup=False)
        return
    table = Table(box=None, header_style="dim")
    for column in (
        "search",
        "trained",
        "running",
        "interrupted",
        "rejected",
        "saved",
        "best",
        "test accuracy",
        "state",
    ):
        table.add_column(column)
    below: list[str] = []
    for each in names:
        try:
            view = SearchView(home.folder(each))
            finalists = view.finalists
        except BadInputError as error:
            if name is not None:
                raise
            # One search that has only just been made, or is damaged, does not hide the others.
            below.append(f"{each} cannot be shown: {error}")
            continue
        summary = summarise(view.trials)
        test = finalists[0].shown if finalists else "-"
        if view.state in _STOPPED:
            command = home.command("resume", each)
            below.append(f"{each} {_STOPPED[view.state]}; go on with: {command}")
        table.add_row(
            each,
            f"{summary.trained}/{view.experiment.budget.trials}",
            str(summary.running),
            str(summary.interrupted),
            ", ".join(f"{reason} {n}" for reason, n in summary.rejections.items()) or "0",
            duration(summary.savings.total),
            _best(summary),
            test,
            view.state,
        )
    console.print(table, highlight=False)
    for line in below:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _best(summary: Summary) -> str:
    if summary.best is None:
        return "-"
    front = f", front of {len(summary.front)}" if summary.front else ""
    return f"{accuracy(summary.best):.4f} (trial {summary.best.number}{front})"


def show_report(name: str, against: str | None, home: Home, console: Console) -> None:
    """Show what a search has found, and how it differs from another one."""
    view = SearchView(home.existing(name))
    sections = build_report(view.experiment, view.trials, view.finalists, view.space)
    if against is not None:
        other = SearchView(home.existing(against))
        sections += [
            compare((name, view.trials), (against, other.trials)),
            compare((against, other.trials), (name, view.trials)),
        ]
    print_report(console, sections)
    page = as_html(f"Search {name}", sections)
    try:
        view.folder.report.write_text(page, encoding="utf-8")
    except OSError as error:
        problem = f"the page cannot be written there ({error.strerror})"
        remedy = "make room, or ask its owner for one"
        raise BadInputError("NAME", view.folder.report, problem, remedy) from error
    console.print(
        f"\nAs a page: {view.folder.report}", highlight=False, markup=False, soft_wrap=True
    )


def sync_search(name: str, home: Home, console: Console) -> None:
    """Replay what the tracking server has not got yet."""
    view = home.existing(name)
    experiment = load_experiment(view.experiment)
    destination = Destination.from_environment(home.path, experiment.tracking.experiment)
    done = sync(view.journal, destination, view.identity)
    console.print(
        f"{done.events} events of {done.runs} runs brought to {destination.shown}; "
        f"compare: {ui_command(destination)}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
