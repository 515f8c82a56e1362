"""Connections to the other nodes, mutual TLS 1.3: one of them is a `link`, large contents go by `bulk`,
who may come in by `doors`.

One control connection per pair. The node with the smaller name dials, at once and then again and again; the other only
listens. So there is never a choice between two connections: a newer one from the same peer replaces the older, which
can only be one that died unnoticed. Retrying every 100 ms at most costs a refused connect, and a restarted node is back
that soon.

Large contents have a listener of their own, one port above this one's.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from onefold.core.messages import Hello, Message, Problem, Refused
from onefold.edge.bulk import BulkClient, BulkServer
from onefold.edge.doors import CONNECT_SECONDS, HANDSHAKE_SECONDS, Doors
from onefold.edge.link import CERTIFICATE_FIX, FrameKind, Link
from onefold.errors import OperatorError, PeerError, PeerGone, PeerRefused
from onefold.ports import Objects, PeerHandler, Traffic

REDIAL_SECONDS = (0.0, 0.02, 0.05, 0.1)
"""Waits before dialling again, the last one for ever; from the start after a connection that stood."""
STOOD_SECONDS = 1.0
REFUSED_SECONDS = 1.0
"""Wait after being refused: only a person mends that."""
PROBLEM_SECONDS = 30.0
"""A problem that did not come up again for so long is over."""
PROBLEMS_MAX = 64
FETCHES_MAX = 8
STRANGERS_MAX = 256
"""Connections in the middle of their handshake; more are closed at once."""


class PeerNetwork:
    """The other nodes, as `ports.Peers`.

    `members` gives each node's host and control port (bulk is one above); an entry for ourselves is ignored. `server`
    and `client` must verify the other side's certificate, as those of `edge.tls` do, and its `peer_name` reads the
    name out of it.
    `handler` hears nothing before `start`, and may be set until then. With `closed`, a problem of this node, no peer is
    dialled or let in, only the command line; each is told why.
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
        closed: Problem | None = None,
    ) -> None:
        me = Hello(folder, node, incarnation, rules)
        self.doors = Doors(me, _others(members, node), server, client, peer_name, closed)
        self.handler = handler
        self.traffic = Traffic()
        self.links: set[Link] = set()
        self._host = host
        self._port = port
        self._objects = objects
        self._sessions: dict[str, Link] = {}
        self._heard: dict[str, float] = {}
        self._problems: dict[tuple[str, str], tuple[float, Problem]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._dialled: dict[str, asyncio.Task[None]] = {}
        self._fetches: dict[bytes, asyncio.Task[None]] = {}
        self._listener: socket.socket | None = None
        self._strangers = 0
        self._threads = ThreadPoolExecutor(FETCHES_MAX, thread_name_prefix="onefold-fetch")
        self._bulk_server = BulkServer(self.doors, self._locate, self.traffic)
        self._bulk_client = BulkClient(self.doors, objects, self.traffic)

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
        self._dial_all()

    def change(self, members: Mapping[str, tuple[str, int]], revoked: frozenset[str]) -> None:
        """Others belong to the cluster now: who does not any more, or came with a revoked certificate, is cut off."""
        before = self.doors.members
        self.doors.members = _others(members, self.doors.me.node)
        self.doors.revoked = revoked
        for node in [node for node in self._dialled if self.doors.members.get(node) != before.get(node)]:
            self._dialled.pop(node).cancel()
        for link in list(self.links):
            link.check()
        self._dial_all()

    def _dial_all(self) -> None:
        if self._listener is None:
            return  # not before we listen ourselves
        for node in self.doors.members:
            if self.doors.me.node < node and self.doors.closed is None and node not in self._dialled:
                self._dialled[node] = self.spawn(self._keep_dialling(node))

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

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` until it ends or we close. What it raises is a bug, shown by the loop's exception handler."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

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

    def join(self, peer: str, link: Link) -> None:
        older = self._sessions.get(peer)
        if older is not None:
            older.end()
        for key in [key for key in self._problems if key[0] == peer]:
            del self._problems[key]
        self._sessions[peer] = link
        self.hear(peer)
        self.handler.joined(peer)

    def leave(self, peer: str, link: Link) -> None:
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
                lambda: Link(self, None), sock, ssl=self.doors.server, ssl_handshake_timeout=HANDSHAKE_SECONDS
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
                await asyncio.shield(link.gone)  # who no longer dials does not mean that it is gone
                if link.peer is not None and time.monotonic() - begun > STOOD_SECONDS:
                    failures = 0
            wait = REDIAL_SECONDS[min(failures, len(REDIAL_SECONDS) - 1)]
            if link is None or not link.refused:
                failures += 1
            else:
                wait = REFUSED_SECONDS
            await asyncio.sleep(wait)

    async def _dial(self, node: str) -> Link | None:
        host, port = self.doors.members[node]
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, link = await loop.create_connection(lambda: Link(self, node), host, port, ssl=self.doors.client)
        except ssl.SSLError as error:
            reason = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else error.reason
            self.note(node, f"no TLS with {node} at {host}:{port} ({reason})", CERTIFICATE_FIX)
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


def _others(members: Mapping[str, tuple[str, int]], me: str) -> dict[str, tuple[str, int]]:
    return {name: address for name, address in members.items() if name != me}


def _listen(host: str, port: int) -> socket.socket:
    """Raises `OperatorError` when the port cannot be had."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=256)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        fix = "stop the program that uses it, or choose another port" if taken else "choose another address"
        raise OperatorError(f"cannot listen on {host}:{port} ({error.strerror or error})", fix) from error
