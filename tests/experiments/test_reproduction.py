"""The command reproduce: resumption, shared trainings, pages, files of results and bad input."""

from __future__ import annotations

import csv
import math
import re
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from experiments.published import NAMES, find
from experiments.reproduction import checkpoint, command, workers
from experiments.reproduction.command import Request, planned_jobs, reproduce
from experiments.reproduction.figures import draw, draw_file
from experiments.reproduction.images import LoadedImages, load_images
from experiments.reproduction.page import Run, build_page
from experiments.reproduction.records import (
    Abort,
    Case,
    Chart,
    Experiment,
    Images,
    Mark,
    Outcome,
    Page,
    Point,
    Probes,
    Protocol,
    Publication,
    Result,
    Section,
    Series,
    Table,
)
from experiments.reproduction.results_file import read_results, write_results
from experiments.reproduction.training import Job, train, training_key
from search import cli
from spaces.architecture import Builder
from spaces.candidate import Candidate
from spaces.errors import BadInputError
from spaces.operations import Activation, Convolution, GlobalPooling, Linear, Norm
from spaces.recipe import Recipe
from spaces.task import Task
from trainables.probes.records import LayerProbes
from trainables.specs import Augmentation
from trainables.training.loop import Training

TASK = Task(channels=1, height=8, width=8, classes=10)
IMAGES = Images("digits", TASK, train=60, validation=20, test=30)
RECIPE = Recipe(
    learning_rate=0.1, weight_decay=0.0, batch_size=20, label_smoothing=0.0, momentum=0.9
)


def case(name: str = "narrow", width: int = 2, **changed: Any) -> Case:
    net = Builder(TASK.image_shape)
    operations = (Convolution(width), Norm("batch"), Activation("relu"), GlobalPooling("average"))
    for number, operation in enumerate((*operations, Linear(10))):
        net.add(operation, number, name=f"layer{number}")
    candidate = Candidate(net.build(), RECIPE)
    changes = {"factors": {"width": width}} | changed
    return replace(Case(name, candidate, IMAGES, epochs=2), **changes)


def describe(results: Sequence[Result]) -> Page:
    rows = tuple((each.case.name, str(each.outcome.test_accuracy), "12.34 %") for each in results)
    chart = Chart("curve", "x", "y", (Series("own <b>", (Point(1, 2), Point(2, 3))),))
    return Page(
        ("Found.",), Table(("case", "measured", "published"), rows), (Section("s", parts=(chart,)),)
    )


def experiment(name: str, *cases: Case, seeds: int = 2) -> Experiment:
    protocol = Protocol(("All.",), ("Tiny.",), ("Chance.",), lambda: cases, seeds)
    return Experiment(
        name,
        f"Title of {name}",
        Publication("Doe", 2020, "On digits", "2001.00001"),
        "Does it work?",
        {"reduced": protocol, "full": replace(protocol, differences=("Another device.",))},
        describe,
    )


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Callable[[Experiment], None]:
    def register(chosen: Experiment) -> None:
        monkeypatch.setattr(command, "find", lambda _: chosen)

    return register


def run(folder: Path, **options: Any) -> str:
    request = Request("x", "reduced", work=folder, workers=1, device="cpu", **options)
    return reproduce(request).read_text(encoding="utf-8")


def outcome(**changed: object) -> Outcome:
    fields = {
        "key": "k",
        "seed": 0,
        "train_accuracy": 0.5,
        "test_accuracy": 0.4,
        "test_loss": 1.25,
        "train_accuracies": (0.3, 0.5),
        "validation_accuracies": (0.2, 0.4),
        "train_losses": (2.0, math.inf),
        "validation_losses": (2.0, 1.5),
        "params": 100,
        "trained_params": 90,
        "macs": 1000,
        "cpu_seconds": 1.5,
        "wall_seconds": 2.5,
        "images": "digits",
        "device": "CPU",
        "versions": "torch 2",
        "date": "2026-01-31",
    }
    return Outcome.model_validate(fields | changed)


