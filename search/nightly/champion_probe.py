"""The command `probe NAME:champion`: probes the champion of a search's nights."""

from __future__ import annotations

import json

from rich.console import Console

from search.experiment.folder import Home
from search.reporting.probe import ProbeRequest, SearchProbing, show_progress
from search.study.probes import CHAMPION
from search.tracking.journal_events import PARENT
from search.tracking.mlflow_destination import Destination
from spaces.architecture import Architecture
from spaces.errors import BadInputError


def is_champion(network: str) -> bool:
    """Tell whether the user names the champion of a search."""
    return network.endswith(f":{CHAMPION}")


def probe_champion(request: ProbeRequest, home: Home, console: Console) -> None:
    """Probe the champion with the weights of its first seed.

    Raises:
        BadInputError: there is no such search or champion, MLflow is unavailable, or the images
            are not those on which the champion was judged.
    """
    from search.nightly.challenge import describe, refuse_other_data
    from search.nightly.champions import ChampionStore
    from search.nightly.identity import identify
    from search.tracking.mlflow_errors import UnavailableError
    from trainables.probes.trained import probe_stored

    name = request.network.removesuffix(f":{CHAMPION}")
    probing = SearchProbing(request, home, name, console)
    experiment = probing.stored.experiment
    model = experiment.nightly.model or experiment.name
    destination = Destination.from_environment(home.path, experiment.tracking.experiment)
    try:
        store = ChampionStore(destination, model)
        champion = store.current()
        if champion is None:
            problem = f"the model {model} has no champion at {destination.shown}"
            remedy = f"run a night first, or name a trial as {name}:TRIAL"
            raise BadInputError("NETWORK", request.network, problem, remedy)
        seed = champion.contender.results[0].seed
        candidate, weights = store.network(champion, seed)
    except UnavailableError as error:
        problem = f"MLflow at {destination.shown} is unavailable ({error})"
        raise BadInputError("NETWORK", request.network, problem, "try again later") from None
    dataset = probing.dataset()
    refuse_other_data(model, champion, identify(dataset))
    found = probe_stored(
        Architecture.from_json(json.dumps(json.loads(candidate)["architecture"])),
        weights,
        dataset.finalist_part(seed),
        probing.settings("test"),
        probing.spec.device,
        title=f"champion {describe(champion)}",
        weights=f"champion with seed {seed}",
        progress=show_progress,
    )
    probing.finish(found, CHAMPION, PARENT)
