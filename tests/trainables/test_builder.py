"""The module of an architecture matches its graph exactly."""

import weakref
from collections.abc import Callable
from contextlib import suppress

import optuna
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from spaces.architecture import Architecture, Builder
from spaces.candidate import CandidateSpace
from spaces.costs import costs
from spaces.operations import (
    ACTIVATIONS,
    NORMS,
    OPERATIONS,
    POOLING_MODES,
    Activation,
    AdaptivePooling,
    Add,
    ChannelPooling,
    CollapsedMapError,
    Concat,
    Convolution,
    Dropout,
    Flatten,
    Gate,
    GlobalPooling,
    Input,
    Linear,
    Norm,
    Operation,
    Pooling,
    Shape,
    Slice,
)
from spaces.receptive_field import receptive_fields
from spaces.task import Task
from trainables.builder import Network, build_layer, initialise_identity, initialise_scales

FEW = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
IMAGES = 3
"""Images in a batch."""


# Random architectures


class Graph:
    """A builder that tracks shapes and layers whose output is unused."""

    def __init__(self, image: Shape) -> None:
        self.builder = Builder(image)
        self.shapes = [image]
        self.tips = {0}

    def add(self, operation: Operation, *inputs: int) -> int:
        self.shapes.append(operation.output_shape(tuple(self.shapes[i] for i in inputs)))
        self.tips = self.tips - set(inputs) | {self.builder.add(operation, *inputs)}
        return len(self.shapes) - 1

    def finish(self, classes: int, pooling: GlobalPooling | None) -> Architecture:
        """Combine all unused outputs, so that every layer affects the result."""
        ends = sorted(self.tips)
        if pooling is not None or len({self.shapes[i][1:] for i in ends}) > 1:
            ends = [self.add(pooling or GlobalPooling(), i) for i in ends]
        self.add(Linear(classes), self.add(Concat(), *ends))
        return self.builder.build()


