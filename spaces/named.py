"""Defines published networks as points of their families' spaces.

Each network is one value for every quantity that its family can search. The architecture, the
options and parameters that draw it, and the parameters that enqueue it in a search derive from
these values.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from inspect import signature
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FixedTrial

from spaces.architecture import Architecture
from spaces.candidate import FAMILIES
from spaces.errors import BadInputError, InvalidCandidateError
from spaces.task import Task

_ANY_TASK = Task(channels=3, height=224, width=224, classes=10)
"""Large enough for every pooling layer of every network."""

Values = dict[str, Any]


@dataclass(frozen=True)
class NamedNet:
    """A published network.

    Attributes:
        family: name of the space function in `spaces.FAMILIES`.
        values: value of every quantity of the space by parameter name.
        origin: publication or library that defines the network.
    """

    family: str
    values: Mapping[str, Any]
    origin: str

    @property
    def options(self) -> dict[str, Any]:
        """Options of the space function that search only values differing between layers."""
        known = signature(FAMILIES[self.family]).parameters
        options: dict[str, Any] = {}
        ranges: dict[str, list[Any]] = {}
        for name, value in self.values.items():
            if name in known:
                options[name] = value
            else:
                ranges.setdefault(re.sub(r"_\d+$", "", name), []).append(value)
        for name, values in ranges.items():
            low, high = min(values), max(values)
            options[name] = low if low == high else [low, high]
        return options


def named(name: str, task: Task) -> Architecture:
    """Return a published network for a task.

    Raises:
        BadInputError: the name is unknown.

    Example:
        >>> from spaces.task import Task
        >>> named("vgg16", Task(channels=3, height=32, width=32, classes=10)).shapes[-1]
        (10, 1, 1)
    """
    net = _find(name)
    return FAMILIES[net.family](FixedTrial(dict(net.values)), task, **net.options)


def named_params(name: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return ``(family, options, params)`` that draw a published network.

    Raises:
        BadInputError: the name is unknown.
    """
    net = _find(name)
    options = net.options
    return net.family, options, _replay(net, _ANY_TASK, options)[1]