PROBES = Probes(
    accuracy=0.4,
    images=30,
    border=None,
    disabled_features=0.25,
    layers=(
        LayerProbes("layer0", (3, 3), 2, (3, 3), (3, 3), True, 0.5, zero_kernel_accuracy=0.1),
        LayerProbes("layer5", (1, 1), 4, productive=False, mass_within=(0.5, 1.0)),
    ),
)


def test_killed_run_continues_to_the_same_results(
    registered: Callable[[Experiment], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registered(experiment("x", case(), case("wide", 3)))
    run(tmp_path / "whole", results=tmp_path / "whole")
    content = (tmp_path / "whole" / "trainings.jsonl").read_bytes()
    lines = content.splitlines(keepends=True)
    assert len(lines) == 4

    killed = tmp_path / "killed"
    killed.mkdir()
    (killed / "trainings.jsonl").write_bytes(lines[0] + lines[1][:-9])
    capsys.readouterr()
    run(killed, results=killed)
    assert "x: 1 of 4 trainings are finished\n" in capsys.readouterr().err
    assert (killed / "trainings.jsonl").read_bytes().startswith(lines[0])

    def numbers(folder: Path) -> list[tuple[str, dict[str, object]]]:
        results = read_results(folder, "x", [case(), case("wide", 3)])
        times = {"cpu_seconds", "wall_seconds"}
        return [(each.case.name, each.outcome.model_dump(exclude=times)) for each in results]

    assert numbers(killed) == numbers(tmp_path / "whole")
    assert [name for name, _ in numbers(killed)] == ["narrow", "narrow", "wide", "wide"]


def test_experiments_share_equal_trainings(
    registered: Callable[[Experiment], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registered(experiment("x", case(), seeds=1))
    run(tmp_path)
    other = case("other name", factors={"variant": "a"})
    registered(experiment("y", other, case("again"), seeds=1))
    assert "other name" in run(tmp_path)
    assert "x: 1 of 1 trainings are finished\n" in capsys.readouterr().err
    assert len((tmp_path / "trainings.jsonl").read_bytes().splitlines()) == 1


@pytest.fixture(scope="module")
def digits() -> LoadedImages:
    return load_images(IMAGES, "digits")


def test_long_training_continues_from_its_checkpoint(
    digits: LoadedImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(case(epochs=3), seed=1)
    whole = train(job, digits, "cpu", tmp_path)
    assert not list(tmp_path.iterdir())

    monkeypatch.setattr(checkpoint, "SAVE_EVERY", 0.0)
    run_epoch = Training.run_epoch

    def run_two_epochs(training: Training) -> object:
        if training.epoch == 2:
            raise KeyboardInterrupt
        return run_epoch(training)

    monkeypatch.setattr(Training, "run_epoch", run_two_epochs)
    with pytest.raises(KeyboardInterrupt):
        train(job, digits, "cpu", tmp_path)
    trained: list[int] = []

    def count(training: Training) -> object:
        trained.append(training.epoch)
        return run_epoch(training)

    monkeypatch.setattr(Training, "run_epoch", count)
    continued = train(job, digits, "cpu", tmp_path)
    assert trained == [2]
    times = {"cpu_seconds": 0.0, "wall_seconds": 0.0}
    assert continued.model_copy(update=times) == whole.model_copy(update=times)
    assert not list(tmp_path.iterdir())


def test_key_changes_with_everything_that_decides_the_numbers(digits: LoadedImages) -> None:
    cases = [
        case(),
        case(width=3),
        case(epochs=3),
        case(augmentation=Augmentation(crop=1)),
        case(probes=("disabled",)),
        case(probes=("disabled",), probe_images=20),
        case(abort=Abort(1, 0.5)),
    ]
    jobs = [*(Job(each, 0) for each in cases), Job(case(), 1)]
    keys = [training_key(job, digits) for job in jobs]
    keys.append(training_key(Job(case(), 0), replace(digits, digest="other")))
    assert len(set(keys)) == len(keys)
    renamed = case("renamed", factors={}, seeds=7)
    assert training_key(Job(renamed, 0), digits) == keys[0]


def test_training_without_progress_is_aborted(digits: LoadedImages, tmp_path: Path) -> None:
    found = train(Job(case(epochs=3, abort=Abort(1, 1.1)), 0), digits, "cpu", tmp_path)
    assert len(found.train_accuracies) == 1


def test_without_validation_images_test_images_are_scored(tmp_path: Path) -> None:
    images = replace(IMAGES, validation=0)
    found = train(Job(case(images=images), 0), load_images(images, "digits"), "cpu", tmp_path)
    assert found.validation_accuracies[-1] == found.test_accuracy


def test_images_are_balanced_and_fixed() -> None:
    first, second = load_images(IMAGES, "digits"), load_images(IMAGES, "digits")
    rows = first.dataset.train
    assert [int((first.dataset.labels[rows] == label).sum()) for label in range(10)] == [6] * 10
    assert first.digest == second.digest != load_images(replace(IMAGES, train=70), "digits").digest


def test_results_read_as_written(tmp_path: Path) -> None:
    cases = [case(), case("wide", 3)]
    results = [
        Result(cases[0], outcome(probes=PROBES)),
        Result(cases[0], outcome(seed=1)),
        Result(cases[1], outcome()),
    ]
    write_results(tmp_path, "x", results)
    assert read_results(tmp_path, "x", cases) == results
    changed = [case(width=4), cases[1]]
    with pytest.raises(BadInputError, match="no results of this version"):
        read_results(tmp_path, "x", changed)


def test_results_with_another_number_of_epochs_are_refused(tmp_path: Path) -> None:
    write_results(tmp_path, "x", [Result(case(), outcome())])
    with pytest.raises(BadInputError, match="narrow has epochs 2, but the protocol has 3"):
        read_results(tmp_path, "x", [case(epochs=3)])
    aborted = case(epochs=3, abort=Abort(2, 0.9))
    write_results(tmp_path, "x", [Result(aborted, outcome())])
    assert len(read_results(tmp_path, "x", [aborted])) == 1


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"augmentation": Augmentation(crop=2)}, "augmentation none, but the protocol has crop=2"),
        ({"images": replace(IMAGES, train=50)}, "train_images 60, but the protocol has 50"),
        ({"images": replace(IMAGES, source="mnist")}, "images digits, but the protocol has mnist"),
        ({"probes": ("field",)}, "probes none, but the protocol has field"),
        ({"abort": Abort(1, 0.5)}, "abort none, but the protocol has 1 0.5"),
    ],
)
def test_results_of_another_setting_are_refused(
    changed: dict[str, object], problem: str, tmp_path: Path
) -> None:
    write_results(tmp_path, "x", [Result(case(), outcome())])
    with pytest.raises(BadInputError, match=f"narrow has {problem}"):
        read_results(tmp_path, "x", [case(**changed)])


def test_results_without_the_file_of_their_probes_are_refused(tmp_path: Path) -> None:
    probed = case(probes=("saturation",))
    write_results(tmp_path, "x", [Result(probed, outcome(probes=PROBES))])
    assert read_results(tmp_path, "x", [probed])
    (tmp_path / "x.layers.csv").unlink()
    with pytest.raises(BadInputError, match="no results of this version"):
        read_results(tmp_path, "x", [probed])


def test_results_without_settings_are_read_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_results(tmp_path, "x", [Result(case(), outcome())])
    path = tmp_path / "x.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        del row["augmentation"], row["abort"]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert read_results(tmp_path, "x", [case()]) == [Result(case(), outcome())]
    assert "has no column augmentation, abort: not compared" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["work", "results"])
