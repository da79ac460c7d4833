"""From raw data to channels: random, sparse and pooled lifts, polar coordinates; and all cyclic shifts of samples."""

from redunet.frontends.lift import RandomLift
from redunet.frontends.polar import to_polar
from redunet.frontends.pooled_lift import PooledLift
from redunet.frontends.shifts import shifts
from redunet.frontends.sparse_lift import SparseLift

__all__ = ["PooledLift", "RandomLift", "SparseLift", "shifts", "to_polar"]
