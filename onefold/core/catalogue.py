"""The catalogue: what the log says the folder is. Every transition of it is in this file.

The rules (`wire.RULES` is their version; every node applies the same ones, or halts):

1.  `apply` takes the packs in the order of the log, once each. A pack is applied whole; a command that cannot be is a
    conflict with a reason, never an error, whatever bytes it was made of.
2.  *Exactly once.* Of each node the newest (incarnation, sequence) is kept with its outcomes. The same batch again
    answers those and changes nothing; an older one answers nothing and changes nothing.
3.  A command's version is (index, position); positions count through the whole pack, ignored batches included.
4.  *The tree.* Every row has a parent that is a directory, no two rows have the same (parent, name), all are below the
    root. `.onefold` in the root is always taken. The root is no row: it cannot be put, moved or removed.
5.  A *creation* (`Put` of NEW) needs its parent and a free name. Where a directory stands and a directory is made, or
    where the same content stands, it is accepted as what stands there, unchanged.
6.  An *edit* (`Put` of an id) needs the version that its author had. A `content` of None keeps the content.
7.  A *move* needs the place that its author had (and the version, if it names one), a directory not below itself, and
    a free name. What already is where it should go is accepted unchanged.
8.  A *removal* needs the version that its author had, and an empty directory. What is gone is accepted.
9.  *Rejected content is never lost.* A rejected `Put` whose content is not what stands there already becomes a conflict
    copy, under a name that `conflict_name` makes: a creation in its own directory, an edit next to what won, and either
    in the root when there is no such directory any more. A rejected creation of a directory is made under such a name
    too, so that what its author put inside arrives inside. All other rejected commands have no effect: they revert.
10. The *digest* is the sum modulo 2^256 of the digests of all rows, so one command costs at most two row digests.
11. In a batch that is *answered*, no rejected command has any effect: its author is told, and still has the content.
    Nor is it accepted there that somebody else has done the same already: what is gone cannot be removed, and what was
    moved meanwhile cannot be moved, so that of many who ask for the same one knows that it was theirs.
12. A command that names a *route* needs it: nothing on the path that its author meant may have moved since.
"""

from __future__ import annotations

from msgspec.structs import replace

from onefold.core.model import (
    NEVER,
    NEW,
    ROOT,
    Applied,
    Batch,
    Change,
    Command,
    Id,
    Kind,
    Move,
    Origin,
    Outcome,
    Pack,
    Put,
    Remove,
    Row,
    Seed,
    Version,
    index_of,
    position_of,
    version,
)
from onefold.core.paths import META, NAME_BYTES_MAX
from onefold.core.rows import Last, MemoryRows, Rows
from onefold.core.views import RowView
from onefold.core.wire import DIGEST_BYTES, row_digest
from onefold.errors import Bug

__all__ = ["Catalogue", "Last", "MemoryRows", "Rows", "conflict_name"]

TARGET_BYTES_MAX = 4095
"""Longest target of a symlink that Linux takes."""

_DIGEST_MASK = (1 << 256) - 1
_INT_MAX = (1 << 63) - 1
_MODE_MAX = 0o777
_NODE_BYTES_MAX = 64
_EXTENSION_BYTES_MAX = 16


class Catalogue:
    """The state machine over `rows`. `index` is the newest entry applied, `digest` the digest of all rows, `files` the
    number of rows that are no directories, `seeded` whether a `Seed` was applied.

    After an exception from `rows`, neither `rows` nor this object is to be used again: start from what is on disk.
    """

    def __init__(self, rows: Rows, index: int = 0, digest: int = 0, files: int = 0, seeded: bool = False) -> None:
        self.rows = rows
        self.index = index
        self.digest = digest
        self.files = files
        self.seeded = seeded

    def apply(self, index: int, pack: Pack) -> Applied:
        """Apply the pack of entry `index`. Raises `Bug` when that is not the next entry."""
        if index != self.index + 1:
            raise Bug(f"entry {index} came to a catalogue at index {self.index}")
        step = _Step(self.rows, index)
        position = 0
        for batch in pack.batches:
            step.take(batch, position)
            position += len(batch.commands)
        self.index = index
        self.digest = (self.digest + step.digest) & _DIGEST_MASK
        self.files += step.files
        self.seeded = self.seeded or step.seeded
        return Applied(index, step.changes(), step.outcomes)

    def recount(self) -> int:
        """The digest counted anew from every row. It is `digest`, or the rows were damaged."""
        total = 0
        directories = [ROOT]
        while directories:
            for row in self.rows.children(directories.pop()):
                total += row_digest(row)
                if row.kind == Kind.DIRECTORY:
                    directories.append(row.id)
        return total & _DIGEST_MASK


