"""Most of a large folder is gone at the start: what is proposed of that, and when."""

from __future__ import annotations

import pytest
from folders import DictBase, Folder

from onefold.core.diff import Diff, diff
from onefold.core.model import NEVER, ROOT, BaseRow, Command, Id, Kind, Move, Observed, Present, Put, Remove
from onefold.core.paths import RelPath
from onefold.node.guard import LARGE, Guard

MANY = [b"d/f%03d" % number for number in range(LARGE)]


class Start:
    """A node that starts with a base of the files `MANY` and their directory, and does not find all of them."""

    def __init__(self, *, gone: int, held: int | None = None) -> None:
        self.folder = Folder()
        self.base = DictBase()
        self.folder.put(b"d", self.folder.inode(Kind.DIRECTORY, mode=0o755))
        self.know(RelPath(b"d"), ROOT)
        for path in MANY:
            self.folder.file(path, path)
            self.know(RelPath(path), self.id(b"d"))
        for path in MANY[:gone]:
            self.folder.take(path)
        self.guard = Guard("a", len(MANY) + 1 if held is None else held, self.base.path)

    def know(self, path: RelPath, parent: Id) -> None:
        """The base has what stands there now."""
        o = self.folder.observe(path)
        assert isinstance(o, Present)
        id = Id((len(self.base.rows) + 1) << 20)
        mtime_ns = o.stat.mtime_ns if o.kind is Kind.FILE else 0
        size = o.stat.size if o.kind is Kind.FILE else 0
        self.base.put(
            BaseRow(id, parent, path.name, o.kind, NEVER, NEVER, o.stat.mode, mtime_ns, size, o.content, o.stat)
        )

    def id(self, path: bytes) -> Id:
        row = self.base.lookup(RelPath(path))
        assert row is not None
        return row.id

    def look(self, *paths: bytes) -> Diff:
        """A round at these paths: what of it may be proposed."""
        seen: dict[RelPath, Observed] = {RelPath(path): self.folder.observe(RelPath(path)) for path in paths}
        found = diff(seen, self.base)
        while found.look:
            seen |= {path: self.folder.observe(path) for path in found.look}
            found = diff(seen, self.base)
        self.guard.seen(seen, found)
        return self.guard.hold_back(found)

    def first_look(self) -> list[Command]:
        """All of what the start looks at, and again where it must: what is proposed of it at once."""
        proposed = list(self.look(b"d", *MANY, *self.folder.everything()).commands)
        while again := self.guard.looked():
            proposed += self.look(*again).commands
        return proposed


def removed(commands: list[Command] | tuple[Command, ...]) -> int:
    return sum(isinstance(command, Remove) for command in commands)


