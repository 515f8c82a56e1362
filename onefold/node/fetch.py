"""Contents that a plan needs and that are not here: from this folder, else from peers, small ones many at a time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import structlog

from onefold.core import wire
from onefold.core.messages import Give, Given, Problem
from onefold.core.model import Id
from onefold.core.paths import show
from onefold.errors import ContentMismatch, OperatorError, PeerError
from onefold.node.sound import damage
from onefold.node.waiting import retry_seconds
from onefold.ports import BaseStore, Objects, Peers, RecentContents, Spawn

SMALL_BYTES_MAX = 1 << 20
"""Contents up to this size come many at a time, into memory; larger ones as objects, by transfers of their own."""
GIVE_BYTES = 1 << 20
GIVE_COUNT = 256
"""What is asked of a peer at once: so little that its loop is not kept from anything else for long."""
GIVE_SECONDS = 10.0
SEARCH_BYTES = 4 << 20
"""What is read on this node at once: about 10 ms of its loop."""
HERE_BYTES_MAX = 32 << 20
"""No more is asked for while so much is here that the folder has not taken yet."""
RETRY_SECONDS_MIN = 0.02
RETRY_SECONDS_MAX = 5.0
PATIENCE = 6
"""So often what has no room here, or is nowhere, is tried before nobody waits for it any more."""

EMPTY = wire.content_digest(b"")

log = structlog.get_logger()


class _Wanted(msgspec.Struct):
    """A content on its way: for whom; and which peers do not have it."""

    size: int
    ids: set[Id]
    lacking: set[str]


class Fetcher:
    """Brings contents into reach; tries until nobody wants them any more.

    Small contents that came from a peer are only in memory until they are `placed`: the folder is where they are
    going, and a crash on the way costs no more than another request.
    """

    def __init__(
        self,
        base: BaseStore,
        contents: RecentContents,
        objects: Objects,
        peers: Peers,
        root: bytes,
        is_current: Callable[[Id, bytes], bool],
        arrived: Callable[[Iterable[Id]], None],
        done_with: Callable[[bytes], None],
        spawn: Spawn,
    ) -> None:
        """`is_current(id, digest)`: whether the catalogue still wants that. `arrived(ids)`: their content can be had
        now, or nobody wants it any more. `done_with(digest)`: an object that came for the folder is in it, or nobody
        wants it any more."""
        self._base = base
        self._contents = contents
        self._objects = objects
        self._peers = peers
        self._root = root
        self._is_current = is_current
        self._arrived = arrived
        self._done_with = done_with
        self._spawn = spawn
        self._here: dict[bytes, bytes] = {}
        self._here_bytes = 0
        self._had_turn: set[bytes] = set()  # of those, what could have been placed once more since there is no room
        self._queue: dict[bytes, _Wanted] = {}  # small, to be asked for
        self._unsearched: dict[bytes, None] = {}  # of those, what was not looked for on this node yet
        self._flying: dict[bytes, _Wanted] = {}  # small, asked for; or large
        self._obtained: dict[bytes, set[Id]] = {}  # objects that came for the folder alone, and for whom
        self._asked: set[str] = set()  # peers that are being asked
        self._barren: set[str] = set()  # peers that had nothing of what they were asked for
        self._examined: set[bytes] = set()  # objects that are being read again
        self._fruitless = 0
        self._later: asyncio.TimerHandle | None = None
        self._problem: Problem | None = None
        self._stuck: set[bytes] = set()

    def __len__(self) -> int:
        """How many contents are on their way."""
        return len(self._queue) + len(self._flying)

    @property
    def stuck(self) -> int:
        """How many of them have no room here, or are nowhere to be had, which a problem tells: nobody need wait."""
        return len(self._stuck) + (len(self._queue) if self._fruitless >= PATIENCE else 0)

    def problems(self) -> list[Problem]:
        """What only a person can mend."""
        found = [self._problem] if self._problem is not None and self._flying else []
        if self._queue and self._fruitless >= PATIENCE:
            what = f"the content of {len(self._queue)} files is nowhere to be had"
            found.append(Problem(what, "", "start the nodes that are down, or write those files anew"))
        return found

    # -------------------------------------------------------------------------------------------- what is here

    def at_hand(self, digest: bytes) -> bytes | None:
        """A content that is in memory, on its way to the folder."""
        return self._here.get(digest)

    def keeps(self, digest: bytes) -> bool:
        """Whether it is here, or on its way, for the folder."""
        return self.wants(digest) or digest in self._obtained

    def has(self, digest: bytes) -> bool:
        return digest == EMPTY or digest in self._here or self._objects.has(digest)

    def get(self, digest: bytes) -> bytes | Path:
        """Raises `KeyError` when it is not here."""
        data = b"" if digest == EMPTY else self._here.get(digest)
        return data if data is not None else self._objects.path(digest)

    def bring(self, contents: dict[bytes, bytes]) -> None:
        """These came by themselves, with a pack. They are among the recent contents, where they can be had later."""
        for digest, data in contents.items():
            if self._here_bytes <= HERE_BYTES_MAX:
                self._add(digest, data)
                if digest in self._queue:
                    self._arrived(self._queue.pop(digest).ids)
            elif digest in self._queue:
                self._unsearched[digest] = None

    def _add(self, digest: bytes, data: bytes) -> None:
        if digest not in self._here:
            self._here[digest] = data
            self._here_bytes += len(data)

    def _drop(self, digest: bytes) -> None:
        data = self._here.pop(digest, None)
        if data is not None:
            self._here_bytes -= len(data)

    def placed(self, digests: Iterable[bytes]) -> None:
        """The folder has taken these, as far as can be told; who wants them besides asks again."""
        for digest in digests:
            self._drop(digest)
            if self._obtained.pop(digest, None) is not None:
                self._done_with(digest)
        self.ask()

    def tried(self) -> None:
        """A round is over, and what came meanwhile has its turn in the next. As long as there is no room, what has had
        its turn and was not taken makes way: the folder refuses it, or nobody wants it any more."""
        if self._here_bytes > HERE_BYTES_MAX:
            for digest in self._had_turn:
                self._drop(digest)
            self._had_turn = set(self._here)
        else:
            self._had_turn.clear()
        self.ask()

    def make_room(self) -> None:
        """All that is here has had its turn: too much of it, for nobody, keeps nothing from being asked for."""
        if self._here_bytes > HERE_BYTES_MAX:
            self.clear()
        self.ask()

    def clear(self) -> None:
        """What is here can be had again; only large contents stay as long as they are wanted."""
        self._here.clear()
        self._here_bytes = 0
        self._had_turn.clear()
        for digest in [d for d, ids in self._obtained.items() if not any(self._is_current(id, d) for id in ids)]:
            del self._obtained[digest]
            self._done_with(digest)

    # -------------------------------------------------------------------------------------------- what is wanted

    def want(self, id: Id, digest: bytes, size: int) -> None:
        """Bring content `digest` here for `id`."""
        wanted = self._queue.get(digest) or self._flying.get(digest)
        if wanted is not None:
            wanted.ids.add(id)
        elif size > SMALL_BYTES_MAX:
            self._flying[digest] = _Wanted(size, {id}, set())
            self._spawn(self._obtain(digest, size))
        else:
            if not self._queue:
                self._fruitless = 0
            self._queue[digest] = _Wanted(size, {id}, set())
            self._unsearched[digest] = None

    def wants(self, digest: bytes) -> bool:
        """Whether it is on its way."""
        return digest in self._queue or digest in self._flying

    def retry(self) -> None:
        """Something has changed: who had nothing may have it now."""
        self._barren.clear()
        for wanted in self._queue.values():
            wanted.lacking.clear()
        self.ask()

    def _search(self) -> None:
        """Look on this node for what was not looked for yet, as long as there is room for it. After much was found,
        more is looked for once that has had its turn."""
        arrived: set[Id] = set()
        found = 0
        while self._unsearched and self._here_bytes <= HERE_BYTES_MAX and found < SEARCH_BYTES:
            digest, _ = self._unsearched.popitem()
            if digest in self._queue and (data := self._contents.get(digest) or self._from_folder(digest)) is not None:
                self._add(digest, data)
                found += len(data)
                arrived |= self._queue.pop(digest).ids
        if arrived:
            self._arrived(arrived)

    def _from_folder(self, digest: bytes) -> bytes | None:
        for path in self._copies(digest):
            try:
                data = b"".join(chunks(path))
            except OSError as error:
                log.info("a copy in the folder cannot be read", path=show(path), error=str(error))
                continue
            if wire.content_digest(data) == digest:
                return data
        return None

    def _copies(self, digest: bytes) -> list[bytes]:
        """Where the folder has that content, by the base."""
        return [os.path.join(self._root, self._base.path(row.id)) for row in self._base.by_content(digest)]

    # -------------------------------------------------------------------------------------------- small ones

    def ask(self) -> None:
        """Have every peer asked that is not being asked, as long as there is anything to ask it for."""
        self._search()
        if self._unsearched or self._here_bytes > HERE_BYTES_MAX:
            return
        for peer in sorted(self._peers.connected() - self._asked - self._barren):
            if digests := self._next(peer):
                self._asked.add(peer)
                self._spawn(self._ask(peer, digests))
        if self._queue and not self._asked and self._later is None:
            self._fruitless += 1
            if self._fruitless == PATIENCE:
                self._arrived(())  # who waited can see that it is nowhere
            delay = retry_seconds(self._fruitless, RETRY_SECONDS_MIN, RETRY_SECONDS_MAX)
            self._later = asyncio.get_running_loop().call_later(delay, self._once_more)

    def _once_more(self) -> None:
        self._later = None
        self.retry()

    def _next(self, peer: str) -> list[bytes]:
        """What to ask `peer` for, which flies from now on. What nobody wants any more is dropped on the way."""
        digests: list[bytes] = []
        dropped: set[Id] = set()
        size = 0
        for digest, wanted in self._queue.items():
            if peer in wanted.lacking:
                continue
            if digests and (size + wanted.size > GIVE_BYTES or len(digests) >= GIVE_COUNT):
                break
            size += wanted.size
            digests.append(digest)
        for digest in digests:
            self._flying[digest] = self._queue.pop(digest)
        for digest in [digest for digest in digests if self._superseded(digest)]:
            digests.remove(digest)
            dropped |= self._flying.pop(digest).ids
        if dropped:
            self._arrived(dropped)
        return digests

    async def _ask(self, peer: str, digests: list[bytes]) -> None:
        found: dict[bytes, bytes] = {}
        try:
            answer = await self._peers.ask(peer, Give(tuple(digests)), GIVE_SECONDS)
            if isinstance(answer, Given):
                found = {d: data for d, data in answer.contents.items() if wire.content_digest(data) == d}
        except PeerError as error:
            log.info("contents were not given", peer=peer, error=str(error))
        self._asked.discard(peer)
        asked = {digest: self._flying.pop(digest) for digest in digests}
        arrived: set[Id] = set()
        for digest, wanted in asked.items():
            if digest in found:
                self._add(digest, found[digest])
                arrived |= wanted.ids
            else:
                wanted.lacking.add(peer)
                self._queue[digest] = wanted
        if arrived:
            self._fruitless = 0
            self._arrived(arrived)
        else:
            self._barren.add(peer)
        self.ask()

    def _superseded(self, digest: bytes) -> bool:
        return not any(self._is_current(id, digest) for id in self._flying[digest].ids)

    # -------------------------------------------------------------------------------------------- large ones

    async def _obtain(self, digest: bytes, size: int) -> None:
        tries = 0
        here = self._objects.has(digest)
        while not self._superseded(digest):
            try:
                await self.obtain(digest, size)
                if not here:
                    self._obtained[digest] = self._flying[digest].ids
                break
            except (PeerError, OperatorError) as error:
                tries += 1
                log.warning("content is not to be had yet", digest=digest.hex(), error=str(error))
                if isinstance(error, OperatorError):  # a full disk, say
                    self._problem = Problem(error.what, "", error.fix)
                    if tries == PATIENCE:
                        self._stuck.add(digest)
                        self._arrived(self._flying[digest].ids)  # who waited can see that it is stuck
                await asyncio.sleep(retry_seconds(tries, RETRY_SECONDS_MIN, RETRY_SECONDS_MAX))
        self._problem = None
        self._stuck.discard(digest)
        self._arrived(self._flying.pop(digest).ids)

    async def obtain(self, digest: bytes, size: int) -> None:
        """Have the content as an object, wherever it is from. Raises `PeerError` and `OperatorError`."""
        if not self._objects.has(digest) and not await self.make_object(digest, size):
            await self._peers.fetch(digest, size, sorted(self._peers.connected()))

    def examine(self, id: Id, digest: bytes) -> None:
        """What `id` needs was not placed, perhaps because the object is damaged: then it is to be had elsewhere."""
        if digest not in self._here and digest not in self._examined and self._objects.has(digest):
            self._examined.add(digest)
            self._spawn(self._examine(id, digest))

    async def _examine(self, id: Id, digest: bytes) -> None:
        if await damage(self._objects, digest) is not None:
            log.error("an object is damaged", digest=digest.hex())
            self._arrived((id,))
        self._examined.discard(digest)

    async def make_object(self, digest: bytes, size: int) -> bool:
        """Make an object of what this node has in its folder, or keeps of recent packs; whether it could."""
        data = self._contents.get(digest)
        if data is not None:
            await asyncio.to_thread(self._objects.put, digest, data)
            return True
        for path in self._copies(digest):
            try:
                await asyncio.to_thread(self._objects.receive, digest, size, chunks(path))
                return True
            except (OSError, ContentMismatch) as error:
                log.info("a copy in the folder has changed", path=show(path), error=str(error))
        return False


def chunks(path: bytes | Path) -> Iterator[bytes]:
    """The content of the file at `path`, which must be no symlink; never waits for a pipe. Raises `OSError`."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
        while chunk := file.read(1 << 20):
            yield chunk
