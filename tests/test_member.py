"""A voter whose etcd has no data: the real program, beside real members. Its node, which needs them, is not here."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cluster import free_base_port

from onefold.config import Config, load
from onefold.demo_dir import Wanted, prepare
from onefold.edge import etcd_pb2 as pb
from onefold.edge.etcd_client import MEMBER_ADD, MEMBER_REMOVE, MEMBERS
from onefold.edge.etcd_member import Joiner, Voter
from onefold.edge.etcd_process import OWNER_FILE
from onefold.edge.log_etcd import EtcdLog
from onefold.edge.tls import TlsFiles
from onefold.voter import CLIENTS, PEERS, etcd_of


class Voters:
    """node1, node2, …: their settings, and their etcd."""

    def __init__(self, directory: Path, count: int) -> None:
        made = prepare(directory, Wanted(nodes=count, base_port=free_base_port()))
        for config in made:  # two of them, too
            config.path.write_text(config.path.read_text().replace("voter = false", "voter = true"))
        self.configs = [load(config.path) for config in made]
        self.etcds = [etcd_of(config) for config in self.configs]
        self._logs: dict[tuple[int, ...], EtcdLog] = {}

    def start(self) -> None:
        for etcd in self.etcds:
            etcd.start()

    def lose(self, number: int) -> None:
        """The disk with the data of that member is replaced by an empty one."""
        self.etcds[number].kill()
        shutil.rmtree(self.etcds[number].directory)

    def log(self, *numbers: int) -> EtcdLog:
        """The log as those members hold it."""
        if numbers in self._logs:
            return self._logs[numbers]
        config = self.configs[0]
        urls = [self.etcds[number].client_url for number in numbers]
        log = EtcdLog(urls, config.folder_id, config.name, files(config), total_s=30.0, ours=True)
        self._logs[numbers] = log
        return log

    def joiner(self, number: int, said: asyncio.Queue[str], wiped: bool = False) -> Joiner:
        voters = [
            Voter(config.name, f"https://{config.me.address.plus(CLIENTS)}", f"https://{config.me.address.plus(PEERS)}")
            for config in self.configs
        ]
        own = voters.pop(number)
        return Joiner(own, voters, files(self.configs[number]), wiped, said.put_nowait)

    async def members(self, *numbers: int) -> dict[str, int]:
        """The members that have started, as one of `numbers` lists them: name → etcd's id."""
        log = self.log(*numbers)
        await log.head()
        answer = await log._client.call(MEMBERS, pb.MemberListRequest())
        return {member.name: member.id for member in answer.members if member.client_urls}

    async def all_started(self, *numbers: int, without: int = 0) -> dict[str, int]:
        """`members`, once all are, and the one with id `without` is not among them."""
        async with asyncio.timeout(60):
            while len(members := await self.members(*numbers)) < len(self.etcds) or without in members.values():
                continue
        return members

    async def close(self) -> None:
        for log in self._logs.values():
            await log.close()
        for etcd in self.etcds:
            etcd.kill()


def files(config: Config) -> TlsFiles:
    return TlsFiles(config.tls.ca, config.tls.cert, config.tls.key)


@contextlib.asynccontextmanager
async def running(directory: Path, count: int = 3) -> AsyncIterator[tuple[Voters, dict[str, int]]]:
    """A cluster whose log holds one entry, and its members."""
    voters = Voters(directory, count)
    try:
        voters.start()
        everyone = range(count)
        await write(voters, 1, *everyone)
        yield voters, await voters.all_started(*everyone)
    finally:
        await voters.close()


async def write(voters: Voters, index: int, *numbers: int) -> None:
    """Append entry `index` through those members."""
    log = voters.log(*numbers)
    before = await log.leader()
    leader = await log.take("node1", before.term if before else 0, "start")
    assert leader is not None
    assert (await log.append(leader.term, index, b"entry %d" % index)).committed


async def read(voters: Voters, count: int, number: int) -> list[bytes]:
    reader = voters.log(number).entries(1)
    return [(await anext(reader))[1] for _ in range(count)]


async def told(joining: asyncio.Future[object], said: asyncio.Queue[str]) -> str:
    """What is said while it waits; it must not begin instead."""
    hearing = asyncio.ensure_future(said.get())
    await asyncio.wait((hearing, joining), return_when=asyncio.FIRST_COMPLETED)
    assert not joining.done(), "it begins"
    return await hearing


async def test_a_first_start_of_all_at_once_makes_a_cluster(tmp_path: Path) -> None:
    async with running(tmp_path) as (_, members):
        assert sorted(members) == ["node1", "node2", "node3"]


async def test_a_member_that_lost_its_data_is_replaced_and_counts_again(tmp_path: Path) -> None:
    async with running(tmp_path) as (voters, members):
        voters.lose(0)
        await write(voters, 2, 1, 2)
        voters.etcds[0].start()
        after = await voters.all_started(1, 2, without=members["node1"])
        assert {name: after[name] for name in ("node2", "node3")} == {
            name: members[name] for name in ("node2", "node3")
        }
        assert await read(voters, 2, 0) == [b"entry 1", b"entry 2"]
        voters.etcds[1].kill()  # a majority needs the new one
        await write(voters, 3, 0, 2)
        voters.etcds[0].kill()
        voters.etcds[0].start()  # with its data, it is just a member that was away
        await write(voters, 4, 0, 2)
        assert (await voters.all_started(0, 2))["node1"] == after["node1"]


