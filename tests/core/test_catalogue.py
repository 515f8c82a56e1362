"""The transitions of the catalogue, rule by rule, as its first lines number them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from onefold.core.catalogue import Catalogue, Last, MemoryRows, conflict_name, route
from onefold.core.model import (
    NEVER,
    NEW,
    ROOT,
    ROOT_ROW,
    Applied,
    Batch,
    Change,
    Command,
    Id,
    Kind,
    Move,
    Origin,
    Outcome,
    Pack,
    Put,
    Remove,
    Row,
    Seed,
    Version,
    made_by,
    version,
)
from onefold.core.wire import content_digest, row_digest
from onefold.errors import Bug

FILE, DIRECTORY, SYMLINK = Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK


def file(name: bytes, data: bytes = b"one", parent: Id = ROOT, mode: int = 0o644) -> Put:
    return Put(NEW, NEVER, parent, name, FILE, mode, 1_000, len(data), content_digest(data))


def directory(name: bytes, parent: Id = ROOT, mode: int = 0o755) -> Put:
    return Put(NEW, NEVER, parent, name, DIRECTORY, mode, 0, 0, None)


def symlink(name: bytes, target: bytes = b"a/b", parent: Id = ROOT) -> Put:
    return Put(NEW, NEVER, parent, name, SYMLINK, 0, 0, len(target), target)


def edit(row: Row, data: bytes | None) -> Put:
    """What the author of an edit of `row` sends; None: only the mode, to 0o600."""
    put = Put(row.id, row.version, row.parent, row.name, row.kind, row.mode, 2_000, row.size, None)
    if data is None:
        return replace(put, mode=0o600)
    return replace(put, size=len(data), content=data if row.kind == SYMLINK else content_digest(data))


def remove(row: Row) -> Remove:
    return Remove(row.id, row.version)


def move(row: Row, name: bytes, parent: Id | None = None) -> Move:
    return Move(row.id, row.placed, row.parent if parent is None else parent, name)


class ColumnRows(MemoryRows):
    """Rows as strict as a database: an id is a 64-bit column."""

    def get(self, id: Id) -> Row | None:
        assert 0 <= id < 1 << 63
        return super().get(id)


class World:
    """A catalogue, and a node `n` that sends one batch per entry."""

    def __init__(self) -> None:
        self.rows = ColumnRows()
        self.catalogue = Catalogue(self.rows)
        self.applied: Applied | None = None

    def send(self, *commands: Command, node: str = "n") -> tuple[Outcome, ...]:
        """Apply one entry with one new batch of `node`."""
        index = self.catalogue.index + 1
        origin = Origin(node, 1, index)
        self.applied = self.catalogue.apply(index, Pack((Batch(origin, commands),), {}))
        assert self.catalogue.digest == self.catalogue.recount()
        return self.applied.outcomes[origin]

    def make(self, put: Put) -> Row:
        """The row that the accepted creation `put` made."""
        (outcome,) = self.send(put)
        assert outcome.accepted
        return self.row(outcome.id)

    def row(self, id: Id) -> Row:
        row = self.rows.get(id)
        assert row is not None
        return row

    def refuses(self, command: Command, reason: str) -> None:
        """`command` is a conflict for `reason`, and leaves no trace."""
        before, digest, files = self.tree(), self.catalogue.digest, self.catalogue.files
        assert self.send(command) == (Outcome(False, NEW, reason),)
        assert self.applied is not None and self.applied.changes == {}
        assert (self.tree(), self.catalogue.digest, self.catalogue.files) == (before, digest, files)

    def tree(self) -> dict[bytes, bytes]:
        """Every path, and its content (b"/" for a directory), ordered."""

        def below(parent: Id, path: bytes) -> dict[bytes, bytes]:
            found: dict[bytes, bytes] = {}
            for row in self.rows.children(parent):
                here = path + row.name
                found[here] = b"/" if row.kind == DIRECTORY else row.content
                found |= below(row.id, here + b"/")
            return found

        return below(ROOT, b"")


@pytest.fixture
def world() -> World:
    return World()


def content(data: bytes) -> bytes:
    return content_digest(data)


# ------------------------------------------------------------------------------------------------ 1, 3, 10: apply


def test_a_catalogue_starts_with_a_root_and_no_digest(world: World) -> None:
    assert world.rows.get(ROOT) == ROOT_ROW
    assert (world.catalogue.index, world.catalogue.digest, world.catalogue.files) == (0, 0, 0)
    assert world.catalogue.recount() == 0


@pytest.mark.parametrize("index", [0, 2, -1])
def test_entries_come_in_order_once_each(world: World, index: int) -> None:
    with pytest.raises(Bug, match=f"entry {index} came to a catalogue at index 0"):
        world.catalogue.apply(index, Pack((), {}))


def test_an_empty_pack_moves_the_index_alone(world: World) -> None:
    assert world.catalogue.apply(1, Pack((), {})) == Applied(1, {}, {})
    assert (world.catalogue.index, world.catalogue.digest) == (1, 0)


def test_positions_count_through_the_whole_pack(world: World) -> None:
    first = Batch(Origin("a", 1, 1), (file(b"a0"), file(b"a1")))
    second = Batch(Origin("b", 1, 1), (file(b"b0"),))
    assert world.catalogue.apply(1, Pack((first, first, second), {})).outcomes == {
        first.origin: (Outcome(True, Id(version(1, 0))), Outcome(True, Id(version(1, 1)))),
        second.origin: (Outcome(True, Id(version(1, 4))),),
    }


def test_changes_tell_each_row_first_before_and_last_after(world: World) -> None:
    old = world.make(file(b"old"))
    kept = world.make(file(b"kept"))
    world.send(
        edit(old, b"two"),
        move(old, b"moved"),
        move(kept, b"away"),
        Move(kept.id, version(3, 2), ROOT, b"kept"),
        file(b"new"),
        file(b"gone"),
        Remove(Id(version(3, 5)), version(3, 5)),
    )
    after = world.row(old.id)
    assert (after.version, after.placed, after.name, after.content) == (
        version(3, 0),
        version(3, 1),
        b"moved",
        content(b"two"),
    )
    assert world.applied is not None
    assert world.applied.changes == {
        old.id: Change(old, after),
        kept.id: Change(kept, replace(kept, placed=version(3, 3))),
        version(3, 4): Change(None, world.row(Id(version(3, 4)))),
    }


def test_the_digest_is_the_sum_of_all_rows_and_files_are_all_but_directories(world: World) -> None:
    rows = [world.make(put) for put in (file(b"f"), directory(b"d"), symlink(b"s"))]
    assert world.catalogue.digest == sum(row_digest(row) for row in rows) % (1 << 256)
    assert world.catalogue.files == 2
    world.send(*(remove(row) for row in rows))
    assert (world.catalogue.digest, world.catalogue.files) == (0, 0)


def test_a_catalogue_goes_on_from_what_was_saved(world: World) -> None:
    world.send(file(b"a"), Seed())
    was = world.catalogue
    again = Catalogue(world.rows, was.index, was.digest, was.files, was.seeded)
    again.apply(2, Pack((Batch(Origin("n", 1, 2), (file(b"b"),)),), {}))
    assert (again.digest, again.files, again.seeded) == (again.recount(), 2, True)


def test_a_seed_is_remembered(world: World) -> None:
    world.send(file(b"a"))
    assert not world.catalogue.seeded
    assert world.send(Seed()) == (Outcome(True, NEW),)
    assert world.catalogue.seeded
    world.send(file(b"b"))
    assert world.catalogue.seeded


# ------------------------------------------------------------------------------------------------ 2: exactly once


def test_a_resent_batch_answers_its_first_outcomes_and_changes_nothing(world: World) -> None:
    batch = Batch(Origin("n", 1, 1), (file(b"a"), file(b"a", b"other"), Seed()))
    first = world.catalogue.apply(1, Pack((batch,), {}))
    digest = world.catalogue.digest
    again = world.catalogue.apply(2, Pack((batch,), {}))
    assert again == Applied(2, {}, first.outcomes)
    assert world.catalogue.digest == digest


@pytest.mark.parametrize("origin", [Origin("n", 2, 4), Origin("n", 1, 9)])
def test_an_older_batch_is_ignored(world: World, origin: Origin) -> None:
    world.catalogue.apply(1, Pack((Batch(Origin("n", 2, 5), (file(b"a"),)),), {}))
    late = world.catalogue.apply(2, Pack((Batch(origin, (file(b"b"), Seed())),), {}))
    assert late == Applied(2, {}, {origin: ()})
    assert world.rows.last("n") == Last(2, 5, (Outcome(True, Id(version(1, 0))),))


def test_a_newer_incarnation_starts_its_sequence_anew(world: World) -> None:
    world.catalogue.apply(1, Pack((Batch(Origin("n", 1, 9), (file(b"a"),)),), {}))
    world.catalogue.apply(2, Pack((Batch(Origin("n", 2, 1), (file(b"b"),)),), {}))
    assert list(world.tree()) == [b"a", b"b"]


def test_nodes_count_each_for_itself(world: World) -> None:
    world.send(file(b"a"), node="n1")
    world.catalogue.apply(2, Pack((Batch(Origin("n2", 1, 1), (file(b"b"),)),), {}))
    assert list(world.tree()) == [b"a", b"b"]


def test_a_late_copy_within_the_same_pack_does_not_hide_what_its_batch_did(world: World) -> None:
    one, two = Batch(Origin("n", 1, 1), (file(b"a"),)), Batch(Origin("n", 1, 2), (file(b"b"),))
    outcomes = world.catalogue.apply(1, Pack((one, two, one, two), {})).outcomes
    assert outcomes == {
        one.origin: (Outcome(True, Id(version(1, 0))),),
        two.origin: (Outcome(True, Id(version(1, 1))),),
    }


# ------------------------------------------------------------------------------------------------ 5: creation


def test_a_creation_makes_a_row_of_its_version(world: World) -> None:
    v = version(1, 0)
    row = world.make(file(b"a", b"one", mode=0o640))
    assert row == Row(Id(v), ROOT, b"a", FILE, v, v, 0o640, 1_000, 3, content(b"one"))


def test_directories_and_symlinks_keep_only_what_is_theirs(world: World) -> None:
    made = world.make(replace(directory(b"d", mode=0o700), mtime_ns=5, size=6))
    assert (made.mode, made.mtime_ns, made.size, made.content) == (0o700, 0, 0, b"")
    link = world.make(replace(symlink(b"s", b"to"), mode=0o777, mtime_ns=5, size=6))
    assert (link.mode, link.mtime_ns, link.size, link.content) == (0, 0, 2, b"to")


def test_a_tree_is_made_by_references_within_one_batch(world: World) -> None:
    world.send(directory(b"a"), directory(b"b", made_by(0)), file(b"c", parent=made_by(1)))
    assert world.tree() == {b"a": b"/", b"a/b": b"/", b"a/b/c": content(b"one")}


def test_references_count_within_their_batch_wherever_it_stands_in_the_pack(world: World) -> None:
    first = Batch(Origin("a", 1, 1), (directory(b"a"),))
    second = Batch(Origin("b", 1, 1), (directory(b"b"), file(b"c", parent=made_by(0))))
    world.catalogue.apply(1, Pack((first, second), {}))
    assert list(world.tree()) == [b"a", b"b", b"b/c"]


def test_two_creations_of_one_directory_merge(world: World) -> None:
    there = world.make(directory(b"d", mode=0o755))
    outcomes = world.send(directory(b"d", mode=0o700), file(b"x", parent=made_by(0)))
    assert outcomes[0] == Outcome(True, there.id)
    assert world.row(there.id) == there
    assert list(world.tree()) == [b"d", b"d/x"]


@pytest.mark.parametrize("put", [file(b"a"), symlink(b"a")])
def test_two_creations_of_the_same_content_are_one(world: World, put: Put) -> None:
    there = world.make(put)
    assert world.send(replace(put, mtime_ns=7, mode=0o600)) == (Outcome(True, there.id),)
    assert world.row(there.id) == there


@pytest.mark.parametrize(
    ("there", "put"),
    [
        (file(b"a.txt"), file(b"a.txt", b"two")),
        (file(b"a.txt"), symlink(b"a.txt")),
        (symlink(b"a.txt"), symlink(b"a.txt", b"elsewhere")),
        (symlink(b"a.txt"), file(b"a.txt")),
        (directory(b"a.txt"), file(b"a.txt")),
        (directory(b"a.txt"), symlink(b"a.txt")),
        # A symlink to 32 bytes that are the digest of a file is not that file.
        (file(b"a.txt"), symlink(b"a.txt", content_digest(b"one").replace(b"\0", b"."))),
    ],
)
def test_other_content_under_a_taken_name_becomes_a_conflict_copy(world: World, there: Put, put: Put) -> None:
    parent = world.make(directory(b"d"))
    row = world.make(replace(there, parent=parent.id))
    (outcome,) = world.send(replace(put, parent=parent.id), node="node2")
    v = version(3, 0)
    assert outcome == Outcome(False, Id(v), "its name is taken")
    copy = world.row(Id(v))
    assert (copy.parent, copy.name) == (parent.id, b"a.conflict-node2-3-0.txt")
    assert (copy.kind, copy.version, copy.placed, copy.content) == (put.kind, v, v, put.content)
    assert world.row(row.id) == row


@pytest.mark.parametrize("there", [file(b"d"), symlink(b"d")])
def test_a_directory_under_a_taken_name_gets_another_and_what_is_inside_arrives_inside(
    world: World, there: Put
) -> None:
    world.make(there)
    outcomes = world.send(directory(b"d"), directory(b"e", made_by(0)), file(b"f", parent=made_by(1)))
    assert [outcome.accepted for outcome in outcomes] == [False, True, True]
    assert list(world.tree())[1:] == [b"d.conflict-n-2-0", b"d.conflict-n-2-0/e", b"d.conflict-n-2-0/e/f"]


@pytest.mark.parametrize("put", [file(b"a"), symlink(b"a"), directory(b"a")])
def test_a_creation_in_a_directory_that_is_gone_goes_to_the_root(world: World, put: Put) -> None:
    gone = world.make(directory(b"d"))
    world.send(remove(gone))
    (outcome,) = world.send(replace(put, parent=gone.id))
    assert outcome == Outcome(False, Id(version(3, 0)), "its directory is gone")
    assert list(world.tree()) == [b"a.conflict-n-3-0"]


@pytest.mark.parametrize("parent", [NEW, made_by(0), made_by(1), made_by(9), made_by(1 << 62), Id(77), Id(1 << 63)])
def test_a_parent_that_makes_no_sense_is_no_directory(world: World, parent: Id) -> None:
    """made_by(0) failed, made_by(1) is the command itself, the others never were."""
    outcomes = world.send(replace(directory(b"bad"), name=b"/"), file(b"a", parent=parent))
    assert outcomes[1] == Outcome(False, Id(version(1, 1)), "its directory is gone")
    assert list(world.tree()) == [b"a.conflict-n-1-1"]


def test_a_parent_that_is_a_file_is_no_directory(world: World) -> None:
    there = world.make(file(b"f"))
    outcomes = world.send(file(b"a", parent=there.id), file(b"g"), file(b"b", parent=made_by(1)))
    assert [outcome.accepted for outcome in outcomes] == [False, True, False]
    assert list(world.tree()) == [b"a.conflict-n-2-0", b"b.conflict-n-2-2", b"f", b"g"]


def test_our_own_directory_in_the_root_is_always_taken(world: World) -> None:
    world.send(directory(b".onefold"), file(b".onefold"))
    assert list(world.tree()) == [b".onefold.conflict-n-1-0", b".onefold.conflict-n-1-1"]
    row = world.make(file(b"a", parent=Id(version(1, 0))))
    world.refuses(move(row, b".onefold", ROOT), "its new name is taken")


def test_below_the_root_our_name_is_a_name_like_any_other(world: World) -> None:
    world.send(directory(b"d"), file(b".onefold", parent=made_by(0)))
    assert list(world.tree()) == [b"d", b"d/.onefold"]


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0", b"x" * 256])
def test_a_name_that_is_none_is_refused(world: World, name: bytes) -> None:
    world.refuses(file(name), "its name is not a file name")
    row = world.make(file(b"a"))
    world.refuses(move(row, name), "its new name is not a file name")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mode", 0o1000),
        ("mode", -1),
        ("size", -1),
        ("size", 1 << 63),
        ("mtime_ns", 1 << 63),
        ("mtime_ns", -(1 << 63)),
    ],
)
def test_numbers_that_no_file_has_are_refused(world: World, field: str, value: int) -> None:
    world.refuses(replace(file(b"a"), **{field: value}), "its mode, mtime or size is out of range")


@pytest.mark.parametrize(
    ("put", "reason"),
    [
        (replace(file(b"a"), content=b"short"), "its content is not a digest"),
        (replace(file(b"a"), content=b""), "its content is not a digest"),
        (replace(file(b"a"), content=None), "a new file needs content"),
        (replace(symlink(b"a"), content=None), "a new file needs content"),
        (symlink(b"a", b""), "its target is not a path"),
        (symlink(b"a", b"a\0b"), "its target is not a path"),
        (symlink(b"a", b"x" * 4096), "its target is not a path"),
        (replace(directory(b"a"), content=b"x"), "a directory has no content"),
    ],
)
def test_content_that_no_file_has_is_refused(world: World, put: Put, reason: str) -> None:
    world.refuses(put, reason)


# ------------------------------------------------------------------------------------------------ 6, 9: edits


def test_an_edit_changes_content_and_version_and_not_the_place(world: World) -> None:
    row = world.make(file(b"a"))
    assert world.send(replace(edit(row, b"two!"), name=b"elsewhere", parent=Id(99))) == (Outcome(True, row.id),)
    v = version(2, 0)
    assert world.row(row.id) == replace(row, version=v, size=4, mtime_ns=2_000, content=content(b"two!"))


def test_attributes_alone_keep_the_content(world: World) -> None:
    row = world.make(file(b"a"))
    world.send(replace(edit(row, None), size=99))
    assert world.row(row.id) == replace(row, version=version(2, 0), mode=0o600, mtime_ns=2_000)


def test_a_directory_takes_a_mode_and_a_symlink_a_target(world: World) -> None:
    made, link = world.make(directory(b"d")), world.make(symlink(b"s"))
    world.send(edit(made, None), edit(link, b"there!"))
    assert world.row(made.id) == replace(made, version=version(3, 0), mode=0o600)
    assert world.row(link.id) == replace(link, version=version(3, 1), content=b"there!", size=6)


def test_an_edit_and_a_move_of_one_file_both_stand(world: World) -> None:
    row, target = world.make(file(b"a")), world.make(directory(b"d"))
    assert all(outcome.accepted for outcome in world.send(move(row, b"b", target.id), edit(row, b"two")))
    assert world.tree() == {b"d": b"/", b"d/b": content(b"two")}


@pytest.mark.parametrize("put", [file(b"a.txt"), symlink(b"a.txt")])
def test_a_late_edit_becomes_a_copy_next_to_what_won(world: World, put: Put) -> None:
    """G3."""
    row, target = world.make(put), world.make(directory(b"d"))
    world.send(edit(row, b"winner"), move(row, b"b.md", target.id))
    won = world.row(row.id)
    (outcome,) = world.send(edit(row, b"loser"), node="node3")
    assert outcome == Outcome(False, Id(version(4, 0)), "it changed")
    assert world.row(row.id) == won
    assert list(world.tree()) == [b"d", b"d/b.conflict-node3-4-0.md", b"d/b.md"]
    assert world.row(outcome.id).content == edit(row, b"loser").content


def test_a_late_edit_to_what_stands_there_needs_no_copy(world: World) -> None:
    row = world.make(file(b"a"))
    world.send(edit(row, b"two"))
    world.refuses(replace(edit(row, b"two"), mode=0o777), "it changed, to the same content")


def test_late_attributes_revert(world: World) -> None:
    row, made = world.make(file(b"a")), world.make(directory(b"d"))
    world.send(edit(row, b"two"), edit(made, None))
    world.refuses(edit(row, None), "it changed")
    world.refuses(edit(made, None), "it changed")


def test_an_edit_of_what_was_removed_is_kept_where_it_was(world: World) -> None:
    """G3."""
    parent = world.make(directory(b"d"))
    row = world.make(file(b"a", parent=parent.id))
    world.send(remove(row))
    assert world.send(edit(row, b"two")) == (Outcome(False, Id(version(4, 0)), "it was removed"),)
    assert world.tree() == {b"d": b"/", b"d/a.conflict-n-4-0": content(b"two")}
    world.refuses(edit(row, None), "it was removed")


def test_an_edit_of_what_was_removed_with_its_directory_is_kept_in_the_root(world: World) -> None:
    """G3."""
    parent = world.make(directory(b"d"))
    row = world.make(file(b"a", parent=parent.id))
    world.send(remove(row), remove(parent))
    world.send(edit(row, b"two"))
    assert world.tree() == {b"a.conflict-n-4-0": content(b"two")}


def test_a_directory_that_was_removed_stays_removed(world: World) -> None:
    made = world.make(directory(b"d"))
    world.send(remove(made))
    world.refuses(edit(made, None), "it was removed")


def test_an_edit_that_makes_a_file_something_else_is_kept_as_a_copy(world: World) -> None:
    row, made = world.make(file(b"a")), world.make(directory(b"d"))
    late = replace(edit(row, b"two"), kind=SYMLINK, content=b"t")
    world.send(move(row, b"b"), late, replace(edit(made, None), kind=FILE))
    assert world.tree() == {b"b": content(b"one"), b"b.conflict-n-3-1": b"t", b"d": b"/"}
    world.refuses(replace(edit(row, None), kind=DIRECTORY), "it is of another kind")


@pytest.mark.parametrize("id", [ROOT, made_by(0), Id(-(1 << 62)), Id(1 << 63)])
def test_what_cannot_be_edited_was_removed(world: World, id: Id) -> None:
    world.refuses(Put(id, NEVER, ROOT, b"a", FILE, 0o644, 0, 0, None), "it was removed")
    world.send(Put(id, NEVER, ROOT, b"a", FILE, 0o644, 0, 3, content(b"one")))
    assert world.tree() == {b"a.conflict-n-2-0": content(b"one")}


def test_a_taken_conflict_name_counts_on(world: World) -> None:
    world.send(file(b"a.txt"), file(b"a.conflict-n-2-0.txt"))
    world.send(file(b"a.txt", b"two"))
    assert b"a.conflict-n-2-0-1.txt" in world.tree()
    world.send(file(b"a.conflict-n-4-0.txt"), file(b"a.conflict-n-4-0-1.txt"))
    world.send(file(b"a.txt", b"three"))
    assert b"a.conflict-n-4-0-2.txt" in world.tree()


# ------------------------------------------------------------------------------------------------ 7: moves


def test_a_move_changes_the_place_and_not_the_version(world: World) -> None:
    target, row = world.make(directory(b"d")), world.make(file(b"a"))
    assert world.send(move(row, b"b", target.id)) == (Outcome(True, row.id),)
    assert world.row(row.id) == replace(row, parent=target.id, name=b"b", placed=version(3, 0))
    assert world.rows.child(ROOT, b"a") is None and not world.rows.has_children(row.id)


def test_a_moved_directory_takes_all_below_it_along(world: World) -> None:
    world.send(directory(b"a"), directory(b"b", made_by(0)), file(b"c", parent=made_by(1)), directory(b"z"))
    world.send(move(world.row(Id(version(1, 0))), b"y", Id(version(1, 3))))
    assert list(world.tree()) == [b"z", b"z/y", b"z/y/b", b"z/y/b/c"]
    assert world.applied is not None and list(world.applied.changes) == [Id(version(1, 0))]


def test_a_move_may_go_into_a_directory_of_its_own_batch(world: World) -> None:
    row = world.make(file(b"a"))
    world.send(directory(b"d"), Move(row.id, row.placed, made_by(0), b"a"))
    assert list(world.tree()) == [b"d", b"d/a"]


def test_two_files_swap_their_names_through_a_third(world: World) -> None:
    a, b = world.make(file(b"a", b"one")), world.make(file(b"b", b"two"))
    outcomes = world.send(move(a, b"t"), move(b, b"a"), Move(a.id, Version(made_by(0)), ROOT, b"b"))
    assert all(outcome.accepted for outcome in outcomes)
    assert world.tree() == {b"a": content(b"two"), b"b": content(b"one")}


def test_a_move_may_follow_a_move_that_found_everything_in_place(world: World) -> None:
    row = world.make(file(b"a"))
    outcomes = world.send(move(row, b"a"), Move(row.id, Version(made_by(0)), ROOT, b"b"))
    assert all(outcome.accepted for outcome in outcomes)
    assert list(world.tree()) == [b"b"]


def test_a_move_that_follows_a_failed_move_fails(world: World) -> None:
    row = world.make(file(b"a"))
    world.make(file(b"t"))
    outcomes = world.send(move(row, b"t"), Move(row.id, Version(made_by(0)), ROOT, b"b"), file(b"c"))
    assert [outcome.reason for outcome in outcomes] == ["its new name is taken", "it moved", ""]
    world.refuses(Move(row.id, Version(made_by(0)), ROOT, b"b"), "it moved")


def test_a_move_cannot_follow_a_move_of_another_batch(world: World) -> None:
    row = world.make(file(b"a"))
    one = Batch(Origin("n1", 1, 1), (move(row, b"b"),))
    two = Batch(Origin("n2", 1, 1), (Move(row.id, Version(made_by(0)), ROOT, b"c"),))
    outcomes = world.catalogue.apply(2, Pack((one, two), {})).outcomes
    assert outcomes[two.origin] == (Outcome(False, NEW, "it moved"),)


def test_what_is_where_it_should_go_is_accepted_unchanged(world: World) -> None:
    row = world.make(file(b"a"))
    assert world.send(replace(move(row, b"a"), expect=Version(77))) == (Outcome(True, row.id),)
    assert world.row(row.id) == row


def test_a_second_move_of_the_same_place_reverts(world: World) -> None:
    row = world.make(file(b"a"))
    world.send(move(row, b"b"))
    world.refuses(move(row, b"c"), "it moved")


@pytest.mark.parametrize("there", [file(b"b"), directory(b"b"), symlink(b"b")])
def test_a_move_to_a_taken_name_reverts(world: World, there: Put) -> None:
    row = world.make(directory(b"a"))
    world.make(there)
    world.refuses(move(row, b"b"), "its new name is taken")


def test_a_directory_cannot_move_below_itself(world: World) -> None:
    world.send(directory(b"a"), directory(b"b", made_by(0)), directory(b"c", made_by(1)))
    a, c = world.row(Id(version(1, 0))), world.row(Id(version(1, 2)))
    world.refuses(move(a, b"x", a.id), "its new directory is below itself")
    world.refuses(move(a, b"x", c.id), "its new directory is below itself")
    assert world.send(move(c, b"c", ROOT))[0].accepted


def test_two_directories_that_move_into_each_other_are_decided_by_order(world: World) -> None:
    a, b = world.make(directory(b"a")), world.make(directory(b"b"))
    assert world.send(move(a, b"a", b.id), node="n1")[0].accepted
    world.refuses(move(b, b"b", a.id), "its new directory is below itself")


def test_a_move_out_of_a_row_that_is_missing_from_its_tree_is_a_bug(world: World) -> None:
    world.send(directory(b"a"), directory(b"b", made_by(0)), directory(b"c"))
    world.rows.delete(world.row(Id(version(1, 0))))
    with pytest.raises(Bug, match="has children and does not exist"):
        world.send(move(world.row(Id(version(1, 2))), b"c", Id(version(1, 1))))


@pytest.mark.parametrize("parent", [Id(77), NEW, made_by(0), Id(1 << 63)])
def test_a_move_to_no_directory_reverts(world: World, parent: Id) -> None:
    row = world.make(file(b"a"))
    world.refuses(move(row, b"b", parent), "its new directory is gone")


def test_a_move_into_a_file_reverts(world: World) -> None:
    row, there = world.make(file(b"a")), world.make(file(b"b"))
    world.refuses(move(row, b"c", there.id), "its new directory is gone")


@pytest.mark.parametrize("id", [ROOT, NEW, made_by(0), Id(77), Id(1 << 63)])
def test_what_is_no_row_cannot_move(world: World, id: Id) -> None:
    world.refuses(Move(id, NEVER, ROOT, b"a"), "it was removed")


# ------------------------------------------------------------------------------------------------ 8: removals


@pytest.mark.parametrize("put", [file(b"a"), symlink(b"a"), directory(b"a")])
def test_a_removal_frees_the_name(world: World, put: Put) -> None:
    row = world.make(put)
    assert world.send(remove(row), replace(put, mode=0o600))[0] == Outcome(True, row.id)
    assert list(world.tree()) == [b"a"] and world.rows.get(row.id) is None


def test_a_removal_of_what_is_gone_is_accepted(world: World) -> None:
    row = world.make(file(b"a"))
    world.send(remove(row))
    assert world.send(remove(row), Remove(Id(1 << 63), NEVER)) == (Outcome(True, row.id), Outcome(True, Id(1 << 63)))


def test_a_removal_does_not_take_an_edit_along(world: World) -> None:
    """G3."""
    row = world.make(file(b"a"))
    world.send(edit(row, b"two"))
    world.refuses(remove(row), "it changed")


def test_a_removal_follows_a_move(world: World) -> None:
    row = world.make(file(b"a"))
    world.send(move(row, b"b"))
    assert world.send(remove(row))[0].accepted
    assert world.tree() == {}


def test_a_directory_is_removed_when_it_is_empty(world: World) -> None:
    made = world.make(directory(b"d"))
    child = world.make(file(b"a", parent=made.id))
    world.refuses(remove(made), "it is not empty")
    assert [outcome.accepted for outcome in world.send(remove(child), remove(made))] == [True, True]
    assert world.tree() == {}


@pytest.mark.parametrize("id", [ROOT, NEW, made_by(0)])
def test_the_root_cannot_be_removed(world: World, id: Id) -> None:
    world.refuses(Remove(id, NEVER), "it cannot be removed")


def test_a_file_becomes_a_directory_and_back(world: World) -> None:
    row = world.make(file(b"a"))
    world.send(remove(row), directory(b"a"), file(b"b", parent=made_by(1)))
    assert world.tree() == {b"a": b"/", b"a/b": content(b"one")}
    world.send(Remove(Id(version(2, 2)), version(2, 2)), Remove(Id(version(2, 1)), version(2, 1)), file(b"a"))
    assert world.tree() == {b"a": content(b"one")}


# ------------------------------------------------------------------------------------------------ 9: conflict names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"report.txt", b"report.conflict-node2-12-3.txt"),
        (b"archive.tar.gz", b"archive.tar.conflict-node2-12-3.gz"),
        (b"Makefile", b"Makefile.conflict-node2-12-3"),
        (b".bashrc", b".bashrc.conflict-node2-12-3"),
        (b".config.toml", b".config.conflict-node2-12-3.toml"),
        (b"ends.", b"ends..conflict-node2-12-3"),
        (b"a." + b"e" * 15, b"a.conflict-node2-12-3." + b"e" * 15),
        (b"a." + b"e" * 16, b"a." + b"e" * 16 + b".conflict-node2-12-3"),
        (b"\xff\xfe.\xfd", b"\xff\xfe.conflict-node2-12-3.\xfd"),
    ],
)
def test_a_conflict_name_keeps_the_extension(name: bytes, expected: bytes) -> None:
    assert conflict_name(name, "node2", version(12, 3)) == expected


def test_a_conflict_name_is_cut_to_255_bytes_and_keeps_its_end() -> None:
    name = conflict_name(b"x" * 251 + b".txt", "node2", version(12, 3), 7)
    assert len(name) == 255 and name.endswith(b"xx.conflict-node2-12-3-7.txt")


@pytest.mark.parametrize("lead", [0, 1, 2, 3])
def test_a_conflict_name_is_not_cut_within_a_character(lead: int) -> None:
    name = conflict_name(b"x" * lead + "🦉".encode() * 62, "node2", version(12, 3))
    assert 251 < len(name) <= 255 and "🦉.conflict" in name.decode()


def test_a_conflict_name_of_bytes_that_are_no_text_is_cut_all_the_same() -> None:
    assert 251 < len(conflict_name(b"\x80" * 255, "node2", version(12, 3))) <= 255


@pytest.mark.parametrize("node", ["a/b", "../..", "nul\0", "ü" * 500, "", "\udcff"])
def test_no_node_name_spoils_a_conflict_name(node: str) -> None:
    name = conflict_name(b"x" * 255, node, version((1 << 43) - 1, (1 << 20) - 1), 1 << 20)
    assert len(name) <= 255 and b"/" not in name and b"\0" not in name


# ------------------------------------------------------------------------------------------------ the rows


def test_children_are_sorted_by_name_as_bytes(world: World) -> None:
    world.send(*(file(name) for name in (b"b", b"\xff", b"a", b"B", b"aa")))
    assert [row.name for row in world.rows.children(ROOT)] == [b"B", b"a", b"aa", b"b", b"\xff"]
    assert world.rows.children(Id(5)) == [] and world.rows.child(Id(5), b"a") is None


def test_recount_finds_a_row_that_was_damaged(world: World) -> None:
    row = world.make(file(b"a"))
    world.rows.put(replace(row, mode=0o777))
    assert world.catalogue.recount() != world.catalogue.digest


# ------------------------------------------------------------------------------------------------ 11. answered batches


def ask(world: World, *commands: Command) -> tuple[Outcome, ...]:
    """As `World.send`, with an answered batch."""
    index = world.catalogue.index + 1
    origin = Origin("n~api", 1, index)
    world.applied = world.catalogue.apply(index, Pack((Batch(origin, commands, answered=True),), {}))
    assert world.catalogue.digest == world.catalogue.recount()
    return world.applied.outcomes[origin]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda row: file(b"a", b"other"), "its name is taken"),
        (lambda row: directory(b"a"), "its name is taken"),
        (lambda row: file(b"b", parent=Id(77)), "its directory is gone"),
        (lambda row: replace(edit(row, b"two"), expect=Version(5)), "it changed"),
        (lambda row: replace(edit(row, b"two"), id=Id(77)), "it was removed"),
        (lambda row: Remove(row.id, Version(5)), "it changed"),
        (lambda row: Remove(Id(77), row.version), "it was removed"),
        (lambda row: Move(row.id, Version(5), ROOT, b"b"), "it moved"),
        (lambda row: Move(row.id, Version(5), ROOT, b"a"), "it moved"),
    ],
)
def test_what_is_rejected_of_an_answered_batch_leaves_nothing(make: Callable[[Row], Command], reason: str) -> None:
    world = World()
    row = world.make(file(b"a"))
    before, digest = world.tree(), world.catalogue.digest
    assert ask(world, make(row)) == (Outcome(False, NEW, reason),)
    assert world.applied is not None
    assert world.applied.changes == {}
    assert (world.tree(), world.catalogue.digest) == (before, digest)


def test_what_needs_a_directory_that_an_answered_batch_did_not_get_is_rejected_with_it() -> None:
    world = World()
    world.make(file(b"a"))
    outcomes = ask(world, directory(b"a"), file(b"b", parent=made_by(0)))
    assert [outcome.reason for outcome in outcomes] == ["its name is taken", "its directory is gone"]
    assert list(world.tree()) == [b"a"]


def test_of_an_answered_batch_what_is_accepted_is_as_of_any_other() -> None:
    world = World()
    (made, inside) = ask(world, directory(b"x"), file(b"a", parent=made_by(0)))
    assert (made.accepted, inside.accepted) == (True, True)
    ask(world, edit(world.row(inside.id), b"two"), move(world.row(inside.id), b"b"))
    assert world.tree() == {b"x": b"/", b"x/b": content_digest(b"two")}
    ask(world, remove(world.row(inside.id)))
    assert world.tree() == {b"x": b"/"}


def test_a_move_that_names_a_version_needs_it() -> None:
    world = World()
    old = world.make(file(b"a"))
    world.send(edit(old, b"two"))
    row = world.row(old.id)
    world.refuses(Move(row.id, row.placed, ROOT, b"b", old.version), "it changed")
    (outcome,) = world.send(Move(row.id, row.placed, ROOT, b"b", row.version))
    assert outcome.accepted
    assert list(world.tree()) == [b"b"]


@pytest.mark.parametrize("above", [False, True])
def test_a_command_that_names_a_route_is_rejected_once_anything_on_it_has_moved(above: bool) -> None:
    world = World()
    x = world.make(directory(b"x"))
    y = world.make(directory(b"y", x.id))
    row = world.make(file(b"a", parent=y.id))
    named, of_y = route(world.rows, row.id), route(world.rows, y.id)
    assert (named, of_y) == (row.placed, y.placed)
    commands: list[Command] = [
        replace(edit(row, b"two"), route=named),
        replace(file(b"b", parent=y.id), route=of_y),
        Remove(row.id, row.version, named),
        Move(row.id, row.placed, ROOT, b"b", route=named),
        Move(row.id, row.placed, y.id, b"b", route=named),
    ]
    world.send(move(x if above else y, b"z", ROOT))
    for command in commands:
        world.refuses(command, "its path has moved")
    again = route(world.rows, row.id)
    assert again > named
    assert world.send(replace(edit(row, b"two"), route=again))[0].accepted


def test_names_after_a_name_come_in_their_order() -> None:
    rows = MemoryRows()
    catalogue = Catalogue(rows)
    names = (b"c", b"a", b"d", b"b")
    commands = tuple(Put(NEW, NEVER, ROOT, name, Kind.DIRECTORY, 0o755, 0, 0, None) for name in names)
    catalogue.apply(1, Pack((Batch(Origin("n", 1, 1), commands),), {}))
    assert [row.name for row in rows.children_after(ROOT, b"a", 2)] == [b"b", b"c"]
    assert [row.name for row in rows.children_after(ROOT, b"d", 2)] == []