def test_what_is_gone_of_a_large_folder_is_proposed_once_it_is_known_to_be_little() -> None:
    start = Start(gone=LARGE // 2)
    assert removed(start.look(b"d", *MANY).commands) == 0
    assert removed(start.look(*start.guard.looked()).commands) == 0
    again = start.guard.looked()
    assert removed(start.look(*again).commands) == LARGE // 2
    assert not start.guard.problems()


def test_when_more_than_half_is_gone_nothing_of_it_is_proposed_and_the_problem_tells_both_ways_out() -> None:
    start = Start(gone=LARGE // 2 + 1)
    assert removed(start.first_look()) == 0
    (problem,) = start.guard.problems()
    assert problem.what.startswith(f"{LARGE // 2 + 1} of the {LARGE + 1} files")
    assert problem.where == "d"
    assert "put them back" in problem.fix and "onefold confirm a" in problem.fix
    assert removed(start.look(b"d", *MANY).commands) == 0  # however often they are looked at


def test_a_small_folder_is_not_asked_about() -> None:
    start = Start(gone=LARGE, held=LARGE - 1)
    assert removed(start.first_look()) == LARGE


def test_other_edits_go_on_and_what_goes_later_is_an_ordinary_edit() -> None:
    start = Start(gone=LARGE // 2 + 1)
    start.folder.file(b"new", b"new")
    assert [type(command) for command in start.first_look()] == [Put]
    start.folder.take(MANY[-1])
    assert removed(start.look(MANY[-1], *MANY[:10]).commands) == 1


def test_confirmed_removals_are_proposed_once() -> None:
    start = Start(gone=LARGE // 2 + 1)
    start.first_look()
    assert removed(start.look(*start.guard.confirm()).commands) == LARGE // 2 + 1
    assert start.guard.confirm() == []
    assert not start.guard.problems()


def test_what_is_put_back_is_not_gone_and_when_all_is_nothing_is_asked() -> None:
    start = Start(gone=LARGE // 2 + 2)
    start.first_look()
    start.folder.file(MANY[0], b"put back")
    start.look(MANY[0])
    assert start.guard.asking == LARGE // 2 + 1
    assert removed(start.look(*MANY).commands) == 0  # half of it is gone, and it still asks: it may be in the middle
    for path in MANY[1 : LARGE // 2 + 2]:
        start.folder.file(path, b"put back")
    start.look(*MANY)
    assert (start.guard.asking, start.guard.problems()) == (0, [])
    start.folder.take(MANY[0])
    assert removed(start.look(MANY[0]).commands) == 1


def test_a_tree_that_was_renamed_is_not_gone_wherever_it_is_met_first() -> None:
    start = Start(gone=0)
    start.folder.move(b"d", b"z")
    assert removed(start.look(b"d", *MANY).commands) == 0  # a round that meets only its old place
    assert start.guard.asking == 0
    assert [type(command) for command in start.look(b"z", *start.folder.everything()).commands] == [Move]
    start.base.put(_moved(start.base.get(start.id(b"d")), b"z"))
    again = start.guard.looked()
    assert removed(start.look(*again).commands) == 0
    assert start.guard.looked() == []
    assert not start.guard.problems()


def _moved(row: BaseRow | None, name: bytes) -> BaseRow:
    assert row is not None
    return BaseRow(
        row.id, row.parent, name, row.kind, row.version, row.placed,
        row.mode, row.mtime_ns, row.size, row.content, row.stat,
    )  # fmt: skip


def test_a_file_in_the_place_of_a_tree_waits_with_the_removal_of_that() -> None:
    start = Start(gone=0)
    start.folder.take(b"d")
    start.folder.file(b"d", b"a file now")
    assert start.first_look() == []
    assert start.guard.asking == LARGE + 1
    confirmed = start.look(*start.guard.confirm())
    assert removed(confirmed.commands) == LARGE + 1
    assert any(isinstance(command, Put) for command in confirmed.commands)


def test_an_empty_directory_with_a_file_in_its_place_is_gone_all_the_same() -> None:
    start = Start(gone=LARGE // 2 + 1)
    start.folder.put(b"e", start.folder.inode(Kind.DIRECTORY, mode=0o755))
    start.know(RelPath(b"e"), ROOT)
    start.folder.take(b"e")
    start.folder.file(b"e", b"a file now")
    assert start.first_look() == []
    assert start.look(b"e").commands == ()
    assert start.guard.asking == LARGE // 2 + 2


def test_a_directory_is_not_removed_before_what_is_held_back_in_it() -> None:
    start = Start(gone=LARGE // 2 + 1)
    start.first_look()
    start.folder.take(b"d")
    later = start.look(b"d").commands  # what is left of it goes as an ordinary edit
    assert removed(later) == len(later) == LARGE - (LARGE // 2 + 1)
    assert start.id(b"d") not in {command.id for command in later if isinstance(command, Remove)}


@pytest.mark.parametrize(("reverted", "asks"), [(0, False), (LARGE // 2, True)])
def test_what_returned_by_itself_before_this_node_came_to_lead_counts(reverted: int, asks: bool) -> None:
    start = Start(gone=10)
    paths = MANY[10 : 10 + reverted]
    for path in paths:
        start.folder.take(path)
    looked = [RelPath(path) for path in (b"d", *paths)]
    start.guard.reverted(diff({path: start.folder.observe(path) for path in looked}, start.base))
    for path in paths:
        start.folder.file(path, path)
    start.first_look()
    assert bool(start.guard.asking) == asks
