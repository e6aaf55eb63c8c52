"""Effects of Ctrl-C and SIGTERM on a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from search.signals import INTERRUPTED, interrupting, stopping_gently

ROOT = Path(__file__).resolve().parents[2]

WORKER = """
import sys, time
from search.signals import stopping_gently

asked = []

def stop():
    asked.append(1)
    print("asked", flush=True)

with stopping_gently(stop):
    print("started", flush=True)
    while not asked:
        time.sleep(0.01)
    if len(sys.argv) > 1:
        try:
            time.sleep(600)
        finally:
            print("cleaned up", flush=True)
    print("went on", flush=True)
print(f"ended, asked {len(asked)} times", flush=True)
"""

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@contextmanager
def worker(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", SIGNALS)
def test_first_signal_requests_a_stop_and_work_completes(
    number: signal.Signals,
) -> None:
    with worker() as process:
        os.kill(process.pid, number)
        out, _ = process.communicate(timeout=60)
    assert out == "asked\nwent on\nended, asked 1 times\n"
    assert process.returncode == 0


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
def test_second_signal_ends_the_process_at_once(
    first: signal.Signals, second: signal.Signals
) -> None:
    with worker("long") as process:
        assert process.stdout is not None
        os.kill(process.pid, first)
        assert process.stdout.readline() == "asked\n"
        os.kill(process.pid, second)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED == 130
    assert out == ""


def test_signal_handlers_are_restored() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]

    def work() -> None:
        with stopping_gently(lambda: None):
            assert [signal.getsignal(number) for number in SIGNALS] != before
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        work()
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_signal_handlers_are_unchanged_in_other_threads() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    found = []

    def work() -> None:
        with stopping_gently(lambda: None):
            found.append([signal.getsignal(number) for number in SIGNALS])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]


def test_sigterm_interrupts_inside_the_block() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interrupting():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
