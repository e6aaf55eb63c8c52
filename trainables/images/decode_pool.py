"""Decodes chunks of images in parallel processes with bounded memory.

:mod:`multiprocessing` is not used for two reasons. Its spawned processes import the main module
again, which costs seconds if that imports torch, and deadlocks if that calls ``load`` unguarded,
because the child waits for its parent's lock. And its workers outlive a killed parent.
"""

import os
import subprocess
import sys
from collections.abc import Generator, Iterable
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import cast

from trainables.images.decoding import Chunk, Outcome, process
from trainables.images.errors import UnusableDataError


def decode_here(chunks: Iterable[Chunk]) -> Generator[Outcome, None, None]:
    """Decode in this process, which is faster for few images."""
    for chunk in chunks:
        yield process(chunk)


def decode_in_parallel(
    chunks: Iterable[Chunk], workers: int | None = None
) -> Generator[Outcome, None, None]:
    """Decode in other processes, one chunk per process at a time.

    At most ``workers + 1`` chunks exist at once, so memory is bounded for data sets of any size.

    Args:
        chunks: chunks to decode; consumed only as processes become free.
        workers: number of processes; by default one per core that this process may use.

    Yields:
        One outcome per chunk, in order of completion.

    Raises:
        UnusableDataError: a decoding process died.
    """
    limit = workers or available_cores()
    started: list[_Worker] = []
    busy: dict[Connection, _Worker] = {}
    idle: list[_Worker] = []
    try:
        for chunk in chunks:
            if not idle and len(started) < limit:
                started.append(_Worker())
                idle.append(started[-1])
            if not idle:
                for connection in wait(busy):
                    worker = busy.pop(cast(Connection, connection))
                    yield worker.collect()
                    idle.append(worker)
            worker = idle.pop()
            worker.hand(chunk)
            busy[worker.connection] = worker
        while busy:
            for connection in wait(busy):
                yield busy.pop(cast(Connection, connection)).collect()
    finally:
        for worker in started:
            worker.stop()


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Worker:
    """A decoding process and its connection."""

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        path = [str(Path(__file__).parents[2]), *(entry for entry in sys.path if entry)]
        self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            [
                sys.executable,
                # Without -P the user's current folder would come first on the path.
                "-P",
                "-c",
                f"from trainables.images.decoding import serve; serve({theirs.fileno()})",
            ],
            pass_fds=[theirs.fileno()],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path),
                # For small matrices, threads cost more than they save.
                "OPENBLAS_NUM_THREADS": "1",
            },
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._chunk: Chunk | None = None

    def hand(self, chunk: Chunk) -> None:
        self._chunk = chunk
        # collect() reports a process that died.
        with suppress(ConnectionError):
            self.connection.send(chunk)

    def collect(self) -> Outcome:
        try:
            return cast(Outcome, self.connection.recv())
        except (EOFError, ConnectionError) as error:
            code = self._process.wait()
            names = self._chunk.names if self._chunk else ("?",)
            raise UnusableDataError(
                f"the process decoding the images {names[0]} to {names[-1]} died (code {code})",
                "check that memory is free and that these images can be opened",
            ) from error

    def stop(self) -> None:
        self.connection.close()
        # Unfinished chunks are no longer needed.
        self._process.kill()
        self._process.wait()
