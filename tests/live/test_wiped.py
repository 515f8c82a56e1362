"""Nodes whose state directory was deleted, as by a new disk: they come back by themselves, as voters."""

from __future__ import annotations

import shutil
import socket

import pytest
from cluster import Demo, eventually, resumed

from onefold.roster_copy import ETCD_CLIENT


def wipe(running: Demo, node: str) -> None:
    """Kill the node and delete its state directory: its settings and certificates, catalogue, base and etcd."""
    running.kill_node(node)
    shutil.rmtree(running.nodes[node].state)


def votes(running: Demo, node: str) -> bool:
    """Whether its etcd serves, which it does as a member that is in step."""
    address = running.nodes[node].me.address.plus(ETCD_CLIENT)
    with socket.socket() as asking:
        return asking.connect_ex((address.host, address.port)) == 0


def counts(running: Demo, node: str, third: str) -> None:
    """Without `third`, nothing can be committed but with the vote of `node`."""
    eventually(lambda: votes(running, node), f"the etcd of {node}")
    running.kill_node(third)
    leader = next(iter(running.others(node)))
    eventually(lambda: running.leader() in running.live, "a leader")
    name = f"with-{node}-without-{third}"
    (running.folder(running.leader()) / name).write_text(name)
    eventually(lambda: (running.folder(leader) / name).exists() and (running.folder(node) / name).exists(), name)
    running.start_node(third)


def test_a_follower_whose_state_is_gone_becomes_a_voter_again_and_counts(own: Demo) -> None:
    for number in range(20):
        (own.folder("node1") / f"before-{number}").write_text(f"{number}")
    before = own.settled("node1")
    wipe(own, "node2")
    (own.folder("node1") / "meanwhile").write_text("x")
    own.start_node("node2")
    assert len(own.settled("node1")) == len(before) + 1
    assert own.roles()["node2"] == "voter"
    assert own.strays("node2") == []
    counts(own, "node2", "node3")
    own.settled()


@pytest.mark.slow
def test_a_leader_whose_state_is_gone_becomes_a_voter_again_and_leads_again(own: Demo) -> None:
    (own.folder("node1") / "before").write_text("x")
    own.settled("node1")
    wipe(own, "node1")
    eventually(lambda: own.command("leader", "show").stdout.strip() in ("node2", "node3"), "another leader")
    own.start_node("node1")
    eventually(lambda: own.leader() == "node1", "the preferred leader's return")
    own.settled()
    counts(own, "node1", "node2")
    own.settled()


@pytest.mark.slow
def test_a_resumed_demo_makes_the_state_of_a_wiped_node_again(own: Demo) -> None:
    (own.folder("node1") / "before").write_text("x")
    own.settled("node1")
    own.close()
    shutil.rmtree(own.nodes["node3"].state)
    with resumed(own.data) as again:
        again.settled("node1")
        assert again.roles()["node3"] == "voter"
        counts(again, "node3", "node2")
        again.settled()
