"""Requests become commands, several in a batch; and what the catalogue makes of them becomes an answer."""

from __future__ import annotations

import pytest

from onefold.core.catalogue import Catalogue, MemoryRows
from onefold.core.model import Batch, Kind, Origin, Pack, Row
from onefold.core.paths import RelPath
from onefold.core.request import (
    REMOVED_AT_ONCE,
    Again,
    Condition,
    Delete,
    Done,
    Draft,
    MakeDirectory,
    Rename,
    Request,
    Write,
    check,
    judge,
    lookup,
)
from onefold.core.wire import content_digest
from onefold.errors import BadPath, InTheWay, NotFound, PreconditionFailed

ABSENT = Condition(False)
PRESENT = Condition(True)


def path(text: str) -> RelPath:
    return RelPath.parse(text.encode())


def file(where: str, data: bytes = b"one", condition: Condition | None = None, mode: int | None = None) -> Write:
    return Write(path(where), Kind.FILE, content_digest(data), len(data), 7, mode, condition or Condition())


def having(*contents: bytes) -> Condition:
    return Condition(True, tuple(map(content_digest, contents)))


class World:
    """A catalogue that is asked, and others that may come in between."""

    def __init__(self, *paths: str) -> None:
        self.catalogue = Catalogue(MemoryRows())
        for each in paths:
            self.do(MakeDirectory(path(each[:-1])) if each.endswith("/") else file(each))

    def draft(self, *requests: Request) -> tuple[Draft, list[object]]:
        draft = Draft(self.catalogue.rows)
        return draft, [draft.add(request) for request in requests]

    def do(self, *requests: Request) -> list[Done | Again]:
        """What becomes of `requests`, drafted together."""
        draft, spans = self.draft(*requests)
        return self.land(draft, spans, *requests)

    def land(self, draft: Draft, spans: list[object], *requests: Request) -> list[Done | Again]:
        index = self.catalogue.index + 1
        origin = Origin("n~api", 1, index)
        commands = tuple(draft.commands)
        applied = self.catalogue.apply(index, Pack((Batch(origin, commands, True),), {}))
        outcomes = applied.outcomes[origin]
        return [
            judge(request, span, commands, outcomes, index, 0)  # type: ignore[arg-type]
            for request, span in zip(requests, spans, strict=True)
        ]

    def row(self, where: str) -> Row:
        row = lookup(self.catalogue.rows, path(where))
        assert row is not None
        return row

    def tree(self) -> list[str]:
        def below(row: Row | None, above: str) -> list[str]:
            found = []
            for child in self.catalogue.rows.children(row.id if row else lookup_root(self)):
                here = above + child.name.decode()
                found += [here + "/", *below(child, here + "/")] if child.kind is Kind.DIRECTORY else [here]
            return found

        return below(None, "")


def lookup_root(world: World) -> int:  # the root's id, as any other path's
    row = lookup(world.catalogue.rows, RelPath(b""))
    assert row is not None
    return row.id


def test_a_file_is_made_with_all_directories_that_are_missing_above_it() -> None:
    world = World()
    (done,) = world.do(file("x/y/a"))
    assert isinstance(done, Done)
    assert done.created
    assert world.tree() == ["x/", "x/y/", "x/y/a"]
    assert (world.row("x/y/a").version, world.row("x/y/a").id) == (done.version, done.id)
    assert (world.row("x").mode, world.row("x/y/a").mode) == (0o755, 0o644)


def test_files_of_one_batch_share_the_directories_that_they_need() -> None:
    world = World()
    answers = world.do(file("x/y/a"), file("x/y/b"), file("x/c"), MakeDirectory(path("x/z")), file("x/z/d"))
    assert all(isinstance(answer, Done) for answer in answers)
    assert world.tree() == ["x/", "x/c", "x/y/", "x/y/a", "x/y/b", "x/z/", "x/z/d"]


