"""Gives and takes seats, on the node that leads: what `onefold.core.seats` says is next is done, until nothing is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import structlog

from onefold.core import members
from onefold.core.messages import Problem
from onefold.core.roster import Roster, Standing
from onefold.core.seats import AddLearner, Drop, HandOver, Listed, Promote, Seat, Step, Unlist, next_step
from onefold.errors import LogUnavailable, OperatorError, PeerError, UserError
from onefold.node.waiting import happened
from onefold.ports import RosterStore

CHECK_SECONDS = 1.0
"""Between two looks while something is to be done."""
REST_SECONDS = 10.0
"""Between two looks while nothing is: a voter that lost its data takes itself out of etcd, and tells nobody else."""

log = structlog.get_logger()


class Members(Protocol):
    """etcd's members; see `onefold.edge.members_etcd`."""

    async def listed(self) -> list[Listed]: ...

    async def add_learner(self, peer_url: str) -> None: ...

    async def promote(self, id: int) -> None: ...

    async def remove(self, id: int) -> None: ...


class Seating:
    """Every step is told by how things stand in etcd, so whoever comes to lead goes on where another one stopped."""

    def __init__(
        self,
        me: str,
        rosters: RosterStore,
        etcd: Members,
        peer_urls: Callable[[Roster], Mapping[str, str]],
        leads: Callable[[], bool],
        durable: Callable[[], Mapping[str, int]],
        head: Callable[[], int],
        hand_over: Callable[[], Awaitable[object]],
    ) -> None:
        """`peer_urls`: where the member of etcd of each node that is meant to vote listens. `durable`: how far each
        node's folder is on its disk. `head`: the newest index that this node has applied."""
        self._me = me
        self._rosters = rosters
        self._etcd = etcd
        self._peer_urls = peer_urls
        self._leads = leads
        self._durable = durable
        self._head = head
        self._hand_over = hand_over
        self._wake = asyncio.Event()
        self._since: int | None = None
        self._rest_until = 0.0
        self._waits: tuple[str, ...] = ()

    def wake(self) -> None:
        """The roster has changed."""
        self._rest_until = 0.0
        self._wake.set()

    def problems(self) -> list[Problem]:
        """Why the last step did not come about, while that is tried again."""
        return [Problem(what, "", "it is tried again") for what in self._waits]

    async def run(self) -> None:
        """For ever."""
        while True:
            self._wake.clear()
            if not self._leads():
                self._since = None
                self._waits = ()
            elif time.monotonic() >= self._rest_until:
                await self.look()
            await happened(self._wake, CHECK_SECONDS)

    async def look(self) -> None:
        """Do all that can be done now. What cannot is among the problems, and looked at again by `run`."""
        if self._since is None:
            self._since = self._head()
        try:
            while await self._step():
                pass
            self._waits = ()
        except (OperatorError, PeerError, UserError) as error:
            log.warning("a seat is not given or taken yet", error=str(error))
            self._waits = () if isinstance(error, LogUnavailable) else (error.what,)

    async def _step(self) -> bool:
        """Do what is next; whether there may be more to do at once."""
        assert self._since is not None
        standing = await self._rosters.read()
        listed = await self._etcd.listed()
        urls = self._peer_urls(standing.roster)
        step = next_step(self._me, standing.roster, listed, urls, self._durable(), self._since)
        if step is not None:
            log.info("seats", step=str(step))
            await self._do(step, standing, urls)
            return True
        pending = any(m.leaving or m.voter != m.seated for m in standing.roster.members)
        self._rest_until = 0.0 if pending else time.monotonic() + REST_SECONDS
        return False

    async def _do(self, step: Step, standing: Standing, urls: Mapping[str, str]) -> None:
        roster = standing.roster
        match step:
            case AddLearner(node=node):
                await self._etcd.add_learner(urls[node])
            case Promote(id=id):
                await self._etcd.promote(id)
            case Unlist(id=id):
                await self._etcd.remove(id)
            case Seat(node=node, seated=seated):
                await self._replace(members.with_seat(roster, node, seated), standing)
            case Drop(node=node):
                await self._replace(members.without_member(roster, node), standing)
            case HandOver():
                await self._hand_over()

    async def _replace(self, roster: Roster, standing: Standing) -> None:
        """Who votes changes: whatever was committed until now must be on disks before another seat does. A roster that
        somebody else has replaced meanwhile is looked at anew."""
        if await self._rosters.replace(roster, standing.revision):
            self._since = self._head()
