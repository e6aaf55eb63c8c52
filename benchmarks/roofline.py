"""Compares each kind of layer with the ceilings of the device: ``python benchmarks/roofline.py``.

A roofline (Williams et al. 2009) bounds the speed of an operation by the arithmetic of the device
and by its memory: an operation of F operations and B bytes takes at least ``max(F / peak,
B / bandwidth)`` seconds. Both ceilings are measured here:

- peak: the fastest of several square matrix products and of convolutions with many channels, in
  the number format of the training; the two come from different libraries on a CPU;
- bandwidth: a copy of as many bytes as the operation moves, because activations of small networks
  fit in the caches of a processor.

Then each operation of one training step is measured alone, on tensors of its shapes and in its
layout. Two rows per kind of layer: its time against the whole step, and its speed against its
ceiling. ``flops`` and ``bytes`` are the minimum of the algorithm: a batch norm reads its input
twice. Operations measured alone find more in the caches than in a training step.

On a CPU the benchmark uses one thread (another number: ``--threads``) and, with one thread, counts
CPU time, which other processes hardly change. On a GPU it uses CUDA events.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial, reduce

import torch
import torch.nn.functional as F
from harness import Figure, Table, option_parser
from loops import AUGMENTATION, candidate, noise
from torch import Tensor

from spaces.architecture import Architecture
from spaces.operations import Activation, Convolution, GlobalPooling, Linear, Norm, Pooling
from trainables.layers import build_layer
from trainables.training.device import Device, select_device
from trainables.training.loop import Training
from trainables.training.optimization import Rates, build_optimizer
from trainables.training.process import prepare_process

NETS = ("small", "medium")
BATCHES = {"cpu": 128, "cuda": 512}
_ATEN = torch.ops.aten


@dataclass(frozen=True)
class Work:
    """An operation of a training step.

    Attributes:
        kind: kind of layer and direction, such as ``convolution forward``.
        flops: floating-point operations; a multiply-accumulate is two.
        bytes: bytes that the operation has to read and write.
        run: runs it once.
    """

    kind: str
    flops: float
    bytes: float
    run: Callable[[], object]


@dataclass(frozen=True)
class Reached:
    """A kind of layer of one network: seconds per step, and the least seconds of the roofline."""

    kind: str
    flops: float
    bytes: float
    seconds: float
    least: float


class Clock:
    """Measures the seconds of a function on a device.

    Args:
        device: device of the work.
        repeats: number of measurements, whose lower quartile counts.
    """

    def __init__(self, device: torch.device, repeats: int) -> None:
        self._on_gpu = device.type == "cuda"
        self._repeats = repeats
        one = torch.get_num_threads() == 1
        self._now = time.process_time if one else time.perf_counter

    def seconds(self, run: Callable[[], object]) -> float:
        """Return the seconds of one call after two uncounted ones."""
        for _ in range(2):
            run()
        measured = sorted(self._once(run) for _ in range(self._repeats))
        return measured[len(measured) // 4]

    def _once(self, run: Callable[[], object]) -> float:
        if self._on_gpu:
            begin, end = (_event() for _ in range(2))
            begin.record()
            run()
            end.record()
            end.synchronize()
            return float(begin.elapsed_time(end)) / 1e3
        started = self._now()
        run()
        return self._now() - started


class Ceilings:
    """The measured limits of a device.

    Args:
        device: the device.
        dtype: number format of matrix products and activations.
        clock: measures seconds.
        largest: side of the largest square matrix.
    """

    def __init__(
        self, device: torch.device, dtype: torch.dtype, clock: Clock, largest: int
    ) -> None:
        self._device, self._clock = device, clock
        sides = [largest // 4, largest // 2, largest]
        self.products = {side: self._product(side, dtype) for side in sides}
        self.peak = max(self.products.values())
        self.bandwidth = lru_cache(self._copied)

    def least(self, flops: float, moved: float) -> float:
        """Return the least seconds of an operation."""
        size = 2 ** math.ceil(math.log2(max(moved, 2**16)))
        return max(flops / self.peak, moved / self.bandwidth(size))

    def _product(self, side: int, dtype: torch.dtype) -> float:
        a, b = (torch.randn(side, side, device=self._device).to(dtype) for _ in range(2))
        channels = side // 8
        images = torch.randn(32, channels, 16, 16, device=self._device).to(dtype)
        images = images.to(memory_format=torch.channels_last)
        kernels = torch.randn(channels, channels, 3, 3, device=self._device).to(dtype)
        kernels = kernels.to(memory_format=torch.channels_last)
        macs = images.numel() * channels * 9
        with torch.no_grad():
            product = self._clock.seconds(partial(torch.mm, a, b, out=torch.empty_like(a)))
            convolved = self._clock.seconds(partial(F.conv2d, images, kernels, padding=1))
        return float(max(2 * side**3 / product, 2 * macs / convolved))

    def _copied(self, moved: int) -> float:
        """Return the bytes per second of a copy, which reads one half and writes the other."""
        source = torch.zeros(moved // 8, device=self._device)
        return moved / self._clock.seconds(partial(torch.empty_like(source).copy_, source))


def step_works(net: str, batch: int, device: Device) -> Iterator[Work]:
    """Yield the operations of a training step of a plain network, in forward order."""
    chosen = candidate(net, batch)
    architecture = chosen.architecture
    dtype = torch.bfloat16 if device.bfloat16 else torch.float32
    for index in range(1, len(architecture.layers)):
        yield from _layer_works(architecture, index, batch, device.device, dtype)
    logits = torch.randn(batch, 10, device=device.device).to(dtype).requires_grad_()
    labels = torch.zeros(batch, dtype=torch.int64, device=device.device)

    def loss() -> None:
        F.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]

    yield Work("loss", 10 * logits.numel(), 3 * _bytes(logits), loss)
    yield from _optimizer_works(net, batch, device.device)
    training = Training(
        chosen, noise(2 * batch), epochs=1, seed=0, augmentation=AUGMENTATION, device=_name(device)
    )
    plan = training._prepare_epoch()
    variation = plan.variation.map(lambda drawn: drawn[0].to(device.device))
    rows = plan.rows[0].to(device.device)
    moved = batch * math.prod(architecture.shapes[0]) * (2 * 1 + 1 + 4)
    images = partial(training._batches.current, rows, variation)
    yield Work("augmentation", 2 * batch * math.prod(architecture.shapes[0]), moved, images)


def _layer_works(
    architecture: Architecture, index: int, batch: int, device: torch.device, dtype: torch.dtype
) -> Iterator[Work]:
    layer = architecture.layers[index]
    operation, before = layer.operation, architecture.shapes[layer.inputs[0]]
    module = build_layer(operation, (before,)).to(device).train()
    values = torch.randn(batch, *before, device=device).to(dtype)
    values = values.to(memory_format=torch.channels_last)
    first = layer.inputs[0] == 0
    if isinstance(operation, Convolution):
        yield from _convolution_works(module, values, first=first)
        return
    name, passes = {
        Norm: ("batch norm", 3),
        Activation: ("activation", 2),
        Pooling: ("pooling", 2),
        GlobalPooling: ("head", 2),
        Linear: ("head", 2),
    }[type(operation)]
    if isinstance(operation, Linear):
        module = module.to(dtype)
    values.requires_grad_()
    output = module(values)
    gradient = torch.randn_like(output)
    leaves = [values, *module.parameters()]
    after = architecture.shapes[index]
    flops = 2 * batch * operation.macs((before,), after) if isinstance(operation, Linear) else 0
    flops = flops or values.numel() * (4 if isinstance(operation, Norm) else 1)
    moved = (passes - 1) * _bytes(values) + _bytes(output)
    # The backward pass reads input and gradient, a batch norm twice, and writes a gradient.
    back = (2 * (passes - 1) if passes > 2 else 1) * _bytes(values) + _bytes(output)
    back += _bytes(values) if passes > 2 or isinstance(operation, Activation) else 0
    yield Work(f"{name} forward", flops, moved, partial(module, values))
    yield Work(
        f"{name} backward",
        2 * flops,
        back,
        partial(torch.autograd.grad, output, leaves, gradient, retain_graph=True),
    )


def _convolution_works(module: torch.nn.Module, values: Tensor, *, first: bool) -> Iterator[Work]:
    weight = module.weight
    assert isinstance(weight, Tensor)
    weight = weight.detach().to(values.dtype, memory_format=torch.channels_last)
    stride, padding, dilation, groups = (
        getattr(module, name) for name in ("stride", "padding", "dilation", "groups")
    )
    forward = partial(F.conv2d, values, weight, None, stride, padding, dilation, groups)
    output = forward()
    gradient = torch.randn_like(output)
    flops = 2.0 * output.numel() * weight[0].numel()
    moved = _bytes(values) + _bytes(output) + _bytes(weight)
    geometry = (stride, padding, dilation, False, [0, 0], groups)
    yield Work("convolution forward", flops, moved, forward)
    for name, mask in (
        ("input", [True, False, False]),
        ("weight", [False, True, False]),
    ):
        # Images need no gradient.
        if not (first and name == "input"):
            run = partial(
                _ATEN.convolution_backward, gradient, values, weight, [0], *geometry, mask
            )
            yield Work(f"convolution backward by {name}", flops, moved, run)


def _optimizer_works(net: str, batch: int, device: torch.device) -> Iterator[Work]:
    training = Training(candidate(net, batch), noise(batch), epochs=1, seed=0, device=str(device))
    rates = Rates(1.0, device)
    optimizer = build_optimizer(training.network, training.recipe, rates)
    count = 0
    for parameter in training.network.parameters():
        parameter.grad = torch.zeros_like(parameter)
        count += parameter.numel()
    # Reads weight, gradient and momentum; writes weight and momentum.
    yield Work("optimiser", 6 * count, 5 * 4 * count, optimizer.step)


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _name(device: Device) -> str:
    return str(device.device)


def measure_net(net: str, device: Device, ceilings: Ceilings, clock: Clock) -> list[Reached]:
    """Return what every kind of layer reaches, and last the whole step."""
    batch = BATCHES[device.device.type]
    kinds: dict[str, Reached] = {}
    for work in step_works(net, batch, device):
        found = Reached(
            work.kind,
            work.flops,
            work.bytes,
            clock.seconds(work.run),
            ceilings.least(work.flops, work.bytes),
        )
        known = kinds.get(work.kind)
        kinds[work.kind] = found if known is None else _sum(known, found)
    step = whole_step(net, batch, device, clock)
    total = reduce(_sum, kinds.values())
    whole = Reached("whole step", total.flops, total.bytes, step, total.least)
    return [*kinds.values(), whole]


def _sum(one: Reached, other: Reached) -> Reached:
    return Reached(
        one.kind,
        one.flops + other.flops,
        one.bytes + other.bytes,
        one.seconds + other.seconds,
        one.least + other.least,
    )


def whole_step(net: str, batch: int, device: Device, clock: Clock) -> float:
    """Return the seconds of a step of `Training` with augmentation, without a CUDA graph."""
    training = Training(
        candidate(net, batch),
        noise(4 * batch),
        epochs=10,
        seed=0,
        augmentation=AUGMENTATION,
        device=_name(device),
    )
    training._device = device
    training._prepare_epoch()
    training.network.train()

    def step() -> None:
        training._step()
        training._cursor.zero_()

    return clock.seconds(step)


def measure_roofline(table: Table, device: Device, *, quick: bool, threads: int = 1) -> None:
    """Add the rows of both networks in every number format that the device computes natively.

    Args:
        table: table for the rows.
        device: the device.
        quick: whether to measure only the small network, with fewer repetitions.
        threads: number of CPU threads; this process keeps it.
    """
    if device.device.type == "cpu":
        prepare_process(threads)
    clock = Clock(device.device, 5 if quick else 21)
    largest = 1024 if quick else 2048
    largest *= 4 if device.device.type == "cuda" else 1
    for bfloat16 in (True, False) if device.bfloat16 else (False,):
        form = "bfloat16" if bfloat16 else "float32"
        chosen = Device(device.device, bfloat16)
        dtype = torch.bfloat16 if bfloat16 else torch.float32
        ceilings = Ceilings(device.device, dtype, clock, largest)
        sides = ", ".join(f"{side}: {v / 1e9:,.0f}" for side, v in ceilings.products.items())
        print(f"{form}: products and convolutions, side: GFLOP/s: {sides}")
        sizes = [2**power for power in (20, 22, 24, 26, 28)]
        copies = ", ".join(f"{n >> 20}: {ceilings.bandwidth(n) / 1e9:,.0f}" for n in sizes)
        print(f"{form}: copies, MiB: GB/s: {copies}")
        for net in ("small",) if quick else NETS:
            reached = measure_net(net, chosen, ceilings, clock)
            print_roofline(f"{net} net, {form}", reached)
            for figure in figures(f"roofline, {net} net, {form}", reached):
                table.add(figure)


def figures(name: str, reached: list[Reached]) -> Iterator[Figure]:
    """Yield time and speed of each kind; the last is the whole step."""
    step = reached[-1].seconds
    for kind in reached:
        share = kind.seconds / step
        if kind is not reached[-1]:
            title = f"{name}: time of {kind.kind}; against the whole step"
            yield Figure(title, kind.seconds * 1e3, step * 1e3, share, "-", "ms")
        title = f"{name}: speed of {kind.kind}; against its ceiling"
        speeds = (kind.flops / kind.seconds / 1e9, kind.flops / kind.least / 1e9)
        yield Figure(title, *speeds, kind.least / kind.seconds, "-", "GFLOP/s")


def print_roofline(name: str, reached: list[Reached]) -> None:
    """Print one line per kind of layer, the slowest first."""
    step = reached[-1].seconds
    print(f"{name:<32} {'ms':>8} {'of step':>8} {'GFLOP/s':>9} {'GB/s':>7} {'of ceiling':>11}")
    for kind in sorted(reached[:-1], key=lambda kind: -kind.seconds) + reached[-1:]:
        speeds = (kind.flops / kind.seconds / 1e9, kind.bytes / kind.seconds / 1e9)
        print(
            f"  {kind.kind:<30} {kind.seconds * 1e3:8.2f} {kind.seconds / step:8.1%} "
            f"{speeds[0]:9.1f} {speeds[1]:7.1f} {kind.least / kind.seconds:11.0%}"
        )
    rest = step - sum(kind.seconds for kind in reached[:-1])
    print(f"  {'the rest of the step':<30} {rest * 1e3:8.2f} {rest / step:8.1%}", flush=True)


def main() -> int:
    parser = option_parser(__doc__)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    given = parser.parse_args()
    table = Table(given.json)
    measure_roofline(table, select_device(), quick=given.quick, threads=given.threads)
    return int(table.failed)


if __name__ == "__main__":
    sys.exit(main())
