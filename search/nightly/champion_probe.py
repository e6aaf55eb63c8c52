"""The champion of a search's nights: its networks, and their probes."""

from __future__ import annotations

import json

from rich.console import Console

from search.experiment.folder import Home
from search.reporting.probe import ProbeRequest, SearchProbing
from search.reporting.trained_networks import Choice, SearchNetworks, TrainedNetwork, first_seed
from search.study.probes import CHAMPION
from search.tracking.journal_events import PARENT
from search.tracking.mlflow_destination import Destination
from spaces.architecture import Architecture
from spaces.errors import BadInputError


def is_champion(network: str) -> bool:
    """Tell whether the user names the champion of a search."""
    return network.endswith(f":{CHAMPION}")


def load_champion(networks: SearchNetworks, choose: Choice = first_seed) -> list[TrainedNetwork]:
    """Load networks of the champion from MLflow.

    Args:
        networks: of the search whose nights promoted it.
        choose: its trainings.

    Raises:
        BadInputError: there is no champion, MLflow is unavailable, or the images are not those on
            which the champion was judged.
    """
    from search.nightly.challenge import describe, refuse_other_data
    from search.nightly.champions import ChampionStore
    from search.nightly.identity import identify
    from search.tracking.mlflow_errors import UnavailableError

    experiment = networks.stored.experiment
    model = experiment.nightly.model or experiment.name
    destination = Destination.of_search(networks.folder, experiment.tracking.experiment)
    try:
        store = ChampionStore(destination, model)
        champion = store.current()
        if champion is None:
            problem = f"the model {model} has no champion at {destination.shown}"
            remedy = f"run a night first, or name a trial as {networks.name}:TRIAL"
            raise BadInputError("NETWORK", networks.reference, problem, remedy)
        chosen = choose(champion.contender.results)
        stored = [(result, *store.network(champion, result.seed)) for result in chosen]
    except UnavailableError as error:
        problem = f"MLflow at {destination.shown} is unavailable ({error})"
        raise BadInputError("NETWORK", networks.reference, problem, "try again later") from None
    refuse_other_data(model, champion, identify(networks.dataset))
    return [
        networks.restored(
            Architecture.from_json(json.dumps(json.loads(candidate)["architecture"])),
            weights,
            result.seed,
            champion.contender.results,
            f"champion {describe(champion)}",
            "champion",
        )
        for result, candidate, weights in stored
    ]


def load_named(networks: SearchNetworks, choose: Choice = first_seed) -> list[TrainedNetwork]:
    """Load the networks that the user names: of a champion, a finalist or another trial.

    Raises:
        BadInputError: see `load_champion` and `SearchNetworks.load`.
    """
    if is_champion(networks.reference):
        return load_champion(networks, choose)
    return networks.load(choose)


def probe_champion(request: ProbeRequest, home: Home, console: Console) -> None:
    """Probe the champion with the weights of its first seed.

    Raises:
        BadInputError: see `load_champion`, or there is no such search.
    """
    probing = SearchProbing(request, home, console)
    probing.finish(probing.probe(load_champion(probing.networks)[0]), CHAMPION, PARENT)
