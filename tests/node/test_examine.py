"""What is read again: what is named, what is mended, and what is left alone (G1, G3)."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from stations import eventually

from onefold import linux
from onefold.core import wire
from onefold.core.catalogue import Catalogue
from onefold.core.inspect import ROTTEN
from onefold.core.messages import Finding, Give, Given, Message
from onefold.core.model import (
    NEVER,
    NEW,
    ROOT,
    BaseRow,
    Batch,
    Command,
    Entry,
    Kind,
    Observed,
    Origin,
    Pack,
    Present,
    Put,
    Remove,
    Row,
)
from onefold.core.paths import RelPath
from onefold.edge.journal import Base, CatalogueStore
from onefold.edge.materialise import FolderMaterialiser
from onefold.edge.objects import ObjectStore
from onefold.edge.recent import RecentContents
from onefold.edge.scan import FileRereading, FolderScanner
from onefold.edge.strays import Strays
from onefold.edge.workspace import base_row
from onefold.errors import PeerGone
from onefold.node.durable import Keeper
from onefold.node.examine import Examiner
from onefold.node.fetch import Fetcher
from onefold.node.given import Ports
from onefold.node.place import Placer
from onefold.node.scrub import Scrubber


class RottingScanner(FolderScanner):
    """The files in `rotten` are read as if what stands there had come about without being written."""

    rotten: dict[RelPath, BaseRow]

    def reread(self, path: RelPath) -> Any:
        reading = super().reread(path)
        if isinstance(reading, FileRereading) and path in self.rotten:
            seen, stat = reading.observed, self.rotten[path].stat

            def observed() -> tuple[Observed, bool]:
                found = seen()[0]
                assert isinstance(found, Present)
                return msgspec.structs.replace(found, stat=stat), True

            reading.observed = observed  # type: ignore[method-assign]
        return reading


class World:
    """A node with files `a` to `e` that are in place, and peers that have `elsewhere`."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "folder"
        (self.root / ".onefold").mkdir(parents=True)
        (self.root / ".onefold" / "id").write_text("folder")
        root = os.fsencode(self.root)
        state = tmp_path / "state"
        self.rows = CatalogueStore(state, "folder", "a")
        self.base = Base(state, "folder")
        self.catalogue = Catalogue(self.rows)
        self.objects = ObjectStore(state / "objects")
        self.contents = RecentContents(state / "recent")
        self.strays = Strays(state / "strays")
        self.scanner = RottingScanner(root)
        self.scanner.rotten = {}
        self.materialiser = FolderMaterialiser(root, self.strays, state)
        self.elsewhere: dict[bytes, bytes] = {}
        self.looked_at: set[RelPath] = set()
        self.pending: set[RelPath] = set()
        self.doubted: set[RelPath] = set()
        self.tasks: list[asyncio.Task[None]] = []
        self.damaged = False
        stub: Any = self
        fetcher = Fetcher(
            self.base,
            self.contents,
            self.objects,
            stub,
            root,
            lambda *_: True,
            lambda ids: self.placer.again(ids),
            lambda digest: self.keeper.done_with(digest, self.catalogue.index),
            self.spawn,
        )
        self.placer = Placer(
            self.rows,
            self.base,
            fetcher,
            self.materialiser,
            lambda: self.catalogue.index,
            lambda: True,
            lambda _: None,
            lambda _: None,
            lambda _: None,
        )
        self.keeper = Keeper(self.objects, self.contents, stub, lambda: None, lambda: 0, lambda _: None, set, 0)
        ports = Ports(
            clock=stub,
            log=stub,
            objects=self.objects,
            contents=self.contents,
            peers=stub,
            watcher=stub,
            scanner=self.scanner,
            materialiser=self.materialiser,
            catalogue=self.rows,
            base=self.base,
            strays=self.strays,
        )
        self.examiner = Examiner(
            ports,
            self.catalogue,
            self.placer,
            self.keeper,
            self.looked_at.add,
            self.pending.__contains__,
            self.doubted.__contains__,
        )
        self.scrubber = Scrubber(
            self.examiner,
            self.base,
            stub,
            30,
            lambda: self.catalogue.files,
            lambda: "it is damaged" if self.damaged else "",
            self.damage,
            self.spawn,
        )
        for name in "abcde":
            self.make(name)

    # what a node has

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        for _ in range(20):  # the placer's turn
            await asyncio.sleep(0)

    def spawn(self, work: Any) -> asyncio.Task[None]:
        self.tasks.append(asyncio.ensure_future(work))
        return self.tasks[-1]

    def damage(self) -> None:
        self.damaged = True

    def connected(self) -> frozenset[str]:
        return frozenset("b")

    async def ask(self, node: str, message: Message, seconds: float) -> Message:
        assert isinstance(message, Give)
        return Given({digest: self.elsewhere[digest] for digest in message.digests if digest in self.elsewhere})

    async def fetch(self, digest: bytes, size: int, sources: list[str]) -> None:
        if digest not in self.elsewhere:
            raise PeerGone("b does not have it")
        self.objects.put(digest, self.elsewhere[digest])

    # what a test does

    def apply(self, *commands: Command) -> None:
        index = self.catalogue.index + 1
        with self.rows.transaction():
            applied = self.catalogue.apply(index, Pack((Batch(Origin("a", 1, index), commands),), {}))
        self.examiner.applied(applied.changes)

    def put(self, name: str, text: str) -> Row:
        """Into the catalogue only."""
        digest = wire.content_digest(text.encode())
        self.elsewhere[digest] = text.encode()
        self.apply(Put(NEW, NEVER, ROOT, name.encode(), Kind.FILE, 0o644, 5, len(text), digest))
        row = self.rows.child(ROOT, name.encode())
        assert row is not None
        return row

    def make(self, name: str) -> None:
        """In the catalogue, the folder and the base."""
        row = self.put(name, f"text of {name}")
        path = self.root / name
        path.write_text(f"text of {name}")
        path.chmod(0o644)
        os.utime(path, ns=(5, 5))
        with self.base.transaction():
            self.base.put(base_row(row, linux.stat_of(-100, os.fsencode(path))[1]))

    def row(self, name: str) -> BaseRow:
        row = self.base.lookup(RelPath(name.encode()))
        assert row is not None
        return row

    def rot(self, name: str) -> None:
        self.scanner.rotten[RelPath(name.encode())] = self.row(name)
        path = self.root / name
        path.write_bytes(b"T" + path.read_bytes()[1:])

    def text(self, name: str) -> str:
        return (self.root / name).read_text()

    async def verify(self, repair: bool = False) -> list[Finding]:
        known: list[Finding] = []
        while True:
            answer = self.scrubber.verify(f"run{repair}", repair, len(known))
            known += answer.findings
            if answer.finished:
                self.scrubber._run = None
                return known
            await asyncio.sleep(0.001)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    made.spawn(made.placer.run())
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)
    made.materialiser.close()
    made.base.close()
    made.rows.close()


