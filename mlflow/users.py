"""List, add, change and remove the users of a team's tracking server.

MLFLOW_TRACKING_URI names the server, MLFLOW_TRACKING_USERNAME (default: admin) and
MLFLOW_TRACKING_PASSWORD (default: a prompt) an administrator. The program prompts for new
passwords; without a terminal it reads the first line of standard input.
"""

from __future__ import annotations

import argparse
import getpass
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import requests
from requests.auth import HTTPBasicAuth

EXAMPLES = """\
examples:
  python mlflow/users.py add alice                      can log to the experiment borderline
  python mlflow/users.py add bob --read-only            can only read
  python mlflow/users.py grant bob EDIT --experiment photos
  python mlflow/users.py grant alice MANAGE --model digits
  python mlflow/users.py password alice
  python mlflow/users.py remove bob
  python mlflow/users.py list
"""
EXPERIMENT = "borderline"
PERMISSIONS = ("READ", "USE", "EDIT", "MANAGE", "NO_PERMISSIONS")
TIMEOUT_S = 30


class RefusedError(Exception):
    """A command failed; the message is one line."""


class Server:
    """MLflow's REST interface, used as an administrator.

    Args:
        uri: address of the server.
        user: name of the administrator.
        password: password of the administrator.
    """

    def __init__(self, uri: str, user: str, password: str) -> None:
        self._uri, self._user = uri.rstrip("/"), user
        self._session = requests.Session()
        self._session.auth = HTTPBasicAuth(user.encode(), password.encode())
        self._session.verify = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True

    @classmethod
    def from_environment(cls) -> Server:
        """Return the server and administrator that MLflow's environment variables name.

        Raises:
            RefusedError: a variable is missing or wrong.
        """
        uri = os.environ.get("MLFLOW_TRACKING_URI", "")
        if not re.match("https?://", uri):
            raise RefusedError(
                f"MLFLOW_TRACKING_URI = {uri!r}: set it to the server's address, "
                "for example http://127.0.0.1:5000"
            )
        user = os.environ.get("MLFLOW_TRACKING_USERNAME") or "admin"
        password = os.environ.get("MLFLOW_TRACKING_PASSWORD")
        if not password:
            if not sys.stdin.isatty():
                raise RefusedError(
                    "MLFLOW_TRACKING_PASSWORD is missing: set it to the administrator's password"
                )
            password = getpass.getpass(f"password of {user}: ")
        return cls(uri, user, password)

    def get(self, path: str, **values: str) -> Any:
        """Return the server's answer to a GET request.

        Raises:
            RefusedError: the server is unreachable or reports an error.
        """
        return self._call("GET", path, params=values)

    def do(self, method: str, path: str, **values: object) -> Any:
        """Send a request that changes something.

        Raises:
            RefusedError: the server is unreachable or reports an error.
        """
        return self._call(method, path, json=values)

    def experiment(self, name: str) -> str | None:
        """Return the id of an experiment, or None."""
        names = {"filter": f"name = '{_quotable(name)}'", "max_results": "1"}
        found = self.get("2.0/mlflow/experiments/search", **names).get("experiments")
        return str(found[0]["experiment_id"]) if found else None

    def _call(self, method: str, path: str, **options: Any) -> Any:
        try:
            answer = self._session.request(
                method, f"{self._uri}/api/{path}", timeout=TIMEOUT_S, **options
            )
        except requests.RequestException as error:
            known = re.search(r"\[Errno -?\d+\] ([^'\"()<>]+)", str(error))
            cause = known[1].strip() if known else type(error).__name__
            raise RefusedError(f"the server of MLFLOW_TRACKING_URI: {cause}") from None
        if answer.ok:
            return answer.json() if answer.content else {}
        if answer.status_code == requests.codes.unauthorized:
            raise RefusedError(
                f"the server rejects user {self._user} or the password: "
                "check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        if "Permission denied" in answer.text:
            raise RefusedError(
                f"{self._user} is not an administrator: check MLFLOW_TRACKING_USERNAME"
            )
        try:
            message = answer.json()["message"]
        except (ValueError, KeyError, TypeError):
            message = f"the server returned error {answer.status_code}: {answer.text}"
        raise RefusedError(" ".join(message.split())[:300])


def add(server: Server, options: argparse.Namespace) -> str:
    """Add a user."""
    name = options.name
    users = server.get("2.0/mlflow/users/list")["users"]
    if any(user["username"] == name for user in users):
        remedy = f"a new password: python mlflow/users.py password {name}"
        raise RefusedError(f"{name} exists already; {remedy}")
    server.do("POST", "2.0/mlflow/users/create", username=name, password=_new_password(name))
    if options.read_only:
        return f"{name} is added and can only read"
    if server.experiment(options.experiment) is None:
        # Without the tag of searches, the UI shows the runs as those of a language model.
        tags = [{"key": "mlflow.experimentKind", "value": "custom_model_development"}]
        server.do("POST", "2.0/mlflow/experiments/create", name=options.experiment, tags=tags)
    options.permission, options.model = "EDIT", None
    return f"{name} is added; {grant(server, options)}"


def grant(server: Server, options: argparse.Namespace) -> str:
    """Grant a user a permission for an existing experiment or model."""
    name, permission = options.name, options.permission
    server.get("2.0/mlflow/users/get", username=name)
    if options.model is not None:
        kind, what = "registered_model", options.model
        identity = server.get("2.0/mlflow/registered-models/get", name=what)
        identity = identity["registered_model"]["name"]
    else:
        kind, what = "experiment", options.experiment
        identity = server.experiment(what)
        if identity is None:
            raise RefusedError(f"there is no experiment {what}")
    server.do(
        *("POST", "3.0/mlflow/users/permissions/grant"),
        username=name,
        resource_type=kind,
        resource_id=identity,
        permission=permission,
    )
    return f"{name} has {permission} for the {kind.replace('_', ' ')} {what}"


def password(server: Server, options: argparse.Namespace) -> str:
    """Set a new password."""
    name = options.name
    server.get("2.0/mlflow/users/get", username=name)
    new = _new_password(name)
    server.do("PATCH", "2.0/mlflow/users/update-password", username=name, password=new)
    return f"{name} has a new password; the old one may stay valid for a minute"


def remove(server: Server, options: argparse.Namespace) -> str:
    """Remove a user."""
    server.do("DELETE", "2.0/mlflow/users/delete", username=options.name)
    return f"{options.name} is removed; their runs and models remain"


def show(server: Server, options: argparse.Namespace) -> str:
    """List the users."""
    users = server.get("2.0/mlflow/users/list")["users"]
    return "\n".join(
        user["username"] + (" (administrator)" if user["is_admin"] else "")
        for user in sorted(users, key=lambda user: user["username"])
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        Exit code: 0 on success, 2 if the command failed, 130 if the user interrupted it.
    """
    options = _parse(arguments)
    try:
        said: str = options.does(Server.from_environment(), options)
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
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    adding = commands.add_parser("add", help="add a user who can log to an experiment")
    adding.set_defaults(does=add)
    adding.add_argument("name", metavar="NAME")
    rights = adding.add_mutually_exclusive_group()
    rights.add_argument("--experiment", default=EXPERIMENT, help=f"default: {EXPERIMENT}")
    rights.add_argument("--read-only", action="store_true", help="the user can read but not log")

    granting = commands.add_parser("grant", help="grant a permission for an experiment or a model")
    granting.set_defaults(does=grant)
    granting.add_argument("name", metavar="NAME")
    granting.add_argument("permission", type=str.upper, choices=PERMISSIONS)
    what = granting.add_mutually_exclusive_group()
    what.add_argument("--experiment", default=EXPERIMENT, help=f"default: {EXPERIMENT}")
    what.add_argument("--model", help="name of a registered model")

    for does, says in ((password, "set a new password"), (remove, "remove a user")):
        each = commands.add_parser(does.__name__, help=says)
        each.set_defaults(does=does)
        each.add_argument("name", metavar="NAME")
    commands.add_parser("list", help="list the users").set_defaults(does=show)
    return parser.parse_args(arguments)


def _quotable(name: str) -> str:
    # MLflow's filters have no escape for quotes.
    if "'" in name:
        raise RefusedError(f"the experiment {name}: MLflow cannot search for a name with a '")
    return name


def _new_password(name: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    new = getpass.getpass(f"new password of {name}: ")
    if getpass.getpass("once more: ") != new:
        raise RefusedError("the passwords differ; nothing was changed")
    return new


if __name__ == "__main__":
    sys.exit(main())
