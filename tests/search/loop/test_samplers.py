"""The samplers of an experiment."""

from __future__ import annotations

import pytest
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler

from search.experiment.loading import parse_experiment
from search.loop.samplers import make_sampler
from search.loop.sampling.network_sampler import NetworkSampler
from spaces.candidate import CandidateSpace
from spaces.errors import BadInputError
from spaces.task import Task

TASK = Task(3, 32, 32, 10)
FIXED = CandidateSpace(TASK, "vgg", {"depth": 3, "pools": 0}, {})
CONDITIONAL = CandidateSpace(TASK, "vgg", {}, {})


@pytest.mark.parametrize(
    ("name", "expected"),
    [("auto", NetworkSampler), ("tpe", TPESampler), ("gp", GPSampler), ("random", RandomSampler)],
)
def test_experiment_names_its_sampler(name: str, expected: type[BaseSampler]) -> None:
    sampler = make_sampler(parse_experiment({"sampler": name}), 0, FIXED)
    assert type(sampler) is expected


def test_gaussian_process_of_optuna_refuses_conditional_spaces() -> None:
    with pytest.raises(BadInputError) as error:
        make_sampler(parse_experiment({"sampler": "gp"}), 0, CONDITIONAL)
    assert str(error.value).startswith("sampler = gp: models fixed spaces only, but vgg draws ")
    assert str(error.value).endswith("; use auto, which supports every space")
