"""Notifies people of the outcome of a night by webhook, e-mail, Slack or any service of apprise.

Addresses hold secrets. They are removed from the environment, so that no child process inherits
them, and no message of the library is shown, because it may quote one.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import apprise
from apprise import NotifyFormat, NotifyType

from spaces.errors import BadInputError

VARIABLE = "BORDERLINE_NOTIFY"
TIMEOUT = 60.0
"""Seconds to wait for the answer of a service."""


def take_addresses() -> list[str]:
    """Return the addresses in BORDERLINE_NOTIFY, separated by spaces, and unset it."""
    return os.environ.pop(VARIABLE, "").split()


def refuse_secrets(addresses: Sequence[str]) -> None:
    """Refuse secrets in addresses that would be written to a file.

    Raises:
        BadInputError: an address holds a secret, or is invalid. The message does not show it.
    """
    for address in addresses:
        service = _service(address)
        if service is None:
            problem = "apprise does not support one of the addresses"
            remedy = "write it as in https://appriseit.com, or leave it out"
            raise BadInputError("nightly.notify", "..", problem, remedy)
        if service.url(privacy=True) != service.url():
            problem = f"its address for {service.service_name} holds a secret"
            remedy = f"set {VARIABLE} in the environment instead"
            raise BadInputError("nightly.notify", "..", problem, remedy)


class Notifier:
    """Sends messages; a failure is a warning, never an error.

    Args:
        addresses: of services, in the notation of apprise.
        warn: called with a line for each message that could not be sent.
    """

    def __init__(self, addresses: Sequence[str], warn: Callable[[str], None]) -> None:
        self._addresses = list(addresses)
        self._warn = warn

    def add(self, addresses: Sequence[str]) -> None:
        """Add services."""
        self._addresses += [each for each in addresses if each not in self._addresses]

    def check(self) -> None:
        """Warn of invalid addresses before a night rather than after it."""
        for number, address in enumerate(self._addresses, start=1):
            if _service(address) is None:
                which = f"notification {number} of {len(self._addresses)}"
                self._warn(f"{which} will not be sent: apprise does not support its address")

    def send(self, title: str, body: str, kind: NotifyType) -> None:
        """Send a message to every service.

        Args:
            title: one line.
            body: Markdown.
            kind: success, info, warning or failure.
        """
        for number, address in enumerate(self._addresses, start=1):
            which = f"notification {number} of {len(self._addresses)}"
            service = _service(address)
            if service is None:
                self._warn(f"{which} was not sent: apprise does not support its address")
                continue
            cause = _send(service, title, body, kind)
            if cause is not None:
                self._warn(f"{which} ({service.service_name}) was not sent: {cause}")


def _service(address: str) -> Any:
    with _captured_log():
        return apprise.Apprise.instantiate(address, suppress_exceptions=True)


def _send(service: Any, title: str, body: str, kind: NotifyType) -> str | None:
    """Send a message; return the cause of a failure, or None."""
    messenger = apprise.Apprise()
    messenger.add(service)
    with _captured_log() as messages:
        try:
            sent = messenger.notify(
                body, title, kind, body_format=NotifyFormat.MARKDOWN, timeout=TIMEOUT
            )
        except Exception as error:  # Of whatever client library a service uses.
            return type(error).__name__
    return None if sent else _cause(" ".join(messages))


def _cause(log: str) -> str:
    """Return the cause of a failure without the log itself, which may quote an address."""
    if match := re.search(r"\berror=(\d{3})\b", log):
        return f"the service answers with error {match[1]}"
    if re.search(r"connection error", log, re.IGNORECASE):
        return "the service is unreachable"
    return "the service rejects the message; check its address"


class _LogCollector(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def _captured_log() -> Iterator[list[str]]:
    """Collect the log of the library and hide it from other handlers."""
    logger, collector = logging.getLogger("apprise"), _LogCollector()
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(collector)
    try:
        with warnings.catch_warnings():
            # Importing its services raises warnings about their dependencies.
            warnings.simplefilter("ignore", DeprecationWarning)
            yield collector.messages
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagated
