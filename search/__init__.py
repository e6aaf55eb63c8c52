"""The driver: draws, screens, trains, tracks and reports a search.

Each package below imports only those under it: nightly, driver, reporting, backend, tracking,
backup, loop, study, experiment, and the modules of this folder; `search.cli` and `search.api`
import them all.

From Python: ``from search import Experiment, load, run``; see `search.api`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.api import Experiment, Search, load, run

__all__ = ["Experiment", "Search", "load", "run"]


def __getattr__(name: str) -> Any:
    # On demand: importing a part of this package loads neither the driver nor Ray.
    if name in __all__:
        return getattr(import_module("search.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
