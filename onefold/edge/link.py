"""One connection between nodes: its greeting, its frames, its asks and answers.

    dialler                                  listener
    TLS: is this the node I dialled?       ↔ TLS: is this a member?
    Hello                                  → same folder, same rules?
    same folder, same rules?               ← Hello, or Refused and the end
    frames                                 ↔ frames

Each frame is a header (length of the message, kind, request id) and a message of `core.wire`. Nothing reaches the
handler before both have said `Hello` (G8).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
import struct
from collections.abc import Coroutine, Iterator
from enum import IntEnum
from typing import Any, Protocol, cast

from onefold.core.messages import Ask, BeginAnew, Confirm, Message, MoveLeader, Refused, Verify, Wait
from onefold.core.wire import decode_message, encode_message
from onefold.edge.doors import ADMIN, HANDSHAKE_SECONDS, HELLO_BYTES_MAX, Doors, tune
from onefold.errors import OnefoldError, PeerAway, PeerError, PeerGone, PeerRefused
from onefold.ports import PeerHandler, Traffic

FRAME_BYTES_MAX = 8 << 20
UNSENT_BYTES_MAX = 4 << 20
"""A peer that leaves so much unread gets no reports, and asks and answers to it wait."""
UNANSWERED_BYTES_MAX = 64 << 20
"""No more is read from a peer while so much of what it asked is being answered."""
ASK_BYTES = 1024
"""What a request costs beside its message, as counted for `UNANSWERED_BYTES_MAX`."""
ADMIN_ASKS = (Ask, Confirm, MoveLeader, Wait, Verify, BeginAnew)
"""All that the command line may ask, which comes with a certificate in the name of `ADMIN` and is no peer."""
CERTIFICATE_FIX = "check that both nodes' certificates are of the same authority"

HEADER = struct.Struct(">IBQ")


class FrameKind(IntEnum):
    TELL = 0
    ASK = 1
    ANSWER = 2


class Network(Protocol):
    """What a link knows of the connections to all peers."""

    doors: Doors
    handler: PeerHandler
    traffic: Traffic
    links: set[Link]

    def spawn(self, work: Coroutine[Any, Any, None]) -> object: ...

    def hear(self, peer: str) -> None: ...

    def note(self, peer: str, what: str, fix: str) -> None: ...

    def join(self, peer: str, link: Link) -> None: ...

    def leave(self, peer: str, link: Link) -> None: ...


class Link(asyncio.Protocol):
    """One connection: a stranger's until `peer` is set, then a session until `gone` is done."""

    def __init__(self, network: Network, dialled: str | None) -> None:
        self._network = network
        self._dialled = dialled
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._certified = ""
        self._serial = ""
        self._received = bytearray()
        self._unanswered = 0
        self._asked: dict[int, asyncio.Future[Message]] = {}
        self._ids = itertools.count(1)
        self.writable = asyncio.Event()
        self.writable.set()
        self.peer: str | None = None
        self.refused = False
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self.lost = asyncio.Event()
        """The socket is closed, some time after `gone`."""

    # -------------------------------------------------------------------------------- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._transport = transport
        self._network.links.add(self)
        transport.set_write_buffer_limits(high=UNSENT_BYTES_MAX)
        tune(transport.get_extra_info("socket"))
        self._deadline = self._loop.call_later(HANDSHAKE_SECONDS, self.end)
        with self._verdict():
            self._certified, self._serial = self._network.doors.recognise(transport.get_extra_info("ssl_object"))
            if self._dialled is None:
                self._network.doors.check_visitor(self._certified)
            else:
                self._network.doors.check_answerer(self._certified, self._dialled)
                self.send(FrameKind.TELL, 0, self._network.doors.me)

    def data_received(self, data: bytes) -> None:
        if self.gone.done():
            return
        self._received += data
        self._network.traffic.receive(len(data))
        if self.peer is not None:
            self._network.hear(self.peer)
        with self._verdict():
            self._read_frames()

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, ssl.SSLError) and self._dialled is not None and self.peer is None:
            # With TLS 1.3 the listener judges our certificate after our side of the handshake is done.
            self._network.note(self._dialled, f"{self._dialled} ended the connection ({exc.reason})", CERTIFICATE_FIX)
            self.refused = True
        self.end()
        self._network.links.discard(self)
        self.lost.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def check(self) -> None:
        """Who is let in has changed: end, if that is not this peer any more. That is no problem: somebody wanted it."""
        if not self._certified or self.gone.done():
            return
        try:
            self._network.doors.check_serial(self._certified, self._serial)
            self._network.doors.check_visitor(self._certified)
        except PeerRefused as error:
            self.refused = True
            if self._dialled is None:
                self.send(FrameKind.TELL, 0, Refused(error.what, error.fix))
            self.end()

    # -------------------------------------------------------------------------------- frames

    def _read_frames(self) -> None:
        at = 0
        view_end = len(self._received)
        while not self.gone.done() and view_end - at >= HEADER.size:
            size, kind, number = HEADER.unpack_from(self._received, at)
            limit = FRAME_BYTES_MAX if self.peer is not None else HELLO_BYTES_MAX
            if size > limit:
                raise PeerError(f"{self._certified} sent a message of {size} bytes", "update Onefold on all nodes")
            if view_end - at - HEADER.size < size:
                break
            at += HEADER.size
            self._read(kind, number, bytes(memoryview(self._received)[at : at + size]))
            at += size
        del self._received[:at]

    def _read(self, kind: int, number: int, data: bytes) -> None:
        message = decode_message(data)
        if self.peer is None:
            self._greet(message)
        elif self.peer == ADMIN and not (kind == FrameKind.ASK and isinstance(message, ADMIN_ASKS)):
            raise PeerRefused(f"{ADMIN} may not say {type(message).__name__}", "ask as a member would")
        elif kind == FrameKind.TELL:
            self._network.handler.heard(self.peer, message)
        elif kind == FrameKind.ASK:
            self._start_answer(self.peer, number, message, len(data) + ASK_BYTES)
        elif kind == FrameKind.ANSWER:
            asked = self._asked.pop(number, None)
            if asked is not None and not asked.done():  # else its answer came too late
                asked.set_result(message)
        else:
            raise PeerError(f"{self._certified} sent a frame of unknown kind {kind}", "update Onefold on all nodes")

    def _greet(self, message: Message) -> None:
        if isinstance(message, Refused) and self._dialled is not None:
            self.refused = True
            self._network.note(self._certified, message.what, message.fix)
            self.end()
            return
        self._network.doors.check_hello(self._certified, message)
        if self._deadline is not None:
            self._deadline.cancel()
        if self._dialled is None:
            self.send(FrameKind.TELL, 0, self._network.doors.me)
        self.peer = self._certified
        if self.peer != ADMIN:
            self._network.join(self.peer, self)

    @contextlib.contextmanager
    def _verdict(self) -> Iterator[None]:
        """What is wrong with a peer ends its connection, and becomes a problem; a refusal is told to the peer."""
        try:
            yield
        except PeerError as error:
            self._network.note(self._certified, error.what, error.fix)
            if isinstance(error, PeerRefused):
                self.refused = True
                if self._dialled is None:
                    self.send(FrameKind.TELL, 0, Refused(error.what, error.fix))
            self.end()

    def send(self, kind: FrameKind, number: int, message: Message) -> None:
        """Queue `message`. Raises `PeerRefused` when it is larger than a frame may be."""
        data = encode_message(message)
        if len(data) > FRAME_BYTES_MAX:
            raise PeerRefused(
                f"a message of {len(data)} bytes is larger than the {FRAME_BYTES_MAX} that peers take",
                "send less at once",
            )
        if self._transport is not None:
            self._transport.write(HEADER.pack(len(data), kind, number) + data)
            self._network.traffic.send(HEADER.size + len(data))

    # -------------------------------------------------------------------------------- asking and answering

    async def ask(self, message: Message, seconds: float) -> Message:
        """See `Peers.ask`."""
        number = next(self._ids)
        answer: asyncio.Future[Message] = self._loop.create_future()
        self._asked[number] = answer
        try:
            async with asyncio.timeout(seconds):
                await self.writable.wait()
                if not answer.done():  # else the connection closed while waiting
                    self.send(FrameKind.ASK, number, message)
                return await answer
        except TimeoutError as error:
            raise PeerGone(f"{self.peer} did not answer within {seconds:g} s") from error
        finally:
            self._asked.pop(number, None)

    def _start_answer(self, peer: str, number: int, message: Message, cost: int) -> None:
        assert self._transport is not None
        self._unanswered += cost
        if self._unanswered > UNANSWERED_BYTES_MAX:
            self._transport.pause_reading()
        self._network.spawn(self._answer(peer, number, message, cost))

    async def _answer(self, peer: str, number: int, message: Message, cost: int) -> None:
        try:
            try:
                answer = await self._network.handler.answer(peer, message)
            except OnefoldError as error:
                answer = Refused(error.what, error.fix, isinstance(error, PeerAway))
            except Exception:
                self._reply(number, Refused(f"{self._network.doors.me.node} failed to answer", "see its log"))
                raise
            await self.writable.wait()
            self._reply(number, answer)
        finally:
            before = self._unanswered
            self._unanswered -= cost
            if self._unanswered <= UNANSWERED_BYTES_MAX < before and self._transport is not None:
                self._transport.resume_reading()

    def _reply(self, number: int, answer: Message) -> None:
        if self.gone.done():
            return
        try:
            self.send(FrameKind.ANSWER, number, answer)
        except PeerRefused as error:
            self.send(FrameKind.ANSWER, number, Refused(error.what, error.fix))

    def end(self) -> None:
        """Close, once: what is in flight fails, and the handler hears of it. What was queued may still be sent."""
        if self.gone.done():
            return
        self.gone.set_result(None)
        if self._deadline is not None:
            self._deadline.cancel()
        self.writable.set()
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(PeerGone(f"the connection to {self.peer} closed"))
        if self._transport is not None:
            self._transport.close()
            # A peer that does not take part in the closing must not hold the socket.
            self._loop.call_later(HANDSHAKE_SECONDS, self._transport.abort)
        if self.peer is not None:
            self._network.leave(self.peer, self)

    async def abort(self) -> None:
        """`end` without waiting for the peer's part in it."""
        self.end()
        if self._transport is not None:
            self._transport.abort()
        await self.lost.wait()
