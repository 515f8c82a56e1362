"""Objects: verified, durable, and never half there (G2, G4)."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from onefold.disk import RESERVE_BYTES
from onefold.edge import objects
from onefold.edge.objects import ObjectStore
from onefold.errors import ContentMismatch, DiskTrouble, OperatorError, PeerGone


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "objects")


def files(store: ObjectStore) -> list[Path]:
    return [p for p in store._directory.rglob("*") if p.is_file()]


def digest_of(data: bytes) -> bytes:
    return blake3(data).digest()


@pytest.mark.parametrize("data", [b"", b"x", os.urandom(3 << 20)], ids=["empty", "one byte", "3 MiB"])
def test_what_is_put_is_read_back(store: ObjectStore, data: bytes) -> None:
    digest = digest_of(data)
    assert not store.has(digest)
    store.put(digest, data)
    assert store.has(digest)
    assert store.read(digest) == data
    assert store.path(digest).read_bytes() == data
    assert list(store.digests()) == [digest]


def test_an_object_survives_a_restart(tmp_path: Path) -> None:
    ObjectStore(tmp_path).put(digest_of(b"stays"), b"stays")
    assert ObjectStore(tmp_path).read(digest_of(b"stays")) == b"stays"


def test_an_object_is_read_only(store: ObjectStore) -> None:
    store.put(digest_of(b"x"), b"x")
    assert not stat.S_IMODE(store.path(digest_of(b"x")).stat().st_mode) & 0o222


def test_chunks_may_share_one_buffer(store: ObjectStore) -> None:
    whole = os.urandom(20 << 20)
    buffer = bytearray(1 << 20)

    def chunks() -> Iterator[memoryview]:
        for at in range(0, len(whole), len(buffer)):
            buffer[:] = whole[at : at + len(buffer)]
            yield memoryview(buffer)

    store.receive(digest_of(whole), len(whole), chunks())
    assert store.read(digest_of(whole)) == whole


@pytest.mark.parametrize("arrives", [b"wrong", b"righ", b"right!", b""])
def test_wrong_bytes_never_land(store: ObjectStore, arrives: bytes) -> None:
    with pytest.raises(ContentMismatch):
        store.receive(digest_of(b"right"), 5, [arrives])
    assert not store.has(digest_of(b"right"))
    assert files(store) == []


def test_a_source_that_breaks_off_leaves_nothing_and_is_not_blamed_on_the_disk(store: ObjectStore) -> None:
    def chunks(error: Exception) -> Iterator[bytes]:
        yield b"half"
        raise error

    for error in (PeerGone("the peer is gone"), ConnectionResetError("reset")):
        with pytest.raises(type(error)):
            store.receive(digest_of(b"half and half"), 13, chunks(error))
        assert files(store) == []


def test_a_missing_object_is_a_key_error(store: ObjectStore) -> None:
    for ask in (store.read, store.path):
        with pytest.raises(KeyError):
            ask(digest_of(b"missing"))


def test_released_is_forgotten_and_may_be_released_again(store: ObjectStore) -> None:
    store.put(digest_of(b"x"), b"x")
    store.release(digest_of(b"x"))
    store.release(digest_of(b"x"))
    assert not store.has(digest_of(b"x"))
    assert files(store) == []
    store.put(digest_of(b"x"), b"x")
    assert store.read(digest_of(b"x")) == b"x"


def test_leftovers_of_a_crash_are_removed_at_start(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    store.put(digest_of(b"whole"), b"whole")
    (tmp_path / "incoming" / "17").write_bytes(b"half")
    store = ObjectStore(tmp_path)
    assert [p.read_bytes() for p in files(store)] == [b"whole"]


def test_a_file_that_is_no_object_is_not_listed(store: ObjectStore, tmp_path: Path) -> None:
    (store._directory / "ab").mkdir()
    (store._directory / "ab" / "notes.txt").write_text("not ours")
    assert list(store.digests()) == []


def test_many_threads_put_the_same_and_different_objects(store: ObjectStore) -> None:
    contents = [bytes([n]) * 5000 for n in range(16)]
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for data in contents:
                store.put(digest_of(data), data)
                assert store.read(digest_of(data)) == data
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(store.digests()) == sorted(map(digest_of, contents))
    assert len(files(store)) == len(contents)


def test_what_counts_never_stops_counting_while_another_thread_puts_it_too(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = digest_of(b"x")
    store._make_fan(digest.hex()[:2])
    first_syncs, second_looked, first_waits_or_ends = threading.Event(), threading.Event(), threading.Event()
    first_ended = threading.Event()
    forgotten: list[bool] = []
    real_make_fan = store._make_fan

    class Lock:
        def __init__(self) -> None:
            self._lock = threading.Lock()

        def __enter__(self) -> None:
            if not self._lock.acquire(blocking=False):
                first_waits_or_ends.set()
                self._lock.acquire()

        def __exit__(self, *args: object) -> None:
            self._lock.release()

    def sync(directory: Path) -> None:
        if threading.current_thread() is first:
            first_syncs.set()
            second_looked.wait(10)
        else:
            forgotten.append(first_ended.is_set() and not store.has(digest))

    def make_fan(fan: str) -> None:
        if threading.current_thread() is not first:
            second_looked.set()
            first_waits_or_ends.wait(10)
        real_make_fan(fan)

    def put_first() -> None:
        store.put(digest, b"x")
        first_ended.set()
        first_waits_or_ends.set()

    monkeypatch.setattr(store, "_lock", Lock())
    monkeypatch.setattr(store, "_make_fan", make_fan)
    monkeypatch.setattr(objects, "_sync_directory", sync)
    first = threading.Thread(target=put_first)
    first.start()
    assert first_syncs.wait(10)
    store.put(digest, b"x")
    first.join()
    assert forgotten == [False]
    assert store.has(digest)


def test_an_object_that_gets_its_name_while_it_is_looked_for_does_not_count_yet(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = digest_of(b"x")
    appearing = threading.Event()
    may_sync = threading.Event()
    real_exists, real_sync = os.path.exists, objects._sync_directory

    def sync(directory: Path) -> None:
        if directory.name == digest.hex()[:2]:
            appearing.set()
            assert may_sync.wait(10)
        real_sync(directory)

    def exists(name: str) -> bool:
        if threading.current_thread() is threading.main_thread() and not appearing.is_set():
            storing.start()
            assert appearing.wait(10)
        return real_exists(name)

    storing = threading.Thread(target=store.put, args=(digest, b"x"))
    monkeypatch.setattr(objects, "_sync_directory", sync)
    monkeypatch.setattr(os.path, "exists", exists)
    assert not store.has(digest)
    may_sync.set()
    storing.join()
    assert store.has(digest)


def test_an_object_counts_only_once_its_name_is_synced(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = digest_of(b"x")
    store._make_fan(digest.hex()[:2])
    seen: list[tuple[bool, bool]] = []

    def look(directory: Path) -> None:
        seen.append((store.has(digest), digest in list(store.digests())))

    monkeypatch.setattr(objects, "_sync_directory", look)
    store.put(digest, b"x")
    assert seen == [(False, False)]
    assert store.has(digest)


def test_data_is_synced_before_the_name_and_the_name_before_the_return(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    store._make_fan(digest_of(b"x").hex()[:2])
    real_sync, real_rename, real_directory = os.fdatasync, os.rename, objects._sync_directory

    def note_sync(fd: int) -> None:
        steps.append("data")
        real_sync(fd)

    def note_rename(old: Path, new: str) -> None:
        steps.append("rename")
        real_rename(old, new)

    def note_directory(directory: Path) -> None:
        steps.append("name")
        real_directory(directory)

    monkeypatch.setattr(os, "fdatasync", note_sync)
    monkeypatch.setattr(os, "rename", note_rename)
    monkeypatch.setattr(objects, "_sync_directory", note_directory)
    store.put(digest_of(b"x"), b"x")
    assert steps == ["data", "rename", "name"]


@pytest.mark.parametrize("call", ["write", "fdatasync", "rename"])
def test_a_full_disk_is_the_operators_and_leaves_nothing(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OperatorError, match="free space"):
            store.put(digest_of(b"x"), b"x")
    assert files(store) == []
    store.put(digest_of(b"x"), b"x")
    assert store.read(digest_of(b"x")) == b"x"


def test_an_object_whose_name_could_not_be_synced_does_not_count_until_stored_again(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(directory: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(objects, "_sync_directory", broken)
        with pytest.raises(OperatorError):
            store.put(digest_of(b"x"), b"x")
    assert not store.has(digest_of(b"x"))
    store.put(digest_of(b"x"), b"x")
    assert store.has(digest_of(b"x"))


def test_a_directory_that_cannot_be_used_is_the_operators(tmp_path: Path) -> None:
    (tmp_path / "objects").write_text("a file stands in the way")
    with pytest.raises(OperatorError, match="objects"):
        ObjectStore(tmp_path / "objects")


def rot(path: Path) -> None:
    """Change a byte."""
    os.chmod(path, 0o600)
    with path.open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))


def reread(store: ObjectStore, digest: bytes) -> bytes:
    reading = store.reread(digest)
    try:
        while reading.step():
            pass
        return reading.digest()
    finally:
        reading.close()


@pytest.mark.parametrize("size", [0, 1, (4 << 20), (9 << 20) + 1])
def test_an_object_is_read_again_whole(store: ObjectStore, size: int) -> None:
    digest = digest_of(data := os.urandom(size))
    store.put(digest, data)
    assert reread(store, digest) == digest
    if size:
        rot(store.path(digest))
        assert reread(store, digest) != digest


def test_what_is_not_here_cannot_be_read_again(store: ObjectStore) -> None:
    with pytest.raises(KeyError):
        store.reread(digest_of(b"x"))


def test_a_damaged_object_does_not_count_until_it_is_stored_again(store: ObjectStore) -> None:
    digest = digest_of(b"some data")
    store.put(digest, b"some data")
    rot(store.path(digest))
    store.distrust(digest)
    assert not store.has(digest)
    assert list(store.digests()) == []
    with pytest.raises(KeyError):
        store.path(digest)
    assert len(files(store)) == 1  # after a crash it is found damaged, not missing
    store.put(digest, b"some data")
    assert store.has(digest)
    assert reread(store, digest) == digest


def test_a_damaged_object_that_is_released_is_gone(store: ObjectStore) -> None:
    digest = digest_of(b"some data")
    store.put(digest, b"some data")
    store.distrust(digest)
    store.release(digest)
    assert files(store) == []
    store.put(digest, b"some data")
    assert store.has(digest)


def test_the_last_room_of_a_disk_is_not_for_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ObjectStore(tmp_path / "objects")
    real = os.statvfs(tmp_path)
    few = RESERVE_BYTES // real.f_frsize + 1
    scarce = os.statvfs_result((*real[:4], few, *real[5:10]))
    monkeypatch.setattr(os, "statvfs", lambda _: scarce)
    data = bytes(2 * real.f_frsize)
    with pytest.raises(DiskTrouble, match="the disk is full"):
        store.put(blake3(data).digest(), data)
    assert list(store.digests()) == []
    store.put(blake3(b"small").digest(), b"small")


LONG = os.urandom(3 << 20)
LONG_DIGEST = blake3(LONG).digest()


class Source:
    """Gives `LONG` from an offset on, and breaks off after so many bytes."""

    def __init__(self, breaks_after: int) -> None:
        self.left = breaks_after
        self.offsets: list[int] = []

    def __call__(self, offset: int) -> Iterator[bytes]:
        self.offsets.append(offset)
        for at in range(offset, len(LONG), 1 << 16):
            part = LONG[at : at + (1 << 16)]
            self.left -= len(part)
            if self.left < 0:
                raise PeerGone("it broke off")
            yield part


def broken_off(store: ObjectStore, breaks_after: int) -> None:
    with pytest.raises(PeerGone):
        store.resume(LONG_DIGEST, len(LONG), Source(breaks_after))


def test_what_broke_off_is_continued_where_it_was_also_after_a_restart(tmp_path: Path) -> None:
    broken_off(ObjectStore(tmp_path), 2 << 20)
    store = ObjectStore(tmp_path)
    assert not store.has(LONG_DIGEST)
    source = Source(1 << 20)
    store.resume(LONG_DIGEST, len(LONG), source)
    assert source.offsets == [2 << 20]
    assert store.read(LONG_DIGEST) == LONG
    assert list((tmp_path / "incoming").iterdir()) == []
    assert store.path(LONG_DIGEST).stat().st_mode & 0o777 == 0o444


def test_little_that_broke_off_is_not_kept(tmp_path: Path) -> None:
    broken_off(ObjectStore(tmp_path), 1 << 19)
    assert list((tmp_path / "incoming").iterdir()) == []


def test_a_damaged_part_costs_only_time(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    broken_off(store, 2 << 20)
    (part,) = (tmp_path / "incoming").iterdir()
    part.write_bytes(bytes(2 << 20))
    with pytest.raises(ContentMismatch):
        store.resume(LONG_DIGEST, len(LONG), Source(1 << 30))
    source = Source(1 << 30)
    store.resume(LONG_DIGEST, len(LONG), source)
    assert source.offsets == [0]
    assert store.read(LONG_DIGEST) == LONG


def test_a_part_that_nobody_continued_for_long_is_removed_at_start(tmp_path: Path) -> None:
    broken_off(ObjectStore(tmp_path), 2 << 20)
    (part,) = (tmp_path / "incoming").iterdir()
    os.utime(part, (0, 0))
    ObjectStore(tmp_path)
    assert list((tmp_path / "incoming").iterdir()) == []


def test_two_that_resume_the_same_do_not_write_into_one_part(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    inner = Source(1 << 30)

    def outer(offset: int) -> Iterator[bytes]:
        yield LONG[: 1 << 20]
        store.resume(LONG_DIGEST, len(LONG), inner)
        yield LONG[1 << 20 :]

    store.resume(LONG_DIGEST, len(LONG), outer)
    assert inner.offsets == [0]
    assert store.read(LONG_DIGEST) == LONG
    assert list((tmp_path / "incoming").iterdir()) == []
