"""The small contents that came with recent packs, until they are in place in the folder, and durable.

They are appended to segments, each a file that goes as a whole once all in it is forgotten. A record is a head (the
entry's index, digests and sizes), then the data. Nothing here is synced: after a crash of the machine a segment may
lie, so every content is checked against its digest when it is read, and one that fails is simply not here (the peers
have it, and the log). SQLite was tried for this: to store 5,000 contents of 4 KiB took as long, but to forget them 160
ms against 2, and only one thread could read them. A file per pack was, too: making and removing it was a sixth of what
a follower does for a small edit.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import msgspec
from blake3 import blake3

from onefold.disk import trouble
from onefold.errors import DiskTrouble

SEGMENT_BYTES = 8 << 20
"""A segment takes no more records once it holds this much."""
_LENGTH_BYTES = 4


class _Head(msgspec.Struct, array_like=True):
    """What precedes the data of one pack, whose entry was `index`."""

    index: int
    contents: list[tuple[bytes, int]]


_encode_head = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(_Head).decode


class _Segment:
    """A file of records, open. `packs`: those not forgotten yet, with their digests, oldest first."""

    def __init__(self, path: Path, flags: int) -> None:
        self.path = path
        self.fd = os.open(path, flags | os.O_RDWR | os.O_CLOEXEC, 0o600)
        self.bytes = 0
        self.packs: deque[tuple[int, list[bytes]]] = deque()

    def append(self, record: bytes) -> None:
        left = memoryview(record)
        while left:
            written = os.pwrite(self.fd, left, self.bytes)
            self.bytes += written
            left = left[written:]

    def records(self) -> Iterator[tuple[_Head, int]]:
        """The head of every whole record, and where its data begins. A record that a crash cut off ends them."""
        size, at = os.fstat(self.fd).st_size, 0
        while at < size:
            length = int.from_bytes(os.pread(self.fd, _LENGTH_BYTES, at), "big")
            data = at + _LENGTH_BYTES + length
            if data > size:
                return
            try:
                head = _decode_head(os.pread(self.fd, length, at + _LENGTH_BYTES))
            except msgspec.MsgspecError:
                return
            at = data + sum(size for _, size in head.contents)
            if at > size:
                return
            yield head, data

    def remove(self) -> None:
        os.close(self.fd)
        self.path.unlink(missing_ok=True)


class RecentContents:
    """The contents kept in `directory`, which is made if need be. Safe to call from any thread.

    Raises `DiskTrouble` when the disk is full or fails.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._places: dict[bytes, tuple[_Segment, int, int, int]] = {}  # with offset, size, and the entry's index
        self._segments: list[_Segment] = []
        self._writing: _Segment | None = None
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            former = sorted((int(path.name), path) for path in directory.iterdir() if path.name.isdecimal())
            for _, path in former:
                self._load(path)
        except OSError as error:
            raise self._trouble(error) from error
        self._numbers = count(former[-1][0] + 1 if former else 1)

    def close(self) -> None:
        """Close the segments. What they hold is there at the next start."""
        for segment in self._segments:
            os.close(segment.fd)
        self._segments.clear()
        self._places.clear()

    def remember(self, index: int, contents: dict[bytes, bytes]) -> None:
        """Keep `contents` (data by digest), which came with entry `index`, until `forget` passes it.

        Call it before the entry's transaction is committed: what the catalogue then names can be read here.
        """
        if not contents:
            return
        head = _Head(index, [(digest, len(data)) for digest, data in contents.items()])
        packed = _encode_head(head)
        record = b"".join((len(packed).to_bytes(_LENGTH_BYTES, "big"), packed, *contents.values()))
        with self._lock:
            try:
                segment = self._writing
                if segment is None or segment.bytes >= SEGMENT_BYTES:
                    path = self._directory / str(next(self._numbers))
                    segment = self._writing = _Segment(path, os.O_CREAT | os.O_EXCL)
                    self._segments.append(segment)
                offset = segment.bytes + _LENGTH_BYTES + len(packed)
                segment.append(record)
            except OSError as error:
                self._writing = None  # what is half written ends that segment
                raise self._trouble(error) from error
            self._add(segment, head, offset)

    def get(self, digest: bytes) -> bytes | None:
        """The content; None when it is not here, or not what it should be."""
        with self._lock:
            place = self._places.get(digest)
            if place is None:
                return None
            segment, offset, size, _ = place
            data = os.pread(segment.fd, size, offset)
        return data if blake3(data).digest() == digest else None

    def forget(self, up_to: int) -> None:
        """Forget the contents that no entry after `up_to` brought."""
        with self._lock:
            for segment in self._segments:
                while segment.packs and segment.packs[0][0] <= up_to:
                    _, digests = segment.packs.popleft()
                    for digest in digests:
                        place = self._places.get(digest)
                        if place is not None and place[3] <= up_to:
                            del self._places[digest]
            for segment in [each for each in self._segments if not each.packs]:
                self._segments.remove(segment)
                segment.remove()
                if segment is self._writing:
                    self._writing = None

    def _load(self, path: Path) -> None:
        """Take up what a former run left in `path`."""
        segment = _Segment(path, 0)
        for head, offset in segment.records():
            self._add(segment, head, offset)
        if segment.packs:
            self._segments.append(segment)
        else:
            segment.remove()

    def _add(self, segment: _Segment, head: _Head, offset: int) -> None:
        segment.packs.append((head.index, [digest for digest, _ in head.contents]))
        for digest, size in head.contents:
            held = self._places.get(digest)
            if held is None or held[3] <= head.index:
                self._places[digest] = (segment, offset, size, head.index)
            offset += size

    def _trouble(self, error: OSError) -> DiskTrouble:
        return trouble(f"cannot use {self._directory} for recent contents", self._directory, error)