async def test_nothing_is_named_where_nothing_differs(world: World) -> None:
    assert await world.verify() == []
    assert await world.verify(repair=True) == []
    assert world.strays.count() == 0


async def test_g3_rot_is_named_and_left_without_repair(world: World) -> None:
    world.rot("b")
    before = world.row("b")
    assert await world.verify() == [Finding(ROTTEN, "b", False)]
    assert world.text("b") == "Text of b"
    assert world.row("b") == before
    assert world.strays.count() == 0
    assert [problem.where for problem in world.scrubber.problems()] == ["b"]


async def test_g3_rot_is_replaced_by_a_sound_copy_and_its_bytes_are_kept(world: World) -> None:
    world.rot("b")
    assert await world.verify(repair=True) == [Finding(ROTTEN, "b", True)]
    assert world.text("b") == "text of b"
    assert world.strays.count() == 1
    assert world.row("b").stat == linux.stat_of(-100, os.fsencode(world.root / "b"))[1]
    assert world.row("b").version == world.rows.page(ROOT, 9)[1].version
    assert list(world.objects.digests()) == []  # what was fetched for it is let go
    assert world.scrubber.problems() == []
    assert world.scrubber.mended == 1
    world.scanner.rotten.clear()
    assert await world.verify() == []


async def test_g3_rot_is_left_while_no_sound_copy_is_to_be_had(world: World) -> None:
    world.rot("b")
    world.elsewhere.clear()
    before = world.row("b")
    assert await world.verify(repair=True) == [Finding(ROTTEN, "b", False)]
    assert world.text("b") == "Text of b"
    assert world.row("b") == before


