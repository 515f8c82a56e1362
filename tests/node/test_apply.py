"""Entries into the catalogue, and their contents once more after a crash of the machine (G2)."""

from __future__ import annotations

import asyncio
from typing import Any

from stations import run_until

from onefold.core import wire
from onefold.core.catalogue import Catalogue, MemoryRows
from onefold.core.model import NEVER, NEW, ROOT, Batch, Kind, Origin, Pack, Put
from onefold.edge.log_memory import MemoryCluster, MemoryLog
from onefold.node.apply import Applier


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

    applier = Applier(MemoryLog(cluster), catalogue, stub, recent, stub, stub, stub, stub, recalled, known=2)
    await run_until(complete, applier.run())
    assert told == [b"content 3", b"content 4", b"content 5"]
    assert kept == {3: [b"content 3"], 4: [b"content 4"], 5: [b"content 5"]}
