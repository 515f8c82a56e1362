"""`onefold verify`: what the disk damaged is named, does not spread, and is mended; edits go on meanwhile (G1, G3)."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import SECONDS, Demo, demo, eventually, inodes, resumed

from onefold.verify import EXIT_DIFFERENT

BLOCK_BYTES = 4096


def verify(running: Demo, *options: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """The exit code of `onefold verify`, and what each node found."""
    done = running.command("verify", "--json", *options)
    assert done.returncode in (0, EXIT_DIFFERENT), done.stderr
    return done.returncode, {node["name"]: node["findings"] for node in json.loads(done.stdout)["nodes"]}


def damage_row(running: Demo, node: str, name: str) -> None:
    """Change the row of the file called `name` in the catalogue of `node`, which does not run."""
    with sqlite3.connect(running.nodes[node].state / "catalogue.db") as db:
        assert db.execute("UPDATE rows SET mode = 0 WHERE name = ?", (name.encode(),)).rowcount == 1
    db.close()


def flip(path: Path, at: int) -> None:
    mode = path.stat().st_mode
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))
    path.chmod(mode)


def edit(running: Demo, name: str) -> None:
    """Make a file on the leader, and see it on all nodes whose catalogue can be trusted."""
    eventually(lambda: running.leader() in running.live, "a leader")
    (running.folder(running.leader()) / name).write_text(name)


def is_on(running: Demo, name: str, *nodes: str) -> None:
    for node in nodes:
        eventually((running.folder(node) / name).exists, f"{name} on {node}")


def problems(running: Demo, node: str) -> str:
    return " ".join(problem["what"] for problem in running.status()["nodes"][node]["problems"])


def test_all_is_well_on_a_cluster_that_works(shared: Demo, here: Path) -> None:
    (here / "sub").mkdir()
    (here / "sub" / "file").write_text("text")
    (here / "link").symlink_to("sub")
    (here / "large").write_bytes(os.urandom(5 << 20))
    (here / ".onefoldignore").write_text("")
    shared.wait()
    assert verify(shared) == (0, {"node1": [], "node2": [], "node3": []})
    assert "node2: all is well" in shared.does("verify", "--repair")


def test_edits_that_are_under_way_are_no_differences(shared: Demo, here: Path) -> None:
    ending = threading.Event()

    def churn() -> None:
        number = 0
        while not ending.wait(0.002):
            number += 1
            (here / f"file{number % 50}").write_bytes(b"%d" % number * 500)
            if number % 7 == 0:
                (here / f"file{number % 50}").rename(here / f"other{number % 11}")

    writer = threading.Thread(target=churn)
    writer.start()
    try:
        assert verify(shared, "--repair") == (0, {"node1": [], "node2": [], "node3": []})
    finally:
        ending.set()
        writer.join()
    shared.settled("node1")
    assert all(shared.strays(node) == [] for node in shared.live)


@pytest.mark.parametrize(
    "node", [pytest.param("node1", id="the preferred one", marks=pytest.mark.slow), pytest.param("node2", id="another")]
)
def test_g1_a_damaged_catalogue_is_found_stops_its_node_alone_and_is_made_anew(own: Demo, node: str) -> None:
    (own.folder("node1") / "victim").write_text("as it was")
    own.wait()
    own.stop_node(node)
    damage_row(own, node, "victim")
    own.start_node(node)
    edit(own, "before")
    own.wait()
    code, found = verify(own)
    assert code == EXIT_DIFFERENT
    assert [finding["where"] for finding in found.pop(node)] == [""]
    assert list(found.values()) == [[], []]
    assert "damaged" in problems(own, node)
    others = own.others(node)
    eventually(lambda: own.leader() in others, "another leader")
    edit(own, "meanwhile")
    is_on(own, "meanwhile", *others)
    stood = inodes(own.folder(node))
    code, found = verify(own, "--repair")
    assert code == 0
    assert [finding["mended"] for finding in found[node]] == [True]
    is_on(own, "meanwhile", node)
    own.settled(own.leader())
    assert stood.items() <= inodes(own.folder(node)).items()  # what was right was left alone
    assert own.strays(node) == []
    assert verify(own) == (0, {"node1": [], "node2": [], "node3": []})


def test_g1_an_odd_leader_stops_and_the_others_go_on(own: Demo) -> None:
    victim = own.folder("node1") / "victim"
    victim.write_text("as it was")
    own.wait()
    own.stop_node("node1")
    damage_row(own, "node1", "victim")
    own.start_node("node1")
    eventually(lambda: own.leader() == "node1", "leadership of the preferred node")
    victim.write_text("so that the row is applied to, and the digests part")
    eventually(lambda: "differs" in problems(own, "node1"), "a node that is odd")
    eventually(lambda: own.leader() in ("node2", "node3"), "another leader")
    assert own.command("leader", "move", "node1").returncode in (0, 4)  # it gives it up again
    eventually(lambda: own.leader() in ("node2", "node3"), "another leader")
    edit(own, "meanwhile")
    is_on(own, "meanwhile", "node2", "node3")
    assert not (own.folder("node1") / "meanwhile").exists()
    eventually(lambda: "node1 differs from that of the majority" in problems(own, "node2"), "a named node")
    code, found = verify(own, "--repair")
    assert (code, [finding["mended"] for finding in found["node1"]]) == (0, [True])
    is_on(own, "meanwhile", "node1")
    own.settled("node2")
    assert verify(own)[0] == 0


def test_a_catalogue_that_somebody_removed_is_made_anew_and_the_folder_left_alone(own: Demo) -> None:
    for number in range(20):
        (own.folder("node1") / f"file{number}").write_text("text")
    own.wait()
    stood = inodes(own.folder("node2"))
    own.stop_node("node2")
    for file in own.nodes["node2"].state.glob("catalogue.db*"):
        file.unlink()
    own.start_node("node2")
    (own.folder("node1") / "later").write_text("text")
    own.settled("node1")
    assert stood.items() <= inodes(own.folder("node2")).items()


def test_a_damaged_object_is_named_counts_no_more_and_is_fetched_again(own: Demo) -> None:
    for number in range(50):
        (own.folder("node1") / f"file{number}").write_bytes(os.urandom(4096))
    own.wait()
    (pack, *_) = (own.nodes["node2"].state / "objects").glob("[0-9a-f][0-9a-f]/*")
    whole = pack.read_bytes()
    flip(pack, len(whole) // 2)
    name = pack.parent.name + pack.name
    assert verify(own) == (
        EXIT_DIFFERENT,
        {"node1": [], "node2": [{"what": "an object is damaged", "where": name, "mended": False}], "node3": []},
    )
    assert "an object is damaged" in problems(own, "node2")
    code, found = verify(own, "--repair")
    assert (code, [finding["mended"] for finding in found["node2"]]) == (0, [True])
    assert pack.read_bytes() == whole
    assert own.status()["nodes"]["node2"]["problems"] == []
    assert verify(own)[0] == 0


# ------------------------------------------------------------------------------------------------ bit rot


class Disk:
    """An ext4 in a file, mounted at `place`, whose blocks can be changed behind its back."""

    def __init__(self, image: Path, place: Path) -> None:
        self.image = image
        self.place = place
        with image.open("wb") as file:
            file.truncate(64 << 20)
        _run("mkfs.ext4", "-q", "-F", "-b", str(BLOCK_BYTES), str(image))
        place.mkdir(parents=True)
        self.mount()
        shutil.rmtree(place / "lost+found")

    def mount(self) -> None:
        _run("mount", "-o", "loop", str(self.image), str(self.place))

    def unmount(self) -> None:
        _run("umount", str(self.place))

    def age(self, name: str) -> None:
        """As if the file had last been touched in the year 2020. Not mounted."""
        for field in ("mtime", "ctime"):
            _run("debugfs", "-w", "-R", f"set_inode_field {name} {field} 20200101000000", str(self.image))

    def rot(self, name: str) -> None:
        """Flip a bit in the first block of the file. Not mounted."""
        block = int(_run("debugfs", "-R", f"blocks {name}", str(self.image)).split()[0])
        flip(self.image, block * BLOCK_BYTES)

    def forget(self, name: str) -> None:
        """What memory holds of the file. Mounted."""
        with (self.place / name).open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        if os.path.ismount(self.place):
            self.unmount()


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS).stdout


@pytest.fixture(
    params=[
        pytest.param("node1", id="of the leader"),
        pytest.param("node2", id="of a follower", marks=pytest.mark.slow),
    ]
)
def rotting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Disk, str, Path]]:
    """A disk for the folder of a node, which holds an old file."""
    data = tmp_path / "data"
    try:
        disk = Disk(tmp_path / "image", data / request.param)
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        pytest.skip(f"needs the right to mount, and e2fsprogs: {error}")
    try:
        (disk.place / "old").write_bytes(b"text")
        disk.unmount()
        disk.age("old")
        disk.mount()
        if (disk.place / "old").stat().st_ctime != (disk.place / "old").stat().st_mtime:
            pytest.skip("another mount namespace holds the disk, so that it cannot be changed behind its back")
        yield disk, request.param, data
    finally:
        disk.close()


def test_g3_bit_rot_is_no_edit_it_is_named_and_replaced_and_its_bytes_are_kept(
    rotting: tuple[Disk, str, Path],
) -> None:
    disk, node, data = rotting
    others = [name for name in ("node1", "node2", "node3") if name != node]

    def everywhere(folder: Path) -> None:
        for other in others:  # as if it had been replicated in 2020
            (folder / other).mkdir(exist_ok=True)
            shutil.copy2(disk.place / "old", folder / other / "old")

    with demo(data, fill=everywhere) as running:
        running.settled("node1")
        whole = (running.folder(node) / "old").read_bytes()
    disk.unmount()
    disk.rot("old")
    disk.mount()
    disk.forget("old")  # another mount namespace may have held the disk
    with resumed(data) as running:
        running.wait()
        rotten = (running.folder(node) / "old").read_bytes()
        assert rotten != whole
        code, found = verify(running)
        assert code == EXIT_DIFFERENT
        assert [(finding["where"], finding["mended"]) for finding in found[node]] == [("old", False)]
        assert "without being written" in found[node][0]["what"]
        assert [found[other] for other in others] == [[], []]
        assert all((running.folder(other) / "old").read_bytes() == whole for other in others)
        assert "damaged" in problems(running, node)
        code, found = verify(running, "--repair")
        assert (code, [finding["mended"] for finding in found[node]]) == (0, [True])
        assert (running.folder(node) / "old").read_bytes() == whole
        assert running.strays(node) == [("old", rotten)]
        assert running.status()["nodes"][node]["mended"] == 1
        assert verify(running)[0] == 0
        running.settled("node1")
