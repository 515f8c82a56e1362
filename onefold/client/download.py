"""Content that arrives part by part, checked at its end if it is all of a file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

from blake3 import blake3

from onefold.client.calls import Facts
from onefold.client.errors import BadAnswer

WHOLE = 200


class Part(NamedTuple):
    """What comes: `facts` of the file, and whether it is all of it (200) or a range (206)."""

    facts: Facts
    status: int


class _Checked:
    def __init__(self, part: Part) -> None:
        self.facts = part.facts
        self.whole = part.status == WHOLE
        """Whether all of the file comes, from its first byte on."""
        self._digest = blake3() if self.whole else None

    def _take(self, data: bytes) -> bytes:
        if self._digest is not None:
            self._digest.update(data)
        return data

    def _end(self) -> None:
        if self._digest is not None and self._digest.hexdigest() != self.facts.digest:
            raise BadAnswer("the content is not what its digest says", "try again, and run onefold verify")


class Arriving(_Checked):
    """To be iterated over once."""

    def __init__(self, part: Part, parts: Iterator[bytes]) -> None:
        super().__init__(part)
        self._parts = parts

    def __iter__(self) -> Iterator[bytes]:
        for data in self._parts:
            yield self._take(data)
        self._end()


class AsyncArriving(_Checked):
    """To be iterated over once."""

    def __init__(self, part: Part, parts: AsyncIterator[bytes]) -> None:
        super().__init__(part)
        self._parts = parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._parts:
            yield self._take(data)
        self._end()
