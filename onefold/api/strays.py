"""What was kept aside, on whichever node, through the API."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from onefold.api.content import inert
from onefold.api.files import Removed
from onefold.api.json import answer, body
from onefold.api.operation import Operation
from onefold.api.paths import href, parse_href
from onefold.api.service import Service
from onefold.core.paths import show
from onefold.core.roster import Role
from onefold.node.kept import PART_BYTES_MAX


class Stray(msgspec.Struct, frozen=True):
    """`path` is where it stood. `kept_at`: when it was kept aside."""

    id: str
    node: str
    path: str
    href: str
    kind: str
    size: int
    kept_at: str
    reason: str


class Strays(msgspec.Struct, frozen=True):
    """`missing`: the nodes that do not answer. `omitted`: how many older ones are not named."""

    strays: list[Stray]
    missing: list[str]
    omitted: int


class RestoreTo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`to`: the percent-encoded path to write it to; else where it stood."""

    to: str | None = None


async def strays(service: Service, request: Request) -> Response:
    told, missing = await service.node.kept.everywhere()
    found = [
        Stray(s.id, each.node, show(s.path), href(s.path), s.kind.name.lower(), s.size, _when(s.when), s.reason)
        for each in told
        for s in each.strays
    ]
    found.sort(key=lambda stray: stray.kept_at, reverse=True)
    return answer(Strays(found, missing, sum(each.omitted for each in told)))


def _when(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="milliseconds")


async def read(service: Service, request: Request) -> Response:
    node, id = request.path_params["node"], request.path_params["id"]
    kept = service.node.kept
    first = await kept.part(node, id, 0, PART_BYTES_MAX)

    async def parts() -> AsyncIterator[bytes]:
        part, at = first, 0
        while part.data:
            yield part.data
            at += len(part.data)
            if at >= first.size:
                return
            part = await kept.part(node, id, at, PART_BYTES_MAX)

    headers = {**inert(f"stray-{node}-{id}".encode()), "Content-Length": str(first.size)}
    return StreamingResponse(parts(), headers=headers)


async def restore(service: Service, request: Request) -> Response:
    wanted = await body(request, RestoreTo)
    to = None if wanted.to is None else parse_href(wanted.to)
    index = await service.node.kept.bring_back(request.path_params["node"], request.path_params["id"], to)
    return answer(Removed(index))


async def drop(service: Service, request: Request) -> Response:
    await service.node.kept.forget(request.path_params["node"], request.path_params["id"])
    return Response(None, 204)


_NONE = (404, "there is no such node or stray")
_NODE_AWAY = (503, "that node is not connected")

OPERATIONS = (
    Operation("GET", "/v1/strays", Role.READ, strays, "What was kept aside on all nodes", answer=Strays),
    Operation(
        "GET", "/v1/strays/{node}/{id}", Role.READ, read, "The content of a stray", answer=bytes,
        statuses=(_NONE, (409, "it is a directory"), _NODE_AWAY),
    ),
    Operation(
        "POST", "/v1/strays/{node}/{id}/restore", Role.WRITE, restore, "Write a stray to where it stood, or elsewhere",
        body=RestoreTo, answer=Removed, statuses=(_NONE, (409, "what stands there does not allow it"), _NODE_AWAY),
    ),
    Operation(
        "DELETE", "/v1/strays/{node}/{id}", Role.WRITE, drop, "Remove a stray for ever",
        statuses=((204, "it is gone"), _NONE, _NODE_AWAY),
    ),
)  # fmt: skip
