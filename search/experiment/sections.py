"""The sections of the experiment file."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)

from search.experiment.yaml_text import WORDS
from spaces.border import Rule
from spaces.errors import BadInputError
from spaces.remedies import Truncation

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
"""Names of searches and of registered models."""


class Section(BaseModel):
    """Base of a section: frozen, strict, and without unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class BorderRule(StrEnum):
    """Rule of the border screen: one of the published rules, truncate, or off."""

    PREVIOUS_CONV = Rule.PREVIOUS_CONV
    DIRECT_INPUT = Rule.DIRECT_INPUT
    NON_STRICT = Rule.NON_STRICT
    TRUNCATE = "truncate"
    OFF = "off"


def _border_rule(value: object) -> object:
    # Older files say false or no, which YAML 1.1 reads as it reads a bare `off`.
    if WORDS.get(str(value).lower()) is False:
        return BorderRule.OFF
    try:
        return BorderRule(str(value))
    except ValueError:
        raise ValueError(f"use one of {', '.join(BorderRule)}") from None


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(value: object) -> object:
    """Convert a duration such as 90m to seconds; return other values unchanged.

    Raises:
        ValueError: the text is not a duration.
    """
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", value.strip())
        if match is None:
            raise ValueError("use seconds, or a number with s, m, h or d such as 90m")
        return float(match[1]) * _UNITS[match[2] or "s"]
    return value


def duration_text(value: float | None) -> str | float | None:
    """Return seconds as a duration that `seconds` reads as the same number, such as 90m.

    Example:
        >>> duration_text(5400.0), duration_text(172800.0), duration_text(0.5)
        ('90m', '2d', 0.5)
    """
    if value is None or value % 60 or not value:
        return value
    unit = next(each for each in "dhm" if value % _UNITS[each] == 0)
    return f"{value / _UNITS[unit]:.0f}{unit}"


_SAVED = PlainSerializer(duration_text, return_type=float | str | None, when_used="json")
"""Durations are stored as users write them."""


def named(value: object) -> object:
    """Return a name alone as a section with this name."""
    return {"name": value} if isinstance(value, str) else value


class SpaceSection(BaseModel):
    """The search space: a family or ``module:function``, with the options of its function."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    name: str = Field(
        "vgg", description="family (vgg, resnet, densenet, convmixer) or your own module:function"
    )

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of the space function."""
        return dict(self.model_extra or {})


class ScreensSection(Section):
    """Screens that reject candidates before training."""

    border: Annotated[BorderRule, BeforeValidator(_border_rule)] = Field(
        BorderRule.PREVIOUS_CONV,
        description="rule of the border screen: previous-conv, direct-input or non-strict; "
        "truncate (train the network up to the border layer of previous-conv instead of rejecting "
        "it); or off",
    )
    allow_beyond: int = Field(
        0, ge=0, description="number of convolutions allowed after the border layer"
    )
    several_paths: bool = Field(
        False,
        description="apply the border screen to networks with several paths, too, such as residual "
        "ones",
    )
    params: tuple[int | None, int | None] | None = Field(
        None,
        exclude=True,
        description="least and most parameters, such as [10000, 500000] or [null, 500000]; the "
        "same as min_params and max_params",
    )
    macs: tuple[int | None, int | None] | None = Field(
        None,
        exclude=True,
        description="least and most multiply-accumulates per image, such as [null, 2000000]; the "
        "same as min_macs and max_macs",
    )
    min_params: int | None = Field(None, gt=0, description="minimum number of parameters")
    max_params: int | None = Field(None, gt=0, description="maximum number of parameters")
    min_macs: int | None = Field(None, gt=0, description="minimum multiply-accumulates per image")
    max_macs: int | None = Field(None, gt=0, description="maximum multiply-accumulates per image")
    max_memory_mb: float | None = Field(
        None, gt=0, le=1e12, description="maximum predicted training memory, in MB"
    )
    duplicates: bool = Field(True, description="reject candidates that were drawn before")

    @model_validator(mode="before")
    @classmethod
    def _ranges_are_limits(cls, given: Any) -> Any:
        """Store a range as its two limits."""
        if not isinstance(given, dict):
            return given
        given = dict(given)
        for name in ("params", "macs"):
            limits = given.pop(name, None)
            if limits is None:
                continue
            if not isinstance(limits, list | tuple) or len(limits) != 2:
                remedy = "write the least and the most, such as [10000, 500000] or [null, 500000]"
                raise BadInputError(f"screens.{name}", limits, "is no range", remedy)
            for end, limit in zip(("min", "max"), limits, strict=True):
                if given.get(f"{end}_{name}") not in (None, limit):
                    problem = f"screens.{end}_{name} is {given[f'{end}_{name}']}"
                    raise BadInputError(f"screens.{name}", limits, problem, "use one of the two")
                given[f"{end}_{name}"] = limit
        return given

    @model_validator(mode="after")
    def _limits_leave_candidates(self) -> Self:
        for name, low, high in (
            ("params", self.min_params, self.max_params),
            ("macs", self.min_macs, self.max_macs),
        ):
            if low is not None and high is not None and low > high:
                problem = f"screens.max_{name} is {high}, so no network would be left"
                raise BadInputError(f"screens.min_{name}", low, problem, "swap the two")
        return self

    @property
    def rule(self) -> Rule:
        """The rule that finds border layers, even if the screen is off."""
        if self.border in (BorderRule.OFF, BorderRule.TRUNCATE):
            return Rule.PREVIOUS_CONV
        return Rule(self.border.value)

    @property
    def truncation(self) -> Truncation | None:
        """What replaces networks with convolutions beyond the border layer; None for nothing."""
        if self.border is not BorderRule.TRUNCATE:
            return None
        return Truncation(self.rule, self.allow_beyond, self.several_paths)