def test_folder_that_cannot_be_created_is_refused_before_training(
    registered: Callable[[Experiment], None], tmp_path: Path, option: str
) -> None:
    registered(experiment("x", case()))
    file = tmp_path / "file"
    file.touch()
    request = replace(Request("x", "reduced", work=tmp_path / "work"), **{option: file / "a"})
    with pytest.raises(BadInputError, match=rf"--{option} = .* cannot be created"):
        reproduce(request)
    assert not (tmp_path / "work" / "trainings.jsonl").exists()


def test_empty_result_file_names_its_option(
    registered: Callable[[Experiment], None], tmp_path: Path
) -> None:
    registered(experiment("x", case()))
    (tmp_path / "x.csv").touch()
    with pytest.raises(BadInputError, match=r"--from = .* no training"):
        run(tmp_path / "work", from_=tmp_path)


def test_page_is_written_from_result_files_without_training(
    registered: Callable[[Experiment], None], tmp_path: Path
) -> None:
    registered(experiment("x", case(), seeds=1))
    write_results(tmp_path, "x", [Result(case(), outcome(test_accuracy=0.4321))])
    page = run(tmp_path / "work", from_=tmp_path)
    assert "43.2 %" in page
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["x.html"]


def test_partial_page_says_what_is_missing(
    registered: Callable[[Experiment], None], tmp_path: Path
) -> None:
    registered(experiment("x", case(), case("wide", 3, seeds=1)))
    write_results(tmp_path, "x", [Result(case(), outcome())])
    assert "1 of 3 trainings are finished." in run(tmp_path, from_=tmp_path)


