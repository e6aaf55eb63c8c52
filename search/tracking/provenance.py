"""Where a run comes from: its program, command, code version and images."""

from __future__ import annotations

import getpass
import json
import os
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from search.console import program, program_name
from search.tracking.journal_events import DataInput
from search.urls import redacted
from trainables.data_identity import DataIdentity
from trainables.images.layout.split_names import SPLITS

_PROJECT = Path(__file__).resolve().parents[2]
_CONTEXTS = ("training", "validation", "test")
_GIT_TIMEOUT = 5.0


def source_tags() -> dict[str, str]:
    """Return the tags in which MLflow stores the source of a run, and the command.

    Passwords in addresses are replaced. The commit is left out where the program is installed
    without its repository, and the command where a user's own Python started the search.
    """
    tags = {"mlflow.source.name": program_name(), "mlflow.source.type": "LOCAL"}
    if commit := _commit(_PROJECT):
        tags["mlflow.source.git.commit"] = commit
    if Path(sys.argv[0] if sys.argv else "").name == program_name():
        tags["command"] = redacted(f"{program()} {shlex.join(sys.argv[1:])}".rstrip())
    return tags


def user() -> str:
    """Return the name of the user for the runs; unknown without one."""
    # On shared machines all members of a team may be the same system user.
    if known := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        return known
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"  # The user of a container may have no name.


def data_inputs(source: str, data: DataIdentity) -> tuple[DataInput, ...]:
    """Return the splits of the images as data sets of MLflow.

    Args:
        source: of the images, as the experiment names it.
        data: their identity.

    Returns:
        A data set for each split with images; its digest is that of the split.
    """
    shown = redacted(source)
    return tuple(
        DataInput(
            name=shown,
            digest=data.splits[index],
            context=_CONTEXTS[index],
            source=shown,
            profile=json.dumps(
                {
                    "split": split,
                    "images": data.split_images(index),
                    "classes": len(data.classes),
                    "height, width, channels": list(data.shape),
                    "digest of all splits": data.digest,
                }
            ),
        )
        for index, split in enumerate(SPLITS)
        if data.split_images(index)
    )


@cache
def _commit(project: Path) -> str:
    """Return the commit of a checkout; empty if the folder is none."""
    git = shutil.which("git")
    if git is None or not (project / ".git").exists():
        return ""
    try:
        found = subprocess.run(  # noqa: S603
            [git, "-C", str(project), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
