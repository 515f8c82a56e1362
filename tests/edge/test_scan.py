"""The scanner, on real files: present, absent or unknown, and never absent for the wrong reason (G3)."""

from __future__ import annotations

import itertools
import mmap
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from onefold.core.model import NEVER, ROOT, Absent, BaseRow, Id, Kind, Observed, Present, Unknown
from onefold.core.paths import ROOT_PATH, RelPath
from onefold.edge import scan
from onefold.edge.scan import SMALL_BYTES_MAX, FileRereading, FolderScanner
from onefold.errors import OperatorError
from onefold.ports import CHANGING, LARGE, Listing

OLD_NS = 1_600_000_000_000_000_000
NAMES = [b"new\nline", b"-rf", b"\xff\xfe\x80", b"n" * 255, b" ", b"*", b"a\\b", b"\x01"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root/.onefold").mkdir(parents=True)
    (tmp_path / "root/.onefold/id").write_text("folder")
    return tmp_path / "root"


@pytest.fixture
def scanner(root: Path) -> Iterator[FolderScanner]:
    s = FolderScanner(os.fsencode(root))
    yield s
    s.close()


def observe(scanner: FolderScanner, path: bytes, known: BaseRow | None = None, content: bool = False) -> Observed:
    return scanner.observe(RelPath.parse(path), known, content, large=True)


def present(observed: Observed | Listing) -> Present:
    assert isinstance(observed, Present), observed
    return observed


def row(observed: Present, content: bytes | None = None) -> BaseRow:
    return BaseRow(
        id=Id(1),
        parent=ROOT,
        name=b"f",
        kind=observed.kind,
        version=NEVER,
        placed=NEVER,
        mode=observed.stat.mode,
        mtime_ns=observed.stat.mtime_ns,
        size=observed.stat.size,
        content=observed.content if content is None else content,
        stat=observed.stat,
    )


def old(path: Path) -> None:
    os.utime(path, ns=(OLD_NS, OLD_NS))


# ---------------------------------------------------------------------------------------------------- present


def test_a_small_file_comes_with_its_data(root: Path, scanner: FolderScanner) -> None:
    (root / "f").write_bytes(b"hello")
    (root / "f").chmod(0o640)
    found = present(observe(scanner, b"f"))
    assert found.kind is Kind.FILE
    assert (found.content, found.data) == (blake3(b"hello").digest(), b"hello")
    assert (found.stat.size, found.stat.mode) == (5, 0o640)


@pytest.mark.parametrize("size", [0, SMALL_BYTES_MAX, SMALL_BYTES_MAX + 1, 3_000_001])
def test_a_file_of_any_size_is_hashed_whole(root: Path, scanner: FolderScanner, size: int) -> None:
    data = os.urandom(size)
    (root / "f").write_bytes(data)
    found = present(observe(scanner, b"f"))
    assert found.content == blake3(data).digest()
    assert found.data == (data if size <= SMALL_BYTES_MAX else None)


def test_a_large_file_is_only_read_when_told_to_but_known_without(root: Path, scanner: FolderScanner) -> None:
    (root / "f").write_bytes(b"x" * (SMALL_BYTES_MAX + 1))
    old(root / "f")
    path = RelPath(b"f")
    assert scanner.observe(path, None, False) is LARGE
    known = row(present(scanner.observe(path, None, False, True)), content=b"known")
    assert present(scanner.observe(path, known, False)).content == b"known"
    assert scanner.observe(path, known, True) is LARGE


def test_a_directory_and_the_root_itself(root: Path, scanner: FolderScanner) -> None:
    (root / "d").mkdir()
    for path in (b"d", b""):
        found = present(observe(scanner, path))
        assert (found.kind, found.content, found.data) == (Kind.DIRECTORY, b"", None)


def test_a_symlink_is_its_target_and_never_followed(root: Path, scanner: FolderScanner) -> None:
    os.symlink(b"/etc/\xffpasswd", os.fsencode(root / "s"))
    found = present(observe(scanner, b"s"))
    assert (found.kind, found.content) == (Kind.SYMLINK, b"/etc/\xffpasswd")
    assert found.stat.size == len(found.content)


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_any_name_is_found_and_listed(root: Path, scanner: FolderScanner, name: bytes) -> None:
    top = os.fsencode(root)
    os.mkdir(top + b"/" + name)
    with open(top + b"/" + name + b"/" + name, "wb") as f:
        f.write(name)
    assert present(observe(scanner, name + b"/" + name)).data == name
    assert scanner.listing(RelPath(name)) == Listing((name,))


def test_reading_leaves_the_access_time_alone(root: Path, scanner: FolderScanner) -> None:
    (root / "f").write_bytes(b"x")
    old(root / "f")
    observe(scanner, b"f", None, True)
    assert (root / "f").stat().st_atime_ns == OLD_NS


# ---------------------------------------------------------------------------------------------------- known content


def test_an_unchanged_file_is_not_read(root: Path, scanner: FolderScanner) -> None:
    (root / "f").write_bytes(b"x")
    old(root / "f")
    known = row(present(observe(scanner, b"f")), content=b"known")
    assert present(observe(scanner, b"f", known)).content == b"known"
    assert present(observe(scanner, b"f", known, content=True)).content == blake3(b"x").digest()


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.write_bytes(b"y"),
        lambda f: f.write_bytes(b"longer"),
        lambda f: os.utime(f, ns=(OLD_NS, OLD_NS + 1)),
        lambda f: (f.write_bytes(b"y"), old(f)),
        lambda f: f.chmod(0o600),
    ],
    ids=["written", "grown", "touched", "written, and its mtime set back", "given a mode"],
)
def test_a_changed_stat_is_read_again(root: Path, scanner: FolderScanner, change: Callable[[Path], object]) -> None:
    (root / "f").write_bytes(b"x")
    old(root / "f")
    known = row(present(observe(scanner, b"f")), content=b"known")
    change(root / "f")
    assert present(observe(scanner, b"f", known)).content == blake3((root / "f").read_bytes()).digest()


