"""The networks that the tests speak of, built by a few readable functions."""

from __future__ import annotations

from optuna.trial import FixedTrial

from spaces.architecture import Architecture, Builder
from spaces.operations import (
    Activation,
    Add,
    Concat,
    Convolution,
    Gate,
    GlobalPooling,
    Linear,
    Norm,
    Operation,
    Pooling,
    Shape,
    pair,
)
from spaces.task import Task
from spaces.vgg import vgg

IMAGENET: Shape = (3, 224, 224)
RELU = Activation("relu")
BATCH_NORM = Norm("batch")

VGG_BLOCKS = {
    "VGG11": (1, 1, 2, 2, 2),
    "VGG13": (2, 2, 2, 2, 2),
    "VGG16": (2, 2, 3, 3, 3),
    "VGG19": (2, 2, 4, 4, 4),
}
"""Convolutions before each of the five pooling layers."""


def conv(
    kernel: int = 3, stride: int = 1, *, features: int = 8, dilation: int = 1, groups: int = 1
) -> Convolution:
    """Return a convolution that is padded so that only its stride changes the map's size."""
    padding = dilation * (kernel - 1) // 2
    return Convolution(
        features, pair(kernel), pair(stride), pair(padding), pair(dilation), groups=groups
    )


def pool(kernel: int = 2, stride: int = 2, padding: int = 0, mode: str = "max") -> Pooling:
    return Pooling(mode, pair(kernel), pair(stride), pair(padding))


def chain(image: Shape, *operations: Operation) -> Architecture:
    """Return the network in which every operation takes the output of the one before."""
    builder = Builder(image)
    x = builder.image
    for operation in operations:
        x = builder.add(operation, x)
    return builder.build()


def cut(architecture: Architecture, convolutions: int) -> Architecture:
    """Keep this many convolutions of a chain and what follows the last of them directly."""
    indices = [*architecture.indices(Convolution), len(architecture.layers)]
    return Architecture(architecture.layers[: indices[convolutions]])


def feature_extractor(architecture: Architecture) -> Architecture:
    """Leave out the head of a plain network: global pooling and the classifier."""
    assert [type(layer.operation) for layer in architecture.layers[-2:]] == [GlobalPooling, Linear]
    return Architecture(architecture.layers[:-2])


def classic_vgg(name: str, size: int = 32) -> Architecture:
    """Return a published VGG net, drawn from the space by a trial that replays its values."""
    blocks = VGG_BLOCKS[name]
    values: dict[str, int] = {}
    number = 0
    for block, (convolutions, features) in enumerate(
        zip(blocks, (64, 128, 256, 512, 512), strict=True), start=1
    ):
        values[f"convs_before_pool_{block}"] = convolutions
        for _ in range(convolutions):
            number += 1
            values[f"features_{number}"] = features
    return vgg(
        FixedTrial(values),
        Task(channels=3, height=size, width=size, classes=10),
        depth=number,
        features=(64, 512),
        kernel=3,
        convs_before_pool=(1, 4),
        bias=True,
    )


def alexnet() -> Architecture:
    """Return the convolutions of torchvision's AlexNet."""
    return chain(
        IMAGENET,
        Convolution(64, (11, 11), (4, 4), (2, 2)),
        pool(3, 2),
        conv(5, features=192),
        pool(3, 2),
        conv(features=384),
        conv(features=256),
        conv(features=256),
        pool(3, 2),
    )


class _Net:
    """A builder that knows the blocks of which the published nets are made."""

    def __init__(self, image: Shape) -> None:
        self.builder = Builder(image)
        self.image = self.builder.image

    def add(self, operation: Operation, *inputs: int, name: str = "") -> int:
        return self.builder.add(operation, *inputs, name=name)

    def conv_norm(self, x: int, operation: Convolution, name: str = "") -> int:
        return self.add(BATCH_NORM, self.add(operation, x, name=name))

    def norm_relu_conv(self, x: int, operation: Convolution) -> int:
        return self.add(operation, self.add(RELU, self.add(BATCH_NORM, x)))

    def residual_block(self, x: int, features: int, stride: int, widens: bool) -> int:
        y = self.add(RELU, self.conv_norm(x, conv(3, stride, features=features)))
        y = self.conv_norm(y, conv(3, features=features))
        if widens:
            x = self.conv_norm(x, conv(1, stride, features=features), name="downsample")
        return self.add(RELU, self.add(Add(), y, x))

    def classify(self, x: int, classes: int) -> Architecture:
        self.add(Linear(classes), self.add(GlobalPooling(), x))
        return self.builder.build()


