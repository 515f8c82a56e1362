"""Entries into the catalogue: what they bring is what the log says, whatever the disk made of it."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stations import run_until

from onefold.core import wire
from onefold.core.catalogue import Catalogue, MemoryRows
from onefold.core.model import NEVER, NEW, ROOT, Batch, Entry, Kind, Origin, Pack, Put
from onefold.core.quorum import Quorum
from onefold.edge.journal import CatalogueStore
from onefold.edge.log_memory import MemoryCluster, MemoryLog
from onefold.edge.objects import ObjectStore
from onefold.node.apply import Applier


class World:
    """A log with one entry whose pack is an object, and a peer that has it."""

    def __init__(self, tmp_path: Path) -> None:
        put = Put(NEW, NEVER, ROOT, b"file", Kind.FILE, 0o644, 0, 4, wire.content_digest(b"data"))
        self.pack = wire.encode_pack(Pack((Batch(Origin("a", 1, 1), (put,)),), {put.content or b"": b"data"}))
        self.digest = wire.content_digest(self.pack)
        self.objects = ObjectStore(tmp_path / "objects")
        self.store = CatalogueStore(tmp_path, "folder", "b")
        self.catalogue = Catalogue(self.store)
        self.fetched = 0
        self.applied = asyncio.Event()
        stub: Any = self
        self.applier = Applier(
            stub,
            self.catalogue,
            self.store,
            stub,
            self.objects,
            stub,
            Quorum("b", "abc"),
            lambda _: True,
            lambda *_: self.applied.set(),
            lambda _: None,
            0,
        )

    async def entries(self, first: int) -> Any:
        yield first, wire.encode_entry(Entry(wire.RULES, 1, b"nonce123", None, self.digest, len(self.pack)))
        await asyncio.Event().wait()

    def connected(self) -> frozenset[str]:
        return frozenset("a")

    async def fetch(self, digest: bytes, size: int, sources: list[str]) -> None:
        self.fetched += 1
        self.objects.put(digest, self.pack)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


async def test_a_pack_that_is_damaged_here_is_fetched_again_and_not_applied(world: World) -> None:
    world.objects.put(world.digest, world.pack)
    path = world.objects.path(world.digest)
    os.chmod(path, 0o600)
    path.write_bytes(world.pack.replace(b"file", b"evil"))
    await run_until(world.applied, world.applier.run())
    assert world.fetched == 1
    assert world.store.child(ROOT, b"file") is not None
    assert world.objects.read(world.digest) == world.pack


async def test_a_pack_that_is_here_is_not_fetched(world: World) -> None:
    world.objects.put(world.digest, world.pack)
    await run_until(world.applied, world.applier.run())
    assert world.fetched == 0


async def test_g1_a_pack_that_is_expected_is_not_taken_for_that_of_another_entry(world: World) -> None:
    world.applier.expect(b"of another entry".ljust(32), Pack((), {}))
    await run_until(world.applied, world.applier.run())
    assert world.store.child(ROOT, b"file") is not None


async def test_contents_that_a_crash_took_come_from_the_log() -> None:
    cluster, kept = MemoryCluster(), {}
    catalogue = Catalogue(MemoryRows())
    for index in range(1, 6):
        data = b"content %d" % index
        digest = wire.content_digest(data)
        put = Put(NEW, NEVER, ROOT, b"%d" % index, Kind.FILE, 0o644, 0, len(data), digest)
        pack = Pack((Batch(Origin("a", 1, index), (put,)),), {digest: data})
        catalogue.apply(index, pack)
        cluster.entries[index] = wire.encode_entry(wire.entry_for(wire.encode_pack(pack), 1, b"nonce"))
        cluster.head = index
    cluster.trim(2)

    class Recent:
        def remember(self, index: int, contents: dict[bytes, bytes]) -> None:
            kept[index] = list(contents.values())

    stub: Any = None
    recent: Any = Recent()
    told: list[bytes] = []
    complete = asyncio.Event()

    def recalled(contents: dict[bytes, bytes]) -> None:
        told.extend(contents.values())
        if len(told) == 3:
            complete.set()

    applier = Applier(
        MemoryLog(cluster), catalogue, stub, recent, stub, stub, Quorum("b", "abc"), stub, stub, recalled, known=2
    )
    await run_until(complete, applier.run())
    assert told == [b"content 3", b"content 4", b"content 5"]
    assert kept == {3: [b"content 3"], 4: [b"content 4"], 5: [b"content 5"]}
