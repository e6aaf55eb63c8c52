"""The generated source of a network is the network, and reads as a person's code."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from safetensors.torch import save_file
from torch import Tensor, nn

from docs.model_source import networks
from spaces import FAMILIES, Architecture, BadInputError, Builder, Task
from spaces.named import named
from spaces.operations import (
    OPERATIONS,
    Add,
    Concat,
    Convolution,
    Gate,
    Generic,
    GlobalPooling,
    Linear,
    Operation,
    Product,
    Shape,
    Slice,
)
from spaces.source.forms import form
from tests.spaces.families.test_families import draws
from tests.spaces.graphs import architectures, examples
from tests.spaces.test_new_operations import SINGLE
from trainables.builder import Network
from trainables.export.source import exported_state, module_source, state_dict_names

SMALL = Task(3, 32, 32, 10)


def run(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(source, names)  # noqa: S102 - the generated code is under test
    return names


def trained(architecture: Architecture) -> Network:
    """Return a network whose norms have seen images."""
    torch.manual_seed(0)
    network = Network(architecture).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn_like(module.running_mean)
            module.running_var = torch.rand_like(module.running_var) + 0.5
        for name, buffer in module.named_buffers(recurse=False):
            if name == "value":
                buffer.uniform_()
    return network


def generated(architecture: Architecture, network: Network) -> nn.Module:
    """Return the generated network with the weights of the built one."""
    source = module_source(architecture)
    assert max(map(len, source.splitlines())) <= 100
    own: nn.Module = run(source)["Network"]().eval()
    own.load_state_dict(exported_state(architecture, network.state_dict()))
    return own


def assert_same(architecture: Architecture) -> None:
    """Check that the generated network gives the same output."""
    network = trained(architecture)
    own = generated(architecture, network)
    images = torch.randn(2, *architecture.shapes[0])
    with torch.no_grad():
        expected, given_ = network(images), own(images)
    torch.testing.assert_close(given_, expected, rtol=1e-6, atol=1e-6, equal_nan=True)


def params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_drawn_networks_equal_their_source(family: str) -> None:
    for drawn in draws(family)[::4]:
        assert_same(drawn.architecture)
        built = Network(drawn.architecture)
        assert params(generated(drawn.architecture, built)) == params(built)


@examples(25)
@given(architectures(steps=10))
def test_any_graph_equals_its_source(architecture: Architecture) -> None:
    assert_same(architecture)


@pytest.mark.parametrize(("operation", "shape"), SINGLE, ids=lambda value: repr(value)[:60])
def test_every_operation_equals_its_source(operation: Operation, shape: Shape) -> None:
    builder = Builder(shape)
    x = builder.add(Convolution(shape[0]), builder.image)
    builder.add(Linear(3), builder.add(operation, x))
    assert_same(builder.build())


def test_every_kind_of_operation_has_code() -> None:
    without = {"input", Generic.kind, Add.kind, Concat.kind, Gate.kind, Product.kind}
    spelled = {kind.kind for kind in form.registry if hasattr(kind, "kind")}
    assert set(OPERATIONS) - without <= spelled


def test_operation_without_code_is_refused_in_one_line() -> None:
    @dataclass(frozen=True)
    class Unknown(Operation):
        kind = "swirl"

    builder = Builder((3, 8, 8))
    builder.add(Linear(2), builder.add(Unknown(), builder.image))
    with pytest.raises(BadInputError, match="export = swirl: has no PyTorch code; ") as refused:
        module_source(builder.build())
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["vgg16", "resnet866c", "densenet121", "resnet152"])
def test_repeated_blocks_are_classes(name: str) -> None:
    architecture = named(name, Task(3, 64, 64, 10))
    assert len(module_source(architecture).splitlines()) <= 100
    names = state_dict_names(architecture)
    assert len(set(names.values())) == len(names)


def test_repetitions_become_one_line() -> None:
    assert "*[MixerBlock(256) for _ in range(16)]," in module_source(
        named("convmixer256d16", SMALL)
    )
    assert "*[DenseLayer(channels, growth=12) for channels in range(24, 216, 12)]," in (
        module_source(named("densenet100c", SMALL))
    )


def test_comments_give_fields_and_the_border() -> None:
    source = module_source(named("vgg16", SMALL))
    assert "ConvBlock(64, 64),  # 32x32, field 5\n" in source
    before, _, after = source.partition("            # Border layer, convolution 8 of 13: ")
    assert before.count("ConvBlock(") - before.count("class ConvBlock(") == 7
    assert "border layer: convolution 8 of 13" in source
    assert after


def test_header_gives_input_parameters_and_macs() -> None:
    source = module_source(named("resnet18c", SMALL), title="ResNet18 for CIFAR")
    assert source.startswith('"""ResNet18 for CIFAR.\n')
    assert "Input: float images [n, 3, 32, 32]. Output: logits [n, 10]." in source
    assert "Parameters: 11,173,962. Multiply-accumulates: 555,422,720 per image." in source


def test_source_is_formatted_and_free_of_lint(tmp_path: Path) -> None:
    drawn = [each.architecture for family in FAMILIES for each in draws(family)[:5]]
    for number, architecture in enumerate([*networks().values(), *drawn]):
        (tmp_path / f"model{number}.py").write_text(module_source(architecture), encoding="utf-8")
    ruff = [sys.executable, "-m", "ruff"]
    usual = ["--select", "E,F,I,UP,B,C4,PIE,RET,SIM,PERF,RUF"]
    for command in (["format", "--check"], ["check", *usual]):
        arguments = [*command, "--isolated", "--no-cache", "--line-length", "100", str(tmp_path)]
        run_ruff = subprocess.run([*ruff, *arguments], capture_output=True, text=True, check=False)
        assert run_ruff.returncode == 0, run_ruff.stdout


def test_load_returns_the_network_for_inference(tmp_path: Path) -> None:
    architecture = named("resnet20c", SMALL)
    network = trained(architecture)
    names = run(module_source(architecture))
    state: dict[str, Tensor] = exported_state(architecture, network.state_dict())
    save_file(state, tmp_path / "model.safetensors")
    loaded = names["load"](str(tmp_path / "model.safetensors"))
    images = torch.randn(2, 3, 32, 32)
    assert not loaded.training
    assert torch.equal(loaded(images), network(images))


def test_layers_beside_the_output_are_left_out() -> None:
    builder = Builder((3, 8, 8))
    builder.add(Convolution(7), builder.image)
    x = builder.add(Slice(0, 2), builder.image)
    builder.add(Linear(2), builder.add(GlobalPooling(), x))
    assert set(state_dict_names(builder.build())) == {"layers.4.weight", "layers.4.bias"}
