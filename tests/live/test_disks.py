"""Disks that are full, closed, gone or broken: a named problem, no damage, and recovery without a restart (G3)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cluster
import pytest
from cluster import Demo, Tree, demo, eventually, resumed, tree
from disks import Disk, disk

WITHOUT_POWERS = [
    "setpriv",
    "--bounding-set=-dac_override,-dac_read_search",
    "--inh-caps=-dac_override,-dac_read_search",
]
"""Before a command: root that must keep to permissions."""


def pids(running: Demo) -> dict[str, str]:
    """The node processes: the same as before, when none has been restarted."""
    return {name: (config.state / "node.pid").read_text() for name, config in running.nodes.items()}


def problems(running: Demo, node: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = running.status()["nodes"][node]["problems"]
    return found


def role(running: Demo, node: str) -> Any:
    return running.status()["nodes"][node]["role"]


def named(running: Demo, node: str, what: str, where: str = "") -> None:
    """Wait until `node` tells of such a problem, with a fix."""

    def told() -> bool:
        return any(what in p["what"] and where in p["where"] and p["fix"] for p in problems(running, node))

    eventually(told, f"{node} tells that {what}")


def healed(running: Demo, like: str, before: dict[str, str]) -> Tree:
    """No problem is left, no process was restarted, and all folders are what that of `like` is."""
    eventually(lambda: not any(problems(running, node) for node in running.nodes), "the end of all problems")
    assert pids(running) == before
    return running.settled(like)


def written(running: Demo, name: str, others: tuple[str, ...] = ("node1", "node3")) -> None:
    """An edit on the leader, which comes to those `others`."""
    leader = running.leader()
    (running.folder(leader) / name).write_text(f"{name} " * 1000)
    expected = tree(running.folder(leader))
    eventually(lambda: all(tree(running.folder(other)) == expected for other in others), f"{name} on {others}")


# ------------------------------------------------------------------------------------------------ a follower's folder


@pytest.fixture(scope="module")
def follower(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Demo, Disk]]:
    """Three nodes; the folder of node2, which does not lead, is on a disk of its own."""
    home = tmp_path_factory.mktemp("disks")
    with disk(home / "image", home / "data" / "node2") as small, demo(home / "data") as running:
        running.settled()
        yield running, small


def fill_up(small: Disk) -> None:
    small.fill()


def use_up_inodes(small: Disk) -> None:
    small.use_up_inodes()


def close(small: Disk) -> None:
    small.read_only(True)


def open_again(small: Disk) -> None:
    small.read_only(False)


def free(small: Disk) -> None:
    small.free()


@pytest.mark.parametrize(
    ("break_it", "mend", "what", "fix"),
    [
        (fill_up, free, "the disk is full", "free space"),
        pytest.param(use_up_inodes, free, "the disk has no inode left", "remove files", marks=pytest.mark.slow),
        pytest.param(close, open_again, "the file system is read-only", "remount it", marks=pytest.mark.slow),
    ],
    ids=["full", "inodes", "read-only"],
)
def test_a_followers_folder_that_takes_nothing_more_is_told_and_catches_up_by_itself(
    follower: tuple[Demo, Disk], break_it: Callable[[Disk], None], mend: Callable[[Disk], None], what: str, fix: str
) -> None:
    running, small = follower
    before = pids(running)
    (running.folder("node1") / f"going-{what}").write_text("is to go")
    running.settled("node1")
    break_it(small)
    written(running, f"new-{what}")
    named(running, "node2", what, f"new-{what}")
    assert fix in problems(running, "node2")[0]["fix"]
    running.wait()  # a problem that has a name is not waited for
    if break_it is not close:  # removing needs no room
        (running.folder("node1") / f"going-{what}").unlink()
        eventually(lambda: not (running.folder("node2") / f"going-{what}").exists(), "the removal")
    mend(small)
    healed(running, "node1", before)


@pytest.mark.slow
def test_a_path_that_the_system_refuses_is_told_and_the_others_go_on(follower: tuple[Demo, Disk]) -> None:
    running, _ = follower
    before = pids(running)
    directory = running.folder("node1") / "closed"
    directory.mkdir()
    (directory / "file").write_text("first")
    running.settled("node1")
    mine = running.folder("node2") / "closed"
    subprocess.run(["chattr", "+i", str(mine)], check=True)
    try:
        (directory / "file").write_text("second, and longer")
        (running.folder("node1") / "beside").write_text("beside")
        named(running, "node2", "the system refuses it", "closed/file")
        assert (mine / "file").read_text() == "first"
        assert (running.folder("node2") / "beside").read_text() == "beside"
    finally:
        subprocess.run(["chattr", "-i", str(mine)], check=True)
    healed(running, "node1", before)


def test_a_followers_disk_that_is_unmounted_is_waited_for(follower: tuple[Demo, Disk]) -> None:
    running, small = follower
    before = pids(running)
    content = tree(running.folder("node1"))
    small.unmount()
    eventually(lambda: role(running, "node2") == "standby", "standing by")
    named(running, "node2", "as if its disk were not mounted")
    written(running, "while-unmounted")
    running.wait()
    assert list(running.folder("node2").iterdir()) == []  # nothing is put where the disk is missing
    assert "node2 stands by" in running.command("confirm", "node2").stderr
    small.mount()
    assert content.keys() <= healed(running, "node1", before).keys()


# ------------------------------------------------------------------------------------------------ the leader's


@pytest.mark.slow
def test_a_leader_with_a_full_state_directory_stands_by_and_another_leads(tmp_path: Path) -> None:
    with (
        disk(tmp_path / "image", tmp_path / "data" / ".onefold" / "node1", mib=400) as small,
        demo(tmp_path / "data") as running,
    ):
        (running.folder("node1") / "first").write_text("first")
        running.settled("node1")
        before = pids(running)
        small.fill()
        last = running.folder("node1") / "last"
        last.write_text("written to a leader that cannot go on " * 100)
        eventually(lambda: role(running, "node1") == "standby", "standing by")
        named(running, "node1", "the disk is full")
        eventually(lambda: running.leader() in ("node2", "node3"), "another leader")
        (running.folder(running.leader()) / "second").write_text("second")
        running.live.discard("node1")
        running.settled(running.leader())
        small.free()
        running.live.add("node1")
        eventually(lambda: running.leader() == "node1", "the first leader's return")
        kept = healed(running, "node1", before).keys() | {os.fsencode(path) for path, _ in running.strays("node1")}
        assert {b"first", b"second", b"last"} <= kept


@pytest.mark.slow
def test_a_leader_whose_folder_is_unmounted_gives_way_and_nothing_is_removed(tmp_path: Path) -> None:
    with disk(tmp_path / "image", tmp_path / "data" / "node1") as small, demo(tmp_path / "data") as running:
        (running.folder("node1") / "file").write_text("file")
        expected = running.settled("node1")
        before = pids(running)
        small.unmount()
        eventually(lambda: running.leader() in ("node2", "node3"), "another leader")
        running.live.discard("node1")
        assert running.settled() == expected
        running.live.add("node1")
        small.mount()
        eventually(lambda: running.leader() == "node1", "the first leader's return")
        assert healed(running, "node1", before) == expected


@pytest.mark.slow
def test_a_leader_whose_folder_is_full_goes_on_leading(tmp_path: Path) -> None:
    with disk(tmp_path / "image", tmp_path / "data" / "node1") as small, demo(tmp_path / "data") as running:
        (running.folder("node1") / "large").write_bytes(os.urandom(1 << 20))
        running.settled("node1")
        before = pids(running)
        small.fill()
        (running.folder("node1") / "large").rename(running.folder("node1") / "renamed")
        running.settled("node1")
        assert running.leader() == "node1"
        small.free()
        healed(running, "node1", before)


# ------------------------------------------------------------------------------------------------ worse


@pytest.mark.slow
def test_a_followers_disk_that_breaks_can_be_replaced(tmp_path: Path) -> None:
    with disk(tmp_path / "image", tmp_path / "data" / "node2") as small, demo(tmp_path / "data") as running:
        for number in range(50):
            (running.folder("node1") / f"file{number}").write_text(f"{number} " * 1000)
        running.settled("node1")
        before = pids(running)
        small.break_down()
        named(running, "node2", "Input/output error")
        written(running, "while-broken")
        small.replace()
        healed(running, "node1", before)


@pytest.mark.slow
@pytest.mark.parametrize("break_it", [fill_up, use_up_inodes], ids=["full", "inodes"])
def test_a_follower_whose_state_directory_takes_nothing_more_stands_by(
    tmp_path: Path, break_it: Callable[[Disk], None]
) -> None:
    with (
        disk(tmp_path / "image", tmp_path / "data" / ".onefold" / "node2", mib=400) as small,
        demo(tmp_path / "data") as running,
    ):
        running.settled()
        before = pids(running)
        break_it(small)
        for number in range(5):
            written(running, f"file{number}")
            (running.folder("node1") / f"large{number}").write_bytes(os.urandom(300_000))
        running.live.discard("node2")
        running.settled("node1")
        named(running, "node2", "the disk")
        small.free()
        running.live.add("node2")
        healed(running, "node1", before)


@pytest.mark.slow
def test_what_a_leader_may_not_read_is_told_and_proposed_once_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root, and setpriv to take its powers away")
    monkeypatch.setattr(cluster, "ONEFOLD", [*WITHOUT_POWERS, *cluster.ONEFOLD])
    with demo(tmp_path / "data") as running:
        folder = running.folder("node1")
        (folder / "directory").mkdir()
        (folder / "directory" / "inside").write_text("inside")
        running.settled("node1")
        before = pids(running)
        strangers = folder / "directory"
        os.chown(strangers, 1, 1)
        strangers.chmod(0o700)
        (strangers / "new").write_text("new")
        (folder / "beside").write_text("beside")
        named(running, "node1", "permission", "directory")
        eventually((running.folder("node2") / "beside").exists, "what may be read")
        assert (running.folder("node2") / "directory" / "inside").read_text() == "inside"
        strangers.chmod(0o755)
        eventually((running.folder("node2") / "directory" / "new").exists, "what may be read now")
        healed(running, "node1", before)


# ------------------------------------------------------------------------------------------------ the guard


def test_a_leader_that_starts_with_most_of_its_folder_gone_asks_before_it_removes_that(tmp_path: Path) -> None:
    def fill(data: Path) -> None:
        for number in range(12):
            directory = data / "node1" / "all" / f"directory{number}"
            directory.mkdir(parents=True)
            for file in range(10):
                (directory / f"file{file}").write_text(f"{number} {file}")

    mine = tmp_path / "data" / "node1"
    with demo(tmp_path / "data", fill=fill) as running:
        whole = running.settled("node1")
    (mine / "all").rename(mine / "renamed")  # which is not gone
    shutil.move(mine / "renamed", tmp_path / "elsewhere")
    (mine / "edit").write_text("made while nothing ran")
    with resumed(tmp_path / "data") as running:
        named(running, "node1", "133 of the 133")
        (mine / "later").write_text("while it asks")
        (running.folder("node1") / "edit").unlink()
        running.wait()
        assert tree(running.folder("node2")).keys() == whole.keys() | {b"later"}  # all else goes on
        shutil.copytree(tmp_path / "elsewhere" / "directory0", mine / "all" / "directory0")
        named(running, "node1", "121 of the 133")
        assert "121 files and directories" in running.does("confirm")
        left = running.settled("node1").keys()
        assert left == {b"all", b"all/directory0", *(b"all/directory0/file%d" % file for file in range(10)), b"later"}
        assert "nothing is to be confirmed on node1" in running.does("confirm", "node1")
