"""The surrogate of a block follows its trials as they end."""

from __future__ import annotations

import numpy as np

from search.loop.sampling.history import Observation, Standing
from search.loop.sampling.proposals import Proposal
from search.loop.sampling.scaling import Scaling
from search.loop.sampling.surrogate import Surrogate

GRID = np.linspace(-2, 2, 9)
POOL = [Proposal({}, "pool", (1.3, 1.3), 1)]
SCALING = Scaling(("params", "macs"), [Proposal({}, "", (x, x), 1) for x in GRID])


def observed(number: int, x: float, standing: Standing = Standing.FINISHED) -> Observation:
    values = () if standing is Standing.RUNNING else (x,)
    curve = {1: x + 0.3 * (-1) ** number, 2: x}
    return Observation(number, Proposal({}, str(number), (x, x), 1), standing, values, curve)


def test_trial_that_stops_within_a_block_is_noisier_at_once() -> None:
    """Its final value is a prediction, however it counted while it ran."""
    finished = [observed(i, x) for i, x in enumerate(GRID)]
    gains = []
    for standing in (Standing.FINISHED, Standing.STOPPED):
        surrogate = Surrogate(SCALING, POOL, finished, [1.0])
        one, other = (observed(20 + i, 1.3, Standing.RUNNING) for i in range(2))
        surrogate.improvement([one, other], [1.0])
        # Both end with the same score; a stopped one has reported the first epoch only.
        one.standing, one.values, one.curve = standing, (1.0,), {1: 1.0}
        surrogate.improvement([one, other], [1.0])
        gains.append(surrogate.improvement([one, other], [1.0])[0])
        extra = surrogate._process._extra
        assert (extra[len(finished)] > 0) == (standing is Standing.STOPPED)
        assert len(extra) == len(finished) + 2
    assert gains[0] != gains[1]
