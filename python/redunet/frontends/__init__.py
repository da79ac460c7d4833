"""From raw data to channels: random and sparse lifts, polar coordinates; and all cyclic shifts of samples."""

from redunet.frontends.lift import RandomLift
from redunet.frontends.polar import to_polar
from redunet.frontends.shifts import shifts
from redunet.frontends.sparse_lift import SparseLift

__all__ = ["RandomLift", "SparseLift", "shifts", "to_polar"]
