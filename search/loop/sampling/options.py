"""The settings of the network sampler, so that a benchmark can leave out one of its parts."""

from __future__ import annotations

from dataclasses import dataclass

VERSION = 2
"""Version of the decisions; a change of any raises it, and benchmarks run again."""


@dataclass(frozen=True)
class SamplerOptions:
    """Settings of the network sampler.

    The defaults come from tables of trained networks, see ``benchmarks/search_quality.py``. An
    experiment cannot change them.

    Attributes:
        draws: candidates at random in every pool; their distribution also standardises the
            features.
        start: trials that start the search, drawn from the largest candidates that the screens
            accept.
        largest: fraction of the random draws that count as the largest, by multiply-accumulates; 1
            starts with random draws. On NAS-Bench-Macro and the wide residual networks, large
            networks have less regret than other draws; on digits without the border screen, they
            have not. A twentieth of them differs enough to learn from.
        mutations: candidates per trial that are mutated from good ones; 0 proposes random draws
            alone.
        least_mutations: the same per block of trials, at least.
        parents: best trials that are mutated.
        network_features: whether the surrogate sees all features; False leaves it parameters and
            multiply-accumulates.
        linear_mean: whether the mean is linear in the logarithms of parameters and
            multiply-accumulates; False makes it constant.
        noise: whether results count as noisy; False interpolates them.
        ranks: whether the surrogate learns normal scores of ranks; False standardises the values.
        curves: whether the final value of a stopped trial is predicted from its curve; False takes
            its last value.
        cost_exponent: power of the predicted device time by which the expected improvement is
            divided; 0 ignores the time. Only benchmarks set it: it helps on one table and harms
            on another.
        running: whether running trials lower the uncertainty around them; False ignores them.
    """

    draws: int = 1024
    start: int = 8
    largest: float = 0.05
    mutations: int = 8
    least_mutations: int = 64
    parents: int = 6
    network_features: bool = True
    linear_mean: bool = True
    noise: bool = True
    ranks: bool = True
    curves: bool = True
    running: bool = True
    cost_exponent: float = 0.0


DEFAULTS = SamplerOptions()
"""Of a search whose budget is a number of trials."""
TIMED = SamplerOptions(largest=1.0)
"""Of a search whose budget is time or money: the largest networks would take much of it for the
first eight trials."""
