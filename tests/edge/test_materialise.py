"""Actions in a real folder: what is brought about, and what happens to edits that stand in the way."""

from __future__ import annotations

import os
import socket
import stat
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from blake3 import blake3

from onefold import linux
from onefold.core.model import (
    ROOT,
    Aside,
    Attributes,
    BaseRow,
    Discard,
    Done,
    Drop,
    Edited,
    Failed,
    Id,
    Kind,
    Lacking,
    Make,
    Replace,
    Result,
    Row,
    Shift,
    Stat,
    Version,
)
from onefold.core.paths import RelPath
from onefold.edge.materialise import FolderMaterialiser
from onefold.edge.strays import Strays
from onefold.errors import OperatorError

OLD_NS = 1_600_000_000_000_000_000
NEW_NS = 1_700_000_000_123_456_789


class World:
    """A folder, its materialiser, and contents by digest."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "folder"
        self.root.mkdir()
        self.state = tmp_path / "state"
        self.strays = Strays(self.state / "strays")
        self.materialiser = FolderMaterialiser(os.fsencode(self.root), self.strays, self.state)
        self.known: dict[bytes, bytes | Path] = {}

    def contents(self, digest: bytes) -> bytes | Path:
        return self.known[digest]

    def file(
        self, id: int, name: str, data: bytes, *, mode: int = 0o644, mtime_ns: int = NEW_NS, parent: int = 0
    ) -> Row:
        digest = blake3(data).digest()
        self.known[digest] = data
        return _row(id, parent, name, Kind.FILE, mode, mtime_ns, len(data), digest)

    def base(self, row: Row, path: str) -> BaseRow:
        """The base row of what stands at `path` now."""
        found = linux.stat_of(-100, os.fsencode(self.root / path))[1]
        return BaseRow(
            row.id, row.parent, row.name, row.kind, row.version, row.placed,
            row.mode, row.mtime_ns, row.size, row.content, found,
        )  # fmt: skip

    def standing(self, id: int, path: str, data: bytes, *, mtime_ns: int = OLD_NS, mode: int = 0o644) -> BaseRow:
        """A file at `path` that the base knows."""
        self.write(path, data, mode=mode)
        os.utime(self.root / path, ns=(mtime_ns, mtime_ns))
        return self.base(self.file(id, os.path.basename(path), data, mtime_ns=mtime_ns, mode=mode), path)

    def standing_directory(self, id: int, path: str) -> BaseRow:
        (self.root / path).mkdir()
        (self.root / path).chmod(0o755)
        return self.base(directory(id, os.path.basename(path)), path)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        (self.root / path).write_bytes(data)
        (self.root / path).chmod(mode)

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def run(self, *actions: object, keep_edits: bool = False) -> list[Result]:
        results = self.materialiser.run(actions, self.contents, keep_edits)  # type: ignore[arg-type]
        assert os.listdir(self.root / ".onefold/tmp") == []
        assert len(results) == len(actions)
        return results

    def names(self) -> set[str]:
        return {str(p.relative_to(self.root)) for p in self.root.rglob("*")} - {".onefold", ".onefold/tmp"}

    def stray_bytes(self) -> list[bytes]:
        return [stray.file.read_bytes() for stray in self.strays.list()]


def _row(id: int, parent: int, name: str, kind: Kind, mode: int, mtime_ns: int, size: int, content: bytes) -> Row:
    return Row(Id(id), Id(parent), os.fsencode(name), kind, Version(id), Version(id), mode, mtime_ns, size, content)


def directory(id: int, name: str, *, mode: int = 0o755, parent: int = 0) -> Row:
    return _row(id, parent, name, Kind.DIRECTORY, mode, 0, 0, b"")


def shift(base: BaseRow, source: RelPath | None, path: RelPath) -> Shift:
    """Within the directory that it is in."""
    return Shift(base, source, path, base.parent, Version(99))


def symlink(id: int, name: str, target: bytes) -> Row:
    return _row(id, 0, name, Kind.SYMLINK, 0, 0, len(target), target)


def at(path: str) -> RelPath:
    return RelPath(os.fsencode(path))


@pytest.fixture
def world(tmp_path: Path):
    world = World(tmp_path)
    yield world
    world.materialiser.close()


def done(result: Result) -> Done:
    assert isinstance(result, Done), result
    return result


# ------------------------------------------------------------------------------------------------ make


def test_a_file_is_made_with_its_content_mode_and_mtime(world: World) -> None:
    row = world.file(7, "a", b"hello", mode=0o640)
    (result,) = world.run(Make(row, at("a")))
    found = (world.root / "a").stat()
    assert world.read("a") == b"hello"
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o640, NEW_NS)
    assert done(result).base == world.base(row, "a")


def test_a_tree_is_made_and_a_read_only_directory_gets_its_mode_last(world: World) -> None:
    rows = [directory(1, "d", mode=0o555), directory(2, "e", mode=0o500, parent=1), world.file(3, "f", b"x", parent=2)]
    results = world.run(Make(rows[0], at("d")), Make(rows[1], at("d/e")), Make(rows[2], at("d/e/f")))
    assert stat.S_IMODE((world.root / "d").stat().st_mode) == 0o555
    assert stat.S_IMODE((world.root / "d/e").stat().st_mode) == 0o500
    assert world.read("d/e/f") == b"x"
    assert [done(r).base for r in results[:1]] == [world.base(rows[0], "d")]
    (world.root / "d").chmod(0o755)
    (world.root / "d/e").chmod(0o755)


def test_a_directory_that_stood_there_is_told_from_one_that_was_made(world: World) -> None:
    (world.root / "here").mkdir(0o700)
    results = world.run(Make(directory(1, "here"), at("here")), Make(directory(2, "new"), at("new")))
    assert [done(result).adopted for result in results] == [True, False]


def test_a_symlink_is_made_and_never_followed(world: World, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    world.run(Make(symlink(1, "link", os.fsencode(outside)), at("link")))
    assert os.readlink(world.root / "link") == str(outside)
    (result,) = world.run(Make(world.file(2, "f", b"x", parent=1), at("link/f")), keep_edits=True)
    assert result == Edited(Id(2), at("link"))
    assert list(outside.iterdir()) == []


def test_a_large_file_is_copied_and_checked(world: World, tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    source = tmp_path / "object"
    source.write_bytes(data)
    row = world.file(1, "big", data)
    world.known[row.content] = source
    done(world.run(Make(row, at("big")))[0])
    assert world.read("big") == data
    source.write_bytes(b"!" + data[1:])
    (result,) = world.run(Make(row, at("again")))
    assert isinstance(result, Failed) and "changed" in result.reason
    assert world.names() == {"big"}


@pytest.mark.parametrize("size", [5, 2 << 20])
def test_equal_content_in_place_is_adopted_and_gets_mode_and_mtime(world: World, size: int) -> None:
    data = os.urandom(size)
    row = world.file(1, "a", data, mode=0o600)
    world.write("a", data)
    inode = (world.root / "a").stat().st_ino
    (result,) = world.run(Make(row, at("a")), keep_edits=True)
    found = (world.root / "a").stat()
    assert (found.st_ino, stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (inode, 0o600, NEW_NS)
    assert done(result).base == world.base(row, "a")


def test_equal_content_in_place_is_adopted_when_the_content_is_nowhere_to_be_had(world: World) -> None:
    row = world.file(1, "a", b"hello")
    world.known.clear()
    world.write("a", b"hello")
    assert done(world.run(Make(row, at("a")))[0]).base is not None
    (result,) = world.run(Make(row, at("b")))
    assert result == Lacking(row.id, at("b"))


def test_what_stands_where_a_file_must_be_is_left_when_edits_are_kept(world: World) -> None:
    world.write("a", b"theirs")
    (result,) = world.run(Make(world.file(1, "a", b"ours"), at("a")), keep_edits=True)
    assert result == Edited(Id(1), at("a"))
    assert world.read("a") == b"theirs"


def test_what_stands_where_a_file_must_be_becomes_a_stray(world: World) -> None:
    world.write("a", b"theirs")
    (result,) = world.run(Make(world.file(1, "a", b"ours"), at("a")))
    assert done(result).strays == 1
    assert world.read("a") == b"ours"
    assert world.stray_bytes() == [b"theirs"]
    assert world.strays.list()[0].path == b"a"


def test_a_directory_where_a_file_must_be_becomes_a_stray_with_all_in_it(world: World) -> None:
    (world.root / "a").mkdir()
    world.write("a/x", b"theirs")
    done(world.run(Make(world.file(1, "a", b"ours"), at("a")))[0])
    assert world.read("a") == b"ours"
    assert (world.strays.list()[0].file / "x").read_bytes() == b"theirs"


def test_a_file_where_a_directory_must_be_becomes_a_stray(world: World) -> None:
    world.write("a", b"theirs")
    done(world.run(Make(directory(1, "a"), at("a")))[0])
    assert (world.root / "a").is_dir()
    assert world.stray_bytes() == [b"theirs"]


def test_a_socket_in_the_way_is_named_and_left(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.root)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        (result,) = world.run(Make(world.file(1, "s", b"ours"), at("s")))
    assert isinstance(result, Failed) and "socket" in result.reason


def test_a_missing_directory_is_where_to_look(world: World) -> None:
    (result,) = world.run(Make(world.file(1, "f", b"x", parent=9), at("gone/deep/f")), keep_edits=True)
    assert result == Edited(Id(1), at("gone"))


def test_what_is_below_a_directory_that_failed_fails_too(world: World) -> None:
    name = "x" * 256
    results = world.run(
        Make(_row(1, 0, name, Kind.DIRECTORY, 0o755, 0, 0, b""), at(name)),
        Make(world.file(2, "f", b"x", parent=1), at(name + "/f")),
    )
    assert [type(r) for r in results] == [Failed, Failed]


def test_the_meta_directory_is_never_written(world: World) -> None:
    (result,) = world.run(Make(world.file(1, "id", b"x"), at(".onefold/id")))
    assert isinstance(result, Failed)


# ------------------------------------------------------------------------------------------------ replace


def test_a_file_is_replaced_in_one_step_and_the_old_one_goes(world: World) -> None:
    base = world.standing(1, "a", b"old")
    row = world.file(1, "a", b"new")
    (result,) = world.run(Replace(row, at("a"), base), keep_edits=True)
    assert done(result).base == world.base(row, "a")
    assert world.read("a") == b"new"
    assert world.strays.count() == 0


def test_at_every_step_of_a_replacement_a_reader_finds_the_old_or_the_new_version(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = world.standing(1, "a", b"old")
    found: list[bytes | None] = []
    real_rename, real_unlink = linux.renameat2, os.unlink

    def look() -> None:
        found.append(world.read("a") if "a" in world.names() else None)

    def rename(*args: Any) -> None:
        real_rename(*args)
        look()

    def unlink(*args: Any, **more: Any) -> None:
        real_unlink(*args, **more)
        look()

    monkeypatch.setattr(linux, "renameat2", rename)
    monkeypatch.setattr(os, "unlink", unlink)
    world.run(Replace(world.file(1, "a", b"new"), at("a"), base), keep_edits=True)
    assert found == [b"new", b"new"]


def test_content_that_is_written_in_pieces_is_whole_in_the_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:3]))
    world.run(Make(world.file(1, "a", b"0123456789"), at("a")))
    assert world.read("a") == b"0123456789"


def test_an_edit_found_after_the_exchange_is_put_back_when_edits_are_kept(world: World) -> None:
    base = world.standing(1, "a", b"old")
    world.write("a", b"edited")
    (result,) = world.run(Replace(world.file(1, "a", b"new"), at("a"), base), keep_edits=True)
    assert result == Edited(Id(1), at("a"))
    assert world.read("a") == b"edited"


def test_an_edit_found_after_the_exchange_becomes_a_stray(world: World) -> None:
    base = world.standing(1, "a", b"old")
    world.write("a", b"edited")
    (result,) = world.run(Replace(world.file(1, "a", b"new"), at("a"), base))
    assert done(result).strays == 1
    assert (world.read("a"), world.stray_bytes()) == (b"new", [b"edited"])


def test_an_edit_made_between_the_look_and_the_exchange_is_put_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = world.standing(1, "a", b"old")
    real = linux.renameat2
    calls = 0

    def rename(*args: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            world.write("a", b"edited")
        real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(linux, "renameat2", rename)
    (result,) = world.run(Replace(world.file(1, "a", b"new"), at("a"), base), keep_edits=True)
    assert (result, world.read("a"), calls) == (Edited(Id(1), at("a")), b"edited", 2)


def test_an_edit_of_the_same_size_within_the_same_tick_is_seen(world: World) -> None:
    world.write("a", b"old")
    base = world.base(world.file(1, "a", b"old"), "a")
    world.write("a", b"EDT")
    os.utime(world.root / "a", ns=(base.stat.mtime_ns, base.stat.mtime_ns))
    (result,) = world.run(Replace(world.file(1, "a", b"new"), at("a"), base))
    assert (done(result).strays, world.stray_bytes()) == (1, [b"EDT"])


def edit_unseen(world: World, path: str, data: bytes) -> None:
    """Overwrite a file with as many bytes, and set its mtime back."""
    mtime_ns = (world.root / path).stat().st_mtime_ns
    (world.root / path).write_bytes(data)
    os.utime(world.root / path, ns=(mtime_ns, mtime_ns))


@pytest.mark.parametrize("what", ["replace", "drop", "step aside and drop", "attributes"])
def test_an_edit_whose_mtime_was_set_back_is_seen(world: World, what: str) -> None:
    base = world.standing(7, "a", b"old")
    edit_unseen(world, "a", b"OLD")
    if what == "replace":
        world.run(Replace(world.file(7, "a", b"new"), at("a"), base))
    elif what == "drop":
        world.run(Drop(base, at("a")))
    elif what == "step aside and drop":
        world.run(Aside(base, at("a")), Drop(base, None))
    else:
        (result,) = world.run(Attributes(world.file(7, "a", b"old", mode=0o600, mtime_ns=OLD_NS), at("a"), base))
        assert result == Edited(Id(7), at("a"))
        return
    assert world.stray_bytes() == [b"OLD"]


@pytest.mark.parametrize("aside", [False, True])
def test_an_edit_whose_mtime_was_set_back_stays_visible_after_a_move(world: World, aside: bool) -> None:
    base = world.standing(7, "a", b"old")
    edit_unseen(world, "a", b"OLD")
    moved = [Aside(base, at("a")), shift(base, None, at("b"))] if aside else [shift(base, at("a"), at("b"))]
    result = world.run(*moved)[-1]
    after = done(result).base
    assert after is not None and after.stat != linux.stat_of(-100, os.fsencode(world.root / "b"))[1]


def test_an_edit_whose_base_has_forgotten_its_content_becomes_a_stray(world: World) -> None:
    base = world.standing(1, "a", b"edited")
    base = BaseRow(*[getattr(base, f) if f != "content" else b"" for f in base.__struct_fields__])
    done(world.run(Replace(world.file(1, "a", b"new"), at("a"), base))[0])
    assert (world.read("a"), world.stray_bytes()) == (b"new", [b"edited"])


def test_a_file_that_a_program_holds_open_for_writing_is_not_destroyed(world: World) -> None:
    base = world.standing(1, "a", b"old")
    action = Replace(world.file(1, "a", b"new"), at("a"), base)
    with open(world.root / "a", "r+b", buffering=0) as writer:
        (result,) = world.run(action, keep_edits=True)
        assert isinstance(result, Failed) and "holds it open" in result.reason
        assert world.read("a") == b"old"
        (result,) = world.run(action)
        writer.write(b"late")
    assert (world.read("a"), world.stray_bytes()) == (b"new", [b"late"])


def test_a_touched_file_is_an_edit_where_edits_are_kept_and_no_stray_elsewhere(world: World) -> None:
    base = world.standing(1, "a", b"old")
    (world.root / "a").chmod(0o600)
    action = Replace(world.file(1, "a", b"new"), at("a"), base)
    assert world.run(action, keep_edits=True) == [Edited(Id(1), at("a"))]
    assert done(world.run(action)[0]).strays == 0
    assert world.read("a") == b"new"


def test_a_file_removed_meanwhile_is_looked_at_or_made_again(world: World) -> None:
    base = world.standing(1, "a", b"old")
    (world.root / "a").unlink()
    action = Replace(world.file(1, "a", b"new"), at("a"), base)
    assert world.run(action, keep_edits=True) == [Edited(Id(1), at("a"))]
    done(world.run(action)[0])
    assert world.read("a") == b"new"


def test_owner_and_extended_attributes_of_the_replaced_file_stay(world: World) -> None:
    base = world.standing(1, "a", b"old")
    os.setxattr(world.root / "a", "user.mark", b"1")
    if os.geteuid() == 0:
        os.chown(world.root / "a", 12345, 54321)
    done(world.run(Replace(world.file(1, "a", b"new"), at("a"), base))[0])
    assert os.getxattr(world.root / "a", "user.mark") == b"1"
    if os.geteuid() == 0:
        assert ((world.root / "a").stat().st_uid, (world.root / "a").stat().st_gid) == (12345, 54321)


def test_a_symlink_is_exchanged_for_another(world: World) -> None:
    os.symlink("here", world.root / "l")
    base = world.base(symlink(1, "l", b"here"), "l")
    done(world.run(Replace(symlink(1, "l", b"there"), at("l"), base), keep_edits=True)[0])
    assert os.readlink(world.root / "l") == "there"
    assert world.run(Replace(symlink(1, "l", b"x"), at("l"), base), keep_edits=True) == [Edited(Id(1), at("l"))]


# ------------------------------------------------------------------------------------------------ attributes


def test_mode_and_mtime_are_set_in_place(world: World) -> None:
    base = world.standing(1, "a", b"x")
    row = world.file(1, "a", b"x", mode=0o400)
    (result,) = world.run(Attributes(row, at("a"), base), keep_edits=True)
    assert done(result).base == world.base(row, "a")
    assert (world.base(row, "a").stat.mode, world.base(row, "a").stat.mtime_ns) == (0o400, NEW_NS)


def test_attributes_of_an_edited_file_are_left(world: World) -> None:
    base = world.standing(1, "a", b"x")
    world.write("a", b"edited")
    assert world.run(Attributes(world.file(1, "a", b"x", mode=0o400), at("a"), base)) == [Edited(Id(1), at("a"))]


def test_the_mode_of_a_directory_changes_and_its_setgid_bit_stays(world: World) -> None:
    base = world.standing_directory(1, "d")
    (world.root / "d").chmod(0o2755)
    done(world.run(Attributes(directory(1, "d", mode=0o700), at("d"), base))[0])
    assert stat.S_IMODE((world.root / "d").stat().st_mode) == 0o2700


# ------------------------------------------------------------------------------------------------ move


def test_a_swap_goes_by_stepping_aside(world: World) -> None:
    a, b = world.standing(1, "a", b"A"), world.standing(2, "b", b"B")
    results = world.run(Aside(a, at("a")), shift(b, at("b"), at("a")), shift(a, None, at("b")), keep_edits=True)
    assert (world.read("a"), world.read("b")) == (b"B", b"A")
    moved = done(results[2]).base
    assert moved is not None and (moved.name, moved.placed, moved.stat.ino) == (b"b", 99, a.stat.ino)


def test_a_directory_moves_with_all_in_it_and_what_follows_finds_it(world: World) -> None:
    d = world.standing_directory(1, "d")
    world.write("d/x", b"X")
    results = world.run(shift(d, at("d"), at("e")), Make(world.file(2, "f", b"F", parent=1), at("e/f")))
    assert [type(r) for r in results] == [Done, Done]
    assert world.names() == {"e", "e/x", "e/f"}


def test_an_edit_made_before_a_move_stays_visible_as_one(world: World) -> None:
    base = world.standing(1, "a", b"old")
    world.write("a", b"edited")
    moved = done(world.run(shift(base, at("a"), at("b")), keep_edits=True)[0]).base
    assert moved is not None and moved.stat == base.stat
    assert world.read("b") == b"edited"


def test_what_stands_where_something_moves_is_left_or_kept_aside(world: World) -> None:
    base = world.standing(1, "a", b"A")
    world.write("b", b"theirs")
    assert world.run(shift(base, at("a"), at("b")), keep_edits=True) == [Edited(Id(1), at("b"))]
    assert done(world.run(shift(base, at("a"), at("b")))[0]).strays == 1
    assert (world.read("b"), world.stray_bytes()) == (b"A", [b"theirs"])


def test_what_stepped_aside_and_is_not_fetched_goes_back(world: World) -> None:
    base = world.standing(1, "a", b"A")
    (result,) = world.run(Aside(base, at("a")))
    assert done(result).base is not None
    assert world.read("a") == b"A"


def test_what_cannot_go_back_leaves_the_base(world: World) -> None:
    a, b = world.standing(1, "a", b"A"), world.standing(2, "b", b"B")
    long = "x" * 300
    results = world.run(Aside(a, at("a")), shift(b, at("b"), at("a")), shift(a, None, at(long)))
    assert results[0] == Done(Id(1), None)
    assert isinstance(results[2], Failed)
    assert world.names() == {"a"}


def test_a_move_whose_source_is_gone_is_where_to_look(world: World) -> None:
    base = world.standing(1, "a", b"A")
    (world.root / "a").unlink()
    assert world.run(shift(base, at("a"), at("b"))) == [Edited(Id(1), at("a"))]
    assert world.run(Aside(base, at("a"))) == [Edited(Id(1), at("a"))]


# ------------------------------------------------------------------------------------------------ remove


def test_a_file_is_removed_and_one_that_is_gone_already_is_fine(world: World) -> None:
    base = world.standing(1, "a", b"A")
    assert world.run(Drop(base, at("a")), Drop(base, at("a")), keep_edits=True) == [Done(Id(1), None)] * 2
    assert world.names() == set()


def test_a_removal_from_a_directory_that_was_moved_is_not_done(world: World) -> None:
    world.standing_directory(1, "d")
    base = world.standing(2, "d/a", b"A")
    (world.root / "d").rename(world.root / "moved")
    assert world.run(Drop(base, at("d/a"))) == [Edited(Id(2), at("d"))]
    assert world.names() == {"moved", "moved/a"}


def test_an_edited_file_is_not_removed_where_edits_are_kept(world: World) -> None:
    base = world.standing(1, "a", b"A")
    world.write("a", b"edited")
    assert world.run(Drop(base, at("a")), keep_edits=True) == [Edited(Id(1), at("a"))]
    assert world.read("a") == b"edited"
    assert world.run(Drop(base, at("a"))) == [Done(Id(1), None, 1)]
    assert (world.names(), world.stray_bytes()) == (set(), [b"edited"])


def test_a_directory_goes_only_when_empty(world: World) -> None:
    base = world.standing_directory(1, "d")
    world.write("d/new", b"theirs")
    assert world.run(Drop(base, at("d"))) == [Edited(Id(1), at("d"))]
    (world.root / "d/new").unlink()
    assert world.run(Drop(base, at("d"))) == [Done(Id(1), None)]


def test_a_directory_that_stepped_aside_becomes_a_stray_when_something_unknown_is_in_it(world: World) -> None:
    d, x = world.standing_directory(1, "d"), world.standing(2, "d/x", b"X")
    world.write("d/new", b"theirs")
    results = world.run(
        Aside(x, at("d/x")),
        Aside(d, at("d")),
        Make(world.file(3, "d", b"file"), at("d")),
        Drop(d, None),
        Drop(x, None),
        keep_edits=True,
    )
    assert results[3:] == [Done(Id(1), None, 1), Done(Id(2), None)]
    assert world.read("d") == b"file"
    assert (world.strays.list()[0].file / "new").read_bytes() == b"theirs"


def test_what_is_in_no_base_is_discarded_into_the_strays(world: World) -> None:
    (world.root / "d").mkdir()
    world.write("d/a", b"theirs")
    world.run(Discard(at("d"), Kind.DIRECTORY), Discard(at("d/a"), Kind.FILE), Discard(at("d"), Kind.DIRECTORY))
    assert (world.names(), world.stray_bytes()) == (set(), [b"theirs"])
    done(world.run(Discard(at("d/a"), Kind.FILE))[0])


# ------------------------------------------------------------------------------------------------ trouble


def test_a_stray_that_cannot_be_kept_leaves_everything_where_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    base = world.standing(1, "a", b"old")
    world.write("a", b"edited")
    world.write("b", b"theirs")
    monkeypatch.setattr(world.strays, "add", full)
    results = world.run(
        Replace(world.file(1, "a", b"new"), at("a"), base),
        Drop(base, at("a")),
        Make(world.file(2, "b", b"ours"), at("b")),
        Discard(at("b"), Kind.FILE),
    )
    assert [type(r) for r in results] == [Failed] * 4
    assert (world.read("a"), world.read("b")) == (b"edited", b"theirs")


def test_a_full_disk_leaves_no_half_written_file(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "utime", full)
    (result,) = world.run(Make(world.file(1, "a", b"x"), at("a")))
    assert isinstance(result, Failed) and "full" in result.reason
    assert world.names() == set()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_a_read_only_directory_is_opened_for_the_change_and_closed_again(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for above in tmp_path.parents[:2]:
        above.chmod(0o755)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setegid(65534)
            os.chown(tmp_path, 65534, 65534)
            os.seteuid(65534)
            world = World(tmp_path)
            world.standing_directory(1, "d")
            a = world.standing(2, "d/a", b"A")
            (world.root / "d").chmod(0o555)
            d = world.base(directory(1, "d", mode=0o555), "d")
            results = world.run(
                Make(world.file(3, "f", b"F", parent=1), at("d/f")),
                Replace(world.file(2, "a", b"AA", parent=1), at("d/a"), a),
                shift(d, at("d"), at("e")),
            )
            ok = [type(r) for r in results] == [Done] * 3 and world.names() == {"e", "e/a", "e/f"}
            code = 0 if ok and stat.S_IMODE((world.root / "e").stat().st_mode) == 0o555 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="cannot work in the folder"):
        FolderMaterialiser(os.fsencode(tmp_path / "none"), Strays(tmp_path / "strays"), tmp_path)


def test_no_descriptor_is_left_open(world: World) -> None:
    base = world.standing(1, "a", b"old")
    before = len(os.listdir("/proc/self/fd"))
    world.run(
        Replace(world.file(1, "a", b"new"), at("a"), base),
        Make(directory(2, "d"), at("d")),
        Make(world.file(3, "f", b"F"), at("d/f")),
        Make(world.file(4, "g", b"G"), at("none/g")),
        Aside(base, at("a")),
        Drop(base, at("x/y")),
    )
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_was_done_can_be_made_durable(world: World) -> None:
    world.run(Make(world.file(1, "a", b"x"), at("a")))
    world.materialiser.sync()


assert ROOT == 0


def test_after_the_clock_was_set_back_what_was_written_before_is_hashed_before_it_goes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time lies ahead, as if it were young: two writes in one tick of the clock may have left that time."""
    base = world.standing(1, "file", b"known")
    row = world.file(1, "file", b"other")
    (world.root / "file").write_bytes(b"edit!")
    unnoticed = world.base(world.file(1, "file", b"known"), "file")  # a stat that does not show the second write
    unnoticed = msgspec.structs.replace(unnoticed, mtime_ns=base.mtime_ns)
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - 3 * 3600 * 10**9)
    (result,) = world.run(Replace(row, at("file"), unnoticed), keep_edits=True)
    assert isinstance(result, Edited)
    assert (world.root / "file").read_bytes() == b"edit!"


