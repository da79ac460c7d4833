"""Arrays of an independent construction, reproduced by every backend.

Those in `fixtures` were made by the tests' own oracle; those of the authors' own code are read as well where
REDUNET_SHARED names the folder that holds them. Tolerances are those that the package promises. float64: 1e-10 for
everything within one layer, 1e-8 for what several layers made; float32: 1e-4 and 1e-3. Labels must agree. The kept half
of the full spectra is compared.
"""

from __future__ import annotations

import os
import runpy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from oracle import half, relative

import redunet as rn
from redunet import _backends
from redunet._backends import numpy_backend
from redunet.transforms.cyclic import Fourier

FIXTURES = Path(__file__).parent / "fixtures"
OURS = ["vectors_d6_m30_k3", "signals_c3_t6_m14_k2", "images_c2_h3_w4_m15_k3", "gaussians_d3_m24_l50"]
AUTHORS = ["vector_d12_m60_k3", "fourier1d_c6_t16_m40_k2", "fourier2d_c3_h5_w6_m25_k3", "gauss3d_m150_l50"]
SHARED = os.environ.get("REDUNET_SHARED")
FILES = [FIXTURES / f"{name}.npz" for name in OURS]
if SHARED:
    FILES += [Path(SHARED) / "fixtures" / f"{name}.npz" for name in AUTHORS]
ONE_LAYER = {np.float64: 1e-10, np.float32: 1e-4}
ALL_LAYERS = {np.float64: 1e-8, np.float32: 1e-3}


@cache
def read(path):
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def ref(request):
    return read(request.param)


@pytest.fixture(params=[np.float64, np.float32], ids=["float64", "float32"])
def dtype(request):
    return request.param


def construct(ref, dtype, n_layers=None):
    return rn.build(
        ref["X"].astype(dtype),
        ref["y"],
        n_layers=int(ref["layers"]) if n_layers is None else n_layers,
        eta=float(ref["eta"]),
        epsilon_sq=float(ref["eps"]),
        lam=float(ref["lmbda"]),
    )


def kept(ref, spectrum):
    return half(spectrum, True, ref["X"].ndim - 2)


@pytest.mark.parametrize("name", OURS)
def test_the_script_still_makes_the_fixtures(name):
    """The oracle on two machines, whose libraries round differently: what is promised of another construction."""
    make = runpy.run_path(str(FIXTURES / "make.py"))
    assert list(make["CASES"]) == OURS
    stored = read(FIXTURES / f"{name}.npz")
    again = make["arrays"](name, **make["samples"](name))
    assert again.keys() == stored.keys()
    for key, value in again.items():
        assert value.dtype == stored[key].dtype, key
        if value.dtype.kind == "i":
            np.testing.assert_array_equal(value, stored[key], err_msg=key)
        else:
            assert relative(value, stored[key]) < ALL_LAYERS[np.float64], key


def test_fixtures_are_small_and_all_of_them_are_tested():
    assert sorted(path.stem for path in FIXTURES.glob("*.npz")) == sorted(OURS)
    assert sum(path.stat().st_size for path in FIXTURES.glob("*.npz")) < 150_000


def test_operators_of_every_layer(backend, ref, dtype):
    net, _ = construct(ref, dtype)
    assert net.n_layers == len(net.layers) == ref["layers"]
    expected_dtype = np.dtype(dtype) if ref["X"].ndim == 2 else np.result_type(dtype, np.complex64)
    for index, layer in enumerate(net.layers):
        tolerance = ONE_LAYER[dtype] if index == 0 else ALL_LAYERS[dtype]
        assert layer.E.dtype == layer.Cs.dtype == expected_dtype
        assert relative(layer.E, kept(ref, ref["E"][index])) < tolerance
        assert relative(layer.Cs, kept(ref, ref["Cs"][index])) < tolerance
        np.testing.assert_allclose(layer.gammas, ref["gam"], rtol=1e-15)
        assert layer.eta == ref["eta"]
        assert layer.lam == ref["lmbda"]


def test_features_after_one_two_and_all_layers(backend, ref, dtype):
    for n_layers, name in ((1, "Z1"), (2, "Z2"), (None, "Z_last")):
        _, Z = construct(ref, dtype, n_layers)
        assert Z.dtype == dtype
        assert relative(Z, ref[name]) < (ONE_LAYER if n_layers == 1 else ALL_LAYERS)[dtype]


def test_spectra_before_and_after_the_first_layer(backend, ref, dtype):
    if "V0" not in ref:
        assert ref["X"].ndim == 2
        return
    signals = Fourier(ref["X"].shape[2:], True)
    _, Z1 = construct(ref, dtype, 1)
    V0 = signals.forward(ref["X"], np.dtype(dtype), _backends.select()[1], name="X", normalize=True, n_threads=1)
    V1 = signals.forward(Z1, np.dtype(dtype), _backends.select()[1], name="X", normalize=False, n_threads=1)
    for V, expected in ((V0, ref["V0"]), (V1, ref["V1"])):
        expected = kept(ref, expected)
        assert relative(np.asarray(V).reshape(expected.shape), expected) < ONE_LAYER[dtype]


def test_training_samples_take_the_same_path_as_new_ones(backend, ref, dtype):
    net, Z = construct(ref, dtype)
    assert relative(net.transform(ref["X"].astype(dtype)), Z) < ALL_LAYERS[dtype]


