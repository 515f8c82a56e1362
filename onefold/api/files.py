"""The folder through the API: listed, read and written."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from onefold.api.content import ContentResponse, byte_range, http_date, inert, received
from onefold.api.json import answer, body
from onefold.api.operation import Operation, Parameter
from onefold.api.parameters import (
    CONSISTENCY,
    IF_MATCH,
    IF_NONE_MATCH,
    LIMIT,
    MODE,
    MTIME,
    RECURSIVE,
    condition,
    contents,
    etag,
    flag,
    linearizable,
    mode,
    number,
)
from onefold.api.paths import href, parse_href, path_of, query
from onefold.api.problem import ApiError
from onefold.api.service import Service
from onefold.core.model import Kind, Row
from onefold.core.paths import RelPath, show
from onefold.core.request import Condition, Delete, Done, MakeDirectory, Rename, Write
from onefold.core.roster import Role
from onefold.errors import InTheWay


class Listed(msgspec.Struct, frozen=True):
    """One entry of a directory. `mode` as chmod has it; `digest` of a file, `target` of a symlink."""

    name: str
    href: str
    kind: str
    size: int
    mode: str
    mtime_ns: int
    digest: str | None
    target: str | None
    version: int
    id: int


class Listing(msgspec.Struct, frozen=True):
    """`next`: what to send as `after`, as it is, for the entries that follow; null when these were the last."""

    path: str
    href: str
    index: int
    entries: list[Listed]
    next: str | None


class Written(msgspec.Struct, frozen=True):
    path: str
    href: str
    version: int
    index: int
    digest: str
    size: int


class Made(msgspec.Struct, frozen=True):
    path: str
    href: str
    version: int
    index: int


class Removed(msgspec.Struct, frozen=True):
    index: int


class MoveIt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`from` and `to` are percent-encoded paths; `if_match`: an ETag that it must have, or `*`."""

    source: str = msgspec.field(name="from")
    to: str
    if_match: str | None = None


class Moved(msgspec.Struct, frozen=True):
    path: str
    href: str
    version: int
    index: int


# ------------------------------------------------------------------------------------------------ reading


async def list_directory(service: Service, request: Request) -> Response:
    reader = service.node.reader
    path = path_of(request)
    limit = number(request, LIMIT) or 0
    after = query(request, "after") or b""
    if linearizable(request):
        await reader.linearize()
    rows = reader.list(path, after, limit + 1)
    entries = [_listed(path, row) for row in rows[:limit]]
    following = href(rows[limit - 1].name) if len(rows) > limit else None
    return answer(Listing(show(path), href(path), reader.index, entries, following))


def _listed(directory: RelPath, row: Row) -> Listed:
    return Listed(
        show(row.name),
        href(directory.child(row.name)),
        row.kind.name.lower(),
        row.size,
        f"{row.mode:o}",
        row.mtime_ns,
        row.content.hex() if row.kind is Kind.FILE else None,
        show(row.content) if row.kind is Kind.SYMLINK else None,
        row.version,
        row.id,
    )


async def read_file(service: Service, request: Request) -> Response:
    reader = service.node.reader
    path = path_of(request)
    if linearizable(request):
        await reader.linearize()
    row = reader.row(path)
    if row.kind is Kind.DIRECTORY:
        raise InTheWay(f"{show(path) or 'the folder'} is a directory", f"list it: /v1/list/{href(path)}")
    if row.kind is Kind.SYMLINK:
        raise InTheWay(f"{show(path)} is a symbolic link to {show(row.content)}", "read what it points to")
    tag = etag(row.content)
    headers = {
        **inert(row.name),
        "ETag": tag,
        "Last-Modified": http_date(row.mtime_ns),
        "Accept-Ranges": "bytes",
        "Onefold-Version": str(row.version),
        "Onefold-Index": str(reader.index),
    }
    match, none_match = request.headers.get("if-match"), request.headers.get("if-none-match")
    if match is not None and match.strip() != "*" and row.content not in contents(match):
        raise ApiError(412, f"{show(path)} has another content by now", "read it without a condition", {"ETag": tag})
    if none_match is not None and (none_match.strip() == "*" or row.content in contents(none_match, weak=True)):
        return Response(None, 304, headers)
    wanted = request.headers.get("range")
    if request.headers.get("if-range", tag) not in (tag, headers["Last-Modified"]):
        wanted = None
    part = byte_range(wanted, row.size)
    start, end = part or (0, row.size)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{row.size}"
    content = await reader.content(row)
    return ContentResponse(content, start, end, 206 if part is not None else 200, headers)


