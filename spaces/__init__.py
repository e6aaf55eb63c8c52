"""What can be searched: architectures, their analysis, and the functions that draw them."""

from spaces.architecture import Architecture, Builder, CollapsedLayerError, Layer
from spaces.border import BorderAnalysis, Rule, find_border
from spaces.candidate import FAMILIES, Candidate, CandidateSpace
from spaces.costs import Costs, costs
from spaces.errors import BadInputError
from spaces.receptive_field import ReceptiveField, receptive_fields
from spaces.recipe import Recipe
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
    "Layer",
    "ReceptiveField",
    "Recipe",
    "Rule",
    "Task",
    "costs",
    "find_border",
    "receptive_fields",
]
