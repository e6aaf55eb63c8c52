"""Traces a user's ``torch.nn.Module`` into an `Architecture`, so that it can be analysed.

`load_model` finds the module that the user names, `trace` converts it, and `measure` runs one that
cannot be traced; `trace_or_measure` chooses between the two.
"""

from trainables.tracing.conversion import trace
from trainables.tracing.loading import load_model
from trainables.tracing.measuring import measure, trace_or_measure

__all__ = ["load_model", "measure", "trace", "trace_or_measure"]