def test_page_gives_the_reasons_of_its_own_protocol(
    registered: Callable[[Experiment], None], tmp_path: Path
) -> None:
    registered(experiment("x", case(), seeds=1))
    for stem in ("x", "x-full"):
        write_results(tmp_path, stem, [Result(case(), outcome())])
    pages = {
        name: reproduce(Request("x", name, work=tmp_path, from_=tmp_path)).read_text("utf-8")
        for name in ("reduced", "full")
    }
    assert "Chance." in pages["reduced"]
    assert "Chance." not in pages["full"]
    assert "Another device." in pages["full"]


def test_page_says_that_trainings_differ_in_versions(
    registered: Callable[[Experiment], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    registered(experiment("x", case()))
    newer = outcome(seed=1, key="l", versions="torch 3")
    for results, is_mixed in (([outcome()], False), ([outcome(), newer], True)):
        write_results(tmp_path, "x", [Result(case(), each) for each in results])
        page = run(tmp_path, from_=tmp_path)
        text = "differ in device or versions (1 on CPU; torch 2, 1 on CPU; torch 3)"
        assert (text in page) == (text in capsys.readouterr().err) == is_mixed


def test_page_needs_no_other_file(tmp_path: Path) -> None:
    chosen = experiment("x", case())
    result = Result(case(), outcome(probes=PROBES))
    page = build_page(
        Run(chosen, "reduced", chosen.protocols["reduced"], [result], 2, "python <x>")
    )
    assert re.findall(r'(?:src|href|url)\W+"?([^">)]+)', page) == [
        "https://arxiv.org/abs/2001.00001"
    ]
    assert "prefers-color-scheme: dark" in page
    assert "python &lt;x&gt;" in page


def test_chart_leaves_out_points_that_are_not_finite() -> None:
    points = (Point(1, 0.5, 0.1), Point(2, math.nan), Point(3, 0.7, label="three"))
    chart = Chart("t", "depth", "accuracy", (Series("a<b", points),), (Mark(2, "border"),))
    drawing = draw(replace(chart, percent=True))
    assert drawing.count("<title>") == 2
    assert "nan" not in drawing
    for text in ("a&lt;b", "border", "<title>three</title>", "50 %"):
        assert text in drawing
    assert draw(replace(chart, series=(Series("a", ()),))) == "<p>t: no results yet</p>"


def test_chart_in_a_file_brings_its_own_colours() -> None:
    chart = Chart("t <1>", "x", "y", (Series("a", (Point(1, 2, label="hover"),)),))
    root = ElementTree.fromstring(draw_file(chart))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.findtext("{*}title") == "t <1>"
    style = root.findtext("{*}style") or ""
    assert "--c0:" in style
    assert "prefers-color-scheme: dark" in style
    with pytest.raises(ValueError, match="no results yet"):
        draw_file(replace(chart, series=()))


@pytest.mark.parametrize("value", [0.0, 0.001, 7.0, 1e6])
def test_chart_of_one_value_has_few_ticks(value: float) -> None:
    drawing = draw(Chart("t", "x", "y", (Series("a", (Point(value, value),)),)))
    assert 4 <= drawing.count('class="tick"') <= 18


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["batchnorm"], "reproduce = batchnorm: unknown experiment; did you mean batchnorm_only?"),
        (
            ["batchnorm-only", "--protocol", "half"],
            "--protocol = half: unknown protocol; use reduced or full",
        ),
        (["batchnorm_only", "--workers", "0"], "--workers = 0: is below 1; use 1 or more"),
        (
            ["batchnorm_only", "--data", "mnist=digits"],
            "--data = mnist=digits: the experiment does not use images of that name; use cifar10",
        ),
        (["batchnorm_only", "--device", "tpu"], "device = tpu: unknown device; use auto, cpu, "),
        (["batchnorm_only", "--data", "digits"], "--data = digits: its images make Task"),
        (["batchnorm_only", "--from", "nowhere"], "the file does not exist; run the experiment"),
    ],
)
def test_bad_input_prints_one_line(
    arguments: list[str],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if "--protocol" not in arguments:
        arguments = [*arguments, "--protocol", "reduced"]
    assert cli.main(["reproduce", *arguments]) == cli.BAD_INPUT
    printed = capsys.readouterr().err
    assert line in printed
    assert printed.count("\n") == 1


def test_damaged_working_file_is_refused(
    registered: Callable[[Experiment], None], tmp_path: Path
) -> None:
    registered(experiment("x", case()))
    (tmp_path / "trainings.jsonl").write_text("{}\n")
    with pytest.raises(BadInputError, match="no working file of this command"):
        run(tmp_path)


def test_one_set_of_several_needs_its_name(
    registered: Callable[[Experiment], None], tmp_path: Path
) -> None:
    other = case("other", images=replace(IMAGES, source="mnist"))
    registered(experiment("x", case(), other))
    with pytest.raises(BadInputError, match="uses digits, mnist; write digits=images:x"):
        run(tmp_path, data=("images:x",))


def test_missing_folder_of_experiments_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "experiments"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "experiments", None)
    assert cli.main(["reproduce"]) == cli.BAD_INPUT
    assert "the folder experiments/ is not installed; run" in capsys.readouterr().err


