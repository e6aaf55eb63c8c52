"""Serve MLflow to a team: runs in Postgres, files in S3, one password per user.

Settings come from an environment file (team.env.example lists them all) or from the environment;
the file takes precedence. An invalid setting is reported in one line with exit code 2; other exit
codes are MLflow's.
"""
# ruff: noqa: PLC0415 -- packages that may be missing are imported after check_packages

from __future__ import annotations

import argparse
import configparser
import importlib.util
import os
import re
import socket
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

HERE = Path(__file__).resolve().parent
EXAMPLE = "example: python mlflow/serve_team.py mlflow/team.env"

RUNS, USERS = "MLFLOW_BACKEND_STORE_URI", "MLFLOW_AUTH_CONFIG_PATH"
FILES = "MLFLOW_ARTIFACTS_DESTINATION"
HOSTS, ORIGINS = "MLFLOW_SERVER_ALLOWED_HOSTS", "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"
KEY, FIRST_PASSWORD = "MLFLOW_FLASK_SERVER_SECRET_KEY", "MLFLOW_AUTH_ADMIN_PASSWORD"

REQUIRED = {
    HOSTS: "list the host names of the server, for example mlflow.example.com",
    FILES: "set the location of files, for example s3://example-bucket/mlflow",
    KEY: "set a permanent secret, for example from: openssl rand -hex 32",
}
SECRETS = ("PGPASSWORD", KEY, FIRST_PASSWORD)
POSTGRES = "postgresql+psycopg2"
DEFAULTS = {
    RUNS: f"{POSTGRES}:///mlflow",
    USERS: str(HERE / "auth.ini"),
    "PGCONNECT_TIMEOUT": "10",
    "MLFLOW_HOST": "127.0.0.1",
    "MLFLOW_PORT": "5000",
    "MLFLOW_WORKERS": "4",
    # Do not log every request.
    "MLFLOW_UVICORN_OPTS": "--log-level warning",
    "PYTHONWARNINGS": "ignore",
    # Disable MLflow's telemetry and its processes for language models.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    # Refuse paths without a permission rule.
    "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
}
LARGEST = {"MLFLOW_PORT": 65535, "MLFLOW_WORKERS": 256}
MODULES = {
    "mlflow": "mlflow",
    "flask_wtf": "mlflow[auth]",
    "psycopg2": "psycopg2-binary",
    "boto3": "boto3",
}
SHORTEST_PASSWORD = 12


class SettingError(Exception):
    """A setting is missing or wrong; the message is one line with a remedy."""


def read_file(path: Path) -> dict[str, str]:
    """Return the settings in an environment file.

    Raises:
        SettingError: the file cannot be read, everyone can read it, or a line is not a setting.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(
            f"{path} cannot be read ({_line(error)}): copy mlflow/team.env.example"
        ) from None
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise SettingError(f"{path} holds secrets and is open to everyone: chmod 600 {path}")
    settings = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"(\w+)=(?:'([^']*)'|([\w./:@%+=,-]*))\s*", line, re.ASCII)
        if match is None:
            # The line may contain a secret.
            raise SettingError(
                f"{path}, line {number} is not a setting: write NAME=value, or NAME='value' "
                "if it contains more than letters, digits and _ . / : @ % + = , -"
            )
        settings[match[1]] = match[2] if match[2] is not None else match[3]
    return settings


def complete(given: Mapping[str, str]) -> dict[str, str]:
    """Return the complete environment of the server with secrets and defaults; check all values.

    Raises:
        SettingError: a setting is missing or wrong.
    """
    settings = DEFAULTS | {name: value for name, value in given.items() if value}
    for name in SECRETS:
        if path := settings.pop(f"{name}_FILE", None):
            try:
                settings[name] = Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise SettingError(f"{name}_FILE cannot be read: {_line(error)}") from None
    for name, meaning in REQUIRED.items():
        if not settings.get(name):
            raise SettingError(f"{name} is missing: {meaning}")
    for name, most in LARGEST.items():
        if not re.fullmatch("[0-9]{1,5}", settings[name]) or not 1 <= int(settings[name]) <= most:
            raise SettingError(f"{name} = {settings[name]} is not a number from 1 to {most}")
    if not re.fullmatch(r"s3://[^/]+(/.*)?", settings[FILES]):
        raise SettingError(f"{FILES} = {settings[FILES]} is not in S3: write s3://bucket/prefix")
    names = [name.strip() for name in settings[HOSTS].split(",")]
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9.-]+", name):
            raise SettingError(f"{HOSTS} has {name!r}: list names, without ports or wildcards")
    # MLflow treats * as a pattern that longer names match, too.
    if "*" in settings.get(ORIGINS, ""):
        raise SettingError(
            f"{ORIGINS} has a *: list complete origins, as https://mlflow.example.com"
        )
    return _letting_in(names, settings)


def _letting_in(names: Sequence[str], settings: Mapping[str, str]) -> dict[str, str]:
    """Return the settings with allowed hosts and origins, with and without TLS."""
    # A host with a port is a different host, and tunnels use any port.
    hosts = [f"{name}{port}" for name in (*names, "localhost", "127.0.0.1") for port in ("", ":*")]
    origins = [
        origin
        for name in names
        for origin in (f"https://{name}", f"http://{name}:{settings['MLFLOW_PORT']}")
    ]
    return {ORIGINS: ",".join(origins)} | dict(settings) | {HOSTS: ",".join(hosts)}


def check_packages() -> None:
    """Check that all packages of the server are installed.

    Raises:
        SettingError: a package is missing.
    """
    found = {name: importlib.util.find_spec(name) for name in MODULES}
    # A folder of that name is found too, but has no origin.
    missing = [MODULES[name] for name, spec in found.items() if spec is None or not spec.origin]
    if missing:
        raise SettingError(
            f"{sys.executable} lacks {', '.join(missing)}: "
            "pip install -c constraints.txt 'mlflow[auth]' psycopg2-binary boto3"
        )


def check_port(host: str, port: int) -> None:
    """Check that the server can listen on the address.

    Raises:
        SettingError: the address is invalid or in use.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        problem = error.strerror or _line(error)
        raise SettingError(f"MLFLOW_HOST = {host}, MLFLOW_PORT = {port}: {problem}") from None


