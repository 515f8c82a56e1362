"""What peers and the command line ask of a node, and what a node does with what peers tell it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import structlog

from onefold.core import wire
from onefold.core.messages import (
    Arrived,
    Ask,
    AskCatalogue,
    AskCertificates,
    AskStrays,
    BeginAnew,
    Cluster,
    Confirm,
    Confirmed,
    DropStray,
    Flush,
    Flushed,
    Forward,
    Give,
    Held,
    Hold,
    Message,
    Moved,
    MoveLeader,
    Reach,
    Reached,
    ReadStray,
    Refused,
    Report,
    RestoreStray,
    Taken,
    Verify,
    Wait,
)
from onefold.core.model import API, COMMANDS_MAX
from onefold.errors import NotFound, PeerError, PeerRefused
from onefold.node.append import Appender, Proposal
from onefold.node.durable import Keeper
from onefold.node.fetch import Fetcher
from onefold.node.flush import FLUSH_SECONDS, Flusher
from onefold.node.give import Giver
from onefold.node.given import Identity, Ports
from onefold.node.kept import Kept
from onefold.node.large import LargeContents
from onefold.node.lead import Elector
from onefold.node.place import Placer
from onefold.node.propose import Proposer
from onefold.node.report import Reporter
from onefold.node.scrub import Scrubber

CLUSTER_SECONDS = 1.0
SETTLE_SECONDS = 2.0
"""How long whoever moves leadership waits for one that is just being moved."""

log = structlog.get_logger()


class Answerer:
    """Implements `ports.PeerHandler`: passes on to the stations what concerns them."""

    def __init__(
        self,
        who: Identity,
        ports: Ports,
        elector: Elector,
        appender: Appender,
        placer: Placer,
        proposer: Proposer,
        fetcher: Fetcher,
        giver: Giver,
        large: LargeContents,
        keeper: Keeper,
        reporter: Reporter,
        flusher: Flusher,
        scrubber: Scrubber,
        kept: Kept,
        reported: Callable[[str, Report], None],
        moved: Callable[[], None],
        begin_anew: Callable[[], None],
    ) -> None:
        """`reported(peer, report)`: its newest report has come. `moved()`: another node's folder has arrived
        somewhere, or a node is gone. `begin_anew()`: give the catalogue up; raises `PeerRefused`."""
        self._who = who
        self._members = who.members
        self._ports = ports
        self._elector = elector
        self._appender = appender
        self._placer = placer
        self._proposer = proposer
        self._fetcher = fetcher
        self._giver = giver
        self._large = large
        self._keeper = keeper
        self._reporter = reporter
        self._flusher = flusher
        self._scrubber = scrubber
        self._kept = kept
        self._reported = reported
        self._moved = moved
        self._begin_anew = begin_anew
        self.certify: Callable[[str, AskCertificates], Awaitable[Message]] | None = None
        """Signs certificates for a peer, if this node can."""

    def change(self, members: Sequence[str]) -> None:
        """These are all nodes now."""
        self._members = tuple(members)

    # -------------------------------------------------------------------------------------------- what is told

    def heard(self, peer: str, message: Message) -> None:
        if isinstance(message, Arrived):
            self._reporter.arrived_at(peer, message.in_place)
            self._moved()
        elif isinstance(message, Report) and peer == message.node:
            self._reporter.reports[peer] = message
            self._reported(peer, message)
            self._moved()

    def joined(self, peer: str) -> None:
        log.info("connected", peer=peer)
        self._reporter.change()
        self._elector.wake()
        self._placer.retry()
        self._fetcher.retry()

    def left(self, peer: str) -> None:
        log.info("disconnected", peer=peer)
        self._reporter.reports.pop(peer, None)
        self._giver.left(peer)
        self._moved()
        self._elector.wake()

    # -------------------------------------------------------------------------------------------- what is asked

    async def answer(self, peer: str, message: Message) -> Message:
        match message:
            case Hold():
                return await self._hold(message)
            case Forward():
                return self._forward(peer, message)
            case AskCatalogue():
                return self._giver.page(peer, message)
            case Give(digests=digests):
                return await self._giver.give(digests)
            case Reach(node=node):
                return Reached(self._elector.reaches(node))
            case Flush():
                return Flushed(await self._flusher.flush())
            case MoveLeader(node=node):
                return await self._move_leader(node)
            case Confirm(node=node):
                return self._confirm() if node in ("", self._who.name) else await self._confirm_at(node)
            case Ask():
                return await self._cluster()
            case Wait(seconds=seconds):
                return await self._flusher.wait(seconds)
            case Verify(run=run, repair=repair, known=known):
                return self._scrubber.verify(run, repair, known)
            case AskCertificates():
                if self.certify is None:
                    raise PeerRefused(f"{self._who.name} signs no certificates", "ask a node that votes")
                return await self.certify(peer, message)
            case AskStrays() | ReadStray() | RestoreStray() | DropStray():
                return await self._kept.answer(message)
            case BeginAnew():
                self._begin_anew()
                return Taken()
        raise PeerRefused(f"{self._who.name} does not know what to do with {type(message).__name__}", "upgrade it")

    async def locate(self, digest: bytes) -> Path | bytes | None:
        return self._giver.locate(digest)

    async def _hold(self, hold: Hold) -> Message:
        # Before it is here as well, so that nobody lets go of it on the way.
        self._keeper.pin(hold.digest, max(hold.term, self._elector.term))
        if not self._ports.objects.has(hold.digest):
            if hold.data is not None:
                await asyncio.to_thread(self._ports.objects.put, hold.digest, hold.data)
            elif not await self._fetcher.make_object(hold.digest, hold.size):
                await self._ports.peers.fetch(hold.digest, hold.size, hold.sources)
        self._keeper.pin(hold.digest, max(hold.term, self._elector.term))
        return Held(hold.digest)

    def _forward(self, peer: str, forward: Forward) -> Message:
        name = self._who.name
        if not self._elector.active:
            return Refused(f"{name} does not lead", "send it to the leader")
        if forward.batch.origin.node != (peer + API if forward.batch.answered else peer):
            return Refused(f"{peer} sent a batch of {forward.batch.origin.node}")
        if self._who.writers != "any" and not forward.led and not forward.batch.answered:
            return Refused(f"{peer} does not lead, and writers = leader", "set writers = any, or edit on the leader")
        if len(forward.batch.commands) > COMMANDS_MAX:
            return Refused(f"{peer} sent a batch of more than {COMMANDS_MAX} commands")
        for digest, data in forward.contents.items():
            if wire.content_digest(data) != digest:
                return Refused(f"{peer} sent content that is not what its digest names")
        self._appender.submit(Proposal(forward.batch, forward.contents))
        return Taken()

    def _confirm(self) -> Message:
        if self._proposer.guard.looking:
            return Refused(f"{self._who.name} is still looking through its folder", "ask again in a moment")
        removals = self._proposer.confirm()
        self._reporter.change()
        return Confirmed(removals)

    async def _confirm_at(self, node: str) -> Message:
        if node not in self._members:
            raise NotFound(f"there is no node {node!r}", f"there are {', '.join(self._members)}")
        return await self._ports.peers.ask(node, Confirm(), CLUSTER_SECONDS)

    async def _move_leader(self, node: str) -> Message:
        leader = await self._elector.settled(SETTLE_SECONDS)
        if leader == self._who.name:
            moved = await self._elector.move(node, "command")
            return Moved(moved.node, moved.term)
        if not leader:
            return Refused("nobody leads at the moment", "ask again in a moment")
        return await self._ports.peers.ask(leader, MoveLeader(node), FLUSH_SECONDS)

    async def _cluster(self) -> Cluster:
        own, *others = self._reporter.known()
        recent = tuple(self._reporter.recent.values())
        if not recent and own.leader and own.leader != own.node:
            with contextlib.suppress(PeerError):
                answer = await self._ports.peers.ask(own.leader, Ask(), CLUSTER_SECONDS)
                if isinstance(answer, Cluster):
                    recent = answer.recent
        return Cluster(own.leader, own.term, (own, *others), self._members, recent)
