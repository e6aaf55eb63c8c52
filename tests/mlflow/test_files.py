"""The files that set up a team's server: environment, unit and compose file; no server runs."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.requirements import lack

FOLDER = Path(__file__).resolve().parents[2] / "mlflow"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


serve_team = load("serve_team")

WHOLE = {
    "MLFLOW_SERVER_ALLOWED_HOSTS": "mlflow.example.com",
    "MLFLOW_ARTIFACTS_DESTINATION": "s3://example-bucket/mlflow",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "key",
}


def written(folder: Path, text: str) -> Path:
    path = folder / "team.env"
    path.write_text(text)
    path.chmod(0o600)
    return path


# The environment file

VALUES = st.text(st.characters(exclude_characters="'", exclude_categories=["C", "Z"]), min_size=1)


@given(value=VALUES)
def test_quoted_value_is_read_unchanged(
    value: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = written(tmp_path_factory.mktemp("file"), f"# a note\n\nNAME='{value}'\n")
    assert serve_team.read_file(path) == {"NAME": value}


def test_script_and_shell_read_equal_values_from_the_example(tmp_path: Path) -> None:
    path = written(tmp_path, (FOLDER / "team.env.example").read_text())
    settings = serve_team.read_file(path)
    assert set(WHOLE) <= set(settings)
    with pytest.raises(serve_team.SettingError, match="MLFLOW_FLASK_SERVER_SECRET_KEY is missing"):
        serve_team.complete(settings)
    whole = serve_team.complete(settings | {"MLFLOW_FLASK_SERVER_SECRET_KEY": "key"})
    assert whole["MLFLOW_HOST"] == "127.0.0.1"

    read = subprocess.run(
        ["sh", "-c", 'set -a; . "$1"; env', "sh", path],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert {f"{name}={value}" for name, value in settings.items()} <= set(read.stdout.splitlines())


@pytest.mark.parametrize("line", ["PGPASSWORD=hunter2 !", "PGPASSWORD='hunter2's'", "=hunter2"])
def test_ambiguous_line_is_refused_without_showing_it(line: str, tmp_path: Path) -> None:
    path = written(tmp_path, f"PGUSER=mlflow\n{line}\n")
    with pytest.raises(
        serve_team.SettingError, match=r"team\.env, line 2 is not a setting"
    ) as error:
        serve_team.read_file(path)
    assert "hunter2" not in str(error.value)


def test_file_readable_by_everyone_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "PGUSER=mlflow\n")
    path.chmod(0o644)
    with pytest.raises(serve_team.SettingError, match=r"open to everyone: chmod 600 .*team\.env"):
        serve_team.read_file(path)
    path.chmod(0o640)
    assert serve_team.read_file(path) == {"PGUSER": "mlflow"}


# Settings


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        *(({name: ""}, f"{name} is missing: ") for name in WHOLE),
        ({"MLFLOW_ARTIFACTS_DESTINATION": "/files"}, "/files is not in S3: write s3://"),
        ({"MLFLOW_SERVER_ALLOWED_HOSTS": "*"}, r"has '\*': list names, without ports or wild"),
        ({"MLFLOW_SERVER_ALLOWED_HOSTS": "a.example.com:*"}, "without ports or wildcards"),
        ({"MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "https://a.example.com:*"}, r"has a \*"),
        ({"MLFLOW_PORT": "http"}, "MLFLOW_PORT = http is not a number from 1 to 65535"),
        ({"MLFLOW_PORT": "65536"}, "MLFLOW_PORT = 65536 is not a number from 1 to 65535"),
        ({"MLFLOW_WORKERS": "0"}, "MLFLOW_WORKERS = 0 is not a number from 1 to 256"),
        ({"PGPASSWORD_FILE": "/nowhere/x"}, "PGPASSWORD_FILE cannot be read: .*No such file"),
    ],
)
def test_missing_or_wrong_setting_is_named(changes: Mapping[str, str], said: str) -> None:
    with pytest.raises(serve_team.SettingError, match=said):
        serve_team.complete(WHOLE | changes)


def test_secret_can_be_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the database\n")
    whole = serve_team.complete(WHOLE | {"PGPASSWORD_FILE": str(tmp_path / "secret")})
    assert whole["PGPASSWORD"] == "of the database"
    assert "PGPASSWORD_FILE" not in whole


def test_configured_origins_are_kept() -> None:
    own = {"MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "https://mlflow.example.com:8443"}
    assert own.items() <= serve_team.complete(WHOLE | own).items()


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("postgresql+psycopg2://me:hunter2@db/mlflow", "holds a password: .* set PGPASSWORD"),
        ("postgresql+psycopg2://db/mlflow?password=hunter2", "holds a password"),
        ("sqlite:///mlflow.db", r"is not Postgres: .*sh mlflow/serve\.sh"),
        ("hunter2", "is not a URL"),
    ],
)
def test_unusable_database_address_is_refused(uri: str, said: str) -> None:
    settings = serve_team.complete(WHOLE | {"MLFLOW_BACKEND_STORE_URI": uri})
    with pytest.raises(serve_team.SettingError, match=said) as error:
        serve_team.check_databases(settings)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("script", ["serve_team.py", "users.py"])
def test_help_shows_an_example(script: str) -> None:
    shown = subprocess.run(
        [sys.executable, FOLDER / script, "--help"], capture_output=True, text=True, check=True
    )
    assert f"python mlflow/{script} " in shown.stdout


# Under systemd, and with Docker Compose


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        lack("the Debian package systemd")
    unit = (FOLDER / "borderline-mlflow.service").read_text()
    # systemd-analyze checks that the program exists.
    here = unit.replace("/opt/borderline/.venv/bin/python", sys.executable)
    path = tmp_path / "borderline-mlflow.service"
    path.write_text(here)
    verified = subprocess.run(
        [program, "verify", path], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    assert f"{FOLDER.name}/serve_team.py" in unit
    for line in ("DynamicUser=yes", "ProtectSystem=strict", "NoNewPrivileges=yes"):
        assert line in unit.splitlines()


@pytest.fixture
def compose() -> Any:
    """Return the content of the compose file."""
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())


def test_compose_file_opens_one_port_on_loopback(compose: Any) -> None:
    opened = {name: service.get("ports", []) for name, service in compose["services"].items()}
    assert opened == {"database": [], "mlflow": ["127.0.0.1:5000:5000"]}
    assert all(each["restart"] == "unless-stopped" for each in compose["services"].values())


def test_references_of_the_compose_file_exist(compose: Any) -> None:
    services, secrets = compose["services"], compose["secrets"]
    build = services["mlflow"]["build"]
    assert (FOLDER / build["context"] / build["dockerfile"]).samefile(FOLDER / "Dockerfile")
    for service in services.values():
        given_by_file = {
            Path(value).name
            for name, value in service["environment"].items()
            if name.endswith("_FILE")
        }
        assert given_by_file == set(service["secrets"]) <= set(secrets)
        assert not [name for name in service["environment"] if re.search("PASSWORD$|KEY$", name)]
    named, *files = [each.split(":") for each in services["database"]["volumes"]]
    assert named[0] in compose["volumes"]
    assert all((FOLDER / source).is_file() for source, *_ in files)
    assert services["mlflow"]["depends_on"]["database"]["condition"] == "service_healthy"
    assert "healthcheck" in services["database"]
    assert "HEALTHCHECK" in (FOLDER / "Dockerfile").read_text()


def test_compose_file_provides_all_settings(compose: Any, tmp_path: Path) -> None:
    for name in compose["secrets"]:
        (tmp_path / name).write_text(f"secret of {name}\n")
    example = written(tmp_path, (FOLDER / "team.env.example").read_text())
    given = {
        name: value.replace("/run/secrets", str(tmp_path))
        for name, value in compose["services"]["mlflow"]["environment"].items()
    }
    whole = serve_team.complete(serve_team.read_file(example) | given)
    assert whole["PGPASSWORD"] == "secret of postgres_password"
    assert whole["PGHOST"] in compose["services"]
    assert whole["MLFLOW_HOST"] == "0.0.0.0"  # noqa: S104


def test_image_copies_existing_files_and_installs_packages() -> None:
    text = (FOLDER / "Dockerfile").read_text()
    copied = [name for line in re.findall("(?m)^COPY (.*) ", text) for name in line.split()]
    assert {"constraints.txt", "mlflow/serve_team.py", "mlflow/auth.ini"} <= set(copied)
    assert all((FOLDER.parent / name).is_file() for name in copied)
    assert re.search("(?m)^USER mlflow$", text)
    packages = re.search("(?s)pip install(.*?)&&", text)
    assert packages is not None
    for package in set(serve_team.MODULES.values()) - {"mlflow"}:
        assert package in packages[1]


@pytest.mark.parametrize("port", ["70000", "0"])
def test_local_server_refuses_a_port_that_is_none(tmp_path: Path, port: str) -> None:
    refused = served(tmp_path, port)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"--port {port} is no port" in refused.stderr


def test_local_server_refuses_a_taken_port_with_a_free_one(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = served(tmp_path, str(port))
    assert (refused.returncode, refused.stdout) == (2, "")
    found = re.fullmatch(rf"serve.sh: port {port} is taken, .* --port (\d+)\n", refused.stderr)
    assert found is not None
    assert int(found[1]) > port
    assert not list(tmp_path.iterdir())


def served(home: Path, port: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", FOLDER / "serve.sh", "--port", port],
        env=os.environ | {"BORDERLINE_HOME": str(home / "home")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
