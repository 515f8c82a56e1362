"""Rows lately read or written, by id and by place, so that a change is not asked of SQLite at every station."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from onefold.core.model import Id

ROWS_MAX = 16_384
"""About 10 MiB."""


class Placed(Protocol):
    @property
    def id(self) -> Id: ...

    @property
    def parent(self) -> Id: ...

    @property
    def name(self) -> bytes: ...


R = TypeVar("R", bound=Placed)


class RowCache(Generic[R]):
    """Invariant: a row that is known by its place is known by its id; so to change or forget a row needs its id only.

    None says that the store has no such row; a key that is missing says nothing.
    """

    def __init__(self) -> None:
        self.ids: dict[Id, R | None] = {}
        self.places: dict[tuple[Id, bytes], R | None] = {}

    def found(self, row: R) -> R:
        """`row` was read from the store."""
        if len(self.ids) >= ROWS_MAX or len(self.places) >= ROWS_MAX:
            self.clear()
        self.ids[row.id] = row
        self.places[row.parent, row.name] = row
        return row

    def written(self, row: R) -> None:
        """`row` is now the row of its id, and what stands at its place."""
        self.forget(row.id)
        other = self.places.get((row.parent, row.name))
        if other is not None:
            self.ids.pop(other.id, None)
        self.found(row)

    def forget(self, id: Id) -> None:
        """The store has no row of `id` any more."""
        if len(self.ids) >= ROWS_MAX:
            self.clear()
        old = self.ids.get(id)
        if old is not None:
            self.places[old.parent, old.name] = None
        self.ids[id] = None

    def missing(self, parent: Id, name: bytes) -> None:
        """The store has no row at this place."""
        if len(self.places) >= ROWS_MAX:
            self.clear()
        self.places[parent, bytes(name)] = None

    def clear(self) -> None:
        self.ids.clear()
        self.places.clear()
