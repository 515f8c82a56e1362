"""What only a real etcd can do to us: die, compact, let leases run out, lose its majority, or not be etcd at all."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from etcds import EtcdCluster, append, first_few, free_ports, lead

from onefold.edge import etcd_pb2 as pb
from onefold.edge import etcd_space
from onefold.edge.etcd_client import COMPACT, RANGE, STATUS
from onefold.edge.grpc_wire import Refusal
from onefold.edge.log_etcd import EtcdLog
from onefold.edge.tls import Authority, TlsFiles
from onefold.errors import LogTrimmed, LogUnavailable, OperatorError
from onefold.ports import Leader


@asynccontextmanager
async def opened(*logs: EtcdLog) -> AsyncIterator[tuple[EtcdLog, ...]]:
    try:
        yield logs
    finally:
        for log in logs:
            await log.close()


@asynccontextmanager
async def stopping(cluster: EtcdCluster) -> AsyncIterator[None]:
    try:
        yield
    finally:
        cluster.stop()


async def until_leader(log: EtcdLog, wanted: Leader | None) -> None:
    async with aclosing(log.leaders()) as leaders:  # type: ignore[type-var]
        async for leader in leaders:
            if leader == wanted:
                return


async def test_a_reader_survives_kill_and_restart_of_its_member_without_a_gap(three_etcds: EtcdCluster) -> None:
    total = 400
    async with opened(three_etcds.log(0), three_etcds.log(2)) as (writer, reading):
        reader = asyncio.ensure_future(first_few(reading.entries(1), total))
        leaders = asyncio.ensure_future(until_leader(reading, None))
        term = await lead(writer)
        entries = []
        for index in range(1, total + 1):
            entries += await append(writer, term, index, 1)
            if index in (100, 300):
                three_etcds.members[2].kill()
            if index in (200, 350):
                three_etcds.members[2].start()
        assert await reader == entries
        leaders.cancel()


async def test_readers_and_appends_survive_the_death_of_etcds_leader(three_etcds: EtcdCluster) -> None:
    async with opened(three_etcds.log(0), three_etcds.log(1)) as (writer, reading):
        reader = asyncio.ensure_future(first_few(reading.entries(1), 60))
        term = await lead(writer)
        entries = await append(writer, term, 1, 20)
        for member, first in ((0, 21), (1, 41)):
            three_etcds.members[member].kill()
            entries += await append(writer, term, first, 20)
            three_etcds.members[member].start()
        assert await reader == entries
        assert await writer.leader() == Leader("n0", term, "start")


async def test_a_reader_survives_compaction_of_what_it_watches(three_etcds: EtcdCluster) -> None:
    async with opened(three_etcds.log(0), three_etcds.log(1)) as (writer, reading):
        entries = reading.entries(1)
        term = await lead(writer)
        expected = await append(writer, term, 1, 5)
        got = [await anext(entries) for _ in range(5)]
        three_etcds.members[1].kill()  # the watch ends, and what it would resume from is compacted meanwhile
        expected += await append(writer, term, 6, 20)
        now = (await writer._client.call(RANGE, pb.RangeRequest(key=b"x"))).header.revision
        await writer._client.call(COMPACT, pb.CompactionRequest(revision=now, physical=True))
        three_etcds.members[1].start()
        got += [await anext(entries) for _ in range(20)]
        assert got == expected
        await entries.aclose()  # type: ignore[attr-defined]


async def test_a_reader_whose_watch_ended_before_a_trim_is_told_that_it_fell_behind(three_etcds: EtcdCluster) -> None:
    async with opened(three_etcds.log(0), three_etcds.log(1)) as (writer, reading):
        reader = reading.entries(1)
        term = await lead(writer)
        await append(writer, term, 1, 5)
        assert [index for index, _ in [await anext(reader) for _ in range(5)]] == [1, 2, 3, 4, 5]
        three_etcds.members[1].kill()
        await append(writer, term, 6, 4)
        await writer.trim(term, 8)
        for _ in range(2):
            await writer.tidy(leads=True)
        three_etcds.members[1].start()
        with pytest.raises(LogTrimmed) as told:
            await anext(reader)
        assert told.value.first == 6


async def test_what_was_trimmed_is_compacted_one_call_later_and_no_watch_notices(
    one_etcd: EtcdCluster, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(one_etcd.log(0, folder), one_etcd.log(1, folder)) as (writer, reading):
        pages: list[int] = []
        page = reading._page

        async def counted(following: int) -> pb.RangeResponse:
            pages.append(following)
            return await page(following)

        monkeypatch.setattr(reading, "_page", counted)
        reader = reading.entries(1)
        term = await lead(writer)
        expected = await append(writer, term, 1, 10)
        assert [await anext(reader) for _ in range(10)] == expected
        before = await revision(writer)
        await writer.trim(term, 9)
        assert await holds_revision(writer, before)
        await writer.tidy(leads=True)
        await writer.tidy(leads=False)
        assert await holds_revision(writer, before)
        expected = await append(writer, term, 11, 10)
        assert [await anext(reader) for _ in range(10)] == expected
        await writer.tidy(leads=True)
        assert not await holds_revision(writer, before)
        expected = await append(writer, term, 21, 10)
        assert [await anext(reader) for _ in range(10)] == expected
        assert pages == [1]


async def revision(log: EtcdLog) -> int:
    return (await log._client.call(RANGE, pb.RangeRequest(key=b"x"))).header.revision


async def holds_revision(log: EtcdLog, revision: int) -> bool:
    try:
        await log._client.call(RANGE, pb.RangeRequest(key=b"x", revision=revision))
    except Refusal as error:
        return "compacted" not in error.message
    return True


FULL = "etcd has no space left: edits wait"


async def append_for_ever(log: EtcdLog, term: int) -> None:
    while True:
        await log.append(term, await log.head() + 1, os.urandom(16384))


async def fill(log: EtcdLog, term: int) -> None:
    """Append until etcd takes no more."""
    log._client._total_s = 1.0
    with pytest.raises(LogUnavailable, match="etcd has no space left"):
        await append_for_ever(log, term)
    log._client._total_s = 20.0


async def tidy(logs: Sequence[EtcdLog]) -> list[set[str]]:
    """One round on all nodes, of which the first leads; their problems then."""
    for log in logs:
        await log.tidy(log is logs[0])
    return [{problem.what for problem in log.problems()} for log in logs]


async def test_an_etcd_without_space_is_a_problem_by_name_and_heals_once_there_is_room(tmp_path: Path) -> None:
    cluster = EtcdCluster.start(tmp_path, 3, quota_bytes=16 << 20)
    async with stopping(cluster), opened(*[cluster.log(number) for number in range(3)]) as logs:
        term = await lead(logs[0])
        await fill(logs[0], term)
        assert {problem.what for problem in logs[0].problems()} == {FULL}
        while await tidy(logs) != [{FULL}] * 3:  # what can be won without a trim is won, and used up
            await fill(logs[0], term)
        head = await logs[0].head()
        await logs[0].trim(term, head - 1)
        async with asyncio.timeout(60):
            while await tidy(logs) != [set()] * 3:
                continue  # members compact when they find time
        assert (await logs[0].append(term, head + 1, b"x" * 16384)).committed
        for member in cluster.members:
            status = await logs[0]._client.ask(member.client_url, STATUS, pb.StatusRequest())
            assert status.db_size < 4 << 20
            assert not status.errors


async def state(log: EtcdLog) -> pb.StatusResponse:
    """Of the node's own member."""
    return await log._client.ask(log._client.own, STATUS, pb.StatusRequest(), 5.0)


