"""The VGG family: plain networks without skips (Simonyan & Zisserman 2015, arXiv 1409.1556)."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import BaseTrial

from spaces.architecture import Architecture
from spaces.blocks import (
    DOWNSAMPLINGS,
    NetBuilder,
    convolution,
    downsampling_pool,
    draw_style,
)
from spaces.errors import BadInputError
from spaces.feature_amounts import draw_skew_normal
from spaces.options import (
    Choices,
    FloatRange,
    IntRange,
    PerPart,
    draw_int,
    draw_kernels,
    draw_name,
    draw_per,
)
from spaces.task import Task

AMOUNTS = ("free", "skew-normal")


def vgg(
    trial: BaseTrial,
    task: Task,
    *,
    depth: IntRange = (2, 12),
    features: IntRange = (8, 256),
    kernel: PerPart[int] = (3, 5),
    pools: int | None = None,
    convs_before_pool: IntRange = (1, 4),
    pool_after: Sequence[int] | None = None,
    downsampling: PerPart[str] = "max",
    dilation: IntRange = 1,
    bias: bool = False,
    hidden: IntRange = 0,
    hidden_features: IntRange = (64, 512),
    amounts: Choices[str] = "free",
    total_features: IntRange = (512, 4096),
    location: FloatRange | None = None,
    scale: FloatRange | None = None,
    skew: FloatRange = (-10.0, 10.0),
    activation: Choices[str] = "relu",
    norm: Choices[str] = "batch",
    attention: PerPart[str] = "none",
    dropout: FloatRange = 0.0,
) -> Architecture:
    """Draw a plain network: convolutions with norm, activation and downsampling; a linear head.

    Pooling positions are drawn as numbers of convolutions before each pooling layer. Pooling stops
    at the last convolution or after ``pools`` layers, so every draw is valid and different draws
    of positions are different networks. Feature amounts are drawn per layer, on a logarithmic
    scale, or follow a skew-normal density over depth (Mundt et al. 2018, arXiv 1812.05836), which
    then includes the hidden layers.

    ``kernel``, ``downsampling`` and ``attention`` are drawn once for all layers;
    ``{per: layer, choices: [3, 5]}`` draws them for each layer.

    Args:
        trial: suggests or replays the values.
        task: the images and classes.
        depth: number of convolutions.
        features: feature amount of each convolution.
        kernel: kernel size of all convolutions, odd.
        pools: maximum number of pooling layers; None: until one pixel of the image is left.
        convs_before_pool: convolutions before each pooling layer.
        pool_after: convolutions (1-based) that a pooling layer follows, instead of drawn positions:
            ``[2, 4, 7, 10, 13]`` is VGG16. Numbers beyond the last convolution are ignored.
        downsampling: ``max``, ``average`` or ``blur`` pooling, or ``stride``: the convolution
            before the position has stride 2.
        dilation: of all convolutions.
        bias: whether convolutions and hidden layers have a bias. Batch norm makes it redundant;
            published parameter counts include it.
        hidden: fully connected layers before the classifier.
        hidden_features: features of each hidden layer.
        amounts: ``free`` or ``skew-normal``.
        total_features: of ``skew-normal``: N, the sum of all feature amounts.
        location: of ``skew-normal``: xi, in layers; None: within the depth.
        scale: of ``skew-normal``: omega, in layers; None: 0.2 to 0.4 of the depth.
        skew: of ``skew-normal``: alpha.
        activation: relu, leaky_relu, celu, gelu or silu.
        norm: batch, instance, layer or group.
        attention: none, squeeze-excitation, spatial or both, after each convolution's activation.
        dropout: rate after each hidden layer, or before the classifier without hidden layers.

    Raises:
        BadInputError: an option is out of range.
        InvalidCandidateError: the drawn skew-normal distribution is invalid.

    Example:
        >>> from optuna.trial import FixedTrial
        >>> task = Task(channels=3, height=32, width=32, classes=10)
        >>> vgg(FixedTrial({}), task, depth=2, features=16, kernel=3, pools=0).shapes[-1]
        (10, 1, 1)
    """
    _check_fixed(bias, pools, pool_after)
    kernels = draw_kernels(trial, kernel, "layer")
    layers = draw_int(trial, "depth", depth, field="space.depth")
    if pool_after is None:
        most_pools = min(task.height, task.width).bit_length() - 1 if pools is None else pools
        positions = _draw_pools(trial, layers, most_pools, convs_before_pool)
    else:
        positions = set(pool_after)
    downsamplings = draw_per(
        downsampling,
        "layer",
        "downsampling",
        field="space.downsampling",
        draw=lambda name, option: draw_name(
            trial, name, option, DOWNSAMPLINGS, field="space.downsampling"
        ),
    )
    spread = draw_int(trial, "dilation", dilation, field="space.dilation")
    style = draw_style(trial, activation, norm, attention, dropout, part="layer")
    hidden_layers = draw_int(trial, "hidden", hidden, field="space.hidden", minimum=0)
    if draw_name(trial, "amounts", amounts, AMOUNTS, field="space.amounts") == "free":
        widths = _draw_amounts(trial, "features", features, layers)
        widths += _draw_amounts(trial, "hidden_features", hidden_features, hidden_layers)
    else:
        widths = draw_skew_normal(
            trial,
            layers + hidden_layers,
            total=total_features,
            location=location,
            scale=scale,
            skew=skew,
        )

    sizes, attentions = kernels(layers), style.attentions(layers)
    shrinking_after = sorted(number for number in positions if number <= layers)
    shrinkings = dict(zip(shrinking_after, downsamplings(len(shrinking_after)), strict=True))

    net = NetBuilder(task, style)
    x = net.image
    for number, (amount, size, attends) in enumerate(
        zip(widths[:layers], sizes, attentions, strict=True), start=1
    ):
        shrinking = shrinkings.get(number, "none")
        stride = 2 if shrinking == "stride" else 1
        conv = convolution(amount, size, stride, dilation=spread, bias=bias)
        x = net.add(conv, x, name=f"conv{number}")
        x = net.norm_activation(x, amount, str(number))
        x = net.attend(x, amount, f"conv{number}.", attends)
        if shrinking not in ("none", "stride"):
            x = net.add(downsampling_pool(shrinking, 2), x, name=f"pool{number}")
    net.head(x, widths[layers:], bias=bias)
    return net.build()


def _check_fixed(bias: bool, pools: int | None, pool_after: Sequence[int] | None) -> None:
    """Check the options that are never searched."""
    if type(bias) is not bool:
        raise BadInputError("space.bias", bias, "is neither true nor false", "use one of the two")
    if pools is not None and (type(pools) is not int or pools < 0):
        raise BadInputError("space.pools", pools, "is no number of layers", "use 0 or more")
    if pool_after is None:
        return
    if not isinstance(pool_after, (list, tuple)) or any(
        type(number) is not int or number < 1 for number in pool_after
    ):
        problem = "is no list of the numbers of convolutions"
        raise BadInputError("space.pool_after", pool_after, problem, "use e.g. [2, 4, 7, 10, 13]")


def _draw_amounts(trial: BaseTrial, name: str, option: IntRange, layers: int) -> tuple[int, ...]:
    """Draw a feature amount for each layer."""
    field = f"space.{name}"
    return tuple(
        [
            draw_int(trial, f"{name}_{number}", option, field=field, log=True)
            for number in range(1, layers + 1)
        ]
    )


def _draw_pools(
    trial: BaseTrial, layers: int, most_pools: int, convs_before_pool: IntRange
) -> set[int]:
    """Draw the numbers of the convolutions that a pooling layer follows."""
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
            matters_to=layers - position + 1,  # Beyond the last convolution: no pooling layer.
        )
        positions.add(position)
    return positions
