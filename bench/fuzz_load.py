"""Damaged files of networks and Gram matrices at random: each loads as what was saved, or is refused by its path.

    python -m bench.fuzz_load --seconds 60 --seed 1

Bits are flipped, pieces cut, copied, moved and filled, and headers edited by their structure, with and without
checksums that are made right again. The seed that is printed repeats a failure.
"""

from __future__ import annotations

import argparse
import copy
import json
import struct
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import redunet as rn

Random = np.random.Generator
#: What headers are filled with: numbers at every edge, words of other formats, wrong types.
ABSURD: list[Any] = [
    None, True, -1, 0, 1, 2**31, 2**63, 2**64, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "0", "(1,",
    ">f8", "float32", "complex64", "float16", "O", "<U2000000000", "raw:|O", "json:object", "integer:int8",
    "F32", "F64", "U8", "I64", "x" * 5000, "\ud800", [], [0], [0, 0], [1] * 65, [2**62, 2**62], [2**63, 0], [[]],
    {}, {"a": {}},
]  # fmt: skip


def networks() -> list[rn.ReduNet]:
    """Vectors, signals and images; dense and factored; labels of several kinds."""
    rng = np.random.default_rng(0)
    cases: list[tuple[tuple[int, ...], Any, Any]] = [
        ((9, 3), np.float64, [0, 1]), ((9, 3, 5), np.float32, ["a", "bc", "d"]),
        ((7, 8, 3, 4), np.complex64, [b"x", b"y"]),
        ((6, 14), np.float32, np.array([1, 2.5], object)),
    ]  # fmt: skip
    made = []
    for shape, dtype, labels in cases:
        y = np.asarray(labels)[np.arange(shape[0]) % len(labels)]
        made.append(rn.build(rng.standard_normal(shape).astype(dtype), y, n_layers=2)[0])
    return made


def grams() -> list[rn.ClassGrams]:
    """Vectors, signals and images of the dihedral group; labels of several kinds."""
    rng = np.random.default_rng(1)
    cases: list[tuple[tuple[int, ...], Any, Any, Any]] = [
        ((9, 3), np.float64, [0, 1], "cyclic"), ((9, 3, 5), np.complex128, ["a", "bc", "d"], "cyclic"),
        ((7, 2, 3, 4), np.float32, [b"x", b"y"], "dihedral"),
    ]  # fmt: skip
    made = []
    for shape, dtype, labels, group in cases:
        y = np.asarray(labels)[np.arange(shape[0]) % len(labels)]
        made.append(rn.ClassGrams.of(rng.standard_normal(shape).astype(dtype), y, group=group))
    return made


def damage_bytes(data: bytes, rng: Random) -> bytes:
    """Bits, bytes and stretches of a file changed; half of the time near its head."""
    result = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        end = max(1, len(result) if rng.random() < 0.5 else min(len(result), 3000))
        i, j = sorted(rng.integers(0, end, 2).tolist())
        kind = rng.integers(7)
        if kind == 0 and len(result):
            result[i] ^= 1 << int(rng.integers(8))
        elif kind == 1 and len(result):
            result[i] = int(rng.integers(256))
        elif kind == 2:
            del result[i:]
        elif kind == 3:
            del result[i:j]
        elif kind == 4:
            result[i:j] = bytes([rng.choice([0, 255, 32, 57])]) * (j - i)
        elif kind == 5:
            result[i:i] = result[i:j]
        else:
            result += rng.bytes(int(rng.integers(1, 64)))
    return bytes(result)


