"""Contents that are not here: where they are taken from, how many at a time, and what is done when nobody has them."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from onefold.core.messages import Give, Given, Message, Problem
from onefold.core.model import Id
from onefold.core.paths import RelPath
from onefold.core.wire import content_digest
from onefold.edge.objects import ObjectStore
from onefold.errors import DiskTrouble, PeerGone
from onefold.node import fetch
from onefold.node.fetch import Fetcher


def digest_of(number: int) -> bytes:
    return content_digest(b"%d" % number)


class World:
    """Peers with contents, a folder with copies, and a fetcher that must bring them together."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.peers: dict[str, dict[bytes, bytes]] = {}
        self.asked: Counter[str] = Counter()
        self.asked_twice = asyncio.Event()
        self.most = 0
        self.gone: set[str] = set()
        self.copies: dict[bytes, str] = {}
        self.recent: dict[bytes, bytes] = {}
        self.current = True
        self.came: list[Id] = []
        self.complete = asyncio.Event()
        self.waiting: set[Id] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        me: Any = self
        self.fetcher = Fetcher(
            me, me, me, me, os.fsencode(root), lambda _, __: self.current, self.arrived, lambda _: None, self.spawn
        )

    def spawn(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def arrived(self, ids: Iterable[Id]) -> None:
        self.came += ids
        self.waiting.difference_update(ids)
        if not self.waiting:
            self.complete.set()

    # ports

    def connected(self) -> frozenset[str]:
        return frozenset(self.peers)

    async def ask(self, peer: str, message: Message, seconds: float) -> Message:
        assert isinstance(message, Give)
        self.asked[peer] += 1
        if self.asked[peer] == 2:
            self.asked_twice.set()
        self.most = max(self.most, len(message.digests))
        await asyncio.sleep(0)
        if peer in self.gone:
            raise PeerGone(f"{peer} is gone")
        has = self.peers[peer]
        return Given({digest: has[digest] for digest in message.digests if digest in has})

    def get(self, digest: bytes) -> bytes | None:
        return self.recent.get(digest)

    def has(self, digest: bytes) -> bool:
        return False

    def path(self, what: Any) -> Any:
        if isinstance(what, bytes):
            raise KeyError(what)
        return RelPath(os.fsencode(self.copies[digest_of(what)]))

    def by_content(self, digest: bytes) -> list[Any]:
        if digest not in self.copies:
            return []
        number = next(n for n in range(10) if digest_of(n) == digest)
        return [type("Row", (), {"id": number})]

    # what a test does

    async def fetch(self, *numbers: int) -> None:
        """Want these numbers' contents, and return when all have come."""
        self.waiting = {Id(number) for number in numbers}
        for number in numbers:
            self.fetcher.want(Id(number), digest_of(number), len(b"%d" % number))
        self.fetcher.ask()
        if self.waiting:
            async with asyncio.timeout(10):
                await self.complete.wait()

    def here(self, number: int) -> bool:
        return self.fetcher.has(digest_of(number)) and self.fetcher.get(digest_of(number)) == b"%d" % number


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def some(*numbers: int) -> dict[bytes, bytes]:
    return {digest_of(number): b"%d" % number for number in numbers}


async def test_many_are_asked_for_at_once_and_all_peers_take_part(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "GIVE_COUNT", 10)
    world.peers = {"a": some(*range(100)), "b": some(*range(100))}
    await world.fetch(*range(100))
    assert all(world.here(number) for number in range(100))
    assert world.asked == {"a": 5, "b": 5}
    assert world.most == 10
    assert len(world.fetcher) == 0


async def test_no_more_is_asked_for_than_the_folder_takes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "GIVE_COUNT", 2)
    monkeypatch.setattr(fetch, "HERE_BYTES_MAX", 3)
    world.peers = {"a": some(*range(6))}
    for number in range(6):
        world.fetcher.want(Id(number), digest_of(number), 1)
    world.fetcher.ask()
    while world.tasks:
        await asyncio.wait(world.tasks)
    assert sorted(world.came) == [0, 1, 2, 3]
    world.fetcher.placed(digest_of(number) for number in range(4))
    while world.tasks:
        await asyncio.wait(world.tasks)
    assert sorted(world.came) == [0, 1, 2, 3, 4, 5]


async def test_what_one_peer_lacks_another_is_asked_for(world: World) -> None:
    world.peers = {"a": some(1, 2), "b": some(3), "c": {}}
    await world.fetch(1, 2, 3)
    assert all(world.here(number) for number in (1, 2, 3))


async def test_a_peer_that_is_gone_or_lies_is_asked_no_more_for_now(world: World) -> None:
    world.peers = {"a": some(1), "b": {digest_of(1): b"something else"}, "c": some(1)}
    world.gone = {"a"}
    await world.fetch(1)
    assert world.here(1)


async def test_what_nobody_has_is_asked_for_again(world: World) -> None:
    world.peers = {"a": {}}
    asked = asyncio.create_task(world.fetch(1))
    await world.asked_twice.wait()
    world.peers["a"] = some(1)
    await asked
    assert world.here(1)


async def test_a_peer_that_comes_is_asked_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "RETRY_SECONDS_MIN", 1000.0)
    monkeypatch.setattr(fetch, "RETRY_SECONDS_MAX", 1000.0)
    asked = asyncio.create_task(world.fetch(1))
    await asyncio.sleep(0)
    world.peers["a"] = some(1)
    world.fetcher.retry()
    await asked
    assert world.here(1)


