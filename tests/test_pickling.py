"""Errors survive pickling and copying: process pools send them to the caller so."""

from __future__ import annotations

import contextlib
import copy
import importlib
import pickle
import pkgutil

import numpy as np

import redunet as rn
from redunet import distributed, linalg


def raised(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def copies(error):
    return [
        *(pickle.loads(pickle.dumps(error, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)),
        copy.copy(error),
        copy.deepcopy(error),
    ]


def test_errors_of_linear_algebra_are_numpys_own(backend):
    indefinite = np.stack([np.eye(3), -np.eye(3)])
    vast = 1e160 * np.random.default_rng(0).standard_normal((9, 3))
    errors = [raised(function, indefinite) for function in (linalg.inv, linalg.cholesky, linalg.logdet)]
    errors.append(raised(linalg.solve, indefinite, indefinite))
    errors.append(raised(linalg.inv, np.ones((2, 3))))
    errors.append(raised(rn.coding_rate, vast))
    for error in errors:
        assert type(error) is np.linalg.LinAlgError
        for back in copies(error):
            assert type(back) is np.linalg.LinAlgError
            assert str(back) == str(error)


def test_every_class_of_errors():
    classes = set()
    for info in pkgutil.walk_packages(rn.__path__, "redunet."):
        if info.name == "redunet.__main__":
            continue
        with contextlib.suppress(ImportError):  # an extra that is not installed
            found = vars(importlib.import_module(info.name)).values()
            classes |= {kind for kind in found if isinstance(kind, type) and issubclass(kind, BaseException)}
    ours = {kind for kind in classes if kind.__module__.startswith("redunet")}
    assert {rn.CudaError, rn.BuildInterrupted} <= ours
    rank_error = distributed.RankError(2, "ValueError", "what happened")
    errors = [rank_error, *(kind("what happened") for kind in ours - {rn.BuildInterrupted, distributed.RankError})]
    for error in errors:  # BuildInterrupted is made of a network: test_resume.py
        for back in copies(error):
            assert type(back) is type(error)
            assert str(back) == str(error)
            assert vars(back) == vars(error)
