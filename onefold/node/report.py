"""What a node says of itself, to its peers and to people; and what it knows of the others."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from onefold.core.messages import Arrived, Problem, Recent, Report
from onefold.core.model import Move, Pack, Put, Remove
from onefold.core.paths import show
from onefold.core.views import RowView, path_of
from onefold.node.waiting import happened
from onefold.ports import Clock, Peers

HEARTBEAT_SECONDS = 0.25
SPACING_SECONDS = 0.02
"""Least time between two reports."""
RECENT_KEPT = 64
PROBLEMS_TOLD = 100
"""Every file of a folder may have one, and a message only so many bytes."""


class Reporter:
    """Tells every peer about this node, as a heartbeat, and the leader at once where the folder has arrived."""

    def __init__(self, peers: Peers, clock: Clock, make: Callable[[], Report], leader: Callable[[], str]) -> None:
        """`make` makes this node's report; `leader` says who leads ("" for nobody)."""
        self._peers = peers
        self._clock = clock
        self._make = make
        self._leader = leader
        self._changed = asyncio.Event()
        self.reports: dict[str, Report] = {}
        self.recent: OrderedDict[int, Recent] = OrderedDict()
        self._since: dict[int, float] = {}

    def change(self) -> None:
        """Something is different that peers should know before the next heartbeat."""
        self._changed.set()

    async def run(self) -> None:
        while True:
            self._changed.clear()
            report = self._make()
            for node in self._peers.connected():
                self._peers.tell(node, report)
            await self._clock.sleep(SPACING_SECONDS)
            await happened(self._changed, HEARTBEAT_SECONDS - SPACING_SECONDS)

    def own(self) -> Report:
        """What this node says of itself now."""
        return self._make()

    def arrive(self, index: int) -> None:
        """This node's folder is in place at `index`."""
        leader = self._leader()
        if leader in self._peers.connected():
            self._peers.tell(leader, Arrived(index))

    def arrived_at(self, node: str, index: int) -> None:
        """`node` told that it is in place at `index`."""
        report = self.reports.get(node)
        if report is not None and report.in_place < index:
            self.reports[node] = msgspec.structs.replace(report, in_place=index, applied=max(report.applied, index))

    def slowest(self, own: int) -> int:
        """Up to which index every live node is in place, this one at `own`; -1 while one has not told."""
        told = (self.reports.get(node) for node in self._peers.connected())
        return min([own, *(report.in_place if report is not None else -1 for report in told)])

    # -------------------------------------------------------------------------------------------- until everywhere

    def committed(self, index: int, pack: Pack, since: float, path: bytes) -> None:
        """Entry `index` is in the log; the first sign of it was at `since`, its first path `path`."""
        first = _first(pack)
        verb = "seed" if first is None else type(first).__name__.lower()
        count = sum(len(batch.commands) for batch in pack.batches)
        self.recent[index] = Recent(index, show(path), verb, count, None)
        self._since[index] = since
        while len(self.recent) > RECENT_KEPT:
            old, _ = self.recent.popitem(last=False)
            self._since.pop(old, None)

    def arrived(self, own: int) -> None:
        """A folder has arrived somewhere, this node's at `own`: whatever all live nodes reached is everywhere."""
        everywhere = min([own, *(report.in_place for report in self.reports.values())])
        now = self._clock.now()
        for index in [index for index in self._since if index <= everywhere]:
            took = (now - self._since.pop(index)) * 1e3
            self.recent[index] = msgspec.structs.replace(self.recent[index], everywhere_ms=round(took, 2))


def brief(problems: list[Problem]) -> list[Problem]:
    """As many of them as a report may hold, and how many there are besides."""
    more = len(problems) - PROBLEMS_TOLD
    if more <= 0:
        return problems
    return [*problems[:PROBLEMS_TOLD], Problem(f"{more} problems more", "", "mend these first")]


def _first(pack: Pack) -> Put | Move | Remove | None:
    return next((c for batch in pack.batches for c in batch.commands if isinstance(c, Put | Move | Remove)), None)


def first_path(pack: Pack, catalogue: RowView) -> bytes:
    """Where the first change of `pack` is, or will be, by `catalogue`; empty when that does not know it (any more)."""
    first = _first(pack)
    known = catalogue.get(first.id) if isinstance(first, Remove) else first
    if known is None or isinstance(known, Remove):
        return b""
    return path_of(catalogue, known.parent, known.name)
