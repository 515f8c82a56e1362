"""What both clients need of httpx: TLS, timeouts, a request from a call, and what a failure on the way means."""

from __future__ import annotations

import os
import ssl
from typing import Any, NamedTuple

import httpx
import msgspec

from onefold.client.attempts import Failure, Reply
from onefold.client.body import Body
from onefold.client.calls import Call
from onefold.errors import OperatorError

CONNECT_SECONDS = 3.0
SECONDS = 60.0
"""How long a node may be silent. A write is answered only once a majority has it."""

Authority = str | os.PathLike[str] | ssl.SSLContext | None
"""The file of the authority that certified the nodes; None: those that this machine trusts."""


class Settings(NamedTuple):
    """What an httpx client of ours is made with."""

    headers: dict[str, str]
    verify: ssl.SSLContext
    timeout: httpx.Timeout
    trust_env: bool = False  # the nodes are reached directly, not through a proxy of the environment


def settings(token: str, ca: Authority, seconds: float) -> Settings:
    """Raises `OperatorError` when the authority cannot be read."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return Settings(headers, _context(ca), httpx.Timeout(seconds, connect=CONNECT_SECONDS))


def arguments(url: str, call: Call[Any], body: Body | None) -> dict[str, Any]:
    """For `httpx.Client.build_request`, but for the content."""
    headers = dict(call.headers)
    if body is not None and body.size is not None:
        headers["Content-Length"] = str(body.size)
    if call.json is None:
        return {"method": call.method, "url": url, "headers": headers}
    headers["Content-Type"] = "application/json"
    return {"method": call.method, "url": url, "headers": headers, "content": msgspec.json.encode(call.json)}


def reply(response: httpx.Response) -> Reply:
    """`response`, whose body was read if it tells of an error."""
    body = response.content if response.status_code >= 400 else b""
    return Reply(response.status_code, response.headers, body)


def failure(error: httpx.TransportError, body: Body | None = None) -> Failure:
    sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    return Failure(why(error), sent, body is not None and body.spent)


def why(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "it took too long"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate does not hold ({cause.verify_message})"
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__


def _context(ca: Authority) -> ssl.SSLContext:
    if isinstance(ca, ssl.SSLContext):
        return ca
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise OperatorError(f"cannot use the authority {ca} ({error})", "name the cluster's ca.crt") from error
