"""What is asked of the API, counted: by operation and outcome, with the time until the answer begins; and the bytes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onefold.api.connection import CONNECTION, Connection
from onefold.node.measure import Timings

OTHER = "other"
"""Whatever no operation is for: one name, so that strangers cannot make many."""
_OPERATION = "onefold.operation"


class Requests:
    """`answers` counts by (method, operation, status), `timings` are by operation."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, str, int]] = Counter()
        self.timings: dict[str, Timings] = {}
        self.received = 0
        self.sent = 0

    def add(self, method: str, operation: str, status: int, seconds: float) -> None:
        self.answers[method if operation != OTHER else OTHER, operation, status] += 1
        self.timings.setdefault(operation, Timings()).add(seconds)


def note_operation(scope: Scope, path: str) -> None:
    """`path`, of the table of operations, is what answers."""
    scope[_OPERATION] = path


class _Gone(Exception):
    """Whoever asked has gone: what is still to be said needs not be made."""


class Counted:
    """ASGI middleware that counts into `requests`; ends what answers somebody who has gone."""

    def __init__(self, app: ASGIApp, requests: Requests) -> None:
        self._app = app
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        requests = self._requests
        since = time.monotonic()

        async def counted_receive() -> Message:
            message = await receive()
            requests.received += len(message.get("body", b""))
            return message

        async def counted_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                operation = scope.get(_OPERATION, OTHER)
                requests.add(scope["method"], operation, message["status"], time.monotonic() - since)
            else:
                requests.sent += len(message.get("body", b""))
            await send(message)
            if message.get("more_body"):
                await asyncio.sleep(0)  # what is taken as fast as it is given must not keep the node from all else
                if connection is not None and connection.lost:
                    raise _Gone

        connection: Connection | None = scope.get("state", {}).get(CONNECTION)
        try:
            await self._app(scope, counted_receive, counted_send)
        except _Gone:
            return