@pytest.mark.slow
async def test_each_of_three_can_be_lost_in_turn(tmp_path: Path) -> None:
    async with running(tmp_path) as (voters, _):
        for number in range(3):
            others = [other for other in range(3) if other != number]
            before = await voters.all_started(*others)
            voters.lose(number)
            voters.etcds[number].start()
            await voters.all_started(*others, without=before[f"node{number + 1}"])
        for number in range(3):
            assert await read(voters, 1, number) == [b"entry 1"]


async def test_a_node_that_died_after_its_member_was_removed_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path) as (voters, members):
        voters.lose(2)
        await voters.log(0, 1)._client.call(MEMBER_REMOVE, pb.MemberRemoveRequest(id=members["node3"]))
        voters.etcds[2].start()
        assert sorted(await voters.all_started(0, 1)) == sorted(members)
        assert await read(voters, 1, 2) == [b"entry 1"]


async def test_a_node_that_died_after_its_member_was_added_goes_on_as_that_one(tmp_path: Path) -> None:
    async with running(tmp_path) as (voters, members):
        voters.lose(2)
        client = voters.log(0, 1)._client
        await client.call(MEMBER_REMOVE, pb.MemberRemoveRequest(id=members["node3"]))
        url = voters.etcds[2].members["node3"]
        added = await client.call(MEMBER_ADD, pb.MemberAddRequest(peer_urls=[url]))
        voters.etcds[2].start()
        assert (await voters.all_started(0, 1))["node3"] == added.member.id
        assert await read(voters, 1, 2) == [b"entry 1"]


async def test_a_lost_member_waits_for_a_majority_and_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as (voters, members):
        voters.lose(0)
        voters.etcds[1].kill()
        said: asyncio.Queue[str] = asyncio.Queue()
        joining = asyncio.ensure_future(voters.joiner(0, said).join())
        assert "node1 has lost its data and cannot be replaced while no majority" in await told(joining, said)
        assert not joining.done()
        voters.etcds[1].start()
        begins = await joining
        assert begins is not None
        assert sorted(begins) == ["node1", "node2", "node3"]
        assert await voters.members(1, 2) == {name: members[name] for name in ("node2", "node3")}


async def test_of_two_voters_none_can_be_replaced_and_it_says_so(tmp_path: Path) -> None:
    async with running(tmp_path, 2) as (voters, _):
        voters.lose(0)
        said: asyncio.Queue[str] = asyncio.Queue()
        joining = asyncio.ensure_future(voters.joiner(0, said).join())
        assert "begin anew on both" in await told(joining, said)
        joining.cancel()


async def test_a_member_that_runs_is_never_replaced(tmp_path: Path) -> None:
    async with running(tmp_path) as (voters, members):
        said: asyncio.Queue[str] = asyncio.Queue()
        joining = asyncio.ensure_future(voters.joiner(0, said).join())
        assert "another node runs as node1" in await told(joining, said)
        joining.cancel()
        assert await voters.members(1, 2) == members


async def test_alone_a_wiped_node_waits_and_a_new_one_begins(tmp_path: Path) -> None:
    voters = Voters(tmp_path, 3)
    said: asyncio.Queue[str] = asyncio.Queue()
    assert await voters.joiner(0, said).join() is None
    joining = asyncio.ensure_future(voters.joiner(0, said, wiped=True).join())
    assert "cannot be replaced while no other voter answers" in await told(joining, said)
    joining.cancel()


async def test_a_wiped_node_whose_member_never_started_begins_as_new(tmp_path: Path) -> None:
    voters = Voters(tmp_path, 3)
    try:
        for etcd in voters.etcds[1:]:
            etcd.start()
        await write(voters, 1, 1, 2)
        said: asyncio.Queue[str] = asyncio.Queue()
        assert await voters.joiner(0, said, wiped=True).join() is None
        voters.etcds[0].start()
        assert sorted(await voters.all_started(1, 2)) == ["node1", "node2", "node3"]
        assert said.empty()
    finally:
        await voters.close()


async def test_what_is_left_of_a_member_without_its_log_is_in_nobodys_way(tmp_path: Path) -> None:
    async with running(tmp_path) as (voters, members):
        etcd = voters.etcds[2]
        etcd.kill()
        shutil.rmtree(etcd.data / "member" / "wal")
        etcd.start()
        await voters.all_started(0, 1, without=members["node3"])
        assert await read(voters, 1, 2) == [b"entry 1"]


def test_data_that_cannot_be_seen_is_not_taken_for_none(tmp_path: Path) -> None:
    (etcd,) = Voters(tmp_path, 1).etcds
    (etcd.data / "member").mkdir(parents=True)
    (etcd.directory / OWNER_FILE).write_text(etcd.folder_id)
    (etcd.data / "member" / "wal").write_text("no directory")
    with pytest.raises(NotADirectoryError):
        etcd.start()
    assert (etcd.data / "member" / "wal").exists()
