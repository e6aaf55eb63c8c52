"""Traces a user's ``torch.nn.Module`` into an `Architecture`, so that it can be analysed.

`load_model` finds the module that the user names, and `trace` converts it.
"""

from trainables.tracing.conversion import trace
from trainables.tracing.loading import load_model

__all__ = ["load_model", "trace"]
