"""Files that appear whole or not at all: what is kept of the one before, what is refused, what killed saves leave."""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import redunet as rn
from redunet import files

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes, links and locks are POSIX")
DEADLINE = 60


def network(scale=1.0):
    rng = np.random.default_rng(0)
    return rn.build(rng.standard_normal((9, 3)), np.arange(9) % 2, n_layers=2, lam=scale)[0]


def python(code, *args, **options):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], timeout=DEADLINE, capture_output=True, text=True, **options
    )


class TestWhatIsKept:
    @pytest.mark.parametrize("mode", [0o600, 0o644, 0o664, 0o400, 0o755])
    def test_the_mode_of_a_file_that_is_replaced(self, tmp_path, mode):
        path = tmp_path / "net"
        path.write_bytes(b"before")
        path.chmod(mode)
        network().save(path)
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert rn.load(path).n_layers == 2

    def test_the_mask_is_never_touched(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "umask", lambda _: pytest.fail("another thread's files would get this mask"))
        network().save(tmp_path / "net")

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give files away")
    def test_the_owner(self, tmp_path):
        path = tmp_path / "net"
        path.write_bytes(b"before")
        os.chown(path, 4321, 1234)
        path.chmod(0o2640)
        network().save(path)
        now = path.stat()
        assert (now.st_uid, now.st_gid, stat.S_IMODE(now.st_mode)) == (4321, 1234, 0o2640)

    def test_an_owner_that_may_not_be_kept_is_no_error(self, tmp_path, monkeypatch):
        def refuse(*_):
            raise PermissionError(errno.EPERM, "Operation not permitted")

        path = tmp_path / "net"
        path.write_bytes(b"before")
        other = os.stat_result((*path.stat()[:4], 4321, 1234, *path.stat()[6:]))
        monkeypatch.setattr(os, "fchown", refuse)
        with open(path, "rb") as file:
            files._make_like(file.fileno(), other)

    @pytest.mark.parametrize("exists", [True, False])
    def test_links(self, tmp_path, exists):
        folder = tmp_path / "models"
        folder.mkdir()
        (tmp_path / "second").symlink_to(Path("models") / "net")
        (tmp_path / "first").symlink_to("second")
        if exists:
            (folder / "net").write_bytes(b"before")
        network().save(tmp_path / "first")
        assert os.readlink(tmp_path / "first") == "second"
        assert os.readlink(tmp_path / "second") == os.path.join("models", "net")
        assert not (folder / "net").is_symlink()
        assert rn.load(folder / "net").n_layers == rn.load(tmp_path / "first").n_layers == 2
        assert os.listdir(folder) == ["net"]

    def test_a_circle_of_links_is_an_error(self, tmp_path):
        (tmp_path / "net").symlink_to("net")
        with pytest.raises(OSError, match="net") as error:
            network().save(tmp_path / "net")
        assert error.value.errno == errno.ELOOP

    def test_file_is_synced_before_the_rename_and_folder_after(self, tmp_path, monkeypatch):
        done = []
        sync, rename = os.fsync, os.replace

        def fsync(handle):
            done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
            sync(handle)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "replace", lambda *names: (done.append("rename"), rename(*names)))
        network().save(tmp_path / "net")
        assert done == ["file", "rename", "folder"]

    def test_is_written_in_pieces(self, tmp_path, monkeypatch):
        sizes, syncs, write, sync = [], [], os.write, os.fsync
        monkeypatch.setattr(os, "write", lambda handle, data: sizes.append(len(data)) or write(handle, data[:1000]))
        monkeypatch.setattr(os, "fsync", lambda handle: syncs.append(sum(sizes)) or sync(handle))
        monkeypatch.setattr(files, "PIECE", 4096)
        monkeypatch.setattr(files, "SYNCED", 16384)
        content = os.urandom(50_000)
        files.write(str(tmp_path / "net"), [content[:7], content[7:]])
        assert (tmp_path / "net").read_bytes() == content
        assert max(sizes) <= 4096
        assert len(syncs) == 2 + 50_000 // (16384 + 4096) + 1


