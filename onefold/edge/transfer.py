"""Connections to the other nodes, mutual TLS 1.3: messages here, large contents by `bulk`, who may come in by `doors`.

One control connection per pair. The node with the smaller name dials, at once and then again and again; the other only
listens. So there is never a choice between two connections: a newer one from the same peer replaces the older, which
can only be one that died unnoticed. Retrying every 100 ms at most costs a refused connect, and a restarted node is back
that soon.

    dialler                                  listener
    TLS: is this the node I dialled?       ↔ TLS: is this a member?
    Hello                                  → same folder, same rules?
    same folder, same rules?               ← Hello, or Refused and the end
    frames                                 ↔ frames

Each frame is a header (length of the message, kind, request id) and a message of `core.wire`. Nothing reaches the
handler before both have said `Hello` (G8). Large contents have a listener of their own, one port above this one's.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import socket
import ssl
import struct
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from pathlib import Path
from typing import Any, cast

from onefold.core.messages import Ask, Hello, Message, MoveLeader, Problem, Refused, Wait
from onefold.core.wire import decode_message, encode_message
from onefold.edge.bulk import BulkClient, BulkServer
from onefold.edge.doors import ADMIN, CONNECT_SECONDS, HANDSHAKE_SECONDS, HELLO_BYTES_MAX, Doors, tune
from onefold.errors import OnefoldError, OperatorError, PeerError, PeerGone, PeerRefused
from onefold.ports import Objects, PeerHandler

FRAME_BYTES_MAX = 8 << 20
REDIAL_SECONDS = (0.0, 0.02, 0.05, 0.1)
"""Waits before dialling again, the last one for ever; from the start after a connection that stood."""
STOOD_SECONDS = 1.0
REFUSED_SECONDS = 1.0
"""Wait after being refused: only a person mends that."""
UNSENT_BYTES_MAX = 4 << 20
"""A peer that leaves so much unread gets no reports, and asks and answers to it wait."""
UNANSWERED_BYTES_MAX = 64 << 20
"""No more is read from a peer while so much of what it asked is being answered."""
ASK_BYTES = 1024
"""What a request costs beside its message, as counted for `UNANSWERED_BYTES_MAX`."""
PROBLEM_SECONDS = 30.0
"""A problem that did not come up again for so long is over."""
PROBLEMS_MAX = 64
FETCHES_MAX = 8
STRANGERS_MAX = 256
"""Connections in the middle of their handshake; more are closed at once."""

ADMIN_ASKS = (Ask, MoveLeader, Wait)
"""All that the command line may ask, which comes with a certificate in the name of `ADMIN` and is no peer."""

HEADER = struct.Struct(">IBQ")


class FrameKind(IntEnum):
    TELL = 0
    ASK = 1
    ANSWER = 2


class _Link(asyncio.Protocol):
    """One connection: a stranger's until `peer` is set, then a session until `gone` is done."""

    def __init__(self, network: PeerNetwork, dialled: str | None) -> None:
        self._network = network
        self._dialled = dialled
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._certified = ""
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
            self._certified = self._network.doors.peer_name(transport.get_extra_info("ssl_object"))
            if self._dialled is None:
                self._network.doors.check_visitor(self._certified)
            else:
                self._network.doors.check_answerer(self._certified, self._dialled)
                self.send(FrameKind.TELL, 0, self._network.doors.me)

    def data_received(self, data: bytes) -> None:
        if self.gone.done():
            return
        self._received += data
        if self.peer is not None:
            self._network.hear(self.peer)
        with self._verdict():
            self._read_frames()

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, ssl.SSLError) and self._dialled is not None and self.peer is None:
            # With TLS 1.3 the listener judges our certificate after our side of the handshake is done.
            self._network.note(self._dialled, f"{self._dialled} ended the connection ({exc.reason})", _CERTIFICATE_FIX)
            self.refused = True
        self.end()
        self._network.links.discard(self)
        self.lost.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

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
                answer = Refused(error.what, error.fix)
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


_CERTIFICATE_FIX = "check that both nodes' certificates are of the same authority"


