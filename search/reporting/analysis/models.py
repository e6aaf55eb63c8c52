"""Finds the network that `analyze` is asked for, as an architecture."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from search.console import note, warn
from search.experiment.folder import Home
from search.reporting.stored_search import StoredSearch
from search.study.records import TrialRecord
from spaces.architecture import Architecture
from spaces.border import Rule
from spaces.errors import BadInputError
from spaces.operations import Input, Pair

NAME_ONE = (
    "name a net such as vgg16, a trial as SEARCH:TRIAL, torchvision:NAME, module:Class, or a "
    "candidate's JSON file"
)


def parse_resolution(text: str) -> Pair:
    """Return (height, width) of ``32`` or ``64x48``.

    Raises:
        BadInputError: the text is neither, or a side is under 1.
    """
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text.strip().lower())
    if match is None or int(match[1]) < 1 or int(match[2] or 1) < 1:
        remedy = "give pixels, such as 32, or HEIGHTxWIDTH, such as 64x48"
        raise BadInputError("--resolution", text, "not an image size", remedy)
    height = int(match[1])
    return height, int(match[2] or height)


def parse_rule(text: str) -> Rule:
    """Return the rule with this name.

    Raises:
        BadInputError: no rule has this name.
    """
    try:
        return Rule(text)
    except ValueError:
        raise BadInputError("--rule", text, "unknown rule", f"use {', '.join(Rule)}") from None


@dataclass(frozen=True)
class ModelReference:
    """A network as the user names it.

    Attributes:
        model: a named net, ``SEARCH:TRIAL``, a candidate's JSON file, ``torchvision:NAME``, or
            ``module:attribute`` of the user.
        resolution: image size (height, width) for which a named net is built or a module is
            traced; None for the usual one.
        channels: of these images.
    """

    model: str
    resolution: Pair | None = None
    channels: int = 3

    @property
    def trial(self) -> tuple[str, int] | None:
        """Name and trial of a search, if the model is one."""
        name, colon, attribute = self.model.rpartition(":")
        if colon and attribute.isascii() and attribute.isdigit() and not self._is_file:
            return name, int(attribute)
        return None

    @property
    def is_module(self) -> bool:
        """Tell whether the model is a module of torchvision or of the user."""
        return ":" in self.model and self.trial is None and not self._is_file

    @property
    def _is_file(self) -> bool:
        return self.model.endswith(".json")

    def for_images(self, channels: int, resolution: Pair) -> ModelReference:
        """Return the same network for other images."""
        return replace(self, channels=channels, resolution=resolution)

    def find(self, home: Home) -> Architecture:
        """Return the architecture of the model.

        Args:
            home: folder of all searches.

        Raises:
            BadInputError: no such model exists, or it cannot be traced.
        """
        if self._is_file:
            return _from_json(self.model, self.resolution)
        if self.trial is not None:
            return _from_search(self.model, *self.trial, home, self.resolution)
        if self.is_module:
            # Importing torch takes seconds, and named nets and trials do not need it.
            from trainables.tracing import load_model

            return self.trace(load_model(self.model))
        from spaces.named import NAMED, named
        from spaces.task import Task

        if self.model not in NAMED:
            raise BadInputError("NETWORK", self.model, "unknown model", NAME_ONE)
        height, width = self.resolution or (32, 32)
        return named(self.model, Task(self.channels, height, width, 10))

    def trace(self, module: Any) -> Architecture:
        """Trace the module of this model; if that fails although it runs, measure it.

        Raises:
            BadInputError: it cannot be traced and does not run, either.
        """
        from trainables.tracing import trace_or_measure

        height, width = self.resolution or (224, 224)
        shape = (self.channels, height, width)
        architecture, notes = trace_or_measure(module, shape, reference=self.model)
        for text in notes:
            note(text)
        return architecture


def resized(architecture: Architecture, resolution: Pair) -> Architecture:
    """Return the same network for images of another size (height, width)."""
    image = architecture.layers[0]
    if not isinstance(image.operation, Input):
        raise TypeError("layer 0 is not an image")
    changed = Input(image.operation.channels, *resolution)
    return Architecture((image._replace(operation=changed), *architecture.layers[1:]))


def _from_json(model: str, resolution: Pair | None) -> Architecture:
    try:
        document = json.loads(Path(model).read_text(encoding="utf-8"))
        # The candidate.json of a run in MLflow, or the graph alone.
        graph = Architecture.from_json(json.dumps(document.get("architecture", document)))
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise BadInputError("NETWORK", model, str(error), NAME_ONE) from None
    return graph if resolution is None else resized(graph, resolution)


def _from_search(
    model: str, name: str, number: int, home: Home, resolution: Pair | None
) -> Architecture:
    stored = StoredSearch(home.existing(name))
    for trial in stored.trials:
        if trial.number == number:
            candidate = stored.space.rebuild(trial.params)
            if TrialRecord.of(trial).digest not in ("", candidate.digest):
                warn(
                    f"the space {stored.space.name} changed: it draws another network than "
                    f"trial {number} trained, and this analysis shows the one that it draws now"
                )
            if candidate.truncated is not None:
                note(f"{model} was truncated to {candidate.truncated}, which this analysis shows")
            graph = candidate.architecture
            return graph if resolution is None else resized(graph, resolution)
    raise BadInputError("NETWORK", model, f"{name} has no trial {number}", NAME_ONE)
