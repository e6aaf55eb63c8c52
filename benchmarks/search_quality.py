"""Compares samplers on tables of trained networks: ``search_quality.py --data FOLDER``.

Each run is a whole search on the simulated clock (`search.loop.simulation`): the loop draws,
screens, rejects duplicates and stops trials as in a real search, and a table gives the accuracies.
The figure is the regret: accuracy of the best network of the table minus that of the network that
the search chooses. A search sees one training of each network and chooses by it. The truth is the
mean over all trainings; for the channel tables, which are noisy, a model of pairs of layers.

Tables (``--tables``), from FOLDER or from ``experiments/results``:

- ``nas-bench-macro``: 3,969 different inverted residual networks, without a limit;
- ``channel-bench-macro-25`` and ``-50``: residual networks of 16,384 widths, under 25 % and 50 % of
  the largest network's multiply-accumulates;
- ``plain-DATASET``: plain networks with their learning curves; see `quality.plain`;
- ``constructed``: a small formula, which shows that the benchmark runs.

A search trains at most half of a table.

Clocks (``--clocks``): ``trials`` trains one network at a time to its end and counts networks.
``parallel`` does so on 64 workers. ``asha`` and ``full`` train on eight workers, with ASHA and
without, and count device-seconds; a training takes time in proportion to its multiply-accumulates.
Tables without learning curves get modelled ones; see `quality.runs.modelled`. As in a search with a
budget of time, the arms ``auto`` and ``auto-..`` start with random draws on these two clocks.

Arms (``--arms``) are the functions of ``quality/arms.py``. Seeds 1000 and above are for
development: report others. Each finished run is appended to ``--work``, and the same command
continues; it repeats runs of another table or of an older version of an arm. ``--write`` writes
``benchmarks/results/search_quality.csv``, ``search_quality_goals.csv`` and ``search_quality.svg``
from all current runs of that file; the picture shows the chosen clocks and tables.
"""

from __future__ import annotations

import argparse
import fcntl
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import BinaryIO

from harness import Figure, Table, option_parser
from pydantic import ValidationError
from quality.arms import ARMS
from quality.goals import goals, write_goals
from quality.plain import read_plain
from quality.results import Summary, draw, summarise, write_csv
from quality.runs import Clock, Key, Run, key_of, run
from quality.tables import Table as Networks
from quality.tables import constructed, read_channels, read_macro

from experiments.plain_networks.protocols import PROTOCOLS
from experiments.plain_networks.table import RESULTS
from experiments.reproduction.record_lines import append_line, complete_lines, drop_incomplete_line
from spaces.errors import BadInputError

HERE = Path(__file__).resolve().parent
WORK = Path("runs/search_quality.jsonl")
MACRO, CHANNELS = "nas-bench-macro_cifar10.json", "channel-bench-macro_resnet.json"
CLOCKS: tuple[Clock, ...] = ("trials", "parallel", "asha", "full")
BASELINE = "random"
SHOWN = (25, 50, 100)
"""Budgets of the figures."""


class Args(argparse.Namespace):
    """The options."""

    quick: bool
    json: Path | None
    data: Path | None
    plain: Path
    arms: list[str] | None
    tables: list[str] | None
    clocks: list[Clock]
    seeds: list[int]
    processes: int
    work: Path
    write: bool


def parse(arguments: Sequence[str] | None = None) -> Args:
    """Return the options."""
    parser = option_parser(__doc__)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help=f"folder of {MACRO}, ..")
    parser.add_argument(
        "--plain", type=Path, metavar="FOLDER", default=RESULTS, help="folder of DATASET.csv.gz"
    )
    parser.add_argument("--arms", type=_names, help=f"of {', '.join(ARMS)}")
    parser.add_argument("--tables", type=_names, help="default: all that are there")
    parser.add_argument("--clocks", type=_names, default=["trials"], help=", ".join(CLOCKS))
    parser.add_argument("--seeds", type=_range, default=list(range(90)), help="such as 0-89")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--work", type=Path, default=WORK, help=f"default: {WORK}")
    parser.add_argument("--write", action="store_true", help="write CSV file and picture")
    args = parser.parse_args(arguments, namespace=Args())
    if args.quick:
        args.tables = args.tables or ["constructed"]
        args.seeds = args.seeds[:3]
    for option, given, known in (
        ("--arms", args.arms or (), tuple(ARMS)),
        ("--clocks", args.clocks, CLOCKS),
    ):
        for name in given:
            if name not in known:
                parser.error(f"{option}: {name} is none of {', '.join(known)}")
    return args


def _names(text: str) -> list[str]:
    return text.split(",")


def _range(text: str) -> list[int]:
    first, dash, last = text.partition("-")
    return list(range(int(first), int(last if dash else first) + 1))


def tables_of(data: Path | None, plain: Path) -> dict[str, Callable[[], Networks]]:
    """Return the readers of all known tables by name; a file may be missing."""
    folder = data or Path()
    found: dict[str, Callable[[], Networks]] = {
        "nas-bench-macro": partial(read_macro, folder / MACRO),
        "channel-bench-macro-25": partial(read_channels, folder / CHANNELS, 0.25),
        "channel-bench-macro-50": partial(read_channels, folder / CHANNELS, 0.5),
        "constructed": constructed,
    }
    return found | {
        f"plain-{name}": partial(read_plain, plain / f"{name}.csv.gz") for name in PROTOCOLS
    }


