"""Set-up of a training process: threads, memory, and out-of-memory errors."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cluster.sizing import memory_limit
from trainables.training.device import select_device
from trainables.training.process import (
    has_reached_memory_limit,
    is_out_of_memory,
    prepare_process,
    release_memory,
    usable_memory,
)

ROOT = Path(__file__).parents[3]
GIB = 2**30


@pytest.fixture(autouse=True)
def same_threads(one_thread: None) -> None:
    """Restore the number of threads of the process."""


def run_apart(program: str) -> list[int]:
    """Run a program in a separate process, and return the integers that it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return [int(word) for word in done.stdout.split()]


# Running out of memory


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: torch.empty(2**50, dtype=torch.uint8),
        lambda: torch.zeros(2**20, 2**20, 2**8),
        lambda: torch.nn.Linear(2**24, 2**24),
        lambda: bytearray(2**50),
    ],
    ids=["bytes", "a tensor", "a layer", "without torch"],
)
def test_allocation_beyond_the_machine_is_out_of_memory(allocate):
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        allocate()
    assert is_out_of_memory(caught.value)


def test_cuda_out_of_memory_error_is_recognised():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))


class DeviceError(torch.AcceleratorError):
    """An error as torch raises it; the original constructor requires more than a message."""

    def __init__(self, message: str) -> None:
        RuntimeError.__init__(self, message)


