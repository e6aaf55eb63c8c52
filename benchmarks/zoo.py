"""Analyses networks that others wrote: ``python benchmarks/zoo.py --results zoo.jsonl``.

The smallest network of every family of timm, and torchvision's networks for classification,
segmentation and detection (their backbones), all without weights. Each runs in a process of its
own with limits on time and memory. With ``--results`` an interrupted run continues.

Ours: what `trace` and the analysis give. Baselines, in the same process: torch's FLOP counter and
the number of parameters that the output depends on; for the coverage, the networks that need no
generic layer, which an analysis of known operations alone would refuse; for the fields, in every
convolution the positions that one pixel of the image changes, and in some the extent of the
gradient of the central position. Neither may exceed the largest field.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from harness import Figure, option_parser, show
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from spaces.architecture import Architecture
from spaces.border import find_border
from spaces.costs import costs
from spaces.operations import CONVOLUTIONS, Generic, Shape
from spaces.receptive_field import receptive_fields
from trainables.tracing import load_model, trace
from trainables.tracing.unmasking import Unmasked, evenly_weighted

SECONDS, BYTES = 60, 10 << 30
"""Limits for each network: CPU time and memory."""
_SMALL = (
    *("test_", "atto", "femto", "pico", "nano", "xxs", "xx_small", "zepto", "tiny", "_s0", "_t0"),
    *("_xs", "small", "mini", "_b0", "_s1", "_s", "18", "26", "_m0", "_b1", "50", "_b"),
)
"""Parts of names of small networks, smallest first."""
_QUICK = (
    *("timm:resnet18", "timm:resnest14d", "timm:skresnet18", "timm:test_nfnet"),
    *("timm:test_vit", "timm:focalnet_tiny_srf", "torchvision:mobilenet_v3_small"),
)
_TORCHVISION_SKIPPED = (
    "quantized_",
    "raft_",
    "r3d_",
    "mc3_",
    "r2plus1d_",
    "mvit_",
    "s3d",
    "swin3d_",
)
"""Networks of videos, of pairs of images, and of integers."""


@dataclass(frozen=True)
class Result:
    """The analysis of one network.

    Attributes:
        name: of the network, with its source.
        error: why there is no analysis, or empty.
        is_known: whether no generic layer was needed.
        is_exact: whether no field is a bound.
        params: number of parameters; of torch, those that the output depends on.
        macs: multiply-accumulates.
        trace_ms: CPU time of tracing.
        analysis_ms: CPU time of the analysis of the traced network.
        measured: number of convolutions whose extent was measured.
        within: number of those whose extent lies within the largest field.
    """

    name: str
    error: str = ""
    is_known: bool = False
    is_exact: bool = False
    params: tuple[int, int] = (0, 0)
    macs: tuple[int, int] = (0, 0)
    trace_ms: float = 0.0
    analysis_ms: float = 0.0
    measured: int = 0
    within: int = 0

    @property
    def is_counted_right(self) -> bool:
        """Tell whether parameters and multiply-accumulates are torch's."""
        return self.params[0] == self.params[1] and self.macs[0] == self.macs[1]


def families() -> Iterator[str]:
    """Yield the smallest network of every family of timm."""
    import timm  # noqa: PLC0415 - takes seconds

    for family in timm.list_modules():
        names = sorted(timm.list_models(module=family), key=_size_by_name)
        if names:
            yield f"timm:{names[0]}"


def _size_by_name(name: str) -> tuple[int, int, str]:
    rank = next((i for i, part in enumerate(_SMALL) if part in name), len(_SMALL))
    return (rank, len(name), name)


def of_torchvision() -> list[str]:
    """Return torchvision's networks of single images."""
    from torchvision import models  # noqa: PLC0415 - takes a second

    names = [name for name in models.list_models() if not name.startswith(_TORCHVISION_SKIPPED)]
    return [f"torchvision:{name}" for name in names]


def build(name: str) -> tuple[nn.Module, Shape]:
    """Build a network without weights, and return it with the shape of its images."""
    source, _, model = name.partition(":")
    if source == "timm":
        import timm  # noqa: PLC0415 - takes seconds

        made: nn.Module = timm.create_model(model, pretrained=False)
        settings: Any = made.default_cfg
        channels, height, width = settings.get("input_size", (3, 224, 224))
        return made, (channels, height, width)
    network = load_model(name, initialised=True)
    backbone = getattr(network, "backbone", None)
    side = 299 if model == "inception_v3" else 224
    if isinstance(backbone, nn.Module) and hasattr(network, "transform"):
        fixed = getattr(network.transform, "fixed_size", None)
        network, side = backbone, fixed[0] if fixed else side
    return network, (3, side, side)


