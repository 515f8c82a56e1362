"""The watcher, on real directories: nothing missed, and the path that holds now."""

from __future__ import annotations

import errno
import os
import random
import select
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from onefold import linux
from onefold.core.paths import RelPath
from onefold.edge import watch
from onefold.edge.watch import InotifyWatcher
from onefold.errors import OperatorError
from onefold.ports import Hint


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root/.onefold").mkdir(parents=True)
    return tmp_path / "root"


@pytest.fixture
def watcher(root: Path) -> Iterator[InotifyWatcher]:
    w = InotifyWatcher(os.fsencode(root))
    yield w
    w.close()


def drain(watcher: InotifyWatcher) -> dict[bytes, Hint]:
    hints = watcher.drain()
    assert len({h.path for h in hints}) == len(hints), "one hint per path"
    assert_tree_is_sound(watcher)
    return {h.path: h for h in hints}


def polled(watcher: InotifyWatcher) -> dict[bytes, Hint]:
    """What the next poll hints at: its time comes, the sooner the less time the last one took."""
    while True:
        if hints := drain(watcher):
            return hints


def assert_tree_is_sound(watcher: InotifyWatcher) -> None:
    """Every watched directory hangs in the tree, once, where its parent has it."""
    hung = [watcher._tree.root]
    for directory in hung:
        for name, child in (directory.children or {}).items():
            assert child.parent is directory and child.name == name
            hung.append(child)
    assert len({d.watch for d in hung}) == len(hung)
    assert {d.watch for d in hung} == set(watcher._tree.watched) | {watcher._tree.root.watch}


def watched(watcher: InotifyWatcher) -> set[bytes]:
    return {path for d in watcher._tree.watched.values() if (path := watcher._tree.path(d)) is not None}


def directories(root: Path) -> set[bytes]:
    top = os.fsencode(root)
    found = set()
    for at, names, _ in os.walk(top):
        if at == top:
            names.remove(b".onefold")
        found.add(at[len(top) + 1 :])
    return found


def everything(root: Path) -> set[bytes]:
    top = os.fsencode(root)
    found = set()
    for at, names, files in os.walk(top):
        if at == top:
            names.remove(b".onefold")
        found |= {os.path.join(at, n)[len(top) + 1 :] for n in (*names, *files)}
    return found


def covered(path: bytes, hints: dict[bytes, Hint]) -> bool:
    """Whether a node that follows `hints` looks at `path`."""
    if path in hints:
        return True
    while path:
        path = path.rpartition(b"/")[0]
        if path in hints and hints[path].tree:
            return True
    return False


# ---------------------------------------------------------------------------------------------------- files


def test_nothing_happened_gives_no_hint(watcher: InotifyWatcher) -> None:
    assert watcher.drain() == []


def test_a_closed_file_is_certain_with_content(root: Path, watcher: InotifyWatcher) -> None:
    (root / "f").write_bytes(b"x")
    assert watcher.drain() == [Hint(RelPath(b"f"), certain=True, content=True, tree=False)]


def test_the_descriptor_becomes_readable_and_is_drained(root: Path, watcher: InotifyWatcher) -> None:
    assert select.select([watcher], [], [], 0)[0] == []
    (root / "f").touch()
    assert select.select([watcher], [], [], 0)[0] == [watcher]
    watcher.drain()
    assert select.select([watcher], [], [], 0)[0] == []


def test_a_file_held_open_is_uncertain_until_it_is_closed(root: Path, watcher: InotifyWatcher) -> None:
    with (root / "f").open("wb", buffering=0) as f:
        assert drain(watcher)[b"f"] == Hint(RelPath(b"f"), certain=False, content=False, tree=False)
        f.write(b"x")
        assert drain(watcher)[b"f"] == Hint(RelPath(b"f"), certain=False, content=True, tree=False)
    assert drain(watcher)[b"f"] == Hint(RelPath(b"f"), certain=True, content=True, tree=False)


def test_truncate_by_path_is_uncertain_with_content(root: Path, watcher: InotifyWatcher) -> None:
    (root / "f").write_bytes(b"xyz")
    watcher.drain()
    os.truncate(root / "f", 1)
    assert drain(watcher)[b"f"] == Hint(RelPath(b"f"), certain=False, content=True, tree=False)


