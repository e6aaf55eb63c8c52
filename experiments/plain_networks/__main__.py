"""The command: ``python -m experiments.plain_networks DATASET``."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from statistics import fmean

from experiments.plain_networks import __doc__ as description
from experiments.plain_networks.networks import Drawn, draw_networks
from experiments.plain_networks.protocols import PROTOCOLS, Protocol
from experiments.plain_networks.records import Measurement
from experiments.plain_networks.table import RESULTS, analyse, write_table
from experiments.plain_networks.training import Job, train_all
from experiments.plain_networks.twins import rejected_networks, twin_rows
from experiments.plain_networks.working_file import Header, open_working_file, read_working_file
from experiments.reproduction.progress import Progress
from spaces.errors import BadInputError
from trainables.specs import Decoding

BAD_INPUT, INTERRUPTED = 2, 130
REPORT_EVERY = 30.0
"""Seconds between two lines of progress."""


class Args(argparse.Namespace):
    """The options."""

    dataset: str
    data: str | None
    networks: int | None
    seeds: int
    twins: int | None
    workers: int
    work: Path
    out: Path
    write: bool


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return the exit code."""
    args = _parser().parse_args(arguments, namespace=Args())
    protocol = PROTOCOLS[args.dataset]
    try:
        measurements = (
            read_working_file(_working_path(args), protocol.digest)
            if args.write
            else run(protocol, args)
        )
        _write(protocol, measurements, args)
    except BadInputError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("Interrupted. The same command continues.", file=sys.stderr)
        return INTERRUPTED
    return 0


def run(protocol: Protocol, args: Args) -> list[Measurement]:
    """Train the networks that are not trained yet, and return all finished trainings."""
    for option, value in (
        ("--networks", args.networks),
        ("--seeds", args.seeds),
        ("--twins", args.twins),
        ("--workers", args.workers),
    ):
        if value is not None and value < 1:
            raise BadInputError(option, value, "is below 1", "use 1 or more")
    dataset = protocol.load(args.data)
    networks = draw_networks(protocol, args.networks or protocol.networks)
    header = Header(protocol=protocol.digest, data=dataset.identify(Decoding()).digest)
    with open_working_file(_working_path(args), header) as file:
        # Twins of different networks can be equal; each network has its own rows.
        done = {(each.number, each.digest, each.seed) for each in file.measurements}
        jobs = [
            job
            for job in _jobs(protocol, networks, args)
            if (job.network.number, job.candidate(protocol).digest, job.seed) not in done
        ]
        total = len(done) + len(jobs)
        progress = Progress(_name(args), total, len(done), len(jobs), REPORT_EVERY)
        seconds = []
        for measurement in train_all(protocol, args.data, jobs, args.workers):
            file.append(measurement)
            seconds.append(measurement.cpu_seconds)
            progress.advance(1, f"{fmean(seconds):.2f} CPU s each")
        return file.measurements


def _jobs(protocol: Protocol, networks: list[Drawn], args: Args) -> list[Job]:
    """Return all trainings, seed by seed."""
    if args.twins is None:
        return [Job(network, seed) for seed in range(args.seeds) for network in networks]
    sample = rejected_networks(protocol, networks, args.twins)
    return [
        Job(network, seed, keep_border)
        for seed in range(args.seeds)
        for network in sample
        for keep_border in (True, False)
    ]


def _write(protocol: Protocol, measurements: list[Measurement], args: Args) -> None:
    rows = analyse if args.twins is None else twin_rows
    path = args.out / f"{_name(args)}.csv.gz"
    write_table(path, rows(protocol, measurements))
    seeds = Counter(each.digest for each in measurements)
    print(f"wrote {len(measurements):,} trainings of {len(seeds):,} networks to {path}")


def _name(args: Args) -> str:
    """Return the name of the table."""
    return args.dataset if args.twins is None else f"twins-{args.dataset}"


def _working_path(args: Args) -> Path:
    return args.work / f"{_name(args)}.jsonl"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.plain_networks",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", choices=list(PROTOCOLS), help="the table")
    parser.add_argument(
        "--data", metavar="SOURCE", help="source of its images, such as images:PATH"
    )
    parser.add_argument("--networks", type=int, help="number of networks (default: the table's)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each network")
    parser.add_argument(
        "--twins",
        type=int,
        metavar="N",
        help="instead train the truncated twins of N networks that the border screen rejects",
    )
    parser.add_argument("--workers", type=int, default=1, help="processes, with one thread each")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("runs/plain_networks"),
        metavar="FOLDER",
        help="folder of the working file, which holds each finished training",
    )
    parser.add_argument(
        "--out", type=Path, default=RESULTS, metavar="FOLDER", help="folder of the written table"
    )
    parser.add_argument(
        "--write", action="store_true", help="write the table from the finished trainings, now"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
