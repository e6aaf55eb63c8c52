"""Checks an analysis in continuous integration: baseline, exit code, SARIF and annotations."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cluster.files import write_atomically
from search.console import note, output, warn
from search.formatting import plural
from search.reporting.analysis.annotations import github_annotation, place_of_model, sarif
from search.reporting.analysis.baseline import Baseline, judge, read_baseline, update_baseline
from search.reporting.analysis.document import AnalysisDocument
from search.reporting.analysis.models import ModelReference
from search.reporting.analysis.table import summarise_border
from spaces.errors import BadInputError


@dataclass(frozen=True)
class CheckOptions:
    """The options of a check.

    Attributes:
        fail: whether new unproductive layers fail the command.
        baseline: file of known ones; None for none.
        update: write the baseline instead of reading it.
        sarif: file of a SARIF log.
        github: print an annotation for GitHub.
    """

    fail: bool = False
    baseline: Path | None = None
    update: bool = False
    sarif: Path | None = None
    github: bool = False

    def refuse_contradictions(self, *, as_json: bool) -> None:
        """Check that the options fit each other.

        Raises:
            BadInputError: they do not.
        """
        if self.update and self.baseline is None:
            raise BadInputError("--update-baseline", "", "names no file", "add --baseline FILE")
        if self.github and as_json:
            problem = "both print to standard output"
            raise BadInputError("--github", "--json", problem, "leave one of them out")


def check_document(
    document: AnalysisDocument, reference: ModelReference, options: CheckOptions
) -> bool:
    """Write and print what the options ask for; tell whether the check fails.

    Raises:
        BadInputError: a file cannot be read or written.
    """
    baseline = Baseline()
    if options.baseline is not None:
        if options.update:
            update_baseline(options.baseline, document)
            known = plural(len(document.unproductive), "unproductive layer")
            note(f"baseline: {options.baseline} has {known} of {document.model}")
        baseline = read_baseline(options.baseline)
    judgement = judge(document, baseline)
    if judgement.fixed:
        note(
            f"productive or gone since the baseline: {', '.join(judgement.fixed)}; remove them "
            "with --update-baseline"
        )
    if options.sarif is not None or options.github:
        place = place_of_model(reference)
        if options.sarif is not None:
            _write_sarif(options.sarif, json.dumps(sarif(document, judgement, place), indent=1))
        if options.github and (line := github_annotation(document, judgement, place)):
            output(line)
    if not options.fail or not document.unproductive:
        return False
    if judgement.known and not judgement.new:
        known = plural(len(judgement.known), "unproductive layer")
        note(f"{document.model}: {known}, all in {options.baseline}")
        return False
    counted = f" ({len(judgement.new)} not in {options.baseline})" if judgement.known else ""
    warn(f"{summarise_border(document)}{counted}")
    return True


def _write_sarif(path: Path, text: str) -> None:
    try:
        write_atomically(path, text + "\n")
    except OSError as error:
        problem = f"cannot be written ({error.strerror})"
        raise BadInputError("--sarif", path, problem, "name a file to write") from None
