"""Who belongs to the cluster, and the way in."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response

from onefold.api.answers import Members, MemberTold
from onefold.api.cluster import status_of
from onefold.api.gate import bearer
from onefold.api.json import answer, body
from onefold.api.operation import Operation
from onefold.api.problem import ApiError
from onefold.api.service import Service
from onefold.config import Address
from onefold.core.members import is_invited
from onefold.core.roster import Role
from onefold.errors import OperatorError
from onefold.roster import with_roster
from onefold.roster_copy import store
from onefold.welcome import Join, Joined, welcome

PEM = "application/x-pem-file"


async def members(service: Service, request: Request) -> Response:
    roster = service.roster()
    apis = {member.name: member.api for member in roster.members}
    roles = {node["name"]: node["role"] for node in (await status_of(service))["nodes"]}
    config = with_roster(service.config, roster)
    told = tuple(
        MemberTold(
            member.name,
            str(member.address),
            apis.get(member.name) or _api(service, member.name),
            member.voter,
            roles.get(member.name, "down"),
            roles.get(member.name, "down") != "down",
        )
        for member in config.members
    )
    return answer(Members(told))


def _api(service: Service, name: str) -> str:
    at: Address = service.config.api.listen
    return str(at) if name == service.config.name and service.config.api.enabled else ""


async def authority(service: Service, request: Request) -> Response:
    """The certificate of the cluster's authority: nothing secret, and believed only for its digest."""
    try:
        return Response(service.config.tls.ca.read_bytes(), media_type=PEM)
    except OSError as error:
        raise OperatorError(f"cannot read the cluster's authority ({error.strerror})", "ask another node") from error


async def join(service: Service, request: Request) -> Response:
    secret = bearer(request)
    if not is_invited(service.roster(), secret, time.time()):
        fix = "get another: onefold invite"
        raise ApiError(401, "this invitation is not known here, was used, or has expired", fix, _CHALLENGE)
    wanted = await body(request, Join)
    config = with_roster(service.config, service.roster())
    rosters = store(config)
    try:
        return answer(await welcome(config, rosters, secret, wanted, time.time()))
    finally:
        await rosters.close()


_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="onefold"'}

OPERATIONS = (
    Operation("GET", "/v1/members", Role.READ, members, "All nodes", answer=Members),
    Operation(
        "GET", "/v1/authority", None, authority, "The certificate of the cluster's authority", answer=str, media=PEM
    ),
    Operation(
        "POST",
        "/v1/join",
        None,
        join,
        "Join the cluster, with an invitation's secret as the token",
        body=Join,
        answer=Joined,
        statuses=((401, "it is no open invitation"), (400, "it may not join so"), (503, "no majority answers")),
    ),
)
