"""Networks on disk: every bit comes back, the file is mapped and not read, and no file but a sound one loads."""

from __future__ import annotations

import errno
import json
import os
import pickle
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import redunet as rn
from redunet import files
from redunet.network import storage

posix = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
maps = pytest.mark.skipif(not files.MAPPED_ARE_REPLACED, reason="files are not mapped here")


def network(shape=(9, 3, 4), dtype=np.float64, labels=None, **options):
    rng = np.random.default_rng(0)
    X = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        X = X + 1j * rng.standard_normal(shape)
    y = np.arange(shape[0]) % 2 if labels is None else np.asarray(labels)[np.arange(shape[0]) % len(labels)]
    X = X.astype(dtype)
    return rn.build(X, y, n_layers=3, **options)[0], X


def assert_same(a, b):
    for name in (
        "n_channels",
        "signal_shape",
        "epsilon_sq",
        "lam",
        "assignment",
        "dft_norm",
        "dtype",
        "backend",
    ):
        assert getattr(a, name) == getattr(b, name), name
        assert type(getattr(a, name)) is type(getattr(b, name)), name
    pairs = [(a.classes_, b.classes_), (a.etas, b.etas), (a.rates.rate, b.rates.rate)]
    pairs.append((a.rates.per_class, b.rates.per_class))
    for name in ("dense", "factors", "ranks", "alphas", "gammas", "etas", "freq_weights", "lam"):
        pairs.append((np.asarray(getattr(a.operators, name)), np.asarray(getattr(b.operators, name))))
    for x, y in pairs:
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def split(path):
    """Header and body of a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(path, header, body):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


@pytest.fixture
def saved(tmp_path):
    net, X = network()
    path = tmp_path / "net.safetensors"
    net.save(path)
    return path, net, X


class TestRoundTrip:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
    @pytest.mark.parametrize(
        "shape", [(9, 3), (9, 3, 4), (9, 3, 5), (7, 2, 3, 4), (5, 12), (5, 11, 3), (9, 1)], ids=str
    )
    def test_brings_back_every_bit(self, backend, tmp_path, shape, dtype):
        net, X = network(shape, dtype)
        net.save(tmp_path / "net")
        for loaded in (rn.load(tmp_path / "net"), rn.ReduNet.load(str(tmp_path / "net"))):
            assert_same(loaded, net)
            assert repr(loaded) == repr(net)
            np.testing.assert_array_equal(loaded.transform(X), net.transform(X))
            np.testing.assert_array_equal(loaded.assign(X), net.assign(X))
            np.testing.assert_array_equal(loaded.layers[1].Cs, net.layers[1].Cs)

    @pytest.mark.parametrize(
        "labels",
        [
            [3, -1],
            np.array([200, 7], np.uint8),
            np.array([2**64 - 1, 5], np.uint64),
            np.array([-(2**63), 2**63 - 1], np.int64),
            [0.1, -2.5],
            np.array([0.1, 7], np.float32),
            np.array([0.5, 7], np.float16),
            ["cat", "dög", ""],
            [True, False],
            np.array(["a", "b"], object),
            np.array([1, 2, -7], object),
            np.array([0.25, 2], object),
        ],
        ids=lambda labels: str(np.asarray(labels).dtype) + str(np.asarray(labels)[0]),
    )
    def test_of_labels(self, tmp_path, labels):
        net, _ = network(labels=labels)
        net.save(tmp_path / "net")
        loaded = rn.load(tmp_path / "net")
        assert loaded.classes_.dtype == net.classes_.dtype
        assert loaded.classes_.tolist() == net.classes_.tolist()
        assert [type(label) for label in loaded.classes_.tolist()] == [type(label) for label in net.classes_.tolist()]

    def test_of_every_option(self, tmp_path):
        net, _ = network(
            assignment="given",
            dft_norm="backward",
            lam=0.0,
            epsilon_sq=1e-3,
            eta=[0.1, 0.2, 0.3],
            n_threads=1,
        )
        net.save(tmp_path / "net")
        assert_same(rn.load(tmp_path / "net"), net)

    def test_saves_what_it_loaded(self, saved, tmp_path):
        path, net, _ = saved
        rn.load(path).save(tmp_path / "copy")
        assert path.read_bytes() == (tmp_path / "copy").read_bytes()
        loaded = rn.load(path)
        loaded.save(path)  # over the file that is mapped
        assert_same(rn.load(path), net)
        assert_same(loaded, net)

    def test_is_readable_by_safetensors_itself(self, saved):
        from safetensors.numpy import load_file

        path, net, _ = saved
        tensors = load_file(path)
        np.testing.assert_array_equal(tensors["etas"], net.etas)
        np.testing.assert_array_equal(tensors["dense"][..., 0], net.operators.dense.real)
        np.testing.assert_array_equal(tensors["dense"][..., 1], net.operators.dense.imag)


class TestMapping:
    @maps
    @pytest.mark.parametrize("dtype", [np.float32, np.complex128])
    @pytest.mark.parametrize("shape", [(9, 3), (9, 3, 4), (5, 12, 3)], ids=str)
    def test_operators_stay_in_the_file(self, tmp_path, shape, dtype):
        net, _ = network(shape, dtype)
        net.save(tmp_path / "net")
        operators = rn.load(tmp_path / "net").operators
        assert operators.dense.size + operators.factors.size > 0
        for array in (operators.dense, operators.factors):
            if array.size == 0:
                continue
            base = array
            while isinstance(base, np.ndarray) and not (isinstance(base, np.memmap) and base._mmap is not None):
                base = base.base
            assert isinstance(base, np.memmap)
            assert array.flags.c_contiguous
            assert array.flags.aligned
            assert not array.flags.writeable

    def test_works_after_the_file_is_gone(self, saved):
        path, net, X = saved
        loaded = rn.load(path)
        path.unlink()
        np.testing.assert_array_equal(loaded.transform(X), net.transform(X))


class TestSaving:
    def test_needs_operators(self, tmp_path):
        net, _ = network(keep="features")
        with pytest.raises(ValueError, match='built with keep="features"'):
            net.save(tmp_path / "net")
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, MemoryError])
    @pytest.mark.parametrize("where", ["os.write", "os.fsync", "os.replace", pytest.param("os.fchmod", marks=posix)])
    def test_that_fails_leaves_nothing_behind(self, saved, tmp_path, monkeypatch, error, where):
        path, net, _ = saved
        before = path.read_bytes()

        def fail(*_, **__):
            raise error("no space left")

        monkeypatch.setattr(where, fail)
        for target in (path,) if where == "os.fchmod" else (path, tmp_path / "new"):  # a new file's mode is the mask's
            with pytest.raises(error, match="no space left"):
                net.save(target)
        assert os.listdir(tmp_path) == [path.name]
        assert path.read_bytes() == before

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="where open files are listed")
    def test_where_no_open_file_is_renamed_nor_a_mapped_one_replaced(self, tmp_path, monkeypatch):
        """As on Windows."""
        replace = os.replace

        def in_use(path):
            opened = [os.path.realpath(f"/proc/self/fd/{handle}") for handle in os.listdir("/proc/self/fd")]
            return str(path) in opened or str(path) in Path("/proc/self/maps").read_text()

        def refuse(source, target):
            if in_use(source) or in_use(target):
                raise PermissionError(errno.EACCES, "The process cannot access the file")
            replace(source, target)

        net, X = network()
        path = tmp_path / "net"
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", refuse)
            with pytest.raises(PermissionError, match="cannot access the file"):
                net.save(path)
            patch.setattr(sys, "platform", "win32")
            patch.setattr(files, "MAPPED_ARE_REPLACED", False)
            net.save(path)
            loaded = rn.load(path)
            loaded.save(path)
            rn.build(X, np.arange(len(X)) % 2, n_layers=4, resume=path, checkpoint=path)
        assert_same(loaded, net)
        assert rn.load(path).n_layers == 4
        assert os.listdir(tmp_path) == ["net"]

    def test_into_no_folder(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            network()[0].save(tmp_path / "nowhere" / "net")

    @posix
    def test_gives_the_file_the_usual_mode(self, tmp_path):
        before = os.umask(0o027)
        try:
            network()[0].save(tmp_path / "net")
            assert (tmp_path / "net").stat().st_mode & 0o777 == 0o640
            assert os.umask(0o027) == 0o027  # and leaves the mask as it was
        finally:
            os.umask(before)


class TestDamage:
    def test_no_file(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            rn.load(tmp_path / "none")

    def test_truncated_anywhere(self, saved, tmp_path):
        path, _, _ = saved
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        places = {0, 1, 7, 8, 9, 8 + length // 2, 7 + length, 8 + length, 9 + length, len(data) - 1}
        cut = tmp_path / "cut"
        for size in sorted(places | set(range(0, len(data), 211))):
            cut.write_bytes(data[:size])
            with pytest.raises(ValueError, match=r"cannot be loaded: (it is truncated|its header is damaged)"):
                rn.load(cut)

    @pytest.mark.parametrize(
        "data",
        [b"", b"\0" * 64, b"PK\3\4" + b"x" * 200, struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 4) + b"null",
         struct.pack("<Q", 2**63) + b"{}", struct.pack("<Q", 8) + b'{"a": 1}', pickle.dumps({"a": 1}),
         struct.pack("<Q", 10) + b'{"a": "\xff"}', struct.pack("<Q", 20_000) + b"[" * 20_000],
    )  # fmt: skip
    def test_not_a_safetensors_file(self, tmp_path, data):
        (tmp_path / "net").write_bytes(data)
        with pytest.raises(ValueError, match=r"cannot be loaded: (it is truncated|its header is damaged)"):
            rn.load(tmp_path / "net")

    def test_another_safetensors_file(self, tmp_path):
        from safetensors.numpy import save_file

        for metadata in (
            None,
            {"format": "pt"},
            {"redunet": "no json"},
            {"redunet": "[]"},
            {"redunet": "{}"},
        ):
            save_file({"a": np.zeros(3)}, tmp_path / "net", metadata=metadata)
            with pytest.raises(ValueError, match="net' cannot be loaded: it holds no redunet network"):
                rn.load(tmp_path / "net")

    def test_a_later_version(self, saved):
        self.doctor(saved[0], lambda config: config.update(format_version=2))
        with pytest.raises(ValueError, match="it has format version 2; this redunet reads version 1"):
            rn.load(saved[0])

    @pytest.mark.parametrize("field", storage.FIELDS)
    def test_a_missing_field(self, saved, field):
        self.doctor(saved[0], lambda config: config.pop(field))
        with pytest.raises(ValueError, match=f"its header lacks '{field}'"):
            rn.load(saved[0])

    @pytest.mark.parametrize(
        ("field", "value", "message"),
        [
            ("dtype", "int64", "dtype is int64; expected a floating dtype"),
            ("dtype", "float16", "dtype is float16; expected a floating dtype"),
            ("dtype", "nonsense", "nonsense"),
            ("dtype", "complex128", "tensor 'dense' is"),
            ("dtype", "float32", "tensor 'dense' is float64 .*; expected float32"),
            ("n_channels", 0, "n_channels is 0"),
            ("n_channels", 4, r"tensor 'dense' is float64 .*; expected float64 \(3, 3, 3, 4, 4, 2\)"),
            ("n_channels", "many", "many"),
            ("n_channels", float("inf"), "n_channels is inf"),
            ("signal_shape", [0], "signal_shape is 0; expected an integer >= 1"),
            ("signal_shape", [4, 4, 4], r"signal_shape is \(4, 4, 4\); expected at most two axes"),
            ("signal_shape", [5], "'freq_weights' does not belong to this signal shape"),
            ("signal_shape", [2**62, 2**62], "tensor 'dense' is"),
            ("signal_shape", 4, ""),
            ("assignment", "guessed", "assignment is 'guessed'"),
            ("dft_norm", ["ortho"], "dft_norm"),
            ("lam", "sharp", "sharp"),
            ("lam", -1.0, "lam is -1"),
            ("lam", float("nan"), "lam is nan"),
            ("epsilon_sq", 0, "epsilon_sq is 0"),
            ("epsilon_sq", None, "epsilon_sq is None"),
            ("classes", "pickle:object", "classes are stored as 'pickle:object'"),
            ("classes", "integer:nonsense", "nonsense"),
            ("classes", "json:int64", "classes are stored as 'json:int64'"),
            ("classes", 7, "classes are stored as '7'"),
        ],
    )
    def test_a_doctored_field(self, saved, field, value, message):
        self.doctor(saved[0], lambda config: config.update({field: value}))
        with pytest.raises(ValueError, match=f"net.safetensors' cannot be loaded: .*{message}"):
            rn.load(saved[0])

    @pytest.mark.parametrize("name", ["dense", "factors", "ranks", "alphas", "gammas", "etas", "rate", "classes"])
    def test_a_missing_tensor(self, saved, name):
        header, body = split(saved[0])
        del header[name]
        join(saved[0], header, body)
        with pytest.raises(ValueError, match=f"cannot be loaded: tensor '{name}' is missing"):
            rn.load(saved[0])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"shape": [-1]}, "its header is damaged"),
            ({"shape": "3"}, "its header is damaged"),
            ({"shape": [4]}, r"the size of tensor 'etas' does not fit its shape \(4,\)"),
            ({"shape": [2**62, 2**62]}, "the size of tensor 'etas' does not fit its shape"),
            ({"dtype": "F16"}, "its header is damaged"),
            ({"dtype": ["F64"]}, "its header is damaged"),
            ({"dtype": "F32"}, "the size of tensor 'etas' does not fit its shape"),
            ({"dtype": "I64"}, "tensor 'etas' is int64"),
            ({"data_offsets": [0]}, "its header is damaged"),
            ({"data_offsets": [0, 10**9]}, "it is truncated: tensor 'etas' ends at byte 1000000000"),
            ({"data_offsets": [-8, 16]}, "it is truncated: tensor 'etas'"),
            ({"data_offsets": [24, 0]}, "it is truncated: tensor 'etas'"),
            ({"data_offsets": [1, 25]}, "tensor 'etas' is not aligned"),
            ({"data_offsets": [0, float("inf")]}, "its header is damaged"),
        ],
        ids=str,
    )
    def test_a_doctored_tensor(self, saved, change, message):
        header, body = split(saved[0])
        header["etas"].update(change)
        join(saved[0], header, body)
        with pytest.raises(ValueError, match=f"cannot be loaded: {message}"):
            rn.load(saved[0])

    @pytest.mark.parametrize(
        ("name", "values", "message"),
        [
            ("ranks", [0, 0, 9], "'ranks' is out of range"),
            ("ranks", [0, -1, 0], "'ranks' is out of range"),
            ("ranks", [0, 1, 0], "tensor 'dense' is"),
            ("alphas", [1.0, np.nan, 1.0], "a hyperparameter is not finite"),
            ("etas", [1.0, 1.0, np.inf], "a hyperparameter is not finite"),
            ("freq_weights", [1.0, 2.0, 2.0], "'freq_weights' does not belong to this signal shape"),
        ],
        ids=str,
    )
    def test_doctored_numbers(self, saved, name, values, message):
        header, body = split(saved[0])
        begin, end = header[name]["data_offsets"]
        values = np.asarray(values, "<i8" if name == "ranks" else "<f8").tobytes()
        assert len(values) == end - begin
        join(saved[0], header, body[:begin] + values + body[end:])
        with pytest.raises(ValueError, match=f"cannot be loaded: .*{message}"):
            rn.load(saved[0])

    @pytest.mark.parametrize(
        ("name", "message"), [("gammas", "3 layers and 0 classes"), ("etas", "0 layers and 2 classes")]
    )
    def test_no_layers_or_classes(self, saved, name, message):
        header, body = split(saved[0])
        begin, _ = header[name]["data_offsets"]
        header[name].update(shape=[0], data_offsets=[begin, begin])
        join(saved[0], header, body)
        with pytest.raises(ValueError, match=f"cannot be loaded: it holds {message}"):
            rn.load(saved[0])

    def test_doctored_labels(self, tmp_path):
        net, _ = network(labels=["a", "b"])
        net.save(tmp_path / "net")
        header, body = split(tmp_path / "net")
        begin, end = header["classes"]["data_offsets"]
        for labels in (b'["a", {}]', b'["a"]    ', b'[["a"]]  ', b"{}       ", b'"a", "b"]'):
            text = labels.ljust(end - begin)[: end - begin]
            join(tmp_path / "net", header, body[:begin] + text + body[end:])
            with pytest.raises(ValueError, match="cannot be loaded"):
                rn.load(tmp_path / "net")

    @given(data=st.data())
    def test_any_changed_byte_loads_or_is_a_clear_error(self, saved, data):
        """Numbers in the body are anyone's; a changed header must never end in anything but a ValueError."""
        path, _, X = saved
        whole = path.read_bytes()
        (length,) = struct.unpack("<Q", whole[:8])
        position = data.draw(st.integers(0, 8 + length - 1))
        value = data.draw(st.integers(0, 255))
        other = path.parent / "other"
        other.write_bytes(whole[:position] + bytes([value]) + whole[position + 1 :])
        try:
            loaded = rn.load(other)
        except ValueError as error:
            assert "cannot be loaded" in str(error)  # noqa: PT017
        else:
            assert loaded.transform(X).shape == X.shape

    @staticmethod
    def doctor(path, change):
        """Change the network's own header inside a saved file."""
        header, body = split(path)
        config = json.loads(header["__metadata__"]["redunet"])
        change(config)
        header["__metadata__"]["redunet"] = json.dumps(config)
        join(path, header, body)
