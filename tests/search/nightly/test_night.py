"""Nights from the command line: start, kill, continuation, comparison, refusal, notification.

The tests check parts of one story: a weak first night; a second night that is killed and continued
and that excludes others meanwhile; and a search of equals whose champion is unavailable at first.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from optuna.trial import FrozenTrial, TrialState

from search.cli import main
from search.experiment.folder import SearchFolder
from search.experiment.loading import load_experiment
from search.experiment.training_spec import describe_data, describe_task
from search.nightly.history import History, Night, Ruling, State
from search.study.finalists import FinalistStore
from search.study.storages import read_trials
from search.urls import sqlite_uri
from tests.ports import free_port
from tests.search.tracking_server import Server
from tests.search.users import Result, User, descendants, wait_for
from trainables.data import load

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
]

TOKEN = "t0p-s3cret-t0ken"
# Of the seed below, the first network that is drawn has one feature, and the next one 25.
SPACE = """\
from spaces.architecture import Builder
from spaces.operations import Activation, Convolution, GlobalPooling, Linear


def space(trial, task, least=1, most=32):
    builder = Builder(task.image_shape)
    features = trial.suggest_int("features", least, most)
    x = builder.add(Activation(), builder.add(Convolution(features), builder.image))
    builder.add(Linear(task.classes), builder.add(GlobalPooling(), x))
    return builder.build()
