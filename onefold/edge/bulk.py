"""Large contents between nodes: blocking TLS sockets in threads, on a listener of their own (used by `transfer`).

Threads, not the event loop: OpenSSL, BLAKE3, `read` and `write` all give the GIL away, so a stream costs the node's
loop nothing. A connection carries one request at a time and is kept for the next:

    client                                       server
    length, Hello                             →
                                              ←  length, Hello or Refused
    digest, offset                            →
                                              ←  found, size, the bytes from offset on

A server reads a file of the folder while users write to it, so it promises nothing: the receiver verifies all of it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import socket
import ssl
import stat
import struct
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Generator, Iterator
from pathlib import Path
from typing import Any

from onefold.core.messages import Message, Refused
from onefold.core.wire import decode_message, encode_message
from onefold.edge.doors import CONNECT_SECONDS, HANDSHAKE_SECONDS, HELLO_BYTES_MAX, Doors, tune
from onefold.errors import ContentMismatch, OnefoldError, PeerError, PeerGone, PeerRefused
from onefold.ports import Objects, Traffic

CHUNK_BYTES = 256 << 10
"""Read, sent, received, hashed and written at a time. What stays in a processor's cache is a quarter faster than 1 MiB
at a time."""
IO_SECONDS = 5.0
"""Longest wait for a peer to take or give the next bytes of a transfer."""
IDLE_SECONDS = 10.0
"""A connection without a request for so long is closed by the server; clients let go of it a little earlier."""
LOCATE_SECONDS = 3.0
STRANGERS_MAX = 64
"""Connections that are not yet known to be a member's; more are closed at once."""
PER_PEER_MAX = 16
IDLE_PER_PEER = 4

_LENGTH = struct.Struct(">I")
_REQUEST = struct.Struct(">32sQ")
_ANSWER = struct.Struct(">?Q")

Locate = Callable[[bytes], Coroutine[Any, Any, Path | bytes | None]]


