"""What somebody asks to be written at a path, as commands addressed to ids; and what became of it.

A request is drafted against this node's catalogue, which may be older than the log. So the commands carry what they
expect, and the route by which their path leads to it; and the catalogue has the last word: what it rejects is drafted
anew against what has been applied by then. A condition is checked at the drafting; the version that the command expects
holds it until the command is applied.

Several requests share a batch when none depends on what becomes of another, but for directories: those that are missing
on the way to a path are made by the first that needs them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from onefold.core.catalogue import route
from onefold.core.model import (
    NEVER,
    NEW,
    ROOT_ROW,
    Command,
    Id,
    Kind,
    Move,
    Outcome,
    Put,
    Remove,
    Row,
    Version,
    made_by,
    version,
)
from onefold.core.paths import META, RelPath, show
from onefold.core.views import RowView
from onefold.errors import BadPath, InTheWay, NotFound, PreconditionFailed

REMOVED_AT_ONCE = 5_000
"""Commands of one batch that removes a directory with all that is in it; the rest goes with the next ones."""
PATH_BYTES_MAX = 4_000
"""Longer paths could not be opened in a folder."""
FILE_MODE = 0o644
DIRECTORY_MODE = 0o755


class Condition(msgspec.Struct, frozen=True):
    """What must stand at a path. `exists`: anything (True), nothing (False), or either (None). `contents`: its content
    must be one of these (empty: any)."""

    exists: bool | None = None
    contents: tuple[bytes, ...] = ()

    def check(self, row: Row | None, path: RelPath) -> None:
        """Raises `PreconditionFailed` when `row`, which stands at `path`, is not what it must be."""
        if self.exists is None:
            return
        if self.exists is not (row is not None):
            there = "is there already" if row is not None else "is not there"
            raise PreconditionFailed(f"{show(path)} {there}", "read it again, and decide anew")
        if row is not None and self.contents and row.content not in self.contents:
            raise PreconditionFailed(f"{show(path)} has another content by now", "read it again, and decide anew")


ALWAYS = Condition()


class Write(msgspec.Struct, frozen=True):
    """Let `path` be this file or symlink; `kind`, `content` and `size` are as in `Row`. `mode` None: as it was."""

    path: RelPath
    kind: Kind
    content: bytes
    size: int
    mtime_ns: int
    mode: int | None = None
    condition: Condition = ALWAYS


class MakeDirectory(msgspec.Struct, frozen=True):
    """Let a directory be at `path`."""

    path: RelPath
    mode: int = DIRECTORY_MODE


class Delete(msgspec.Struct, frozen=True):
    """Let nothing be at `path`. A directory must be empty, unless `recursive`."""

    path: RelPath
    recursive: bool = False
    condition: Condition = ALWAYS


class Rename(msgspec.Struct, frozen=True):
    """Let what is at `path` be at `to`, where nothing is."""

    path: RelPath
    to: RelPath
    condition: Condition = ALWAYS


Request = Write | MakeDirectory | Delete | Rename


class Span(msgspec.Struct, frozen=True):
    """The commands of a request in its batch: from `first` to before `end`, the last of them the one it is about.
    `whole`: the request is carried out with them; else more must follow."""

    first: int
    end: int
    whole: bool = True


class Done(msgspec.Struct, frozen=True):
    """A request is carried out: at `index`, by the command that made `version`. `created`: nothing was there before."""

    index: int
    version: Version
    id: Id
    created: bool


class Again(msgspec.Struct, frozen=True):
    """It is to be drafted again: for what follows (`progress`), or since something else came in between."""

    reason: str
    progress: bool = False


def check(request: Request) -> None:
    """Raises `BadPath` for what can be at no path of ours."""
    for path in (request.path, request.to) if isinstance(request, Rename) else (request.path,):
        if not path:
            raise BadPath("the folder itself is neither written, removed nor moved", "name something in it")
        if path == META or path.below(RelPath(META)):
            raise BadPath(f"{show(path)} is Onefold's own", "choose another path")
        if len(path) > PATH_BYTES_MAX:
            raise BadPath(f"a path has {len(path)} bytes", f"use a path of at most {PATH_BYTES_MAX} bytes")


def lookup(view: RowView, path: RelPath) -> Row | None:
    """What the catalogue has at `path`."""
    row: Row | None = ROOT_ROW
    for name in path.parts:
        row = view.child(row.id, name) if row is not None and row.kind is Kind.DIRECTORY else None
    return row


class Draft:
    """A batch that is being made. `commands` are those of all requests that were added."""

    def __init__(self, view: RowView) -> None:
        self.commands: list[Command] = []
        self._view = view
        self._made: dict[RelPath, Id] = {}
        self._changed: set[RelPath] = set()
        self._above: set[RelPath] = set()

    def add(self, request: Request) -> Span | None:
        """Draft the commands of `request`; None when it must wait for what is drafted already.

        Raises `NotFound`, `InTheWay` and `PreconditionFailed`, by what the catalogue is here and now.
        """
        paths = (request.path, request.to) if isinstance(request, Rename) else (request.path,)
        if any(self._clashes(path) for path in paths):
            return None
        first = len(self.commands)
        row = lookup(self._view, request.path)
        whole = True
        if isinstance(request, Write):
            self._write(request, row)
        elif isinstance(request, MakeDirectory):
            self._make_directory(request, row)
        elif isinstance(request, Delete):
            whole = self._delete(request, row)
        else:
            self._rename(request, row)
        for path in paths:
            self._note(path)
        return Span(first, len(self.commands), whole)

    # -------------------------------------------------------------------------------------------- the four

    def _write(self, request: Write, row: Row | None) -> None:
        request.condition.check(row, request.path)
        parent = self._parent(request.path)
        name, kind, content = request.path.parts[-1], request.kind, request.content
        if row is not None and row.kind is Kind.DIRECTORY:
            raise InTheWay(f"{show(request.path)} is a directory", "choose another path, or remove it first")
        mode = request.mode if request.mode is not None else row.mode if row and row.kind is kind else FILE_MODE
        if row is not None and row.kind is kind:
            put = Put(
                row.id, row.version, row.parent, row.name, kind, mode, request.mtime_ns, request.size, content,
                route(self._view, row.id),
            )  # fmt: skip
        else:
            if row is not None:
                self.commands.append(Remove(row.id, row.version, route(self._view, row.id)))
            put = Put(
                NEW, NEVER, parent, name, kind, mode, request.mtime_ns, request.size, content,
                route(self._view, parent),
            )  # fmt: skip
        self.commands.append(put)

    def _make_directory(self, request: MakeDirectory, row: Row | None) -> None:
        if row is not None and row.kind is not Kind.DIRECTORY:
            raise InTheWay(f"{show(request.path)} is no directory", "choose another path, or remove it first")
        self._make(request.path, self._parent(request.path), request.mode)

    def _delete(self, request: Delete, row: Row | None) -> bool:
        request.condition.check(row, request.path)
        if row is None:
            raise NotFound(f"there is no {show(request.path)}", "see what there is")
        if row.kind is Kind.DIRECTORY and not request.recursive and any(True for _ in self._view.children(row.id)):
            raise InTheWay(f"{show(request.path)} is not empty", "remove it with all that is in it (recursive)")
        for count, each in enumerate(self._deepest_first(row)):
            if count == REMOVED_AT_ONCE:
                return False
            self.commands.append(Remove(each.id, each.version, route(self._view, each.id)))
        return True

    def _rename(self, request: Rename, row: Row | None) -> None:
        request.condition.check(row, request.path)
        if row is None:
            raise NotFound(f"there is no {show(request.path)}", "see what there is")
        if request.to.below(request.path):
            raise InTheWay(f"{show(request.to)} is below {show(request.path)}", "choose another path")
        there = lookup(self._view, request.to)
        if there is not None and there.id != row.id:
            raise InTheWay(f"{show(request.to)} is there already", "choose another path, or remove it first")
        seen = row.version if request.condition.contents else NEVER
        parent = self._parent(request.to)
        way = max(route(self._view, row.id), route(self._view, parent))
        self.commands.append(Move(row.id, row.placed, parent, request.to.parts[-1], seen, way))

    # -------------------------------------------------------------------------------------------- the tree

    def _clashes(self, path: RelPath) -> bool:
        """Whether something is drafted at `path`, below it, or above it (but for directories that are made)."""
        if path in self._changed or path in self._above:
            return True
        while path:
            path = path.parent
            if path in self._changed and path not in self._made:
                return True
        return False

    def _note(self, path: RelPath) -> None:
        self._changed.add(path)
        while path:
            path = path.parent
            self._above.add(path)

    def _parent(self, path: RelPath) -> Id:
        """The directory of `path`, made if need be with all that is missing above it. Raises `InTheWay`."""
        directory = path.parent
        if directory in self._made:
            return self._made[directory]
        missing: list[RelPath] = []
        while directory and (row := lookup(self._view, directory)) is None and directory not in self._made:
            missing.append(directory)
            directory = directory.parent
        if directory in self._made:
            id = self._made[directory]
        else:
            row = lookup(self._view, directory)
            if row is None or row.kind is not Kind.DIRECTORY:
                raise InTheWay(f"{show(directory)} is no directory", "choose another path, or remove it first")
            id = row.id
        for each in reversed(missing):
            id = self._make(each, id, DIRECTORY_MODE)
            self._note(each)
        return id

    def _make(self, path: RelPath, parent: Id, mode: int) -> Id:
        way = route(self._view, parent)
        self.commands.append(Put(NEW, NEVER, parent, path.parts[-1], Kind.DIRECTORY, mode, 0, 0, None, way))
        self._made[path] = made_by(len(self.commands) - 1)
        return self._made[path]

    def _deepest_first(self, row: Row) -> Iterator[Row]:
        if row.kind is Kind.DIRECTORY:
            for child in self._view.children(row.id):
                yield from self._deepest_first(child)
        yield row


def judge(
    request: Request, span: Span, commands: Sequence[Command], outcomes: Sequence[Outcome], index: int, offset: int
) -> Done | Again:
    """What became of `request` in a batch of `commands` that was applied in entry `index`, the first of them at
    position `offset`, with these `outcomes`."""
    last, outcome = commands[span.end - 1], outcomes[span.end - 1]
    rejected = next((o for o in outcomes[span.first : span.end] if not o.accepted), None)
    if isinstance(request, Delete) and span.whole and outcome.accepted:
        rejected = None  # whoever removed what was in it
    if rejected is not None:
        return Again(rejected.reason)
    if not span.whole:
        return Again("there is more to remove", progress=True)
    made = version(index, offset + span.end - 1)
    if not isinstance(last, Put) or last.id != NEW:
        return Done(index, made, outcome.id, False)
    if outcome.id == Id(made):
        replaced = span.end - span.first > 1 and isinstance(commands[span.end - 2], Remove)
        return Done(index, made, outcome.id, not replaced)
    if isinstance(request, Write):
        return Again("the same content was made there by somebody else")
    return Done(index, Version(outcome.id), outcome.id, False)
