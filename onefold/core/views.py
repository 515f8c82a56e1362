"""The catalogue and the base, as the core reads them. Implemented over SQLite, and over dicts for the simulator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from onefold.core.model import ROOT, BaseRow, Id, Row
from onefold.core.paths import RelPath


class RowView(Protocol):
    """The catalogue, to read."""

    def get(self, id: Id) -> Row | None: ...

    def child(self, parent: Id, name: bytes) -> Row | None: ...

    def children(self, parent: Id) -> Iterable[Row]: ...


class BaseView(Protocol):
    """The base, to read. The root itself has no row."""

    def get(self, id: Id) -> BaseRow | None: ...

    def child(self, parent: Id, name: bytes) -> BaseRow | None: ...

    def children(self, parent: Id) -> Sequence[BaseRow]:
        """The rows directly below `parent`, in an order that does not depend on a hash."""
        ...

    def by_inode(self, ino: int, btime_ns: int) -> BaseRow | None: ...


def path_of(rows: RowView, parent: Id, name: bytes) -> RelPath:
    """Where the catalogue `rows` has what is called `name` in directory `parent`, as far up as it knows that."""
    path = name
    while parent > ROOT and (above := rows.get(parent)) is not None:
        parent, path = above.parent, above.name + b"/" + path
    return RelPath(path)
