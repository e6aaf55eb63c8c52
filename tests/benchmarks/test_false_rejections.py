"""The benchmark that audits the border screen, on constructed tables."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import false_rejections
import numpy as np
import pytest

from experiments.plain_networks.networks import draw_networks
from experiments.plain_networks.protocols import DIGITS
from experiments.plain_networks.records import Measurement
from experiments.plain_networks.table import analyse, write_table


def write_digits(folder: Path, seeds: int = 2, networks: int = 60) -> None:
    """Write a table in which each convolution beyond the second costs a point of accuracy."""
    noise = np.random.default_rng(0)
    measured = []
    for network in draw_networks(DIGITS, networks):
        for seed in range(seeds):
            accuracy = 0.95 - 0.01 * network.params["depth"] + noise.normal(0, 0.001)
            result = {
                "number": network.number,
                "seed": seed,
                "digest": network.digest,
                "params": network.params,
                "versions": "none",
                "test_loss": 0.5,
                "cpu_seconds": float(network.params["depth"]),
            }
            parts = ("accuracy", "validation_accuracy", "test_accuracy", "train_accuracy")
            curves = ("validation_accuracies", "validation_losses", "train_losses")
            result |= dict.fromkeys(parts, accuracy) | dict.fromkeys(curves, (0.5,))
            measured.append(Measurement.model_validate(result))
    write_table(folder / "digits.csv.gz", analyse(DIGITS, measured))


def audit(monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr(sys, "argv", ["false_rejections.py", "--quick", *options])
    return false_rejections.main()


def test_deeper_and_worse_networks_are_rejected_rightly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    write_digits(tmp_path)
    file = tmp_path / "figures.json"
    assert audit(monkeypatch, "--tables", str(tmp_path), "--json", str(file)) == 0
    printed = capsys.readouterr().out
    assert "digits: 60 networks (60 with 2 seeds)" in printed
    assert "mnist is left out: " in printed
    assert "noise covers the choice of images alone" not in printed
    figures = {each["figure"]: each for each in json.loads(file.read_text(encoding="utf-8"))}
    default = "digits, previous-conv, allow 0"
    assert figures[f"{default}: false rejections; against rejecting most MACs"]["ours"] == 0
    searched = f"{default}: test error of a search with the trials of 25 trials; against no screen"
    assert figures[searched]["ratio"] < 1


def test_table_with_one_seed_is_audited_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    write_digits(tmp_path, seeds=1)
    assert audit(monkeypatch, "--tables", str(tmp_path)) == 0
    assert "noise covers the choice of images alone" in capsys.readouterr().out


def test_folder_without_tables_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert audit(monkeypatch, "--tables", str(tmp_path)) == false_rejections.BAD_INPUT
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert "contains no table of plain networks" in shown.err


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ((), "table = .*: it has 19 networks; the audit needs 20"),
        (("--picture", "nowhere/a.svg"), "--picture = nowhere/a.svg: its folder does not exist"),
    ],
)
def test_unusable_option_is_refused_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    line: str,
):
    write_digits(tmp_path, seeds=1, networks=19)
    monkeypatch.chdir(tmp_path)
    assert audit(monkeypatch, "--tables", str(tmp_path), *options) == false_rejections.BAD_INPUT
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert re.match(line, shown)
