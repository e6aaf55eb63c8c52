"""A complete team server: Postgres, S3, passwords, searches that log to it, a browser."""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.mlflow.browser import browser
from tests.mlflow.team import (
    ADMIN,
    BARE,
    BUCKET,
    KEY,
    NAME,
    ROOT,
    SCRIPT,
    SECRETS,
    Team,
    bucket,
    listening,
    s3_server,
    write_settings,
)
from tests.ports import free_port
from tests.postgres import PASSWORD, Postgres, running
from tests.requirements import lack
from tests.search.users import Result, User, descendants, wait_for

pytestmark = pytest.mark.timeout(600)

ALICE, BOB = "alice's long word", "bob's long word"
TOKEN, OWN_S3_SECRET = secrets.token_hex(32), secrets.token_hex(20)
EXPERIMENT = "borderline"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """Return a database server."""
    with running() as server:
        yield server


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of an S3 server."""
    with s3_server(tmp_path_factory.mktemp("s3") / "server.log") as address:
        yield address


@pytest.fixture(scope="module")
def team(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, endpoint: str
) -> Iterator[Team]:
    """Return a running server with two users: alice can log, bob can only read."""
    team = Team(tmp_path_factory.mktemp("team"), postgres, endpoint)
    team.start()
    try:
        added = team.users("add", "alice", secret=ALICE)
        assert added.stdout == ("alice is added; alice has EDIT for the experiment borderline\n"), (
            added.stderr
        )
        assert team.users("add", "bob", "--read-only", secret=BOB).returncode == 0
        yield team
    finally:
        team.stop()


def searcher(folder: Path, team: Team, name: str, password: str) -> User:
    """Return a user whose searches log to the server, without access to its bucket."""
    folder.mkdir()
    user = User(folder)
    user.environment = {
        variable: value
        for variable, value in user.environment.items()
        if not variable.startswith("AWS_")
    } | {
        "MLFLOW_TRACKING_URI": team.uri,
        "MLFLOW_TRACKING_USERNAME": name,
        "MLFLOW_TRACKING_PASSWORD": password,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return user


class Seen:
    """The files of one search, and the process list while it ran."""

    def __init__(self, user: User, name: str, **variables: str) -> None:
        self.commands: set[str] = set()
        path = user.write(name)
        with user.start("run", path, **variables) as driver:

            def trains() -> bool:
                self.commands |= set(descendants(driver.pid).values())
                return '"metrics"' in user.journal(name)

            wait_for(trains, driver)
            self.commands |= set(descendants(driver.pid).values())
            out, err = driver.communicate(timeout=240)
        self.result = Result([], driver.returncode, out, err)
        # Ray's logs of this search; the folder also has those of others.
        self.logs = [
            path
            for folder in Path("/tmp/ray").glob(f"session_*_{driver.pid}")  # noqa: S108
            for path in folder.rglob("*")
            if path.is_file()
        ]


@pytest.fixture(scope="module")
def alice(team: Team, tmp_path_factory: pytest.TempPathFactory) -> User:
    """Return a user who can log."""
    return searcher(tmp_path_factory.mktemp("users") / "alice", team, "alice", ALICE)


@pytest.fixture(scope="module")
def search(alice: User, postgres: Postgres) -> Seen:
    """Return a finished search of alice with secrets in its environment."""
    return Seen(
        alice,
        "photos",
        BORDERLINE_DATABASE=postgres.url(),
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN=TOKEN,
        AWS_ACCESS_KEY_ID="alice",
        AWS_SECRET_ACCESS_KEY=OWN_S3_SECRET,
    )


@pytest.fixture
def runs(team: Team, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Run]]:
    """Return a function that lists the runs of a search that a user can see."""

    def find(search: str, user: str = "bob", password: str = BOB) -> list[Run]:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
        client = MlflowClient(team.uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        assert experiment is not None
        found = client.search_runs([experiment.experiment_id], max_results=100)
        return [run for run in found if run.data.tags["borderline.run"].startswith(f"{search}-")]

    return find


# Access


def test_only_health_check_is_public(team: Team) -> None:
    assert team.ask("/health")[:2] == (200, "OK")
    for path in (
        "/",
        "/version",
        "/graphql",
        "/metrics",
        "/signup",
        "/get-artifact?path=x&run_uuid=y",
        "/api/2.0/mlflow/experiments/search?max_results=5",
        "/ajax-api/2.0/mlflow/users/list",
        "/api/2.0/mlflow-artifacts/artifacts?path=",
    ):
        assert team.ask(path)[0] in {401, 404, 405}, path
    for path in ("/", "/api/2.0/mlflow/experiments/search?max_results=5"):
        assert team.ask(path)[0] == 401
        assert team.ask(path, "alice", ADMIN)[0] == 401
        assert team.ask(path, "nobody", ALICE)[0] == 401
        assert team.ask(path, "alice", ALICE)[0] == 200


@pytest.mark.parametrize("host", [NAME, f"{NAME}:8443", "localhost:9", "127.0.0.1"])
def test_server_accepts_its_host_names_with_any_port(team: Team, host: str) -> None:
    assert team.ask("/", "alice", ALICE, Host=host)[0] == 200


@pytest.mark.parametrize("host", ["evil.example.com", f"{NAME}.evil.com", "10.0.0.1", ""])
def test_server_rejects_other_host_names(team: Team, host: str) -> None:
    status, text, _ = team.ask("/", "alice", ALICE, Host=host)
    assert (status, text) == (403, "Invalid Host header - possible DNS rebinding attack detected")


def test_own_pages_work_behind_tls_but_foreign_pages_do_not(team: Team) -> None:
    path, question = "/ajax-api/2.0/mlflow/experiments/search", {"max_results": 1}
    own = team.ask(path, "alice", ALICE, question, Host=NAME, Origin=f"https://{NAME}")
    assert own[0] == 200
    for origin in ("https://evil.example.com", f"https://{NAME}.evil.com", "null"):
        status, _, headers = team.ask(path, "alice", ALICE, question, Origin=origin)
        assert status == 403
        _, _, headers = team.ask(f"{path}?max_results=1", "alice", ALICE, Origin=origin)
        assert headers.get("access-control-allow-origin") is None


def test_server_listens_on_loopback_only(team: Team) -> None:
    assert listening(set(team.commands())) == {f"127.0.0.1:{team.port}"}


def test_server_runs_its_workers_but_no_job_processes(team: Team) -> None:
    commands = list(team.commands().values())
    assert not [command for command in commands if "huey" in command or "jobs" in command]
    assert any("--workers 2" in command for command in commands)


def test_endpoints_that_start_programs_are_closed_behind_proxy(team: Team) -> None:
    path = "/ajax-api/3.0/mlflow/assistant/providers/ollama/health"
    assert team.ask(path)[0] == 401
    forwarded = {"X-Forwarded-For": "203.0.113.7"}
    status, text, _ = team.ask(path, "admin", ADMIN, **forwarded)
    assert status == 403
    assert "only accessible from the same host" in text


# Refused settings


@pytest.fixture
def refusal(team: Team, tmp_path: Path) -> Callable[..., str]:
    """Return a function that returns the server's message for invalid settings."""

    def start(**changes: str) -> str:
        settings = team.settings | {"MLFLOW_PORT": str(free_port())} | changes
        write_settings(tmp_path / "team.env", settings)
        done = subprocess.run(
            [sys.executable, SCRIPT, tmp_path / "team.env"],
            env=BARE | {"AWS_EC2_METADATA_DISABLED": "true"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        (line,) = done.stderr.splitlines()
        assert not [secret for secret in SECRETS if secret in line]
        return line

    return start


def test_unreachable_database_is_reported_in_one_line(refusal: Callable[..., str]) -> None:
    said = "serve_team.py: the database mlflow is unreachable: "
    wrong = refusal(PGPASSWORD="wrong")
    assert wrong.startswith(said)
    assert "password authentication failed" in wrong
    assert "Connection refused" in refusal(PGPORT=str(free_port()))
    missing = refusal(MLFLOW_BACKEND_STORE_URI="postgresql+psycopg2:///runs")
    assert missing.endswith('database "runs" does not exist; create it: createdb runs')


def test_unreachable_bucket_is_reported_in_one_line(refusal: Callable[..., str]) -> None:
    place = "s3://nobodys/files"
    assert refusal(MLFLOW_ARTIFACTS_DESTINATION=place) == (
        f"serve_team.py: MLFLOW_ARTIFACTS_DESTINATION = {place}: there is no such bucket"
    )
    nothing = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    assert "there are no credentials; set AWS_ACCESS_KEY_ID" in refusal(**nothing)
    gone = refusal(AWS_ENDPOINT_URL=f"http://127.0.0.1:{free_port()}")
    assert "Could not connect to the endpoint URL" in gone


def test_port_in_use_is_reported_in_one_line(team: Team, refusal: Callable[..., str]) -> None:
    assert refusal(MLFLOW_PORT=str(team.port)) == (
        f"serve_team.py: MLFLOW_HOST = 127.0.0.1, MLFLOW_PORT = {team.port}: Address already in use"
    )


def test_first_start_needs_the_first_users_password(
    refusal: Callable[..., str], postgres: Postgres, tmp_path: Path
) -> None:
    postgres.execute("CREATE DATABASE nobody")
    own = tmp_path / "auth.ini"
    own.write_text((ROOT / "mlflow" / "auth.ini").read_text().replace("mlflow_auth", "nobody"))
    for password in ("", "short"):
        changes = {"MLFLOW_AUTH_CONFIG_PATH": str(own), "MLFLOW_AUTH_ADMIN_PASSWORD": password}
        said = refusal(**changes)
        assert said.startswith("serve_team.py: MLFLOW_AUTH_ADMIN_PASSWORD is missing or short")


# A search


def test_search_logs_to_the_server(
    search: Seen, alice: User, runs: Callable[..., list[Run]]
) -> None:
    assert search.result.returncode == 0, search.result.stderr
    assert "tracking" not in search.result.stderr
    found = runs("photos")
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    assert [run.info.run_name for run in parents] == ["photos"]
    assert {run.info.status for run in found} == {"FINISHED"}
    assert {run.data.tags["mlflow.user"] for run in found} == {"alice"}
    assert len(found) > 4
    assert all(run.data.params for run in found)


def test_artifacts_are_in_the_bucket_and_served_by_the_server(
    search: Seen, team: Team, endpoint: str, runs: Callable[..., list[Run]], tmp_path: Path
) -> None:
    listed = bucket(endpoint).list_objects_v2(Bucket=BUCKET)["Contents"]
    names = [each["Key"] for each in listed]
    assert all(name.startswith("mlflow/") for name in names)
    assert any(name.endswith("/candidate.json") for name in names)
    (parent,) = [run for run in runs("photos") if "mlflow.parentRunId" not in run.data.tags]
    report = MlflowClient(team.uri).download_artifacts(
        parent.info.run_id, "report.html", str(tmp_path)
    )
    assert "photos" in Path(report).read_text()


def test_no_secret_is_in_any_file_or_process_list_or_printed(
    search: Seen, alice: User, team: Team, endpoint: str, runs: Callable[..., list[Run]]
) -> None:
    assert any("search.tracking.tracking_process" in command for command in search.commands)
    assert any("serve-artifacts" in command for command in team.commands().values())
    texts = [
        *search.commands,
        *team.commands().values(),
        search.result.stdout,
        search.result.stderr,
        team.log.read_text(),
        *(str(run.to_dictionary()) for run in runs("photos")),
    ]
    assert (alice.home / "photos" / "journal.jsonl").is_file()
    assert search.logs
    texts += [
        path.read_bytes().decode("utf-8", "replace")
        for path in (*alice.folder.rglob("*"), *search.logs)
        if path.is_file()
    ]
    client = bucket(endpoint)
    for each in client.list_objects_v2(Bucket=BUCKET)["Contents"]:
        body = client.get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read()
        texts.append(body.decode("utf-8", "replace"))
    assert len(texts) > 30
    held = {*SECRETS, ALICE, BOB, TOKEN, OWN_S3_SECRET}
    for secret in held | {quote(each) for each in held} | {quote_plus(each) for each in held}:
        assert not [text[:200] for text in texts if secret in text], secret


# A user without permission


def test_wrong_password_costs_one_line_and_sync_repairs_it(
    team: Team, tmp_path: Path, runs: Callable[..., list[Run]]
) -> None:
    bob = searcher(tmp_path / "bob", team, "bob", "wrong word")
    path = bob.write("late", budget={"trials": 1}, finalists={"count": 0}, tracking={"wait": "3s"})
    run = bob.ask("run", path)
    assert run.returncode == 0, run.stderr
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("tracking:")]
    assert (
        f"MLflow at {team.uri} does not accept records (it does not accept this user and "
        "password: check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD). Nothing is lost"
    ) in line
    assert "python search.py sync late" in line

    refused = bob.ask("sync", "late", MLFLOW_TRACKING_PASSWORD=BOB)
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert "this user may not write there: ask the server's administrator for permission" in line
    assert "events are saved in" in line

    granted = team.users("grant", "bob", "EDIT")
    assert granted.stdout == "bob has EDIT for the experiment borderline\n", granted.stderr
    synced = bob.ask("sync", "late", MLFLOW_TRACKING_PASSWORD=BOB)
    assert synced.returncode == 0, synced.stderr
    found = runs("late")
    assert len(found) >= 2
    assert {run.info.status for run in found} == {"FINISHED"}


# Users


@pytest.mark.parametrize(
    ("arguments", "secret", "variables", "said"),
    [
        (("add", "alice"), ALICE, {}, "alice exists already; a new password: python mlflow/"),
        (("add", "carol"), "short", {}, "Password must be at least 12 characters"),
        (("grant", "carol", "EDIT"), "", {}, "User with username=carol not found"),
        (("password", "carol"), "a long word", {}, "User with username=carol not found"),
        (("remove", "carol"), "", {}, "User with username=carol not found"),
        (("grant", "bob", "edit", "--experiment", "none"), "", {}, "there is no experiment none"),
        (("grant", "bob", "edit", "--model", "none"), "", {}, "Registered Model with name=none"),
        (
            ("list",),
            "",
            {"MLFLOW_TRACKING_PASSWORD": "wrong"},
            "the server rejects user admin or the password: check MLFLOW_TRACKING_USERNAME",
        ),
        (
            ("add", "carol"),
            "a long word",
            {"MLFLOW_TRACKING_USERNAME": "alice", "MLFLOW_TRACKING_PASSWORD": ALICE},
            "alice is not an administrator: check MLFLOW_TRACKING_USERNAME",
        ),
        (("list",), "", {"MLFLOW_TRACKING_PASSWORD": ""}, "MLFLOW_TRACKING_PASSWORD is missing"),
        (("list",), "", {"MLFLOW_TRACKING_URI": "sqlite:///x"}, "MLFLOW_TRACKING_URI = 'sqlite"),
        (
            ("list",),
            "",
            {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1"},
            "the server of MLFLOW_TRACKING_URI: Connection refused",
        ),
    ],
)
def test_failed_user_command_is_reported_in_one_line(
    team: Team, arguments: tuple[str, ...], secret: str, variables: dict[str, str], said: str
) -> None:
    done = team.users(*arguments, secret=secret, **variables)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"users.py: {said}")


def test_user_can_be_added_changed_and_removed(team: Team) -> None:
    first, second = "first word of eve", "second word of eve"
    assert team.users("add", "eve", "--experiment", "hers", secret=first).returncode == 0
    assert "eve" in team.users("list").stdout.split()
    assert team.users("password", "eve", secret=second).returncode == 0
    assert team.ask("/", "eve", second)[0] == 200
    assert team.users("remove", "eve").stdout.startswith("eve is removed")
    assert team.users("list").stdout.splitlines()[0] == "admin (administrator)"
    assert "eve" not in team.users("list").stdout.split()


# A browser


def test_browser_sees_runs_only_with_a_password(team: Team, search: Seen, tmp_path: Path) -> None:
    program = shutil.which("chromium")
    if program is None:
        lack("the Debian package chromium")
    with browser(program, tmp_path) as page:
        page.open(f"{team.uri}/")
        page.wait(lambda: page.status)
        assert (page.status, page.text()) == (401, "")

        page.log_in("bob", BOB)
        page.open(f"{team.uri}/#/experiments/1/runs?workflowType=machine_learning")
        # The page shows the experiment and its runs in either order.
        page.wait(lambda: "photos" in page.text() and EXPERIMENT in page.text())
        assert page.status == 200


# Restarts and backups


def test_runs_and_users_survive_a_restart(
    team: Team, search: Seen, runs: Callable[..., list[Run]]
) -> None:
    before = {run.info.run_id for run in runs("photos")}
    team.stop()
    # The first user exists: no process needs or holds their password.
    write_settings(team.file, team.settings | {"MLFLOW_AUTH_ADMIN_PASSWORD": ""})
    team.start()
    assert {run.info.run_id for run in runs("photos")} == before
    assert team.ask("/", "admin", ADMIN)[0] == 200
    assert team.ask("/", "alice", ALICE)[0] == 200
    for pid in team.commands():
        with contextlib.suppress(OSError):
            held = Path(f"/proc/{pid}/environ").read_bytes()
            assert KEY.encode() in held
            assert ADMIN.encode() not in held


def test_documented_backup_can_be_restored(
    team: Team, search: Seen, postgres: Postgres, tmp_path: Path
) -> None:
    if shutil.which("pg_dump") is None:
        lack("the Debian package postgresql-client")
    text = (ROOT / "mlflow" / "README.md").read_text()
    blocks = re.findall(r"<!-- (\S+) -->\n\n((?:    .*\n|\n)+)", text)
    commands = {name: re.sub(r"(?m)^    ", "", block) for name, block in blocks}
    assert {"back-up", "restore-drill"} <= set(commands)
    script = "set -eu\n" + commands["back-up"] + commands["restore-drill"]
    (tmp_path / "mlflow").mkdir()
    shutil.copy(team.file, tmp_path / "mlflow" / "team.env")
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=BARE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    count = "SELECT count(*) FROM runs"
    assert postgres.execute(count, "mlflow_drill") == postgres.execute(count, "mlflow")
    names = "SELECT username FROM users ORDER BY 1"
    assert postgres.execute(names, "mlflow_auth_drill") == postgres.execute(names, "mlflow_auth")
    assert PASSWORD not in done.stdout + done.stderr
