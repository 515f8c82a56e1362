"""Immutable content by digest, one file each, verified on arrival and durable before it counts.

An object lives in `xx/` (the first byte of its digest in hex) under the rest of its digest. It is written under a
temporary name in `incoming/`, and becomes an object in three steps, each of which needs the one before it:

1. `fdatasync` of the file: its bytes, size and inode are on disk. Without it, a crash could leave a name over a hole.
2. `rename` to its name: atomic, so an object is there whole or not at all.
3. `fsync` of its directory: the name is on disk. Without it, a crash could take back an object that we acknowledged.

A crash before 2 leaves a temporary, removed at the next start; one between 2 and 3 leaves either nothing or a whole
object, and the next start syncs the directories before it counts what it finds.

What a source broke off is kept as a *part*, `incoming/<digest>.part`, also over a restart, and continued when the
object is asked for again. It is hashed with the rest, so a part that a crash has damaged only costs time.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from blake3 import blake3

from onefold.disk import check_reserve, trouble
from onefold.edge.reread import Rereading
from onefold.errors import ContentMismatch, PeerGone

WRITEBACK_BYTES = 8 << 20
"""The disk is set to work after each so many bytes of a long object, so that the final sync has little left to do."""

PART_BYTES_MIN = 1 << 20
"""Less than that is not worth keeping."""
PART_SECONDS = 86_400.0
"""A part that nobody has continued for so long is removed at the next start."""

_INCOMING = "incoming"
_PART = ".part"
_FAN = re.compile(r"[0-9a-f]{2}")
_REST = re.compile(r"[0-9a-f]{62}")
_SYNC_FILE_RANGE_WRITE = 2

_sync_file_range = ctypes.CDLL(None, use_errno=True).sync_file_range
_sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


class ObjectStore:
    """The objects in `directory`, which is made if need be and used by one process at a time.

    Safe to call from any thread. Raises `DiskTrouble` when the disk is full or fails; nothing is left behind then.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._fans: set[str] = set()
        """The directories of objects that exist, durably."""
        self._settling: set[bytes] = set()
        """Digests between steps 2 and 3: visible in the directory, but not yet to be counted."""
        self._distrusted: set[bytes] = set()
        """Digests of which the file is not what it was: not to be counted until they are stored again."""
        self._parts: set[bytes] = set()
        """Digests that are being received into their part just now."""
        try:
            self._prepare()
        except OSError as error:
            raise trouble(f"cannot use {directory} for objects", directory, error) from error

    def has(self, digest: bytes) -> bool:
        """Whether the object is here and durable."""
        # In this order: a name that came after a look at `_settling` would not be settled yet.
        return os.path.exists(self._name(digest)) and self._counts(digest)

    def put(self, digest: bytes, data: bytes) -> None:
        """Store and fsync. Raises `ContentMismatch` if `data` is not what `digest` names."""
        self.receive(digest, len(data), (data,))

    def receive(self, digest: bytes, size: int, chunks: Iterable[bytes | memoryview]) -> None:
        """Store `size` bytes that come as `chunks`, hashing as they arrive, and fsync.

        A chunk is used before the next is asked for, so one buffer can serve them all. Raises `ContentMismatch` when
        the bytes are not those that `digest` names, and whatever `chunks` raises; leaves nothing behind then.
        """
        if self.has(digest):
            return
        self._check_room(digest, size)
        temporary = self._directory / _INCOMING / f"{next(self._numbers)}"
        try:
            self._write(temporary, 0, digest, size, chunks)
            with self._storing(digest):
                self._settle(temporary, digest)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def resume(self, digest: bytes, size: int, chunks: Callable[[int], Iterable[bytes | memoryview]]) -> None:
        """As `receive`, from `chunks(offset)`, the bytes from there on: what arrived before is not asked for again.
        What has arrived is kept when `chunks` raises `PeerGone`."""
        with self._lock:
            alone = digest not in self._parts
            self._parts.add(digest)
        if not alone:
            self.receive(digest, size, chunks(0))
            return
        part = self._directory / _INCOMING / f"{digest.hex()}{_PART}"
        try:
            if self.has(digest):
                return
            begun = _size(part)
            self._check_room(digest, size - begun)
            self._write(part, begun, digest, size, chunks(begun))
            with self._storing(digest):
                self._settle(part, digest)
        except PeerGone:
            if _size(part) < PART_BYTES_MIN:
                part.unlink(missing_ok=True)
            raise
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        finally:
            self._parts.discard(digest)

    def read(self, digest: bytes) -> bytes:
        """The whole content. Raises `KeyError` when it is not here."""
        try:
            with open(self.path(digest), "rb") as file:
                return file.read()
        except FileNotFoundError as error:  # released since
            raise KeyError(digest) from error
        except OSError as error:
            raise trouble(f"cannot read object {digest.hex()[:12]}", self._directory, error) from error

    def path(self, digest: bytes) -> Path:
        """The file that holds it, for reading only. Raises `KeyError` when it is not here."""
        if not self.has(digest):
            raise KeyError(digest)
        return Path(self._name(digest))

    def reread(self, digest: bytes) -> Rereading:
        """Its file, to be read again from the disk. Raises `KeyError` when it is not here, `OSError`."""
        try:
            return Rereading(os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError as error:  # released since
            raise KeyError(digest) from error

    def distrust(self, digest: bytes) -> None:
        """Its file is damaged: it does not count as here until it is stored again, or released.

        The file stays until another takes its place, so that after a crash in between it is found damaged again, rather
        than taken for one that was never here.
        """
        with self._lock:
            self._distrusted.add(digest)

    def release(self, digest: bytes) -> None:
        """Forget it; no error when it is not here. Not synced: a crash may bring it back, and costs only space."""
        self._distrusted.discard(digest)
        try:
            os.unlink(self._name(digest))
        except FileNotFoundError:
            return
        except OSError as error:
            raise trouble(f"cannot remove object {digest.hex()[:12]}", self._directory, error) from error

    def digests(self) -> Iterator[bytes]:
        """All that are here."""
        for fan in sorted(os.listdir(self._directory)):
            if _FAN.fullmatch(fan):
                for rest in sorted(os.listdir(self._directory / fan)):
                    if _REST.fullmatch(rest):
                        digest = bytes.fromhex(fan + rest)
                        if self._counts(digest):
                            yield digest

    def _counts(self, digest: bytes) -> bool:
        return digest not in self._settling and digest not in self._distrusted

    def _name(self, digest: bytes) -> str:
        text = digest.hex()
        return f"{self._directory}/{text[:2]}/{text[2:]}"

    def _prepare(self) -> None:
        incoming = self._directory / _INCOMING
        incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in os.scandir(incoming):
            if not leftover.name.endswith(_PART) or time.time() - leftover.stat().st_mtime > PART_SECONDS:
                os.unlink(leftover.path)
        for fan in os.listdir(self._directory):
            if _FAN.fullmatch(fan):
                self._fans.add(fan)
                if os.listdir(self._directory / fan):
                    _sync_directory(self._directory / fan)
        _sync_directory(self._directory)

    def _check_room(self, digest: bytes, size: int) -> None:
        with self._storing(digest):
            check_reserve(self._directory, size)

    def _write(
        self, temporary: Path, begun: int, digest: bytes, size: int, chunks: Iterable[bytes | memoryview]
    ) -> None:
        """Into `temporary`, of which the first `begun` bytes are there."""
        hasher = blake3()
        written = started = begun
        with self._storing(digest):
            if begun:
                hasher.update_mmap(temporary)
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            for chunk in chunks:
                if written + len(chunk) > size:
                    raise ContentMismatch(f"object {digest.hex()[:12]} is longer than its {size} bytes")
                hasher.update(chunk)
                with self._storing(digest):
                    _write_all(fd, chunk)
                written += len(chunk)
                if written - started >= WRITEBACK_BYTES:
                    # Only a head start: an error it meets is reported by fdatasync.
                    _sync_file_range(fd, started, written - started, _SYNC_FILE_RANGE_WRITE)
                    started = written
            if written != size or hasher.digest() != digest:
                raise ContentMismatch(f"the {written} bytes that arrived are not object {digest.hex()[:12]}")
            with self._storing(digest):
                os.fchmod(fd, 0o444)
                os.fdatasync(fd)
        finally:
            os.close(fd)

    def _settle(self, temporary: Path, digest: bytes) -> None:
        # Two threads may settle the same digest: either file is whole and durable, and the first of them to sync the
        # directory has made a name for one of the two durable. What counts already never stops counting on the way:
        # a digest begins to count under the lock, so not between another's look and its own rename. One whose sync
        # failed stays uncounted.
        name = self._name(digest)
        with self._lock:
            if self.has(digest):
                os.unlink(temporary)
                return
            self._make_fan(digest.hex()[:2])
            self._settling.add(digest)
            os.rename(temporary, name)
        _sync_directory(Path(name).parent)
        with self._lock:
            self._settling.discard(digest)
            self._distrusted.discard(digest)

    def _make_fan(self, fan: str) -> None:
        if fan not in self._fans:
            (self._directory / fan).mkdir(mode=0o700, exist_ok=True)
            _sync_directory(self._directory)
            self._fans.add(fan)

    @contextmanager
    def _storing(self, digest: bytes) -> Iterator[None]:
        """Around our own system calls only: an `OSError` of the chunks' source is not the disk's."""
        try:
            yield
        except OSError as error:
            raise trouble(f"cannot store object {digest.hex()[:12]}", self._directory, error) from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _write_all(fd: int, chunk: bytes | memoryview) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(fd, view) :]


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
