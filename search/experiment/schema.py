"""The experiment file: one YAML that says all about a search."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from search.experiment.objectives import ACCURACY, Objective, check_objectives
from spaces.border import Rule
from spaces.errors import BadInputError
from trainables.specs import Augmentation, DataSpec

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class BorderRule(StrEnum):
    """How the border screen judges: one of the published rules, or not at all."""

    PREVIOUS_CONV = Rule.PREVIOUS_CONV
    DIRECT_INPUT = Rule.DIRECT_INPUT
    NON_STRICT = Rule.NON_STRICT
    OFF = "off"


def _border_rule(value: object) -> object:
    # YAML 1.1 reads a bare `off` as false.
    if value is False:
        return BorderRule.OFF
    try:
        return BorderRule(str(value))
    except ValueError:
        raise ValueError(f"use one of {', '.join(BorderRule)}") from None


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(value: object) -> object:
    """Return the seconds that a length of time such as 90m says; whatever else there is as it is.

    Raises:
        ValueError: it is text, but no length of time.
    """
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", value.strip())
        if match is None:
            raise ValueError("use seconds, or a number with s, m, h or d such as 90m")
        return float(match[1]) * _UNITS[match[2] or "s"]
    return value


def _named(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


class SpaceSection(BaseModel):
    """The space: a family's name or ``module:function``, with the options of its function."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    name: str = Field("vgg", description="family (vgg) or module:function of your own")

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of the space function."""
        return dict(self.model_extra or {})


class ScreensSection(_Section):
    """What is rejected before training."""

    border: Annotated[BorderRule, BeforeValidator(_border_rule)] = Field(
        BorderRule.PREVIOUS_CONV,
        description="rule of the border screen: previous-conv, direct-input, non-strict or off",
    )
    allow_beyond: int = Field(0, ge=0, description="convolutions allowed behind the border layer")
    max_params: int | None = Field(None, gt=0, description="most parameters")
    max_macs: int | None = Field(None, gt=0, description="most multiply-accumulates an image")
    max_memory_mb: float | None = Field(
        None, gt=0, le=1e12, description="most predicted memory of training, in MB"
    )
    duplicates: bool = Field(True, description="reject candidates that were drawn before")

    @property
    def rule(self) -> Rule:
        """The rule that finds border layers, also where the screen is off."""
        off = self.border is BorderRule.OFF
        return Rule.PREVIOUS_CONV if off else Rule(self.border.value)


class SchedulerSection(_Section):
    """How hopeless trials are stopped early."""

    name: Literal["asha", "none"] = Field("asha", description="asha, or none: train all fully")
    grace_epochs: int = Field(1, ge=1, description="epochs every trial gets")
    reduction: int = Field(3, ge=2, description="at each rung one in so many goes on")
    hopeless_after: int | None = Field(
        None,
        ge=1,
        description="epochs after which a training is given up unless its training accuracy is at "
        "least twice that of a guess; empty: never",
    )


class BudgetSection(_Section):
    """When the search ends: at whichever limit is reached first, over all times it is resumed."""

    trials: int = Field(30, ge=1, description="candidates trained (rejected ones are free)")
    wall_clock: Annotated[float | None, BeforeValidator(seconds)] = Field(
        None, gt=0, description="time: seconds, or 90m, 8h, 2d"
    )
    device_hours: float | None = Field(
        None, gt=0, description="hours of devices, by the share a trial has of one"
    )
    money: float | None = Field(None, gt=0, description="what device-hours may cost at `price`")
    price: float = Field(0.0, ge=0, description="of one device-hour, in any currency")

    @model_validator(mode="after")
    def _money_needs_a_price(self) -> Self:
        if self.money is not None and not self.price:
            problem = "cannot be counted without a price"
            raise BadInputError("budget.money", self.money, problem, "set budget.price as well")
        return self


class FailuresSection(_Section):
    """What becomes of a trial whose process or node is lost."""

    retries: int = Field(
        3, ge=0, description="times it is tried again, from its last checkpoint, before it fails"
    )
    hang_after: Annotated[float | None, BeforeValidator(seconds)] = Field(
        None,
        ge=1,
        le=1e9,
        description="an epoch that takes longer costs its process: seconds, or 30m, 2h",
    )


def _whole_or_fraction(gpus: float | None) -> float | None:
    if gpus is not None and gpus > 1 and gpus != int(gpus):
        raise ValueError("use a share up to 1, or whole GPUs")
    return gpus


class ResourcesSection(_Section):
    """What one trial occupies."""

    cpus: int | None = Field(
        None,
        ge=1,
        description="CPU threads a trial; empty: one, or on CPUs with `concurrent` a fair share",
    )
    gpus: Annotated[float | None, AfterValidator(_whole_or_fraction)] = Field(
        None, ge=0, description="share of a GPU a trial; empty: by its predicted memory"
    )
    concurrent: int | None = Field(
        None, ge=1, description="trials at a time; empty: as many as fit"
    )
    wait: Annotated[float, BeforeValidator(seconds)] = Field(
        1800.0,
        gt=0,
        le=1e9,
        description="how long a cluster may have no node for any trial or finalist before the "
        "search is given up: seconds, or 30m, 2h",
    )


class FinalistsSection(_Section):
    """Which candidates are retrained and scored on the test split."""

    count: int = Field(3, ge=0, description="best candidates retrained")
    seeds: int = Field(3, ge=1, description="fresh seeds each")


def _open_addresses(addresses: list[str]) -> list[str]:
    if addresses:
        # Costs a second, which few need.
        from search.notifications import refuse_secrets  # noqa: PLC0415

        refuse_secrets(addresses)
    return addresses


class NightlySection(_Section):
    """How the nights of `search.py nightly` choose a champion, and whom they tell."""

    model: str | None = Field(
        None,
        pattern=NAME_PATTERN,
        description="registered model of the champion in MLflow; empty: the search's name",
    )
    alpha: float = Field(
        0.01, gt=0, le=0.2, description="probability of promoting what is only as good"
    )
    notify: Annotated[list[str], AfterValidator(_open_addresses)] = Field(
        default_factory=list,
        description="addresses without secrets that are told, as apprise takes them; those with "
        "secrets belong into BORDERLINE_NOTIFY",
    )


class TrackingSection(_Section):
    """Where runs are logged; the server is MLFLOW_TRACKING_URI or a local store."""

    enabled: bool = Field(True, description="log to MLflow")
    experiment: str = Field("borderline", min_length=1, description="MLflow experiment")
    wait: Annotated[float, BeforeValidator(seconds)] = Field(
        60.0, ge=0, le=1e6, description="how long the end of a search waits for a slow server"
    )


def _address(url: str | None) -> str | None:
    if url is not None:
        # Costs a tenth of a second, which few need.
        from search.urls import refuse_password  # noqa: PLC0415

        refuse_password(url)
    return url


def _bucket(location: str | None) -> str | None:
    if location is not None:
        from search.experiment.folder import check_location  # noqa: PLC0415

        return check_location(location)
    return location


class Experiment(_Section):
    """All of a search."""

    name: str = Field("search", pattern=NAME_PATTERN, description="of the search and its folder")
    data: str = Field("digits", description="digits, cifar10, .., or images:PATH")
    resolution: int | None = Field(
        DataSpec.resolution,
        ge=1,
        description="side of the images in pixels; empty: their own size",
    )
    subset: float = Field(
        DataSpec.subset, gt=0, le=1, description="fraction of each split that is used"
    )
    validation: float = Field(
        DataSpec.validation,
        gt=0,
        lt=1,
        description="fraction of train held out for validation, if the data has no such split",
    )
    test: float = Field(
        DataSpec.test,
        gt=0,
        lt=1,
        description="fraction held out for testing, if the data has no test split",
    )
    seed: int = Field(
        0, ge=0, lt=1 << 32, description="of the sampler, the splits and the trainings"
    )
    space: Annotated[SpaceSection, BeforeValidator(_named)] = Field(default_factory=SpaceSection)
    enqueue: list[str] = Field(
        default_factory=list, description="named nets of the space that are tried first"
    )
    recipe: dict[str, Any] = Field(default_factory=dict, description="see spaces.recipe.recipe")
    epochs: int = Field(10, ge=1, description="passes over the training images")
    augmentation: Augmentation = Field(default_factory=Augmentation)
    screens: ScreensSection = Field(default_factory=ScreensSection)
    objectives: Annotated[list[Objective], AfterValidator(check_objectives)] = Field(
        default_factory=lambda: list(ACCURACY),
        description="accuracy, then what else counts: params, macs, latency, batch_latency",
    )
    latency_batch: int = Field(256, ge=2, le=65536, description="images a batch of batch_latency")
    sampler: Literal["tpe", "random"] = Field("tpe", description="tpe or random")
    scheduler: SchedulerSection = Field(default_factory=SchedulerSection)
    budget: BudgetSection = Field(default_factory=BudgetSection)
    failures: FailuresSection = Field(default_factory=FailuresSection)
    warm_start: list[str] = Field(
        default_factory=list, description="searches whose trials the sampler begins with"
    )
    database: Annotated[str | None, AfterValidator(_address)] = Field(
        None,
        description="of the study: postgresql://user@host/name; empty: a file in its folder",
    )
    storage: Annotated[str | None, AfterValidator(_bucket)] = Field(
        None,
        description="of checkpoints and snapshots: s3://bucket/prefix; empty: all stays in runs/",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto (a GPU where there is one), cpu or cuda"
    )
    compile: bool = Field(
        False,
        description="let torch.compile translate each network; costs seconds to minutes for every "
        "candidate",
    )
    resources: ResourcesSection = Field(default_factory=ResourcesSection)
    finalists: FinalistsSection = Field(default_factory=FinalistsSection)
    tracking: TrackingSection = Field(default_factory=TrackingSection)
    nightly: NightlySection = Field(default_factory=NightlySection)

    @model_validator(mode="after")
    def _ends_before_it_gives_up(self) -> Self:
        after = self.scheduler.hopeless_after
        if after is not None and after >= self.epochs:
            problem = f"a training ends after {self.epochs} epochs by itself"
            remedy = "use fewer than `epochs`, or leave it out"
            raise BadInputError("scheduler.hopeless_after", after, problem, remedy)
        return self

    def to_yaml(self) -> str:
        """Return the complete experiment, defaults included."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
