"""Pictures of rates, features and results. Every function takes an ``ax``, draws on it, and returns it.

Without ``ax`` a figure of its own is made. Nothing is shown or saved, and no global setting of matplotlib is changed.
Colours can be told apart with any colour vision; with more than seven classes, markers and dashes help.
Matplotlib is imported when the first picture is drawn.
"""

from redunet.plot.features import cosine_histogram, cosines, scatter, singular_values
from redunet.plot.network import operator, rates
from redunet.plot.results import accuracies
from redunet.plot.style import COLORS, GRID

__all__ = [
    "COLORS",
    "GRID",
    "accuracies",
    "cosine_histogram",
    "cosines",
    "operator",
    "rates",
    "scatter",
    "singular_values",
]
