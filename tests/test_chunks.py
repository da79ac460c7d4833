"""`distributed.build_chunks` against one build in memory: kinds of samples, steps, sources, watchers, features."""

from __future__ import annotations

import gc
import os
import weakref
from typing import Any

import numpy as np
import pytest
from chunk_problems import build, options_of, pieces, room
from distributed_problems import PROBLEMS, SCHEMES, agree, problem, reference, same_networks

import redunet as rn
from redunet import distributed
from redunet.distributed.scratch import Scratch

WHOLE = [slice(None)]


@pytest.fixture(autouse=True)
def without_syncs(monkeypatch):
    """Tests wait for no disk: no machine ends in them."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


class TestExactness:
    @pytest.mark.parametrize("name", PROBLEMS)
    def test_any_kind_of_sample(self, host, name):
        given = problem(name)
        net, chunks = build(given, 1, 8)
        with chunks:
            assert len(chunks) > 1
            agree([(net, chunks.features)], given, WHOLE)

    @pytest.mark.parametrize("name", ["vectors", "signals, many channels", "signals, soft, weights"])
    @pytest.mark.parametrize("scheme", [scheme for scheme in SCHEMES if scheme != "rates"])
    def test_any_step(self, host, scheme, name):
        given = {**problem(name), **SCHEMES[scheme]}
        net, chunks = build(given, 20)
        with chunks:
            assert len(chunks) > 1
            agree([(net, chunks.features)], given, WHOLE)

    @pytest.mark.parametrize("rows", [1, 7, 1000])
    def test_any_size_of_chunks(self, rows):
        given = problem("signals, many channels")
        net, chunks = build(given, rows=rows)
        with chunks:
            agree([(net, chunks.features)], given, WHOLE)

    def test_two_runs_are_the_same_to_the_last_bit_however_samples_come(self, host):
        given = {**problem("signals, soft, weights"), "momentum": True}
        (net, chunks), (other, others) = build(given), build(given, 1, 20, 21)
        with chunks, others:
            same_networks(net, other)
            np.testing.assert_array_equal(chunks.features, others.features)

    def test_classes_that_come_late(self):
        given = problem("vectors, many classes")
        given["y"] = np.array([*"gfedcba"])[np.sort(given["y"])]
        net, chunks = build(given, *range(5, 60, 5))
        with chunks:
            agree([(net, chunks.features)], given, WHOLE)
            np.testing.assert_array_equal(np.concatenate([y for _, y in chunks]), given["y"])

    def test_labels_of_two_lengths_and_objects(self):
        given = problem("signals")
        given["y"] = np.array(["a", "longer"])[np.arange(50) // 25]
        for kind in ("U6", object):
            given["y"] = given["y"].astype(kind)
            source = [(X, list(y)) for X, y in pieces(given, 25)]
            net, chunks = distributed.build_chunks(source, **options_of(given))
            with chunks:
                agree([(net, chunks.features)], given, WHOLE)

    def test_memberships_of_zeros_and_ones_are_labels(self):
        given = problem("signals, soft")
        hard = np.eye(3)[np.arange(20) % 2]  # a class is not there
        for Pi in (np.concatenate([hard, given["y"][20:]]), np.eye(3)[np.arange(37) % 3]):
            given["y"] = Pi
            net, chunks = build(given, 20)
            with chunks:
                agree([(net, chunks.features)], given, WHOLE)
                found = np.concatenate([y for _, y in chunks])
                np.testing.assert_allclose(found if found.ndim == 2 else np.eye(3)[found], Pi, rtol=1e-12)


class TestSources:
    """The same samples, however they are given."""

    given = problem("signals, many channels")

    def same(self, source: Any, **options: Any) -> None:
        net, chunks = distributed.build_chunks(
            source, chunk_bytes=room(self.given, 4), **{**options_of(self.given), **options}
        )
        with chunks:
            agree([(net, chunks.features)], self.given, WHOLE)

    def test_a_list_of_lists(self):
        self.same([tuple(part.tolist() for part in piece) for piece in pieces(self.given, 10)])

    def test_empty_pieces(self):
        self.same([*pieces(self.given, 0, 10, 10), (np.empty((0, 20, 7)), [], [])])

    def test_a_piece_is_let_go(self):
        """The first one too, of which shape and dtype are remembered."""
        alive = []

        def source():
            for piece in pieces(self.given, 10, 20, 30):
                X = piece[0].copy()
                alive.append(weakref.ref(X))
                yield X, *piece[1:]
                del X, piece
                gc.collect()
                assert sum(ref() is not None for ref in alive) <= 1

        self.same(source())

    def test_channels_are_doubted_once(self):
        images = np.random.default_rng(0).standard_normal((12, 16, 16, 3))
        with pytest.warns(UserWarning, match="channels='last'") as warned:
            distributed.build_chunks([(images[i : i + 2], [0, 1]) for i in range(0, 12, 2)], n_layers=1)[1].close()
        assert len(warned) == 1

    def test_chunks_that_hold_no_sample_are_refused_at_the_first(self):
        def source():
            yield self.given["X"], self.given["y"]
            pytest.fail("more was asked for")

        with pytest.raises(ValueError, match=r"chunk_bytes is 100; expected at least \d+, what a sample takes"):
            distributed.build_chunks(source(), n_layers=1, chunk_bytes=100)

    @pytest.mark.parametrize("content", ["empty", "archive"])
    def test_files_that_are_no_arrays(self, content, tmp_path):
        (tmp_path / "X.npy").write_bytes(b"")
        if content == "archive":
            with open(tmp_path / "X.npy", "wb") as file:
                np.savez(file, X=self.given["X"])
        np.save(tmp_path / "y.npy", self.given["y"])
        with pytest.raises(ValueError, match=r"source has 'X\.npy', which cannot be read: "):
            distributed.build_chunks(tmp_path, n_layers=1)

    def test_arrays(self):
        self.same((self.given["X"], self.given["y"].tolist(), self.given["sample_weight"]))

    def test_memory_maps_and_columns_of_frames(self, tmp_path):
        pandas = pytest.importorskip("pandas")
        np.save(tmp_path / "X.npy", self.given["X"])
        y = pandas.Series(self.given["y"], index=np.arange(45)[::-1])
        self.same((np.load(tmp_path / "X.npy", mmap_mode="r"), y, self.given["sample_weight"]))

    def test_a_folder(self, tmp_path):
        for number, piece in enumerate(pieces(self.given, 7, 30)):
            for letter, part in zip("Xyw", piece, strict=True):
                np.save(tmp_path / f"{letter}-{number:03d}.npy", part)
        (tmp_path / "README").write_text("no samples")
        self.same(tmp_path)

    def test_lazy_arrays(self):
        """As Dask has them; blocks of samples and of channels, each computed once."""
        computed: list[int] = []
        X = Lazy(self.given["X"], [0, 20, 21, 45], computed)
        self.same((X, Lazy(self.given["y"], [0, 45], []), self.given["sample_weight"]))
        assert computed == [0, 1, 2]
        self.same([(Lazy(self.given["X"][some], [0, 9], []), *(self.given[n][some] for n in ("y", "sample_weight")))
                   for some in (slice(0, 9), slice(9, None))])  # fmt: skip

    def test_dask(self):
        array = pytest.importorskip("dask.array")
        X = array.from_array(self.given["X"], chunks=(20, 7, 7))
        self.same((X, array.from_array(self.given["y"], chunks=13), self.given["sample_weight"]))

    def test_integers(self):
        X = np.random.default_rng(0).integers(-9, 9, (40, 6))
        y = np.arange(40) % 2
        net, chunks = distributed.build_chunks([(X[:5], y[:5]), (X[5:], y[5:])], n_layers=3)
        with chunks:
            agree([(net, chunks.features)], {"X": X.astype(float), "y": y, "n_layers": 3}, WHOLE)

    def test_channels_that_are_last(self):
        X, y = np.moveaxis(self.given["X"], 1, -1), self.given["y"]
        _, chunks = distributed.build_chunks([(X[:20], y[:20]), (X[20:], y[20:])], n_layers=3, channels="last")
        _, Z = rn.build(X, y, n_layers=3, channels="last")
        with chunks:
            assert chunks.features.shape == X.shape
            np.testing.assert_allclose(chunks.features, Z, atol=1e-8)

    def test_dtype(self):
        X, y = self.given["X"], self.given["y"]
        source = [(X[:20], y[:20]), (X[20:].astype("f4"), y[20:])]
        net, chunks = distributed.build_chunks(source, n_layers=3, dtype="f4")
        with chunks:
            assert net.dtype == chunks.features.dtype == np.float32
            agree([(net, chunks.features)], {"X": X.astype("f4"), "y": y, "n_layers": 3}, WHOLE)


class Lazy:
    """What Dask's arrays have that is used."""

    def __init__(self, array: np.ndarray, bounds: list[int], computed: list[int], number: int = -1) -> None:
        self.array, self.bounds, self.computed, self.number = array, bounds, computed, number
        self.shape, self.dtype = array.shape, array.dtype
        self.numblocks = (len(bounds) - 1, *[1] * (array.ndim - 1))

    @property
    def blocks(self) -> list[Lazy]:
        return [
            Lazy(self.array[first:last], [0, last - first], self.computed, number)
            for number, (first, last) in enumerate(zip(self.bounds, self.bounds[1:], strict=False))
        ]

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: slice) -> Lazy:
        return Lazy(self.array[rows], [0, 1], [])

    def compute(self) -> np.ndarray:
        self.computed.append(self.number)
        return self.array


