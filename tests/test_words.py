"""The choices that are words: types say what docstrings say and what the checks of arguments take."""

from __future__ import annotations

import inspect
import re
import typing

import numpy as np
import pytest

import redunet as rn
from redunet import classifiers, clustering, linalg, segmentation
from redunet._backends import NAMES
from redunet._inputs import axes, problem, words
from redunet.classifiers import micl
from redunet.clustering import codes, path
from redunet.distributed.plan import LAYOUTS
from redunet.frontends import lift, pooled_lift, sparse_lift
from redunet.rates import UNITS
from redunet.transforms.groups import GROUPS

TAKEN = {
    words.Backend: NAMES,
    words.Group: GROUPS,
    words.DftNorm: problem.DFT_NORMS,
    words.Assignment: problem.ASSIGNMENTS,
    words.Keep: problem.KEEPS,
    words.Mean: codes.MEANS,
    words.Unit: tuple(UNITS),
    words.Length: codes.LENGTHS,
    words.Criterion: micl.CRITERIA,
    words.Stop: path.STOPS,
    words.Activation: lift.ACTIVATIONS,
    words.Boundary: tuple(pooled_lift.BOUNDARIES),
    words.Source: sparse_lift.SOURCES,
    words.Layout: LAYOUTS,
}


def test_types_have_the_words_that_are_taken():
    for alias, taken in TAKEN.items():
        assert set(typing.get_args(alias)) == set(taken)
    aliases = {name for name in vars(words) if name[0].isupper() and name not in ("Literal", "TypeAlias")}
    assert len(aliases) == len(TAKEN) + 1  # StepRule, which is checked among numbers
    X = np.eye(2) + 0.2
    for word in typing.get_args(words.StepRule):
        rn.build(X, [0, 1], n_layers=1, eta=word)
    for word in typing.get_args(axes.Channels):
        rn.build(X, [0, 1], n_layers=1, channels=word)


def public():
    """Functions, and classes with their methods, each with the docstring that has its parameters."""
    for room in (rn, classifiers, clustering, linalg, segmentation, rn.distributed, rn.datasets):
        for name in room.__all__:
            value = getattr(room, name)
            if inspect.isfunction(value):
                yield f"{room.__name__}.{name}", value, value.__doc__
            elif inspect.isclass(value) and not issubclass(value, (BaseException, tuple)):
                yield f"{room.__name__}.{name}", value.__init__, value.__doc__
                for method, function in inspect.getmembers(value, inspect.isfunction):
                    if not method.startswith("_"):
                        yield f"{room.__name__}.{name}.{method}", function, function.__doc__
    estimators = pytest.importorskip("redunet.sklearn", reason="scikit-learn is not installed")
    for name in estimators.__all__:
        value = getattr(estimators, name)
        yield f"redunet.sklearn.{name}", value.__init__, value.__doc__


def test_docstrings_name_the_words_of_the_types():
    looked_at = 0
    for where, function, doc in public():
        hints = typing.get_type_hints(function)
        for name, listed in re.findall(r"^ *([\w, ]+) : .*?\{([^}]*\"[^}]*)\}", doc or "", re.MULTILINE):
            for parameter in name.split(", "):
                if hints.get(parameter, typing.Any) is typing.Any:  # words, functions or numbers; or an attribute
                    continue
                said = set(re.findall(r'"(\w+)"', listed))
                hint = hints[parameter]
                typed = {word for part in (hint, *typing.get_args(hint)) for word in typing.get_args(part)}
                assert said == {word for word in typed if isinstance(word, str)}, f"{where}: {parameter}"
                looked_at += 1
    assert looked_at > 40
