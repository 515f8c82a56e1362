"""Errors as the API tells them: `application/problem+json` (RFC 9457), one sentence and the fix."""

from __future__ import annotations

import msgspec
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from onefold.api.answers import ApiProblem
from onefold.errors import (
    ContentMismatch,
    DiskTrouble,
    InTheWay,
    LogUnavailable,
    NotFound,
    OnefoldError,
    OperatorError,
    PeerAway,
    PeerError,
    PeerGone,
    PreconditionFailed,
    Unavailable,
    UserError,
)

RETRY_SECONDS = "1"
STATUS: dict[type[UserError], int] = {NotFound: 404, InTheWay: 409, PreconditionFailed: 412}
"""Of errors that a `UserError` may be, where it is not 400."""

log = structlog.get_logger()


class ApiError(Exception):
    """An answer that is no success, raised from anywhere in an operation."""

    def __init__(self, status: int, what: str, fix: str = "", headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.what = what
        self.fix = fix
        self.headers = headers or {}
        super().__init__(what)


def respond(
    status: int, what: str, fix: str = "", headers: dict[str, str] | None = None, away: bool = False
) -> Response:
    body = msgspec.json.encode(ApiProblem(status, what, fix, away))
    return Response(body, status, headers, media_type="application/problem+json")


async def api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return respond(error.status, error.what, error.fix, error.headers)


async def http_error(request: Request, error: Exception) -> Response:
    """What the router refuses: no such path, no such method."""
    assert isinstance(error, HTTPException)
    what = {404: f"there is no {request.url.path} in this API", 405: f"{request.method} is not for this path"}
    return respond(error.status_code, what.get(error.status_code, error.detail), "see /v1/openapi.json", error.headers)  # type: ignore[arg-type]


async def onefold_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, OnefoldError)
    if isinstance(error, UserError):
        return respond(STATUS.get(type(error), 400), error.what, error.fix)
    if isinstance(error, ContentMismatch):
        return respond(400, error.what, error.fix)
    if isinstance(error, DiskTrouble | LogUnavailable | PeerAway | PeerGone | Unavailable):
        away = isinstance(error, PeerAway)
        return respond(503, error.what, error.fix, {"Retry-After": RETRY_SECONDS}, away)
    if isinstance(error, PeerError | OperatorError):
        return respond(409, error.what, error.fix)
    return await unforeseen(request, error)


async def unforeseen(request: Request, error: Exception) -> Response:
    """A bug of ours. The traceback goes to the log, not to whoever asked."""
    log.error("the API failed", path=request.url.path, exc_info=error)
    return respond(500, "this node failed to answer", "see its log, and report this bug")
