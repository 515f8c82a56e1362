"""The API described by OpenAPI 3.1, from the tables of operations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from onefold import __version__
from onefold.api.answers import ApiProblem, Changed, Placed, Reset, Status
from onefold.api.operation import Operation
from onefold.api.service import Service

EVENTS = (Changed, Placed, Status, Reset)
PATH = "/v1/openapi.json"
REFERENCE = "#/components/schemas/{name}"
PATH_PARAMETER = "A path in the folder: its names as percent-encoded bytes, joined by `/`; empty for the folder itself."
OF_TOKENS = (
    (401, "there is no token, or it is not known"),
    (403, "the token does not allow it"),
    (429, "too many wrong tokens came from this address: wait as long as `Retry-After` says"),
    (503, "the node stands by, or nobody leads: ask again, or another node"),
)
_PROBLEM = "application/problem+json"
_JSON = "application/json"
_BYTES = "application/octet-stream"


def operation(others: Sequence[Operation]) -> Operation:
    """The operation that serves the description of `others` and itself."""

    async def describe(service: Service, request: Request) -> Response:
        return Response(encoded, media_type=_JSON)

    served = Operation("GET", PATH, None, describe, "This description of the API", answer=dict[str, Any])
    encoded = encode(document((*others, served)))
    return served


def encode(described: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(described), indent=2) + b"\n"


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    types = {o.body for o in operations} | {o.answer for o in operations} | {ApiProblem, *EVENTS}
    named = sorted((t for t in types if t not in (None, bytes, str, dict[str, Any])), key=lambda t: str(t.__name__))
    schemas, components = msgspec.json.schema_components(named, ref_template=REFERENCE)
    by_type = dict(zip(named, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        described = _described(each, by_type)
        at = paths.setdefault(each.path.replace("{path:path}", "{path}"), {})
        at[each.method.lower()] = described
        if each.method == "GET" and each.answer is bytes:
            at["head"] = _head(described)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Onefold",
            "version": __version__,
            "description": "One folder, every machine, always identical: the API of a node. Any node may be asked.",
        },
        "servers": [{"url": "/", "description": "the node that serves this"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "as `onefold token` made it"}
            },
            "schemas": components,
        },
    }


def _described(of: Operation, by_type: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    module = of.handle.__module__.rpartition(".")[2]
    role = "Needs no token." if of.role is None else f"Needs a token with the role {of.role.name.lower()}."
    described: dict[str, Any] = {
        "operationId": f"{module}.{of.handle.__name__}",
        "tags": [module],
        "summary": of.summary,
        "description": role,
        "parameters": [*_path_parameters(of.path), *(_parameter(p) for p in of.parameters)],
        "responses": _responses(of, by_type),
    }
    if of.role is None:
        described["security"] = []
    if of.body is not None:
        described["requestBody"] = {"required": True, "content": _content(of.body, "", by_type)}
    return described


def _path_parameters(path: str) -> Iterable[dict[str, Any]]:
    for name in re.findall(r"{(\w+)(?::path)?}", path):
        found: dict[str, Any] = {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        if name == "path":
            found["description"] = PATH_PARAMETER
        yield found


def _parameter(of: Any) -> dict[str, Any]:
    return {"name": of.name, "in": of.where, "required": False, "description": of.help, "schema": of.schema}


def _responses(of: Operation, by_type: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    told = dict(of.statuses)
    if of.role is not None:
        told = dict(OF_TOKENS) | told
    told.setdefault(400, "a path or parameter is not as it must be, or there is none of that name")
    if of.body not in (None, bytes):
        told |= {400: "the body is not as it must be", 413: "the body is too long"}
    if of.answer is not None:
        told[200] = "done"
    return {str(status): _response(of, status, what, by_type) for status, what in sorted(told.items())}


def _response(of: Operation, status: int, what: str, by_type: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    if status in (204, 304):
        return {"description": what}
    if status < 400 or status in of.told:
        return {"description": what, "content": _content(of.answer, of.media, by_type)}
    return {"description": what, "content": {_PROBLEM: {"schema": by_type[ApiProblem]}}}


def _content(of: Any, media: str, by_type: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    if of is bytes:
        return {_BYTES: {}}
    if of is str:
        return {media: {"schema": {"type": "string"}}}
    return {_JSON: {"schema": by_type.get(of, {"type": "object"})}}


def _head(described: dict[str, Any]) -> dict[str, Any]:
    bare = {status: {"description": each["description"]} for status, each in described["responses"].items()}
    head = {**described, "operationId": f"{described['operationId']}.head", "responses": bare}
    return {**head, "summary": f"{described['summary']}: only what is known of it"}
