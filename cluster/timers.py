"""Timers that start a command every day, in the words of systemd, cron, Ray and Kubernetes.

Pure text: nothing is installed here. Secrets stand in none of them; they are read from a file that
only its owner can read.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MANIFEST = Path(__file__).resolve().parent / "kubernetes" / "raycronjob.yaml"
"""What starts a night on Kubernetes."""
STOP_SECONDS = 900
"""How long a night may take to end its running epochs when it is stopped."""


@dataclass(frozen=True)
class Daily:
    """A time of day.

    Attributes:
        hour: 0..23.
        minute: 0..59.
    """

    hour: int
    minute: int

    @classmethod
    def parse(cls, text: str) -> Daily:
        """Return the time that is written as ``HH:MM``.

        Raises:
            ValueError: it is no such time.
        """
        match = re.fullmatch(r"(\d{1,2}):(\d{2})", text)
        if match is None or int(match[1]) > 23 or int(match[2]) > 59:
            raise ValueError("is no time of day")
        return cls(int(match[1]), int(match[2]))

    @property
    def cron(self) -> str:
        """As the first five fields of a crontab's line."""
        return f"{self.minute} {self.hour} * * *"

    @property
    def calendar(self) -> str:
        """As systemd's OnCalendar."""
        return f"*-*-* {self.hour:02}:{self.minute:02}:00"


@dataclass(frozen=True)
class Timer:
    """A command that is to be started every day.

    Attributes:
        name: of the timer: letters, digits, dots, dashes and underscores.
        what: it does, in a line.
        command: program and arguments, with absolute paths.
        folder: to start from.
        environment: file of ``NAME='value'`` lines that is read where it exists.
        log: file to which cron writes what is printed.
        at: when.
    """

    name: str
    what: str
    command: Sequence[str]
    folder: Path
    environment: Path
    log: Path
    at: Daily

    @property
    def mark(self) -> str:
        """Comment by which the line of this timer is found in a crontab."""
        return f"# {self.name} in {_one_line(str(self.log.parent))}"

    def service(self) -> str:
        """Return the systemd unit that runs the command once."""
        return f"""\
[Unit]
Description={_specifiers(_one_line(self.what))}

[Service]
Type=oneshot
WorkingDirectory={_specifiers(str(self.folder))}
EnvironmentFile=-{_specifiers(str(self.environment))}
ExecStart={" ".join(map(_quoted, self.command))}
# The search itself tells its processes to come to an end, and keeps what they have done.
KillMode=mixed
TimeoutStopSec={STOP_SECONDS}
"""

    def timer(self) -> str:
        """Return the systemd unit that starts the service; a time that was missed is made up."""
        return f"""\
[Unit]
Description={_specifiers(_one_line(self.what))}, every day

[Timer]
OnCalendar={self.at.calendar}
Persistent=true

[Install]
WantedBy=timers.target
"""

    def crontab_line(self) -> str:
        """Return the line of a crontab, ended by its mark."""
        return self._cron(f"{{ {self._variables}; {shlex.join(self.command)}; }}")

    def ray_job(self, address: str) -> str:
        """Return the line of a crontab that submits the command as a job to a Ray cluster.

        Args:
            address: of the dashboard: ``http://HOST:8265``.
        """
        folder = shlex.quote(str(self.folder))
        # On the head node, where the job runs: what submits it does not lend it its variables.
        inside = f"cd {folder} && {self._variables}; exec {shlex.join(self.command)}"
        program = str(Path(self.command[0]).parent / "ray")
        submit = [program, "job", "submit", "--no-wait", "--address", address]
        # What says that the cluster asks for a token; cron reads no profile by itself.
        profile = '[ ! -r "$HOME/.borderline/profile" ] || . "$HOME/.borderline/profile"'
        return self._cron(f"{{ {profile}; {shlex.join([*submit, '--', 'sh', '-c', inside])}; }}")

    @property
    def _variables(self) -> str:
        """What reads the secrets, for a shell."""
        file = shlex.quote(str(self.environment))
        return f"if [ -r {file} ]; then set -a; . {file}; set +a; fi"

    def _cron(self, run: str) -> str:
        folder, log, of_log = map(shlex.quote, map(str, (self.folder, self.log, self.log.parent)))
        line = f"cd {folder} && mkdir -p {of_log} && {run} >>{log} 2>&1"
        # In a crontab a plain percent sign begins a new line.
        return f"{self.at.cron} {line.replace('%', chr(92) + '%')} {self.mark}"

    def in_crontab(self, crontab: str) -> str:
        """Return a crontab with the line of this timer, once, in the place where it was."""
        lines = crontab.splitlines()
        own = [index for index, line in enumerate(lines) if line.endswith(f" {self.mark}")]
        if own:
            lines[own[0]] = self.crontab_line()
        else:
            lines.append(self.crontab_line())
        kept = [line for index, line in enumerate(lines) if index not in own[1:]]
        return "\n".join(kept) + "\n"


def cron_manifest(manifest: str, at: Daily, command: Sequence[str]) -> str:
    """Return a manifest of Kubernetes with its schedule, and what it runs, set.

    Args:
        manifest: of a RayCronJob.
        at: when.
        command: program and arguments, as from the folder to which the manifest changes.

    Raises:
        ValueError: it has no schedule, or runs something else.
    """
    run = shlex.join(command)
    for pattern, value in (
        (r"^(\s*schedule:\s*)(?P<before>).*$", at.cron),
        (r"^(\s*entrypoint:\s*)(?P<before>.* && )python search\.py .*$", run),
    ):
        match = re.search(pattern, manifest, re.MULTILINE)
        if match is None:
            raise ValueError("has no schedule, or does not run a night")
        # JSON is YAML, whatever is in a string.
        line = match[1] + json.dumps(match["before"] + value)
        manifest = manifest[: match.start()] + line + manifest[match.end() :]
    return manifest


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _specifiers(text: str) -> str:
    """Return text in which systemd finds no specifier of its own."""
    return text.replace("%", "%%")


def _quoted(argument: str) -> str:
    """Return an argument as systemd reads it back, whatever is in it."""
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    text = _specifiers(escaped).replace("$", "$$")
    return text if re.fullmatch(r"[\w./:=@,+-]+", text) else f'"{text}"'
