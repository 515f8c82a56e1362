"""After a crash: what the last run of the materialiser had done, and what it left among the temporaries.

The intents say what was going to be done; nothing says how far it came. So everything is told from what stands there:
an inode that the base knows is that row's wherever it stands; content that the catalogue or the base has is committed,
and may be removed; a new file that still carries `UNFINISHED` is ours; all else is somebody's, and becomes a stray.
What was half done is completed where one step is missing (attributes, a move whose place is free), else undone.

Order: new files, removals and strays among the temporaries; then the actions, in theirs; then what stepped aside (it
must know where the directories are by now); then what is gone. Every step can be repeated: a crash in here is the same
crash again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Protocol

import msgspec

from onefold import linux
from onefold.core.model import (
    ROOT,
    Action,
    Aside,
    Attributes,
    BaseRow,
    Discard,
    Done,
    Drop,
    Id,
    Kind,
    Make,
    Replace,
    Result,
    Row,
    Shift,
    Stat,
    Version,
)
from onefold.core.paths import META, ROOT_PATH, RelPath
from onefold.edge.reasons import Stop
from onefold.edge.workspace import UNFINISHED, Workspace, base_row, kind_of, moved_row, moved_stat, stray_name

_REASON = "it was found among the temporaries after a crash"

_TAGS: dict[type, int] = {Make: 1, Replace: 2, Attributes: 3, Aside: 4, Shift: 5, Drop: 6, Discard: 7}
_encode = msgspec.msgpack.Encoder(enc_hook=bytes).encode
_decode = msgspec.msgpack.Decoder(list[tuple[int, msgspec.Raw]]).decode
_decode_make = msgspec.msgpack.Decoder(tuple[Row, bytes]).decode
_decode_change = msgspec.msgpack.Decoder(tuple[Row, bytes, BaseRow]).decode
_decode_aside = msgspec.msgpack.Decoder(tuple[BaseRow, bytes]).decode
_decode_shift = msgspec.msgpack.Decoder(tuple[BaseRow, bytes | None, bytes, Id, Version]).decode
_decode_drop = msgspec.msgpack.Decoder(tuple[BaseRow, bytes | None]).decode
_decode_discard = msgspec.msgpack.Decoder(tuple[bytes, Kind]).decode


class KnownRow(Protocol):
    """The catalogue, as far as it is needed here."""

    def get(self, id: Id) -> Row | None: ...


class KnownBase(Protocol):
    """The base, as far as it is needed here."""

    def get(self, id: Id) -> BaseRow | None: ...

    def by_inode(self, ino: int, btime_ns: int) -> BaseRow | None: ...

    def lookup(self, path: RelPath) -> BaseRow | None: ...


def intents_of(actions: Iterable[Action]) -> bytes:
    """`actions` as bytes for the journal."""
    return _encode([(_TAGS[type(action)], msgspec.structs.astuple(action)) for action in actions])


def actions_of(intents: bytes) -> list[Action]:
    """The actions that `intents_of` made `intents` of."""
    return [_action(tag, body) for tag, body in _decode(intents)]


def _action(tag: int, body: msgspec.Raw) -> Action:
    if tag == 1:
        row, path = _decode_make(body)
        return Make(row, RelPath(path))
    if tag in (2, 3):
        row, path, base = _decode_change(body)
        return Replace(row, RelPath(path), base) if tag == 2 else Attributes(row, RelPath(path), base)
    if tag == 4:
        base, path = _decode_aside(body)
        return Aside(base, RelPath(path))
    if tag == 5:
        base, source, path, parent, placed = _decode_shift(body)
        return Shift(base, None if source is None else RelPath(source), RelPath(path), parent, placed)
    if tag == 6:
        base, place = _decode_drop(body)
        return Drop(base, None if place is None else RelPath(place))
    path, kind = _decode_discard(body)
    return Discard(RelPath(path), kind)


class Recovery:
    """Brings the temporaries in order and tells what was done. Raises `OSError` when the folder refuses."""

    def __init__(self, space: Workspace, actions: list[Action], base: KnownBase, catalogue: KnownRow) -> None:
        self.space = space
        self.actions = actions
        self.base = base
        self.catalogue = catalogue
        self.told: list[tuple[Action, Result]] = []
        self.rows: dict[Id, Make | Replace] = {}
        self.asides: dict[Id, Aside] = {}
        self.shifts: dict[Id, Shift] = {}
        self.drops: dict[Id, Drop] = {}
        self.settled: set[Id] = set()
        self.places: dict[Id, RelPath] = {ROOT: ROOT_PATH}
        for action in actions:
            if isinstance(action, Make | Replace):
                self.rows[action.row.id] = action
            elif isinstance(action, Aside):
                self.asides[action.base.id] = action
            elif isinstance(action, Shift):
                self.shifts[action.base.id] = action
            elif isinstance(action, Drop):
                self.drops[action.base.id] = action

    def run(self) -> list[tuple[Action, Result]]:
        """What was carried out, as (action, `Done`); of all else the base is still right."""
        self._close_directories()
        waiting: list[tuple[RelPath, Id, bytes]] = []
        for name in sorted(os.fsencode(name) for name in os.listdir(self.space.tmp)):
            id, use = _parse(name)
            if use == b"n":
                self._new(id, name)
            elif use == b"d":
                self._dropped(id, name)
            elif use == b"a":
                waiting.append((self._place(id), id, name))
            else:
                self.space.keep(name, self._stray_path(name), _REASON)
        for action in self.actions:
            if isinstance(action, Make | Replace):
                self._arrived(action)
            elif isinstance(action, Attributes):
                self._dressed(action)
            elif isinstance(action, Shift):
                self._shifted(action)
        for place, id, name in sorted(waiting, key=lambda w: w[0].split(b"/")):
            self._aside(id, name, place)
        arrived = set(self.places.values())
        for drop in self.drops.values():
            self._gone(drop, arrived)
        self.space.forget()
        return self.told

    # -------------------------------------------------------------------------------------------- temporaries

    def _new(self, id: Id, name: bytes) -> None:
        mode, found = linux.stat_of(self.space.tmp, name)
        kind = kind_of(mode)
        action = self.rows.get(id)
        if kind is Kind.DIRECTORY:
            if self._removed_directory(name):
                return
        elif kind is Kind.FILE and (mode & UNFINISHED or found.size == 0):
            self.space.remove(name)
            return
        else:
            candidates: list[Row | BaseRow | None] = [self.catalogue.get(id), self.base.get(id)]
            if action is not None:
                candidates.append(action.row)
            if isinstance(action, Replace):
                candidates.append(action.base)
            if self._removed(name, candidates):
                return
        self.space.keep(name, action.path if action is not None else self._place(id), _REASON)

    def _dropped(self, id: Id, name: bytes) -> None:
        drop = self.drops.get(id)
        base = drop.base if drop is not None else self.base.get(id)
        path = drop.path if drop is not None and drop.path is not None else self._place(id)
        strays = 0
        if not self._removed(name, [base, self.base.get(id)]):
            self.space.keep(name, path, _REASON)
            strays = 1
        if base is not None:
            self._tell(id, drop or Drop(base, path), Done(id, None, strays))

    def _aside(self, id: Id, name: bytes, place: RelPath) -> None:
        aside, drop, shift = self.asides.get(id), self.drops.get(id), self.shifts.get(id)
        base = aside.base if aside is not None else self.base.get(id)
        if drop is None and base is not None:
            if shift is not None and self._moved(name, self._fd_at(shift.path.parent), shift.path):
                self._shifted(shift)
                return
            home = self._fd_of(base.parent)
            if self._moved(name, home, place):
                found = linux.stat_of(home or 0, place.name)[1]
                back = msgspec.structs.replace(base, stat=moved_stat(base, -1, found))
                self._tell(id, aside or Aside(base, place), Done(id, back))
                return
        strays = 0
        if not (self._removed_directory(name) or self._removed(name, [base])):
            self.space.keep(name, aside.path if aside is not None else place, _REASON)
            strays = 1
        if base is not None:
            self._tell(id, drop or aside or Aside(base, place), Done(id, None, strays))

    def _removed(self, name: bytes, candidates: Iterable[Row | BaseRow | None]) -> bool:
        """Whether it was one of `candidates`, byte for byte, and is removed."""
        for row in candidates:
            if row is not None and row.kind is not Kind.DIRECTORY and self.space.holds(self.space.tmp, name, row):
                self.space.remove(name)
                return True
        return False

    def _removed_directory(self, name: bytes) -> bool:
        try:
            os.rmdir(name, dir_fd=self.space.tmp)
        except OSError:
            # Not empty, or no directory: whoever asks goes on to keep it.
            return False
        return True

    def _moved(self, name: bytes, to: int | None, path: RelPath) -> bool:
        """Whether temporary `name` could be moved to `path`, whose directory is open as `to`."""
        if to is None:
            return False
        try:
            linux.renameat2(self.space.tmp, name, to, path.name, linux.RENAME_NOREPLACE)
        except (FileExistsError, FileNotFoundError):
            return False
        return True

    # -------------------------------------------------------------------------------------------- actions

    def _arrived(self, action: Make | Replace) -> None:
        row, path = action.row, action.path
        parent = self._fd_of(row.parent)
        if parent is None or self._place(row.parent) != path.parent:
            return
        found = self._stat(parent, path.name)
        held = self.space.holds(parent, path.name, row)
        if found is None or held is None:
            return
        owner = self.base.by_inode(found.ino, found.btime_ns)
        if isinstance(action, Make):
            if owner is not None and owner.id != row.id:
                return
        elif found.same_file(action.base.stat) or (found.mode, found.mtime_ns) != _attributes_of(row, found):
            return
        # A new file is complete before it arrives; only what was adopted, and a directory, may lack its attributes.
        if (found := self._dress(parent, path.name, row, held)) is not None:
            self.places[row.id] = path
            self._tell(row.id, action, Done(row.id, base_row(row, found)))

    def _dressed(self, action: Attributes) -> None:
        row, path, base = action.row, action.path, action.base
        parent = self._fd_at(path.parent)
        found = None if parent is None else self._stat(parent, path.name)
        if parent is None or found is None or not found.same_file(base.stat):
            return
        either = {_attributes_of(row, found), _attributes_of(base, found)}
        modes, mtimes = {mode for mode, _ in either}, {mtime for _, mtime in either}
        if found.mode not in modes or found.mtime_ns not in mtimes:
            return
        held = self.space.holds(parent, path.name, row)
        if held is not None and (found := self._dress(parent, path.name, row, held)) is not None:
            self._tell(row.id, action, Done(row.id, base_row(row, found)))

    def _dress(self, parent: int, name: bytes, row: Row, held: Stat) -> Stat | None:
        """The stat of what stands there, with all attributes; None if somebody has put another file there meanwhile."""
        try:
            return self.space.dress(parent, name, row, held)
        except Stop:
            return None

    def _shifted(self, action: Shift) -> None:
        base, path = action.base, action.path
        parent = self._fd_at(path.parent)
        found = None if parent is None else self._stat(parent, path.name)
        if found is None or not found.same_file(base.stat):
            return
        self.places[base.id] = path
        self._tell(base.id, action, Done(base.id, moved_row(action, base, -1, found)))

    def _gone(self, drop: Drop, arrived: set[RelPath]) -> None:
        """`drop` was carried out if nothing stands where its row did, or what stands there is what just arrived."""
        base = drop.base
        if base.id in self.settled:
            return
        parent = self._fd_of(base.parent)
        found = None if parent is None else self._stat(parent, base.name)
        if found is None or not (found.same_file(base.stat) or self._place(base.id) not in arrived):
            self._tell(base.id, drop, Done(base.id, None))

    def _close_directories(self) -> None:
        """Close again the read-only directories that were opened for a change, if we are not root and had to."""
        if os.geteuid() == 0:
            return
        directories = set()
        for action in self.actions:
            for path in (action.path, action.source if isinstance(action, Shift) else None):
                while path:
                    directories.add(path)
                    path = path.parent
        for path in sorted(directories, reverse=True):
            base = self.base.lookup(path)
            if base is not None and base.kind is Kind.DIRECTORY and base.mode & 0o300 != 0o300:
                self._close_directory(path, base)

    def _close_directory(self, path: RelPath, base: BaseRow) -> None:
        fd = self._fd_at(path)
        if fd is None:
            return
        found = linux.look_fd(fd)[1]
        if found.same_file(base.stat) and found.mode == base.mode | 0o300:
            os.chmod(f"/proc/self/fd/{fd}", base.mode)

    # -------------------------------------------------------------------------------------------- where things are

    def _tell(self, id: Id, action: Action, result: Done) -> None:
        self.settled.add(id)
        self.told.append((action, result))

    def _place(self, id: Id) -> RelPath:
        """Where `id` stands, as far as is known by now; its bare name when that is not known."""
        known = self.places.get(id)
        if known is not None:
            return known
        row = self.base.get(id)
        if row is None:
            return RelPath(b"%x" % id)
        return self._place(row.parent).child(row.name)

    def _fd_at(self, path: RelPath) -> int | None:
        """Directory `path`, open; None when there is none."""
        self.space.trim()
        try:
            return self.space.directory(path)
        except OSError:
            # Missing, no directory, another mount: in all cases nothing of ours was done there.
            return None

    def _fd_of(self, id: Id) -> int | None:
        """The directory of `id`, open, if what stands at its place is the very inode that the base knows."""
        fd = self._fd_at(self._place(id))
        if fd is None or id in self.places:
            return fd
        row = self.base.get(id)
        return fd if row is not None and linux.look_fd(fd)[1].same_file(row.stat) else None

    def _stat(self, parent: int, name: bytes) -> Stat | None:
        try:
            return linux.stat_of(parent, name)[1]
        except FileNotFoundError:
            return None

    def _stray_path(self, name: bytes) -> RelPath:
        for action in self.actions:
            if action.path is not None and stray_name(action.path) == name:
                return action.path
        return RelPath(META + b"/tmp/" + name)


def _parse(name: bytes) -> tuple[Id, bytes]:
    number, _, use = name.partition(b".")
    try:
        return Id(int(number, 16)), use
    except ValueError:
        return Id(0), b""


def _attributes_of(row: Row | BaseRow, found: Stat) -> tuple[int, int]:
    """The mode and mtime of `row` as they would stand in the folder; those of `found` where they are not replicated."""
    if row.kind is Kind.FILE:
        return row.mode, row.mtime_ns
    return (row.mode if row.kind is Kind.DIRECTORY else found.mode), found.mtime_ns