@pytest.mark.parametrize(
    "error",
    [
        DeviceError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously .."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA driver error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(..)`"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDn..`"),
    ],
    ids=lambda error: str(error)[:60],
)
def test_out_of_memory_errors_of_cuda_libraries_are_recognised(error):
    assert is_out_of_memory(error)


SAID = "CUDA out of memory. Tried to allocate {}. GPU 0 has a total capacity of 79.1 GiB"


@pytest.mark.parametrize(
    ("reserved", "said", "own"),
    [
        (9 * GIB, SAID.format("2.00 GiB"), True),
        (9 * GIB, SAID.format("20.00 MiB"), False),
        (1 * GIB, SAID.format("2.00 GiB"), False),
        (1 * GIB, SAID.format("64.00 GiB"), True),
        (0, SAID.format("512 bytes"), False),
        (1 * GIB, "CUDA error: CUBLAS_STATUS_ALLOC_FAILED", False),
        (memory_limit(1 / 8, 80 * GIB) - 100_000_000, "CUDNN_STATUS_ALLOC_FAILED", True),
    ],
)
def test_memory_of_other_processes_is_not_charged_to_this_one(gpu, reserved, said, own):
    gpu.reserved = reserved
    error = torch.OutOfMemoryError(said)
    assert has_reached_memory_limit(error, torch.device("cuda:0"), 1 / 8) is own


@pytest.mark.parametrize("gpus", [0.0, 1.0, 2.0])
def test_whole_gpu_is_used_up_by_its_only_process(gpu, gpus):
    gpu.reserved = 1 * GIB
    error = torch.OutOfMemoryError(SAID.format("2.00 GiB"))
    assert has_reached_memory_limit(error, torch.device("cuda:0"), gpus)


HOST_ERRORS = [
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
]


@pytest.mark.parametrize("error", HOST_ERRORS, ids=["Python", "torch"])
@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_exhausted_host_memory_counts_as_the_processs_own_limit(gpu, error, device):
    assert has_reached_memory_limit(error, torch.device(device), 1 / 8)


def test_rounded_request_does_not_hide_an_exceeded_limit(gpu):
    """Torch shows a request of 2.0049 GiB as 2.00 GiB."""
    gpu.reserved = memory_limit(1 / 8, 80 * GIB) - int(2.0045 * GIB)
    error = torch.OutOfMemoryError(SAID.format("2.00 GiB"))
    assert has_reached_memory_limit(error, torch.device("cuda:0"), 1 / 8)


def test_other_errors_are_not_out_of_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.ones(2, 3) @ torch.ones(2, 3)
    assert not is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access"))
    assert not is_out_of_memory(DeviceError("CUDA error: an illegal memory access"))
    assert not is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"))
    assert not is_out_of_memory(ValueError("can't allocate memory"))
    assert not is_out_of_memory(OSError(12, "Cannot allocate memory"))


# Setting up


@pytest.mark.parametrize("threads", [1, 2])
def test_process_uses_the_given_number_of_threads(threads):
    prepare_process(threads)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("share", [1 / 8, 1 / 4, 1 / 2])
def test_gpu_fraction_limits_the_memory_of_a_process(gpu, share):
    prepare_process(1, share)
    assert gpu.fractions == {0: memory_limit(share, 80 * GIB) / (80 * GIB)}
    # Every process needs memory beside its tensors; all together must fit.
    assert 0.9 * share < gpu.fractions[0] < share
    expected = memory_limit(share, 80 * GIB)
    assert usable_memory(torch.device("cuda:0")) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("gpus", [1.0, 2.0])
def test_process_with_a_whole_gpu_gets_all_its_memory(gpu, gpus):
    prepare_process(1, gpus)
    assert gpu.fractions == {0: 1.0}
    assert usable_memory(torch.device("cuda:0")) == 80 * GIB


def test_process_without_gpu_fraction_sets_no_limit(gpu):
    prepare_process(1)
    assert gpu.fractions == {}


def test_fraction_of_a_missing_gpu_is_ignored(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", None)
    prepare_process(1, 0.5)


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
def test_usable_memory_is_known_for_every_selectable_device(gpu, name):
    assert usable_memory(select_device(name).device) == 80 * GIB


def test_usable_cpu_memory_is_that_of_the_machine():
    kibibytes = next(
        int(line.split()[1])
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemTotal:")
    )
    assert usable_memory(torch.device("cpu")) == pytest.approx(1024 * kibibytes, rel=0.01)


# CPU memory


def test_freed_memory_is_reused_without_page_faults():
    before, after = run_apart(
        """
import resource, torch
from trainables.training.process import prepare_process

def faults():
    begun = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begun

torch.set_num_threads(1)
faults()
print(faults())
prepare_process(1)
faults()
print(faults())
"""
    )
    assert after < before / 10 or before < 100, (before, after)


def test_memory_is_released_before_the_next_training():
    empty, held, kept, released = run_apart(
        """
import os, torch
from trainables.training.process import prepare_process, release_memory

def resident():
    pages = int(open("/proc/self/statm").read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")

prepare_process(1)
torch.ones(1000)
release_memory()
print(resident())
tensors = [torch.ones(2_500_000) for _ in range(20)]
print(resident())
del tensors
print(resident())
release_memory()
print(resident())
"""
    )
    made = 20 * 2_500_000 * 4
    assert held - empty > 0.9 * made
    assert kept - empty > 0.9 * made, "until then it is kept"
    assert released - empty < 0.2 * made


def test_memory_can_be_released_twice():
    release_memory()
    release_memory()


def test_gpu_cache_is_emptied_only_if_a_gpu_is_in_use(monkeypatch):
    emptied: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    release_memory()
    assert emptied == []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    release_memory()
    assert emptied == [True]


# Imports of a training


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_resumed_training_does_not_load_torchs_compiler(own_cache, optimizer):
    program = f"""
import sys
from spaces.candidate import CandidateSpace
from spaces.task import Task
from trainables.data import load
from trainables.specs import DataSpec
from trainables.training.loop import Training

space = {{"depth": 2, "features": 8, "kernel": 3, "pools": 1, "convs_before_pool": 1}}
recipe = {{"learning_rate": 0.1, "weight_decay": 1e-3, "batch_size": 32}}
recipe |= {{"optimizer": "{optimizer}", "ema": 0.9, "clip": 1.0}}
candidate = CandidateSpace(Task(1, 8, 8, 10), "vgg", space, recipe).rebuild({{}})
first, second = (
    Training(candidate, load(DataSpec("digits", subset=0.2)), epochs=2, seed=0, device="cpu")
    for _ in range(2)
)
first.run_epoch()
second.load_state_dict(first.state_dict())
second.run_epoch()
print(second.epoch, int("torch._dynamo" in sys.modules))
"""
    assert run_apart(program) == [2, 0]
