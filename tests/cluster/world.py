"""A world of its own for tests: processes, addresses and mounts that nobody else sees.

Ray, ssh and ``ray stop`` are at home on a whole machine: fixed ports, ``/tmp/ray``, the home
folder, every Ray process there is. Namespaces of Linux give them one. What runs in a world ends
with it, and a world ends with whoever made it.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.requirements import lack

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("unshare", "nsenter", "ip", "mount")
INSIDE = Path("/mnt")
"""Where the folder of a world lies within it."""
_UNSHARE = ("unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child")
# The first process: adopts and buries what others leave behind, and ends with its input.
_INIT = """\
import os, sys, threading, time
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
print("ready", flush=True)
while True:
    try:
        os.waitpid(-1, 0)
    except ChildProcessError:
        time.sleep(0.05)
"""
# Puts the folder of the world at $2, an own /tmp and /run, the accounts of the world, and back what
# of Python and the project is thereby out of sight.
_SET_UP = """\
set -e
folder=$1 inside=$2
shift 2
mount -t proc proc /proc
ip link set lo up
mount --bind "$folder" "$inside"
n=0
for path; do
    n=$((n + 1))
    mkdir "$inside/kept-$n"
    mount --bind "$path" "$inside/kept-$n"
done
mkdir "$inside/tmp" && chmod 1777 "$inside/tmp"
mount --bind "$inside/tmp" /tmp
mount -t tmpfs none /run
mkdir /run/sshd
mount --bind "$inside/passwd" /etc/passwd
mount --bind "$inside/shadow" /etc/shadow
n=0
for path; do
    n=$((n + 1))
    mkdir -p "$path"
    mount --bind "$inside/kept-$n" "$path"
done
exec "$PYTHON" -c "$INIT"
"""


class World:
    """Namespaces of processes, addresses and mounts, with a home folder of their own.

    Args:
        folder: of its files; seen from within it lies at `INSIDE`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = INSIDE / "home"
        (folder / "home").mkdir()
        account = pwd.getpwuid(os.getuid())
        (folder / "passwd").write_text(
            f"{account.pw_name}:x:0:0::{self.home}:/bin/bash\n"
            "sshd:x:100:65534::/run/sshd:/bin/false\n"
        )
        (folder / "shadow").write_text(f"{account.pw_name}:*:19000:0:99999:7:::\n")
        hidden = ("/tmp/", "/run/")  # noqa: S108
        kept = {str(path) for path in (ROOT, Path(sys.prefix).resolve(), Path(sys.base_prefix))}
        kept = {path for path in kept if path.startswith(hidden)}
        self.user = account.pw_name
        self._outer = subprocess.Popen(
            [*_UNSHARE, "sh", "-c", _SET_UP, "sh", folder, INSIDE, *sorted(kept)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={"PATH": os.environ["PATH"], "PYTHON": sys.executable, "INIT": _INIT},
        )
        assert self._outer.stdout is not None
        if self._outer.stdout.readline() != "ready\n":
            _, said = self._outer.communicate()
            lack(f"namespaces of its own for a test ({said.strip()})")
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text()
        self._first = children.split()[0]

    def environment(self, **variables: str) -> dict[str, str]:
        """Return what a command in the world finds set: nothing of whoever runs the tests."""
        path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        return {
            "HOME": str(self.home),
            "PATH": path,
            "USER": self.user,
            "LANG": "C.UTF-8",
        } | variables

    def command(self, *command: str | Path, cwd: Path | None = None) -> list[str]:
        """Return a command line that runs another one in the world."""
        return [
            *("nsenter", "--target", self._first, "--mount", "--pid", "--net", "--uts", "--ipc"),
            f"--wdns={cwd or self.home}",
            *map(str, command),
        ]

    def start(
        self, *command: str | Path, cwd: Path | None = None, **variables: str
    ) -> subprocess.Popen[str]:
        """Start a command in the world."""
        return subprocess.Popen(
            self.command(*command, cwd=cwd),
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(
        self, *command: str | Path, cwd: Path | None = None, timeout: float = 240, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the world to its end."""
        with self.start(*command, cwd=cwd, **variables) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
                raise AssertionError(f"{command} does not end\n{out}\n{err}") from None
        return subprocess.CompletedProcess(list(map(str, command)), process.returncode, out, err)

    def must(self, *command: str | Path, **options: Any) -> str:
        """Run a command in the world that has to succeed, and return what it prints."""
        result = self.run(*command, **options)
        assert result.returncode == 0, result
        return result.stdout

    def end(self) -> None:
        """End everything in it; its namespaces and mounts go with the last process."""
        with self._outer as process:
            process.kill()  # And, by --kill-child, its first process, and by that all others.


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Make a world, or skip where the machine does not allow for one."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        lack(f"the programs {', '.join(missing)} (Debian: util-linux, iproute2)")
    if os.getuid() != 0:
        lack("root, for namespaces of its own")
    made = World(folder)
    try:
        yield made
    finally:
        made.end()


def plain(text: str) -> str:
    """Return what a program prints without colours."""
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
