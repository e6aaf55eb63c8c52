"""Tracing user modules: the graph matches what torch runs, and unsupported parts are explained."""

import math
import warnings
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from spaces import Architecture, BadInputError, costs, find_border, receptive_fields
from spaces.operations import (
    ACTIVATIONS,
    CONVOLUTIONS,
    NORMS,
    OTHER_ACTIVATIONS,
    OTHER_NORMS,
    Activation,
    AdaptivePooling,
    Add,
    ChannelPooling,
    ChannelShuffle,
    Concat,
    Convolution,
    Dropout,
    Flatten,
    Gate,
    GlobalPooling,
    Linear,
    Norm,
    Operation,
    Padding,
    ParametricRelu,
    PixelShuffle,
    PixelUnshuffle,
    Pooling,
    Product,
    Resizing,
    Scale,
    Shape,
    Shift,
    Slice,
    TransposedConvolution,
    Upsampling,
)
from spaces.receptive_field import gate_branches
from tests.spaces.graphs import architectures, examples
from tests.spaces.nets import Builder, chain
from tests.spaces.reference import reaching_output
from trainables.builder import Network
from trainables.tracing import load_model, trace

IMAGE = (3, 32, 32)


@cache
def vision(name: str) -> tuple[nn.Module, Architecture]:
    """Return a torchvision net and its graph at its own resolution."""
    module = load_model(f"torchvision:{name}")
    side = 299 if name == "inception_v3" else 224
    return module, trace(module, (3, side, side))


def flops(module: nn.Module, images: Tensor) -> tuple[int, torch.Size]:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        output = module.eval()(images)
    return counter.get_total_flops(), output.shape


def shape_of(output: torch.Size) -> Shape:
    return tuple([*output[1:], 1, 1][:3])


def kinds(architecture: Architecture) -> list[type[Operation]]:
    return [type(layer.operation) for layer in architecture.layers[1:]]


# torchvision's nets

