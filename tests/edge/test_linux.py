"""The syscall bindings, on real files."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from onefold import linux

Opener = Callable[[int, bytes, int], int]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture(params=[linux._openat2, linux._walk_open], ids=["openat2", "walk"])
def opener(request: pytest.FixtureRequest) -> Opener:
    return lambda root, path, flags: request.param(root, path or b".", flags, 0)


def test_stat_agrees_with_lstat(tmp_path: Path, root: int) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "file").chmod(0o4751)
    os.utime(tmp_path / "file", ns=(1, -1_500_000_001))
    (tmp_path / "dir").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    for name in (b"file", b"dir", b"link"):
        mode, seen = linux.stat_of(root, name)
        truth = os.lstat(tmp_path / name.decode())
        assert mode == truth.st_mode
        assert (seen.ino, seen.mtime_ns, seen.ctime_ns, seen.size, seen.mode) == (
            truth.st_ino,
            truth.st_mtime_ns,
            truth.st_ctime_ns,
            truth.st_size,
            truth.st_mode & 0o777,
        )


def test_birth_time_stays_when_a_file_is_renamed_and_written(tmp_path: Path, root: int) -> None:
    (tmp_path / "a").write_bytes(b"1")
    before = linux.stat_of(root, b"a")[1]
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "b").write_bytes(b"22")
    assert before.same_file(linux.stat_of(root, b"b")[1])


def test_stat_of_what_is_missing_names_it(root: int) -> None:
    with pytest.raises(FileNotFoundError) as e:
        linux.stat_of(root, b"missing")
    assert e.value.filename == b"missing"


def test_threads_do_not_share_the_stat_buffer(tmp_path: Path, root: int) -> None:
    wrong: list[int] = []

    def check(size: int) -> None:
        name = b"%d" % size
        (tmp_path / name.decode()).write_bytes(b"x" * size)
        wrong.extend(s for s in (linux.stat_of(root, name)[1].size for _ in range(3000)) if s != size)

    threads = [threading.Thread(target=check, args=(size,)) for size in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_another_mount_is_told_from_this_one(root: int) -> None:
    proc = os.open("/proc", os.O_RDONLY)
    try:
        assert linux.look_fd(proc)[2] != linux.look_fd(root)[2]
    finally:
        os.close(proc)


def test_a_file_has_the_mount_of_its_directory(tmp_path: Path, root: int) -> None:
    (tmp_path / "f").touch()
    (tmp_path / "d").mkdir()
    mount = linux.look_fd(root)[2]
    assert linux.look(root, b"f")[2] == linux.mount_of_files(mount)
    assert linux.look(root, b"d")[2] == mount


def test_exchange_swaps_two_files(tmp_path: Path, root: int) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    linux.renameat2(root, b"a", root, b"b", linux.RENAME_EXCHANGE)
    assert (tmp_path / "a").read_bytes() == b"b"
    assert (tmp_path / "b").read_bytes() == b"a"


def test_noreplace_replaces_nothing_and_names_both_sides(tmp_path: Path, root: int) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    with pytest.raises(FileExistsError) as e:
        linux.renameat2(root, b"a", root, b"b", linux.RENAME_NOREPLACE)
    assert (e.value.filename, e.value.filename2) == (b"a", b"b")
    assert (tmp_path / "b").read_bytes() == b"b"


def test_names_of_any_bytes_pass_through(tmp_path: Path, root: int) -> None:
    for name in (b"-rf", b"new\nline", b"\xff\xfe", b"n" * 255):
        os.mkdir(os.fsencode(tmp_path) + b"/" + name)
        linux.renameat2(root, name, root, b"x", linux.RENAME_NOREPLACE)
        linux.renameat2(root, b"x", root, name, linux.RENAME_NOREPLACE)
        assert stat.S_ISDIR(linux.stat_of(root, name)[0])


def test_open_beneath_opens_what_is_there(tmp_path: Path, root: int, opener: Opener) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/f").write_bytes(b"x")
    for path in (b"", b"a", b"a/b", b"a/b/f"):
        fd = opener(root, path, os.O_RDONLY)
        try:
            assert os.path.samestat(os.fstat(fd), os.stat(tmp_path / path.decode()))
            assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        finally:
            os.close(fd)


@pytest.mark.parametrize("path", [b"link/f", b"link", b"out/passwd", b"d/link/f"])
def test_open_beneath_goes_through_no_symlink(tmp_path: Path, root: int, opener: Opener, path: bytes) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").touch()
    (tmp_path / "d/link").symlink_to(".")
    (tmp_path / "link").symlink_to("d")
    (tmp_path / "out").symlink_to("/etc")
    with pytest.raises(OSError) as e:  # noqa: PT011
        opener(root, path, os.O_RDONLY)
    assert e.value.errno in (errno.ELOOP, errno.ENOTDIR)


def test_open_beneath_enters_no_other_mount(opener: Opener) -> None:
    slash = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    before = len(os.listdir("/proc/self/fd"))
    try:
        for path in (b"proc", b"proc/self/status", b"proc/version"):
            with pytest.raises(OSError) as e:  # noqa: PT011
                opener(slash, path, os.O_RDONLY)
            assert e.value.errno in (errno.EXDEV, errno.ELOOP)
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        os.close(slash)


def test_a_lease_tells_whether_somebody_can_write(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    reader = os.open(tmp_path / "f", os.O_RDONLY)
    assert linux.set_read_lease(reader)
    writer = os.open(tmp_path / "f", os.O_WRONLY)
    assert not linux.set_read_lease(reader)
    os.close(writer)
    assert linux.set_read_lease(reader)
    os.close(reader)


def test_a_lease_is_given_back_at_once(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    reader = os.open(tmp_path / "f", os.O_RDONLY)
    assert linux.set_read_lease(reader)
    assert fcntl.fcntl(reader, fcntl.F_GETLEASE) == fcntl.F_UNLCK
    os.close(os.open(tmp_path / "f", os.O_WRONLY | os.O_NONBLOCK))
    os.close(reader)


def test_a_lease_broken_while_it_is_held_does_not_kill_us(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    held = f"""
import fcntl, os
from onefold import linux
fd = os.open({str(tmp_path / "f")!r}, os.O_RDONLY)
real = fcntl.fcntl
def between(fd, what, arg=0):
    if what == fcntl.F_SETLEASE and arg == fcntl.F_UNLCK:
        if os.fork() == 0:
            try:
                os.open({str(tmp_path / "f")!r}, os.O_WRONLY | os.O_NONBLOCK)
            except BlockingIOError:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
    return real(fd, what, arg)
