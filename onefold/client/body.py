"""Content on its way to a node, in parts; sent again to another node where that is possible."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import IO, cast

from onefold.client.calls import Content
from onefold.errors import BadSetting

PART_BYTES = 256 << 10


class Body:
    """`size` in bytes if it is known. A context manager: a file named by its path is open within it."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._file: IO[bytes] | None = None
        self._start = 0
        self._left = 0
        self._begun = False
        self.size: int | None = None

    def __enter__(self) -> Body:
        content = self._content
        if isinstance(content, bytes):
            self.size = len(content)
        elif isinstance(content, os.PathLike):
            self._file = open(content, "rb")
            self.size = os.fstat(self._file.fileno()).st_size
        elif hasattr(content, "read"):
            self._file = cast("IO[bytes]", content)
            if self._file.seekable():
                self._start = self._file.tell()
                self.size = self._file.seek(0, os.SEEK_END) - self._start
                self._file.seek(self._start)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None and isinstance(self._content, os.PathLike):
            self._file.close()

    @property
    def spent(self) -> bool:
        """Whether it cannot be sent any more."""
        return self._begun and self.size is None

    def parts(self) -> Iterator[bytes]:
        """Raises `BadSetting` for content that only `AsyncClient` can send."""
        content = self._content
        if isinstance(content, AsyncIterable):
            raise BadSetting("content that comes asynchronously was given to Client", "use AsyncClient")
        self._begin()
        if self._file is not None:
            while part := self._read():
                yield part
        elif isinstance(content, bytes):
            yield content
        else:
            yield from cast("Iterator[bytes]", content)

    async def aparts(self) -> AsyncIterator[bytes]:
        """The same for `AsyncClient`; files are read in threads."""
        content = self._content
        if self._file is not None:
            self._begin()
            while part := await asyncio.to_thread(self._read):
                yield part
        elif isinstance(content, AsyncIterable):
            self._begin()
            async for part in content:
                yield part
        else:
            for part in self.parts():
                yield part

    def _begin(self) -> None:
        if self._file is not None and self._begun and self.size is not None:
            self._file.seek(self._start)
        self._begun = True
        self._left = self.size or 0

    def _read(self) -> bytes:
        """The next part; not more in all than was announced, though the file grows."""
        assert self._file is not None
        part = self._file.read(PART_BYTES if self.size is None else min(PART_BYTES, self._left))
        self._left -= len(part)
        return part