NAMES = [
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3"),
    *("mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "resnet18"),
    *("resnet34", "resnet50", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1", "vgg16"),
]


@pytest.mark.parametrize("name", NAMES)
def test_parameters_macs_and_output_match_torch(name):
    module, architecture = vision(name)
    images = torch.empty(1, *architecture.shapes[0], device="meta")
    counted, output = flops(module.to("meta"), images)

    assert costs(architecture).params == sum(p.numel() for p in module.parameters())
    assert 2 * costs(architecture).macs == counted
    assert architecture.shapes[-1] == shape_of(output)


def convolution_fields(name: str) -> dict[str, tuple[int, int]]:
    """Return the (smallest, largest) field of each convolution by name, except in gates."""
    architecture = vision(name)[1]
    fields, aside = receptive_fields(architecture), gate_branches(architecture)
    return {
        architecture.layers[i].name: (fields[i].smallest[1], fields[i].largest[1])
        for i in architecture.indices(*CONVOLUTIONS)
        if i not in aside
    }


def test_resnet18_fields_follow_shortcuts_and_blocks():
    fields = convolution_fields("resnet18")
    main_path = [field for layer, field in fields.items() if "downsample" not in layer]

    smallest = [7, 19, 27, 19, 27, 19, 35, 27, 43, 27, 59, 43, 75, 43, 107, 75, 139]
    assert [low for low, _ in main_path] == smallest
    assert main_path[-1] == (139, 435)


@pytest.mark.parametrize("name", ["resnet34", "resnet50"])
def test_smallest_fields_repeat_from_a_stages_second_block(name):
    fields = convolution_fields(name)
    blocks = {34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}[int(name[-2:])]
    last = {34: "conv2", 50: "conv3"}[int(name[-2:])]
    expected = {34: [27, 43, 75, 139], 50: [19, 27, 43, 75]}[int(name[-2:])]
    for stage, (count, low) in enumerate(zip(blocks, expected, strict=True), start=1):
        assert {fields[f"layer{stage}.{block}.{last}"][0] for block in range(1, count)} == {low}


@pytest.mark.parametrize(
    ("name", "smallest", "largest"),
    [
        ("densenet121", 103, 2071),
        ("mobilenet_v2", 163, 491),
        ("googlenet", 123, 379),
        ("inception_v3", 143, 1247),
        ("efficientnet_b0", 235, 851),
    ],
)
def test_last_convolution_has_the_expected_fields(name, smallest, largest):
    assert list(convolution_fields(name).values())[-1] == (smallest, largest)


@pytest.mark.parametrize(
    ("name", "fields", "borders"),
    [
        (
            "vgg16",
            [3, 5, 10, 14, 24, 32, 40, 60, 76, 92, 132, 164, 196],
            {"previous-conv": "7/8/10/-", "direct-input": "7/8/10/-", "non-strict": "7/7/10/-"},
        ),
        (
            "alexnet",
            [11, 51, 99, 131, 163],
            {"previous-conv": "3/3/4/-", "direct-input": "3/3/3/-", "non-strict": "3/3/3/-"},
        ),
    ],
)
def test_plain_nets_have_expected_borders_at_four_resolutions(name, fields, borders):
    architecture = vision(name)[1]

    assert list(convolution_fields(name).values()) == [(r, r) for r in fields]
    for rule, expected in borders.items():
        found = [find_border(architecture, rule, resolution=(i, i)) for i in (28, 32, 64, 224)]
        assert "/".join("-" if a.border is None else str(a.border) for a in found) == expected


def test_gates_are_distinguished_from_products():
    architecture = vision("efficientnet_b0")[1]

    assert kinds(architecture).count(Gate) == 16
    assert Product not in kinds(architecture)
    for layer in architecture.layers:
        if isinstance(layer.operation, Gate):
            gated, gate = (architecture.shapes[i] for i in layer.inputs)
            assert gated[1] > 1
            assert gate == (gated[0], 1, 1)


def test_layers_are_named_after_their_modules_and_calls():
    names = [layer.name for layer in vision("resnet18")[1].layers]

    assert names[1:5] == ["conv1", "bn1", "relu", "maxpool"]
    assert "layer2.0.downsample.0" in names
    assert "layer1.0.add" in names
    assert names[-2:] == ["avgpool", "fc"]


def test_segmentation_nets_with_dilation_and_resizing_are_traced():
    module = load_model("torchvision:deeplabv3_resnet50")
    architecture = trace(module, (3, 64, 64))

    assert architecture.shapes[-1] == (21, 64, 64)
    assert costs(architecture).params == sum(p.numel() for p in module.parameters())


# User modules


class Net(nn.Module):
    """A module with a given forward and these submodules."""

    def __init__(self, forward, **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.calculate = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.calculate(self, x)


def conv(features: int = 8, kernel: int = 3, channels: int = 3, **options) -> nn.Conv2d:
    padding = options.pop("padding", kernel // 2)
    return nn.Conv2d(channels, features, kernel, padding=padding, **options)


def squeeze_excite(net: Net, x: Tensor) -> Tensor:
    b, c, _, _ = x.shape
    gate = x.mean((2, 3)).view(b, c)
    gate = torch.sigmoid(net.up(F.relu(net.down(gate)))).view(b, c, 1, 1)
    return x * gate.expand_as(x)


def shuffle(_: Net, x: Tensor) -> Tensor:
    b, c, h, w = x.size()
    x = x.view(b, 3, c // 3, h, w).transpose(1, 2).contiguous()
    return x.view(b, -1, h, w)


def spatial_attention(net: Net, x: Tensor) -> Tensor:
    looks = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], dim=1)
    return torch.sigmoid(net.conv(looks)) * x


def convnext(net: Net, x: Tensor) -> Tensor:
    y = net.norm(net.depthwise(x).permute(0, 2, 3, 1))
    y = net.contract(F.gelu(net.expand(y)))
    return x + net.gamma * y.permute(0, 3, 1, 2)


def u_net(net: Net, x: Tensor) -> Tensor:
    coarse = net.coarse(F.max_pool2d(x, 2))
    up = F.interpolate(coarse, size=x.shape[-2:], mode="bilinear", align_corners=False)
    return net.up(coarse) + net.out(torch.cat([x, up], 1))


def padded_shortcut(net: Net, x: Tensor) -> Tensor:
    return F.relu(net.conv(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 3)))


def pixel_attention(net: Net, x: Tensor) -> Tensor:
    return net.one(x).tanh() * net.other(x).sigmoid()


def global_context(net: Net, x: Tensor) -> Tensor:
    return x + net.conv(F.adaptive_avg_pool2d(x, 1))


def arithmetic(net: Net, x: Tensor) -> Tensor:
    x = (x / 255 - net.mean) / net.std
    return 2 - x + (1 - x) * 0.5 - x.sub(x, alpha=2) + (-x)


def parts(_: Net, x: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=1) if x.shape[1] % 2 == 0 else (x[:, :1], x[:, 1:])
    c, d = torch.split(b, [1, b.shape[1] - 1], dim=1)
    return torch.cat((d, a, c, x.narrow(1, 0, 2), x.select(1, 1).unsqueeze(1)), 1)


def reductions(_: Net, x: Tensor) -> Tensor:
    pooled = x.flatten(2).mean(2) + x.amax((2, 3)) + x.sum((-1, -2)) + x.flatten(2).max(2).values
    return pooled + x.mean(3).mean(2) + F.adaptive_max_pool2d(x, 1).squeeze()


def by_shape(net: Net, x: Tensor) -> Tensor:
    while x.shape[-1] > 4:
        x = F.relu(net.conv(x)) if x.shape[1] == 3 else F.avg_pool2d(x, 2)
    return x


def flat_features(net: Net, x: Tensor) -> Tensor:
    x = torch.flatten(F.avg_pool2d(x, 8), 1)
    return net.out(F.dropout(F.relu(net.norm(x)), 0.5, net.training))


def strips(net: Net, x: Tensor) -> Tensor:
    rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True)
    return x * net.rows(rows).sigmoid() * net.columns(columns).sigmoid()


def moved(net: Net, x: Tensor) -> Tensor:
    return F.log_softmax(net.out(x.movedim(1, -1)).movedim(-1, 1).mean((2, 3)), dim=1)


def crops(_: Net, x: Tensor) -> Tensor:
    return F.pad(x, (1, 0, 2, 1), mode="reflect")[:, :, 1:-1, 3:]


def gamma(channels: int, value: float = 0.5) -> nn.Parameter:
    return nn.Parameter(torch.full((channels, 1, 1), value))


def ones(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.ones(shape))


def statistics(net: Net) -> Net:
    net.register_buffer("mean", torch.full((1, 3, 1, 1), 0.0))
    net.register_buffer("std", torch.full((3, 1, 1), 1.0))
    return net


USERS = {
    "squeeze and excitation": lambda: (
        Net(squeeze_excite, down=nn.Linear(3, 2), up=nn.Linear(2, 3)),
        [GlobalPooling, Linear, Activation, Linear, Activation, Gate],
    ),
    "channel shuffle": lambda: (
        nn.Sequential(conv(6), Net(shuffle), conv(6, 1, 6)),
        [Convolution, ChannelShuffle, Convolution],
    ),
    "spatial attention": lambda: (
        Net(spatial_attention, conv=conv(1, 7, 2)),
        [ChannelPooling, ChannelPooling, Concat, Convolution, Activation, Gate],
    ),
    "ConvNeXt block": lambda: (
        Net(
            convnext,
            depthwise=conv(3, 7, groups=3),
            norm=nn.LayerNorm(3),
            expand=nn.Linear(3, 12),
            contract=nn.Linear(12, 3),
            gamma=gamma(3),
        ),
        [Convolution, Norm, Convolution, Activation, Convolution, Scale, Add],
    ),
    "U-Net": lambda: (
        Net(u_net, coarse=conv(4), up=nn.ConvTranspose2d(4, 5, 2, 2), out=conv(5, channels=7)),
        [Pooling, Convolution, Resizing, TransposedConvolution, Concat, Convolution, Add],
    ),
    "zero-padded shortcut": lambda: (
        Net(padded_shortcut, conv=conv(8, stride=2)),
        [Convolution, Pooling, Pooling, Padding, Add, Activation],
    ),
    "product of two branches, the sigmoid gates": lambda: (
        Net(pixel_attention, one=conv(), other=conv(bias=False)),
        [Convolution, Activation, Convolution, Activation, Gate],
    ),
    "bilinear product": lambda: (
        Net(lambda net, x: net.one(x) * net.other(x), one=conv(), other=conv(kernel=1)),
        [Convolution, Convolution, Product],
    ),
    "context added to every pixel": lambda: (
        Net(global_context, conv=conv(3, 1)),
        [GlobalPooling, Convolution, Resizing, Add],
    ),
    "arithmetic with constants": lambda: (statistics(Net(arithmetic)), None),
    "parts of the channels": lambda: (Net(parts), [*[Slice] * 6, Concat]),
    "reductions": lambda: (Net(reductions), None),
    "control flow by shape": lambda: (
        Net(by_shape, conv=conv()),
        [Convolution, Activation, *[Pooling] * 3],
    ),
    "features of a flattened map": lambda: (
        Net(flat_features, norm=nn.BatchNorm1d(48), out=nn.Linear(48, 5)),
        [Pooling, Flatten, Norm, Activation, Dropout, Linear],
    ),
    "gates of rows and columns": lambda: (
        Net(strips, rows=conv(3, 1), columns=conv(3, 1)),
        None,
    ),
    "channels moved last": lambda: (
        Net(moved, out=nn.Linear(3, 4, bias=False)),
        [Convolution, GlobalPooling, Activation],
    ),
    "pads and crops": lambda: (Net(crops), [Padding, Padding, Padding]),
    "same padding, even kernels": lambda: (
        nn.Sequential(
            nn.Conv2d(3, 4, (4, 3), padding="same", dilation=(1, 2)),
            nn.Conv2d(4, 4, 3, padding="valid", padding_mode="zeros"),
            nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        ),
        [Padding, Convolution, Convolution, Padding, Convolution],
    ),
    "one-dimensional, grouped, dilated kernels": lambda: (
        nn.Sequential(
            nn.Conv2d(3, 6, (1, 7), padding=(0, 3), groups=3),
            nn.Conv2d(6, 6, (7, 1), (2, 1), dilation=(2, 1)),
            nn.MaxPool2d((1, 2), ceil_mode=True),
        ),
        [Convolution, Convolution, Pooling],
    ),
    "upsampling": lambda: (
        nn.Sequential(
            nn.Upsample(scale_factor=2),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Upsample(size=(30, 20), mode="bicubic", align_corners=True),
            nn.Upsample(scale_factor=1.5),
            nn.ConvTranspose2d(3, 4, (3, 5), (2, 1), 1, (1, 0), dilation=(1, 2)),
            nn.PixelShuffle(2),
            nn.PixelUnshuffle(2),
        ),
        [
            *(Upsampling, Upsampling, Resizing, Resizing, TransposedConvolution),
            *(PixelShuffle, PixelUnshuffle),
        ],
    ),
    "adaptive pooling": lambda: (
        nn.Sequential(
            nn.AdaptiveAvgPool2d((7, 5)),
            nn.AdaptiveMaxPool2d(3),
            nn.AdaptiveAvgPool2d((None, 2)),
            nn.AdaptiveMaxPool2d(1),
        ),
        [AdaptivePooling, AdaptivePooling, AdaptivePooling, GlobalPooling],
    ),
    "norms": lambda: (
        nn.Sequential(
            nn.BatchNorm2d(3),
            nn.BatchNorm2d(3, affine=False),
            nn.InstanceNorm2d(3),
            nn.InstanceNorm2d(3, affine=True),
            nn.GroupNorm(3, 3),
            nn.GroupNorm(1, 3),
            nn.LayerNorm([3, 32, 32]),
        ),
        [*[Norm] * 7, Scale, Shift],
    ),
    "activations": lambda: (
        nn.Sequential(
            *(nn.ReLU(inplace=True), nn.LeakyReLU(), nn.CELU(), nn.GELU(), nn.SiLU()),
            *(nn.Sigmoid(), nn.ReLU6(), nn.ELU(), nn.SELU(), nn.Mish(), nn.Softplus()),
            *(nn.Hardtanh(), nn.Hardsigmoid(), nn.Hardswish(), nn.Hardshrink()),
            *(nn.Softshrink(), nn.Tanh(), nn.LogSigmoid(), nn.Softmax(1), nn.LogSoftmax(1)),
            *(nn.PReLU(), nn.PReLU(3)),
        ),
        [*[Activation] * 20, ParametricRelu, ParametricRelu],
    ),
}


@pytest.fixture(scope="module")
def users() -> dict[str, tuple[nn.Module, Architecture]]:
    traced: dict[str, tuple[nn.Module, Architecture]] = {}
    return traced


def of_users(name: str, users: dict[str, tuple[nn.Module, Architecture]]):
    if name not in users:
        module = USERS[name]()[0].eval()
        users[name] = module, trace(module, IMAGE)
    return users[name]


@pytest.mark.parametrize("name", USERS)
def test_user_modules_become_the_equivalent_layers(name, users):
    module, architecture = of_users(name, users)
    expected = USERS[name]()[1]
    counted, output = flops(module, torch.rand(2, *IMAGE))

    assert expected is None or kinds(architecture) == expected
    assert costs(architecture).params == sum(p.numel() for p in module.parameters())
    assert 2 * 2 * costs(architecture).macs == counted
    assert architecture.shapes[-1] == shape_of(output)
    assert Architecture.from_json(architecture.to_json()) == architecture


def copy_weights(module: nn.Module, architecture: Architecture, network: Network) -> None:
    """Copy the weights of the traced module to the network built from its graph."""
    parameters, buffers = dict(module.named_parameters()), dict(module.named_buffers())
    for layer, built in zip(architecture.layers, network.layers, strict=True):
        prefixes = [f"{layer.name}.", layer.name]
        for name, own in [*built.named_parameters(), *built.named_buffers()]:
            candidates = [prefix + name for prefix in prefixes[:1]] + prefixes[1:]
            for key in candidates:
                source = parameters.get(key, buffers.get(key))
                if source is not None:
                    own.data = source.data.reshape(own.shape)


@pytest.mark.parametrize("name", [name for name in USERS if name != "arithmetic with constants"])
def test_rebuilt_network_computes_the_same_as_the_module(name, users):
    module, architecture = of_users(name, users)
    with torch.no_grad():
        network = Network(architecture).double().eval()
        images = torch.rand(2, *IMAGE, dtype=torch.float64)
        copy_weights(module.double(), architecture, network)
        torch.testing.assert_close(network(images), module(images).flatten(1))


@pytest.mark.parametrize(
    "name", ["resnet18", "googlenet", "shufflenet_v2_x0_5", "squeezenet1_1", "efficientnet_b0"]
)
def test_rebuilt_network_computes_the_same_as_torchvisions(name):
    with torch.no_grad():
        module = load_model(f"torchvision:{name}").to_empty(device="cpu").double()
        torch.manual_seed(0)
        for key, value in [*module.named_parameters(), *module.named_buffers()]:
            scale = 1 if value.ndim < 2 else (2 / value[0].numel()) ** 0.5
            if value.is_floating_point():
                value.copy_(
                    torch.rand(value.shape) + 0.5
                    if "var" in key
                    else torch.randn(value.shape) * scale
                )
        for part in module.modules():
            if hasattr(part, "eps"):
                part.eps = 1e-5
        architecture = trace(module.eval(), (3, 64, 64))
        network = Network(architecture).double().eval()
        copy_weights(module, architecture, network)
        images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
        torch.testing.assert_close(network(images), module(images), rtol=1e-6, atol=1e-8)


# Graph to module to graph


def assert_traced_back(architecture: Architecture) -> None:
    traced = trace(Network(architecture), architecture.shapes[0])
    live = sorted(reaching_output(architecture))
    numbers = {index: number for number, index in enumerate(live)}
    layers = [architecture.layers[i] for i in live]
    alive = Architecture(
        tuple(x._replace(inputs=tuple(numbers[i] for i in x.inputs)) for x in layers)
    )
    assert costs(traced).params == costs(alive).params
    assert costs(traced).macs == costs(alive).macs
    for include_gates in (False, True):
        fields = receptive_fields(alive, include_gates=include_gates)
        again = receptive_fields(traced, include_gates=include_gates)
        expected = {f"layers.{index}": fields[numbers[index]] for index in live}
        found = [traced.layers[i].name for i in traced.indices(*CONVOLUTIONS)]
        assert found == [f"layers.{i}" for i in architecture.indices(*CONVOLUTIONS) if i in live]
        assert [again[i] for i in traced.indices(*CONVOLUTIONS)] == [expected[x] for x in found]


@examples(25)
@given(architectures())
def test_graph_survives_building_and_tracing(architecture):
    assert_traced_back(architecture)


def test_every_norm_activation_and_new_operation_is_traced():
    operations = [
        *[Norm(norm, 2 if norm == "group" else 1) for norm in NORMS + OTHER_NORMS],
        *[Norm(norm, affine=False) for norm in NORMS + OTHER_NORMS if norm != "group"],
        *[Activation(function) for function in ACTIVATIONS + OTHER_ACTIVATIONS],
        *(Scale(value=2.0), Scale((8, 1, 1), learned=True), Scale((1, 9, 9)), Shift((8, 1, 1))),
        *(ParametricRelu(), ParametricRelu(8), ChannelShuffle(4), Slice(2, 6)),
        *(Padding((1, 2, 3), (0, -1, 0)), Padding((0, 1, 1), (0, 1, 1), "reflect")),
        *(TransposedConvolution(8, (3, 3), (2, 2), (1, 1), (1, 1), bias=True), Convolution(8)),
        *(Upsampling((2, 1), "bicubic"), Resizing((11, 7), "bilinear", align_corners=True)),
        *(PixelShuffle(), PixelUnshuffle(), AdaptivePooling((3, 5), "max"), Flatten(), Linear(4)),
    ]
    architecture = chain((8, 9, 9), *operations)
    traced = trace(Network(architecture), (8, 9, 9))

    without_flatten = [operation for operation in operations if not isinstance(operation, Flatten)]
    assert [layer.operation for layer in traced.layers[1:]] == without_flatten
    assert_traced_back(architecture)


def test_product_survives_building_and_tracing():
    builder = Builder((3, 8, 8))
    one = builder.add(Convolution(4), builder.image)
    builder.add(Product(), one, builder.add(Convolution(4, (1, 1), padding=(0, 0)), builder.image))

    assert_traced_back(builder.build())


def test_a_layer_is_named_without_its_weight():
    spectral = nn.utils.parametrizations.spectral_norm(conv())

    assert trace(conv(), IMAGE).layers[-1].name == "conv2d"
    assert trace(nn.Sequential(spectral), IMAGE).layers[-1].name == "0"
    assert trace(Net(lambda net, x: x * net.own, own=gamma(3)), IMAGE).layers[-1].name == "own"


def test_layers_without_effect_on_the_output_are_omitted():
    net = Net(lambda net, x: (net.aside(x), net.conv(x))[1], aside=conv(), conv=conv())

    assert [layer.name for layer in trace(net, IMAGE).layers] == ["", "conv"]


def test_tracing_leaves_the_module_as_it_was():
    net = nn.Sequential(conv(), nn.BatchNorm2d(8), nn.Dropout()).train()
    net[1].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    trace(net, IMAGE)

    assert [part.training for part in net] == [True, False, True]
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())


