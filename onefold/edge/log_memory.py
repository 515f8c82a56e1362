"""The log in one process: `ports.Log` for tests and simulation, with the semantics of etcd.

A `MemoryCluster` is what a majority of etcd would hold; each node has a `MemoryLog` on it. No clock, no randomness:
what happens is decided by who calls what, in which order. Revisions count writes, as etcd's do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from onefold.core.messages import Problem
from onefold.errors import Bug, LogTrimmed, LogUnavailable
from onefold.ports import Append, Leader


class MemoryCluster:
    """What all handles share: the entries, the leader key and the count of writes."""

    def __init__(self) -> None:
        self.entries: dict[int, bytes] = {}
        self.head = 0
        self.revision = 1
        self.leader: Leader | None = None
        self._changed: dict[Callable[[], None], None] = {}  # in order, so that a simulation is the same each time

    def write(self) -> int:
        """Count a write, wake all readers, and return its revision. Call it after changing anything here."""
        self.revision += 1
        for wake in list(self._changed):
            wake()
        return self.revision

    def expire(self) -> None:
        """The leader's lease runs out, as if its node had died."""
        self.leader = None
        self.write()

    def trim(self, through: int) -> None:
        """Forget the entries up to and including `through`."""
        for index in [index for index in self.entries if index <= through]:
            del self.entries[index]
        self.write()


class MemoryLog:
    """One node's handle on `cluster`."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster
        self._reachable = True
        self._wakes: dict[asyncio.Event, None] = {}
        self._lost_answers = 0
        cluster._changed[self._wake] = None

    def cut(self) -> None:
        """From now on nothing answers this handle; its readers fall silent."""
        self._reachable = False

    def mend(self) -> None:
        """Undo `cut`; readers go on without a gap."""
        self._reachable = True
        self._wake()

    def lose_answers(self, count: int) -> None:
        """Carry the next `count` writes out, and raise `LogUnavailable` all the same."""
        self._lost_answers = count

    async def head(self) -> int:
        await self._ask()
        return self._cluster.head

    async def append(self, term: int, index: int, entry: bytes) -> Append:
        _held(term)
        await self._ask()
        cluster = self._cluster
        if self._term() == term and cluster.head == index - 1:
            cluster.entries[index] = entry
            cluster.head = index
            cluster.write()
            self._answer()
            return Append(committed=True, term=term, head=index, standing=entry)
        standing = cluster.entries.get(index)
        return Append(committed=standing == entry, term=self._term(), head=cluster.head, standing=standing)

    async def entries(self, first: int) -> AsyncIterator[tuple[int, bytes]]:
        following = first
        wake = self._listen()
        try:
            while True:
                wake.clear()
                while self._reachable and following <= self._cluster.head:
                    if following not in self._cluster.entries:
                        raise LogTrimmed(following)
                    yield following, self._cluster.entries[following]
                    following += 1
                await wake.wait()
        finally:
            self._wakes.pop(wake, None)

    async def first(self) -> int:
        await self._ask()
        return min(self._cluster.entries, default=self._cluster.head + 1)

    async def trim(self, term: int, through: int) -> None:
        _held(term)
        await self._ask()
        if through >= self._cluster.head:
            raise Bug(f"the log ends at {self._cluster.head}: it cannot be trimmed through {through}")
        if self._term() == term:
            self._cluster.trim(through)
            self._answer()

    @property
    def stored_bytes(self) -> int:
        return 0

    async def tidy(self, leads: bool) -> None:
        """Nothing: what was trimmed takes no room."""

    async def leader(self) -> Leader | None:
        await self._ask()
        return self._cluster.leader

    async def leaders(self) -> AsyncIterator[Leader | None]:
        shown: list[Leader | None] = []
        wake = self._listen()
        try:
            while True:
                wake.clear()
                if self._reachable and shown != [self._cluster.leader]:
                    shown = [self._cluster.leader]
                    yield shown[0]
                    continue
                await wake.wait()
        finally:
            self._wakes.pop(wake, None)

    async def take(self, node: str, seen: int, reason: str) -> Leader | None:
        await self._ask()
        if self._term() == seen:
            self._lead(node, reason)
        return self._cluster.leader

    async def hand_over(self, term: int, node: str, reason: str) -> Leader | None:
        _held(term)
        await self._ask()
        if self._term() == term:
            self._lead(node, reason)
        return self._cluster.leader

    async def resign(self, term: int) -> None:
        await self._ask()
        if self._cluster.leader and self._term() == term:
            self._cluster.leader = None
            self._cluster.write()
            self._answer()

    def problems(self) -> list[Problem]:
        return [] if self._reachable else [Problem("the log does not answer", "", "mend the connection to it")]

    async def close(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Wake nobody here any more."""
        self._cluster._changed.pop(self._wake, None)

    def _term(self) -> int:
        return self._cluster.leader.term if self._cluster.leader else 0

    def _lead(self, node: str, reason: str) -> None:
        self._cluster.leader = Leader(node, self._cluster.revision + 1, reason)
        self._cluster.write()
        self._answer()

    async def _ask(self) -> None:
        await asyncio.sleep(0)  # as over a network, others run between a question and its answer
        if not self._reachable:
            raise LogUnavailable("this node is cut off from the log", "mend it")

    def _answer(self) -> None:
        if self._lost_answers:
            self._lost_answers -= 1
            raise LogUnavailable("the answer was lost", "ask again")

    def _listen(self) -> asyncio.Event:
        wake = asyncio.Event()
        self._wakes[wake] = None
        return wake

    def _wake(self) -> None:
        for wake in self._wakes:
            wake.set()


def _held(term: int) -> None:
    if term < 1:
        raise Bug(f"term {term} is nobody's to append in or to hand over")
