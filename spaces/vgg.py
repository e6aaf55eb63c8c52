"""Plain networks in the manner of VGG (Simonyan & Zisserman 2015): one path, no skips."""

from __future__ import annotations

from optuna.trial import BaseTrial

from spaces.architecture import Architecture, Builder
from spaces.errors import BadInputError
from spaces.operations import (
    Activation,
    Convolution,
    GlobalPooling,
    Linear,
    Norm,
    Pooling,
)
from spaces.options import Choices, IntRange, choices, draw_choice, draw_int
from spaces.task import Task

# Layers without a choice in them are the same value in every candidate.
_NORM = Norm("batch")
_ACTIVATION = Activation("relu")
_POOLING = Pooling("max", (2, 2), (2, 2))


def vgg(
    trial: BaseTrial,
    task: Task,
    *,
    depth: IntRange = (2, 12),
    features: IntRange = (8, 256),
    kernel: Choices[int] = (3, 5),
    pools: int | None = None,
    convs_before_pool: IntRange = (1, 4),
    bias: bool = False,
) -> Architecture:
    """Draw a plain network: convolution, batch norm, ReLU; max pooling between; a linear head.

    Pooling positions are drawn as the number of convolutions before each pooling layer; pooling
    stops at the last convolution or after ``pools``. So every draw is a network, and no two
    draws of positions are the same network. Feature amounts are drawn layer by layer, on a
    logarithmic scale.

    Args:
        trial: what draws (or replays) the values.
        task: the images and classes.
        depth: number of convolutions.
        features: feature amount of each convolution.
        kernel: kernel size of all convolutions, odd.
        pools: pooling layers at most; None: as many as leave one pixel of the image.
        convs_before_pool: convolutions before the first and between two pooling layers.
        bias: give convolutions a bias (batch norm makes it superfluous; published counts have it).

    Raises:
        BadInputError: an option is out of range.
    """
    if type(bias) is not bool:
        raise BadInputError("space.bias", bias, "is neither true nor false", "use one of the two")
    if pools is not None and (type(pools) is not int or pools < 0):
        raise BadInputError("space.pools", pools, "is no number of layers", "use 0 or more")
    size = draw_choice(trial, "kernel", kernel, field="space.kernel")
    for k in choices(kernel):
        if type(k) is not int or k < 1 or k % 2 == 0:
            problem = f"{k} is not an odd size"
            raise BadInputError("space.kernel", kernel, problem, "use 1, 3, 5, ..")
    layers = draw_int(trial, "depth", depth, field="space.depth")
    most_pools = min(task.height, task.width).bit_length() - 1 if pools is None else pools
    pool_after = _draw_pools(trial, layers, most_pools, convs_before_pool)

    builder = Builder(task.image_shape)
    x = builder.image
    window, padding = (size, size), (size // 2, size // 2)
    for number in range(1, layers + 1):
        amount = draw_int(trial, f"features_{number}", features, field="space.features", log=True)
        conv = Convolution(amount, window, (1, 1), padding, bias=bias)
        x = builder.add(conv, x, name=f"conv{number}")
        x = builder.add(_NORM, x, name=f"norm{number}")
        x = builder.add(_ACTIVATION, x, name=f"activation{number}")
        if number in pool_after:
            x = builder.add(_POOLING, x, name=f"pool{number}")
    x = builder.add(GlobalPooling(), x, name="global_pool")
    builder.add(Linear(task.classes), x, name="classifier")
    return builder.build()


def _draw_pools(
    trial: BaseTrial, layers: int, most_pools: int, convs_before_pool: IntRange
) -> set[int]:
    """Return the numbers of the convolutions that a pooling layer follows."""
    positions: set[int] = set()
    position = 0
    for number in range(1, most_pools + 1):
        if position >= layers:
            break
        position += draw_int(
            trial,
            f"convs_before_pool_{number}",
            convs_before_pool,
            field="space.convs_before_pool",
            matters_to=layers - position + 1,  # One more than are left: no pooling layer.
        )
        positions.add(position)
    return positions
