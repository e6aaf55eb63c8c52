"""The plan of an epoch on its device: every step gets its own part from fixed memory."""

import pytest
import torch
from torch import Tensor

from trainables.training.augmentation import Variation
from trainables.training.epoch_plan import DevicePlan, EpochPlan

CPU = torch.device("cpu")
STEPS, BATCH = 5, 3


def plan(seed: int, *, whole: bool) -> EpochPlan:
    generator = torch.Generator().manual_seed(seed)

    def whole_numbers(*shape: int) -> Tensor:
        return torch.randint(0, 99, (STEPS, *shape), generator=generator)

    def numbers(*shape: int) -> Tensor:
        return torch.rand((STEPS, *shape), generator=generator)

    if not whole:
        return EpochPlan(whole_numbers(BATCH), numbers(), None, None, Variation())
    variation = Variation(
        shift=whole_numbers(BATCH, 2),
        mirrored=whole_numbers(BATCH),
        boxes=whole_numbers(BATCH, 2, 4),
        mixup_lambda=numbers(BATCH),
    )
    return EpochPlan(whole_numbers(BATCH), numbers(), numbers(), numbers(), variation)


def step_number(number: int) -> Tensor:
    return torch.tensor([number])


def same(found: EpochPlan, expected: EpochPlan, step: int) -> bool:
    pairs = list(zip(found.tensors(), expected.tensors(), strict=True))
    return all(
        a.dtype == b.dtype and a.shape == b[step].shape and torch.equal(a, b[step])
        for a, b in pairs
    )


@pytest.mark.parametrize("whole", [False, True], ids=["least", "everything"])
def test_every_step_gets_its_own_part(whole):
    drawn = plan(0, whole=whole)
    on_device = DevicePlan(drawn, STEPS, CPU)
    assert all(same(on_device.at(step_number(n)), drawn, n) for n in range(STEPS))


def test_parts_keep_their_names():
    drawn = plan(0, whole=True)
    found = DevicePlan(drawn, STEPS, CPU).at(step_number(2))
    assert torch.equal(found.rows, drawn.rows[2])
    assert torch.equal(found.variation.boxes, drawn.variation.boxes[2])
    assert torch.equal(found.ema_weight, drawn.ema_weight[2])
    assert DevicePlan(plan(0, whole=False), STEPS, CPU).at(step_number(0)).ema_weight is None


@pytest.mark.parametrize("whole", [False, True], ids=["least", "everything"])
def test_next_plan_is_loaded_into_the_same_memory(whole):
    on_device = DevicePlan(plan(0, whole=whole), STEPS, CPU)
    places = [tensor.data_ptr() for tensor in on_device._packed.values()]
    following = plan(1, whole=whole)
    on_device.load(following)
    assert [tensor.data_ptr() for tensor in on_device._packed.values()] == places
    assert all(same(on_device.at(step_number(n)), following, n) for n in range(STEPS))


def test_step_uses_one_kernel_per_dtype(monkeypatch):
    on_device = DevicePlan(plan(0, whole=True), STEPS, CPU)
    picked = []
    pick = Tensor.index_select
    monkeypatch.setattr(
        Tensor, "index_select", lambda *given: (picked.append(given[0].dtype), pick(*given))[1]
    )
    on_device.at(step_number(0))
    assert sorted(map(str, picked)) == ["torch.float32", "torch.int64"]
