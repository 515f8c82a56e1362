"""Content over HTTP: given in parts, and taken in parts. Never as anything that a browser would run on this origin."""

from __future__ import annotations

import asyncio
import email.utils
import os
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote_from_bytes

import msgspec
from blake3 import blake3
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from onefold.api.problem import ApiError
from onefold.disk import check_reserve, trouble
from onefold.errors import ContentMismatch
from onefold.node.read import Content
from onefold.node.write import SMALL_BYTES_MAX

PART_BYTES = 256 << 10
SPOOL_BYTES = 1 << 20
"""Of a long body, so much is gathered before it is written."""

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def inert(name: bytes) -> dict[str, str]:
    """The headers with which a browser only saves what is sent, whatever it is."""
    return {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote_from_bytes(name, safe='')}",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "private, no-cache",
    }


def http_date(mtime_ns: int) -> str:
    """`mtime_ns` as a header has it; of a time that has no such form, the nearest one that has."""
    return email.utils.formatdate(min(max(mtime_ns // 10**9, 0), 253_402_300_799), usegmt=True)


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The first byte and the end of a single range; None when all is asked for, or several are, which a server need not
    give. Raises `ApiError` (416)."""
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < int(first):
            return None
    if start >= size or start >= end:
        raise ApiError(416, f"it has only {size} bytes", "ask for some of these", {"Content-Range": f"bytes */{size}"})
    return start, end


class ContentResponse(Response):
    """`content` from `start` to before `end`. The connection is broken when its file is overwritten meanwhile, so that
    nobody takes that for the version that the ETag names."""

    def __init__(self, content: Content, start: int, end: int, status: int, headers: dict[str, str]) -> None:
        super().__init__(b"", status, {**headers, "Content-Length": str(end - start)})
        self._content = content
        self._start = start
        self._end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            at = self._start
            while at < self._end and scope["method"] != "HEAD":
                part = await self._read(at, min(PART_BYTES, self._end - at))
                at += len(part)
                if not part or (at == self._end and not self._content.intact()):
                    raise ContentMismatch("a file was overwritten while it was given", "ask again")
                await send({"type": "http.response.body", "body": part, "more_body": at < self._end})
            if self._start == self._end or scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._content.close()

    async def _read(self, at: int, length: int) -> bytes:
        if self._content.at_hand:
            return self._content.read(at, length)
        return await asyncio.to_thread(self._content.read, at, length)


class Body(msgspec.Struct, frozen=True):
    """What came: in memory when it is small, else in a file of ours."""

    content: bytes | Path
    digest: bytes
    size: int


@asynccontextmanager
async def received(request: Request, directory: Path, bytes_max: int) -> AsyncIterator[Body]:
    """The body of `request`; a file of it is gone afterwards. Raises `ApiError`: 413 when it is longer than
    `bytes_max`, 400 when it broke off; `DiskTrouble`."""
    told = request.headers.get("content-length", "")
    if told.isdecimal():
        if int(told) > bytes_max:
            raise _too_long(bytes_max)
        if int(told) > SMALL_BYTES_MAX:
            _check_room(directory, int(told))
    hasher = blake3()
    gathered = bytearray()
    size = 0
    file: Path | None = None
    fd = -1
    try:
        async for part in request.stream():
            size += len(part)
            if size > bytes_max:
                raise _too_long(bytes_max)
            gathered += part
            if len(gathered) >= SPOOL_BYTES:
                if file is None:
                    file = directory / secrets.token_hex(8)
                    fd = _create(file)
                await asyncio.to_thread(_spool, fd, file, hasher, gathered)
                gathered = bytearray()
        if file is None and size > SMALL_BYTES_MAX:
            file = directory / secrets.token_hex(8)
            fd = _create(file)
        if file is None:
            hasher.update(gathered)
            yield Body(bytes(gathered), hasher.digest(), size)
        else:
            await asyncio.to_thread(_spool, fd, file, hasher, gathered)
            yield Body(file, hasher.digest(), size)
    except ClientDisconnect:
        raise ApiError(400, "the body broke off", "send it again") from None
    finally:
        if fd >= 0:
            os.close(fd)
        if file is not None:
            file.unlink(missing_ok=True)


def _create(file: Path) -> int:
    try:
        return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise trouble("cannot keep what is being written", file.parent, error) from error


def _check_room(directory: Path, size: int) -> None:
    """What comes must not fill the disk: the node itself would have to stop for that."""
    try:
        check_reserve(directory, size)
    except OSError as error:
        raise trouble("cannot keep what is being written", directory, error) from error


def _spool(fd: int, file: Path, hasher: blake3, data: bytearray) -> None:
    _check_room(file.parent, len(data))
    hasher.update(data)
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as error:
        raise trouble("cannot keep what is being written", file.parent, error) from error


def _too_long(bytes_max: int) -> ApiError:
    return ApiError(413, f"the body is longer than {bytes_max} bytes", "set `api.body_bytes_max`, or send less")
