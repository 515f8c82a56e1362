"""What one operation of the API is: a row of the tables from which routes and the OpenAPI document are derived."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from onefold.api.service import Service
from onefold.core.roster import Role

Handle = Callable[[Service, Request], Awaitable[Response]]


class Parameter(NamedTuple):
    """A query parameter or header. `schema` is its JSON schema."""

    name: str
    where: str
    schema: dict[str, Any]
    help: str


class Operation(NamedTuple):
    """`path` as Starlette has it; a `{path:path}` in it stands for a path of the folder, as percent-encoded bytes.
    `role`: what the token must allow at least; None: no token is needed. `body` and `answer`: the msgspec type of the
    JSON, `bytes` for content, `str` for text of type `media`, None for nothing. `statuses`: beside 200, what it may
    answer, and when: below 400 with `answer`, else with a problem, but for those of `told`, which have `answer`."""

    method: str
    path: str
    role: Role | None
    handle: Handle
    summary: str
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    answer: Any = None
    statuses: tuple[tuple[int, str], ...] = ()
    media: str = ""
    told: tuple[int, ...] = ()
