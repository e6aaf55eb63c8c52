"""Measures the effective receptive fields of a network for `analyze`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from spaces.architecture import Architecture
from spaces.errors import BadInputError
from spaces.operation_base import Shape
from spaces.source.module import state_dict_names
from trainables.builder import Network
from trainables.data import Dataset
from trainables.probes.effective_field import EffectiveField, describe_mass, measure_masses
from trainables.probes.images import ProbeImages
from trainables.probes.subject import Subject
from trainables.probes.trained import load_state, read_state

SEED = 0
"""Of fresh weights and of images of noise."""
_MOST_IMAGES = 32
_MOST_VALUES = 1 << 19
"""Values of all images: 32 of 32 pixels, 3 of 224. The whole graph is kept."""


@dataclass(frozen=True, eq=False)
class Weighed:
    """A network with weights.

    Attributes:
        module: images ``[n, c, h, w]`` to any output.
        origin: where its weights come from, in words.
        architecture: that `trainables.builder.Network` built it from; None for another module.
    """

    module: nn.Module
    origin: str
    architecture: Architecture | None = None


def build_network(architecture: Architecture, weights: Path | None, title: str) -> Weighed:
    """Build the network of an architecture, with fresh weights or those of a file.

    The file has the names of `trainables.builder.Network` or those of an exported source.

    Raises:
        BadInputError: the file cannot be read or does not fit, or an operation has no module.
    """
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        try:
            network = Network(architecture)
        except (NotImplementedError, TypeError) as error:
            problem, remedy = (
                f"cannot be built ({error})",
                "name the module that it was traced from",
            )
            raise BadInputError("--effective", title, problem, remedy) from None
    if weights is None:
        return Weighed(network, f"fresh weights (seed {SEED})", architecture)
    state = _state(weights)
    names = {new: old for old, new in state_dict_names(architecture).items()}
    if set(state) == set(names):
        state = {names[name]: tensor for name, tensor in state.items()}
    load_state(network, state, title, str(weights))
    return Weighed(network, str(weights), architecture)


def load_weights(module: nn.Module, reference: str, weights: Path | None) -> Weighed:
    """Load the weights of a file into a module of the user.

    Raises:
        BadInputError: the file cannot be read, or does not fit.
    """
    if weights is not None:
        load_state(module, _state(weights), reference, str(weights))
        return Weighed(module, str(weights))
    fresh = reference.startswith("torchvision:")
    return Weighed(
        module, f"fresh weights (seed {SEED})" if fresh else f"weights as {reference} returns them"
    )


def load_module(reference: str) -> nn.Module:
    """Build the module of the user with initialised weights, always the same random ones."""
    from trainables.tracing import load_model  # noqa: PLC0415 - imports slowly

    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        return load_model(reference, initialised=True)


def _state(weights: Path) -> Mapping[str, Tensor]:
    try:
        content = weights.read_bytes()
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise BadInputError("--weights", weights, problem, "name a file of weights") from None
    return read_state(content, str(weights))


def noise_images(shape: Shape) -> Tensor:
    """Return images of normal noise, float32 ``[n, c, h, w]``, always the same."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.randn(_count(shape), *shape, generator=generator)


def images_of(dataset: Dataset, split: str) -> Tensor:
    """Return normalised images of a split, float32 ``[n, c, h, w]``."""
    height, width, channels = dataset.shape
    count = _count((channels, height, width))
    images = ProbeImages.draw(dataset, split, count, torch.device("cpu"))
    return next(images.batches(count))


def _count(shape: Shape) -> int:
    channels, height, width = shape
    return max(1, min(_MOST_IMAGES, _MOST_VALUES // (channels * height * width)))


def effective_fields(
    weighed: Weighed,
    images: Tensor,
    title: str,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, EffectiveField]:
    """Return the effective field of every convolution that is a module, by its name.

    The names are those of the module, for an architecture ``layers.`` and the index of the layer.

    Args:
        weighed: the network.
        images: float32 ``[n, c, h, w]``.
        title: the network in words.
        progress: called with the number of convolutions before they are measured.

    Raises:
        BadInputError: the network does not take the images, or has no convolution.
    """
    subject = Subject(weighed.module.float(), images[:2], title)
    progress(len(subject.layers))
    masses = measure_masses(subject, images)
    return {
        layer.name: describe_mass(mass) for layer, mass in zip(subject.layers, masses, strict=True)
    }
