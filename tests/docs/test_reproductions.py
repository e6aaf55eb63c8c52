"""The page of reproduced experiments takes measured numbers from the result files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs import reproductions
from experiments.published import NAMES
from experiments.published.batchnorm_only import reduced_cases
from experiments.reproduction.records import Probes, Result
from experiments.reproduction.results_file import write_results
from tests.experiments.test_reproduction import outcome
from trainables.probes.records import LayerProbes


def test_measured_numbers_are_those_of_the_result_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = (LayerProbes("stem", (3, 3), 16, disabled_features=0.125),)
    probes = Probes(accuracy=0.4, images=10, border=None, disabled_features=0.125, layers=layers)
    case = reduced_cases()[0]
    accuracies = (0.9,) * case.epochs
    result = Result(case, outcome(probes=probes, train_accuracies=accuracies, images="cifar10"))
    write_results(tmp_path, "batchnorm_only", [result])
    monkeypatch.setattr(reproductions, "RESULTS", tmp_path)
    page = reproductions.reproductions()
    assert re.search(r"^\| 14 \| 100 \| 90 \| 40\.0 % \| 48\.0 % \| 46\.7 % \|", page, re.MULTILINE)
    assert "12.5 %" in page
    assert "**Results** of the reduced protocol (CPU; torch 2; cifar10; 2026-01-31;" in page
    assert page.count("contains no results of this experiment yet") == len(NAMES) - 1


ROOT = Path(__file__).resolve().parents[2]
ANSWER = re.compile(
    r"^\|[^|]+\|([^|]+)\| \[\w+\]\(docs/reproductions\.md#(\w+)\) \|$", re.MULTILINE
)
NUMBER = re.compile(r"\d[\d.,]*\d|\d")


def test_numbers_of_the_readme_are_those_of_the_results() -> None:
    page = (ROOT / "docs" / "reproductions.md").read_text(encoding="utf-8")
    sections = {part.split("\n")[0]: part for part in page.split("\n## ")}
    answers = ANSWER.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert sorted(name for _, name in answers) == sorted(NAMES)
    for answer, name in answers:
        known = set(NUMBER.findall(sections[name]))
        assert set(NUMBER.findall(answer)) <= known, f"README.md differs from {name}"
