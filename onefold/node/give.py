"""What this node gives to peers that catch up: its catalogue, page by page, and contents."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from onefold.core.catalogue import Catalogue
from onefold.core.copy import Copy
from onefold.core.messages import AskCatalogue, CataloguePage, Given
from onefold.core.model import Applied
from onefold.errors import PeerRefused
from onefold.node.fetch import chunks
from onefold.node.given import Identity, Ports
from onefold.node.large import LargeContents

PAGE_ROWS = 1_000
"""About 8 ms of this node's loop."""
GIVE_BYTES_MAX = 4 << 20
"""No answer is larger: peers take frames of 8 MiB."""
LOCATE_SLICE = 32
"""Contents that are looked up before the loop gets its turn."""


class Giver:
    """Answers those who catch up. One copy of the catalogue is taken by a peer at a time."""

    def __init__(
        self, who: Identity, ports: Ports, catalogue: Catalogue, large: LargeContents, distrust: Callable[[], str]
    ) -> None:
        """`distrust`: why the catalogue cannot be trusted, "" when it can."""
        self._name = who.name
        self._root = os.fsdecode(who.root)
        self._objects = ports.objects
        self._contents = ports.contents
        self._base = ports.base
        self._catalogue = catalogue
        self._large = large
        self._distrust = distrust
        self._copies: dict[str, Copy] = {}

    # -------------------------------------------------------------------------------------------- the catalogue

    def page(self, peer: str, asked: AskCatalogue) -> CataloguePage:
        """Raises `PeerRefused` when that page cannot be given (any more): the peer begins anew."""
        if distrust := self._distrust():
            raise PeerRefused(f"{self._name} does not give its catalogue: {distrust}", "ask another node")
        if not asked.index:
            self._copies[peer] = Copy(self._catalogue)
        copy = self._copies.get(peer)
        page = copy.page(asked.after, PAGE_ROWS) if copy is not None and asked.index in (0, copy.index) else None
        if page is None:
            raise PeerRefused(f"{self._name} does not give the catalogue at index {asked.index} any more", "begin anew")
        return page

    def applied(self, applied: Applied) -> None:
        """An entry was applied to the catalogue."""
        for peer, copy in list(self._copies.items()):
            copy.applied(applied)
            if copy.overtaken:
                del self._copies[peer]

    def left(self, peer: str) -> None:
        """It is gone, and with it what it was taking."""
        self._copies.pop(peer, None)

    # -------------------------------------------------------------------------------------------- contents

    def locate(self, digest: bytes) -> Path | bytes | None:
        """Where the content of `digest` can be read here. None: nowhere."""
        with suppress(KeyError):
            return self._objects.path(digest)
        path = self._large.serving.get(digest)
        if path is None:
            data = self._contents.get(digest)
            if data is not None:
                return data
            row = next(iter(self._base.by_content(digest)), None)
            path = self._base.path(row.id) if row is not None else None
        return None if path is None else Path(self._root) / os.fsdecode(path)

    async def give(self, digests: Sequence[bytes]) -> Given:
        """As many of these contents as are here, and fit; unverified."""
        contents: dict[bytes, bytes] = {}
        left = GIVE_BYTES_MAX
        for first in range(0, len(digests), LOCATE_SLICE):
            places = {digest: self.locate(digest) for digest in digests[first : first + LOCATE_SLICE]}
            for digest, data in (await asyncio.to_thread(_read, places, left)).items():
                contents[digest] = data
                left -= len(data)
        return Given(contents)


def _read(places: dict[bytes, Path | bytes | None], bytes_max: int) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for digest, place in places.items():
        data = _content(place, bytes_max) if isinstance(place, Path) else place
        if data is not None and len(data) <= bytes_max:
            found[digest] = data
            bytes_max -= len(data)
    return found


def _content(path: Path, bytes_max: int) -> bytes | None:
    """None when the file is not to be had, or has grown too large: it was changed, and is asked for elsewhere."""
    data = b""
    try:
        for part in chunks(path):
            data += part
            if len(data) > bytes_max:
                return None
    except OSError:
        return None
    return data