def analyse(name: str, most: int) -> Result:
    """Analyse one network, and compare with torch.

    Args:
        name: of the network, with its source.
        most: maximum number of convolutions whose extent is measured.
    """
    network, shape = build(name)
    network.eval()
    started = time.process_time()
    architecture = trace(network, shape, reference=name)
    traced = time.process_time()
    analysis = find_border(architecture)
    counted = costs(architecture)
    done = time.process_time()
    generic = any(type(layer.operation) is Generic for layer in architecture.layers)
    params, macs = torch_counts(deepcopy(network), shape)
    measured, within = compare_fields(network, architecture, shape, most)
    return Result(
        name=name,
        is_known=not generic,
        is_exact=all(field.exact for field in analysis.fields),
        params=(counted.params, params),
        macs=(counted.macs, macs),
        trace_ms=1000 * (traced - started),
        analysis_ms=1000 * (done - traced),
        measured=measured,
        within=within,
    )


def torch_counts(network: nn.Module, shape: Shape) -> tuple[int, int]:
    """Return the parameters that the output depends on, and half of torch's FLOPs."""
    network = network.to("meta").requires_grad_()
    # One pass for both: some networks keep what they calculated from parameters.
    with FlopCounterMode(display=False) as counter:
        outputs = network(torch.empty(1, *shape, device="meta"))
    parameters = list(network.parameters())
    results = [x for x in tensors(outputs) if x.requires_grad]
    gradients = torch.autograd.grad(
        [x.float().sum() for x in results], parameters, allow_unused=True
    )
    used = [p.numel() for p, g in zip(parameters, gradients, strict=True) if g is not None]
    return sum(used), counter.get_total_flops() // 2


def tensors(value: object) -> Iterator[Tensor]:
    """Yield all tensors of nested results."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors(item)


def compare_fields(
    network: nn.Module, architecture: Architecture, shape: Shape, most: int
) -> tuple[int, int]:
    """Return the number of convolutions measured, and of those within their largest field.

    In every convolution, the positions that change with the central pixel of the image; in some,
    the extent of the gradient of the central position.

    Args:
        network: to measure; its weights are changed.
        architecture: the same network, traced.
        shape: of its image.
        most: maximum number of gradients.
    """
    limits = largest_fields(architecture)
    named = {n: m for n, m in network.named_modules() if isinstance(m, nn.Conv2d) and n in limits}
    outputs: dict[str, Tensor] = {}
    for name, part in named.items():
        part.register_forward_hook(_keeper(name, outputs))
    image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    network.requires_grad_(False)
    with evenly_weighted(network), Unmasked():
        changed = image.clone()
        changed[:, :, shape[1] // 2, shape[2] // 2] += 1
        with torch.no_grad():
            network(changed)
        after = dict(outputs)
        outputs.clear()
        image.requires_grad_()
        network(image)
        within = {name: True for name in after if outputs[name].shape == after[name].shape}
        for name in within:
            differs = (outputs[name].detach() != after[name])[0].any(0)
            spans = (_extent(differs.any(dim=1)), _extent(differs.any(dim=0)))
            for span, (largest, jump) in zip(spans, limits[name], strict=True):
                within[name] &= (span - 1) * jump <= largest - 1
        for name in list(within)[:: max(1, -(-len(within) // most))]:
            _, _, height, width = outputs[name].shape
            centre = outputs[name][0, :, height // 2, width // 2].sum()
            (gradient,) = torch.autograd.grad(centre, image, retain_graph=True, allow_unused=True)
            mass = torch.zeros(shape[1:]) if gradient is None else gradient[0].abs().sum(0)
            extents = (_extent(mass.sum(dim=1)), _extent(mass.sum(dim=0)))
            for extent, (largest, _) in zip(extents, limits[name], strict=True):
                within[name] &= extent <= largest
    return len(within), sum(within.values())


def largest_fields(architecture: Architecture) -> dict[str, list[tuple[float, float]]]:
    """Return the largest field and smallest jump of every convolution, along both axes.

    Of a convolution that is called twice those of the last call, which sees most.
    """
    fields = receptive_fields(architecture, include_gates=True)
    jumps: list[list[float]] = [[1.0, 1.0]]
    for layer, windows in zip(architecture.layers[1:], architecture.windows[1:], strict=True):
        taken = [min(jumps[i][axis] for i in layer.inputs) for axis in (0, 1)]
        strides = (1, 1) if windows is None else (windows[0][1], windows[1][1])
        jumps.append([float(j * s) for j, s in zip(taken, strides, strict=True)])
    return {
        architecture.layers[i].name: list(zip(fields[i].largest, jumps[i], strict=True))
        for i in architecture.indices(*CONVOLUTIONS)
    }


def _keeper(name: str, outputs: dict[str, Tensor]):  # type: ignore[no-untyped-def]
    def keep(_: nn.Module, __: object, output: Tensor) -> None:
        outputs[name] = output

    return keep


def _extent(mass: Tensor) -> int:
    places = torch.nonzero(mass).flatten()
    return int(places[-1] - places[0]) + 1 if len(places) else 0


def in_own_process(name: str, most: int) -> Result:
    """Analyse one network in a process with limits on time and memory."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
        try:
            result = analyse(name, most)
        except BaseException as error:
            result = Result(name, f"{type(error).__name__}: {error}"[:300] or "failed")
        with os.fdopen(writing, "w") as pipe:
            pipe.write(json.dumps(asdict(result)))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if not text:
        return Result(name, f"ended with {os.waitstatus_to_exitcode(status)}, a limit is exceeded")
    return from_json(text)


