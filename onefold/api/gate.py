"""Who may ask: bearer tokens with roles, and patience with those who guess."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict

from starlette.requests import Request
from starlette.types import Scope

from onefold.api.problem import ApiError
from onefold.core.roster import ROLES, Role, Roster, Token, holder

FAILURES_MAX = 10
"""So many wrong tokens may come from one address before it has to wait."""
FORGIVEN_SECONDS = 6.0
"""Each failure is forgotten after that long."""
ADDRESSES_MAX = 10_000
BEARER = "Bearer"
_TOKEN = "onefold.token"  # noqa: S105


class Gate:
    """Checks tokens, and counts the wrong ones by address: a bucket that leaks."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def check(self, request: Request, roster: Roster, role: Role) -> Token:
        """The token of `request`. Raises `ApiError` (401, 403, 429) unless it allows `role`."""
        address = _network(request.client.host if request.client is not None else "")
        wait = self._count(address) + 1 - FAILURES_MAX
        if wait > 0:
            seconds = str(int(wait * FORGIVEN_SECONDS) + 1)
            raise ApiError(429, "too many wrong tokens from this address", "wait", {"Retry-After": seconds})
        secret = bearer(request)
        if not secret:
            raise _unauthorized("a token is missing", "send it as `Authorization: Bearer TOKEN`", "")
        token = holder(roster, secret)
        if token is None:
            self._failures[address] = (self._count(address) + 1, time.monotonic())
            self._failures.move_to_end(address)
            if len(self._failures) > ADDRESSES_MAX:
                self._failures.popitem(last=False)
            raise _unauthorized("the token is not known here", "make one: onefold token add", "invalid_token")
        if ROLES[token.role] < role:
            raise ApiError(
                403, f"the token {token.name!r} may only {token.role}", f"use one with role {role.name.lower()}"
            )
        return token

    def _count(self, address: str) -> float:
        count, since = self._failures.get(address, (0.0, 0.0))
        return max(0.0, count - (time.monotonic() - since) / FORGIVEN_SECONDS)


def _network(host: str) -> str:
    """Whom failures of `host` are counted for: an IPv6 host has as many addresses as it likes, of one network."""
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host.partition("%")[0])
    return str(address.ipv4_mapped or ipaddress.IPv6Network((address, 64), strict=False))


def note_token(scope: Scope, token: Token) -> None:
    """It is `token` that lets this request in."""
    scope[_TOKEN] = token


def is_let_in(request: Request, roster: Roster) -> bool:
    """Whether what let `request` in is in `roster` still."""
    return request.scope[_TOKEN] in roster.tokens


def bearer(request: Request) -> str:
    """The secret that `request` brings; "" for none."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == BEARER.lower() else ""


def _unauthorized(what: str, fix: str, error: str) -> ApiError:
    challenge = f'{BEARER} realm="onefold"' + (f', error="{error}"' if error else "")
    return ApiError(401, what, fix, {"WWW-Authenticate": challenge})
