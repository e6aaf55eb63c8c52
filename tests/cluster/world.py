"""An isolated world for tests with its own processes, addresses and mounts.

Ray, ssh and ``ray stop`` use a whole machine: fixed ports, ``/tmp/ray``, the home folder, every Ray
process. Linux namespaces simulate that machine. The processes of a world end with it, and a world
ends with the process that created it.
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
"""Path of the world's folder inside the world."""
_UNSHARE = ("unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child")
# The first process: adopts and reaps orphans, and ends when its input closes.
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
# Mounts the folder of the world at $2, a private /tmp and /run, and the accounts of the world. Then
# restores the paths of Python and the project that these mounts hide.
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
    """Namespaces of processes, addresses and mounts with a private home folder.

    Args:
        folder: folder of the world's files; inside the world its path is `INSIDE`.
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
        """Return the environment of commands, without variables of the test process."""
        path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        return {
            "HOME": str(self.home),
            "PATH": path,
            "USER": self.user,
            "LANG": "C.UTF-8",
        } | variables

    def command(self, *command: str | Path, cwd: Path | None = None) -> list[str]:
        """Return a command line that runs a command in the world."""
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
        """Run a command in the world and wait for its end."""
        with self.start(*command, cwd=cwd, **variables) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
                raise AssertionError(f"{command} does not end\n{out}\n{err}") from None
        return subprocess.CompletedProcess(list(map(str, command)), process.returncode, out, err)

    def must(self, *command: str | Path, **options: Any) -> str:
        """Run a command in the world, require success, and return its output."""
        result = self.run(*command, **options)
        assert result.returncode == 0, result
        return result.stdout

    def end(self) -> None:
        """End all processes; the namespaces and mounts end with the last one."""
        with self._outer as process:
            process.kill()  # --kill-child also kills the first process, and thereby all others.


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Create a world, or skip the test if the machine does not allow one."""
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
    """Return the output of a program without colours."""
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