def test_a_symlink_and_a_hard_link_are_certain_at_once(root: Path, watcher: InotifyWatcher) -> None:
    (root / "f").touch()
    watcher.drain()
    (root / "s").symlink_to("f")
    (root / "l").hardlink_to(root / "f")
    hints = drain(watcher)
    assert hints[b"s"].certain and hints[b"l"].certain


def test_an_unnamed_file_given_a_name_is_looked_at_after_the_quiet(root: Path, watcher: InotifyWatcher) -> None:
    fd = os.open(root, os.O_TMPFILE | os.O_WRONLY)
    os.write(fd, b"x")
    os.link(f"/proc/self/fd/{fd}", root / "named", src_dir_fd=fd, follow_symlinks=True)
    hints = drain(watcher)
    os.close(fd)
    assert not hints[b"named"].certain


def test_attributes_are_certain_without_content(root: Path, watcher: InotifyWatcher) -> None:
    (root / "f").touch()
    (root / "d").mkdir()
    watcher.drain()
    (root / "f").chmod(0o600)
    (root / "d").chmod(0o700)
    hints = drain(watcher)
    assert hints[b"f"] == Hint(RelPath(b"f"), certain=True, content=False, tree=False)
    assert hints[b"d"] == Hint(RelPath(b"d"), certain=True, content=False, tree=False)


def test_a_rename_hints_at_both_names_and_takes_the_content_flag_along(root: Path, watcher: InotifyWatcher) -> None:
    (root / "f").write_bytes(b"x")
    (root / "f").rename(root / "g")
    hints = drain(watcher)
    assert hints[b"f"].certain
    assert hints[b"g"] == Hint(RelPath(b"g"), certain=True, content=True, tree=False)
    (root / "g").unlink()
    assert drain(watcher)[b"g"].certain


def test_swapped_files_are_both_certain(root: Path, watcher: InotifyWatcher) -> None:
    (root / "a").write_bytes(b"a")
    (root / "b").write_bytes(b"b")
    watcher.drain()
    fd = os.open(root, os.O_RDONLY)
    linux.renameat2(fd, b"a", fd, b"b", linux.RENAME_EXCHANGE)
    os.close(fd)
    hints = drain(watcher)
    assert hints[b"a"].certain and hints[b"b"].certain


@pytest.mark.parametrize("name", [b"new\nline", b"-rf", b"\xff\xfe\x80", b"n" * 255, b" ", b"*"], ids=repr)
def test_any_name_is_reported_as_its_bytes(root: Path, watcher: InotifyWatcher, name: bytes) -> None:
    top = os.fsencode(root)
    os.mkdir(top + b"/" + name)
    watcher.drain()
    os.close(os.open(top + b"/" + name + b"/" + name, os.O_CREAT | os.O_WRONLY))
    assert drain(watcher)[name + b"/" + name].certain


def test_hints_keep_the_order_of_first_occurrence(root: Path, watcher: InotifyWatcher) -> None:
    for name in ("c", "a", "b", "c"):
        (root / name).touch()
    assert [h.path for h in watcher.drain()] == [b"c", b"a", b"b"]


# ---------------------------------------------------------------------------------------------------- ours


def test_nothing_of_ours_in_the_root_is_hinted_at(root: Path, watcher: InotifyWatcher) -> None:
    (root / ".onefold/tmp").mkdir()
    (root / ".onefold/tmp/f").touch()
    (root / ".onefold").chmod(0o700)
    (root / ".onefold").rename(root.parent / "elsewhere")
    (root.parent / "elsewhere").rename(root / ".onefold")
    assert watcher.drain() == []
    assert watched(watcher) == {b""}


def test_the_same_name_deeper_down_is_a_name_like_any_other(root: Path, watcher: InotifyWatcher) -> None:
    (root / "d/.onefold").mkdir(parents=True)
    watcher.drain()
    (root / "d/.onefold/f").touch()
    assert drain(watcher)[b"d/.onefold/f"].certain