def check_databases(settings: Mapping[str, str]) -> bool:
    """Check both databases; return whether the first user exists.

    Raises:
        SettingError: a database is unreachable or not Postgres, or its address has a password.
    """
    config = configparser.ConfigParser()
    path = settings[USERS]
    try:
        config.read_string(Path(path).read_text(encoding="utf-8"))
        users = config["mlflow"]["database_uri"]
        admin = settings.get("MLFLOW_AUTH_ADMIN_USERNAME") or config["mlflow"]["admin_username"]
    except (OSError, UnicodeDecodeError, configparser.Error, KeyError) as error:
        raise SettingError(f"{USERS} = {path} cannot be used: {_line(error)}") from None
    _ask(RUNS, settings[RUNS], "SELECT 1", {})
    there = "SELECT 1 FROM pg_tables WHERE tablename = 'users' AND schemaname = current_schema()"
    name = f"database_uri in {path}"
    if not _ask(name, users, there, {}):
        return False
    return _ask(name, users, "SELECT 1 FROM users WHERE username = :admin", {"admin": admin})


def _ask(name: str, uri: str, question: str, values: Mapping[str, str]) -> bool:
    """Return whether a query of a database has a result."""
    import sqlalchemy

    try:
        url = sqlalchemy.make_url(uri)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise SettingError(f"{name} is not a URL: write {DEFAULTS[RUNS]}") from None
    if url.password is not None or "password" in url.query:
        raise SettingError(f"{name} holds a password: leave it out, and set PGPASSWORD")
    if url.drivername != POSTGRES:
        raise SettingError(
            f"{name} = {uri} is not Postgres: write {DEFAULTS[RUNS]}; "
            "for a single user, sh mlflow/serve.sh needs no Postgres"
        )
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.connect() as connection:
            return connection.scalar(sqlalchemy.text(question), dict(values)) is not None
    except sqlalchemy.exc.DBAPIError as error:
        cause = _line(error.orig or error)
        if f'database "{url.database}" does not exist' in cause:
            cause += f"; create it: createdb {url.database}"
        raise SettingError(f"the database {url.database} is unreachable: {cause}") from None
    finally:
        engine.dispose()


def check_bucket(settings: Mapping[str, str]) -> None:
    """Check that the server can list the bucket.

    Raises:
        SettingError: the bucket is unreachable.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    place = settings[FILES]
    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    limits = Config(connect_timeout=10, read_timeout=10, retries={"total_max_attempts": 2})
    endpoint = settings.get("MLFLOW_S3_ENDPOINT_URL")
    causes = {
        "NoSuchBucket": "there is no such bucket",
        "AccessDenied": "access is denied; the server lists, reads, writes and deletes there",
    }
    try:
        client = boto3.client("s3", endpoint_url=endpoint, config=limits)
        client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
    except NoCredentialsError:
        cause = "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    except ClientError as error:
        cause = causes.get(error.response["Error"]["Code"], _line(error))
    except (BotoCoreError, ValueError) as error:
        cause = _line(error)
    else:
        return
    raise SettingError(f"{FILES} = {place}: {cause}")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Check the settings, then replace this process with MLflow's server."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", nargs="?", type=Path, help="an environment file")
    options = parser.parse_args(arguments)
    try:
        check_packages()
        settings = complete({**os.environ, **(read_file(options.file) if options.file else {})})
        host, port = settings["MLFLOW_HOST"], settings["MLFLOW_PORT"]
        check_port(host, int(port))
        # The clients of Postgres and S3 read the environment, and so does MLflow.
        os.environ.update(settings)
        if check_databases(settings):
            # No longer needed: remove the secret from the environment.
            os.environ.pop(FIRST_PASSWORD, None)
        elif len(settings.get(FIRST_PASSWORD, "")) < SHORTEST_PASSWORD:
            raise SettingError(
                f"{FIRST_PASSWORD} is missing or short: the first start creates the first user, "
                f"whose password needs {SHORTEST_PASSWORD} characters or more"
            )
        check_bucket(settings)
    except SettingError as error:
        sys.stderr.write(f"serve_team.py: {error}\n")
        sys.exit(2)
    sys.stdout.write(f"MLflow serves http://{host}:{port} in a few seconds (Ctrl-C stops it)\n")
    sys.stdout.flush()
    # Pass settings in the environment, because every user can read command lines.
    server = ["-P", "-m", "mlflow", "server", "--serve-artifacts", "--app-name", "basic-auth"]
    os.execv(sys.executable, [sys.executable, *server])  # noqa: S606


def _line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300]


if __name__ == "__main__":
    main()
