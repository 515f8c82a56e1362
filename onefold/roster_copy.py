"""The roster in etcd, and a node's copy of it kept up to date; made known there if it is not.

In a cluster that nobody has asked for a roster yet, the first copy to arrive becomes it: that is how `init` and the
demo bring their first token along.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from onefold.config import Config, parse_address
from onefold.core.messages import Problem
from onefold.core.roster import Roster
from onefold.edge.roster_etcd import EtcdRoster
from onefold.edge.tls import TlsFiles
from onefold.errors import LogUnavailable, OperatorError
from onefold.ports import RosterStore
from onefold.roster import load, save

RETRY_SECONDS = 10.0
ATTEMPTS = 10
EMPTY = Roster()
ETCD_CLIENT, ETCD_PEER = 2, 3
"""Of a node's consecutive ports, those of its etcd member."""

log = structlog.get_logger()


def endpoints(config: Config) -> tuple[list[str], TlsFiles]:
    """Where the etcd of this cluster answers, our own member first, and the certificates for it."""
    if config.etcd.endpoints:
        addresses, tls = list(config.etcd.endpoints), config.etcd.tls
    else:
        own_first = sorted(config.seated or config.voters, key=lambda member: member.name != config.name)
        addresses, tls = [member.address.plus(ETCD_CLIENT) for member in own_first], config.tls
    return [f"https://{address}" for address in addresses], TlsFiles(tls.ca, tls.cert, tls.key)


def peer_urls(roster: Roster) -> dict[str, str]:
    """Where the member of etcd of each node that is meant to vote listens to the others'."""
    places = {member.name: parse_address(member.address) for member in roster.members if member.voter}
    return {name: f"https://{place.plus(ETCD_PEER)}" for name, place in places.items() if place is not None}


def store(config: Config) -> EtcdRoster:
    """The roster of the cluster of `config`."""
    urls, files = endpoints(config)
    return EtcdRoster(urls, config.folder_id, files)


async def revise(rosters: RosterStore, change: Callable[[Roster], Roster], beginning: Roster = EMPTY) -> Roster:
    """The cluster's roster with `change` made to it, however often another one comes first; `beginning` is changed when
    there is none yet. What `change` leaves as it is, is not written.

    Raises what `change` does, and `OperatorError`.
    """
    for _ in range(ATTEMPTS):
        standing = await rosters.read()
        after = change(standing.roster if standing.revision else beginning)
        if after == standing.roster or await rosters.replace(after, standing.revision):
            return after
    raise OperatorError("the roster changes too often just now", "try again in a moment")


class RosterCopy:
    """The roster as this node knows it: `roster` is always the newest that it heard of."""

    def __init__(self, state: Path, cluster: RosterStore, changed: Callable[[Roster], None]) -> None:
        """`changed(roster)` after each change. Raises `OperatorError` when the copy cannot be read."""
        self._state = state
        self._cluster = cluster
        self._changed = changed
        self.roster = load(state)
        self._kept = True
        self._revision = 0
        self._keeping = asyncio.Lock()
        self.problem: Problem | None = None

    async def run(self) -> None:
        """Follow the cluster's roster, for ever. One that cannot be read is a problem, and the last one holds on."""
        while True:
            try:
                await self._follow()
            except OSError as error:
                log.warning("the roster is not kept", error=str(error))
                what = f"this node cannot keep its copy of the cluster's roster ({error.strerror})"
                self.problem = Problem(what, "", "free space for the state directory, or mend its disk")
            except OperatorError as error:
                log.warning("the roster cannot be followed", error=str(error))
                self.problem = Problem(f"the cluster's roster cannot be followed: {error.what}", "", error.fix)
            await asyncio.sleep(RETRY_SECONDS)

    async def refresh(self) -> None:
        """The roster as it stands now, or later, holds here when this returns. Raises `LogUnavailable`."""
        try:
            standing = await self._cluster.read()
            if standing.revision > self._revision and standing.roster != self.roster:
                self._revision = standing.revision
                await self._take(standing.roster)
        except LogUnavailable:
            raise
        except (OperatorError, OSError) as error:  # a problem of `run`, which meets it as well
            log.warning("the roster is not refreshed", error=str(error))

    async def _follow(self) -> None:
        async for standing in self._cluster.follow():
            if standing.revision < self._revision:
                continue  # it was refreshed meanwhile
            self._revision = standing.revision
            if not standing.revision:
                if self.roster != Roster() and await self._cluster.replace(self.roster, 0):
                    log.info("the roster is in etcd", tokens=len(self.roster.tokens))
            elif standing.roster != self.roster:
                await self._take(standing.roster)
            elif not self._kept:
                await self._keep()
            self.problem = None

    async def _take(self, roster: Roster) -> None:
        """It holds here from now on, and is kept. Raises `OSError` when it cannot be kept, and holds all the same: a
        full disk must let nobody in who is revoked."""
        self.roster = roster
        self._kept = False
        try:
            await self._keep()
        except OSError:
            self._changed(roster)
            raise
        self._changed(roster)

    async def _keep(self) -> None:
        async with self._keeping:
            await asyncio.to_thread(save, self._state, self.roster)
        self._kept = True
