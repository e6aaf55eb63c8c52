"""What the tests of the loop share."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from search.loop import budget, trials


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Replace the clock: ``clock.now`` sets it, each reading advances it by ``clock.step``."""
    state = SimpleNamespace(now=100.0, step=0.0)

    def monotonic() -> float:
        state.now += state.step
        return float(state.now)

    for each in (trials, budget):
        monkeypatch.setattr(each, "time", SimpleNamespace(monotonic=monotonic))
    return state