@pytest.mark.parametrize("adopts", [False, True])
def test_a_file_that_takes_the_place_of_what_was_just_judged_does_not_come_to_look_like_it(
    world: World, monkeypatch: pytest.MonkeyPatch, adopts: bool
) -> None:
    base = world.standing(1, "a", b"same size")
    row = world.file(1, "a", b"same size", mode=0o600)
    world.write("other", b"SAME SIZE")
    real = world.materialiser.space.dress

    def dress(*arguments: Any) -> Stat:
        if (world.root / "other").exists():
            (world.root / "other").rename(world.root / "a")  # somebody, just then
        return real(*arguments)

    monkeypatch.setattr(world.materialiser.space, "dress", dress)
    before = (world.root / "other").stat()
    if adopts:
        world.known.clear()
    (result,) = world.run(Make(row, at("a")) if adopts else Attributes(row, at("a"), base))
    assert isinstance(result, Failed) and "just been changed" in result.reason
    after = (world.root / "a").stat()
    assert (after.st_mtime_ns, after.st_mode) == (before.st_mtime_ns, before.st_mode)
    assert world.read("a") == b"SAME SIZE"


def test_what_was_written_to_since_it_was_judged_is_not_dressed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    base = world.standing(1, "a", b"known")
    real = world.materialiser.space.judge

    def judge(*arguments: Any, **more: Any) -> Any:
        verdict = real(*arguments, **more)
        world.write("a", b"edit!")  # somebody, just then
        return verdict

    monkeypatch.setattr(world.materialiser.space, "judge", judge)
    row = world.file(1, "a", b"known", mode=0o600)
    (result,) = world.run(Attributes(row, at("a"), base))
    assert isinstance(result, Failed) and "just been changed" in result.reason
    assert (world.root / "a").stat().st_mtime_ns not in (OLD_NS, NEW_NS)


