"""Restoring the experiment of a search from its snapshot."""

from __future__ import annotations

import pytest

from search.backup.restore import with_storage
from spaces.errors import BadInputError


def test_restored_experiment_names_its_storage() -> None:
    assert with_storage(b"name: a\nstorage: s3://old/x\n", "s3://new/x") == (
        "name: a\nstorage: s3://new/x\n"
    )


@pytest.mark.parametrize("content", [b"", b"\xff", b"name: [", b"- 1\n"])
def test_damaged_snapshot_of_an_experiment_is_refused(content: bytes) -> None:
    with pytest.raises(BadInputError, match=r"experiment\.yaml is damaged"):
        with_storage(content, "s3://bucket/x")
