"""The head of a page: data, settings, date, duration, device, versions and command."""

from __future__ import annotations

from datetime import UTC, datetime

from markupsafe import Markup

from search.experiment.defaults import FEWEST_STEPS
from search.experiment.folder import Home
from search.experiment.schema import Experiment
from search.experiment.training_length import TrainingLength
from search.formatting import duration, plural
from search.reporting.gathering import Gathered
from search.reporting.page.frame import Part, bar, details, facts, table
from search.study.machine import read_machine
from search.study.pictures import PictureStore
from search.tracking.journal_reader import worked_seconds
from search.urls import redacted
from trainables.data_identity import DataIdentity

_SPLITS = ("train", "validation", "test")


def head_part(gathered: Gathered) -> Part:
    """Return the part on what was searched, on which data, when and where."""
    experiment, data = gathered.experiment, gathered.data
    machine = read_machine(gathered.folder)
    known = "not recorded, because an older version started the search"
    pairs = {
        "data": f"{redacted(experiment.data)}: {data.describe() if data else known}",
        "space": _space(experiment),
        "recipe": _values(dict(experiment.recipe)),
        "objectives": ", ".join(experiment.objectives),
        "training": _training(experiment, data),
        "search": f"sampler {experiment.sampler}, scheduler {experiment.scheduler.name}, border "
        f"screen {experiment.screens.border.value}, seed {experiment.seed}",
        "budget": _budget(experiment),
        "state": gathered.state,
        "dates": _dates(gathered),
        "duration": f"{duration(worked_seconds(gathered.folder.journal))} of searching, "
        f"{duration(gathered.summary.savings.trained_seconds)} of device time in trials",
        "device": machine.device if machine else "",
        "versions": machine.versions if machine else "",
        "command": Markup("<code>{}</code>").format(machine.command) if machine else "",
        "again": Markup("<code>{}</code>").format(
            Home(gathered.folder.path.parent).command("report", experiment.name)
        ),
    }
    content = [facts(pairs)]
    if data is not None:
        content += _classes(gathered, data)
    settings = Markup("<pre>{}</pre>").format(redacted(experiment.to_yaml()))
    content.append(details("All settings", settings))
    return Part("The search", (), tuple(content))


def _space(experiment: Experiment) -> str:
    options = _values(dict(experiment.space.options))
    return f"{experiment.space.name}{f': {options}' if options else ''}"


def _values(values: dict[str, object]) -> str:
    def shown(value: object) -> str:
        if isinstance(value, list | tuple) and len(value) == 2:
            return " to ".join(map(str, value))
        return str(value)

    return ", ".join(f"{name} {shown(value)}" for name, value in values.items())


def _training(experiment: Experiment, data: DataIdentity | None) -> str:
    if data is None or not isinstance(experiment.epochs, int):
        return f"{experiment.epochs} epochs"
    length = TrainingLength.of(experiment, data.training_images)
    short = ", which is short" if length.steps < FEWEST_STEPS else ""
    return f"{plural(experiment.epochs, 'epoch')}, {length.describe()}{short}"


def _budget(experiment: Experiment) -> str:
    budget = experiment.budget
    limits = {
        "trials": f"{budget.trials:,}",
        "wall clock": budget.wall_clock and duration(budget.wall_clock),
        "device-hours": budget.device_hours,
        "money": budget.money,
        "until": budget.until,
    }
    return ", ".join(f"{name} {value}" for name, value in limits.items() if value)


def _dates(gathered: Gathered) -> str:
    starts = [trial.datetime_start for trial in gathered.trials if trial.datetime_start]
    ends = [record.ended_at for record in gathered.records if record.ended_at]
    if not starts:
        return ""
    first = f"{min(starts):%Y-%m-%d %H:%M}"
    if not ends:
        return f"first trial {first}"
    last = datetime.fromtimestamp(max(ends), UTC).astimezone()
    return f"first trial {first}, last result {last:%Y-%m-%d %H:%M}"


def _classes(gathered: Gathered, data: DataIdentity) -> list[Markup]:
    most = max(each.total for each in data.classes) or 1
    rows = [
        (
            each.name,
            *(f"{images:,}" for images in each.images),
            bar(f"{each.total:,}", each.total / most),
        )
        for each in data.classes
    ]
    shown = table(("class", *_SPLITS, "all"), rows)
    content = [details(f"Images of each of the {len(rows):,} classes", shown)]
    pictures = PictureStore(gathered.folder.pictures).examples()
    if not pictures:
        return [
            Markup('<p class="note">Example images: not stored with this search.</p>'),
            *content,
        ]
    totals = {each.name: each.total for each in data.classes}
    tile = Markup('<li><img src="{}" alt="Example of {}"><b>{}</b><br>{:,} images</li>')
    tiles = [
        tile.format(each.uri, each.true, each.true, totals.get(each.true, 0)) for each in pictures
    ]
    shape = Markup('<ul class="images" aria-label="Example images">{}</ul>')
    return [shape.format(Markup("").join(tiles)), *content]
