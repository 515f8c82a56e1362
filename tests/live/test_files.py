"""Every kind of change to a leader's folder, on a real cluster: what is done there stands on every node."""

from __future__ import annotations

import mmap
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster import Demo, eventually, inodes


def fill(directory: Path) -> None:
    """A small tree in `directory`."""
    for number in range(3):
        below = directory / f"d{number}" / "deeper"
        below.mkdir(parents=True)
        (below / "file").write_text(f"{number}")
        (below.parent / "other").write_text(f"other {number}")
    (directory / "empty").mkdir()


def test_a_created_file_stands_everywhere(shared: Demo, here: Path) -> None:
    (here / "file").write_text("hello\n")
    assert shared.settled("node1", here.name)[b"file"].content == b"hello\n"


def test_an_empty_file_and_an_empty_directory_stand_everywhere(shared: Demo, here: Path) -> None:
    (here / "file").touch()
    (here / "directory").mkdir()
    assert set(shared.settled("node1", here.name)) == {b"file", b"directory"}


def write(path: Path) -> None:
    path.write_bytes(b"another")


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b", and more")


def truncate(path: Path) -> None:
    os.truncate(path, 2)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def enlarge(path: Path) -> None:
    os.truncate(path, 100_000)


def overwrite_a_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(1)
        file.write(b"!")


def replace(path: Path) -> None:
    new = path.with_name(".new")
    new.write_bytes(b"replaced")
    new.replace(path)


def delete_and_make_anew(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"anew")


def keep_size_and_mtime(path: Path) -> None:
    before = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def become_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").write_bytes(b"x")


def become_a_symlink(path: Path) -> None:
    path.unlink()
    path.symlink_to("elsewhere")


def give_mode(path: Path) -> None:
    path.chmod(0o751)


def take_all_but_reading(path: Path) -> None:
    path.chmod(0o400)


def give_mtime(path: Path) -> None:
    os.utime(path, ns=(0, 1_234_567_890_123_456_789))


def give_an_mtime_before_1970(path: Path) -> None:
    os.utime(path, ns=(0, -1_500_000_001))


def rename(path: Path) -> None:
    path.rename(path.with_name("renamed"))


def move_into_a_new_directory(path: Path) -> None:
    path.with_name("new").mkdir()
    path.rename(path.with_name("new") / path.name)


def delete(path: Path) -> None:
    path.unlink()


def link(path: Path) -> None:
    os.link(path, path.with_name("linked"))


@pytest.mark.parametrize(
    "change",
    [
        write,
        append,
        truncate,
        empty,
        enlarge,
        overwrite_a_byte,
        replace,
        delete_and_make_anew,
        keep_size_and_mtime,
        become_a_directory,
        become_a_symlink,
        give_mode,
        take_all_but_reading,
        give_mtime,
        give_an_mtime_before_1970,
        rename,
        move_into_a_new_directory,
        delete,
        link,
    ],
    ids=lambda change: change.__name__,
)
def test_a_change_to_a_file_is_everywhere(shared: Demo, here: Path, change: Callable[[Path], None]) -> None:
    file = here / "file"
    file.write_bytes(b"what was there")
    before = shared.settled("node1", here.name)
    change(file)
    assert shared.settled("node1", here.name) != before


def test_two_changes_of_the_same_size_within_one_second_are_both_everywhere(shared: Demo, here: Path) -> None:
    file = here / "file"
    for word in (b"one", b"two", b"six", b"ten"):
        file.write_bytes(word)
        assert shared.settled("node1", here.name)[b"file"].content == word


def test_a_file_that_is_linked_into_place_without_ever_having_had_a_name(shared: Demo, here: Path) -> None:
    directory = os.open(here, os.O_RDONLY | os.O_DIRECTORY)
    file = os.open(here, os.O_TMPFILE | os.O_WRONLY)
    os.write(file, b"nameless")
    os.link(f"/proc/self/fd/{file}", "named", src_dir_fd=directory, dst_dir_fd=directory)
    os.close(file)
    os.close(directory)
    assert shared.settled("node1", here.name)[b"named"].content == b"nameless"


def test_a_store_into_mapped_memory_is_found_in_time(shared: Demo) -> None:
    file = shared.folder("node1") / "mapped"
    file.write_bytes(b"?" * 4096)
    shared.settled("node1")
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapped:
        mapped[0:1] = b"!"
        mapped.flush()
        eventually(lambda: (shared.folder("node3") / "mapped").read_bytes().startswith(b"!"))


def test_files_that_swap_their_names_are_swapped_everywhere(shared: Demo, here: Path) -> None:
    (here / "a").write_bytes(b"a")
    (here / "b").write_bytes(b"b")
    shared.settled("node1", here.name)
    (here / "a").rename(here / "c")
    (here / "b").rename(here / "a")
    (here / "c").rename(here / "b")
    assert shared.settled("node1", here.name)[b"a"].content == b"b"


