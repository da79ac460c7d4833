"""Clusters by the length of their code: samples merge pair by pair as long as that makes the whole code shorter.

A cluster of samples W (m, D), rows about their mean mu or about zero, is coded up to the squared distortion eps^2 with

    L(W) = (m + D)/2 log det(I + D/(m eps^2) W* W) + D/2 log(1 + |mu|^2/eps^2)      (the last of a mean that is coded)

nats, and N samples in clusters of n_j with sum_j L(W_j) - n_j log(n_j/N). Clusters are low-dimensional subspaces and
Gaussians of unequal shape, and their number is found (Ma, Derksen, Hong, Wright, "Segmentation of multivariate mixed
data via lossy data coding and compression", TPAMI 2007). Where it is known, `vertex_steps` moves samples between them.
"""

from redunet.clustering.codes import code_length, effective_dimensions
from redunet.clustering.merging import PhaseTransition, merge_path, phase_transition
from redunet.clustering.path import MergePath
from redunet.clustering.vertex import VertexSteps, vertex_steps

__all__ = [
    "MergePath",
    "PhaseTransition",
    "VertexSteps",
    "code_length",
    "effective_dimensions",
    "merge_path",
    "phase_transition",
    "vertex_steps",
]
