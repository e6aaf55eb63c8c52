"""A network as the probes see it: its convolutions in forward order, and what they return."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from spaces.errors import BadInputError
from spaces.operation_base import Pair
from spaces.user_code import RAISED_BY_USERS, place_of, remedy_of

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
NORMS = (_BatchNorm, nn.GroupNorm, nn.InstanceNorm2d, nn.LayerNorm)


@dataclass(frozen=True, eq=False)
class ConvolutionLayer:
    """A convolution of a network.

    Attributes:
        name: path of the module in the network.
        module: the convolution.
        norm_name: path of the norm that takes its output directly; empty without one.
        norm: this norm.
        shape: channels, rows and columns of its output.
        calls: number of its calls for a batch.
    """

    name: str
    module: nn.Conv2d | nn.ConvTranspose2d
    norm_name: str
    norm: nn.Module | None
    shape: tuple[int, int, int]
    calls: int

    @property
    def kernel(self) -> Pair:
        """Rows and columns of the kernel."""
        rows, columns = self.module.kernel_size
        return rows, columns

    @property
    def branch_end(self) -> nn.Module:
        """The following norm, or the convolution itself without one."""
        return self.module if self.norm is None else self.norm


class Subject:
    """A network in evaluation mode, and its convolutions in forward order.

    Args:
        network: images ``[n, c, h, w]`` to any output. Its modes are not restored.
        images: a batch of images, on the device of the network.
        reference: how the user names the network, for messages.

    Attributes:
        network: the network.
        layers: convolutions in the order of their first call.
        output: shape of the network's output for the batch; None if it is no tensor.

    Raises:
        BadInputError: the network does not take the images, or has no convolution.
    """

    def __init__(self, network: nn.Module, images: Tensor, reference: str) -> None:
        self.network = network.eval()
        self.layers, self.output = _discover(network, images, reference)

    @contextmanager
    def listening(self, receive: Callable[[int, Tensor], None]) -> Iterator[None]:
        """Pass on what convolutions return in each forward pass.

        A convolution that is called several times in a pass counts with its first call.

        Args:
            receive: called with the index of a layer and its output ``[n, c, h, w]``.
        """
        heard: set[int] = set()
        handles: list[RemovableHandle] = []

        def restart(_module: nn.Module, _inputs: object) -> None:
            heard.clear()

        def hook(index: int) -> Callable[[nn.Module, object, Tensor], None]:
            def tell(_module: nn.Module, _inputs: object, output: Tensor) -> None:
                if index not in heard:
                    heard.add(index)
                    receive(index, output)

            return tell

        try:
            handles.append(self.network.register_forward_pre_hook(restart))
            for index, layer in enumerate(self.layers):
                handles.append(layer.module.register_forward_hook(hook(index)))
            yield
        finally:
            for handle in handles:
                handle.remove()


def _discover(
    network: nn.Module, images: Tensor, reference: str
) -> tuple[tuple[ConvolutionLayer, ...], tuple[int, ...] | None]:
    """Run a forward pass and note the order of convolutions and the norms that follow them."""
    names = {module: name for name, module in network.named_modules()}
    calls: dict[nn.Module, int] = {}
    outputs: dict[nn.Module, tuple[Tensor, int]] = {}
    norms: dict[nn.Module, nn.Module] = {}

    def convolution(module: nn.Module, _inputs: object, output: Tensor) -> None:
        calls[module] = calls.get(module, 0) + 1
        outputs[module] = output, output._version

    def norm(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        for source, (output, version) in outputs.items():
            # Another version: an operation in between has changed the output in place.
            if inputs and inputs[0] is output and output._version == version:
                norms.setdefault(source, module)

    handles = [
        module.register_forward_hook(convolution)
        if isinstance(module, CONVOLUTIONS)
        else module.register_forward_pre_hook(norm)
        for module in names
        if isinstance(module, CONVOLUTIONS + NORMS)
    ]
    try:
        with torch.no_grad():
            output = network(images)
    except RAISED_BY_USERS as error:
        raise _refusal(network, images, reference, error) from error
    finally:
        for handle in handles:
            handle.remove()
    if not calls:
        raise BadInputError("NETWORK", reference, "has no convolution", "probe a CNN")
    layers = []
    for module, count in calls.items():
        if not isinstance(module, CONVOLUTIONS):
            continue
        channels, rows, columns = outputs[module][0].shape[-3:]
        following = norms.get(module)
        layers.append(
            ConvolutionLayer(
                names[module],
                module,
                "" if following is None else names[following],
                following,
                (channels, rows, columns),
                count,
            )
        )
    return tuple(layers), tuple(output.shape) if isinstance(output, Tensor) else None


def _refusal(
    network: nn.Module, images: Tensor, reference: str, error: BaseException
) -> BadInputError:
    """Say why a network does not take the images."""
    _, channels, rows, columns = images.shape
    first = next((part for part in network.modules() if isinstance(part, CONVOLUTIONS)), None)
    if first is not None and first.in_channels != channels:
        problem = (
            f"its first convolution takes {first.in_channels} channels, but the images have "
            f"{channels}"
        )
        return BadInputError("NETWORK", reference, problem, "use images of the same kind")
    cause = (str(error).strip().splitlines() or ["no message"])[0]
    problem = (
        f"its forward raised {type(error).__name__} for images of {channels} x {rows} x {columns}: "
        f"{cause}{place_of(error)}"
    )
    remedy = remedy_of(error, "try another --resolution, or fix it")
    return BadInputError("NETWORK", reference, problem, remedy)
