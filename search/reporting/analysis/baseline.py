"""The baseline of `analyze`: unproductive layers that are known and do not fail a check."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cluster.files import write_atomically
from search.reporting.analysis.document import AnalysisDocument, LayerRecord
from spaces.border import Rule
from spaces.errors import BadInputError
from spaces.operations import Pair

_OPTION = "--baseline"


class Finding(BaseModel):
    """An unproductive layer of a network, identified by its name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    resolution: Pair
    rule: Rule
    layer: str

    def is_of(self, document: AnalysisDocument) -> bool:
        """Tell whether the finding is one of the same network, images and rule."""
        known = (self.model, self.resolution, self.rule)
        return known == (document.model, document.resolution, document.rule)


class Baseline(BaseModel):
    """The content of a baseline file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Judgement:
    """The findings of an analysis against a baseline.

    Attributes:
        new: unproductive layers that the baseline does not have.
        known: those that it has.
        fixed: layers of the baseline that are productive or gone now.
    """

    new: tuple[LayerRecord, ...]
    known: tuple[LayerRecord, ...] = ()
    fixed: tuple[str, ...] = ()


def unique_names(layers: Iterable[LayerRecord]) -> list[str]:
    """Return the names of layers; later calls of a module are numbered.

    >>> from types import SimpleNamespace as Layer
    >>> unique_names([Layer(name="a"), Layer(name="b"), Layer(name="a")])
    ['a', 'b', 'a (call 2)']
    """
    calls: Counter[str] = Counter()
    names = []
    for layer in layers:
        calls[layer.name] += 1
        number = calls[layer.name]
        names.append(layer.name if number == 1 else f"{layer.name} (call {number})")
    return names


def findings_of(document: AnalysisDocument) -> dict[Finding, LayerRecord]:
    """Return the unproductive layers of an analysis."""
    return {
        Finding(
            model=document.model, resolution=document.resolution, rule=document.rule, layer=name
        ): layer
        for layer, name in zip(document.layers, unique_names(document.layers), strict=True)
        if not layer.productive
    }


def read_baseline(path: Path) -> Baseline:
    """Read a baseline file.

    Raises:
        BadInputError: it does not exist or is no baseline.
    """
    remedy = "write it with --update-baseline"
    try:
        return Baseline.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInputError(_OPTION, path, f"cannot be read ({error.strerror})", remedy) from None
    except (ValidationError, UnicodeDecodeError):
        raise BadInputError(_OPTION, path, "is no baseline of analyze", remedy) from None


def update_baseline(path: Path, document: AnalysisDocument) -> None:
    """Write the findings of an analysis to a baseline file; those of other networks stay.

    Raises:
        BadInputError: the file is no baseline, or cannot be written.
    """
    stored = read_baseline(path).findings if path.exists() else ()
    others = [finding for finding in stored if not finding.is_of(document)]
    text = Baseline(findings=(*others, *findings_of(document))).model_dump_json(indent=1)
    try:
        write_atomically(path, text + "\n")
    except OSError as error:
        problem = f"cannot be written ({error.strerror})"
        raise BadInputError(_OPTION, path, problem, "name a file to write") from None


def judge(document: AnalysisDocument, baseline: Baseline) -> Judgement:
    """Compare the findings of an analysis with a baseline."""
    found, known = findings_of(document), set(baseline.findings)
    return Judgement(
        tuple([layer for finding, layer in found.items() if finding not in known]),
        tuple([layer for finding, layer in found.items() if finding in known]),
        tuple(
            [each.layer for each in baseline.findings if each.is_of(document) and each not in found]
        ),
    )
