"""Choosing the device: a missing device is one line for the user, never a crash."""

import pytest
import torch

from cluster.sizing import Gpu
from spaces.errors import BadInputError
from trainables.training.device import Device, find_gpu, select_device


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


def refusal(name: str) -> str:
    with pytest.raises(BadInputError) as caught:
        select_device(name)
    assert caught.value.field == "device"
    assert caught.value.value == name
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_auto_selects_the_cpu_without_a_gpu(no_gpu):
    assert select_device().device == torch.device("cpu")
    assert select_device("auto") == select_device("cpu")


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_gpu_without_a_number_is_the_first_with_its_index(two_gpus, name):
    """Torch refuses a device without an index for memory, streams and generators."""
    assert select_device(name).device == torch.device("cuda", 0)


def test_cpu_can_be_selected_beside_a_gpu(two_gpus):
    assert select_device("cpu").device == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:0", "cuda:1"])
def test_available_gpu_is_used(two_gpus, name):
    assert select_device(name).device == torch.device(name)


@pytest.mark.parametrize("supported", [False, True])
def test_gpu_uses_bfloat16_only_without_emulation(two_gpus, monkeypatch, supported):
    def is_bf16_supported(including_emulation=True):
        return including_emulation or supported

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_bf16_supported)
    assert select_device("cuda").bfloat16 is supported


OLD = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU\n"
    "driver by downloading and installing a new version from the URL: https://example.org"
)
NONE = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and .."


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7"])
@pytest.mark.parametrize(
    ("error", "built", "line"),
    [
        (
            RuntimeError(OLD),
            "13.0",
            "The NVIDIA driver on your system is too old (found version 11040); fix that "
            "(torch 9.9 is built for CUDA 13.0), or use cpu",
        ),
        (
            RuntimeError(NONE),
            "13.0",
            "Found no NVIDIA driver on your system; fix that "
            "(torch 9.9 is built for CUDA 13.0), or use cpu",
        ),
        (
            RuntimeError(
                "Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions "
                "before calling NumCudaDevices()? Error 804: forward compatibility was attempted"
            ),
            "13.0",
            "Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before "
            "calling NumCudaDevices()? Error 804: forward compatibility was attempted; fix that "
            "(torch 9.9 is built for CUDA 13.0), or use cpu",
        ),
        (
            AssertionError("Torch not compiled with CUDA enabled"),
            None,
            "Torch not compiled with CUDA enabled; fix that "
            "(torch 9.9 is built for CPU only), or use cpu",
        ),
        (
            None,
            "13.0",
            "there are 0 CUDA devices here; fix that "
            "(torch 9.9 is built for CUDA 13.0), or use cpu",
        ),
    ],
    ids=["old driver", "no driver", "container", "build for processors", "hidden devices"],
)
def test_unusable_gpu_is_refused_with_the_cause(no_gpu, monkeypatch, name, error, built, line):
    def init() -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(torch, "__version__", "9.9")
    monkeypatch.setattr(torch.version, "cuda", built)
    assert refusal(name) == f"device = {name}: {line}"


def test_missing_gpu_is_explained(no_gpu):
    assert refusal("cuda").startswith("device = cuda: ")


def test_gpu_is_found_with_its_memory_and_format(gpu):
    assert find_gpu() == Gpu(80 * 2**30, bfloat16=True)


def test_unusable_gpu_is_not_treated_as_missing(no_gpu):
    with pytest.raises(BadInputError):
        find_gpu()


@pytest.mark.parametrize("name", ["cuda:2", "cuda:99999999999999999999"])
def test_gpu_index_beyond_the_last_is_refused(two_gpus, name):
    assert "there are 2 CUDA devices here" in refusal(name)


@pytest.mark.parametrize(
    "name",
    ["", "gpu", "cpu:0", "CUDA", " cuda", "cuda:", "cuda:x", "cuda:-1", "cuda:²", "cuda:01", "mps"],
)
@pytest.mark.parametrize("there", ["no_gpu", "two_gpus"])
def test_an_unknown_name_is_refused_with_the_known_ones(request, name, there):
    request.getfixturevalue(there)
    assert "unknown device; use auto, cpu, cuda or cuda:N" in refusal(name)


@pytest.mark.parametrize(
    ("bfloat16", "dtype"), [(False, torch.float32), (True, torch.bfloat16)], ids=str
)
def test_autocast_changes_products_but_not_weights(bfloat16, dtype):
    layer = torch.nn.Linear(4, 4)
    with Device(torch.device("cpu"), bfloat16).autocast():
        assert layer(torch.ones(1, 4)).dtype == dtype
    assert layer.weight.dtype == torch.float32
