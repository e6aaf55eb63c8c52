"""Choosing the device: what is not there is one line for the user, never a crash."""

import pytest
import torch

from spaces.errors import BadInputError
from trainables.device import Device, select_device


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


def test_auto_is_the_processor_where_there_is_no_gpu(no_gpu):
    assert select_device().device == torch.device("cpu")
    assert select_device("auto") == select_device("cpu")


def test_auto_is_the_gpu_where_there_is_one(two_gpus):
    assert select_device("auto").device == torch.device("cuda")


def test_the_processor_can_be_had_beside_a_gpu(two_gpus):
    assert select_device("cpu").device == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:1"])
def test_a_gpu_that_is_there_is_used(two_gpus, name):
    assert select_device(name).device == torch.device(name)


@pytest.mark.parametrize("supported", [False, True])
def test_a_gpu_calculates_in_bfloat16_only_where_it_can_without_emulation(
    two_gpus, monkeypatch, supported
):
    def is_bf16_supported(including_emulation=True):
        return including_emulation or supported

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_bf16_supported)
    assert select_device("cuda").bfloat16 is supported


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7"])
def test_a_gpu_on_a_machine_without_one_is_refused(no_gpu, name):
    assert refusal(name) == f"device = {name}: there are 0 CUDA devices here; use auto or cpu"


@pytest.mark.parametrize("name", ["cuda:2", "cuda:99999999999999999999"])
def test_a_gpu_beyond_the_last_is_refused(two_gpus, name):
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
def test_autocast_runs_products_in_the_chosen_format_and_leaves_weights_alone(bfloat16, dtype):
    layer = torch.nn.Linear(4, 4)
    with Device(torch.device("cpu"), bfloat16).autocast():
        assert layer(torch.ones(1, 4)).dtype == dtype
    assert layer.weight.dtype == torch.float32