class SchedulerSection(Section):
    """Early stopping of trials."""

    name: Literal["asha", "none"] = Field(
        "asha", description="asha (asynchronous successive halving), or none"
    )
    grace_epochs: int = Field(
        1,
        ge=1,
        description="epochs before a trial may be stopped; the default is a ninth of `epochs`, "
        "rounded up",
    )
    reduction: int = Field(
        3, ge=2, description="reduction factor: the best 1/n of the trials at each rung continue"
    )
    hopeless_after: int | None = Field(
        None,
        ge=1,
        description="epoch after which a trial stops unless its training accuracy is at least "
        "twice that of a guess; empty: never",
    )


_UNTIL = re.compile(r"improvement\s*<\s*(\d*\.?\d+(?:e-?\d+)?)\s*(%?)", re.IGNORECASE)


def _until(condition: str) -> str:
    """Return a condition in its canonical form."""
    match = _UNTIL.fullmatch(condition.strip())
    least = float(match[1]) / (100 if match[2] else 1) if match else 0.0
    if not 0 < least < 1:
        raise ValueError("write: improvement < 0.001, in validation accuracy (0.001 is 0.1 %)")
    return f"improvement < {least:.6g}"


def _until_or_none(condition: str | None) -> str | None:
    return None if condition is None else _until(condition)


class BudgetSection(Section):
    """Limits of the search across all resumes; the first one reached ends it."""

    trials: int = Field(
        30, ge=1, description="number of trained candidates; rejected ones do not count"
    )
    wall_clock: Annotated[float | None, BeforeValidator(seconds), _SAVED] = Field(
        None, gt=0, description="time during which a driver runs: seconds, or 90m, 8h, 2d"
    )
    device_hours: float | None = Field(
        None, gt=0, description="device-hours; one hour on half a GPU counts as 0.5"
    )
    money: float | None = Field(None, gt=0, description="maximum cost of device-hours at `price`")
    price: float = Field(0.0, ge=0, description="price of one device-hour, in any currency")
    until: Annotated[str | None, AfterValidator(_until_or_none)] = Field(
        None,
        description="start no further trial once the next 20 are expected to improve the best "
        "validation accuracy by less, such as: improvement < 0.001",
    )

    @model_validator(mode="after")
    def _money_needs_a_price(self) -> Self:
        if self.money is not None and not self.price:
            problem = "cannot be counted without a price"
            raise BadInputError("budget.money", self.money, problem, "set budget.price as well")
        return self

    @property
    def limits_time(self) -> bool:
        """Whether time or money is limited, beside the number of trials."""
        return any(each is not None for each in (self.wall_clock, self.device_hours, self.money))

    @property
    def least_improvement(self) -> float:
        """The improvement of `until`, in accuracy; 0 without it."""
        return 0.0 if self.until is None else float(self.until.partition("<")[2])


