"""The roster on this machine: the copy that each node keeps in its state directory, and what it says of the members.

It is what a node knows of its cluster before, and without, a majority; `onefold.roster_copy` keeps it up to date.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from onefold.atomic import replace_file
from onefold.config import ROSTER, Config, Member, parse_address
from onefold.core.roster import Roster, decode, encode
from onefold.errors import Dismissed, OperatorError

SECRET = "token"  # noqa: S105
"""In the state directory: the secret that the command line uses on this machine."""


def with_roster(config: Config, roster: Roster) -> Config:
    """`config` with the members of `roster`; itself when they stand in its file, or `roster` has none.

    Raises `Dismissed` when this node is none of them, `OperatorError` for an address that is none.
    """
    if config.fixed or not roster.members:
        return config
    members = []
    for member in roster.members:
        address = parse_address(member.address)
        if address is None:
            raise OperatorError(f"the cluster's roster has no address for {member.name}", f"remove {member.name}")
        members.append(Member(member.name, address, member.voter, member.seated))
    if all(member.name != config.name for member in members):
        raise Dismissed(f"{config.name} is no member of the cluster any more", "join again: onefold join")
    return config._replace(members=tuple(members))


def new_secret() -> str:
    """256 random bits, as text that needs no quoting anywhere."""
    return f"onefold-{secrets.token_urlsafe(32)}"


def load(state: Path) -> Roster:
    """The copy in the state directory; an empty roster when there is none. Raises `OperatorError`."""
    file = state / ROSTER
    try:
        return decode(file.read_bytes())
    except FileNotFoundError:
        return Roster()
    except OSError as error:
        raise OperatorError(f"cannot read {file} ({error.strerror})", "make it readable for this user") from error


def save(state: Path, roster: Roster) -> None:
    """Keep `roster` in the state directory, readable by nobody else. Raises `OSError`."""
    replace_file(state / ROSTER, encode(roster), 0o600)
