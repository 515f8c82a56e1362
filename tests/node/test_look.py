"""What a round looks at, on a real folder with a real base: all that must be seen before diff may speak of a change."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from onefold.core.model import NEVER, ROOT, Absent, BaseRow, Id, Kind, Present
from onefold.core.paths import ROOT_PATH, RelPath
from onefold.edge.journal import Base
from onefold.edge.scan import FolderScanner
from onefold.node.look import Glance, Look


class World:
    """A folder, and a base that knows of it what it was told to `know`."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "folder"
        (self.root / ".onefold").mkdir(parents=True)
        (self.root / ".onefold" / "id").write_text("id")
        self.scanner = FolderScanner(os.fsencode(self.root))
        self.base = Base(tmp_path / "state", "id")
        self._ids = count(1 << 20)

    def close(self) -> None:
        self.scanner.close()
        self.base.close()

    def make(self, *paths: str) -> None:
        """Files; with a slash at the end, directories."""
        for path in paths:
            place = self.root / path
            (place if path.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
            if not path.endswith("/"):
                place.write_text(path)

    def know(self, *paths: str) -> None:
        """The base has what stands there now, parents first."""
        for path in paths:
            place = RelPath(os.fsencode(path))
            above = self.base.lookup(place.parent)
            self.put(place, above.id if above is not None else ROOT, Id(next(self._ids)))

    def put(self, place: RelPath, parent: Id, id: Id) -> None:
        o = self.scanner.observe(place, None, False)
        assert isinstance(o, Present)
        row = BaseRow(id, parent, place.name, o.kind, NEVER, NEVER, o.stat.mode, 0, o.stat.size, o.content, o.stat)
        self.base.put(row)

    def id(self, path: str) -> Id:
        row = self.base.lookup(RelPath(os.fsencode(path)))
        assert row is not None
        return row.id

    def look(self) -> Look:
        return Look(self.scanner, self.base, {})


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def glance(path: str, tree: bool = False) -> Glance:
    return Glance(RelPath(os.fsencode(path)), tree=tree)


def short(look: Look) -> dict[str, str]:
    """What was seen where, in a letter."""
    letters = {Kind.DIRECTORY: "d", Kind.FILE: "f", Kind.SYMLINK: "l"}
    return {
        os.fsdecode(path): letters[o.kind] if isinstance(o, Present) else "-" if isinstance(o, Absent) else "?"
        for path, o in look.seen.items()
    }


async def test_a_new_directory_is_seen_with_all_in_it(world: World) -> None:
    world.make("d/e/f", "d/g")
    look = world.look()
    assert await look.at([glance("d/e/f")]) == []
    assert short(look) == {"d": "d", "d/e": "d", "d/e/f": "f", "d/g": "f"}


async def test_what_was_narrowed_away_can_be_asked_for_again(world: World) -> None:
    world.make("d/known", "d/odd")
    world.know("d", "d/known")
    look = world.look()
    await look.at([Glance(ROOT_PATH, tree=True)])
    look.only([RelPath(b"d/odd")])
    await look.at([glance("d")], all=True)
    assert short(look) == {"d/odd": "f", "d": "d"}


async def test_a_renamed_directory_is_not_looked_into(world: World) -> None:
    world.make("d/f", "other")
    world.know("d", "d/f", "other")
    (world.root / "d").rename(world.root / "n")
    look = world.look()
    await look.at([glance("d"), glance("n"), glance("other")])
    assert short(look) == {"d": "-", "n": "d", "other": "f"}


async def test_a_renamed_directory_is_looked_into_when_something_was_hinted_at_under_its_old_name(world: World) -> None:
    world.make("d/f", "d/g")
    world.know("d", "d/f", "d/g")
    (world.root / "d" / "f").unlink()
    (world.root / "d").rename(world.root / "n")
    look = world.look()
    await look.at([glance("d/f"), glance("d"), glance("n")])
    assert short(look) == {"d/f": "-", "d": "-", "n": "d", "n/f": "-", "n/g": "f"}


async def test_a_directory_that_replaced_another_is_compared_with_all_that_was_in_that(world: World) -> None:
    world.make("d/f", "d/g")
    world.know("d", "d/f", "d/g")
    (world.root / "d").rename(world.root.parent / "gone")
    world.make("d/g")
    look = world.look()
    await look.at([glance("d")])
    assert short(look) == {"d": "d", "d/f": "-", "d/g": "f"}


async def test_a_directory_that_the_landed_batch_made_is_compared_with_all_that_it_told_of(world: World) -> None:
    world.make("d/f", "d/g")
    look = world.look()
    (world.root / "d" / "f").unlink()
    (world.root / "d").rename(world.root / "n")
    await look.at([glance("n")])
    world.make("d/f")  # as it was when the batch was made, which lands only now
    world.put(RelPath(b"n"), ROOT, Id(1))
    world.put(RelPath(b"d/f"), Id(1), Id(2))
    shutil.rmtree(world.root / "d")
    assert short(look) == {"n": "d", "n/g": "f"}
    await look.settle()
    assert short(look) == {"n": "d", "n/g": "f", "n/f": "-"}


async def test_a_renamed_directory_that_the_landed_batch_removed_is_seen_whole(world: World) -> None:
    world.make("d/f")
    world.know("d", "d/f")
    (world.root / "d").rename(world.root / "n")
    look = world.look()
    await look.at([glance("n")])
    assert short(look) == {"n": "d"}
    for path in ("d/f", "d"):
        world.base.delete(world.id(path))
    await look.settle()
    assert short(look) == {"n": "d", "n/f": "f"}


async def test_what_the_landed_batch_told_of_a_directory_that_was_seen_whole_is_looked_for(world: World) -> None:
    world.make("d/f")
    world.know("d", "d/f")
    look = world.look()
    await look.at([glance("d", tree=True)])
    world.make("d/new")
    world.know("d/new")
    (world.root / "d" / "new").unlink()
    await look.settle()
    assert short(look) == {"d": "d", "d/f": "f", "d/new": "-"}
