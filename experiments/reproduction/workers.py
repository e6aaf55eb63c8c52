"""Runs jobs one after another in this process, or in worker processes with one thread each."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait as wait_for_process
from typing import Any, TypeVar

from spaces.errors import BadInputError
from trainables.training.process import prepare_process

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_jobs(
    prepare: Callable[[], Callable[[Job], Result]], jobs: Iterable[Job], workers: int
) -> Iterator[Result]:
    """Run jobs, and yield each result when it is there.

    The next job is taken only when a worker is free. If a job fails, no further one starts, and
    the results of those that still run precede the error. Worker processes end with this process,
    also when it is killed.

    Args:
        prepare: called once in each process; returns the function that runs a job there.
        jobs: the jobs.
        workers: number of processes with one thread each; 1 runs the jobs in this process.

    Raises:
        BadInputError: a worker process was killed.
    """
    if workers == 1:
        prepare_process(threads=1)
        run = prepare()
        yield from map(run, jobs)
        return
    waiting = iter(jobs)
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _prepare_worker, (prepare,))
    running: set[Future[Result]] = set()
    failure: BaseException | None = None
    try:
        while True:
            free = 0 if failure else workers - len(running)
            running |= {pool.submit(_run, job) for job in islice(waiting, free)}
            if not running:
                break
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                error = future.exception()
                if error is None:
                    yield future.result()
                else:
                    failure = failure or error
        if failure is not None:
            raise failure
    except BrokenProcessPool:
        problem = "a worker process was killed, perhaps because memory ran out"
        remedy = "use fewer workers; the same command continues"
        raise BadInputError("--workers", workers, problem, remedy) from None
    finally:
        pool.shutdown(cancel_futures=True)


_run_here: Callable[[Any], Any]


def _prepare_worker(prepare: Callable[[], Callable[[Any], Any]]) -> None:
    global _run_here  # noqa: PLW0603 - the initialiser of a pool returns nothing
    threading.Thread(target=_end_with_parent, daemon=True).start()
    prepare_process(threads=1)
    _run_here = prepare()


def _end_with_parent() -> None:
    """End this process when its parent is killed; the pool's queue would block forever."""
    parent = parent_process()
    if parent is not None:
        wait_for_process([parent.sentinel])
        os._exit(1)


def _run(job: Any) -> Any:
    return _run_here(job)