async def until_wasteful(log: EtcdLog, term: int) -> int:
    """Append, and trim until most of the member's file is free again; its size in bytes."""
    first = await log.head() + 1
    for index in range(first, first + 400):
        assert (await log.append(term, index, os.urandom(16384))).committed
    await log.tidy(leads=True)
    full = (await state(log)).db_size
    await log.trim(term, first + 398)
    async with asyncio.timeout(60):
        while not etcd_space._is_wasteful(await state(log)):
            await log._space._compact_trimmed()
    return full


async def test_members_that_waste_half_of_their_files_are_defragmented(
    three_etcds: EtcdCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etcd_space, "WASTE_BYTES_MIN", 4 << 20)
    async with opened(*[three_etcds.log(number) for number in range(3)]) as logs:
        term = await lead(logs[0])
        assert await until_wasteful(logs[0], term) > 6 << 20
        async with asyncio.timeout(60):
            while sum([(await state(log)).db_size < 4 << 20 for log in logs]) < 2:
                assert await tidy(logs) == [set()] * 3
        assert (await logs[0].append(term, 401, b"x")).committed


async def test_the_member_that_leads_etcd_is_not_made_to_stand_still(
    one_etcd: EtcdCluster, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etcd_space, "WASTE_BYTES_MIN", 4 << 20)
    async with opened(one_etcd.log(0, folder)) as (log,):
        full = await until_wasteful(log, await lead(log))
        await log.tidy(leads=True)
        assert (await state(log)).db_size >= full


