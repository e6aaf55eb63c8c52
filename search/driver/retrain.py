"""The command `retrain`: a trial trained longer or otherwise, as a finalist of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from rich.console import Console

from cluster.storage import below
from search.backend.connection import connected
from search.backend.node_wait import NodeWait, NoNodesError
from search.backend.tuning import nodes_waited_for, plan_packing
from search.console import say
from search.driver.additional_training import train_additional
from search.driver.new_search import new_search
from search.driver.outcome import SearchFailedError
from search.experiment.folder import Home
from search.experiment.length import Length
from search.experiment.loading import load_experiment
from search.experiment.schema import Experiment
from search.experiment.training_length import with_whole_epochs
from search.experiment.training_spec import describe_training
from search.formatting import plural
from search.reporting.additional_results import METHOD, describe_additional, read_additional
from search.reporting.trained_networks import SearchNetworks
from search.signals import stopping_gently
from search.study.additional import LABEL, AdditionalFinalist, AdditionalStore
from search.study.file_lock import hold
from search.study.finalists import FinalistStore
from search.study.probes import CHAMPION
from spaces.errors import BadInputError

TRAINING = ("epochs", "augmentation", "balance", "recipe", "test_time_flip", "compile")
"""Fields that a retraining may change, and that its name tells."""
EXECUTION = ("device", "resources", "finalists", "failures")
"""Fields that it may change, too, but that do not make it another training."""
_LONGEST = 60
_SAME = "as-searched"


@dataclass(frozen=True)
class RetrainRequest:
    """What the user asks for.

    Attributes:
        reference: NAME:TRIAL, or NAME:KEY of an additional finalist.
        epochs: as for the field `epochs`; None for those of the search.
        changes: overrides of the experiment, ``key=value``.
        from_weights: whether the trainings start from the weights of the network.
        label: of the retraining; None for one that names the changes.
        seeds: number of seeds; None for as many as each finalist has.
    """

    reference: str
    epochs: str | None = None
    changes: Sequence[str] = ()
    from_weights: bool = False
    label: str | None = None
    seeds: int | None = None


@dataclass(frozen=True)
class RetrainOutcome:
    """How the command ended.

    Attributes:
        key: name of the retraining within the search.
        interrupted: whether it was stopped before its last epoch.
    """

    key: str
    interrupted: bool


@dataclass(frozen=True)
class Plan:
    """A retraining before anything is written.

    Attributes:
        network: how it is trained.
        experiment: of the search with the changes.
        store: where its results are stored.
        sources: by seed, the file of the weights that it starts from; empty for initial weights.
    """

    network: AdditionalFinalist
    experiment: Experiment
    store: AdditionalStore
    sources: Mapping[int, Path]


def plan_retraining(networks: SearchNetworks, request: RetrainRequest) -> Plan:
    """Return how a trial is retrained.

    Args:
        networks: of the search, for the network that is retrained.
        request: of the user.

    Raises:
        BadInputError: the network cannot be retrained so.
    """
    search = networks.stored.experiment
    base = networks.additional
    if base is not None and base.kind == "baseline":
        problem = f"{base.key} is a baseline, which trains as the finalists do"
        raise BadInputError("NAME:TRIAL", request.reference, problem, "name a trial")
    if ":" not in request.reference or request.reference.endswith(f":{CHAMPION}"):
        remedy = f"write {networks.name}:TRIAL, such as {networks.name}:{networks.trial.number}"
        raise BadInputError("NAME:TRIAL", request.reference, "does not name a trial", remedy)
    experiment = _changed(networks, request)
    changes = tuple(_differences(search, experiment))
    network = networks.trial if base is None else base
    candidate = describe_training(experiment, networks.folder.task).candidates()
    rebuilt = candidate.rebuild(network.params)
    # The recipe may differ, the network may not.
    if rebuilt.architecture.digest != networks.architecture.digest:
        problem = "draws another network from the parameters of the trial than the search did"
        raise BadInputError("space", experiment.space.name, problem, "restore the space")
    seeds, sources = _seeds(networks, request, experiment)
    weights = request.reference.partition(":")[2] if request.from_weights else ""
    label = request.label or _label(changes, weights)
    key = f"{network.number}{LABEL}{label}"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", label) or len(label) > _LONGEST:
        problem = f"is no label of at most {_LONGEST} letters, digits, dots, dashes and underscores"
        raise BadInputError("--as", label, problem, "give a short one, such as --as longer")
    return Plan(
        AdditionalFinalist(
            key=key,
            kind="retrained",
            number=network.number,
            params=dict(network.params),
            digest=rebuilt.digest,
            seeds=seeds,
            changes=changes,
            weights=weights,
            param_count=rebuilt.costs.params,
            macs=rebuilt.costs.macs,
        ),
        experiment,
        AdditionalStore(networks.folder.additional / key),
        sources,
    )


def retrain_trial(
    request: RetrainRequest, home: Home, console: Console, address: str
) -> RetrainOutcome:
    """Retrain a trial, or continue its retraining, and compare it with the trial.

    Args:
        request: of the user.
        home: folder of all searches.
        console: shows progress and result.
        address: of the Ray cluster; ``local`` starts a private one on this machine.

    Raises:
        BadInputError: the network cannot be retrained so.
        SearchFailedError: a training failed, or no node for it became available.
    """
    networks = SearchNetworks(home, request.reference, console)
    plan = plan_retraining(networks, request)
    store, network = plan.store, plan.network
    stored = store.read()
    _check_same(stored, network)
    dataset = networks.dataset
    _say_start(console, networks, plan, done=len(store.results(network)))
    store.path.mkdir(parents=True, exist_ok=True)
    name = f"{networks.name}:{network.key}"
    stop = Event()
    tell = partial(say, console)
    with hold(store.lock, name):
        store.write(network, plan.experiment.to_yaml(dataset.shape[:2]))
        weights = {seed: path.read_bytes() for seed, path in plan.sources.items()}
        with connected(address):
            packing = plan_packing(plan.experiment, dataset.images.nbytes, tell)
            spec = describe_training(plan.experiment, networks.folder.task)
            data = dataset.identify(plan.experiment.decoding)
            is_on_cpu = plan.experiment.device == "auto" and not packing.on_gpus
            spec = replace(
                spec,
                data=replace(spec.data, version=dataset.version, expected=data),
                threads=packing.cpus,
                device="cpu" if is_on_cpu else spec.device,
                checkpoints=_checkpoints(networks, store),
            )
            wait = NodeWait(
                plan.experiment.resources.wait, tell, partial(nodes_waited_for, packing)
            )
            with stopping_gently(stop.set):
                try:
                    failed = train_additional(
                        *(network, store, spec, packing, wait, tell),
                        weights=weights,
                        stopped=stop.is_set,
                    )
                except NoNodesError as error:
                    problem = f"{error}. Once nodes are available, run the command again"
                    raise SearchFailedError(problem) from error
    if stop.is_set():
        say(console, "Interrupted; nothing is lost. To continue, run the command again.")
        return RetrainOutcome(network.key, interrupted=True)
    _show_result(networks, network, console)
    if failed:
        raise SearchFailedError(
            f"{plural(len(failed), 'training')} of {name} failed; fix the cause, then run the "
            "command again"
        )
    return RetrainOutcome(network.key, interrupted=False)


def _changed(networks: SearchNetworks, request: RetrainRequest) -> Experiment:
    """Return the experiment with the changes, and whole epochs.

    Raises:
        BadInputError: a change is invalid, or would train another network or other images.
    """
    folder, base = networks.folder, networks.additional
    path = folder.experiment
    if base is not None:
        path = AdditionalStore(folder.additional / base.key).experiment
    # Finalists do not stop as hopeless, so this limits no length.
    overrides = ["scheduler.hopeless_after=", *request.changes]
    if request.epochs is not None:
        overrides.append(f"epochs={request.epochs}")
    if request.seeds is not None:
        most = "finalists.max_seeds="
        overrides += [most, f"finalists.seeds={request.seeds}"]
    experiment = load_experiment(path, overrides)
    before = networks.experiment.model_dump(mode="json")
    before["scheduler"]["hopeless_after"] = None
    for field, value in experiment.model_dump(mode="json").items():
        if field in (*TRAINING, *EXECUTION) or value == before[field]:
            continue
        problem = "is no setting of a training"
        remedy = f"start a new search: {new_search(folder, experiment, [field])}"
        raise BadInputError(field, value, problem, remedy)
    if not isinstance(experiment.epochs, Length):
        return experiment
    return with_whole_epochs(experiment, networks.dataset.training_images)[0]


def _differences(before: Experiment, after: Experiment) -> Iterator[str]:
    """Yield the settings of the training that differ, such as ``epochs: 10 -> 200``."""
    old, new = (each.model_dump(mode="json", include=set(TRAINING)) for each in (before, after))
    for field in TRAINING:
        if isinstance(new[field], dict):
            names = dict.fromkeys([*old[field], *new[field]])
            pairs = {f"{field}.{n}": (old[field].get(n), new[field].get(n)) for n in names}
        else:
            pairs = {field: (old[field], new[field])}
        for name, (one, other) in pairs.items():
            if one != other:
                yield f"{name}: {_shown(one)} -> {_shown(other)}"


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


def _label(changes: Sequence[str], weights: str) -> str:
    """Return a label that names the changes: ``epochs-200_flip-random``."""
    parts = []
    for change in changes:
        name, _, values = change.partition(": ")
        value = values.rpartition(" -> ")[2]
        parts.append(
            re.sub(r"[^A-Za-z0-9.]+", "-", f"{name.rpartition('.')[2]} {value}").strip("-")
        )
    if weights:
        parts.append("from-weights")
    label = "_".join(parts) or _SAME
    if len(label) > _LONGEST:
        problem = "the changes are too many to name"
        raise BadInputError("--as", label, problem, "give a label, such as --as longer")
    return label


def _seeds(
    networks: SearchNetworks, request: RetrainRequest, experiment: Experiment
) -> tuple[tuple[int, ...], dict[int, Path]]:
    """Return the seeds, and the file of the weights that each starts from.

    Raises:
        BadInputError: there are no weights to start from.
    """
    first = experiment.seed + 1
    seeds = tuple(range(first, first + experiment.finalists.seeds))
    if not request.from_weights:
        return seeds, {}
    # Each seed starts from its own weights: with folds, others have seen its validation images.
    known = [result.seed for result in networks.results]
    if not known:
        problem = f"{networks.title} has no stored weights, because it is no finalist"
        remedy = f"leave it out, or first run: retrain {request.reference}"
        raise BadInputError("--from-weights", request.reference, problem, remedy)
    if request.seeds is not None and request.seeds > len(known):
        problem = f"only {plural(len(known), 'seed')} of {networks.title} have weights"
        raise BadInputError("--seeds", request.seeds, problem, f"use at most {len(known)}")
    chosen = tuple(known[: request.seeds or len(known)])
    number = networks.results[0].number
    folder = networks.folder.finalists
    if networks.additional is not None:
        folder = networks.folder.additional / networks.additional.key
    store = FinalistStore(folder)
    return chosen, {seed: store.weights(number, seed) for seed in chosen}


def _check_same(stored: AdditionalFinalist | None, network: AdditionalFinalist) -> None:
    """Check that a retraining of that name is the same, with no fewer seeds.

    Raises:
        BadInputError: it is another one.
    """
    if stored is None:
        return
    if replace(stored, seeds=network.seeds) != network:
        problem = f"exists, and is another training: {stored.title}"
        raise BadInputError("--as", network.key, problem, "give another label with --as")
    if not set(stored.seeds) <= set(network.seeds):
        problem = f"{network.key} has {plural(len(stored.seeds), 'seed')} already"
        remedy = f"use {len(stored.seeds)} or more, or another label with --as"
        raise BadInputError("--seeds", len(network.seeds), problem, remedy)


def _checkpoints(networks: SearchNetworks, store: AdditionalStore) -> Path | str:
    storage = networks.experiment.storage
    if storage is None:
        return store.checkpoints
    return below(storage, networks.name, "additional-checkpoints", store.path.name)


def _say_start(console: Console, networks: SearchNetworks, plan: Plan, done: int) -> None:
    network = plan.network
    seeds = plural(len(network.seeds), "seed")
    known = f"; {plural(done, 'seed')} done already" if done else ""
    say(
        console,
        f"{network.title} of {networks.name}, with {seeds} of "
        f"{plural(plan.experiment.whole_epochs, 'epoch')} each{known}; "
        f"stored as {networks.name}:{network.key}",
    )


def _show_result(networks: SearchNetworks, network: AdditionalFinalist, console: Console) -> None:
    for result in read_additional(networks.folder, networks.stored.finalists):
        if result.network.key == network.key:
            say(console, f"\n{describe_additional(result)}")
            if result.comparison is not None:
                say(console, METHOD)
            if result.finalist is not None:
                reference = f"{networks.name}:{network.key}"
                say(console, f"Use it: {networks.home.export_command(reference)}")
