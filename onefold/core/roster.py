"""The roster: who belongs to a cluster and who may use its API, one document that all nodes hold alike.

It lives beside the log, under a key of its own, and is replaced whole by compare-and-set; each node keeps a copy for
when the log is out of reach. A cluster whose members stand in `node.toml` has no `members` here.

Secrets are not in it: of a token and of an invitation it has the SHA-256, which is enough for 256 random bits.
"""

from __future__ import annotations

import hashlib
import hmac
from enum import IntEnum
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from onefold.errors import OperatorError, UserError

FORMAT = 1


class Role(IntEnum):
    """What a token allows; each includes those below."""

    READ = 1
    WRITE = 2
    ADMIN = 3


ROLES = {role.name.lower(): role for role in Role}


class Token(msgspec.Struct, frozen=True):
    """Who holds the secret of `digest` (SHA-256, hex) may use the API as `role`."""

    name: str
    role: str
    digest: str


class RosterMember(msgspec.Struct, frozen=True):
    """A node: its `address` ("host:port", the first of its ports), that of its API ("" when nobody can join through
    it), whether it is meant to vote, and the serial numbers (hex) of the certificates that were issued to it.

    `seated`: it votes; until then it only follows. `leaving`: it is to be taken out as soon as that is safe.
    `invitation` and `key` are what it joined with: the digests (SHA-256, hex) of the secret and of its public key.
    """

    name: str
    address: str
    voter: bool = True
    serials: tuple[str, ...] = ()
    api: str = ""
    seated: bool = False
    leaving: bool = False
    invitation: str = ""
    key: str = ""


class Invitation(msgspec.Struct, frozen=True):
    """Whoever holds the secret of `digest` may join once, until `expires` (seconds since 1970); as `name`, if given."""

    digest: str
    expires: int
    voter: bool = True
    name: str = ""


class Roster(msgspec.Struct, frozen=True):
    """The whole document. `revoked`: the serial numbers (hex) of certificates that are not honoured any more."""

    format: int = FORMAT
    tokens: tuple[Token, ...] = ()
    members: tuple[RosterMember, ...] = ()
    invitations: tuple[Invitation, ...] = ()
    revoked: tuple[str, ...] = ()


class Standing(NamedTuple):
    """A roster as it stood at a `revision` of the store; 0: there is none yet."""

    roster: Roster
    revision: int


def encode(roster: Roster) -> bytes:
    return msgspec.json.encode(roster)


def decode(data: bytes) -> Roster:
    """Raises `OperatorError` for what is no roster, or one of a later format."""
    try:
        roster = msgspec.json.decode(data, type=Roster)
    except msgspec.MsgspecError as error:
        raise OperatorError(f"the cluster's roster is damaged ({error})", "restore it from a backup") from error
    if roster.format != FORMAT:
        raise OperatorError(
            f"the cluster's roster has format {roster.format}, and this Onefold knows {FORMAT}", "upgrade this node"
        )
    return roster


def digest_of(secret: str) -> str:
    """How the roster knows `secret`."""
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()


def holder(roster: Roster, secret: str) -> Token | None:
    """The token whose secret this is. Takes as long whichever it is, and if it is none."""
    digest = digest_of(secret)
    found = None
    for token in roster.tokens:
        if hmac.compare_digest(token.digest, digest):
            found = token
    return found


def with_token(roster: Roster, name: str, role: str, secret: str) -> Roster:
    """`roster` with another token. Raises `UserError` when there is one of that name, or no such role."""
    if role not in ROLES:
        raise UserError(f"there is no role {role!r}", f"choose one of {', '.join(ROLES)}")
    if any(token.name == name for token in roster.tokens):
        raise UserError(f"there is a token {name!r} already", "choose another name, or drop that one first")
    return replace(roster, tokens=(*roster.tokens, Token(name, role, digest_of(secret))))


def without_token(roster: Roster, name: str) -> Roster:
    """`roster` without that token. Raises `UserError` when there is none."""
    left = tuple(token for token in roster.tokens if token.name != name)
    if len(left) == len(roster.tokens):
        names = ", ".join(token.name for token in left) or "none"
        raise UserError(f"there is no token {name!r}", f"there are {names}" if left else "make one first")
    return replace(roster, tokens=left)
