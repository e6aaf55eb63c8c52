"""Records of the working file and of the table."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer


def _split(value: object) -> object:
    return value.split() if isinstance(value, str) else value


def _join(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _parse(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


def _compact(params: dict[str, Any]) -> str:
    return json.dumps(params, separators=(",", ":"))


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


Floats = Annotated[tuple[float, ...], BeforeValidator(_split), PlainSerializer(_join)]
"""In a file: separated by blanks."""
Ints = Annotated[tuple[int, ...], BeforeValidator(_split), PlainSerializer(_join)]
"""In a file: separated by blanks."""
Params = Annotated[dict[str, Any], BeforeValidator(_parse), PlainSerializer(_compact)]
"""In a file: JSON."""
Optional = Annotated[int | None, BeforeValidator(_none_if_empty)]
"""In a file: empty for None."""


class Measurement(BaseModel):
    """Result of one training: a line of the working file.

    Attributes:
        number: of the network, in the order of the draws, from 0.
        seed: of initial weights and order of images.
        digest: of the candidate.
        params: drawn values, from which `Protocol.space` rebuilds the candidate.
        accuracy: on all scored images after the last epoch, 0..1.
        validation_accuracy: on the validation images after the last epoch, 0..1.
        test_accuracy: on the other scored images, 0..1.
        test_loss: mean cross-entropy on the same images.
        train_accuracy: on the training images during the last epoch, 0..1.
        validation_accuracies: after each epoch, 0..1.
        validation_losses: mean cross-entropy after each epoch.
        train_losses: mean cross-entropy during each epoch.
        cpu_seconds: processor time of the training, with one thread, scoring included.
        versions: of Python and torch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    number: int
    seed: int
    digest: str
    params: Params
    accuracy: float
    validation_accuracy: float
    test_accuracy: float
    test_loss: float
    train_accuracy: float
    validation_accuracies: Floats
    validation_losses: Floats
    train_losses: Floats
    cpu_seconds: float
    versions: str


class Row(Measurement):
    """A row of the table: a training, and the analysis of its network.

    Attributes:
        depth: number of convolutions.
        kernel: kernel size of all convolutions.
        features: feature amount of each convolution.
        pool_after: convolutions (1-based) that a pooling layer follows.
        parameters: number of trainable parameters.
        macs: multiply-accumulates of a forward pass of one image.
        activation_bytes: bytes per image that backpropagation keeps, in float32.
        fields: receptive field of each convolution, in pixels of the image.
        border_previous_conv: 1-based border layer by the rule ``previous-conv``; None if there is
            none.
        border_direct_input: the same by the rule ``direct-input``.
        border_non_strict: the same by the rule ``non-strict``.
        beyond_previous_conv: number of convolutions after the border layer, by the same rule.
        beyond_direct_input: the same by the rule ``direct-input``.
        beyond_non_strict: the same by the rule ``non-strict``.
    """

    depth: int
    kernel: int
    features: Ints
    pool_after: Ints
    parameters: int
    macs: int
    activation_bytes: int
    fields: Ints
    border_previous_conv: Optional
    border_direct_input: Optional
    border_non_strict: Optional
    beyond_previous_conv: int
    beyond_direct_input: int
    beyond_non_strict: int
