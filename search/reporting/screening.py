"""The command `screen`: how the screens judge a space, without training."""

from __future__ import annotations

from collections import Counter

from optuna.samplers import RandomSampler
from rich.console import Console
from rich.table import Table

from search.experiment.defaults import complete
from search.experiment.schema import Experiment
from search.experiment.training_spec import (
    describe_task,
    describe_training,
    load_images,
)
from search.loop.screens import build_screens, judge, reject_invalid
from search.study.records import Rejection
from search.study.study import Study
from spaces.errors import InvalidCandidateError


def screen_space(experiment: Experiment, draws: int, console: Console) -> None:
    """Draw candidates at random and print how the screens judge them."""
    dataset = load_images(experiment, console)
    experiment, _ = complete(experiment, dataset.training_images, min(dataset.shape[:2]))
    space = describe_training(experiment, describe_task(dataset)).candidates()
    screens = build_screens(experiment.screens)
    study = Study("screen", RandomSampler(seed=experiment.seed))
    reasons: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for _ in range(draws):
        rejection: Rejection | None
        try:
            candidate = space.draw(study.ask())
        except InvalidCandidateError as error:
            rejection = reject_invalid(error)
        else:
            space.check_output(candidate)
            rejection = judge(candidate, screens)
            truncated = candidate.truncated
            if rejection is None and truncated is not None:
                reasons["truncated"] += 1
                examples.setdefault("truncated", f"accepted with {truncated}")
                continue
        reason = "accepted" if rejection is None else rejection.reason
        reasons[reason] += 1
        if rejection is not None:
            examples.setdefault(reason, rejection.detail)
    table = Table(box=None, header_style="dim")
    for column in ("result", "candidates", "fraction", "example"):
        table.add_column(column)
    for reason, count in reasons.most_common():
        table.add_row(reason, str(count), f"{count / draws:.1%}", examples.get(reason, ""))
    console.print(
        f"{draws} random candidates of {space.name}, none trained", highlight=False, markup=False
    )
    console.print(table, highlight=False)
