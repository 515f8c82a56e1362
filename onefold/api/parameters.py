"""What requests may say beside their path: query parameters and conditions, checked."""

from __future__ import annotations

import difflib
import re
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.requests import Request

from onefold.api.operation import Operation, Parameter
from onefold.api.paths import query
from onefold.api.problem import ApiError
from onefold.core.paths import show
from onefold.core.request import Condition
from onefold.core.wire import DIGEST_BYTES

INTEGER_MAX = (1 << 63) - 1
NO_CONTENT = b"-"
"""As a digest that a condition names: that of no content."""

_ETAG = re.compile(r'\s*(W/)?"([^"]*)"\s*(?:,|$)')


def integer(low: int, high: int, default: int | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer", "minimum": low, "maximum": high}
    return schema if default is None else {**schema, "default": default}


BOOLEAN: dict[str, Any] = {"type": "boolean", "default": False}
OCTAL: dict[str, Any] = {"type": "string", "pattern": "^[0-7]{3,4}$"}

LIMIT = Parameter("limit", "query", integer(1, 10_000, 1_000), "at most so many")
CONSISTENCY = Parameter(
    "consistency",
    "query",
    {"type": "string", "enum": ["local", "linearizable"], "default": "local"},
    "linearizable: with all that was committed when you asked, also through other nodes",
)
MODE = Parameter("mode", "query", OCTAL, "the permission bits, as chmod has them; else as they were, or 644")
MTIME = Parameter("mtime_ns", "query", integer(-INTEGER_MAX, INTEGER_MAX), "the time of change; else now")
RECURSIVE = Parameter("recursive", "query", BOOLEAN, "a directory with all that is in it")
IF_MATCH = Parameter("If-Match", "header", {"type": "string"}, "only what has this ETag; `*`: only what is there")
IF_NONE_MATCH = Parameter("If-None-Match", "header", {"type": "string"}, "`*`: only where nothing is")


def check_query(request: Request, operation: Operation) -> None:
    """Raises `ApiError` (400) for a query parameter that the operation does not have, or that comes twice: whoever
    misspells a condition must not find that it was passed over."""
    known = {parameter.name for parameter in operation.parameters if parameter.where == "query"}
    spelled: bytes = request.scope["query_string"]
    names = [show(unquote_to_bytes(part.partition(b"=")[0])) for part in spelled.split(b"&") if part]
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            fix = f"did you mean {close[0]}?" if close else f"there are: {', '.join(sorted(known)) or 'none'}"
            raise ApiError(400, f"there is no parameter `{name}` here", fix)
    if len(set(names)) < len(names):
        raise ApiError(400, "a parameter comes twice", "send it once")


def number(request: Request, parameter: Parameter) -> int | None:
    """The value of a query `parameter` with a schema by `integer`, or its default. Raises `ApiError` (400)."""
    raw = query(request, parameter.name)
    if raw is None:
        return parameter.schema.get("default")
    low, high = parameter.schema["minimum"], parameter.schema["maximum"]
    if not re.fullmatch(rb"-?[0-9]{1,19}", raw) or not low <= int(raw) <= high:
        raise ApiError(400, f"`{parameter.name}` is no number from {low} to {high}", "see /v1/openapi.json")
    return int(raw)


def flag(request: Request, parameter: Parameter) -> bool:
    raw = query(request, parameter.name)
    if raw not in (None, b"true", b"false"):
        raise ApiError(400, f"`{parameter.name}` is neither true nor false", "see /v1/openapi.json")
    return raw == b"true"


def mode(request: Request) -> int | None:
    raw = query(request, MODE.name)
    if raw is None:
        return None
    if not re.fullmatch(rb"[0-7]{3,4}", raw) or int(raw, 8) > 0o777:
        raise ApiError(400, "`mode` is not the permission bits of a file", "write it as chmod does: 644, say")
    return int(raw, 8)


def linearizable(request: Request) -> bool:
    raw = query(request, CONSISTENCY.name)
    if raw not in (None, b"local", b"linearizable"):
        raise ApiError(400, "`consistency` is neither local nor linearizable", "see /v1/openapi.json")
    return raw == b"linearizable"


def etag(digest: bytes) -> str:
    return f'"{digest.hex()}"'


def contents(header: str, weak: bool = False) -> tuple[bytes, ...]:
    """The digests that an `If-Match` names; with `weak`, also those whose tags are weak. Raises `ApiError` (400)."""
    found: list[bytes] = []
    at = 0
    while at < len(header):
        tag = _ETAG.match(header, at)
        if tag is None:
            raise ApiError(400, "a condition names no ETag", 'write it as `"..."`, as it was told, or `*`')
        known = re.fullmatch(f"[0-9a-f]{{{2 * DIGEST_BYTES}}}", tag[2]) is not None and (weak or not tag[1])
        found.append(bytes.fromhex(tag[2]) if known else NO_CONTENT)
        at = tag.end()
    return tuple(found) or (NO_CONTENT,)


def digests(named: str) -> tuple[bytes, ...]:
    """What a member `if_match` of a body names: a digest in hex, or ETags. Raises `ApiError` (400)."""
    return contents(named if '"' in named else f'"{named}"')


def condition(request: Request) -> Condition:
    """What `If-Match` and `If-None-Match` make a condition of a write. Raises `ApiError` (400)."""
    match, none_match = request.headers.get("if-match"), request.headers.get("if-none-match")
    if match is not None and none_match is not None:
        raise ApiError(400, "`If-Match` and `If-None-Match` come together", "send one of them")
    if none_match is not None:
        if none_match.strip() != "*":
            raise ApiError(400, "`If-None-Match` of a write can only be `*`", "use `If-Match` for a version")
        return Condition(False)
    if match is None:
        return Condition()
    return Condition(True) if match.strip() == "*" else Condition(True, contents(match))
