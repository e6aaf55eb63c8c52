"""The command line: help, exit codes, and one line for bad input."""

from __future__ import annotations

import csv
import errno
import importlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from optuna.samplers import RandomSampler
from PIL import Image

from search import cli
from search.cli import app, main
from search.driver.deletion import plan_deletion
from search.driver.outcome import SearchFailedError
from search.experiment.folder import Home
from search.experiment.loading import parse_experiment
from search.loop.packing import Packing
from search.study.database import Database
from search.study.file_lock import hold
from search.study.study import Study
from search.tracking.journal import Journal
from search.tracking.journal_events import PARENT
from spaces.architecture import Architecture, Builder
from spaces.errors import BadInputError
from spaces.operations import Add, Convolution, GlobalPooling, Linear
from spaces.task import Task

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = sorted(typer.main.get_command(app).commands)


@dataclass(frozen=True)
class Answer:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


Ask = Callable[..., Answer]


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the empty working folder of the user; home and cache are beside it."""
    folder = tmp_path / "user"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "BORDERLINE_", "RAY_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("BORDERLINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BORDERLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    return folder


@pytest.fixture
def ask(user: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Return a function that runs the command line in this process."""

    def call(*arguments: str | Path) -> Answer:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return call


@pytest.fixture
def refused(user: Path, ask: Ask, tmp_path: Path) -> Callable[..., str]:
    """Return a function that checks for a refusal: one line, code 2, nothing written."""

    def call(*arguments: str | Path) -> str:
        before = sorted([*user.rglob("*"), *(tmp_path / "home").rglob("*")])
        answer = ask(*arguments)
        assert_refusal(answer)
        assert sorted([*user.rglob("*"), *(tmp_path / "home").rglob("*")]) == before
        return answer.err

    return call


def assert_refusal(answer: Answer) -> None:
    assert answer.code == 2
    # Nothing else is said, except about images that were read before.
    assert [line for line in answer.out.splitlines() if not line.startswith("data: ")] == []
    assert answer.err.startswith("search.py: ")
    assert answer.err.count("\n") == 1
    assert answer.err.endswith("\n")
    assert "Traceback" not in answer.err


def written(folder: Path, **fields: Any) -> Path:
    path = folder / "mine.yaml"
    path.write_text(json.dumps({"data": "digits", **fields}))
    return path


# Help


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_has_a_valid_example(ask: Ask, command: str) -> None:
    answer = ask(command, "--help")
    assert (answer.code, answer.err) == (0, "")
    text = " ".join(answer.out.split())
    (example,) = re.findall(rf"Example: python search\.py ({command} .*)$", text)
    options = set(re.findall(r"--[a-z-]+", answer.out.split("Example:")[0]))
    assert set(re.findall(r"--[a-z-]+", example)) <= options
    assert "[OPTIONS]" in text


def test_help_lists_every_command(ask: Ask) -> None:
    answer = ask("--help")
    assert answer.code == 0
    assert {"run", "screen", "analyze", "status", "report"} <= set(COMMANDS)
    for command in COMMANDS:
        assert re.search(rf"^  {command} +\w", answer.out, re.MULTILINE)


