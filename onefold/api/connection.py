"""One connection to the API, by uvicorn's protocol, with a bound on whatever a stranger could take for ever.

| what | until |
|---|---|
| the headers of a request have come | `HEADERS_SECONDS` |
| the next request begins | `IDLE_SECONDS` |
| more of a body comes, and at least `BODY_BYTES_MIN` in that time | `BODY_SECONDS` |
| what is sent is taken | `STALL_SECONDS` |
| a body ends that nobody reads any more, since it was answered already | `LINGER_SECONDS` |
"""

from __future__ import annotations

import asyncio
import email.utils
import logging
import sys
import time
from collections.abc import Callable
from typing import Any, cast

import h11
import msgspec
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from onefold.api.answers import ApiProblem

HEADERS_BYTES_MAX = 16 << 10
HEADERS_SECONDS = 10.0
IDLE_SECONDS = 30
BODY_SECONDS = 30.0
BODY_BYTES_MIN = 16 << 10
STALL_SECONDS = 60.0
LINGER_SECONDS = 2.0
CONNECTION = "onefold.connection"
"""In the state of a request, the connection that it came by."""

logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # what strangers do wrong is no news


class Connections:
    """All of them, as uvicorn's protocol wants to know them."""

    def __init__(self) -> None:
        self.total_requests = 0
        self.connections: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"date", email.utils.formatdate(usegmt=True).encode())]


class Connection(H11Protocol):
    """`since`: when it began to wait for the request that it waits for."""

    def __init__(self, config: Config, all: Connections) -> None:
        super().__init__(config, cast(Any, all), {CONNECTION: self}, asyncio.get_running_loop())
        self.since = time.monotonic()
        self.lost = False
        self._deadline: asyncio.TimerHandle | None = None
        self._waits_for = ""
        self._stall: asyncio.TimerHandle | None = None
        self._body_bytes = 0

    @property
    def idle(self) -> bool:
        """Whether nothing is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def abort(self) -> None:
        self.transport.abort()

    # -------------------------------------------------------------------------------------------- asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_headers()

    def data_received(self, data: bytes) -> None:
        self._body_bytes += len(data)
        super().data_received(data)
        self._note_state()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        for timer in (self._deadline, self._stall):
            if timer is not None:
                timer.cancel()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self.loop.call_later(STALL_SECONDS, self.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    # -------------------------------------------------------------------------------------------- uvicorn's

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.since = time.monotonic()
        self._note_state()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, or too much of it."""
        error = sys.exception()
        status = getattr(error, "error_status_hint", 400) or 400
        what = {
            431: f"the headers are longer than {HEADERS_BYTES_MAX} bytes",
            400: f"this is no request of HTTP/1.1 ({error})",
        }
        self._refuse(status, what.get(status, msg))

    # -------------------------------------------------------------------------------------------- deadlines

    def _note_state(self) -> None:
        """What is waited for may be something else now."""
        if self.transport.is_closing():
            return
        theirs, ours = self.conn.their_state, self.conn.our_state
        if theirs is h11.SEND_BODY:
            if ours in (h11.DONE, h11.MUST_CLOSE):
                self._until(LINGER_SECONDS, self.abort, "linger")
            else:
                self._until(BODY_SECONDS, self._check_body, "body")
        elif theirs is h11.IDLE and (self.conn.trailing_data[0] or self.timeout_keep_alive_task is None):
            self._expect_headers()
        else:
            self._until(0, None, "")

    def _expect_headers(self) -> None:
        self._until(HEADERS_SECONDS, self._late, "headers")

    def _until(self, seconds: float, late: Callable[[], None] | None, what: str) -> None:
        """Call `late` in `seconds`, unless something else is waited for by then. What is waited for already keeps its
        deadline."""
        if what == self._waits_for:
            return
        self._waits_for = what
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, late) if late is not None else None
        self._body_bytes = 0

    def _late(self) -> None:
        self._refuse(408, f"no whole request came within {HEADERS_SECONDS:g} s")

    def _check_body(self) -> None:
        """A body must go on coming, as far as we take it."""
        waited_for_us = self.flow.read_paused
        if self._body_bytes < BODY_BYTES_MIN and not waited_for_us:
            self._refuse(408, f"less than {BODY_BYTES_MIN} bytes of the body came within {BODY_SECONDS:g} s")
            return
        self._waits_for = ""
        self._note_state()

    def _refuse(self, status: int, what: str) -> None:
        """Answer `status`, if nothing was answered yet, and close; whoever reads the body learns that no more comes."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            answered = self.cycle.response_started
        else:
            answered = False
        if answered or self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.abort()
            return
        body = msgspec.json.encode(ApiProblem(status, what, "see /v1/openapi.json"))
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        response = h11.Response(status_code=status, headers=headers, reason=STATUS_PHRASES[status])
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
        self._until(LINGER_SECONDS, self.abort, "close")
