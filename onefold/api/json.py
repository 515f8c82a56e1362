"""JSON in and out."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from onefold.api.problem import ApiError

BODY_BYTES_MAX = 64 << 10
"""Of a request in JSON."""

T = TypeVar("T")


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")


async def body(request: Request, type: type[T]) -> T:
    """The request's JSON. Raises `ApiError`: 413 when it is too long, 400 when it is not what is asked for."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > BODY_BYTES_MAX:
            raise ApiError(413, f"the request is longer than {BODY_BYTES_MAX} bytes", "send less")
    try:
        return msgspec.json.decode(data, type=type)
    except msgspec.ValidationError as error:
        raise ApiError(400, f"the request is not as it must be: {error}", "see /v1/openapi.json") from error
    except msgspec.DecodeError as error:
        raise ApiError(400, f"the request is not valid JSON: {error}", "send JSON") from error