def test_help_imports_neither_torch_nor_ray() -> None:
    program = (
        "import sys\nfrom search.cli import main\n"
        f"assert [main([command, '--help']) for command in {COMMANDS}] == [0] * {len(COMMANDS)}\n"
        "print(*sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(result.stdout.splitlines()[-1].split())
    assert "search.cli" in loaded
    assert not loaded & {"torch", "ray", "mlflow"}


# Global options


@pytest.mark.parametrize("before", [True, False])
def test_home_may_stand_before_or_after_the_command(user: Path, ask: Ask, before: bool) -> None:
    option = ["--home", str(user / "elsewhere")]
    answer = ask(*option, "status") if before else ask("status", *option)
    assert answer.code == 0
    assert f"no search in {user / 'elsewhere'} yet" in answer.out


def test_home_of_the_command_precedes_the_one_before_it(user: Path, ask: Ask) -> None:
    answer = ask("--home", user / "first", "status", "--home", user / "second")
    assert f"no search in {user / 'second'} yet" in answer.out


@pytest.mark.parametrize("before", [True, False])
def test_verbose_adds_the_traceback_of_an_error(user: Path, ask: Ask, before: bool) -> None:
    command = ["report", "nowhere"]
    answer = ask("--verbose", *command) if before else ask(*command, "--verbose")
    assert answer.code == 2
    assert answer.err.startswith("Traceback (most recent call last)")
    assert answer.err.splitlines()[-1].startswith("search.py: NAME = nowhere: ")
    assert "Traceback" not in ask(*command).err


def test_verbose_adds_where_a_search_is_kept(user: Path, ask: Ask, tmp_path: Path) -> None:
    path = written(user, recipe={"batch_size": 5000})
    where = f"folder {tmp_path / 'home' / 'mine'}; study in {tmp_path / 'home' / 'mine'}/study.db"
    assert where in ask("--verbose", "run", path).err
    assert where not in ask("run", path).err


def test_version_is_that_of_the_project(ask: Ask) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert ask("--version") == Answer(0, f"borderline {project['version']}\n", "")


def test_installed_command_is_the_entry_of_the_command_line() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, name = project["scripts"]["borderline"].partition(":")
    assert getattr(importlib.import_module(module), name) is cli.start


def test_installed_command_names_itself_in_messages(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/opt/venv/bin/borderline"])
    monkeypatch.setattr("shutil.which", lambda _: "/opt/venv/bin/borderline")
    assert ask("report", "nowhere").err.startswith("borderline: NAME = nowhere: ")
    assert ask("status").out.endswith("start one: borderline\n")
    assert "Example: borderline report quickstart" in ask("report", "--help").out


def test_command_to_copy_finds_the_script_from_another_folder(
    user: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["../project/search.py"])
    assert ask("status").out.endswith("start one: python ../project/search.py\n")
    (user / "search.py").write_text("")
    monkeypatch.setattr(sys, "argv", [str(user / "search.py")])
    assert ask("status").out.endswith("start one: python search.py\n")


def test_shell_completes_names_of_searches(finished: Home, user: Path) -> None:
    completed = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.argv[0] = 'borderline'; from search.cli import main; main([])",
        ],
        cwd=ROOT,
        env=os.environ
        | {
            "_BORDERLINE_COMPLETE": "complete_bash",
            "COMP_WORDS": "borderline report do",
            "COMP_CWORD": "2",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.stdout.split() == ["done"]


# Invalid command lines


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["frobnicate"], "frobnicate"),
        (["run"], "EXPERIMENT.yaml"),
        (["run", "mine.yaml", "--frobnicate"], "--frobnicate"),
        (["run", "mine.yaml", "other.yaml"], "other.yaml"),
        (["run", "mine.yaml", "--set"], "--set"),
        (["screen", "mine.yaml", "--draws", "0"], "--draws"),
        (["screen", "mine.yaml", "--draws", "many"], "--draws"),
        (["report"], "NAME"),
        (["analyze"], "NETWORK"),
        (["analyze", "first:1", "--resolution", "0"], "--resolution"),
        (["--frobnicate"], "--frobnicate"),
    ],
)
def test_invalid_command_line_is_refused_in_one_line(
    refused: Callable[..., str], arguments: list[str], says: str
) -> None:
    assert says in refused(*arguments)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["status", "nowhere"], "NAME = nowhere"),
        (["report", "nowhere"], "NAME = nowhere"),
        (["sync", "nowhere"], "NAME = nowhere"),
        (["analyze", "nowhere:1"], "nowhere"),
        (["analyze", "nowhere"], "nowhere"),
        (["analyze", "nowhere.json"], "nowhere.json"),
        (["report", ".."], "NAME = .."),
    ],
)
def test_unknown_search_is_refused(
    refused: Callable[..., str], arguments: list[str], field: str
) -> None:
    assert field in refused(*arguments)


def test_program_refuses_a_missing_experiment_in_one_line(
    tmp_path: Path, command_line: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    result = command_line("run", "none.yaml", cwd=tmp_path)
    assert_refusal(Answer(result.returncode, result.stdout, result.stderr))
    assert "none.yaml" in result.stderr
    assert list(tmp_path.iterdir()) == []


# Invalid experiment files


@pytest.mark.parametrize("command", ["run", "screen"])
@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"epoch": 3}, "epoch = 3: unknown field; did you mean epochs?"),
        ({"epochs": "three"}, "epochs = three: "),
        ({"budget": {"trials": 0}}, "budget.trials = 0: "),
        ({"data": "digit"}, "data = digit: "),
        ({"data": "images:nowhere"}, "data = images:"),
        ({"resolution": 100_000}, "resolution = 100000: "),
        ({"space": "vgh"}, "space = vgh: unknown family; did you mean vgg?"),
        ({"space": {"dept": 3}}, "space.dept = 3: "),
        ({"space": {"depth": [5, 2]}}, "space.depth = [5, 2]: "),
        ({"space": {"kernel": 4}}, "space.kernel = 4: "),
        ({"recipe": {"lr": 0.1}}, "recipe.lr = 0.1: "),
        ({"recipe": {"learning_rate": "1e-3"}}, "recipe.learning_rate = 1e-3: "),
        ({"recipe": {"batch_size": 0}}, "recipe.batch_size = 0: "),
        ({"space": "nowhere_to_be_found:space"}, "cannot be imported (ModuleNotFoundError"),
        ({"space": "json:nothing_there"}, "Python's own module json has no nothing_there"),
    ],
)
def test_invalid_experiment_is_refused_in_one_line(
    user: Path, refused: Callable[..., str], command: str, fields: dict[str, Any], says: str
) -> None:
    assert says in refused(command, written(user, **fields))


