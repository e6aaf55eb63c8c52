"""The schema of the experiment file: one YAML file defines a search."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    model_validator,
)
from pydantic_core import core_schema

from search.experiment.length import LENGTH, Length
from search.experiment.metrics import check_names
from search.experiment.number_or_text import number_or_text
from search.experiment.objectives import ACCURACY, Objective, check_objectives
from search.experiment.sections import (
    NAME_PATTERN,
    BudgetSection,
    FailuresSection,
    FinalistsSection,
    NightlySection,
    ResourcesSection,
    SchedulerSection,
    ScreensSection,
    Section,
    SpaceSection,
    TrackingSection,
    named,
)
from search.experiment.yaml_text import write_yaml
from search.formatting import plural
from spaces.errors import BadInputError
from spaces.user_code import is_reference
from trainables.folds import Folds
from trainables.image_size import ImageSize
from trainables.probes.records import PROBES, Probe
from trainables.specs import Augmentation, Balance, DataSpec, Decoding, is_function
from trainables.table_columns import TableColumns


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


_VALIDATION = number_or_text(
    core_schema.float_schema(gt=0, lt=1, strict=True),
    Folds.parse,
    Folds,
    "a fraction of the images such as 0.2, or folds=5, or folds=5x2 for two repetitions",
)


_SIZE = number_or_text(
    core_schema.nullable_schema(core_schema.int_schema(ge=1, strict=True)),
    ImageSize.parse,
    ImageSize,
    "pixels such as 32, or height and width such as 64x48",
)


def _all_or_none(probes: object) -> object:
    if isinstance(probes, bool):
        return list(PROBES) if probes else []
    if isinstance(probes, str):
        remedy = f"use true for all probes, or a list such as [{', '.join(PROBES[:2])}]"
        raise BadInputError("probes", probes, "is text", remedy)
    return probes


class Experiment(Section):
    """An experiment: the complete definition of a search."""

    name: str = Field(
        "search", pattern=NAME_PATTERN, description="name of the search and its folder"
    )
    data: str = Field(
        "digits",
        description="data set (digits, cifar10, ..), images:PATH, csv:PATH or module:function",
    )
    resolution: Annotated[int | ImageSize | None, _SIZE] = Field(
        DataSpec.resolution,
        description="side of square images in pixels, or height and width such as 64x48; empty: "
        "their own size",
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
    space: Annotated[SpaceSection, BeforeValidator(named)] = Field(default_factory=SpaceSection)
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
    metrics: Annotated[list[str], AfterValidator(check_names)] = Field(
        default_factory=list,
        description="metrics of the finalists on test beside accuracy: balanced_accuracy, f1, "
        "top5, auc, or your own module:function of true and predicted classes, and probabilities",
    )
    baselines: list[str] = Field(
        default_factory=list,
        description="named networks, such as resnet18c, that are trained with the recipe and the "
        "seeds of the best finalist, and compared with it on test",
    )
    latency_batch: int = Field(256, ge=2, le=65536, description="batch size of batch_latency")
    sampler: Literal["auto", "tpe", "gp", "random"] = Field(
        "auto",
        description="sampler of the study: auto (a model of the network), or Optuna's tpe, gp (no "
        "conditional spaces) or random",
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
    def _until_needs_an_estimate(self) -> Self:
        self.check_until()
        return self

    def check_until(self) -> None:
        """Check that the sampler estimates what ``budget.until`` needs.

        Raises:
            BadInputError: it does not.
        """
        until = self.budget.until
        if until is not None and self.sampler != "auto":
            problem = f"sampler: {self.sampler} does not estimate improvements"
            raise BadInputError(
                "budget.until", until, problem, "set sampler: auto, or leave it out"
            )
        if until is not None and len(self.objectives) > 1:
            problem = "improvements are estimated for accuracy as the only objective"
            raise BadInputError("budget.until", until, problem, "leave it out")

    @model_validator(mode="after")
    def _checks_known_length(self) -> Self:
        # The default depends on the images.
        if isinstance(self.epochs, int) and "epochs" in self.model_fields_set:
            self.check_length()
        return self

    def check_length(self) -> None:
        """Check settings that depend on the number of epochs.

        Raises:
            BadInputError: trainings would stop as hopeless when they end, or later.
        """
        after, epochs = self.scheduler.hopeless_after, self.whole_epochs
        if after is not None and after >= epochs:
            problem = f"a training ends after {plural(epochs, 'epoch')} anyway"
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
        named = (self.space.name, self.augmentation.function or "", *self.metrics)
        return is_function(self.data) or any(map(is_reference, named))

    def to_yaml(self, size: tuple[int, int] | None = None) -> str:
        """Return the complete experiment with defaults as YAML.

        Args:
            size: height and width of the images in pixels, for a comment where `resolution` is
                empty; None for no comment.
        """
        text = write_yaml(self.model_dump(mode="json"))
        if size is None:
            return text
        height, width = size
        empty = "\nresolution: null\n"
        return text.replace(empty, f"{empty[:-1]}  # the images' own size: {height}x{width}\n", 1)