def available(data: Path | None, plain: Path) -> list[str]:
    """Return the names of the tables whose files are there."""
    found = []
    if data is not None:
        found += ["nas-bench-macro", "channel-bench-macro-25", "channel-bench-macro-50"]
    return found + [f"plain-{name}" for name in PROTOCOLS if (plain / f"{name}.csv.gz").is_file()]


@cache
def _table(data: Path | None, plain: Path, name: str) -> Networks:
    return tables_of(data, plain)[name]()


def _run(data: Path | None, plain: Path, key: Key) -> Run:
    return run(key, _table(data, plain, key.table))


def keys_of(args: Args, names: Sequence[str]) -> Iterator[Key]:
    """Yield the runs, seed by seed, so that an interrupted command leaves complete seeds."""
    arms = args.arms or [
        arm for arm in ARMS if not args.quick or not arm.startswith(("optuna-gp", "auto-"))
    ]
    for seed, clock, name, arm in product(args.seeds, args.clocks, names, arms):
        if ARMS[arm].differs(name, clock):
            yield key_of(clock, _table(args.data, args.plain, name), arm, seed)


def read_runs(content: bytes, path: Path) -> list[Run]:
    """Return the runs of a working file.

    Raises:
        BadInputError: it is no working file of this benchmark.
    """
    try:
        return [Run.model_validate_json(line) for line in complete_lines(content).splitlines()]
    except ValidationError:
        problem = "it is no working file of this benchmark, or it is damaged"
        raise BadInputError("--work", path, problem, "name another file") from None


def compute(args: Args, file: BinaryIO, missing: Sequence[Key]) -> Iterator[Run]:
    """Run what is missing, and append each run to the working file."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.processes, mp_context=context) as pool:
        futures = [pool.submit(_run, args.data, args.plain, key) for key in missing]
        try:
            for number, future in enumerate(as_completed(futures), start=1):
                found = future.result()
                append_line(file, found)
                if number % 50 == 0 or number == len(futures):
                    print(f"{number} of {len(futures)} runs", file=sys.stderr, flush=True)
                yield found
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def figures(summaries: Sequence[Summary]) -> Iterator[Figure]:
    """Yield the regret of each arm against random draws, at some budgets."""
    known = {(each.clock, each.table, each.arm, each.budget): each for each in summaries}
    for summary in sorted(summaries, key=lambda each: (each.clock, each.table, each.budget)):
        baseline = known.get((summary.clock, summary.table, BASELINE, summary.budget))
        if baseline is None or summary is baseline or summary.budget not in SHOWN:
            continue
        name = f"{summary.table}, {summary.clock} {summary.budget}: {summary.arm}"
        p = summary.p_random
        ratio = summary.regret / baseline.regret if baseline.regret else float(summary.regret > 0)
        yield Figure(
            f"{name} against {BASELINE} (± {summary.error:.3f}, n {summary.seeds})",
            summary.regret,
            baseline.regret,
            ratio,
            "" if p is None else f"p {p:.2g}",
            "points",
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison."""
    args = parse(arguments)
    names = args.tables or available(args.data, args.plain)
    known = tables_of(args.data, args.plain)
    for name in names:
        if name not in known:
            raise BadInputError("--tables", name, "unknown table", f"use of {', '.join(known)}")
    if not names:
        raise BadInputError("--data", args.data, "no table is there", "name the folder of tables")
    if args.quick and args.work == WORK:
        args.work = Path("runs/search_quality_quick.jsonl")
    # One thread each: numpy and torch of the worker processes read these variables.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    args.work.parent.mkdir(parents=True, exist_ok=True)
    with args.work.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            problem = "another process writes to it"
            raise BadInputError("--work", args.work, problem, "wait, or name another") from None
        runs = read_runs(drop_incomplete_line(file), args.work)
        wanted = list(keys_of(args, names))
        done = {_key(each) for each in runs}
        runs += compute(args, file, [key for key in wanted if key not in done])
    chosen = set(wanted)
    table = Table(args.json)
    for figure in figures(summarise(each for each in runs if _key(each) in chosen)):
        table.add(figure)
    if args.write:
        current = list(_current(runs, args))
        everything, results = summarise(current), HERE / "results"
        floors = {each: _table(args.data, args.plain, each).floor for each in names}
        write_csv(results / "search_quality.csv", everything)
        write_goals(results / "search_quality_goals.csv", goals(current))
        shown = [each for each in everything if each.clock in args.clocks and each.table in floors]
        draw(results / "search_quality.svg", shown, floors)


def _key(found: Run) -> Key:
    return Key(**found.model_dump(exclude={"regrets"}))


def _current(runs: Sequence[Run], args: Args) -> Iterator[Run]:
    """Yield the runs of the tables that are there, by arms as they are."""
    names = available(args.data, args.plain)
    for each in runs:
        if each.table in names and each.arm in ARMS:
            table = _table(args.data, args.plain, each.table)
            if _key(each) == key_of(each.clock, table, each.arm, each.seed):
                yield each


if __name__ == "__main__":
    try:
        main()
    except BadInputError as error:
        sys.exit(f"error: {error}")
