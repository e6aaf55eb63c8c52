"""Named networks are the first trials of a search."""

import pytest
from optuna.samplers import RandomSampler, TPESampler

from search.experiment.sections import BudgetSection, ScreensSection
from search.loop.budget import Budget
from search.loop.preflight import find_seeds
from search.loop.screens import build_screens
from search.loop.trials import Trials
from search.study.database import Database
from search.study.storages import read_trials
from search.study.study import Study
from spaces import BadInputError, CandidateSpace, Task
from spaces.named import named

TASK = Task(channels=3, height=32, width=32, classes=10)
OPTIONS = {"stem": "cifar", "stages": 3, "blocks": [1, 3], "width": [8, 32]}


@pytest.mark.parametrize("sampler", [RandomSampler(seed=0), TPESampler(seed=0)])
def test_enqueued_networks_are_the_first_trials(sampler, tmp_path):
    database = Database(tmp_path / "study.db", "seeded")
    study = Study("seeded", sampler, database=database)
    space = CandidateSpace(TASK, "resnet", OPTIONS, {})
    for params in find_seeds(["resnet14c", "resnet20c"], "resnet", TASK, OPTIONS):
        study.enqueue(params)
    budget = Budget(BudgetSection(trials=4))
    trials = Trials(study, space, build_screens(ScreensSection()), budget=budget, epochs=1)
    started = [trials.next() for _ in range(4)]
    database.close()
    digests = [trial.candidate.architecture.digest for trial in started]
    assert digests[:2] == [named(name, TASK).digest for name in ("resnet14c", "resnet20c")]
    assert len(set(digests)) == 4
    stored = read_trials(tmp_path / "study.db", "seeded")
    assert [trial.params for trial in stored] == [trial.params for trial in study.trials()]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet14x", "resnet14c"),
        ("vgg16", "but the space is resnet"),
        ("resnet56c", "not in the space"),
    ],
)
def test_an_enqueued_network_outside_the_space_is_refused(name, said):
    with pytest.raises(BadInputError) as caught:
        find_seeds([name], "resnet", TASK, OPTIONS)
    assert name in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_network_named_twice_is_refused():
    names = ["resnet14c", "resnet20c", "resnet14c"]
    with pytest.raises(BadInputError) as caught:
        find_seeds(names, "resnet", TASK, OPTIONS)
    assert str(caught.value) == "enqueue = resnet14c: is named 2 times; name each network once"
    assert len(find_seeds(names, "resnet", TASK, OPTIONS, resumed=True)) == 3