def test_lazy_modules_get_their_shapes_from_the_image():
    architecture = trace(nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d()), IMAGE)

    assert kinds(architecture) == [Convolution, Norm]


def test_images_can_be_rectangular():
    assert trace(nn.Sequential(conv(stride=2)), (3, 17, 40)).shapes[-1] == (8, 9, 20)


# Operations without a layer of their own


def shared(net: Net, x: Tensor) -> Tensor:
    return net.conv(net.conv(x))


def through_view(_: Net, x: Tensor) -> Tensor:
    y = x * 2
    y[:, :1] += 1
    return y


def attention(net: Net, x: Tensor) -> Tensor:
    tokens = net.conv(x).flatten(2).transpose(1, 2)
    return F.scaled_dot_product_attention(tokens, tokens, tokens)


def manual_attention(net: Net, x: Tensor) -> Tensor:
    b, _, h, w = x.shape
    q, k, v = net.qkv(x).reshape(b, 3, 2, 4, h * w).unbind(1)
    scores = (q.transpose(-2, -1) @ k).softmax(dim=-1)
    return (v @ scores.transpose(-2, -1)).reshape(b, 8, h, w)


def mixer(net: Net, x: Tensor) -> Tensor:
    tokens = x.flatten(2)
    return x + net.mix(tokens).view_as(x)


