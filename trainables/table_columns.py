"""The columns of a table of labels."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class TableColumns(BaseModel):
    """Columns of a table of labels: a section of the experiment and part of the worker's spec."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    file: str | None = Field(
        None, description="column with the file of each image; empty: found by its usual names"
    )
    label: str | None = Field(
        None, description="column with the class of each image; empty: found by its usual names"
    )
    split: str | None = Field(
        None,
        description="column with train, validation or test; empty: found by its usual names; "
        '"": not used',
    )
    group: str | None = Field(
        None,
        description="column with the patient, site or other group that the splits keep together; "
        'empty: found by its usual names; "": not used',
    )
    root: str | None = Field(
        None, description="folder of the images; empty: the folder of the table"
    )
