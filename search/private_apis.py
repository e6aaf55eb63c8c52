"""The parts of Ray and Optuna that this project uses although they are not public.

Each function names the version it was checked with and why no public part will do. Check all of
them when `constraints.txt` moves to another version. Imports are inside the functions, so that
commands that only read load neither Ray nor Optuna's storages.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial


# Ray

_SERVICES = ("start_api_server", "start_monitor", "start_log_monitor")
"""Methods of Ray's node that start the processes of a cluster."""


@contextmanager
def ray_on_loopback() -> Iterator[None]:
    """Make a Ray that starts inside the block listen to this machine alone.

    Checked with Ray 2.60.0: it does so only where it does not support clusters (on Macs). Elsewhere
    it listens on every interface, and replaces the address 127.0.0.1 by that of the machine.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def ray_without_services() -> Iterator[None]:
    """Make a Ray that starts inside the block leave out the processes that serve a cluster.

    Checked with Ray 2.60.0: it always starts an API server, an autoscaler and a log monitor, which
    take 1.5 s and 250 MB. A private Ray has no dashboard, never grows, and prints no logs of its
    workers. No setting leaves these processes out.
    """
    from ray._private.node import Node

    before = {name: getattr(Node, name) for name in _SERVICES}
    for name in before:
        setattr(Node, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for name, start in before.items():
            setattr(Node, name, start)


@contextmanager
def ray_start_timeout(seconds: float, pause: float = 0.5) -> Iterator[None]:
    """Make a Ray that starts inside the block wait this many seconds for its node.

    Checked with Ray 2.60.0: it waits 30 seconds and no setting changes that, but a machine on which
    dozens of processes compute takes longer.

    Args:
        seconds: to wait.
        pause: seconds between two tries.
    """
    from ray._private import services

    before = services.get_node
    end = time.monotonic() + seconds

    def get_node(*arguments: Any) -> Any:
        while True:
            try:
                return before(*arguments)  # type: ignore[no-untyped-call]
            except RuntimeError:
                if time.monotonic() >= end:
                    raise
            time.sleep(pause)

    services.get_node = get_node
    try:
        yield
    finally:
        services.get_node = before


def job_with_path(folders: Sequence[str]) -> Any:
    """Return the configuration of a job whose workers import from these folders.

    Checked with Ray 2.60.0: it would put the driver's current folder before all other modules, so
    that a file such as ``cluster.py`` or ``random.py`` there would replace the module of that name
    in every worker. Workers import users' modules with `spaces.user_code`.
    """
    from ray.job_config import JobConfig

    class Job(JobConfig):
        def _serialize(self) -> Any:
            self._py_driver_sys_path = list(folders)
            return super()._serialize()

    return Job()


def withhold_credentials() -> None:
    """Stop Ray Tune from passing S3 credentials of the driver to its trials.

    Checked with Ray 2.60.0: it would put them into the command of each trial's process, which every
    user of the node can read, and which Ray logs. No setting prevents it. Trials find credentials
    on their own nodes.
    """
    from ray.tune.execution import class_cache

    names = class_cache.ENV_VARS_TO_PROPAGATE
    names -= {name for name in names if name.startswith("AWS_")}


@contextmanager
def without_usage_tags() -> Iterator[None]:
    """Stop Ray Tune from counting the kinds of its callbacks inside the block.

    Checked with Ray 2.60.0: to count them it imports MLflow, which takes 0.7 s, even if usage
    statistics are disabled.
    """
    from ray.air._internal import usage

    count = usage.tag_callbacks
    usage.tag_callbacks = lambda callbacks: False
    try:
        yield
    finally:
        usage.tag_callbacks = count


def silent_progress() -> Any:
    """Return a callback that takes the place of Ray Tune's own progress output.

    Checked with Ray 2.60.0: some of its lines appear even with ``verbose=0``. Tune adds none of its
    own if it is given one of this class.
    """
    from ray.tune.progress_reporter import TrialProgressCallback

    class SilentProgress(TrialProgressCallback):
        def _print(self, msg: str) -> None:
            """Print nothing."""

    return SilentProgress()


def unstage_trial(controller: Any, trial: Any) -> None:
    """Make Ray Tune release the resources that it reserved for a trial that never starts.

    Checked with Ray 2.60.0: ``stop_trial`` forgets to, and processes of ended trials would be kept
    for the reservation without being closed.
    """
    if trial in controller._staged_trials:
        controller._unstage_trial_with_resources(trial)


def searcher_state(searcher: Any) -> dict[str, Any]:
    """Return the state of a ``Searcher`` of Ray Tune without that of its subclass.

    Checked with Ray 2.60.0: the base class has no method that returns it.
    """
    return {"_metric": searcher._metric, "_mode": searcher._mode}


# Optuna


def trial_id(trial: optuna.Trial | FrozenTrial) -> int:
    """Return the key of a trial in its storage.

    Checked with Optuna 5.0.0: storages take it, and look-ups by number would cost a query each.
    """
    return trial._trial_id


def study_id(study: optuna.Study) -> int:
    """Return the key of a study in its storage.

    Checked with Optuna 5.0.0: storages take it, and only they return it publicly, by name.
    """
    return study._study_id


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Tell whether a distribution could have drawn a value.

    Checked with Optuna 5.0.0: `optuna.trial.FixedTrial` accepts any value.
    """
    return distribution._contains(distribution.to_internal_repr(value))


@cache
def one_writer_storage() -> type[RDBStorage]:
    """Return Optuna's storage without the two queries that it makes before it writes a parameter.

    Checked with Optuna 5.0.0: the queries guard against other writers of the same trial and against
    a parameter that changes its kind. One driver writes at a time, and the study in memory refuses
    the latter. They take most of the time of a trial. If Optuna renames the method, its own way is
    taken instead.
    """
    from optuna.distributions import distribution_to_json
    from optuna.storages import RDBStorage
    from optuna.storages._rdb import models

    class OneWriterStorage(RDBStorage):
        def _set_trial_param_without_commit(
            self,
            session: Any,
            trial_id: int,
            param_name: str,
            param_value_internal: float,
            distribution: BaseDistribution,
            previous_distribution: BaseDistribution | None = None,
        ) -> None:
            session.add(
                models.TrialParamModel(
                    trial_id=trial_id,
                    param_name=param_name,
                    param_value=param_value_internal,
                    distribution_json=distribution_to_json(distribution),
                )
            )

    return OneWriterStorage


@cache
def server_storage() -> type[RDBStorage]:
    """Return the storage for a server, which enters a trial once even if it is asked twice.

    Checked with Optuna 5.0.0: the answer to a write may get lost with a connection, and Optuna
    offers no way to repeat the write safely.
    """
    from optuna.storages._rdb import models

    class ServerStorage(one_writer_storage()):  # type: ignore[misc]
        def _get_prepared_new_trial(
            self, study_id: int, template_trial: FrozenTrial | None, session: Any
        ) -> models.TrialModel:
            if template_trial is not None:
                found: models.TrialModel | None = (
                    session.query(models.TrialModel)
                    .filter_by(study_id=study_id, number=template_trial.number)
                    .one_or_none()
                )
                if found is not None:
                    return found
            entered: models.TrialModel = super()._get_prepared_new_trial(
                study_id, template_trial, session
            )
            return entered

    return ServerStorage
