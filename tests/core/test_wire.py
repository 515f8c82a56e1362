"""Bytes: pinned where nodes must agree for ever, refused where they are wrong."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from onefold.core import wire
from onefold.core.messages import Forward, Hello, Message, Problem, Refused, Report
from onefold.core.model import (
    COMMANDS_MAX,
    NEVER,
    NEW,
    ROOT,
    Batch,
    Entry,
    Id,
    Kind,
    Move,
    Origin,
    Pack,
    Put,
    Remove,
    Row,
    Seed,
    Version,
    made_by,
)
from onefold.errors import Bug, ContentMismatch, OperatorError, PeerError

ROW = Row(Id(1 << 20), ROOT, b"a\xff", Kind.FILE, Version(1 << 20), Version(5), 0o644, -1, 300, b"\x07" * 32)
DATA = b"hello"
PUT = Put(NEW, NEVER, ROOT, b"a", Kind.FILE, 0o644, 1, 5, wire.content_digest(DATA))
BATCH = Batch(
    Origin("node1", 3, 9),
    (PUT, Remove(Id(7), Version(8)), Move(Id(7), Version(8), made_by(0), b"\xff"), Seed()),
)
PACK = Pack((BATCH,), {wire.content_digest(DATA): DATA})
NONCE = b"n" * 16


# ------------------------------------------------------------------------------------------------ digests


def test_the_bytes_of_a_row_are_pinned() -> None:
    """G1. If this fails, two versions of Onefold would disagree about equal catalogues: raise `RULES`."""
    expected = (
        b"\x9a"  # ten fields
        b"\xce\x00\x10\x00\x00"  # id
        b"\x00"  # parent
        b"\xc4\x02a\xff"  # name
        b"\x01"  # kind
        b"\xce\x00\x10\x00\x00"  # version
        b"\x05"  # placed
        b"\xcd\x01\xa4"  # mode
        b"\xff"  # mtime
        b"\xcd\x01\x2c"  # size
        b"\xc4\x20" + b"\x07" * 32
    )
    assert wire.row_digest(ROW) == int.from_bytes(blake3(expected).digest(), "big")


def test_equal_rows_have_equal_digests_however_they_were_made() -> None:
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(ROW), type=Row)
    assert again is not ROW and wire.row_digest(again) == wire.row_digest(ROW)


@pytest.mark.parametrize("field", Row.__struct_fields__)
def test_every_field_of_a_row_counts(field: str) -> None:
    value = getattr(ROW, field)
    other = Kind.SYMLINK if field == "kind" else value + (b"x" if isinstance(value, bytes) else 1)
    assert wire.row_digest(msgspec.structs.replace(ROW, **{field: other})) != wire.row_digest(ROW)


def test_a_content_digest_is_blake3() -> None:
    assert wire.content_digest(b"") == blake3(b"").digest()
    assert wire.content_digest(memoryview(DATA)) == blake3(DATA).digest()
    assert len(wire.content_digest(DATA)) == wire.DIGEST_BYTES


@pytest.mark.parametrize("holder", [PACK, Forward(BATCH, PACK.contents, 0)])
def test_true_contents_pass(holder: Pack | Forward) -> None:
    wire.verify_contents(holder)


@pytest.mark.parametrize("holder", [Pack((), {b"\x01" * 32: DATA}), Forward(BATCH, {b"": DATA}, 0)])
def test_a_content_that_is_not_its_digest_is_refused(holder: Pack | Forward) -> None:
    with pytest.raises(ContentMismatch, match="5 bytes arrived as"):
        wire.verify_contents(holder)


# ------------------------------------------------------------------------------------------------ packs


def test_a_pack_comes_back_as_it_was() -> None:
    assert wire.decode_pack(wire.encode_pack(PACK)) == PACK


def test_the_bytes_of_a_pack_are_pinned() -> None:
    pack = Pack(
        (Batch(Origin("n", 1, 2), (Remove(Id(3), Version(4)), Move(Id(3), Version(4), Id(-2), b"x"), Seed())),), {}
    )
    assert (
        wire.encode_pack(pack)
        == b"\x92\x91\x93\x93\xa1n\x01\x02\x93\x94\x02\x03\x04\x00\x97\x03\x03\x04\xfe\xc4\x01x\x00\x00\x91\x04\xc2\x80"
    )


def test_a_pack_of_rules_version_1_is_read_as_one_of_which_nothing_is_answered() -> None:
    old = b"\x92\x91\x92\x93\xa1n\x01\x02\x93\x93\x02\x03\x04\x95\x03\x03\x04\xfe\xc4\x01x\x91\x04\x80"
    (batch,) = wire.decode_pack(old).batches
    assert batch.commands == (Remove(Id(3), Version(4)), Move(Id(3), Version(4), Id(-2), b"x"), Seed())
    assert not batch.answered
    entry = wire.encode_entry(Entry(1, 4, NONCE, old, b"", 0))
    assert wire.decode_entry(entry).pack == old


def test_a_bad_name_is_left_to_the_catalogue() -> None:
    pack = Pack((Batch(Origin("n", 1, 1), (msgspec.structs.replace(PUT, name=b"../x"),)),), {})
    assert wire.decode_pack(wire.encode_pack(pack)) == pack


def test_a_pack_with_more_commands_than_positions_is_neither_written_nor_read() -> None:
    half = Batch(Origin("n", 1, 1), (Seed(),) * (COMMANDS_MAX // 2))
    full = Pack((half, half), {})
    assert wire.decode_pack(wire.encode_pack(full)) == full
    over = Pack((half, half, Batch(Origin("n", 1, 2), (Seed(),))), {})
    with pytest.raises(Bug, match=f"{COMMANDS_MAX + 1} commands, more than {COMMANDS_MAX}"):
        wire.encode_pack(over)
    with pytest.raises(Bug, match="more than"):
        wire.decode_pack(msgspec.msgpack.encode(over))


@given(st.binary(max_size=40))
def test_what_is_no_pack_is_a_bug_and_nothing_else(data: bytes) -> None:
    with contextlib.suppress(Bug):
        wire.decode_pack(data)


def test_a_broken_pack_says_so() -> None:
    with pytest.raises(Bug, match="a pack in the log cannot be read"):
        wire.decode_pack(wire.encode_pack(PACK)[:-1])


# ------------------------------------------------------------------------------------------------ entries


@pytest.mark.parametrize("size", [0, 1, 255, 256, 16_000])
def test_a_pack_that_fits_rides_inside_its_entry(size: int) -> None:
    entry = wire.entry_for(b"p" * size, 4, NONCE)
    assert entry == Entry(wire.RULES, 4, NONCE, b"p" * size, b"", 0)
    assert wire.decode_entry(wire.encode_entry(entry)) == entry


@pytest.mark.parametrize("size", [wire.ENTRY_BYTES_MAX - 1, wire.ENTRY_BYTES_MAX, 1_000_000])
def test_a_pack_that_does_not_fit_is_named_by_its_digest(size: int) -> None:
    pack = b"p" * size
    entry = wire.entry_for(pack, 4, NONCE)
    assert entry == Entry(wire.RULES, 4, NONCE, None, wire.content_digest(pack), size)
    assert wire.decode_entry(wire.encode_entry(entry)) == entry


def test_no_size_of_pack_makes_an_entry_too_large() -> None:
    inline = [
        wire.entry_for(b"p" * size, 1 << 40, NONCE) for size in range(wire.ENTRY_BYTES_MAX - 60, wire.ENTRY_BYTES_MAX)
    ]
    sizes = [len(wire.encode_entry(entry)) for entry in inline]
    assert max(sizes) == wire.ENTRY_BYTES_MAX
    assert {entry.pack is None for entry in inline} == {True, False}


def test_an_entry_that_is_too_large_is_not_written() -> None:
    with pytest.raises(Bug, match="more than 16384"):
        wire.encode_entry(Entry(wire.RULES, 1, NONCE, b"p" * wire.ENTRY_BYTES_MAX, b"", 0))


@pytest.mark.parametrize(
    "data", [b"\x91\x03", b"\x93\x03\xa3new\x80", msgspec.msgpack.encode((9, 1, 2, 3, 4, 5, 6, 7))]
)
def test_an_entry_of_other_rules_halts_the_node_whatever_follows(data: bytes) -> None:
    with pytest.raises(OperatorError, match="upgrade Onefold on this node"):
        wire.decode_entry(data)


@given(st.binary(max_size=40))
def test_what_is_no_entry_is_an_error_of_ours(data: bytes) -> None:
    with contextlib.suppress(Bug, OperatorError):
        wire.decode_entry(data)


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x80", b"\x92\x01\x02", wire.encode_entry(wire.entry_for(b"", 1, b""))[:-1]]
)
def test_a_broken_entry_says_so(data: bytes) -> None:
    with pytest.raises(Bug, match="an entry of the log cannot be read"):
        wire.decode_entry(data)


def test_an_entry_without_a_pack_names_one() -> None:
    with pytest.raises(Bug, match="neither holds nor names a pack"):
        wire.decode_entry(wire.encode_entry(Entry(wire.RULES, 1, NONCE, None, b"", 0)))


# ------------------------------------------------------------------------------------------------ messages

REPORT = Report(
    "n1", 2, "voter", "n2", 5, 9, 8, 7, ((9, b"\x01" * 32),), 3, 0, (Problem("full", "a/b"),), ("n2",), True, True
)


@pytest.mark.parametrize(
    "message", [Hello("f", "n1", 2, 1), REPORT, Forward(BATCH, PACK.contents, 7), Refused("no", "ask")]
)
def test_a_message_comes_back_as_it_was(message: Message) -> None:
    assert wire.decode_message(wire.encode_message(message)) == message


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x81\xa4type\xa4nope", b"\x91" * 100_000])
def test_what_is_no_message_is_the_fault_of_the_peer(data: bytes) -> None:
    with pytest.raises(PeerError, match="a message cannot be read"):
        wire.decode_message(data)


@given(st.binary(max_size=40))
def test_no_bytes_of_a_peer_raise_anything_else(data: bytes) -> None:
    with contextlib.suppress(PeerError):
        wire.decode_message(data)
