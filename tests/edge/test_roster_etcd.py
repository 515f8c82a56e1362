"""The roster in a real etcd: compare-and-set, and following it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from etcds import EtcdCluster, lead

from onefold.core.roster import Roster, Standing, with_token
from onefold.edge.roster_etcd import EtcdRoster
from onefold.edge.tls import TlsFiles

ONE = with_token(Roster(), "one", "read", "1")
TWO = with_token(ONE, "two", "write", "2")


@asynccontextmanager
async def stores(etcd: EtcdCluster, folder: str) -> AsyncIterator[tuple[EtcdRoster, EtcdRoster]]:
    """As two nodes have it."""
    first, second = store(etcd, folder), store(etcd, folder)
    try:
        yield first, second
    finally:
        await first.close()
        await second.close()


def store(etcd: EtcdCluster, folder: str) -> EtcdRoster:
    member = etcd.members[0]
    assert isinstance(member.tls, TlsFiles)
    return EtcdRoster([member.client_url], folder, member.tls)


async def test_only_who_has_seen_the_newest_replaces_it(one_etcd: EtcdCluster, folder: str) -> None:
    async with stores(one_etcd, folder) as (a, b):
        assert await a.read() == Standing(Roster(), 0)
        assert await a.replace(ONE, 0)
        assert not await b.replace(TWO, 0)
        seen = await b.read()
        assert seen.roster == ONE
        assert await b.replace(TWO, seen.revision)
        assert not await a.replace(Roster(), seen.revision)
        assert (await a.read()).roster == TWO


async def test_a_repeated_replacement_has_succeeded_already(one_etcd: EtcdCluster, folder: str) -> None:
    async with stores(one_etcd, folder) as (a, _):
        assert await a.replace(ONE, 0)
        assert await a.replace(ONE, 0)


async def test_every_change_is_told_to_who_follows(one_etcd: EtcdCluster, folder: str) -> None:
    async with stores(one_etcd, folder) as (a, b):
        following = b.follow()
        assert (await anext(following)).roster == Roster()
        waiting = asyncio.ensure_future(anext(following))
        await a.replace(ONE, 0)
        seen = await waiting
        assert seen.roster == ONE
        await a.replace(TWO, seen.revision)
        assert (await anext(following)).roster == TWO


async def test_compaction_of_the_log_leaves_the_roster(one_etcd: EtcdCluster, folder: str) -> None:
    log = one_etcd.log(0, folder)
    async with stores(one_etcd, folder) as (roster, _):
        await roster.replace(ONE, 0)
        term = await lead(log)
        for index in range(1, 4):
            await log.append(term, index, b"x")
        await log.trim(term, 2)
        for _ in range(3):
            await log.tidy(leads=True)
        assert (await roster.read()).roster == ONE
        await log.close()
