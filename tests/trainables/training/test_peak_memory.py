"""Measured memory: its definition, and its agreement with predictions."""

import pytest
import torch
import torch.nn.functional as F

from cluster.sizing import FRAGMENTATION, WORKSPACE_BYTES
from spaces.architecture import Architecture
from spaces.candidate import FAMILIES, CandidateSpace
from spaces.errors import InvalidCandidateError
from spaces.task import Task
from tests.spaces.drawing import random_trial
from trainables.builder import Network
from trainables.training.device import select_device
from trainables.training.peak_memory import measure_peak

pytestmark = pytest.mark.usefixtures("one_thread")

MB = 2**20
UNIT = {"cpu": 1, "cuda": 16}
"""Megabytes per allocation of the tests: torch reserves GPU memory in blocks of 20."""
TASK = Task(channels=3, height=24, width=24, classes=10)
BATCH = {"cpu": 48, "cuda": 1024}
"""Images per batch: on a GPU the tensors must dominate the workspaces of libraries."""
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    ),
]


def values(megabytes: int, device: str) -> torch.Tensor:
    return torch.zeros(UNIT[device] * megabytes * MB // 4, device=device)


@pytest.mark.parametrize("device", DEVICES)
def test_peak_counts_simultaneous_memory(device):
    def work():
        first = values(8, device)
        del first
        second, third = values(3, device), values(2, device)
        del second, third

    assert measure_peak(work, device) == pytest.approx(8 * UNIT[device] * MB, rel=0.01)


@pytest.mark.parametrize("device", DEVICES)
def test_earlier_memory_is_not_counted(device):
    before = values(16, device)
    assert measure_peak(lambda: before + 1, device) == pytest.approx(
        16 * UNIT[device] * MB, rel=0.01
    )


@pytest.mark.parametrize("device", DEVICES)
def test_memory_freed_from_before_is_not_counted(device):
    held = [values(16, device)]

    def work():
        held.clear()
        values(4, device)

    assert measure_peak(work, device) <= 4 * UNIT[device] * MB * 1.01


def test_gpu_peak_counts_reserved_memory_from_an_empty_cache(monkeypatch):
    """Free blocks in a graph's pool belong to no tensor, but nobody else can use them."""
    calls = []
    for name, value in {
        "synchronize": None,
        "empty_cache": None,
        "reset_peak_memory_stats": None,
        "memory_reserved": 100,
        "max_memory_reserved": 175,
    }.items():

        def called(*device, name=name, value=value):
            calls.append(name)
            return value

        monkeypatch.setattr(torch.cuda, name, called)
    assert measure_peak(lambda: calls.append("work"), "cuda:0") == 75
    before = calls[: calls.index("work")]
    assert before.index("empty_cache") < before.index("memory_reserved")
    assert "reset_peak_memory_stats" in before
    assert calls.index("work") < calls.index("max_memory_reserved")


def test_memory_of_another_thread_is_counted():
    weights = values(2, "cpu").requires_grad_()
    # On a GPU, a thread of autograd computes the gradients.
    peak = measure_peak(lambda: (weights * 2).sum().backward(), "cpu")
    assert peak >= 2 * MB


def test_only_measurable_devices_are_measured():
    with pytest.raises(ValueError, match="cpu and cuda"):
        measure_peak(lambda: None, "meta")


def steps(architecture: Architecture, device: str, *, bfloat16: bool) -> None:
    """Build a network and take two steps of SGD with momentum."""
    torch.manual_seed(0)
    network = Network(architecture).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, fused=True)
    channels, height, width = architecture.shapes[0]
    batch = BATCH[device]
    labels = torch.zeros(batch, dtype=torch.int64, device=device)
    for _ in range(2):
        images = torch.rand(batch, height, width, channels, device=device).permute(0, 3, 1, 2)
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            loss = F.cross_entropy(network(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def candidates(family: str, count: int):
    """Draw candidates that are small enough to train in a test."""
    # On a CPU, large depthwise kernels use workspaces that are not tensors.
    options = {"convmixer": {"kernel": [3, 5]}}.get(family, {})
    space = CandidateSpace(TASK, family, options, {})
    seed, found = 0, []
    while len(found) < count:
        seed += 1
        try:
            candidate = space.draw(random_trial(seed))
            if candidate.costs.macs < 6e7:
                found.append(candidate)
        except InvalidCandidateError:
            continue
        except ValueError:
            continue  # A feature map collapsed.
    return found


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bfloat16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_predicted_memory_is_close_to_measured_memory(family, bfloat16, device):
    if bfloat16 and not select_device(device).bfloat16:
        # Such CPUs never train in bfloat16; emulation makes float32 copies of everything.
        pytest.skip("this processor does not multiply bfloat16")
    for candidate in candidates(family, 3):
        predicted = candidate.costs.training_memory(BATCH[device], bfloat16=bfloat16)

        def work(candidate=candidate):
            steps(candidate.architecture, device, bfloat16=bfloat16)

        if device == "cpu":
            assert predicted == pytest.approx(measure_peak(work, device), rel=0.2)
            continue
        work()  # Libraries allocate their workspaces.
        taken = measure_peak(work, device)
        assert 0.8 * predicted < taken < predicted * (1 + FRAGMENTATION) * 1.2 + WORKSPACE_BYTES
