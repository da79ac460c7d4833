"""Files of networks that are damaged or absurd: one error that names the path, and memory as the file has on disk."""

from __future__ import annotations

import json
import math
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

import redunet as rn
from redunet.network import storage

DEADLINE = 120
TYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "U8": "|u1"}


def read(path):
    """Header, the network's part of it, and the tensors, flat."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    text = header.pop("__metadata__")["redunet"]
    tensors = {
        name: np.frombuffer(body[slice(*entry["data_offsets"])], TYPES[entry["dtype"]]).copy()
        for name, entry in header.items()
    }
    return header, json.loads(text), tensors


def write(path, header, config, tensors, *, sealed=True):
    """A file of these; sealed: with the checksums that belong to them."""
    if sealed:
        config["checksums"] = {name: zlib.crc32(tensor.tobytes()) for name, tensor in tensors.items()}
    text = json.dumps(config)
    head = json.dumps({"__metadata__": metadata(text), **header}).encode()
    head += b" " * (-len(head) % 8)
    order = sorted(header, key=lambda name: header[name]["data_offsets"])
    path.write_bytes(struct.pack("<Q", len(head)) + head + b"".join(tensors[name].tobytes() for name in order))


def metadata(text):
    return {"redunet": text, "checksum": f"{zlib.crc32(text.encode()):08x}"}


@pytest.fixture
def saved(tmp_path):
    rng = np.random.default_rng(3)
    X = rng.standard_normal((11, 8, 3))
    net, _ = rn.build(X, np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2]), n_layers=3)
    assert net.operators.factors.size > 0
    path = tmp_path / "net"
    net.save(path)
    return path, net, X


def named(path):
    """As messages name it, to be searched for."""
    return re.escape(repr(str(path)))


class TestChecksums:
    @pytest.mark.parametrize("mmap", [True, False])
    @pytest.mark.parametrize("name", storage.TENSORS)
    def test_find_a_flipped_bit_in_every_tensor(self, saved, name, mmap):
        path, _, _ = saved
        data = bytearray(path.read_bytes())
        (length,) = struct.unpack("<Q", data[:8])
        begin, end = json.loads(data[8 : 8 + length])[name]["data_offsets"]
        for byte, bit in ((begin, 0), ((begin + end) // 2, 3), (end - 8, 1)):
            damaged = bytearray(data)
            damaged[8 + length + byte] ^= 1 << bit  # of low weight: a number that could be
            path.write_bytes(damaged)
            other = "dense" if name == "ranks" else name  # whose shape belongs to the ranks
            with pytest.raises(ValueError, match=f"{named(path)} cannot be loaded: .*'({name}|{other})'"):
                rn.load(path, mmap=mmap)

    @pytest.mark.parametrize("field", ["lam", "epsilon_sq", "assignment", "dft_norm", "backend"])
    def test_find_another_header(self, saved, field):
        path, net, _ = saved
        text = path.read_bytes()
        others = {
            "lam": (b"500.0", b"501.0"),
            "epsilon_sq": (b": 0.1,", b": 0.2,"),
            "assignment": (b"estimated", b"given"),
            "dft_norm": (b"ortho", b"backward"),
            "backend": (net.backend.encode(), b"cuda"),
        }
        other = others[field]
        assert other[0] in text
        padded = text.replace(other[0], other[1], 1)
        (length,) = struct.unpack("<Q", text[:8])
        path.write_bytes(struct.pack("<Q", length + len(padded) - len(text)) + padded[8:])
        with pytest.raises(ValueError, match=r"cannot be loaded: (its header is damaged|tensor '.*' is not aligned)"):
            rn.load(path)

    def test_may_be_left_out(self, saved):
        path, net, X = saved
        header, config, tensors = read(path)
        tensors["dense"][0] *= 1 + 2**-52
        write(path, header, config, tensors, sealed=False)
        with pytest.raises(ValueError, match="tensor 'dense' is damaged: its checksum differs"):
            rn.load(path)
        for mmap in (True, False):
            loaded = rn.ReduNet.load(path, mmap=mmap, verify=False)
            assert np.abs(loaded.transform(X) - net.transform(X)).max() < 1e-12
        with pytest.raises(TypeError, match="verify is 'no'"):
            rn.load(path, verify="no")
        with pytest.raises(TypeError, match="mmap is 1 of type int; expected True or False"):
            rn.load(path, mmap=1)


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("alphas", -1.0, "numbers in"), ("alphas", 0.0, "numbers in"), ("alphas", 1e200, "numbers in"),
        ("alphas", 1e-200, "numbers in"), ("alphas", np.nan, "is not finite"), ("alphas", 2.0, "does not belong to"),
        ("gammas", -5.0, r"numbers in \(0, 1\]"), ("gammas", 0.0, r"numbers in \(0, 1\]"),
        ("gammas", 1e300, r"numbers in \(0, 1\]"), ("gammas", 0.5, "sums to .*; expected 1"),
        ("etas", -1e300, r"steps in \[0, "), ("etas", 1e300, r"steps in \[0, "), ("etas", -1e-300, r"steps in \[0, "),
        ("betas", 1.0, r"numbers in \[0, 1\)"), ("betas", -0.1, r"numbers in \[0, 1\)"),
        ("betas", np.inf, "not finite"), ("betas", 0.5, "begins with another number than 0"),
        ("freq_weights", 3.0, "does not belong to this signal shape"), ("freq_weights", -1.0, "positive numbers"),
        ("rate", np.nan, "finite rates"), ("per_class", -np.inf, "finite rates"),
        ("ranks", 5, "out of range"), ("ranks", -1, "out of range"), ("ranks", 2**62, "out of range"),
        ("classes", 1, "not sorted, or one of them twice"), ("classes", 7, "not sorted, or one of them twice"),
    ],
)  # fmt: skip
def test_numbers_that_no_build_makes(saved, name, values, message, verify):
    path, _, _ = saved
    header, config, tensors = read(path)
    tensors[name][0] = values
    write(path, header, config, tensors)
    with pytest.raises(ValueError, match=f"{named(path)} cannot be loaded: .*{name}.*{message}"):
        rn.load(path, verify=verify)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e300])
@pytest.mark.parametrize("name", ["dense", "factors"])
def test_operators_that_no_build_makes(saved, name, value):
    path, _, _ = saved
    header, config, tensors = read(path)
    tensors[name][7] = value
    write(path, header, config, tensors)
    with pytest.raises(
        ValueError, match=f"tensor '{name}' holds .* at 7; expected finite numbers in the dtype's range"
    ):
        rn.load(path)


def test_lam_that_overflows(saved):
    path, _, _ = saved
    header, config, tensors = read(path)
    write(path, header, {**config, "lam": 1e308}, tensors)
    with pytest.raises(ValueError, match=r"cannot be loaded: lam is 1e\+308: .* overflows float64"):
        rn.load(path)


@pytest.mark.parametrize("options", [{"eta": 0.5}, {"eta": "search"}, {"momentum": True}, {"lam": 0.0}], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_at_the_ends_of_the_range_are_accepted(tmp_path, dtype, options):
    """Whatever `build` makes loads: classes of very different weight, and units of epsilon_sq at both ends."""
    X = np.random.default_rng(0).standard_normal((12, 3)).astype(dtype)
    for epsilon_sq, light in ((1e-6, 1.0), (1e6, 1e-6), (0.1, 1e-9)):
        lam = {"lam": min(500.0, 1e3 * epsilon_sq * light)}
        weights = np.where(np.arange(12) % 3 == 0, light, 1.0)
        net, _ = rn.build(
            X, np.arange(12) % 3, n_layers=3, epsilon_sq=epsilon_sq, sample_weight=weights, **{**lam, **options}
        )
        net.save(tmp_path / "net")
        np.testing.assert_array_equal(rn.load(tmp_path / "net").transform(X), net.transform(X))


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [1] * 64 + [3]}, {"shape": [2**63, 0], "data_offsets": [0, 0]}, {"shape": [0, 2**70]},
        {"shape": [2**62, 4]}, {"shape": [True]}, {"shape": [3.0]}, {"shape": None}, {"shape": {}}, {"dtype": "BF16"},
        {"dtype": "f4,("}, {"dtype": None}, {"data_offsets": None}, {"data_offsets": [0, 2**64]},
        {"data_offsets": [float("nan"), 1]}, {"data_offsets": "ab"},
    ],
    ids=str,
)  # fmt: skip
def test_absurd_tensors(saved, change):
    path, _, _ = saved
    header, config, _ = read(path)
    for name in ("etas", "classes", "dense"):
        rewrite(path, {**header, name: {**header[name], **change}}, config)
        with pytest.raises(ValueError, match=f"{named(path)} cannot be loaded: "):
            rn.load(path)


def rewrite(path, header, config):
    """Another header before whatever the file holds."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    text = json.dumps(config)
    head = json.dumps({"__metadata__": metadata(text), **header}).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(struct.pack("<Q", len(head)) + head + data[8 + length :])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("dtype", value)
          for value in ("(1,", "(((", "f4,(", "9" * 5000, ">f4", ">f8", "<f8", "O", "float16", 8, None)],
        *[("classes", f"{form}:{dtype}") for form in ("json", "integer", "float", "raw", "pickle")
          for dtype in ("(1,", "(((", "U999999999", "<U2000000000", ">f2", "M8[", "<m8[century]", "|V8", "object")],
        ("classes", None), ("classes", "raw:<U999999999999999999999"), ("classes", "raw:|b1"), ("classes", "raw:<f16"),
        ("n_channels", True), ("n_channels", 10**400), ("n_channels", "8"), ("signal_shape", [10**30]),
        ("signal_shape", {}), ("signal_shape", [[3]]), ("signal_shape", "3"), ("signal_shape", [True]),
        ("epsilon_sq", float("inf")), ("epsilon_sq", 10**400), ("epsilon_sq", True), ("lam", float("nan")),
        ("lam", "1"),
        ("backend", "torch"), ("backend", ["cpu"]), ("assignment", {}), ("checksums", []), ("checksums", {}),
        ("checksums", None), ("format_version", True), ("format_version", 1.0), ("format_version", "1"),
        ("format_version", 10**400),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_absurd_fields(saved, field, value):
    path, _, _ = saved
    header, config, _ = read(path)
    rewrite(path, header, {**config, field: value})
    with pytest.raises(ValueError, match=f"^{named(path)} cannot be loaded: ") as error:
        rn.load(path)
    assert len(str(error.value)) < 600 + len(str(path))


