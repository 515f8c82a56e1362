"""Watches a whole tree with inotify, and says where to look.

The tree of watched directories is kept in memory: a watch belongs to an inode and outlives its renames, so a renamed
directory is hung elsewhere, whatever is below it. Invariants:

1. A directory is watched first and listed afterwards: what was made before the watch is in the listing, what is made
   after it raises an event.
2. Memory follows the events, and trails the disk by those still queued. So once the queue is read, every place where an
   event told of a directory is looked at (`_suspects`): the watch that the kernel gives for the inode found there tells
   which directory it is, and re-hangs it. An order of events that misleads (that of RENAME_EXCHANGE does) is mended.
3. A path from memory is only used if it leads to the inode remembered. Otherwise an event that explains it is on its
   way, and the directory is listed again after it (`_stale`).
4. Who was taken down and found nowhere by the end of the drain (`_adrift`) is watched no more. Whatever is watched anew
   gets a `tree` hint, so dropping a watch too much is always safe.

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
from contextlib import suppress
from typing import NamedTuple

from onefold import linux
from onefold.core.messages import Problem
from onefold.core.paths import META, RelPath, show
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

# IN_EXCL_UNLINK: a file with no name left cannot be looked at.
_MASK = linux.IN_ONLYDIR | linux.IN_EXCL_UNLINK | linux.IN_MOVED_FROM | linux.IN_MOVED_TO | sum(_FLAGS)
_ROOT_MASK = _MASK | linux.IN_MOVE_SELF
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_GONE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE))
_EVENT = struct.Struct("@iIII")
_READ_BYTES = 1 << 18
_STALE_ROUNDS = 3
_READS_MAX = 16
"""Reads per drain, so that a folder written to without end cannot keep `drain` for ever."""
_RECENT_S = 3.0
"""How long hints are remembered: as long as a node may wait before it looks (2 s), and some."""
_POLL_S = 2.0


class _Directory:
    """A watched directory, hung below `parent` as `name`; `parent` is None for the root and for one taken down."""

    __slots__ = ("children", "ino", "name", "parent", "seen", "watch")
    # `seen`: the last round (`_walk_all`) in which it was listed

    def __init__(self, watch: int, ino: int) -> None:
        self.watch = watch
        self.ino = ino
        self.seen = 0
        self.parent: _Directory | None = None
        self.name = b""
        self.children: dict[bytes, _Directory] | None = None


_Place = tuple[_Directory, bytes]


class _Move(NamedTuple):
    """A watched directory was renamed."""

    directory: _Directory
    origin: _Place
    place: _Place


_Taken = dict[int, tuple[_Directory | None, _Place]]
"""By cookie, what was renamed away from a place: a watched directory, or something else (None)."""


class InotifyWatcher:
    """Implements `ports.Watcher` on the directory `root`, all of it but `.onefold`.

    Watching starts with the constructor, which lists every directory once (40 us each) and gives no hints of what it
    found: look at everything once, after it. Directories that `ignored(path, True)` hides are not watched; when that
    answer may have changed, call `rewalk`. Not safe to call from two threads at once, but for `problems`.

    Raises `OperatorError` when the kernel gives no inotify instance, or `root` cannot be read.
    """

    def __init__(self, root: bytes, ignored: Callable[[RelPath, bool], bool] | None = None) -> None:
        self._ignored = ignored
        self._round = 0
        self._watched: dict[int, _Directory] = {}
        self._suspects: dict[_Directory, dict[bytes, None]] = {}
        self._stale: set[_Directory] = set()
        self._adrift: dict[_Directory, _Place] = {}
        self._troubles: dict[_Place, int] = {}
        self._hints: dict[_Place, int] = {}
        self._recent: dict[_Place, int] = {}
        self._less_recent: dict[_Place, int] = {}
        self._turned_at = 0.0
        self._lost = ""
        self._poll_at = 0.0
        self._polled_at: float | None = None
        try:
            self._root_fd = os.open(root, _DIRECTORY & ~os.O_NOFOLLOW)
        except OSError as e:
            raise OperatorError(f"{show(root)} cannot be watched: {e.strerror}", "give a folder that is there") from e
        try:
            self._fd = linux.inotify_init()
        except OSError as e:
            os.close(self._root_fd)
            raise OperatorError(
                f"the kernel gives no inotify instance: {e.strerror}",
                "raise the limit: sysctl fs.inotify.max_user_instances=1024",
            ) from e
        self._root = _Directory(-1, os.fstat(self._root_fd).st_ino)
        self._mount = linux.look_fd(self._root_fd)[2]
        self._walk_all()
        self._hints.clear()

    def fileno(self) -> int:
        """Readable when there are events. Polling of what cannot be watched needs `drain` at least once a second."""
        return self._fd

    def close(self) -> None:
        """End all watches."""
        os.close(self._fd)
        os.close(self._root_fd)
        self._watched.clear()

    def rewalk(self) -> None:
        """Make the watches match the tree as it is now; the next drain hints at everything."""
        self._walk_all()
        self._hint((self._root, b""), _CERTAIN | _TREE)

    def problems(self) -> list[Problem]:
        """What cannot be watched, and how to mend it."""
        found = [Problem(self._lost, "", "put the folder back and restart the node")] if self._lost else []
        exhausted = 0
        for (parent, name), number in list(self._troubles.items()):
            path = self._path(parent)
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
            wanted = 2 * (len(self._watched) + exhausted) + 65536
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
            self._grow(parent, list(names))
        for _ in range(_STALE_ROUNDS):  # each may make the way to others known
            for directory in tuple(self._stale):
                self._list_again(directory)
        if self._troubles and now >= self._poll_at:
            self._retry()
        moves = self._land()
        given, self._hints = self._hints, {}
        if moves:
            self._follow(given, moves)
        if now - self._turned_at > _RECENT_S:
            self._less_recent, self._recent, self._turned_at = self._recent, {}, now
        for place, flags in given.items():
            self._recent[place] = self._recent.get(place, 0) | flags
        return self._as_hints(given)

    def _read(self) -> bool:
        """Take in the queue; whether events were lost."""
        overflow = False
        watched, hints, unpack = self._watched, self._hints, _EVENT.unpack_from
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

    def _take(self, place: _Place, mask: int, cookie: int, taken: _Taken) -> None:
        """One event of a directory, of a rename, or of a watch itself."""
        directory, name = place
        if mask & (linux.IN_IGNORED | linux.IN_UNMOUNT | linux.IN_MOVE_SELF):
            if directory is self._root:
                self._lost = "the folder itself was removed, renamed or unmounted"
                self._hint((directory, b""), _CERTAIN | _TREE)
            elif mask & linux.IN_IGNORED:
                del self._watched[directory.watch]
                self._drop(directory)
            return
        if not name or (directory is self._root and name == META):
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
            if before is not None and not self._below(directory, before):
                self._hang(before, directory, name)
        elif mask & (linux.IN_MOVED_FROM | linux.IN_DELETE):
            self._troubles.pop(place, None)
            taken[cookie] = (self._unhang(directory, name), place)

    def _land(self) -> list[_Move]:
        """End the watches of those adrift; answer who hangs elsewhere than at the last drain."""
        adrift, self._adrift = self._adrift, {}
        moves = []
        for directory, origin in adrift.items():
            if directory.parent is None:
                self._drop(directory)
            elif origin != (place := (directory.parent, directory.name)):
                moves.append(_Move(directory, origin, place))
        return moves

    def _follow(self, given: dict[_Place, int], moves: list[_Move]) -> None:
        """Give the hints of before a directory's rename again, with its new path, even if they were given out.

        For the node may not have looked yet, and would find nothing under the old path.
        """
        earlier = self._less_recent | self._recent
        for move in moves:
            flags = given.get(move.origin, 0) | earlier.get(move.origin, 0)
            given[move.place] = given.get(move.place, 0) | flags
        moved = {move.directory for move in moves}
        for place, flags in earlier.items():
            above: _Directory | None = place[0]
            while above is not None and above not in moved:
                above = above.parent
            if above is not None:
                given[place] = given.get(place, 0) | flags

    def _as_hints(self, given: dict[_Place, int]) -> list[Hint]:
        paths: dict[_Directory, RelPath | None] = {}
        hints = []
        for (directory, name), flags in given.items():
            if directory in paths:
                parent = paths[directory]
            else:
                parent = paths[directory] = self._path(directory)
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

    def _hint(self, place: _Place, flags: int) -> None:
        self._hints[place] = self._hints.get(place, 0) | flags

    # ------------------------------------------------------------------------------------------------ watching

    def _path(self, directory: _Directory | None) -> RelPath | None:
        """Where `directory` hangs; None when it was taken down."""
        parts: list[bytes] = []
        while directory is not self._root:
            if directory is None:
                return None
            parts.append(directory.name)
            directory = directory.parent
        return RelPath(b"/".join(reversed(parts)))

    @staticmethod
    def _below(directory: _Directory | None, other: _Directory) -> bool:
        while directory is not None and directory is not other:
            directory = directory.parent
        return directory is not None

    def _open(self, directory: _Directory) -> int:
        """A descriptor of `directory`. Raises `OSError`, ESTALE when another one stands where it hangs."""
        path = self._path(directory)
        if path is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        fd = linux.open_beneath(self._root_fd, path, _DIRECTORY)
        if os.fstat(fd).st_ino != directory.ino:
            os.close(fd)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
        return fd

    def _walk_all(self) -> None:
        """Watch the root and every directory, find again those that are watched, and drop those not found."""
        self._round += 1
        self._troubles.clear()
        if self._root.watch < 0:
            self._watch_root()
        self._list_again(self._root)
        for directory in [d for d in self._watched.values() if d.seen != self._round and d is not self._root]:
            self._drop(directory)

    def _watch_root(self) -> None:
        try:
            self._root.watch = linux.add_watch(self._fd, b"/proc/self/fd/%d" % self._root_fd, _ROOT_MASK)
        except OSError as e:
            self._troubles[self._root, b""] = e.errno or errno.EIO
        else:
            self._watched[self._root.watch] = self._root

    def _list_again(self, directory: _Directory) -> None:
        """Watch whatever is below `directory` and is not watched."""
        self._stale.discard(directory)
        if self._watched.get(directory.watch) is not directory:
            return
        try:
            fd = self._open(directory)
            try:
                names = self._subdirectories(directory, fd)
            finally:
                os.close(fd)
        except OSError as e:
            self._unreached(directory, e)
        else:
            self._grow(directory, names)

    def _grow(self, directory: _Directory, names: list[bytes]) -> None:
        """Watch `names` in `directory`, then what is in them, and so on; an own stack, for trees can be very deep."""
        pending = [(directory, names)]
        while pending:
            parent, names = pending.pop()
            if not names:
                continue
            try:
                fd = self._open(parent)
            except OSError as e:
                self._unreached(parent, e)
                continue
            try:
                pending.extend(filter(None, [self._watch(parent, fd, name) for name in names]))
            finally:
                os.close(fd)

    def _unreached(self, directory: _Directory, e: OSError) -> None:
        if e.errno in _GONE:
            if self._watched.get(directory.watch) is directory:
                self._stale.add(directory)
        elif directory.parent is not None:
            self._troubles[directory.parent, directory.name] = e.errno or errno.EIO

    def _watch(self, parent: _Directory, parent_fd: int, name: bytes) -> tuple[_Directory, list[bytes]] | None:
        """Watch one directory and list it: with the names in it that need watching. None: nothing more to do there."""
        place = (parent, name)
        self._troubles.pop(place, None)
        if self._ignored is not None:
            path = self._path(parent)
            if path is not None and self._ignored(path.child(name), True):
                return None
        try:
            fd = os.open(name, _DIRECTORY, dir_fd=parent_fd)
        except OSError as e:
            if e.errno in _GONE:
                self._unhang(parent, name)
            elif not (parent.children and name in parent.children):
                self._troubles[place] = e.errno or errno.EIO
            return None
        try:
            _, found, mount = linux.look_fd(fd)
            if mount != self._mount:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            watch = linux.add_watch(self._fd, b"/proc/self/fd/%d" % fd, _MASK)
            directory = self._watched.get(watch)
            if directory is None:
                directory = self._watched[watch] = _Directory(watch, found.ino)
                self._hint(place, _CERTAIN | _TREE)
            elif self._below(parent, directory):
                # Renamed into what was below it, while we looked: their events bring both back.
                self._drop(directory)
                return None
            self._hang(directory, parent, name)
            if directory.seen == self._round:
                return None
            names = self._subdirectories(directory, fd)
            directory.seen = self._round
            return directory, names
        except OSError as e:
            self._troubles[place] = e.errno or errno.EIO
            if e.errno == errno.ENOSPC:
                self._hint(place, _CERTAIN | _TREE)
            return None
        finally:
            os.close(fd)

    def _subdirectories(self, directory: _Directory, fd: int) -> list[bytes]:
        """The names of the directories in `directory`; those that are not there any more are taken down."""
        with os.scandir(fd) as entries:
            names = [os.fsencode(e.name) for e in entries if e.is_dir(follow_symlinks=False)]
        if directory is self._root and META in names:
            names.remove(META)
        if directory.children:
            for name in directory.children.keys() - names:
                self._unhang(directory, name)
        return names

    def _retry(self) -> None:
        """Try again what could not be watched; what stays unwatched for lack of watches is polled."""
        self._poll_at = time.monotonic() + _POLL_S
        exhausted = False
        for (parent, name), number in list(self._troubles.items()):
            place = (parent, name)
            if self._path(parent) is None:
                del self._troubles[place]
            elif not (exhausted and number == errno.ENOSPC):
                if name:
                    self._grow(parent, [name])
                else:
                    self.rewalk()
                exhausted = self._troubles.get(place) == errno.ENOSPC
            if self._troubles.get(place) == errno.ENOSPC:
                self._hint(place, _CERTAIN | _TREE)
                self._polled_at = time.monotonic()

    def _hang(self, directory: _Directory, parent: _Directory, name: bytes) -> None:
        if directory.parent is parent and directory.name == name:
            return
        if directory.parent is not None:
            self._unhang(directory.parent, directory.name)
        self._unhang(parent, name)
        if parent.children is None:
            parent.children = {}
        parent.children[name] = directory
        directory.parent, directory.name = parent, name

    def _unhang(self, parent: _Directory, name: bytes) -> _Directory | None:
        child = parent.children.pop(name, None) if parent.children else None
        if child is not None:
            child.parent = None
            self._adrift.setdefault(child, (parent, name))
        return child

    def _drop(self, directory: _Directory) -> None:
        """Take down `directory` and all below it, and end their watches."""
        if directory.parent is not None:
            self._unhang(directory.parent, directory.name)
        pending = [directory]
        while pending:
            gone = pending.pop()
            gone.parent = None
            if self._watched.pop(gone.watch, None) is not None:
                with suppress(OSError):  # EINVAL: the directory was removed, and the watch with it
                    linux.rm_watch(self._fd, gone.watch)
            pending.extend((gone.children or {}).values())
            gone.children = None
