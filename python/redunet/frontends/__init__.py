"""From raw data to channels: random lifting, polar coordinates; and all cyclic shifts of samples."""

from redunet.frontends.lift import RandomLift
from redunet.frontends.polar import to_polar
from redunet.frontends.shifts import shifts

__all__ = ["RandomLift", "shifts", "to_polar"]
