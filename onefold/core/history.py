"""What each entry did, one record for each thing that changed: for people who ask what became of a path.

A record tells the path as it was right after its entry; of what was removed, as it was before. A directory that moves
is one record, whatever is in it: who follows an id finds what happened to it, under whichever names.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Final, Literal

import msgspec

from onefold.core.model import ROOT, Applied, Change, Id, Kind, Pack, Remove, Row, Version, author, index_of, version
from onefold.core.paths import ROOT_PATH, RelPath

Verb = Literal["created", "edited", "moved", "removed"]
REMOVED: Final = "removed"


class Record(msgspec.Struct, frozen=True, gc=False):
    """`version` is that of the command that did it: the entry's index and the position in it. `node` wrote it. `kind`,
    `size`, `content` and `mtime_ns` as in `Row`, after it (of what was removed: before)."""

    version: Version
    id: Id
    verb: Verb
    path: RelPath
    node: str
    kind: Kind
    size: int
    content: bytes
    mtime_ns: int


def records(pack: Pack, applied: Applied, get: Callable[[Id], Row | None]) -> list[Record]:
    """What `pack` did when it was applied, by version. `get` is the catalogue's, right after it."""
    if not applied.changes:
        return []
    starts, removed = _positions(pack, applied)
    paths: dict[Id, RelPath] = {ROOT: ROOT_PATH}

    def row_of(id: Id) -> Row | None:
        row = get(id)
        if row is None and id in applied.changes:
            return applied.changes[id].before
        return row

    def path_of(row: Row) -> RelPath:
        directory = paths.get(row.parent)
        if directory is None:
            above = row_of(row.parent)
            directory = paths[row.parent] = path_of(above) if above is not None else ROOT_PATH
        return directory.child(row.name)

    found: list[Record] = []
    for id, change in applied.changes.items():
        row = change.after or change.before
        assert row is not None
        for made, verb in _deeds(id, change, applied.index, removed):
            at = bisect_right(starts, made - version(applied.index, 0)) - 1
            node = author(pack.batches[at].origin)
            found.append(Record(made, id, verb, path_of(row), node, row.kind, row.size, row.content, row.mtime_ns))
    return sorted(found, key=lambda record: record.version)


def _positions(pack: Pack, applied: Applied) -> tuple[list[int], dict[Id, Version]]:
    """Where each batch begins, and which command removed an id, if any did."""
    starts: list[int] = []
    removed: dict[Id, Version] = {}
    position = 0
    for batch in pack.batches:
        starts.append(position)
        accepted = applied.outcomes.get(batch.origin, ())
        for number, command in enumerate(batch.commands):
            if isinstance(command, Remove) and number < len(accepted) and accepted[number].accepted:
                removed.setdefault(command.id, version(applied.index, position + number))
        position += len(batch.commands)
    return starts, removed


def _deeds(id: Id, change: Change, index: int, removed: dict[Id, Version]) -> list[tuple[Version, Verb]]:
    before, after = change.before, change.after
    if after is None:
        return [(removed[id], REMOVED)]
    if before is None:
        return [(Version(id), "created")]
    done: list[tuple[Version, Verb]] = []
    if after.version != before.version:
        done.append((after.version, "edited"))
    if after.placed != before.placed:
        done.append((after.placed, "moved"))
    assert all(index_of(made) == index for made, _ in done)
    return done
