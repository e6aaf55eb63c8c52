"""Tables of trained networks: what a search sees of each network, and how good the network is."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FixedTrial

from quality.cached_space import CachedSpace
from quality.macro_spaces import CHOICES, WIDTHS, inverted_residuals, residual_widths
from search.loop.screens import BorderScreen
from search.loop.simulation import FIXED_RECIPE
from spaces.architecture import Architecture
from spaces.border import Rule
from spaces.costs import costs
from spaces.errors import BadInputError
from spaces.task import Task

CIFAR10 = Task(channels=3, height=32, width=32, classes=10)
Space = Callable[..., Architecture]
_FLOOR_DRAWS = 400


@dataclass(frozen=True)
class Network:
    """A network of a table. Accuracies are in percent.

    Attributes:
        params: from which the space draws it.
        macs: multiply-accumulates for one image.
        seen: what a search sees: a value after the whole training for each seed.
        truth: the accuracy by which the choice of a search is judged.
        curves: for each seed, the value after each epoch; empty if the table has only final ones.
    """

    params: Mapping[str, Any]
    macs: int
    seen: tuple[float, ...]
    truth: float
    curves: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Table:
    """A table as a problem for searches.

    Attributes:
        name: of the table and the limit.
        task: the images and classes.
        space: draws the networks.
        networks: by key; networks that are equal are listed once.
        key_of: returns the key of the network with these parameters.
        limit: most multiply-accumulates; None for no limit.
        epochs: of a training, if the table has learning curves; else 1.
        space_options: keyword arguments of the space.
        border: whether the border screen is part of the problem.
    """

    name: str
    task: Task
    space: Space
    networks: Mapping[str, Network]
    key_of: Callable[[Mapping[str, Any]], str]
    limit: int | None = None
    epochs: int = 1
    space_options: Mapping[str, Any] = field(default_factory=dict)
    border: bool = False

    @cached_property
    def digest(self) -> str:
        """Hash of the networks, their results and the limit, up to rounding."""
        lines = [f"{self.limit} {self.epochs}"]
        for key, each in sorted(self.networks.items()):
            results = [f"{value:.4f}" for value in (each.truth, *each.seen, *sum(each.curves, ()))]
            lines.append(f"{key} {sorted(each.params.items())} {each.macs} {results}")
        return hashlib.blake2b("\n".join(lines).encode(), digest_size=8).hexdigest()

    def screens(self, *, border: bool) -> dict[str, Any]:
        """Return the section ``screens`` of a search, with or without the border screen."""
        found: dict[str, Any] = {} if border else {"border": "off"}
        return found if self.limit is None else found | {"max_macs": self.limit}

    @cached_property
    def cached(self) -> CachedSpace:
        """The space, which analyses every network once."""
        return CachedSpace(self.task, self.space, self.space_options, FIXED_RECIPE)

    @cached_property
    def admissible(self) -> dict[str, Network]:
        """The networks within the limit."""
        limit = math.inf if self.limit is None else self.limit
        return {key: each for key, each in self.networks.items() if each.macs <= limit}

    @cached_property
    def best(self) -> float:
        """Accuracy of the best network within the limit."""
        return max(network.truth for network in self.admissible.values())

    @cached_property
    def median_macs(self) -> float:
        """Median multiply-accumulates of the networks within the limit."""
        return float(np.median([network.macs for network in self.admissible.values()]))

    @cached_property
    def spread(self) -> float:
        """Standard deviation of the accuracies within the limit."""
        return float(np.std([network.truth for network in self.admissible.values()]))

    @cached_property
    def floor(self) -> float:
        """Mean regret of the best seen value if a search saw one training of every network.

        A search chooses by single trainings, so their noise leaves a regret even then. A search
        that trains few networks may be below: it has fewer chances to be fooled.
        """
        networks = list(self.admissible.values())
        found = np.array([network.seen for network in networks])
        truth = np.array([network.truth for network in networks])
        chance = np.random.default_rng(0)
        shape, places = (_FLOOR_DRAWS, len(networks)), np.arange(len(networks))
        chosen = [
            int(found[places, drawn].argmax())
            for drawn in chance.integers(0, found.shape[1], shape)
        ]
        return self.best - float(truth[chosen].mean())

    @cached_property
    def largest(self) -> list[Network]:
        """The networks within the limit, largest first by multiply-accumulates."""
        found = sorted(self.admissible.items(), key=lambda item: (-item[1].macs, item[0]))
        return [network for _, network in found]

    @cached_property
    def accepted(self) -> float:
        """Part of the networks within the limit that the border screen accepts."""
        screen = BorderScreen(Rule.PREVIOUS_CONV, 0)
        judged = [
            screen(self.cached.rebuild(network.params)) for network in self.admissible.values()
        ]
        return judged.count(None) / len(judged)

    def network(self, params: Mapping[str, Any]) -> Network:
        """Return the network with these parameters."""
        return self.networks[self.key_of(params)]


def seed_of(network: Network, seed: int) -> int:
    """Return which training of a network a search sees."""
    return random.Random(f"{seed} {sorted(network.params.items())}").randrange(len(network.seen))


def seen(network: Network, seed: int) -> float:
    """Return the final value that a search sees."""
    return network.seen[seed_of(network, seed)]


def read_macro(path: Path) -> Table:
    """Read NAS-Bench-Macro; isomorphic networks have one entry, as they have one result."""
    entries = _read(path)
    networks: dict[str, Network] = {}
    for digits, entry in sorted(entries.items()):
        params = {f"layer{i}": CHOICES[int(digit)] for i, digit in enumerate(digits)}
        key = _macro_key(params)
        if key not in networks:
            seen = tuple(entry["test_acc"])
            networks[key] = Network(params, int(entry["flops"]), seen, entry["mean_acc"])
    return Table("nas-bench-macro", CIFAR10, inverted_residuals, networks, _macro_key)


def _macro_key(params: Mapping[str, Any]) -> str:
    """Return equal keys for isomorphic networks: within a stage, identities have no place."""
    digits = [str(CHOICES.index(params[f"layer{i}"])) for i in range(len(params))]
    stages = (digits[:2], digits[2:5], digits[5:])
    return " ".join(first + "".join(rest).replace("0", "") for first, *rest in stages)


def read_channels(path: Path, part: float) -> Table:
    """Read Channel-Bench-Macro's ResNet under a limit of multiply-accumulates.

    Args:
        path: of the table.
        part: the limit, as a part of the largest network's multiply-accumulates.
    """
    entries = _read(path)
    keys = sorted(entries)
    truth = denoised([[int(digit) for digit in key] for key in keys], _means(entries, keys))
    networks = {
        key: Network(
            {f"width{i}": int(digit) for i, digit in enumerate(key)},
            int(entries[key]["flops"]),
            tuple(entries[key]["acc"]),
            float(value),
        )
        for key, value in zip(keys, truth, strict=True)
    }
    most = max(network.macs for network in networks.values())
    name = f"channel-bench-macro-{part:.0%}".removesuffix("%")
    return Table(name, CIFAR10, residual_widths, networks, _channel_key, int(part * most))


def _channel_key(params: Mapping[str, Any]) -> str:
    return "".join(str(params[f"width{i}"]) for i in range(WIDTHS))


def _means(entries: Mapping[str, Any], keys: Sequence[str]) -> list[float]:
    return [entries[key]["mean"] for key in keys]


def denoised(choices: Sequence[Sequence[int]], values: Sequence[float]) -> NDArray[np.float64]:
    """Return the values that pairs of layers explain, by least squares.

    A table of single trainings repeats their noise. The model has a term for each pair of choices
    of each pair of layers.

    Args:
        choices: of each network, one number for each layer.
        values: accuracy of each network.
    """
    table = np.array(choices)
    columns = [np.ones(len(table))]
    levels = [np.unique(column)[1:] for column in table.T]
    single = [
        [(table[:, i] == level).astype(float) for level in levels[i]] for i in range(table.shape[1])
    ]
    columns += [column for layer in single for column in layer]
    for one, other in itertools.combinations(single, 2):
        columns += [a * b for a in one for b in other]
    design = np.stack(columns, axis=1)
    found: NDArray[np.float64] = design @ np.linalg.lstsq(design, np.array(values), rcond=None)[0]
    return found


def constructed() -> Table:
    """Return a small table whose accuracies follow from the networks, for a first look.

    It has 81 inverted residual networks of four layers; larger ones tend to be better. It shows
    that the benchmark runs, and nothing about searches.
    """
    options: dict[str, Any] = {"stages": ((16, 2), (32, 2)), "head": 64}
    noise = np.random.default_rng(0)
    networks: dict[str, Network] = {}
    for choices in itertools.product(CHOICES, repeat=4):
        params = {f"layer{i}": choice for i, choice in enumerate(choices)}
        macs = costs(inverted_residuals(FixedTrial(params), CIFAR10, **options)).macs
        truth = 60 + 10 * math.log10(macs / 1e6) - choices.count("mb6_k5") ** 2 / 4
        seen = tuple(float(each) for each in truth + noise.normal(0, 0.2, 3))
        networks.setdefault(_small_key(params), Network(params, macs, seen, truth))
    return Table(
        "constructed",
        CIFAR10,
        inverted_residuals,
        networks,
        _small_key,
        space_options=options,
    )


def _small_key(params: Mapping[str, Any]) -> str:
    digits = [str(CHOICES.index(params[f"layer{i}"])) for i in range(4)]
    return " ".join(first + second.replace("0", "") for first, second in (digits[:2], digits[2:]))


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        problem, remedy = f"cannot be read ({error})", "name the folder of the tables"
        raise BadInputError("--data", path, problem, remedy) from None
    return found
