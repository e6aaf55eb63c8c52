"""The second phase of a search: retrain the best candidates with fresh seeds."""

from __future__ import annotations

from functools import partial

from search.backend.finalist_training import retrain_finalists
from search.backend.node_wait import NodeWait
from search.backend.tuning import nodes_waited_for
from search.driver.session import SearchSession
from search.signals import stopping_gently
from search.study.finalists import Finalist, choose_finalists
from search.study.summary import summarise
from trainables.specs import FinalistResult


def retrain_best(search: SearchSession) -> list[Finalist]:
    """Retrain the best candidates.

    Returns:
        Finalists, best first; none if the search is interrupted meanwhile.
    """
    section = search.experiment.finalists
    best = choose_finalists(summarise(search.study.trials()), section.count)
    if not best:
        return []
    search.journal.retrain()

    def announce() -> None:
        what = "candidate" if len(best) == 1 else f"{len(best)} candidates"
        how = "one fresh seed" if section.seeds == 1 else f"{section.seeds} fresh seeds"
        search.say(f"\nretraining the best {what} with {how}{' each' if len(best) > 1 else ''}")

    def show(result: FinalistResult) -> None:
        search.say(
            f"  trial {result.number:<4} seed {result.seed}  validation "
            f"{result.validation_accuracy:.4f}  test {result.test_accuracy:.4f}"
        )

    with stopping_gently(search.stop_requested.set):
        finalists = retrain_finalists(
            search.spec,
            best,
            seeds=section.seeds,
            first_seed=search.experiment.seed + 1,
            folder=search.folder.finalists,
            packing=search.packing,
            wait=NodeWait(
                search.experiment.resources.wait,
                search.say,
                partial(nodes_waited_for, search.packing),
            ),
            on_begin=announce,
            on_result=show,
            on_failure=lambda cause: search.say(f"  failed to retrain: {cause}"),
            stopped=search.stop_requested.is_set,
        )
    if search.stop_requested.is_set():
        return []
    for finalist in finalists:
        params = search.study.trial(finalist.number).params
        search.recorder.finalist(finalist, search.space.rebuild(params).architecture)
    return finalists
