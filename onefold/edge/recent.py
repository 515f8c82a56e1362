"""The small contents that came with recent packs, until they are in place in the folder, and durable.

One file per pack: a head that lists digests and sizes, then the data. Nothing here is synced: after a crash of the
machine a file may lie, so every content is checked against its digest when it is read, and one that fails is simply not
here (the peers have it). SQLite was tried for this: to store 5,000 contents of 4 KiB took as long, but to forget them
160 ms against 2, and only one thread could read them.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import msgspec
from blake3 import blake3

from onefold.errors import OperatorError

_HEAD_BYTES = 4
_decode_head = msgspec.msgpack.Decoder(list[tuple[bytes, int]]).decode


class RecentContents:
    """The contents kept in `directory`, which is made if need be. Safe to call from any thread.

    Raises `OperatorError` when the disk is full or fails.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._places: dict[bytes, tuple[int, int, int]] = {}
        self._packs: dict[int, list[bytes]] = {}
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in directory.iterdir():
                if not path.name.isdecimal() or not self._load(path):
                    path.unlink()
        except OSError as error:
            raise _trouble(directory, error) from error

    def remember(self, index: int, contents: dict[bytes, bytes]) -> None:
        """Keep `contents` (data by digest), which came with entry `index`, until `forget` passes it.

        Call it before the entry's transaction is committed: what the catalogue then names can be read here.
        """
        if not contents:
            return
        head = [(digest, len(data)) for digest, data in contents.items()]
        packed = msgspec.msgpack.encode(head)
        whole = b"".join((len(packed).to_bytes(_HEAD_BYTES, "big"), packed, *contents.values()))
        # A crash in between leaves a file of another length than its head says: the next start removes it.
        try:
            fd = os.open(f"{self._directory}/{index}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                left = memoryview(whole)
                while left:
                    left = left[os.write(fd, left) :]
            finally:
                os.close(fd)
        except OSError as error:
            raise _trouble(self._directory, error) from error
        self._add(index, head, _HEAD_BYTES + len(packed))

    def get(self, digest: bytes) -> bytes | None:
        """The content; None when it is not here, or not what it should be."""
        with self._lock:
            place = self._places.get(digest)
        if place is None:
            return None
        index, offset, size = place
        try:
            fd = os.open(f"{self._directory}/{index}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None  # forgotten since
        try:
            data = os.pread(fd, size, offset)
        finally:
            os.close(fd)
        return data if blake3(data).digest() == digest else None

    def forget(self, up_to: int) -> None:
        """Forget the contents that no entry after `up_to` brought."""
        with self._lock:
            gone = [index for index in self._packs if index <= up_to]
            for index in gone:
                for digest in self._packs.pop(index):
                    place = self._places.get(digest)
                    if place is not None and place[0] == index:
                        del self._places[digest]
        for index in gone:
            (self._directory / str(index)).unlink(missing_ok=True)

    def _load(self, path: Path) -> bool:
        """Take up what a former run left in `path`; False when it is not whole."""
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(_HEAD_BYTES), "big")
            try:
                head = _decode_head(file.read(length))
            except msgspec.MsgspecError:
                return False
        start = _HEAD_BYTES + length
        if path.stat().st_size != start + sum(size for _, size in head):
            return False
        self._add(int(path.name), head, start)
        return True

    def _add(self, index: int, head: list[tuple[bytes, int]], offset: int) -> None:
        with self._lock:
            self._packs[index] = [digest for digest, _ in head]
            for digest, size in head:
                held = self._places.get(digest)
                if held is None or held[0] <= index:
                    self._places[digest] = (index, offset, size)
                offset += size


def _trouble(directory: Path, error: OSError) -> OperatorError:
    return OperatorError(
        f"cannot use {directory} for recent contents: {error.strerror or error}", "free space, or mend the permissions"
    )
