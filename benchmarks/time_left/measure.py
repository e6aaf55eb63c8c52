"""Measures the predicted time left: ``PYTHONPATH=benchmarks python -m time_left.measure``.

Recorded searches are replayed, and simulated ones run on a simulated clock. A prediction counts as
right within a factor of 1.5 of the real time left. The baseline multiplies the time of an ended
trial by the number of further trials, without finalists.

The real time left contains chance that no prediction knows. Tied finalists train 9 to 18 times.
Other programs slow a shared machine: in the recordings `photos` and `quickstart`, an epoch takes
two to three times as long at one end of the search as at the other.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from harness import Figure, Table, options

from time_left.recording import Recording, recordings
from time_left.replay import Prediction, replay
from time_left.simulated import SCENARIOS, late, predictions

FACTOR = 1.5


def within(found: Sequence[Prediction]) -> float:
    """Return the percentage of predictions within the factor, from a tenth of the search on."""
    late_ones = late(found)
    return 100 * sum(each.factor <= FACTOR for each in late_ones) / len(late_ones)


def by_ended_trials(recording: Recording, moments: Sequence[Prediction]) -> Iterator[Prediction]:
    """Yield the predictions of the baseline at the same moments."""
    for each in moments:
        ended = sum(trial.ended <= each.at for trial in recording.trials)
        if ended:
            left = each.at / ended * (recording.plan.trials - ended)
            yield Prediction(each.at, left, each.real, each.total)


def figures(*, quick: bool) -> Iterator[Figure]:
    """Yield a row for each search."""
    for recording in recordings():
        found = replay(recording, 0.1 if quick else 0.02)
        ours, baseline = within(found), within(list(by_ended_trials(recording, found)))
        name = f"recorded {recording.name}, {recording.ended:.0f} s: predictions within 1.5"
        yield Figure(name, ours, baseline, ours / max(baseline, 1), "ratio > 1", "%")
    for scenario in SCENARIOS[: 2 if quick else None]:
        seeds = range(1 if quick else 3)
        ours = sum(within(predictions(scenario, seed)) for seed in seeds) / len(seeds)
        yield Figure(f"simulated {scenario.name}: within 1.5", ours, 100, ours / 100, "1", "%")


def main() -> int:
    args = options(__doc__)
    table = Table(args.json)
    for figure in figures(quick=args.quick):
        table.add(figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
