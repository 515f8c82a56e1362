"""The network between the machines of a run: sessions that come and go, messages that take their time.

A session is what a TCP connection is: in order each way; while a direction is cut, what is sent waits, and after two
seconds the session ends. Between sessions nothing is ordered. A process that dies ends its sessions at once, a machine
that loses power says nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from onefold.core.messages import Arrived, Message, Problem, Refused, Report
from onefold.errors import OnefoldError, PeerError, PeerGone, PeerRefused
from onefold.ports import Objects, PeerHandler, Traffic
from simulation.virtual import Life, VirtualLoop

if TYPE_CHECKING:
    from simulation.kernel import Kernel

DEAD_SECONDS = 2.0


class Names(frozenset[str]):
    """Names whose order is that of their letters, not of their hashes."""

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(super().__iter__()))


class Session:
    """Between `a` and `b`, each with its end."""

    def __init__(self, a: SimulatedPeers, b: SimulatedPeers) -> None:
        self.ends = (a, b)
        self.open = True
        self.stalled: dict[str, list[tuple[Any, ...]]] = {}
        self.busy_until: dict[str, float] = {}

    def other(self, end: SimulatedPeers) -> SimulatedPeers:
        return self.ends[self.ends[0] is end]


class Network:
    def __init__(self, loop: VirtualLoop, kernel: Kernel) -> None:
        self.loop = loop
        self.kernel = kernel
        self.peers: dict[str, SimulatedPeers] = {}
        self.cuts: set[tuple[str, str]] = set()
        """(from, to): nothing gets through."""
        self.slow: dict[tuple[str, str], float] = {}
        """(from, to): seconds that everything takes longer, at most."""
        self.loss = 0.0
        """How many of the tells are lost; half as many come twice."""
        self.delivered = 0

    def cut(self, a: str, b: str) -> None:
        self.cuts.add((a, b))

    def mend(self, a: str, b: str) -> None:
        self.cuts.discard((a, b))
        ends = self.peers.get(a), self.peers.get(b)
        if ends[0] is not None and ends[1] is not None:
            session = ends[0].sessions.get(b)
            if session is not None:
                for what in session.stalled.pop(b, []):
                    self._send(session, ends[0], ends[1], what)
        self._meet(a, b)

    def reaches(self, a: str, b: str) -> bool:
        return (a, b) not in self.cuts and (b, a) not in self.cuts

    def start(self, peers: SimulatedPeers) -> None:
        self.peers[peers.name] = peers
        for other in sorted(self.peers):
            self._meet(peers.name, other)

    def gone(self, peers: SimulatedPeers, silently: bool) -> None:
        """The process of `peers` is no more."""
        if self.peers.get(peers.name) is peers:
            del self.peers[peers.name]
        for session in list(peers.sessions.values()):
            after = DEAD_SECONDS if silently else self._latency(peers.name, session.other(peers).name)
            self.loop.world_later(after, self.end, session)

    def end(self, session: Session) -> None:
        if session.open:
            session.open = False
            for end in session.ends:
                end.sessions.pop(session.other(end).name, None)
                self.loop.within(end.life, end.lost, session)
            self._meet(session.ends[0].name, session.ends[1].name)

    def _meet(self, a: str, b: str) -> None:
        if a != b:
            self.loop.world_later(0.002 + 0.1 * self.loop.rng.random(), self._connect, a, b)

    def _connect(self, a: str, b: str) -> None:
        one, two = self.peers.get(a), self.peers.get(b)
        if one is None or two is None or not self.reaches(a, b) or b in one.sessions or a in two.sessions:
            return
        if not (one.life.alive and two.life.alive):
            return
        session = Session(one, two)
        for end in session.ends:
            end.sessions[session.other(end).name] = session
            self.loop.within(end.life, end.found, session)

    def _latency(self, a: str, b: str) -> float:
        rng = self.loop.rng
        return 0.0001 + 0.004 * rng.random() ** 4 + self.slow.get((a, b), 0.0) * rng.random()

    def send(self, session: Session, source: SimulatedPeers, what: tuple[Any, ...]) -> None:
        """`what`: the name of the method that takes it at the other end, and its arguments."""
        if session.open:
            self._send(session, source, session.other(source), what)

    def _send(self, session: Session, source: SimulatedPeers, target: SimulatedPeers, what: tuple[Any, ...]) -> None:
        if (source.name, target.name) in self.cuts:
            stalled = session.stalled.setdefault(target.name, [])
            stalled.append(what)
            if len(stalled) == 1:
                self.loop.world_later(DEAD_SECONDS, self._give_up, session, target.name)
            return
        at = max(
            self.loop.now + self._latency(source.name, target.name), session.busy_until.get(target.name, 0.0) + 1e-6
        )
        session.busy_until[target.name] = at
        self.loop.world_later(at - self.loop.now, self._deliver, session, source, target, what)

    def _give_up(self, session: Session, target: str) -> None:
        if session.stalled.get(target):
            self.end(session)

    def _deliver(self, session: Session, source: SimulatedPeers, target: SimulatedPeers, what: tuple[Any, ...]) -> None:
        if session.open and target.life.alive:
            self.delivered += 1
            self.loop.within(target.life, target.take, session, source.name, what)


class SimulatedPeers:
    """`ports.Peers` of one life of a node."""

    def __init__(self, name: str, life: Life, network: Network, objects: Objects) -> None:
        self.name = name
        self.life = life
        self.handler: PeerHandler
        self.traffic = Traffic()
        self.sessions: dict[str, Session] = {}
        self._network = network
        self._loop = network.loop
        self._objects = objects
        self._heard: dict[str, float] = {}
        self._known: dict[str, Session] = {}
        self._asks: dict[int, tuple[Session, asyncio.Future[Any]]] = {}
        self._numbers = 0
        self._fetches: dict[bytes, asyncio.Task[None]] = {}

    # -------------------------------------------------------------------------------------------- ports.Peers

    def connected(self) -> frozenset[str]:
        return Names(self._known)

    def tell(self, node: str, message: Message) -> None:
        session = self._known.get(node)
        if session is None:
            return
        rng, loss = self._loop.rng, self._network.loss
        if loss and isinstance(message, Report | Arrived):
            if rng.random() < loss:
                return
            if rng.random() < loss / 2:
                self._network.send(session, self, ("hear", message))
        self._network.send(session, self, ("hear", message))

    async def ask(self, node: str, message: Message, seconds: float) -> Message:
        answer = await self._request(node, "answer", message, seconds)
        if isinstance(answer, Refused):
            raise PeerRefused(answer.what, answer.fix)
        return answer  # type: ignore[no-any-return]

    def last_heard(self, node: str) -> float | None:
        return self._heard.get(node)

    def problems(self) -> list[Problem]:
        return []

    async def fetch(self, digest: bytes, size: int, sources: Sequence[str]) -> None:
        running = self._fetches.get(digest)
        if running is not None:
            with contextlib.suppress(PeerError):
                await asyncio.shield(running)
                return
        if self._objects.has(digest):
            return
        running = self._fetches.get(digest)
        if running is None:
            running = self._fetches[digest] = self._loop.create_task(self._fetch(digest, size, sources))
            running.add_done_callback(lambda task: self._fetched(digest, task))
        await asyncio.shield(running)

    def _fetched(self, digest: bytes, task: asyncio.Task[None]) -> None:
        del self._fetches[digest]
        if not task.cancelled():
            task.exception()

    async def _fetch(self, digest: bytes, size: int, sources: Sequence[str]) -> None:
        failed: PeerError = PeerError(f"object {digest.hex()[:12]} could not be fetched (nobody to ask)")
        for source in sources:
            try:
                data = await self._request(source, "give", digest, 3.0)
                if isinstance(data, Refused):
                    raise PeerRefused(data.what)
                if self._loop.rng.random() < 0.02:
                    data = data[:-1] + b"?"
                await asyncio.to_thread(self._objects.receive, digest, size, (data,))
                return
            except PeerError as error:
                failed = error
        raise failed

    async def _request(self, node: str, how: str, what: Any, seconds: float) -> Any:
        session = self._known.get(node)
        if session is None:
            raise PeerGone(f"there is no connection to {node}")
        self._numbers += 1
        number = self._numbers
        answered: asyncio.Future[Any] = self._loop.create_future()
        self._asks[number] = (session, answered)
        try:
            async with asyncio.timeout(seconds):
                self._network.send(session, self, (how, number, what))
                return await answered
        except TimeoutError:
            raise PeerGone(f"{node} did not answer in time") from None
        finally:
            del self._asks[number]

    # -------------------------------------------------------------------------------------------- the other end

    def found(self, session: Session) -> None:
        other = session.other(self).name
        if session.open and self.sessions.get(other) is session:
            self._known[other] = session
            self._heard[other] = self._loop.now
            self.handler.joined(other)

    def lost(self, session: Session) -> None:
        other = session.other(self).name
        for waiting, answered in list(self._asks.values()):
            if waiting is session and not answered.done():
                answered.set_exception(PeerGone(f"the connection to {other} closed"))
        if self._known.get(other) is session:
            del self._known[other]
            self.handler.left(other)

    def take(self, session: Session, peer: str, what: tuple[Any, ...]) -> None:
        if self._known.get(peer) is not session:
            return
        self._heard[peer] = self._loop.now
        how, *rest = what
        if how == "hear":
            self.handler.heard(peer, rest[0])
        elif how == "answered":
            waiting = self._asks.get(rest[0])
            if waiting is not None and not waiting[1].done():
                waiting[1].set_result(rest[1])
        else:
            self._loop.create_task(self._serve(session, peer, how, *rest))

    async def _serve(self, session: Session, peer: str, how: str, number: int, what: Any) -> None:
        try:
            answer = await (self.handler.answer(peer, what) if how == "answer" else self._give(what))
        except OnefoldError as error:
            answer = Refused(error.what, error.fix)
        self._network.send(session, self, ("answered", number, answer))

    async def _give(self, digest: bytes) -> Any:
        found = await self.handler.locate(digest)
        if isinstance(found, PurePath):
            try:
                return await asyncio.to_thread(self._read, str(found))
            except OSError as error:
                return Refused(f"{self.name} cannot read it: {error}")
        return Refused(f"{self.name} does not have it") if found is None else found

    def _read(self, path: str) -> bytes:
        self._network.kernel.enter()
        return self._network.kernel.at(path.encode()).data