async def test_g3_what_is_in_doubt_is_not_taken_for_rot(world: World) -> None:
    world.rot("b")
    world.doubted.add(RelPath(b"b"))
    (found,) = await world.verify(repair=True)
    assert found.what != ROTTEN
    assert not found.mended
    assert world.text("b") == "Text of b"


async def test_g3_an_edit_is_not_mended_away(world: World) -> None:
    (world.root / "b").write_text("an edit")
    (world.root / "c").unlink()
    (world.root / "d").chmod(0o600)
    (world.root / "new").write_text("new")
    found = await world.verify(repair=True)
    assert sorted((finding.where, finding.mended) for finding in found) == [
        ("b", False),
        ("c", False),
        ("d", False),
        ("new", False),
    ]
    assert world.text("b") == "an edit"
    assert not (world.root / "c").exists()
    assert {RelPath(name) for name in (b"b", b"c", b"d", b"new")} <= world.looked_at
    assert RelPath(b"a") not in world.looked_at


async def test_what_is_ignored_is_not_even_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (world.root / ".onefoldignore").write_text("*.img\n")
    (world.root / "huge.img").write_text("huge")
    (world.root / "new").write_text("new")
    read: list[RelPath] = []
    reread = world.scanner.reread

    def noted(path: RelPath) -> Any:
        read.append(path)
        return reread(path)

    monkeypatch.setattr(world.scanner, "reread", noted)
    found = await world.verify()
    assert sorted(finding.where for finding in found) == [".onefoldignore", "new"]
    assert RelPath(b"new") in read
    assert RelPath(b"huge.img") not in read


async def test_what_is_on_its_way_is_not_named(world: World) -> None:
    (world.root / "b").write_text("an edit")
    world.pending.add(RelPath(b"b"))
    assert await world.verify() == []


async def test_what_differs_otherwise_at_each_look_is_being_edited(world: World) -> None:
    (world.root / "b").write_text("an edit")
    looks = 0

    async def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        (world.root / "b").write_text(f"edit {looks}")
        await asyncio.sleep(0.02)

    world.sleep = sleep  # type: ignore[method-assign]
    assert await world.verify() == []
    assert looks > 2


async def test_a_rot_that_is_edited_before_it_is_mended_is_an_edit(world: World) -> None:
    before = world.row("b")
    with world.base.transaction():
        world.base.put(msgspec.structs.replace(before, version=NEVER))
    assert not await world.placer.replace_damaged(before)
    assert world.text("b") == "text of b"
    with world.base.transaction():
        world.base.put(before)
    world.placer.halt()
    assert not await world.placer.replace_damaged(before)
    assert world.strays.count() == 0


async def test_what_was_not_placed_is_named_and_placed(world: World) -> None:
    world.put("f", "text of f")
    world.placer.in_place = world.catalogue.index
    assert [finding.where for finding in await world.verify()] == ["f"]
    found = await world.verify(repair=True)
    assert [(finding.where, finding.mended) for finding in found] == [("f", True)]
    assert world.text("f") == "text of f"


async def test_what_is_still_being_placed_is_not_named(world: World) -> None:
    world.put("f", "text of f")
    world.placer.in_place = world.catalogue.index - 1
    assert await world.verify() == []


async def test_what_should_be_gone_is_named_and_removed(world: World) -> None:
    row = world.rows.child(ROOT, b"c")
    assert row is not None
    world.apply(Remove(row.id, row.version))
    found = await world.verify(repair=True)
    assert [(finding.where, finding.mended) for finding in found] == [("c", True)]
    assert not (world.root / "c").exists()