def same_size(features: int, kernel: tuple[int, int], dilation: int = 1) -> Convolution:
    padding = (kernel[0] // 2 * dilation, kernel[1] // 2 * dilation)
    return Convolution(features, kernel, (1, 1), padding, (dilation, dilation), bias=True)


CHOICES = (
    "convolution",
    "pooling",
    "norm",
    "activation",
    "dropout",
    "residual",
    "concat",
    "channel gate",
    "spatial gate",
)


def add_random_layer(draw: st.DrawFn, graph: Graph) -> None:
    source = draw(st.integers(0, len(graph.shapes) - 1))
    shape = graph.shapes[source]
    channels = shape[0]
    odd = st.tuples(st.sampled_from([1, 3]), st.sampled_from([1, 3, 5]))
    match draw(st.sampled_from(CHOICES)):
        case "convolution":
            groups = draw(st.sampled_from([g for g in (1, 2, 3, channels) if channels % g == 0]))
            upto = st.integers(1, 4), st.integers(1, 2), st.integers(0, 2), st.integers(1, 2)
            kernel, stride, padding, dilation = (draw(st.tuples(s, s)) for s in upto)
            features = groups * draw(st.integers(1, 4))
            bias = draw(st.booleans())
            graph.add(
                Convolution(features, kernel, stride, padding, dilation, groups, bias), source
            )
        case "pooling":
            kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
            stride = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
            padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
            mode, ceil = draw(st.sampled_from(POOLING_MODES)), draw(st.booleans())
            graph.add(Pooling(mode, kernel, stride, padding, ceil), source)
        case "norm":
            norm = draw(st.sampled_from(NORMS))
            groups = draw(st.sampled_from([g for g in range(1, 5) if channels % g == 0]))
            # PyTorch refuses to normalise a single value.
            if shape[1] * shape[2] > 1 or norm != "instance":
                graph.add(Norm(norm, groups), source)
        case "activation":
            graph.add(Activation(draw(st.sampled_from(ACTIVATIONS))), source)
        case "dropout":
            graph.add(Dropout(draw(st.floats(0, 0.75))), source)
        case "residual":
            paths = [
                graph.add(same_size(channels, draw(odd), draw(st.integers(1, 2))), source)
                for _ in range(draw(st.integers(1, 2)))
            ]
            graph.add(Add(), *draw(st.permutations([source, *paths])))
        case "concat":
            branch = graph.add(same_size(draw(st.integers(1, 4)), draw(odd)), source)
            graph.add(Concat(), *draw(st.permutations([source, branch, branch])))
        case "channel gate":
            squeezed = graph.add(GlobalPooling(draw(st.sampled_from(POOLING_MODES))), source)
            excited = graph.add(same_size(channels, (1, 1)), squeezed)
            graph.add(Gate(), source, graph.add(Activation("sigmoid"), excited))
        case "spatial gate":
            squeezed = [graph.add(ChannelPooling(mode), source) for mode in POOLING_MODES]
            attention = graph.add(same_size(1, draw(odd)), graph.add(Concat(), *squeezed))
            graph.add(Gate(), source, graph.add(Activation("sigmoid"), attention))


@st.composite
def graphs(draw: st.DrawFn) -> Architecture:
    """Draw a graph of any operations in which every layer reaches the output."""
    graph = Graph((draw(st.integers(1, 4)), draw(st.integers(4, 11)), draw(st.integers(4, 11))))
    for _ in range(draw(st.integers(1, 6))):
        with suppress(CollapsedMapError):
            add_random_layer(draw, graph)
    pooling = draw(st.none() | st.builds(GlobalPooling, st.sampled_from(POOLING_MODES)))
    return graph.finish(draw(st.integers(2, 5)), pooling)


@st.composite
def vggs(draw: st.DrawFn) -> Architecture:
    """Draw from the vgg space."""
    options = {"depth": [1, 5], "features": [2, 12], "bias": draw(st.booleans())}
    task = Task(draw(st.sampled_from([1, 3])), draw(st.integers(6, 14)), 12, 4)
    space = CandidateSpace(task, "vgg", options, {})
    sampler = optuna.samplers.RandomSampler(seed=draw(st.integers(0, 10_000)))
    return space.draw(optuna.create_study(sampler=sampler).ask()).architecture


def everything() -> Architecture:
    """Build one graph with every kind of operation, norm, activation and pooling."""
    graph = Graph((3, 13, 10))
    x = graph.add(Convolution(8, (3, 2), (2, 1), (1, 0), (1, 2), bias=True), graph.builder.image)
    for norm in NORMS:
        x = graph.add(Norm(norm, 4), x)
    for function in ACTIVATIONS:
        x = graph.add(Activation(function), x)
    y = graph.add(Convolution(8, (1, 3), (1, 1), (0, 1), groups=4), x)
    x = graph.add(Add(), x, y)
    x = graph.add(Pooling("max", (3, 2), (2, 2), (1, 1), ceil=True), x)
    x = graph.add(Pooling("average", (2, 3), (2, 2), (1, 0), ceil=True), x)
    x = graph.add(Dropout(0.3), x)
    for mode in POOLING_MODES:
        y = graph.add(Linear(8), graph.add(GlobalPooling(mode), x))
        x = graph.add(Gate(), x, y)
        x = graph.add(Gate(), x, graph.add(ChannelPooling(mode), x))
    graph.add(Concat(), x, graph.add(Convolution(5, (1, 1), (1, 1), (0, 0)), x))
    return graph.finish(7, None)


EVERYTHING = everything()
architectures = graphs() | vggs()


def images_for(architecture: Architecture, *, double: bool = False) -> Tensor:
    shape = architecture.shapes[0]
    generator = torch.Generator().manual_seed(1)
    images = torch.randn((IMAGES, *shape), generator=generator)
    return images.double() if double else images


@pytest.mark.parametrize("kind", sorted(set(OPERATIONS) - {"input", "generic"}))
def test_every_operation_has_a_module(kind):
    assert build_layer.dispatch(OPERATIONS[kind]) is not build_layer.dispatch(Operation)


def test_example_has_every_operation_of_the_families():
    operations = [layer.operation for layer in EVERYTHING.layers]
    assert {type(operation) for operation in operations} == {
        Input,
        Convolution,
        Pooling,
        GlobalPooling,
        ChannelPooling,
        Norm,
        Activation,
        Dropout,
        Add,
        Concat,
        Gate,
        Linear,
    }
    assert {o.norm for o in operations if isinstance(o, Norm)} == set(NORMS)
    assert {o.function for o in operations if isinstance(o, Activation)} == set(ACTIVATIONS)
    assert {o.mode for o in operations if isinstance(o, Pooling)} == set(POOLING_MODES)


# The module against the graph


@FEW
@example(EVERYTHING)
@given(architectures)
def test_module_and_graph_agree_on_the_parameter_count(architecture):
    network = Network(architecture)
    assert sum(p.numel() for p in network.parameters()) == costs(architecture).params
    shapes = architecture.shapes
    for (operation, inputs, *_), layer in zip(architecture.layers, network.layers, strict=True):
        taken = tuple(shapes[i] for i in inputs)
        assert sum(p.numel() for p in layer.parameters()) == operation.params(taken)


@FEW
@example(EVERYTHING)
@given(architectures)
def test_layers_of_graph_and_module_agree_in_order_and_shape(architecture):
    network = Network(architecture).eval()
    seen: dict[int, Shape] = {0: architecture.shapes[0]}
    for index, layer in enumerate(network.layers):

        def remember(module: nn.Module, inputs: object, output: Tensor, index: int = index) -> None:
            seen[index] = tuple(output.shape[1:])

        layer.register_forward_hook(remember)
    logits = network(images_for(architecture))
    assert tuple(seen[i] for i in range(len(architecture.layers))) == architecture.shapes
    assert logits.shape == (IMAGES, architecture.shapes[-1][0])


@FEW
@example(EVERYTHING)
@given(architectures)
def test_two_flops_per_mac_match_torchs_flop_counter(architecture):
    network = Network(architecture).eval()
    with FlopCounterMode(display=False) as counter:
        network(images_for(architecture))
    assert counter.get_total_flops() == 2 * IMAGES * costs(architecture).macs


@FEW
@example(EVERYTHING)
@given(architectures)
def test_forward_and_backward_run_and_reach_every_parameter(architecture):
    network = Network(architecture).train()
    loss = F.cross_entropy(network(images_for(architecture)), torch.zeros(IMAGES, dtype=torch.long))
    loss.backward()
    assert loss.isfinite()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda x: x.clamp(min=0),
    "leaky_relu": lambda x: torch.where(x > 0, x, 0.01 * x),
    "celu": lambda x: torch.where(x > 0, x, x.exp() - 1),
    "gelu": lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2,
    "silu": lambda x: x * torch.sigmoid(x),
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
}


