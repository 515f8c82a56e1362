"""Observed against base: the commands that tell the log what happened in this folder.

Rules
  * Only what was looked at is compared, and only against the *base*: a node that lags never proposes old content.
  * A path means something only in the directory that the base has there: whatever is above it must be seen as well.
  * Unknown proposes nothing. Absent removes the base's row and everything the base has below it.
  * Identity is inode and birth time. What stands elsewhere under an identity of the base was *moved*; a file only if
    its old place was looked at and holds it no more (else it is a hard link, and a file of its own). Diff asks for
    places it must have seen (`look`); nothing it says counts until they were.
  * A file that replaced another file at a path is new content for the old id, whatever its inode, and wherever the old
    inode is now: so editors save, with a backup or without, and readers elsewhere see one atomic replacement. A
    directory that replaced a directory keeps the old id, too, unless the old directory is seen elsewhere.
  * The folder changes while it is looked at. What was seen below something that is no directory by now, or of a
    directory seen at two places, says nothing: the events of that change are still to come.
  * Order: first whatever stands in somebody's way steps aside under a name of ours in the root; then creations and
    moves, from the root downwards, so that every parent stands in its final place before its children arrive; then
    changes; then removals, deepest first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeGuard

import msgspec

from onefold.core.model import (
    NEVER,
    NEW,
    ROOT,
    Absent,
    BaseRow,
    Command,
    Id,
    Kind,
    Move,
    Observed,
    Present,
    Put,
    Remove,
    Unknown,
    Version,
    made_by,
)
from onefold.core.paths import ROOT_PATH, RelPath
from onefold.core.views import BaseView


class Claim(msgspec.Struct, frozen=True, gc=False):
    """What a command was made from: where, what stood there (None: nothing), and the base's row (None: none)."""

    path: RelPath
    seen: Present | None
    base: BaseRow | None


class Diff(msgspec.Struct, frozen=True):
    """`commands` with a `Claim` each; `refresh`: base rows of which only the stat is new, to be stored without any
    command; `look`: places that must be looked at before the rest may be used."""

    commands: tuple[Command, ...]
    claims: tuple[Claim, ...]
    refresh: tuple[BaseRow, ...]
    look: tuple[RelPath, ...]


def diff(seen: Mapping[RelPath, Observed], base: BaseView) -> Diff:
    """Compare what was `seen` with the `base`. Every directory above a path is in the base or in `seen`."""
    return _Comparison(seen, base).run()


def aside_name(id: Id) -> bytes:
    """The name in the root under which `id` steps aside in the course of one batch."""
    return b".onefold-aside-%d" % id


