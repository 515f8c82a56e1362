"""`onefold invite`, `members`, `leave`, `remove`, `revoke`, `token`: changes of the roster, from a node's machine.

Each of them talks to etcd itself, with that node's certificate: it works on any node, whoever leads, as long as a
majority of the voters is there. What has to wait for others is done by the node that leads (`onefold.seating`).
"""

from __future__ import annotations

import asyncio
import re
import secrets
import ssl
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from onefold import status
from onefold.claim import LOCK, forget_id, is_locked, put_aside
from onefold.config import Config
from onefold.core import members
from onefold.core.roster import Roster, with_token, without_token
from onefold.edge.tls import CA_KEY, fingerprint
from onefold.errors import LogUnavailable, OperatorError, UserError
from onefold.invitation import Ticket, written
from onefold.roster import load as load_copy
from onefold.roster import new_secret, with_roster
from onefold.roster_copy import revise, store
from onefold.welcome import AUTHORITY

ADDRESSES_MAX = 3
OUT_SECONDS = 90.0
"""How long it may take until a node is out: others may have to sync their disks first."""
LOOK_SECONDS = 0.5
SPAN = re.compile(r"(\d+)([smhd])")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
EXPIRES_MAX = 30 * UNITS["d"]

Change = Callable[[Roster], Roster]


class Invited(NamedTuple):
    """`ticket` is the text for the machine that is to join; `warning` what is unwise about it, or ""."""

    ticket: str
    warning: str


def invite(config: Config, replica: bool, name: str, expires: str) -> Invited:
    """A new invitation. Raises `UserError`, `OperatorError`."""
    seconds = span(expires)
    _check_roster(config)
    if name:
        members.check_name(name)
    if not (config.state / AUTHORITY / CA_KEY).exists():
        raise UserError(f"{config.name} has no vote, and cannot let others in", "run this on a node that votes")
    secret = secrets.token_urlsafe(32)
    now = time.time()
    until = int(now) + seconds
    roster = _change(config, lambda r: members.with_invitation(r, secret, until, not replica, name, now))
    own_first = sorted(roster.members, key=lambda member: member.name != config.name)
    asked = [member.api for member in own_first if member.voter and not member.leaving and member.api]
    if not asked:
        raise OperatorError("no node of this cluster has an API that others could join through", "set `api.enabled`")
    authority = fingerprint(config.tls.ca.read_text())
    ticket = Ticket(tuple(asked[:ADDRESSES_MAX]), authority, config.folder_id, secret)
    votes = sum(member.voter and not member.leaving for member in roster.members) + (not replica)
    return Invited(written(ticket), "" if replica else members.unwise(votes))


def span(text: str) -> int:
    """Seconds in "90m", "1h", "2d". Raises `UserError`."""
    match = SPAN.fullmatch(text)
    seconds = int(match[1]) * UNITS[match[2]] if match else 0
    if not 1 <= seconds <= EXPIRES_MAX:
        raise UserError(f"--expires is {text!r}", "give a time like 30m, 1h or 2d, 30 days at most")
    return seconds


def leave(config: Config, purge: bool) -> str:
    """Take the node of `config` out of its cluster; its folder stays. Returns what became of its state.

    Raises `UserError`, `OperatorError`.
    """
    _check_roster(config)
    _change(config, lambda roster: members.leave(roster, config.name))
    _until(lambda: _is_out(config, config.name), f"{config.name} has not left the cluster yet")
    _until(lambda: not is_locked(config.state / LOCK), f"{config.name} is out, but has not stopped yet")
    if purge:
        import shutil

        shutil.rmtree(config.state)
        forget_id(config.folder)
        return f"{config.state} is removed"
    return f"its state is kept in {put_aside(config.state, config.folder)}"


