"""Whether this node is alive, and whether it should be asked for files: for load balancers and service managers.

Nobody needs a token for it, so it names no file: problems are only counted, and `/v1/status` tells them.
"""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from onefold.api.json import answer
from onefold.api.operation import Operation
from onefold.api.service import Service

UNREADY = 503


class Health(msgspec.Struct, frozen=True):
    """The process answers."""

    node: str


class Readiness(msgspec.Struct, frozen=True):
    """`why`: what keeps the node from being ready; "" when nothing does. `problems`: how many it has, some of which may
    concern single files only."""

    node: str
    ready: bool
    why: str
    problems: int


async def health(service: Service, request: Request) -> Response:
    return answer(Health(service.config.name))


async def readiness(service: Service, request: Request) -> Response:
    told = ready(service)
    return answer(told, 200 if told.ready else UNREADY)


def ready(service: Service) -> Readiness:
    """How this node is just now."""
    name, node = service.config.name, service.running
    if node is None:
        return Readiness(name, False, "it stands by", 1)
    why = node.unready()
    return Readiness(name, not why, why, len(node.reporter.own().problems))


OPERATIONS = (
    Operation("GET", "/healthz", None, health, "Whether the process answers", answer=Health),
    Operation(
        "GET",
        "/readyz",
        None,
        readiness,
        "Whether this node follows the cluster, and its folder can be relied on",
        answer=Readiness,
        statuses=((UNREADY, "not now; the answer says why"),),
        told=(UNREADY,),
    ),
)
