"""The command `analyze`: receptive fields, border layer and remedies, without training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from search.experiment.folder import Home
from search.reporting.analysis.comparing import compare, read_document
from search.reporting.analysis.document import AnalysisDocument, describe_analysis
from search.reporting.analysis.effective import (
    EffectiveOptions,
    prepare_effective,
    with_effective_fields,
)
from search.reporting.analysis.models import NAME_ONE, ModelReference
from search.reporting.analysis.writing import RemedyChoice, write_remedy
from spaces.architecture import CollapsedLayerError
from spaces.border import Rule, find_border
from spaces.errors import BadInputError
from spaces.remedies import propose_remedies


@dataclass(frozen=True)
class AnalyzeRequest:
    """What the user asks for.

    Attributes:
        reference: the network.
        rule: border rule.
        keep_border: keep the border layer when truncating.
        effective: options of the effective receptive field; None without it.
        write: remedy to write as code; None for none.
        compare: older version of the network, or a document of ``analyze --json``; None for none.
    """

    reference: ModelReference
    rule: Rule = Rule.PREVIOUS_CONV
    keep_border: bool = False
    effective: EffectiveOptions | None = None
    write: RemedyChoice | None = None
    compare: str | None = None


def analyze_model(request: AnalyzeRequest, home: Home, console: Console) -> AnalysisDocument:
    """Analyse a network, and write a remedied one if requested.

    Args:
        request: of the user.
        home: folder of all searches.
        console: shows the decoding of images.

    Raises:
        BadInputError: unknown model, or a collapsing feature map, or the weights or images of its
            effective fields cannot be used.
    """
    reference, model = request.reference, request.reference.model
    subject = None
    if request.effective is not None:
        subject = prepare_effective(reference, request.effective, home, console)
    architecture = reference.find(home) if subject is None else subject.architecture
    try:
        analysis = find_border(architecture, request.rule)
        remedies = propose_remedies(
            architecture,
            request.rule,
            keep_border=request.keep_border,
            pools=not reference.is_module,  # So that a patch of the module can apply the change.
        )
    except CollapsedLayerError as error:
        raise BadInputError("NETWORK", model, str(error), "use larger images") from None
    except ValueError as error:
        # A graph from a file whose operations do not fit each other.
        raise BadInputError("NETWORK", model, str(error), NAME_ONE) from None
    if not analysis.convolutions:
        raise BadInputError("NETWORK", model, "has no convolution", "analyse a CNN")
    if request.write is not None:
        chosen = request.write.of(remedies, model)
        write_remedy(chosen, request.write.path, reference, architecture, request.rule)
    document = describe_analysis(model, architecture, analysis, remedies)
    if subject is not None:
        document = with_effective_fields(document, analysis, subject)
    if request.compare is not None:
        old = _older(request.compare, request, home, console)
        document = document.replacing(comparison=compare(document, old))
    return document


def _older(older: str, request: AnalyzeRequest, home: Home, console: Console) -> AnalysisDocument:
    """Return the analysis of the older version of a network."""
    if older.endswith(".json") and (document := read_document(Path(older))) is not None:
        return document
    reference = replace(request.reference, model=older)
    try:
        return analyze_model(AnalyzeRequest(reference, request.rule), home, console)
    except BadInputError as error:
        raise BadInputError("--compare", error.value, error.problem, error.remedy) from None
