"""Makes and replaces what a plan names, and sets attributes.

A new version is built among the temporaries, complete, and comes to its place by a rename that replaces nothing, or by
an exchange. What came out of an exchange is compared with the base only then; an edit is put back, or kept as a stray.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from onefold import linux
from onefold.core.model import (
    Attributes,
    BaseRow,
    Done,
    Edited,
    Failed,
    Kind,
    Lacking,
    Make,
    Replace,
    Result,
    Row,
    Stat,
)
from onefold.core.paths import RelPath
from onefold.edge.reasons import HELD, SPECIAL, NotHere, Stop, reason_of
from onefold.edge.workspace import (
    TRIES,
    UNFINISHED,
    Verdict,
    Workspace,
    base_row,
    copy_file,
    inherit,
    kind_of,
    new_name,
    open_to_read,
)
from onefold.ports import Contents

LARGE_BYTES: Final = 1 << 20
"""From this size on, what stands in the way is looked at before anything is copied."""

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Maker:
    """Carries out `Make`, `Replace` and `Attributes` of one run, whose results so far are `results`."""

    def __init__(self, space: Workspace, contents: Contents, keep_edits: bool, results: list[Result]) -> None:
        self.space = space
        self.contents = contents
        self.keep_edits = keep_edits
        self.results = results
        self.modes: list[tuple[int, Row, RelPath]] = []

    # -------------------------------------------------------------------------------------------- make

    def make(self, action: Make) -> Result:
        row, path = action.row, action.path
        parent, name = self.space.locate(path)
        if row.kind is Kind.DIRECTORY:
            return self._make_directory(row, path, parent, name)
        large = row.size >= LARGE_BYTES
        if large and (adopted := self._adopt(row, parent, name)):
            return Done(row.id, adopted)
        try:
            new = self._build(row, path, None)
        except Stop as stop:
            if not large and (adopted := self._adopt(row, parent, name)):
                return Done(row.id, adopted)
            if isinstance(stop, NotHere):
                return Lacking(row.id, path)
            raise
        try:
            linux.renameat2(self.space.tmp, new, parent, name, linux.RENAME_NOREPLACE)
        except FileExistsError:
            return self._make_over(row, path, parent, name, new)
        except OSError:
            self.space.remove(new)
            raise
        return Done(row.id, self._row_in_place(row, parent, name))

    def _make_directory(self, row: Row, path: RelPath, parent: int, name: bytes) -> Result:
        strays, adopted = 0, False
        try:
            os.mkdir(name, row.mode | 0o700, dir_fd=parent)
        except FileExistsError:
            adopted = kind_of(linux.stat_of(parent, name)[0]) is Kind.DIRECTORY
            if not adopted:
                new = new_name(row.id)
                os.mkdir(new, row.mode | 0o700, dir_fd=self.space.tmp)
                result = self._make_over(row, path, parent, name, new)
                if type(result) is not Done:
                    return result
                strays = result.strays
        found = linux.stat_of(parent, name)[1]
        if found.mode != row.mode:
            self.modes.append((len(self.results), row, path))
        return Done(row.id, base_row(row, found), strays, adopted)

    def _make_over(self, row: Row, path: RelPath, parent: int, name: bytes, new: bytes) -> Result:
        """Bring `new` to its place although something stands there."""
        try:
            result = self._adopt_or_exchange(row, path, parent, name, new)
        except (OSError, Stop):
            self._remove_new(row, new)
            raise
        if result is None:
            self._keep_or_undo(row, path, parent, name, new, "it stood where another file had to be")
            return Done(row.id, self._row_in_place(row, parent, name), 1)
        return result

    def _adopt_or_exchange(self, row: Row, path: RelPath, parent: int, name: bytes, new: bytes) -> Result | None:
        """None: `new` is in its place, and what stood there among the temporaries. If it raises, nothing is done."""
        space = self.space
        for _ in range(TRIES):
            try:
                if kind_of(linux.stat_of(parent, name)[0]) is None:
                    raise Stop(SPECIAL)
                if adopted := self._adopt(row, parent, name):
                    self._remove_new(row, new)
                    return Done(row.id, adopted)
                if self.keep_edits:
                    self._remove_new(row, new)
                    return Edited(row.id, path)
                linux.renameat2(space.tmp, new, parent, name, linux.RENAME_EXCHANGE)
                return None
            except FileNotFoundError:
                # It went away meanwhile.
                with suppress(FileExistsError):
                    linux.renameat2(space.tmp, new, parent, name, linux.RENAME_NOREPLACE)
                    return Done(row.id, self._row_in_place(row, parent, name))
        raise Stop("it comes and goes too fast; it is tried again")

    def _adopt(self, row: Row, parent: int, name: bytes) -> BaseRow | None:
        """The base's row of what stands there, if that is `row` already; its attributes are then set."""
        found = self.space.holds(parent, name, row)
        return None if found is None else _as_found(row, self.space.dress(parent, name, row, found))

    # -------------------------------------------------------------------------------------------- replace

    def replace(self, action: Replace) -> Result:
        row, path, base = action.row, action.path, action.base
        parent, name = self.space.locate(path)
        try:
            old = open_to_read(parent, name)
        except FileNotFoundError:
            return self._replace_nothing(row, path)
        try:
            if self.keep_edits and old is not None and not _quick_same(old, base.stat):
                verdict = self.space.judge(parent, name, base, old, os.fstat(old).st_ctime_ns)
                if verdict is Verdict.EDITED or verdict is Verdict.TOUCHED:
                    return Edited(row.id, path)
            return self._exchange(row, path, base, parent, name, old)
        finally:
            if old is not None:
                os.close(old)

    def _replace_nothing(self, row: Row, path: RelPath) -> Result:
        """What was to be replaced is gone: someone removed it."""
        return Edited(row.id, path) if self.keep_edits else self.make(Make(row, path))

    def _exchange(self, row: Row, path: RelPath, base: BaseRow, parent: int, name: bytes, old: int | None) -> Result:
        space = self.space
        new = self._build(row, path, old if row.kind is Kind.FILE else None)
        ctime_ns = os.fstat(old).st_ctime_ns if old is not None else -1
        try:
            linux.renameat2(space.tmp, new, parent, name, linux.RENAME_EXCHANGE)
        except FileNotFoundError:
            space.remove(new)
            return self._replace_nothing(row, path)
        except OSError:
            space.remove(new)
            raise
        try:
            verdict = space.judge(space.tmp, new, base, old, ctime_ns)
        except OSError:
            self._put_back(row, path, parent, name, new)
            raise
        if verdict is Verdict.SAME or (verdict is Verdict.TOUCHED and not self.keep_edits):
            space.remove(new)
            return Done(row.id, self._row_in_place(row, parent, name))
        if self.keep_edits:
            self._put_back(row, path, parent, name, new)
            return Failed(row.id, path, HELD) if verdict is Verdict.HELD else Edited(row.id, path)
        self._keep_or_undo(row, path, parent, name, new, "it was edited here, and replaced by the folder's version")
        return Done(row.id, self._row_in_place(row, parent, name), 1)

    def _keep_or_undo(self, row: Row, path: RelPath, parent: int, name: bytes, came_out: bytes, reason: str) -> None:
        """Make a stray of what came out of an exchange; where that fails, the exchange is undone."""
        try:
            self.space.keep(came_out, path, reason)
        except OSError:
            self._put_back(row, path, parent, name, came_out)
            raise Stop("what stands there could not be kept as a stray; free space for the state directory") from None

    def _put_back(self, row: Row, path: RelPath, parent: int, name: bytes, came_out: bytes) -> None:
        """Exchange again: `came_out` returns to its place, and what we had put there is removed."""
        space = self.space
        try:
            linux.renameat2(space.tmp, came_out, parent, name, linux.RENAME_EXCHANGE)
        except FileNotFoundError:
            # Ours was removed meanwhile: the place is free, or has been taken by a third.
            try:
                linux.renameat2(space.tmp, came_out, parent, name, linux.RENAME_NOREPLACE)
            except FileExistsError:
                space.keep(came_out, path, "another file took its place")
            return
        if space.holds(space.tmp, came_out, row):
            self._remove_new(row, came_out)
        else:
            space.keep(came_out, path, "it was edited here while a new version arrived")

    # -------------------------------------------------------------------------------------------- attributes

    def attributes(self, action: Attributes) -> Result:
        row, path, base = action.row, action.path, action.base
        parent, name = self.space.locate(path)
        mode, found = linux.stat_of(parent, name)
        if row.kind is Kind.DIRECTORY:
            if kind_of(mode) is not Kind.DIRECTORY:
                return Edited(row.id, path)
        else:
            verdict = self.space.judge(parent, name, base, ctime_ns=found.ctime_ns)
            if verdict is Verdict.EDITED or (verdict is Verdict.TOUCHED and self.keep_edits):
                return Edited(row.id, path)
        return Done(row.id, base_row(row, self.space.dress(parent, name, row, found)))

    def set_modes(self) -> None:
        """Modes of new directories come last, deepest first: they may close them to us."""
        for index, row, path in sorted(self.modes, key=lambda late: len(late[2].parts), reverse=True):
            result = self.results[index]
            try:
                parent, name = self.space.locate(path)
                mode, found = linux.stat_of(parent, name)
                if kind_of(mode) is Kind.DIRECTORY and type(result) is Done:
                    found = self.space.dress(parent, name, row, found)
                    self.results[index] = msgspec.structs.replace(result, base=base_row(row, found))
            except OSError as error:
                self.results[index] = Failed(row.id, path, reason_of(error, self.space.root))

    # -------------------------------------------------------------------------------------------- steps

    def _build(self, row: Row, path: RelPath, old: int | None) -> bytes:
        """Make `row` among the temporaries, complete; `old` is what it is going to replace. Returns its name."""
        try:
            return self._build_anew(row, old)
        except FileExistsError:
            # What came out of an earlier exchange, and could neither be put back nor kept aside: the disk was full.
            self.space.keep(new_name(row.id), path, "it was edited here while a new version arrived")
            return self._build_anew(row, old)

    def _build_anew(self, row: Row, old: int | None) -> bytes:
        new, tmp = new_name(row.id), self.space.tmp
        if row.kind is Kind.SYMLINK:
            os.symlink(row.content, new, dir_fd=tmp)
            return new
        try:
            data: bytes | Path = self.contents(row.content) if row.size else b""
        except KeyError:
            raise NotHere("its content is not here yet; it is tried again") from None
        fd = os.open(new, _CREATE, 0o600 | UNFINISHED, dir_fd=tmp)
        try:
            self._fill(fd, row, data)
            if old is not None:
                inherit(fd, old)
            os.utime(fd, ns=(row.mtime_ns, row.mtime_ns))
            # Last: from here on it is complete, and a crash leaves a whole version.
            os.fchmod(fd, row.mode)
        except (OSError, Stop):
            self.space.remove(new)
            raise
        finally:
            os.close(fd)
        return new

    def _fill(self, fd: int, row: Row, data: bytes | Path) -> None:
        if isinstance(data, bytes):
            if len(data) != row.size:
                raise Stop("its content has another size than the catalogue says")
            written = os.write(fd, data)
            while written < len(data):
                written += os.write(fd, memoryview(data)[written:])
            return
        try:
            whole = copy_file(data, fd, row)
        except FileNotFoundError:
            raise NotHere("its content is not here any more; it is tried again") from None
        if not whole:
            raise Stop("its content changed while it was copied; it is tried again")

    def _row_in_place(self, row: Row, parent: int, name: bytes) -> BaseRow:
        """The base's row for `row`, which was just put there."""
        return _as_found(row, linux.stat_of(parent, name)[1])

    def _remove_new(self, row: Row, new: bytes) -> None:
        if row.kind is Kind.DIRECTORY:
            os.rmdir(new, dir_fd=self.space.tmp)
        else:
            self.space.remove(new)


def _quick_same(fd: int, expected: Stat) -> bool:
    found = os.fstat(fd)
    return (found.st_ino, found.st_ctime_ns, found.st_size) == (expected.ino, expected.ctime_ns, expected.size)


def _as_found(row: Row, found: Stat) -> BaseRow:
    """The base's row for `row`, which stands there as `found`."""
    if row.kind is Kind.FILE and (found.mtime_ns, found.size, found.mode) != (row.mtime_ns, row.size, row.mode):
        # Someone was here already, or the file system rounds: a stat that never holds makes the scanner read it.
        found = msgspec.structs.replace(found, mtime_ns=-1, ctime_ns=-1)
    return base_row(row, found)
