"""Resuming a search on other data is refused; equal data elsewhere are accepted."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import pytest

from search.driver.data_check import check_data, search_again
from search.driver.resume import load_resumed
from search.experiment.folder import Home, SearchFolder
from search.experiment.loading import load_experiment, parse_experiment
from spaces.errors import BadInputError
from spaces.task import Task
from trainables.data_identity import ClassIdentity, DataIdentity

STARTED = DataIdentity(
    (ClassIdentity("airplane", (8, 1, 1), "a"), ClassIdentity("bird", (8, 1, 1), "b")),
    ("1", "2", "3"),
    (8, 8, 1),
    "",
)
CHANGED = dataclasses.replace(
    STARTED,
    classes=(
        ClassIdentity("bird", (8, 1, 1), "b"),
        ClassIdentity("zeppelin", (48, 6, 6), "c"),
    ),
    splits=("4", "5", "6"),
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def folder(home: Home) -> SearchFolder:
    """Return the folder of a search of the user's own images."""
    folder = home.folder("mine")
    experiment = parse_experiment({"name": "mine", "data": "images:/old", "warm_start": ["first"]})
    folder.create(experiment.to_yaml(), Task(1, 8, 8, 2), STARTED)
    return folder


def test_refusal_names_the_difference_and_the_command(home: Home, folder: SearchFolder) -> None:
    (home.path / "mine-2").mkdir()
    moved = ["data=csv:/new place/t.csv", "table.root=/new", 'table.split=""', r"groups=(\d)"]
    experiment = load_resumed(folder, moved)
    with pytest.raises(BadInputError) as caught:
        check_data(folder, experiment, CHANGED, search_again(folder, experiment))
    line = str(caught.value)
    assert "\n" not in line
    assert "since the search started: new class zeppelin; airplane is gone; 50 images more" in line
    command = shlex.split(line[line.index("python search.py run") :])
    assert command[4:6] == ["--home", str(home.path)]
    # The command is one that works, and takes over everything else.
    again = load_experiment(Path(command[3]), command[7::2])
    assert again.name == "mine-3"
    assert again.warm_start == ["first", "mine"]
    assert (again.data, again.table, again.groups) == (
        experiment.data,
        experiment.table,
        experiment.groups,
    )
    assert (again.table.root, again.table.split) == ("/new", "")
    assert set(command[6::2]) == {"--set"}


def test_unchanged_data_are_accepted_in_silence(home: Home, folder: SearchFolder) -> None:
    experiment = load_resumed(folder, ["budget.trials=+1"])
    assert check_data(folder, experiment, STARTED, "") == ""


def test_moved_data_are_accepted_with_a_line(folder: SearchFolder) -> None:
    moved = load_resumed(folder, ["data=images:s3://bucket/new/"])
    line = check_data(folder, moved, STARTED, "")
    assert line == (
        "the data moved from images:/old to images:s3://bucket/new/; their content is the same"
    )


@pytest.mark.parametrize("override", ["data=digits", "validation=0.3", "subset=0.5", "seed=1"])
def test_other_sets_and_splits_are_refused_before_any_image_is_read(
    folder: SearchFolder, override: str
) -> None:
    with pytest.raises(BadInputError, match="a resumed search must keep"):
        load_resumed(folder, [override])


def test_search_without_location_keeps_the_fields_of_its_data(home: Home) -> None:
    folder = home.folder("digits")
    experiment = parse_experiment({"name": "digits"})
    folder.create(experiment.to_yaml(), Task(1, 8, 8, 2), STARTED)
    with pytest.raises(BadInputError, match=r"groups .*must keep"):
        load_resumed(folder, [r"groups=(\d)"])


def without_record(folder: SearchFolder) -> SearchFolder:
    (folder.path / "data.json").unlink()
    return folder


def test_search_without_a_record_adopts_its_data_with_a_line(folder: SearchFolder) -> None:
    older = without_record(folder)
    experiment = load_resumed(older, [])
    line = check_data(older, experiment, STARTED, "")
    assert "search mine has no record of the data" in line
    assert STARTED.describe() in line
    other = dataclasses.replace(STARTED, shape=(16, 16, 1))
    with pytest.raises(BadInputError, match="its images are"):
        check_data(older, experiment, other, "")


def test_search_without_a_record_cannot_move_its_data(folder: SearchFolder) -> None:
    with pytest.raises(BadInputError, match="must keep 'images:/old'"):
        load_resumed(without_record(folder), ["data=images:/new"])


def test_damaged_record_of_the_data_is_refused(folder: SearchFolder) -> None:
    (folder.path / "data.json").write_text("{}")
    with pytest.raises(BadInputError, match=r"data\.json cannot be read .*restore the file"):
        _ = folder.data
