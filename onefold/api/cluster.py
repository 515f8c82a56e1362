"""The cluster through the API: its status, and who leads."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from onefold.api.answers import ConfirmedTold, Leads, Status
from onefold.api.json import answer, body
from onefold.api.operation import Operation
from onefold.api.problem import ApiError
from onefold.api.service import Service
from onefold.core.messages import Ask, Cluster, Confirm, Confirmed, Moved, MoveLeader
from onefold.core.roster import Role
from onefold.errors import PeerRefused
from onefold.state import State, as_data


class MoveTo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is to lead."""

    node: str


class ConfirmAt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose folder is meant; null: of the only node that asks."""

    node: str | None = None


async def status(service: Service, request: Request) -> Response:
    return answer(await status_of(service))


async def status_of(service: Service) -> dict[str, Any]:
    """The status as this node knows it."""
    cluster = await service.ask(Ask())
    assert isinstance(cluster, Cluster)
    told = {report.node: report for report in cluster.reports}
    state = State.of({name: told.get(name) for name in cluster.members})
    recent = [msgspec.structs.asdict(entry) for entry in cluster.recent]
    return {"node": service.config.name, **as_data(state), "recent": recent}


async def move_leader(service: Service, request: Request) -> Response:
    wanted = await body(request, MoveTo)
    moved = await service.ask(MoveLeader(wanted.node))
    if not isinstance(moved, Moved):
        raise PeerRefused(getattr(moved, "what", "it was not done"), getattr(moved, "fix", ""))
    return answer(Leads(moved.leader, moved.term))


async def confirm(service: Service, request: Request) -> Response:
    node = (await body(request, ConfirmAt)).node
    if node is None:
        cluster = await service.ask(Ask())
        assert isinstance(cluster, Cluster)
        asking = [report.node for report in cluster.reports if report.missing]
        if len(asking) > 1:
            raise ApiError(409, f"several nodes ask: {', '.join(asking)}", "name one")
        node = asking[0] if asking else service.config.name
    confirmed = await service.ask(Confirm(node))
    if not isinstance(confirmed, Confirmed):
        raise PeerRefused(getattr(confirmed, "what", "it was not done"), getattr(confirmed, "fix", ""))
    return answer(ConfirmedTold(node, confirmed.removals))


OPERATIONS = (
    Operation("GET", "/v1/status", Role.READ, status, "How every node is", answer=Status),
    Operation(
        "POST",
        "/v1/leader",
        Role.ADMIN,
        move_leader,
        "Make a node the leader",
        body=MoveTo,
        answer=Leads,
        statuses=((409, "it cannot lead just now"),),
    ),
    Operation(
        "POST",
        "/v1/confirm",
        Role.ADMIN,
        confirm,
        "What was gone from a node's folder when it started was meant to go: it is removed everywhere",
        body=ConfirmAt,
        answer=ConfirmedTold,
        statuses=((404, "there is no such node"), (409, "several nodes ask, or it cannot be done just now")),
    ),
)
