"""HPACK (RFC 7541) without its dynamic table: write plain header fields, read those with literal names.

Enough for gRPC once the reader announced a header table of size 0: what matters in an answer (`grpc-status`,
`grpc-message`) has a literal name then, and each block stands alone. Fields named by the static table are skipped.
"""

from __future__ import annotations

# fmt: off
_LENGTHS = (
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6,
    6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6,
    6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22,
    20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23,
    22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22,
    23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22,
    25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
)
"""Bits of the code of each byte (RFC 7541, appendix B). The code is canonical: the lengths define it."""
# fmt: on


def _codes() -> dict[tuple[int, int], int]:
    codes: dict[tuple[int, int], int] = {}
    code = 0
    for length in range(1, max(_LENGTHS) + 1):
        code <<= 1
        for byte, bits in enumerate(_LENGTHS):
            if bits == length:
                codes[length, code] = byte
                code += 1
    return codes


_CODES = _codes()


def literal(name: bytes, value: bytes) -> bytes:
    """One header field, as it is."""
    return b"\0" + _integer(len(name)) + name + _integer(len(value)) + value


def decode(block: bytes) -> dict[bytes, bytes]:
    """The fields of a block that have literal names. Raises `ValueError` for what is no such block."""
    headers: dict[bytes, bytes] = {}
    at = 0
    try:
        while at < len(block):
            first = block[at]
            if first & 0x80:  # a field of the static table
                _, at = _read_integer(block, at, 7)
            elif first & 0xE0 == 0x20:  # the size of the dynamic table: 0
                _, at = _read_integer(block, at, 5)
            else:
                index, at = _read_integer(block, at, 6 if first & 0x40 else 4)
                name = b""
                if index == 0:
                    name, at = _read_string(block, at)
                value, at = _read_string(block, at)
                if name:
                    headers[name] = value
    except IndexError as error:
        raise ValueError("a header block ends too early") from error
    return headers


def _integer(value: int) -> bytes:
    """With a prefix of 7 bits, the eighth 0."""
    if value < 0x7F:
        return bytes((value,))
    value -= 0x7F
    out = bytearray((0x7F,))
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_integer(block: bytes, at: int, prefix_bits: int) -> tuple[int, int]:
    most = (1 << prefix_bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _read_string(block: bytes, at: int) -> tuple[bytes, int]:
    huffman = block[at] & 0x80
    size, at = _read_integer(block, at, 7)
    end = at + size
    if end > len(block):
        raise IndexError
    return _read_huffman(block[at:end]) if huffman else block[at:end], end


def _read_huffman(data: bytes) -> bytes:
    out = bytearray()
    code = length = 0
    for byte in data:
        for bit in range(7, -1, -1):
            code = code << 1 | byte >> bit & 1
            length += 1
            found = _CODES.get((length, code))
            if found is not None:
                out.append(found)
                code = length = 0
    if length > 7 or code != (1 << length) - 1:  # the padding is the beginning of the end code, all ones
        raise ValueError("a header string is badly padded")
    return bytes(out)