def test_a_file_renamed_out_of_our_temporaries_is_certain(root: Path, watcher: InotifyWatcher) -> None:
    (root / ".onefold/t").write_bytes(b"x")
    (root / ".onefold/t").rename(root / "f")
    assert drain(watcher)[b"f"].certain


# ---------------------------------------------------------------------------------------------------- directories


def test_what_was_made_in_a_new_directory_before_its_watch_is_covered(root: Path, watcher: InotifyWatcher) -> None:
    (root / "a/b/c").mkdir(parents=True)
    (root / "a/b/c/f").write_bytes(b"x")
    hints = drain(watcher)
    assert hints[b"a"].certain and hints[b"a"].tree
    assert watched(watcher) == {b"", b"a", b"a/b", b"a/b/c"}
    (root / "a/b/c/g").touch()
    assert b"a/b/c/g" in drain(watcher)


def test_events_after_a_rename_carry_the_new_path(root: Path, watcher: InotifyWatcher) -> None:
    (root / "a/b").mkdir(parents=True)
    watcher.drain()
    (root / "a/b/early").touch()
    (root / "a").rename(root / "z")
    (root / "z/b/late").touch()
    hints = drain(watcher)
    assert hints[b"a"].certain and hints[b"z"].certain
    assert hints[b"z/b/early"].content and hints[b"z/b/late"].content
    assert not any(path.startswith(b"a/") for path in hints)


def test_a_renamed_directory_is_hinted_at_with_where_it_was(root: Path, watcher: InotifyWatcher) -> None:
    (root / "a/b").mkdir(parents=True)
    (root / "other").mkdir()
    watcher.drain()
    (root / "a/b").rename(root / "a/c")
    (root / "a").rename(root / "z")
    (root / "other").rename(root / "z/c/other")
    origins = {hint.path: hint.origin for hint in watcher.drain() if hint.origin is not None}
    # Each origin is told under the new names of what is above it, and after those.
    assert list(origins.items()) == [(b"z", b"a"), (b"z/c", b"z/b"), (b"z/c/other", b"other")]