def test_another_file_with_the_same_size_and_time_is_read(root: Path, scanner: FolderScanner) -> None:
    (root / "f").write_bytes(b"x")
    (root / "g").write_bytes(b"y")
    old(root / "f")
    old(root / "g")
    known = row(present(observe(scanner, b"f")), content=b"known")
    (root / "g").rename(root / "f")
    assert present(observe(scanner, b"f", known)).data == b"y"


def test_a_young_file_is_not_settled_and_never_taken_as_known(
    root: Path, scanner: FolderScanner, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "f").write_bytes(b"x")
    written = (root / "f").stat().st_mtime_ns
    monkeypatch.setattr(time, "time_ns", lambda: written + 19_999_999)
    found = present(observe(scanner, b"f"))
    assert not found.settled
    assert present(observe(scanner, b"f", row(found, content=b"known"))).data == b"x"
    monkeypatch.setattr(time, "time_ns", lambda: written + 20_000_000)
    assert present(observe(scanner, b"f")).settled
    assert present(observe(scanner, b"f", row(found, content=b"known"))).content == b"known"


def test_a_file_dated_in_the_future_is_settled(
    root: Path, scanner: FolderScanner, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "f").write_bytes(b"x")
    changed = (root / "f").stat().st_ctime_ns
    os.utime(root / "f", ns=(0, changed + 10**15))
    monkeypatch.setattr(time, "time_ns", lambda: changed + 10**9)
    assert present(observe(scanner, b"f")).settled


# ---------------------------------------------------------------------------------------------------- changing


