"""Searches from Python and notebooks: `run` and `load` return a `Search` with its results.

`search` exports these names, so that ``from search import Experiment, load, run`` is all it takes.
"""

from search.api.searches import Search, load, run
from search.experiment.schema import Experiment

__all__ = ["Experiment", "Search", "load", "run"]
