"""The *durable* index: what a completed sync has put on disk; and what may be let go once a majority has it so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterable
from itertools import islice

from onefold.core.model import Entry, Kind, Pack, Put
from onefold.ports import Clock, Objects, RecentContents

QUIET_SECONDS = 3.0
"""A sync waits for this much quiet, so as not to slow down who is writing …"""
WAIT_SECONDS_MAX = 20.0
"""… but no longer than this."""
CHECK_SECONDS = 1.0
RELEASED_AT_ONCE = 500
"""To remove so many objects takes about 30 ms of the loop; the rest is let go at the next call."""


def reached(durable: Iterable[int], count: int) -> int:
    """The index that `count` of those whose *durable* indices are known have reached; 0 when fewer are known."""
    known = sorted(durable, reverse=True)
    return known[count - 1] if len(known) >= count else 0


class Keeper:
    """Syncs, and releases objects and recent contents that are in the folders of a majority for good.

    Invariants: an object that no applied entry names is pinned until an entry of a later term than its holding has been
    applied (the log up to that takeover does not name it, so nothing ever will). A named one is pinned until the index
    that named it is durable on a majority of voters, this node's folder included, and not while this folder refuses it;
    a pack, also until the log has no such entry any more.
    """

    def __init__(
        self,
        objects: Objects,
        contents: RecentContents,
        clock: Clock,
        sync: Callable[[], None],
        in_place: Callable[[], int],
        completed: Callable[[int], None],
        refused: Callable[[], Container[bytes]],
        durable: int,
    ) -> None:
        """`sync` returns when everything written so far is on disk. `completed(index)`: it is, up to there.
        `refused()`: contents that this folder does not take, though it is in place otherwise."""
        self._objects = objects
        self._contents = contents
        self._clock = clock
        self._sync = sync
        self._in_place = in_place
        self._completed = completed
        self._refused = refused
        self._named: dict[bytes, int] = {}
        self._pinned: dict[bytes, int] = {}
        self._packs: dict[bytes, int] = {}
        self._restored: set[bytes] = set()  # pinned, since a term that is not known yet
        self.durable = durable
        self.eager: Callable[[], bool] = lambda: False
        """Whether somebody waits for what is in place to be durable: then no quiet is waited for."""

    def restore(self, index: int, packs: Iterable[tuple[int, bytes]], is_placed: Callable[[bytes], bool]) -> None:
        """What the store holds from before this start, when `index` is applied: `packs`; what `is_placed`, so that an
        applied entry has named it; and what may be held for an entry to come."""
        self._packs.update((digest, index) for index, digest in packs)
        for digest in self._objects.digests():
            if digest not in self._packs and is_placed(digest):
                self._named[digest] = index
            elif digest not in self._packs:
                self._restored.add(digest)

    def term_began(self, term: int) -> None:
        """Somebody leads in `term`; what was held before this start was held in no later one."""
        for digest in self._restored:
            self.pin(digest, term)
        self._restored.clear()

    def pin(self, digest: bytes, term: int) -> None:
        """A voter holds this object for an entry to come, since `term`."""
        self._pinned[digest] = max(term, self._pinned.get(digest, 0))

    def applied(self, index: int, entry: Entry, pack: Pack) -> None:
        """An entry names objects: the pack that it came in (kept with the log), and the large contents of its puts."""
        if entry.pack is None:
            self._packs[entry.digest] = index
            self._unpin(entry.digest)
        for batch in pack.batches:
            for command in batch.commands:
                if (
                    isinstance(command, Put)
                    and command.kind is Kind.FILE
                    and command.content is not None
                    and command.content not in pack.contents  # an object then, held or to be fetched
                ):
                    self._unpin(command.content)
                    self._named[command.content] = index
        if self._pinned:
            for digest in [d for d, term in self._pinned.items() if term < entry.term]:
                del self._pinned[digest]
                self._named[digest] = index

    def needs(self, digest: bytes) -> bool:
        """Whether this node has promised to keep the object, or will be asked for it."""
        held = digest in self._pinned or digest in self._restored
        return held or digest in self._named or digest in self._packs

    def done_with(self, digest: bytes, index: int) -> None:
        """The object came for the folder, which has it at `index`, or wants it no more: kept until that is durable."""
        if not self.needs(digest):
            self._named[digest] = index

    def let_go(self, digest: bytes) -> None:
        """The object was fetched for something that is done by now."""
        if not self.needs(digest):
            self._objects.release(digest)

    def _unpin(self, digest: bytes) -> None:
        self._pinned.pop(digest, None)
        self._restored.discard(digest)

    def trimmed(self, through: int) -> None:
        """The log has no entry up to there any more, so nobody asks for the packs of those."""
        for digest in [digest for digest, index in self._packs.items() if index <= through]:
            self._named[digest] = self._packs.pop(digest)

    def release(self, durable_of_voters: Iterable[int], voters: int) -> None:
        """Let go of what a majority of voters has for good. `durable_of_voters`: of those that are known."""
        majority = min(reached(durable_of_voters, voters // 2 + 1), self.durable)
        refused = self._refused()
        done = (d for d, index in self._named.items() if index <= majority and d not in refused)
        for digest in list(islice(done, RELEASED_AT_ONCE)):
            del self._named[digest]
            if digest not in self._packs and digest not in self._pinned and digest not in self._restored:
                self._objects.release(digest)
        self._contents.forget(majority)

    async def run(self) -> None:
        """Sync when it has been quiet for a while, for ever."""
        seen, changed, waiting = self.durable, self._clock.now(), self._clock.now()
        while True:
            await self._clock.sleep(CHECK_SECONDS)
            index, now = self._in_place(), self._clock.now()
            if index <= self.durable:
                waiting = now
                continue
            if index != seen:
                seen, changed = index, now
            if now - changed >= QUIET_SECONDS or now - waiting >= WAIT_SECONDS_MAX or self.eager():
                # A failure is the node's: what the disk has lost of it, the next sync would not tell.
                await asyncio.to_thread(self._sync)
                self.durable = index
                self._completed(index)
                waiting = now
