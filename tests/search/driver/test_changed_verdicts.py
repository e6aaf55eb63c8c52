"""A resumed search says where the border screen judges otherwise than before."""

from __future__ import annotations

from collections.abc import Callable

from optuna.distributions import IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.driver.changed_verdicts import changed_verdicts
from search.experiment.sections import ScreensSection
from search.loop.screens import build_screens
from spaces.candidate import CandidateSpace
from spaces.vgg import vgg

Spaces = Callable[..., CandidateSpace]
SCREENS = build_screens(ScreensSection())


def stored(depth: int, rejected: str = "") -> FrozenTrial:
    """Return a trial of a network that the border screen accepts up to a depth of 4."""
    return create_trial(
        state=TrialState.PRUNED if rejected else TrialState.COMPLETE,
        value=None if rejected else 0.5,
        params={"depth": depth},
        distributions={"depth": IntDistribution(1, 9)},
        user_attrs={"rejected": rejected} if rejected else {},
    )


def line(function_space: Spaces, *trials: FrozenTrial) -> str:
    space = function_space(
        lambda trial, task: vgg(
            trial, task, depth=trial.suggest_int("depth", 1, 9), features=4, kernel=3, pools=0
        )
    )
    return changed_verdicts(trials, space, SCREENS)


def test_nothing_is_said_if_all_verdicts_stand(function_space: Spaces) -> None:
    assert line(function_space, stored(1), stored(9, "border"), stored(1, "duplicate")) == ""
    assert line(function_space) == ""


def test_both_kinds_of_changed_verdicts_are_counted(function_space: Spaces) -> None:
    found = line(function_space, stored(1, "border"), stored(9, "border"), stored(9), stored(1))
    assert found == (
        "The border screen of this version accepts 1 of 2 rejected candidates and rejects 1 of 2 "
        "trained candidates that an earlier version judged otherwise; stored trials stay, and "
        "further candidates follow the present rules."
    )


def test_candidates_that_the_space_no_longer_draws_are_left_out(function_space: Spaces) -> None:
    gone = stored(1, "border")
    gone.params = {"width": 3}
    gone.distributions = {"width": IntDistribution(1, 9)}
    assert line(function_space, gone) == ""