def test_a_directory_below_one_that_the_same_batch_makes_is_made_in_it() -> None:
    world = World()
    assert all(isinstance(answer, Done) for answer in world.do(file("x/y/a"), file("x/w/v/b")))
    assert world.tree() == ["x/", "x/w/", "x/w/v/", "x/w/v/b", "x/y/", "x/y/a"]


def test_a_path_like_any_other_is_written() -> None:
    check(file("x/y"))
    check(Rename(path("x"), path("y/.onefold")))


def test_writing_again_keeps_the_mode_unless_one_is_given() -> None:
    world = World()
    world.do(file("a", mode=0o600))
    (done,) = world.do(file("a", b"two"))
    assert isinstance(done, Done)
    assert (done.created, done.version) == (False, world.row("a").version)
    assert (world.row("a").mode, world.row("a").content) == (0o600, content_digest(b"two"))
    world.do(file("a", b"two", mode=0o640))
    assert world.row("a").mode == 0o640


def test_a_file_takes_the_place_of_a_symlink_and_the_other_way_round() -> None:
    world = World()
    world.do(Write(path("a"), Kind.SYMLINK, b"target", 6, 0))
    (done,) = world.do(file("a"))
    assert isinstance(done, Done)
    assert not done.created
    assert world.row("a").kind is Kind.FILE


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (file("a"), file("a", b"two")),
        (file("x/a"), Delete(path("x"), True)),
        (Delete(path("d"), True), file("d/a")),
        (Rename(path("d"), path("e")), file("d/a")),
        (Rename(path("d"), path("e")), file("e/a")),
        (file("x/a"), Rename(path("d"), path("x"))),
        (file("x/a"), MakeDirectory(path("x"))),
    ],
)
def test_what_depends_on_what_is_drafted_already_waits_for_the_next_batch(first: Request, second: Request) -> None:
    _, spans = World("d/").draft(first, second)
    assert spans[0] is not None
    assert spans[1] is None


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (file("a/b"), InTheWay),
        (file("d"), InTheWay),
        (MakeDirectory(path("a")), InTheWay),
        (Delete(path("d")), InTheWay),
        (Delete(path("no")), NotFound),
        (Rename(path("no"), path("b")), NotFound),
        (Rename(path("a"), path("d/c")), InTheWay),
        (Rename(path("d"), path("d/e")), InTheWay),
        (Rename(path("a"), path("a2"), having(b"other")), PreconditionFailed),
        (file("a", condition=ABSENT), PreconditionFailed),
        (file("no", condition=PRESENT), PreconditionFailed),
        (file("a", b"two", having(b"other", b"another")), PreconditionFailed),
        (Delete(path("a"), condition=having(b"other")), PreconditionFailed),
        (Delete(path("no"), condition=PRESENT), PreconditionFailed),
    ],
)
def test_what_cannot_be_carried_out_drafts_nothing(request_: Request, error: type[Exception]) -> None:
    world = World("a", "d/c")
    draft = Draft(world.catalogue.rows)
    with pytest.raises(error):
        draft.add(request_)
    assert draft.commands == []


def test_a_condition_that_holds_lets_pass() -> None:
    world = World("a", "b")
    answers = world.do(
        file("a", b"two", having(b"no", b"one")), file("c", condition=ABSENT), Rename(path("b"), path("d"), PRESENT)
    )
    assert all(isinstance(answer, Done) for answer in answers)
    assert world.tree() == ["a", "c", "d"]


def test_an_edit_that_came_in_between_is_not_overwritten() -> None:
    world = World("a")
    mine = file("a", b"mine", having(b"one"))
    draft, spans = world.draft(mine)
    world.do(file("a", b"theirs"))
    assert world.land(draft, spans, mine) == [Again("it changed")]
    with pytest.raises(PreconditionFailed):
        world.draft(mine)


def test_of_two_who_create_the_same_only_one_has_created_it() -> None:
    world = World()
    mine = file("lock", b"", ABSENT)
    draft, spans = world.draft(mine)
    assert isinstance(world.do(mine)[0], Done)
    assert isinstance(world.land(draft, spans, mine)[0], Again)
    with pytest.raises(PreconditionFailed):
        world.draft(mine)


