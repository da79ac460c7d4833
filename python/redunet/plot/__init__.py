"""Pictures of rates, features, clusters and results. Every function takes an ``ax``, draws on it, and returns it.

Without ``ax`` a figure of its own is made. Nothing is shown or saved, and no global setting of matplotlib is changed.
Colours can be told apart with any colour vision; with more than seven classes, markers and dashes help.
Matplotlib is imported when the first picture is drawn.
"""

from redunet.plot.clusters import code_lengths, merge_tree, phase_transition
from redunet.plot.features import cosine_histogram, cosines, scatter, singular_values
from redunet.plot.images import segments
from redunet.plot.network import operator, rates
from redunet.plot.results import accuracies
from redunet.plot.style import COLORS, GRID

__all__ = [
    "COLORS",
    "GRID",
    "accuracies",
    "code_lengths",
    "cosine_histogram",
    "cosines",
    "merge_tree",
    "operator",
    "phase_transition",
    "rates",
    "scatter",
    "segments",
    "singular_values",
]