def normalise(operation: Norm, x: Tensor) -> Tensor:
    if operation.norm == "batch":
        return x / (1 + 1e-5) ** 0.5  # Initial statistics: mean 0, variance 1.
    groups = {"layer": 1, "instance": x.shape[1], "group": operation.groups}[operation.norm]
    grouped = x.reshape(len(x), groups, -1)
    centred = grouped - grouped.mean(2, keepdim=True)
    return (centred / (centred.square().mean(2, keepdim=True) + 1e-5).sqrt()).reshape(x.shape)


def pool(operation: Pooling, x: Tensor) -> Tensor:
    window = operation.kernel, operation.stride, operation.padding
    if operation.mode == "max":
        return F.max_pool2d(x, *window, ceil_mode=operation.ceil)
    return F.avg_pool2d(x, *window, operation.ceil)


def calculate(operation: Operation, layer: nn.Module, *taken: Tensor) -> Tensor:
    """Evaluate one layer by its textbook definition, with the weights of a module."""
    x = taken[0]
    match operation:
        case Convolution(_, _, stride, padding, dilation, groups):
            return F.conv2d(x, layer.weight, layer.bias, stride, padding, dilation, groups)
        case Pooling():
            return pool(operation, x)
        case GlobalPooling(mode):
            return (x.mean if mode == "average" else x.amax)((2, 3), keepdim=True)
        case ChannelPooling(mode):
            return (x.mean if mode == "average" else x.amax)(1, keepdim=True)
        case Norm():
            gamma, beta = layer.weight[:, None, None], layer.bias[:, None, None]
            return normalise(operation, x) * gamma + beta
        case Activation(function):
            return FUNCTIONS[function](x)
        case Dropout():
            return x  # Acts only during training.
        case Add():
            return torch.stack(taken).sum(0)
        case Concat():
            return torch.cat(taken, 1)
        case Gate():
            return x * taken[1]
        case Linear():
            return F.linear(x.flatten(1), layer.weight, layer.bias)[:, :, None, None]
    raise TypeError(operation.kind)


