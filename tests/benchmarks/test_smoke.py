"""Every benchmark runs with ``--quick`` and writes figures in the documented format.

Each test is a whole benchmark: ``make smoke`` runs it, ``make test`` does not.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.benchmarks.test_false_rejections import write_digits

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
KEYS = {"figure", "ours", "baseline", "ratio", "target", "unit"}


@pytest.fixture
def images(tmp_path: Path) -> str:
    """Return the option that names a folder of 8,000 random images in two classes."""
    pixels = np.random.default_rng(0).integers(0, 256, (8_000, 32, 32, 3), np.uint8)
    for number, image in enumerate(pixels):
        place = tmp_path / "images" / str(number % 2)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number}.png", compress_level=0)
    return f"images:{tmp_path / 'images'}"


def run_quick(script: str, folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run a benchmark and return the figures that it writes."""
    file = folder / "figures.json"
    command = [sys.executable, BENCHMARKS / script, "--quick", "--json", file, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    assert figures
    for figure in figures:
        assert set(figure) == KEYS
        assert all(isinstance(figure[key], str) for key in ("figure", "target", "unit"))
        assert all(isinstance(figure[key], float | int) for key in ("ours", "baseline", "ratio"))
        assert figure["figure"] in done.stdout
    return figures


# First, because it takes longest.
@pytest.mark.smoke
def test_chaos_benchmark_finds_nothing_lost(tmp_path: Path) -> None:
    figures = run_quick("chaos.py", tmp_path)
    lost = [figure for figure in figures if figure["target"] == "0"]
    assert lost
    assert all(figure["ours"] == 0 for figure in lost), lost


@pytest.mark.smoke
@pytest.mark.parametrize(
    "script",
    [
        "analysis.py",
        "augmentation.py",
        "batch_size.py",
        "end_to_end.py",
        "images_to_accuracy.py",
        "roofline.py",
        "scale.py",
        "search_quality.py",
        "screening.py",
        "recipes.py",
        "small_data.py",
        "trial_overhead.py",
        "zoo.py",
    ],
)
def test_benchmark_runs_and_writes_its_figures(script: str, tmp_path: Path) -> None:
    run_quick(script, tmp_path)


@pytest.mark.smoke
def test_training_benchmark_measures_speed_and_memory(images: str, tmp_path: Path) -> None:
    figures = run_quick("training.py", tmp_path, "--data", images, "--rows", "speed,memory")
    assert len(figures) == 4


@pytest.mark.smoke
def test_audit_of_the_border_screen_reads_a_table(tmp_path: Path) -> None:
    write_digits(tmp_path)
    assert run_quick("false_rejections.py", tmp_path, "--tables", str(tmp_path))


@pytest.mark.smoke
def test_benchmark_of_saved_time_reads_a_table(tmp_path: Path) -> None:
    write_digits(tmp_path)
    figures = run_quick("saved_time.py", tmp_path, "--tables", str(tmp_path))
    assert len(figures) == 7


def test_every_benchmark_has_a_smoke_test() -> None:
    test = Path(__file__).read_text(encoding="utf-8")
    scripts = {
        path.name
        for path in BENCHMARKS.glob("*.py")
        if "from harness import" in (source := path.read_text(encoding="utf-8"))
        and "def main(" in source
    }
    assert "chaos.py" in scripts
    assert {name for name in scripts if f'"{name}"' not in test} == set()
