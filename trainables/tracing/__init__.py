"""From a user's module to the graph that describes it."""

from trainables.tracing.conversion import trace
from trainables.tracing.loading import load_model

__all__ = ["load_model", "trace"]
