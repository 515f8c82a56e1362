"""More contents than memory has room for come to the folder all the same, wherever they are from."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from stations import eventually, run_until

from onefold.core.catalogue import Catalogue, MemoryRows
from onefold.core.messages import Give, Given, Message
from onefold.core.model import NEVER, NEW, ROOT, Batch, Id, Kind, Origin, Pack, Put
from onefold.core.wire import content_digest
from onefold.edge.journal import Base
from onefold.edge.materialise import FolderMaterialiser
from onefold.edge.objects import ObjectStore
from onefold.edge.recent import RecentContents
from onefold.edge.strays import Strays
from onefold.node import fetch, place
from onefold.node.fetch import Fetcher
from onefold.node.place import Placer

FILES = 60
CONTENTS = {f"{number:02}".encode(): b"%04d" % number for number in range(FILES)}


class World:
    """A node whose catalogue has `FILES` files, and whose folder has none of them; memory has room for three."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "folder"
        self.root.mkdir()
        root = os.fsencode(self.root)
        state = tmp_path / "state"
        self.catalogue = Catalogue(MemoryRows())
        base = Base(state, "folder")
        self.contents = RecentContents(state / "recent")
        self.objects = ObjectStore(state / "objects")
        self.elsewhere: dict[bytes, bytes] = {}
        self.arrived = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []
        peers: Any = self
        self.fetcher = Fetcher(
            base,
            self.contents,
            self.objects,
            peers,
            root,
            lambda *_: True,
            lambda ids: self.placer.again(ids),
            self.objects.release,
            self.spawn,
        )
        self.placer = Placer(
            self.catalogue.rows,
            base,
            self.fetcher,
            FolderMaterialiser(root, Strays(state / "strays"), state),
            lambda: self.catalogue.index,
            lambda: False,
            lambda _: None,
            lambda _: None,
            lambda _: self.arrived.set(),
        )

    def spawn(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.append(task)
        return task

    def connected(self) -> frozenset[str]:
        return frozenset({"peer"} if self.elsewhere else ())

    async def ask(self, peer: str, message: Message, seconds: float) -> Message:
        assert isinstance(message, Give)
        await asyncio.sleep(0)
        return Given({digest: self.elsewhere[digest] for digest in message.digests})

    async def fetch(self, digest: bytes, size: int, sources: list[str]) -> None:
        self.objects.put(digest, self.elsewhere[digest])

    def put(self, names: dict[bytes, bytes], parent: Id = ROOT) -> None:
        commands = tuple(
            Put(NEW, NEVER, parent, name, Kind.FILE, 0o644, 7, len(data), content_digest(data))
            for name, data in names.items()
        )
        index = self.catalogue.index + 1
        self.placer.want(self.catalogue.apply(index, Pack((Batch(Origin("b", 1, index), commands),), {})).changes)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(place, "SLICE", 8)
    monkeypatch.setattr(fetch, "HERE_BYTES_MAX", 12)
    monkeypatch.setattr(fetch, "GIVE_COUNT", 2)
    return World(tmp_path)


def by_digest(contents: dict[bytes, bytes]) -> dict[bytes, bytes]:
    return {content_digest(data): data for data in contents.values()}


async def test_contents_that_came_with_packs_are_placed_though_memory_has_room_for_few(world: World) -> None:
    world.contents.remember(1, by_digest(CONTENTS))
    world.put(CONTENTS)
    await run_until(world.arrived, world.placer.run())
    assert {os.fsencode(path.name): path.read_bytes() for path in world.root.iterdir() if path.is_file()} == CONTENTS


async def test_contents_of_peers_are_placed_though_memory_has_room_for_few(world: World) -> None:
    world.elsewhere = by_digest(CONTENTS)
    world.put(CONTENTS)
    await run_until(world.arrived, world.placer.run())
    assert {os.fsencode(path.name): path.read_bytes() for path in world.root.iterdir() if path.is_file()} == CONTENTS


async def test_what_the_folder_refuses_leaves_room_for_what_it_takes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "PATIENCE", 2)
    refused = sorted(CONTENTS)[:6]
    for name in refused:
        os.mkfifo(world.root / os.fsdecode(name))
    world.elsewhere = by_digest(CONTENTS)
    world.put(CONTENTS)
    await run_until(world.arrived, world.placer.run())
    placed = {os.fsencode(path.name): path.read_bytes() for path in world.root.iterdir() if path.is_file()}
    assert placed == {name: data for name, data in CONTENTS.items() if name not in refused}
    assert len(world.placer.problems()) == len(refused)
    assert world.placer.refused() == {content_digest(CONTENTS[name]) for name in refused}
    for name in refused:
        (world.root / os.fsdecode(name)).unlink()
    running = asyncio.create_task(world.placer.run())
    await eventually(lambda: not world.placer.problems())
    running.cancel()
    assert world.placer.refused() == set()


async def test_objects_that_came_for_the_folder_are_done_with_once_it_has_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "SMALL_BYTES_MAX", 0)
    os.mkfifo(world.root / "00")
    monkeypatch.setattr(place, "PATIENCE", 2)
    held = b"0001"
    world.elsewhere = by_digest(CONTENTS)
    world.objects.put(content_digest(held), held)
    world.put(CONTENTS)
    await run_until(world.arrived, world.placer.run())
    assert set(world.objects.digests()) == {content_digest(held), content_digest(b"0000")}