def remove(config: Config, name: str, force: bool) -> None:
    """Take a dead node out, with its certificates. Raises `UserError`, `OperatorError`."""
    _check_roster(config)
    if name == config.name:
        raise UserError(f"{name} is this node", "take it out with: onefold leave")
    with_copy = with_roster(config, load_copy(config.state))
    if not force and status.is_live(with_copy, name):
        raise UserError(f"{name} runs", f"run `onefold leave` there, or `onefold remove {name} --force` if you cannot")
    revoke(config, name)


def revoke(config: Config, name: str) -> None:
    """Take a node out that is not to be trusted any more: nobody lets it in from now on. Raises as `remove`."""
    _check_roster(config)
    if name == config.name:
        raise UserError(f"{name} is this node", "take it out with: onefold leave, or revoke it on another node")
    _change(config, lambda roster: members.revoke(roster, name))
    _until(lambda: _is_out(config, name), f"{name} is let in nowhere, but still counts as a member")


def listed(config: Config) -> list[dict[str, Any]]:
    """All nodes, with what each is now. Raises `OperatorError`."""
    roster = load_copy(config.state)
    current = with_roster(config, roster)
    state = status.cluster(current)
    of = {member.name: member for member in roster.members}
    return [
        {
            "name": member.name,
            "address": str(member.address),
            "api": of[member.name].api if member.name in of else "",
            "voter": member.voter,
            "role": report.role if (report := state.nodes.get(member.name)) is not None else "down",
            "live": state.nodes.get(member.name) is not None,
            "seated": member.voter and member.seated,
            "leaving": member.name in of and of[member.name].leaving,
        }
        for member in current.members
    ]


def warning(config: Config) -> str:
    """What is unwise about the number of voters; "" when nothing is."""
    return members.warning(load_copy(config.state))


def add_token(config: Config, name: str, role: str) -> str:
    """The secret of a new token. Raises `UserError`, `OperatorError`."""
    secret = new_secret()
    _change(config, lambda roster: with_token(roster, name, role, secret))
    return secret


def drop_token(config: Config, name: str) -> None:
    """Raises `UserError`, `OperatorError`."""
    _change(config, lambda roster: without_token(roster, name))


def tokens(config: Config) -> list[dict[str, str]]:
    """All tokens, without their secrets, which nobody knows. Raises `OperatorError`."""
    roster = _change(config, lambda roster: roster)
    return [{"name": token.name, "role": token.role} for token in roster.tokens]


def _check_roster(config: Config) -> None:
    """Raises `UserError` unless the members are in the roster."""
    if config.fixed:
        raise UserError(members.STATIC, members.STATIC_FIX)


def _change(config: Config, change: Change) -> Roster:
    """The roster, changed. Raises `UserError` when it cannot be changed so, `OperatorError`."""
    return asyncio.run(_changed(config, change))


async def _changed(config: Config, change: Change) -> Roster:
    copy = load_copy(config.state)
    rosters = store(with_roster(config, copy))
    try:
        # Where nobody has put the first one yet, this node would, as soon as it runs.
        return await revise(rosters, change, copy)
    finally:
        await rosters.close()


def _is_out(config: Config, name: str) -> bool:
    """Whether `name` is no member any more, as etcd says; or the copy here, when etcd lets us in no more."""
    copy = load_copy(config.state)
    if copy.members and all(member.name != name for member in copy.members):
        return True
    try:
        roster = asyncio.run(_read(config))
    except (LogUnavailable, OperatorError, ssl.SSLError):
        return False
    return all(member.name != name for member in roster.members)


async def _read(config: Config) -> Roster:
    rosters = store(with_roster(config, load_copy(config.state)))
    try:
        return (await rosters.read()).roster
    finally:
        await rosters.close()


def _until(holds: Callable[[], bool], otherwise: str) -> None:
    """Raises `OperatorError` when that does not come about."""
    deadline = time.monotonic() + OUT_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise OperatorError(otherwise, "it goes on by itself once a majority is there: see onefold status")
        time.sleep(LOOK_SECONDS)
