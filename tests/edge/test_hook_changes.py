"""What came in place is told to the hooks that want it, whatever ends the process in between."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest

from onefold.core.hooks import Placed
from onefold.core.paths import RelPath
from onefold.edge.hook_changes import HookChanges

Wants = dict[str, Callable[[str], bool]]
WANTS: Wants = {"conf": lambda path: fnmatch(path, "*.conf"), "all": lambda path: True}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


def opened(root: Path, *names: str) -> HookChanges:
    return HookChanges(root.parent / "hooks", bytes(root), names or tuple(WANTS))


def changed(path: bytes, origin: bytes | None = None, directory: bool = False) -> Placed:
    return Placed(RelPath(path), directory, None if origin is None else RelPath(origin))


def told(changes: HookChanges, name: str) -> list[bytes]:
    work = changes.begin(name)
    assert work is not None
    file, paths, count = work
    assert file.read_bytes() == b"".join(path + b"\0" for path in paths)
    assert count == len(paths)
    return paths


def test_a_change_waits_for_the_hooks_that_want_it(root: Path) -> None:
    changes = opened(root)
    changes.note([changed(b"a.conf"), changed(b"b.txt")])
    assert changes.sort(WANTS) == ["all", "conf"]
    assert told(changes, "conf") == [b"a.conf"]
    assert told(changes, "all") == [b"a.conf", b"b.txt"]
    changes.note([changed(b"c.txt")])
    assert changes.sort(WANTS) == ["all"]
    assert changes.sort(WANTS) == []


def test_a_path_that_changed_twice_is_told_once(root: Path) -> None:
    changes = opened(root)
    for _ in range(3):
        changes.note([changed(b"a.conf")])
        changes.sort(WANTS)
    assert told(changes, "conf") == [b"a.conf"]


def test_nothing_waits_any_more_once_a_run_has_taken_it_along(root: Path) -> None:
    changes = opened(root)
    changes.note([changed(b"a.conf")])
    changes.sort(WANTS)
    told(changes, "conf")
    changes.end("conf")
    assert changes.begin("conf") is None
    assert not changes.waits("conf")


def test_a_moved_directory_is_all_that_is_in_it_at_both_places(root: Path) -> None:
    (root / "new" / "deep").mkdir(parents=True)
    (root / "new" / "deep" / "a.conf").touch()
    (root / "new" / "link").symlink_to("deep")
    changes = opened(root)
    changes.note([changed(b"new", b"old", directory=True), changed(b"to.conf", b"from.conf")])
    changes.sort(WANTS)
    assert sorted(told(changes, "conf")) == [b"from.conf", b"new/deep/a.conf", b"old/deep/a.conf", b"to.conf"]
    assert {b"old", b"new", b"old/link", b"new/deep"} <= set(told(changes, "all"))


def test_what_left_a_moved_directory_before_anybody_looked_is_gone_from_where_that_was(root: Path) -> None:
    (root / "new").mkdir()
    changes = opened(root)
    changes.note([changed(b"new", b"old", directory=True)])
    changes.sort(WANTS)
    changes.note([changed(b"new/a.conf")])
    changes.sort(WANTS)
    assert told(changes, "conf") == [b"new/a.conf", b"old/a.conf"]


def test_patterns_see_that_a_directory_is_one(root: Path) -> None:
    seen: list[str] = []
    changes = opened(root)
    changes.note([changed(b"d", directory=True), changed(b"f")])
    changes.sort({"all": lambda path: bool(seen.append(path)) or True})
    assert seen == ["d/", "f"]
    assert told(changes, "all") == [b"d", b"f"]


def test_any_name_that_linux_allows_is_told_as_it_is(root: Path) -> None:
    changes = opened(root)
    changes.note([changed(b"\xff\n \\.conf")])
    changes.sort(WANTS)
    assert told(changes, "conf") == [b"\xff\n \\.conf"]


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_what_was_not_run_to_its_end_is_told_again_after_a_crash(root: Path, steps: int) -> None:
    """Noted, sorted, begun: each is found by the next life."""
    changes = opened(root)
    changes.note([changed(b"a.conf")])
    if steps > 1:
        changes.sort(WANTS)
    if steps > 2:
        told(changes, "conf")
    again = opened(root)
    again.note([changed(b"b.conf")])
    again.sort(WANTS)
    assert sorted(told(again, "conf")) == [b"a.conf", b"b.conf"]


def test_what_waits_meanwhile_and_a_run_that_broke_off_come_together(root: Path) -> None:
    changes = opened(root)
    changes.note([changed(b"a.conf")])
    changes.sort(WANTS)
    told(changes, "conf")
    changes.note([changed(b"b.conf")])
    changes.sort(WANTS)
    assert told(opened(root), "conf") == [b"a.conf", b"b.conf"]


def test_a_record_that_was_cut_off_harms_no_other(root: Path) -> None:
    changes = opened(root)
    changes.note([changed(b"a.conf")])
    with (root.parent / "hooks" / "noted").open("ab") as file:
        file.write(b"fb.con")
    assert opened(root).sort(WANTS) == ["all", "conf"]
    assert told(opened(root), "conf") == [b"a.conf"]


def test_in_doubt_every_hook_is_run_though_for_no_path(root: Path) -> None:
    changes = opened(root)
    changes.doubt("conf")
    assert changes.waits("conf")
    assert told(changes, "conf") == []


def test_what_is_there_of_a_hook_that_is_gone_goes(root: Path) -> None:
    changes = opened(root)
    changes.note([changed(b"a.conf")])
    changes.sort(WANTS)
    opened(root, "all")
    assert not (root.parent / "hooks" / "conf").exists()
    assert (root.parent / "hooks" / "all" / "waiting").exists()
