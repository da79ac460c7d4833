"""Data sets: the numbers that seeds promise, splits that do not overlap, and files that are damaged in every way."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from redunet import datasets


def test_gaussian_mixture():
    X, y = datasets.gaussian_mixture(50, n_features=3, noise=0.2, random_state=4)
    rng = np.random.default_rng(4)
    expected = np.concatenate([rng.normal(np.eye(3)[j], 0.2, (50, 3)) for j in range(3)])
    assert np.array_equal(X, expected / np.linalg.norm(expected, axis=1, keepdims=True))
    assert np.array_equal(y, np.repeat(np.arange(3), 50))
    assert (X.dtype, y.dtype) == (np.float64, np.int64)
    exact, _ = datasets.gaussian_mixture(2, noise=0, random_state=0)
    assert np.array_equal(exact, np.repeat(np.eye(2), 2, axis=0))


def test_sinusoids():
    X, y = datasets.sinusoids(20, length=64, noise=0, random_state=0)
    assert X.shape == (40, 1, 64)
    assert np.array_equal(y, np.repeat([0, 1], 20))
    spectrum = np.abs(np.fft.rfft(X[:20, 0]))
    assert np.abs(spectrum[:, 1] - 32).max() < 1e-12  # one period of amplitude 1: T/2 at frequency 1, nothing elsewhere
    assert np.delete(spectrum, 1, axis=1).max() < 1e-12
    assert np.isin(X[20:], [-1, 0, 1]).all()
    noisy, _ = datasets.sinusoids(20, length=64, random_state=0)
    other, _ = datasets.sinusoids(20, length=64, random_state=np.random.default_rng(0))
    assert np.array_equal(noisy, other)
    # 2560 values of standard deviation 0.1: their sample deviation is within 6 of its own, 0.1 / sqrt(5120).
    assert abs((noisy - X).std() - 0.1) < 6 * 0.1 / np.sqrt(5120)


@pytest.mark.parametrize("make", [datasets.gaussian_mixture, datasets.sinusoids])
def test_synthetic_errors(make):
    with pytest.raises(ValueError, match="n_samples_per_class is 0; expected an integer >= 1"):
        make(0)
    with pytest.raises(ValueError, match=r"noise is -0\.1; expected a finite number >= 0"):
        make(5, noise=-0.1)
    with pytest.raises(TypeError, match="random_state is 'seed' of type str"):
        make(5, random_state="seed")


def test_synthetic_sizes():
    with pytest.raises(ValueError, match="n_features is 0; expected an integer >= 1"):
        datasets.gaussian_mixture(5, n_features=0)
    with pytest.raises(ValueError, match="length is 1; expected an integer >= 2"):
        datasets.sinusoids(5, length=1)


def test_digits():
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    data = datasets.digits(n_train_per_class=30)
    assert data.X_train.shape == (300, 1, 8, 8)
    assert (np.bincount(data.y_train) == 30).all()
    assert len(data.X_test) == 1797 - 300
    assert (data.X_train.dtype, data.y_train.dtype) == (np.float64, np.int64)
    everything = np.concatenate([data.X_train, data.X_test]).reshape(1797, 64) * 16
    values, _ = load_digits(return_X_y=True)
    assert np.array_equal(everything[np.lexsort(everything.T)], values[np.lexsort(values.T)])  # a partition
    for a, b in zip(data, datasets.digits(n_train_per_class=30), strict=True):
        assert np.array_equal(a, b)
    assert not np.array_equal(data.X_train, datasets.digits(n_train_per_class=30, random_state=1).X_train)
    half = datasets.digits()
    counts = np.bincount(half.y_train) - np.bincount(half.y_test)
    assert set(counts.tolist()) <= {0, -1}


def test_digits_errors(monkeypatch):
    pytest.importorskip("sklearn")
    with pytest.raises(ValueError, match="n_train_per_class is 174; expected at most 173, to leave test samples"):
        datasets.digits(n_train_per_class=174)
    with pytest.raises(ValueError, match="n_train_per_class is 0; expected an integer >= 1"):
        datasets.digits(n_train_per_class=0)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"digits needs scikit-learn: pip install 'redunet\[sklearn\]'"):
        datasets.digits()


def idx(values):
    """An array as the bytes of an IDX file."""
    code = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}[values.dtype.str[1:]]
    lengths = b"".join(n.to_bytes(4, "big") for n in values.shape)
    return bytes([0, 0, code, values.ndim]) + lengths + values.astype(values.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
def test_idx_round_trip(tmp_path, dtype, packed):
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    path = tmp_path / "values"
    path.write_bytes(gzip.compress(idx(values)) if packed else idx(values))
    read = datasets.load_idx(path)
    assert read.dtype == values.dtype
    assert read.dtype.isnative
    assert read.flags.writeable
    assert np.array_equal(read, values)


def test_idx_finds_the_compressed_file(tmp_path):
    (tmp_path / "values.gz").write_bytes(gzip.compress(idx(np.arange(3, dtype="u1"))))
    assert datasets.load_idx(str(tmp_path / "values")).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with nothing; expected an IDX file"),
        (b"\x89PNG\r\n", "begins with 89 50 4e 47; expected an IDX file: 00 00, a type, axes"),
        (b"\0\0\x07\x01\0\0\0\1a", "begins with 00 00 07 01; expected an IDX file"),
        (b"\0\0\x08\x03\0\0\0\1", "is cut short in its head; expected the lengths of 3 axes"),
        (idx(np.zeros((2, 3), "u1"))[:-1], r"is cut short: 5 bytes of values; expected 6 for the shape \(2, 3\)"),
        (b"\0\0\x08\x02" + b"\0\0\xff\xff" * 2 + b"abc", "is cut short: 3 bytes of values; expected 4294836225"),
        (b"\0\0\x08\x04" + b"\xff" * 16 + b"abc", "which no memory can hold"),
        (b"\0\0\x0e\x03" + b"\0" * 4 + b"\xff" * 8, r"the shape \(0, 4294967295, 4294967295\), which no memory can"),
        (b"\0\0\x08\x41" + b"\0\0\0\1" * 65 + b"a", "has 65 axes; expected at most 32"),
        (gzip.compress(b"\0\0\x08\xff" + b"\0\0\0\1" * 255 + b"a"), "has 255 axes; expected at most 32"),
        (gzip.compress(b"\0\0\x08\x01\0\0\0\1" + bytes(1 << 24)), "goes on after its values; expected 1 bytes"),
        (idx(np.zeros((2, 3), "u1")) + b"!", r"goes on after its values; expected 6 bytes for the shape \(2, 3\)"),
        (gzip.compress(idx(np.arange(200, dtype="u1")))[:-20], "is cut short or damaged: "),
        (b"\x1f\x8b\x00\x00garbage garbage", "is cut short or damaged: "),
    ],
)
def test_idx_errors(tmp_path, content, message):
    path = tmp_path / "values"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} cannot be read: it .*{message}"):
        datasets.load_idx(path)


@pytest.mark.skipif(os.name != "posix", reason="FIFOs are POSIX")
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_of_what_is_no_file(tmp_path, ending):
    code = "import sys, redunet as rn\ntry: rn.datasets.load_idx(sys.argv[1])\nexcept ValueError as error: print(error)"
    os.mkfifo(tmp_path / f"values{ending}")
    (tmp_path / "folder").mkdir()
    for name, found, kind in (("values", f"values{ending}", "a FIFO"), ("folder", "folder", "a folder")):
        output = subprocess.run(
            [sys.executable, "-c", code, tmp_path / name], timeout=60, capture_output=True, text=True, check=True
        ).stdout
        assert output == f"{tmp_path / found} cannot be read: it is {kind}; expected a regular file\n"


def test_idx_of_what_is_no_path():
    with pytest.raises(TypeError, match="path is 3 of type int; expected a path"):
        datasets.load_idx(3)
    for name in ("", "/"):
        with pytest.raises((ValueError, FileNotFoundError)):
            datasets.load_idx(name)


def test_idx_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*values, and no values\.gz beside it"):
        datasets.load_idx(tmp_path / "values")


def write_mnist(folder, images, labels):
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))


def test_mnist_of_our_own(tmp_path):
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    write_mnist(tmp_path, images, np.array([7, 1], np.uint8))
    data = datasets.mnist(tmp_path)
    assert np.array_equal(data.X_train, images[:, None])
    assert np.array_equal(data.X_test, images[:, None])
    assert data.y_test.tolist() == [7, 1]
    assert data.y_train.dtype == np.int64


def test_mnist_errors(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        datasets.mnist(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in str(error.value)
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        assert f"{part}-ubyte" in str(error.value)
    write_mnist(tmp_path, np.zeros((3, 2, 2), np.uint8), np.zeros(2, np.uint8))
    with pytest.raises(
        ValueError, match=r"holds uint8 of shape \(3, 2, 2\) and train-labels-idx1-ubyte holds shape \(2,\)"
    ):
        datasets.mnist(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=r"no train-images-idx3-ubyte in the folder .*; expected train-images"):
        datasets.mnist(tmp_path)


def test_first_per_class():
    y = np.array(["b", "a", "b", "a", "c", "c"])
    X = np.arange(6)[:, None]
    first, labels = datasets.first_per_class(X, y, 1)
    assert first.ravel().tolist() == [1, 0, 4]
    assert labels.tolist() == ["a", "b", "c"]
    second, labels = datasets.first_per_class(X, y, 1, classes=["c", "a"], skip=1)
    assert second.ravel().tolist() == [5, 3]
    assert labels.tolist() == ["c", "a"]
    first[...] = -1
    assert X.min() == 0


def test_first_per_class_errors():
    X, y = np.arange(4), np.array([0, 0, 1, 0])
    with pytest.raises(ValueError, match="class 1 has 1 samples; expected at least 2: 2 after 0 skipped"):
        datasets.first_per_class(X, y, 2)
    with pytest.raises(ValueError, match="class 5 has 0 samples; expected at least 1"):
        datasets.first_per_class(X, y, 1, classes=[5])
    with pytest.raises(ValueError, match=r"X has shape \(3,\) and y \(4,\); expected \(m, ...\) and labels \(m,\)"):
        datasets.first_per_class(X[:3], y, 1)
    with pytest.raises(ValueError, match=r"classes has shape \(\); expected a sequence of labels"):
        datasets.first_per_class(X, y, 1, classes=0)
    with pytest.raises(ValueError, match="n is 0; expected an integer >= 1"):
        datasets.first_per_class(X, y, 0)
    with pytest.raises(ValueError, match="skip is -1; expected an integer >= 0"):
        datasets.first_per_class(X, y, 1, skip=-1)


def records(X, y):
    """Images and labels as the bytes of a file of CIFAR-10."""
    return b"".join(bytes([label]) + image.tobytes() for image, label in zip(X, y, strict=True))


def write_cifar(folder, packed=False):
    """Two images in every file, of all different bytes; what was written."""
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (12, 3, 32, 32)).astype(np.uint8), np.arange(12) % 10
    for part, name in enumerate([*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]):
        content = records(images[2 * part : 2 * part + 2], labels[2 * part : 2 * part + 2])
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return images, labels


@pytest.mark.parametrize("packed", [False, True])
def test_cifar10(tmp_path, packed):
    images, labels = write_cifar(tmp_path, packed)
    data = datasets.cifar10(tmp_path)
    assert np.array_equal(data.X_train, images[:10])
    assert np.array_equal(data.y_train, labels[:10])
    assert np.array_equal(data.X_test, images[10:])
    assert data.y_test.tolist() == [0, 1]
    assert (data.X_test.dtype, data.y_train.dtype) == (np.uint8, np.int64)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it holds 0 bytes; expected images of 3073 bytes each, at least one"),
        (bytes(3073 * 2 - 1), "it holds 6145 bytes; expected images of 3073 bytes each"),
        (bytes(3073) + b"\x0a" + bytes(3072), "image 1 has the label 10; expected 0 to 9"),
        (gzip.compress(bytes(3073 * 10_000 + 1)), "it goes on after 10000 images; expected CIFAR-10's binary version"),
        (gzip.compress(bytes(3073))[:-9], "it is cut short or damaged: "),
    ],
)
def test_cifar10_errors(tmp_path, content, message):
    write_cifar(tmp_path)
    path = tmp_path / "data_batch_3.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} cannot be read: {message}"):
        datasets.cifar10(tmp_path)


def test_cifar10_missing(tmp_path):
    write_cifar(tmp_path)
    (tmp_path / "data_batch_2.bin").unlink()
    (tmp_path / "test_batch.bin").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no data_batch_2\.bin, test_batch\.bin in the folder .*; expected data_b"
    ):
        datasets.cifar10(tmp_path)
