"""What the base learns when the catalogue moves on while the folder is still being brought to it."""

import asyncio
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from stations import run_until

from onefold import linux
from onefold.core.catalogue import Catalogue, MemoryRows
from onefold.core.model import (
    NEVER,
    NEW,
    ROOT,
    Action,
    Batch,
    Command,
    Failed,
    Id,
    Kind,
    Move,
    Origin,
    Pack,
    Put,
    Remove,
    Result,
    Shift,
    Version,
    version,
)
from onefold.core.paths import RelPath
from onefold.core.plan import plan
from onefold.core.wire import content_digest
from onefold.edge.journal import Base
from onefold.edge.materialise import FolderMaterialiser
from onefold.edge.strays import Strays
from onefold.edge.workspace import base_row
from onefold.node import place
from onefold.node.place import SLICE, Placer

CONTENTS = [b"content %d" % number for number in range(300)]


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
        self.wanted: list[bytes] = []
        self.here: dict[bytes, bytes] = {}
        self.looked_again: list[RelPath] = []
        self.stuck = 0
        fetcher: Any = self
        self.placer = Placer(
            self.rows,
            self.base,
            fetcher,
            self.materialiser,
            lambda: self.catalogue.index,
            lambda: False,
            self.looked_again.append,
            lambda _: None,
            lambda _: self.arrived.set(),
        )
        self.id = self.make(b"one")

    # what a fetcher has, and is asked for: here, all of it comes when it is asked for

    def has(self, digest: bytes) -> bool:
        return digest in self.here

    def wants(self, digest: bytes) -> bool:
        return digest in self.wanted

    def want(self, id: Id, digest: bytes, size: int) -> None:
        self.wanted.append(digest)
        self.placer.want([id])

    def get(self, digest: bytes) -> bytes:
        return self.here[digest]

    def ask(self) -> None:
        self.here.update((content_digest(data), data) for data in CONTENTS if content_digest(data) in self.wanted)

    def tried(self) -> None:
        self.ask()

    def make_room(self) -> None: ...

    def placed(self, digests: Iterable[bytes]) -> None: ...

    def clear(self) -> None: ...

    def __len__(self) -> int:
        return 0

    # the world

    def put(self, name: bytes, data: bytes, parent: Id = ROOT) -> Id:
        """A file that the catalogue has."""
        self.apply(Put(NEW, NEVER, parent, name, Kind.FILE, 0o644, 7, len(data), content_digest(data)))
        return self.id_of(parent, name)

    def put_directory(self, name: bytes) -> Id:
        """A directory that the catalogue has."""
        self.apply(Put(NEW, NEVER, ROOT, name, Kind.DIRECTORY, 0o755, 0, 0, b""))
        return self.id_of(ROOT, name)

    def id_of(self, parent: Id, name: bytes) -> Id:
        row = self.rows.child(parent, name)
        assert row is not None
        return row.id

    def make(self, name: bytes) -> Id:
        """A directory that catalogue, base and folder have."""
        self.put_directory(name)
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

    def place_of(self, id: Id) -> Version:
        row = self.rows.get(id)
        assert row is not None
        return row.placed

    def move(self, id: Id, name: bytes) -> None:
        self.apply(Move(id, self.place_of(id), ROOT, name))

    def folder_says(self) -> set[bytes]:
        return set(os.listdir(os.fsencode(self.root))) - {b".onefold"}

    def base_says(self) -> set[bytes]:
        return {row.name for row in self.base.children(ROOT)}

    async def place(self) -> None:
        """The placer's work, all of it."""
        self.arrived.clear()
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


async def test_what_stands_in_the_folder_already_is_not_fetched(world: World) -> None:
    (world.root / "here").write_bytes(CONTENTS[1])
    (world.root / "edited").write_bytes(b"something else")
    world.placer.want([world.put(b"here", CONTENTS[1]), world.put(b"edited", CONTENTS[2])])
    await world.place()
    assert world.wanted == [content_digest(CONTENTS[2])]
    assert (world.root / "here").stat().st_mtime_ns == 7
    assert (world.root / "edited").read_bytes() == CONTENTS[2]
    assert world.base_says() == {b"one", b"here", b"edited"}


