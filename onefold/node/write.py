"""What is asked to be written through the API, on any node: requests into batches, to the leader, and back their fate.

One batch is on its way at a time; requests that come meanwhile share the next one. It is drafted against this node's
catalogue, sent to whoever leads, and again until it is in the log: that it is there twice changes nothing, since it has
an origin. What the catalogue rejects is drafted anew. "No" is only said by a catalogue that has all that was committed
when the request came: so is every answer linearizable.

Nothing of it stands in this node's folder. So it comes there as what any other node wrote, and an edit that is met
there is treated as one (G3).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import msgspec
import structlog

from onefold.core import wire
from onefold.core.messages import Forward
from onefold.core.model import API, Applied, Batch, Kind, Origin, Pack
from onefold.core.request import Again, Done, Draft, Request, Span, Write, check, judge
from onefold.core.views import RowView
from onefold.errors import ContentMismatch, InTheWay, OnefoldError, OperatorError, PeerError, Unavailable, UserError
from onefold.node.append import PACK_BYTES_MAX, Appender, Proposal, weight
from onefold.node.durable import Keeper
from onefold.node.fetch import chunks
from onefold.node.given import Identity, Ports
from onefold.node.hold import Era, Holder
from onefold.node.waiting import happened
from onefold.ports import Spawn

ANSWER_SECONDS = 30.0
RESEND_SECONDS = 1.0
RETRY_SECONDS = 0.1
TRIES_MAX = 20
"""So often a request is drafted anew because something came in between."""
SMALL_BYTES_MAX = 64 << 10
"""Larger contents are held by a majority before their batch is sent; smaller ones ride in it."""
COMMANDS_MAX = 10_000
"""No request is added to a batch that has so many commands."""

log = structlog.get_logger()


class Ticket:
    """A request that somebody waits for. `contents`: what rides along. `large`: the content that must be held instead,
    with its size, and `era` that for which it was. `fresh`: the catalogue has all that was committed when the request
    came. `begun`: a part of it is carried out."""

    def __init__(self, request: Request, since: float) -> None:
        self.request = request
        self.since = since
        self.contents: dict[bytes, bytes] = {}
        self.large: tuple[bytes, int] | None = None
        self.era: Era | None = None
        self.fresh = False
        self.begun = False
        self.tries = 0
        self.answer: asyncio.Future[Done] = asyncio.get_running_loop().create_future()

    def fail(self, error: OnefoldError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class Flight(msgspec.Struct, frozen=True):
    """The batch that is on its way, with the tickets that it is for."""

    proposal: Proposal
    tickets: list[tuple[Ticket, Span]]


class Writer:
    """Writes for whoever may. `do` raises `BadPath`, `NotFound`, `InTheWay` and `PreconditionFailed` when nothing was
    changed (but for a part of a tree that was to be removed), `Unavailable`, and `DiskTrouble`.
    """

    def __init__(
        self,
        who: Identity,
        ports: Ports,
        appender: Appender,
        holder: Holder,
        keeper: Keeper,
        leader: Callable[[], str],
        term: Callable[[], int],
        ready: Callable[[], bool],
        linearize: Callable[[float], Awaitable[int]],
        spawn: Spawn,
    ) -> None:
        """`leader` (a name, "" for nobody) and `term` (the newest known) as they are when asked. `ready()`: whether
        this node's catalogue is the folder, as far as it knows. `linearize(seconds)` returns once all is applied that
        was committed when it was called."""
        self._me = who.name
        self._incarnation = who.incarnation
        self._sequence = 0
        self._view: RowView = ports.catalogue
        self._objects = ports.objects
        self._peers = ports.peers
        self._clock = ports.clock
        self._appender = appender
        self._holder = holder
        self._keeper = keeper
        self._leader = leader
        self._term = term
        self._ready = ready
        self._linearize = linearize
        self._spawn = spawn
        self._queue: deque[Ticket] = deque()
        self._flight: Flight | None = None
        self._delivery: asyncio.Task[None] | None = None
        self._turn = asyncio.Event()
        self._planned = False

    def __len__(self) -> int:
        """How many requests wait, or are on their way."""
        return len(self._queue) + (len(self._flight.tickets) if self._flight is not None else 0)

    async def do(self, request: Request, content: bytes | Path | None = None, seconds: float = ANSWER_SECONDS) -> Done:
        """Carry `request` out; returns once it is committed, and applied here.

        `content` of a `Write` of a file: the bytes, or a file of ours that holds them.
        """
        check(request)
        ticket = Ticket(request, self._clock.now())
        try:
            async with asyncio.timeout(seconds):
                if content is not None:
                    await self._take(ticket, request, content)
                self._queue.append(ticket)
                self._plan()
                return await ticket.answer
        except TimeoutError:
            raise self._overdue(ticket) from None
        finally:
            if ticket in self._queue:
                self._queue.remove(ticket)
            ticket.answer.cancel()

    def _overdue(self, ticket: Ticket) -> Unavailable:
        if self._flight is not None and any(each is ticket for each, _ in self._flight.tickets):
            what = "no majority has answered in time; it may be written all the same"
            return Unavailable(what, "read it to see, or write it again", unknown=True)
        if not self._leader():
            return Unavailable("nobody leads at the moment; nothing was written", "ask again in a moment")
        done = "a part is removed" if ticket.begun else "nothing was written"
        return Unavailable(f"no majority has answered in time; {done}", "ask again in a moment", unknown=ticket.begun)

    def turned(self) -> None:
        """Who leads, who votes, or what this node knows, has changed."""
        self._turn.set()
        if self._flight is not None:
            self._route(self._flight)
        self._plan()

    def since(self, pack: Pack) -> float | None:
        """When the first request that `pack` carries out came, if it is on its way from here."""
        flight = self._flight
        if flight is None or all(batch.origin != flight.proposal.batch.origin for batch in pack.batches):
            return None
        return min(ticket.since for ticket, _ in flight.tickets)

    # -------------------------------------------------------------------------------------------- content

    async def _take(self, ticket: Ticket, request: Request, content: bytes | Path) -> None:
        """Have the content where its entry needs it. Raises `DiskTrouble`, and `ContentMismatch`."""
        assert isinstance(request, Write)
        assert request.kind is Kind.FILE
        if isinstance(content, bytes) and len(content) <= SMALL_BYTES_MAX:
            if wire.content_digest(content) != request.content or len(content) != request.size:
                raise ContentMismatch("what was written is not what its digest says", "write it again")
            ticket.contents[request.content] = content
            return
        await self._would_do(ticket)
        ticket.large = (request.content, request.size)
        self._keeper.pin(request.content, self._term())
        parts: Iterable[bytes] = (content,) if isinstance(content, bytes) else chunks(content)
        await asyncio.to_thread(self._objects.receive, request.content, request.size, parts)
        while not (self._term() and await self._hold([ticket])):
            await self._clock.sleep(RETRY_SECONDS)

    async def _would_do(self, ticket: Ticket) -> None:
        """Raises what keeps the request from being carried out, before a large content is sent to everybody."""
        while True:
            try:
                Draft(self._view).add(ticket.request)
            except UserError:
                if ticket.fresh:
                    raise
                await self._refresh(ticket)
            else:
                return

    async def _hold(self, tickets: Iterable[Ticket]) -> bool:
        """Whether a majority of those who vote now holds what is large of these, in the newest term."""
        for ticket in tickets:
            era = self._holder.era
            if ticket.large is None or ticket.era == era:
                continue
            digest, size = ticket.large
            self._keeper.pin(digest, self._term())
            try:
                await self._holder.hold(digest, size, None, _made)
            except PeerError as error:
                log.info("content is not held yet", digest=digest.hex(), error=str(error))
                return False
            ticket.era = era
        return True

    # -------------------------------------------------------------------------------------------- drafting

    def _plan(self) -> None:
        """Draft a batch as soon as what runs now is done: so requests that come together share it."""
        if not self._planned and self._queue and self._flight is None:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._draft)

    def _draft(self) -> None:
        self._planned = False
        if self._flight is not None or not self._ready() or not self._leader():
            return
        draft = Draft(self._view)
        tickets: list[tuple[Ticket, Span]] = []
        contents: dict[bytes, bytes] = {}
        size = counted = 0
        left: deque[Ticket] = deque()
        while self._queue:
            ticket = self._queue.popleft()
            more = sum(map(len, ticket.contents.values()))
            if len(draft.commands) >= COMMANDS_MAX or (tickets and size + more > PACK_BYTES_MAX):
                left.append(ticket)
                break
            try:
                span = draft.add(ticket.request)
            except UserError as error:
                self._refuse(ticket, error)
                continue
            if span is None:
                left.append(ticket)
                continue
            contents.update(ticket.contents)
            size += more + sum(map(weight, draft.commands[counted:]))
            counted = len(draft.commands)
            tickets.append((ticket, span))
        self._queue.extendleft(reversed(left))
        if tickets:
            self._sequence += 1
            origin = Origin(self._me + API, self._incarnation, self._sequence)
            batch = Batch(origin, tuple(draft.commands), answered=True)
            flight = self._flight = Flight(Proposal(batch, contents), tickets)
            self._route(flight)

    def _refuse(self, ticket: Ticket, error: UserError) -> None:
        """The catalogue does not allow it: so it is, unless that may be old."""
        if ticket.fresh:
            ticket.fail(error)
        else:
            self._spawn(self._again(ticket))

    async def _again(self, ticket: Ticket) -> None:
        try:
            await self._refresh(ticket)
        except Unavailable as error:
            ticket.fail(error)
        if not ticket.answer.done():
            self._queue.appendleft(ticket)
            self._plan()

    async def _refresh(self, ticket: Ticket) -> None:
        await self._linearize(ANSWER_SECONDS)
        ticket.fresh = True

    # -------------------------------------------------------------------------------------------- on its way

    def _route(self, flight: Flight) -> None:
        """Send `flight` to whoever leads, and again, until it lands."""
        if self._delivery is not None:
            self._delivery.cancel()
            self._delivery = None
        if self._leader() == self._me and not self._must_be_held(flight):
            self._appender.submit(flight.proposal)
        else:
            self._delivery = self._spawn(self._deliver(flight))

    def _must_be_held(self, flight: Flight) -> bool:
        """Whether some of its contents were held in an older term only, so that they may be let go, or by others."""
        return any(ticket.large and ticket.era != self._holder.era for ticket, _ in flight.tickets)

    async def _deliver(self, flight: Flight) -> None:
        while self._flight is flight:
            self._turn.clear()
            seconds = RETRY_SECONDS
            held = await self._hold(ticket for ticket, _ in flight.tickets)
            leader = self._leader()
            if leader and held and not self._must_be_held(flight):
                if leader == self._me:
                    self._appender.submit(flight.proposal)
                    return
                try:
                    forward = Forward(flight.proposal.batch, flight.proposal.contents, 0)
                    await self._peers.ask(leader, forward, RESEND_SECONDS)
                    seconds = RESEND_SECONDS
                except PeerError as error:
                    log.info("a batch was not taken", leader=leader, error=str(error))
            await happened(self._turn, seconds)

    def land(self, pack: Pack, applied: Applied) -> None:
        """An entry was applied: if it brought our batch, those who wait are answered."""
        flight = self._flight
        if flight is None or flight.proposal.batch.origin not in applied.outcomes:
            self._plan()  # the folder may be known by now
            return
        batch = flight.proposal.batch
        outcomes = applied.outcomes[batch.origin]
        if len(outcomes) != len(batch.commands):
            raise OperatorError(
                f"the log has later batches of {self._me} than those of this start",
                "set this machine's clock, and see that no other node has that name; then restart the node",
            )
        offset = 0
        for other in pack.batches:
            if other.origin == batch.origin:
                break
            offset += len(other.commands)
        self._flight = None
        for ticket, span in flight.tickets:
            self._judge(ticket, judge(ticket.request, span, batch.commands, outcomes, applied.index, offset))
        self._plan()

    def _judge(self, ticket: Ticket, verdict: Done | Again) -> None:
        if ticket.answer.done():
            return
        if isinstance(verdict, Done):
            ticket.answer.set_result(verdict)
            return
        ticket.fresh = True
        ticket.begun = ticket.begun or verdict.progress
        ticket.tries += not verdict.progress
        if ticket.tries >= TRIES_MAX:
            what = f"others change it all the time ({verdict.reason})"
            ticket.fail(InTheWay(what, "ask again when there is less going on"))
        else:
            self._queue.appendleft(ticket)


async def _made() -> None:
    """The object is made already."""