@FEW
@example(EVERYTHING)
@given(architectures)
def test_logits_match_layer_by_layer_evaluation_of_the_graph(architecture):
    network = Network(architecture).double().eval()
    generator = torch.Generator().manual_seed(3)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator).double()
    images = images_for(architecture, double=True)
    with torch.no_grad():
        values = [images]
        for (operation, inputs, *_), layer in zip(
            architecture.layers[1:], network.layers[1:], strict=True
        ):
            values.append(calculate(operation, layer, *[values[i] for i in inputs]))
        logits = network(images)
    torch.testing.assert_close(logits, values[-1].flatten(1), rtol=1e-6, atol=1e-8)


def test_dropout_acts_only_during_training():
    graph = Graph((1, 8, 8))
    graph.add(Dropout(0.25), graph.builder.image)
    dropout = Network(graph.finish(2, None)).layers[1]
    ones = torch.ones(1, 1, 200, 200)
    dropped = dropout.train()(ones)
    assert abs((dropped == 0).float().mean() - 0.25) < 0.02
    assert torch.equal(dropout.eval()(ones), ones)


def test_operation_without_a_module_is_named():
    class Unknown(Operation):
        kind = "unknown"

    with pytest.raises(TypeError, match="no module for unknown"):
        build_layer(Unknown(), ((1, 1, 1),))
    with pytest.raises(ValueError, match="norm of norm cannot be 'odd'"):
        Norm("odd")


# Memory


