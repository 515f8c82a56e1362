"""What a batch's fate means for the base, and what becomes of edits where nobody may propose."""

from __future__ import annotations

import pytest
from folders import Cluster, Node
from msgspec.structs import replace

from onefold.core.diff import Claim, Diff
from onefold.core.model import NEVER, ROOT, BaseRow, Discard, Id, Kind, Outcome, Put, Seed, Shift
from onefold.core.paths import RelPath
from onefold.core.settle import Reverted, Settled, revert, settle


class Two:
    """Two nodes with the same folder: file `f`, directories `d` with `d/x`, and `e`. What `other` does comes first."""

    def __init__(self) -> None:
        self.cluster = Cluster(2)
        self.author, self.other = self.cluster.nodes
        for path in (b"f", b"d/x"):
            self.author.folder.file(path, b"content of " + path)
        self.author.folder.directory(RelPath(b"e"))
        self.cluster.settle(whole=True)

    def row(self, path: bytes, node: Node | None = None) -> BaseRow:
        found = (node or self.author).base.lookup(RelPath(path))
        assert found is not None
        return found

    def race(self) -> None:
        """Both propose what they see; the other's comes first; the author learns of both."""
        self.author.propose(self.author.everywhere())
        self.other.propose(self.other.everywhere())
        self.cluster.commit([1, 0])
        self.cluster.apply(self.author)

    def end(self) -> dict[bytes, bytes]:
        self.cluster.settle(whole=False)
        self.cluster.settle(whole=True)
        self.cluster.check()
        return {bytes(path): inode.data for path, inode in self.author.folder.everything().items()}


@pytest.fixture
def two() -> Two:
    return Two()


def test_an_accepted_edit_is_the_version_of_the_base(two: Two) -> None:
    two.author.folder.write(b"f", b"new")
    two.race()
    assert two.row(b"f").version == two.author.catalogue.rows.child(ROOT, b"f").version
    assert two.end()[b"f"] == b"new"


def test_accepted_attributes_keep_the_content(two: Two) -> None:
    before = two.row(b"f")
    two.author.folder.root.entries[b"f"].mode = 0o600
    two.race()
    assert (two.row(b"f").content, two.row(b"f").mode) == (before.content, 0o600)


def test_an_edit_that_lost_is_the_conflict_copy_and_moves_to_its_name(two: Two) -> None:
    two.author.folder.write(b"f", b"mine")
    two.other.folder.write(b"f", b"theirs")
    two.race()
    copy = two.row(b"f")
    assert (copy.placed, copy.version) == (NEVER, copy.id)
    assert b"conflict" in two.author.catalogue.rows.get(copy.id).name
    end = two.end()
    assert end.pop(b"f") == b"theirs"
    assert b"mine" in end.values()


def test_attributes_that_lost_are_no_version_of_the_catalogue(two: Two) -> None:
    two.author.folder.root.entries[b"f"].mode = 0o600
    two.other.folder.root.entries[b"f"].mode = 0o640
    two.race()
    assert (two.row(b"f").version, two.row(b"f").mode) == (NEVER, 0o600)
    two.end()
    assert two.author.folder.root.entries[b"f"].mode == 0o640


def test_a_creation_that_lost_keeps_its_bytes_under_the_copys_name(two: Two) -> None:
    two.author.folder.file(b"n", b"mine")
    two.other.folder.file(b"n", b"theirs")
    two.race()
    assert two.row(b"n").placed == NEVER
    assert sorted(data for path, data in two.end().items() if path.startswith(b"n")) == [b"mine", b"theirs"]


def test_a_directory_made_by_both_is_one_and_holds_what_both_put_there(two: Two) -> None:
    two.author.folder.file(b"n/a", b"mine")
    two.other.folder.file(b"n/b", b"theirs")
    two.race()
    end = two.end()
    assert (end[b"n/a"], end[b"n/b"]) == (b"mine", b"theirs")


def test_the_same_file_made_by_both_is_one(two: Two) -> None:
    two.author.folder.file(b"n", b"same")
    two.other.folder.file(b"n", b"same").mode = 0o600
    two.race()
    assert two.row(b"n").version == NEVER
    assert [path for path in two.end() if path.startswith(b"n")] == [b"n"]


