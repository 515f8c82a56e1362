"""What is read through the API, on any node: from its catalogue, and content from wherever it is.

The catalogue is ahead of the folder: what is read is what was committed, not what already stands there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence

import structlog
from blake3 import blake3

from onefold import linux
from onefold.core import wire
from onefold.core.history import Record
from onefold.core.model import Kind, Row, Stat
from onefold.core.paths import RelPath, show
from onefold.core.request import lookup
from onefold.errors import NotFound, PeerError, Unavailable
from onefold.node.apply import Applier
from onefold.node.durable import Keeper
from onefold.node.fetch import EMPTY, Fetcher
from onefold.node.given import Identity, Ports
from onefold.node.waiting import insist
from onefold.ports import Spawn

SMALL_BYTES_MAX = 1 << 20
"""A file of the folder up to this size is read whole, and compared with its digest, before any of it is given."""
READ_BYTES = 256 << 10
TRIES = 3
LINEARIZE_SECONDS = 10.0

log = structlog.get_logger()


class Content:
    """The bytes of one version, open. Whoever got it closes it."""

    def __init__(self, size: int, data: bytes | None = None, fd: int = -1, seen: Stat | None = None) -> None:
        self.size = size
        self._data = data
        self._fd = fd
        self._seen = seen

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset` on, none at the end. Blocks. Raises `OSError`."""
        if self._data is not None:
            return self._data[offset : offset + length]
        return os.pread(self._fd, length, offset)

    @property
    def at_hand(self) -> bool:
        """Whether `read` answers at once."""
        return self._data is not None

    def intact(self) -> bool:
        """Whether what was read so far is that version: a file of the folder may be overwritten meanwhile. To be asked
        after the last `read`, before its bytes are given on."""
        return self._seen is None or linux.fstat_of(self._fd)[1] == self._seen

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Reader:
    """Reads for whoever may."""

    def __init__(
        self, who: Identity, ports: Ports, applier: Applier, fetcher: Fetcher, keeper: Keeper, spawn: Spawn
    ) -> None:
        self._root = who.root
        self._log = ports.log
        self._clock = ports.clock
        self._catalogue = ports.catalogue
        self._base = ports.base
        self._objects = ports.objects
        self._contents = ports.contents
        self._applier = applier
        self._fetcher = fetcher
        self._keeper = keeper
        self._spawn = spawn
        self._next: asyncio.Future[int] | None = None
        self._asking = False

    @property
    def index(self) -> int:
        """Of the newest entry that what is read shows."""
        return self._applier.index

    async def linearize(self, seconds: float = LINEARIZE_SECONDS) -> int:
        """Returns the applied index once all is applied that was committed when it was called.

        Raises `Unavailable` when no majority answers in time.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._applier.reach(await self._head())
        except TimeoutError:
            raise Unavailable("no majority has answered in time", "see `onefold status`, and ask again") from None
        return self._applier.index

    async def _head(self) -> int:
        """The log's head, asked for after this was called. All who call while it is being asked share the next one."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            if not self._asking:
                self._asking = True
                self._spawn(self._ask_head())
        return await asyncio.shield(self._next)

    async def _ask_head(self) -> None:
        while self._next is not None:
            waiting, self._next = self._next, None
            waiting.set_result(await insist(self._clock, self._log.head, "the log does not answer"))
        self._asking = False

    # -------------------------------------------------------------------------------------------- rows

    def row(self, path: RelPath) -> Row:
        """What stands at `path`. Raises `NotFound`."""
        row = lookup(self._catalogue, path)
        if row is None:
            raise NotFound(f"there is no {show(path)}", "list the directory to see what there is")
        return row

    def list(self, path: RelPath, after: bytes, limit: int) -> Sequence[Row]:
        """The first `limit` rows in directory `path` with names beyond `after`, by name. Raises `NotFound`."""
        row = self.row(path)
        if row.kind is not Kind.DIRECTORY:
            raise NotFound(f"{show(path)} is no directory", "list the directory that it is in")
        return self._catalogue.children_after(row.id, after, limit)

    def history(self, before: int, limit: int) -> Sequence[Record]:
        """The newest `limit` changes with versions before `before`, newest first."""
        return self._catalogue.history(before, limit)

    def history_of(self, path: RelPath, before: int, limit: int) -> Sequence[Record] | None:
        """As `history`, of what is at `path`, or was; None when nothing is known of that."""
        row = lookup(self._catalogue, path)
        found = self._catalogue.history_of(path, None if row is None else row.id, before, limit)
        return found if found or row is not None else None

    # -------------------------------------------------------------------------------------------- content

    async def content(self, row: Row) -> Content:
        """The content of `row`, a file, in exactly that version; from here, else from the peers.

        Raises `Unavailable` when nobody who is there has it.
        """
        error: PeerError | None = None
        for _ in range(TRIES):
            if (found := await self._here(row)) is not None:
                return found
            try:
                await self._fetcher.obtain(row.content, row.size)
            except PeerError as failed:
                error = failed
                continue
            found = self._object(row)  # at once: others may let go of it
            if not self._fetcher.keeps(row.content):
                self._keeper.let_go(row.content)
            if found is not None:
                return found
        what = f"the content of {show(row.name)} is not to be had now" + (f" ({error.what})" if error else "")
        raise Unavailable(what, "ask again in a moment; start the nodes that are down")

    async def _here(self, row: Row) -> Content | None:
        if row.content == EMPTY:
            return Content(0, b"")
        data = self._fetcher.at_hand(row.content) or self._contents.get(row.content)
        if data is not None:
            return Content(len(data), data)
        return self._object(row) or await self._in_folder(row)

    def _object(self, row: Row) -> Content | None:
        with contextlib.suppress(KeyError, FileNotFoundError):
            return Content(row.size, fd=os.open(self._objects.path(row.content), os.O_RDONLY | os.O_CLOEXEC))
        return None

    async def _in_folder(self, row: Row) -> Content | None:
        """From a file of the folder that has it, by the base, and is as it was then; or is read again to see."""
        for base in self._base.by_content(row.content):
            path = os.path.join(self._root, self._base.path(base.id))
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                log.info("a copy in the folder cannot be read", path=show(path), error=str(error))
                continue
            taken = False
            try:
                seen = linux.fstat_of(fd)[1]
                if seen.size != row.size:
                    continue
                if row.size <= SMALL_BYTES_MAX:
                    data = await asyncio.to_thread(_whole, fd, row.size)
                    if wire.content_digest(data) == row.content:
                        return Content(row.size, data)
                elif seen == base.stat or await asyncio.to_thread(_digest, fd) == row.content:
                    taken = True
                    return Content(row.size, fd=fd, seen=seen)
            except OSError as error:
                log.info("a copy in the folder cannot be read", path=show(path), error=str(error))
            finally:
                if not taken:
                    os.close(fd)
        return None


def _whole(fd: int, size: int) -> bytes:
    """The first `size` bytes and one more, if there are so many."""
    data = b""
    while len(data) <= size and (part := os.pread(fd, size + 1 - len(data), len(data))):
        data += part
    return data


def _digest(fd: int) -> bytes:
    hasher = blake3()
    offset = 0
    while part := os.pread(fd, READ_BYTES, offset):
        hasher.update(part)
        offset += len(part)
    return hasher.digest()
