"""Who belongs to a cluster: all transitions of the roster's members and invitations.

The rules:

1.  An invitation is good for one node, before it expires. Who joined may ask again with the same secret as long as it
    shows the same key, and is not to leave: a crash, or an answer that was lost, must not cost another invitation.
2.  Names and ports are nobody else's. A name is free again once its member is out.
3.  A member that leaves is only marked: whether it may go depends on what the others have on their disks
    (`onefold.core.seats`). Who is revoked is let in nowhere from that moment on, though it may still count.
4.  The last node that is to vote does not leave: there would be no cluster left to leave.
5.  Once a member is out, its certificates are revoked, and the token of its machine is dropped.
"""

from __future__ import annotations

import re

from msgspec.structs import replace

from onefold.core.roster import Invitation, Roster, RosterMember, digest_of, with_token
from onefold.errors import UserError

INVITATIONS_MAX = 100
PORTS_EACH = 4
"""A node's consecutive ports, from that in its address on. The API's is one more, the next unless it is told."""
PORT_MAX = 65_535
ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})", re.ASCII)
NOBODYS = frozenset({"0.0.0.0", "[::]"})  # noqa: S104
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
MACHINE_TOKEN = "node-"  # noqa: S105
"""Begins the name of the token that a machine was given when it joined."""
RESERVED = frozenset({"admin"})
"""The name of whoever asks from outside (`onefold.config.ADMIN`)."""
STATIC = "the members of this cluster stand in node.toml"
STATIC_FIX = "change them there, the same on every node (docs/machines.md)"


def member_of(roster: Roster, name: str) -> RosterMember:
    """Raises `UserError` when there is none of that name."""
    if not roster.members:
        raise UserError(STATIC, STATIC_FIX)
    for member in roster.members:
        if member.name == name:
            return member
    raise UserError(f"there is no node {name!r}", f"there are {', '.join(member.name for member in roster.members)}")


def with_member(roster: Roster, member: RosterMember) -> Roster:
    """`roster` with one more node. Raises `UserError` when its name or one of its ports is another's."""
    check_free(roster, member.name)
    taken = _ports(member)
    for other in roster.members:
        if taken & _ports(other):
            raise UserError(
                f"{member.address} shares a port with {other.name} ({other.address})",
                "choose another --listen: nodes on one machine are five ports apart at least",
            )
    return replace(roster, members=(*roster.members, member))


def check_name(name: str) -> None:
    """Raises `UserError` when no node can have this name."""
    if name.lower() in RESERVED or not NAME.fullmatch(name):
        raise UserError(f"no node can be called {name!r}", "use 1 to 63 letters, digits and dashes; not admin")


def check_free(roster: Roster, name: str) -> None:
    """Raises `UserError` when a new node cannot have this name."""
    check_name(name)
    for member in roster.members:
        if member.name.lower() == name.lower():  # in a certificate, as a name of DNS, they are the same
            raise UserError(
                f"there is a node {member.name!r} already",
                f"choose another name, or `onefold remove {member.name}` first",
            )


def with_invitation(roster: Roster, secret: str, expires: int, voter: bool, name: str, now: float) -> Roster:
    """`roster` with another invitation, and without those that have expired. Raises `UserError`."""
    if not roster.members:
        raise UserError(STATIC, STATIC_FIX)
    if name:
        check_free(roster, name)
    open_ones = tuple(invitation for invitation in roster.invitations if invitation.expires > now)
    if len(open_ones) >= INVITATIONS_MAX:
        raise UserError(f"there are {len(open_ones)} open invitations already", "wait until some have expired")
    return replace(roster, invitations=(*open_ones, Invitation(digest_of(secret), expires, voter, name)))


def is_invited(roster: Roster, secret: str, now: float) -> bool:
    """Whether this is the secret of an open invitation, or of a member who may ask again."""
    digest = digest_of(secret)
    return any(i.digest == digest and i.expires > now for i in roster.invitations) or any(
        member.invitation == digest and not member.leaving for member in roster.members
    )


def redeem(roster: Roster, secret: str, wanted: RosterMember, now: float) -> Roster:
    """`roster` with `wanted` as a member by the invitation of `secret`.

    Its `voter` is the invitation's. Raises `UserError` when that is no invitation, or not for this node.
    """
    digest = digest_of(secret)
    for member in roster.members:
        if member.invitation == digest:
            _check_stays(member)
            if _asked(member) != _asked(wanted):
                raise UserError(
                    f"this invitation was used by {member.name} at {member.address}", "get another: onefold invite"
                )
            return _with(roster, replace(member, serials=(*member.serials, *wanted.serials)))
    for invitation in roster.invitations:
        if invitation.digest != digest:
            continue
        if invitation.expires <= now:
            raise UserError("this invitation has expired", "get another: onefold invite")
        if invitation.name not in ("", wanted.name):
            raise UserError(
                f"this invitation is for {invitation.name}, not for {wanted.name}",
                f"join with --name {invitation.name}, or get another: onefold invite",
            )
        joined = replace(wanted, voter=invitation.voter, invitation=digest, seated=False, leaving=False)
        left = tuple(other for other in roster.invitations if other is not invitation)
        return with_member(replace(roster, invitations=left), joined)
    raise UserError("this invitation is not known here, or was used", "get another: onefold invite")