class _Comparison:
    def __init__(self, seen: Mapping[RelPath, Observed], base: BaseView) -> None:
        self.seen = seen
        self.base = base
        self.commands: list[Command] = []
        self.claims: list[Claim] = []
        self.refresh: list[BaseRow] = []
        self.look: dict[RelPath, None] = {}
        self.aside: dict[Id, tuple[int, bytes]] = {}  # who stepped aside: by which command, and its name there
        self.stands: dict[RelPath, Id] = {ROOT_PATH: ROOT}  # what id now stands at a path (a reference while it is new)
        self.arrivals: list[tuple[RelPath, Present, BaseRow | None]] = []  # new (None) or moved here
        self.changes: list[tuple[RelPath, Present, BaseRow]] = []
        self.gone: dict[Id, BaseRow] = {}  # rows that lost their place
        self.kept: dict[Id, RelPath] = {}  # where rows stand now
        self.directories: dict[tuple[int, int], RelPath] = {}  # by inode and birth time
        self.torn: set[RelPath] = set()  # where a directory was seen that was seen elsewhere as well
        self.news = 0

    def run(self) -> Diff:
        for path, o in self.seen.items():
            if _is_directory(o):
                first = self.directories.setdefault((o.stat.ino, o.stat.btime_ns), path)
                if first != path:
                    self.torn.update((first, path))
        paths = sorted((path for path in self.seen if path), key=lambda p: p.split(b"/"))
        for path in paths:
            self._compare_directory(path, self.seen[path])
        homeless = [path for path in paths if not self._compare_place(path, self.seen[path])]
        for path in homeless:
            self._compare_origin(path, self.seen[path])
        if self.look:
            return Diff((), (), (), tuple(self.look))
        self.arrivals.sort(key=_by_parts)
        removed = self._removals()
        self._step_aside(removed)
        self._arrive()
        self._change()
        self._remove(removed)
        return Diff(tuple(self.commands), tuple(self.claims), tuple(self.refresh), ())

    # -------------------------------------------------------------------------------------------- what happened
    # Three passes: where the directories stand decides in whose place anything else stands; and what stays in its place
    # must be known before anything can be said to have moved.

    def _compare_directory(self, path: RelPath, o: Observed) -> None:
        parent = self._standing(path.parent)
        if parent is None or not _is_directory(o) or path in self.torn:
            return
        row = self._row_at(parent, path)
        origin = self.base.by_inode(o.stat.ino, o.stat.btime_ns)
        if row is not None and row.kind is Kind.DIRECTORY and row.id not in self.kept:
            elsewhere = self.directories.get((row.stat.ino, row.stat.btime_ns), path) != path
            if origin.id == row.id if origin is not None else not elsewhere:
                self._stays(path, o, row)
                return
        if row is not None:
            self.gone[row.id] = row
        if origin is not None and origin.kind is Kind.DIRECTORY and origin.id not in self.kept:
            self._moved(path, o, origin)
            # What was here before may be there now, and must not be taken for removed.
            if (place := self._place_left(origin)) not in self.seen:
                self.look[place] = None
        else:
            self._is_new(path, o)

    def _compare_place(self, path: RelPath, o: Observed) -> bool:
        """Whether all is said about `path`: no file or symlink stands there that must have come from elsewhere."""
        parent = self._standing(path.parent)
        if parent is None or isinstance(o, Unknown) or _is_directory(o):
            return True
        row = self._row_at(parent, path)
        if isinstance(o, Present) and row is not None and row.kind is o.kind:
            self._stays(path, o, row)
            return True
        if row is not None:
            self.gone[row.id] = row
        return isinstance(o, Absent)

    def _compare_origin(self, path: RelPath, o: Observed) -> None:
        assert isinstance(o, Present)
        origin = self.base.by_inode(o.stat.ino, o.stat.btime_ns)
        if origin is None or origin.kind is not o.kind or origin.id in self.kept or self._still_there(origin):
            self._is_new(path, o)
        else:
            self._moved(path, o, origin)

    def _row_at(self, parent: Id, path: RelPath) -> BaseRow | None:
        return self.base.child(parent, _name(path)) if parent >= 0 else None

    def _moved(self, path: RelPath, o: Present, row: BaseRow) -> None:
        self.gone.setdefault(row.id, row)
        self._stays(path, o, row)
        self.arrivals.append((path, o, row))

    def _is_new(self, path: RelPath, o: Present) -> None:
        self.stands[path] = Id(NEW - 1 - self.news)  # distinct; becomes a reference when its position is known
        self.news += 1
        self.arrivals.append((path, o, None))

    def _stays(self, path: RelPath, o: Present, row: BaseRow) -> None:
        self.kept[row.id] = path
        self.stands[path] = row.id
        self._note_change(path, o, row)

    def _note_change(self, path: RelPath, o: Present, row: BaseRow) -> None:
        if o.content != row.content or _mode(o) != row.mode or _mtime(o) != row.mtime_ns:
            self.changes.append((path, o, row))
        elif not o.stat.same_file(row.stat) if o.kind is Kind.DIRECTORY else o.stat != row.stat:
            self.refresh.append(msgspec.structs.replace(row, stat=o.stat))

    def _standing(self, path: RelPath) -> Id | None:
        """The id of the directory that now stands at `path`; None when nothing that we may descend into does."""
        if path in self.seen and not _is_directory(self.seen[path]):
            return None
        if path in self.stands:
            return self.stands[path]
        if path in self.seen:
            return None
        parent = self._standing(path.parent)
        row = self._row_at(parent, path) if parent is not None else None
        if row is None or row.kind is not Kind.DIRECTORY or row.id in self.kept:
            return None
        # Whether it still is the directory that the base has there must be seen, too: it may have been exchanged.
        self.look[path] = None
        return row.id

    def _still_there(self, row: BaseRow) -> bool:
        """Whether the file `row` still stands at its place, wherever that is now. Asks to look if nobody did."""
        place = self._place_now(row)
        if place is None:
            return False
        o = self.seen.get(place)
        if o is None:
            self.look[place] = None
        return o is None or isinstance(o, Unknown) or (isinstance(o, Present) and o.stat.same_file(row.stat))

    def _place_now(self, row: BaseRow) -> RelPath | None:
        """Where `row` stands if it was not moved itself; None when a directory above it is gone."""
        if row.parent == ROOT:
            return RelPath(row.name)
        above = self.base.get(row.parent)
        if above is None:
            return None
        place = self.kept.get(above.id)
        if place is None:
            place = None if above.id in self.gone else self._place_now(above)
        return None if place is None else place.child(row.name)

    # -------------------------------------------------------------------------------------------- in which order

    def _removals(self) -> dict[Id, BaseRow]:
        """Every row that is gone: those that lost their place and all below them that stand nowhere else."""
        removed: dict[Id, BaseRow] = {}
        for row in self.gone.values():
            if row.id in self.kept:
                continue
            for below in self._descendants(row):
                removed[below.id] = below
        return removed

    def _descendants(self, row: BaseRow) -> Iterator[BaseRow]:
        """`row` and everything that the base has below it, parents first; not below what stands elsewhere now."""
        yield row
        children = self.base.children(row.id) if row.kind is Kind.DIRECTORY else ()
        for child in children:
            if child.id not in self.kept:
                yield from self._descendants(child)

    def _step_aside(self, removed: dict[Id, BaseRow]) -> None:
        """Move aside what is leaving a place that an arrival wants."""
        for path, _, _ in self.arrivals:
            parent = self.stands[path.parent]
            blocker = self.base.child(parent, _name(path)) if parent >= 0 else None
            if blocker is None:
                continue
            if blocker.id in removed and blocker.kind is not Kind.DIRECTORY:
                self._emit(Remove(blocker.id, blocker.version), Claim(path, None, blocker))
                del removed[blocker.id]
            else:
                to = self._aside_name(blocker.id)
                self.aside[blocker.id] = (len(self.commands), to)
                self._emit(Move(blocker.id, blocker.placed, ROOT, to), Claim(RelPath(to), None, blocker))

    def _aside_name(self, id: Id) -> bytes:
        """A free name: where a batch was rejected in part, something may still stand aside."""
        name = aside_name(id)
        while RelPath(name) in self.seen or self.base.child(ROOT, name) is not None:
            name += b"-"
        return name

    def _arrive(self) -> None:
        references: dict[Id, Id] = {}
        for path, o, row in self.arrivals:
            parent = self.stands[path.parent]
            parent = references.get(parent, parent)
            if row is None:
                references[self.stands[path]] = made_by(len(self.commands))
                put = Put(NEW, NEVER, parent, _name(path), o.kind, _mode(o), _mtime(o), _size(o), o.content)
                self._emit(put, Claim(path, o, None))
            else:
                expect = Version(made_by(self.aside[row.id][0])) if row.id in self.aside else row.placed
                self._emit(Move(row.id, expect, parent, _name(path)), Claim(path, o, row))

    def _change(self) -> None:
        for path, o, row in self.changes:
            content = o.content if o.content != row.content else None
            put = Put(row.id, row.version, row.parent, _name(path), o.kind, _mode(o), _mtime(o), _size(o), content)
            self._emit(put, Claim(path, o, row))

    def _remove(self, removed: dict[Id, BaseRow]) -> None:
        """Deepest first: a path sorts after those of its parents."""
        places = sorted(((self._place_left(row), row) for row in removed.values()), key=_by_parts)
        for place, row in reversed(places):
            self._emit(Remove(row.id, row.version), Claim(place, None, row))

    def _place_left(self, row: BaseRow) -> RelPath:
        """Where the base will have `row`, which stands nowhere, once all before its removal is in the log."""
        names: list[bytes] = []
        while True:
            if row.id in self.aside:
                names.append(self.aside[row.id][1])
                break
            names.append(row.name)
            above = self.base.get(row.parent)
            if above is None:
                break
            row = above
        return RelPath(b"/".join(reversed(names)))

    def _emit(self, command: Command, claim: Claim) -> None:
        self.commands.append(command)
        self.claims.append(claim)


def _is_directory(o: Observed) -> TypeGuard[Present]:
    return isinstance(o, Present) and o.kind is Kind.DIRECTORY


def _by_parts(entry: tuple[RelPath, *tuple[object, ...]]) -> list[bytes]:
    return entry[0].split(b"/")


def _name(path: RelPath) -> bytes:
    return path[path.rfind(b"/") + 1 :]  # plain bytes, as commands must have


def _mode(o: Present) -> int:
    return 0 if o.kind is Kind.SYMLINK else o.stat.mode


def _mtime(o: Present) -> int:
    return o.stat.mtime_ns if o.kind is Kind.FILE else 0


def _size(o: Present) -> int:
    return 0 if o.kind is Kind.DIRECTORY else o.stat.size