def from_json(text: str) -> Result:
    """Return a stored result."""
    values = json.loads(text)
    values |= {key: tuple(values[key]) for key in ("params", "macs")}
    return Result(**values)


def figures(results: Sequence[Result], source: str) -> list[Figure]:
    """Return the rows of one source of networks."""
    analysed = [result for result in results if not result.error]
    if not analysed:
        return []
    count, done = len(results), len(analysed)
    right = sum(result.is_counted_right for result in analysed)
    known = sum(result.is_known for result in analysed)
    exact = sum(result.is_exact for result in analysed)
    measured = sum(result.measured for result in analysed)
    within = sum(result.within for result in analysed)
    times = median(result.analysis_ms for result in analysed)
    traces = median(result.trace_ms for result in analysed)
    return [
        Figure(f"{source}: analysed; against all", done, count, done / count, "1", "networks"),
        Figure(
            f"{source}: analysed; against known operations alone",
            *(done, known, done / max(known, 1), "more", "networks"),
        ),
        Figure(f"{source}: exact; against analysed", exact, done, exact / done, "-", "networks"),
        Figure(f"{source}: counts equal; against analysed", right, done, right / done, "1", "nets"),
        Figure(
            f"{source}: extents within the field; against measured",
            *(within, measured, within / max(measured, 1), "1", "layers"),
        ),
        Figure(
            f"{source}: median analysis; against tracing",
            *(times, traces, times / traces, "ours <= 100 ms", "ms"),
        ),
    ]


def options() -> argparse.Namespace:
    parser = option_parser(__doc__)
    parser.add_argument("--results", type=Path, metavar="FILE", help="continue from this file")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="such as timm:resnet18")
    return parser.parse_args()


def main() -> None:
    given = options()
    torch.set_num_threads(1)
    stored: dict[str, Result] = {}
    if given.results is not None and given.results.exists():
        lines = given.results.read_text(encoding="utf-8").splitlines()
        stored = {result.name: result for result in map(from_json, lines)}
    names = given.only or (_QUICK if given.quick else [*families(), *of_torchvision()])
    for name in names:
        if name in stored:
            continue
        result = stored[name] = in_own_process(name, 2)
        if given.results is not None:
            with given.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(result)) + "\n")
    rows: list[Figure] = []
    for source in ("timm", "torchvision"):
        rows += figures([stored[n] for n in names if n.startswith(f"{source}:")], source)
    for name in names:
        result = stored[name]
        wrong = result.error or ("" if result.is_counted_right else "other counts than torch")
        if not wrong and result.within < result.measured:
            wrong = f"{result.measured - result.within} extents exceed the largest field"
        if wrong:
            print(f"{name}: {wrong} {result.params} {result.macs}")
    show(rows, given.json)


if __name__ == "__main__":
    main()
