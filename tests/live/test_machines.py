"""Clusters that grow and shrink: begun on one machine, joined from others, left again, while edits go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import eventually
from machines import Edits, Machines, machines

from onefold.invitation import read, written


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Machines]:
    with machines(tmp_path) as them:
        yield them


def test_a_second_machine_joins_votes_and_leaves_again(running: Machines) -> None:
    running.init("web1")
    (running.home("web1") / "www" / "before").write_text("there before anybody joined")
    running.join("web2", "web1")
    running.until_voting("web2", "web1", "web2")
    (running.home("web1") / "www" / "after").write_text("edited once there were two")
    assert {b"before", b"after"} <= set(running.settled(like="web1"))
    said = running.on("web2", "leave")
    assert running.ended("web2") == 0
    assert "its state is kept in" in said
    assert running.voting("web1") == {"web1"}
    assert (running.home("web2") / "www" / "after").exists()
    (running.home("web1") / "www" / "alone").write_text("web1 needs nobody")
    running.wait()
    refused = running.command("leave", "--config", str(running.nodes["web1"].path))
    assert refused.returncode == 2
    assert "web1 is the last node with a vote" in refused.stderr


def test_an_invitation_that_is_forged_used_or_for_another_node_lets_nobody_in(running: Machines) -> None:
    running.init("web1")
    folder = str(running.place / "elsewhere")

    def refused(text: str, name: str = "web2") -> str:
        done = running.command("join", text, folder, "--name", name, "--listen", running.address())
        assert done.returncode in (2, 4), done
        assert not running.settings(name).exists()
        return done.stderr

    assert "that is no invitation" in refused("onefold-join-%%%")
    eventually(lambda: running.command("token", "list", "--config", str(running.nodes["web1"].path)).returncode == 0)
    good = running.invite("web1", "--name", "web2")
    ticket = read(good)
    other = type(ticket)(ticket.addresses, ticket.authority, ticket.folder_id, "guessed")
    assert "not known here, was used, or has expired" in refused(written(other))
    other = type(ticket)(ticket.addresses, bytes(32), ticket.folder_id, ticket.secret)
    assert "its authority is another one" in refused(written(other))
    assert "this invitation is for web2, not for web9" in refused(good, "web9")
    short = running.invite("web1", "--expires", "1s")
    time.sleep(1.5)  # what is waited for is the clock
    assert "has expired" in refused(short)
    running.does("join", good, folder, "--name", "web2", "--listen", running.address())
    assert "this invitation was used by web2" in refused(good, "web3")
    running.does("remove", "web2", "--config", str(running.nodes["web1"].path))
    assert set(running.members("web1")) == {"web1"}


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_cluster_grows_from_one_to_five_and_shrinks_again_while_edits_go_on(running: Machines) -> None:
    running.init("web1")
    assert running.leads("web1") == "web1"
    names = ["web1"]
    with Edits(running, "web1") as edits:
        for number in range(2, 6):
            begun = time.monotonic()
            names.append(f"web{number}")
            running.join(names[-1], "web1")
            running.until_voting("web1", *names)
            print(f"{names[-1]} votes {time.monotonic() - begun:.1f} s after its invitation; pause {edits.pause:.2f} s")
        for name in names[:0:-1]:
            running.on(name, "leave")
            assert running.ended(name) == 0
            print(f"{name} has left; the longest pause until now: {edits.pause:.2f} s")
            names.remove(name)
            running.until_voting("web1", *names)
    print(f"{edits.count} edits, the longest pause was {edits.pause:.2f} s")
    assert edits.count > 100
    assert edits.pause < 5.0
    running.wait()