@pytest.mark.parametrize("field", ["epochs=three", "nonsense", "space.dept=3"])
def test_invalid_override_is_refused_in_one_line(
    user: Path, refused: Callable[..., str], field: str
) -> None:
    assert field.partition("=")[0] in refused("run", written(user), "--set", field)


def test_space_without_accepted_candidates_is_refused(
    user: Path, refused: Callable[..., str]
) -> None:
    line = refused("run", written(user, space={"depth": [9, 12]}))
    assert (
        "space = vgg: the screens reject 1,000 of 1,000 random candidates (border 1,000; " in line
    )
    assert "raise the resolution" in line


def test_batch_larger_than_the_data_is_refused(user: Path, refused: Callable[..., str]) -> None:
    assert "recipe.batch_size = 5000: " in refused(
        "run", written(user, recipe={"batch_size": 5000})
    )


def test_length_in_images_gives_epochs_before_they_are_checked(
    user: Path, refused: Callable[..., str]
) -> None:
    path = written(user, recipe={"schedule": "multi_step", "milestones": [3]}, epochs="2k images")
    line = refused("run", path)
    assert "recipe.milestones = [3]: 3 is not before the end of the 2 epochs" in line


@pytest.mark.parametrize(
    ("augmentation", "says"),
    [
        ({"crop": 8}, "augmentation.crop = 8: does not fit images of 8x8 pixels; use 7 or less"),
        ({"cutout": 9}, "augmentation.cutout = 9: does not fit images of 8x8 pixels"),
        ({"crop": 1, "translate": 0.1}, "augmentation.translate = 0.1: augmentation.crop shifts"),
        ({"mixup": 0}, "augmentation.mixup = 0: is not allowed; use a number above 0, or leave"),
    ],
)
def test_augmentation_that_does_not_fit_images_is_refused(
    user: Path, refused: Callable[..., str], augmentation: dict[str, Any], says: str
) -> None:
    assert says in refused("run", written(user, augmentation=augmentation))


SPACES = {
    "raising": (
        "def space(trial, task):\n    return 1 / 0\n",
        "the space function raised ZeroDivisionError",
    ),
    "failing_import": ("raise RuntimeError('not today')\n", "cannot be imported (RuntimeError"),
    "misspelt": ("def space(trial, task)\n    pass\n", "cannot be imported (SyntaxError"),
    "no_function": ("space = 3\n", "is not a function"),
    "returning_text": ("def space(trial, task):\n    return 'x'\n", "returned a str"),
    "bad_option": (
        "from spaces.vgg import vgg\ndef space(trial, task):\n"
        "    return vgg(trial, task, kernel=4)\n",
        "4 is not an odd size",
    ),
    "demanding": ("def space(trial, task, *, width):\n    pass\n", "width"),
}


@pytest.mark.parametrize("command", ["run", "screen"])
@pytest.mark.parametrize("name", sorted(SPACES))
def test_broken_user_space_is_refused_in_one_line(
    user: Path,
    refused: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    name: str,
) -> None:
    source, says = SPACES[name]
    module = f"{name}_for_{command}"
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (user / f"{module}.py").write_text(source)
    path = written(user, space=f"{module}:space")
    line = refused(command, path)
    assert says in line
    if name in ("raising", "failing_import", "misspelt", "returning_text", "bad_option"):
        assert f"{module}.py, line " in line
    sys.modules.pop(module, None)


@pytest.mark.parametrize("command", ["run", "screen"])
def test_space_with_mismatched_shapes_is_refused_in_one_line(
    user: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def mismatch(trial: Any, task: Task) -> Architecture:
        builder = Builder(task.image_shape)
        sides = (builder.add(Convolution(n), builder.image) for n in (2, 3))
        x = builder.add(GlobalPooling(), builder.add(Add(), *sides))
        builder.add(Linear(task.classes), x)
        return builder.build()

    def three_classes(trial: Any, task: Task) -> Architecture:
        builder = Builder(task.image_shape)
        builder.add(Linear(3), builder.image)
        return builder.build()

    for function, says in ((mismatch, "only equal shapes"), (three_classes, "(3, 1, 1)")):
        monkeypatch.setattr(sys.modules["json"], "my_space", function, raising=False)
        line = refused(command, written(user, space="json:my_space"))
        assert says in line
        assert f"({__file__}, line {function.__code__.co_firstlineno})" in line


# Invalid images


def image(size: int = 8, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), (9, 99, 199)).save(buffer, kind)
    return buffer.getvalue()