@pytest.mark.parametrize("request_", [Delete(path("a")), Rename(path("a"), path("b"))])
def test_of_two_who_take_the_same_away_only_one_has_done_it(request_: Request) -> None:
    world = World("a")
    draft, spans = world.draft(request_)
    assert isinstance(world.do(request_)[0], Done)
    assert isinstance(world.land(draft, spans, request_)[0], Again)
    with pytest.raises(NotFound):
        world.draft(request_)


def test_a_directory_that_somebody_else_made_meanwhile_is_as_good() -> None:
    world = World()
    wanted = (file("x/a"), MakeDirectory(path("y")))
    draft, spans = world.draft(*wanted)
    world.do(MakeDirectory(path("x")), MakeDirectory(path("y")))
    one, other = world.land(draft, spans, *wanted)
    assert isinstance(one, Done)
    assert isinstance(other, Done)
    assert (one.created, other.created) == (True, False)
    assert (other.id, other.version) == (world.row("y").id, world.row("y").version)


def test_a_tree_is_removed_with_all_that_is_in_it_even_if_others_remove_there_too() -> None:
    world = World("x/a", "x/y/b", "x/y/c", "d")
    request = Delete(path("x"), recursive=True)
    draft, spans = world.draft(request)
    world.do(Delete(path("x/y/b")))
    assert isinstance(world.land(draft, spans, request)[0], Done)
    assert world.tree() == ["d"]


def test_what_comes_into_a_tree_that_is_being_removed_is_removed_with_the_next_batch() -> None:
    world = World("x/a")
    request = Delete(path("x"), recursive=True)
    draft, spans = world.draft(request)
    world.do(file("x/b"))
    assert world.land(draft, spans, request) == [Again("it is not empty")]
    assert isinstance(world.do(request)[0], Done)
    assert world.tree() == []


def test_a_large_tree_is_removed_by_several_batches() -> None:
    world = World()
    for first in range(0, REMOVED_AT_ONCE + 2, 1000):
        world.do(*(file(f"x/{number}") for number in range(first, first + 1000)))
    request = Delete(path("x"), recursive=True)
    (answer,) = world.do(request)
    assert isinstance(answer, Again)
    assert answer.progress
    assert isinstance(world.do(request)[0], Done)
    assert world.tree() == []


@pytest.mark.parametrize(
    "request_",
    [
        file(""),
        MakeDirectory(path(".onefold")),
        file(".onefold/x"),
        Rename(path("a"), path(".onefold/a")),
        Delete(path(".onefold")),
        file("/".join(["n" * 200] * 25)),
    ],
)
def test_some_paths_are_nobodys_to_write(request_: Request) -> None:
    with pytest.raises(BadPath):
        check(request_)


@pytest.mark.parametrize(
    ("request_", "tree"),
    [
        (file("d/a", b"two"), ["d/", "d/a", "e/", "e/a"]),
        (file("d/b"), ["d/", "d/b", "e/", "e/a"]),
        (MakeDirectory(path("d/x")), ["d/", "d/x/", "e/", "e/a"]),
        (Rename(path("c"), path("d/c")), ["d/", "d/c", "e/", "e/a"]),
    ],
)
def test_a_path_means_what_is_there_and_not_what_was(request_: Request, tree: list[str]) -> None:
    """Between the drafting and the log, the directory is moved away."""
    world = World("d/a", "c")
    draft, spans = world.draft(request_)
    world.do(Rename(path("d"), path("e")))
    assert world.land(draft, spans, request_) == [Again("its path has moved")]
    world.do(request_)
    assert [each for each in world.tree() if each != "c"] == tree


def test_what_was_moved_out_of_a_tree_is_not_removed_with_it() -> None:
    world = World("d/e/b", "d/a")
    request = Delete(path("d"), recursive=True)
    draft, spans = world.draft(request)
    world.do(Rename(path("d/e"), path("f")))
    world.land(draft, spans, request)
    assert world.tree() == ["f/", "f/b"]
