"""Studies on a real Postgres server: searches, their lock, and outages of the server."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from search.study import database as module
from search.study.database import Database
from search.study.storages import check_server, is_written, read_trials
from search.study.study import Study
from spaces.errors import BadInputError
from tests.postgres import PASSWORD, Postgres, running
from tests.search.users import CALLED, Result, User, end_of, wait_for

pytestmark = pytest.mark.timeout(600)

UNTRACKED = {"enabled": False}


class Client(User):
    """A user whose studies are stored on a server."""

    def __init__(self, folder: Path, server: Postgres) -> None:
        super().__init__(folder)
        self.server = server

    def write(self, name: str, **fields: object) -> Path:
        """Write an experiment without tracking and finalists, which say nothing of the server."""
        return super().write(name, **{"tracking": UNTRACKED, "finalists": {"count": 0}} | fields)

    def run(self, name: str, **fields: object) -> Result:
        url = self.server.url()
        return self.ask("run", self.write(name, **fields), BORDERLINE_DATABASE=url)

    def trials(self, name: str) -> list[FrozenTrial]:
        return read_trials(self.server.url(), name)

    def trained(self, name: str) -> list[FrozenTrial]:
        trials = self.trials(name)
        return [t for t in trials if not {"rejected", "inherited"} & set(t.user_attrs)]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """Return a running server."""
    with running() as server:
        yield server


@pytest.fixture(scope="module")
def user(server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """Return a user whose studies are stored on the server."""
    return Client(tmp_path_factory.mktemp("user"), server)


@pytest.fixture(scope="module")
def first(user: Client) -> Result:
    """Return a finished search whose study is stored on the server."""
    # The password must not reach MLflow either.
    return user.run("first", tracking={"enabled": True})


# A whole search


def test_the_study_is_stored_on_the_server_only(first: Result, user: Client) -> None:
    assert first.returncode == 0, first.stderr
    assert len(user.trained("first")) == 4
    assert {trial.state for trial in user.trained("first")} == {TrialState.COMPLETE}
    assert not (user.home / "first" / "study.db").exists()


def test_no_file_of_a_search_contains_the_password(first: Result, user: Client) -> None:
    stored = yaml.safe_load((user.home / "first" / "experiment.yaml").read_text())
    assert stored["database"] == user.server.url(password=False)
    secret = PASSWORD.encode()
    files = [path for path in user.home.rglob("*") if path.is_file()]
    assert len(files) > 5
    for each in (secret, secret.replace(b" ", b"%20"), secret.replace(b" ", b"+")):
        assert not [path for path in files if each in path.read_bytes()]
        assert each.decode() not in first.stdout + first.stderr


def test_results_are_read_with_pgpassword(first: Result, user: Client) -> None:
    status = user.ask("status", "first", PGPASSWORD=PASSWORD)
    assert status.returncode == 0, status.stderr
    assert re.search(r"^ *first +4/4 +0 +0 .* finished *$", status.stdout, re.MULTILINE)
    report = user.ask("report", "first", PGPASSWORD=PASSWORD)
    assert report.returncode == 0, report.stderr
    assert "Leaderboard\n4 candidates trained: 4 complete" in report.stdout


def test_a_refusing_server_is_one_line_and_writes_nothing(first: Result, user: Client) -> None:
    wrong = user.server.url().replace(PASSWORD, "wrong")
    for answer in (
        user.ask("status", "first"),
        user.ask("run", user.write("locked-out"), BORDERLINE_DATABASE=wrong),
    ):
        assert answer.returncode == 2, answer.stderr
        (line,) = answer.stderr.splitlines()
        assert line.startswith("search.py: database = postgresql://borderline@127.0.0.1")
        assert "wrong" not in line.replace("password authentication", "")
    assert not (user.home / "locked-out").exists()


def test_a_name_taken_on_the_server_is_refused(first: Result, user: Client, tmp_path: Path) -> None:
    answer = user.ask(
        *("run", user.write("first"), "--home", tmp_path / "elsewhere"),
        BORDERLINE_DATABASE=user.server.url(),
    )
    assert answer.returncode == 2
    assert "already holds a study of that name" in answer.stderr
    assert not (tmp_path / "elsewhere").exists()


def test_a_search_can_inherit_trials_from_the_server(first: Result, user: Client) -> None:
    fields = {"warm_start": ["first"], "budget": {"trials": 1}}
    answer = user.run("warm", **fields)
    assert answer.returncode == 0, answer.stderr
    inherited = [trial for trial in user.trials("warm") if "inherited" in trial.user_attrs]
    assert [trial.params for trial in inherited] == [
        trial.params for trial in user.trained("first")
    ]


def test_a_finished_search_on_the_server_can_be_extended(first: Result, user: Client) -> None:
    extended = user.ask(
        *("resume", "first", "--set", "budget.trials=+1"),
        PGPASSWORD=PASSWORD,
    )
    assert extended.returncode == 0, extended.stderr
    assert len(user.trained("first")) == 5


# Interruptions


def test_only_one_driver_resumes_after_a_killed_one(user: Client, tmp_path: Path) -> None:
    url = user.server.url()
    path = user.write("killed", epochs=4000)
    driver = user.start("run", path, BORDERLINE_DATABASE=url)
    try:
        wait_for(lambda: '"metrics"' in user.journal("killed"), driver)
        assert is_written(url, "killed")
        there = user.ask("resume", "killed", PGPASSWORD=PASSWORD)
        elsewhere = user.ask("run", path, "--home", tmp_path, BORDERLINE_DATABASE=url)
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.communicate()
    for second in (there, elsewhere):
        assert second.returncode == 2, second.stderr
        assert f"it is being run by process {driver.pid} on " in second.stderr
    assert not (tmp_path / "killed").exists()

    status = user.ask("status", "killed", PGPASSWORD=PASSWORD)
    assert re.search(r"^ *killed +0/4 +0 +[12] .* interrupted *$", status.stdout, re.MULTILINE)
    assert f"resume it with: {CALLED} resume killed" in status.stdout

    begun = {each.number: each.intermediate_values for each in user.trained("killed")}

    def is_further() -> bool:
        """Tell whether a trial has reported an epoch that the first driver did not reach."""
        whole, _, _ = user.journal("killed").rpartition("\n")
        told = [each for each in map(json.loads, whole.splitlines()) if each["event"] == "metrics"]
        return any(
            each["step"] > max(begun.get(int(each["run"]), ()), default=0)
            for each in told
            if each["run"].isdecimal()
        )

    second_driver = user.start("resume", "killed", PGPASSWORD=PASSWORD)
    wait_for(is_further, second_driver)
    os.kill(second_driver.pid, signal.SIGINT)
    stopped = end_of(second_driver)
    assert stopped.returncode == 130, stopped.stderr
    assert f"{CALLED} resume killed" in stopped.stdout
    after = {each.number: each.intermediate_values for each in user.trained("killed")}
    assert set(begun) <= set(after)
    for number, values in begun.items():
        assert values.items() <= after[number].items()
    assert sum(map(len, after.values())) > sum(map(len, begun.values()))
    assert {each.state for each in user.trained("killed")} == {TrialState.WAITING}


def test_a_search_continues_when_its_server_restarts(user: Client) -> None:
    path = user.write("restarted", epochs=30)
    with user.start("run", path, BORDERLINE_DATABASE=user.server.url()) as driver:
        wait_for(lambda: '"metrics"' in user.journal("restarted"), driver)
        user.server.stop()
        time.sleep(3)
        user.server.start()
        result = end_of(driver)
    assert result.returncode == 0, result.stderr
    said = [line for line in result.stderr.splitlines() if "the database" in line]
    assert len(said) == 2, result.stderr
    assert "the database does not answer" in said[0]
    assert "the database answers again" in said[1]
    trained = user.trained("restarted")
    assert [len(trial.intermediate_values) for trial in trained] == [30] * 4
    assert [trial.number for trial in user.trials("restarted")] == list(
        range(len(user.trials("restarted")))
    )
    events = [json.loads(line) for line in user.journal("restarted").splitlines()]
    for trial in trained:
        mine = [each for each in events if each.get("run") == str(trial.number)]
        steps = [each["step"] for each in mine if each["event"] == "metrics"]
        assert steps == list(range(1, 31))


# The database alone

BREAK = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name LIKE 'borderline %'
"""
"""Ends the connections of drivers."""


