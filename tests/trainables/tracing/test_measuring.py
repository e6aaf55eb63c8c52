"""Measuring the fields of a module that cannot be traced: they equal the theoretical ones."""

import pytest
import torch
from torch import Tensor, nn

from spaces import costs, receptive_fields
from spaces.errors import BadInputError
from spaces.operations import CONVOLUTIONS
from trainables.tracing import measure, trace

IMAGE = (3, 64, 64)


def plain() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding="same"),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
        nn.Hardswish(),
        nn.ConvTranspose2d(6, 4, 2, 2),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )


class ByValue(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = plain()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x if x.sum() > 0 else -x)


class Untouched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.conv(x)


def test_measured_fields_costs_and_names_are_those_of_a_trace() -> None:
    with pytest.raises(BadInputError, match="control flow"):
        trace(ByValue(), IMAGE)
    measured, traced = measure(ByValue(), IMAGE, reference="own"), trace(plain(), IMAGE)
    fields, known = receptive_fields(measured), receptive_fields(traced)
    found, expected = measured.indices(*CONVOLUTIONS), traced.indices(*CONVOLUTIONS)

    assert [fields[i].largest for i in found] == [known[i].largest for i in expected]
    assert [measured.layers[i].name for i in found] == [
        f"inner.{traced.layers[i].name}" for i in expected
    ]
    assert costs(measured).params == costs(traced).params
    assert costs(measured).macs == costs(traced).macs


def test_measuring_leaves_the_module_as_it_was() -> None:
    module = ByValue().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    measure(module, IMAGE, reference="own")

    assert module.inner.training
    assert all(torch.equal(module.state_dict()[name], value) for name, value in before.items())


def test_field_without_a_gradient_is_unbounded() -> None:
    architecture = measure(Untouched(), IMAGE, reference="own")

    assert not receptive_fields(architecture)[architecture.indices(*CONVOLUTIONS)[0]].exact
