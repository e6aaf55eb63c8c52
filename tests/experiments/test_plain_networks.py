"""The table of plain networks: draws, resumption, columns and files."""

from __future__ import annotations

import gzip
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.plain_networks import __main__ as command
from experiments.plain_networks.networks import draw_networks
from experiments.plain_networks.protocols import CIFAR10, DIGITS, PROTOCOLS
from experiments.plain_networks.records import Measurement, Row
from experiments.plain_networks.table import analyse, read_table, row, write_table
from experiments.plain_networks.training import Job
from experiments.plain_networks.twins import twin
from experiments.plain_networks.working_file import Header, open_working_file, read_working_file
from spaces.architecture import Architecture
from spaces.border import Rule, find_border
from spaces.errors import BadInputError
from tests.spaces.drawing import random_trial

HEADER = Header(protocol="p", data="d")


def measurement(number: int = 0, seed: int = 0, **changed: object) -> Measurement:
    drawn = draw_networks(DIGITS, number + 1)[number]
    fields = {
        "number": number,
        "seed": seed,
        "digest": drawn.digest,
        "params": drawn.params,
        "accuracy": 0.9571,
        "validation_accuracy": 0.9453,
        "test_accuracy": 0.969,
        "test_loss": 0.12,
        "train_accuracy": 1.0,
        "validation_accuracies": (0.91, 0.9453),
        "validation_losses": (0.3, 0.2001),
        "train_losses": (1.5, 0.01),
        "cpu_seconds": 0.52,
        "versions": "python 3, torch 2",
    }
    return Measurement.model_validate(fields | changed)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """One epoch on few digits, for the name ``digits``."""
    protocol = replace(
        DIGITS, train=40, validation=30, test=20, epochs=1, depth=(2, 3), features=(2, 4)
    )
    monkeypatch.setattr(command, "PROTOCOLS", {"digits": protocol})


def run(folder: Path, *options: str) -> list[Row]:
    arguments = ["digits", "--work", str(folder), "--out", str(folder), *options]
    assert command.main(arguments) == 0
    rows = read_table(folder / "digits.csv.gz")
    return [row.model_copy(update={"cpu_seconds": 0.0}) for row in rows]


@pytest.mark.usefixtures("tiny")
def test_killed_run_continues_to_the_same_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run(tmp_path / "whole", "--networks", "2", "--seeds", "2")
    assert [(row.number, row.seed) for row in whole] == [(n, s) for n in range(2) for s in range(2)]

    killed = tmp_path / "killed" / "digits.jsonl"
    killed.parent.mkdir()
    content = (tmp_path / "whole" / "digits.jsonl").read_bytes()
    header_and_two = content.splitlines(keepends=True)[:3]
    killed.write_bytes(b"".join(header_and_two) + content[-200:-1])  # The last line is incomplete.
    capsys.readouterr()
    assert run(killed.parent, "--networks", "2", "--seeds", "2") == whole
    assert "2 of 4 trainings are finished" in capsys.readouterr().err
    assert killed.read_bytes().startswith(b"".join(header_and_two))
    assert run(killed.parent, "--write") == whole


@pytest.mark.usefixtures("tiny")
def test_truncated_twins_are_trained_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deep = replace(command.PROTOCOLS["digits"], depth=(9, 9), kernel=(5,))
    monkeypatch.setattr(command, "PROTOCOLS", {"digits": deep})
    options = ["digits", "--work", str(tmp_path), "--out", str(tmp_path), "--networks", "3"]
    assert command.main([*options, "--twins", "2", "--seeds", "1"]) == 0
    rows = read_table(tmp_path / "twins-digits.csv.gz")
    assert [each.number for each in rows] == [0, 0, 1, 1]
    for with_border, without in zip(rows[::2], rows[1::2], strict=True):
        network = deep.space().rebuild(with_border.params).architecture
        border = find_border(network).border
        assert border is not None
        assert (with_border.depth, with_border.border_previous_conv) == (border, border)
        assert (without.depth, without.border_previous_conv) == (border - 1, None)
    capsys.readouterr()
    assert command.main([*options, "--twins", "2", "--seeds", "1"]) == 0
    assert "4 of 4 trainings are finished" in capsys.readouterr().err