async def test_an_etcd_that_is_not_ours_is_never_touched_and_its_operator_is_told(tmp_path: Path) -> None:
    cluster = EtcdCluster.start(tmp_path, 1, quota_bytes=16 << 20)
    (member,) = cluster.members
    theirs = EtcdLog([member.client_url], "f", "n0", member.tls, total_s=20.0, quota_bytes=member.quota_bytes)
    async with stopping(cluster), opened(theirs):
        term = await lead(theirs)
        await fill(theirs, term)
        before = await revision(theirs)
        await theirs.trim(term, await theirs.head() - 1)
        for _ in range(3):
            assert await tidy([theirs]) == [{FULL}]
        assert "etcdctl" in theirs.problems()[0].fix
        assert await holds_revision(theirs, before - 100)
        assert (await state(theirs)).db_size > 16 << 20


async def test_entries_of_the_full_size_are_paged_and_watched(one_etcd: EtcdCluster, folder: str) -> None:
    async with opened(one_etcd.log(0, folder), one_etcd.log(1, folder)) as (writer, reading):
        term = await lead(writer)
        entries = [(index, os.urandom(16384)) for index in range(1, 701)]
        live = asyncio.ensure_future(first_few(reading.entries(1), 700))
        for index, entry in entries:
            assert (await writer.append(term, index, entry)).committed
        assert await live == entries
        assert await first_few(reading.entries(1), 700) == entries


async def test_a_reader_that_falls_far_behind_is_neither_stalled_nor_cut(one_etcd: EtcdCluster, folder: str) -> None:
    async with opened(one_etcd.log(0, folder), one_etcd.log(1, folder)) as (writer, reading):
        term = await lead(writer)
        slow = reading.entries(1)
        waiting = asyncio.ensure_future(anext(slow))
        for index in range(1, 1501):  # 24 MB: more than one stream may hold unread
            assert (await writer.append(term, index, b"%016d" % index * 1024)).committed
        got = [await waiting]
        got += [await anext(slow) for _ in range(1499)]
        assert [index for index, _ in got] == list(range(1, 1501))
        assert all(entry == b"%016d" % index * 1024 for index, entry in got)
        await slow.aclose()  # type: ignore[attr-defined]


async def test_leadership_ends_with_its_lease_when_the_holder_goes_without_resigning(
    one_etcd: EtcdCluster, folder: str
) -> None:
    holder = one_etcd.log(0, folder)
    term = await lead(holder)
    async with opened(one_etcd.log(1, folder)) as (other,):
        async with aclosing(other.leaders()) as leaders:  # type: ignore[type-var]
            assert await anext(leaders) == Leader("n0", term, "start")
            await holder.close()
            assert await anext(leaders) is None
        assert await other.take("n1", 0, "failover") == await other.leader()


async def test_leadership_outlives_its_lease_many_times_while_its_holder_is_open(
    one_etcd: EtcdCluster, folder: str
) -> None:
    async with opened(one_etcd.log(0, folder)) as (holder,):
        holder._ttl_s = 1
        term = await lead(holder)
        await asyncio.sleep(3)
        assert await holder.leader() == Leader("n0", term, "start")


async def test_leadership_handed_to_a_living_node_is_kept_alive_by_it(one_etcd: EtcdCluster, folder: str) -> None:
    async with opened(one_etcd.log(0, folder), one_etcd.log(1, folder)) as (giver, receiver):
        giver._ttl_s = receiver._ttl_s = 1
        term = await lead(giver)
        handed = await giver.hand_over(term, "n1", "handover")
        await until_leader(receiver, handed)
        await asyncio.sleep(3)
        assert await giver.leader() == handed


async def test_leadership_handed_to_a_dead_node_ends_by_itself(one_etcd: EtcdCluster, folder: str) -> None:
    async with opened(one_etcd.log(0, folder)) as (giver,):
        term = await lead(giver)
        handed = await giver.hand_over(term, "n7", "handover")
        assert handed is not None and handed.node == "n7"
        await until_leader(giver, None)


