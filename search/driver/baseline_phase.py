"""The last phase of a search: train the named baselines as the winner was retrained."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial

from search.backend.node_wait import NodeWait
from search.backend.tuning import nodes_waited_for
from search.driver.additional_training import train_additional
from search.driver.session import SearchSession
from search.experiment.training_spec import describe_training
from search.formatting import plural
from search.loop.baseline_networks import as_baseline, recipe_of
from search.signals import stopping_gently
from search.study.additional import AdditionalFinalist, AdditionalStore
from search.study.finalists import Finalist


def train_baselines(search: SearchSession, winner: Finalist) -> None:
    """Train each baseline of the experiment with the recipe and the seeds of the winner.

    Finished trainings stay, unless the recipe of the winner differs from theirs.

    Args:
        search: whose finalists are retrained.
        winner: the best of them.
    """
    wait = NodeWait(
        search.experiment.resources.wait, search.say, partial(nodes_waited_for, search.packing)
    )
    with stopping_gently(search.stop_requested.set):
        for name in search.experiment.baselines:
            if search.stop_requested.is_set():
                return
            search.clock.begin_baseline()
            _train(search, name, winner, wait)
            search.clock.end_baseline()


def _train(search: SearchSession, name: str, winner: Finalist, wait: NodeWait) -> None:
    experiment = as_baseline(search.experiment, name)
    described = describe_training(experiment, search.folder.task)
    params = recipe_of(search.study.trial(winner.number).params)
    candidate = described.candidates().rebuild(params)
    network = AdditionalFinalist(
        key=name,
        kind="baseline",
        number=winner.number,
        params=params,
        digest=candidate.digest,
        seeds=tuple(result.seed for result in winner.results),
        param_count=candidate.costs.params,
        macs=candidate.costs.macs,
    )
    store = AdditionalStore(search.folder.additional / name)
    stored = store.read()
    if stored is not None and stored.digest == network.digest:
        network = replace(network, number=stored.number)
    elif stored is not None:
        search.say(
            f"baseline {name} was trained with another recipe than that of trial "
            f"{winner.number}, and is trained again"
        )
        shutil.rmtree(store.path)
    missing = len(network.seeds) - len(store.results(network))
    if stored != network:
        store.write(network, experiment.to_yaml())
    if not missing:
        return
    search.say(
        f"\ntraining the baseline {name} with the recipe of trial {winner.number} and "
        f"{plural(len(network.seeds), 'seed')}"
    )
    spec = replace(
        search.spec,
        space=described.space,
        space_options=described.space_options,
        truncation=None,
        checkpoints=None,
    )
    train_additional(
        *(network, store, spec, search.packing, wait, search.say),
        stopped=search.stop_requested.is_set,
    )
