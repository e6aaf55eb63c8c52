"""The roofline counts the least work of a layer and shows shares of one step."""

import pytest
import torch
from roofline import Clock, Reached, figures, step_works

from trainables.training.device import Device

CPU = torch.device("cpu")


def test_shares_are_of_the_step_and_speeds_of_the_ceiling():
    kind = Reached("convolution forward", 8e9, 1e9, 0.2, 0.05)
    step = Reached("whole step", 8e9, 1e9, 0.8, 0.05)
    rows = list(figures("net", [kind, step]))
    assert [row.ratio for row in rows] == pytest.approx([0.25, 0.25, 0.0625])
    assert [row.ours for row in rows] == pytest.approx([200, 40, 10])
    assert rows[1].baseline == pytest.approx(160)


def test_convolutions_of_a_step_need_six_flops_per_mac_but_for_images():
    works = list(step_works("small", 2, Device(CPU, bfloat16=False)))
    flops = {
        name: sum(w.flops for w in works if w.kind == f"convolution {name}")
        for name in ("forward", "backward by weight", "backward by input")
    }
    assert flops["forward"] == flops["backward by weight"]
    first = 2 * 2 * 16 * 32 * 32 * 3 * 9
    assert flops["forward"] - flops["backward by input"] == first


def test_clock_returns_the_time_of_one_call():
    calls = []
    assert 0 <= Clock(CPU, 3).seconds(lambda: calls.append(1)) < 1
    assert len(calls) == 5
