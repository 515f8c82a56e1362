"""Content on its way in and out, without a node."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from blake3 import blake3
from starlette.requests import Request

from onefold import disk, linux
from onefold.api.content import Body, ContentResponse, byte_range, http_date, received
from onefold.api.problem import ApiError
from onefold.errors import ContentMismatch, DiskTrouble
from onefold.node.read import Content
from onefold.node.write import SMALL_BYTES_MAX


def request(parts: Iterable[bytes], headers: dict[str, str] | None = None, breaks: bool = False) -> Request:
    left = [*parts]

    async def receive() -> dict[str, Any]:
        if left:
            return {"type": "http.request", "body": left.pop(0), "more_body": bool(left) or breaks}
        return {"type": "http.disconnect"}

    raw = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    return Request({"type": "http", "method": "PUT", "headers": raw}, receive)


async def body(request: Request, directory: Path, bytes_max: int = 1 << 30) -> tuple[Body, bytes]:
    async with received(request, directory, bytes_max) as came:
        data = came.content if isinstance(came.content, bytes) else came.content.read_bytes()
        return came, data


@pytest.mark.parametrize("size", [0, 1, SMALL_BYTES_MAX, SMALL_BYTES_MAX + 1, 5 << 20])
async def test_a_body_is_taken_in_parts_and_nothing_of_it_stays(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    parts = [data[at : at + 700_000] for at in range(0, size, 700_000)] or [b""]
    came, there = await body(request(parts), tmp_path)
    assert (there, came.size, came.digest) == (data, size, blake3(data).digest())
    assert isinstance(came.content, bytes) == (size <= SMALL_BYTES_MAX)
    assert list(tmp_path.iterdir()) == []


async def test_a_body_that_is_too_long_is_refused_before_or_while_it_comes(tmp_path: Path) -> None:
    for asked in (request([b""], {"Content-Length": "11"}), request([b"12345", b"678901"])):
        with pytest.raises(ApiError) as raised:
            await body(asked, tmp_path, 10)
        assert raised.value.status == 413


async def test_a_body_that_breaks_off_is_written_nowhere(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="broke off"):
        await body(request([b"x" * (2 << 20)], breaks=True), tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_a_disk_that_does_not_take_a_body_is_named(tmp_path: Path) -> None:
    with pytest.raises(DiskTrouble):
        await body(request([b"x" * (2 << 20)]), tmp_path / "none")


@pytest.mark.parametrize("told", [{}, {"Content-Length": str(8 << 20)}])
async def test_a_body_leaves_room_for_the_node_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: dict[str, str]
) -> None:
    asked = request([b"x" * (1 << 20)] * 8, told)
    free = disk.RESERVE_BYTES + (4 << 20)

    def room(place: Path) -> SimpleNamespace:
        written = sum(file.stat().st_size for file in tmp_path.iterdir())
        return SimpleNamespace(f_bavail=free - written, f_frsize=1, f_files=0, f_favail=0)

    monkeypatch.setattr(disk.os, "statvfs", room)
    with pytest.raises(DiskTrouble, match="the disk is full") as raised:
        await body(asked, tmp_path)
    assert raised.value.full
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("header", "size", "part"),
    [
        (None, 10, None),
        ("bytes=0-0", 10, (0, 1)),
        ("bytes=-20", 10, (0, 10)),
        ("bytes=-", 10, None),
        ("bytes=3-2", 10, None),
        ("bytes=0-1,2-3", 10, None),
        ("bits=0-1", 10, None),
    ],
)
def test_a_range_is_a_part_or_is_ignored(header: str | None, size: int, part: tuple[int, int] | None) -> None:
    assert byte_range(header, size) == part


@pytest.mark.parametrize(("header", "size"), [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0)])
def test_a_range_of_nothing_is_refused(header: str, size: int) -> None:
    with pytest.raises(ApiError) as raised:
        byte_range(header, size)
    assert raised.value.status == 416


def test_any_time_has_a_date() -> None:
    assert http_date(10**9 * 86_400) == "Fri, 02 Jan 1970 00:00:00 GMT"
    assert http_date(-(1 << 63)) == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert http_date((1 << 63) - 1).endswith("GMT")


async def test_a_file_that_is_overwritten_while_it_is_given_is_not_given_to_the_end(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"a" * 600_000)
    fd = os.open(file, os.O_RDONLY)
    content = Content(600_000, fd=fd, seen=linux.fstat_of(fd)[1])
    sent = 0

    async def send(message: Any) -> None:
        nonlocal sent
        sent += len(message.get("body", b""))
        if sent:
            file.write_bytes(b"b" * 600_000)

    response = ContentResponse(content, 0, 600_000, 200, {})
    with pytest.raises(ContentMismatch, match="overwritten"):
        await response({"type": "http", "method": "GET"}, None, send)  # type: ignore[arg-type]
    assert 0 < sent < 600_000
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