async def test_a_base_that_is_wrong_about_a_version_brings_that_version_again(world: World) -> None:
    path = world.root / "c"
    path.write_text("of a catalogue that was damaged")
    stat = linux.stat_of(-100, os.fsencode(path))[1]
    wrong = wire.content_digest(path.read_bytes())
    with world.base.transaction():
        world.base.put(
            msgspec.structs.replace(
                world.row("c"), content=wrong, size=stat.size, mtime_ns=stat.mtime_ns, stat=stat, mode=stat.mode
            )
        )
    found = await world.verify(repair=True)
    assert [(finding.where, finding.mended) for finding in found] == [("c", True)]
    assert world.text("c") == "text of c"


async def test_what_is_ignored_is_not_named_nor_is_a_directory_that_holds_only_that(world: World) -> None:
    (world.root / ".onefoldignore").write_text("*.tmp\nhidden/\n")
    (world.root / "held").mkdir()
    (world.root / "held" / "x.tmp").write_text("x")
    (world.root / "hidden").mkdir()
    (world.root / "hidden" / "y").write_text("y")
    (world.root / "deep").mkdir()
    (world.root / "deep" / "z").write_text("z")
    (world.root / "empty").mkdir()
    found = await world.verify()
    assert sorted(finding.where for finding in found) == [".onefoldignore", "deep/z", "empty"]


async def test_g1_a_damaged_row_of_the_catalogue_is_found_and_nothing_else_is_compared(world: World) -> None:
    world.rows.execute("UPDATE rows SET mode = 0 WHERE name = ?", (b"c",))
    world.rot("b")
    (found,) = await world.verify(repair=True)
    assert (found.what, found.mended) == ("it is damaged", False)
    assert world.damaged
    assert world.text("b") == "Text of b"


async def test_g1_changes_while_rows_are_counted_are_no_damage(world: World) -> None:
    async def pace(_: int) -> None:
        world.put(f"n{world.catalogue.index}", "new") if world.catalogue.index < 20 else None
        row = world.rows.child(ROOT, b"c")
        assert row is not None
        world.apply(Put(row.id, row.version, ROOT, b"c", Kind.FILE, 0o600, 9, row.size, None))

    assert await world.examiner.catalogue_is_sound(pace)


def pin(world: World, data: bytes) -> bytes:
    digest = wire.content_digest(data)
    world.objects.put(digest, data)
    world.keeper.applied(9, Entry(wire.RULES, 1, b"nonce123", None, digest, len(data)), Pack((), {}))
    return digest


def flip(path: Path) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


async def test_a_damaged_object_is_named_until_it_is_mended(world: World) -> None:
    digest = pin(world, b"a pack")
    flip(world.objects.path(digest))
    finding = Finding("an object is damaged", digest.hex(), False)
    assert await world.verify() == [finding]
    assert not world.objects.has(digest)
    assert await world.verify() == [finding]
    assert await world.verify(repair=True) == [finding]  # nobody has it
    world.elsewhere[digest] = b"a pack"
    assert await world.verify(repair=True) == [msgspec.structs.replace(finding, mended=True)]
    assert world.objects.read(digest) == b"a pack"
    assert await world.verify() == []


async def test_a_damaged_object_that_nobody_needs_is_let_go(world: World) -> None:
    digest = wire.content_digest(b"something")
    world.objects.put(digest, b"something")
    flip(world.objects.path(digest))
    (found,) = await world.verify()
    assert found.mended
    assert await world.verify() == []


async def test_the_scrub_mends_by_itself_and_remembers_that_it_is_done(world: World) -> None:
    world.rot("b")
    scrub = asyncio.ensure_future(world.scrubber.run())
    await eventually(lambda: world.scrubber.mended and world.base.scrubbed == NEW)
    scrub.cancel()
    await asyncio.gather(scrub, return_exceptions=True)
    assert world.text("b") == "text of b"
    assert world.base.scrub_due > 0


async def test_a_scrub_goes_on_where_it_was_left(world: World) -> None:
    world.rot("a")
    world.rot("e")
    world.base.scrubbed = world.row("c").id
    await world.scrubber._scrub()
    assert (world.text("a"), world.text("e")) == ("Text of a", "text of e")
    assert world.base.scrubbed == NEW
