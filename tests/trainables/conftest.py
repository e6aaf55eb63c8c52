"""What several tests of training share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from spaces.candidate import Candidate, CandidateSpace
from spaces.task import Task
from trainables.checkpoints import Checkpoints
from trainables.data import Dataset, load


@pytest.fixture(scope="session")
def image_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder of decoded images for the whole session."""
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="module")
def own_cache(image_cache: Path) -> Iterator[None]:
    """Keep images that a job loads out of the user's cache folder, in processes begun here too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BORDERLINE_CACHE", str(image_cache))
        yield


@pytest.fixture(scope="session")
def few_digits(image_cache: Path) -> Dataset:
    """A fifth of the digits."""
    return load("digits", subset=0.2, cache=image_cache)


@pytest.fixture(scope="session")
def plain_candidate() -> Candidate:
    """A small plain network for the digits."""
    space = {"depth": 2, "features": 8, "kernel": 3, "pools": 1, "convs_before_pool": 1}
    recipe = {"learning_rate": 0.1, "weight_decay": 1e-3, "batch_size": 32}
    return CandidateSpace(Task(1, 8, 8, 10), "vgg", space, recipe).rebuild({})


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no checkpoint that could not be written hold up those of the next test."""
    monkeypatch.setattr(Checkpoints, "_away_until", 0.0)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Calculate as a trial does by default, and leave the process as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
