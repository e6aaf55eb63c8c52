"""Probes a user's own trained module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from spaces.errors import BadInputError
from trainables.data import Dataset
from trainables.probes.probing import ProbeSettings, probe_network
from trainables.probes.records import NetworkProbes
from trainables.probes.trained import load_state, read_state
from trainables.training.device import select_device


def probe_module(
    reference: str,
    weights: Path | None,
    dataset: Dataset,
    settings: ProbeSettings,
    device: str,
    progress: Callable[[str], None] = lambda _: None,
) -> NetworkProbes:
    """Probe the module that the user names; see `probe_network`.

    Args:
        reference: ``module:function``, ``module:Class`` or ``torchvision:NAME``.
        weights: file of its weights; None if the function returns it trained.
        dataset: the images.
        settings: what to probe.
        device: see `trainables.training.device.select_device`.
        progress: called with the name of each probe.

    Raises:
        BadInputError: the module cannot be built, or weights or images do not fit it.
    """
    from trainables.tracing import load_model  # noqa: PLC0415 - imports slowly

    network = load_model(reference, initialised=True)
    if weights is None:
        random = reference.startswith("torchvision:")
        source = "random" if random else f"as {reference} returns them"
    else:
        source = str(weights)
        try:
            content = weights.read_bytes()
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
            raise BadInputError("--weights", weights, problem, "name a file of weights") from None
        load_state(network, read_state(content, source), reference, source)
    return probe_network(
        network,
        dataset,
        settings,
        select_device(device).device,
        title=reference,
        weights=source,
        progress=progress,
    )