def test_a_renamed_tree_keeps_its_watches_and_is_not_listed_again(
    root: Path, watcher: InotifyWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = root / "top" / "/".join(["d"] * 400)
    deep.mkdir(parents=True)
    watcher.drain()
    before = dict(watcher._tree.watched)
    monkeypatch.setattr(os, "scandir", None)
    (root / "top").rename(root / "new")
    hints = drain(watcher)
    monkeypatch.undo()
    assert set(hints) == {b"top", b"new"} and not hints[b"new"].tree
    assert watcher._tree.watched == before
    (root / "new" / "/".join(["d"] * 400) / "f").touch()
    assert b"new/" + b"d/" * 400 + b"f" in drain(watcher)


def test_swapped_directories_are_told_apart(root: Path, watcher: InotifyWatcher) -> None:
    (root / "a/in-a").mkdir(parents=True)
    (root / "b/in-b").mkdir(parents=True)
    watcher.drain()
    before = set(watcher._tree.watched)
    (root / "a").rename(root / "t")
    (root / "b").rename(root / "a")
    (root / "t").rename(root / "b")
    drain(watcher)
    assert watched(watcher) == directories(root)
    assert set(watcher._tree.watched) == before
    fd = os.open(root, os.O_RDONLY)
    linux.renameat2(fd, b"a", fd, b"b", linux.RENAME_EXCHANGE)
    os.close(fd)
    drain(watcher)
    assert watched(watcher) == directories(root)
    (root / "a/in-a/f").touch()
    assert b"a/in-a/f" in drain(watcher)


def test_parent_and_child_directories_may_change_places(root: Path, watcher: InotifyWatcher) -> None:
    (root / "x/p/deep").mkdir(parents=True)
    watcher.drain()
    (root / "x/p").rename(root / "p")
    (root / "x").rename(root / "p/x")
    drain(watcher)
    assert watched(watcher) == directories(root) == {b"", b"p", b"p/deep", b"p/x"}


def test_a_directory_made_in_a_renamed_one_before_we_looked_is_watched(root: Path, watcher: InotifyWatcher) -> None:
    (root / "p").mkdir()
    watcher.drain()
    (root / "p/x/y").mkdir(parents=True)
    (root / "p").rename(root / "q")
    (root / "p/x").mkdir(parents=True)
    hints = drain(watcher)
    assert watched(watcher) == directories(root)
    assert all(covered(path, hints) for path in everything(root))


def test_a_directory_moved_away_is_watched_no_more(root: Path, tmp_path: Path, watcher: InotifyWatcher) -> None:
    for target in (tmp_path / "outside", root / ".onefold/aside"):
        (root / "a/b").mkdir(parents=True)
        drain(watcher)
        (root / "a").rename(target)
        assert drain(watcher)[b"a"].certain
        (target / "b/f").touch()
        assert drain(watcher) == {}
        assert watched(watcher) == {b""}


def test_a_directory_moved_in_is_covered_whole(root: Path, tmp_path: Path, watcher: InotifyWatcher) -> None:
    (tmp_path / "outside/b").mkdir(parents=True)
    (tmp_path / "outside/b/f").touch()
    (tmp_path / "outside").rename(root / "a")
    assert drain(watcher)[b"a"].tree
    assert watched(watcher) == {b"", b"a", b"a/b"}


def test_a_rename_whose_halves_come_in_two_reads_is_still_covered(
    root: Path, watcher: InotifyWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/f").touch()
    watcher.drain()
    (root / "a").rename(root / "z")
    real = os.read
    queue = real(watcher.fileno(), 1 << 16)
    for half in (queue[:32], queue[32:]):
        monkeypatch.setattr(os, "read", lambda fd, size, half=half: half)
        hints = drain(watcher)
    monkeypatch.undo()
    assert hints[b"z"].tree
    assert watched(watcher) == {b"", b"z", b"z/b"}


def test_a_removed_tree_leaves_no_watch(root: Path, watcher: InotifyWatcher) -> None:
    (root / "a/b/c").mkdir(parents=True)
    watcher.drain()
    shutil.rmtree(root / "a")
    assert drain(watcher)[b"a"].certain
    assert watched(watcher) == {b""}


def test_a_directory_made_again_under_its_name_is_watched(root: Path, watcher: InotifyWatcher) -> None:
    for _ in range(3):
        (root / "a/b").mkdir(parents=True)
        shutil.rmtree(root / "a")
    (root / "a").mkdir()
    drain(watcher)
    (root / "a/f").touch()
    assert b"a/f" in drain(watcher)


def test_a_file_becomes_a_directory_and_back(root: Path, watcher: InotifyWatcher) -> None:
    (root / "n").touch()
    watcher.drain()
    (root / "n").unlink()
    (root / "n").mkdir()
    (root / "n/f").touch()
    assert drain(watcher)[b"n"].tree
    shutil.rmtree(root / "n")
    (root / "n").symlink_to("/etc")
    assert drain(watcher)[b"n"].certain
    assert watched(watcher) == {b""}


def test_symlinked_directories_are_never_entered(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside/d").mkdir(parents=True)
    (root / "s").symlink_to(tmp_path / "outside")
    w = InotifyWatcher(os.fsencode(root))
    (root / "t").symlink_to(tmp_path / "outside")
    drain(w)
    assert watched(w) == {b""}
    w.close()


def test_ignored_directories_are_not_watched_until_the_rules_change(root: Path) -> None:
    (root / "node_modules/x").mkdir(parents=True)
    hidden = {b"node_modules", b"build"}
    w = InotifyWatcher(os.fsencode(root), lambda path, directory: directory and path in hidden)
    (root / "build/y").mkdir(parents=True)
    drain(w)
    assert watched(w) == {b""}
    hidden.clear()
    w.rewalk()
    assert drain(w)[b""].tree
    assert watched(w) == directories(root)
    w.close()


# ---------------------------------------------------------------------------------------------------- bursts


def test_a_burst_of_nested_directories_and_files_is_covered_whole(root: Path, watcher: InotifyWatcher) -> None:
    program = """
import os, random, sys
r = random.Random(int(sys.argv[2])); at = [sys.argv[1]]
for i in range(3000):
    d = r.choice(at[-40:])
    if r.random() < 0.4:
        os.mkdir(f"{d}/d{i}"); at.append(f"{d}/d{i}")
    else:
        open(f"{d}/f{i}", "w").close()
"""
    writers = [subprocess.Popen([sys.executable, "-c", program, str(root), str(seed)]) for seed in (1,)]
    hints: dict[bytes, Hint] = {}
    while any(w.poll() is None for w in writers):
        select.select([watcher], [], [], 0.01)
        hints |= drain(watcher)
    assert [w.returncode for w in writers] == [0]
    hints |= drain(watcher)
    missed = [path for path in everything(root) if not covered(path, hints)]
    assert missed == []
    assert watched(watcher) == directories(root)


@pytest.mark.parametrize("seed", range(6))
def test_after_any_history_the_watches_match_the_tree(root: Path, watcher: InotifyWatcher, seed: int) -> None:
    """Random creations, renames (also in and out) and removals, drained now and then while they go on."""
    done = threading.Event()

    def churn() -> None:
        r = random.Random(seed)
        top = os.fsencode(root)
        here: list[bytes] = []

        def some() -> bytes:
            return os.path.join(top, r.choice([*here, b""]))

        for i in range(1500):
            if i % 5 == 0:
                here = sorted(directories(root) - {b""})
            source, target = some().rstrip(b"/"), os.path.join(some(), b"%d" % r.randrange(5))
            aside = os.path.join(top, b".onefold", b"%d" % r.randrange(3))
            with suppress(OSError):  # a random step may be impossible
                match r.randrange(6):
                    case 0 | 1:
                        os.mkdir(target)
                    case 2 | 3 if source != top:
                        os.rename(source, target)
                    case 4 if source != top:
                        os.rename(source, aside)
                    case 5:
                        os.rename(aside, target)
        done.set()

    writer = threading.Thread(target=churn)
    writer.start()
    while not done.is_set():
        select.select([watcher], [], [], 0.002)
        drain(watcher)
    writer.join()
    drain(watcher)
    assert watched(watcher) == directories(root)
    for path in directories(root):
        (root / os.fsdecode(path) / "probe").touch()
    hints = drain(watcher)
    assert all(os.path.join(path, b"probe") in hints for path in directories(root))


def test_an_overflow_makes_everything_be_looked_at_and_watched_again(root: Path, watcher: InotifyWatcher) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    (root / "gone").mkdir()
    (root / "kept").mkdir()
    watcher.drain()
    for _ in range(limit // 2 + 100):
        (root / "a").touch()
        (root / "b").touch()
    (root / "unseen/below").mkdir(parents=True)
    (root / "kept").rename(root / "unseen/kept")
    (root / "gone").rmdir()
    hints = drain(watcher)
    assert hints[b""] == Hint(RelPath(b""), certain=True, content=False, tree=True)
    assert watched(watcher) == directories(root)
    assert drain(watcher) == {}


# ---------------------------------------------------------------------------------------------------- trouble


def test_exhausted_watches_are_a_problem_and_the_rest_is_polled(
    root: Path, watcher: InotifyWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = 2
    real = linux.add_watch

    def limited(fd: int, path: bytes, mask: int) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "no space", path)
        room -= 1
        return real(fd, path, mask)

    monkeypatch.setattr(linux, "add_watch", limited)
    monkeypatch.setattr(watch, "_POLL_S", 0.0)
    for name in "abcd":
        (root / name / "below").mkdir(parents=True)
    hints = drain(watcher)
    assert all(hints[name].tree for name in (b"a", b"b", b"c", b"d"))
    (problem,) = watcher.problems()
    assert "sysctl fs.inotify.max_user_watches=" in problem.fix
    unwatched = directories(root) - watched(watcher)
    assert unwatched
    hints = polled(watcher)
    assert all(hint.tree for hint in hints.values())
    assert all(covered(path + b"/f", hints) for path in unwatched)
    room = 100
    hints = polled(watcher)
    assert all(covered(path + b"/f", hints) for path in unwatched)
    assert watched(watcher) == directories(root)
    assert watcher.problems() == []
    assert drain(watcher) == {}


def test_without_any_watch_the_whole_folder_is_polled(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "a").mkdir()

    def refused(fd: int, path: bytes, mask: int) -> int:
        raise OSError(errno.ENOSPC, "no space", path)

    monkeypatch.setattr(watch, "_POLL_S", 0.0)
    with monkeypatch.context() as m:
        m.setattr(linux, "add_watch", refused)
        w = InotifyWatcher(os.fsencode(root))
        for _ in range(3):
            assert list(polled(w).values()) == [Hint(RelPath(b""), certain=True, content=False, tree=True)]
        assert len(w.problems()) == 1
    assert polled(w)[b""].tree
    assert watched(w) == directories(root)
    assert w.problems() == []
    w.close()


def test_no_inotify_instance_is_an_error_with_its_fix(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(linux, "inotify_init", refused)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OperatorError, match=r"sysctl fs\.inotify\.max_user_instances="):
        InotifyWatcher(os.fsencode(root))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_missing_folder_is_an_error(root: Path) -> None:
    with pytest.raises(OperatorError, match="cannot be watched"):
        InotifyWatcher(os.fsencode(root / "missing"))


_AS_NOBODY = """
import os, sys
from onefold.edge.watch import InotifyWatcher
os.setresgid(65534, 65534, 0); os.setresuid(65534, 65534, 0)
root = os.fsencode(sys.argv[1])
os.mkdir(root + b"/shut"); os.mkdir(root + b"/shut/below"); os.chmod(root + b"/shut", 0)
w = InotifyWatcher(root)
(problem,) = w.problems()
assert problem.where == "shut" and "permission" in problem.what, problem
assert w.drain() == []
os.chmod(root + b"/shut", 0o700)
hints = {h.path: h for h in w.drain()}
assert hints[b"shut"].tree, hints
assert w.problems() == []
os.close(os.open(root + b"/shut/below/f", os.O_CREAT | os.O_WRONLY))
assert [h.path for h in w.drain()] == [b"shut/below/f"]
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_directory_closed_to_us_is_a_problem_until_it_is_opened(tmp_path: Path) -> None:
    # Not below tmp_path's parents, which are closed to that user: a folder of its own, given by descriptor.
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(0o777)
    fd = os.open(root, os.O_RDONLY)
    try:
        subprocess.run([sys.executable, "-c", _AS_NOBODY, f"/proc/self/fd/{fd}"], check=True, pass_fds=[fd])
    finally:
        os.close(fd)


_MOUNTED = """
import os, subprocess, sys
from onefold.edge.watch import InotifyWatcher
root = os.fsencode(sys.argv[1])
os.makedirs(root + b"/d/m")
subprocess.run(["mount", "-t", "tmpfs", "none", root + b"/d/m"], check=True)
os.makedirs(root + b"/d/m/x")
w = InotifyWatcher(root)
(problem,) = w.problems()
assert problem.where == "d/m" and "mounted" in problem.what, problem
assert len(w._tree.watched) == 2
subprocess.run(["umount", root + b"/d/m"], check=True)
w.rewalk()
assert w.problems() == []
assert len(w._tree.watched) == 3
"""


@pytest.mark.skipif(
    subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode != 0,
    reason="mounts in a namespace of its own",
)
def test_a_mount_in_the_folder_is_not_entered_and_is_a_problem(root: Path) -> None:
    subprocess.run(["unshare", "-rm", sys.executable, "-c", _MOUNTED, str(root)], check=True)


def test_the_loss_of_the_folder_itself_is_a_problem(root: Path, watcher: InotifyWatcher) -> None:
    root.rename(root.parent / "elsewhere")
    assert drain(watcher)[b""].tree
    (problem,) = watcher.problems()
    assert "removed, renamed or unmounted" in problem.what


def test_closing_gives_all_descriptors_back(root: Path) -> None:
    (root / "a/b").mkdir(parents=True)
    before = len(os.listdir("/proc/self/fd"))
    w = InotifyWatcher(os.fsencode(root))
    w.drain()
    w.close()
    assert len(os.listdir("/proc/self/fd")) == before
