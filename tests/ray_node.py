"""A Ray node on this machine for the tests of one module."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import ray

from search.private_apis import ray_without_services


@contextmanager
def ray_node(cpus: int, gpus: int = 0) -> Iterator[None]:
    """Start one node with this many CPUs and pretended GPUs, configured as a search does."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("RAY_prestart_worker_first_driver", "0")
        patch.setenv("RAY_AIR_NEW_OUTPUT", "0")
        patch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        with ray_without_services():
            ray.init(
                address="local",
                num_cpus=cpus,
                num_gpus=gpus,
                include_dashboard=False,
                object_store_memory=100 * 2**20,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        try:
            yield
        finally:
            ray.shutdown()
