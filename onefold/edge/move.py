"""Moves what a plan names, and removes it.

What goes away is renamed out of the folder first, and judged where nobody can reach it by name any more. What only
steps aside waits among the temporaries until its new place is free.
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

import msgspec

from onefold import linux
from onefold.core.model import (
    NEW,
    Aside,
    BaseRow,
    Discard,
    Done,
    Drop,
    Edited,
    Failed,
    Id,
    Kind,
    Result,
    Shift,
    Stat,
)
from onefold.core.paths import RelPath
from onefold.edge.reasons import HELD, SPECIAL, Stop, reason_of
from onefold.edge.workspace import (
    TRIES,
    Verdict,
    Workspace,
    aside_name,
    dropped_name,
    kind_of,
    moved_row,
    moved_stat,
    stray_name,
)


class _Held(NamedTuple):
    """What stepped aside: the place of its result, where it stood, the open directory above that, and its base now."""

    number: int
    path: RelPath
    home: int
    base: BaseRow


class Mover:
    """Carries out `Aside`, `Shift`, `Drop` and `Discard` of one run, whose results so far are `results`."""

    def __init__(self, space: Workspace, keep_edits: bool, results: list[Result]) -> None:
        self.space = space
        self.keep_edits = keep_edits
        self.results = results
        self.asides: dict[Id, _Held] = {}

    # -------------------------------------------------------------------------------------------- move

    def aside(self, action: Aside) -> Result:
        base, path = action.base, action.path
        parent, name = self.space.locate(path)
        ctime_ns = self._ctime_ns(parent, name)
        self.space.take_out(parent, name, aside_name(base.id))
        mode, found = linux.stat_of(self.space.tmp, aside_name(base.id))
        if kind_of(mode) is not base.kind:
            self.space.give_back(parent, name, aside_name(base.id), path)
            return Edited(base.id, path)
        # The directory itself is kept: its path may be another's by the time this has to go back.
        home = os.dup(parent)
        base = msgspec.structs.replace(base, stat=moved_stat(base, ctime_ns, found))
        self.asides[base.id] = _Held(len(self.results), path, home, base)
        if base.kind is Kind.DIRECTORY:
            self.space.forget()
        return Done(base.id, base)

    def shift(self, action: Shift) -> Result:
        base, path, space = action.base, action.path, self.space
        parent, name = self.space.locate(path)
        if action.source is None:
            if base.id not in self.asides:
                raise Stop("it could not be moved out of the way first; it is tried again")
            base = self.asides[base.id].base
            from_fd, from_name = space.tmp, aside_name(base.id)
        else:
            from_fd, from_name = self.space.locate(action.source)
            mode, _ = _stat_or_none(from_fd, from_name)
            if kind_of(mode) is not base.kind:
                return Edited(base.id, action.source)
        ctime_ns = self._ctime_ns(from_fd, from_name)
        strays = 0
        for _ in range(TRIES):
            try:
                linux.renameat2(from_fd, from_name, parent, name, linux.RENAME_NOREPLACE)
                break
            except FileExistsError:
                if self.keep_edits:
                    return Edited(base.id, path)
                strays += self._clear(parent, name, path)
        else:
            raise Stop("its new place is taken again and again; it is tried again")
        if action.source is None:
            os.close(self.asides.pop(base.id).home)
        if base.kind is Kind.DIRECTORY:
            space.forget()
            parent, name = self.space.locate(path)
        found = linux.stat_of(parent, name)[1]
        return Done(base.id, moved_row(action, base, ctime_ns, found), strays)

    def bring_back_asides(self) -> None:
        """What stepped aside and was not fetched returns to its place, or goes away if that is taken."""
        for number, path, home, base in reversed(list(self.asides.values())):
            name = aside_name(base.id)
            try:
                linux.renameat2(self.space.tmp, name, home, path.name, linux.RENAME_NOREPLACE)
            except OSError:
                try:
                    self.results[number] = self._remove_aside(base, path)
                except OSError as error:
                    reason = f"it is held in the temporaries: {reason_of(error, self.space.root)}"
                    self.results[number] = Failed(base.id, path, reason)
            finally:
                os.close(home)
        self.asides.clear()

    # -------------------------------------------------------------------------------------------- remove

    def drop(self, action: Drop) -> Result:
        base, path, space = action.base, action.path, self.space
        if path is None:
            if base.id not in self.asides:
                raise Stop("it could not be moved out of the way first; it is tried again")
            held = self.asides[base.id]
            result = self._remove_aside(held.base, held.path)
            del self.asides[base.id]
            os.close(held.home)
            return result
        parent, name = self.space.locate(path)
        if base.kind is Kind.DIRECTORY:
            return self._drop_directory(base, path, parent, name)
        out = dropped_name(base.id)
        try:
            ctime_ns = self._ctime_ns(parent, name)
            self.space.take_out(parent, name, out)
        except FileNotFoundError:
            return Done(base.id, None)
        try:
            verdict = space.judge(space.tmp, out, base, ctime_ns=ctime_ns)
        except OSError:
            self.space.give_back(parent, name, out, path)
            raise
        if verdict is Verdict.SAME or (verdict is Verdict.TOUCHED and not self.keep_edits):
            space.remove(out)
            return Done(base.id, None)
        if self.keep_edits:
            self.space.give_back(parent, name, out, path)
            return Failed(base.id, path, HELD) if verdict is Verdict.HELD else Edited(base.id, path)
        try:
            space.keep(out, path, "it was edited here, and removed from the folder")
        except OSError:
            self.space.give_back(parent, name, out, path)
            raise
        return Done(base.id, None, 1)

    def _drop_directory(self, base: BaseRow, path: RelPath, parent: int, name: bytes) -> Result:
        try:
            os.rmdir(name, dir_fd=parent)
        except FileNotFoundError:
            return Done(base.id, None)
        except NotADirectoryError:
            return Edited(base.id, path)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return Edited(base.id, path)
            raise
        return Done(base.id, None)

    def _remove_aside(self, base: BaseRow, path: RelPath) -> Done:
        """Remove what stepped aside; its place is another's, so whatever is not the base's becomes a stray."""
        space, name = self.space, aside_name(base.id)
        if base.kind is Kind.DIRECTORY:
            try:
                os.rmdir(name, dir_fd=space.tmp)
                return Done(base.id, None)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
        else:
            verdict = space.judge(space.tmp, name, base, ctime_ns=self._ctime_ns(space.tmp, name))
            if verdict is Verdict.SAME or verdict is Verdict.TOUCHED:
                space.remove(name)
                return Done(base.id, None)
        space.keep(name, path, "its place was taken by another")
        return Done(base.id, None, 1)

    def discard(self, action: Discard) -> Result:
        path = action.path
        parent, name = self.space.locate(path)
        mode, _ = _stat_or_none(parent, name)
        kind = kind_of(mode)
        if not mode:
            return Done(NEW, None)
        if kind is None:
            raise Stop(SPECIAL)
        if kind is not action.kind:
            return Edited(NEW, path)
        if kind is Kind.DIRECTORY:
            try:
                os.rmdir(name, dir_fd=parent)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                    raise
            return Done(NEW, None)
        return Done(NEW, None, self._clear(parent, name, path))

    def _clear(self, parent: int, name: bytes, path: RelPath) -> int:
        """Make a stray of whatever stands there; how many that were."""
        out = stray_name(path)
        mode, _ = _stat_or_none(parent, name)
        if mode and kind_of(mode) is None:
            raise Stop(SPECIAL)
        try:
            self.space.take_out(parent, name, out)
        except FileNotFoundError:
            return 0
        try:
            self.space.keep(out, path, "it stood here, and is not in the folder's catalogue")
        except OSError:
            self.space.give_back(parent, name, out, path)
            raise
        return 1

    @staticmethod
    def _ctime_ns(dir_fd: int, name: bytes) -> int:
        return linux.stat_of(dir_fd, name)[1].ctime_ns


def _stat_or_none(dir_fd: int, name: bytes) -> tuple[int, Stat | None]:
    try:
        return linux.stat_of(dir_fd, name)
    except FileNotFoundError:
        return 0, None
