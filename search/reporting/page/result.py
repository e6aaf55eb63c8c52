"""The first two sentences of a page: what was found, and how sure that is."""

from __future__ import annotations

from search.formatting import plural
from search.reporting.gathering import Gathered
from search.reporting.intervals import ties_with_first, wilson
from search.reporting.standing import GUESS, REGRESSION
from search.study.finalist_ties import tied_with_first
from search.study.finalists import Finalist

_TEST = 2
_STATES = {
    "running": "The search is running.",
    "failed": "The search failed, and can be resumed.",
    "interrupted": "The search was interrupted, and can be resumed.",
}


def lead(gathered: Gathered) -> list[str]:
    """Return two sentences on the result; a third tells why the search has not finished."""
    state = [_STATES[gathered.state]] if gathered.state in _STATES else []
    if gathered.finalists:
        return [_found(gathered, gathered.finalists[0]), _sure(gathered), *state]
    best = gathered.summary.best
    if best is None:
        trained = plural(gathered.summary.trained, "trained candidate")
        rejected = plural(gathered.summary.rejected, "rejected candidate")
        return [f"No result yet: no trial is complete ({trained}, {rejected}).", *state]
    found = (
        f"Best so far: trial {best.number} with validation accuracy {best.accuracy:.4f}, of "
        f"{plural(gathered.summary.trained, 'trained candidate')}."
    )
    data = gathered.data
    if data is None:
        return [found, "No finalist is retrained, so the test accuracy is unknown.", *state]
    accuracies = [
        record.accuracy or 0.0
        for record in gathered.summary.leaderboard[: gathered.summary.complete]
    ]
    ties = ties_with_first(accuracies, data.validation_images)
    interval = wilson(best.accuracy or 0.0, data.validation_images)
    among = (
        f"; {plural(ties, 'candidate')} are within chance of each other there" if ties > 1 else ""
    )
    sure = (
        f"That is the maximum of many scores on {data.validation_images:,} validation images (95% "
        f"interval {interval}){among}, so the test accuracy of retrained finalists is likely lower."
    )
    return [found, sure, *state]


def _found(gathered: Gathered, winner: Finalist) -> str:
    record = gathered.by_number[winner.number]
    seeds = len(winner.results)
    size = "" if record.param_count is None else f", {record.param_count:,} parameters,"
    mean, deviation = winner.test_accuracy
    spread = f" ± {deviation:.4f}" if seeds > 1 else ""
    return (
        f"Trial {winner.number}{size} wins with test accuracy {mean:.4f}{spread} "
        f"({plural(seeds, 'fresh seed')}), the best of "
        f"{plural(gathered.summary.trained, 'trained candidate')}."
    )


def _sure(gathered: Gathered) -> str:
    parts = []
    winner = gathered.finalists[0]
    if (data := gathered.data) is not None:
        images = data.split_images(_TEST)
        interval = wilson(winner.test_accuracy[0], images)
        parts.append(f"the 95% interval for {images:,} test images is {interval}")
    ties = tied_with_first(gathered.behind)
    rivals = len(gathered.finalists) - 1
    if ties:
        numbers = ", ".join(map(str, ties))
        noun = "finalist" if len(ties) == 1 else "finalists"
        parts.append(f"chance explains its lead over {noun} {numbers}")
    elif rivals and len(gathered.behind) == rivals:
        parts.append("it leads the other finalists by more than chance")
    parts += _against(gathered)
    text = "; ".join(parts) or "no interval is known, because the data were not recorded"
    return f"{text[0].upper()}{text[1:]}."


def _against(gathered: Gathered) -> list[str]:
    standing = gathered.standing
    if standing is None:
        return []
    known = {GUESS: standing.baseline.guess_test, REGRESSION: standing.baseline.test}
    said = [f"{name} ({accuracy:.4f})" for name, accuracy in known.items()]
    if not standing.comparisons:
        return [f"the baselines are {' and '.join(said)}"]
    if not standing.unbeaten:
        return [f"it exceeds {' and '.join(said)} by more than chance"]
    rivals = " or ".join(f"{name} ({known[name]:.4f})" for name in standing.unbeaten)
    return [f"it does not exceed {rivals} by more than chance"]
