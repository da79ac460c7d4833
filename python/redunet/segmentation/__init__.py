"""Segmentations of images, held against those that people drew.

A segmentation is a label image: integers, equal where pixels are in one segment. Which integers, and whether segments
are connected, no metric here asks.
"""

from redunet.segmentation.boundary import boundaries
from redunet.segmentation.metrics import (
    boundary_displacement_error,
    covering,
    global_consistency_error,
    probabilistic_rand_index,
    rand_index,
    variation_of_information,
)

__all__ = [
    "boundaries",
    "boundary_displacement_error",
    "covering",
    "global_consistency_error",
    "probabilistic_rand_index",
    "rand_index",
    "variation_of_information",
]