class _Step:
    """One pack on its way into the rows. `digest` and `files` are what it adds to those of the catalogue."""

    def __init__(self, rows: Rows, index: int) -> None:
        self.rows = rows
        self.index = index
        self.digest = 0
        self.files = 0
        self.seeded = False
        self.outcomes: dict[Origin, tuple[Outcome, ...]] = {}
        self._before: dict[Id, Row | None] = {}
        self._after: dict[Id, Row | None] = {}
        self._node = ""
        self._answered = False
        self._done: list[Outcome] = []
        self._placed: dict[int, Version] = {}

    def changes(self) -> dict[Id, Change]:
        after = self._after
        return {key: Change(row, after[key]) for key, row in self._before.items() if row != after[key]}

    def take(self, batch: Batch, first: int) -> None:
        """Apply `batch`, whose commands have the positions from `first` on, unless it was applied before."""
        origin = batch.origin
        last = self.rows.last(origin.node)
        if last is not None:
            order = (origin.incarnation, origin.sequence)
            newest = (last.incarnation, last.sequence)
            if order <= newest:
                # setdefault: an older batch may have been applied by this very pack.
                self.outcomes.setdefault(origin, last.outcomes if order == newest else ())
                return
        self._node = origin.node
        self._answered = batch.answered
        self._done = []
        self._placed = {}
        for v, command in enumerate(batch.commands, version(self.index, first)):
            self._done.append(self._command(command, Version(v)))
        outcomes = self.outcomes[origin] = tuple(self._done)
        self.rows.set_last(origin.node, Last(origin.incarnation, origin.sequence, outcomes))

    # -------------------------------------------------------------------------------------------- commands

    def _command(self, command: Command, v: Version) -> Outcome:
        if isinstance(command, Seed):
            self.seeded = True
            return Outcome(True, NEW)
        if command.route != NEVER and command.route != self._route_of(command):
            return Outcome(False, NEW, "its path has moved")
        if isinstance(command, Put):
            malformed = _malformed(command)
            if malformed:
                return Outcome(False, NEW, malformed)
            return self._create(command, v) if command.id == NEW else self._edit(command, v)
        if isinstance(command, Move):
            return self._move(command, v)
        return self._remove(command)

    def _create(self, put: Put, v: Version) -> Outcome:
        parent = self._directory(put.parent)
        if parent is None:
            return self._reject(put, v, "its directory is gone", ROOT, put.name)
        there = self.rows.child(parent, put.name)
        if there is None:
            if not _ours(parent, put.name):
                self._create_row(_made(put, v, parent, put.name))
                return Outcome(True, Id(v))
        elif there.kind == put.kind and (put.kind == Kind.DIRECTORY or there.content == put.content):
            return Outcome(True, there.id)
        return self._reject(put, v, "its name is taken", parent, put.name)

    def _edit(self, put: Put, v: Version) -> Outcome:
        row = self._row(put.id)
        if row is None:
            parent = self._directory(put.parent)
            return self._reject(put, v, "it was removed", ROOT if parent is None else parent, put.name)
        if row.kind != put.kind:
            return self._reject(put, v, "it is of another kind", row.parent, row.name)
        if row.version != put.expect:
            if put.content == row.content:
                return Outcome(False, NEW, "it changed, to the same content")
            return self._reject(put, v, "it changed", row.parent, row.name)
        self._change_row(row, _edited(row, put, v))
        return Outcome(True, row.id)

    def _move(self, move: Move, v: Version) -> Outcome:
        row = self._row(move.id)
        if row is None:
            return Outcome(False, NEW, "it was removed")
        if not _valid(move.name):
            return Outcome(False, NEW, "its new name is not a file name")
        parent = self._directory(move.parent)
        if parent is None:
            return Outcome(False, NEW, "its new directory is gone")
        if move.version not in (NEVER, row.version):
            return Outcome(False, NEW, "it changed")
        placed = row.placed
        elsewhere = row.parent != parent or row.name != move.name
        if (elsewhere or self._answered) and placed != self._expected_place(move.expect):
            return Outcome(False, NEW, "it moved")
        if elsewhere:
            if self.rows.child(parent, move.name) is not None or _ours(parent, move.name):
                return Outcome(False, NEW, "its new name is taken")
            if row.kind == Kind.DIRECTORY and self._within(parent, row.id):
                return Outcome(False, NEW, "its new directory is below itself")
            placed = v
            self._change_row(row, replace(row, placed=v, parent=parent, name=move.name))
        self._placed[len(self._done)] = placed
        return Outcome(True, row.id)

    def _remove(self, remove: Remove) -> Outcome:
        if remove.id <= ROOT:
            return Outcome(False, NEW, "it cannot be removed")
        row = self._row(remove.id)
        if row is None:
            return Outcome(False, NEW, "it was removed") if self._answered else Outcome(True, remove.id)
        if row.version != remove.expect:
            return Outcome(False, NEW, "it changed")
        if row.kind == Kind.DIRECTORY and self.rows.has_children(row.id):
            return Outcome(False, NEW, "it is not empty")
        self._remove_row(row)
        return Outcome(True, row.id)

    def _reject(self, put: Put, v: Version, reason: str, parent: Id, stem: bytes) -> Outcome:
        """Refuse `put`; what it brings goes to a conflict copy in directory `parent`, called after `stem`."""
        if self._answered:
            return Outcome(False, NEW, reason)
        if not put.content and put.id != NEW:
            return Outcome(False, NEW, reason)
        again = 0
        while self.rows.child(parent, name := conflict_name(stem, self._node, v, again)) is not None:
            again += 1
        self._create_row(_made(put, v, parent, name))
        return Outcome(False, Id(v), reason)

    # -------------------------------------------------------------------------------------------- the tree

    def _row(self, id: Id) -> Row | None:
        """The row of `id`; None for the root, references, and numbers that are no id."""
        return self.rows.get(id) if ROOT < id <= _INT_MAX else None

    def _directory(self, id: Id) -> Id | None:
        """The directory that `id`, perhaps a reference into this batch, stands for; None when there is none."""
        if id == ROOT:
            return ROOT
        row = self._row(self._referred(id) if id < NEW else id)
        return row.id if row is not None and row.kind == Kind.DIRECTORY else None

    def _referred(self, reference: Id) -> Id:
        """The id that this batch's command at the position of `reference` made; NEW when it made none, or none yet."""
        position = position_of(reference)
        return self._done[position].id if position < len(self._done) else NEW

    def _expected_place(self, expect: Version) -> Version | None:
        """`expect` of a move, or, if it refers to a move of this batch, the place that this gave; None if it failed."""
        return self._placed.get(position_of(Id(expect))) if expect < NEW else expect

    def _route_of(self, command: Put | Move | Remove) -> Version:
        if isinstance(command, Move):
            return max(route(self.rows, command.id), route(self.rows, command.parent))
        return route(self.rows, command.parent if isinstance(command, Put) and command.id == NEW else command.id)

    def _within(self, inner: Id, outer: Id) -> bool:
        """Whether directory `inner` is `outer`, or below it."""
        while inner not in (ROOT, outer):
            row = self.rows.get(inner)
            if row is None:
                raise Bug(f"row {inner} has children and does not exist", "restore this node's state from a peer")
            inner = row.parent
        return inner == outer

    def _create_row(self, row: Row) -> None:
        self.rows.put(row)
        self.digest += row_digest(row)
        self.files += row.kind != Kind.DIRECTORY
        self._note(row.id, None, row)

    def _change_row(self, before: Row, after: Row) -> None:
        self.rows.put(after)
        self.digest += row_digest(after) - row_digest(before)
        self._note(after.id, before, after)

    def _remove_row(self, row: Row) -> None:
        self.rows.delete(row)
        self.digest -= row_digest(row)
        self.files -= row.kind != Kind.DIRECTORY
        self._note(row.id, row, None)

    def _note(self, key: Id, before: Row | None, after: Row | None) -> None:
        self._before.setdefault(key, before)
        self._after[key] = after


