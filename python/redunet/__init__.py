"""Build white-box networks (ReduNet) by maximising coding-rate reduction, layer by layer."""

__version__ = "0.1.0"