async def test_more_than_can_be_planned_at_once_is_placed_in_parts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "IDS_MAX", 7)
    directory = world.put_directory(b"below")
    ids = [world.put(b"%d" % number, data, directory) for number, data in enumerate(CONTENTS)]
    world.placer.want([directory, *ids])
    await world.place()
    assert len(os.listdir(world.root / "below")) == len(CONTENTS)
    assert world.placer.progress() is None
    for row in [world.rows.get(id) for id in [*ids, directory]]:
        assert row is not None
        world.apply(Remove(row.id, row.version))
    world.arrived.clear()
    world.placer.want([directory, *ids])
    await world.place()
    assert world.folder_says() == world.base_says() == {b"one"}


async def test_what_was_to_make_room_goes_though_what_was_to_come_there_went_elsewhere(world: World) -> None:
    """The new one's content is not here when it is to take the old one's place, and is when it no longer is to."""
    old = world.put(b"place", CONTENTS[0])
    world.placer.want([old])
    await world.place()
    row = world.rows.get(old)
    assert row is not None
    world.apply(Remove(old, row.version))
    new = world.put(b"place", b"late")
    world.placer.want([old, new])
    waiting: list[Id] = []
    world.want = lambda wanting, digest, size: waiting.append(wanting)  # type: ignore[method-assign]
    await world.place()
    world.move(new, b"elsewhere")
    world.placer.want([new])
    world.here[content_digest(b"late")] = b"late"
    world.placer.want(waiting)
    await world.place()
    assert world.folder_says() == world.base_says() == {b"one", b"elsewhere"}


async def test_a_directory_that_is_moved_into_one_that_the_base_has_below_it_does_not_end_below_itself(
    world: World,
) -> None:
    """After a crash the base may have forgotten that a directory was moved; what was above it follows into it."""
    inner = world.put_directory(b"inner")
    world.apply(Move(inner, world.place_of(inner), world.id, b"inner"))
    world.placer.want([inner])
    await world.place()
    (world.root / "one" / "inner").rename(world.root / "inner")
    world.move(inner, b"inner")
    world.apply(Move(world.id, world.place_of(world.id), inner, b"one"))
    world.placer.want([inner, world.id])
    await world.place()
    assert world.folder_says() == world.base_says() == {b"inner"}
    assert world.base.path(world.id) == b"inner/one"
    assert (world.root / "inner" / "one").is_dir()


async def test_what_the_folder_refuses_is_looked_at_again_only_after_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "RETRY_SECONDS_MIN", 0.02)
    made = world.put_directory(b"full")

    def refuse(actions: Sequence[Action], contents: Any, keep_edits: bool) -> list[Result]:
        return [Failed(made, RelPath(b"full"), "the disk is full")]

    monkeypatch.setattr(world.materialiser, "run", refuse)
    world.placer.want([made])
    placing = asyncio.create_task(world.place())
    for _ in range(100):
        await asyncio.sleep(0)
    assert world.looked_again == []
    monkeypatch.undo()
    await placing
    assert world.looked_again == [b"full"]
    assert world.base_says() == {b"one", b"full"}


async def test_what_is_in_a_directory_that_the_base_cannot_have_yet_waits_with_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "RETRY_SECONDS_MIN", 60.0)
    (world.root / "one").rename(world.root / "new")  # which the base will learn only when somebody looks
    new = world.put_directory(b"new")
    runs = 0
    carry_out = world.materialiser.run

    def counted(actions: Sequence[Action], contents: Any, keep_edits: bool) -> list[Result]:
        nonlocal runs
        runs += 1
        return carry_out(actions, contents, keep_edits)

    monkeypatch.setattr(world.materialiser, "run", counted)
    world.placer.want([new, world.put(b"file", b"", new)])
    placing = asyncio.create_task(world.placer.run())
    for _ in range(200):
        await asyncio.sleep(0)
    placing.cancel()
    assert runs == 1
    assert world.base_says() == {b"one"}


def test_a_move_does_not_take_back_what_the_base_has_learned_since_it_was_planned(world: World) -> None:
    world.move(world.id, b"two")
    actions = plan([world.id], world.rows, world.base)
    old = world.base.get(world.id)
    assert old is not None
    results = world.materialiser.run(actions, lambda digest: b"", False)
    with world.base.transaction():
        world.base.put(msgspec.structs.replace(old, version=version(9, 0), mode=0o700))
    world.placer.recovered(list(zip(actions, results, strict=True)))
    now = world.base.get(world.id)
    assert now is not None
    assert (now.name, now.version, now.mode) == (b"two", version(9, 0), 0o700)
