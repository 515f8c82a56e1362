"""Who belongs to the cluster changes while it runs: connections between nodes, and the members of etcd."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from cryptography import x509
from etcds import EtcdCluster, append, first_few, free_ports, lead
from peers import Cluster, digest_of, eventually

from onefold.core.messages import Reach, Reached
from onefold.edge.etcd_process import EtcdProcess
from onefold.edge.members_etcd import EtcdMembers
from onefold.errors import OperatorError, PeerError, PeerGone

NOBODY: frozenset[str] = frozenset()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(tmp_path, "abc")
    try:
        yield cluster
    finally:
        await cluster.close()


class Newcomer(EtcdProcess):
    """Begins in a cluster that exists, without asking anybody."""

    def arguments(self, standing: Mapping[str, str] | None = None) -> list[str]:
        return super().arguments(self.members)


def serial(cluster: Cluster, name: str) -> str:
    return f"{x509.load_pem_x509_certificate(cluster.keys(name)[1].read_bytes()).serial_number:x}"


async def only(cluster: Cluster, *names: str) -> None:
    for name in names:
        await cluster.start(name, members={each: cluster.members[each] for each in names})
    await cluster.joined(*names)


@pytest.mark.parametrize("newcomer", ["a", "c"])
async def test_a_new_member_is_connected_whoever_dials(cluster: Cluster, newcomer: str) -> None:
    old = [name for name in "abc" if name != newcomer]
    await only(cluster, *old)
    await cluster.start(newcomer)
    for name in old:
        cluster.networks[name].change(cluster.members, NOBODY)
    await cluster.joined()
    assert await cluster.networks[old[0]].ask(newcomer, Reach("x"), 5) == Reached(True)
    assert [entry for entry in cluster.handlers[old[0]].log if entry[0] == "left"] == []


@pytest.mark.parametrize("gone", ["a", "c"])
async def test_who_is_no_member_any_more_is_cut_off_and_the_others_are_not(cluster: Cluster, gone: str) -> None:
    await only(cluster, "a", "b", "c")
    left = {name: at for name, at in cluster.members.items() if name != gone}
    for name in left:
        cluster.networks[name].change(left, NOBODY)
    assert all(gone not in cluster.networks[name].connected() for name in left)
    assert all(("left", gone) in cluster.handlers[name].log for name in left)
    await eventually(lambda: not cluster.networks[gone].connected())
    with pytest.raises(PeerGone):
        await cluster.networks["b"].ask(gone, Reach("x"), 1)
    await cluster.joined(*left)


async def test_a_revoked_certificate_ends_its_connections_and_opens_no_others(cluster: Cluster) -> None:
    await only(cluster, "a", "b", "c")
    content = b"for members" * 10_000
    cluster.handlers["a"].contents[digest_of(content)] = content
    await cluster.networks["c"].fetch(digest_of(content), len(content), ["a"])
    for name in "ab":
        cluster.networks[name].change(cluster.members, frozenset({serial(cluster, "c")}))
    assert all("c" not in cluster.networks[name].connected() for name in "ab")
    other = b"not any more" * 10_000
    cluster.handlers["a"].contents[digest_of(other)] = other
    with pytest.raises(PeerError):
        await cluster.networks["c"].fetch(digest_of(other), len(other), ["a"])
    await eventually(lambda: any("was revoked" in problem.what for problem in cluster.networks["b"].problems()))
    assert "c" not in cluster.networks["b"].connected()
    cluster.issue("c")
    await cluster.stop("c")
    await cluster.start("c")
    await cluster.joined()


async def test_a_learner_is_added_follows_and_votes_and_the_log_goes_on_through_it(tmp_path: Path) -> None:
    etcd = EtcdCluster.start(tmp_path, 1)
    (first,) = etcd.members
    log = etcd.log()
    members = EtcdMembers([first.client_url], first.tls)
    newcomer: EtcdProcess | None = None
    try:
        entries = await append(log, await lead(log), 1, 20)
        peer, client = (f"https://127.0.0.1:{port}" for port in free_ports(2))
        await members.add_learner(peer)
        with pytest.raises(OperatorError, match="as a learner yet"):
            await members.add_learner("https://127.0.0.1:1")
        listed = {each.peer_url: each for each in await members.listed()}
        assert listed[peer].learner
        assert not listed[first.members["n0"]].learner
        with pytest.raises(OperatorError, match="does not let its learner vote yet"):
            await members.promote(listed[peer].id)
        newcomer = Newcomer(
            name="n1",
            folder_id="folder",
            directory=tmp_path / "n1" / "etcd",
            client_url=client,
            members={"n0": first.members["n0"], "n1": peer},
            tls=first.tls,
        )
        newcomer.start()
        async with asyncio.timeout(30):
            while True:
                try:
                    await members.promote(listed[peer].id)
                    break
                except OperatorError:
                    await asyncio.sleep(0.2)
        assert not any(each.learner for each in await members.listed())
        log.change([client], ours=True)
        assert await first_few(log.entries(1), 20) == entries
        members.change([client, first.client_url])
        await members.remove(listed[peer].id)
        assert [each.peer_url for each in await members.listed()] == [first.members["n0"]]
    finally:
        await members.close()
        await log.close()
        if newcomer is not None:
            newcomer.kill()
        etcd.stop()