def test_what_was_adopted_while_the_batch_was_on_its_way_is_looked_at_again(two: Two) -> None:
    two.other.folder.file(b"n", b"same")
    two.author.folder.file(b"n", b"same")
    two.author.propose(two.author.everywhere())
    two.other.propose(two.other.everywhere())
    two.cluster.commit([1])
    two.cluster.apply(two.author)
    two.author.place()
    two.cluster.commit([0])
    two.cluster.apply(two.author)
    assert two.author.hints == {b"n": True}
    assert two.end()[b"n"] == b"same"


def test_a_directory_made_where_another_node_moved_one_is_that_one(two: Two) -> None:
    moved = two.row(b"d").id
    two.author.folder.file(b"n/a", b"mine")
    two.other.folder.move(b"d", b"n")
    two.race()
    assert two.row(b"n").id == moved
    assert two.author.base.lookup(RelPath(b"d")) is None
    end = two.end()
    assert (end[b"n/a"], end[b"n/x"], end[b"d/x"]) == (b"mine", b"content of d/x", b"content of d/x")


def test_a_directory_moved_into_one_that_turned_out_to_be_itself_is_looked_at_again(two: Two) -> None:
    d = two.row(b"d").id
    two.author.folder.directory(RelPath(b"n"))
    two.author.folder.move(b"d", b"n/d")
    two.other.folder.move(b"d", b"n")
    two.race()
    assert two.row(b"n").id == d
    assert two.author.hints[RelPath(b"n/d")]
    end = two.end()
    assert (end[b"n/x"], end[b"n/d/x"]) == (b"content of d/x", b"content of d/x")


def test_a_directory_moved_below_one_that_turned_out_to_be_below_it_is_looked_at_again(two: Two) -> None:
    two.author.folder.directory(RelPath(b"d/e2"))
    two.cluster.settle(whole=True)
    d, inner = two.row(b"d").id, two.row(b"d/e2").id
    two.author.folder.directory(RelPath(b"n"))
    two.author.folder.move(b"d", b"n/d")
    two.other.folder.move(b"d/e2", b"n")
    two.race()
    assert (two.row(b"n").id, two.row(b"n/d").id) == (inner, d)
    two.end()


def test_what_had_left_that_directory_before_stays_where_it_went(two: Two) -> None:
    x = two.row(b"d/x").id
    two.author.folder.move(b"d/x", b"m")
    two.author.folder.file(b"n/a", b"mine")
    two.other.folder.move(b"d", b"n")
    two.race()
    assert two.row(b"m").id == x
    assert two.end()[b"m"] == b"content of d/x"


def test_a_rejected_move_is_taken_back(two: Two) -> None:
    two.author.folder.move(b"f", b"mine")
    two.other.folder.move(b"f", b"theirs")
    two.race()
    assert (two.row(b"mine").placed, two.row(b"mine").version) == (NEVER, two.row(b"mine").id)
    assert b"theirs" in two.end() and b"mine" not in two.end()


def test_a_rejected_removal_brings_the_file_back(two: Two) -> None:
    two.author.folder.take(b"f")
    two.other.folder.write(b"f", b"theirs")
    two.race()
    assert two.author.base.lookup(RelPath(b"f")) is None
    assert two.end()[b"f"] == b"theirs"


def outcome(two: Two, command: Put, path: bytes, *outcomes: Outcome) -> Settled:
    """`settle` of one command alone."""
    claim = two.author.compare({RelPath(path): True}).claims[0]
    return settle([command], [claim], list(outcomes), 9, 0, two.author.catalogue.rows, two.author.base)


def test_a_creation_of_which_the_catalogue_has_no_row_is_looked_at_again(two: Two) -> None:
    two.author.folder.file(b"n", b"new")
    (put,) = two.author.compare(two.author.everywhere()).commands
    assert isinstance(put, Put)
    assert outcome(two, put, b"n", Outcome(False, Id(-1), "malformed")).look == (b"n",)


