"""The JSON Schema accepts what the experiment file accepts, and refuses what an editor can see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from search.experiment.json_schema import experiment_schema
from search.experiment.loading import load_experiment, parse_experiment
from search.experiment.schema import Experiment
from search.experiment.yaml_text import read_yaml
from spaces.errors import BadInputError

EXPERIMENTS = Path(__file__).resolve().parents[3] / "experiments"


def accepts(document: dict[str, Any]) -> bool:
    validator = jsonschema.Draft202012Validator(experiment_schema())
    return bool(validator.is_valid(document))


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_schema_accepts_every_experiment_and_its_stored_form(path: Path) -> None:
    for text in (path.read_text(encoding="utf-8"), load_experiment(path).to_yaml()):
        assert accepts(read_yaml(text, Experiment))


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"space": "resnet"},
        {"space": {"name": "vgg", "depth": [2, 8]}},
        {"epochs": "2000 steps", "validation": "folds=5"},
        {"budget": {"wall_clock": "90m"}, "failures": {"hang_after": 60}},
        {"probes": True, "screens": {"border": False}},
        {"resolution": 32, "objectives": ["accuracy", "macs"]},
    ],
)
def test_schema_and_loading_accept_the_same_documents(document: dict[str, Any]) -> None:
    parse_experiment(document)
    assert accepts(document)


@pytest.mark.parametrize(
    "document",
    [
        {"epoch": 3},
        {"epochs": []},
        {"budget": {"trials": 0}},
        {"budget": {"wall_clock": "soon"}},
        {"sampler": "grid"},
        {"objectives": ["speed"]},
        {"augmentation": {"crops": 4}},
    ],
)
def test_schema_and_loading_refuse_the_same_documents(document: dict[str, Any]) -> None:
    with pytest.raises(BadInputError):
        parse_experiment(document)
    assert not accepts(document)


def test_every_field_of_the_schema_is_described() -> None:
    schema = experiment_schema()
    for model in (schema, *schema["$defs"].values()):
        for name, field in model.get("properties", {}).items():
            assert "description" in field or "$ref" in str(field), name