def draw(study: Study) -> optuna.Trial:
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    study.start(trial, {"digest": str(trial.number)})
    return trial


@pytest.fixture
def url(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the address of a server with a timeout of one second."""
    monkeypatch.setattr(module, "TIMEOUT", 1.0)
    return server.url()


def test_an_unavailable_server_ends_writing_without_a_gap(
    url: str, server: Postgres, capfd: pytest.CaptureFixture[str]
) -> None:
    database = Database(url, "away")
    study = Study("away", RandomSampler(seed=0), database=database)
    draw(study)
    database.flush()
    server.stop()
    try:
        draw(study)
        with pytest.raises(
            (optuna.exceptions.StorageInternalError, module.sqlalchemy.exc.DBAPIError)
        ):
            database.flush()
        with pytest.raises(
            (optuna.exceptions.StorageInternalError, module.sqlalchemy.exc.DBAPIError)
        ):
            draw(study)
        database.close()
    finally:
        server.start()
    assert [trial.number for trial in read_trials(url, "away")] == [0]
    assert capfd.readouterr().err.count("the database does not answer") == 1


def test_a_write_whose_answer_is_lost_is_done_once(url: str) -> None:
    database = Database(url, "lost")
    study = Study("lost", RandomSampler(seed=0), database=database)
    number = draw(study).number
    study.report(number, 1, 0.5)
    study.finish(number, TrialState.COMPLETE, {"cause": "none"})
    draw(study)
    database.flush()
    database.enter(study.trial(1))
    database.flush()
    database.close()
    first, second = read_trials(url, "lost")
    assert (first.number, first.state, first.value) == (0, TrialState.COMPLETE, 0.5)
    assert (second.number, second.state) == (1, TrialState.RUNNING)


def test_a_closed_connection_releases_its_lock(url: str, server: Postgres) -> None:
    database = Database(url, "mine")
    with pytest.raises(BadInputError, match=f"by process {os.getpid()} on .* since 20"):
        Database(url, "mine", resume=True)
    with pytest.raises(BadInputError, match="it is being run"):
        check_server(url, "mine", new=False)
    database.close()
    assert not is_written(url, "mine")
    Database(url, "mine", resume=True).close()


def test_a_driver_that_lost_its_lock_writes_nothing(url: str, server: Postgres) -> None:
    database = Database(url, "lost-lock")
    study = Study("lost-lock", RandomSampler(seed=0), database=database)
    draw(study)
    database.flush()
    server.execute(BREAK)
    other = Database(url, "lost-lock", resume=True)
    draw(study)
    with pytest.raises(BadInputError, match="it is being run"):
        database.flush()
    database.close()
    assert len(other.load()) == 1
    other.close()


def test_a_driver_retakes_its_lock_after_a_broken_connection(url: str, server: Postgres) -> None:
    database = Database(url, "broken")
    study = Study("broken", RandomSampler(seed=0), database=database)
    draw(study)
    database.flush()
    server.execute(BREAK)
    draw(study)
    database.flush()
    assert is_written(url, "broken")
    database.close()
    assert len(read_trials(url, "broken")) == 2


def test_a_study_of_another_search_is_refused(url: str) -> None:
    Database(url, "two", identity="two-1").close()
    Database(url, "two", identity="two-1", resume=True).close()
    with pytest.raises(BadInputError, match="already holds a study of that name"):
        Database(url, "two", identity="two-2", resume=True)
