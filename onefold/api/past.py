"""What became of a path, and what happened lately, through the API."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from onefold.api.json import answer
from onefold.api.operation import Operation, Parameter
from onefold.api.parameters import INTEGER_MAX, integer, number
from onefold.api.paths import href, path_of
from onefold.api.service import Service
from onefold.core.history import REMOVED, Record
from onefold.core.model import Kind, index_of
from onefold.core.paths import show
from onefold.core.roster import Role
from onefold.errors import NotFound

LIMIT = Parameter("limit", "query", integer(1, 1_000, 100), "at most so many")
BEFORE = Parameter("before", "query", integer(0, INTEGER_MAX, INTEGER_MAX), "only those with older versions than this")


class Change(msgspec.Struct, frozen=True):
    """`path` and `href` are those of right after it. `node` wrote it. `size` and `digest` of a file."""

    index: int
    version: int
    verb: str
    path: str
    href: str
    node: str
    size: int | None
    digest: str | None
    mtime_ns: int


class Changes(msgspec.Struct, frozen=True):
    """Newest first."""

    changes: list[Change]


async def history(service: Service, request: Request) -> Response:
    reader = service.node.reader
    found = reader.history(number(request, BEFORE) or 0, number(request, LIMIT) or 0)
    return answer(Changes([_change(record) for record in found]))


async def history_of(service: Service, request: Request) -> Response:
    path = path_of(request)
    found = service.node.reader.history_of(path, number(request, BEFORE) or 0, number(request, LIMIT) or 0)
    if found is None:
        raise NotFound(f"nothing is known of {show(path)}", "see what there is; only the newest changes are kept")
    return answer(Changes([_change(record) for record in found]))


def _change(record: Record) -> Change:
    is_file = record.kind is Kind.FILE and record.verb != REMOVED
    return Change(
        index_of(record.version),
        record.version,
        record.verb,
        show(record.path),
        href(record.path),
        record.node,
        record.size if is_file else None,
        record.content.hex() if is_file else None,
        record.mtime_ns,
    )


OPERATIONS = (
    Operation("GET", "/v1/history", Role.READ, history, "The newest changes", (LIMIT, BEFORE), answer=Changes),
    Operation(
        "GET",
        "/v1/history/{path:path}",
        Role.READ,
        history_of,
        "What became of a path, also under other names",
        (LIMIT, BEFORE),
        answer=Changes,
        statuses=((404, "nothing is known of it"),),
    ),
)
