"""The text that one machine prints and another is given: where to ask, whom to believe, and a secret."""

from __future__ import annotations

import base64
import binascii

import msgspec

from onefold.errors import UserError

PREFIX = "onefold-join-"


class Ticket(msgspec.Struct, frozen=True, rename={"addresses": "a", "authority": "f", "folder_id": "i", "secret": "s"}):
    """`addresses` of APIs; the SHA-256 of the `authority`'s certificate, which whoever answers must have; the cluster's
    `folder_id`; and the invitation's `secret`."""

    addresses: tuple[str, ...]
    authority: bytes
    folder_id: str
    secret: str


def written(ticket: Ticket) -> str:
    return PREFIX + base64.urlsafe_b64encode(msgspec.msgpack.encode(ticket)).decode().rstrip("=")


def read(text: str) -> Ticket:
    """Raises `UserError` for what is no such text, or not all of it."""
    body = text.strip().removeprefix(PREFIX)
    try:
        if body == text.strip() or not body:
            raise ValueError
        return msgspec.msgpack.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=Ticket)
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise UserError(
            f"that is no invitation: one begins with {PREFIX} and is a single word",
            "copy all of what `onefold invite` printed",
        ) from None
