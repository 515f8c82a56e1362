"""Carrying a plan out in the folder: exchange, then verify.

Nothing is ever overwritten or unlinked at its place. A new file arrives by a rename that replaces nothing; a changed
one by an exchange; what goes away is renamed out of the folder first. Only then, where nobody can reach it by name any
more, is it compared with the base, and unlinked if it is what the base says and no program can still write to it.
Otherwise it is an edit: put back (`keep_edits`), or kept as a stray. So an edit made at any moment is seen.

A crash between any two steps leaves bytes only at a place of the folder, in the temporaries under a telling name
(`workspace`), or among the strays; `recover` goes on from there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from onefold import linux
from onefold.core.model import (
    NEW,
    Action,
    Aside,
    Attributes,
    BaseRow,
    Discard,
    Done,
    Drop,
    Edited,
    Failed,
    Id,
    Kind,
    Make,
    Replace,
    Result,
    Row,
    Shift,
    Stat,
)
from onefold.core.paths import META, RelPath
from onefold.edge.recover import KnownBase, KnownRow, Recovery, actions_of, intents_of
from onefold.edge.workspace import (
    UNFINISHED,
    StrayKeeper,
    Verdict,
    Workspace,
    aside_name,
    base_row,
    copy_file,
    dropped_name,
    inherit,
    kind_of,
    moved_stat,
    new_name,
    open_to_read,
    stray_name,
)
from onefold.errors import OperatorError
from onefold.ports import Contents

LARGE_BYTES = 1 << 20
"""From this size on, what stands in the way is looked at before anything is copied."""

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TRIES = 3

_HELD = "a program holds it open for writing; it is replaced once that is closed"
_SPECIAL = "a socket, pipe or device stands there; move it away"
_REASONS = {
    errno.ENOSPC: "the disk is full; free space",
    errno.EDQUOT: "the disk quota is used up; free space or raise it",
    errno.EEXIST: "a temporary of an earlier run is in the way; restart the node, which keeps it as a stray",
    errno.EACCES: "permission denied; let the user that runs Onefold write in its directory",
    errno.EPERM: "the system refuses it (immutable, or of another user); see lsattr and ls -l",
    errno.EROFS: "the file system is read-only; remount it for writing",
    errno.ENAMETOOLONG: "the name is too long for this file system; rename it",
    errno.EXDEV: "another file system is mounted there; unmount it or leave that directory out",
    errno.EBUSY: "something is mounted there; unmount it",
    errno.EILSEQ: "this file system does not take such a name; rename it",
    errno.EINVAL: "this file system cannot do it",
    errno.EIO: "the disk failed; check it",
    errno.EFBIG: "it is too large for this file system",
    errno.EMLINK: "too many directories in one; spread them",
}


class _Stop(Exception):
    """The action cannot be carried out, for this reason; nothing of it is left behind."""


class FolderMaterialiser:
    """`ports.Materialiser` for the folder at `root`. Strays go to `strays`, which lives in the directory `state`.

    Raises `OperatorError` when the folder cannot be opened or written.
    """

    def __init__(self, root: bytes, strays: StrayKeeper, state: Path) -> None:
        self.space = Workspace(root, strays)
        self._state = state

    def run(self, actions: Sequence[Action], contents: Contents, keep_edits: bool) -> list[Result]:
        """As the port says. An `Aside` and the `Shift` or `Drop` that fetches it belong in one run.

        What nobody fetched goes back to its place at the end; if that is taken, it is removed like a dropped file, and
        the result of its `Aside` is `Done` without a base row: nothing of it, or below it, is in the folder any more.
        """
        return _Run(self.space, contents, keep_edits).carry_out(actions)

    def intents(self, actions: Sequence[Action]) -> bytes:
        """What `recover` must know of `actions`."""
        return intents_of(actions)

    def recover(self, intents: Iterable[bytes], base: KnownBase, catalogue: KnownRow) -> list[tuple[Action, Result]]:
        """Bring the temporaries in order after a crash; call it at every start, before the first `run`.

        Answers what the run that opened `intents` had carried out, as (action, `Done`), to be put into `base` before
        they are closed. All else stands as `base` says, or is an edit, or was made a stray. Reads `base`: call it on
        the thread that owns that. Raises `OperatorError` when the folder refuses.
        """
        actions = [action for blob in intents for action in actions_of(blob)]
        try:
            return Recovery(self.space, actions, base, catalogue).run()
        except OSError as error:
            raise OperatorError(
                f"cannot bring the folder in order after a crash: {error.strerror} ({error.filename!r})",
                "free space, or mend the permissions, and start again",
            ) from error

    def sync(self) -> None:
        """Return when everything done before the call, in the folder and in the state directory, is on disk."""
        fd = os.open(self._state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            linux.syncfs(self.space.tmp)
            if os.fstat(fd).st_dev != os.fstat(self.space.tmp).st_dev:
                linux.syncfs(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        self.space.close()


class _Run:
    def __init__(self, space: Workspace, contents: Contents, keep_edits: bool) -> None:
        self.space = space
        self.contents = contents
        self.keep_edits = keep_edits
        self.results: list[Result] = []
        self.asides: dict[Id, tuple[int, Aside, int]] = {}
        self.modes: list[tuple[int, Row, RelPath]] = []
        self.blocked: set[RelPath] = set()
        self.occupied: set[RelPath] = set()
        self.handlers: dict[type, Callable[[Any], Result]] = {
            Make: self._make,
            Replace: self._replace,
            Attributes: self._attributes,
            Aside: self._aside,
            Shift: self._shift,
            Drop: self._drop,
            Discard: self._discard,
        }

    def carry_out(self, actions: Sequence[Action]) -> list[Result]:
        space, handlers, results = self.space, self.handlers, self.results
        for action in actions:
            try:
                if type(action) in (Make, Shift) and action.path in self.occupied:
                    # Who stood there could not be found: the base still has it there, and must not lose it for this.
                    raise _Stop("what stood in its place has changed or moved; it is tried again")
                result = handlers[type(action)](action)
            except (OSError, _Stop) as error:
                result = self._again(action, error)
            if type(result) is not Done and action.path is not None:
                self.blocked.add(action.path)
                if type(action) is Aside:
                    self.occupied.add(action.path)
            results.append(result)
            space.trim()
        self._bring_back_asides()
        self._set_modes()
        space.forget()
        return results

    # -------------------------------------------------------------------------------------------- when it goes wrong

    def _again(self, action: Action, error: OSError | _Stop) -> Result:
        """One more try, where the folder changed under our descriptors or a directory of ours is closed to us."""
        paths = _paths_of(action)
        try:
            if isinstance(error, _Stop):
                raise error
            # Descriptors outlive what they name: a directory made anew has another.
            self.space.forget()
            closed = error.errno == errno.EACCES and os.geteuid() != 0
            # Every path is unlocked, also after the first that was closed.
            if (closed and sum(map(self.space.unlock, paths))) or error.errno in _GONE:
                return self.handlers[type(action)](action)
            raise error
        except _Stop as stop:
            return Failed(_id_of(action), paths[0], str(stop))
        except OSError as last:
            if last.errno in _GONE:
                return self._without_parent(action, paths)
            return Failed(_id_of(action), paths[0], _REASONS.get(last.errno or 0, last.strerror or "failed"))
        finally:
            self.space.relock()

    def _without_parent(self, action: Action, paths: list[RelPath]) -> Result:
        """A directory on the way is not there: it could not be made, or someone took it away."""
        if isinstance(action, Drop | Discard):
            return Done(_id_of(action), None)
        for path in paths:
            missing = self.space.missing(path)
            if missing in self.blocked and missing != path:
                return Failed(_id_of(action), path, "its directory could not be made")
            if missing != path:
                return Edited(_id_of(action), missing)
        return Edited(_id_of(action), paths[0])

    # -------------------------------------------------------------------------------------------- make

    def _make(self, action: Make) -> Result:
        row, path = action.row, action.path
        parent, name = self._locate(path)
        if row.kind is Kind.DIRECTORY:
            return self._make_directory(row, path, parent, name)
        if row.size >= LARGE_BYTES and self._adopt(row, parent, name):
            return Done(row.id, self._row_in_place(row, parent, name))
        try:
            new = self._build(row, None)
        except _Stop:
            if self._adopt(row, parent, name):
                return Done(row.id, self._row_in_place(row, parent, name))
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
        strays = 0
        try:
            os.mkdir(name, row.mode | 0o700, dir_fd=parent)
        except FileExistsError:
            if kind_of(linux.stat_of(parent, name)[0]) is not Kind.DIRECTORY:
                new = new_name(row.id)
                os.mkdir(new, row.mode | 0o700, dir_fd=self.space.tmp)
                result = self._make_over(row, path, parent, name, new)
                if type(result) is not Done:
                    return result
                strays = result.strays
        found = linux.stat_of(parent, name)[1]
        if found.mode != row.mode:
            self.modes.append((len(self.results), row, path))
        return Done(row.id, base_row(row, found), strays)

    def _make_over(self, row: Row, path: RelPath, parent: int, name: bytes, new: bytes) -> Result:
        """Bring `new` to its place although something stands there."""
        try:
            result = self._adopt_or_exchange(row, path, parent, name, new)
        except (OSError, _Stop):
            self._remove_new(row, new)
            raise
        if result is None:
            self._keep_or_undo(row, path, parent, name, new, "it stood where another file had to be")
            return Done(row.id, self._row_in_place(row, parent, name), 1)
        return result

    def _adopt_or_exchange(self, row: Row, path: RelPath, parent: int, name: bytes, new: bytes) -> Result | None:
        """None: `new` is in its place, and what stood there among the temporaries. If it raises, nothing is done."""
        space = self.space
        for _ in range(_TRIES):
            try:
                if kind_of(linux.stat_of(parent, name)[0]) is None:
                    raise _Stop(_SPECIAL)
                if self._adopt(row, parent, name):
                    self._remove_new(row, new)
                    return Done(row.id, self._row_in_place(row, parent, name))
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
        raise _Stop("it comes and goes too fast; it is tried again")

    def _adopt(self, row: Row, parent: int, name: bytes) -> bool:
        """Whether what stands there is `row` already; its attributes are then set."""
        if not self.space.holds(parent, name, row):
            return False
        self.space.dress(parent, name, row)
        return True

    # -------------------------------------------------------------------------------------------- replace

    def _replace(self, action: Replace) -> Result:
        row, path, base = action.row, action.path, action.base
        parent, name = self._locate(path)
        try:
            old = open_to_read(parent, name)
        except FileNotFoundError:
            return self._replace_nothing(row, path)
        try:
            if self.keep_edits and old is not None and not _quick_same(old, base.stat):
                verdict = self.space.judge(parent, name, base, old)
                if verdict is Verdict.EDITED or verdict is Verdict.TOUCHED:
                    return Edited(row.id, path)
            return self._exchange(row, path, base, parent, name, old)
        finally:
            if old is not None:
                os.close(old)

    def _replace_nothing(self, row: Row, path: RelPath) -> Result:
        """What was to be replaced is gone: someone removed it."""
        return Edited(row.id, path) if self.keep_edits else self._make(Make(row, path))

    def _exchange(self, row: Row, path: RelPath, base: BaseRow, parent: int, name: bytes, old: int | None) -> Result:
        space = self.space
        new = self._build(row, old if row.kind is Kind.FILE else None)
        try:
            linux.renameat2(space.tmp, new, parent, name, linux.RENAME_EXCHANGE)
        except FileNotFoundError:
            space.remove(new)
            return self._replace_nothing(row, path)
        except OSError:
            space.remove(new)
            raise
        try:
            verdict = space.judge(space.tmp, new, base, old)
        except OSError:
            self._put_back(row, path, parent, name, new)
            raise
        if verdict is Verdict.SAME or (verdict is Verdict.TOUCHED and not self.keep_edits):
            space.remove(new)
            return Done(row.id, self._row_in_place(row, parent, name))
        if self.keep_edits:
            self._put_back(row, path, parent, name, new)
            return Failed(row.id, path, _HELD) if verdict is Verdict.HELD else Edited(row.id, path)
        self._keep_or_undo(row, path, parent, name, new, "it was edited here, and replaced by the folder's version")
        return Done(row.id, self._row_in_place(row, parent, name), 1)

    def _keep_or_undo(self, row: Row, path: RelPath, parent: int, name: bytes, came_out: bytes, reason: str) -> None:
        """Make a stray of what came out of an exchange; where that fails, the exchange is undone."""
        try:
            self.space.keep(came_out, path, reason)
        except OSError:
            self._put_back(row, path, parent, name, came_out)
            raise _Stop("what stands there could not be kept as a stray; free space for the state directory") from None

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

    def _attributes(self, action: Attributes) -> Result:
        row, path, base = action.row, action.path, action.base
        parent, name = self._locate(path)
        mode, found = linux.stat_of(parent, name)
        if row.kind is Kind.DIRECTORY:
            if kind_of(mode) is not Kind.DIRECTORY:
                return Edited(row.id, path)
        else:
            verdict = self.space.judge(parent, name, base)
            if verdict is Verdict.EDITED or (verdict is Verdict.TOUCHED and self.keep_edits):
                return Edited(row.id, path)
            if verdict is Verdict.HELD and found.mtime_ns != row.mtime_ns:
                # Setting the mtime could hide what is being written.
                return Failed(row.id, path, _HELD)
        return Done(row.id, base_row(row, self.space.dress(parent, name, row)))

    def _set_modes(self) -> None:
        """Modes of new directories come last, deepest first: they may close them to us."""
        for index, row, path in sorted(self.modes, key=lambda late: len(late[2].parts), reverse=True):
            result = self.results[index]
            try:
                parent, name = self._locate(path)
                if kind_of(linux.stat_of(parent, name)[0]) is Kind.DIRECTORY and type(result) is Done:
                    found = self.space.dress(parent, name, row)
                    self.results[index] = Done(row.id, base_row(row, found), result.strays)
            except OSError as error:
                self.results[index] = Failed(row.id, path, _REASONS.get(error.errno or 0, str(error.strerror)))

    # -------------------------------------------------------------------------------------------- move

    def _aside(self, action: Aside) -> Result:
        base, path = action.base, action.path
        parent, name = self._locate(path)
        self._take_out(parent, name, aside_name(base.id))
        mode, found = linux.stat_of(self.space.tmp, aside_name(base.id))
        if kind_of(mode) is not base.kind:
            self._return(parent, name, aside_name(base.id), path)
            return Edited(base.id, path)
        # The directory itself is kept: its path may be another's by the time this has to go back.
        home = os.dup(parent)
        self.asides[base.id] = (len(self.results), action, home)
        if base.kind is Kind.DIRECTORY:
            self.space.forget()
        return Done(base.id, msgspec.structs.replace(base, stat=moved_stat(base, found)))

    def _shift(self, action: Shift) -> Result:
        base, path, space = action.base, action.path, self.space
        parent, name = self._locate(path)
        if action.source is None:
            if base.id not in self.asides:
                raise _Stop("it could not be moved out of the way first; it is tried again")
            from_fd, from_name = space.tmp, aside_name(base.id)
        else:
            from_fd, from_name = self._locate(action.source)
            mode, _ = _stat_or_none(from_fd, from_name)
            if kind_of(mode) is not base.kind:
                return Edited(base.id, action.source)
        strays = 0
        for _ in range(_TRIES):
            try:
                linux.renameat2(from_fd, from_name, parent, name, linux.RENAME_NOREPLACE)
                break
            except FileExistsError:
                if self.keep_edits:
                    return Edited(base.id, path)
                strays += self._clear(parent, name, path)
        else:
            raise _Stop("its new place is taken again and again; it is tried again")
        if action.source is None:
            os.close(self.asides.pop(base.id)[2])
        if base.kind is Kind.DIRECTORY:
            space.forget()
            parent, name = self._locate(path)
        found = linux.stat_of(parent, name)[1]
        return Done(base.id, msgspec.structs.replace(base, name=bytes(name), stat=moved_stat(base, found)), strays)

    def _bring_back_asides(self) -> None:
        """What stepped aside and was not fetched returns to its place, or goes away if that is taken."""
        for index, action, home in reversed(list(self.asides.values())):
            base, name = action.base, aside_name(action.base.id)
            try:
                linux.renameat2(self.space.tmp, name, home, action.path.name, linux.RENAME_NOREPLACE)
            except OSError:
                try:
                    self.results[index] = self._remove_aside(base, action.path)
                except OSError as error:
                    reason = _REASONS.get(error.errno or 0, str(error.strerror))
                    self.results[index] = Failed(base.id, action.path, f"it is held in the temporaries: {reason}")
            finally:
                os.close(home)
        self.asides.clear()

    # -------------------------------------------------------------------------------------------- remove

    def _drop(self, action: Drop) -> Result:
        base, path, space = action.base, action.path, self.space
        if path is None:
            if base.id not in self.asides:
                raise _Stop("it could not be moved out of the way first; it is tried again")
            result = self._remove_aside(base, self.asides[base.id][1].path)
            os.close(self.asides.pop(base.id)[2])
            return result
        parent, name = self._locate(path)
        if base.kind is Kind.DIRECTORY:
            return self._drop_directory(base, path, parent, name)
        out = dropped_name(base.id)
        try:
            self._take_out(parent, name, out)
        except FileNotFoundError:
            return Done(base.id, None)
        try:
            verdict = space.judge(space.tmp, out, base)
        except OSError:
            self._return(parent, name, out, path)
            raise
        if verdict is Verdict.SAME or (verdict is Verdict.TOUCHED and not self.keep_edits):
            space.remove(out)
            return Done(base.id, None)
        if self.keep_edits:
            self._return(parent, name, out, path)
            return Failed(base.id, path, _HELD) if verdict is Verdict.HELD else Edited(base.id, path)
        try:
            space.keep(out, path, "it was edited here, and removed from the folder")
        except OSError:
            self._return(parent, name, out, path)
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
        elif space.judge(space.tmp, name, base) in (Verdict.SAME, Verdict.TOUCHED):
            space.remove(name)
            return Done(base.id, None)
        space.keep(name, path, "its place was taken by another")
        return Done(base.id, None, 1)

    def _discard(self, action: Discard) -> Result:
        path = action.path
        parent, name = self._locate(path)
        mode, _ = _stat_or_none(parent, name)
        kind = kind_of(mode)
        if not mode:
            return Done(NEW, None)
        if kind is None:
            raise _Stop(_SPECIAL)
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

    # -------------------------------------------------------------------------------------------- steps

    def _locate(self, path: RelPath) -> tuple[int, bytes]:
        """The directory that holds `path`, open, and its name there."""
        directory, _, name = path.rpartition(b"/")
        if path.startswith(META) and path.parts[0] == META:
            raise _Stop("the name .onefold in the root is Onefold's own")
        return self.space.directory(directory), name

    def _build(self, row: Row, old: int | None) -> bytes:
        """Make `row` among the temporaries, complete; `old` is what it is going to replace. Returns its name."""
        new, tmp = new_name(row.id), self.space.tmp
        if row.kind is Kind.SYMLINK:
            os.symlink(row.content, new, dir_fd=tmp)
            return new
        try:
            data: bytes | Path = self.contents(row.content) if row.size else b""
        except KeyError:
            raise _Stop("its content is not here yet; it is tried again") from None
        fd = os.open(new, _CREATE, 0o600 | UNFINISHED, dir_fd=tmp)
        try:
            self._fill(fd, row, data)
            if old is not None:
                inherit(fd, old)
            os.utime(fd, ns=(row.mtime_ns, row.mtime_ns))
            # Last: from here on it is complete, and a crash leaves a whole version.
            os.fchmod(fd, row.mode)
        except (OSError, _Stop):
            self.space.remove(new)
            raise
        finally:
            os.close(fd)
        return new

    def _fill(self, fd: int, row: Row, data: bytes | Path) -> None:
        if isinstance(data, bytes):
            if len(data) != row.size:
                raise _Stop("its content has another size than the catalogue says")
            written = os.write(fd, data)
            while written < len(data):
                written += os.write(fd, memoryview(data)[written:])
            return
        try:
            whole = copy_file(data, fd, row)
        except FileNotFoundError:
            raise _Stop("its content is not here any more; it is tried again") from None
        if not whole:
            raise _Stop("its content changed while it was copied; it is tried again")

    def _row_in_place(self, row: Row, parent: int, name: bytes) -> BaseRow:
        """The base's row for `row`, which was just put there."""
        found = linux.stat_of(parent, name)[1]
        if row.kind is Kind.FILE and (
            found.mtime_ns != row.mtime_ns or found.size != row.size or found.mode != row.mode
        ):
            # Someone was here already, or the file system rounds: a stat that never holds makes the scanner read it.
            found = msgspec.structs.replace(found, mtime_ns=-1, ctime_ns=-1)
        return base_row(row, found)

    def _remove_new(self, row: Row, new: bytes) -> None:
        if row.kind is Kind.DIRECTORY:
            os.rmdir(new, dir_fd=self.space.tmp)
        else:
            self.space.remove(new)

    def _take_out(self, parent: int, name: bytes, out: bytes) -> None:
        linux.renameat2(parent, name, self.space.tmp, out, linux.RENAME_NOREPLACE)

    def _return(self, parent: int, name: bytes, out: bytes, path: RelPath) -> None:
        """Undo `_take_out`; if the place was taken meanwhile, it becomes a stray."""
        try:
            linux.renameat2(self.space.tmp, out, parent, name, linux.RENAME_NOREPLACE)
        except FileExistsError:
            self.space.keep(out, path, "another file took its place")

    def _clear(self, parent: int, name: bytes, path: RelPath) -> int:
        """Make a stray of whatever stands there; how many that were."""
        out = stray_name(path)
        mode, _ = _stat_or_none(parent, name)
        if mode and kind_of(mode) is None:
            raise _Stop(_SPECIAL)
        try:
            self._take_out(parent, name, out)
        except FileNotFoundError:
            return 0
        try:
            self.space.keep(out, path, "it stood here, and is not in the folder's catalogue")
        except OSError:
            self._return(parent, name, out, path)
            raise
        return 1


_GONE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))


def _id_of(action: Action) -> Id:
    if isinstance(action, Make | Replace | Attributes):
        return action.row.id
    return NEW if isinstance(action, Discard) else action.base.id


def _paths_of(action: Action) -> list[RelPath]:
    """The paths that `action` touches, the one to tell of first."""
    if action.path is None:
        return [RelPath(action.base.name)]
    return [action.path, action.source] if isinstance(action, Shift) and action.source is not None else [action.path]


def _quick_same(fd: int, expected: Stat) -> bool:
    found = os.fstat(fd)
    return (found.st_ino, found.st_mtime_ns, found.st_size) == (expected.ino, expected.mtime_ns, expected.size)


def _stat_or_none(dir_fd: int, name: bytes) -> tuple[int, Stat | None]:
    try:
        return linux.stat_of(dir_fd, name)
    except FileNotFoundError:
        return 0, None