def test_results_that_are_ready_precede_the_error_of_another_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Threads stand for processes: one job fails while the other still runs."""
    failed = threading.Event()

    def work(job: str) -> str:
        if job == "bad":
            failed.set()
            raise BadInputError("job", job, "fails", "give another")
        assert failed.wait(5)
        return job

    def run_here(prepare: Callable[[], Callable[[str], str]]) -> None:
        monkeypatch.setattr(workers, "_run_here", prepare(), raising=False)

    monkeypatch.setattr(workers, "_prepare_worker", run_here)
    monkeypatch.setattr(
        workers,
        "ProcessPoolExecutor",
        lambda count, _, initializer, initargs: ThreadPoolExecutor(
            count, initializer=initializer, initargs=initargs
        ),
    )
    jobs = workers.run_jobs(lambda: work, ["good", "bad", "never started"], 2)
    assert next(jobs) == "good"
    with pytest.raises(BadInputError, match="job = bad"):
        next(jobs)


@pytest.mark.parametrize("name", NAMES)
def test_protocols_build_with_unique_names(name: str) -> None:
    for protocol in find(name).protocols.values():
        cases = protocol.cases()
        assert len({each.name for each in cases}) == len(cases) > 0
        for each in cases:
            task = each.images.task
            architecture = each.candidate.architecture
            assert architecture.shapes[0] == task.image_shape
            assert architecture.shapes[-1] == (task.classes, 1, 1)
            each.candidate.recipe.schedule.check(each.epochs)
            each.augmentation.check(task.height, task.width)


def test_first_seed_of_all_cases_is_trained_first() -> None:
    protocol = Protocol((), (), (), list, seeds=2)
    jobs = planned_jobs(protocol, [case("a"), case("b", seeds=1), case("c", seeds=3)])
    assert [f"{job.case.name}{job.seed}" for job in jobs] == ["a0", "b0", "c0", "a1", "c1", "c2"]
