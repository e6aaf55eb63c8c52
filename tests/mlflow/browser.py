"""A headless browser, controlled through its debugging protocol over two pipes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TIMEOUT = 120.0
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--window-size=1600,1000",
)

# File descriptors of the browser for commands and answers.
AS_3_AND_4 = """
import fcntl, os, sys
commands, answers = (fcntl.fcntl(int(each), fcntl.F_DUPFD, 10) for each in sys.argv[1:3])
os.dup2(commands, 3)
os.dup2(answers, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One page of a browser.

    Args:
        to: pipe from which the browser reads commands.
        back: pipe to which the browser writes answers.

    Attributes:
        status: HTTP status of the document.
        errors: exceptions of scripts and lines of the browser's log.
        requests: addresses that pages asked for.
    """

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._buffer = b""
        self._number = 0
        self._login: dict[str, str] = {}
        self._session: str | None = None
        self.status = 0
        self.errors: list[str] = []
        self.requests: list[str] = []
        page = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **values: object) -> dict[str, Any]:
        """Return the answer to a command, and handle events meanwhile."""
        number = self._send(method, values)
        while True:
            message = self._receive()
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self._see_to(message.get("method"), message.get("params", {}))

    def log_in(self, user: str, password: str) -> None:
        """Answer later login dialogues with a name and a password."""
        self._login = {"username": user, "password": password}
        self.call("Fetch.enable", handleAuthRequests=True)

    def open(self, address: str) -> None:
        """Open an address."""
        self.status = 0
        self._send("Page.navigate", {"url": address})

    def wait(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < deadline, f"in vain; the page says:\n{self.text()}"
            time.sleep(0.1)
            self.text()

    def text(self) -> str:
        """Return the visible text."""
        shown: str = self.value("document.body ? document.body.innerText : ''")
        return shown

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    def picture(self, path: Path) -> None:
        """Save a screenshot."""
        path.write_bytes(b64decode(self.call("Page.captureScreenshot")["data"]))

    def _see_to(self, event: str | None, happened: dict[str, Any]) -> None:
        if event == "Network.responseReceived" and happened["type"] == "Document":
            self.status = happened["response"]["status"]
        elif event == "Network.requestWillBeSent":
            self.requests.append(happened["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.errors.append(str(happened["exceptionDetails"]))
        elif event == "Log.entryAdded":
            self.errors.append(happened["entry"]["text"])
        elif event == "Fetch.requestPaused":
            self._send("Fetch.continueRequest", {"requestId": happened["requestId"]})
        elif event == "Fetch.authRequired":
            answer = {"response": "ProvideCredentials"} | self._login
            said = {"requestId": happened["requestId"], "authChallengeResponse": answer}
            self._send("Fetch.continueWithAuth", said)

    def _send(self, method: str, values: dict[str, Any]) -> int:
        self._number += 1
        message = {"id": self._number, "method": method, "params": values}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        return self._number

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            received = os.read(self._back, 1 << 16)
            assert received, "the browser has ended"
            self._buffer += received
        message, _, self._buffer = self._buffer.partition(b"\0")
        decoded: dict[str, Any] = json.loads(message)
        return decoded


@contextlib.contextmanager
def browser(program: str, folder: Path) -> Iterator[Browser]:
    """Run a browser that keeps all its files in a folder."""
    commands, to = os.pipe()
    back, answers = os.pipe()
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", AS_3_AND_4, str(commands), str(answers)),
            *(program, *QUIET, f"--user-data-dir={folder / 'profile'}"),
            *("--remote-debugging-pipe", "about:blank"),
        ],
        pass_fds=(commands, answers),
        env={name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        | {"HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(commands)
    os.close(answers)
    try:
        yield Browser(to, back)
    finally:
        os.close(to)
        os.close(back)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
