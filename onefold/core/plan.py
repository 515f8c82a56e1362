"""Catalogue against base: the ordered actions that bring a folder to what the catalogue says.

Order
  1. *aside*: whatever leaves a place that something else wants; deepest first, so that every path still holds. What
     moves or goes away below something that steps aside must step aside before it: its path is gone afterwards.
  2. *arrive*: creations and moves, from the root downwards, so that a parent stands in its final place before its
     children. A file that takes the place of a file that goes away is exchanged for it: no reader finds nothing there.
  3. *change*: content and attributes of what stayed.
  4. *drop*: removals, deepest first.

The folder may differ from the base by then. Every action carries what it expects, and the materialiser verifies it
after the exchange; so a plan may be wrong about the folder, but it is never wrong about what it may destroy.
"""

from __future__ import annotations

from collections.abc import Iterable

from onefold.core.model import (
    ROOT,
    Action,
    Aside,
    Attributes,
    BaseRow,
    Drop,
    Id,
    Kind,
    Make,
    Replace,
    Row,
    Shift,
)
from onefold.core.paths import ROOT_PATH, RelPath
from onefold.core.views import BaseView, RowView


def plan(ids: Iterable[Id], catalogue: RowView, base: BaseView) -> list[Action]:
    """The actions for `ids`, for all that is above them, and for what stands in their way."""
    return _Plan(catalogue, base).run(ids)


