"""Specifies the training and the data of a search: plain data, free of torch.

The driver sends a spec to each worker once. Per trial, only the flat ``params`` travel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from spaces.border import Rule
from spaces.candidate import CandidateSpace
from spaces.errors import BadInputError
from spaces.remedies import Truncation
from spaces.task import Task
from spaces.user_code import is_reference
from trainables.colours import DEFAULT, canonical, rgb
from trainables.data_identity import DataIdentity
from trainables.folds import Folds
from trainables.image_size import ImageSize
from trainables.probes.records import NetworkProbes, Probe
from trainables.table_columns import TableColumns


def _flip(value: object) -> object:
    # Older files say true or false, in any of the words of YAML 1.1.
    if str(value).lower() in ("true", "yes", "on"):
        return "random"
    return "none" if str(value).lower() in ("false", "no", "off") else value


def _area_range(value: object) -> object:
    if value is None:
        return None
    numbers = value if isinstance(value, list | tuple) else ()
    if (
        len(numbers) != 2
        or not all(type(each) in (int, float) for each in numbers)
        or not 0 < numbers[0] <= numbers[1] <= 1
    ):
        raise ValueError("use two fractions above 0, the smaller one first, such as [0.5, 1.0]")
    return tuple(float(each) for each in numbers)


def _above_zero(alpha: float | None) -> float | None:
    if alpha is not None and alpha <= 0:
        raise ValueError("use a number above 0, or leave it out for no mixup")
    return alpha


def _reference(name: str | None) -> str | None:
    if name is not None and not is_reference(name):
        raise ValueError("write module:function, such as my_augmentation:augment")
    return name


LOCAL_KINDS = ("images", "csv")
"""Kinds of data sources that name a local path, as in ``images:PATH``."""


def is_function(source: str) -> bool:
    """Tell whether a data source is a user's ``module:function``."""
    return is_reference(source) and source.partition(":")[0] not in LOCAL_KINDS