# ------------------------------------------------------------------------------------------------ rows and names


def conflict_name(name: bytes, node: str, v: Version, again: int = 0) -> bytes:
    """The name of the conflict copy that the rejected command `v` of `node` leaves of the file `name`.

    `report.txt` becomes `report.conflict-node2-12-3.txt`: (12, 3) is the version. `again` counts up while the name is
    taken. At most 255 bytes; what is cut is the end of the stem, not within a UTF-8 character.
    """
    stem, dot, extension = name.rpartition(b".")
    if not stem or not extension or len(extension) >= _EXTENSION_BYTES_MAX:
        stem, dot, extension = name, b"", b""
    author = _cut(node.encode("utf-8", "replace").replace(b"/", b"_").replace(b"\0", b"_"), _NODE_BYTES_MAX)
    position = v - version(index_of(v), 0)
    tail = b".conflict-%b-%d-%d" % (author, index_of(v), position)
    if again:
        tail += b"-%d" % again
    tail += dot + extension
    return _cut(stem, NAME_BYTES_MAX - len(tail)) + tail


def route(rows: RowView, id: Id) -> Version:
    """The newest `placed` of `id` and of all that is above it; NEVER for the root, and for what is no row."""
    newest = NEVER
    while ROOT < id <= _INT_MAX and (row := rows.get(id)) is not None:
        newest = max(newest, row.placed)
        id = row.parent
    return newest


