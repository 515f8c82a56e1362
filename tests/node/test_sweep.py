"""When everything is looked at again, though nothing told of a change."""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stations import run_until

from onefold import linux
from onefold.core.model import NEVER, ROOT, BaseRow, Id, Kind
from onefold.core.paths import RelPath
from onefold.edge.journal import Base
from onefold.edge.scan import FolderScanner
from onefold.node import sweep
from onefold.node.sweep import HURRY_SECONDS, SWEEP_SECONDS, Sweeper


class World:
    """A folder of which the base knows the directories `a` and `a/b`, and its sweeper, whose waits are counted."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "folder"
        (self.root / "a" / "b").mkdir(parents=True)
        (self.root / ".onefold").mkdir()
        (self.root / ".onefold" / "id").write_text("folder")
        self.base = Base(tmp_path / "state", "folder")
        with self.base.transaction():
            for id, parent, path in ((Id(1), ROOT, b"a"), (Id(2), Id(1), b"a/b")):
                found = linux.stat_of(-100, os.path.join(os.fsencode(self.root), path))[1]
                name = path.rpartition(b"/")[2]
                self.base.put(BaseRow(id, parent, name, Kind.DIRECTORY, NEVER, NEVER, found.mode, 0, 0, b"", found))
        self.scanner = FolderScanner(os.fsencode(self.root))
        self.waits: list[float] = []
        self.stop_after = 0
        self.enough = asyncio.Event()
        self.looked: list[RelPath] = []
        self.step: Callable[[int], None] = lambda number: None
        self.sweeper = Sweeper(self.base, self.scanner, self, lambda: True, lambda path, _: self.looked.append(path))

    def now(self) -> float:
        return sum(self.waits)

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.step(len(self.waits))
        if len(self.waits) == self.stop_after:
            self.enough.set()
            await asyncio.Event().wait()

    async def sweep(self, waits: int) -> None:
        """Sweep until it has waited so often."""
        self.stop_after, self.enough = waits, asyncio.Event()
        await run_until(self.enough, self.sweeper.run())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.scanner.close()
    made.base.close()


async def test_what_no_event_told_of_is_found_one_directory_after_the_other(world: World) -> None:
    (world.root / "a" / "b" / "f").write_text("x")
    await world.sweep(4)
    assert world.looked == [b"a/b/f"]
    assert world.waits == [SWEEP_SECONDS] * 4


async def test_what_differs_from_the_base_is_found_though_nothing_is_new(world: World) -> None:
    (world.root / "a" / "b").chmod(0o700)
    await world.sweep(4)
    assert world.looked == [b"a/b"]


async def test_after_a_directory_with_much_in_it_it_rests_for_longer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "SWEEP_ROWS", 1)
    await world.sweep(5)
    assert world.waits == [SWEEP_SECONDS * weight for weight in (1, 2, 2, 1, 2)]


async def test_in_a_hurry_it_begins_anew_and_is_through_soon(world: World) -> None:
    (world.root / "f").write_text("x")
    world.step = lambda number: world.sweeper.hurry() if number == 2 else None
    await world.sweep(6)
    assert world.looked == [b"f", b"f"]
    assert world.waits == [SWEEP_SECONDS, SWEEP_SECONDS, HURRY_SECONDS, HURRY_SECONDS, HURRY_SECONDS, SWEEP_SECONDS]


async def test_whoever_is_in_a_hurry_while_it_hurries_is_not_forgotten(world: World) -> None:
    world.sweeper.hurry()
    world.step = lambda number: world.sweeper.hurry() if number == 2 else None
    await world.sweep(7)
    assert world.waits == [HURRY_SECONDS] * 6 + [SWEEP_SECONDS]
