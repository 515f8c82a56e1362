"""What the base learns when the catalogue moves on while the folder is still being brought to it."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stations import run_until

from onefold import linux
from onefold.core.catalogue import Catalogue, MemoryRows
from onefold.core.messages import Problem
from onefold.core.model import NEVER, NEW, ROOT, Batch, Command, Id, Kind, Move, Origin, Pack, Put, Shift
from onefold.core.paths import RelPath
from onefold.core.plan import plan
from onefold.core.wire import content_digest
from onefold.edge.journal import Base
from onefold.edge.materialise import FolderMaterialiser
from onefold.edge.strays import Strays
from onefold.edge.workspace import base_row
from onefold.errors import DiskTrouble
from onefold.node.place import SLICE, Placer


class World:
    """A folder with a directory `one`, on which catalogue and base agree, and its placer."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "folder"
        self.root.mkdir()
        state = tmp_path / "state"
        self.rows = MemoryRows()
        self.catalogue = Catalogue(self.rows)
        self.base = Base(state, "folder")
        self.materialiser = FolderMaterialiser(os.fsencode(self.root), Strays(state / "strays"), state)
        self.arrived = asyncio.Event()
        peers: Any = None
        self.placer = Placer(
            self.rows,
            self.base,
            peers,
            peers,
            peers,
            self.materialiser,
            os.fsencode(self.root),
            lambda: self.catalogue.index,
            lambda: False,
            lambda _: None,
            lambda _: None,
            lambda _: self.arrived.set(),
            peers,
        )
        self.id = self.make(b"one")

    def make(self, name: bytes) -> Id:
        """A directory that catalogue, base and folder have."""
        self.apply(Put(NEW, NEVER, ROOT, name, Kind.DIRECTORY, 0o755, 0, 0, b""))
        path = os.path.join(os.fsencode(self.root), name)
        os.mkdir(path, 0o755)
        row = self.rows.child(ROOT, name)
        assert row is not None
        with self.base.transaction():
            self.base.put(base_row(row, linux.stat_of(-100, path)[1]))
        return row.id

    def apply(self, *commands: Command) -> None:
        index = self.catalogue.index + 1
        self.catalogue.apply(index, Pack((Batch(Origin("a", 1, index), commands),), {}))

    def move(self, id: Id, name: bytes) -> None:
        row = self.rows.get(id)
        assert row is not None
        self.apply(Move(id, row.placed, ROOT, name))

    def folder_says(self) -> set[bytes]:
        return set(os.listdir(os.fsencode(self.root))) - {b".onefold"}

    def base_says(self) -> set[bytes]:
        return {row.name for row in self.base.children(ROOT)}

    async def place(self) -> None:
        """The placer's work, all of it."""
        await run_until(self.arrived, self.placer.run())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.materialiser.close()
    made.base.close()


async def test_a_move_that_is_overtaken_between_two_slices_is_followed_by_the_next(world: World) -> None:
    ids = [world.make(b"%03d" % number) for number in range(SLICE + 1)]
    for number, id in enumerate(ids):
        world.move(id, b"%03d.moved" % number)
    world.placer.want(ids)
    async with world.placer.folder:
        placing = asyncio.create_task(world.place())
        await asyncio.sleep(0.05)  # the plan is made
        world.move(ids[-1], b"elsewhere")
        world.placer.want([ids[-1]])
    await placing
    assert b"elsewhere" in world.folder_says()
    assert world.folder_says() == world.base_says()


async def test_what_is_moved_back_is_moved_on_if_it_was_moved_elsewhere_meanwhile(world: World) -> None:
    old = world.base.get(world.id)
    assert old is not None
    (world.root / "one").rename(world.root / "edit")
    world.placer.want([], [Shift(old, RelPath(b"edit"), RelPath(b"one"), old.parent, old.placed)])
    world.move(world.id, b"elsewhere")
    await world.place()
    assert world.folder_says() == world.base_says() == {b"elsewhere"}


async def test_a_move_that_a_crash_cut_off_is_where_it_led_to_though_the_catalogue_has_moved_on(world: World) -> None:
    world.move(world.id, b"two")
    actions = plan([world.id], world.rows, world.base)
    world.base.open_intents([(0, world.materialiser.intents(actions))])
    world.materialiser.run(actions, lambda digest: b"", False)
    world.move(world.id, b"three")
    world.placer.recovered(world.materialiser.recover(world.base.intents(), world.base, world.rows))
    assert world.folder_says() == world.base_says() == {b"two"}
    world.placer.want([world.id])
    await world.place()
    assert world.folder_says() == world.base_says() == {b"three"}


async def test_content_without_room_is_a_named_problem_that_is_not_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onefold.node.place.RETRY_SECONDS_MIN", 1e-6)
    full = True

    class Elsewhere:
        """All that the placer asks for content: it is at a peer's, and there is no room for it."""

        def has(self, digest: bytes) -> bool:
            return False

        def get(self, digest: bytes) -> bytes | None:
            return None if full else b"content"

        def connected(self) -> frozenset[str]:
            return frozenset({"b"})

        async def fetch(self, digest: bytes, size: int, sources: list[str]) -> None:
            raise DiskTrouble("cannot store object 1234: the disk is full", "free space")

    stub: Any = Elsewhere()
    placer = world.placer
    placer._objects = placer._contents = placer._peers = stub
    placer._spawn = asyncio.create_task
    world.apply(Put(NEW, NEVER, ROOT, b"large", Kind.FILE, 0o644, 0, 7, content_digest(b"content")))
    large = world.rows.child(ROOT, b"large")
    assert large is not None
    placer.want([large.id])
    await run_until(world.arrived, placer.run())
    assert placer.in_place == world.catalogue.index
    assert placer.problems() == [Problem("cannot store object 1234: the disk is full", "", "free space")]
    full = False
    done = asyncio.Event()
    placer._arrived = lambda _: None if placer.problems() else done.set()
    await run_until(done, placer.run())
    assert world.folder_says() == {b"one", b"large"}
    assert placer.problems() == []
