"""Builds from chunks that are stopped, killed, or refused: what is left in the folder, and how they go on."""

from __future__ import annotations

import errno
import os
import re
import signal
import time

import numpy as np
import pytest
from chunk_problems import build, options_of, pieces
from distributed_problems import SCHEMES, problem, same_networks
from interpreters import output, python

import redunet as rn
from redunet import distributed
from redunet.distributed import chunk_states
from redunet.distributed.scratch import Scratch

needs_posix = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
GIVEN = {**problem("signals, many channels"), "n_layers": 5}


@pytest.fixture(autouse=True)
def without_syncs(monkeypatch):
    """Tests wait for no disk: no machine ends in them."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def same(found, expected):
    """Networks and features, to the last bit."""
    same_networks(found[0], expected[0])
    np.testing.assert_array_equal(found[1].features, expected[1].features)


def left(folder):
    return sorted(os.listdir(folder))


class TestGoingOn:
    @pytest.mark.parametrize("at", [0, 1, 4, 5])
    @pytest.mark.parametrize("scheme", ["fixed", "auto", "search", "momentum", "given"])
    def test_after_ctrl_c_is_the_build_that_never_stopped(self, host, scheme, at, tmp_path):
        given = {**GIVEN, **SCHEMES[scheme], "every": 2}

        def press(index, rates):
            if index == at:
                raise KeyboardInterrupt

        with pytest.raises(rn.BuildInterrupted) as caught:
            build(given, rows=8, scratch=tmp_path, on_layer=press)
        assert (caught.value.net.n_layers if caught.value.net else 0) == at
        there = at // 2 * 2
        checkpoints = {there, there - 2} if 0 < there == at else {there}  # the older one goes after `on_layer`
        kept = {n - before for n in checkpoints for before in ({0, 1} if n and given.get("momentum") else {0})}
        names = [f"features-{n:06d}" for n in sorted(kept)] + (["network"] if there else [])
        assert [name for name in left(tmp_path) if name.startswith(("f", "n", "work"))] == names
        whole = build(given, rows=8)
        with whole[1]:
            same(build(given, rows=8, scratch=tmp_path), whole)

    def test_what_is_complete_is_there_again_or_gets_more_layers(self, tmp_path):
        first = build({**GIVEN, "n_layers": 3}, scratch=tmp_path)
        again = build({**GIVEN, "n_layers": 3}, scratch=tmp_path, chunk_bytes=10**6)
        same(again, first)
        more = build(GIVEN, scratch=tmp_path)
        whole = build(GIVEN)
        with whole[1]:
            same(more, whole)

    def test_tol_knows_the_layers_before(self, tmp_path):
        given = {**GIVEN, "n_layers": 60, "tol": 1e-3, "patience": 3}

        def press(index, rates):
            if index == 2:
                raise KeyboardInterrupt

        with pytest.raises(rn.BuildInterrupted):
            build(given, scratch=tmp_path, every=1, on_layer=press)
        whole = build(given)
        with whole[1]:
            for _ in range(2):
                same(build(given, scratch=tmp_path, every=1), whole)

    def test_samples_that_were_not_all_there_are_taken_again(self, tmp_path):
        def broken():
            yield from [*pieces(GIVEN, 10)][:1]
            raise OSError("the network is down")

        with pytest.raises(OSError, match=r"^the network is down$"):
            distributed.build_chunks(broken(), scratch=tmp_path, **options_of(GIVEN))
        assert left(tmp_path) == ["chunks", "lock"]
        whole = build(GIVEN)
        with whole[1]:
            same(build({**GIVEN, "lam": 20.0}, scratch=tmp_path), whole)

    def test_a_disk_that_is_full(self, tmp_path, monkeypatch):
        n, append = 0, chunk_states.append

        def full(file, rows):
            nonlocal n
            n += 1
            if n == 40:
                raise OSError(errno.ENOSPC, "No space left on device")
            append(file, rows)

        with monkeypatch.context() as patch:
            patch.setattr(chunk_states, "append", full)
            with pytest.raises(OSError, match="No space left"):
                build(GIVEN, rows=1, scratch=tmp_path, every=1, backend="numpy")
        assert not any(name.startswith("work") for name in left(tmp_path))
        whole = build(GIVEN, rows=1, backend="numpy")
        with whole[1]:
            same(build(GIVEN, rows=1, scratch=tmp_path, every=1, backend="numpy"), whole)


class TestKilled:
    @needs_posix
    @pytest.mark.parametrize("momentum", [False, True])
    def test_before_any_write(self, momentum, tmp_path):
        """A process ends before the nth time that it writes, renames or removes a file; another one goes on."""
        out = output(
            f"""
            import os, shutil, numpy as np
            from redunet import distributed
            from redunet.distributed import chunk_states, intake, scratch
            os.fsync = lambda handle: None  # a process ends here, not the machine
            rng = np.random.default_rng(0)
            y = np.arange(12) % 2
            X = rng.standard_normal((2, 3))[y] + rng.standard_normal((12, 3))

            def build(folder):
                return distributed.build_chunks((X, y), n_layers=4, eta=0.3, momentum={momentum}, epsilon_sq=0.5,
                                                every=2, chunk_bytes=800, scratch=folder, backend="numpy")

            def counted(function, last):
                def call(*arguments, **options):
                    global n
                    n += 1
                    if n == last:
                        os._exit(9)
                    return function(*arguments, **options)
                return call

            def child(work):
                pid = os.fork()
                if not pid:
                    work()
                    os._exit(0)
                return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

            def stop(last, folder):
                global n
                n = 0
                for module, name in ((os, "replace"), (os, "unlink"), (os, "fsync"), (os, "write"),
                                     (chunk_states, "append"), (intake, "append")):
                    setattr(module, name, counted(getattr(module, name), last))
                build(folder)

            net, chunks = build({str(tmp_path / "whole")!r})
            folder = {str(tmp_path / "killed")!r}
            for last in range(1, 10**6):
                shutil.rmtree(folder, ignore_errors=True)
                ended = child(lambda: stop(last, folder))
                other, others = build(folder)
                np.testing.assert_array_equal(net.operators.dense, other.operators.dense)
                np.testing.assert_array_equal(net.rates.per_class, other.rates.per_class)
                np.testing.assert_array_equal(chunks.features, others.features)
                assert set(os.listdir(folder)) == set(os.listdir({str(tmp_path / "whole")!r}))
                if not ended:
                    break
                assert ended == 9
            print(last)
            """,
            env={"OPENBLAS_NUM_THREADS": "1"},
        )
        assert int(out) > 30

    @needs_posix
    def test_at_any_moment(self, host, tmp_path):
        folder = tmp_path / "scratch"
        code = f"""
            import time, numpy as np
            from redunet import distributed
            rng = np.random.default_rng(0)
            y = np.arange(900) % 2
            X = rng.standard_normal((2, 8, 9))[y] + rng.standard_normal((900, 8, 9))

            def say(index, rates):
                print(index, flush=True)

            distributed.build_chunks((X, y), n_layers=400, eta=0.1, momentum=True, every=3, chunk_bytes="1MB",
                                     scratch={str(folder)!r}, backend={host!r}, n_threads=2, on_layer=say)
            time.sleep(100)  # on a machine that is too busy to kill it before
        """
        for delay in np.random.default_rng().uniform(0, 0.3, 3):
            process = python(code)
            try:
                kept = int(process.stdout.readline())
                time.sleep(delay)
                process.kill()
                _, err = process.communicate(timeout=60)
            finally:
                process.kill()
                process.wait()
            assert (process.returncode, err) == (-signal.SIGKILL, "")
        rng = np.random.default_rng(0)
        y = np.arange(900) % 2
        X = rng.standard_normal((2, 8, 9))[y] + rng.standard_normal((900, 8, 9))
        n_layers = rn.load(folder / "network").n_layers if (folder / "network").exists() else 0
        assert n_layers >= kept
        options = {"eta": 0.1, "momentum": True, "chunk_bytes": "1MB", "n_threads": 2, "n_layers": n_layers + 5}
        whole = distributed.build_chunks((X, y), **options)
        with whole[1]:
            assert len(whole[1]) > 1
            same(distributed.build_chunks((X, y), scratch=folder, **options), whole)

    @needs_posix
    def test_interrupted_by_a_signal(self, host, tmp_path):
        out = output(f"""
            import os, threading, numpy as np, redunet as rn
            from redunet import distributed
            rng = np.random.default_rng(0)
            X, y = rng.standard_normal((3000, 16, 32)).astype("f4"), np.arange(3000) % 4
            timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
            start = lambda index, rates: timer.start() if index == 1 else None
            try:
                distributed.build_chunks((X, y), n_layers=2000, eta=0.3, chunk_bytes="8MiB", scratch={str(tmp_path)!r},
                                         every=2, backend={host!r}, on_layer=start)
            except rn.BuildInterrupted as stop:
                print(stop.net.n_layers)
        """)
        n = rn.load(tmp_path / "network").n_layers if (tmp_path / "network").exists() else 0
        assert n in (int(out) // 2 * 2, int(out) // 2 * 2 - 2)  # which was being written
        features = {name for name in left(tmp_path) if name.startswith("features-")}
        assert f"features-{n:06d}" in features
        assert len(features) <= 2
        assert set(left(tmp_path)) - features - {"network"} == {"chunks", "labels.npy", "lock"}


class TestMemory:
    @needs_posix
    def test_of_samples_that_do_not_fit(self, host):
        """24 MiB of samples in an address space that has 20 MiB left."""
        if not os.path.exists("/proc/self/statm"):
            pytest.skip("Linux says how large the address space is")
        out = output(
            """
            import resource, numpy as np, redunet as rn
            from redunet import distributed
            m, d = 3 << 15, 64

            def samples():
                for seed in range(64):
                    rng = np.random.default_rng(seed)
                    y = np.arange(m // 64) % 2
                    yield np.eye(2, d, dtype="f4")[y] + 0.3 * rng.standard_normal((len(y), d), "f4"), y

            rn.build(*next(samples()), n_layers=1)  # threads, and memory that stays
            with open("/proc/self/statm") as file:
                limit = int(file.read().split()[0]) * resource.getpagesize() + (20 << 20)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            net, chunks = distributed.build_chunks(samples(), n_layers=2, chunk_bytes="4MiB", n_threads=1)
            assert chunks.n_samples == m and len(chunks) > 8, len(chunks)
            n = 0
            for Z, y in chunks:
                n += len(Z)
            assert n == m
            X, y = next(samples())
            np.testing.assert_allclose(net.transform(X[:100]), next(iter(chunks))[0][:100], atol=1e-4)
            try:
                rn.build(np.ones((m, d), "f4"), np.arange(m) % 2, n_layers=2)
            except MemoryError:
                print("too large")
            """,
            env={"OPENBLAS_NUM_THREADS": "1"},
        )
        assert out == "too large\n"


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"chunk_bytes": 0}, "chunk_bytes is 0; expected an integer >= 1"),
            ({"chunk_bytes": "many"}, "chunk_bytes is 'many'; expected a number of bytes, or text such as"),
            ({"chunk_bytes": "1 gb"}, "chunk_bytes is '1 gb'; expected a number of bytes, or text such as"),
            ({"chunk_bytes": 10}, r"chunk_bytes is 10; expected at least \d+, what a sample takes"),
            ({"keep": "features"}, 'keep is "features"; expected "operators", with which'),
            ({"resume": "net"}, "resume is given; expected a scratch folder in its place"),
            ({"checkpoint": "net"}, "checkpoint is given; expected a scratch folder in its place"),
            ({"sample_weight": np.ones(45)}, "sample_weight is given; expected weights in the source in its place"),
            ({"n_layers": 0}, "n_layers is 0; expected an integer >= 1"),
            ({"every": 0}, "every is 0; expected an integer >= 1"),
            ({"backend": "best"}, "backend is 'best'; expected one of"),
            ({"eta": [0.1]}, r"eta has shape \(1,\); expected a number, or \(5,\)"),
            (
                {"group": "dihedral", "scratch": "missing/folder"},
                "scratch is '.*missing/folder'; expected a folder, or",
            ),
        ],
        ids=str,
    )
    def test_of_options(self, options, text, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ValueError, match=f"^{text}"):
            distributed.build_chunks(pieces(GIVEN), **{**options_of(GIVEN), **options})
        assert os.listdir(tmp_path) == []

    def test_of_an_option_that_there_is_not(self):
        with pytest.raises(TypeError, match="unexpected keyword argument 'layers'"):
            distributed.build_chunks(pieces(GIVEN), n_layers=2, layers=3)

    X, y = np.random.default_rng(0).standard_normal((6, 4)), np.arange(6) % 2
    NAN = np.where(np.arange(24).reshape(6, 4) == 9, np.nan, X)

    @pytest.mark.parametrize(
        ("source", "text"),
        [
            (5, "source is a int; expected pairs"),
            (X, "source is a ndarray; expected pairs"),
            ([X], "source has a ndarray as item 0; expected pairs"),
            ([(X, y), (X,)], "source has a tuple of 1 as item 1; expected pairs"),
            ([], "source has no samples; expected at least one"),
            ([(X[:0], y[:0])], "source has no samples; expected at least one"),
            ([(X, y), (NAN, y)], "source, item 1: X holds NaN or infinity in sample 2"),
            ((NAN, y), "source, arrays: X holds NaN or infinity in sample 2"),
            ([(X, y), (X[:, :3], y)], r"source, item 1: X has shape \(6, 3\); expected \(n, 4\), as before"),
            ([(X, y), (X.astype("f4"), y)], "source, item 1: X has dtype float32; expected float64, as before"),
            ([(X, y), (X, y[:3])], r"source, item 1: y has shape \(3,\); expected labels \(6,\)"),
            ((X, y[:3]), r"source, arrays: y has shape \(3,\); expected labels \(6,\)"),
            ([(X, y), (X, y, y)], "source, item 1: sample_weight is given; expected it for all samples or none"),
            ([(X, y, y), (X, y)], "source, item 1: sample_weight is not given; expected it for all samples or none"),
            ([(X, y, y - 1.0)], "source, item 0: sample_weight holds a negative or non-finite weight"),
            ([(X, y), (X, np.eye(2)[y])], "source, item 1: y has 2 axes; expected 1, as before"),
            ([(X, np.eye(2)[y]), (X, np.eye(3)[y])], "source, item 1: y has 3 classes; expected 2, as before"),
            ([(X, y), (X, np.array(["a", "b"])[y])], "source, item 1: y has dtype <U1, and had int64 before"),
            ([(X, np.eye(3)[y])], "class 2 has no sample of positive weight"),
            ([(X, y, y)], "class 0 has no sample of positive weight"),
            ("missing", "source is 'missing', no folder; expected pairs"),
        ],
    )  # fmt: skip
    def test_of_sources(self, source, text, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        with pytest.raises((ValueError, TypeError), match=f"^{text}"):
            distributed.build_chunks(source, n_layers=2)
        assert os.listdir(tmp_path) == []
        with pytest.raises((ValueError, TypeError), match=f"^{text}"):
            distributed.build_chunks(source, n_layers=2, scratch=tmp_path)
        assert left(tmp_path) == ["chunks", "lock"]

    def test_of_rows_that_are_too_many(self):
        for parts, name in (((self.X, np.arange(7) % 2), "y"), ((self.X, self.y, np.ones(7)), "sample_weight")):
            with pytest.raises(ValueError, match=f"^source, arrays: {name} has 7 rows and X 6; expected as many"):
                distributed.build_chunks(parts, n_layers=2, chunk_bytes=200)

    def test_of_folders(self, tmp_path):
        def refused(text):
            with pytest.raises(ValueError, match=text):
                distributed.build_chunks(tmp_path, n_layers=2)

        refused(r"^source is '.*', a folder without X\*.npy; expected pairs")
        np.save(tmp_path / "X1.npy", self.X)
        refused("^source lacks 'y1.npy', the labels of 'X1.npy'$")
        np.save(tmp_path / "y1.npy", self.y)
        np.save(tmp_path / "w2.npy", self.y)
        refused("^source lacks 'w1.npy', the weights of 'X1.npy'$")
        os.remove(tmp_path / "w2.npy")
        np.save(tmp_path / "y1.npy", self.y.astype(object))
        refused("^source has 'y1.npy', which cannot be read: ")

    def test_of_scratch_that_is_not_ours(self, tmp_path):
        def refused(text, **options):
            with pytest.raises(ValueError, match=text):
                build({**GIVEN, "n_layers": 2}, **{"scratch": tmp_path, **options})

        (tmp_path / "thesis.tex").write_text("years of work")
        refused("^scratch is '.*', which holds 'thesis.tex' and no build from chunks; expected an empty folder")
        refused("^scratch is '.*thesis.tex'; expected a folder, or a new one", scratch=tmp_path / "thesis.tex")
        (tmp_path / "chunks").write_text("of chocolate")
        refused("^scratch is '.*', and 'chunks' in it is of no build from chunks: ")
        assert left(tmp_path) == ["chunks", "lock", "thesis.tex"]
        assert (tmp_path / "chunks").read_text() == "of chocolate"

    def test_of_scratch_of_another_build(self, tmp_path):
        build({**GIVEN, "n_layers": 2}, scratch=tmp_path)
        before = {name: os.stat(tmp_path / name).st_mtime_ns for name in left(tmp_path)}

        def refused(text, given=None, **options):
            with pytest.raises(ValueError, match=f"^{text}"):
                build({**(given or GIVEN), **options}, scratch=tmp_path)
            assert {name: os.stat(tmp_path / name).st_mtime_ns for name in left(tmp_path)} == before

        refused(r"scratch was begun with lam 20.0; expected 3.0, as in this build", lam=3.0)
        refused("scratch was begun with momentum False; expected True", momentum=True)
        refused("scratch was begun with group 'cyclic'; expected 'dihedral'", group="dihedral")
        refused("scratch has 2 layers and n_layers is 1; expected at least as many", n_layers=1)
        other = "scratch was begun with other samples, or in another precision, than those of source"
        refused(other, {**GIVEN, "X": GIVEN["X"][::-1]})
        refused(other, {**GIVEN, "y": GIVEN["y"] + 1})
        refused(other, dtype="f4")

    def test_not_of_membership_that_comes_in_other_pieces(self, tmp_path):
        """Whole in the first piece, and not in a larger one."""
        Pi = np.eye(3)[GIVEN["y"] % 3]
        Pi[30] = 0.5, 0.5, 0
        given = {**GIVEN, "y": Pi}
        build({**given, "n_layers": 2}, 10, scratch=tmp_path)
        net, _ = build(given, scratch=tmp_path, chunk_bytes="1MiB")
        assert net.n_layers == 5
        Pi[0] = Pi[0, ::-1]
        with pytest.raises(ValueError, match=r"^scratch was begun with other samples"):
            build(given, 20, scratch=tmp_path)

    def test_of_scratch_that_is_damaged(self, tmp_path):
        build({**GIVEN, "n_layers": 2}, scratch=tmp_path)
        os.truncate(tmp_path / "features-000002", 100)
        with pytest.raises(ValueError, match=r"^scratch is damaged: 'features-000002' has 100 bytes; expected \d+$"):
            build(GIVEN, scratch=tmp_path)

    def test_of_two_builds_in_one_folder(self, tmp_path):
        def look(index, rates):
            build(GIVEN, scratch=tmp_path)

        with pytest.raises(ValueError, match=re.escape(f"scratch is {str(tmp_path)!r}, where another build works")):
            build(GIVEN, scratch=tmp_path, on_layer=look)

    def test_features_that_a_forked_process_knows_are_not_its_own(self, tmp_path):
        """It ends, and does not remove what its parent works with."""
        if not hasattr(os, "fork"):
            pytest.skip("there is no fork")
        out = output(f"""
            import os, sys
            from redunet.distributed.scratch import Scratch, Spectra, Table
            import numpy as np
            path = {str(tmp_path / "work-0")!r}
            open(path, "w").close()
            spectra = Spectra(Table(path, np.dtype("f4"), (1,)))
            pid = os.fork()
            if not pid:
                sys.exit()
            os.waitpid(pid, 0)
            print(os.path.exists(path))
        """)
        assert out == "True\n"
        assert not Scratch(str(tmp_path)).has("work-0")

    def test_a_temporary_folder_that_a_forked_process_knows_is_not_its_own(self, tmp_path):
        if not hasattr(os, "fork"):
            pytest.skip("there is no fork")
        out = output(f"""
            import os, sys, tempfile
            import numpy as np
            from redunet import distributed
            tempfile.tempdir = {str(tmp_path)!r}
            X = np.random.default_rng(0).standard_normal((20, 4))
            net, chunks = distributed.build_chunks((X, np.arange(20) % 2), n_layers=1)
            pid = os.fork()
            if not pid:
                sys.exit()
            os.waitpid(pid, 0)
            print(chunks.features.shape)
        """)
        assert out == "(20, 4)\n"
        assert os.listdir(tmp_path) == []
