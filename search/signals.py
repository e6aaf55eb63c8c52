"""What the first Ctrl-C or SIGTERM does, and what the second."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
"""Exit code of a command that was interrupted."""


@contextmanager
def stopping_gently(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` at the first signal to end, and end the process at the second.

    Outside of the main thread, which alone receives signals, nothing changes.

    Args:
        stop: asks the work inside to come to its end soon; must return at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            # Whatever is half done is what a later resume is made for.
            os._exit(INTERRUPTED)
        asked = True
        stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interrupting() -> Iterator[None]:
    """Have SIGTERM do what Ctrl-C does: raise KeyboardInterrupt, so that the work can be closed.

    Outside of the main thread, which alone receives signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