# ------------------------------------------------------------------------------------------------ writing


async def write_file(service: Service, request: Request) -> Response:
    node = service.node
    path = path_of(request)
    wanted, bits, mtime_ns = condition(request), mode(request), number(request, MTIME)
    async with received(request, node.who.copies, service.config.api.body_bytes_max) as came:
        written = Write(
            path,
            Kind.FILE,
            came.digest,
            came.size,
            time.time_ns() if mtime_ns is None else mtime_ns,
            bits,
            wanted,
        )
        done = await node.writer.do(written, came.content)
    told = Written(show(path), href(path), done.version, done.index, came.digest.hex(), came.size)
    return answer(told, _status(done), {"ETag": etag(came.digest)})


async def make_directory(service: Service, request: Request) -> Response:
    path = path_of(request)
    bits = mode(request)
    done = await service.node.writer.do(MakeDirectory(path) if bits is None else MakeDirectory(path, bits))
    return answer(Made(show(path), href(path), done.version, done.index), _status(done))


async def delete(service: Service, request: Request) -> Response:
    asked = Delete(path_of(request), flag(request, RECURSIVE), condition(request))
    done = await service.node.writer.do(asked)
    return answer(Removed(done.index))


async def move(service: Service, request: Request) -> Response:
    wanted = await body(request, MoveIt)
    to = parse_href(wanted.to)
    needed = Condition()
    if wanted.if_match is not None:
        needed = Condition(True) if wanted.if_match == "*" else Condition(True, contents(wanted.if_match))
    done = await service.node.writer.do(Rename(parse_href(wanted.source), to, needed))
    return answer(Moved(show(to), href(to), done.version, done.index))


def _status(done: Done) -> int:
    return 201 if done.created else 200


# ------------------------------------------------------------------------------------------------ the table

AFTER = Parameter("after", "query", {"type": "string"}, "go on behind this name: `next` of the answer before")
_RANGE: tuple[Parameter, ...] = (
    Parameter("Range", "header", {"type": "string"}, "`bytes=FIRST-LAST`: a part of it"),
    Parameter("If-Range", "header", {"type": "string"}, "the part only if it still has this ETag, else all of it"),
)
_CHANGED: Any = (412, "what stands there is not what the condition names; nothing was changed")
_IN_THE_WAY: Any = (409, "what stands there does not allow it")
_AWAY: Any = (503, "nobody leads, or no majority answers, or the node stands by; ask again")
_BAD: Any = (400, "a path or parameter is not as it must be")

OPERATIONS = (
    Operation(
        "GET", "/v1/list/{path:path}", Role.READ, list_directory, "What is in a directory",
        (LIMIT, AFTER, CONSISTENCY), answer=Listing, statuses=(_BAD, (404, "there is no such directory"), _AWAY),
    ),
    Operation(
        "GET", "/v1/files/{path:path}", Role.READ, read_file, "The content of a file",
        (CONSISTENCY, IF_MATCH, IF_NONE_MATCH, *_RANGE), answer=bytes,
        statuses=(
            (206, "a part of it"), (304, "it has the ETag that you know"), _BAD, (404, "there is no such file"),
            (409, "it is a directory or a symbolic link"), (412, "it has another ETag"), (416, "it is shorter"), _AWAY,
        ),
    ),
    Operation(
        "PUT", "/v1/files/{path:path}", Role.WRITE, write_file, "Write a file; answers once it is committed",
        (IF_MATCH, IF_NONE_MATCH, MODE, MTIME), body=bytes, answer=Written,
        statuses=((201, "it was not there before"), _BAD, _IN_THE_WAY, _CHANGED, (413, "it is too long"), _AWAY),
    ),
    Operation(
        "DELETE", "/v1/files/{path:path}", Role.WRITE, delete, "Remove a file, symbolic link or directory",
        (RECURSIVE, IF_MATCH), answer=Removed,
        statuses=(_BAD, (404, "there is nothing"), _IN_THE_WAY, _CHANGED, _AWAY),
    ),
    Operation(
        "PUT", "/v1/directories/{path:path}", Role.WRITE, make_directory, "Make a directory, and all above it",
        (MODE,), answer=Made, statuses=((201, "it was not there before"), _BAD, _IN_THE_WAY, _AWAY),
    ),
    Operation(
        "POST", "/v1/move", Role.WRITE, move, "Give a file or directory another path", body=MoveIt, answer=Moved,
        statuses=(_BAD, (404, "there is nothing"), _IN_THE_WAY, _CHANGED, _AWAY),
    ),
)  # fmt: skip
