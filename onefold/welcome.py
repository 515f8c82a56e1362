"""A node that joins, seen from the one that it asks: its invitation, its certificates, its place in the roster.

    checked → certificates signed → the roster replaced → answered

Nothing is promised before the roster has it. What was signed for a replacement that another one forestalled goes into
the next attempt; what a crash leaves was handed to nobody. An answer that is lost is given again to the same key.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from onefold.atomic import replace_file
from onefold.config import ADMIN, Address, Config, parse_address
from onefold.core import members
from onefold.core.roster import Roster, RosterMember
from onefold.edge.tls import CA, CA_KEY
from onefold.errors import BadSetting, OperatorError, UserError
from onefold.ports import RosterStore
from onefold.roster import load, new_secret, save
from onefold.roster_copy import revise
from onefold.sign import Made, Wanted, requests, sign

AUTHORITY = "authority"
"""In the state directory: the cluster's authority, on every node that is meant to vote."""
EQUAL = ("writers", "small_bytes_max", "scrub_days")
"""Settings that a new node takes over from the one that it asks."""


class Join(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A node that wants to join: its `address` (host:port, the first of its ports), that of its `api` ("": none), and
    its requests for certificates (PEM), one for itself and one for the command line beside it."""

    name: str
    address: str
    request: str
    admin_request: str
    api: str = ""


class Joined(msgspec.Struct, frozen=True):
    """All that it needs. `authority_key` is for those who are meant to vote: each of them can sign, so that none must
    live for that. `token` is for the command line on that machine."""

    folder_id: str
    settings: dict[str, Any]
    ca: str
    certificate: str
    admin_certificate: str
    authority_key: str
    token: str
    roster: Roster


async def welcome(config: Config, rosters: RosterStore, secret: str, join: Join, now: float) -> Joined:
    """Let a node in. Raises `UserError` when it may not join so, `OperatorError` when it cannot be done here."""
    authority = config.state / AUTHORITY
    ca, key = _read(authority / CA), _read(authority / CA_KEY)
    address = _place(join.address)
    api = _place(join.api) if join.api else None
    standing = await rosters.read()
    if not members.is_invited(standing.roster, secret, now):
        raise UserError("this invitation is not known here, was used, or has expired", "get another: onefold invite")
    members.check_name(join.name)
    named = RosterMember(join.name, str(address), api=str(api) if api else "")
    node, admin = await _signed(config, named, join.request, join.admin_request)
    mine = replace(named, serials=(node.serial, admin.serial), key=node.key)
    token = new_secret()

    def redeemed(roster: Roster) -> Roster:
        return members.with_machine_token(members.redeem(roster, secret, mine, now), join.name, token)

    roster = await revise(rosters, redeemed)
    return Joined(
        config.folder_id,
        {name: getattr(config, name) for name in EQUAL},
        ca,
        node.certificate,
        admin.certificate,
        key if members.member_of(roster, join.name).voter else "",
        token,
        # Tokens and invitations are told by the cluster itself, to whom its certificate lets in.
        Roster(members=roster.members, revoked=roster.revoked),
    )


async def renew(config: Config, rosters: RosterStore, name: str, request: str, admin_request: str) -> tuple[Made, Made]:
    """New certificates for the member `name`. Raises `UserError` when it is none, `OperatorError` when that cannot be
    done here."""
    member = members.member_of((await rosters.read()).roster, name)
    node, admin = await _signed(config, member, request, admin_request)
    await revise(rosters, lambda roster: members.with_serials(roster, name, (node.serial, admin.serial)))
    return node, admin


async def revive(config: Config) -> bool:
    """Certify this node anew if its certificates are over, as after a long time off; whether they were. The cluster has
    yet to be told (`tell`). Raises `OperatorError` when it cannot be done here."""
    files = config.tls
    made = await requests((files.key, files.admin.key), if_due=(files.cert, files.admin.cert))
    if not made:
        return False
    if not (config.state / AUTHORITY / CA_KEY).exists():
        raise OperatorError(
            f"the certificates of {config.name} are over, and it does not hold the authority that could renew them",
            f"on a node that votes: onefold remove {config.name}; then let it join again: onefold join",
        )
    roster = load(config.state)
    node, admin = await _signed(config, members.member_of(roster, config.name), *made)
    save(config.state, members.with_serials(roster, config.name, (node.serial, admin.serial)))
    replace_file(files.admin.cert, admin.certificate.encode())
    replace_file(files.cert, node.certificate.encode())
    return True


async def tell(rosters: RosterStore, name: str, serials: Collection[str]) -> None:
    """Have the roster know all these certificates of `name`. Raises `UserError`, `OperatorError`."""

    def knowing(roster: Roster) -> Roster:
        if not roster.members:
            return roster  # nobody has put the first one there yet: ours will be
        known = members.member_of(roster, name).serials
        missing = tuple(serial for serial in serials if serial not in known)
        return members.with_serials(roster, name, missing) if missing else roster

    await revise(rosters, knowing)


async def _signed(config: Config, member: RosterMember, request: str, admin_request: str) -> tuple[Made, Made]:
    places = (parse_address(each) for each in (member.address, member.api) if each)
    hosts = tuple(dict.fromkeys(place.host for place in places if place is not None))
    wanted = (Wanted(member.name, hosts, request), Wanted(ADMIN, (), admin_request))
    node, admin = await sign(config.state / AUTHORITY, config.folder_id, wanted)
    return node, admin


def _place(text: str) -> Address:
    address = parse_address(text)
    if address is None:
        raise BadSetting(f"{text!r} is no address", 'give "host:port", as in 10.0.0.2:7400')
    return address


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError as error:
        raise OperatorError(
            f"this node cannot sign certificates: it does not hold the cluster's authority ({error.strerror})",
            "ask a node that votes",
        ) from error
