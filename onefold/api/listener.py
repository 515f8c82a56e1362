"""The API's port, open from a node's start; and the API behind it, once it is loaded.

Loading it takes a third of the time that a node needs to start. So the node goes to work first; whoever comes before
the API is there waits at the open port for the moment that it takes.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from onefold.config import Api, Config
from onefold.core.messages import Message
from onefold.core.roster import Roster
from onefold.errors import OperatorError

if TYPE_CHECKING:
    from onefold.api.server import ApiServer
    from onefold.api.service import Service
    from onefold.node.loop import Node


def listen(settings: Api) -> socket.socket | None:
    """The open port; None when the API is not to be served. Raises `OperatorError` when it cannot be had."""
    if not settings.enabled:
        return None
    host, port = settings.listen
    try:
        listener = socket.create_server(
            (host, port),
            family=socket.AF_INET6 if ":" in host else socket.AF_INET,
            backlog=settings.connections_max,
        )
    except OSError as error:
        raise OperatorError(
            f"cannot listen at {settings.listen} for the API ({error.strerror})",
            "stop what uses it, or set `api.listen`",
        ) from error
    listener.setblocking(False)
    return listener


async def serve(
    listener: socket.socket | None,
    config: Config,
    ask: Callable[[Message], Awaitable[Message]],
    roster: Callable[[], Roster],
    node: Node | None,
) -> None:
    """Serve the API at `listener` until cancelled; the rest is as for `onefold.api.service.Service`.

    Raises `OperatorError` when the API's certificate cannot be used.
    """
    if listener is None:
        await asyncio.get_running_loop().create_future()
        return
    with listener:
        server_of, service_of = await asyncio.to_thread(_load)
        server = server_of(service_of(config, ask, roster, node))
        try:
            server.start(listener)
            await asyncio.get_running_loop().create_future()
        finally:
            await server.close()


def _load() -> tuple[type[ApiServer], type[Service]]:
    from onefold.api.server import ApiServer
    from onefold.api.service import Service

    return ApiServer, Service