def with_machine_token(roster: Roster, name: str, secret: str) -> Roster:
    """`roster` with a token for whoever works on the machine of `name`, in the place of an earlier one."""
    return with_token(_without_machine_token(roster, name), MACHINE_TOKEN + name, "admin", secret)


def with_serials(roster: Roster, name: str, serials: tuple[str, ...]) -> Roster:
    """`roster` knowing of more certificates of `name`. Raises `UserError` when it is no member, or is to leave."""
    member = member_of(roster, name)
    _check_stays(member)
    return _with(roster, replace(member, serials=(*member.serials, *serials)))


def leave(roster: Roster, name: str) -> Roster:
    """`roster` with `name` to be taken out. Raises `UserError` when it is no member, or the last that votes."""
    member = member_of(roster, name)
    if member.leaving:
        return roster
    if not any(other.seated and not other.leaving and other.name != name for other in roster.members):
        raise UserError(
            f"{name} is the last node with a vote",
            "to end the cluster, stop its nodes; to move it, let another node join first and wait until it votes",
        )
    return _with(roster, replace(member, leaving=True))


def revoke(roster: Roster, name: str) -> Roster:
    """`leave`, and nothing that was issued to `name` is honoured any more. Raises `UserError` as that does."""
    left = _without_machine_token(leave(roster, name), name)
    return _with_revoked(left, member_of(left, name).serials)


def without_member(roster: Roster, name: str) -> Roster:
    """`roster` without `name`, whose certificates are revoked; unchanged when it is none of the members."""
    for member in roster.members:
        if member.name == name:
            left = tuple(other for other in roster.members if other is not member)
            without = _without_machine_token(replace(roster, members=left), name)
            return _with_revoked(without, member.serials)
    return roster


def with_seat(roster: Roster, name: str, seated: bool) -> Roster:
    """`roster` in which `name` votes, or does not. Raises `UserError` when it is no member."""
    return _with(roster, replace(member_of(roster, name), seated=seated))


def warning(roster: Roster) -> str:
    """What is unwise about the number of voters; "" when nothing is."""
    return unwise(sum(member.voter and not member.leaving for member in roster.members))


def unwise(votes: int) -> str:
    """What is unwise about so many voters; "" when nothing is."""
    if votes % 2:
        return ""
    return f"{votes} voters tolerate no more failures than {votes - 1}: have an odd number of them"


def _asked(member: RosterMember) -> tuple[str, ...]:
    """What its certificates were signed for."""
    return member.key, member.name, member.address, member.api


def _check_stays(member: RosterMember) -> None:
    """Raises `UserError` when `member` is on its way out, perhaps since its keys were stolen."""
    if member.leaving:
        raise UserError(f"{member.name} leaves the cluster", "it gets no more certificates")


def _without_machine_token(roster: Roster, name: str) -> Roster:
    left = tuple(token for token in roster.tokens if token.name != MACHINE_TOKEN + name)
    return replace(roster, tokens=left)


def _with(roster: Roster, changed: RosterMember) -> Roster:
    members = tuple(changed if member.name == changed.name else member for member in roster.members)
    return replace(roster, members=members)


def _with_revoked(roster: Roster, serials: tuple[str, ...]) -> Roster:
    new = tuple(serial for serial in serials if serial not in roster.revoked)
    return replace(roster, revoked=(*roster.revoked, *new))


def _ports(member: RosterMember) -> set[tuple[str, int]]:
    """All that it listens on. Raises `UserError` for what no node can be reached at."""
    host, port = _place(member.address, PORTS_EACH)
    api = {_place(member.api, 1)} if member.api else {(host, port + PORTS_EACH)}
    return {(host, port + offset) for offset in range(PORTS_EACH)} | api


def _place(address: str, count: int) -> tuple[str, int]:
    match = ADDRESS.fullmatch(address)
    if match is None or match[1] in NOBODYS or not 1 <= int(match[2]) <= PORT_MAX + 1 - count:
        raise UserError(f"no node can be reached at {address!r}", "give its --listen, as in 10.0.0.2:7400")
    return match[1], int(match[2])