def test_held_out_samples(backend, ref, dtype):
    first, _ = construct(ref, dtype, 1)
    net, _ = construct(ref, dtype)
    X = ref["X_test"].astype(dtype)
    assert relative(first.transform(X), ref["Z1_test"]) < ONE_LAYER[dtype]
    assert relative(net.transform(X), ref["Z_last_test"]) < ALL_LAYERS[dtype]


def test_labels_of_every_layer(backend, ref, dtype):
    """A network cut after layer l ends with the assignment of layer l."""
    for index in range(int(ref["layers"])):
        net, _ = construct(ref, dtype, index + 1)
        np.testing.assert_array_equal(net.assign(ref["X"].astype(dtype)).argmax(axis=1), ref["y_pred"][index])
        np.testing.assert_array_equal(net.assign(ref["X_test"].astype(dtype)).argmax(axis=1), ref["y_pred_test"][index])


def residual_norms(ref, layer, Z):
    """||C^j v|| over the kept half of the spectrum, (k, m)."""
    fourier = Fourier(Z.shape[2:], True)
    V = fourier.forward(Z, np.dtype(np.float64), numpy_backend, name="Z", normalize=False, n_threads=1)
    Cs = layer.Cs.reshape(*layer.Cs.shape[:3], -1)
    return np.sqrt(np.einsum("jmcp,p->jm", np.abs(np.einsum("jcdp,mdp->jmcp", Cs, V)) ** 2, fourier.freq_weights))


def test_residual_norms_and_assignments(backend, ref, dtype):
    first, _ = construct(ref, dtype, 1)
    last, _ = construct(ref, dtype)
    _, Z_before_last = construct(ref, dtype, int(ref["layers"]) - 1)
    norms0 = residual_norms(ref, first.layers[0], ref["Z0"])
    norms_last = residual_norms(ref, last.layers[-1], Z_before_last)
    assert relative(norms0, ref["norms0"]) < ONE_LAYER[dtype]
    assert relative(norms_last, ref["norms_last"]) < ALL_LAYERS[dtype]
    # d softmax <= lambda d(norms): the error of the norms and their own rounding in a sum over C channels.
    unit = (ref["X"].shape[1] + 4) * np.finfo(dtype).eps
    lam = float(ref["lmbda"])
    for net, pi, norms, error in (
        (first, ref["pi0"], ref["norms0"], norms0 - ref["norms0"]),
        (last, ref["pi_last"], ref["norms_last"], norms_last - ref["norms_last"]),
    ):
        bound = lam * (np.abs(error).max() + unit * norms.max())
        assert bound < (1e-9 if dtype == np.float64 else 0.1)
        assert np.abs(net.assign(ref["X"].astype(dtype)).T - pi).max() < bound


def test_rates_with_true_labels(backend, ref, dtype):
    net, Z = construct(ref, dtype)
    total, expand, compress = ref["loss_true"].T
    # Delta R is a difference of two rates, so its error is measured against the rate.
    assert np.abs(net.rates.delta - total).max() < ALL_LAYERS[dtype] * expand.max()
    assert relative(net.rates.rate, expand) < ALL_LAYERS[dtype]
    assert relative(net.rates.class_rate, compress) < ALL_LAYERS[dtype]
    assert relative(net.rates.per_class.sum(axis=1), compress) < ALL_LAYERS[dtype]
    for features, row in ((ref["Z0"], 0), (Z, -1)):
        reduction = rn.rate_reduction(features.astype(dtype), ref["y"], epsilon_sq=float(ref["eps"]))
        tolerance = (ONE_LAYER if row == 0 else ALL_LAYERS)[dtype]
        np.testing.assert_allclose(reduction, ref["loss_true"][row], rtol=0, atol=tolerance * expand[row])


def test_rates_with_predicted_labels(backend, ref, dtype):
    """The losses that the authors print: on vectors, they weight predicted classes by the shares of the true ones."""
    for index in range(int(ref["layers"])):
        _, Z = construct(ref, dtype, index + 1)
        labels = ref["y_pred"][index]
        reduction = rn.rate_reduction(Z, labels, epsilon_sq=float(ref["eps"]), per_class=True)
        class_rate = reduction.class_rate.sum()
        if ref["X"].ndim == 2:
            classes, counts = np.unique(labels, return_counts=True)
            class_rate = reduction.class_rate / (counts / len(labels)) @ ref["gam"][classes]
        expected = ref["loss_peer"][index]
        got = (reduction.rate - class_rate, reduction.rate, class_rate)
        np.testing.assert_allclose(got, expected, rtol=0, atol=ALL_LAYERS[dtype] * expected[1])


def test_soft_membership_that_is_one_hot_and_unit_weights_change_nothing(backend, ref):
    net, Z = construct(ref, np.float64)
    soft = np.eye(int(ref["k"]))[ref["y"]]
    options = {"eta": float(ref["eta"]), "epsilon_sq": float(ref["eps"]), "lam": float(ref["lmbda"])}
    same, W = rn.build(ref["X"], soft, n_layers=net.n_layers, sample_weight=np.ones(len(soft)), **options)
    assert relative(W, Z) < ALL_LAYERS[np.float64]
    assert relative(same.rates.per_class, net.rates.per_class) < ALL_LAYERS[np.float64]
