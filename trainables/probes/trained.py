"""Probes the networks of a search: after a training, from stored weights, or trained again."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spaces.architecture import Architecture
from spaces.errors import BadInputError
from trainables.builder import Network
from trainables.epoch_metrics import EpochMetrics
from trainables.images.errors import printable
from trainables.probes.probing import ProbeSettings, probe_network
from trainables.probes.records import NetworkProbes
from trainables.specs import TrainingSpec
from trainables.training.loop import Training
from trainables.training.process import prepare_process
from trainables.trial import start_finalist

_UNSAFE = re.compile(r"Unsupported global: GLOBAL ([\w.]+)")
"""What torch says of the first class in a pickle that is no tensor."""


def probe_training(
    training: Training,
    settings: ProbeSettings,
    *,
    title: str,
    weights: str,
    progress: Callable[[str], None] = lambda _: None,
) -> NetworkProbes:
    """Probe the scored network of a training; see `probe_network`."""
    return probe_network(
        training.evaluated,
        training.dataset,
        settings,
        training.device,
        title=title,
        weights=weights,
        architecture=training.architecture,
        progress=progress,
    )


def restore_network(architecture: Architecture, state: bytes, title: str, source: str) -> Network:
    """Return a network with stored weights, on the CPU.

    Args:
        architecture: of the network.
        state: content of the file of its ``state_dict``.
        title: the network in words.
        source: where the weights come from, in words.

    Raises:
        BadInputError: the weights are damaged or do not fit the network.
    """
    network = Network(architecture)
    load_state(network, read_state(state, source), title, source)
    return network


def train_again(
    spec: TrainingSpec,
    params: Mapping[str, Any],
    digest: str,
    seed: int,
    epochs: int,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[Training, EpochMetrics]:
    """Train a candidate as its trial did; with folds, on the images without one of them.

    The threads of the spec train it, because sums of floats depend on their number. The process has
    its own number of threads again afterwards.

    Args:
        spec: training spec of the search.
        params: parameters of the candidate.
        digest: of the candidate; empty for no comparison.
        seed: of the trial.
        epochs: that the trial trained; the schedule spans those of the spec.
        progress: called after each epoch with its number.

    Returns:
        The training, and the metrics of its last epoch.

    Raises:
        BadInputError: the space draws another candidate from the parameters now.
    """
    others = torch.get_num_threads()
    prepare_process(spec.threads)
    try:
        training = start_finalist(spec, spec.candidates().rebuild(params, digest), seed)
        for epoch in range(1, epochs + 1):
            metrics = training.run_epoch()
            progress(epoch)
    finally:
        torch.set_num_threads(others)
    return training, metrics


def read_state(content: bytes, source: str) -> dict[str, Tensor]:
    """Return the weights in a file of ``torch.save`` or of safetensors; runs no code from it.

    A checkpoint with the weights below ``state_dict`` or ``model`` is accepted.

    Args:
        content: of the file.
        source: path of the file, for messages.

    Raises:
        BadInputError: it holds no weights.
    """
    try:
        if source.endswith(".safetensors"):
            from safetensors.torch import load  # noqa: PLC0415 - needed for such files alone

            found: object = load(content)
        else:
            with warnings.catch_warnings():  # Of pickles that it then refuses.
                warnings.simplefilter("ignore")
                found = torch.load(io.BytesIO(content), "cpu", weights_only=True)
    except Exception as error:
        problem = f"cannot be read as weights ({_unreadable(content, source, error)})"
        remedy = "save the state_dict of the network with torch.save or safetensors"
        raise BadInputError("--weights", source, problem, remedy) from error
    for name in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(name), dict):
            found = found[name]
    if (
        isinstance(found, dict)
        and found
        and all(isinstance(value, Tensor) for value in found.values())
    ):
        return found
    problem = f"holds no state_dict but a {type(found).__name__} of other values"
    raise BadInputError("--weights", source, problem, "save network.state_dict()")


def _unreadable(content: bytes, source: str, error: Exception) -> str:
    """Return why a file holds no weights, in words: torch's message is about its options."""
    if not content:
        return "the file is empty"
    if source.endswith(".safetensors"):
        return printable((str(error).strip().splitlines() or [type(error).__name__])[0])
    if unsafe := _UNSAFE.search(str(error)):
        return f"it is a pickle of {unsafe[1]}, which would run code"
    return "it is neither a file of torch.save nor of safetensors"


def load_state(
    network: nn.Module, state: Mapping[str, Tensor], title: str, source: str = ""
) -> None:
    """Load weights into a network.

    Args:
        network: receives the weights.
        state: the weights by name.
        title: the network in words.
        source: path of the file of the weights; empty if it has none.

    Raises:
        BadInputError: they do not fit.
    """
    own = network.state_dict()
    missing = [name for name in own if name not in state]
    unknown = [name for name in state if name not in own]
    other = [
        f"{name} has {list(state[name].shape)} instead of {list(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    found = [
        f"{len(names)} {what}, such as {names[0]}"
        for what, names in (("are missing", missing), ("are unknown", unknown), ("differ", other))
        if names
    ]
    if found:
        problem = f"the weights do not fit {title}: {'; '.join(found)}"
        remedy = "give the weights of this network"
        raise BadInputError("--weights", source or title, problem, remedy)
    network.load_state_dict(state)
