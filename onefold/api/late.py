"""The API of a process that has something more urgent to do first.

Its libraries take a third of the time that a node needs to start, so a thread loads them while the node is at work
already. Nothing here imports them before.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onefold.api.server import ApiServer
    from onefold.config import Config
    from onefold.core.messages import Message
    from onefold.core.roster import Roster
    from onefold.node.loop import Node

SERVER = "onefold.api.server"


class LateApi:
    """Serves as `Service` has it, once `run` has come so far, until it is closed; nothing where it is not enabled."""

    def __init__(
        self,
        config: Config,
        ask: Callable[[Message], Awaitable[Message]],
        roster: Callable[[], Roster],
        running: Node | None = None,
    ) -> None:
        self._config = config
        self._ask = ask
        self._roster = roster
        self._running = running
        self._server: ApiServer | None = None

    async def run(self) -> None:
        """For ever. Raises `OperatorError` when the certificate cannot be used, or the port cannot be had."""
        if self._config.api.enabled:
            await asyncio.to_thread(importlib.import_module, SERVER)
            from onefold.api.server import ApiServer
            from onefold.api.service import Service

            self._server = ApiServer(Service(self._config, self._ask, self._roster, self._running))
            await self._server.start()
        await asyncio.Event().wait()

    async def close(self) -> None:
        """After `run` was cancelled, or has raised."""
        if self._server is not None:
            await self._server.close()