def split_attention(net: Net, x: Tensor) -> Tensor:
    x = net.conv(x).reshape(x.shape[0], 2, 4, *x.shape[2:])
    weights = net.out(x.sum(1).mean((2, 3), keepdim=True)).view(x.shape[0], 2, 4, 1, 1)
    return (x * weights.softmax(1)).sum(1)


def standardised(net: Net, x: Tensor) -> Tensor:
    weight = F.batch_norm(net.weight.reshape(1, 4, -1), None, None, net.gain, training=True)
    return F.conv2d(x, weight.reshape_as(net.weight), padding=1)


def space_to_depth(net: Net, x: Tensor) -> Tensor:
    b, c, h, w = x.shape
    x = x.view(b, c, h // 4, 4, w // 4, 4).permute(0, 3, 5, 1, 2, 4)
    return net.conv(x.reshape(b, c * 16, h // 4, w // 4))


def depth_to_space(net: Net, x: Tensor) -> Tensor:
    b, _, h, w = x.shape
    x = net.conv(x).view(b, 2, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(b, 2, 2 * h, 2 * w)


def kernels_per_image(net: Net, x: Tensor) -> Tensor:
    b, c, h, w = x.shape
    weight = (net.route(x.mean((2, 3))).sigmoid() @ net.experts).view(4 * b, c, 3, 3)
    return F.conv2d(x.reshape(1, b * c, h, w), weight, padding=1, groups=b).view(b, 4, h, w)


def without_gradients(net: Net, x: Tensor) -> Tensor:
    with torch.no_grad():
        x = net.conv(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = x.relu()
    return checkpoint(net.out, x, use_reentrant=False)


EXACT = {
    "a norm over channels": (lambda: Net(lambda _, x: torch.linalg.norm(x, dim=1)), None),
    "weights shared by two calls": (lambda: Net(shared, conv=conv(3)), 5),
    "in-place through a view": (lambda: nn.Sequential(Net(through_view), conv()), 3),
    "split attention": (lambda: Net(split_attention, conv=conv(), out=conv(8, 1, 4)), 3),
    "standardised weights": (
        lambda: Net(
            standardised,
            weight=nn.Parameter(torch.ones(4, 3, 3, 3)),
            gain=nn.Parameter(torch.ones(4)),
        ),
        3,
    ),
    "space to depth": (lambda: Net(space_to_depth, conv=conv(8, 3, 48)), 12),
    "depth to space": (lambda: nn.Sequential(Net(depth_to_space, conv=conv()), conv(8, 3, 2)), 4),
    "kernels of every image": (
        lambda: Net(kernels_per_image, route=nn.Linear(3, 2), experts=ones(2, 4 * 27)),
        3,
    ),
    "blocks without gradients": (lambda: Net(without_gradients, conv=conv(), out=conv(4, 3, 8)), 5),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(conv()), 3),
    "a fixed blur": (
        lambda: nn.Sequential(
            Net(lambda _, x: F.conv2d(x, torch.ones(3, 1, 4, 4), stride=2, groups=3)), conv()
        ),
        8,
    ),
    "two results": (lambda: Net(lambda net, x: {"a": net.conv(x), "b": x + 1}, conv=conv()), 1),
    "channels last": (lambda: Net(lambda net, x: net.conv(x).permute(0, 2, 3, 1), conv=conv()), 3),
    "a gate for all channels": (lambda: Net(lambda _, x: x.mean(1, True) + x), None),
    "division by an average": (lambda: Net(lambda _, x: x / x.mean((2, 3), True)), None),
    "the larger of two maps": (
        lambda: Net(lambda net, x: torch.max(x, net.conv(x)), conv=conv(3)),
        1,
    ),
    "a cube": (lambda: Net(lambda _, x: x**3), None),
    "an average over the batch": (
        lambda: nn.Sequential(Net(lambda _, x: x + x.mean()), conv()),
        3,
    ),
    "images one by one": (
        lambda: Net(lambda net, x: torch.stack([net.conv(i[None])[0] for i in x]), conv=conv()),
        3,
    ),
    "images in another order": (
        lambda: nn.Sequential(Net(lambda _, x: x[torch.arange(len(x)).flip(0)]), conv()),
        3,
    ),
    "unfolded windows": (lambda: Net(lambda _, x: F.unfold(x, 3).sum(1)), None),
}
BOUNDS = {
    "attention": lambda: Net(attention, conv=conv()),
    "attention as products": lambda: nn.Sequential(
        Net(manual_attention, qkv=conv(24, 1)), conv(8, 3, 8)
    ),
    "a mixer": lambda: nn.Sequential(Net(mixer, mix=nn.Linear(1024, 1024)), conv()),
    "a mirror image": lambda: nn.Sequential(Net(lambda _, x: x + x.flip(3)), conv()),
    "a Fourier transform": lambda: nn.Sequential(Net(lambda _, x: torch.fft.fft2(x).real), conv()),
    "rows joined": lambda: nn.Sequential(Net(lambda _, x: torch.cat([x, x], 2)), conv()),
    "an LSTM over rows": lambda: Net(
        lambda net, x: net.lstm(x.mean(1))[0], lstm=nn.LSTM(32, 8, batch_first=True)
    ),
}


def assert_torch_agrees(module: nn.Module, architecture: Architecture) -> None:
    module.eval().requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        module.to("meta")(torch.empty(1, *IMAGE, device="meta"))
    assert costs(architecture).params == sum(p.numel() for p in module.parameters())
    assert 2 * costs(architecture).macs == counter.get_total_flops()
    assert Architecture.from_json(architecture.to_json()) == architecture


@pytest.mark.parametrize("name", EXACT)
def test_operations_of_known_reach_stay_exact(name):
    build, field = EXACT[name]
    module = build()
    architecture = trace(module, IMAGE)
    fields = receptive_fields(architecture)

    assert_torch_agrees(module, architecture)
    assert all(field.exact for field in fields)
    assert field is None or fields[-1].smallest == (field, field)


@pytest.mark.parametrize("name", BOUNDS)
def test_unknown_reach_bounds_the_fields_after_it(name):
    module = BOUNDS[name]()
    architecture = trace(module, IMAGE)
    last = receptive_fields(architecture)[-1]

    assert_torch_agrees(module, architecture)
    assert not last.exact
    assert max(last.largest) == math.inf
    assert find_border(architecture).border is None


def test_a_shortcut_around_attention_keeps_the_smallest_field():
    inner = Net(manual_attention, qkv=conv(24, 1, 8))
    around = Net(lambda net, x: x + net.inner(x), inner=inner)
    architecture = trace(nn.Sequential(conv(), around, conv(8, 3, 8)), IMAGE)

    last = receptive_fields(architecture)[-1]
    assert last == ((5, 5), (math.inf, math.inf))


# What cannot be analysed


def by_value(_: Net, x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


def fails(_: Net, x: Tensor) -> Tensor:
    raise KeyError("no such thing")


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x * mask


class NoInput(nn.Module):
    def forward(self) -> Tensor:
        return torch.zeros(1)


def say(net: nn.Module, image: Shape = IMAGE) -> str:
    with pytest.raises(BadInputError) as failed:
        trace(net, image)
    assert failed.value.field == "NETWORK"
    assert "\n" not in str(failed.value)
    return str(failed.value)


@pytest.mark.parametrize(
    ("build", "fragments"),
    [
        (lambda: nn.Sequential(nn.Conv3d(3, 3, 1)), ["forward raised", " in 0: "]),
        (lambda: Net(by_value), ["control flow depends on the values", "line", "x.sum() > 0"]),
        (lambda: Net(fails), ["forward raised KeyError", "no such thing", "raise KeyError"]),
        (TwoInputs, ["takes 2 inputs (x, mask)"]),
        (NoInput, ["takes no input"]),
        (lambda: nn.Sequential(conv(8, 50, padding=0)), ["3 x 32 x 32", " in 0: "]),
        (lambda: conv(channels=1), ["forward raised RuntimeError", "3 x 32 x 32"]),
        (lambda: Net(lambda _, x: 3), ["returns no tensor"]),
    ],
)
def test_a_module_that_cannot_run_is_explained_in_one_line(build, fragments, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        message = say(build())

    assert [fragment for fragment in fragments if fragment not in message] == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("image", [(3, 0, 32), (3, 32, -1), (0, 32, 32)])
def test_resolution_below_one_is_refused(image):
    with pytest.raises(BadInputError, match="is no image"):
        trace(conv(), image)


# References


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, which contains a user module."""
    (tmp_path / "my_traced_nets.py").write_text(
        "import sys, torch\n"
        "from torch import nn\n"
        "class Small(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv = nn.Conv2d(3, 4, 3)\n"
        "        self.rates = [x.item() for x in torch.linspace(0, 1, 3)]\n"
        "    def forward(self, x):\n"
        "        print('forward')\n"
        "        return self.conv(x).relu()\n"
        "class Scaled(Small):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.scale = nn.Parameter(torch.full((4,), 7.0))\n"
        "        nn.init.constant_(self.scale, 1.0)\n"
        "    def forward(self, x):\n"
        "        return super().forward(x) if (self.scale == 1).all() else x\n"
        "def build(): return Small()\n"
        "def broken(): raise RuntimeError('no data\\nat all')\n"
        "def wants(size): return Small()\n"
        "def leaves(): sys.exit(3)\n"
        "def number(): return 5\n"
        "instance = Small()\n"
        "constant = 5\n"
    )
    (tmp_path / "my_broken_nets.py").write_text("import not_there_at_all\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["Small", "Scaled", "build", "instance"])
def test_module_in_the_current_folder_is_built(name, capfd):
    architecture = trace(load_model(f"my_traced_nets:{name}"), IMAGE)

    assert [layer.name for layer in architecture.layers] == ["", "conv", "relu"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("reference", "fragments"),
    [
        ("torchvision:resnet19", ["no such model", "did you mean torchvision:resnet1"]),
        ("torchvision:resnext999", ["no such model", "did you mean torchvision:resnext50_32x4d"]),
        ("torchvision:qqqqqqq", ["no such model", "known are alexnet, "]),
        ("resnet18", ["names no module"]),
        ("torchvision:", ["names no module"]),
        ("not_there_at_all:Net", ["cannot be imported", "ModuleNotFoundError"]),
        ("my_broken_nets:Net", ["cannot be imported", "not_there_at_all"]),
        ("my_traced_nets:Smal", ["has no Smal", "did you mean my_traced_nets:Small?"]),
        ("my_traced_nets:qqqqqqq", ["has no qqqqqqq"]),
        ("my_traced_nets:broken", ["raised RuntimeError", "no data at all"]),
        ("my_traced_nets:wants", ["raised TypeError", "size"]),
        ("my_traced_nets:leaves", ["raised SystemExit", "call neither sys.exit nor argparse"]),
        ("my_traced_nets:number", ["returned a int", "no torch.nn.Module"]),
        ("my_traced_nets:constant", ["is a int"]),
    ],
)
def test_module_that_cannot_be_built_is_explained_in_one_line(reference, fragments):
    with pytest.raises(BadInputError) as failed:
        load_model(reference)

    message = str(failed.value)
    assert failed.value.field == "NETWORK"
    assert "\n" not in message
    assert [fragment for fragment in fragments if fragment not in message] == []


def test_torchvision_nets_load_no_weights_and_draw_none(monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("nothing is downloaded")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    state = torch.get_rng_state()
    for name in ("resnet18", "fcn_resnet50", "googlenet"):
        load_model(f"torchvision:{name}")
    assert torch.equal(torch.get_rng_state(), state)
