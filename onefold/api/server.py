"""The API's listener: its own port, TLS without a client certificate, bounded in every direction."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator

import uvicorn

from onefold.api.app import build
from onefold.api.service import Service
from onefold.config import Api
from onefold.edge.tls import show
from onefold.errors import OperatorError

HEADERS_BYTES_MAX = 16 << 10
IDLE_SECONDS = 30
"""How long a connection may be without a request."""
STOP_SECONDS = 1


class _Server(uvicorn.Server):
    """Signals are the node's, not the API's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class ApiServer:
    """Serves `service` until it is closed."""

    def __init__(self, service: Service) -> None:
        """Raises `OperatorError` when the certificate cannot be used."""
        self._settings = service.config.api
        self._feed = service.feed
        config = uvicorn.Config(
            build(service),
            loop="none",
            http="h11",
            ws="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            server_header=False,
            h11_max_incomplete_event_size=HEADERS_BYTES_MAX,
            limit_concurrency=self._settings.connections_max,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        config.load()
        config.ssl = _context(self._settings)
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises `OperatorError` when the port cannot be had."""
        host, port = self._settings.listen
        try:
            listener = socket.create_server(
                (host, port),
                family=socket.AF_INET6 if ":" in host else socket.AF_INET,
                backlog=self._settings.connections_max,
            )
        except OSError as error:
            raise OperatorError(
                f"cannot listen at {self._settings.listen} for the API ({error.strerror})",
                "stop what uses it, or set `api.listen`",
            ) from error
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))

    async def close(self) -> None:
        if self._task is not None:
            self._feed.close()
            self._server.should_exit = True
            await self._task


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
