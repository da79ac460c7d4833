"""Classifiers on features: nearest subspace, with the scores of all cyclic shifts, and k nearest by cosine."""

from redunet.classifiers.neighbors import CosineNeighbors
from redunet.classifiers.subspace import SHIFTS, NearestSubspace

__all__ = ["SHIFTS", "CosineNeighbors", "NearestSubspace"]
