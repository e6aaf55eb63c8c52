"""Measures the speed of network analysis: ``python benchmarks/analysis.py``.

Ours: draw the architecture of a named net from its family, find receptive fields and border layer,
and count costs. Baseline: build and trace the torch module of the same architecture, which an
analysis of modules must do first. Two more figures: the time per edge from CIFAR ResNet-110 to
ResNet-866 (linear in the number of edges: the ratio stays at 1), and for a traced torchvision
network the time that the analysis adds to building and tracing it.

An older toolbox took 10.4 s for VGG16, 2.9 s for DenseNet-121, 53.5 s for ResNet-866 and 2.8 s for
ResNet-152.

Last figures (27 November 2026; AMD EPYC, two cores shared with other work; Python 3.11.7, torch
2.14.1): VGG16 0.26 ms, DenseNet-121 1.5 ms, ResNet-152 2.0 ms; per edge, ResNet-866 takes 1.27
times as long as ResNet-110.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from harness import Figure, alternate, options, show

from spaces import Architecture, Task, costs, find_border
from spaces.named import named
from trainables.builder import Network
from trainables.tracing import load_model, trace

CIFAR = Task(channels=3, height=32, width=32, classes=10)
IMAGENET = Task(channels=3, height=224, width=224, classes=1000)
NETS = (
    ("vgg16", CIFAR, 1.0),
    ("densenet121", CIFAR, 10.0),
    ("resnet152", IMAGENET, 10.0),
    ("resnet866c", CIFAR, 60.0),
)
TRACED = "torchvision:resnet18"


def milliseconds(call: Callable[[], object], repeats: int) -> float:
    """Return the CPU time of the fastest of several calls."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return 1000 * min(times)


def analyse(architecture: Architecture) -> None:
    find_border(architecture)
    costs(architecture)


def family(name: str, task: Task, limit: float, rounds: int) -> Figure:
    architecture = named(name, task)
    shape = task.image_shape

    def build_and_trace() -> None:
        trace(Network(architecture), shape)

    ours, baseline, ratio = alternate(
        lambda: milliseconds(lambda: analyse(named(name, task)), 10),
        lambda: milliseconds(build_and_trace, 1),
        rounds,
    )
    figure = f"{name} from its family; against building and tracing its module"
    return Figure(figure, ours, baseline, ratio, f"ours < {limit:g} ms", "ms")


def linear(rounds: int) -> Figure:
    nets = {name: named(name, CIFAR) for name in ("resnet866c", "resnet110c")}

    def per_edge(name: str) -> float:
        layers = nets[name].layers
        edges = sum(len(layer.inputs) for layer in layers)
        # A new graph each time, because a graph caches its derived values.
        return 1000 * milliseconds(lambda: analyse(Architecture(layers)), 10) / edges

    ours, baseline, ratio = alternate(
        lambda: per_edge("resnet866c"), lambda: per_edge("resnet110c"), rounds
    )
    figure = "per edge, ResNet-866; against ResNet-110"
    return Figure(figure, ours, baseline, ratio, "about 1", "us")


def traced(rounds: int) -> Figure:
    shape = IMAGENET.image_shape
    architecture = trace(load_model(TRACED), shape)
    layers = architecture.layers
    ours, baseline, ratio = alternate(
        lambda: milliseconds(lambda: analyse(Architecture(layers)), 10),
        lambda: milliseconds(lambda: trace(load_model(TRACED), shape), 1),
        rounds,
    )
    figure = f"analysis of {TRACED}; against building and tracing it"
    return Figure(figure, ours, baseline, ratio, "ratio < 0.05", "ms")


def main() -> None:
    given = options(__doc__)
    torch.set_num_threads(1)
    rounds = 1 if given.quick else 3
    nets = NETS[:1] if given.quick else NETS
    figures = [family(name, task, limit, rounds) for name, task, limit in nets]
    show([*figures, linear(rounds), traced(rounds)], given.json)


if __name__ == "__main__":
    main()
