"""The library for programs: a cluster's files through the HTTP API of its nodes.

    from onefold.client import Client

    with Client("10.0.0.1:7404", token, ca="ca.crt") as folder:
        folder.write("hello.txt", b"Hello")

`Client` waits, `AsyncClient` is awaited; all else they share. What they answer are the values of `onefold.api.answers`.
"""

from onefold.api.answers import Changed, Placed, Reset, Status, href, raw
from onefold.client.aio import AsyncClient
from onefold.client.calls import Facts
from onefold.client.errors import (
    BadAnswer,
    BadRange,
    BadRequest,
    ClientError,
    Conflict,
    Forbidden,
    NotFound,
    PreconditionFailed,
    ServerFailed,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from onefold.client.sync import Client

__all__ = [
    "AsyncClient",
    "BadAnswer",
    "BadRange",
    "BadRequest",
    "Changed",
    "Client",
    "ClientError",
    "Conflict",
    "Facts",
    "Forbidden",
    "NotFound",
    "Placed",
    "PreconditionFailed",
    "Reset",
    "ServerFailed",
    "Status",
    "TooLarge",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "href",
    "raw",
]