def test_directories_that_swap_their_names_are_swapped_everywhere(shared: Demo, here: Path) -> None:
    fill(here)
    shared.settled("node1", here.name)
    (here / "d0").rename(here / "swap")
    (here / "d1").rename(here / "d0")
    (here / "swap").rename(here / "d1")
    assert shared.settled("node1", here.name)[b"d0/other"].content == b"other 1"


def test_a_child_that_takes_the_place_of_its_parent(shared: Demo, here: Path) -> None:
    fill(here)
    shared.settled("node1", here.name)
    (here / "d0" / "deeper").rename(here / "kept")
    (here / "d0" / "other").unlink()
    (here / "d0").rmdir()
    (here / "kept").rename(here / "d0")
    assert shared.settled("node1", here.name)[b"d0/file"].content == b"0"


def test_a_renamed_tree_is_renamed_everywhere_and_no_content_moves(shared: Demo, here: Path) -> None:
    before, after = here / "before", here / "after"
    fill(before)
    shared.settled("node1", here.name)
    stood = {node: inodes(shared.folder(node) / here.name / "before") for node in shared.live}
    index = shared.status()["nodes"]["node1"]["applied"]
    before.rename(after)
    shared.settled("node1", here.name)
    assert {node: inodes(shared.folder(node) / here.name / "after") for node in shared.live} == stood
    assert shared.status()["nodes"]["node1"]["applied"] == index + 1


def test_a_tree_that_moves_into_another_directory_keeps_its_files(shared: Demo, here: Path) -> None:
    fill(here / "tree")
    (here / "far" / "away").mkdir(parents=True)
    shared.settled("node1", here.name)
    stood = {node: inodes(shared.folder(node) / here.name / "tree") for node in shared.live}
    (here / "tree").rename(here / "far" / "away" / "named")
    shared.settled("node1", here.name)
    moved = {node: inodes(shared.folder(node) / here.name / "far" / "away" / "named") for node in shared.live}
    assert moved == stood


def test_a_tree_that_is_renamed_and_edited_at_once(shared: Demo, here: Path) -> None:
    fill(here / "tree")
    shared.settled("node1", here.name)
    (here / "tree").rename(here / "moved")
    (here / "moved" / "d0" / "other").write_text("edited")
    (here / "moved" / "d1" / "other").unlink()
    (here / "moved" / "d2").rename(here / "out")
    (here / "moved" / "new").write_text("new")
    shared.settled("node1", here.name)


def test_a_tree_moved_out_of_the_folder_is_gone_and_back_it_is_there(shared: Demo, here: Path, tmp_path: Path) -> None:
    fill(here / "tree")
    full = shared.settled("node1", here.name)
    (here / "tree").rename(tmp_path / "tree")
    assert shared.settled("node1", here.name) == {}
    (tmp_path / "tree").rename(here / "tree")
    assert shared.settled("node1", here.name) == full


def test_a_deleted_tree_is_gone_everywhere(shared: Demo, here: Path) -> None:
    fill(here / "tree")
    shared.settled("node1", here.name)
    shutil.rmtree(here / "tree")
    assert shared.settled("node1", here.name) == {}


def test_a_tree_deleted_and_made_anew_at_once(shared: Demo, here: Path) -> None:
    fill(here / "tree")
    shared.settled("node1", here.name)
    shutil.rmtree(here / "tree")
    fill(here / "tree")
    (here / "tree" / "d0" / "other").write_text("anew")
    shared.settled("node1", here.name)


def test_symlinks_are_replicated_as_they_are(shared: Demo, here: Path, tmp_path: Path) -> None:
    (here / "directory").mkdir()
    (here / "file").write_text("x")
    for name, target in {
        "dangling": "nowhere",
        "to-file": "file",
        "to-directory": "directory",
        "up": "..",
        "itself": "itself",
        "outside": str(tmp_path),
        "long": "x" * 4000,
        "bytes": os.fsdecode(b"\xff\n"),
    }.items():
        (here / name).symlink_to(target)
    shared.settled("node1", here.name)
    (here / "dangling").unlink()
    (here / "dangling").symlink_to("still-nowhere")
    (here / "to-directory").unlink()
    (here / "to-directory").mkdir()
    (here / "to-directory" / "inside").write_text("x")
    shutil.rmtree(here / "directory")
    (here / "directory").symlink_to("to-directory")
    (here / "up").rename(here / "moved")
    shared.settled("node1", here.name)


