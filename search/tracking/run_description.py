"""The descriptions that MLflow shows on the pages of runs: Markdown with links and a picture."""

from __future__ import annotations

from collections.abc import Collection

from search.experiment.schema import Experiment
from search.formatting import plural
from search.study.events import StartedTrial
from search.tracking.journal_events import EXPERIMENT_ID, RUN_ID
from search.tracking.network_params import describe
from search.tracking.saved_views import search_views
from spaces.architecture import Architecture
from spaces.border import BorderAnalysis
from trainables.data_identity import DataIdentity

DESCRIPTION = "mlflow.note.content"
"""The tag that holds the description of a run."""
FIELDS = "receptive_field.svg"
"""The artifact that shows the growth of the receptive field."""
REPORT = "report.html"


def describe_search(
    experiment: Experiment,
    data: DataIdentity | None,
    search: str,
    result: str = "",
    files: Collection[str] = (),
) -> str:
    """Return the description of a search's own run.

    Args:
        experiment: of the search.
        data: identity of its data; None if it is unknown.
        search: identity of the search in the store; see `saved_views.search_views`.
        result: sentence about the best candidate; empty while it is unknown.
        files: artifacts of the run: `FIELDS` is shown, `REPORT` is linked.
    """
    images = f" ({data.describe()})" if data else ""
    parts = [
        f"Search over **{_escaped(experiment.space.name)}** on "
        f"**{_escaped(experiment.data)}**{_escaped(images)}, "
        f"{plural(experiment.budget.trials, 'trial')}, objectives: "
        f"{', '.join(experiment.objectives)}.",
    ]
    if result:
        parts.append(_escaped(result))
    links = [
        f"[{view.name}]({view.address('', EXPERIMENT_ID).lstrip('/')})"
        for view in search_views(search)
    ]
    if REPORT in files:
        report = f"#/experiments/{EXPERIMENT_ID}/runs/{RUN_ID}/artifacts/{REPORT}"
        links.insert(0, f"[Report]({report})")
    parts.append(" · ".join(links))
    if FIELDS in files:
        parts.append(_picture("Receptive field of the best candidate"))
    return "\n\n".join(parts)


def describe_trial(trial: StartedTrial) -> str:
    """Return the description of a trial's run."""
    return describe_network(
        f"Trial {trial.number}", trial.candidate.architecture, trial.border, trial.costs.params
    )


def describe_network(
    title: str, architecture: Architecture, analysis: BorderAnalysis, params: int
) -> str:
    """Return the description of a run that trains one network.

    Args:
        title: of the run.
        architecture: of the network.
        analysis: its fields and border layer.
        params: its number of parameters.
    """
    found = describe(architecture)
    border = "no border layer" if analysis.border is None else f"border layer {analysis.border}"
    text = (
        f"{title}: {plural(int(found['convolutions']), 'convolution')} with "
        f"{_escaped(str(found['features']))} features, poolings after "
        f"{found['pools_after']}, {params:,} params, {border}."
    )
    return f"{text}\n\n{_picture('Growth of the receptive field')}"


def _picture(title: str) -> str:
    return f"![{title}](get-artifact?path={FIELDS}&run_uuid={RUN_ID})"


def _escaped(text: str) -> str:
    """Return text without markup of Markdown or HTML."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{each}" if each in "\\`*_[]" else each for each in text)
