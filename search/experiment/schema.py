"""The schema of the experiment file: one YAML file defines a search."""

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
    model_validator,
)
from pydantic_core import core_schema

from search.experiment.length import LENGTH, Length
from search.experiment.number_or_text import number_or_text
from search.experiment.objectives import ACCURACY, Objective, check_objectives
from search.experiment.yaml_text import WORDS, write_yaml
from spaces.border import Rule
from spaces.errors import BadInputError
from spaces.user_code import is_reference
from trainables.folds import Folds
from trainables.probes.records import PROBES, Probe
from trainables.specs import Augmentation, Balance, DataSpec, Decoding, TableColumns, is_function

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class BorderRule(StrEnum):
    """Rule of the border screen: one of the published rules, or off."""

    PREVIOUS_CONV = Rule.PREVIOUS_CONV
    DIRECT_INPUT = Rule.DIRECT_INPUT
    NON_STRICT = Rule.NON_STRICT
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


def _named(value: object) -> object:
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


class ScreensSection(_Section):
    """Screens that reject candidates before training."""

    border: Annotated[BorderRule, BeforeValidator(_border_rule)] = Field(
        BorderRule.PREVIOUS_CONV,
        description="rule of the border screen: previous-conv, direct-input, non-strict or off",
    )
    allow_beyond: int = Field(
        0, ge=0, description="number of convolutions allowed after the border layer"
    )
    max_params: int | None = Field(None, gt=0, description="maximum number of parameters")
    max_macs: int | None = Field(None, gt=0, description="maximum multiply-accumulates per image")
    max_memory_mb: float | None = Field(
        None, gt=0, le=1e12, description="maximum predicted training memory, in MB"
    )
    duplicates: bool = Field(True, description="reject candidates that were drawn before")

    @property
    def rule(self) -> Rule:
        """The rule that finds border layers, even if the screen is off."""
        off = self.border is BorderRule.OFF
        return Rule.PREVIOUS_CONV if off else Rule(self.border.value)


class SchedulerSection(_Section):
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


class BudgetSection(_Section):
    """Limits of the search across all resumes; the first one reached ends it."""

    trials: int = Field(
        30, ge=1, description="number of trained candidates; rejected ones do not count"
    )
    wall_clock: Annotated[float | None, BeforeValidator(seconds)] = Field(
        None, gt=0, description="time during which a driver runs: seconds, or 90m, 8h, 2d"
    )
    device_hours: float | None = Field(
        None, gt=0, description="device-hours; one hour on half a GPU counts as 0.5"
    )
    money: float | None = Field(None, gt=0, description="maximum cost of device-hours at `price`")
    price: float = Field(0.0, ge=0, description="price of one device-hour, in any currency")

    @model_validator(mode="after")
    def _money_needs_a_price(self) -> Self:
        if self.money is not None and not self.price:
            problem = "cannot be counted without a price"
            raise BadInputError("budget.money", self.money, problem, "set budget.price as well")
        return self


class FailuresSection(_Section):
    """Retries of trials whose process or node is lost."""

    retries: int = Field(
        3, ge=0, description="retries from the last checkpoint before a trial fails"
    )
    hang_after: Annotated[float | None, BeforeValidator(seconds)] = Field(
        None,
        ge=1,
        le=1e9,
        description="time limit of an epoch, after which its process ends: seconds, or 30m, 2h",
    )


def _whole_or_fraction(gpus: float | None) -> float | None:
    if gpus is not None and gpus > 1 and gpus != int(gpus):
        raise ValueError("use 1, or a fraction of a GPU")
    return gpus


class ResourcesSection(_Section):
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
    wait: Annotated[float, BeforeValidator(seconds)] = Field(
        1800.0,
        gt=0,
        le=1e9,
        description="timeout for a node that fits a trial or finalist, after which the search "
        "stops: seconds, or 30m, 2h",
    )


class FinalistsSection(_Section):
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


class NightlySection(_Section):
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


class TrackingSection(_Section):
    """Logging to MLflow: to MLFLOW_TRACKING_URI or a local store."""

    enabled: bool = Field(True, description="log to MLflow")
    experiment: str = Field("borderline", min_length=1, description="name of the MLflow experiment")
    wait: Annotated[float, BeforeValidator(seconds)] = Field(
        60.0,
        ge=0,
        le=1e6,
        description="timeout for pending events at the end of a search, in seconds",
    )


def _address(url: str | None) -> str | None:
    if url is not None:
        # Importing sqlalchemy takes 0.1 s, so only databases do it.
        from search.urls import refuse_password  # noqa: PLC0415

        refuse_password(url)
    return url


def _bucket(location: str | None) -> str | None:
    if location is not None:
        from search.experiment.folder import check_location  # noqa: PLC0415

        return check_location(location)
    return location


_VALIDATION = number_or_text(core_schema.float_schema(gt=0, lt=1, strict=True), Folds.parse, Folds)


def _all_or_none(probes: object) -> object:
    if isinstance(probes, bool):
        return list(PROBES) if probes else []
    return probes