def damage_header(data: bytes, rng: Random) -> bytes:
    """Some values of the header, at any depth, replaced, removed, or swapped with another."""
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])
    (key,) = header["__metadata__"].keys() - {"checksum", "format"}
    config = json.loads(header["__metadata__"][key])
    if rng.random() < 0.3 and len(body):  # numbers too, so that what they mean is looked at
        i = 8 * int(rng.integers(len(body) // 8))
        body[i : i + 8] = struct.pack("<d", rng.choice([np.nan, np.inf, -1.0, 0.0, 1e300, 5e-324, 0.5, 2.0]))
    for _ in range(int(rng.integers(0, 4))):
        _edit(config if rng.random() < 0.5 else header, rng)
    if rng.random() < 0.5:
        _seal(header, config, bytes(body))
    metadata = header.get("__metadata__")
    if isinstance(metadata, dict):
        text = json.dumps(config)
        metadata[key] = text
        if rng.random() < 0.8:
            metadata["checksum"] = f"{zlib.crc32(text.encode()):08x}"
    text_of_all = json.dumps(header).encode()
    text_of_all += b" " * (-len(text_of_all) % 8)
    return struct.pack("<Q", len(text_of_all)) + text_of_all + bytes(body)


def _edit(tree: Any, rng: Random) -> None:
    """Change one value somewhere in a tree of dictionaries and lists."""
    while True:
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        if not keys:
            return
        key = keys[int(rng.integers(len(keys)))]
        if isinstance(tree[key], (dict, list)) and len(tree[key]) and rng.random() < 0.8:
            tree = tree[key]
            continue
        other = keys[int(rng.integers(len(keys)))]
        kind = rng.integers(4)
        if kind == 0:
            del tree[key]
        elif kind == 1:
            tree[key], tree[other] = tree[other], tree[key]
        elif kind == 2 and type(tree[key]) is int:
            tree[key] += int(rng.choice([-8, -1, 1, 8]))
        else:
            tree[key] = copy.deepcopy(ABSURD[int(rng.integers(len(ABSURD)))])
        return


def _seal(header: dict[str, Any], config: dict[str, Any], body: bytes) -> None:
    """Make checksums right where tensors can still be found."""
    try:
        sums = config["checksums"]
        for name in sums:
            begin, end = header[name]["data_offsets"]
            sums[name] = zlib.crc32(body[begin:end])
    except (KeyError, TypeError, ValueError):
        pass


def same(a: Any, b: Any) -> bool:
    """Whether two networks, or two sets of Gram matrices, hold the same of everything."""
    if isinstance(a, rn.ClassGrams):
        fields: tuple[str, ...] = ("n_channels", "signal_shape", "group", "real")
        pairs = [(getattr(a, name), getattr(b, name)) for name in ("classes_", "sizes", "grams", "bounds")]
    else:
        fields = ("n_channels", "signal_shape", "epsilon_sq", "lam", "assignment", "dft_norm", "dtype", "backend")
        pairs = [(a.classes_, b.classes_), (a.betas, b.betas), (a.rates.rate, b.rates.rate)]
        pairs.append((a.rates.per_class, b.rates.per_class))
        pairs += [(value, vars(b.operators)[name]) for name, value in vars(a.operators).items()]
    return all(getattr(a, name) == getattr(b, name) for name in fields) and all(
        np.asarray(x).dtype == np.asarray(y).dtype and np.array_equal(x, y) for x, y in pairs
    )


def fuzz(folder: Path, *, seconds: float, seed: int) -> tuple[int, int]:
    """Files tried, and how many of them loaded; an AssertionError at the first failure."""
    path, saved = folder / "file", [*networks(), *grams()]
    wholes = []
    for one in saved:
        one.save(path)
        wholes.append(path.read_bytes())
    tried = loaded = 0
    end = time.monotonic() + seconds
    damages: list[Callable[[bytes, Random], bytes]] = [damage_bytes, damage_header]
    while time.monotonic() < end:
        rng = np.random.default_rng([seed, tried])
        which = int(rng.integers(len(saved)))
        damage = damages[int(rng.integers(2))]
        path.write_bytes(damage(wholes[which], rng))
        mapped = bool(rng.integers(2))
        try:
            back: Any
            back = rn.ClassGrams.load(path) if isinstance(saved[which], rn.ClassGrams) else rn.load(path, mmap=mapped)
        except Exception as error:
            if type(error) is not ValueError or not str(error).startswith(f"{str(path)!r} cannot be loaded: "):
                raise AssertionError(f"seed {seed}, file {tried}: {type(error).__name__}: {error}") from error
        else:
            # Checksums that were made right again are those of something else, and that may be sound.
            assert damage is damage_header or same(back, saved[which]), f"seed {seed}, file {tried}: something else"
            loaded += 1
        tried += 1
    return tried, loaded


def main() -> None:
    """Fuzz for a time and say what was tried."""
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz_load", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time")
    given = parser.parse_args()
    seed = int(np.random.SeedSequence().generate_state(1)[0]) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        tried, loaded = fuzz(Path(folder), seconds=given.seconds, seed=seed)
    print(f"{tried} files tried, {loaded} loaded, the others refused by their path")


if __name__ == "__main__":
    main()
