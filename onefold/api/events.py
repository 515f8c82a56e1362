"""What happens, as it happens: Server-Sent Events. A reader that comes again says which entry it had last."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable

from starlette.requests import Request
from starlette.responses import Response

from onefold.api.answers import Placed, Reset
from onefold.api.cluster import status_of
from onefold.api.feed import event
from onefold.api.gate import is_let_in
from onefold.api.operation import Operation, Parameter
from onefold.api.problem import ApiError
from onefold.api.service import Service
from onefold.api.stream import Stream
from onefold.core.roster import Role
from onefold.node.changes import Changes

HEARTBEAT_SECONDS = 15.0
ENTRIES_AT_ONCE = 32
INDEX_DIGITS_MAX = 18
FIRST = b"retry: 1000\nid: %d\n\n"
"""No event, but a reader that comes again after it knows from where."""
HEARTBEAT = b":\n\n"
MEDIA_TYPE = "text/event-stream"


async def events(service: Service, request: Request) -> Response:
    changes = service.node.changes
    since = _since(request)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if request.method == "HEAD":  # has no end to wait for
        return Response(None, headers=headers, media_type=MEDIA_TYPE)
    stream = _stream(
        service,
        changes,
        changes.index if since is None else since,
        lambda: is_let_in(request, service.roster()),
    )
    return Stream(stream, MEDIA_TYPE, headers)


def _since(request: Request) -> int | None:
    """Raises `ApiError` for what is no index."""
    told = request.headers.get("last-event-id") or request.query_params.get("since")
    if told is None:
        return None
    if not (told.isascii() and told.isdecimal() and len(told) <= INDEX_DIGITS_MAX):
        raise ApiError(400, f"{told!r} is no index of the log", "send the id of the last event that you had")
    return int(told)


async def _stream(
    service: Service, changes: Changes, index: int, allowed: Callable[[], bool]
) -> AsyncGenerator[bytes, None]:
    """The events after entry `index`, as long as they are `allowed`. Nothing is kept for a reader: one that is too slow
    finds that what it wanted is not known any more, and is told so (`reset`)."""
    feed = service.feed
    newest = max(report.applied for report in service.node.reporter.known())
    lost = index > newest  # it has seen another log
    status, placed = -1, changes.placed_count
    with feed.follow(changes, lambda: status_of(service), service.roster):
        yield FIRST % index
        while not feed.closed and allowed():
            parts = []
            if lost or index < changes.oldest:
                lost, index = False, changes.index
                parts.append(event("reset", Reset(index), index))
            for entry in changes.after(index, ENTRIES_AT_ONCE):
                index = entry.index
                parts.append(feed.changed(entry))
            parts += [event("placed", Placed(entry.index, entry.ms)) for entry in changes.placed(placed)]
            placed = changes.placed_count
            if feed.version and status != feed.version:
                status = feed.version
                parts.append(feed.status)
            if parts:
                yield b"".join(parts)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await changes.news()
                    continue
            yield HEARTBEAT


OPERATIONS = (
    Operation(
        "GET",
        "/v1/events",
        Role.READ,
        events,
        "What happens, as Server-Sent Events: change, placed, status, reset",
        parameters=(
            Parameter(
                "since",
                "query",
                {"type": "integer", "minimum": 0},
                "The index of the last entry that is known: all later ones are told, or `reset` if they are not known.",
            ),
            Parameter("Last-Event-ID", "header", {"type": "integer", "minimum": 0}, "The same, and before it."),
        ),
        answer=str,
        media=MEDIA_TYPE,
        statuses=((400, "the index is none"),),
    ),
)