def test_a_move_of_what_the_base_lost_meanwhile_is_looked_at_again(two: Two) -> None:
    two.author.folder.move(b"f", b"n")
    found = two.author.compare(two.author.everywhere())
    id = two.row(b"f").id
    two.author.base.delete(id)
    settled = settle(
        found.commands, found.claims, [Outcome(True, id)], 9, 0, two.author.catalogue.rows, two.author.base
    )
    assert settled == Settled({id: None}, (RelPath(b"n"),))


def test_an_edit_of_what_the_base_lost_meanwhile_is_looked_at_again(two: Two) -> None:
    two.author.folder.write(b"f", b"new")
    found = two.author.compare(two.author.everywhere())
    id = two.row(b"f").id
    two.author.base.delete(id)
    settled = settle(
        found.commands, found.claims, [Outcome(True, id)], 9, 0, two.author.catalogue.rows, two.author.base
    )
    assert settled == Settled({}, (RelPath(b"f"),))


def test_other_commands_teach_the_base_nothing(two: Two) -> None:
    claim = Claim(RelPath(b""), None, None)
    settled = settle([Seed()], [claim], [Outcome(True, Id(-1))], 9, 0, two.author.catalogue.rows, two.author.base)
    assert settled == Settled({}, ())
    assert revert(Diff((Seed(),), (claim,), (), ()), two.author.base) == Reverted({}, ())


# ------------------------------------------------------------------------------------------------ revert


def test_an_edit_is_forgotten_so_that_it_comes_out_as_a_stray(two: Two) -> None:
    old = two.row(b"f")
    two.author.folder.write(b"f", b"new")
    reverted = revert(two.author.compare(two.author.everywhere()), two.author.base)
    assert reverted.rows == {old.id: replace(old, version=NEVER, content=b"")}
    assert reverted.actions == ()


def test_attributes_are_taken_for_what_stands_there(two: Two) -> None:
    two.author.folder.root.entries[b"f"].mode = 0o600
    reverted = revert(two.author.compare(two.author.everywhere()), two.author.base)
    (row,) = reverted.rows.values()
    assert row is not None and (row.version, row.mode, row.stat.mode) == (NEVER, 0o600, 0o600)


def test_what_was_removed_is_made_anew(two: Two) -> None:
    two.author.folder.take(b"f")
    assert revert(two.author.compare(two.author.everywhere()), two.author.base).rows == {two.row(b"f").id: None}


def test_what_is_new_goes_first_then_what_moved_then_the_directories_that_it_emptied(two: Two) -> None:
    d, f = two.row(b"d"), two.row(b"f")
    two.author.folder.move(b"d", b"a")
    two.author.folder.move(b"f", b"a/new/f")
    reverted = revert(two.author.compare(two.author.everywhere()), two.author.base)
    assert reverted.rows == {}
    assert reverted.actions == (
        Discard(RelPath(b"a/new"), Kind.DIRECTORY),
        Shift(f, RelPath(b"a/new/f"), RelPath(b"f"), ROOT, f.placed),
        Shift(d, RelPath(b"a"), RelPath(b"d"), ROOT, d.placed),
        Discard(RelPath(b"d/new"), Kind.DIRECTORY),
    )


def test_what_moved_out_of_a_directory_moves_back_into_it(two: Two) -> None:
    x = two.row(b"d/x")
    two.author.folder.move(b"d/x", b"x")
    reverted = revert(two.author.compare(two.author.everywhere()), two.author.base)
    assert reverted.actions == (Shift(x, RelPath(b"x"), RelPath(b"d/x"), x.parent, x.placed),)


def test_a_followers_edits_are_all_undone_and_its_bytes_kept() -> None:
    cluster = Cluster(2, leader=0)
    leader, follower = cluster.nodes
    for path in (b"f", b"d/x"):
        leader.folder.file(path, b"content of " + path)
    cluster.settle(whole=True)
    follower.folder.write(b"f", b"mine")
    follower.folder.move(b"d", b"a")
    follower.folder.file(b"a/new/n", b"also mine")
    cluster.settle(whole=True)
    cluster.check()
    assert sorted(follower.strays) == [b"also mine", b"mine"]
    assert set(leader.folder.everything()) == {b"f", b"d", b"d/x"}
    assert cluster.log[1:] == []
