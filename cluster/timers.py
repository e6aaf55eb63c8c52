"""Generates daily timers for systemd, cron, Ray jobs and Kubernetes.

The functions return text and install nothing. The text contains no secrets: timers read them from a
file that only its owner can read.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MANIFEST = Path(__file__).resolve().parent / "kubernetes" / "raycronjob.yaml"
"""The manifest of nightly searches on Kubernetes."""
STOP_SECONDS = 900
"""Time to finish running epochs after a stop, in seconds."""


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
        """Parse a time of the form ``HH:MM``.

        Raises:
            ValueError: the text is not such a time.

        Example:
            >>> Daily.parse("02:05").cron
            '5 2 * * *'
        """
        match = re.fullmatch(r"(\d{1,2}):(\d{2})", text)
        if match is None or int(match[1]) > 23 or int(match[2]) > 59:
            raise ValueError("is not a time of day")
        return cls(int(match[1]), int(match[2]))

    @property
    def cron(self) -> str:
        """The first five fields of a crontab line."""
        return f"{self.minute} {self.hour} * * *"

    @property
    def calendar(self) -> str:
        """The value of systemd's OnCalendar."""
        return f"*-*-* {self.hour:02}:{self.minute:02}:00"


@dataclass(frozen=True)
class Timer:
    """A command to start every day.

    Attributes:
        name: name of the timer: letters, digits, dots, dashes and underscores.
        what: description in one line.
        command: program and arguments, with absolute paths.
        folder: working directory.
        environment: file of ``NAME='value'`` lines, which is read if it exists.
        log: file for the output under cron.
        at: time of day.
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
        """Comment that identifies the line of this timer in a crontab."""
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
# The search itself stops its processes and saves their state.
KillMode=mixed
TimeoutStopSec={STOP_SECONDS}
"""

    def timer(self) -> str:
        """Return the systemd unit that starts the service, also after a missed time."""
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
        """Return the crontab line, which ends with the mark."""
        return self._cron(f"{{ {self._variables}; {shlex.join(self.command)}; }}")

    def ray_job(self, address: str) -> str:
        """Return the crontab line that submits the command as a Ray job.

        Args:
            address: address of the dashboard: ``http://HOST:8265``.
        """
        folder = shlex.quote(str(self.folder))
        # Runs on the head node, which does not inherit the submitter's variables.
        inside = f"cd {folder} && {self._variables}; exec {shlex.join(self.command)}"
        program = str(Path(self.command[0]).parent / "ray")
        submit = [program, "job", "submit", "--no-wait", "--address", address]
        # The profile enables token authentication; cron reads no profile by itself.
        profile = '[ ! -r "$HOME/.borderline/profile" ] || . "$HOME/.borderline/profile"'
        return self._cron(f"{{ {profile}; {shlex.join([*submit, '--', 'sh', '-c', inside])}; }}")

    @property
    def _variables(self) -> str:
        """Shell code that reads the secrets."""
        file = shlex.quote(str(self.environment))
        return f"if [ -r {file} ]; then set -a; . {file}; set +a; fi"

    def _cron(self, run: str) -> str:
        folder, log, of_log = map(shlex.quote, map(str, (self.folder, self.log, self.log.parent)))
        line = f"cd {folder} && mkdir -p {of_log} && {run} >>{log} 2>&1"
        # In a crontab an unescaped percent sign starts a new line.
        return f"{self.at.cron} {line.replace('%', chr(92) + '%')} {self.mark}"

    def in_crontab(self, crontab: str) -> str:
        """Return a crontab with the line of this timer added or replaced in place."""
        lines = crontab.splitlines()
        own = [index for index, line in enumerate(lines) if line.endswith(f" {self.mark}")]
        if own:
            lines[own[0]] = self.crontab_line()
        else:
            lines.append(self.crontab_line())
        kept = [line for index, line in enumerate(lines) if index not in own[1:]]
        return "\n".join(kept) + "\n"


def cron_manifest(manifest: str, at: Daily, command: Sequence[str]) -> str:
    """Return a Kubernetes manifest with its schedule and command replaced.

    Args:
        manifest: manifest of a RayCronJob.
        at: time of day.
        command: program and arguments, relative to the folder of the manifest's entrypoint.

    Raises:
        ValueError: the manifest has no schedule or another entrypoint.
    """
    run = shlex.join(command)
    for pattern, value in (
        (r"^(\s*schedule:\s*)(?P<before>).*$", at.cron),
        (r"^(\s*entrypoint:\s*)(?P<before>.* && )python search\.py .*$", run),
    ):
        match = re.search(pattern, manifest, re.MULTILINE)
        if match is None:
            raise ValueError("has no schedule, or does not run a night")
        # A JSON string is valid YAML.
        line = match[1] + json.dumps(match["before"] + value)
        manifest = manifest[: match.start()] + line + manifest[match.end() :]
    return manifest


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _specifiers(text: str) -> str:
    """Escape systemd's specifiers."""
    return text.replace("%", "%%")


def _quoted(argument: str) -> str:
    """Quote an argument for systemd."""
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    text = _specifiers(escaped).replace("$", "$$")
    return text if re.fullmatch(r"[\w./:=@,+-]+", text) else f'"{text}"'
