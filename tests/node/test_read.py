"""Content for the API: in exactly the version that is asked for, from wherever it is."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from onefold import linux
from onefold.core.model import NEVER, ROOT, BaseRow, Id, Kind, Row, Version
from onefold.core.wire import content_digest
from onefold.edge.journal import Base
from onefold.edge.objects import ObjectStore
from onefold.edge.recent import RecentContents
from onefold.errors import PeerGone, Unavailable
from onefold.node import read
from onefold.node.read import Reader

DATA = b"the committed content"


class World:
    """A node whose folder may have the file `a`."""

    def __init__(self, tmp_path: Path) -> None:
        self.file = tmp_path / "a"
        self.base = Base(tmp_path / "state", "folder")
        self.objects = ObjectStore(tmp_path / "objects")
        self.contents = RecentContents(tmp_path / "recent")
        self.elsewhere: bytes | None = None
        self.let_go: list[bytes] = []
        self.kept = False
        self.row = Row(Id(1), ROOT, b"a", Kind.FILE, Version(1), Version(1), 0o644, 5, len(DATA), content_digest(DATA))
        ports: Any = SimpleNamespace(
            log=None, clock=None, catalogue=None, base=self.base, objects=self.objects, contents=self.contents
        )
        fetcher: Any = SimpleNamespace(at_hand=lambda digest: None, keeps=lambda digest: self.kept, obtain=self.obtain)
        keeper: Any = SimpleNamespace(let_go=self.release)
        who: Any = SimpleNamespace(root=os.fsencode(tmp_path))
        self.reader = Reader(who, ports, None, fetcher, keeper, None)  # type: ignore[arg-type]

    def release(self, digest: bytes) -> None:
        self.let_go.append(digest)
        self.objects.release(digest)

    async def obtain(self, digest: bytes, size: int) -> None:
        if self.elsewhere is None:
            raise PeerGone("nobody is there")
        self.objects.put(digest, self.elsewhere)

    def place(self, data: bytes) -> None:
        """The base says that `DATA` stands in the folder, where `data` does."""
        self.file.write_bytes(DATA)
        stat = linux.stat_of(os.open(self.file.parent, os.O_RDONLY), b"a")[1]
        row = self.row
        with self.base.transaction():
            self.base.put(BaseRow(row.id, ROOT, b"a", Kind.FILE, NEVER, NEVER, 0o644, 5, row.size, row.content, stat))
        if data != DATA:
            self.file.write_bytes(data)

    async def content(self) -> bytes:
        content = await self.reader.content(self.row)
        try:
            data = content.read(0, 100)
            assert content.read(4, 3) == data[4:7]
            assert content.read(100, 1) == b""
            assert content.intact()
            return data
        finally:
            content.close()


@pytest.fixture(params=[0, 1 << 20], ids=["large", "small"])
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> World:
    monkeypatch.setattr(read, "SMALL_BYTES_MAX", request.param)
    return World(tmp_path)


async def test_content_comes_from_the_folder_where_that_has_it(world: World) -> None:
    world.place(DATA)
    assert await world.content() == DATA


@pytest.mark.parametrize("edit", [b"the COMMITTED content", b"shorter", b"an edit that is longer than what it was"])
async def test_an_edit_in_the_folder_is_not_taken_for_the_committed_version(world: World, edit: bytes) -> None:
    world.place(edit)
    with pytest.raises(Unavailable, match="nobody is there"):
        await world.content()
    world.elsewhere = DATA
    assert await world.content() == DATA


async def test_content_comes_from_objects_and_recent_packs(world: World) -> None:
    world.contents.remember(1, {world.row.content: DATA})
    assert await world.content() == DATA
    world.contents.forget(1)
    world.objects.put(world.row.content, DATA)
    assert await world.content() == DATA
    assert world.let_go == []


async def test_what_was_fetched_to_be_read_is_let_go_unless_the_folder_waits_for_it(world: World) -> None:
    world.elsewhere = DATA
    assert await world.content() == DATA
    assert world.let_go == [world.row.content]
    world.kept = True
    assert await world.content() == DATA
    assert world.let_go == [world.row.content]


async def test_a_link_in_the_place_of_a_file_is_not_followed(world: World, tmp_path: Path) -> None:
    world.place(DATA)
    world.file.rename(tmp_path / "other")
    world.file.symlink_to("other")
    with pytest.raises(Unavailable):
        await world.content()
