"""Experiment files that nobody would write: each loads, or is refused in one line, in time.

Thousands of seeded mutations of the experiments that come with the project go through all that a
search checks before it writes anything, except for Ray.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from copy import deepcopy
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.experiment.folder import Home
from search.experiment.loading import load_experiment
from search.experiment.schema import Experiment
from search.experiment.training_spec import describe_training
from search.loop.preflight import check_space, find_seeds
from search.loop.screens import build_screens
from spaces.errors import BadInputError
from spaces.task import Task

ROOT = Path(__file__).resolve().parents[3]
DIGITS = Task(channels=1, height=8, width=8, classes=10)
FILES = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "experiments").glob("*.yaml"))]
MUTANTS = 2400

WHOLE = """\
name: whole
data: digits
validation_list: validation.txt
groups: patient-(.)
table: {file: image, label: kind, split: fold, group: patient, root: images}
decoding: {background: "#fff", value_range: [-5, 99.5], max_megapixels: 10}
space: {name: resnet, blocks: [1, 3]}
enqueue: []
recipe: {optimizer: [sgd, adamw], schedule: [one_cycle, cosine], ema: [0.0, 0.9]}
epochs: 9
augmentation: {crop: 2, flip: alternating, erase: 0.5, cutout: 2, mixup: 0.2}
screens: {border: off, max_params: 10000000, max_macs: 100000000, max_memory_mb: 1000}
objectives: [accuracy, params]
scheduler: {name: asha, grace_epochs: 1, reduction: 3, hopeless_after: 4}
budget: {trials: 10, wall_clock: 8h, device_hours: 2.0, money: 5.0, price: 1.5}
failures: {retries: 2, hang_after: 30m}
warm_start: []
database: postgresql://me@localhost/studies
storage: s3://bucket/prefix
resources: {cpus: 1, gpus: 0.5, concurrent: 2}
tracking: {enabled: false, experiment: fuzz}
"""

JUNK: list[Callable[[random.Random], Any]] = [
    lambda _: None,
    lambda _: True,
    lambda _: [],
    lambda _: {},
    lambda r: r.choice([0, -1, 1, 2, 10**6, -(10**30), 10**400, 2**63]),
    lambda r: r.choice([0.0, -0.5, 1e-300, 1e308, float("inf"), float("nan")]),
    lambda r: r.choice(
        ["", " ", "off", "none", "1e-5", "5 h", "0s", "999999999999d", "\x7f", "a\nb"]
    ),
    lambda r: r.choice(
        ["ü" * 5, "💥", "\u202e", "名前", "a" * 10_000, "../../etc", "~nobody/x", "C:\\"]
    ),
    lambda r: r.choice(
        ["os:getcwd", "no_such:thing", ":", "a:b:c", "json:loads", "vgg", "resnet50"]
    ),
    lambda r: "".join(r.choices(string.printable, k=r.randrange(12))),
    lambda r: [r.choice([1, "a", None, [], {}, 0.5, -3]) for _ in range(r.randrange(4))],
    lambda r: [r.randrange(9), r.randrange(9)],
    lambda r: [r.uniform(-1, 1), r.uniform(-1, 1)],
    lambda r: {r.choice("abc"): {"name": [r.random()]}},
    lambda r: _nested(r.randrange(1, 60)),
    lambda _: b"bytes",
    lambda _: date(2020, 2, 29),
    lambda _: {1, 2},
]
"""What values are replaced by."""


def _nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"x": value}
    return value


def places(document: Any, found: list[tuple[Any, Any]] | None = None) -> list[tuple[Any, Any]]:
    """Return every container of a document with each of its keys."""
    found = [] if found is None else found
    keys = document if isinstance(document, dict) else range(len(document))
    for key in keys:
        found.append((document, key))
        if isinstance(document[key], dict | list):
            places(document[key], found)
    return found


@cache
def parsed(text: str) -> Any:
    """Return the document of a text; parsing takes longer than copying."""
    return yaml.safe_load(text)


def mutate_values(text: str, chance: random.Random) -> str:
    """Replace, remove, rename or add a few values anywhere."""
    document = deepcopy(parsed(text))
    # All families, all datasets: what is searched is small where nothing else is said.
    document["data"] = "digits"
    for _ in range(chance.randrange(1, 4)):
        known = places(document)
        if not known:
            break
        container, key = chance.choice(known)
        what = chance.random()
        if what < 0.65:
            container[key] = chance.choice(JUNK)(chance)
        elif what < 0.75 and isinstance(container, dict):
            container[chance.choice(["unknown", 1, None, "ñ", f"{key}s", ""])] = container[key]
        elif what < 0.85 and isinstance(container, dict):
            del container[key]
        elif isinstance(container[key], int | float):
            container[key] *= chance.choice([-1, 0, 0.5, 3, 1e6])
        else:
            container[key] = str(container[key])
    return yaml.dump(document, allow_unicode=chance.random() < 0.5)


def mutate_text(text: str, chance: random.Random) -> str:
    """Break the text itself."""
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(text) + 1)
        what = chance.random()
        if what < 0.4:
            noise = "".join(
                chance.choices("{}[]:,-&*!|>'\"%@`#?\t\n \x00\ud7ff☃0.", k=chance.randrange(1, 4))
            )
            text = text[:at] + noise + text[at:]
        elif what < 0.7:
            text = text[:at] + text[at + chance.randrange(1, 12) :]
        elif what < 0.9:
            other = chance.randrange(len(text) + 1)
            text = text[:at] + text[other : other + 40] + text[at:]
        else:
            text = text[:at]
    return text.replace("cifar10", "digits").replace("images:", "digits #")


def mutants() -> list[str]:
    """Return the mutated files, the same ones every time."""
    chance = random.Random(20)
    sources = [*FILES, WHOLE, WHOLE]
    return [
        (mutate_values if chance.random() < 0.75 else mutate_text)(chance.choice(sources), chance)
        for _ in range(MUTANTS)
    ]


def check(experiment: Experiment, home: Home) -> None:
    """Do what a search does before it writes anything."""
    home.folder(experiment.name).refuse_existing()
    spec = describe_training(experiment, DIGITS)
    spec.augmentation.check(DIGITS.height, DIGITS.width)
    space = spec.candidates()
    screens = build_screens(experiment.screens)
    check_space(space, screens, training_images=1000, epochs=experiment.whole_epochs, seed=1)
    find_seeds(experiment.enqueue, space.name, DIGITS, experiment.space.options)


def test_mutated_experiment_loads_or_is_refused_without_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A space of which next to nothing passes is found out sooner here.
    monkeypatch.setattr("search.loop.preflight.DRAWS", 40)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mutant.yaml"
    home = Home(tmp_path / "runs")
    loaded = 0
    refusals: list[BadInputError] = []
    for number, text in enumerate(mutants()):
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            check(load_experiment(path), home)
        except BadInputError as error:
            refusals.append(error)
        except Exception as error:
            raise AssertionError(f"mutant {number} raised {error!r}:\n{text[:3000]}") from error
        else:
            loaded += 1
    assert not [error for error in refusals if "\n" in str(error)]
    assert all(error.problem and error.remedy for error in refusals)
    # Neither are all mutants nonsense nor are they all harmless.
    assert min(loaded, len(refusals)) > MUTANTS / 20
    assert [each.name for each in tmp_path.iterdir()] == ["mutant.yaml"]