"""
FIELDS: dict[str, Any] = {
    "seed": 9,
    "space": {"name": "my_space:space"},
    "recipe": {"batch_size": 64, "learning_rate": 0.2, "weight_decay": 0.0},
    "epochs": 8,
    "budget": {"trials": 1, "price": 2.0},
    "finalists": {"count": 1, "seeds": 3},
    "nightly": {"alpha": 0.05},
}


class Hook:
    """A webhook that keeps the messages it receives."""

    def __init__(self) -> None:
        self.messages: list[dict[str, str]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                hook.messages.append(json.loads(self.rfile.read(length)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"json://127.0.0.1:{self.server.server_port}/{TOKEN}"

    def take(self) -> list[dict[str, str]]:
        taken, self.messages = self.messages, []
        return taken


@dataclass
class Asked:
    """The result of a night and its notifications."""

    result: Result
    messages: list[dict[str, str]]


@dataclass
class Story:
    """The nights of the story, in order."""

    user: User
    first: Asked
    overlapping: Asked
    inherited: bool
    killed: list[FrozenTrial]
    second: Asked
    unreachable: Asked
    undecided: Night
    kept: Asked
    other: Asked

    @property
    def outputs(self) -> list[Result]:
        """The output of every command of the story."""
        parts = (getattr(self, field.name) for field in dataclasses.fields(self))
        return [part.result for part in parts if isinstance(part, Asked)]

    def nights(self, name: str) -> list[Night]:
        return History(SearchFolder(self.user.home / name).nights).nights()

    def report(self, name: str, night: int, kind: str = "md") -> str:
        place = self.user.home / name / "nights" / self.nights(name)[night].name
        return (place / f"report.{kind}").read_text(encoding="utf-8")


def trained(user: User, name: str) -> list[FrozenTrial]:
    trials = read_trials(user.home / name / "study.db", name)
    return [trial for trial in trials if "rejected" not in trial.user_attrs]


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    hook = Hook()
    thread = threading.Thread(target=hook.server.serve_forever)
    thread.start()
    yield hook
    hook.server.shutdown()
    thread.join()
    hook.server.server_close()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, hook: Hook) -> Story:
    user = User(tmp_path_factory.mktemp("nights"))
    (user.folder / "my_space.py").write_text(SPACE)
    dead = f"json://127.0.0.1:{free_port()}/{TOKEN}"
    told = {"BORDERLINE_NOTIFY": f"{dead} {hook.address}"}

    def ask(path: Path, *options: str, **variables: str) -> Asked:
        result = user.ask("nightly", path, *options, **told, **variables)
        return Asked(result, hook.take())

    path = user.write("mine", **FIELDS)
    first = ask(path)

    more = ("--set", "budget.trials=2")
    before = user.journal("mine").count('"metrics"')
    with user.start("nightly", path, *more, **told) as driver:
        # Two epochs of a trial and the totals of the search.
        wait_for(lambda: user.journal("mine").count('"metrics"') > before + 2, driver)
        os.kill(driver.pid, signal.SIGSTOP)
        inherited = any(holds_token(pid) for pid in descendants(driver.pid))
        overlapping = ask(path)
        os.kill(driver.pid, signal.SIGKILL)
        driver.communicate()
    hook.take()
    killed = trained(user, "mine")
    second = ask(path, *more)

    equal = {"space": {"name": "my_space:space", "least": 25, "most": 25}}
    equal |= {"nightly": {"model": "mine", "alpha": 0.05}, "tracking": {"enabled": False}}
    twin = user.write("twin", **FIELDS | equal | {"finalists": {"count": 1, "seeds": 4}})
    server = Server(user.home)
    unreachable = ask(twin, MLFLOW_TRACKING_URI=server.uri)
    (undecided,) = History(SearchFolder(user.home / "twin").nights).nights()
    try:
        server.start()
        kept = ask(twin, MLFLOW_TRACKING_URI=server.uri)
    finally:
        server.stop()
    other = ask(user.write("other", **FIELDS | {"seed": 10, "nightly": {"model": "mine"}}))
    return Story(
        user, first, overlapping, inherited, killed, second, unreachable, undecided, kept, other
    )


def holds_token(pid: int) -> bool:
    """Tell whether a process exposes the secret to other processes."""
    try:
        lines = [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
    except OSError:
        return False
    return any(TOKEN.encode() in line for line in lines)


# The first night


def test_first_night_starts_search_and_promotes_its_best(story: Story) -> None:
    assert story.first.result.returncode == 0, story.first.result
    night = story.nights("mine")[0]
    assert night.state is State.FINISHED
    assert night.before.trials == 0
    assert night.decision is not None
    assert (night.decision.ruling, night.decision.version) == (Ruling.FIRST, "1")
    assert "is the first champion, version 1 of mine" in story.report("mine", 0)


def test_notification_has_title_and_report(story: Story) -> None:
    (message,) = story.first.messages
    assert message["title"].startswith("mine: trial 0 is the first champion; best validation")
    assert message["message"].startswith("# mine, ")
    assert "## Champion" in message["message"]
    assert message["type"] == "success"


def test_unsent_notification_is_one_line_and_night_succeeds(
    story: Story,
) -> None:
    (line,) = story.first.result.stderr.splitlines()
    assert line == (
        "search.py: notification 1 of 2 (JSON) was not sent: the service is unreachable"
    )


# The second night


def test_second_night_is_refused_while_one_runs(story: Story) -> None:
    assert story.overlapping.result.returncode == 2
    *_, line = story.overlapping.result.stderr.splitlines()
    assert re.match(r"search.py: NAME = mine: its night is being run by process \d+ on ", line)
    (message,) = story.overlapping.messages
    assert (message["title"], message["type"]) == ("mine: the night failed", "failure")
    assert "its night is being run by process" in message["message"]


def test_killed_night_is_continued_under_its_own_budget(story: Story) -> None:
    assert story.second.result.returncode == 0, story.second.result
    first, second = story.nights("mine")
    assert second.state is State.FINISHED
    assert (first.before.trials, second.before.trials) == (0, 1)
    trials = trained(story.user, "mine")
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 3
    assert [trial.params for trial in trials[: len(story.killed)]] == [
        trial.params for trial in story.killed
    ]
    assert any(trial.state is not TrialState.COMPLETE for trial in story.killed)


def test_significantly_better_finalist_is_promoted(story: Story) -> None:
    night = story.nights("mine")[1]
    assert night.decision is not None
    assert night.decision.ruling is Ruling.PROMOTED
    comparison = night.decision.comparison
    assert comparison is not None
    assert comparison.difference > 0.1
    assert comparison.low > 0
    assert comparison.p_value < 0.05
    client = MlflowClient(sqlite_uri(story.user.home / "mlflow.db"))
    champion = client.get_model_version_by_alias("mine", "champion")
    assert (str(champion.version), champion.tags["trial"]) == ("2", str(night.decision.trial))
    assert len(client.search_model_versions("name = 'mine'")) == 2
    (message,) = story.second.messages
    assert f"trial {night.decision.trial} is the new champion" in message["title"]


def test_report_shows_changes_of_the_night(story: Story) -> None:
    first, second = story.nights("mine")
    assert first.after is not None
    assert second.after is not None
    text = story.report("mine", 1)
    assert f"## Since the night {first.name}" in text
    assert "| complete | 1 | 3 | +2 |" in text
    assert first.after.best is not None
    assert second.after.best is not None
    gain = second.after.best.accuracy - first.after.best.accuracy
    assert f"New best validation accuracy {second.after.best.accuracy:.4f}" in text
    assert f", {gain:+.4f}." in text
    assert re.search(r"\| money \| \d\.\d\d \| \d\.\d\d \| \+\d\.\d\d \|", text)
    assert "replaces version 1 (trial 0 of the night" in text
    page = story.report("mine", 1, "html").replace(' class="number"', "")
    assert "<td>complete</td><td>1</td><td>3</td><td>+2</td>" in page


def test_index_page_shows_all_nights(story: Story) -> None:
    page = (story.user.home / "mine" / "nights" / "index.html").read_text(encoding="utf-8")
    for night in story.nights("mine"):
        assert f'<a href="{night.name}/report.html">' in page
    assert "is the new champion" in page
    assert "<svg" in page


def test_reports_are_artifacts_of_the_search(story: Story) -> None:
    client = MlflowClient(sqlite_uri(story.user.home / "mlflow.db"))
    experiment = client.get_experiment_by_name("borderline")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], "tags.kind = 'search'")
    assert run.info.status == "FINISHED"
    found = {file.path for file in client.list_artifacts(run.info.run_id, "nights")}
    assert found == {f"nights/{night.name}.html" for night in story.nights("mine")}
    promotions = client.search_runs([experiment.experiment_id], "tags.kind = 'champion'")
    assert {each.data.tags["mlflow.parentRunId"] for each in promotions} == {run.info.run_id}


# Equals, and a store that is away


def test_unavailable_champion_fails_night_and_keeps_search(story: Story) -> None:
    result = story.unreachable.result
    assert result.returncode == 1
    *_, line = result.stderr.splitlines()
    assert line.startswith("search.py: The search is saved, but the champion at http://127.0.0.1:")
    assert "The comparison of trial 0 with it is pending" in line
    assert "Traceback" not in result.stderr
    assert story.undecided.state is State.UNDECIDED
    assert story.undecided.after is not None
    assert story.undecided.after.complete == 1
    (message,) = story.unreachable.messages
    assert message["title"] == "twin: the comparison with the champion is pending"
    assert message["type"] == "failure"


def test_next_start_makes_pending_comparison_without_training(story: Story) -> None:
    result = story.kept.result
    assert result.returncode == 0, result
    assert "retraining the best" in story.unreachable.result.stdout
    assert "retraining the best" not in result.stdout
    assert not re.search(r"^  trial \d+ +seed", result.stdout, re.MULTILINE)
    (night,) = story.nights("twin")
    assert night.name == story.undecided.name
    assert len(trained(story.user, "twin")) == 1
    assert len(list(FinalistStore(story.user.home / "twin" / "finalists").results())) == 4


def test_equally_good_finalist_is_not_promoted(story: Story) -> None:
    (night,) = story.nights("twin")
    assert night.decision is not None
    assert (night.decision.ruling, night.decision.version) == (Ruling.KEPT, "2")
    comparison = night.decision.comparison
    assert comparison is not None
    assert comparison.low < 0 < comparison.high
    assert "is not significantly better than the champion of mine" in story.report("twin", 0)


def test_champion_of_other_images_is_refused_before_training(story: Story) -> None:
    assert story.other.result.returncode == 2
    *_, line = story.other.result.stderr.splitlines()
    assert line.startswith("search.py: nightly.model = mine: its champion (version 2) cannot be")
    assert "it was judged on other test images" in line
    assert not (story.user.home / "other" / "experiment.yaml").exists()
    (message,) = story.other.messages
    assert message["title"] == "other: the night failed"


# Secrets


def test_addresses_are_only_in_environment_of_caller(story: Story) -> None:
    assert not story.inherited
    for result in story.outputs:
        assert TOKEN not in result.stdout + result.stderr
    files = [path for path in story.user.folder.rglob("*") if path.is_file()]
    assert len(files) > 50
    assert [path for path in files if TOKEN.encode() in path.read_bytes()] == []


# What is wrong is said before anything is done


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"finalists": {"seeds": 1}}, "finalists.seeds = 1: one seed does not distinguish skill"),
        ({"finalists": {"count": 0}}, "finalists.count = 0: without finalists there is nothing"),
        ({"nightly": {"alpha": 0.5}}, "nightly.alpha = 0.5: is over 0.2; use 0.2 or less"),
        ({"nightly": {"notify": ["json://u:p@h"]}}, "nightly.notify = ..: its address for JSON"),
        (
            {"nightly": {"notify": ["nonsense"]}},
            "nightly.notify = ..: apprise does not support one",
        ),
    ],
)
def test_experiment_that_cannot_decide_is_refused_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fields: dict[str, Any],
    says: str,
) -> None:
    monkeypatch.delenv("BORDERLINE_NOTIFY", raising=False)
    path = User(tmp_path).write("mine", **fields)
    home = tmp_path / "home"
    assert main(["nightly", str(path), "--home", str(home)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"search.py: {says}")
    assert not home.exists()


def test_night_on_changed_data_is_refused_before_anything_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BORDERLINE_CACHE", str(tmp_path / "cache"))
    path = User(tmp_path).write(
        "mine", tracking={"enabled": False}, finalists={"count": 1, "seeds": 2}
    )
    experiment = load_experiment(path)
    dataset = load(describe_data(experiment))
    now = dataset.identify(experiment.decoding)
    fewer = dataclasses.replace(now.classes[3], images=(0, 0, 1), digest="other")
    before = dataclasses.replace(now, classes=(*now.classes[:3], fewer, *now.classes[4:]))
    folder = SearchFolder(tmp_path / "home" / "mine")
    folder.create(experiment.to_yaml(), describe_task(dataset), before)
    assert main(["nightly", str(path), "--home", str(tmp_path / "home")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "data = digits: the data changed since the search started: " in line
    assert "images more in 3" in line
    assert "set name: mine-2, warm_start: [mine] in the experiment file" in line
    assert not folder.nights.exists()


def test_failure_to_read_experiment_is_notified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hook: Hook
) -> None:
    monkeypatch.setenv("BORDERLINE_NOTIFY", hook.address)
    assert main(["nightly", str(tmp_path / "gone.yaml"), "--home", str(tmp_path)]) == 2
    (message,) = hook.take()
    assert message["title"] == "gone: the night failed"
    assert "No such file" in message["message"]
    assert "BORDERLINE_NOTIFY" not in os.environ


def test_full_disk_is_one_line_and_notified(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    hook: Hook,
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("BORDERLINE_NOTIFY", hook.address)
    monkeypatch.setattr(History, "write", full)
    path = User(tmp_path).write(
        "mine", tracking={"enabled": False}, finalists={"count": 1, "seeds": 2}
    )
    assert main(["nightly", str(path), "--home", str(tmp_path / "home")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("search.py: cannot write the results of the night: ")
    assert line.endswith(
        "No space left on device. Everything saved so far is intact. Free disk space, then start "
        "the night again"
    )
    (message,) = hook.take()
    assert "No space left on device" in message["message"]
