"""What an entry did, as records for people."""

from __future__ import annotations

from onefold.core.catalogue import Catalogue, MemoryRows
from onefold.core.history import Record, records
from onefold.core.model import (
    NEVER,
    NEW,
    ROOT,
    Batch,
    Command,
    Id,
    Kind,
    Move,
    Origin,
    Pack,
    Put,
    Remove,
    Version,
    made_by,
    version,
)
from onefold.core.wire import content_digest


def file(name: bytes, data: bytes = b"one", parent: Id = ROOT) -> Put:
    return Put(NEW, NEVER, parent, name, Kind.FILE, 0o644, 7, len(data), content_digest(data))


def directory(name: bytes, parent: Id = ROOT) -> Put:
    return Put(NEW, NEVER, parent, name, Kind.DIRECTORY, 0o755, 0, 0, None)


class World:
    def __init__(self) -> None:
        self.catalogue = Catalogue(MemoryRows())

    def send(self, *batches: tuple[str, tuple[Command, ...]]) -> list[Record]:
        index = self.catalogue.index + 1
        pack = Pack(tuple(Batch(Origin(node, 1, index), commands) for node, commands in batches), {})
        return records(pack, self.catalogue.apply(index, pack), self.catalogue.rows.get)

    def one(self, *commands: Command) -> list[tuple[str, bytes]]:
        return [(record.verb, bytes(record.path)) for record in self.send(("n", commands))]


def test_each_change_has_a_record_with_its_author_and_its_version() -> None:
    world = World()
    found = world.send(("a", (directory(b"x"), file(b"f", parent=made_by(0)))), ("b~api", (file(b"g", b"other"),)))
    assert [(r.verb, r.path, r.node, r.version) for r in found] == [
        ("created", b"x", "a", version(1, 0)),
        ("created", b"x/f", "a", version(1, 1)),
        ("created", b"g", "b", version(1, 2)),
    ]
    assert (found[2].content, found[2].size, found[2].mtime_ns) == (content_digest(b"other"), 5, 7)


def test_edits_moves_and_removals_tell_the_path_as_it_was_then() -> None:
    world = World()
    x, f = (record.id for record in world.send(("n", (directory(b"x"), file(b"f", parent=made_by(0))))))
    edit = Put(f, Version(f), x, b"f", Kind.FILE, 0o644, 8, 3, content_digest(b"two"))
    assert world.one(edit, Move(f, Version(f), ROOT, b"g")) == [("edited", b"g"), ("moved", b"g")]
    assert world.one(Move(x, Version(x), ROOT, b"y")) == [("moved", b"y")]
    assert world.one(Remove(f, version(2, 0)), Remove(x, Version(x))) == [("removed", b"g"), ("removed", b"y")]


def test_a_tree_that_is_removed_at_once_is_told_with_its_paths() -> None:
    world = World()
    x, y, f = (
        r.id for r in world.send(("n", (directory(b"x"), directory(b"y", made_by(0)), file(b"f", b"", made_by(1)))))
    )
    removals = (Remove(f, Version(f)), Remove(y, Version(y)), Remove(x, Version(x)))
    assert world.one(*removals) == [("removed", b"x/y/f"), ("removed", b"x/y"), ("removed", b"x")]


def test_what_changed_nothing_has_no_record() -> None:
    world = World()
    (f,) = (record.id for record in world.send(("n", (file(b"f"),))))
    assert world.one(file(b"f"), Remove(Id(77), Version(77)), Move(f, Version(5), ROOT, b"g")) == []


def test_a_conflict_copy_is_something_created() -> None:
    world = World()
    world.send(("n", (file(b"f.txt"),)))
    assert world.one(file(b"f.txt", b"two")) == [("created", b"f.conflict-n-2-0.txt")]


def test_what_came_and_went_in_one_entry_has_no_record() -> None:
    world = World()
    created = version(1, 0)
    assert world.one(file(b"f"), Remove(Id(created), created)) == []


def test_an_edit_in_place_is_no_move() -> None:
    world = World()
    (made,) = world.send(("a", (file(b"f"),)))
    edit = Put(made.id, made.version, ROOT, b"f", Kind.FILE, 0o644, 8, 3, content_digest(b"two"))
    assert [(r.verb, r.path, r.version) for r in world.send(("a", (edit,)))] == [("edited", b"f", version(2, 0))]
