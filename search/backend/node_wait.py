"""Limits how long a search waits for nodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from ray.tune import Callback

from search.formatting import duration

SAID_AFTER = 60.0
"""Seconds without a running trial after which a first line is printed."""


class NoNodesError(RuntimeError):
    """No node became available within the limit of a search."""


class NodeWait:
    """Prints what the search waits for, at growing intervals, and raises at the limit.

    Args:
        limit: seconds that the search waits.
        say: prints a line for people.
        waited_for: describes what trials request and what the cluster has.
        clock: returns seconds.
    """

    def __init__(
        self,
        limit: float,
        say: Callable[[str], None],
        waited_for: Callable[[], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._say = say
        self._waited_for = waited_for
        self._clock = clock
        self._since = clock()
        self._say_after = SAID_AFTER

    def check(self, *, waits: bool) -> None:
        """Note whether trials are waiting with none running; call about once a second.

        Raises:
            NoNodesError: the limit is reached.
        """
        now = self._clock()
        if not waits:
            self._since, self._say_after = now, SAID_AFTER
            return
        waited = now - self._since
        if waited >= self._limit:
            gone = duration(waited)
            raise NoNodesError(f"nothing could be trained for {gone}: {self._waited_for()}")
        if waited >= self._say_after:
            self._say_after = 2 * waited
            self._say(f"waiting for nodes since {duration(waited)}: {self._waited_for()}")


class TrialWatch(Callback):
    """Checks once a second, as a callback of Ray Tune, whether any trial runs.

    Args:
        wait: for nodes.
        clock: returns seconds.

    Attributes:
        error: raised at the limit.
    """

    def __init__(self, wait: NodeWait, clock: Callable[[], float] = time.monotonic) -> None:
        self.error: NoNodesError | None = None
        self._wait = wait
        self._clock = clock
        self._looked = clock()

    def on_step_begin(self, iteration: int, trials: Sequence[Any], **info: Any) -> None:
        """Look.

        Raises:
            NoNodesError: the limit is reached.
        """
        now = self._clock()
        if now - self._looked < 1:
            return
        self._looked = now
        states = {trial.status for trial in trials}
        try:
            self._wait.check(waits="PENDING" in states and "RUNNING" not in states)
        except NoNodesError as error:
            self.error = error
            raise

    def __getstate__(self) -> dict[str, Any]:
        """Leave everything out of the copy that Tune stores and nobody reads."""
        return {}
