"""What changed lately: the paths of each entry as they were then, and what is still known."""

from __future__ import annotations

import asyncio

from onefold.core.catalogue import Catalogue, MemoryRows
from onefold.core.messages import Everywhere
from onefold.core.model import NEVER, NEW, ROOT, Batch, Command, Id, Kind, Move, Origin, Pack, Put, Remove, made_by
from onefold.node import changes as module
from onefold.node.changes import Changes, EntryChanges


class Followed:
    """A catalogue whose entries are noted."""

    def __init__(self) -> None:
        self.rows = MemoryRows()
        self.changes = Changes(0)
        self._catalogue = Catalogue(self.rows)

    def apply(self, *commands: Command, node: str = "a") -> EntryChanges:
        index = self._catalogue.index + 1
        pack = Pack((Batch(Origin(node, 1, index), commands),), {})
        self.changes.applied(self._catalogue.apply(index, pack), pack, self.rows)
        return self.changes.after(index - 1, 1)[0]

    def row(self, path: str) -> tuple[Id, int, int]:
        at = ROOT
        for name in path.split("/"):
            row = self.rows.child(at, name.encode())
            assert row is not None
            at = row.id
        return row.id, row.version, row.placed


def make(parent: Id, name: bytes, kind: Kind = Kind.DIRECTORY, content: bytes = b"") -> Put:
    return Put(NEW, NEVER, parent, name, kind, 0o755, 0, len(content), content)


def file(parent: Id, name: bytes, content: bytes = b"0" * 32) -> Put:
    return make(parent, name, Kind.FILE, content)


def told(entry: EntryChanges) -> list[tuple[str, bytes, bytes | None]]:
    return [(change.verb, change.path, change.origin) for change in entry.changes]


def test_each_kind_of_change_is_told_with_its_path() -> None:
    of = Followed()
    entry = of.apply(make(ROOT, b"d"), file(made_by(0), b"f"), node="b")
    assert (entry.index, entry.node, entry.omitted) == (1, "b", 0)
    assert told(entry) == [("created", b"d", None), ("created", b"d/f", None)]
    id, version, placed = of.row("d/f")
    assert told(of.apply(Put(id, version, ROOT, b"f", Kind.FILE, 0o600, 1, 1, b"1" * 32))) == [("edited", b"d/f", None)]
    assert told(of.apply(Move(id, placed, ROOT, b"g"))) == [("moved", b"g", b"d/f")]
    assert told(of.apply(Remove(id, of.row("g")[1]))) == [("removed", b"g", None)]


def test_paths_are_those_before_and_after_the_entry_whatever_else_it_moves() -> None:
    of = Followed()
    of.apply(make(ROOT, b"d"), file(made_by(0), b"f"), file(made_by(0), b"gone"))
    (d, _, d_placed), (f, _, f_placed), (gone, gone_version, _) = of.row("d"), of.row("d/f"), of.row("d/gone")
    entry = of.apply(Move(d, d_placed, ROOT, b"e"), Move(f, f_placed, d, b"g"), Remove(gone, gone_version))
    assert told(entry) == [("moved", b"e", b"d"), ("moved", b"e/g", b"d/f"), ("removed", b"d/gone", None)]


def test_a_tree_that_is_removed_is_told_with_the_paths_that_it_had() -> None:
    of = Followed()
    of.apply(make(ROOT, b"d"), file(made_by(0), b"f"))
    (d, d_version, _), (f, f_version, _) = of.row("d"), of.row("d/f")
    assert told(of.apply(Remove(f, f_version), Remove(d, d_version))) == [
        ("removed", b"d/f", None),
        ("removed", b"d", None),
    ]


def test_what_came_through_the_api_of_a_node_is_that_nodes() -> None:
    assert Followed().apply(make(ROOT, b"d"), node="web1~api").node == "web1"


def test_of_an_entry_with_very_many_changes_so_many_are_told() -> None:
    entry = Followed().apply(*(make(ROOT, b"%d" % number) for number in range(module.CHANGES_TOLD + 7)))
    assert (len(entry.changes), entry.omitted) == (module.CHANGES_TOLD, 7)


def test_entries_are_forgotten_beyond_a_bound_of_their_number_or_changes() -> None:
    of = Followed()
    for number in range(module.ENTRIES_KEPT + 5):
        of.apply(make(ROOT, b"%d" % number))
    assert of.changes.oldest == 5
    assert [entry.index for entry in of.changes.after(5, 3)] == [6, 7, 8]
    assert not of.changes.after(of.changes.index, 3)
    many = module.CHANGES_KEPT // module.CHANGES_TOLD
    for number in range(many):
        of.apply(*(make(ROOT, b"%d-%d" % (number, each)) for each in range(module.CHANGES_TOLD)))
    assert of.changes.oldest == of.changes.index - many


def test_what_is_everywhere_is_told_to_those_who_have_not_heard() -> None:
    changes = Changes(0)
    for index in range(module.PLACED_KEPT + 3):
        changes.everywhere(Everywhere(index, 1.5))
    assert changes.placed(changes.placed_count - 1) == [Everywhere(module.PLACED_KEPT + 2, 1.5)]
    assert len(changes.placed(0)) == module.PLACED_KEPT
    assert not changes.placed(changes.placed_count)


async def test_all_who_wait_hear_of_news() -> None:
    of = Followed()
    waiting = [asyncio.create_task(of.changes.news()) for _ in range(3)]
    await asyncio.sleep(0)
    of.apply(make(ROOT, b"d"))
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting)