class FailuresSection(Section):
    """Retries of trials whose process or node is lost."""

    retries: int = Field(
        3, ge=0, description="retries from the last checkpoint before a trial fails"
    )
    hang_after: Annotated[float | None, BeforeValidator(seconds), _SAVED] = Field(
        None,
        ge=1,
        le=1e9,
        description="time limit of an epoch, after which its process ends: seconds, or 30m, 2h",
    )


def _whole_or_fraction(gpus: float | None) -> float | None:
    if gpus is not None and gpus > 1 and gpus != int(gpus):
        raise ValueError("use 1, or a fraction of a GPU")
    return gpus


class ResourcesSection(Section):
    """Resources of each trial."""

    cpus: int | None = Field(
        None,
        ge=1,
        description="CPU threads per trial; empty: 1, or on CPUs with `concurrent` an equal part",
    )
    gpus: Annotated[float | None, AfterValidator(_whole_or_fraction)] = Field(
        None,
        ge=0,
        description="fraction of a GPU per trial, up to 1; empty: by its predicted memory",
    )
    concurrent: int | None = Field(
        None, ge=1, description="maximum number of parallel trials; empty: as many as fit"
    )
    wait: Annotated[float, BeforeValidator(seconds), _SAVED] = Field(
        1800.0,
        gt=0,
        le=1e9,
        description="timeout for a node that fits a trial or finalist, after which the search "
        "stops: seconds, or 30m, 2h",
    )


class FinalistsSection(Section):
    """Retraining of the best candidates, which are then scored on the test split."""

    count: int = Field(3, ge=0, description="number of candidates to retrain")
    seeds: int = Field(3, ge=1, description="number of fresh seeds per finalist")
    max_seeds: int | None = Field(
        None,
        ge=1,
        description="most seeds of finalists within noise of the best; empty: twice `seeds`, but "
        "1 if `seeds` is 1",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_seeds is not None and self.max_seeds < self.seeds:
            problem = f"every finalist has {self.seeds} seeds (finalists.seeds) already"
            remedy = f"use {self.seeds} or more, or leave it out"
            raise BadInputError("finalists.max_seeds", self.max_seeds, problem, remedy)
        return self

    @property
    def most_seeds(self) -> int:
        """Largest number of seeds of a finalist.

        One seed tells nothing about noise: by default such searches train no more.
        """
        if self.max_seeds is not None:
            return self.max_seeds
        return 1 if self.seeds == 1 else 2 * self.seeds


def _open_addresses(addresses: list[str]) -> list[str]:
    if addresses:
        # Importing apprise takes a second, so only notifications do it.
        from search.notifications import refuse_secrets  # noqa: PLC0415

        refuse_secrets(addresses)
    return addresses


class NightlySection(Section):
    """Champion and notifications of `search.py nightly`."""

    model: str | None = Field(
        None,
        pattern=NAME_PATTERN,
        description="registered model of the champion in MLflow; empty: the name of the search",
    )
    alpha: float = Field(
        0.01,
        gt=0,
        le=0.2,
        description="significance level: probability of promoting a challenger that is not better",
    )
    notify: Annotated[list[str], AfterValidator(_open_addresses)] = Field(
        default_factory=list,
        description="apprise URLs to notify; set URLs with secrets in BORDERLINE_NOTIFY instead",
    )


class TrackingSection(Section):
    """Logging to MLflow: to MLFLOW_TRACKING_URI or a local store."""

    enabled: bool = Field(True, description="log to MLflow")
    experiment: str = Field("borderline", min_length=1, description="name of the MLflow experiment")
    wait: Annotated[float, BeforeValidator(seconds), _SAVED] = Field(
        60.0,
        ge=0,
        le=1e6,
        description="timeout for pending events at the end of a search, in seconds",
    )
