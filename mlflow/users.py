"""Add, change and remove the users of a team's tracking server.

MLFLOW_TRACKING_URI names the server; MLFLOW_TRACKING_USERNAME (admin, unless set) and
MLFLOW_TRACKING_PASSWORD (asked for, unless set) an administrator. A new password is asked for, or
read from the first line of standard input.
"""
# ruff: noqa: PLC0415 -- --help need not wait for MLflow

from __future__ import annotations

import argparse
import getpass
import os
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any

EXAMPLES = """\
examples:
  python mlflow/users.py add alice                      may log to the experiment borderline
  python mlflow/users.py add bob --read-only            may look
  python mlflow/users.py grant bob EDIT --experiment photos
  python mlflow/users.py grant alice MANAGE --model digits
  python mlflow/users.py password alice
  python mlflow/users.py remove bob
"""
EXPERIMENT = "borderline"
PERMISSIONS = ("READ", "USE", "EDIT", "MANAGE", "NO_PERMISSIONS")


class RefusedError(Exception):
    """What was asked for cannot be done; the text is one line that says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one thing.

    Returns:
        0; 2 where it could not be done, 130 where the user thought better of it.
    """
    options = _parse(arguments)
    try:
        _become_administrator()
        said = _do(options)
    except RefusedError as error:
        sys.stderr.write(f"users.py: {error}\n")
        return 2
    except (KeyboardInterrupt, EOFError):
        sys.stderr.write("users.py: nothing was changed\n")
        return 130
    sys.stdout.write(f"{said}\n")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=plain)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, does: str) -> argparse.ArgumentParser:
        each = commands.add_parser(name, help=does, description=does)
        each.add_argument("name", metavar="NAME")
        return each

    rights = command(
        "add", "add a user, who may log to an experiment"
    ).add_mutually_exclusive_group()
    rights.add_argument("--experiment", default=EXPERIMENT, help=f"default: {EXPERIMENT}")
    rights.add_argument("--read-only", action="store_true", help="may look, and log nowhere")
    grant = command("grant", "say what a user may do with an experiment or a registered model")
    grant.add_argument("permission", type=str.upper, choices=PERMISSIONS)
    what = grant.add_mutually_exclusive_group()
    what.add_argument("--experiment", default=EXPERIMENT, help=f"default: {EXPERIMENT}")
    what.add_argument("--model", help="its name")
    command("password", "set a new password")
    command("remove", "remove a user; what they have logged stays")
    return parser.parse_args(arguments)


def _become_administrator() -> None:
    """Have MLflow's client speak for an administrator.

    Raises:
        RefusedError: the environment does not say where, or who.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not re.match("https?://", uri):
        raise RefusedError(
            f"MLFLOW_TRACKING_URI = {uri!r}: set it to the server's address, "
            "as http://127.0.0.1:5000"
        )
    os.environ.setdefault("MLFLOW_TRACKING_USERNAME", "admin")
    if not os.environ.get("MLFLOW_TRACKING_PASSWORD"):
        if not sys.stdin.isatty():
            raise RefusedError("MLFLOW_TRACKING_PASSWORD is missing: the administrator's")
        who = os.environ["MLFLOW_TRACKING_USERNAME"]
        os.environ["MLFLOW_TRACKING_PASSWORD"] = getpass.getpass(f"password of {who}: ")
    os.environ |= {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}


def _do(options: argparse.Namespace) -> str:
    """Do what was asked for and return it in words.

    Raises:
        RefusedError: the server does not do it.
    """
    warnings.simplefilter("ignore")  # MLflow's, about what it is made of.
    import requests
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.server import get_app_client

    try:
        users = get_app_client("basic-auth", os.environ["MLFLOW_TRACKING_URI"])
        if options.command == "add":
            return _add(users, MlflowClient(), options)
        if options.command == "grant":
            return _grant(users, MlflowClient(), options)
        # Before a password is asked for in vain.
        users.get_user(options.name)
        if options.command == "remove":
            users.delete_user(options.name)
            return f"{options.name} is removed"
        users.update_user_password(options.name, _new_password(options.name))
        return f"{options.name} has a new password; the old one may work for another minute"
    except (MlflowException, requests.RequestException) as error:
        raise RefusedError(_explained(error, options.name)) from None


def _add(users: Any, client: Any, options: argparse.Namespace) -> str:
    users.create_user(options.name, _new_password(options.name))
    if options.read_only:
        return f"{options.name} is added and may look"
    experiment = client.get_experiment_by_name(options.experiment)
    if experiment is None:
        # With the tag of a search's, or the UI takes its runs for those of a language model.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        client.create_experiment(options.experiment, tags=tags)
    options.permission, options.model = "EDIT", None
    return f"{options.name} is added; {_grant(users, client, options)}"


def _grant(users: Any, client: Any, options: argparse.Namespace) -> str:
    # The server takes what it does not know as well.
    users.get_user(options.name)
    if options.model is not None:
        kind, what = "registered_model", options.model
        identity = client.get_registered_model(what).name
    else:
        kind, what = "experiment", options.experiment
        found = client.get_experiment_by_name(what)
        if found is None:
            raise RefusedError(f"there is no experiment {what}")
        identity = found.experiment_id
    users.grant_user_permission(options.name, kind, identity, options.permission)
    return f"{options.name} has {options.permission} for the {kind.replace('_', ' ')} {what}"


def _new_password(name: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass(f"new password of {name}: ")
    if getpass.getpass("once more: ") != password:
        raise RefusedError("the two differ; nothing was changed")
    return password


def _explained(error: Exception, name: str) -> str:
    code, text = getattr(error, "error_code", None), " ".join(str(error).split())
    who = os.environ["MLFLOW_TRACKING_USERNAME"]
    if code == "UNAUTHENTICATED":
        return (
            f"the server does not know {who} by this password: "
            "see to MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    if code == "PERMISSION_DENIED":
        return f"{who} is no administrator: see to MLFLOW_TRACKING_USERNAME"
    if code == "RESOURCE_ALREADY_EXISTS":
        return f"{name} is there already; a new password: python mlflow/users.py password {name}"
    if cause := re.search(r"\[Errno -?\d+\] ([^'\"()<>]+)", text):
        where = re.sub("//[^/@]*@", "//***@", os.environ["MLFLOW_TRACKING_URI"])
        return f"MLFLOW_TRACKING_URI = {where}: {cause[1].strip()}"
    return re.sub("^[A-Z_]+: ", "", text)[:300]


if __name__ == "__main__":
    sys.exit(main())
