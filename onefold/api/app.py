"""The API as one ASGI application: every operation behind its gate, every error a sentence."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from onefold.api import cluster, events, files, health, members, metrics, page, past, strays
from onefold.api.gate import Gate
from onefold.api.operation import Operation
from onefold.api.problem import ApiError, api_error, http_error, onefold_error, unforeseen
from onefold.api.requests import Counted, note_operation
from onefold.api.service import Service
from onefold.errors import OnefoldError

OPERATIONS: tuple[Operation, ...] = (
    *cluster.OPERATIONS,
    *members.OPERATIONS,
    *files.OPERATIONS,
    *past.OPERATIONS,
    *strays.OPERATIONS,
    *events.OPERATIONS,
    *health.OPERATIONS,
    *metrics.OPERATIONS,
)


def build(service: Service) -> Starlette:
    gate = Gate()
    routes = [
        Route(operation.path, _guarded(operation, service, gate), methods=[operation.method])
        for operation in OPERATIONS
    ]
    handlers = {
        ApiError: api_error,
        HTTPException: http_error,
        OnefoldError: onefold_error,
        Exception: unforeseen,
    }
    counted = Middleware(Counted, requests=service.requests)
    return Starlette(routes=[*routes, *page.routes()], exception_handlers=handlers, middleware=[counted])


def _guarded(operation: Operation, service: Service, gate: Gate) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        note_operation(request.scope, operation.path)
        if operation.role is not None:
            gate.check(request, service.roster(), operation.role)
        return await operation.handle(service, request)

    return endpoint
