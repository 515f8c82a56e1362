"""Entries into the catalogue: the log, read densely, one transaction an entry."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice

import structlog

from onefold.core import wire
from onefold.core.catalogue import Catalogue
from onefold.core.history import records
from onefold.core.model import Applied, Entry, Pack
from onefold.core.quorum import Quorum
from onefold.errors import PeerError
from onefold.ports import CatalogueStore, Log, Objects, Peers, RecentContents

DIGESTS_KEPT = 4096
FETCH_RETRY_SECONDS = 0.1

log = structlog.get_logger()


class Applier:
    """Applies every entry exactly once, in order. What it has applied is the *applied* index."""

    def __init__(
        self,
        replicated: Log,
        catalogue: Catalogue,
        store: CatalogueStore,
        contents: RecentContents,
        objects: Objects,
        peers: Peers,
        quorum: Quorum,
        wrote: Callable[[Pack], bool],
        applied: Callable[[Entry, Pack, Applied], None],
        recalled: Callable[[dict[bytes, bytes]], None],
        known: int,
    ) -> None:
        """`quorum` compares the digests. `wrote`: whether this node alone wrote a pack, so that its folder holds the
        contents. `applied` is called after each entry's transaction, before anything else can be applied. `known`: up
        to this index the contents are in the folder or kept; those of later entries, though applied, a crash of the
        machine may have taken from every node, and only the log has them: they are taken from there, and told to
        `recalled`."""
        self._log = replicated
        self._catalogue = catalogue
        self._store = store
        self._contents = contents
        self._objects = objects
        self._quorum = quorum
        self._wrote = wrote
        self._peers = peers
        self._applied = applied
        self._recalled = recalled
        self._known = min(known, catalogue.index)
        self._changed = asyncio.Event()
        self._expected: dict[bytes, Pack] = {}
        self._digests: OrderedDict[int, bytes] = OrderedDict()
        self._note_digest()

    async def run(self) -> None:
        """Follow the log for ever."""
        applied = self._catalogue.index
        async for index, data in self._log.entries(self._known + 1):
            if index <= applied:
                contents = (await self._pack(index, wire.decode_entry(data))).contents
                self._contents.remember(index, contents)
                self._recalled(contents)
            elif index > self._catalogue.index:
                entry = wire.decode_entry(data)
                pack = await self._pack(index, entry)
                if index > self._catalogue.index:  # our own append may have brought it meanwhile
                    self._apply(index, entry, pack)

    def recall_no_more(self) -> None:
        """The log holds nothing any more of what is applied."""
        self._known = self._catalogue.index

    def expect(self, digest: bytes, pack: Pack) -> None:
        """This node is about to append an entry that names `pack`: it may come by the watch first."""
        self._expected = {digest: pack}

    def feed(self, index: int, entry: Entry, pack: Pack) -> None:
        """An entry that this node itself has just appended, ahead of the watch."""
        if index == self._catalogue.index + 1:
            self._apply(index, entry, pack)

    @property
    def index(self) -> int:
        """The *applied* index."""
        return self._catalogue.index

    async def reach(self, index: int) -> None:
        """Returns once the entry at `index` is applied."""
        while self._catalogue.index < index:
            self._changed.clear()
            await self._changed.wait()

    async def _pack(self, index: int, entry: Entry) -> Pack:
        if entry.pack is not None:
            return wire.decode_pack(entry.pack)
        if entry.digest in self._expected:
            return self._expected[entry.digest]
        while True:
            if self._objects.has(entry.digest):
                data = self._objects.read(entry.digest)
                if wire.content_digest(data) == entry.digest:
                    return wire.decode_pack(data)
                log.error("the pack of an entry is damaged here", index=index)
                self._objects.distrust(entry.digest)
            try:
                await self._peers.fetch(entry.digest, entry.size, sorted(self._peers.connected()))
            except PeerError as error:
                log.warning("the pack of an entry is not to be had yet", index=index, error=str(error))
                await asyncio.sleep(FETCH_RETRY_SECONDS)

    def _apply(self, index: int, entry: Entry, pack: Pack) -> None:
        catalogue = self._catalogue
        if not self._wrote(pack):
            self._contents.remember(index, pack.contents)
        with self._store.transaction():
            applied = catalogue.apply(index, pack)
            if entry.pack is None:
                self._store.keep_pack(index, entry.digest)
            self._store.note(records(pack, applied, self._store.get))
            self._store.save_state(catalogue.index, catalogue.digest, catalogue.files, catalogue.seeded)
        self._note_digest()
        self._changed.set()
        self._applied(entry, pack, applied)

    def _note_digest(self) -> None:
        index, digest = self._catalogue.index, self._catalogue.digest.to_bytes(32, "big")
        self._digests[index] = digest
        if len(self._digests) > DIGESTS_KEPT:
            self._digests.popitem(last=False)
        self._quorum.reach(index, digest)

    def newest_digests(self, count: int) -> tuple[tuple[int, bytes], ...]:
        """The catalogue's digests at the newest `count` indices, oldest first."""
        return tuple(islice(reversed(self._digests.items()), count))[::-1]

    def compare(self, peer: str, digests: tuple[tuple[int, bytes], ...]) -> None:
        """A peer has told its newest digests."""
        self._quorum.hear(peer, digests, self._digests)