class Augmentation(BaseModel):
    """Random changes to training images: a section of the experiment and part of the worker's spec.

    Erasing is from Zhong et al. 2017 (arXiv 1708.04896), cutout from DeVries & Taylor 2017 (arXiv
    1708.04552), mixup from Zhang et al. 2018 (arXiv 1710.09412), and the trivial policy from
    Mueller & Hutter 2021 (arXiv 2103.10158). Shifted and rotated images are padded with black.
    Alternating flips start at random for each image.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    crop: int = Field(0, ge=0, description="pad by this many pixels, then crop at random")
    translate: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="shift at random by up to this fraction of each side; the default of a search "
        "without `crop` is 0.125, for images of at least 12 pixels",
    )
    flip: Annotated[Literal["none", "random", "alternating"], BeforeValidator(_flip)] = Field(
        "none", description="mirror horizontally: none, random, or alternating (every second epoch)"
    )
    zoom: Annotated[tuple[float, float] | None, BeforeValidator(_area_range)] = Field(
        None,
        description="random resized crop: smallest and largest fraction of the area, such as "
        "[0.5, 1.0]; empty: none",
    )
    rotate: float = Field(
        0.0, ge=0, le=180, description="rotate at random by up to this many degrees"
    )
    color: float = Field(
        0.0,
        ge=0,
        le=1,
        description="change brightness, contrast and saturation at random by up to this fraction",
    )
    policy: Literal["none", "trivial"] = Field(
        "none",
        description="policy of augmentation: none, or trivial (TrivialAugment: one random "
        "operation per image)",
    )
    erase: float = Field(0.0, ge=0, le=1, description="probability of random erasing")
    cutout: int = Field(0, ge=0, description="side in pixels of a square that is cut out")
    mixup: Annotated[float | None, AfterValidator(_above_zero)] = Field(
        None, description="alpha of the Beta distribution that mixes pairs of images; empty: none"
    )

    function: Annotated[str | None, AfterValidator(_reference)] = Field(
        None,
        description="your own module:function that changes a batch of images, after the other "
        "changes but erasing, cutout and mixup; empty: none",
    )

    @property
    def identity(self) -> str:
        """What decides the changes, as JSON; settings that older versions lacked, only where set.

        A new field goes into the set below, so that stored trainings keep their keys.
        """
        added = {"function"}
        unset = {n for n in added if getattr(self, n) == type(self).model_fields[n].default}
        return self.model_dump_json(exclude=unset)

    def check(self, height: int, width: int) -> None:
        """Check that the augmentation fits images of this size in pixels.

        Raises:
            BadInputError: naming the field, the value and the remedy.
        """
        smaller = min(height, width)
        for name, value, most in (
            # Moved by the whole image, a crop would show none of it.
            ("crop", self.crop, smaller - 1),
            ("cutout", self.cutout, smaller),
        ):
            if value > most:
                problem = f"does not fit images of {height}x{width} pixels"
                remedy = f"use {most} or less"
                raise BadInputError(f"augmentation.{name}", value, problem, remedy)
        if self.crop and self.translate:
            problem = "augmentation.crop shifts the images already"
            remedy = "use one of the two"
            raise BadInputError("augmentation.translate", self.translate, problem, remedy)
        if self.color and self.policy != "none":
            problem = "augmentation.policy changes the colours already"
            remedy = "use one of the two"
            raise BadInputError("augmentation.color", self.color, problem, remedy)

    def padding(self, height: int, width: int) -> tuple[int, int]:
        """Return the largest shift in rows and columns for images of this size.

        At least one row and one column of the image always stay visible.
        """
        if self.translate:
            down, across = (min(round(self.translate * side), side - 1) for side in (height, width))
            return down, across
        return self.crop, self.crop


Balance = Literal["none", "weights", "sampling"]
"""How classes with few training images get the same influence as others: ``weights`` weights the
loss inversely to the number of images, ``sampling`` draws equally many images of each class."""

# Float images hold no larger values, and larger integers fit no float.
_LARGEST_VALUE = 1e38


def _value_range(value: object) -> object:
    if value is None:
        return None
    numbers = value if isinstance(value, list | tuple) else ()
    if (
        len(numbers) != 2
        or not all(type(each) in (int, float) and abs(each) < _LARGEST_VALUE for each in numbers)
        or numbers[0] >= numbers[1]
    ):
        raise ValueError("use two numbers, the lower one first, such as [0, 4095]")
    return tuple(numbers)


Fit = Literal["crop", "pad", "squash"]
"""How an image of other proportions is brought to a size."""


class Decoding(BaseModel):
    """How files become pixels: a section of the experiment and part of the worker's spec."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    background: Annotated[str, AfterValidator(canonical)] = Field(
        DEFAULT, description="colour behind transparent pixels: a name or #rrggbb"
    )
    value_range: Annotated[tuple[float, float] | None, BeforeValidator(_value_range)] = Field(
        None,
        description="pixel values of 16-bit and 32-bit images that become black and white, such as "
        "[0, 4095]; empty: the range of the training images",
    )
    fit: Fit = Field(
        "crop",
        description="how an image of other proportions is brought to `resolution`: crop (resize "
        "the shorter side, keep the centre), pad (resize the longer side, add `background`) or "
        "squash (resize both sides)",
    )
    grey: bool = Field(False, description="convert all images to greyscale")
    max_megapixels: float = Field(
        89.478485,
        gt=0,
        le=1e6,
        description="largest image that is decoded, in millions of pixels; the default is the "
        "limit of Pillow",
    )

    @property
    def identity(self) -> str:
        """What decides pixels, in words; settings that older versions lacked, only where set.

        The limit on the size of images decides whether one is refused, not what its pixels are.
        """
        settings = self.model_dump(exclude={"max_megapixels"})
        added = {name: type(self).model_fields[name].default for name in ("fit", "grey")}
        return ", ".join(
            f"{name} {value}"
            for name, value in settings.items()
            if name not in added or value != added[name]
        )

    @property
    def background_rgb(self) -> tuple[int, int, int]:
        """The background as red, green and blue in 0..255."""
        return rgb(self.background)


@dataclass(frozen=True)
class DataSpec:
    """The images of a search and their splits.

    Attributes:
        source: ``digits`` (bundled with scikit-learn); ``cifar10``, ``cifar100``, ``mnist``,
            ``fashion-mnist`` or ``svhn`` (downloaded by torchvision); or ``images:PATH``, a
            folder or archive of ``CLASS/*.jpg`` or of ``train/CLASS/*.jpg``, optionally with
            ``val/`` and ``test/`` beside ``train/``; in S3 ``images:s3://bucket/prefix/`` or
            ``images:s3://bucket/key.tar``; ``csv:PATH``, a table of files and classes; or
            ``module:function``, a function of the user that returns a data set.
        resolution: side of square images in pixels, or their size. None keeps the size that all
            images share. `Decoding.fit` says how other images are brought to it.
        subset: fraction of each split to keep, in (0, 1], of each class and at least one image.
        validation: fraction of train, of each class, to validate on if the source has no
            validation split; in (0, 1). Or folds, each of which is held out once.
        test: fraction of all images, of each class, to test on if the source has no test split;
            in (0, 1).
        split_seed: decides which images are drawn for the splits and the subset; not negative.
        decoding: how files become pixels.
        table: columns of the table of ``csv:PATH``.
        groups: regular expression that captures an image's group in its relative path; the drawn
            splits keep groups together. None for no groups but those of a table.
        validation_list: absolute path of a text file with the relative paths of the validation
            images; None to draw them.
        folders: absolute folders of users' modules; see `spaces.user_code.search_folders`.
        version: `Dataset.version` of an earlier load: load exactly these images. Images cached on
            this node then need no bucket; otherwise loading waits while the bucket is unavailable.
        expected: what another process has loaded, such as the driver: loading anything else fails.
    """

    source: str
    resolution: int | ImageSize | None = None
    subset: float = 1.0
    validation: float | Folds = 0.15
    test: float = 0.15
    split_seed: int = 0
    decoding: Decoding = field(default_factory=Decoding)
    table: TableColumns = field(default_factory=TableColumns)
    groups: str | None = None
    validation_list: str | None = None
    folders: tuple[str, ...] = ()
    version: str | None = None
    expected: DataIdentity | None = None


