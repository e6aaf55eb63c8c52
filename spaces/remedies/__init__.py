"""Remedies for an unproductive tail: truncation, and other downsampling or dilation.

`propose_remedies` proposes changed networks; `spaces.remedies.placement` searches placements of
downsampling, and `spaces.remedies.truncation` truncates, also candidates of a search.
"""

from spaces.remedies.proposing import Remedy, propose_remedies
from spaces.remedies.truncation import Truncated, Truncation, truncate

__all__ = ["Remedy", "Truncated", "Truncation", "propose_remedies", "truncate"]
