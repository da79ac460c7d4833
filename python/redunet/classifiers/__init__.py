"""Classifiers on features: nearest subspace, with the scores of all shifts; k nearest by cosine; coding length."""

from redunet.classifiers.micl import MICL
from redunet.classifiers.neighbors import CosineNeighbors
from redunet.classifiers.subspace import SHIFTS, NearestSubspace

__all__ = ["MICL", "SHIFTS", "CosineNeighbors", "NearestSubspace"]
