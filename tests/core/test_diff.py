"""Each rule of diff: what a person does in a folder, and the commands that say so."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from folders import Cluster, Folder, Node
from msgspec.structs import replace

from onefold.core.diff import Diff, aside_name, diff
from onefold.core.model import NEW, ROOT, Command, Id, Kind, Move, Observed, Put, Unknown, made_by
from onefold.core.paths import RelPath


class Scene:
    """One node whose folder and base agree on: files `f` and `g`, symlink `l`, directory `d` with `d/x` and `d/sub/y`,
    directory `e` with `e/z`, and the empty directory `empty`."""

    def __init__(self) -> None:
        self.cluster = Cluster(1)
        self.node: Node = self.cluster.nodes[0]
        self.folder: Folder = self.node.folder
        for path in (b"f", b"g", b"d/x", b"d/sub/y", b"e/z"):
            self.folder.file(path, b"content of " + path)
        self.folder.put(b"l", self.folder.inode(Kind.SYMLINK, b"target", 0o777))
        self.folder.directory(RelPath(b"empty"))
        self.cluster.settle(whole=True)

    def id(self, path: bytes) -> Id:
        row = self.node.base.lookup(RelPath(path))
        assert row is not None
        return row.id

    def seen(self, *paths: bytes) -> dict[RelPath, Observed]:
        return {RelPath(path): self.folder.observe(RelPath(path)) for path in paths}

    def diff(self, *paths: bytes) -> Diff:
        return diff(self.seen(*paths), self.node.base)

    def all(self) -> tuple[Command, ...]:
        return self.node.compare(self.node.everywhere()).commands

    def says(self) -> list[tuple[str, bytes]]:
        """All of it in short: a verb, and the place."""
        found = self.node.compare(self.node.everywhere())
        return [
            (_verb(command), bytes(claim.path)) for command, claim in zip(found.commands, found.claims, strict=True)
        ]


def _verb(command: Command) -> str:
    if isinstance(command, Put):
        return "create" if command.id == NEW else "edit" if command.content is not None else "attributes"
    return type(command).__name__.lower()


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_an_untouched_folder_says_nothing(scene: Scene) -> None:
    assert scene.all() == ()


def test_the_root_is_not_compared(scene: Scene) -> None:
    assert scene.diff(b"") == Diff((), (), (), ())


EDITS: dict[str, tuple[Callable[[Folder], object], list[tuple[str, bytes]]]] = {
    "a write in place": (lambda f: f.write(b"f", b"new"), [("edit", b"f")]),
    "a replacement by another inode": (lambda f: f.file(b"f", b"new"), [("edit", b"f")]),
    "a file moved over another": (lambda f: f.move(b"g", b"f"), [("edit", b"f"), ("remove", b"g")]),
    "a save with a backup that sorts first": (
        lambda f: (f.move(b"f", b"bak"), f.file(b"f", b"new")),
        [("create", b"bak"), ("edit", b"f")],
    ),
    "a save with a backup that sorts last": (
        lambda f: (f.move(b"f", b"f~"), f.file(b"f", b"new")),
        [("create", b"f~"), ("edit", b"f")],
    ),
    "two files swapped": (
        lambda f: (f.move(b"f", b"t"), f.move(b"g", b"f"), f.move(b"t", b"g")),
        [("edit", b"f"), ("edit", b"g")],
    ),
    "a new file": (lambda f: f.file(b"n", b"new"), [("create", b"n")]),
    "a new tree": (lambda f: f.file(b"n/m/o", b"new"), [("create", b"n"), ("create", b"n/m"), ("create", b"n/m/o")]),
    "a file removed": (lambda f: f.take(b"f"), [("remove", b"f")]),
    "a tree removed": (
        lambda f: f.take(b"d"),
        [("remove", b"d/x"), ("remove", b"d/sub/y"), ("remove", b"d/sub"), ("remove", b"d")],
    ),
    "a file renamed": (lambda f: f.move(b"f", b"n"), [("move", b"n")]),
    "a tree renamed": (lambda f: f.move(b"d", b"n"), [("move", b"n")]),
    "a file renamed and written": (
        lambda f: (f.move(b"f", b"n"), f.write(b"n", b"new")),
        [("move", b"n"), ("edit", b"n")],
    ),
    "a file moved into a new directory": (lambda f: f.move(b"f", b"n/f"), [("create", b"n"), ("move", b"n/f")]),
    "a file moved out of a tree that is removed": (
        lambda f: (f.move(b"e/z", b"z"), f.take(b"e")),
        [("move", b"z"), ("remove", b"e")],
    ),
    "a directory over an empty one": (
        lambda f: f.move(b"d", b"empty"),
        [("move", None), ("move", b"empty"), ("remove", None)],
    ),
    "two directories swapped": (
        lambda f: (f.move(b"d", b"t"), f.move(b"e", b"d"), f.move(b"t", b"e")),
        [("move", None), ("move", None), ("move", b"d"), ("move", b"e")],
    ),
    "three directories in a cycle": (
        lambda f: (f.move(b"d", b"t"), f.move(b"e", b"d"), f.move(b"empty", b"e"), f.move(b"t", b"empty")),
        [("move", None)] * 3 + [("move", b"d"), ("move", b"e"), ("move", b"empty")],
    ),
    "a parent moved under its former child": (
        lambda f: (f.move(b"d/sub", b"t"), f.move(b"d", b"t/d"), f.move(b"t", b"d")),
        [("move", None), ("move", b"d"), ("move", b"d/d")],
    ),
    "a directory made anew in its place": (
        lambda f: (f.take(b"e"), f.file(b"e/z", b"other")),
        [("edit", b"e/z")],
    ),
    "a directory made anew where another left": (
        lambda f: (f.move(b"e", b"c"), f.file(b"e/n", b"new")),
        [("move", None), ("move", b"c"), ("create", b"e"), ("create", b"e/n")],
    ),
    "a file that becomes a directory": (
        lambda f: (f.take(b"f"), f.file(b"f/n", b"new")),
        [("remove", b"f"), ("create", b"f"), ("create", b"f/n")],
    ),
    "a directory that becomes a file": (
        lambda f: f.file(b"e", b"new"),
        [("move", None), ("create", b"e"), ("remove", None), ("remove", None)],
    ),
    "a symlink with another target": (
        lambda f: f.put(b"l", f.inode(Kind.SYMLINK, b"elsewhere", 0o777)),
        [("edit", b"l")],
    ),
    "a file that becomes a symlink": (
        lambda f: f.put(b"f", f.inode(Kind.SYMLINK, b"elsewhere", 0o777)),
        [("remove", b"f"), ("create", b"f")],
    ),
    "a hard link": (lambda f: f.put(b"n", f.root.entries[b"f"]), [("create", b"n")]),
}


@pytest.mark.parametrize("what", EDITS)
def test_what_happened_is_said(scene: Scene, what: str) -> None:
    act, expected = EDITS[what]
    act(scene.folder)
    said = scene.says()
    assert len(said) == len(expected)
    for (verb, path), (expected_verb, expected_path) in zip(said, expected, strict=True):
        assert verb == expected_verb
        assert path == expected_path if expected_path else path.startswith(b".onefold-aside-")
    scene.cluster.settle(whole=False)
    scene.cluster.settle(whole=True)
    scene.cluster.check()


def test_mode_and_mtime_alone_carry_no_content(scene: Scene) -> None:
    inode = scene.folder.root.entries[b"f"]
    inode.mode, inode.mtime_ns = 0o600, 77
    (put,) = scene.all()
    assert isinstance(put, Put) and (put.mode, put.mtime_ns, put.content) == (0o600, 77, None)


def test_the_mtime_of_a_directory_is_nothing_to_tell(scene: Scene) -> None:
    scene.folder.root.entries[b"d"].mtime_ns += 1
    assert scene.diff(b"d") == Diff((), (), (), ())


def test_another_inode_with_the_same_content_and_times_is_only_stored(scene: Scene) -> None:
    old = scene.folder.root.entries[b"f"]
    new = scene.folder.file(b"f", old.data)
    new.mtime_ns = old.mtime_ns
    found = scene.diff(b"f")
    assert found.commands == () and [row.stat for row in found.refresh] == [new.stat]


def test_what_is_new_refers_to_a_parent_that_is_new(scene: Scene) -> None:
    scene.folder.file(b"n/o", b"new")
    first, second = scene.all()
    assert isinstance(first, Put) and first.parent == ROOT
    assert isinstance(second, Put) and second.parent == made_by(0)


def test_a_second_move_of_what_stepped_aside_expects_the_first(scene: Scene) -> None:
    d, e = scene.id(b"d"), scene.id(b"e")
    for path, to in ((b"d", b"t"), (b"e", b"d"), (b"t", b"e")):
        scene.folder.move(path, to)
    moves = [command for command in scene.all() if isinstance(command, Move)]
    assert [(move.id, move.name) for move in moves] == [(d, aside_name(d)), (e, aside_name(e)), (e, b"d"), (d, b"e")]
    assert [move.expect for move in moves[2:]] == [made_by(1), made_by(0)]


def test_what_steps_aside_once_more_takes_another_name(scene: Scene) -> None:
    d, aside = scene.id(b"d"), RelPath(aside_name(scene.id(b"d")))
    scene.folder.move(b"d", aside)
    scene.cluster.settle(whole=True)
    scene.folder.move(aside, b"t")
    scene.folder.directory(aside)
    scene.folder.move(b"t", aside.child(b"d"))
    first, *others = scene.all()
    assert isinstance(first, Move)
    assert (first.id, first.name) == (d, aside_name(d) + b"-")
    assert [_verb(command) for command in others] == ["create", "move"]


def test_unknown_proposes_nothing_and_neither_does_what_is_below(scene: Scene) -> None:
    scene.folder.take(b"d/x")
    seen = {RelPath(b"d"): Unknown("closed"), **scene.seen(b"d/x", b"d/sub/y")}
    assert diff(seen, scene.node.base) == Diff((), (), (), ())


def test_of_a_place_in_a_directory_the_directory_is_asked_for(scene: Scene) -> None:
    scene.folder.write(b"d/sub/y", b"new")
    assert set(scene.diff(b"d/sub/y").look) == {b"d", b"d/sub"}
    assert [_verb(command) for command in scene.diff(b"d", b"d/sub", b"d/sub/y").commands] == ["edit"]


def test_a_file_that_came_from_elsewhere_is_a_move_only_once_its_old_place_was_seen(scene: Scene) -> None:
    scene.folder.move(b"f", b"n")
    assert scene.diff(b"n").look == (b"f",)
    assert [_verb(command) for command in scene.diff(b"n", b"f").commands] == ["move"]
    unseen = {**scene.seen(b"n"), RelPath(b"f"): Unknown("closed")}
    assert [_verb(command) for command in diff(unseen, scene.node.base).commands] == ["create"]


def test_a_directory_that_came_over_another_asks_where_it_came_from(scene: Scene) -> None:
    for path, to in ((b"d", b"t"), (b"e", b"d"), (b"t", b"e")):
        scene.folder.move(path, to)
    assert scene.diff(b"d").look == (b"e",)


def test_below_what_is_not_there_nothing_is_said(scene: Scene) -> None:
    assert scene.diff(b"f/below", b"nowhere/below").commands == ()


def test_a_place_in_a_directory_that_moved_away_is_not_taken_for_it(scene: Scene) -> None:
    scene.folder.move(b"d", b"a")
    assert [_verb(command) for command in scene.diff(b"a", b"d", b"d/x").commands] == ["move"]
    assert scene.diff(b"a", b"d/x").look == (b"d",)


def test_a_directory_seen_at_two_places_says_nothing_nor_does_what_is_in_it(scene: Scene) -> None:
    scene.folder.put(b"a", scene.folder.root.entries[b"d"])
    scene.folder.file(b"d/new", b"new")
    found = scene.diff(b"a", b"a/new", b"d", b"d/new")
    assert (found.commands, found.look) == ((), ())


def test_what_was_seen_below_something_that_is_a_file_by_now_says_nothing(scene: Scene) -> None:
    scene.folder.file(b"n/x", b"new")
    seen = scene.seen(b"n/x")
    scene.folder.take(b"n")
    scene.folder.file(b"n", b"a file now")
    found = diff(seen | scene.seen(b"n"), scene.node.base)
    assert [bytes(claim.path) for claim in found.claims] == [b"n"]


def test_a_file_moved_from_a_tree_that_moved_is_asked_for_at_its_new_place(scene: Scene) -> None:
    scene.folder.move(b"d", b"n")
    scene.folder.move(b"n/sub/y", b"y")
    assert scene.diff(b"d", b"n", b"y").look == (b"n/sub/y",)


def test_a_file_moved_from_a_tree_that_is_gone_needs_no_look(scene: Scene) -> None:
    scene.folder.move(b"d/sub/y", b"y")
    scene.folder.take(b"d")
    assert [_verb(c) for c in scene.diff(b"d", b"y").commands] == ["move", "remove", "remove", "remove"]


def test_a_row_whose_directory_has_no_row_is_nowhere(scene: Scene) -> None:
    z = scene.node.base.rows[scene.id(b"e/z")]
    scene.node.base.delete(z.id)
    scene.node.base.put(replace(z, parent=Id(9 << 20)))
    scene.folder.move(b"e/z", b"z")
    assert [_verb(command) for command in scene.diff(b"z").commands] == ["move"]
