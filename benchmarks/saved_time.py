"""Measures the prediction of saved device time on tables: ``benchmarks/saved_time.py``.

The networks of ``experiments/results`` have measured times and learning curves. Searches are
simulated on them: networks come in random order, a screen rejects some of them, ASHA stops the
others early, and `search.study.savings` predicts the time of each rejected network as a search
does. Its true time is its measured time of an epoch, for as long as ASHA would have trained it.

- **error**: median of |predicted / measured - 1| for networks whose costs lie within those of 15
  trained ones; the baseline is a line over multiply-accumulates (MACs).
- **inside**: fraction of the searches whose true total lies within the interval; the baseline is
  the stated confidence.
- **lower end**: median of the lower end relative to the true total; the baseline is the true total.

``--tables FOLDER`` reads other tables.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from harness import Figure, option_parser
from harness import Table as Figures
from optuna.trial import TrialState, create_trial

from experiments.plain_networks.protocols import PROTOCOLS
from experiments.plain_networks.table import RESULTS, read_table
from search.loop.asha import Asha
from search.loop.candidates import attributes_of
from search.study.records import TrialAttributes, TrialRecord, Workload
from search.study.savings import CONFIDENCE, NO_TIME, EpochTimes, RejectionTimes, SavedTime
from spaces.border import find_border
from spaces.errors import BadInputError

BAD_INPUT = 2
TRAINED = 15


class Args(argparse.Namespace):
    """The options."""

    quick: bool
    json: Path | None
    tables: Path


@dataclass(frozen=True)
class Network:
    """A network of a table.

    Attributes:
        attributes: what a study stores of it.
        seconds: of an epoch, with one thread.
        curve: validation accuracy after each epoch.
        beyond: convolutions beyond the border layer.
    """

    attributes: TrialAttributes
    seconds: float
    curve: Sequence[float]
    beyond: int

    @property
    def workload(self) -> Workload:
        """What decides the time of an epoch."""
        found = Workload.of(self.attributes)
        assert found is not None
        return found

    def trained(self, epochs: int) -> TrialRecord:
        """Return the record of a trial that trained it."""
        attributes = {**self.attributes, "epochs": epochs, "seconds": epochs * self.seconds}
        return TrialRecord.of(
            create_trial(state=TrialState.COMPLETE, value=0.0, user_attrs=attributes)
        )


Screen = Callable[[Network], bool]


def load(folder: Path, name: str) -> list[Network]:
    """Read the networks of a table; none, and a line that says so, if there is no table."""
    path = folder / f"{name}.csv.gz"
    if not path.exists():
        print(f"{name} is left out: {path} does not exist")
        return []
    protocol = PROTOCOLS[name]
    space = protocol.space()
    found = []
    for row in read_table(path):
        if row.seed == 0:
            candidate = space.rebuild(row.params, row.digest)
            found.append(
                Network(
                    attributes_of(candidate),
                    row.cpu_seconds / protocol.epochs,
                    row.validation_accuracies,
                    find_border(candidate.architecture).beyond,
                )
            )
    return found


def measure_error(networks: list[Network], draws: int) -> tuple[float, float]:
    """Return the median relative errors of the prediction and of a line over MACs."""
    generator = np.random.default_rng(0)
    errors: tuple[list[float], list[float]] = ([], [])
    for _ in range(draws):
        order = generator.permutation(len(networks))
        records = [networks[place].trained(1) for place in order[:TRAINED]]
        line = [
            replace(record, workload=Workload(record.workload.macs))
            for record in records
            if record.workload is not None
        ]
        times = EpochTimes(records), EpochTimes(line)
        for place in order[TRAINED:]:
            network = networks[place]
            middles = [_middle(each.estimate(network.workload)) for each in times]
            for found, middle in zip(errors, middles, strict=True):
                # Both predict the same networks.
                if None not in middles and middle is not None:
                    found.append(abs(middle / network.seconds - 1))
    return float(np.median(errors[0])), float(np.median(errors[1]))


def _middle(saved: SavedTime) -> float | None:
    return math.sqrt(saved.low * saved.high) if saved.high is not None and saved.low > 0 else None


def simulate(
    networks: list[Network], screen: Screen, trials: int, epochs: int, seed: int
) -> tuple[SavedTime, float]:
    """Run a search without training; return its predicted and its true savings.

    Args:
        networks: of the table.
        screen: tells whether a network is rejected.
        trials: number of trained networks.
        epochs: of a whole training.
        seed: of the order of the networks.
    """
    generator = np.random.default_rng(seed)
    asha, times = Asha(epochs, 1, 3), RejectionTimes()
    waiting: list[Network] = []
    total, true_seconds, trained = NO_TIME, 0.0, 0
    for number, place in enumerate(generator.permutation(len(networks))):
        network = networks[place]
        length = epochs
        for epoch in range(1, epochs):
            asha.report(number, epoch, network.curve[min(epoch, len(network.curve)) - 1])
            if asha.should_stop(number, epoch):
                length = epoch
                break
        if screen(network):
            true_seconds += length * network.seconds
            waiting.append(network)
        else:
            times.ended(network.trained(length))
            trained += 1
        estimates = [times.estimate(each.workload) for each in waiting]
        if None not in estimates:
            total = sum((each for each in estimates if each is not None), total)
            waiting.clear()
        if trained == trials:
            break
    return total, true_seconds


def screens_of(networks: list[Network]) -> dict[str, Screen]:
    """Return the screens of the simulated searches, by name."""
    limit = float(np.quantile([each.workload.macs for each in networks], 0.6))
    return {
        "border screen": lambda network: network.beyond > 0,
        "limit on MACs": lambda network: network.workload.macs > limit,
        "every third": lambda network: int(network.attributes["digest"], 16) % 3 == 0,
    }


def figures_of(name: str, networks: list[Network], draws: int) -> Iterator[Figure]:
    """Yield the figures of a table."""
    ours, line = measure_error(networks, max(5, draws // 10))
    figure = f"{name}: error of the seconds of an epoch; against a line over MACs"
    yield Figure(figure, 100 * ours, 100 * line, ours / line, "ratio < 1", "%")
    for screen, rejects in screens_of(networks).items():
        # Few enough for the searches to differ.
        trials = min(27, max(9, sum(not rejects(each) for each in networks) // 2))
        epochs = PROTOCOLS[name].epochs
        found = [simulate(networks, rejects, trials, epochs, seed) for seed in range(draws)]
        found = [(saved, true) for saved, true in found if true > 0]
        inside = np.mean([saved.low <= true <= (saved.high or math.inf) for saved, true in found])
        lower = float(np.median([saved.low / true for saved, true in found]))
        text = f"{name}, {screen}, {trials} trials"
        ratio = float(inside) / CONFIDENCE
        unit = "% of runs"
        figure = f"{text}: inside; against the confidence"
        yield Figure(figure, 100 * float(inside), 100 * CONFIDENCE, ratio, "ratio >= 1", unit)
        yield Figure(f"{text}: lower end; against the true total", lower, 1, lower, "< 1", "ratio")


def main() -> int:
    parser = option_parser(__doc__)
    parser.add_argument("--tables", type=Path, default=RESULTS, help="folder of the tables")
    args = parser.parse_args(namespace=Args())
    shown = Figures(args.json)
    try:
        tables = {name: load(args.tables, name) for name in PROTOCOLS}
        if not any(tables.values()):
            problem = "it contains no table of plain networks"
            remedy = "run python -m experiments.plain_networks digits"
            raise BadInputError("--tables", args.tables, problem, remedy)
    except BadInputError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    for name, networks in tables.items():
        if networks:
            print(f"{name}: {len(networks):,} networks")
            for figure in figures_of(name, networks, 10 if args.quick else 100):
                shown.add(figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
