"""What everybody who follows a node is told alike: its changes as events, encoded once, and its status, looked at once
a second while anybody follows.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
import structlog

from onefold.api.answers import Changed, ChangeTold, EntryKind, Verb, href
from onefold.core.model import Kind
from onefold.core.paths import show
from onefold.core.roster import Roster
from onefold.errors import OnefoldError
from onefold.node.changes import Changes, EntryChanges, PathChange

STATUS_SECONDS = 1.0
ENCODED_KEPT = 256
KINDS: dict[Kind, EntryKind] = {Kind.FILE: "file", Kind.DIRECTORY: "directory", Kind.SYMLINK: "symlink"}

log = structlog.get_logger()


def event(name: str, data: Any, id: int | None = None) -> bytes:
    """One event of a stream. Without `id`, a reader that comes again goes on from the last one that had one."""
    lines = [b"event: " + name.encode()] + ([] if id is None else [b"id: %d" % id])
    return b"\n".join([*lines, b"data: " + msgspec.json.encode(data), b"", b""])


class Feed:
    """`status` is the newest event of that kind, and `version` grows with each. `following` says how many follow."""

    def __init__(self) -> None:
        self.closed = False
        self.status = b""
        self.version = 0
        self.following = 0
        self._encoded: OrderedDict[int, bytes] = OrderedDict()
        self._task: asyncio.Task[None] | None = None
        self._changes: Changes | None = None

    def close(self) -> None:
        """Let all streams end."""
        self.closed = True
        if self._changes is not None:
            self._changes.wake()

    @contextlib.contextmanager
    def follow(
        self, changes: Changes, status: Callable[[], Awaitable[Any]], roster: Callable[[], Roster]
    ) -> Iterator[None]:
        """As long as this lasts, somebody follows `changes`, and `status()` is asked; another `roster()` is news, too:
        it may not allow that any more."""
        self.following += 1
        if self._task is None:
            self._changes = changes
            self._task = asyncio.get_running_loop().create_task(self._watch(changes, status, roster))
        try:
            yield
        finally:
            self.following -= 1
            if not self.following:
                self._task.cancel()
                self._task = None

    async def _watch(
        self, changes: Changes, status: Callable[[], Awaitable[Any]], roster: Callable[[], Roster]
    ) -> None:
        known = roster()
        while True:
            if roster() != known:
                known = roster()
                changes.wake()
            try:
                told = event("status", await status())
            except OnefoldError as error:
                log.warning("no status for those who follow", error=str(error))
            else:
                if told != self.status:
                    self.status = told
                    self.version += 1
                    changes.wake()
            await asyncio.sleep(STATUS_SECONDS)

    def changed(self, entry: EntryChanges) -> bytes:
        """The event of `entry`."""
        told = self._encoded.get(entry.index)
        if told is None:
            changes = tuple(map(_told, entry.changes))
            told = event("change", Changed(entry.index, entry.node, changes, entry.omitted), entry.index)
            self._encoded[entry.index] = told
            if len(self._encoded) > ENCODED_KEPT:
                self._encoded.popitem(last=False)
        return told


def _told(change: PathChange) -> ChangeTold:
    row, kind = change.row, KINDS[change.row.kind]
    verb: Verb = change.verb
    if verb == "removed":
        return ChangeTold(verb, show(change.path), href(change.path), kind)
    return ChangeTold(
        verb=verb,
        path=show(change.path),
        href=href(change.path),
        kind=kind,
        size=row.size,
        digest=row.content.hex() if row.kind == Kind.FILE else None,
        version=row.version,
        origin=None if change.origin is None else href(change.origin),
    )
