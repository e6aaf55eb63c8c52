"""The importance of the drawn parameters, and slices of the accuracy over each."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from markupsafe import Markup
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.reporting.charts.plot import Plot, Point, Series
from search.reporting.charts.scales import Axis
from search.reporting.gathering import Gathered
from search.reporting.page.describing import label
from search.reporting.page.frame import Part, bar, figure, table
from search.study.records import TrialRecord

FEWEST = 20
"""Trials from which the importance is shown."""
_RELIABLE = 50
_MOST = 2_000
_SHOWN, _SLICES = 12, 6


@dataclass(frozen=True)
class Importance:
    """A drawn parameter.

    Attributes:
        name: of the parameter.
        value: its part of the importance of all, 0..1.
        trials: trials that have it; fewer than all for a conditional one.
    """

    name: str
    value: float
    trials: int


def importances(trials: Sequence[FrozenTrial]) -> list[Importance]:
    """Return the importance of each drawn parameter for reaching the best tenth of the trials.

    It is PED-ANOVA (Watanabe et al. 2023) with its extension to conditional parameters. Trials
    stopped early count with their last accuracy. Parameters of a single value are left out.

    Args:
        trials: with an accuracy as first value.

    Returns:
        The most important first; none if all accuracies are equal, which tell nothing.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # noqa: PLC0415 - imports slowly

    if len(trials) > _MOST:
        trials = trials[:: -(-len(trials) // _MOST)]
    if len({trial.values[0] for trial in trials}) < 2:
        return []
    drawn: dict[str, set[object]] = {}
    for trial in trials:
        for name, value in trial.params.items():
            drawn.setdefault(name, set()).add(value)
    vary = {name for name, values in drawn.items() if len(values) > 1}
    # It would print a line about a study in memory.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study = optuna.create_study(direction="maximize")
        study.add_trials(
            [
                create_trial(
                    state=TrialState.COMPLETE,
                    value=trial.values[0],
                    params={n: each for n, each in trial.params.items() if n in vary},
                    distributions={n: d for n, d in trial.distributions.items() if n in vary},
                )
                for trial in trials
            ]
        )
        # It warns of few trials; the page says how many there are.
        warnings.simplefilter("ignore", UserWarning)
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return [
        Importance(name, value, sum(name in trial.params for trial in trials))
        for name, value in found.items()
    ]


def importance_part(gathered: Gathered) -> Part | None:
    """Return the part on the parameters; None before a trial has an accuracy."""
    scored = gathered.scored
    if not scored:
        return None
    heading = "Which parameter mattered"
    if len(scored) < FEWEST:
        return Part(
            heading,
            (f"Importance needs {FEWEST} trials with an accuracy; there are {len(scored)}.",),
        )
    numbers = {record.number for record in scored}
    trials = [trial for trial in gathered.trials if trial.number in numbers]
    found = [each for each in importances(trials) if each.value > 0]
    sentences = [
        "Importance for reaching the best tenth of the trials (PED-ANOVA), as a part of 1. A "
        "parameter that only some networks have counts where it is drawn."
    ]
    if len(scored) < _RELIABLE:
        sentences.append(
            f"{len(scored)} trials are few: the order of parameters with similar values is chance."
        )
    if not found:
        return Part(heading, (*sentences, "No parameter stands out."))
    most = found[0].value
    rows = [
        (each.name, bar(f"{each.value:.3f}", each.value / most), f"{each.trials:,}")
        for each in found[:_SHOWN]
    ]
    chart = table(("parameter", "importance", "trials with it"), rows)
    slices = [_slice(each.name, scored) for each in found[:_SLICES]]
    grid = Markup('<div class="grid2">{}</div>').format(Markup("").join(slices))
    return Part(heading, tuple(sentences), (chart, Markup("<h3>Slices</h3>"), grid))


def _slice(name: str, records: Sequence[TrialRecord]) -> Markup:
    """Draw the accuracy over one parameter."""
    known = [record for record in records if name in record.params]
    choices = sorted({str(record.params[name]) for record in known})
    is_number = all(isinstance(record.params[name], int | float) for record in known)

    def x(record: TrialRecord) -> float:
        value = record.params[name]
        return float(value) if is_number else float(choices.index(str(value)) + 1)

    def points(state: TrialState) -> list[Point]:
        return [
            Point(x(each), each.accuracy or 0.0, f"{name} {each.params[name]}; {label(each)}")
            for each in sorted(known, key=lambda each: -(each.accuracy or 0.0))
            if each.outcome is state
        ]

    values = [x(record) for record in known]
    log = is_number and min(values) > 0 and max(values) / min(values) > 20
    plot = Plot(
        f"Validation accuracy over {name}",
        Axis(name, log=log),
        Axis("accuracy", fraction=True),
        [
            Series("stopped early", points(TrialState.PRUNED), None),
            Series("complete", points(TrialState.COMPLETE), 0),
        ],
    )
    caption = "" if is_number else "; ".join(f"{n} is {c}" for n, c in enumerate(choices, start=1))
    return figure(plot, caption)