def tar_of(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:xz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def zip_of(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def good_images() -> dict[str, bytes]:
    return {f"{label}/{n}.png": image() for label in ("cat", "dog") for n in range(20)}


def folder_of(path: Path, members: dict[str, bytes]) -> None:
    for name, content in members.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)


def test_missing_data_path_is_named(user: Path, refused: Callable[..., str]) -> None:
    line = refused("run", written(user, data="images:nowhere.tar.xz"))
    assert line.startswith("search.py: data = images:")
    assert "nowhere.tar.xz" in line


@pytest.mark.parametrize("name", ["photos.tar.xz", "photos.tar", "photos.zip"])
def test_corrupt_archive_is_named(user: Path, refused: Callable[..., str], name: str) -> None:
    whole = user / "whole"
    (zip_of if name.endswith("zip") else tar_of)(whole, good_images())
    content = whole.read_bytes()
    (user / name).write_bytes(content[: len(content) // 2] if "xz" in name else b"no archive" * 99)
    assert name in refused("run", written(user, data=f"images:{name}"))


@pytest.mark.parametrize("make", [tar_of, zip_of])
@pytest.mark.parametrize("member", ["../outside/1.png", "/outside/1.png", "cat/../../outside.png"])
def test_archive_member_outside_its_folder_is_refused(
    user: Path, refused: Callable[..., str], make: Callable[..., None], member: str, tmp_path: Path
) -> None:
    name = "photos.zip" if make is zip_of else "photos.tar.xz"
    make(user / name, good_images() | {member: image()})
    line = refused("run", written(user, data=f"images:{name}"))
    assert "outside" in line
    assert not list(tmp_path.rglob("outside*"))
    assert not Path("/outside").exists()


def test_class_folder_without_images_is_named(user: Path, refused: Callable[..., str]) -> None:
    folder_of(user / "photos", good_images() | {"empty/readme.txt": b"nothing"})
    line = refused("run", written(user, data="images:photos"))
    assert "empty" in line


@pytest.mark.parametrize("content", [b"not an image at all", image()[:-40], b""])
def test_unreadable_image_is_named(user: Path, refused: Callable[..., str], content: bytes) -> None:
    folder_of(user / "photos", good_images() | {"cat/broken.png": content})
    assert "cat/broken.png" in refused("run", written(user, data="images:photos"))


def test_images_of_different_sizes_require_a_resolution(
    user: Path, refused: Callable[..., str], ask: Ask
) -> None:
    folder_of(user / "photos", good_images() | {"cat/large.png": image(16)})
    assert "resolution" in refused("run", written(user, data="images:photos"))
    again = written(user, data="images:photos", resolution=8)
    answer = ask("screen", again, "--draws", "5")
    assert (answer.code, answer.err) == (0, "")


# Names and homes


@pytest.fixture
def finished(user: Path, tmp_path: Path, vgg_space: Any) -> Home:
    """Return a home with a small search whose candidates are drawn but not trained."""
    home = Home(tmp_path / "home")
    folder = home.folder("done")
    options = {"depth": [1, 8], "features": [2, 6], "kernel": [3, 5]}
    recipe = {"batch_size": [16, 32]}
    experiment = parse_experiment({"name": "done", "space": options, "recipe": recipe})
    folder.create(experiment.to_yaml(), Task(1, 8, 8, 10))
    database = Database(folder.study, "done")
    study = Study("done", RandomSampler(seed=0), database=database)
    space = vgg_space(recipe)
    for _ in range(4):
        trial = study.ask()
        candidate = space.draw(trial)
        attributes = {"digest": candidate.digest, "params": candidate.costs.params}
        if candidate.architecture.layers[-1].inputs:
            study.reject(trial, "border", 1.0, attributes)
    database.close()
    return home


@pytest.mark.parametrize("way", [{"name": "done"}, {"set": "name=done"}])
def test_existing_search_name_is_refused(
    user: Path, finished: Home, refused: Callable[..., str], way: dict[str, str]
) -> None:
    arguments = ["--set", way["set"]] if "set" in way else []
    fields = {"name": way["name"]} if "name" in way else {}
    assert "name = done: " in refused("run", written(user, **fields), *arguments)


def test_home_that_is_a_file_is_refused(user: Path, refused: Callable[..., str]) -> None:
    (user / "file").write_text("")
    assert "file" in refused("report", "done", "--home", "file")


def test_status_of_empty_home_shows_how_to_start(ask: Ask, tmp_path: Path) -> None:
    answer = ask("status")
    assert answer.code == 0
    assert "python search.py" in answer.out
    assert not (tmp_path / "home").exists()


def test_status_lists_searches_beside_a_damaged_one(
    finished: Home, ask: Ask, refused: Callable[..., str]
) -> None:
    finished.folder("fresh").create("name: fresh\n", Task(1, 8, 8, 10))
    finished.folder("odd").create("name: odd\nepochs: many\n", Task(1, 8, 8, 10))
    answer = ask("status")
    assert (answer.code, answer.err) == (0, "")
    assert re.search(r"^ *done +0/30 +0 +0 +0 +border 4", answer.out, re.MULTILINE)
    assert re.search(r"^ *fresh +\w", answer.out, re.MULTILINE)
    assert re.search(r"^ *odd +\w", answer.out, re.MULTILINE)
    assert "fresh" in refused("status", "fresh")
    assert "epochs = many" in refused("status", "odd")


def test_search_without_trained_trials_has_a_report(finished: Home, ask: Ask) -> None:
    answer = ask("report", "done", "--against", "done")
    assert (answer.code, answer.err) == (0, "")
    assert "0 candidates trained" in answer.out
    assert "4 candidates rejected" in answer.out
    assert finished.folder("done").report.is_file()


def test_report_is_printed_if_its_page_cannot_be_written(
    finished: Home, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    answer = ask("report", "done")
    assert "0 candidates trained" in answer.out
    (line,) = answer.err.splitlines()
    assert (answer.code, "No space left on device" in line) == (2, True)


@pytest.mark.parametrize("content", [None, "", '{"half'])
@pytest.mark.parametrize("file", ["task.json", "experiment.yaml"])
@pytest.mark.parametrize("command", ["report", "resume"])
def test_missing_or_damaged_file_of_a_search_is_named(
    finished: Home, refused: Callable[..., str], command: str, file: str, content: str | None
) -> None:
    damaged = finished.folder("done").path / file
    finished.folder("done").lock.touch()  # Every driver creates this file.
    damaged.unlink()
    if content is not None:
        damaged.write_text(content)
    line = refused(command, "done")
    assert str(damaged) in line


def test_search_without_identity_is_not_resumed(
    finished: Home, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.driver.run.connected", lambda _: nullcontext())
    monkeypatch.setattr("search.driver.run.plan_packing", lambda *_: Packing(cpus=1, fixed=0.0))
    identity = finished.folder("done").path / "id"
    identity.unlink()
    answer = ask("resume", "done")
    (line,) = answer.err.splitlines()
    assert (answer.code, str(identity) in line) == (2, True)


def test_damaged_finalist_results_are_named(finished: Home, refused: Callable[..., str]) -> None:
    results = finished.folder("done").finalists / "results.json"
    results.parent.mkdir()
    results.write_text('[{"number": 1}]')
    assert f"{results} is damaged" in refused("report", "done")


def test_search_without_study_is_not_resumed(finished: Home, refused: Callable[..., str]) -> None:
    folder = finished.folder("done")
    with Journal(folder.journal) as journal:
        journal.start(PARENT, "done")
        journal.start("0", "trial 0")
    folder.study.unlink()
    folder.lock.touch()
    assert f"its study is missing from {folder.study}" in refused("resume", "done")


def test_report_against_unknown_search_changes_nothing(
    finished: Home, refused: Callable[..., str]
) -> None:
    assert "nowhere" in refused("report", "done", "--against", "nowhere")


# analyze


LAYER_KEYS = {
    *("index", "name", "kind", "kernel", "stride", "field_min", "field_max"),
    *("exact", "productive", "params", "macs"),
}


def test_json_analysis_has_the_documented_keys(finished: Home, ask: Ask) -> None:
    answer = ask("analyze", "done:2", "--json")
    assert (answer.code, answer.err) == (0, "")
    document = json.loads(answer.out)
    assert set(document) - {"remedies"} == {
        *("model", "resolution", "rule", "border", "layers", "params", "macs", "measured"),
    }
    assert (document["model"], document["resolution"]) == ("done:2", [8, 8])
    assert document["rule"] == "previous-conv"
    assert [layer["index"] for layer in document["layers"]] == list(
        range(1, len(document["layers"]) + 1)
    )
    for layer in document["layers"]:
        assert set(layer) >= LAYER_KEYS
        assert len(layer["field_min"]) == len(layer["kernel"]) == len(layer["stride"]) == 2
        assert layer["productive"] == (
            document["border"] is None or layer["index"] < document["border"]
        )
    # Norms and the linear head have the remaining parameters.
    assert 0 < sum(layer["params"] for layer in document["layers"]) < document["params"]


def candidate_file(path: Path, architecture: Architecture) -> Path:
    graph = json.loads(architecture.to_json())
    path.write_text(json.dumps({"params": {}, "architecture": graph}))
    return path


def test_analyze_applies_rule_and_resolution_to_a_file(
    user: Path, ask: Ask, plain: Callable[..., Architecture]
) -> None:
    path = candidate_file(user / "candidate.json", plain("c c c p c c", size=7))
    borders = {}
    for rule in ("previous-conv", "direct-input", "non-strict"):
        answer = ask("analyze", path, "--json", "--rule", rule)
        assert (answer.code, answer.err) == (0, "")
        borders[rule] = json.loads(answer.out)["border"]
    assert borders == {"previous-conv": 5, "direct-input": 4, "non-strict": 4}
    larger = json.loads(ask("analyze", path, "--json", "--resolution", "64").out)
    assert (larger["border"], larger["resolution"]) == (None, [64, 64])
    assert "conv1" in ask("analyze", path).out


def test_brackets_in_a_path_are_printed_as_text(
    user: Path, ask: Ask, plain: Callable[..., Architecture]
) -> None:
    (user / "[red]").mkdir()
    path = candidate_file(user / "[red]" / "c.json", plain("c"))
    answer = ask("analyze", path.relative_to(user))
    assert answer.code == 0
    assert "[red]/c.json" in answer.out


def test_brackets_in_a_layer_name_are_printed_as_text(user: Path, ask: Ask) -> None:
    builder = Builder((1, 8, 8))
    builder.add(Convolution(4), builder.image, name="[/red]")
    answer = ask("analyze", candidate_file(user / "c.json", builder.build()))
    assert (answer.code, answer.err) == (0, "")
    assert "[/red]" in answer.out


def mismatched() -> str:
    builder = Builder((1, 8, 8))
    builder.add(Convolution(4, groups=3), builder.image)
    return builder.build().to_json()


def collapsing() -> str:
    builder = Builder((1, 8, 8))
    builder.add(Convolution(4, (9, 9), padding=(0, 0)), builder.image)
    return builder.build().to_json()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"null",
        b"{}",
        b'{"architecture": 3}',
        b'{"format": 1, "layers": [{}]}',
        b'{"format": 99, "layers": []}',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        mismatched().encode(),
        collapsing().encode(),
        mismatched().replace('"groups": 3', '"groups": 0').encode(),
    ],
    ids=range(14),
)
def test_invalid_candidate_file_is_refused_in_one_line(
    user: Path, refused: Callable[..., str], content: bytes
) -> None:
    (user / "odd.json").write_bytes(content)
    assert "odd.json" in refused("analyze", "odd.json")


@pytest.mark.parametrize("number", ["99", "-1", "²", "x", "", "1.5"])
def test_unknown_trial_is_refused_in_one_line(
    finished: Home, refused: Callable[..., str], number: str
) -> None:
    assert f"done:{number}" in refused("analyze", f"done:{number}")


def test_refusal_of_unknown_rule_lists_known_rules(
    finished: Home, refused: Callable[..., str]
) -> None:
    line = refused("analyze", "done:1", "--rule", "strict")
    assert "--rule = strict" in line
    assert "previous-conv, direct-input, non-strict" in line


# screen


def test_screen_shows_the_percentage_of_each_outcome(user: Path, ask: Ask, tmp_path: Path) -> None:
    path = written(user, space={"depth": [1, 12], "kernel": 3}, seed=1)
    answer = ask("screen", path, "--draws", "200", "--set", "screens.max_params=5000")
    assert (answer.code, answer.err) == (0, "")
    rows = re.findall(r"^ *(\w+) +(\d+) +(\d+\.\d)%", answer.out, re.MULTILINE)
    counts = {reason: int(number) for reason, number, _ in rows}
    assert {"accepted", "border", "params"} <= set(counts)
    assert sum(counts.values()) == 200
    assert all(float(percentage) == pytest.approx(int(n) / 2) for _, n, percentage in rows)
    assert ask("screen", path, "--draws", "200", "--set", "screens.max_params=5000") == answer
    assert not (tmp_path / "home").exists()


def test_screen_shows_images_and_where_each_option_comes_from(user: Path, ask: Ask) -> None:
    answer = ask("screen", written(user, space={"depth": [1, 4]}), "--draws", "5")
    assert "Dataset(10 classes of 8x8x1: " in answer.out
    assert re.search(r"^ space\.depth +\[1, 4\] +experiment", answer.out, re.MULTILINE)
    assert re.search(r"^ space\.kernel +\[3, 5\] +default", answer.out, re.MULTILINE)
    assert re.search(r"^ recipe\.optimizer +muon +default", answer.out, re.MULTILINE)


def test_screen_prints_one_json_document(user: Path, ask: Ask) -> None:
    answer = ask("screen", written(user, space={"depth": [1, 4]}), "--draws", "50", "--json")
    document = json.loads(answer.out)
    assert document["options"]["space.depth"] == {"value": [1, 4], "default": False}
    assert document["options"]["space.kernel"] == {"value": [3, 5], "default": True}
    assert sum(each["candidates"] for each in document["results"].values()) == 50
    assert (document["data"]["height"], len(document["data"]["classes"])) == (8, 10)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"space": {"depth": [9, 12]}}, "the screens reject 1,000 of 1,000 random candidates"),
        ({"recipe": {"batch_size": 5000}}, "recipe.batch_size = 5000: "),
        ({"augmentation": {"crop": 8}}, "augmentation.crop = 8: does not fit"),
        ({"sampler": "gp"}, "sampler = gp: models fixed spaces only"),
        ({"enqueue": ["vgg16"]}, "enqueue = vgg16: is not in the space"),
        ({"warm_start": ["nowhere"]}, "warm_start = nowhere: no such search"),
    ],
)
def test_screen_refuses_what_a_search_refuses(
    user: Path, ask: Ask, fields: dict[str, Any], says: str
) -> None:
    path = written(user, **fields)
    screened, searched = ask("screen", path, "--draws", "5"), ask("run", path)
    assert screened.code == searched.code == 2
    assert says in screened.err
    assert screened.err.splitlines()[-1] == searched.err.splitlines()[-1]


