"""Reports unproductive layers to code review: SARIF and annotations of GitHub."""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from search.reporting.analysis.baseline import Judgement
from search.reporting.analysis.document import AnalysisDocument, LayerRecord
from search.reporting.analysis.models import ModelReference
from search.reporting.analysis.table import summarise_border
from spaces.user_code import load_object, search_folders

RULE = "unproductive-layer"
_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


@dataclass(frozen=True)
class Place:
    """Where a network is defined.

    Attributes:
        file: path relative to the current folder.
        line: of its class or function.
    """

    file: str
    line: int


def place_of_model(reference: ModelReference) -> Place | None:
    """Return where a network of the user is defined; None outside of the current folder."""
    if reference.model.endswith(".json"):
        return _relative(Path(reference.model), 1)
    if not reference.is_module or reference.model.startswith("torchvision:"):
        return None
    found: Any = load_object("NETWORK", reference.model, search_folders(None))
    if not (inspect.isclass(found) or inspect.isroutine(found)):
        found = type(found)
    try:
        file, line = inspect.getsourcefile(found), inspect.getsourcelines(found)[1]
    except (OSError, TypeError):
        return None
    return None if file is None else _relative(Path(file), line)


def _relative(file: Path, line: int) -> Place | None:
    folder = Path.cwd()
    absolute = file.resolve()
    if not absolute.is_relative_to(folder.resolve()):
        return None
    return Place(absolute.relative_to(folder.resolve()).as_posix(), line)


def describe_layer(document: AnalysisDocument, layer: LayerRecord) -> str:
    """Return why a layer is unproductive, in one sentence."""
    size = "x".join(map(str, document.resolution))
    field = "x".join(map(str, layer.field_min))
    return (
        f"Convolution {layer.index} ({layer.name}) of {document.model} is unproductive for images "
        f"of {size} px: its input already sees the whole image (its own smallest field is {field} "
        f"px, rule {document.rule})."
    )


def sarif(document: AnalysisDocument, judgement: Judgement, place: Place | None) -> dict[str, Any]:
    """Return a SARIF 2.1.0 log with one result for each unproductive layer."""
    try:
        own = version("borderline")
    except PackageNotFoundError:
        own = "0"
    results = [
        _result(document, layer, place, state)
        for state, layers in (("new", judgement.new), ("unchanged", judgement.known))
        for layer in layers
    ]
    rule = {
        "id": RULE,
        "shortDescription": {"text": "A convolution that cannot help at this image size"},
        "helpUri": "https://arxiv.org/abs/2106.12307",
        "defaultConfiguration": {"level": "warning"},
    }
    driver = {"name": "borderline analyze", "version": own, "rules": [rule]}
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }


def _result(
    document: AnalysisDocument, layer: LayerRecord, place: Place | None, state: str
) -> dict[str, Any]:
    logical = {"fullyQualifiedName": f"{document.model}.{layer.name}", "kind": "member"}
    location: dict[str, Any] = {"logicalLocations": [logical]}
    if place is not None:
        location["physicalLocation"] = {
            "artifactLocation": {"uri": place.file},
            "region": {"startLine": place.line},
        }
    identity = f"{document.model} {document.resolution} {document.rule} {layer.name}"
    fingerprint = hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()
    return {
        "ruleId": RULE,
        "level": "warning" if state == "new" else "note",
        "baselineState": state,
        "message": {"text": describe_layer(document, layer)},
        "locations": [location],
        "partialFingerprints": {"layer/v1": fingerprint},
    }


def github_annotation(document: AnalysisDocument, judgement: Judgement, place: Place | None) -> str:
    """Return a workflow command of GitHub that annotates the network; empty without a finding."""
    if not judgement.new:
        return ""
    names = ", ".join(layer.name for layer in judgement.new)
    properties = {"title": "Unproductive layers"}
    if place is not None:
        properties = {"file": place.file, "line": str(place.line)} | properties
    written = ",".join(
        f"{name}={_escaped(value).replace(':', '%3A').replace(',', '%2C')}"
        for name, value in properties.items()
    )
    return f"::warning {written}::{_escaped(f'{summarise_border(document)}. New: {names}')}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