async def test_leadership_survives_the_loss_of_the_holders_own_member(three_etcds: EtcdCluster) -> None:
    async with opened(three_etcds.log(0), three_etcds.log(1)) as (holder, other):
        term = await lead(holder)
        three_etcds.members[0].kill()
        await asyncio.sleep(3)
        assert await other.leader() == Leader("n0", term, "start")
        three_etcds.members[0].start()


async def test_without_a_majority_every_question_ends_and_the_log_goes_on_afterwards(
    three_etcds: EtcdCluster,
) -> None:
    async with opened(three_etcds.log(0, total_s=2.0)) as (log,):
        await log.compatible()
        reader = asyncio.ensure_future(first_few(log.entries(1), 1))
        for member in three_etcds.members[1:]:
            member.kill()
        for question in (log.head(), log.leader(), log.take("n0", 0, "start"), log.append(1, 1, b"x"), log.resign(1)):
            with pytest.raises(LogUnavailable, match="majority"):
                await question
        for member in three_etcds.members[1:]:
            member.start()
        log._client._total_s = 20.0
        term = await lead(log)
        entries = await append(log, term, 1, 1)
        assert await reader == entries


async def test_no_etcd_at_all_is_named_in_the_error(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    async with opened(EtcdLog([f"http://127.0.0.1:{port}"], "f", "n0", total_s=0.3)) as (log,):
        with pytest.raises(LogUnavailable, match=f"127.0.0.1:{port}"):
            await log.compatible()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"SSH-2.0-OpenSSH_9.2p1\r\n"])
async def test_a_server_that_is_not_etcd_is_told_apart(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(24)
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, family=socket.AF_INET)
    port = server.sockets[0].getsockname()[1]
    async with server, opened(EtcdLog([f"http://127.0.0.1:{port}"], "f", "n0", total_s=0.3)) as (log,):
        with pytest.raises(OperatorError, match=f"127.0.0.1:{port}"):
            await log.compatible()


async def test_an_old_etcd_is_refused_with_the_fix(one_etcd: EtcdCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(one_etcd.log(0)) as (log,):
        await log.compatible()

        async def old(method: object, request: object) -> pb.StatusResponse:
            return pb.StatusResponse(version="3.3.27")

        monkeypatch.setattr(log._client, "call", old)
        with pytest.raises(OperatorError, match=r"3\.3\.27.*upgrade it to 3\.4"):
            await log.compatible()


async def test_g8_etcd_lets_nobody_in_whom_our_authority_did_not_certify(one_etcd: EtcdCluster, tmp_path: Path) -> None:
    stranger = Authority.create(tmp_path / "stranger")
    stranger.issue("n0", ["127.0.0.1"], tmp_path / "n0", "folder")
    own = one_etcd.members[0].tls
    assert own is not None
    forged = TlsFiles(own.ca, tmp_path / "n0" / "node.crt", tmp_path / "n0" / "node.key")
    async with opened(EtcdLog([one_etcd.members[0].client_url], "f", "n0", forged, total_s=0.5)) as (log,):
        with pytest.raises(LogUnavailable):
            await log.head()


async def test_the_members_of_the_cluster_are_named(three_etcds: EtcdCluster) -> None:
    async with opened(three_etcds.log(1)) as (log,):
        assert [member.name for member in await log.members()] == ["n0", "n1", "n2"]


async def test_etcds_own_leadership_follows_ours(three_etcds: EtcdCluster) -> None:
    async def leads_etcd(log: EtcdLog) -> bool:
        own = log._client._endpoints[0].url
        status = await log._client.ask(own, STATUS, pb.StatusRequest())
        return bool(status.leader == status.header.member_id)

    async with opened(*[three_etcds.log(number) for number in range(3)]) as logs:
        while not all(member.client_urls for member in await logs[0].members()):
            continue  # members make their addresses known soon after they start
        for number, log in enumerate(logs):
            term = await lead(log, f"n{number}")
            assert await leads_etcd(log)
        handed = await logs[2].hand_over(term, "n0", "handover")
        assert handed is not None and handed.node == "n0"
        assert await leads_etcd(logs[0])
        assert (await logs[0].append(handed.term, 1, b"x")).committed