def special(folder, kind):
    path = folder / "special"
    if kind == "a folder":
        path.mkdir()
    elif kind == "a FIFO":
        os.mkfifo(path)
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    return path


class TestWhatIsRefused:
    @pytest.mark.parametrize("linked", [False, True])
    @pytest.mark.parametrize("kind", ["a folder", "a FIFO", "a socket"])
    def test_to_replace_what_is_no_regular_file(self, tmp_path, monkeypatch, kind, linked):
        monkeypatch.chdir(tmp_path)  # names of sockets are short
        before = special(Path(), kind)
        path = Path("link") if linked else before
        if linked:
            path.symlink_to(before)
        with pytest.raises(OSError, match=f"It is {kind}; expected the name of a regular file: '{path}'") as error:
            network().save(path)
        assert error.value.filename == str(path)
        assert stat.S_IFMT(os.stat(before).st_mode) != stat.S_IFREG

    @pytest.mark.parametrize("linked", [False, True])
    @pytest.mark.parametrize("kind", ["a folder", "a FIFO", "a socket"])
    def test_to_load_it(self, tmp_path, monkeypatch, kind, linked):
        monkeypatch.chdir(tmp_path)
        path = special(Path(), kind)
        if linked:
            Path("link").symlink_to(path)
            path = Path("link")
        code = "import sys, redunet\ntry: redunet.load(sys.argv[1])\nexcept ValueError as error: print(error)"
        assert python(code, path).stdout == f"'{path}' cannot be loaded: it is {kind}; expected a regular file\n"

    def test_a_file_that_becomes_a_fifo_after_the_look(self, tmp_path, monkeypatch):
        path = tmp_path / "net"
        path.write_bytes(b"")
        look = os.stat

        def changing(name, **options):
            result = look(name, **options)
            path.unlink()
            os.mkfifo(path)
            return result

        monkeypatch.setattr(os, "stat", changing)
        with pytest.raises(ValueError, match="it is a FIFO; expected a regular file"):
            files.open_regular(str(path))

    def test_a_device(self):
        with pytest.raises(ValueError, match=f"'{os.devnull}' cannot be loaded: it is a device"):
            rn.load(os.devnull)

    @pytest.mark.parametrize(
        ("name", "number"),
        [("", errno.ENOENT), ("none/net", errno.ENOENT), ("file/net", errno.ENOTDIR), ("new/", errno.ENOENT),
         ("n" * 256, errno.ENAMETOOLONG)],
    )  # fmt: skip
    def test_names_that_no_file_can_have(self, tmp_path, monkeypatch, name, number):
        monkeypatch.chdir(tmp_path)
        Path("file").write_bytes(b"")
        with pytest.raises(OSError, match=r"\[Errno") as error:
            network().save(name)
        assert (error.value.errno, error.value.filename) == (number, name)
        assert os.listdir() == ["file"]

    @pytest.mark.parametrize("function", [rn.load, lambda path: network().save(path)])
    def test_what_is_no_path(self, function):
        for value in (3, None, ["net"]):
            with pytest.raises(TypeError, match=r"path is .*; expected a path"):
                function(value)
        with pytest.raises(ValueError, match=r"path is 'a\\x00b'; expected a path without null characters"):
            function("a\0b")

    def test_the_longest_names_are_not(self, tmp_path):
        undecodable = [os.fsdecode(b"\xff" * 255)] if sys.platform.startswith("linux") else []  # elsewhere no name
        for name in ("n" * 255, "b" * 254, *undecodable):
            network().save(tmp_path / name)
            assert os.listdir(tmp_path) == [name]
            assert rn.load(os.fsencode(tmp_path / name)).n_layers == 2
            (tmp_path / name).unlink()