@dataclass(frozen=True)
class TrainingSpec:
    """The training settings that all trials of a search share.

    Attributes:
        data: the images and their splits.
        task: shape of the images and number of classes.
        space: a family's name or ``module:function``.
        space_options: keyword arguments of the space function.
        recipe_options: keyword arguments of `spaces.recipe.recipe`.
        epochs: number of epochs of a full training.
        augmentation: random changes to training images.
        balance: how classes with few images get the same influence; see `Balance`.
        test_time_flip: whether scores average predictions over each image and its mirror image.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: number of CPU threads per trial.
        compile: whether to compile each network with ``torch.compile``, which takes seconds to
            minutes per network.
        hopeless_after: epoch after which a training stops unless its training accuracy is at least
            twice that of a guess; None for never.
        latency_batches: batch sizes for which latency is measured before training.
        checkpoints: folder or ``s3://bucket/prefix`` of checkpoints, reachable from all nodes.
            Checkpoints lie below it by trial number and seed. None for no checkpoints.
        hang_after: seconds after which an epoch counts as hung and its process ends; None for
            never.
        folders: absolute folders of users' modules; see `spaces.user_code.search_folders`.
        probes: of each finalist after its first training.
        rule: border rule of the probes.
        scores: whether finalists return the probability of each class, for metrics.
        truncation: replaces drawn networks by their truncated twins; None to keep them whole.
    """

    data: DataSpec
    task: Task
    space: str
    space_options: Mapping[str, Any]
    recipe_options: Mapping[str, Any]
    epochs: int
    augmentation: Augmentation = field(default_factory=Augmentation)
    balance: Balance = "none"
    test_time_flip: bool = False
    device: str = "auto"
    threads: int = 1
    compile: bool = False
    hopeless_after: int | None = None
    latency_batches: tuple[int, ...] = ()
    checkpoints: Path | str | None = None
    hang_after: float | None = None
    folders: tuple[str, ...] = ()
    probes: tuple[Probe, ...] = ()
    rule: Rule = Rule.PREVIOUS_CONV
    scores: bool = False
    truncation: Truncation | None = None

    def candidates(self) -> CandidateSpace:
        """Return the space that draws and rebuilds candidates."""
        return CandidateSpace(
            self.task,
            self.space,
            self.space_options,
            self.recipe_options,
            self.folders,
            self.truncation,
        )


@dataclass(frozen=True)
class FinalistResult:
    """Result of retraining a finalist with one seed.

    Attributes:
        number: number of the finalist's trial.
        seed: the fresh seed.
        validation_accuracy: after the last epoch, 0..1.
        test_accuracy: after the last epoch, 0..1.
        seconds: wall-clock time of the training.
    """

    number: int
    seed: int
    validation_accuracy: float
    test_accuracy: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Retraining:
    """The outcome of retraining a finalist with one seed.

    Attributes:
        result: accuracies and duration.
        weights: the ``state_dict`` of the scored network (its moving average if the recipe has one)
            as the content of a file. ``torch.load`` reads it with ``weights_only=True`` and without
            a GPU.
        predictions: index of the predicted class of each test image, in the order of the split,
            int32 ``[images]``.
        validation_right: whether the network is right about each validation image, in the order of
            the split, bool ``[images]``; empty with folds, of which seeds hold out different ones.
        probes: of the scored network; None if they were not requested or failed.
        probe_failure: why they failed; empty if they did not.
        probabilities: of each class for each test image, float32 ``[images, classes]``; None unless
            the spec asks for them.
        confidences: probability of the predicted class of each test image, float16 ``[images]``;
            None if it is unknown.
    """

    result: FinalistResult
    weights: bytes
    predictions: NDArray[np.int32]
    validation_right: NDArray[np.bool_]
    probes: NetworkProbes | None = None
    probe_failure: str = ""
    confidences: NDArray[np.float16] | None = None
    probabilities: NDArray[np.float32] | None = None
