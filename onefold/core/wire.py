"""Bytes: how entries, packs and messages travel and rest, and what the digests are taken of.

Everything is MessagePack, written and read by msgspec from the types themselves. It is *canonical* for a row, that is,
equal rows have equal bytes on every node and for ever, because a row is an array of a fixed order of fields (no map,
no float, no optional field), and msgspec writes each integer and each byte string in the shortest form that exists.
The tests pin the bytes: whoever changes them changes `RULES`.
"""

from __future__ import annotations

import msgspec
from blake3 import blake3

from onefold.core.messages import Forward, Message
from onefold.core.model import COMMANDS_MAX, Entry, Pack, Row
from onefold.core.paths import show
from onefold.errors import Bug, ContentMismatch, OperatorError, PeerError

RULES = 2
"""The version of the rules of `apply` and of these formats, in every entry. Any change that lets two nodes read one
entry differently takes a new number: a node that does not know the number halts rather than differ."""
RULES_READ = (1, RULES)
"""Entries of these versions are read: what version 2 added (batches that are answered, the version that a move may
name) no entry of version 1 has, and all else in it means the same."""

DIGEST_BYTES = 32
ENTRY_BYTES_MAX = 16 * 1024
"""Most bytes of an encoded entry: etcd keeps thousands of recent entries in memory."""


class _Rules(msgspec.Struct, array_like=True):
    """The front of an entry of any rules version: what follows is left unread."""

    rules: int


_encode = msgspec.msgpack.Encoder().encode
_rules = msgspec.msgpack.Decoder(_Rules)
_entry = msgspec.msgpack.Decoder(Entry)
_pack = msgspec.msgpack.Decoder(Pack)
_message: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


# ------------------------------------------------------------------------------------------------ digests


def row_digest(row: Row) -> int:
    """BLAKE3 of the canonical bytes of `row`, as the number that the catalogue's digest is the sum of."""
    return int.from_bytes(blake3(_encode(row)).digest(), "big")


def content_digest(data: bytes | memoryview) -> bytes:
    """The name of `data` everywhere: its BLAKE3, 32 bytes."""
    return blake3(data).digest()


def verify_contents(holder: Pack | Forward) -> None:
    """Check that every content that rides along is what its digest names; about 1 µs each and 1 ms per 2 MB.

    Not part of decoding: a pack is verified where it enters (from a peer), once, not on each replay of the log.
    Raises `ContentMismatch`.
    """
    for digest, data in holder.contents.items():
        if content_digest(data) != digest:
            raise ContentMismatch(f"{len(data)} bytes arrived as {digest.hex()}, and are not", "they were dropped")


# ------------------------------------------------------------------------------------------------ packs


def encode_pack(pack: Pack) -> bytes:
    """The bytes of `pack`. Raises `Bug` when it holds more commands than versions have positions."""
    _check_commands(pack)
    return _encode(pack)


def decode_pack(data: bytes) -> Pack:
    """The pack that `encode_pack` made `data` of. Names are not checked: the catalogue refuses bad ones by command.

    Raises `Bug`: packs are read only from the log, or verified by the digest in the log.
    """
    try:
        pack = _pack.decode(data)
    except msgspec.MsgspecError as error:
        raise Bug(f"a pack in the log cannot be read ({error})") from error
    _check_commands(pack)
    return pack


def _check_commands(pack: Pack) -> None:
    count = sum(len(batch.commands) for batch in pack.batches)
    if count > COMMANDS_MAX:
        raise Bug(f"a pack holds {count} commands, more than {COMMANDS_MAX}")


# ------------------------------------------------------------------------------------------------ entries


def entry_for(pack: bytes, term: int, nonce: bytes) -> Entry:
    """The entry that brings `pack` (encoded): inline when the whole entry then fits, else by digest.

    By digest, the pack must be durable as an object on a majority of voters before the entry is appended. Inline,
    `digest` is empty and `size` 0.
    """
    if len(pack) < ENTRY_BYTES_MAX:
        entry = Entry(RULES, term, nonce, pack, b"", 0)
        if len(_encode(entry)) <= ENTRY_BYTES_MAX:
            return entry
    return Entry(RULES, term, nonce, None, content_digest(pack), len(pack))


def encode_entry(entry: Entry) -> bytes:
    """The bytes that stand in the log. Raises `Bug` when they are more than `ENTRY_BYTES_MAX`."""
    data = _encode(entry)
    if len(data) > ENTRY_BYTES_MAX:
        raise Bug(f"an entry has {len(data)} bytes, more than {ENTRY_BYTES_MAX}")
    return data


def decode_entry(data: bytes) -> Entry:
    """The entry that stands in the log as `data`.

    Raises `OperatorError` when a newer Onefold wrote it, `Bug` when it is no entry at all.
    """
    try:
        rules = _rules.decode(data).rules
        if rules not in RULES_READ:
            raise OperatorError(
                f"the log holds an entry with rules version {rules}, and this node knows no newer one than {RULES}",
                "upgrade Onefold on this node",
            )
        entry = _entry.decode(data)
    except msgspec.MsgspecError as error:
        raise Bug(f"an entry of the log cannot be read ({error}): it begins with {show(data[:40])}") from error
    if entry.pack is None and len(entry.digest) != DIGEST_BYTES:
        raise Bug("an entry of the log neither holds nor names a pack")
    return entry


# ------------------------------------------------------------------------------------------------ messages


def encode_message(message: Message) -> bytes:
    return _encode(message)


def decode_message(data: bytes) -> Message:
    """The message that a peer sent as `data`. Raises `PeerError` when it is none."""
    try:
        return _message.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise PeerError(
            f"a message cannot be read ({error})", "run the same version of Onefold on all nodes"
        ) from error