def test_screen_shows_why_a_space_is_refused(user: Path, ask: Ask) -> None:
    answer = ask("screen", written(user, space={"depth": [9, 12]}), "--draws", "20")
    assert re.search(r"^ border +20 +100\.0%", answer.out, re.MULTILINE)


# Interruptions and internal errors


def test_interrupted_command_exits_with_130(
    user: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("search.reporting.status.show_status", interrupted)
    assert ask("status") == Answer(130, "", "interrupted\n")


@pytest.mark.parametrize(
    ("arguments", "stream", "code"), [(["status"], "stdout", 0), (["status", "none"], "stderr", 2)]
)
def test_closed_pipe_does_not_change_the_exit_code(
    user: Path, arguments: list[str], stream: str, code: int
) -> None:
    """Ctrl-C also ends a ``tee`` that reads the output; the search must still end normally."""
    with subprocess.Popen(
        [sys.executable, ROOT / "search.py", *arguments],
        cwd=user,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        pipe = getattr(process, stream)
        assert pipe is not None
        pipe.close()
        assert process.wait(60) == code


@pytest.mark.parametrize(
    ("interrupted", "answer"),
    [(True, Answer(130, "", "interrupted\n")), (False, Answer(0, "", ""))],
)
def test_exit_code_is_130_if_interrupted_else_0(
    user: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch, interrupted: bool, answer: Answer
) -> None:
    outcome = type("Outcome", (), {"interrupted": interrupted})
    monkeypatch.setattr("search.driver.run.run_search", lambda *_, **__: outcome)
    assert ask("run", written(user)) == answer


def test_failed_search_exits_with_1_and_one_line(
    user: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise SearchFailedError("the first trials all failed (no such device)")

    monkeypatch.setattr("search.driver.run.run_search", fail)
    expected = "search.py: the first trials all failed (no such device)\n"
    assert ask("run", written(user)) == Answer(1, "", expected)


def test_internal_error_is_raised(user: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("search.reporting.status.show_status", broken)
    with pytest.raises(ZeroDivisionError):
        ask("status")


def test_quickstart_uses_the_next_free_name(
    user: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names: list[str] = []

    def run(experiment: Any, home: Home, *_: Any, **__: Any) -> Any:
        names.append(experiment.name)
        home.folder(experiment.name).create(experiment.to_yaml(), Task(1, 8, 8, 10))
        return type("Outcome", (), {"interrupted": False})

    monkeypatch.setattr("search.driver.run.run_search", run)
    assert [ask().code, ask().code, ask("--home", tmp_path / "other").code] == [0, 0, 0]
    assert names == ["quickstart", "quickstart-2", "quickstart"]


# Reading commands and deletion


def test_list_names_every_search_and_its_folder(finished: Home, ask: Ask) -> None:
    answer = ask("list")
    assert re.search(r"^ done +\d{4}-\d\d-\d\dT\S+ +digits +vgg +\d", answer.out, re.MULTILINE)
    (document,) = json.loads(ask("list", "--json").out)
    assert (document["name"], document["folder"]) == ("done", str(finished.folder("done").path))
    assert (document["data"], document["space"]) == ("digits", "vgg")


@pytest.mark.parametrize("command", [["status"], ["status", "done"], ["report", "done"]])
def test_json_of_a_search_has_its_state_and_counts(
    finished: Home, ask: Ask, command: list[str]
) -> None:
    answer = ask(*command, "--json")
    assert (answer.code, answer.err) == (0, "")
    document = json.loads(answer.out)
    (found,) = document if command == ["status"] else [document]
    assert (found["name"], found["state"], found["rejected"]) == (
        "done",
        "interrupted",
        {"border": 4},
    )
    if command[0] == "report":
        assert [row["outcome"] for row in found["trials"]] == ["rejected"] * 4
        assert "Leaderboard" in [section["heading"] for section in found["sections"]]


def test_json_of_a_damaged_search_has_its_error(finished: Home, ask: Ask) -> None:
    finished.folder("odd").create("name: odd\nepochs: many\n", Task(1, 8, 8, 10))
    done, odd = json.loads(ask("status", "--json").out)
    assert done["state"] == "interrupted"
    assert "epochs = many" in odd["error"]


def test_trials_are_listed_as_table_csv_and_json(finished: Home, ask: Ask) -> None:
    rows = json.loads(ask("trials", "done", "--json").out)
    assert [row["trial"] for row in rows] == [0, 1, 2, 3]
    assert all(row["outcome"] == "rejected" and row["reason"] == "border" for row in rows)
    assert all(isinstance(row["param.depth"], int) for row in rows)
    lines = list(csv.DictReader(io.StringIO(ask("trials", "done", "--csv").out)))
    assert [line["param.depth"] for line in lines] == [str(row["param.depth"]) for row in rows]
    assert list(lines[0]) == list(rows[0])
    assert re.search(r"^ 3 +rejected ", ask("trials", "done").out, re.MULTILINE)


def test_trials_in_two_forms_are_refused(finished: Home, refused: Callable[..., str]) -> None:
    assert "use one of the two" in refused("trials", "done", "--csv", "--json")


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("done", "write e.g. quickstart:3"),
        ("done:x", "write e.g. quickstart:3"),
        ("done:4", "it has trials 0 to 3"),
        ("none:1", "no such search"),
    ],
)
def test_explain_refuses_what_is_no_trial(
    finished: Home, refused: Callable[..., str], reference: str, says: str
) -> None:
    assert says in refused("explain", reference)


def test_delete_asks_before_it_removes_a_search(
    finished: Home, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finished.folder("done")
    answer = ask("delete", "done")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "add --yes" in answer.err
    assert f"folder {folder.path} (" in answer.out
    assert folder.path.is_dir()
    answer = ask("delete", "done", "--yes")
    assert (answer.code, answer.err) == (0, "")
    assert not folder.path.exists()
    assert ask("delete", "done").code == 2


def test_running_search_is_not_deleted(finished: Home, refused: Callable[..., str]) -> None:
    folder = finished.folder("done")
    with hold(folder.lock, "done"):
        assert "is running (by process" in refused("delete", "done", "--yes")
    assert folder.study.is_file()


def test_search_with_a_night_is_not_deleted(finished: Home, refused: Callable[..., str]) -> None:
    folder = finished.folder("done")
    with hold(folder.nightly_lock, "done", "its night"):
        assert "is running (by process" in refused("delete", "done", "--yes")
    assert folder.study.is_file()


def test_search_that_starts_before_the_answer_stays(finished: Home) -> None:
    folder = finished.folder("done")
    deletion = plan_deletion(finished, "done", keep_runs=True)
    with hold(folder.lock, "done"), pytest.raises(BadInputError, match="is running"):
        deletion.carry_out()
    assert folder.study.is_file()


def test_linked_search_is_refused_before_anything_is_deleted(
    finished: Home, tmp_path: Path, refused: Callable[..., str]
) -> None:
    folder = finished.folder("done").path
    (moved := tmp_path / "moved").mkdir()
    folder.symlink_to(folder.rename(moved / "done"))
    assert f"is a symbolic link to {moved / 'done'}" in refused("delete", "done", "--yes")
    assert (moved / "done" / "study.db").is_file()


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        ("space", "space=mine_space:space"),
        ("data", "data=mine_data:dataset"),
        ("metric", "metrics=[mine_metric:metric]"),
        ("augmentation", "augmentation.function=mine_augmentation:augment"),
    ],
)
def test_new_module_works_as_it_is(user: Path, ask: Ask, kind: str, setting: str) -> None:
    answer = ask("new", kind, f"mine_{kind}.py")
    assert (answer.code, answer.out) == (0, f"mine_{kind}.py\n")
    assert f"--set {setting}" in answer.err
    screened = ask("screen", written(user), "--set", setting, "--draws", "10")
    assert (screened.code, screened.err) == (0, "")
    assert "accepted" in screened.out


def test_new_module_overwrites_nothing(user: Path, refused: Callable[..., str]) -> None:
    (user / "my_space.py").write_text("mine = 1")
    assert "my_space.py: exists" in refused("new", "space")
    assert (user / "my_space.py").read_text() == "mine = 1"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sapce"], "use space, data, metric"),
        (["space", "my-space.py"], "is no name of a module"),
        (["space", "space.txt"], "is no name of a module"),
        (["space", "nowhere/space.py"], "cannot be written (No such file"),
    ],
)
def test_new_module_needs_a_kind_and_a_name(
    refused: Callable[..., str], arguments: list[str], says: str
) -> None:
    assert says in refused("new", *arguments)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def metric(labels, predictions):\n    return 1 / 0\n", "raised ZeroDivisionError"),
        ("def metric(labels):\n    return 1\n", "raised TypeError"),
        ("def metric(labels, predictions):\n    return 'good'\n", "raised ValueError"),
        ("def metric(labels, predictions):\n    return float('nan')\n", "returned nan"),
        ("metric = 3\n", "is not a function"),
    ],
)
def test_broken_metric_is_refused_before_training(
    user: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, source: str, says: str
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = f"metric_{zlib.crc32(source.encode())}"
    (user / f"{module}.py").write_text(source)
    line = refused("run", written(user, metrics=[f"{module}:metric"]))
    assert f"metrics = {module}:metric: {says}" in line
    if "1 / 0" in source or "nan" in source:
        assert f"{module}.py, line " in line
