"""Sparse codes: iterative soft-thresholding, which white-box networks unroll, with matrices or convolutions.

For a dictionary A and signals y, the codes x with few nonzeros that minimise

    1/2 ||y - A x||^2 + lam ||x||_1,

real or complex, in batches; x = 0 where lam reaches the largest magnitude of A* y.
"""

from redunet.sparse.dictionaries import ConvolutionalDictionary, Dictionary
from redunet.sparse.solvers import fista, ista, objective, soft_threshold

__all__ = ["ConvolutionalDictionary", "Dictionary", "fista", "ista", "objective", "soft_threshold"]
