"""What can be looked at without training: spaces, candidates, running and finished searches."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial
from rich.console import Console
from rich.table import Table

from search.database import read_trials
from search.experiment import Experiment, load_experiment
from search.finalists import Finalist, read_results
from search.home import Home, SearchFolder
from search.job import describe_job, describe_task, load_images
from search.progress import duration
from search.report import as_html, build_report, compare, print_report
from search.screens import build_screens, judge
from search.study import Study
from search.summary import summarise
from search.tracking import Destination, sync, ui_command
from spaces.architecture import Architecture, CollapsedLayerError
from spaces.border import BorderAnalysis, Rule, find_border
from spaces.candidate import CandidateSpace
from spaces.costs import costs
from spaces.errors import BadInputError
from spaces.operations import Convolution


def screen_space(experiment: Experiment, draws: int, console: Console) -> None:
    """Draw candidates at random, judge them and show what the screens do to the space."""
    task = describe_task(load_images(experiment, console))
    space = describe_job(experiment, task).candidates()
    screens = build_screens(experiment.screens)
    study = Study("screen", RandomSampler(seed=experiment.seed))
    reasons: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for _ in range(draws):
        candidate = space.draw(study.ask())
        space.check_output(candidate)
        rejection = judge(candidate, screens)
        reason = "accepted" if rejection is None else rejection.reason
        reasons[reason] += 1
        if rejection is not None:
            examples.setdefault(reason, rejection.detail)
    table = Table(box=None, header_style="dim")
    for column in ("verdict", "candidates", "share", "example"):
        table.add_column(column)
    for reason, count in reasons.most_common():
        table.add_row(reason, str(count), f"{count / draws:.1%}", examples.get(reason, ""))
    console.print(
        f"{draws} random candidates of {space.name}, none trained", highlight=False, markup=False
    )
    console.print(table, highlight=False)


def analyze_model(
    model: str,
    rule: str,
    resolution: int | None,
    as_json: bool,
    home: Home,
    console: Console,
) -> None:
    """Show the receptive fields and border layer of a candidate.

    Args:
        model: ``SEARCH:TRIAL`` or the path of a candidate's JSON.
        rule: which published rule finds the border layer.
        resolution: judge for images of this size; None: the size the candidate is built for.
        as_json: print one JSON object instead of a table.
        home: where the searches lie.
        console: where it is shown.

    Raises:
        BadInputError: unknown model or rule, or a feature map collapses.
    """
    try:
        chosen = Rule(rule)
    except ValueError:
        raise BadInputError("--rule", rule, "unknown rule", f"use {', '.join(Rule)}") from None
    architecture = _find_model(model, home)
    size = None if resolution is None else (resolution, resolution)
    try:
        analysis = find_border(architecture, chosen, resolution=size)
    except CollapsedLayerError as error:
        raise BadInputError("MODEL", model, str(error), "use larger images") from None
    except ValueError as error:
        raise BadInputError("MODEL", model, str(error), "mend the graph") from None
    document = analysis_document(model, architecture, analysis)
    if as_json:
        console.print_json(json.dumps(document), indent=None, highlight=False)
        return
    table = Table(box=None, header_style="dim")
    for column in ("#", "layer", "kernel", "stride", "field", "productive", "params", "MACs"):
        table.add_column(column, justify="left" if column in ("layer", "productive") else "right")
    for layer in document["layers"]:
        table.add_row(
            str(layer["index"]),
            layer["name"],
            _size(layer["kernel"]),
            _size(layer["stride"]),
            _extent(layer["field_min"], layer["field_max"]),
            "yes" if layer["productive"] else "no",
            f"{layer['params'] / max(document['params'], 1):.1%}",
            f"{layer['macs'] / max(document['macs'], 1):.1%}",
        )
    height, width = analysis.resolution
    verdict = (
        "no border layer: every convolution is productive"
        if analysis.border is None
        else f"border layer: convolution {analysis.border}; {analysis.beyond} lie beyond it"
    )
    console.print(f"{model} at {height}x{width} px, rule {chosen.value}: {verdict}", markup=False)
    console.print(table, highlight=False)
    console.print(f"{document['params']:,} parameters, {document['macs']:,} MACs", highlight=False)


def analysis_document(
    model: str, architecture: Architecture, analysis: BorderAnalysis
) -> dict[str, Any]:
    """Return an analysis as plain data, one entry of ``layers`` per convolution."""
    total = costs(architecture)
    layers = []
    for number, index in enumerate(analysis.convolutions, start=1):
        operation, inputs, name = architecture.layers[index]
        if not isinstance(operation, Convolution):
            raise TypeError(f"layer {index} is no convolution")
        taken = tuple(architecture.shapes[i] for i in inputs)
        field = analysis.fields[number - 1]
        layers.append(
            {
                "index": number,
                "name": name or f"layer {index}",
                "kind": operation.kind,
                "kernel": list(operation.kernel),
                "stride": list(operation.stride),
                "field_min": list(field.smallest),
                "field_max": list(field.largest),
                "productive": analysis.is_productive(number),
                "params": operation.params(taken),
                "macs": operation.macs(taken, architecture.shapes[index]),
            }
        )
    return {
        "model": model,
        "resolution": list(analysis.resolution),
        "rule": analysis.rule.value,
        "border": analysis.border,
        "layers": layers,
        "params": total.params,
        "macs": total.macs,
    }


def _size(pair: list[int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"


def _extent(smallest: list[int], largest: list[int]) -> str:
    low, high = _size(smallest), _size(largest)
    return low if low == high else f"{low}..{high}"


def _find_model(model: str, home: Home) -> Architecture:
    """Return the architecture that the user means."""
    remedy = "name SEARCH:TRIAL or a candidate's JSON file"
    path = Path(model)
    if path.suffix == ".json":
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            # A candidate as it lies in MLflow, or the bare graph.
            graph = document.get("architecture", document)
            return Architecture.from_json(json.dumps(graph))
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise BadInputError("MODEL", model, str(error), remedy) from None
    name, _, number = model.rpartition(":")
    if not name or not number.isdecimal():
        raise BadInputError("MODEL", model, "unknown model", remedy)
    view = SearchView(home.existing(name))
    for trial in view.trials:
        if trial.number == int(number):
            return view.space.rebuild(trial.params).architecture
    raise BadInputError("MODEL", model, f"{name} has no trial {number}", remedy)


class SearchView:
    """A search as it lies on disk, running or not."""

    def __init__(self, folder: SearchFolder) -> None:
        self.folder = folder
        self.experiment = load_experiment(folder.experiment)
        self.trials: list[FrozenTrial] = read_trials(folder.study, self.experiment.name)

    @property
    def space(self) -> CandidateSpace:
        """Rebuilds the candidates, without their images."""
        return describe_job(self.experiment, self.folder.task).candidates()

    @property
    def finalists(self) -> list[Finalist]:
        """Best first; empty before the search has come to them."""
        return read_results(self.folder.finalists)


def show_status(name: str | None, home: Home, console: Console) -> None:
    """Show how far one search, or every search, is."""
    names = home.names() if name is None else [home.existing(name).name]
    if not names:
        console.print(f"no search in {home.path} yet; start one: python search.py", markup=False)
        return
    table = Table(box=None, header_style="dim")
    for column in ("search", "trained", "running", "rejected", "saved", "best", "test accuracy"):
        table.add_column(column)
    for each in names:
        try:
            view = SearchView(home.folder(each))
        except BadInputError as error:
            if name is not None:
                raise
            # One search that has only just been made, or is damaged, does not hide the others.
            table.add_row(each, error.problem)
            continue
        summary = summarise(view.trials)
        best = summary.best
        finalists = view.finalists
        test = "{:.4f} ± {:.4f}".format(*finalists[0].test_accuracy) if finalists else "-"
        table.add_row(
            each,
            f"{summary.trained}/{view.experiment.budget.trials}",
            str(summary.running),
            ", ".join(f"{reason} {n}" for reason, n in summary.rejections.items()) or "0",
            duration(summary.savings.total),
            f"{best.value:.4f} (trial {best.number})" if best else "-",
            test,
        )
    console.print(table, highlight=False)


def show_report(name: str, against: str | None, home: Home, console: Console) -> None:
    """Show what a search has found, and how it differs from another one."""
    view = SearchView(home.existing(name))
    sections = build_report(view.experiment, view.trials, view.finalists, view.space)
    if against is not None:
        other = SearchView(home.existing(against))
        sections += [
            compare((name, view.trials), (against, other.trials)),
            compare((against, other.trials), (name, view.trials)),
        ]
    view.folder.report.write_text(as_html(f"Search {name}", sections), encoding="utf-8")
    print_report(console, sections)
    console.print(
        f"\nAs a page: {view.folder.report}", highlight=False, markup=False, soft_wrap=True
    )


def sync_search(name: str, home: Home, console: Console) -> None:
    """Replay what the tracking server has not got yet."""
    view = home.existing(name)
    experiment = load_experiment(view.experiment)
    destination = Destination.from_environment(home.path, experiment.tracking.experiment)
    done = sync(view.journal, destination, view.identity)
    console.print(
        f"{done.events} events of {done.runs} runs brought to {destination.shown}; "
        f"compare: {ui_command(destination)}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