def test_headers_that_are_no_json(saved):
    path, _, _ = saved
    whole = path.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    deep = b'{"a":' * 10_000 + b"1" + b"}" * 10_000
    for head in (
        deep,
        b"[" * 60_000,
        b'{"etas": NaN}',
        b"\xff\xfe",
        b'{"a": 1e999999}',
        b'{"a": ' + b"9" * 5000 + b"}",
    ):
        path.write_bytes(struct.pack("<Q", len(head)) + head + whole[8 + length :])
        with pytest.raises(ValueError, match="cannot be loaded: its header is damaged"):
            rn.load(path)
    long = b" " * (1 << 20)
    path.write_bytes(struct.pack("<Q", length + len(long)) + whole[8 : 8 + length] + long + whole[8 + length :])
    with pytest.raises(ValueError, match=r"its header is damaged: it has .* bytes, and a network's at most 65536"):
        rn.load(path)


def test_tensors_that_overlap_or_leave_gaps(saved):
    path, _, _ = saved
    header, config, _ = read(path)
    other = json.loads(json.dumps(header))
    other["etas"]["data_offsets"] = header["betas"]["data_offsets"]  # zeros are steps too
    rewrite(path, other, config)
    with pytest.raises(ValueError, match=r"cannot be loaded: tensor '.*' begins at byte"):
        rn.load(path)
    rewrite(path, header, config)
    rn.load(path)
    with path.open("ab") as file:
        file.write(b"12345678")
    with pytest.raises(ValueError, match="cannot be loaded: its tensors end at byte"):
        rn.load(path)


