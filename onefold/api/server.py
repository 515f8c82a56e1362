"""The API's listener: its own port, TLS without a client certificate, bounded in every direction."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Coroutine
from typing import Any

import uvicorn

from onefold.api.app import build
from onefold.api.connection import HEADERS_BYTES_MAX, IDLE_SECONDS, STALL_SECONDS, Connection, Connections
from onefold.api.service import Service
from onefold.config import Api
from onefold.edge.tls import show
from onefold.errors import OperatorError

HANDSHAKE_SECONDS = 5.0
STOP_SECONDS = 1.0
"""How long answers may go on once the node stops."""
PAUSE_SECONDS = 0.05


class ApiServer:
    """Serves `service` until it is closed.

    Without uvicorn's own server, which looks ten times a second whether it is to stop, and can neither end nor count
    the handshakes of strangers.
    """

    def __init__(self, service: Service) -> None:
        """Raises `OperatorError` when the certificate cannot be used."""
        self._settings = service.config.api
        self._feed = service.feed
        self._config = uvicorn.Config(
            build(service),
            loop="none",
            http="h11",
            ws="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=HEADERS_BYTES_MAX,
            timeout_keep_alive=IDLE_SECONDS,
        )
        self._config.load()
        self._tls = _context(self._settings)
        self._all = Connections()
        self._tasks: set[asyncio.Task[None]] = set()
        self._strangers = 0

    def start(self, listener: socket.socket) -> None:
        """Serve whoever comes to `listener`, which stays the caller's."""
        self._spawn(self._accept(listener))

    async def close(self) -> None:
        """Answers that are under way may end, for a moment; who follows events is told that these end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._feed.close()
        for connection in list(self._all.connections):
            connection.shutdown()
        await self._answered()
        for connection in list(self._all.connections):
            connection.abort()
        await self._answered()
        for answering in self._all.tasks:
            answering.cancel()
        await asyncio.gather(*self._all.tasks, return_exceptions=True)

    async def _answered(self) -> None:
        if self._all.tasks:
            await asyncio.wait(self._all.tasks, timeout=STOP_SECONDS)

    # -------------------------------------------------------------------------------------------- who comes

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError:
                await asyncio.sleep(PAUSE_SECONDS)  # out of descriptors, or the caller has gone again
                continue
            if self._strangers + len(self._all.connections) >= self._settings.connections_max and not self._make_room():
                sock.close()
                continue
            self._strangers += 1
            self._spawn(self._welcome(sock))

    async def _welcome(self, sock: socket.socket) -> None:
        """The TLS handshake of a stranger."""
        with contextlib.suppress(OSError):  # no TLS, or it took too long: nobody to tell anything
            try:
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: Connection(self._config, self._all),
                    sock,
                    ssl=self._tls,
                    ssl_handshake_timeout=HANDSHAKE_SECONDS,
                    ssl_shutdown_timeout=STALL_SECONDS,  # what was answered last has to be taken, too
                )
            finally:
                self._strangers -= 1

    def _make_room(self) -> bool:
        """Close the connection that has waited longest for a request; False when all of them are being answered."""
        idle = [connection for connection in self._all.connections if connection.idle]
        if not idle:
            return False
        longest = min(idle, key=lambda connection: connection.since)
        self._all.connections.discard(longest)
        longest.abort()
        return True


def _context(settings: Api) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # browsers and programs of other people
    try:
        show(context, settings.cert, settings.key)
    except OSError as error:
        raise OperatorError(
            f"cannot use the API's certificate {settings.cert} with {settings.key} ({error})",
            "mend `api.cert` and `api.key`",
        ) from error
    context.set_alpn_protocols(["http/1.1"])
    return context
