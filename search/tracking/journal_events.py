"""The events of a journal, and the JSON line that stands for each of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

PARENT = ""
"""Key of the search's own run; the other keys are those of its trials and finalists."""
RUN_ID, EXPERIMENT_ID = "~run_id~", "~experiment_id~"
"""Stand in tags for ids that the store gives the run and its experiment; `fill_ids` fills them."""

Scalar = str | int | float | bool | None
Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class Open:
    """A driver of a new or resumed search starts to write."""

    time: int


@dataclass(frozen=True)
class Start:
    """A run starts, or resumes after its end."""

    run: str
    time: int
    name: str
    params: Mapping[str, Scalar] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Metrics:
    """Metrics of a run at one step; values may be NaN or infinite."""

    run: str
    time: int
    step: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Update:
    """Tags and text files that a run gains, or that replace those of the same name."""

    run: str
    time: int
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """The network of a run as a model; see `search.tracking.pyfunc_model`.

    Attributes:
        run: key of the run.
        time: milliseconds since the epoch.
        weights: path of the file of the weights, relative to the folder of the journal.
        code: source of the predictor.
        sources: further source files by name.
        example: content of an example image in base 64.
        requirements: packages that the code needs.
    """

    run: str
    time: int
    weights: str
    code: str
    sources: Mapping[str, str]
    example: str
    requirements: Sequence[str]


@dataclass(frozen=True)
class DataInput:
    """A data set that a run uses.

    Attributes:
        name: of the data set.
        digest: of its content.
        context: training, validation or test.
        source: where it is stored.
        profile: JSON of what is known of it.
    """

    name: str
    digest: str
    context: str
    source: str
    profile: str


@dataclass(frozen=True)
class Inputs:
    """The data sets that a run uses; they replace none."""

    run: str
    time: int
    data: Sequence[DataInput]


@dataclass(frozen=True)
class Finish:
    """A run ends."""

    run: str
    time: int
    status: Status


@dataclass(frozen=True)
class Retrain:
    """The search has ended and the driver retrains finalists, which no budget counts."""

    time: int


@dataclass(frozen=True)
class Close:
    """The driver has ended; an `Open` comes before any further event."""

    time: int


OfDriver = Open | Retrain | Close
"""Events of a driver, which belong to no run."""
Event = OfDriver | Start | Metrics | Update | Model | Inputs | Finish

_KINDS: dict[str, type[Event]] = {
    "open": Open,
    "start": Start,
    "metrics": Metrics,
    "update": Update,
    "model": Model,
    "inputs": Inputs,
    "finish": Finish,
    "retrain": Retrain,
    "close": Close,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def encode(event: Event) -> bytes:
    """Return the line of an event, with its newline."""
    fields = asdict(event)
    if isinstance(event, Metrics):
        fields["metrics"] = {key: _number(value) for key, value in event.metrics.items()}
    line = json.dumps({"event": _NAMES[type(event)], **fields}, allow_nan=False)
    return line.encode() + b"\n"


def decode(line: bytes) -> Event | None:
    """Return the event of a line.

    Args:
        line: one line of a journal.

    Returns:
        The event, or None for a well-formed line of unknown kind or shape, which a later version
        has written.

    Raises:
        ValueError: the line is torn: it is not a JSON object.
    """
    fields = json.loads(line)
    if not isinstance(fields, dict):
        raise ValueError("not an event")
    kind = _KINDS.get(str(fields.get("event")))
    if kind is None:
        return None
    known = {name: fields[name] for name in kind.__dataclass_fields__ if name in fields}
    try:
        if kind is Metrics:
            values: dict[str, Any] = known["metrics"]
            known["metrics"] = {key: float(value) for key, value in values.items()}
        if kind is Inputs:
            known["data"] = tuple(DataInput(**each) for each in known["data"])
        return kind(**known)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def has_ids(text: str) -> bool:
    """Tell whether a text has ids to fill in."""
    return RUN_ID in text or EXPERIMENT_ID in text


def fill_ids(text: str, run_id: str, experiment_id: str) -> str:
    """Return a text with the ids of a run and its experiment in place of `RUN_ID` and the other."""
    return text.replace(RUN_ID, run_id).replace(EXPERIMENT_ID, experiment_id)


def _number(value: float) -> float | str:
    """Return a metric as strict JSON holds it: NaN and infinity as text."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
