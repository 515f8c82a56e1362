"""Nodes that stop, die and come back; and who leads meanwhile. Each test has a cluster of its own to break."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from pathlib import Path

import psutil
import pytest
from cluster import SECONDS, Demo, demo, eventually, resumed


def leads(running: Demo, *nodes: str) -> str:
    """Who of `nodes` leads, once one of them does."""
    eventually(lambda: running.leader() in nodes, f"leadership of {' or '.join(nodes)}")
    return running.leader()


def edit(running: Demo, node: str, name: str) -> None:
    """Make a file on `node` and wait until it is on all live nodes."""
    (running.folder(node) / name).write_text(f"by {node}")
    copies = [folder / name for folder in running.folders()]
    eventually(lambda: all(copy.exists() for copy in copies), f"{name} everywhere")


def test_leadership_moves_by_command_and_stays(own: Demo) -> None:
    assert "node3 leads" in own.does("leader", "move", "node3")
    assert own.does("leader", "show").strip() == "node3"
    edit(own, "node3", "by-command")
    (own.folder("node1") / "mine").write_text("no longer the leader's")
    eventually(lambda: own.strays("node1") == [("mine", b"no longer the leader's")], "a stray")
    own.settled("node3")
    own.does("leader", "move", "node1")
    edit(own, "node1", "back")
    own.settled("node1")


def test_writes_go_on_while_leadership_moves_and_none_is_lost(own: Demo) -> None:
    for turn in range(3):
        for node in ("node2", "node3", "node1"):
            leader = own.leader()
            names = [f"{turn}-{node}-{number}" for number in range(50)]
            for name in names:
                (own.folder(leader) / name).write_text(name)
            own.does("leader", "move", node)
            found = own.settled()
            assert set(map(os.fsencode, names)) <= set(found)
    assert all(own.strays(node) == [] for node in own.live)


def test_a_stopped_leader_hands_over_and_catches_up_when_it_returns(own: Demo) -> None:
    edit(own, "node1", "before")
    own.stop_node("node1")
    leader = leads(own, "node2", "node3")
    edit(own, leader, "meanwhile")
    shutil.rmtree(own.folder(leader) / "before", ignore_errors=True)
    (own.folder(leader) / "before").unlink()
    own.start_node("node1")
    eventually(lambda: not (own.folder("node1") / "before").exists(), "the removal")
    leads(own, "node1")
    edit(own, "node1", "after")
    found = own.settled("node1")
    assert set(found) == {b"meanwhile", b"after"}


def test_after_the_leaders_death_edits_flow_on_and_it_recovers(own: Demo) -> None:
    for number in range(100):
        (own.folder("node1") / f"before-{number}").write_text("x")
    edit(own, "node1", "before")
    own.kill_node("node1")
    leader = leads(own, "node2", "node3")
    edit(own, leader, "meanwhile")
    (own.folder(leader) / "before-1").unlink()
    (own.folder(leader) / "before-2").rename(own.folder(leader) / "renamed")
    (own.folder(leader) / "before-3").write_text("edited")
    own.settled(leader)
    own.start_node("node1")
    found = own.settled(leader)
    assert b"renamed" in found
    assert found[b"before-3"].content == b"edited"
    leads(own, "node1")
    edit(own, "node1", "after")
    own.settled("node1")
    assert all(own.strays(node) == [] for node in own.live)


def test_nothing_that_was_written_on_a_dying_leader_is_lost(own: Demo) -> None:
    done = threading.Event()
    written = []

    def write() -> None:
        while not done.is_set():
            name = f"{len(written)}"
            (own.folder("node1") / name).write_text(name)
            written.append(name)
            done.wait(0.001)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        eventually(lambda: len(written) > 100)
        own.kill_node("node1")
    finally:
        done.set()
        writer.join()
    leader = leads(own, "node2", "node3")
    own.settled(leader)
    own.start_node("node1")
    own.wait()
    found = own.settled()
    kept = {Path(path).name for path, _ in own.strays("node1")}
    assert set(written) <= {os.fsdecode(path) for path in found} | kept


def test_the_death_of_the_node_process_alone_changes_who_leads_and_it_returns(own: Demo) -> None:
    edit(own, "node1", "before")
    state = own.nodes["node1"].state
    etcd, node = (state / "etcd.pid").read_text(), (state / "node.pid").read_text()
    own.does("demo", "kill", "node1", "--node-only")
    edit(own, leads(own, "node2", "node3"), "meanwhile")
    eventually(lambda: (state / "node.pid").exists() and (state / "node.pid").read_text() not in ("", node))
    assert (state / "etcd.pid").read_text() == etcd
    leads(own, "node1")
    edit(own, "node1", "after")
    own.settled("node1")


def test_a_follower_that_missed_changes_catches_up(own: Demo) -> None:
    folder = own.folder("node1")
    for number in range(50):
        (folder / "tree" / f"{number}").mkdir(parents=True)
        (folder / "tree" / f"{number}" / "file").write_text(f"{number}")
    (folder / "large").write_bytes(b"x" * 3_000_000)
    own.settled("node1")
    own.stop_node("node3")
    (folder / "tree").rename(folder / "moved")
    (folder / "moved" / "1" / "file").write_text("edited")
    shutil.rmtree(folder / "moved" / "2")
    with (folder / "large").open("r+b") as file:
        file.write(b"changed")
    for number in range(300):
        (folder / f"new-{number}").write_text("new")
    own.settled("node1")
    (own.folder("node3") / "mine").write_text("made while it was down")
    own.start_node("node3")
    own.settled("node1")
    assert own.strays("node3") == [("mine", b"made while it was down")]


def test_a_follower_killed_while_much_arrives_recovers(own: Demo) -> None:
    folder = own.folder("node1")
    for turn in range(3):
        for number in range(300):
            (folder / f"{turn}-{number % 7}").mkdir(exist_ok=True)
            (folder / f"{turn}-{number % 7}" / f"{number}").write_text("x" * number)
        own.does("demo", "kill", "node2", "--node-only")
        if turn:
            (folder / f"{turn - 1}-0").rename(folder / f"moved-{turn}")
            shutil.rmtree(folder / f"{turn - 1}-1")
    eventually(lambda: own.roles()["node2"] == "voter", "the return of node2")
    own.settled("node1")
    assert own.strays("node2") == []


def test_a_wiped_follower_adopts_what_stands_and_keeps_the_rest_aside(own: Demo) -> None:
    (own.folder("node1") / "file").write_text("committed")
    (own.folder("node1") / "other").write_text("other")
    own.settled("node1")
    own.stop_node("node3")
    (own.folder("node1") / "meanwhile").write_text("missed")
    (own.folder("node3") / "file").write_text("edited while it was down")
    stood = (own.folder("node3") / "other").stat().st_ino
    state = own.nodes["node3"].state
    for entry in state.iterdir():
        if entry.name in ("node.toml", "tls", "etcd"):
            continue
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    own.start_node("node3")
    own.settled("node1")
    assert (own.folder("node3") / "other").stat().st_ino == stood
    assert own.strays("node3") == [("file", b"edited while it was down")]


def test_a_majority_lost_stops_commits_and_its_return_continues_them(own: Demo) -> None:
    edit(own, "node1", "before")
    own.kill_node("node2")
    own.kill_node("node3")
    (own.folder("node1") / "alone").write_text("waits for a majority")
    assert not (own.folder("node2") / "alone").exists()
    own.start_node("node2")
    own.start_node("node3")
    own.wait()
    found = own.settled()
    assert b"alone" in found or own.strays("node1") == [("alone", b"waits for a majority")]


def test_all_nodes_killed_at_once_resume(tmp_path: Path) -> None:
    with demo(tmp_path / "data") as running:
        for number in range(200):
            (running.folder("node1") / f"{number}").write_text("x")
        before = running.settled("node1")
        family = running.family()
        running.process.send_signal(signal.SIGKILL)
        running.process.wait(SECONDS)
        _, alive = psutil.wait_procs(family, timeout=SECONDS)
        assert not alive
    with resumed(tmp_path / "data") as again:
        assert again.settled("node1") == before
        edit(again, "node1", "after")
        assert all(again.strays(node) == [] for node in again.live)


@pytest.mark.parametrize(
    "nodes", [1, 2, pytest.param(4, marks=pytest.mark.slow), pytest.param(7, marks=pytest.mark.slow)]
)
def test_a_cluster_of_another_size(tmp_path: Path, nodes: int) -> None:
    with demo(tmp_path / "data", nodes=nodes) as running:
        (running.folder("node1") / "directory").mkdir()
        (running.folder("node1") / "directory" / "file").write_text("x")
        (running.folder("node1") / "large").write_bytes(b"x" * 1_000_000)
        assert len(running.settled("node1")) == 3
        voters = [role for role in running.roles().values() if role in ("leader", "voter")]
        assert len(voters) == {1: 1, 2: 1, 4: 3, 7: 5}[nodes]


def test_status_tells_the_truth_about_every_node(own: Demo) -> None:
    edit(own, "node1", "file")
    own.settled("node1")
    own.stop_node("node2")
    found = json.loads(own.does("status", "--json"))
    assert found["leader"] == "node1"
    nodes = {node["name"]: node for node in found["nodes"]}
    assert nodes["node2"] | {"role": "down", "applied": None, "digest": None} == nodes["node2"]
    for name in ("node1", "node3"):
        node = nodes[name]
        assert (node["files"], node["strays"], node["problems"]) == (1, 0, [])
        assert node["in_place"] == node["applied"] >= node["durable"]
    assert nodes["node1"]["digest"] == nodes["node3"]["digest"] != ""
