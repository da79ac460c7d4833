"""Segmentations of images: found by the length of a code, and held against those that people drew.

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
from redunet.segmentation.regions import merge_regions
from redunet.segmentation.segments import segment

__all__ = [
    "boundaries",
    "boundary_displacement_error",
    "covering",
    "global_consistency_error",
    "merge_regions",
    "probabilistic_rand_index",
    "rand_index",
    "segment",
    "variation_of_information",
]