class Experiment(_Section):
    """An experiment: the complete definition of a search."""

    name: str = Field(
        "search", pattern=NAME_PATTERN, description="name of the search and its folder"
    )
    data: str = Field(
        "digits",
        description="data set (digits, cifar10, ..), images:PATH, csv:PATH or module:function",
    )
    resolution: int | None = Field(
        DataSpec.resolution,
        ge=1,
        description="side of the images in pixels; empty: their own size",
    )
    subset: float = Field(
        DataSpec.subset, gt=0, le=1, description="fraction of each split that is used"
    )
    validation: Annotated[float | Folds, _VALIDATION] = Field(
        DataSpec.validation,
        description="fraction of train held out for validation, if the data has no such split; or "
        "folds=5: each trial trains a network per fold (folds=5x2: twice, with other folds)",
    )
    test: float = Field(
        DataSpec.test,
        gt=0,
        lt=1,
        description="fraction held out for testing, if the data has no test split",
    )
    validation_list: str | None = Field(
        None,
        min_length=1,
        description="text file with the relative path of each validation image, one per line; "
        "empty: drawn",
    )
    groups: str | None = Field(
        None,
        min_length=1,
        description="regular expression on relative paths; images with the same text in its "
        "parentheses stay in one split",
    )
    table: TableColumns = Field(default_factory=TableColumns)
    decoding: Decoding = Field(default_factory=Decoding)
    seed: int = Field(0, ge=0, lt=1 << 32, description="seed of sampler, splits and trainings")
    space: Annotated[SpaceSection, BeforeValidator(_named)] = Field(default_factory=SpaceSection)
    modules: str | None = Field(
        None,
        description="folder of your own modules, searched before the current folder; empty: the "
        "folder of the experiment file",
    )
    enqueue: list[str] = Field(
        default_factory=list, description="named networks of the space to try first"
    )
    recipe: dict[str, Any] = Field(
        default_factory=dict, description="options of `spaces.recipe.recipe`"
    )
    epochs: Annotated[int | Length, LENGTH] = Field(
        10,
        description="number of epochs of a full training, or a length such as 2000 steps or "
        "300k images, which is rounded up to whole epochs; the default is more for few images: "
        "1000 steps",
    )
    augmentation: Augmentation = Field(default_factory=Augmentation)
    balance: Balance = Field(
        "none",
        description="influence of classes with few images: none, weights (of the training loss) or "
        "sampling (equally many images of each class per epoch)",
    )
    test_time_flip: bool = Field(
        False, description="average predictions over each scored image and its mirror image"
    )
    screens: ScreensSection = Field(default_factory=ScreensSection)
    objectives: Annotated[list[Objective], AfterValidator(check_objectives)] = Field(
        default_factory=lambda: list(ACCURACY),
        description="accuracy, then costs to minimise: params, macs, latency, batch_latency",
    )
    latency_batch: int = Field(256, ge=2, le=65536, description="batch size of batch_latency")
    sampler: Literal["tpe", "random"] = Field(
        "tpe", description="sampler of the study: tpe or random"
    )
    scheduler: SchedulerSection = Field(default_factory=SchedulerSection)
    budget: BudgetSection = Field(default_factory=BudgetSection)
    failures: FailuresSection = Field(default_factory=FailuresSection)
    warm_start: list[str] = Field(
        default_factory=list, description="names of searches whose trials initialise the sampler"
    )
    database: Annotated[str | None, AfterValidator(_address)] = Field(
        None,
        description="database of the study: postgresql://user@host/name; empty: a local file",
    )
    storage: Annotated[str | None, AfterValidator(_bucket)] = Field(
        None,
        description="storage of checkpoints and snapshots: s3://bucket/prefix; empty: runs/",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto (a GPU if available), cpu or cuda"
    )
    compile: bool = Field(
        False,
        description="compile each network with torch.compile, which takes seconds to minutes",
    )
    resources: ResourcesSection = Field(default_factory=ResourcesSection)
    finalists: FinalistsSection = Field(default_factory=FinalistsSection)
    tracking: TrackingSection = Field(default_factory=TrackingSection)
    nightly: NightlySection = Field(default_factory=NightlySection)
    probes: Annotated[list[Probe], BeforeValidator(_all_or_none)] = Field(
        default_factory=list,
        description="probes of each finalist after its first training: true (all), or some of "
        "saturation, probe, triviality, disabled, field",
    )

    @model_validator(mode="after")
    def _folds_exclude_others(self) -> Self:
        if not isinstance(self.validation, Folds):
            return self
        if self.validation_list is not None:
            problem = f"validation is {self.validation}, which holds every training image out"
            raise BadInputError("validation_list", self.validation_list, problem, "use one of both")
        if self.compile:
            problem = f"validation is {self.validation}, so each epoch would compile every network"
            raise BadInputError("compile", self.compile, problem, "use one of both")
        return self

    @model_validator(mode="after")
    def _checks_known_length(self) -> Self:
        if isinstance(self.epochs, int):
            self.check_length()
        return self

    def check_length(self) -> None:
        """Check settings that depend on the number of epochs.

        Raises:
            BadInputError: trainings would stop as hopeless when they end, or later.
        """
        after, epochs = self.scheduler.hopeless_after, self.whole_epochs
        if after is not None and after >= epochs:
            problem = f"a training ends after {epochs} epochs anyway"
            remedy = "use fewer than `epochs`, or leave it out"
            raise BadInputError("scheduler.hopeless_after", after, problem, remedy)

    @property
    def whole_epochs(self) -> int:
        """Number of epochs of a full training.

        Raises:
            BadInputError: it follows from the number of images; see
                `search.experiment.training_length.with_whole_epochs`.
        """
        if isinstance(self.epochs, Length):
            problem = "the number of epochs depends on the images, which are not loaded"
            raise BadInputError("epochs", self.epochs, problem, "give a number of epochs")
        return self.epochs

    @property
    def names_own_code(self) -> bool:
        """Whether the experiment names a user's function."""
        return is_function(self.data) or is_reference(self.space.name)

    def to_yaml(self) -> str:
        """Return the complete experiment with defaults as YAML."""
        return write_yaml(self.model_dump(mode="json"))
