"""G2, G3: power that is lost in earnest: what was not on the disk is gone, and the file system repairs itself."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cluster import eventually
from machines import Machines, machines

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


@pytest.fixture
def powered(tmp_path: Path) -> Iterator[Machines]:
    """Three nodes with a disk each, of which `a` leads; `writers = any`."""
    with machines(tmp_path, "any", disks=True) as running:
        yield running


def fill(running: Machines, node: str) -> set[bytes]:
    """Files of all sizes, new, edited in place and replaced, all acknowledged and hardly any synced; their contents."""
    folder = running.folder(node)
    for number in range(60):
        path = folder / f"{number % 20}"
        if number >= 40:
            path = folder / f"{number}.new"
        path.write_bytes(b"%d of %d" % (number, os.getpid()) * (1, 7, 3_000, 300_000)[number % 4])
        if number >= 40:
            path.replace(folder / f"{number % 20}")
        if number % 10 == 9:
            running.wait()
    return {path.read_bytes() for path in folder.iterdir() if path.is_file()}


def lose(running: Machines, *nodes: str) -> None:
    """The power of `nodes`, at once; and it returns."""
    running.lose_power(*nodes)
    running.network.mend()
    for node in nodes:
        running.start(node)
    running.whole()


@pytest.mark.parametrize(
    ("author", "victims"), [("a", "b"), ("a", "a"), ("b", "abc")], ids=["a-follower", "the-leader", "all-at-once"]
)
def test_what_was_acknowledged_outlives_the_loss_of_power(powered: Machines, author: str, victims: str) -> None:
    acknowledged = fill(powered, author)
    before = powered.settled(author)
    lose(powered, *victims)
    assert powered.settled() == before
    folder = powered.folder("c")
    assert acknowledged == {path.read_bytes() for path in folder.iterdir() if path.is_file()}
    (folder / "afterwards").write_text("x")
    eventually(lambda: (powered.folder("a") / "afterwards").exists(), "an edit")


def test_bytes_that_never_reached_the_disk_are_proposed_by_nobody(powered: Machines) -> None:
    """Too many for an entry, and nobody there to hold them: they wait on `a`, which loses power and leads again."""
    (powered.folder("a") / "file").write_bytes(b"committed" * 50_000)
    before = powered.settled("a")
    for each in powered.disks.values():
        each.sync()
    powered.network.cut("a", "b", "c")
    powered.network.cut("b", "c")
    (powered.folder("a") / "file").write_bytes(b"never synced" * 50_000)
    (powered.folder("a") / "new").write_bytes(b"never synced, and new" * 50_000)
    lose(powered, *"abc")
    assert powered.settled() == before
    assert all(powered.strays(node) == [] for node in "bc")


def test_that_a_run_has_begun_is_on_disk_before_it_does_anything(powered: Machines) -> None:
    """Else, after a crash right after an end in order, what the crash left half there would count as edits."""
    powered.stop("c")
    powered.disks["c"].sync()
    powered.start("c")
    powered.whole()
    powered.lose_power("c")
    with closing(sqlite3.connect(powered.nodes["c"].state / "base.db")) as base:
        (clean,) = base.execute("SELECT value FROM meta WHERE key = 'clean'").fetchone()
    assert clean == 0
    powered.start("c")
    powered.whole()
