"""Defines architectures, analyses them, and draws them from search spaces.

The package is pure Python and Optuna: it imports neither torch nor Ray, and analysing an
architecture takes microseconds to milliseconds.
"""

from spaces.architecture import Architecture, Builder, CollapsedLayerError, Layer
from spaces.border import BorderAnalysis, Rule, find_border
from spaces.candidate import FAMILIES, Candidate, CandidateSpace
from spaces.costs import Costs, costs
from spaces.errors import BadInputError, InvalidCandidateError
from spaces.receptive_field import ReceptiveField, receptive_fields
from spaces.recipe import Recipe
from spaces.remedies import Remedy, propose_remedies
from spaces.task import Task

__all__ = [
    "FAMILIES",
    "Architecture",
    "BadInputError",
    "BorderAnalysis",
    "Builder",
    "Candidate",
    "CandidateSpace",
    "CollapsedLayerError",
    "Costs",
    "InvalidCandidateError",
    "Layer",
    "ReceptiveField",
    "Recipe",
    "Remedy",
    "Rule",
    "Task",
    "costs",
    "find_border",
    "propose_remedies",
    "receptive_fields",
]
