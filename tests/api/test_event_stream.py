"""One stream of events, pulled by hand: what a reader is told that is too slow, silent times, and the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from onefold.api import events as module
from onefold.api.events import HEARTBEAT, _stream
from onefold.api.feed import Feed
from onefold.api.service import Service
from onefold.core.catalogue import Catalogue, MemoryRows
from onefold.core.messages import Cluster, Message
from onefold.core.model import NEVER, NEW, ROOT, Batch, Kind, Origin, Pack, Put
from onefold.core.roster import Roster
from onefold.node.changes import ENTRIES_KEPT, Changes


class Followed:
    """As much of a node as is followed; its status cannot be had."""

    def __init__(self) -> None:
        self.changes = Changes(0)
        self.feed = Feed()
        self.roster = Roster()
        self.allowed = True
        self._rows = MemoryRows()
        self._catalogue = Catalogue(self._rows)
        reporter = SimpleNamespace(known=lambda: [SimpleNamespace(applied=self.changes.index)])
        self._service = SimpleNamespace(
            feed=self.feed,
            ask=self._ask,
            config=SimpleNamespace(name="a"),
            roster=lambda: self.roster,
            node=SimpleNamespace(reporter=reporter, changes=self.changes),
        )

    def stream(self, index: int = 0) -> AsyncIterator[bytes]:
        return _stream(cast(Service, self._service), self.changes, index, lambda: self.allowed)

    def apply(self, count: int) -> None:
        for index in range(self._catalogue.index + 1, self._catalogue.index + count + 1):
            put = Put(NEW, NEVER, ROOT, b"%d" % index, Kind.DIRECTORY, 0o755, 0, 0, b"")
            pack = Pack((Batch(Origin("a", 1, index), (put,)),), {})
            self.changes.applied(self._catalogue.apply(index, pack), pack, self._rows)

    async def _ask(self, message: Message) -> Any:
        return Cluster("a", 1, (), ())


async def ids(stream: AsyncIterator[bytes]) -> list[tuple[str, int]]:
    """The next piece's events that have an id."""
    found = []
    for block in (await anext(stream)).decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "id" in fields:
            found.append((fields.get("event", ""), int(fields["id"])))
    return found


async def test_a_reader_that_is_too_slow_is_told_to_list_anew_and_goes_on() -> None:
    of = Followed()
    stream = of.stream()
    assert await ids(stream) == [("", 0)]
    of.apply(2)
    assert await ids(stream) == [("change", 1), ("change", 2)]
    of.apply(ENTRIES_KEPT + 1)  # meanwhile it does not read
    assert await ids(stream) == [("reset", ENTRIES_KEPT + 3)]
    of.apply(1)
    told = [event for _ in range(2) for event in await ids(stream)]
    assert ("change", ENTRIES_KEPT + 4) in told


async def test_much_comes_in_pieces() -> None:
    of = Followed()
    of.apply(module.ENTRIES_AT_ONCE + 1)
    stream = of.stream()
    await anext(stream)
    assert len(await ids(stream)) == module.ENTRIES_AT_ONCE
    assert await ids(stream) == [("change", module.ENTRIES_AT_ONCE + 1)]


async def test_in_silence_a_heartbeat_shows_that_the_node_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.05)
    stream = Followed().stream()
    await anext(stream)
    assert b"event: status" in await anext(stream)
    assert await anext(stream) == HEARTBEAT


async def test_all_streams_end_with_the_feed_and_nothing_of_them_stays() -> None:
    of = Followed()
    streams = [of.stream() for _ in range(3)]
    for stream in streams:
        await anext(stream)
        await anext(stream)
    assert of.feed.following == 3
    ends = [asyncio.create_task(anext(stream, None)) for stream in streams]  # type: ignore[arg-type]
    await asyncio.sleep(0)
    of.feed.close()
    async with asyncio.timeout(5):
        assert await asyncio.gather(*ends) == [None] * 3
    assert of.feed.following == 0
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1


async def test_a_stream_ends_soon_after_a_roster_that_does_not_allow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onefold.api.feed.STATUS_SECONDS", 0.05)
    of = Followed()
    stream = of.stream()
    await anext(stream)
    await anext(stream)
    end = asyncio.create_task(anext(stream, None))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    of.allowed, of.roster = False, Roster(revoked=("1",))
    async with asyncio.timeout(5):
        assert await end is None


async def test_the_status_is_looked_at_once_for_all_and_told_only_when_it_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("onefold.api.feed.STATUS_SECONDS", 0.01)
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.2)
    streams = [(of := Followed()).stream()]
    streams.append(of.stream())
    for stream in streams:
        await anext(stream)
        assert b"event: status" in await anext(stream)
    assert [await anext(stream) for stream in streams] == [HEARTBEAT] * 2
    assert of.feed.version == 1