async def test_what_nobody_wants_any_more_is_not_asked_for(world: World) -> None:
    world.peers = {"a": some(1)}
    world.current = False
    await world.fetch(1)
    assert world.asked["a"] == 0
    assert len(world.fetcher) == 0


async def test_what_is_in_the_folder_or_came_lately_is_asked_of_nobody(world: World) -> None:
    (world.root / "copy").write_bytes(b"1")
    (world.root / "changed").write_bytes(b"9")
    world.copies = {digest_of(1): "copy", digest_of(3): "changed", digest_of(4): "missing"}
    world.recent = some(2)
    world.peers = {"a": some(3, 4)}
    await world.fetch(1, 2, 3, 4)
    assert all(world.here(number) for number in (1, 2, 3, 4))
    assert world.asked["a"] == 1


async def test_what_the_folder_has_taken_takes_no_memory(world: World) -> None:
    world.peers = {"a": some(1, 2)}
    await world.fetch(1, 2)
    world.fetcher.placed([digest_of(1)])
    assert not world.fetcher.has(digest_of(1))
    assert world.here(2)
    world.fetcher.clear()
    assert not world.fetcher.has(digest_of(2))
    assert world.fetcher.get(fetch.EMPTY) == b""


async def test_an_object_that_could_not_be_placed_and_is_damaged_is_had_elsewhere(tmp_path: Path) -> None:
    world: Any = World(tmp_path)
    objects = ObjectStore(tmp_path / "objects")
    fetcher = Fetcher(
        world, world, objects, world, b"", lambda _, __: True, world.arrived, objects.release, world.spawn
    )
    world.waiting = {Id(1)}
    for data in (b"sound", b"damaged"):
        objects.put(content_digest(data), data)
    damaged = objects.path(content_digest(b"damaged"))
    damaged.chmod(0o600)
    damaged.write_bytes(b"Damaged")
    fetcher.examine(Id(2), content_digest(b"sound"))
    fetcher.examine(Id(1), content_digest(b"damaged"))
    async with asyncio.timeout(10):
        await world.complete.wait()
    await asyncio.gather(*world.tasks)
    assert world.came == [1]
    assert fetcher.has(content_digest(b"sound"))
    assert not fetcher.has(content_digest(b"damaged"))


async def test_what_comes_by_itself_while_it_is_wanted_has_arrived(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.fetcher.want(Id(4), digest_of(4), 1)
    world.fetcher.bring({digest_of(4): b"4"})
    assert world.came == [4]
    assert len(world.fetcher) == 0
    assert world.fetcher.get(digest_of(4)) == b"4"


async def test_what_nobody_places_does_not_keep_the_rest_from_being_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "HERE_BYTES_MAX", 10)
    world = World(tmp_path)
    world.peers["b"] = {digest_of(4): b"4"}
    world.waiting = {Id(4)}
    world.fetcher.bring({digest_of(5): b"superseded meanwhile"})
    world.fetcher.want(Id(4), digest_of(4), 1)
    world.fetcher.ask()
    assert not world.asked
    world.fetcher.make_room()
    await asyncio.wait_for(world.complete.wait(), 5)
    assert world.came == [4]


async def test_content_without_room_is_a_problem_by_name_that_nobody_waits_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "RETRY_SECONDS_MIN", 1e-6)
    monkeypatch.setattr(fetch, "SMALL_BYTES_MAX", 0)
    room = asyncio.Event()

    async def obtain(digest: bytes, size: int, sources: list[str]) -> None:
        if not room.is_set():
            raise DiskTrouble("cannot store object 1234: the disk is full", "free space")

    peers: Any = world
    monkeypatch.setattr(peers, "fetch", obtain)
    world.waiting = {Id(1)}
    world.fetcher.want(Id(1), digest_of(1), 1)
    async with asyncio.timeout(10):
        await world.complete.wait()
    assert (len(world.fetcher), world.fetcher.stuck) == (1, 1)
    assert world.fetcher.problems() == [Problem("cannot store object 1234: the disk is full", "", "free space")]
    room.set()
    async with asyncio.timeout(10):
        await asyncio.gather(*world.tasks)
    assert (len(world.fetcher), world.fetcher.stuck, world.fetcher.problems()) == (0, 0, [])


async def test_what_is_nowhere_to_be_had_is_a_problem_by_name_that_nobody_waits_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "RETRY_SECONDS_MIN", 1e-6)
    world.peers = {"a": {}}
    told = asyncio.Event()
    monkeypatch.setattr(world.fetcher, "_arrived", lambda ids: told.set())
    world.fetcher.want(Id(1), digest_of(1), 1)
    world.fetcher.ask()
    assert (world.fetcher.stuck, world.fetcher.problems()) == (0, [])
    async with asyncio.timeout(10):
        await told.wait()
    assert (len(world.fetcher), world.fetcher.stuck) == (1, 1)
    assert "nowhere to be had" in world.fetcher.problems()[0].what
    world.peers = {"a": some(1)}
    told.clear()
    async with asyncio.timeout(10):
        await told.wait()
    assert (len(world.fetcher), world.fetcher.stuck, world.fetcher.problems()) == (0, 0, [])