def test_nothing_is_written_through_a_symlink(shared: Demo, here: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (here / "link").symlink_to(outside)
    shared.settled("node1", here.name)
    (here / "link").unlink()
    (here / "link").mkdir()
    (here / "link" / "file").write_text("x")
    shared.settled("node1", here.name)
    assert list(outside.iterdir()) == []


def test_modes_of_directories_are_everywhere_also_read_only_ones(shared: Demo, here: Path) -> None:
    fill(here / "tree")
    shared.settled("node1", here.name)
    (here / "tree" / "d0").chmod(0o555)
    (here / "tree" / "d1").chmod(0o700)
    (here / "tree" / "d2" / "other").chmod(0o444)
    shared.settled("node1", here.name)
    (here / "tree" / "d0").chmod(0o755)
    (here / "tree" / "d0" / "other").write_text("behind a door that was closed")
    (here / "tree" / "d0").chmod(0o555)
    shared.settled("node1", here.name)
    (here / "tree" / "d0").chmod(0o755)
    shutil.rmtree(here / "tree")
    shared.settled("node1", here.name)


NAMES = [
    b"new\nline",
    b"-rf",
    b"--",
    b"\xff\xfe\x80 not text",
    b"x" * 255,
    "é".encode() * 127,
    "e\u0301".encode(),
    b" ",
    b"*?[a]",
    b"back\\slash",
    b"'quoted\"",
    b"...",
    b"\x01\x7f\t",
    b".hidden",
    b"~",
    b"#",
    b"!",
]


def test_unusual_names_are_kept_byte_for_byte(shared: Demo, here: Path) -> None:
    root = os.fsencode(here)
    for name in NAMES:
        directory = os.path.join(root, b"in", name)
        os.makedirs(directory)
        Path(os.fsdecode(os.path.join(root, name))).write_bytes(name)
        Path(os.fsdecode(os.path.join(directory, name))).write_bytes(name)
    assert len(shared.settled("node1", here.name)) == 3 * len(NAMES) + 1
    os.rename(os.path.join(root, b"in"), os.path.join(root, b"moved"))
    for name in NAMES:
        Path(os.fsdecode(os.path.join(root, name))).write_bytes(b"changed")
        os.unlink(os.path.join(root, b"moved", name, name))
    shared.settled("node1", here.name)


def test_a_directory_called_like_ours_is_a_directory_like_others_below_the_root(shared: Demo, here: Path) -> None:
    (here / "below" / ".onefold").mkdir(parents=True)
    (here / "below" / ".onefold" / "id").write_text("not ours")
    assert b"below/.onefold/id" in shared.settled("node1", here.name)


def test_a_deep_tree_is_everywhere(shared: Demo, here: Path) -> None:
    below = here
    for level in range(100):
        below = below / f"{level:020}"
    below.mkdir(parents=True)
    (below / "file").write_text("deep")
    assert len(shared.settled("node1", here.name)) == 101
    top = next(here.iterdir())
    top.rename(here / "renamed")
    shared.settled("node1", here.name)
    shutil.rmtree(here / "renamed")
    shared.settled("node1", here.name)


def test_growth_of_a_file_that_stays_open_is_seen_before_it_is_closed(shared: Demo, here: Path) -> None:
    done = threading.Event()

    def grow() -> None:
        with (here / "growing").open("wb", buffering=0) as file:
            while not done.wait(0.01):
                file.write(b"x" * 1000)

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        for node in ("node2", "node3"):
            copy = shared.folder(node) / here.name / "growing"
            eventually(lambda copy=copy: copy.exists() and copy.stat().st_size)
            size = copy.stat().st_size
            eventually(lambda copy=copy, size=size: copy.stat().st_size > size)
    finally:
        done.set()
        writer.join()
    shared.settled("node1", here.name)


def test_a_file_that_is_held_open_and_rests_is_everywhere(shared: Demo, here: Path) -> None:
    with (here / "open").open("wb", buffering=0) as file:
        for part in (b"one", b"two"):
            file.write(part)
            shared.settled("node1", here.name)


def test_pipes_and_sockets_are_named_and_stop_nothing(shared: Demo, here: Path) -> None:
    os.mkfifo(here / "pipe")
    (here / "file").write_text("x")
    shared.wait()
    assert (shared.folder("node2") / here.name / "file").read_text() == "x"
    assert not (shared.folder("node2") / here.name / "pipe").exists()
    named = [problem["where"] for problem in shared.status()["nodes"]["node1"]["problems"]]
    assert f"{here.name}/pipe" in named
    (here / "pipe").unlink()
    shared.settled("node1", here.name)


def test_nothing_was_kept_aside_and_no_problem_is_left(shared: Demo) -> None:
    """The last of its module: none of the tests before made an edit anywhere but on the leader."""
    shared.settled("node1")
    for name, node in shared.status()["nodes"].items():
        assert (name, node["strays"], node["problems"]) == (name, 0, [])
        assert node["in_place"] == node["applied"]