def _cut(text: bytes, length: int) -> bytes:
    """The first `length` bytes of `text`, fewer where that would split a UTF-8 character."""
    if len(text) <= length:
        return text
    end = length
    while end > length - 3 and text[end] & 0xC0 == 0x80:
        end -= 1
    return text[:end]


def _valid(name: bytes) -> bool:
    """Whether `Name` takes `name`; asked once per command, so without building one."""
    return 0 < len(name) <= NAME_BYTES_MAX and b"/" not in name and b"\0" not in name and name != b"." and name != b".."


def _ours(parent: Id, name: bytes) -> bool:
    return name == META and parent == ROOT


def _malformed(put: Put) -> str:
    """What no node sends unless it is broken; "" when all is well. Nothing that a person wrote is behind it."""
    if not _valid(put.name):
        return "its name is not a file name"
    if not (0 <= put.mode <= _MODE_MAX and -_INT_MAX <= put.mtime_ns <= _INT_MAX and 0 <= put.size <= _INT_MAX):
        return "its mode, mtime or size is out of range"
    content = put.content
    if put.kind == Kind.DIRECTORY:
        return "a directory has no content" if content else ""
    if content is None:
        return "a new file needs content" if put.id == NEW else ""
    if put.kind == Kind.FILE:
        return "" if len(content) == DIGEST_BYTES else "its content is not a digest"
    return "" if 0 < len(content) <= TARGET_BYTES_MAX and b"\0" not in content else "its target is not a path"


def _made(put: Put, v: Version, parent: Id, name: bytes) -> Row:
    """The row that `put` creates as (parent, name)."""
    if put.kind == Kind.FILE:
        return Row(Id(v), parent, name, put.kind, v, v, put.mode, put.mtime_ns, put.size, put.content or b"")
    if put.kind == Kind.DIRECTORY:
        return Row(Id(v), parent, name, put.kind, v, v, put.mode, 0, 0, b"")
    target = put.content or b""
    return Row(Id(v), parent, name, put.kind, v, v, 0, 0, len(target), target)


def _edited(row: Row, put: Put, v: Version) -> Row:
    """`row` with the content and attributes of `put`."""
    made = _made(put, v, row.parent, row.name)
    if put.content is None:
        return replace(made, id=row.id, placed=row.placed, size=row.size, content=row.content)
    return replace(made, id=row.id, placed=row.placed)
