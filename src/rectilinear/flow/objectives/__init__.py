"""Objectives of a linear flow: terms, their weighted sums, and the ones with a name."""

from rectilinear.flow.objectives.named import likelihood, nested, paper, solved
from rectilinear.flow.objectives.objective import Batch, Objective, Term
from rectilinear.flow.objectives.terms import (
    Adversarial,
    Centred,
    Endpoint,
    Likelihood,
    NestedRank,
    NoisyReconstruction,
)

__all__ = [
    "Adversarial",
    "Batch",
    "Centred",
    "Endpoint",
    "Likelihood",
    "NestedRank",
    "NoisyReconstruction",
    "Objective",
    "Term",
    "likelihood",
    "nested",
    "paper",
    "solved",
]
