"""The end of a search after an error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast
from unittest.mock import MagicMock

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.driver import closing
from search.driver.session import SearchSession
from search.experiment.folder import SearchFolder
from search.reporting.gathering import Gathered


def close(folder: Path, error: BaseException, trials: Sequence[FrozenTrial] = ()) -> str:
    """Close a search whose page is that of a running one; return its page."""
    search = MagicMock()
    search.folder = SearchFolder(folder)
    search.study.trials.return_value = trials
    search.folder.report.write_text("running")
    closing.close_after(cast(SearchSession, search), error)
    return search.folder.report.read_text()


@pytest.mark.parametrize(
    ("error", "state"), [(ValueError(), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_page_after_an_error_no_longer_says_running(
    error: BaseException, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def page(gathered: Gathered) -> str:
        return f"{gathered.state}, {gathered.summary.running} running"

    monkeypatch.setattr(closing, "search_page", page)
    trial = create_trial(state=TrialState.RUNNING)
    assert close(tmp_path, error, [trial]) == f"{state}, 0 running"
    assert trial.state is TrialState.RUNNING


def test_error_of_the_page_does_not_hide_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def page(gathered: Any) -> str:
        raise TypeError("no page")

    monkeypatch.setattr(closing, "search_page", page)
    assert close(tmp_path, ValueError()) == "running"
