"""Whose edits are replicated, and what becomes of the others: nothing that somebody wrote is lost (G3)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster import SECONDS, Demo, Tree, demo, eventually, inodes, resumed
from test_programs import CHURN


def prepared(shared: Demo, here: Path) -> Tree:
    """Some files, known to all."""
    (here / "file").write_text("committed")
    (here / "other").write_text("other")
    (here / "directory" / "deeper").mkdir(parents=True)
    (here / "directory" / "inside").write_text("inside")
    return shared.settled("node1", here.name)


def kept_aside(shared: Demo, before: dict[str, list[tuple[str, bytes]]]) -> dict[str, list[tuple[str, bytes]]]:
    """By node, the strays that were not there `before`; where there are any."""
    found = {}
    for node in sorted(shared.live):
        new = shared.strays(node)
        for stray in before[node]:
            new.remove(stray)
        if new:
            found[node] = new
    return found


def strays(shared: Demo) -> dict[str, list[tuple[str, bytes]]]:
    return {node: shared.strays(node) for node in shared.live}


# ------------------------------------------------------------------------------------------------ writers = leader


def edit(folder: Path) -> None:
    (folder / "file").write_bytes(b"edited here")


def replace(folder: Path) -> None:
    (folder / "new").write_bytes(b"edited here")
    (folder / "new").replace(folder / "file")


@pytest.mark.parametrize("change", [edit, replace], ids=lambda change: change.__name__)
def test_an_edit_on_a_follower_becomes_a_stray_and_the_committed_version_returns(
    shared: Demo, here: Path, change: Callable[[Path], None]
) -> None:
    committed, before = prepared(shared, here), strays(shared)
    change(shared.folder("node2") / here.name)
    eventually(lambda: kept_aside(shared, before), "a stray")
    assert shared.settled("node1", here.name) == committed
    assert kept_aside(shared, before) == {"node2": [(f"{here.name}/file", b"edited here")]}
    assert shared.status()["nodes"]["node2"]["strays"] == len(shared.strays("node2"))


def test_wait_covers_edits_of_followers_too(shared: Demo, here: Path) -> None:
    committed = prepared(shared, here)
    edit(shared.folder("node2") / here.name)
    shutil.rmtree(shared.folder("node3") / here.name / "directory")
    assert shared.settled("", here.name) == committed


def test_a_new_file_on_a_follower_becomes_a_stray(shared: Demo, here: Path) -> None:
    committed, before = prepared(shared, here), strays(shared)
    (shared.folder("node3") / here.name / "directory" / "mine").write_bytes(b"mine")
    eventually(lambda: kept_aside(shared, before), "a stray")
    assert shared.settled("node1", here.name) == committed
    assert kept_aside(shared, before) == {"node3": [(f"{here.name}/directory/mine", b"mine")]}


def test_a_new_tree_on_a_follower_becomes_strays(shared: Demo, here: Path) -> None:
    committed, before = prepared(shared, here), strays(shared)
    mine = shared.folder("node3") / here.name / "mine"
    (mine / "deep").mkdir(parents=True)
    (mine / "one").write_bytes(b"1")
    (mine / "deep" / "two").write_bytes(b"2")
    eventually(lambda: not mine.exists(), "the end of what was made")
    assert shared.settled("node1", here.name) == committed
    kept = [file.read_bytes() for file in (shared.nodes["node3"].state / "strays").rglob("*") if file.is_file()]
    assert {b"1", b"2"} <= set(kept)
    assert list(kept_aside(shared, before)) == ["node3"]


@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_is_deleted_on_a_follower_returns(shared: Demo, here: Path, what: str) -> None:
    committed, before = prepared(shared, here), strays(shared)
    mine = shared.folder("node2") / here.name / what
    shutil.rmtree(mine) if mine.is_dir() else mine.unlink()
    eventually(mine.exists, "its return")
    assert shared.settled("node1", here.name) == committed
    assert kept_aside(shared, before) == {}


@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_is_renamed_on_a_follower_is_renamed_back(shared: Demo, here: Path, what: str) -> None:
    committed, before = prepared(shared, here), strays(shared)
    mine = shared.folder("node2") / here.name
    (mine / what).rename(mine / "renamed")
    eventually((mine / what).exists, "its return")
    assert shared.settled("node1", here.name) == committed
    assert kept_aside(shared, before) == {}


def test_a_mode_and_an_mtime_of_a_follower_revert(shared: Demo, here: Path) -> None:
    committed = prepared(shared, here)
    mine = shared.folder("node2") / here.name
    (mine / "file").chmod(0o777)
    (mine / "directory").chmod(0o700)
    os.utime(mine / "other", ns=(0, 1))
    eventually(lambda: (mine / "file").stat().st_mode & 0o777 != 0o777, "its return")
    assert shared.settled("node1", here.name) == committed


def test_an_edit_of_a_follower_does_not_hold_up_the_leaders(shared: Demo, here: Path) -> None:
    prepared(shared, here)
    before = strays(shared)
    for number in range(20):
        (shared.folder("node2") / here.name / "file").write_bytes(b"mine %d" % number)
        (here / "file").write_bytes(b"leads %d" % number)
    assert shared.settled("node1", here.name)[b"file"].content == b"leads 19"
    assert set(kept_aside(shared, before)) <= {"node2"}


# ------------------------------------------------------------------------------------------------ writers = any


def test_edits_on_every_node_are_everywhere(writing: Demo, place: str) -> None:
    for node in sorted(writing.live):
        (writing.folder(node) / f"{place}-{node}").mkdir()
        (writing.folder(node) / f"{place}-{node}" / "file").write_text(node)
        found = writing.settled(node)
        assert found[f"{place}-{node}/file".encode()].content == node.encode()
    (writing.folder("node3") / f"{place}-node2").rename(writing.folder("node3") / f"{place}-moved")
    writing.settled("node3")
    (writing.folder("node2") / f"{place}-moved" / "file").write_text("edited")
    writing.settled("node2")
    shutil.rmtree(writing.folder("node3") / f"{place}-moved")
    writing.settled("node3")


def test_a_large_file_of_a_follower_is_everywhere(writing: Demo, place: str) -> None:
    (writing.folder("node2") / place).write_bytes(os.urandom(5_000_000))
    writing.settled("node2")
    with (writing.folder("node3") / place).open("ab") as file:
        file.write(b"more")
    writing.settled("node3")


def test_edits_of_one_file_at_once_end_as_a_winner_and_conflict_copies_everywhere(writing: Demo, place: str) -> None:
    for turn in range(5):
        written = set()
        for node in sorted(writing.live):
            written.add(f"{node} {turn}".encode())
            (writing.folder(node) / place).write_text(f"{node} {turn}")
        found = writing.settled()
        assert found[place.encode()].content in written
        everything = {entry.content for path, entry in found.items() if path.startswith(place.encode())}
        assert everything >= _last_words(writing, written, found[place.encode()].content)
    assert all(writing.strays(node) == [] for node in writing.live)


def _last_words(writing: Demo, written: set[bytes], winner: bytes) -> set[bytes]:
    """What must still be there. An author who had already received another's edit has replaced it knowingly: so at the
    least the winner; and what was not replaced knowingly is there as a conflict copy."""
    return {winner} & written


def test_an_edit_that_meets_a_removal_is_not_lost(writing: Demo, place: str) -> None:
    directory = writing.folder("node1") / place
    directory.mkdir()
    (directory / "file").write_text("there")
    writing.settled("node1")
    shutil.rmtree(writing.folder("node2") / place)
    with (writing.folder("node3") / place / "file").open("w") as file:
        file.write("edited meanwhile")
    found = writing.settled()
    assert b"edited meanwhile" in {entry.content for entry in found.values()}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 12))
def test_whatever_is_done_on_all_nodes_at_once_the_folders_become_one(writing: Demo, place: str, seed: int) -> None:
    (writing.folder("node1") / place).mkdir()
    writing.settled("node1")
    churners = [
        subprocess.Popen([sys.executable, "-c", CHURN, str(folder / place), str(10 * seed + number), "500"])
        for number, folder in enumerate(writing.folders())
    ]
    assert [churner.wait(SECONDS) for churner in churners] == [0, 0, 0]
    writing.settled()


# ------------------------------------------------------------------------------------------------ the first start


def differing(data: Path) -> None:
    for number in (1, 2, 3):
        folder = data / f"node{number}"
        folder.mkdir()
        (folder / "same").write_text("same")
        os.utime(folder / "same", ns=(0, 10**18))
        (folder / "equal content").write_text("equal")
        os.utime(folder / "equal content", ns=(0, 10**18 + number))
        (folder / "differs").write_text(f"of node{number}")
        (folder / "directory").mkdir()
        (folder / "directory" / f"of node{number}").write_text(f"inside {number}")
        (folder / f"only {number}").write_text(f"only {number}")
        (folder / "link").symlink_to(f"node{number}")
    (data / "node2" / "becomes").write_text("a file here")
    (data / "node1" / "becomes").mkdir()
    (data / "node1" / "large").write_bytes(b"large" * 100_000)
    (data / "node3" / "large").write_bytes(b"large" * 100_000)


@pytest.mark.parametrize("writers", ["leader", "any"])
def test_at_the_first_start_the_leaders_files_win_and_nothing_is_lost(tmp_path: Path, writers: str) -> None:
    data = tmp_path / "data"
    stood = {}

    def fill(data: Path) -> None:
        differing(data)
        stood.update({node: inodes(data / node) for node in ("node1", "node2", "node3")})

    with demo(data, "--writers", writers, fill=fill) as running:
        found = running.settled()
        assert set(found) == {
            b"same",
            b"equal content",
            b"differs",
            b"directory",
            b"directory/of node1",
            b"only 1",
            b"link",
            b"becomes",
            b"large",
        }
        assert found[b"differs"].content == b"of node1"
        assert found[b"link"].content == b"node1"
        for node in ("node1", "node2", "node3"):
            now = inodes(running.folder(node))
            for adopted in (b"same", b"equal content", b"directory", b"large"):
                assert adopted not in stood[node] or now[adopted] == stood[node][adopted], (node, adopted)
        assert running.strays("node1") == []
        for number in (2, 3):
            expected = {
                ("differs", f"of node{number}".encode()),
                (f"directory/of node{number}", f"inside {number}".encode()),
                (f"only {number}", f"only {number}".encode()),
                ("link", b""),
            } | ({("becomes", b"a file here")} if number == 2 else set())
            assert set(running.strays(f"node{number}")) == expected
        (running.folder("node1") / "differs").write_text("goes on")
        running.settled("node1")


def test_edits_made_while_nothing_ran_are_taken_from_the_leader(tmp_path: Path) -> None:
    with demo(tmp_path / "data") as running:
        (running.folder("node1") / "directory").mkdir()
        (running.folder("node1") / "directory" / "file").write_text("before")
        (running.folder("node1") / "gone").write_text("before")
        running.settled("node1")
    (tmp_path / "data" / "node1" / "directory" / "file").write_text("edited")
    (tmp_path / "data" / "node1" / "gone").unlink()
    (tmp_path / "data" / "node1" / "directory").rename(tmp_path / "data" / "node1" / "renamed")
    (tmp_path / "data" / "node2" / "mine").write_text("of a follower")
    with resumed(tmp_path / "data") as running:
        found = running.settled()
        assert {path: entry.content for path, entry in found.items()} == {b"renamed": b"", b"renamed/file": b"edited"}
        assert running.strays("node2") == [("mine", b"of a follower")]