class _Sockets:
    """The open sockets, so that closing can wake the threads that wait on them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = False

    def add(self, sock: socket.socket) -> None:
        """Raises `PeerGone` once closing has begun."""
        with self._lock:
            if self._closed:
                raise PeerGone("this node is stopping")
            self._open.add(sock)

    def drop(self, sock: socket.socket) -> None:
        with self._lock:
            self._open.discard(sock)
        sock.close()

    def shut(self) -> None:
        """Every wait on any of them ends now. The threads that own them close them."""
        with self._lock:
            self._closed = True
            for sock in self._open:
                with contextlib.suppress(OSError):  # already disconnected
                    # Not SSLSocket.shutdown: that strips TLS off while the owner may still be sending.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)


class BulkServer:
    """Answers requests for content. `locate` is run on the event loop that calls `start`."""

    def __init__(self, doors: Doors, locate: Locate, traffic: Traffic) -> None:
        self._doors = doors
        self._traffic = traffic
        self._locate = locate
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener: socket.socket | None = None
        self._sockets = _Sockets()
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._closing = threading.Event()
        self._strangers = threading.BoundedSemaphore(STRANGERS_MAX)
        self._seats: Counter[str] = Counter()

    def start(self, listener: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        """Serve connections of `listener`, a listening socket that is ours from now on."""
        self._listener = listener
        self._loop = loop
        self._spawn(self._accept, listener)

    def close(self) -> None:
        """End every connection and thread. Blocks, for `LOCATE_SECONDS` at worst; the loop must run meanwhile."""
        self._closing.set()
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
        self._sockets.shut()
        while self._threads:
            with self._lock:
                threads = list(self._threads)
            for thread in threads:
                thread.join()
        if self._listener is not None:
            self._listener.close()

    def _spawn(self, work: Callable[[socket.socket], None], sock: socket.socket) -> None:
        def run() -> None:
            try:
                work(sock)
            finally:
                with self._lock:
                    self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=run, name="onefold-bulk")
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while not self._closing.is_set():
            try:
                sock, _ = listener.accept()
            except OSError:
                # Out of descriptors, or the caller has gone again: only a pause helps, and closing ends it.
                self._closing.wait(0.05)
                continue
            if self._strangers.acquire(blocking=False):
                self._spawn(self._serve, sock)
            else:
                sock.close()

    def _serve(self, sock: socket.socket) -> None:
        stranger = True
        try:
            tls = self._doors.server.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        except OSError:  # gone before it said anything
            sock.close()
            self._strangers.release()
            return
        try:
            self._sockets.add(tls)
            peer, serial = self._welcome(tls)
            if self._closing.is_set():
                return
            with self._seat(tls, peer) as seated:
                self._strangers.release()
                stranger = False
                if seated:
                    tls.settimeout(IDLE_SECONDS)
                    self._answer_all(tls, peer, serial)
        except (OSError, PeerError):
            return  # Its transfer breaks off, and the peer knows best what to try next.
        finally:
            self._sockets.drop(tls)
            if stranger:
                self._strangers.release()

    def _welcome(self, tls: ssl.SSLSocket) -> tuple[str, str]:
        """Who is at the other end, as `Doors.recognise` says, once all the rest of that holds as well."""
        tune(tls)
        tls.settimeout(HANDSHAKE_SECONDS)
        tls.do_handshake()
        deadline = time.monotonic() + HANDSHAKE_SECONDS
        certified, serial = self._doors.recognise(tls)
        try:
            self._doors.check_member(certified)
            self._doors.check_hello(certified, _receive_message(tls, deadline))
        except PeerRefused as error:
            _send_message(tls, Refused(error.what, error.fix))
            raise
        return certified, serial

    @contextlib.contextmanager
    def _seat(self, tls: ssl.SSLSocket, peer: str) -> Iterator[bool]:
        with self._lock:
            seated = self._seats[peer] < PER_PEER_MAX
            self._seats[peer] += seated
        try:
            _send_message(tls, self._doors.me if seated else Refused(f"{self._doors.me.node} is busy with {peer}"))
            yield seated
        finally:
            with self._lock:
                self._seats[peer] -= seated

    def _answer_all(self, tls: ssl.SSLSocket, peer: str, serial: str) -> None:
        request = memoryview(bytearray(_REQUEST.size))
        buffer = memoryview(bytearray(CHUNK_BYTES))
        while _receive_into(tls, request) == len(request):
            self._doors.check_member(peer)  # it may be one no longer
            self._doors.check_serial(peer, serial)
            digest, offset = _REQUEST.unpack(request)
            tls.settimeout(IO_SECONDS)
            self._answer(tls, self._find(digest), offset, buffer)
            tls.settimeout(IDLE_SECONDS)

    def _find(self, digest: bytes) -> Path | bytes | None:
        assert self._loop is not None
        found = asyncio.run_coroutine_threadsafe(self._locate(digest), self._loop)
        try:
            return found.result(LOCATE_SECONDS)
        except OnefoldError:
            return None  # The peer asks elsewhere; whoever raised it has said what is wrong here.
        except concurrent.futures.CancelledError as error:
            raise PeerGone("this node is stopping") from error
        finally:
            found.cancel()

    def _answer(self, tls: ssl.SSLSocket, content: Path | bytes | None, offset: int, buffer: memoryview) -> None:
        if isinstance(content, Path):
            with _regular_file(content) as fd:
                if fd is not None:
                    self._send_file(tls, fd, offset, buffer)
                    return
                content = None
        if content is None:
            tls.sendall(_ANSWER.pack(False, 0))
            return
        tls.sendall(_ANSWER.pack(True, len(content)))
        view = memoryview(content)
        for at in range(offset, len(content), CHUNK_BYTES):
            part = view[at : at + CHUNK_BYTES]
            tls.sendall(part)
            self._traffic.send(len(part))

    def _send_file(self, tls: ssl.SSLSocket, fd: int, offset: int, buffer: memoryview) -> None:
        # read, not mmap: a file that someone truncates meanwhile must end the transfer, not the process (SIGBUS)
        size = os.fstat(fd).st_size
        tls.sendall(_ANSWER.pack(True, size))
        while offset < size:
            count = os.preadv(fd, [buffer[: size - offset]], offset)
            if count == 0:
                raise PeerGone("the file was cut short while it was being sent")
            tls.sendall(buffer[:count])
            self._traffic.send(count)
            offset += count


class BulkClient:
    """Fetches objects from peers. Safe to call from several threads."""

    def __init__(self, doors: Doors, objects: Objects, traffic: Traffic) -> None:
        self._doors = doors
        self._traffic = traffic
        self._objects = objects
        self._sockets = _Sockets()
        self._lock = threading.Lock()
        self._idle: defaultdict[str, list[tuple[float, ssl.SSLSocket]]] = defaultdict(list)

    def fetch(self, source: str, digest: bytes, size: int) -> None:
        """Bring the object into our `Objects`, durable, from `source`; blocks.

        Raises `PeerGone`, `PeerRefused` (it does not have it) or `ContentMismatch` (it sent something else).
        """
        with contextlib.ExitStack() as opened:

            def stream(offset: int) -> Generator[memoryview, None, None]:
                return opened.enter_context(contextlib.closing(self._stream(source, digest, size, offset)))

            try:
                self._objects.resume(digest, size, stream)
            except ContentMismatch as error:
                raise ContentMismatch(f"{source} sent other bytes than those of object {digest.hex()[:12]}") from error

    def close(self) -> None:
        """Every `fetch` in flight fails with `PeerGone`, as does every later one."""
        self._sockets.shut()
        with self._lock:
            idle = [tls for kept in self._idle.values() for _, tls in kept]
            self._idle.clear()
        for tls in idle:
            self._sockets.drop(tls)

    def _stream(self, source: str, digest: bytes, size: int, offset: int) -> Generator[memoryview, None, None]:
        """The bytes from `source`, from `offset` on, resumed where a connection broke off as long as each brings
        some."""
        buffer = memoryview(bytearray(min(CHUNK_BYTES, size)))
        while True:
            tls, reused = self._connection(source)
            begun = offset
            try:
                tls.settimeout(IO_SECONDS)
                tls.sendall(_REQUEST.pack(digest, offset))
                self._check_answer(tls, source, digest, size)
                while offset < size:
                    part = buffer[: size - offset]
                    if _receive_into(tls, part) < len(part):
                        raise ConnectionResetError
                    offset += len(part)
                    self._traffic.receive(len(part))
                    yield part
            except OSError as error:
                self._sockets.drop(tls)
                if offset == begun and not reused:
                    raise PeerGone(f"{source} broke off while sending object {digest.hex()[:12]}") from error
            except PeerRefused:
                self._keep(source, tls)
                raise
            except BaseException:
                self._sockets.drop(tls)
                raise
            else:
                self._keep(source, tls)
                return

    def _check_answer(self, tls: ssl.SSLSocket, source: str, digest: bytes, size: int) -> None:
        answer = memoryview(bytearray(_ANSWER.size))
        if _receive_into(tls, answer) < len(answer):
            raise ConnectionResetError
        found, has = _ANSWER.unpack(answer)
        if not found:
            raise PeerRefused(f"{source} does not have object {digest.hex()[:12]}")
        if has != size:
            raise ContentMismatch(f"{source} has {has} bytes for object {digest.hex()[:12]} of {size}")

    def _connection(self, source: str) -> tuple[ssl.SSLSocket, bool]:
        """A connection to `source`, and whether it was used before (and so may turn out to be closed)."""
        while True:
            with self._lock:
                kept = self._idle[source].pop() if self._idle[source] else None
            if kept is None:
                return self._dial(source), False
            since, tls = kept
            if time.monotonic() - since < IDLE_SECONDS / 2:
                return tls, True
            self._sockets.drop(tls)

    def _keep(self, source: str, tls: ssl.SSLSocket) -> None:
        with self._lock:
            if len(self._idle[source]) < IDLE_PER_PEER:
                self._idle[source].append((time.monotonic(), tls))
                return
        self._sockets.drop(tls)

    def _dial(self, source: str) -> ssl.SSLSocket:
        if source not in self._doors.members:
            raise PeerGone(f"{source} is no member")
        host, port = self._doors.members[source]
        try:
            sock = socket.create_connection((host, port + 1), timeout=CONNECT_SECONDS)
        except OSError as error:
            raise PeerGone(f"{source} cannot be reached at {host}:{port + 1} ({error})") from error
        try:
            tls = self._doors.client.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
        except OSError as error:
            sock.close()
            raise PeerGone(f"{source} closed the connection ({error})") from error
        try:
            self._sockets.add(tls)
            tune(tls)
            tls.settimeout(HANDSHAKE_SECONDS)
            tls.do_handshake()
            self._doors.check_answerer(self._doors.recognise(tls)[0], source)
            _send_message(tls, self._doors.me)
            answer = _receive_message(tls, time.monotonic() + HANDSHAKE_SECONDS)
            if isinstance(answer, Refused):
                raise PeerRefused(answer.what, answer.fix)
            self._doors.check_hello(source, answer)
        except OSError as error:
            self._sockets.drop(tls)
            raise PeerGone(f"{source} closed the connection ({error})") from error
        except BaseException:
            self._sockets.drop(tls)
            raise
        return tls


@contextlib.contextmanager
def _regular_file(path: Path) -> Iterator[int | None]:
    """`path` open for reading; None when it is not there, is a symlink or no regular file, or is not ours to read."""
    try:
        fd = os.open(
            path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        )  # never waits for a pipe's writer
    except OSError:
        yield None
        return
    try:
        yield fd if stat.S_ISREG(os.fstat(fd).st_mode) else None
    finally:
        os.close(fd)


def _receive_into(tls: ssl.SSLSocket, view: memoryview) -> int:
    """Fill `view`; returns the bytes received, fewer only if the peer closed."""
    filled = 0
    while filled < len(view):
        count = tls.recv_into(view[filled:])
        if count == 0:
            break
        filled += count
    return filled


def _send_message(tls: ssl.SSLSocket, message: Message) -> None:
    data = encode_message(message)
    tls.sendall(_LENGTH.pack(len(data)) + data)


def _receive_message(tls: ssl.SSLSocket, deadline: float) -> Message:
    """A peer's first words, all of them until `deadline` (monotonic seconds), however slowly they drip."""
    (size,) = _LENGTH.unpack(_receive_until(tls, _LENGTH.size, deadline))
    if size > HELLO_BYTES_MAX:
        raise PeerError(f"a peer's first message has {size} bytes", "run the same version of Onefold on all nodes")
    return decode_message(_receive_until(tls, size, deadline))


def _receive_until(tls: ssl.SSLSocket, size: int, deadline: float) -> bytes:
    data = b""
    while len(data) < size:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        tls.settimeout(left)
        part = tls.recv(size - len(data))
        if not part:
            raise ConnectionResetError
        data += part
    return data