def test_nobody_opens_a_file_for_writing_while_it_is_dressed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    base = world.standing(1, "a", b"known")
    real, refused = os.utime, []

    def utime(*arguments: Any, **more: Any) -> None:
        try:
            os.close(os.open(world.root / "a", os.O_WRONLY | os.O_NONBLOCK))
        except BlockingIOError as error:
            refused.append(error)
        real(*arguments, **more)

    monkeypatch.setattr(os, "utime", utime)
    done(world.run(Attributes(world.file(1, "a", b"known"), at("a"), base))[0])
    assert len(refused) == 1


def test_what_could_not_be_kept_aside_for_want_of_space_is_once_there_is_some(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = world.standing(1, "a", b"known")
    world.write("a", b"edit one")
    real = world.strays.add

    def full(*arguments: Any) -> None:
        if world.read("a") == b"new":
            world.write("a", b"edit two")  # somebody, into what has just arrived
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(world.strays, "add", full)
    (result,) = world.materialiser.run([Replace(world.file(1, "a", b"new"), at("a"), base)], world.contents, False)
    assert isinstance(result, Failed)
    monkeypatch.setattr(world.strays, "add", real)
    (result,) = world.run(Replace(world.file(1, "a", b"newer"), at("a"), base))
    assert done(result).base is not None
    assert world.read("a") == b"newer"
    assert {stray.file.read_bytes() for stray in world.strays.list()} == {b"edit one", b"edit two"}
