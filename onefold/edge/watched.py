"""The tree of watched directories, kept in memory, and the walks that find them.

A watch belongs to an inode and outlives its renames, so a renamed directory is hung elsewhere, whatever is below it.
Invariants:

1. A directory is watched first and listed afterwards: what was made before the watch is in the listing, what is made
   after it raises an event.
2. The watch that the kernel gives for the inode found at a place tells which directory stands there, and re-hangs it,
   whatever was believed before.
3. A path from memory is only used if it leads to the inode remembered. Otherwise an event that explains it is on its
   way, and the directory is listed again after it (`_stale`).
4. Who was taken down and found nowhere by the next `land` (`_adrift`) is watched no more. Whatever is watched anew must
   be looked at whole (`look_below`), so dropping a watch too much is always safe.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from onefold import linux
from onefold.core.paths import META, RelPath

# IN_EXCL_UNLINK: a file with no name left cannot be looked at.
_MASK = (
    linux.IN_ONLYDIR
    | linux.IN_EXCL_UNLINK
    | linux.IN_CREATE
    | linux.IN_MODIFY
    | linux.IN_ATTRIB
    | linux.IN_CLOSE_WRITE
    | linux.IN_DELETE
    | linux.IN_MOVED_FROM
    | linux.IN_MOVED_TO
)
_ROOT_MASK = _MASK | linux.IN_MOVE_SELF
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_GONE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE))
_STALE_ROUNDS = 3


class Directory:
    """A watched directory, hung below `parent` as `name`; `parent` is None for the root and for one taken down."""

    __slots__ = ("children", "ino", "name", "parent", "seen", "watch")
    # `seen`: the last round (`walk`) in which it was listed

    def __init__(self, watch: int, ino: int) -> None:
        self.watch = watch
        self.ino = ino
        self.seen = 0
        self.parent: Directory | None = None
        self.name = b""
        self.children: dict[bytes, Directory] | None = None


Place = tuple[Directory, bytes]
"""A name in a watched directory; empty for the directory itself."""


class Move(NamedTuple):
    """A watched directory was renamed."""

    directory: Directory
    origin: Place
    place: Place


class WatchedTree:
    """Every directory that the inotify instance `fd` watches below the directory `root_fd`, all of it but `.onefold`.

    Directories that `ignored(path, True)` hides are not watched. Both descriptors stay the caller's.
    """

    def __init__(
        self,
        fd: int,
        root_fd: int,
        ignored: Callable[[RelPath, bool], bool] | None,
        look_below: Callable[[Place], None],
    ) -> None:
        """`look_below(place)`: a directory stands there whose watch is new, or that cannot be given one."""
        self._fd = fd
        self._root_fd = root_fd
        self._ignored = ignored
        self._look_below = look_below
        self._mount = linux.look_fd(root_fd)[2]
        self._round = 0
        self._stale: set[Directory] = set()
        self._adrift: dict[Directory, Place] = {}
        self.root = Directory(-1, os.fstat(root_fd).st_ino)
        self.watched: dict[int, Directory] = {}
        """By watch."""
        self.troubles: dict[Place, int] = {}
        """What cannot be watched, with the error's number."""

    # ------------------------------------------------------------------------------------------------ in memory

    def path(self, directory: Directory | None) -> RelPath | None:
        """Where `directory` hangs; None when it was taken down."""
        parts: list[bytes] = []
        while directory is not self.root:
            if directory is None:
                return None
            parts.append(directory.name)
            directory = directory.parent
        return RelPath(b"/".join(reversed(parts)))

    @staticmethod
    def below(directory: Directory | None, other: Directory) -> bool:
        """Whether `directory` is `other`, or hangs somewhere below it."""
        while directory is not None and directory is not other:
            directory = directory.parent
        return directory is not None

    def hang(self, directory: Directory, parent: Directory, name: bytes) -> None:
        """`directory` is `name` in `parent` now; what hung there is taken down."""
        if directory.parent is parent and directory.name == name:
            return
        if directory.parent is not None:
            self.unhang(directory.parent, directory.name)
        self.unhang(parent, name)
        if parent.children is None:
            parent.children = {}
        parent.children[name] = directory
        directory.parent, directory.name = parent, name

    def unhang(self, parent: Directory, name: bytes) -> Directory | None:
        """Take down what hangs in `parent` as `name`: gone, unless it is hung elsewhere before the next `land`."""
        child = parent.children.pop(name, None) if parent.children else None
        if child is not None:
            child.parent = None
            self._adrift.setdefault(child, (parent, name))
        return child

    def drop(self, directory: Directory) -> None:
        """Take down `directory` and all below it, and end their watches."""
        if directory.parent is not None:
            self.unhang(directory.parent, directory.name)
        pending = [directory]
        while pending:
            gone = pending.pop()
            gone.parent = None
            if self.watched.pop(gone.watch, None) is not None:
                with suppress(OSError):  # EINVAL: the directory was removed, and the watch with it
                    linux.rm_watch(self._fd, gone.watch)
            pending.extend((gone.children or {}).values())
            gone.children = None

    def forget(self, directory: Directory) -> None:
        """The kernel has ended the watch of `directory`."""
        del self.watched[directory.watch]
        self.drop(directory)

    def land(self) -> list[Move]:
        """End the watches of those adrift; answer who hangs elsewhere than at the last landing."""
        adrift, self._adrift = self._adrift, {}
        moves = []
        for directory, origin in adrift.items():
            if directory.parent is None:
                self.drop(directory)
            elif origin != (place := (directory.parent, directory.name)):
                moves.append(Move(directory, origin, place))
        return moves

    # ------------------------------------------------------------------------------------------------ on disk

    def walk(self) -> None:
        """Watch the root and every directory, find again those that are watched, and drop those not found."""
        self._round += 1
        self.troubles.clear()
        if self.root.watch < 0:
            self._watch_root()
        self._list_again(self.root)
        for directory in [d for d in self.watched.values() if d.seen != self._round and d is not self.root]:
            self.drop(directory)

    def _watch_root(self) -> None:
        try:
            self.root.watch = linux.add_watch(self._fd, b"/proc/self/fd/%d" % self._root_fd, _ROOT_MASK)
        except OSError as e:
            self.troubles[self.root, b""] = e.errno or errno.EIO
        else:
            self.watched[self.root.watch] = self.root

    def grow(self, directory: Directory, names: list[bytes]) -> None:
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

    def list_stale(self) -> None:
        """List again whom a path did not lead to: the event that explains it has been told by now."""
        for _ in range(_STALE_ROUNDS):  # each may make the way to others known
            for directory in tuple(self._stale):
                self._list_again(directory)

    def _list_again(self, directory: Directory) -> None:
        """Watch whatever is below `directory` and is not watched."""
        self._stale.discard(directory)
        if self.watched.get(directory.watch) is not directory:
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
            self.grow(directory, names)

    def _unreached(self, directory: Directory, e: OSError) -> None:
        if e.errno in _GONE:
            if self.watched.get(directory.watch) is directory:
                self._stale.add(directory)
        elif directory.parent is not None:
            self.troubles[directory.parent, directory.name] = e.errno or errno.EIO

    def _open(self, directory: Directory) -> int:
        """A descriptor of `directory`. Raises `OSError`, ESTALE when another one stands where it hangs."""
        path = self.path(directory)
        if path is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        fd = linux.open_beneath(self._root_fd, path, _OPEN)
        if os.fstat(fd).st_ino != directory.ino:
            os.close(fd)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
        return fd

    def _watch(self, parent: Directory, parent_fd: int, name: bytes) -> tuple[Directory, list[bytes]] | None:
        """Watch one directory and list it: with the names in it that need watching. None: nothing more to do there."""
        place = (parent, name)
        self.troubles.pop(place, None)
        if self._ignored is not None:
            path = self.path(parent)
            if path is not None and self._ignored(path.child(name), True):
                return None
        try:
            fd = os.open(name, _OPEN, dir_fd=parent_fd)
        except OSError as e:
            if e.errno in _GONE:
                self.unhang(parent, name)
            elif not (parent.children and name in parent.children):
                self.troubles[place] = e.errno or errno.EIO
            return None
        try:
            _, found, mount = linux.look_fd(fd)
            if mount != self._mount:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            watch = linux.add_watch(self._fd, b"/proc/self/fd/%d" % fd, _MASK)
            directory = self.watched.get(watch)
            if directory is None:
                directory = self.watched[watch] = Directory(watch, found.ino)
                self._look_below(place)
            elif self.below(parent, directory):
                # Renamed into what was below it, while we looked: their events bring both back.
                self.drop(directory)
                return None
            self.hang(directory, parent, name)
            if directory.seen == self._round:
                return None
            names = self._subdirectories(directory, fd)
            directory.seen = self._round
            return directory, names
        except OSError as e:
            self.troubles[place] = e.errno or errno.EIO
            if e.errno == errno.ENOSPC:
                self._look_below(place)
            return None
        finally:
            os.close(fd)

    def _subdirectories(self, directory: Directory, fd: int) -> list[bytes]:
        """The names of the directories in `directory`; those that are not there any more are taken down."""
        with os.scandir(fd) as entries:
            names = [os.fsencode(e.name) for e in entries if e.is_dir(follow_symlinks=False)]
        if directory is self.root and META in names:
            names.remove(META)
        if directory.children:
            for name in directory.children.keys() - names:
                self.unhang(directory, name)
        return names