def resnet18() -> Architecture:
    """Return torchvision's ResNet18."""
    net = _Net(IMAGENET)
    x = net.add(RELU, net.conv_norm(net.image, conv(7, 2, features=64)))
    x = net.add(pool(3, 2, 1), x)
    for stage, features in enumerate((64, 128, 256, 512)):
        first_stride = 1 if stage == 0 else 2
        x = net.residual_block(x, features, first_stride, widens=stage > 0)
        x = net.residual_block(x, features, 1, widens=False)
    return net.classify(x, 1000)


def cifar_resnet(blocks: int, size: int = 32) -> Architecture:
    """Return the ResNet of depth 6 * blocks + 2 for small images: stem 3x3, widths 16, 32, 64."""
    net = _Net((3, size, size))
    x = net.add(RELU, net.conv_norm(net.image, conv(3, features=16)))
    for stage, features in enumerate((16, 32, 64)):
        for block in range(blocks):
            widens = stage > 0 and block == 0
            x = net.residual_block(x, features, 2 if widens else 1, widens)
    return net.classify(x, 10)


def main_path_convolutions(architecture: Architecture) -> list[int]:
    """Return the convolutions but those that only fit a shortcut to its block."""
    return [
        index
        for index in architecture.indices(Convolution)
        if architecture.layers[index].name != "downsample"
    ]


def densenet121() -> Architecture:
    """Return torchvision's DenseNet-121."""
    net = _Net(IMAGENET)
    x = net.add(RELU, net.conv_norm(net.image, conv(7, 2, features=64)))
    x = net.add(pool(3, 2, 1), x)
    features = 64
    for block, layers in enumerate((6, 12, 24, 16)):
        if block:
            features //= 2
            x = net.norm_relu_conv(x, conv(1, features=features))
            x = net.add(pool(mode="average"), x)
        parts = [x]
        for _ in range(layers):
            y = net.add(Concat(), *parts)
            y = net.norm_relu_conv(y, conv(1, features=128))
            parts.append(net.norm_relu_conv(y, conv(3, features=32)))
            features += 32
        x = net.add(Concat(), *parts)
    return net.classify(net.add(RELU, net.add(BATCH_NORM, x)), 1000)


def mobilenet_v2() -> Architecture:
    """Return torchvision's MobileNetV2 (ReLU in place of ReLU6)."""
    net = _Net(IMAGENET)
    x = net.add(RELU, net.conv_norm(net.image, conv(3, 2, features=32)))
    width = 32
    for expansion, features, repeats, first_stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            hidden = width * expansion
            y = x
            if expansion > 1:
                y = net.add(RELU, net.conv_norm(y, conv(1, features=hidden)))
            depthwise = conv(3, stride, features=hidden, groups=hidden)
            y = net.add(RELU, net.conv_norm(y, depthwise))
            y = net.conv_norm(y, conv(1, features=features))
            x = net.add(Add(), x, y) if stride == 1 and width == features else y
            width = features
    x = net.add(RELU, net.conv_norm(x, conv(1, features=1280)))
    return net.classify(x, 1000)


def squeeze_and_excitation(size: int = 32, convolutions: int = 3) -> Architecture:
    """Return 3x3 convolutions of which each is followed by a gate calculated by 1x1 ones."""
    net = _Net((3, size, size))
    x = net.image
    for _ in range(convolutions):
        x = net.add(conv(3), x)
        gate = net.add(GlobalPooling(), x)
        gate = net.add(RELU, net.add(conv(1, features=2), gate, name="squeeze"))
        gate = net.add(Activation("sigmoid"), net.add(conv(1), gate, name="excite"))
        x = net.add(Gate(), x, gate)
    return net.classify(x, 10)