class _Plan:
    def __init__(self, catalogue: RowView, base: BaseView) -> None:
        self.catalogue = catalogue
        self.base = base
        self.sorted: set[Id] = {ROOT}
        self.makes: dict[Id, Row] = {}
        self.shifts: dict[Id, tuple[Row, BaseRow]] = {}
        self.changes: dict[Id, tuple[Row, BaseRow]] = {}
        self.drops: dict[Id, BaseRow] = {}
        self.asides: set[Id] = set()
        self.arrived: dict[Id, RelPath] = {ROOT: ROOT_PATH}  # final paths, of those known so far
        self.shifted: dict[Id, RelPath] = {}

    def run(self, ids: Iterable[Id]) -> list[Action]:
        for id in sorted(set(ids)):
            self._sort(id)
        wanted = self._wanted()
        exchanged = self._exchanges(wanted)
        actions: list[Action] = self._step_aside(wanted, exchanged)
        actions += self._arrive(exchanged)
        actions += self._change()
        actions += self._drop()
        return actions

    def _sort(self, id: Id) -> None:
        """Decide what becomes of `id`, and of all that its arrival depends on."""
        if id in self.sorted:
            return
        self.sorted.add(id)
        row, old = self.catalogue.get(id), self.base.get(id)
        if row is None:
            if old is not None:
                self.drops[id] = old
            return
        # Also when the parent is there: it may have to move, perhaps out of what is to move into it.
        self._sort(row.parent)
        if old is None or (row.parent, row.name) != (old.parent, old.name):
            blocker = self.base.child(row.parent, row.name)
            if blocker is not None:
                self._sort(blocker.id)
        if old is None:
            self.makes[id] = row
            return
        if (row.parent, row.name) != (old.parent, old.name):
            self.shifts[id] = (row, old)
        elif row.placed != old.placed:
            # It is there by another move than the base knows: the folder has nothing to do, and the base to learn it.
            self.changes[id] = (row, old)
        if row.version != old.version:
            self.changes[id] = (row, old)

    def _wanted(self) -> dict[Id, Row]:
        """Who stands, in the base, where something arrives: its id, and the row that arrives."""
        wanted: dict[Id, Row] = {}
        for row in [*self.makes.values(), *(row for row, _ in self.shifts.values())]:
            blocker = self.base.child(row.parent, row.name)
            if blocker is not None and blocker.id != row.id:
                wanted[blocker.id] = row
        return wanted

    def _exchanges(self, wanted: dict[Id, Row]) -> dict[Id, BaseRow]:
        """Makes of a file or symlink where a file or symlink goes away: by the id that is made, what goes."""
        exchanged: dict[Id, BaseRow] = {}
        for id, row in wanted.items():
            old = self.drops.get(id)
            if old is not None and row.id in self.makes and Kind.DIRECTORY not in (row.kind, old.kind):
                exchanged[row.id] = old
        for old in exchanged.values():
            del self.drops[old.id]
        return exchanged

    def _step_aside(self, wanted: dict[Id, Row], exchanged: dict[Id, BaseRow]) -> list[Action]:
        going = {old.id for old in exchanged.values()}
        self.asides = {id for id in wanted if id not in going and (id in self.shifts or id in self.drops)}
        if self.asides:
            leaving = [old for _, old in self.shifts.values()] + list(self.drops.values())
            self.asides |= {old.id for old in leaving if self._below_an_aside(old)}
        rows = [self.drops[id] if id in self.drops else self.shifts[id][1] for id in sorted(self.asides)]
        deepest_first = sorted(((self._path_in_base(old), old) for old in rows), key=lambda p: p[0].split(b"/"))
        return [Aside(old, path) for path, old in reversed(deepest_first)]

    def _below_an_aside(self, old: BaseRow) -> bool:
        parent = old.parent
        while parent != ROOT:
            if parent in self.asides:
                return True
            above = self.base.get(parent)
            if above is None:
                return False
            parent = above.parent
        return False

    def _arrive(self, exchanged: dict[Id, BaseRow]) -> list[Action]:
        arrivals = [*self.makes.values(), *(row for row, _ in self.shifts.values())]
        downwards = sorted(((self._final_path(row), row) for row in arrivals), key=lambda p: p[0].split(b"/"))
        actions: list[Action] = []
        for path, row in downwards:
            if row.id in exchanged:
                actions.append(Replace(row, path, exchanged[row.id]))
            elif row.id in self.makes:
                actions.append(Make(row, path))
            else:
                old = self.shifts[row.id][1]
                source = None if row.id in self.asides else self._path_now(old)
                actions.append(Shift(old, source, path, row.parent, row.placed))
                self.shifted[row.id] = path
        return actions

    def _change(self) -> list[Action]:
        actions: list[Action] = []
        directories: list[Action] = []
        for row, old in self.changes.values():
            path = self._final_path(row)
            if row.kind is Kind.DIRECTORY:
                directories.append(Attributes(row, path, old))
            elif row.content == old.content:
                actions.append(Attributes(row, path, old))
            else:
                actions.append(Replace(row, path, old))
        return actions + directories

    def _drop(self) -> list[Action]:
        places = sorted(
            ((self._path_now(old), old) for old in self.drops.values() if old.id not in self.asides),
            key=lambda p: p[0].split(b"/"),
        )
        inside: list[Action] = [Drop(old, path) for path, old in reversed(places)]
        aside: list[Action] = [Drop(self.drops[id], None) for id in sorted(self.asides) if id in self.drops]
        return inside + aside

    # -------------------------------------------------------------------------------------------- where things stand

    def _final_path(self, row: Row) -> RelPath:
        """Where `row` stands when all has arrived."""
        return self._final_directory(row.parent).child(row.name)

    def _final_directory(self, id: Id) -> RelPath:
        known = self.arrived.get(id)
        if known is not None:
            return known
        if id in self.makes or id in self.shifts:
            row = self.makes[id] if id in self.makes else self.shifts[id][0]
            path = self._final_directory(row.parent).child(row.name)
        else:
            # It stays where the base has it; without a base row its making failed before, and so will what is below.
            here = self.base.get(id) or self.catalogue.get(id)
            path = self._final_directory(here.parent).child(here.name) if here is not None else ROOT_PATH
        self.arrived[id] = path
        return path

    def _path_in_base(self, old: BaseRow) -> RelPath:
        """Where `old` stands before anything moves."""
        if old.parent == ROOT:
            return RelPath(old.name)
        above = self.base.get(old.parent)
        return (self._path_in_base(above) if above is not None else ROOT_PATH).child(old.name)

    def _path_now(self, old: BaseRow) -> RelPath:
        """Where `old` stands once everything that `_arrive` has put in order so far has happened."""
        if old.id in self.shifted:
            return self.shifted[old.id]
        if old.parent == ROOT:
            return RelPath(old.name)
        above = self.base.get(old.parent)
        return (self._path_now(above) if above is not None else ROOT_PATH).child(old.name)