@FEW
@example(EVERYTHING)
@given(architectures)
def test_output_is_freed_after_its_last_use(architecture):
    network = Network(architecture).eval()
    layers = architecture.layers
    last_use = {i: index for index, layer in enumerate(layers) for i in layer.inputs}
    images = images_for(architecture)
    values: list[weakref.ref[Tensor]] = []
    # By tensor, not by layer: some layers return their input tensor.
    needed_until = {id(images): len(layers)}  # The caller keeps the images.

    def before(index: int) -> None:
        for tensor in [value() for value in values]:
            assert tensor is None or needed_until[id(tensor)] >= index

    def after(index: int, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        values.append(weakref.ref(output))
        known = needed_until[id(output)] if any(output is taken for taken in inputs) else 0
        needed_until[id(output)] = max(known, last_use.get(index, len(layers)))

    for index, layer in enumerate(network.layers[1:], start=1):
        layer.register_forward_pre_hook(lambda module, inputs, index=index: before(index))
        layer.register_forward_hook(
            lambda module, inputs, output, index=index: after(index, inputs, output)
        )
    with torch.inference_mode():
        network(images)
    assert len(values) == len(layers) - 1


# Initial weights


@FEW
@example(EVERYTHING)
@given(architectures)
def test_the_same_seed_gives_the_same_weights(architecture):
    def weights(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return Network(architecture).state_dict()

    first, again, other = weights(5), weights(5), weights(6)
    assert all(torch.equal(first[name], again[name]) for name in first)
    kernels = [name for name in first if first[name].ndim > 1]
    assert kernels
    assert all(not torch.equal(first[name], other[name]) for name in kernels)


def test_kernels_start_he_normal_norms_at_one_and_biases_at_zero():
    builder = Builder((48, 8, 8))
    x = builder.add(Convolution(64, (3, 5), padding=(1, 2), bias=True), builder.image)
    for norm in NORMS:
        x = builder.add(Norm(norm, 2), x)
    builder.add(Linear(2), builder.add(GlobalPooling(), x))
    torch.manual_seed(0)
    _, convolution, *norms, _, _ = Network(builder.build()).layers
    expected = (2 / (64 * 3 * 5)) ** 0.5
    assert abs(convolution.weight.std().item() / expected - 1) < 0.02
    assert abs(convolution.weight.mean().item()) < 0.02 * expected
    share_beyond_two = (convolution.weight.abs() > 2 * expected).float().mean().item()
    assert abs(share_beyond_two - 0.0455) < 0.005
    assert not convolution.bias.any()
    assert len(norms) == len(NORMS)
    for norm in norms:
        assert (norm.weight == 1).all()
        assert not norm.bias.any()


# The measured receptive field equals the predicted one


@st.composite
def plain_paths(draw: st.DrawFn) -> list[Operation]:
    """Draw a path of sliding windows, including even and anisotropic ones."""
    pairs = {n: st.tuples(st.integers(1, n), st.integers(1, n)) for n in (2, 4)}
    path: list[Operation] = []
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.booleans()):
            padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
            path.append(Convolution(2, draw(pairs[4]), draw(pairs[2]), padding, draw(pairs[2])))
        else:
            kernel = draw(pairs[4])
            padding = (kernel[0] // 2, kernel[1] // 2)
            path.append(Pooling("average", kernel, draw(pairs[2]), padding, draw(st.booleans())))
        path.append(Activation("relu"))
    return path


def build_plain(path: list[Operation], size: int) -> Architecture:
    builder = Builder((1, size, size))
    x = builder.image
    for operation in path:
        x = builder.add(operation, x)
    return builder.build()


def build_residual(blocks: list[tuple], size: int) -> Architecture:
    """Build concentric branches of different length: a shortcut, and a path of convolutions."""
    builder = Builder((1, size, size))
    x = builder.add(Convolution(2, (1, 1), (1, 1), (0, 0)), builder.image)
    for kernels, dilation, stride, join in blocks:
        long = x
        for number, (height, width) in enumerate(kernels):
            padding = (height // 2 * dilation, width // 2 * dilation)
            step = stride if number == 0 else (1, 1)
            convolution = Convolution(2, (height, width), step, padding, (dilation, dilation))
            long = builder.add(convolution, long)
        short = builder.add(Convolution(2, (1, 1), stride, (0, 0)), x)
        x = builder.add(join, short, long)
    return builder.build()


def measured_field(architecture: Architecture) -> tuple[int, int]:
    """Return the extent (height, width) of the pixels that the centre of the output depends on."""
    network = Network(architecture).double().eval()
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.5)
    image = torch.ones((1, *architecture.shapes[0]), dtype=torch.float64, requires_grad=True)
    outputs: list[Tensor] = []
    for layer, module in zip(architecture.layers, network.layers, strict=True):
        outputs.append(module(*[outputs[i] for i in layer.inputs] or [image]))
    output = outputs[-1]
    output[0, :, output.shape[2] // 2, output.shape[3] // 2].sum().backward()
    assert image.grad is not None
    rows, columns = image.grad[0, 0].nonzero(as_tuple=True)
    size = image.shape[2]
    for axis in (rows, columns):
        assert axis.min() > 0, "the image is too small to measure in"
        assert axis.max() < size - 1, "the image is too small to measure in"
    return int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1


@FEW
@example([Convolution(2, (3, 3), (1, 1), (1, 1), (2, 2)), Pooling("average")] * 3)
@given(plain_paths())
def test_gradient_field_equals_the_predicted_field_on_a_chain(path):
    predicted = receptive_fields(build_plain(path, 400))[-1]
    assert predicted.smallest == predicted.largest
    size = 2 * max(predicted.largest) + 60
    assert measured_field(build_plain(path, size)) == predicted.largest


blocks = st.lists(
    st.tuples(
        st.lists(st.tuples(*[st.sampled_from([1, 3, 5])] * 2), min_size=1, max_size=2),
        st.integers(1, 2),
        st.tuples(st.integers(1, 2), st.integers(1, 2)),
        st.sampled_from([Add(), Concat()]),
    ),
    min_size=1,
    max_size=3,
)


@FEW
@given(blocks)
def test_gradient_field_equals_the_largest_field_with_skips(drawn):
    predicted = receptive_fields(build_residual(drawn, 400))[-1].largest
    size = 2 * max(predicted) + 60
    assert measured_field(build_residual(drawn, size)) == predicted


# Initialisation


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (5, 3)])
def test_identity_filters_copy_their_input_channels(kernel, groups):
    layer = nn.Conv2d(4, 10, kernel, padding="same", groups=groups, bias=False)
    before = layer.weight.detach().clone()
    initialise_identity(nn.Sequential(layer))
    images = torch.randn(2, 4, 6, 7)
    inputs, outputs = 4 // groups, 10 // groups
    for group in range(groups):
        first = group * outputs
        found = layer(images)[:, first : first + inputs]
        torch.testing.assert_close(found, images[:, group * inputs : (group + 1) * inputs])
        others = slice(first + inputs, first + outputs)
        assert torch.equal(layer.weight[others], before[others])


def test_convolution_with_more_inputs_than_outputs_keeps_its_weights():
    network = nn.Sequential(nn.Conv2d(5, 4, 3), nn.Linear(4, 4), nn.ConvTranspose2d(4, 4, 3))
    before = [parameter.detach().clone() for parameter in network.parameters()]
    initialise_identity(network)
    assert all(map(torch.equal, network.parameters(), before))


def test_random_scales_of_batch_norms_are_uniform_from_zero_to_one():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(2000)
    initialise_scales(nn.Sequential(norm, nn.BatchNorm2d(4, affine=False)))
    scales = norm.weight.detach().sort().values
    torch.testing.assert_close(scales, torch.linspace(0, 1, 2000), atol=0.05, rtol=0)
    assert not norm.bias.any()


# Memory layout


LAYOUTS_KEPT = [
    Convolution(8),
    Convolution(8, groups=8),
    Norm("batch"),
    Norm("group", groups=4),
    Norm("layer"),
    Activation("relu"),
    Activation("silu"),
    Dropout(0.5),
    *(Pooling(mode) for mode in POOLING_MODES),
    *(GlobalPooling(mode) for mode in POOLING_MODES),
    *(ChannelPooling(mode) for mode in POOLING_MODES),
    AdaptivePooling((2, 2), "average"),
    Slice(2, 6),
    Flatten(),
    Linear(10),
]


@pytest.mark.parametrize("operation", LAYOUTS_KEPT, ids=repr)
def test_gradient_of_channels_last_input_is_channels_last(operation):
    values = torch.randn(4, 8, 6, 6).to(memory_format=torch.channels_last).requires_grad_()
    inner, found = values * 1, []
    inner.register_hook(found.append)
    output = build_layer(operation, ((8, 6, 6),))(inner)
    output.backward(torch.randn_like(output))
    assert found[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(
    ("operation", "reference"),
    [
        (GlobalPooling("average"), lambda x: F.adaptive_avg_pool2d(x, 1)),
        (ChannelPooling("average"), lambda x: x.mean(1, keepdim=True)),
        (Flatten(), lambda x: x.flatten(1)[:, :, None, None]),
        (Slice(1, 3), lambda x: x[:, 1:3]),
    ],
    ids=["global average", "channel average", "flatten", "slice"],
)
def test_layers_that_keep_the_layout_match_torch(operation, reference, layout):
    values = torch.randn(2, 4, 3, 5, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    layer = build_layer(operation, ((4, 3, 5),))
    torch.testing.assert_close(layer(values), reference(values))
    assert torch.autograd.gradcheck(layer, (values,))
