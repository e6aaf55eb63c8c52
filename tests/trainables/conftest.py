"""Fixtures that several tests of training share."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from spaces.candidate import Candidate, CandidateSpace
from spaces.task import Task
from trainables.data import Dataset, load
from trainables.specs import DataSpec
from trainables.training.checkpoints import Checkpoints


@pytest.fixture(scope="session")
def image_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder of decoded images for the whole session."""
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="module")
def own_cache(image_cache: Path) -> Iterator[None]:
    """Keep the images of trials out of the user's cache folder, in child processes too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BORDERLINE_CACHE", str(image_cache))
        yield


@pytest.fixture(scope="session")
def few_digits(image_cache: Path) -> Dataset:
    """A fifth of the digits."""
    return load(DataSpec("digits", subset=0.2, validation=0.1, test=0.1), cache=image_cache)


@pytest.fixture(scope="session")
def plain_candidate() -> Candidate:
    """A small plain network for the digits."""
    space = {"depth": 2, "features": 8, "kernel": 3, "pools": 1, "convs_before_pool": 1}
    recipe = {"learning_rate": 0.1, "weight_decay": 1e-3, "batch_size": 32}
    return CandidateSpace(Task(1, 8, 8, 10), "vgg", space, recipe).rebuild({})


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reset the delay that a failed write of a checkpoint imposes on the next test."""
    monkeypatch.setattr(Checkpoints, "_away_until", 0.0)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Use one thread, as a trial does by default; restore the number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass
class PretendedGpu:
    """A simulated GPU below the argument checks of torch's functions.

    Attributes:
        memory: memory of the GPU, in bytes.
        reserved: bytes that torch's allocator holds.
        fractions: fraction of the memory that the process may use, by device index.
    """

    memory: int = 80 * 2**30
    reserved: int = 0
    fractions: dict[int, float] = field(default_factory=dict)

    def memory_stats(self, device: int) -> dict[str, Any]:
        return {"reserved_bytes": {"all": {"current": self.reserved, "peak": self.reserved}}}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> PretendedGpu:
    """Simulate one GPU below torch.cuda, whose functions still check their arguments."""
    gpu = PretendedGpu()
    properties = SimpleNamespace(total_memory=gpu.memory)
    cuda, c = torch.cuda, torch._C
    monkeypatch.setattr(cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda, "is_initialized", lambda: True)
    # Do not seed a real GPU beside the simulated one.
    monkeypatch.setattr(cuda.random, "device_count", lambda: 0)
    monkeypatch.setattr(cuda, "device_count", lambda: 1)
    monkeypatch.setattr(cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(cuda.memory, "_lazy_init", lambda: None)
    monkeypatch.setattr(cuda.memory, "is_initialized", lambda: True)
    monkeypatch.setattr(cuda, "_get_device_properties", lambda index: properties, raising=False)
    for name, function in (
        ("_cuda_getMemoryFraction", lambda index: gpu.fractions.get(index, 1.0)),
        ("_cuda_setMemoryFraction", lambda share, index: gpu.fractions.update({index: share})),
        ("_cuda_memoryStats", gpu.memory_stats),
    ):
        monkeypatch.setattr(c, name, function, raising=False)
    return gpu
