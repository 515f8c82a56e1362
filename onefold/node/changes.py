"""What changed lately, for whoever follows: the newest entries as paths, and when they were everywhere.

A ring with a bound in entries and in changes, read by cursors: a slow reader costs nothing, it only finds one day that
what it wanted is not known any more. Paths are those that held when the entry was applied.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import msgspec

from onefold.core.messages import Everywhere
from onefold.core.model import ROOT, Applied, Change, Id, Pack, Row
from onefold.core.views import RowView

ENTRIES_KEPT = 4096
CHANGES_KEPT = 10_000
"""Of all entries together: about 4 MiB."""
CHANGES_TOLD = 250
"""Of one entry; a person would not read more, and a program lists the directory again."""
PLACED_KEPT = 256
API_MARK = "~"
"""Ends the node's name in the origin of what came through its API."""


Verb = Literal["created", "edited", "moved", "removed"]


class PathChange(NamedTuple):
    """What became of one path: created, edited, moved (from `origin`) or removed. `row` as it is now; of what was
    removed, as it was."""

    verb: Verb
    path: bytes
    row: Row
    origin: bytes | None = None


class EntryChanges(msgspec.Struct, frozen=True, gc=False):
    """An entry of the log that was applied. `node` wrote it; "" when several did."""

    index: int
    node: str
    changes: tuple[PathChange, ...]
    omitted: int


class Changes:
    """`index` is the newest entry that was applied. What happened after `oldest` is known."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.oldest = index
        self._entries: deque[EntryChanges] = deque()
        self._kept = 0
        self._placed: deque[Everywhere] = deque(maxlen=PLACED_KEPT)
        self.placed_count = 0
        """How many entries were ever said to be everywhere: a cursor for `placed`."""
        self._news: asyncio.Event | None = None

    def applied(self, applied: Applied, pack: Pack, catalogue: RowView) -> None:
        """An entry was applied, and `catalogue` is as it left it."""
        nodes = {batch.origin.node.partition(API_MARK)[0] for batch in pack.batches}
        paths = _Paths(applied.changes, catalogue)
        told = []
        for change in applied.changes.values():
            told.append(paths.told(change))
            if len(told) == CHANGES_TOLD:
                break
        node = nodes.pop() if len(nodes) == 1 else ""
        self._entries.append(EntryChanges(applied.index, node, tuple(told), len(applied.changes) - len(told)))
        self._kept += len(told)
        while len(self._entries) > ENTRIES_KEPT or (self._kept > CHANGES_KEPT and len(self._entries) > 1):
            dropped = self._entries.popleft()
            self._kept -= len(dropped.changes)
            self.oldest = dropped.index
        self.index = applied.index
        self.wake()

    def everywhere(self, entry: Everywhere) -> None:
        self._placed.append(entry)
        self.placed_count += 1
        self.wake()

    def after(self, index: int, most: int) -> list[EntryChanges]:
        """The next entries after `index`, which is not before `oldest`: up to `most`."""
        if index >= self.index:
            return []
        first = len(self._entries) - (self.index - index)
        return [self._entries[at] for at in range(first, min(first + most, len(self._entries)))]

    def placed(self, count: int) -> list[Everywhere]:
        """Those after the first `count` that there ever were, as far as they are still known."""
        new = min(self.placed_count - count, len(self._placed))
        return [self._placed[at] for at in range(len(self._placed) - new, len(self._placed))]

    async def news(self) -> None:
        """Returns once there may be more than when it was called."""
        if self._news is None:
            self._news = asyncio.Event()
        await self._news.wait()

    def wake(self) -> None:
        """Let all who wait look again."""
        if self._news is not None:
            self._news.set()
            self._news = None


class _Paths:
    """Paths before and after one entry, each directory looked up once."""

    def __init__(self, changes: Mapping[Id, Change], catalogue: RowView) -> None:
        self._changes = changes
        self._catalogue = catalogue
        self._before: dict[Id, bytes] = {ROOT: b""}
        self._after: dict[Id, bytes] = {ROOT: b""}

    def told(self, change: Change) -> PathChange:
        before, after = change.before, change.after
        if after is None:
            assert before is not None
            return PathChange("removed", self._path(before, self._before, self._row_before), before)
        path = self._path(after, self._after, self._catalogue.get)
        if before is None:
            return PathChange("created", path, after)
        if (before.parent, before.name) == (after.parent, after.name):
            return PathChange("edited", path, after)
        return PathChange("moved", path, after, self._path(before, self._before, self._row_before))

    def _row_before(self, id: Id) -> Row | None:
        change = self._changes.get(id)
        return self._catalogue.get(id) if change is None else change.before

    def _path(self, row: Row, known: dict[Id, bytes], get: Callable[[Id], Row | None]) -> bytes:
        above: list[Row] = []
        parent = row.parent
        while parent not in known and (directory := get(parent)) is not None:
            above.append(directory)
            parent = directory.parent
        path = known.get(parent, b"")
        for directory in reversed(above):
            path = _join(path, directory.name)
            known[directory.id] = path
        return _join(path, row.name)


def _join(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path else name
