"""The API as one ASGI application: every operation behind its gate, every error a sentence."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onefold.api import cluster, events, files, health, members, metrics, openapi, page, past, strays
from onefold.api.connection import HEADERS_BYTES_MAX
from onefold.api.gate import Gate, note_token
from onefold.api.operation import Operation
from onefold.api.parameters import check_query
from onefold.api.problem import ApiError, api_error, http_error, onefold_error, respond, unforeseen
from onefold.api.requests import Counted, note_operation
from onefold.api.service import Service
from onefold.errors import OnefoldError

_ALL: tuple[Operation, ...] = (
    *cluster.OPERATIONS,
    *members.OPERATIONS,
    *files.OPERATIONS,
    *past.OPERATIONS,
    *strays.OPERATIONS,
    *events.OPERATIONS,
    *health.OPERATIONS,
    *metrics.OPERATIONS,
)
OPERATIONS: tuple[Operation, ...] = (*_ALL, openapi.operation(_ALL))


def build(service: Service) -> Starlette:
    gate = Gate()
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in OPERATIONS:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    routes = [Route(path, _guarded(methods, service, gate), methods=[*methods]) for path, methods in by_path.items()]
    handlers = {
        ApiError: api_error,
        HTTPException: http_error,
        OnefoldError: onefold_error,
        Exception: unforeseen,
    }
    middleware = [Middleware(Counted, requests=service.requests), Middleware(_Careful), Middleware(_Brief)]
    made = Starlette(routes=[*routes, *page.routes()], exception_handlers=handlers, middleware=middleware)
    made.router.redirect_slashes = False  # to whatever the request's Host says
    return made


class _Careful:
    """ASGI middleware: no answer is guessed to be of another type, nor kept by anybody, unless it says so itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def careful(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, careful)


class _Brief:
    """ASGI middleware that refuses long headers. The protocol stops reading them only once it has to wait for more."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size = len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(k) + len(v) for k, v in scope["headers"])
        app = self._app
        if size > HEADERS_BYTES_MAX:
            app = respond(431, f"the headers are longer than {HEADERS_BYTES_MAX} bytes", "send less")
        await app(scope, receive, send)


def _guarded(
    methods: Mapping[str, Operation], service: Service, gate: Gate
) -> Callable[[Request], Awaitable[Response]]:
    """The operations of one path, by method."""

    async def endpoint(request: Request) -> Response:
        operation = methods["GET" if request.method == "HEAD" else request.method]
        note_operation(request.scope, operation.path)
        if operation.role is not None:
            note_token(request.scope, gate.check(request, service.roster(), operation.role))
        check_query(request, operation)
        return await operation.handle(service, request)

    return endpoint
