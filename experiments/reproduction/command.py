"""The command ``python search.py reproduce``: trains what is missing, and writes the page."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import cast, get_args

from cluster.files import write_atomically
from experiments.published import NAMES, find
from experiments.reproduction.images import Places, read_places
from experiments.reproduction.page import Run, build_page, mixed_conditions
from experiments.reproduction.progress import Progress
from experiments.reproduction.records import Case, Protocol, ProtocolName, Result
from experiments.reproduction.results_file import read_results, write_results
from experiments.reproduction.training import ImageCache, Job, make_trainer, training_key
from experiments.reproduction.workers import run_jobs
from experiments.reproduction.working_file import WorkingFile
from search.console import note, output
from spaces.errors import BadInputError
from spaces.schedules import OneCycle
from trainables.training.device import select_device

WORKING_FILE = "trainings.jsonl"
CHECKPOINTS = "checkpoints"
_ALL_IMAGES = 50_000
"""Number of training images of a case that uses all of a set; only ratios matter."""
_QUICK_TRAIN, _QUICK_SCORED = 200, 100


@dataclass(frozen=True)
class Request:
    """The options of the command.

    Attributes:
        name: of the experiment.
        protocol: ``reduced`` or ``full``; None for ``full`` on a GPU, else ``reduced``.
        data: values of ``--data``; see `experiments.reproduction.images.read_places`.
        work: folder of the working file and the page.
        workers: number of processes; None for one per processor core, or one on a GPU.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        quick: whether to check the installation with one epoch on few images.
        write: whether to train nothing and write the page of the finished trainings.
        results: folder for CSV files; None for none.
        from_: folder of CSV files to write the page from, without training; None to train.
    """

    name: str
    protocol: str | None = None
    data: Sequence[str] = field(default_factory=tuple)
    work: Path = Path("runs/reproductions")
    workers: int | None = None
    device: str = "auto"
    quick: bool = False
    write: bool = False
    results: Path | None = None
    from_: Path | None = None


def list_experiments() -> None:
    """Print the name, title and time of each experiment."""
    for name in NAMES:
        experiment = find(name)
        minutes = experiment.protocols["reduced"].minutes
        time_text = "" if minutes is None else f" (reduced: about {minutes:.0f} CPU minutes)"
        output(f"{name:20} {experiment.title}{time_text}")
    output("\nRun one: python search.py reproduce NAME")


def reproduce(request: Request) -> Path:
    """Run an experiment, or continue it, and return the path of its page.

    Raises:
        BadInputError: an option or the images cannot be used.
    """
    experiment = find(request.name)
    _make_folder("--work", request.work)
    if request.results is not None:
        _make_folder("--results", request.results)
    name, protocol = _choose_protocol(request)
    cases = list(protocol.cases())
    stem = experiment.name if name == "reduced" else f"{experiment.name}-{name}"
    if request.from_ is not None:
        results = read_results(request.from_, stem, cases)
    else:
        results = _results(request, protocol, cases)
    if not results:
        option, folder = ("--write", request.work)
        if request.from_ is not None:
            option, folder = ("--from", request.from_)
        problem = "no training of this experiment is finished"
        raise BadInputError(option, folder, problem, f"run the command without {option}")
    if request.results is not None:
        for path in write_results(request.results, stem, results):
            note(f"results: {path}")
    if mixed := mixed_conditions(results):
        note(f"note: {mixed}")
    page = build_page(
        Run(
            experiment,
            name,
            protocol,
            results,
            len(planned_jobs(protocol, cases)),
            _command(experiment.name, name, request),
        )
    )
    path = request.work / f"{stem}.html"
    write_atomically(path, page)
    return path


def _make_folder(option: str, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = f"the folder cannot be created ({error.strerror})"
        raise BadInputError(option, folder, problem, "name another folder") from None
    if not os.access(folder, os.W_OK):
        raise BadInputError(option, folder, "the folder is read-only", "name another folder")


def _choose_protocol(request: Request) -> tuple[str, Protocol]:
    protocols = find(request.name).protocols
    select_device(request.device)
    if request.workers is not None and request.workers < 1:
        raise BadInputError("--workers", request.workers, "is below 1", "use 1 or more")
    chosen = request.protocol
    if chosen is None:
        on_gpu = select_device(request.device).device.type == "cuda"
        chosen = "full" if on_gpu and not request.quick else "reduced"
    if chosen not in get_args(ProtocolName):
        remedy = f"use {' or '.join(get_args(ProtocolName))}"
        raise BadInputError("--protocol", chosen, "unknown protocol", remedy)
    protocol = protocols[cast("ProtocolName", chosen)]
    return ("quick", _quick(protocol)) if request.quick else (chosen, protocol)


def _quick(protocol: Protocol) -> Protocol:
    """Return the protocol with one seed and one epoch on few images."""
    return replace(
        protocol, cases=lambda: [_quick_case(case) for case in protocol.cases()], seeds=1
    )


def _quick_case(case: Case) -> Case:
    recipe = replace(case.candidate.recipe, schedule=OneCycle(), batch_size=20)
    images = replace(case.images, train=_QUICK_TRAIN, validation=_QUICK_SCORED, test=_QUICK_SCORED)
    return replace(
        case,
        candidate=replace(case.candidate, recipe=recipe),
        images=images,
        epochs=1,
        probe_images=_QUICK_SCORED,
        abort=None,
        seeds=None,
    )


def _results(request: Request, protocol: Protocol, cases: Sequence[Case]) -> list[Result]:
    """Train what is missing, unless only finished trainings are wanted; return all results."""
    places = read_places(request.data, cases)
    images = ImageCache(places)
    planned = planned_jobs(protocol, cases)
    jobs = {training_key(job, images.load(job.case)): job for job in planned}
    file = WorkingFile(request.work / WORKING_FILE)
    if not request.write:
        _train(request, places, jobs, file)
    done = file.read()
    order = {case.name: number for number, case in enumerate(cases)}
    return [
        Result(job.case, done[key])
        for job in sorted(planned, key=lambda job: (order[job.case.name], job.seed))
        if (key := training_key(job, images.load(job.case))) in done
    ]


def planned_jobs(protocol: Protocol, cases: Sequence[Case]) -> list[Job]:
    """Return all trainings of a protocol, seed by seed, so that a part covers all cases.

    Args:
        protocol: of the experiment.
        cases: of the protocol.
    """
    return [
        Job(case, seed)
        for seed in range(max(case.seeds or protocol.seeds for case in cases))
        for case in cases
        if seed < (case.seeds or protocol.seeds)
    ]


def _train(request: Request, places: Places, jobs: dict[str, Job], file: WorkingFile) -> None:
    done = file.read()
    pending = {key: job for key, job in jobs.items() if key not in done}
    progress = Progress(
        request.name.replace("-", "_"),
        total=len(jobs),
        finished=len(jobs) - len(pending),
        work=sum(map(_work, pending.values())),
    )

    def missing() -> Iterator[Job]:
        for key, job in pending.items():
            if key in file.read():  # Another process has trained it meanwhile.
                progress.skip(_work(job))
            else:
                yield job

    trainer = partial(make_trainer, places, request.device, request.work / CHECKPOINTS)
    workers = max(1, min(_workers(request), len(pending)))
    for outcome in run_jobs(trainer, missing(), workers):
        file.append(outcome)
        job = pending[outcome.key]
        progress.advance(_work(job), f"last: {job.case.name}, seed {job.seed}")


def _work(job: Job) -> float:
    """Return the multiply-accumulates of all forward passes."""
    case = job.case
    return case.candidate.costs.macs * case.epochs * (case.images.train or _ALL_IMAGES)


def _workers(request: Request) -> int:
    if request.workers is not None:
        return request.workers
    if select_device(request.device).device.type == "cuda":
        return 1
    return len(os.sched_getaffinity(0))


def _command(name: str, protocol: str, request: Request) -> str:
    option = "--quick" if protocol == "quick" else f"--protocol {protocol}"
    data = "".join(f" --data {each}" for each in request.data)
    return f"python search.py reproduce {name} {option}{data}"
