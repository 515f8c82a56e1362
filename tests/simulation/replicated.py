"""The log as a node has it over a network: `MemoryLog`, with requests that wait, get lost, and lose their answers.

What a node asked is carried out even if the node is dead by then: a late append is the point of G6.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar

from onefold.core.messages import Problem
from onefold.edge.log_memory import MemoryCluster, MemoryLog
from onefold.errors import LogUnavailable
from onefold.ports import Append, Leader
from simulation.virtual import Life, VirtualLoop

ASK_SECONDS = 1.0
LEASE_SECONDS = 2.0
T = TypeVar("T")

ASKING: ContextVar[str] = ContextVar("ASKING", default="")
"""Whose request is being carried out."""


class WatchedCluster(MemoryCluster):
    """What a majority of etcd holds; `wrote()` is called after each write, `trimmed(through)`
    when entries were forgotten."""

    def __init__(self, wrote: Callable[[], None], trimmed: Callable[[int], None]) -> None:
        super().__init__()
        self._wrote = wrote
        self._trimmed = trimmed

    def write(self) -> int:
        revision = super().write()
        self._wrote()
        return revision

    def trim(self, through: int) -> None:
        super().trim(through)
        self._trimmed(through)


class Requests:
    """How requests to the log fare: for all nodes."""

    def __init__(self, loop: VirtualLoop, reaches: Callable[[str], bool]) -> None:
        """`reaches(node)`: whether a majority of the log's members answers `node` now."""
        self.loop = loop
        self.reaches = reaches
        self.lost = 0.0
        """How many requests, and how many answers, get lost."""
        self.slow: dict[str, float] = {}

    def seconds(self, node: str) -> float:
        rng = self.loop.rng
        return 0.0003 + 0.004 * rng.random() ** 3 + self.slow.get(node, 0.0) * rng.random()


class RemoteLog:
    """`ports.Log` of one life of `node`."""

    def __init__(self, node: str, life: Life, cluster: MemoryCluster, requests: Requests) -> None:
        self._node = node
        self._life = life
        self._memory = MemoryLog(cluster)
        self._requests = requests
        self._loop = requests.loop
        self._failing = False

    async def head(self) -> int:
        return await self._ask(self._memory.head)

    async def append(self, term: int, index: int, entry: bytes) -> Append:
        return await self._ask(lambda: self._memory.append(term, index, entry))

    async def leader(self) -> Leader | None:
        return await self._ask(self._memory.leader)

    async def take(self, node: str, seen: int, reason: str) -> Leader | None:
        return await self._ask(lambda: self._memory.take(node, seen, reason))

    async def hand_over(self, term: int, node: str, reason: str) -> Leader | None:
        return await self._ask(lambda: self._memory.hand_over(term, node, reason))

    async def resign(self, term: int) -> None:
        return await self._ask(lambda: self._memory.resign(term))

    async def first(self) -> int:
        return await self._ask(self._memory.first)

    async def trim(self, term: int, through: int) -> None:
        return await self._ask(lambda: self._memory.trim(term, through))

    @property
    def stored_bytes(self) -> int:
        return 0

    async def tidy(self, leads: bool) -> None:
        """Nothing to be kept small."""

    async def entries(self, first: int) -> AsyncIterator[tuple[int, bytes]]:
        async for entry in self._memory.entries(first):
            await self._transit()
            yield entry

    async def leaders(self) -> AsyncIterator[Leader | None]:
        async for leader in self._memory.leaders():
            await self._transit()
            yield leader

    def problems(self) -> list[Problem]:
        return [Problem("the log does not answer")] if self._failing else []

    async def close(self) -> None:
        await self._memory.close()

    def forget(self) -> None:
        """The process is gone, and its watches with it."""
        self._memory.forget()

    async def _transit(self) -> None:
        await asyncio.sleep(self._requests.seconds(self._node))
        while not self._requests.reaches(self._node):  # noqa: ASYNC110 - as a client does that tries again
            await asyncio.sleep(0.1)

    async def _ask(self, request: Callable[[], Coroutine[Any, Any, T]]) -> T:
        answered: asyncio.Future[T] = self._loop.create_future()
        self._loop.world_later(self._requests.seconds(self._node), self._arrive, request, answered)
        try:
            async with asyncio.timeout(ASK_SECONDS):
                answer = await answered
                self._failing = False
                return answer
        except TimeoutError:
            self._failing = True
            raise LogUnavailable("no majority of the log answered in time", "ask again") from None

    def _arrive(self, request: Callable[[], Coroutine[Any, Any, T]], answered: asyncio.Future[T]) -> None:
        if not self._requests.reaches(self._node) or self._loop.rng.random() < self._requests.lost:
            return
        ASKING.set(self._node)
        self._loop.create_task(self._carry_out(request, answered))

    async def _carry_out(self, request: Callable[[], Coroutine[Any, Any, T]], answered: asyncio.Future[T]) -> None:
        result: Any = None
        error: LogUnavailable | None = None
        try:
            result = await request()
        except LogUnavailable as unavailable:
            error = unavailable
        if self._requests.reaches(self._node) and self._loop.rng.random() >= self._requests.lost:
            self._loop.call_later(self._requests.seconds(self._node), self._answer, answered, result, error)

    def _answer(self, answered: asyncio.Future[Any], result: Any, error: LogUnavailable | None) -> None:
        if self._life.alive and not answered.done():
            if error is not None:
                answered.set_exception(error)
            else:
                answered.set_result(result)