def seed_params(name: str, task: Task, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that draw a published network in a search of its family.

    Args:
        name: name of the network.
        task: task of the search.
        options: space options of the search.

    Returns:
        Parameters for ``study.enqueue_trial``.

    Raises:
        BadInputError: the name is unknown, or the options exclude the network.
    """
    net = _find(name)
    try:
        architecture, params = _replay(net, task, options)
    except BadInputError:
        raise
    except (ValueError, InvalidCandidateError) as error:
        problem = f"is not in the space ({_in_words(error)})"
        raise BadInputError("enqueue", name, problem, _difference(net, options)) from None
    if architecture.digest != named(name, task).digest:
        raise BadInputError("enqueue", name, "is not in the space", _difference(net, options))
    return params


def _find(name: str) -> NamedNet:
    if name in NAMED:
        return NAMED[name]
    close = get_close_matches(name, NAMED, n=1)
    hint = f"did you mean {close[0]}?" if close else f"use one of {', '.join(NAMED)}"
    raise BadInputError("network", name, "unknown network", hint)


_MOST_PARTS = 256
"""More layers than any named network has."""


def _for_each_part(values: Mapping[str, Any], options: Mapping[str, Any]) -> Values:
    """Return a net's values, with one for each part where the space draws one for each."""
    found = dict(values)
    for name, option in options.items():
        if isinstance(option, Mapping) and name in values:
            found |= {f"{name}_{number}": values[name] for number in range(1, _MOST_PARTS + 1)}
    return found


def _replay(
    net: NamedNet, task: Task, options: Mapping[str, Any]
) -> tuple[Architecture, dict[str, Any]]:
    """Return the network drawn from a net's values, and the values that were used."""
    trial = FixedTrial(_for_each_part(net.values, options))
    with warnings.catch_warnings():
        # Optuna only warns about a value out of range; an enqueued trial would draw another one.
        warnings.simplefilter("ignore", UserWarning)
        architecture = FAMILIES[net.family](trial, task, **options)
    for name, distribution in trial.distributions.items():
        if not is_inside(distribution, value := trial.params[name]):
            raise ValueError(f"{name} is {value}, but the space draws {domain(distribution)}")
    return architecture, dict(trial.params)


def is_inside(distribution: BaseDistribution, value: object) -> bool:
    """Tell whether a distribution can draw a value."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, IntDistribution | FloatDistribution)  # noqa: S101
    return isinstance(value, int | float) and distribution.low <= value <= distribution.high


def domain(distribution: BaseDistribution) -> str:
    """Return the values of a distribution in words.

    Example:
        >>> domain(IntDistribution(8, 48)), domain(CategoricalDistribution((3, 5)))
        ('8 to 48', '3 or 5')
    """
    if isinstance(distribution, CategoricalDistribution):
        return " or ".join(map(str, distribution.choices))
    assert isinstance(distribution, IntDistribution | FloatDistribution)  # noqa: S101
    return f"{distribution.low:g} to {distribution.high:g}"


def _in_words(error: Exception) -> str:
    """Return an error of a draw; Optuna's own speaks of its classes."""
    missing = re.match(r"The value of the parameter '(\w+)' is not found", str(error))
    if missing is not None:
        return f"it has no value for {missing[1]}"
    outside = re.match(r"'(.+)' not in \((.+?),?\)", str(error))
    return str(error) if outside is None else f"the space draws {outside[2]}, but not {outside[1]}"


def _difference(net: NamedNet, options: Mapping[str, Any]) -> str:
    """Describe the options that the network needs and the space lacks."""
    own = net.options
    known = signature(FAMILIES[net.family]).parameters
    needed = [
        f"{name} {value}"
        for name, value in own.items()
        if (given := _values(options.get(name, known[name].default))) != value
        and not (isinstance(given, (list, tuple)) and _includes(given, value))
    ]
    return f"it needs {', '.join(needed)}" if needed else "widen the space's options"


def _values(option: Any) -> Any:
    """Return the choices of an option that is drawn for each part; others unchanged."""
    return option.get("choices") if isinstance(option, Mapping) else option


def _includes(given: list[Any] | tuple[Any, ...], value: Any) -> bool:
    """Tell whether choices or a range include a value or a narrower range."""
    values = value if isinstance(value, list) else [value]
    if all(v in given for v in values):
        return True
    if len(given) != 2 or not all(type(v) in (int, float) for v in [*given, *values]):
        return False
    return all(given[0] <= v <= given[1] for v in values)


# Values, family by family

_STYLE: Values = {"activation": "relu", "norm": "batch", "attention": "none", "dropout": 0.0}


def _numbered(name: str, values: tuple[int, ...]) -> Values:
    return {f"{name}_{number}": value for number, value in enumerate(values, start=1)}


def _vgg(blocks: tuple[int, ...], hidden: int = 0, dropout: float = 0.0) -> Values:
    """Return a VGG by the numbers of convolutions before its five pooling layers."""
    widths = (64, 128, 256, 512, 512)
    features = [w for w, n in zip(widths, blocks, strict=True) for _ in range(n)]
    return {
        **_STYLE,
        "dropout": dropout,
        "depth": sum(blocks),
        "bias": False,
        "kernel": 3,
        "dilation": 1,
        "downsampling": "max",
        "amounts": "free",
        "hidden": hidden,
        **_numbered("convs_before_pool", blocks),
        **_numbered("features", tuple(features)),
        **_numbered("hidden_features", (512,) * hidden),
    }


def _resnet(blocks: tuple[int, ...], **other: str | int) -> Values:
    """Return torchvision's ResNet by the blocks of its stages, with ``other`` values replaced."""
    values: Values = {
        **_STYLE,
        "block": "basic",
        "stem": "imagenet",
        "stages": len(blocks),
        "amounts": "doubling",
        "width": 64,
        "widening": 1,
        "groups": 1,
        "width_per_group": 64,
        "downsampling": "stride",
        "kernel": 3,
        "dilation": 1,
        **_numbered("blocks", blocks),
        **{f"stage_stride_{stage}": 2 for stage in range(2, len(blocks) + 1)},
    }
    return values | other


def _densenet(layers: tuple[int, ...], stem: str, growth: int = 32) -> Values:
    return {
        **_STYLE,
        "stem": stem,
        "growth": growth,
        "stem_features": 2 * growth,
        "blocks": len(layers),
        **_numbered("layers", layers),
        "bottleneck": 4,
        "compression": 0.5,
        "downsampling": "average",
        "kernel": 3,
        "dilation": 1,
    }


def _convmixer(width: int, depth: int, kernel: int, patch: int) -> Values:
    return {
        **_STYLE,
        "activation": "gelu",
        "width": width,
        "depth": depth,
        "kernel": kernel,
        "patch": patch,
        "dilation": 1,
    }


_BLOCKS_OF_VGG = {
    "a": (1, 1, 2, 2, 2),
    "b": (2, 2, 2, 2, 2),
    "d": (2, 2, 3, 3, 3),
    "e": (2, 2, 4, 4, 4),
}
_VGG_PAPER = "Simonyan & Zisserman 2015, arXiv 1409.1556"
_RESNET_PAPER = "He et al. 2016, arXiv 1512.03385"
_TORCHVISION = f"torchvision; {_RESNET_PAPER}"


def _named_vggs() -> dict[str, NamedNet]:
    nets = {}
    for letter, blocks in _BLOCKS_OF_VGG.items():
        nets[f"vgg{sum(blocks) + 3}"] = NamedNet(
            "vgg",
            _vgg(blocks),
            f"{_VGG_PAPER}, with batch norm, global average pooling and one linear layer",
        )
        nets[f"vgg-{letter}"] = NamedNet(
            "vgg",
            _vgg(blocks, hidden=2, dropout=0.5),
            "Mundt et al. 2018, arXiv 1812.05836: two hidden layers of 512, dropout 0.5",
        )
    return nets


def _named_resnets() -> dict[str, NamedNet]:
    nets = {}
    for depth, block, blocks in (
        (18, "basic", (2, 2, 2, 2)),
        (34, "basic", (3, 4, 6, 3)),
        (50, "bottleneck", (3, 4, 6, 3)),
        (101, "bottleneck", (3, 4, 23, 3)),
        (152, "bottleneck", (3, 8, 36, 3)),
    ):
        values = _resnet(blocks, block=block)
        nets[f"resnet{depth}"] = NamedNet("resnet", values, _TORCHVISION)
        origin = f"resnet{depth} with a 3x3 stem, for small images"
        nets[f"resnet{depth}c"] = NamedNet("resnet", values | {"stem": "cifar"}, origin)
    for depth in (14, 20, 32, 44, 56, 110, 218, 434, 866):
        values = _resnet(((depth - 2) // 6,) * 3, stem="cifar", width=16)
        origin = f"{_RESNET_PAPER}, section 4.2; shortcuts as in Frankle et al. 2020"
        nets[f"resnet{depth}c"] = NamedNet("resnet", values, origin)
    return nets | {
        "resnext50_32x4d": NamedNet(
            "resnet",
            _resnet((3, 4, 6, 3), block="bottleneck", groups=32, width_per_group=4),
            "torchvision; Xie et al. 2017, arXiv 1611.05431",
        ),
        "wide_resnet50_2": NamedNet(
            "resnet",
            _resnet((3, 4, 6, 3), block="bottleneck", width_per_group=128),
            "torchvision; Zagoruyko & Komodakis 2016, arXiv 1605.07146",
        ),
        # Only the 10.02 million parameters with 10 classes are published. Basic blocks whose
        # second convolution has 32 groups of 4 match it (10,021,194).
        "resnext18": NamedNet(
            "resnet",
            _resnet((2, 2, 2, 2), stem="cifar", groups=32, width_per_group=4),
            "a published comparison on CIFAR-10: 10.02 million parameters",
        ),
        # Likewise 21.06 million: 2, 2, 1 and 1 blocks of 128 to 1024 features (21,063,818) are the
        # only match among six basic blocks with doubling features.
        "wide_resnet14": NamedNet(
            "resnet",
            _resnet((2, 2, 1, 1), stem="cifar", width=128),
            "a published comparison on CIFAR-10: 21.06 million parameters",
        ),
        "wrn28_10": NamedNet(
            "resnet",
            _resnet((4, 4, 4), stem="cifar", width=16, widening=10),
            "Zagoruyko & Komodakis 2016, with norm and activation behind each convolution",
        ),
        "se_resnet50": NamedNet(
            "resnet",
            _resnet((3, 4, 6, 3), block="bottleneck", attention="squeeze-excitation"),
            "Hu et al. 2018, arXiv 1709.01507",
        ),
    }


def _named_densenets() -> dict[str, NamedNet]:
    origin = "Huang et al. 2017, arXiv 1608.06993"
    nets = {}
    for depth, layers in ((121, (6, 12, 24, 16)), (169, (6, 12, 32, 32)), (201, (6, 12, 48, 32))):
        nets[f"densenet{depth}"] = NamedNet(
            "densenet", _densenet(layers, "imagenet"), f"torchvision; {origin}"
        )
        nets[f"densenet{depth}c"] = NamedNet(
            "densenet", _densenet(layers, "cifar"), f"{origin}, with a 3x3 stem, for small images"
        )
    nets["densenet100c"] = NamedNet(
        "densenet", _densenet((16, 16, 16), "cifar", growth=12), f"{origin}: DenseNet-BC"
    )
    return nets


_CONVMIXER_PAPER = "Trockman & Kolter 2022, arXiv 2201.09792"

NAMED: dict[str, NamedNet] = {
    **_named_vggs(),
    **_named_resnets(),
    **_named_densenets(),
    # Kernel and patch size are not published. 7 and 2 give the published 1.28 million parameters
    # (1,280,266); no other odd kernel can.
    "convmixer256d16": NamedNet(
        "convmixer",
        _convmixer(256, 16, kernel=7, patch=2),
        "a published comparison on CIFAR-10: 1.28 million parameters",
    ),
    "convmixer256d8": NamedNet(
        "convmixer", _convmixer(256, 8, kernel=5, patch=2), f"{_CONVMIXER_PAPER}, for CIFAR-10"
    ),
    "convmixer1536d20": NamedNet(
        "convmixer", _convmixer(1536, 20, kernel=9, patch=7), f"{_CONVMIXER_PAPER}, for ImageNet"
    ),
}
"""Networks by name; a final ``c`` marks a variant for small images such as CIFAR's."""