@pytest.mark.parametrize("size", [100, 3_000_000])
def test_a_file_written_during_each_reading_is_changing(
    root: Path, scanner: FolderScanner, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    (root / "f").write_bytes(b"x" * size)
    real_read, real_readv = os.read, os.readv

    def written_meanwhile(real: Callable[..., object]) -> Callable[..., object]:
        def read(*args: object) -> object:
            with (root / "f").open("ab") as f:
                f.write(b"y")
            return real(*args)

        return read

    monkeypatch.setattr(os, "read", written_meanwhile(real_read))
    monkeypatch.setattr(os, "readv", written_meanwhile(real_readv))
    assert observe(scanner, b"f") is CHANGING


@pytest.mark.parametrize("size", [100, 3_000_000])
def test_a_file_that_is_overwritten_in_place_during_each_reading_is_changing(
    root: Path, scanner: FolderScanner, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    (root / "f").write_bytes(b"x" * size)
    times = itertools.count(1)

    def written_meanwhile(real: Callable[..., object]) -> Callable[..., object]:
        def read(*args: object) -> object:
            with (root / "f").open("r+b") as f:
                f.write(b"y")
            os.utime(root / "f", (now := next(times), now))  # two writes may share the clock's tick
            return real(*args)

        return read

    monkeypatch.setattr(os, "read", written_meanwhile(os.read))
    monkeypatch.setattr(os, "readv", written_meanwhile(os.readv))
    assert observe(scanner, b"f") is CHANGING


def test_a_file_replaced_between_the_look_and_the_open_is_read_as_the_new_one(
    root: Path, scanner: FolderScanner, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "f").write_bytes(b"old")
    (root / "g").write_bytes(b"new")
    real = FolderScanner._open

    def replaced(directory: int, name: bytes) -> int:
        if (root / "g").exists():
            (root / "g").rename(root / "f")
        return real(directory, name)

    monkeypatch.setattr(scanner, "_open", replaced)
    assert present(observe(scanner, b"f")).data == b"new"


def test_a_snapshot_takes_what_is_there_of_a_file_that_never_rests(
    root: Path, tmp_path: Path, scanner: FolderScanner, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(2_500_000)
    (root / "f").write_bytes(data)
    real = os.read

    def growing(fd: int, size: int) -> bytes:
        with (root / "f").open("ab") as f:
            f.write(b"y")
        return real(fd, size)

    monkeypatch.setattr(os, "read", growing)
    found = present(scanner.observe_snapshot(RelPath(b"f"), tmp_path / "copy"))
    monkeypatch.undo()
    assert (tmp_path / "copy").read_bytes() == data
    assert (found.content, found.stat.size, found.settled) == (blake3(data).digest(), len(data), False)
    assert not found.stat.unchanged(present(observe(scanner, b"f")).stat)


def test_a_snapshot_of_anything_but_a_file_makes_no_copy(root: Path, tmp_path: Path, scanner: FolderScanner) -> None:
    (root / "d").mkdir()
    (root / "s").symlink_to("d")
    assert present(scanner.observe_snapshot(RelPath(b"d"), tmp_path / "copy")).kind is Kind.DIRECTORY
    assert present(scanner.observe_snapshot(RelPath(b"s"), tmp_path / "copy")).kind is Kind.SYMLINK
    assert scanner.observe_snapshot(RelPath(b"n"), tmp_path / "copy") == Absent()
    assert not (tmp_path / "copy").exists()


# ---------------------------------------------------------------------------------------------------- absent


@pytest.mark.parametrize("path", [b"missing", b"missing/below", b"file/below", b"link/f"])
def test_what_cannot_be_there_is_absent(root: Path, scanner: FolderScanner, path: bytes) -> None:
    (root / "file").touch()
    (root / "d").mkdir()
    (root / "d/f").touch()
    (root / "link").symlink_to("d")
    assert observe(scanner, path) == Absent()


def test_nothing_is_absent_without_the_id_file(root: Path, scanner: FolderScanner) -> None:
    (root / ".onefold/id").unlink()
    for path in (b"f", b"d/f"):
        assert isinstance(observe(scanner, path), Unknown)
    assert isinstance(scanner.listing(ROOT_PATH), Unknown)
    assert isinstance(scanner.listing(RelPath(b"d")), Unknown)


def test_nothing_is_absent_in_a_removed_folder(root: Path, scanner: FolderScanner) -> None:
    shutil.rmtree(root)
    assert isinstance(observe(scanner, b"f"), Unknown)
    assert isinstance(scanner.listing(ROOT_PATH), Unknown)


def test_nothing_is_absent_when_another_directory_stands_in_the_folders_place(
    root: Path, scanner: FolderScanner
) -> None:
    root.rename(root.parent / "elsewhere")
    shutil.copytree(root.parent / "elsewhere", root)
    found = observe(scanner, b"f")
    assert isinstance(found, Unknown) and "another directory" in found.reason


def test_a_missing_folder_is_an_error(root: Path) -> None:
    with pytest.raises(OperatorError, match="cannot be opened"):
        FolderScanner(os.fsencode(root / "missing"))


# ---------------------------------------------------------------------------------------------------- unknown


def test_sockets_pipes_and_devices_are_named_and_not_opened(root: Path, scanner: FolderScanner) -> None:
    os.mkfifo(root / "p")
    assert observe(scanner, b"p") == Unknown("a pipe is not replicated")
    directory = os.open(root, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(f"/proc/self/fd/{directory}/s")
    os.close(directory)
    assert observe(scanner, b"s") == Unknown("a socket is not replicated")
    assert scanner.listing(RelPath(b"p")) == Unknown("a pipe is not replicated")


def test_another_mount_is_unknown_however_it_is_asked_for() -> None:
    s = FolderScanner(b"/")
    for path in (b"proc", b"proc/version", b"proc/missing"):
        found = observe(s, path)
        assert isinstance(found, Unknown) and "mounted" in found.reason
    assert isinstance(s.listing(RelPath(b"proc")), Unknown)
    s.close()


_BIND = """
import os, subprocess, sys
from onefold.core.model import Unknown
from onefold.core.paths import RelPath
from onefold.edge.scan import FolderScanner
root = sys.argv[1]
os.makedirs(root + "/a/b"); os.mkdir(root + "/m"); open(root + "/f", "w").close(); open(root + "/a/g", "w").close()
subprocess.run(["mount", "--bind", root + "/a", root + "/m"], check=True)
subprocess.run(["mount", "--bind", root + "/a/g", root + "/f"], check=True)
s = FolderScanner(os.fsencode(root))
for path in (b"m", b"m/b", b"m/g", b"m/missing", b"f"):
    found = s.observe(RelPath(path), None, True)
    assert isinstance(found, Unknown) and "mounted" in found.reason, (path, found)
assert isinstance(s.listing(RelPath(b"m")), Unknown)
subprocess.run(["mount", "-t", "tmpfs", "none", root], check=True)
found = s.observe(RelPath(b"gone"), None, True)
assert isinstance(found, Unknown) and "another directory" in found.reason, found
"""


@pytest.mark.skipif(
    subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode != 0,
    reason="mounts in a namespace of its own",
)
def test_a_bind_mount_of_the_same_file_system_is_unknown_and_so_is_a_folder_mounted_over(root: Path) -> None:
    subprocess.run(["unshare", "-rm", sys.executable, "-c", _BIND, str(root)], check=True)


_AS_NOBODY = """
import os, sys
from onefold.core.model import Present, Unknown
from onefold.core.paths import RelPath
from onefold.edge.scan import FolderScanner
root = os.fsencode(sys.argv[1])
os.setresgid(65534, 65534, 0); os.setresuid(65534, 65534, 0)
s = FolderScanner(root)
for path in (b"secret", b"shut/f", b"shut/missing"):
    found = s.observe(RelPath(path), None, False)
    assert isinstance(found, Unknown) and "permission" in found.reason, (path, found)
assert isinstance(s.listing(RelPath(b"shut")), Unknown)
found = s.observe(RelPath(b"foreign"), None, False)
assert isinstance(found, Present) and found.data == b"x", found
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_what_is_closed_to_us_is_unknown_and_a_strangers_file_is_read(root: Path) -> None:
    (root / "secret").touch(0o600)
    (root / "foreign").write_bytes(b"x")
    (root / "shut").mkdir()
    (root / "shut/f").touch()
    (root / "shut").chmod(0o700)
    fd = os.open(root, os.O_RDONLY)
    try:
        subprocess.run([sys.executable, "-c", _AS_NOBODY, f"/proc/self/fd/{fd}"], check=True, pass_fds=[fd])
    finally:
        os.close(fd)


# ---------------------------------------------------------------------------------------------------- listings


def test_a_listing_is_sorted_bytes_without_what_is_ours(root: Path, scanner: FolderScanner) -> None:
    top = os.fsencode(root)
    for name in (b"b", b"a", b"\xff"):
        os.mkdir(top + b"/" + name)
    os.mkdir(top + b"/a/.onefold")
    assert scanner.listing(ROOT_PATH) == Listing((b"a", b"b", b"\xff"))
    assert scanner.listing(RelPath(b"a")) == Listing((b".onefold",))


def test_a_listing_of_what_is_no_directory_answers_what_it_is(root: Path, scanner: FolderScanner) -> None:
    (root / "f").touch()
    (root / "s").symlink_to(".")
    assert present(scanner.listing(RelPath(b"f"))).kind is Kind.FILE
    assert present(scanner.listing(RelPath(b"s"))).kind is Kind.SYMLINK
    assert scanner.listing(RelPath(b"missing")) == Absent()
    assert scanner.listing(RelPath(b"f/below")) == Absent()


def test_a_listing_that_fails_is_unknown(root: Path, scanner: FolderScanner, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: int) -> list[str]:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "listdir", failing)
    found = scanner.listing(ROOT_PATH)
    assert isinstance(found, Unknown) and "Input/output" in found.reason


# ---------------------------------------------------------------------------------------------------- sessions


def test_a_session_does_not_outlive_a_directorys_rename(
    root: Path, scanner: FolderScanner, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a").mkdir()
    (root / "a/f").touch()
    with scanner.session():
        assert present(observe(scanner, b"a/f"))
        (root / "a").rename(root / "b")
        monkeypatch.setattr(scan, "_PARENT_TRUST_S", 0.0)
        assert observe(scanner, b"a/f") == Absent()
        assert present(observe(scanner, b"b/f"))


def test_sessions_nest_and_leave_no_descriptor_open(root: Path, scanner: FolderScanner) -> None:
    for d in "ab":
        (root / d).mkdir()
        (root / d / "f").write_bytes(b"x")
    before = len(os.listdir("/proc/self/fd"))
    with scanner.session():
        with scanner.session():
            assert present(observe(scanner, b"a/f"))
        assert present(observe(scanner, b"b/f"))
    assert present(observe(scanner, b"a/f"))
    assert observe(scanner, b"a/g") == Absent()
    assert len(os.listdir("/proc/self/fd")) == before


def test_threads_look_independently(root: Path, scanner: FolderScanner) -> None:
    wrong: list[object] = []
    for d in "abcd":
        (root / d).mkdir()
        (root / d / "f").write_text(d)

    def look(d: bytes) -> None:
        with scanner.session():
            found = [observe(scanner, d + b"/f", None, True) for _ in range(300)]
        wrong.extend(o for o in found if not isinstance(o, Present) or o.data != d)

    threads = [threading.Thread(target=look, args=(d,)) for d in (b"a", b"b", b"c", b"d")]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


# ---------------------------------------------------------------------------------------------------- ignoring


def ignored(scanner: FolderScanner, path: bytes, directory: bool = False) -> bool:
    return scanner.ignored(RelPath.parse(path), directory)


def test_without_rules_nothing_is_ignored(scanner: FolderScanner) -> None:
    assert not ignored(scanner, b"a.tmp")


def test_rules_are_those_of_gitignore(root: Path, scanner: FolderScanner) -> None:
    (root / ".onefoldignore").write_bytes(b"# comment\n*.tmp\n!keep.tmp\nnode_modules/\n/build\nlogs/**/x\n\xff*\n")
    assert ignored(scanner, b"a.tmp") and ignored(scanner, b"d/a.tmp") and ignored(scanner, b"new\nline.tmp")
    assert not ignored(scanner, b"keep.tmp")
    assert ignored(scanner, b"d/node_modules", True) and ignored(scanner, b"node_modules/x/y")
    assert not ignored(scanner, b"node_modules")
    assert ignored(scanner, b"build") and not ignored(scanner, b"d/build")
    assert ignored(scanner, b"logs/a/b/x")
    assert ignored(scanner, b"\xff\xfe") and not ignored(scanner, b"\xfe\xff")
    assert scanner.rules_problem() == ""


def test_changed_rules_hold_from_the_next_session_on(root: Path, scanner: FolderScanner) -> None:
    (root / ".onefoldignore").write_text("a\n")
    with scanner.session():
        assert ignored(scanner, b"a")
        (root / ".onefoldignore").write_text("b\n")
        assert ignored(scanner, b"a")
    with scanner.session():
        assert ignored(scanner, b"b") and not ignored(scanner, b"a")
    (root / ".onefoldignore").unlink()
    assert not ignored(scanner, b"b")


def test_a_line_that_is_no_pattern_is_a_problem_and_the_others_hold(root: Path, scanner: FolderScanner) -> None:
    (root / ".onefoldignore").write_text("a\n!\nb\n")
    assert ignored(scanner, b"a") and ignored(scanner, b"b") and not ignored(scanner, b"c")
    assert scanner.rules_problem().startswith("line 2 of .onefoldignore")


def test_rules_that_cannot_be_read_any_more_hold_on(
    root: Path, scanner: FolderScanner, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / ".onefoldignore").write_text("a\n")
    assert ignored(scanner, b"a")
    (root / ".onefoldignore").unlink()
    (root / ".onefoldignore").symlink_to("/etc/passwd")
    assert ignored(scanner, b"a")
    assert "cannot be read" in scanner.rules_problem()


def reread(
    scanner: FolderScanner, path: bytes, meanwhile: Callable[[], object] = lambda: None
) -> tuple[Observed, bool]:
    reading = scanner.reread(RelPath.parse(path))
    assert isinstance(reading, FileRereading)
    try:
        while reading.step():
            pass
        meanwhile()
        return reading.observed()
    finally:
        reading.close()


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour later."""
    now = time.time_ns
    monkeypatch.setattr("onefold.edge.scan.time.time_ns", lambda: now() + 3_600_000_000_000)


@pytest.mark.parametrize("size", [0, 5, (4 << 20) + 7], ids=["empty", "small", "two slices"])
def test_a_file_is_read_again_whole_whatever_its_stat_says(root: Path, scanner: FolderScanner, size: int) -> None:
    (root / "file").write_bytes(data := os.urandom(size))
    seen, _ = reread(scanner, b"file")
    assert present(seen).content == blake3(data).digest()
    assert present(seen).stat == present(observe(scanner, b"file")).stat


@pytest.mark.usefixtures("later")
def test_a_file_is_at_rest_once_it_is_old_and_nobody_can_write_to_it(root: Path, scanner: FolderScanner) -> None:
    (root / "file").write_bytes(b"text")
    assert reread(scanner, b"file")[1]
    with (root / "file").open("r+b"):
        assert not reread(scanner, b"file")[1]


@pytest.mark.usefixtures("later")
def test_a_file_that_is_mapped_for_writing_is_not_at_rest(root: Path, scanner: FolderScanner) -> None:
    (root / "file").write_bytes(b"text")
    with (root / "file").open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    assert not reread(scanner, b"file")[1]
    mapped.close()
    assert reread(scanner, b"file")[1]


def test_a_file_whose_times_are_young_is_not_at_rest(root: Path, scanner: FolderScanner) -> None:
    (root / "file").write_bytes(b"text")
    assert not reread(scanner, b"file")[1]
    os.utime(root / "file", (0, 0))  # whoever sets one time back, sets the other to now
    assert not reread(scanner, b"file")[1]


@pytest.mark.usefixtures("later")
def test_a_file_that_was_written_while_it_was_read_again_is_changing(root: Path, scanner: FolderScanner) -> None:
    (root / "file").write_bytes(b"text")
    time.sleep(0.02)  # a tick of the clock that the kernel takes times from
    assert reread(scanner, b"file", lambda: (root / "file").write_bytes(b"Text")) == (CHANGING, False)


def test_what_is_no_file_is_only_looked_at(root: Path, scanner: FolderScanner) -> None:
    (root / "link").symlink_to("file")
    (root / "directory").mkdir()
    assert scanner.reread(RelPath(b"link")) == observe(scanner, b"link")
    assert scanner.reread(RelPath(b"directory")) == observe(scanner, b"directory")
    assert scanner.reread(RelPath(b"nothing")) == Absent()


def test_what_memory_did_not_hold_it_does_not_hold_after(root: Path, scanner: FolderScanner) -> None:
    def cached() -> bool:
        """Asking begins to read, so what was not held is dropped again."""
        fd = os.open(root / "file", os.O_RDONLY)
        try:
            return os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT) > 0
        except BlockingIOError:
            os.pread(fd, 1 << 20, 0)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            return False
        finally:
            os.close(fd)

    def dropped() -> bool:
        with (root / "file").open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return not cached()

    (root / "file").write_bytes(os.urandom(1 << 20))
    if not any(dropped() for _ in range(20)):
        pytest.skip("this file system keeps what it was told to drop")
    reread(scanner, b"file")
    assert not cached()
    (root / "file").read_bytes()
    reread(scanner, b"file")
    assert cached()