class TestErrors:
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
    @pytest.mark.parametrize("where", ["write", "fsync", "replace", "scandir"])
    def test_of_the_system_name_the_path(self, tmp_path, monkeypatch, where, number):
        path = tmp_path / "net"
        path.write_bytes(b"before")

        def fail(*_):
            raise OSError(number, os.strerror(number), "a name that nobody knows")

        with monkeypatch.context() as patch:
            patch.setattr(os, where, fail)
            if (where, number) == ("scandir", errno.EACCES):  # a folder that may be written and not read
                network().save(path)
                return
            with pytest.raises(OSError, match="Errno") as error:
                network().save(path)
        assert (error.value.errno, error.value.filename) == (number, str(path))
        assert type(error.value) is type(OSError(number, ""))
        assert os.listdir(tmp_path) == ["net"]
        assert path.read_bytes() == b"before"

    def test_a_full_disk(self, tmp_path):
        code = (
            "import os, resource, signal, sys, numpy as np, redunet as rn\n"
            "net, _ = rn.build(np.eye(20), np.arange(20) % 2, n_layers=9)\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
            "try: net.save(sys.argv[1])\n"
            "except OSError as error: print(error.errno, error.filename)\n"
        )
        result = python(code, tmp_path / "net")
        assert result.stdout.split() == [str(errno.EFBIG), str(tmp_path / "net")], result.stderr
        assert os.listdir(tmp_path) == []


class TestTemporaries:
    def test_of_killed_saves_go_with_the_next(self, tmp_path):
        code = (
            "import sys, numpy as np, redunet as rn\n"
            "net, _ = rn.build(np.random.default_rng(0).normal(size=(60, 40)), np.arange(60) % 2, n_layers=60)\n"
            "print('go', flush=True)\n"
            "while True: net.save(sys.argv[1])"
        )
        path = tmp_path / "net"
        for delay in (0.0, 0.013, 0.029, 0.05):
            with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE) as process:
                timer = threading.Timer(DEADLINE, process.kill)
                timer.start()
                assert process.stdout.readline() == b"go\n"
                time.sleep(delay)
                process.send_signal(signal.SIGKILL)
                timer.cancel()
            assert len([name for name in os.listdir(tmp_path) if name != "net"]) <= 1
            assert not path.exists() or rn.load(path).n_layers == 60
        network().save(path)
        assert os.listdir(tmp_path) == ["net"]

    def test_of_other_names_stay(self, tmp_path):
        code = (
            "import os, signal, sys\nfrom redunet import files\n"
            "os.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)\nfiles.write(sys.argv[1], [b'half'])"
        )
        assert python(code, tmp_path / "net").returncode == -signal.SIGKILL
        (left,) = os.listdir(tmp_path)
        files.write(str(tmp_path / "other"), [b"whole"])
        assert sorted(os.listdir(tmp_path)) == sorted([left, "other"])
        files.write(str(tmp_path / "net"), [b"whole"])
        assert sorted(os.listdir(tmp_path)) == ["net", "other"]

    def test_that_are_in_use_stay(self, tmp_path, monkeypatch):
        path, rename = str(tmp_path / "net"), os.replace

        def replace(source, target):
            monkeypatch.setattr(os, "replace", rename)
            files.write(path, [b"second"])  # begins and ends while the first is not in its place yet
            assert Path(path).read_bytes() == b"second"
            rename(source, target)

        monkeypatch.setattr(os, "replace", replace)
        files.write(path, [b"first"])
        assert Path(path).read_bytes() == b"first"
        assert os.listdir(tmp_path) == ["net"]

    def test_many_saves_of_one_name_at_once(self, tmp_path):
        path = str(tmp_path / "net")
        contents = [bytes([i]) * 100_000 for i in range(4)]
        files.write(path, contents[:1])
        failures = []

        def save(content):
            try:
                for _ in range(20):
                    files.write(path, [content])
                    if Path(path).read_bytes() not in contents:
                        raise AssertionError("a file that nobody wrote")
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=save, args=(content,)) for content in contents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        assert failures == []
        assert os.listdir(tmp_path) == ["net"]
