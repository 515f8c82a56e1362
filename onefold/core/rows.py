"""What the catalogue is kept in: a store of rows, by id and by place, and each node's last batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from onefold.core.model import ROOT, ROOT_ROW, Id, Outcome, Row


class Last(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The newest batch of a node that the catalogue has seen, and what became of its commands."""

    incarnation: int
    sequence: int
    outcomes: tuple[Outcome, ...]


class Rows(Protocol):
    """The store that the catalogue works on. What was put is seen by the next call.

    Ids, and all integers of a row, are from 0 to 2^63 - 1 (`mtime_ns` may be negative). The root always exists:
    `get` answers `ROOT_ROW` for it, nothing else mentions it, and it is never put or deleted.
    """

    def get(self, id: Id) -> Row | None: ...

    def child(self, parent: Id, name: bytes) -> Row | None:
        """The row called `name` in directory `parent`."""
        ...

    def children(self, parent: Id) -> Sequence[Row]:
        """All rows in directory `parent`, sorted by name."""
        ...

    def children_after(self, parent: Id, after: bytes, limit: int) -> Sequence[Row]:
        """The first `limit` of them with names beyond `after`."""
        ...

    def has_children(self, id: Id) -> bool: ...

    def page(self, after: Id, limit: int) -> Sequence[Row]:
        """The first `limit` rows with ids beyond `after`, by id."""
        ...

    def put(self, row: Row) -> None:
        """Make `row` the row of its id, wherever that was before. (parent, name) is free, or this id's own."""
        ...

    def delete(self, row: Row) -> None:
        """Forget `row`, which exists just so and has no children."""
        ...

    def last(self, node: str) -> Last | None: ...

    def lasts(self) -> Sequence[tuple[str, Last]]:
        """All of them, by node."""
        ...

    def set_last(self, node: str, last: Last) -> None:
        """Keep `last` for `node`. Its numbers are not checked: anything up to 2^64 may come."""
        ...


class MemoryRows:
    """`Rows` in dicts: for tests and for simulation."""

    def __init__(self) -> None:
        self._rows: dict[Id, Row] = {ROOT: ROOT_ROW}
        self._places: dict[Id, dict[bytes, Row]] = {}
        self._lasts: dict[str, Last] = {}

    def get(self, id: Id) -> Row | None:
        return self._rows.get(id)

    def child(self, parent: Id, name: bytes) -> Row | None:
        names = self._places.get(parent)
        return names.get(name) if names is not None else None

    def children(self, parent: Id) -> Sequence[Row]:
        names = self._places.get(parent, {})
        return [names[name] for name in sorted(names)]

    def children_after(self, parent: Id, after: bytes, limit: int) -> Sequence[Row]:
        return [row for row in self.children(parent) if row.name > after][:limit]

    def has_children(self, id: Id) -> bool:
        return id in self._places

    def page(self, after: Id, limit: int) -> Sequence[Row]:
        ids = sorted(id for id in self._rows if id > after and id != ROOT)
        return [self._rows[id] for id in ids[:limit]]

    def put(self, row: Row) -> None:
        old = self._rows.get(row.id)
        if old is not None and (old.parent != row.parent or old.name != row.name):
            self._leave(old)
        self._rows[row.id] = row
        names = self._places.get(row.parent)
        if names is None:
            names = self._places[row.parent] = {}
        names[row.name] = row

    def delete(self, row: Row) -> None:
        del self._rows[row.id]
        self._leave(row)

    def last(self, node: str) -> Last | None:
        return self._lasts.get(node)

    def lasts(self) -> Sequence[tuple[str, Last]]:
        return sorted(self._lasts.items())

    def set_last(self, node: str, last: Last) -> None:
        self._lasts[node] = last

    def _leave(self, row: Row) -> None:
        names = self._places[row.parent]
        del names[row.name]
        # An empty dict must not stay: `has_children` asks only whether there is one.
        if not names:
            del self._places[row.parent]
