"""Returning once what was written here is in the log, and once it is everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from onefold.core.messages import Flush, Flushed, Message, Refused, Wait
from onefold.errors import PeerRefused
from onefold.node.apply import Applier
from onefold.node.given import Identity, Ports
from onefold.node.place import Placer
from onefold.node.propose import Proposer
from onefold.node.report import Reporter
from onefold.node.waiting import happened

FLUSH_SECONDS = 30.0
ANSWER_SECONDS = 1.0
"""How much longer than it may wait a leader may take to say so."""
CHECK_SECONDS = 0.05


class Flusher:
    """Waits for the stations of this node, and for the other nodes."""

    def __init__(
        self,
        who: Identity,
        ports: Ports,
        applier: Applier,
        placer: Placer,
        proposer: Proposer,
        reporter: Reporter,
        drain: Callable[[], None],
        leader: Callable[[], str],
    ) -> None:
        """`drain()` takes in what the watcher has to say. `leader`: who leads, "" for nobody, when asked."""
        self._name = who.name
        self._members = who.members
        self._peers = ports.peers
        self._applier = applier
        self._placer = placer
        self._proposer = proposer
        self._reporter = reporter
        self._drain = drain
        self._leader = leader
        self._progress = asyncio.Event()

    def change(self, members: Sequence[str]) -> None:
        """These are all nodes now."""
        self._members = tuple(members)

    def advance(self) -> None:
        """Something that may be waited for has moved on."""
        self._progress.set()

    async def flush(self) -> int:
        """Everything written into this folder until now is in the log, or kept aside and reverted, when this returns:
        the index applied by then.

        Raises `PeerRefused` when that takes too long (nobody leads, or no majority).
        """
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                self._drain()
                self._proposer.expedite()
                while not self._proposer.idle or self._reverting():
                    self._proposer.expedite()
                    await self._progressed()
                    self._drain()
        except TimeoutError:
            raise PeerRefused(f"{self._name} could not propose its edits in time", "see `onefold status`") from None
        return self._applier.index

    def _reverting(self) -> bool:
        """Whether the folder, which had arrived, is being brought back after an edit."""
        return self._placer.busy and self._placer.in_place >= self._applier.index

    async def _progressed(self) -> None:
        self._progress.clear()
        await happened(self._progress, CHECK_SECONDS)

    async def wait(self, seconds: float) -> Message:
        """`Flushed` once all that was written on any live node until now is in place on all of them, else `Refused`."""
        leader = self._leader()
        if leader and leader != self._name:  # who hears first where everyone is
            return await self._peers.ask(leader, Wait(seconds), seconds + ANSWER_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                peers = [n for n in self._members if n in self._peers.connected()]
                asked = (self._peers.ask(node, Flush(), seconds) for node in peers)
                answers = await asyncio.gather(self.flush(), *asked)
                index = max(
                    a.index if isinstance(a, Flushed) else int(a) for a in answers if isinstance(a, Flushed | int)
                )
                while self._reporter.slowest(self._placer.in_place) < index:
                    await self._progressed()
                return Flushed(index)
        except TimeoutError:
            return Refused(f"not everything is on every live node after {seconds:g} s", "see `onefold status`")
