"""Watches a whole tree with inotify, and says where to look.

Memory (`WatchedTree`) follows the events, and trails the disk by those still queued. So once the queue is read, every
place where an event told of a directory is looked at (`_suspects`), and who stands there is hung there: an order of
events that misleads (that of RENAME_EXCHANGE does) is mended.

Hints are gathered per (directory, name) and become paths only at the end of a drain: an event in a directory that was
renamed since carries the new path.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import time
from collections.abc import Callable
from pathlib import Path

from onefold import linux
from onefold.core.messages import Problem
from onefold.core.paths import META, RelPath, show
from onefold.disk import trouble
from onefold.edge.watched import Directory, Move, Place, WatchedTree
from onefold.errors import OperatorError
from onefold.ports import Hint

_CERTAIN, _CONTENT, _TREE = 1, 2, 4

_FLAGS = {
    linux.IN_CREATE: 0,  # of a symlink or a hard link it is certain: `_certain_creation`
    linux.IN_MODIFY: _CONTENT,
    linux.IN_ATTRIB: _CERTAIN,
    linux.IN_CLOSE_WRITE: _CERTAIN | _CONTENT,
    linux.IN_DELETE: _CERTAIN,
}
"""What an event of anything but a directory means, apart from its renames."""

_EVENT = struct.Struct("@iIII")
_READ_BYTES = 1 << 18
_READS_MAX = 16
"""Reads per drain, so that a folder written to without end cannot keep `drain` for ever."""
_POLL_S = 2.0

_Taken = dict[int, tuple[Directory | None, Place]]
"""By cookie, what was renamed away from a place: a watched directory, or something else (None)."""


class InotifyWatcher:
    """Implements `ports.Watcher` on the directory `root`, all of it but `.onefold`.

    Watching starts with the constructor, which lists every directory once (40 us each) and gives no hints of what it
    found: look at everything once, after it. Directories that `ignored(path, True)` hides are not watched; when that
    answer may have changed, call `rewalk`. Not safe to call from two threads at once, but for `problems`.

    Raises `OperatorError` when the kernel gives no inotify instance, or `root` cannot be read (`DiskTrouble`).
    """

    def __init__(self, root: bytes, ignored: Callable[[RelPath, bool], bool] | None = None) -> None:
        self._suspects: dict[Directory, dict[bytes, None]] = {}
        self._hints: dict[Place, int] = {}
        self.lost = ""
        """Why the folder itself must be opened anew; "" while it need not."""
        self._poll_at = 0.0
        self._polled_at: float | None = None
        try:
            self._root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as e:
            raise trouble(f"{show(root)} cannot be watched", Path(os.fsdecode(root)), e) from e
        try:
            self._fd = linux.inotify_init()
        except OSError as e:
            os.close(self._root_fd)
            raise OperatorError(
                f"the kernel gives no inotify instance: {e.strerror}",
                "raise the limit: sysctl fs.inotify.max_user_instances=1024",
            ) from e
        self._tree = WatchedTree(self._fd, self._root_fd, ignored, self._look_below)
        self._tree.walk()
        self._hints.clear()

    def fileno(self) -> int:
        """Readable when there are events. Polling of what cannot be watched needs `drain` at least once a second."""
        return self._fd

    def close(self) -> None:
        """End all watches."""
        os.close(self._fd)
        os.close(self._root_fd)
        self._tree.watched.clear()

    def rewalk(self) -> None:
        """Make the watches match the tree as it is now; the next drain hints at everything."""
        self._tree.walk()
        self._look_below((self._tree.root, b""))

    def problems(self) -> list[Problem]:
        """What cannot be watched, and how to mend it."""
        found = [Problem(self.lost, "", "put the folder back")] if self.lost else []
        exhausted = 0
        for (parent, name), number in list(self._tree.troubles.items()):
            path = self._tree.path(parent)
            if path is None:
                continue
            where = show(path.child(name))
            if number == errno.ENOSPC:
                exhausted += 1
            elif number == errno.EXDEV:
                found.append(
                    Problem("another file system is mounted here, which is not replicated", where, "unmount it")
                )
            elif number in (errno.EACCES, errno.EPERM):
                found.append(
                    Problem("no permission to watch this directory", where, f"give the node access: chmod u+rx {where}")
                )
            else:
                found.append(Problem(f"this directory cannot be watched: {os.strerror(number)}", where))
        if exhausted:
            wanted = 2 * (len(self._tree.watched) + exhausted) + 65536
            found.append(
                Problem(
                    f"the kernel's limit of watches is reached: {exhausted} directories and all below them are polled,"
                    f" every {_POLL_S:.0f} s at best",
                    "",
                    f"raise it: sysctl fs.inotify.max_user_watches={wanted}",
                )
            )
        return sorted(found)

    # ------------------------------------------------------------------------------------------------ draining

    def drain(self) -> list[Hint]:
        """All hints of what happened before this call, one per path, in the order of first occurrence."""
        now = time.monotonic()
        if self._polled_at is not None:
            # The node has just walked what we told it to poll: at most every other second may go into that.
            self._poll_at, self._polled_at = now + max(_POLL_S, 2 * (now - self._polled_at)), None
        if self._read():
            self.rewalk()
        suspects, self._suspects = self._suspects, {}
        for parent, names in suspects.items():
            self._tree.grow(parent, list(names))
        self._tree.list_stale()
        if self._tree.troubles and now >= self._poll_at:
            self._retry()
        moves = self._tree.land()
        given, self._hints = self._hints, {}
        return self._renames(given, moves) + self._as_hints(given) if moves else self._as_hints(given)

    def _read(self) -> bool:
        """Take in the queue; whether events were lost."""
        overflow = False
        watched, hints, unpack = self._tree.watched, self._hints, _EVENT.unpack_from
        taken: _Taken = {}
        for _ in range(_READS_MAX):
            try:
                data = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                break
            at, end = 0, len(data)
            while at < end:
                watch, mask, cookie, length = unpack(data, at)
                start = at + 16
                at = start + length
                directory = watched.get(watch)
                if directory is None:
                    overflow = overflow or bool(mask & linux.IN_Q_OVERFLOW)
                    continue
                name = data[start:at].rstrip(b"\0")
                place = (directory, name)
                flags = _FLAGS.get(mask)
                if flags is not None and name != META:
                    hints[place] = hints.get(place, 0) | flags
                else:
                    self._take(place, mask, cookie, taken)
            if end < _READ_BYTES - 272:  # room was left for the longest event: the queue was empty
                break
        return overflow

    def _take(self, place: Place, mask: int, cookie: int, taken: _Taken) -> None:
        """One event of a directory, of a rename, or of a watch itself."""
        directory, name = place
        if mask & (linux.IN_IGNORED | linux.IN_UNMOUNT | linux.IN_MOVE_SELF):
            if directory is self._tree.root:
                self.lost = "the folder itself was removed, renamed or unmounted"
                self._look_below(place)
            elif mask & linux.IN_IGNORED:
                self._tree.forget(directory)
            return
        if not name or (directory is self._tree.root and name == META):
            return
        if not mask & linux.IN_ISDIR:
            flags = _FLAGS.get(mask, _CERTAIN)
            if mask & linux.IN_MOVED_FROM:
                taken[cookie] = (None, place)
            elif mask & linux.IN_MOVED_TO and cookie in taken:
                flags |= self._hints.get(taken.pop(cookie)[1], 0) & _CONTENT
            self._hint(place, flags)
            return
        self._hint(place, _CERTAIN)
        if mask & linux.IN_ATTRIB and directory.children and name in directory.children:
            return
        self._suspects.setdefault(directory, {})[name] = None
        if mask & linux.IN_MOVED_TO:
            before, _ = taken.pop(cookie, (None, place))
            if before is not None and not self._tree.below(directory, before):
                self._tree.hang(before, directory, name)
        elif mask & (linux.IN_MOVED_FROM | linux.IN_DELETE):
            self._tree.troubles.pop(place, None)
            taken[cookie] = (self._tree.unhang(directory, name), place)

    def _renames(self, given: dict[Place, int], moves: list[Move]) -> list[Hint]:
        """Hints at the new places of `moves`, taken out of `given`; those above before those below, so that an origin
        can be told under the new name of the directory that it was in."""
        hints = []
        for path, move in sorted(filter(None, map(self._landed, moves)), key=lambda landed: landed[0].count(b"/")):
            flags = given.pop(move.place, 0) | given.get(move.origin, 0)
            above = self._tree.path(move.origin[0])
            origin = above.child(move.origin[1]) if above is not None else None
            tree = bool(flags & _TREE) or origin is None
            hints.append(Hint(path, True, bool(flags & _CONTENT), tree, origin))
        return hints

    def _landed(self, move: Move) -> tuple[RelPath, Move] | None:
        path = self._tree.path(move.directory)
        return None if path is None else (path, move)

    def _as_hints(self, given: dict[Place, int]) -> list[Hint]:
        paths: dict[Directory, RelPath | None] = {}
        hints = []
        for (directory, name), flags in given.items():
            if directory in paths:
                parent = paths[directory]
            else:
                parent = paths[directory] = self._tree.path(directory)
            if parent is None:
                continue  # moved away or removed, and that is a hint of its own
            if (
                name
                and flags == _CERTAIN | _TREE
                and given.get((directory.parent or directory, directory.name), 0) & _TREE
            ):
                continue  # below a directory that is walked anyway
            path = RelPath(parent + b"/" + name) if parent else RelPath(name)
            certain = bool(flags & _CERTAIN) or (not flags and self._certain_creation(path))
            hints.append(Hint(path, certain, bool(flags & _CONTENT), bool(flags & _TREE)))
        return hints

    def _certain_creation(self, path: RelPath) -> bool:
        """Whether what raised CREATE alone is complete: a symlink, or another link to a file. Else it may be written
        to still, or be an O_TMPFILE given a name: that shows after the quiet."""
        try:
            found = os.stat(path, dir_fd=self._root_fd, follow_symlinks=False)
        except OSError:
            return True
        return stat.S_ISLNK(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink > 1)

    def _hint(self, place: Place, flags: int) -> None:
        self._hints[place] = self._hints.get(place, 0) | flags

    def _look_below(self, place: Place) -> None:
        self._hint(place, _CERTAIN | _TREE)

    def _retry(self) -> None:
        """Try again what could not be watched; what stays unwatched for lack of watches is polled."""
        self._poll_at = time.monotonic() + _POLL_S
        exhausted = False
        for (parent, name), number in list(self._tree.troubles.items()):
            place = (parent, name)
            if self._tree.path(parent) is None:
                del self._tree.troubles[place]
            elif not (exhausted and number == errno.ENOSPC):
                if name:
                    self._tree.grow(parent, [name])
                else:
                    self.rewalk()
                exhausted = self._tree.troubles.get(place) == errno.ENOSPC
            if self._tree.troubles.get(place) == errno.ENOSPC:
                self._look_below(place)
                self._polled_at = time.monotonic()
