"""Effective receptive fields for `analyze`: they lie within the theoretical ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor, nn

from spaces import Architecture, Task, find_border
from spaces.candidate import CandidateSpace
from spaces.errors import BadInputError
from tests.spaces.drawing import random_trial
from tests.spaces.graphs import examples
from trainables.builder import Network
from trainables.export.source import exported_state
from trainables.probes.constant_statistics import ConstantStatistics
from trainables.probes.effective import (
    Weighed,
    build_network,
    effective_fields,
    load_weights,
    noise_images,
)
from trainables.tracing import measure, trace

SHAPE = (3, 12, 12)
OPTIONS = {
    "vgg": {
        "depth": [2, 6],
        "features": [4, 8],
        "kernel": [1, 3, 5],
        "attention": ["none", "squeeze-excitation", "spatial", "both"],
        "norm": ["batch", "instance", "layer", "group"],
        "dilation": [1, 2],
    },
    "densenet": {"growth": 4, "layers": 2, "blocks": 2},
    "convmixer": {"depth": 2, "width": 8, "patch": 2},
}


def exceeding(architecture: Architecture, weighed: Weighed) -> list[str]:
    """Return the convolutions whose gradient reaches beyond the theoretical field."""
    analysis = find_border(architecture)
    found = effective_fields(weighed, noise_images(architecture.shapes[0])[:2], "net")
    own = weighed.architecture is not None
    beyond = []
    for index, field in zip(analysis.convolutions, analysis.fields, strict=True):
        name = f"layers.{index}" if own else architecture.layers[index].name
        extent = found[name].extent
        if any(a > b for a, b in zip(extent, field.largest, strict=True)):
            beyond.append(f"{name}: {extent} > {field.largest}")
    return beyond


@examples(12)
@given(st.sampled_from(["vgg", "densenet", "convmixer"]), st.integers(0, 10_000))
def test_theoretical_field_contains_the_gradient(family: str, seed: int) -> None:
    space = CandidateSpace(Task(*SHAPE, 10), family, OPTIONS[family], {})
    architecture = space.draw(random_trial(seed)).architecture
    assert exceeding(architecture, build_network(architecture, None, "net")) == []


class Gated(nn.Module):
    """Norms over the image, and gates in every form that users write."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding=1)
        self.c = nn.Conv2d(4, 4, 3, padding=1)
        self.norms = nn.ModuleList(
            [nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True), nn.LayerNorm([4, 12, 12])]
        )
        self.squeeze, self.around = nn.Linear(4, 4), nn.Conv2d(1, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norms[0](self.a(x))
        x = x * torch.sigmoid(self.squeeze(x.mean((2, 3))))[:, :, None, None]
        x = self.norms[1](self.b(x))
        x = torch.sigmoid(self.around(x.mean(1, keepdim=True))).mul(x)
        return self.c(self.norms[2](x) * F.hardsigmoid(x.amax((2, 3), keepdim=True)))


def test_gates_and_norms_of_users_do_not_widen_the_gradient() -> None:
    torch.manual_seed(0)
    module = Gated().eval()
    assert exceeding(trace(module, SHAPE), Weighed(module, "")) == []


@pytest.mark.parametrize("index", [0, 1, 2])
def test_constant_statistics_leave_the_output_as_it_is(index: int) -> None:
    torch.manual_seed(0)
    norm = Gated().norms[index]
    for parameter in norm.parameters():
        nn.init.uniform_(parameter)
    images = torch.randn(2, 4, 12, 12, requires_grad=True)
    with ConstantStatistics():
        frozen = norm(images)
    torch.testing.assert_close(frozen, norm(images))
    (gradient,) = torch.autograd.grad(frozen[0, 1, 3, 4], images)
    assert torch.nonzero(gradient).tolist() == [[0, 1, 3, 4]]


def test_measured_field_contains_the_gradient() -> None:
    class ByValue(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 5, padding=2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(F.relu(self.a(x if x.mean() > 0 else -x)))

    module = ByValue().eval()
    architecture = measure(module, SHAPE, reference="net")
    assert exceeding(architecture, Weighed(module, "")) == []


def test_weights_of_a_network_and_of_its_source_are_accepted(tmp_path) -> None:
    space = CandidateSpace(Task(*SHAPE, 10), "vgg", {"depth": 2, "features": 4}, {})
    architecture = space.draw(random_trial(0)).architecture
    state = Network(architecture).state_dict()
    own, exported = tmp_path / "own.safetensors", tmp_path / "exported.safetensors"
    own.write_bytes(save(state))
    exported.write_bytes(save(exported_state(architecture, state)))
    for file in (own, exported):
        loaded = build_network(architecture, file, "net")
        assert loaded.origin == str(file)
        for name, tensor in loaded.module.state_dict().items():
            torch.testing.assert_close(tensor, state[name])


def test_weights_of_another_network_are_refused(tmp_path) -> None:
    file = tmp_path / "other.pt"
    torch.save(nn.Conv2d(3, 4, 3).state_dict(), file)
    with pytest.raises(BadInputError, match="do not fit my:Net"):
        load_weights(nn.Conv2d(3, 8, 3), "my:Net", file)
    with pytest.raises(BadInputError, match="cannot be read"):
        load_weights(nn.Conv2d(3, 8, 3), "my:Net", tmp_path / "missing.pt")