def test_a_tensor_too_many(saved):
    path, _, _ = saved
    header, config, tensors = read(path)
    end = max(entry["data_offsets"][1] for entry in header.values())
    header["more"] = {"dtype": "F64", "shape": [1], "data_offsets": [end, end + 8]}
    write(path, header, config, {**tensors, "more": np.zeros(1)})
    with pytest.raises(ValueError, match="cannot be loaded: tensor 'more' belongs to no network"):
        rn.load(path)


class TestInMemory:
    def test_survives_whatever_happens_to_the_file(self, saved):
        path, net, X = saved
        loaded = rn.load(path, mmap=False)
        os.truncate(path, 100)
        np.testing.assert_array_equal(loaded.transform(X), net.transform(X))
        base = loaded.operators.dense
        while isinstance(base, np.ndarray):
            assert not isinstance(base, np.memmap)
            base = base.base
        assert not loaded.operators.dense.flags.writeable
        assert not loaded.etas.flags.writeable

    def test_is_the_same_network(self, saved, tmp_path):
        path, _, _ = saved
        rn.load(path, mmap=False).save(tmp_path / "other")
        assert (tmp_path / "other").read_bytes() == path.read_bytes()


def sparse_file(path, L, changes):
    """A network of L layers of one channel whose numbers are nearly all holes, with checksums that are right."""
    shapes: dict[str, list[int]] = {"ranks": [2], "alphas": [2], "gammas": [1], "freq_weights": [1], "classes": [1]}
    shapes |= {"etas": [L], "betas": [L], "rate": [L + 1], "per_class": [L + 1, 1]}
    shapes |= {"dense": [L, 2, 1, 1, 1], "factors": [L, 1, 1, 0]}
    ones = {"alphas": [1.0, 1.0], "gammas": [1.0], "freq_weights": [1.0], **changes}
    header, sums, end, zeros = {}, {}, 0, bytes(1 << 20)
    for name, shape in shapes.items():
        begin, end = end, end + 8 * math.prod(shape)
        header[name] = {
            "dtype": "I64" if name in ("ranks", "classes") else "F64",
            "shape": shape,
            "data_offsets": [begin, end],
        }
        sums[name] = zlib.crc32(np.array(ones.get(name, []), "<f8").tobytes())
        for start in range(8 * len(ones.get(name, [])), end - begin, len(zeros)):
            sums[name] = zlib.crc32(zeros[: end - begin - start], sums[name])
    text = json.dumps(
        {"format_version": 1, "n_channels": 1, "signal_shape": [], "epsilon_sq": 0.1, "lam": 500.0, "dtype": "float64",
         "assignment": "estimated", "dft_norm": "ortho", "group": "cyclic", "backend": "cpu",
         "classes": "integer:int64", "checksums": sums}
    )  # fmt: skip
    head = json.dumps(
        {"__metadata__": {"redunet": text, "checksum": f"{zlib.crc32(text.encode()):08x}"}, **header}
    ).encode()
    head += b" " * (-len(head) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for name, values in ones.items():
            file.seek(8 + len(head) + header[name]["data_offsets"][0])
            file.write(np.array(values, "<f8").tobytes())
        file.truncate(8 + len(head) + end)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures resident memory as Linux shows it")
@pytest.mark.parametrize("options", ["mmap=True", "mmap=False", "verify=False"])
@pytest.mark.parametrize("sound", [True, False])
def test_holes_of_a_sparse_file_cost_no_memory(tmp_path, sound, options):
    L = 2**22  # 32 MiB a vector, 192 MiB in all
    sparse_file(tmp_path / "net", L, {} if sound else {"alphas": [0.0, 0.0]})
    if os.stat(tmp_path / "net").st_blocks * 512 > 1 << 20:
        pytest.skip("this file system has no sparse files")
    code = (
        "import resource, sys, redunet as rn, redunet.network.storage\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\nbefore = peak()\n"
        f"try: print(rn.load(sys.argv[1], {options}).n_layers)\n"
        "except ValueError as error: print('cannot be loaded' in str(error))\n"
        "print(peak() - before)"
    )
    path = tmp_path / "net"
    output = subprocess.run([sys.executable, "-c", code, path], timeout=DEADLINE, capture_output=True, text=True)
    said, grown = output.stdout.split()
    assert said == (str(L) if sound else "True"), output.stderr
    assert int(grown) < 16 << 10  # KiB: a few pieces, and half of the smallest of the vectors


def test_files_damaged_at_random():
    """Two seconds of what `python -m bench.fuzz_load` does for as long as one likes; in a process, which may crash."""
    seed = np.random.SeedSequence().generate_state(1)[0]
    command = [sys.executable, "-W", "error", "-m", "bench.fuzz_load", "--seconds", "2", "--seed", str(seed)]
    root = Path(__file__).parents[1]
    result = subprocess.run(command, cwd=root, timeout=DEADLINE, capture_output=True, text=True)
    assert result.returncode == 0, f"seed {seed}: {result.stderr}"
    assert int(result.stdout.split("\n")[1].split()[0]) > 10, result.stdout
