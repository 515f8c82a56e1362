"""HPACK as RFC 7541 has it, without the dynamic table."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onefold.edge.hpack_decode import decode, literal

NAMES = st.binary(min_size=1, max_size=300)


@given(st.dictionaries(NAMES, st.binary(max_size=40000), max_size=4))
def test_what_is_written_is_read(headers: dict[bytes, bytes]) -> None:
    assert decode(b"".join(literal(name, value) for name, value in headers.items())) == headers


def test_strings_in_the_huffman_code_are_read() -> None:
    # RFC 7541, C.6.1 and C.4.1: literal names here, so that they are kept
    name, value = (
        bytes.fromhex("f1e3c2e5f23a6ba0ab90f4ff"),
        bytes.fromhex("d07abe941054d444a8200595040b8166e082a62d1bff"),
    )
    block = b"\x40" + bytes((0x80 | len(name),)) + name + bytes((0x80 | len(value),)) + value
    assert decode(block) == {b"www.example.com": b"Mon, 21 Oct 2013 20:13:21 GMT"}


def test_fields_of_the_static_table_are_skipped() -> None:
    # :status 200; table size 0; content-type by index, indexed and not; then one of ours
    block = b"\x88\x20" + b"\x5f\x01a" + b"\x0f\x10\x01b" + literal(b"grpc-status", b"14")
    assert decode(block) == {b"grpc-status": b"14"}


@pytest.mark.parametrize("block", [b"\x00", b"\x00\x05ab", b"\x00\x81", b"\x00\x81\x00\x00", b"\x7f\xff", b"\xff"])
def test_a_block_that_is_none_is_refused(block: bytes) -> None:
    with pytest.raises(ValueError, match="header"):
        decode(block)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(block: bytes) -> None:
    with contextlib.suppress(ValueError):
        decode(block)