class PeerNetwork:
    """The other nodes, as `ports.Peers`.

    `members` gives each node's host and control port (bulk is one above); an entry for ourselves is ignored. `server`
    and `client` must verify the other side's certificate, as those of `edge.tls` do, and its `peer_name` reads the
    name out of it.
    `handler` hears nothing before `start`, and may be set until then.
    """

    def __init__(
        self,
        node: str,
        folder: str,
        incarnation: int,
        rules: int,
        host: str,
        port: int,
        members: Mapping[str, tuple[str, int]],
        server: ssl.SSLContext,
        client: ssl.SSLContext,
        peer_name: Callable[[ssl.SSLObject | ssl.SSLSocket], str],
        objects: Objects,
        handler: PeerHandler,
    ) -> None:
        others = {name: address for name, address in members.items() if name != node}
        self.doors = Doors(Hello(folder, node, incarnation, rules), others, server, client, peer_name)
        self.handler = handler
        self.links: set[_Link] = set()
        self._host = host
        self._port = port
        self._objects = objects
        self._sessions: dict[str, _Link] = {}
        self._heard: dict[str, float] = {}
        self._problems: dict[tuple[str, str], tuple[float, Problem]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._fetches: dict[bytes, asyncio.Task[None]] = {}
        self._listener: socket.socket | None = None
        self._strangers = 0
        self._threads = ThreadPoolExecutor(FETCHES_MAX, thread_name_prefix="onefold-fetch")
        self._bulk_server = BulkServer(self.doors, self._locate)
        self._bulk_client = BulkClient(self.doors, objects)

    # -------------------------------------------------------------------------------- life

    async def start(self) -> None:
        """Listen, and begin to dial. Raises `OperatorError` when a port cannot be had."""
        loop = asyncio.get_running_loop()
        control = _listen(self._host, self._port)
        try:
            bulk = _listen(self._host, self._port + 1)
        except BaseException:
            control.close()
            raise
        self._bulk_server.start(bulk, loop)
        control.setblocking(False)
        self._listener = control
        self.spawn(self._accept(control))
        for node in self.doors.members:
            if self.doors.me.node < node:
                self.spawn(self._keep_dialling(node))

    async def close(self) -> None:
        """Close every connection and thread. Asks and fetches in flight fail with `PeerGone`."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()
        await asyncio.gather(*(link.abort() for link in self.links))
        self._bulk_client.close()
        await asyncio.to_thread(self._bulk_server.close)
        await asyncio.gather(*self._fetches.values(), return_exceptions=True)
        await asyncio.to_thread(self._threads.shutdown)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` until it ends or we close. What it raises is a bug, shown by the loop's exception handler."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -------------------------------------------------------------------------------- ports.Peers

    def connected(self) -> frozenset[str]:
        """See `ports.Peers`."""
        return frozenset(self._sessions)

    def tell(self, node: str, message: Message) -> None:
        """See `ports.Peers`; dropped as well while the peer leaves too much unread."""
        link = self._sessions.get(node)
        if link is not None and link.writable.is_set():
            link.send(FrameKind.TELL, 0, message)

    async def ask(self, node: str, message: Message, seconds: float) -> Message:
        """See `ports.Peers`."""
        link = self._sessions.get(node)
        if link is None:
            raise PeerGone(f"there is no connection to {node}")
        answer = await link.ask(message, seconds)
        if isinstance(answer, Refused):
            raise PeerRefused(answer.what, answer.fix)
        return answer

    async def fetch(self, digest: bytes, size: int, sources: Sequence[str]) -> None:
        """See `ports.Peers`. Sources with a live connection are tried first. Raises `OperatorError` on a full disk."""
        running = self._fetches.get(digest)
        if running is not None:
            with contextlib.suppress(PeerError):  # of other sources than ours, it may be
                await asyncio.shield(running)
                return
        if self._objects.has(digest):
            return
        running = self._fetches.get(digest)
        if running is None:
            running = asyncio.get_running_loop().create_task(self._fetch(digest, size, sources))
            self._fetches[digest] = running
            running.add_done_callback(lambda task: self._fetched(digest, task))
        await asyncio.shield(running)

    # -------------------------------------------------------------------------------- for status

    def last_heard(self, node: str) -> float | None:
        """When anything last came from `node`, in monotonic seconds. None: never."""
        return self._heard.get(node)

    def problems(self) -> list[Problem]:
        """What keeps peers from connecting, of the last `PROBLEM_SECONDS`."""
        now = time.monotonic()
        return sorted({problem for since, problem in self._problems.values() if now - since < PROBLEM_SECONDS})

    # -------------------------------------------------------------------------------- for links

    def hear(self, peer: str) -> None:
        self._heard[peer] = time.monotonic()

    def note(self, peer: str, what: str, fix: str) -> None:
        """Something is wrong with `peer` ("": nobody we know). The oldest of too many problems is forgotten."""
        key = (peer, what)
        self._problems.pop(key, None)
        self._problems[key] = (time.monotonic(), Problem(what, "", fix))
        if len(self._problems) > PROBLEMS_MAX:
            del self._problems[next(iter(self._problems))]

    def join(self, peer: str, link: _Link) -> None:
        older = self._sessions.get(peer)
        if older is not None:
            older.end()
        for key in [key for key in self._problems if key[0] == peer]:
            del self._problems[key]
        self._sessions[peer] = link
        self.hear(peer)
        self.handler.joined(peer)

    def leave(self, peer: str, link: _Link) -> None:
        if self._sessions.get(peer) is link:
            del self._sessions[peer]
            self.handler.left(peer)

    # -------------------------------------------------------------------------------- listening and dialling

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError:
                await asyncio.sleep(0.05)  # Out of descriptors, or the caller has gone again: only a pause helps.
                continue
            if self._strangers < STRANGERS_MAX:
                self._strangers += 1
                self.spawn(self._welcome(sock))
            else:
                sock.close()

    async def _welcome(self, sock: socket.socket) -> None:
        """The TLS handshake of a stranger. Not by `create_server`, which cannot end or count those under way."""
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: _Link(self, None), sock, ssl=self.doors.server, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )
        except OSError:
            return  # No TLS, or no certificate of ours: nobody whom we know, so nothing to tell anyone.
        finally:
            self._strangers -= 1

    async def _keep_dialling(self, node: str) -> None:
        failures = 0
        while True:
            begun = time.monotonic()
            link = await self._dial(node)
            if link is not None:
                await link.gone
                if link.peer is not None and time.monotonic() - begun > STOOD_SECONDS:
                    failures = 0
            wait = REDIAL_SECONDS[min(failures, len(REDIAL_SECONDS) - 1)]
            if link is None or not link.refused:
                failures += 1
            else:
                wait = REFUSED_SECONDS
            await asyncio.sleep(wait)

    async def _dial(self, node: str) -> _Link | None:
        host, port = self.doors.members[node]
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, link = await loop.create_connection(lambda: _Link(self, node), host, port, ssl=self.doors.client)
        except ssl.SSLError as error:
            reason = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else error.reason
            self.note(node, f"no TLS with {node} at {host}:{port} ({reason})", _CERTIFICATE_FIX)
            return None
        except OSError:
            return None  # It is not running or not reachable, which `connected` shows.
        return link

    # -------------------------------------------------------------------------------- fetching

    async def _locate(self, digest: bytes) -> Path | bytes | None:
        return await self.handler.locate(digest)

    async def _fetch(self, digest: bytes, size: int, sources: Sequence[str]) -> None:
        loop = asyncio.get_running_loop()
        failures: list[PeerError] = []
        for source in sorted(dict.fromkeys(sources), key=lambda source: source not in self._sessions):
            try:
                await loop.run_in_executor(self._threads, self._bulk_client.fetch, source, digest, size)
            except PeerError as error:
                failures.append(error)
            else:
                return
        if len(failures) == 1:
            raise failures[0]
        reasons = "; ".join(str(failure) for failure in failures) or "nobody to ask"
        raise PeerError(f"object {digest.hex()[:12]} could not be fetched ({reasons})")

    def _fetched(self, digest: bytes, task: asyncio.Task[None]) -> None:
        del self._fetches[digest]
        if not task.cancelled():
            task.exception()  # seen, even if everyone who waited for it is gone


def _listen(host: str, port: int) -> socket.socket:
    """Raises `OperatorError` when the port cannot be had."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=256)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        fix = "stop the program that uses it, or choose another port" if taken else "choose another address"
        raise OperatorError(f"cannot listen on {host}:{port} ({error.strerror or error})", fix) from error
