"""Clusters that grow and shrink: begun on one machine, joined from others, left again, while edits go on."""

from __future__ import annotations

import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import ONEFOLD, eventually
from joining import Edits, Machines, interrupt, machines

from onefold.certify import within
from onefold.config import Config, Tls, load
from onefold.edge.tls import Authority, is_due, new_request
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


@pytest.mark.slow
@pytest.mark.timeout(280)
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


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_dead_leader_is_removed_and_its_machine_replaced_under_the_same_name(running: Machines) -> None:
    running.init("web1")
    for name in ("web2", "web3"):
        running.join(name, "web1")
    running.until_voting("web2", "web1", "web2", "web3")
    (running.home("web1") / "www" / "before").write_text("from the leader that dies")
    running.wait()
    running.kill("web1")
    eventually(lambda: running.leads("web2") != "web1", "another leader")
    leader = running.leads("web2")
    (running.home(leader) / "www" / "meanwhile").write_text("from the next one")
    running.on("web2", "remove", "web1")
    running.until_voting("web3", "web2", "web3")
    (running.home("web1") / ".onefold").rename(running.place / "broken")
    (running.home("web1") / "www" / ".onefold" / "id").unlink()
    running.join("web1", "web3")
    running.until_voting("web2", "web1", "web2", "web3")
    assert {b"before", b"meanwhile"} <= set(running.settled(like=leader))


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_join_that_is_killed_at_any_time_is_done_by_the_same_invitation(running: Machines) -> None:
    running.init("web1")
    running.leads("web1")
    invitation = running.invite("web1")
    words = [invitation, str(running.home("web2") / "www"), "--name", "web2", "--listen", running.address()]
    attempts = 0
    while not running.settings("web2").exists():
        interrupt([*ONEFOLD, "join", *words], 0.3 + 0.25 * attempts, running.place)
        attempts += 1
        assert attempts < 60
    assert attempts > 1
    running.start("web2")
    running.until_voting("web2", "web1", "web2")
    assert set(running.members("web1")) == {"web1", "web2"}


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_g8_who_is_revoked_is_cut_off_at_once_and_lets_the_others_go_on(running: Machines) -> None:
    running.init("web1")
    for name in ("web2", "web3"):
        running.join(name, "web1")
    running.until_voting("web1", "web1", "web2", "web3")
    state = running.nodes["web3"].state
    stolen = state.with_name("stolen")
    shutil.copytree(state / "tls", stolen)
    tls = within(stolen)
    assert etcd_answers(running.nodes["web1"], tls)
    running.on("web1", "revoke", "web3")
    running.live.discard("web3")
    assert set(running.members("web2")) == {"web1", "web2"}
    (running.home("web1") / "www" / "after").write_text("web3 does not see this")
    running.wait()
    assert not (running.home("web3") / "www" / "after").exists()
    eventually(lambda: not etcd_answers(running.nodes["web1"], tls), "that etcd honours it no more")


def etcd_answers(config: Config, tls: Tls) -> bool:
    """Whether the etcd of the node of `config` talks to whoever has the certificate `tls`."""
    context = ssl.create_default_context(cafile=str(tls.ca))
    context.load_cert_chain(tls.cert, tls.key)
    context.set_alpn_protocols(["h2"])
    address = config.me.address.plus(2)
    try:
        with (
            socket.create_connection(address, 10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as h2,
        ):
            h2.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
            return bool(h2.recv(1))
    except (ssl.SSLError, ConnectionError):
        return False


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_certificates_that_end_soon_are_renewed_while_the_nodes_run(running: Machines) -> None:
    running.init("web1")
    running.leads("web1")
    invitation = running.invite("web1", "--replica")
    running.does("join", invitation, str(running.home("web2") / "www"), "--name", "web2", "--listen", running.address())
    config = load(running.settings("web2"))
    authority = Authority.load(running.nodes["web1"].state / "authority")
    request = new_request(config.tls.key.read_bytes()).request
    short = authority.certify(request, "web2", ["127.0.0.1"], config.folder_id, days=1).certificate
    config.tls.cert.write_bytes(short)
    running.start("web2")
    eventually(lambda: config.tls.cert.read_bytes() != short, "another certificate")
    assert not is_due(config.tls.cert.read_bytes())
    (running.home("web1") / "www" / "after").write_text("renewed")
    assert b"after" in running.settled(like="web1")
