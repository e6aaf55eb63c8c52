"""Checks the spec of images before they are opened."""

from __future__ import annotations

from spaces.errors import BadInputError
from trainables.folds import Folds
from trainables.image_size import ImageSize
from trainables.images.errors import printable
from trainables.images.opening import is_table
from trainables.images.splitting.groups import check_pattern
from trainables.specs import DataSpec

LARGEST_RESOLUTION = 4096


def check_spec(data: DataSpec) -> None:
    """Check what can be checked before the images are opened.

    Raises:
        BadInputError: a field cannot be used, or two of them exclude each other.
    """
    if data.resolution is not None:
        size = ImageSize.of(data.resolution)
        if not all(1 <= side <= LARGEST_RESOLUTION for side in (size.height, size.width)):
            raise BadInputError(
                "resolution",
                data.resolution,
                "it is not a usable number of pixels",
                f"give 1 to {LARGEST_RESOLUTION}, or leave it out to keep the images' own size",
            )
    if not 0 < data.subset <= 1:
        raise BadInputError(
            "subset",
            data.subset,
            "it is not a fraction of the images",
            "give a number above 0, and at most 1 for all of them",
        )
    for field, fraction in (("validation", data.validation), ("test", data.test)):
        if not isinstance(fraction, Folds) and not 0 < fraction < 1:
            raise BadInputError(
                field,
                fraction,
                "it is not a fraction that leaves images on both sides",
                "give a number between 0 and 1, such as 0.1",
            )
    if data.validation_list is not None and isinstance(data.validation, Folds):
        raise BadInputError(
            "validation_list",
            printable(data.validation_list),
            f"validation is {data.validation}, which holds every training image out",
            "use one of both",
        )
    if data.groups is not None:
        check_pattern(data.groups)
    if not is_table(data.source):
        for name, value in data.table.model_dump(exclude_defaults=True).items():
            raise BadInputError(
                f"table.{name}",
                value,
                f"the data is {printable(data.source)}",
                "give data: csv:PATH, or leave it out",
            )
    if data.split_seed < 0:
        raise BadInputError("split_seed", data.split_seed, "it is negative", "give 0 or more")