@pytest.mark.usefixtures("tiny")
def test_equal_twins_of_two_networks_are_both_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed run trains the twin of the second network, although the first one has an equal."""
    protocol = command.PROTOCOLS["digits"]
    drawn = draw_networks(protocol, 1)[0]
    networks = [drawn, replace(drawn, number=1)]
    jobs = [Job(network, 0) for network in networks]
    monkeypatch.setattr(command, "_jobs", lambda *_: jobs)
    trained: list[int] = []

    def train_all(_protocol: object, _data: object, jobs: list[Job], _workers: int) -> object:
        for job in jobs:
            trained.append(job.network.number)
            yield measurement(digest=drawn.digest).model_copy(update={"number": trained[-1]})

    monkeypatch.setattr(command, "train_all", train_all)
    path = tmp_path / "digits.jsonl"
    options = ["digits", "--work", str(tmp_path), "--networks", "1"]
    monkeypatch.setattr(command, "_write", lambda *_: None)
    assert command.main(options) == 0
    first_only = b"".join(path.read_bytes().splitlines(keepends=True)[:2])
    path.write_bytes(first_only)
    assert command.main(options) == 0
    assert trained == [0, 1, 1]


def test_accepted_network_has_no_twin() -> None:
    border_last = DIGITS.space().rebuild(
        {"kernel": 5, "depth": 3, "convs_before_pool_1": 3}
        | {f"features_{number}": 8 for number in range(1, 4)}
    )
    assert find_border(border_last.architecture).border == 3
    for keep_border in (True, False):
        with pytest.raises(ValueError, match="no convolution"):
            twin(border_last, keep_border=keep_border)


def test_write_option_trains_nothing(tmp_path: Path) -> None:
    header = Header(protocol=DIGITS.digest, data="d")
    with open_working_file(tmp_path / "digits.jsonl", header) as file:
        file.append(measurement())
    (written,) = run(tmp_path, "--write")
    assert written.accuracy == 0.9571


@pytest.mark.parametrize("option", ["--networks", "--seeds", "--workers"])
def test_numbers_below_one_are_refused(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["digits", "--work", str(tmp_path), "--out", str(tmp_path), option, "0"]
    assert command.main(arguments) == command.BAD_INPUT
    assert capsys.readouterr().err == f"{option} = 0: is below 1; use 1 or more\n"


def test_working_file_of_another_protocol_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "digits.jsonl"
    with open_working_file(path, HEADER):
        pass
    for other, problem in (
        (Header(protocol="q", data="d"), "another protocol"),
        (Header(protocol="p", data="e"), "other images"),
    ):
        with pytest.raises(BadInputError, match=problem), open_working_file(path, other):
            pass
    with pytest.raises(BadInputError, match="another protocol"):
        read_working_file(path, "q")


def test_working_file_has_one_writer(tmp_path: Path) -> None:
    path = tmp_path / "digits.jsonl"
    refused = pytest.raises(BadInputError, match="another process writes to it")
    with open_working_file(path, HEADER), refused, open_working_file(path, HEADER):
        pass


def test_measurements_survive_the_working_file(tmp_path: Path) -> None:
    path = tmp_path / "digits.jsonl"
    diverged = measurement(seed=1, test_loss=math.nan, train_losses=(math.inf, math.nan))
    with open_working_file(path, HEADER) as file:
        file.append(measurement())
        file.append(diverged)
    assert repr(read_working_file(path, "p")) == repr([measurement(), diverged])


def test_protocol_digest_changes_with_recipe_and_images_alone() -> None:
    assert replace(DIGITS, networks=1).digest == DIGITS.digest
    assert replace(DIGITS, learning_rate=0.01).digest != DIGITS.digest
    assert replace(DIGITS, train=100).digest != DIGITS.digest


def test_more_networks_continue_the_same_draws() -> None:
    few, many = draw_networks(DIGITS, 5), draw_networks(DIGITS, 40)
    assert many[:5] == few
    assert len({drawn.digest for drawn in many}) == 40
    assert {drawn.params["depth"] for drawn in many} == set(range(2, 11))


def test_splits_are_balanced_disjoint_and_fixed() -> None:
    first, second = DIGITS.load(), DIGITS.load()
    splits = [set(rows.tolist()) for rows in (first.train, first.validation, first.test)]
    assert [len(rows) for rows in splits] == [300, 750, 747]
    assert len(set.union(*splits)) == 1797
    assert [int((first.labels[first.train] == c).sum()) for c in range(10)] == [30] * 10
    assert (first.train == second.train).all()


def test_images_of_another_table_are_refused() -> None:
    with pytest.raises(BadInputError, match="needs Task"):
        replace(CIFAR10, resized=False).load("digits")


def test_table_reads_as_written_and_bytes_are_stable(tmp_path: Path) -> None:
    rows = analyse(DIGITS, [measurement(n, s) for n in range(4) for s in range(2)])
    write_table(tmp_path / "a.csv.gz", reversed(rows))
    write_table(tmp_path / "b.csv.gz", rows)
    assert read_table(tmp_path / "a.csv.gz") == rows
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()


@pytest.mark.parametrize("fault", ["cut", "other", "empty", "missing", "plain"])
def test_damaged_table_is_refused(fault: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    write_table(path, analyse(DIGITS, [measurement()]))
    whole = path.read_bytes()
    contents = {
        "cut": whole[:-20],
        "other": gzip.compress(b"a,b\n1,2\n"),
        "empty": gzip.compress(b""),
        "plain": b"a,b\n1,2\n",
    }
    path.unlink()
    if fault in contents:
        path.write_bytes(contents[fault])
    with pytest.raises(BadInputError, match=f"table = {path}: it cannot be read"):
        read_table(path)


def fields_of(network: Architecture) -> list[int]:
    return [field.smallest[0] for field in find_border(network).fields]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(sorted(PROTOCOLS)))
def test_border_columns_agree_with_border_analysis(seed: int, name: str) -> None:
    protocol = PROTOCOLS[name]
    trial = random_trial(seed)
    candidate = protocol.space().draw(trial)
    network = candidate.architecture
    found = row(measurement(digest=candidate.digest, params=trial.params), candidate)
    previous, direct, loose = (find_border(network, rule) for rule in Rule)
    assert (found.border_previous_conv, found.beyond_previous_conv) == (
        previous.border,
        previous.beyond,
    )
    assert (found.border_direct_input, found.beyond_direct_input) == (direct.border, direct.beyond)
    assert (found.border_non_strict, found.beyond_non_strict) == (loose.border, loose.beyond)
    assert found.depth == len(found.features) == len(found.fields) == trial.params["depth"]
    assert list(found.fields) == fields_of(network)

    # The columns of depth, kernel and pooling positions alone lead to the same fields.
    field, jump, expected = 1, 1, []
    for number in range(1, found.depth + 1):
        field += (found.kernel - 1) * jump
        expected.append(field)
        if number in found.pool_after:
            field += jump
            jump *= 2
    assert list(found.fields) == expected
    assert found.features == tuple(
        trial.params[f"features_{number}"] for number in range(1, found.depth + 1)
    )


@pytest.mark.parametrize(
    ("before_pools", "borders"),
    [
        # Fields 3, 8, 18: the second pooling layer sees 10 pixels of 8.
        ((1, 1, 3), (4, 3, 3)),
        # Fields 3, 5, 7, 12: the pooling layer sees all 8 pixels, but no more.
        ((3, 2), (5, 5, 4)),
    ],
)
def test_border_columns_tell_the_rules_apart(
    before_pools: tuple[int, ...], borders: tuple[int, int, int]
) -> None:
    params = {"kernel": 3, "depth": 5} | {f"features_{number}": 8 for number in range(1, 6)}
    for number, convolutions in enumerate(before_pools, start=1):
        params[f"convs_before_pool_{number}"] = convolutions
    found = row(measurement(params=params), DIGITS.space().rebuild(params))
    assert (
        found.border_previous_conv,
        found.border_direct_input,
        found.border_non_strict,
    ) == borders
    assert (
        found.beyond_previous_conv,
        found.beyond_direct_input,
        found.beyond_non_strict,
    ) == tuple(5 - border for border in borders)
