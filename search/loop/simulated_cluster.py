"""A cluster of a simulated search: which trials its nodes fit at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from search.loop.packing import Node, Packing, fitting_trials
from spaces.candidate import Candidate
from spaces.errors import BadInputError

_ROUNDING = 1e-9
"""Fractions of a GPU such as 0.1 do not add up to 1 exactly."""


@dataclass(frozen=True)
class Cluster:
    """The nodes of a simulated search and how its trials share them.

    Attributes:
        nodes: CPUs and GPUs of each node, such as ``{"CPU": 8, "GPU": 1}``.
        packing: what each trial requests, and which candidates fit on no GPU.
    """

    nodes: Sequence[Node]
    packing: Packing

    @classmethod
    def of_workers(cls, workers: int) -> Cluster:
        """Return a cluster that trains so many trials at a time, each on one device."""
        return cls(({"CPU": workers},), Packing(cpus=1, fixed=0.0))

    @property
    def concurrent(self) -> int:
        """Number of trials that the search starts at a time; those that do not fit yet wait."""
        return fitting_trials(self.nodes, self.packing.cpus, self.packing.smallest_fraction)

    def check(self) -> None:
        """Check that a node fits a trial.

        Raises:
            BadInputError: none does.
        """
        if self.concurrent < 1:
            packing = self.packing
            request = f"{packing.cpus} CPUs and {packing.smallest_fraction:g} GPUs"
            problem = f"no node fits a trial, which requests {request}"
            raise BadInputError("cluster", list(self.nodes), problem, "use a larger node")
        if self.packing.smallest_fraction > 1:
            problem = "a training uses one GPU"
            raise BadInputError("cluster", self.packing.smallest_fraction, problem, "use 1 or less")


@dataclass(frozen=True)
class Place:
    """Where a running trial lies.

    Attributes:
        node: index of the node.
        gpu: index of the GPU on that node; None without a GPU.
        fraction: of that GPU.
    """

    node: int
    gpu: int | None = None
    fraction: float = 0.0


@dataclass
class _FreeNode:
    cpus: float
    gpus: list[float] = field(default_factory=list)


class Occupancy:
    """The free CPUs and GPUs of a cluster while trials run on it.

    Args:
        cluster: whose nodes are free at first.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._packing = cluster.packing
        self._free = [
            _FreeNode(node.get("CPU", 0), [1.0] * int(node.get("GPU", 0))) for node in cluster.nodes
        ]

    def take(self, candidate: Candidate) -> Place | None:
        """Occupy the first place that fits the training of a candidate; None if there is none.

        A fraction of a GPU lies on one GPU.
        """
        fraction = self._packing.gpu_fraction(candidate)
        for index, node in enumerate(self._free):
            if node.cpus < self._packing.cpus:
                continue
            if not fraction:
                node.cpus -= self._packing.cpus
                return Place(index)
            for gpu, free in enumerate(node.gpus):
                if free + _ROUNDING >= fraction:
                    node.cpus -= self._packing.cpus
                    node.gpus[gpu] -= fraction
                    return Place(index, gpu, fraction)
        return None

    def give_back(self, place: Place) -> None:
        """Free the place of a trial that has ended."""
        node = self._free[place.node]
        node.cpus += self._packing.cpus
        if place.gpu is not None:
            node.gpus[place.gpu] += place.fraction