class TestChunks:
    def test_features_and_labels(self, tmp_path):
        given = problem("signals")
        net, chunks = build(given, scratch=tmp_path / "new")
        _, W = reference(given)
        start = 0
        for Z, y in chunks:
            assert not Z.flags.writeable
            np.testing.assert_allclose(Z, W[start : start + len(Z)], atol=1e-4)
            np.testing.assert_array_equal(y, given["y"][start : start + len(Z)])
            start += len(Z)
        assert start == chunks.n_samples == 50
        assert (chunks.folder, chunks.features.shape) == (str(tmp_path / "new"), (50, 3, 10))
        np.testing.assert_array_equal(np.load(tmp_path / "new" / "features.npy"), chunks.features)
        np.testing.assert_array_equal(np.load(tmp_path / "new" / "labels.npy"), given["y"])
        assert repr(chunks) == f"Chunks((50, 3, 10) float32 in {len(chunks)} chunks)"
        chunks.close()
        assert chunks.features.shape == (50, 3, 10)
        np.testing.assert_array_equal(rn.load(tmp_path / "new" / "network").operators.dense, net.operators.dense)

    @pytest.mark.parametrize("end", ["close", "del"])
    def test_a_temporary_folder_goes(self, end, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        _, chunks = build(problem("signals"))
        names = sorted(os.listdir(chunks.folder))
        assert names == ["chunks", "features.npy", "labels.npy", "lock"]
        if end == "close":
            chunks.close()
        del chunks
        assert os.listdir(tmp_path) == []


class TestWatching:
    def test_on_layer_and_tol(self, host):
        given = {**problem("signals, many channels"), "n_layers": 60, "tol": 1e-3, "patience": 3}
        net, chunks = build(given)
        with chunks:
            assert net.n_layers < 60
            agree([(net, chunks.features)], given, WHOLE)
        seen = []

        def look(index, rates):
            seen.append(index)
            return index == 2

        for momentum in (False, True):
            net, chunks = build(given, on_layer=look, momentum=momentum)
            with chunks:
                agree([(net, chunks.features)], {**given, "n_layers": 2, "momentum": momentum}, WHOLE)
        assert seen == [0, 1, 2] * 2

    def test_progress(self, capsys):
        build({**problem("signals"), "progress": True})[1].close()
        assert capsys.readouterr().err.count("layer 4/4") == 1


@pytest.mark.parametrize(
    ("scheme", "most"), [("fixed", 3), ("auto", 3), ("search", 4), ("momentum", 6), ("momentum, search", 7)]
)
def test_files_at_a_time(scheme, most, tmp_path, monkeypatch):
    """Features take no more of the disk than documented."""
    counts = []
    work = Scratch.work

    def counted(self):
        counts.append(1 + sum(name.startswith(("features-", "work-")) for name in os.listdir(tmp_path)))
        return work(self)

    given = {**problem("signals"), **SCHEMES[scheme], "n_layers": 12}
    monkeypatch.setattr(Scratch, "work", counted)
    build(given, scratch=tmp_path, every=5)
    assert max(counts) == most
    kept = ["features-000011"] * ("momentum" in scheme) + ["features-000012"]
    assert sorted(os.listdir(tmp_path)) == sorted(["chunks", *kept, "features.npy", "labels.npy", "lock", "network"])