fcntl.fcntl = between
assert linux.set_read_lease(fd)
"""
    subprocess.run([sys.executable, "-c", held], check=True)


def test_where_no_lease_exists_the_file_counts_as_unwritten() -> None:
    fd = os.open("/proc/self/status", os.O_RDONLY)
    assert linux.set_read_lease(fd)
    os.close(fd)


def test_copy_range_copies_between_offsets_and_stops_at_the_end(tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(content)
    with (tmp_path / "a").open("rb") as a, (tmp_path / "b").open("wb") as b:
        assert linux.copy_range(a.fileno(), b.fileno(), 1000) == 1000
        assert linux.copy_range(a.fileno(), b.fileno(), 10_000_000) == len(content) - 1000
    assert (tmp_path / "b").read_bytes() == content


def test_copy_range_falls_back_to_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise OSError(errno.EXDEV, "refused")

    content = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(content)
    monkeypatch.setattr(os, "copy_file_range", refused)
    with (tmp_path / "a").open("rb") as a, (tmp_path / "b").open("wb") as b:
        assert linux.copy_range(a.fileno(), b.fileno(), 10_000_000) == len(content)
    assert (tmp_path / "b").read_bytes() == content


def test_copy_range_does_not_swallow_a_real_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with (tmp_path / "a").open("rb") as a, pytest.raises(OSError, match="Bad file"):
        linux.copy_range(a.fileno(), a.fileno(), 1)


def test_syncfs_and_boot_id(root: int) -> None:
    linux.syncfs(root)
    assert len(linux.boot_id()) == 36 and linux.boot_id() == linux.boot_id()
    with pytest.raises(OSError, match="Bad file"):
        linux.syncfs(-1)


def test_a_watch_of_one_inode_is_one_watch(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    fd = linux.inotify_init()
    try:
        first = linux.add_watch(fd, os.fsencode(tmp_path / "d"), linux.IN_CREATE)
        (tmp_path / "d").rename(tmp_path / "e")
        assert linux.add_watch(fd, os.fsencode(tmp_path / "e"), linux.IN_CREATE) == first
        linux.rm_watch(fd, first)
        with pytest.raises(OSError, match="Invalid"):
            linux.rm_watch(fd, first)
        with pytest.raises(FileNotFoundError):
            linux.add_watch(fd, b"/nonexistent/x", linux.IN_CREATE)
    finally:
        os.close(fd)
