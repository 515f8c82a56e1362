"""What Linux is to a node: file systems of inodes, descriptors, inotify; one for all machines of a run.

The real edges run on this (`faces.py` puts it in the place of `os` and `onefold.linux`): every syscall of theirs is one
of a few hundred lines here. Before each, `interrupt` may let a user in, or end the process. Inode numbers are reused at
once, as by ext4; times have the granularity of its clock.
"""

from __future__ import annotations

import errno
import heapq
import os
import stat
import struct
from collections.abc import Callable, Iterator
from typing import Protocol

from onefold import linux
from onefold.core.model import Stat
from simulation.virtual import Killed, Life, VirtualLoop

EPOCH_NS = 1_700_000_000_000_000_000
MOUNT = 1 << 64
MOUNT_OF_DIRECTORIES = MOUNT | 7
META = b".onefold"
_HEAD = struct.Struct("@iIII")
_PROC = b"/proc/self/fd/"


class Inode:
    """A file (`data` is its content), a symlink (its target), or a directory (`entries`)."""

    __slots__ = (
        "btime_ns", "ctime_ns", "data", "dirty", "entries", "ino", "mode", "mtime_ns", "name", "parent", "watches",
        "writers",
    )  # fmt: skip

    def __init__(self, mode: int, ino: int, now_ns: int, data: bytes = b"") -> None:
        self.mode = mode
        self.ino = ino
        self.btime_ns = self.mtime_ns = self.ctime_ns = now_ns
        self.data = data
        self.entries: dict[bytes, Inode] = {}
        self.parent: Inode | None = None
        self.name = b""
        self.writers = 0
        self.dirty = True  # not on disk yet
        self.watches: dict[Inotify, int] = {}

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    def stat(self) -> Stat:
        return Stat(self.ino, self.btime_ns, self.mtime_ns, self.ctime_ns, len(self.data), self.mode & 0o777)

    def below(self, path: bytes = b"") -> Iterator[tuple[bytes, Inode]]:
        """All in this directory, which stands at `path`, but what is Onefold's own; parents first."""
        for name in sorted(self.entries):
            if path or name != META:
                place = path + b"/" + name if path else name
                yield place, self.entries[name]
                if self.entries[name].is_dir:
                    yield from self.entries[name].below(place)

    def copy(self) -> Inode:
        """This and all below it, as it would be read back from a disk."""
        new = Inode(self.mode, self.ino, self.btime_ns, self.data)
        new.mtime_ns, new.ctime_ns, new.name, new.dirty = self.mtime_ns, self.ctime_ns, self.name, False
        for name, inode in self.entries.items():
            new.entries[name] = below = inode.copy()
            below.parent = new
        return new


class Inotify:
    """An inotify instance, open as `fd`."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.queue: list[tuple[int, int, int, bytes]] = []
        self.watches: dict[int, Inode] = {}
        self.numbers = 0


class Open:
    __slots__ = ("at", "inode", "life", "writes")

    def __init__(self, inode: Inode | Inotify, life: Life | None, writes: bool) -> None:
        self.inode = inode
        self.life = life
        self.writes = writes
        self.at = 0


class FileStat:
    """As `os.stat_result`, as much of it as is asked for."""

    __slots__ = ("st_ctime_ns", "st_dev", "st_gid", "st_ino", "st_mode", "st_mtime_ns", "st_nlink", "st_size", "st_uid")

    def __init__(self, inode: Inode) -> None:
        self.st_mode, self.st_ino, self.st_size = inode.mode, inode.ino, len(inode.data)
        self.st_mtime_ns, self.st_ctime_ns = inode.mtime_ns, inode.ctime_ns
        self.st_uid = self.st_gid = 0
        self.st_dev, self.st_nlink = 7, 1


class Witness(Protocol):
    """Who sees what users write, and what the processes of nodes do to files."""

    def wrote(self, data: bytes) -> None: ...

    def appeared(self, life: Life, path: bytes, inode: Inode) -> None: ...

    def written_in_place(self, life: Life, path: bytes) -> None: ...

    def unlinked(self, life: Life, inode: Inode) -> None: ...


class Kernel:
    def __init__(self, tick_ns: int) -> None:
        """`tick_ns`: how coarse the clock of the file systems is."""
        self.loop: VirtualLoop
        self.witness: Witness
        self.current: Life | None = None
        self.calls = 0
        self.countdown = 1 << 60
        self.interrupt: Callable[[Life], None] = lambda _: None
        self.full: set[bytes] = set()
        """Directories (`/n1/folder`) on whose file systems nothing is free."""
        self.leased: set[int] = set()
        """Descriptors of files that nobody can open for writing just now."""
        self._tick_ns = tick_ns
        self._free: list[int] = []
        self._inodes = 100
        self._files: dict[int, Open] = {}
        self._descriptors = 3
        self._cookies = 0
        self.root = self.inode(stat.S_IFDIR | 0o755)

    # -------------------------------------------------------------------------------------------- for the world

    def now_ns(self) -> int:
        return EPOCH_NS + int(self.loop.now * 1e9) if hasattr(self, "loop") else EPOCH_NS

    def inode(self, mode: int, data: bytes = b"") -> Inode:
        if self._free:
            ino = heapq.heappop(self._free)
        else:
            self._inodes += 1
            ino = self._inodes
        return Inode(mode, ino, self._stamp(), data)

    def _stamp(self) -> int:
        now = self.now_ns()
        return now - now % self._tick_ns

    def enter(self) -> None:
        life = self.current
        if life is not None:
            if not life.alive:
                raise Killed
            self.calls += 1
            self.countdown -= 1
            if self.countdown <= 0:
                self.interrupt(life)
                if not life.alive:
                    raise Killed

    def forget(self, life: Life) -> None:
        """The process is gone: its descriptors are closed."""
        for fd in sorted(life.descriptors):
            self._close(fd)
        life.descriptors.clear()

    def lose_power(self, root: Inode) -> None:
        """Whoever has anything open below `root` is gone."""
        for fd, opened in list(self._files.items()):
            if isinstance(opened.inode, Inode) and _within(opened.inode, root):
                del self._files[fd]
                self.leased.discard(fd)

    def at(self, path: bytes) -> Inode:
        """What stands at an absolute path. Raises `OSError`."""
        here = self.root
        for part in path.split(b"/"):
            if part:
                if not here.is_dir:
                    raise _error(errno.ENOTDIR, path)
                below = here.entries.get(part)
                if below is None:
                    raise _error(errno.ENOENT, path)
                here = below
        return here

    def path_of(self, inode: Inode) -> bytes:
        """Where `inode` stands; without a leading slash when it stands nowhere."""
        names = []
        while inode.parent is not None:
            names.append(inode.name)
            inode = inode.parent
        names.append(b"" if inode is self.root else b"?")
        return b"/".join(reversed(names))

    def visible(self, inode: Inode) -> bytes | None:
        """Its path below its machine's folder, if a reader can find it there: `/n1/folder/...`."""
        parts = self.path_of(inode).split(b"/")
        return b"/".join(parts) if parts[0] == b"" and parts[2:3] == [b"folder"] and parts[3:4] != [META] else None

    def place(self, directory: Inode, name: bytes, inode: Inode) -> None:
        directory.entries[name] = inode
        inode.parent, inode.name = directory, name

    # -------------------------------------------------------------------------------------------- lookup

    def _resolve(self, path: bytes | str, dir_fd: int | None) -> tuple[Inode, bytes]:
        """The directory of `path` and its last name there. Raises `OSError`."""
        raw = os.fsencode(path)
        if raw.startswith(b"/"):
            here = self.root
        else:
            assert dir_fd is not None, raw
            here = self._inode(dir_fd)
        *above, name = [part for part in raw.split(b"/") if part] or [b"."]
        for part in above:
            if not here.is_dir:
                raise _error(errno.ENOTDIR, raw)
            below = here.entries.get(part)
            if below is None:
                raise _error(errno.ENOENT, raw)
            here = below
        if not here.is_dir:
            raise _error(errno.ENOTDIR, raw)
        return here, name

    def _find(self, path: bytes | str, dir_fd: int | None) -> Inode:
        raw = os.fsencode(path)
        if raw.startswith(_PROC):
            return self._inode(int(raw[len(_PROC) :]))
        directory, name = self._resolve(raw, dir_fd)
        if name == b".":
            return directory
        found = directory.entries.get(name)
        if found is None:
            raise _error(errno.ENOENT, raw)
        return found

    def _inode(self, fd: int) -> Inode:
        found = self._files.get(fd)
        if found is None or not isinstance(found.inode, Inode):
            raise _error(errno.EBADF)
        return found.inode

    def _space(self, inode: Inode) -> None:
        if self.full:
            parts = self.path_of(inode).split(b"/")
            if b"/".join(parts[:3]) in self.full:
                raise _error(errno.ENOSPC)

    def _descriptor(self, inode: Inode | Inotify, writes: bool) -> int:
        self._descriptors += 1
        self._files[self._descriptors] = Open(inode, self.current, writes)
        if self.current is not None:
            self.current.descriptors.add(self._descriptors)
        if writes and isinstance(inode, Inode):
            inode.writers += 1
        return self._descriptors

    # -------------------------------------------------------------------------------------------- os

    def open(self, path: bytes | str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        self.enter()
        raw = os.fsencode(path)
        directory, name = self._resolve(raw, dir_fd)
        found = directory if name == b"." else directory.entries.get(name)
        writes = flags & (os.O_WRONLY | os.O_RDWR) != 0
        if found is None:
            if not flags & os.O_CREAT:
                raise _error(errno.ENOENT, raw)
            self._space(directory)
            found = self.inode(stat.S_IFREG | (mode & 0o7777))
            self._add(directory, name, found)
            return self._descriptor(found, writes)
        if flags & os.O_CREAT and flags & os.O_EXCL:
            raise _error(errno.EEXIST, raw)
        return self._open(found, flags, writes, raw)

    def _open(self, found: Inode, flags: int, writes: bool, raw: bytes) -> int:
        if stat.S_ISLNK(found.mode):
            if flags & os.O_DIRECTORY:
                raise _error(errno.ENOTDIR, raw)
            if not flags & os.O_PATH:
                raise _error(errno.ELOOP, raw)
        if flags & os.O_DIRECTORY and not found.is_dir:
            raise _error(errno.ENOTDIR, raw)
        if writes and found.is_dir:
            raise _error(errno.EISDIR, raw)
        fd = self._descriptor(found, writes)
        if writes and flags & os.O_TRUNC and found.data:
            self._written(found, b"")
        return fd

    def close(self, fd: int) -> None:
        if self.current is not None and not self.current.alive:
            return
        self._close(fd)
        if self.current is not None:
            self.current.descriptors.discard(fd)

    def _close(self, fd: int) -> None:
        opened = self._files.pop(fd, None)
        if opened is None:
            raise _error(errno.EBADF)
        self.leased.discard(fd)
        if isinstance(opened.inode, Inotify):
            for inode in opened.inode.watches.values():
                inode.watches.pop(opened.inode, None)
        elif opened.writes:
            opened.inode.writers -= 1
            self._tell_parent(opened.inode, linux.IN_CLOSE_WRITE)

    def dup(self, fd: int) -> int:
        return self._descriptor(self._inode(fd), False)

    def read(self, fd: int, count: int) -> bytes:
        self.enter()
        opened = self._files[fd]
        if isinstance(opened.inode, Inotify):
            return self._events(opened.inode, count)
        data = opened.inode.data[opened.at : opened.at + count]
        opened.at += len(data)
        return data

    def readv(self, fd: int, buffers: list[memoryview]) -> int:
        data = self.read(fd, len(buffers[0]))
        buffers[0][: len(data)] = data
        return len(data)

    def lseek(self, fd: int, offset: int, whence: int) -> int:
        self._files[fd].at = offset
        return offset

    def write(self, fd: int, data: bytes | memoryview) -> int:
        self.enter()
        opened = self._files[fd]
        inode = opened.inode
        assert isinstance(inode, Inode)
        self._space(inode)
        raw = bytes(data)
        before = inode.data
        if self.current is not None:
            path = self.visible(inode)
            if path is not None:
                self.witness.written_in_place(self.current, path)
        self._written(inode, before[: opened.at] + raw + before[opened.at + len(raw) :])
        opened.at += len(raw)
        return len(raw)

    def truncate(self, fd: int, size: int) -> None:
        inode = self._inode(fd)
        self._written(inode, inode.data[:size])

    def _written(self, inode: Inode, data: bytes) -> None:
        inode.data = data
        inode.mtime_ns = inode.ctime_ns = self._stamp()
        inode.dirty = True
        if self.current is None:
            self.witness.wrote(data)
        self._tell_parent(inode, linux.IN_MODIFY)

    def mkdir(self, path: bytes | str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        self.enter()
        directory, name = self._resolve(path, dir_fd)
        if name in directory.entries:
            raise _error(errno.EEXIST, os.fsencode(path))
        self._space(directory)
        self._add(directory, name, self.inode(stat.S_IFDIR | (mode & 0o7777)))

    def symlink(self, target: bytes | str, path: bytes | str, *, dir_fd: int | None = None) -> None:
        self.enter()
        directory, name = self._resolve(path, dir_fd)
        if name in directory.entries:
            raise _error(errno.EEXIST, os.fsencode(path))
        self._space(directory)
        self._add(directory, name, self.inode(stat.S_IFLNK | 0o777, os.fsencode(target)))

    def readlink(self, path: bytes | str, *, dir_fd: int | None = None) -> bytes:
        self.enter()
        found = self._find(path, dir_fd)
        if not stat.S_ISLNK(found.mode):
            raise _error(errno.EINVAL, os.fsencode(path))
        return found.data

    def _add(self, directory: Inode, name: bytes, inode: Inode) -> None:
        if directory.parent is None and directory is not self.root:
            raise _error(errno.ENOENT, name)
        self.place(directory, name, inode)
        directory.mtime_ns = directory.ctime_ns = self._stamp()
        self._tell(directory, linux.IN_CREATE | (linux.IN_ISDIR if inode.is_dir else 0), name)

    def unlink(self, path: bytes | str, *, dir_fd: int | None = None) -> None:
        self.enter()
        directory, name = self._resolve(path, dir_fd)
        found = directory.entries.get(name)
        if found is None:
            raise _error(errno.ENOENT, os.fsencode(path))
        if found.is_dir:
            raise _error(errno.EISDIR, os.fsencode(path))
        if self.current is not None:
            self.witness.unlinked(self.current, found)
        self._remove(directory, name, found)

    def rmdir(self, path: bytes | str, *, dir_fd: int | None = None) -> None:
        self.enter()
        directory, name = self._resolve(path, dir_fd)
        found = directory.entries.get(name)
        if found is None:
            raise _error(errno.ENOENT, os.fsencode(path))
        if not found.is_dir:
            raise _error(errno.ENOTDIR, os.fsencode(path))
        if found.entries:
            raise _error(errno.ENOTEMPTY, os.fsencode(path))
        self._remove(directory, name, found)

    def _remove(self, directory: Inode, name: bytes, found: Inode) -> None:
        del directory.entries[name]
        directory.mtime_ns = directory.ctime_ns = self._stamp()
        self._gone(found)
        self._tell(directory, linux.IN_DELETE | (linux.IN_ISDIR if found.is_dir else 0), name)

    def _gone(self, found: Inode) -> None:
        """`found` has lost its last name."""
        found.parent = None
        for inotify, watch in list(found.watches.items()):
            self._post(inotify, watch, linux.IN_IGNORED, 0, b"")
            del inotify.watches[watch]
        found.watches.clear()
        if not any(opened.inode is found for opened in self._files.values()):
            heapq.heappush(self._free, found.ino)

    def rename(self, old: bytes | str, new: bytes | str) -> None:
        """Plain rename of absolute paths, replacing what stands there. Raises `OSError`."""
        self.enter()
        source, old_name = self._resolve(old, None)
        target, new_name = self._resolve(new, None)
        found, there = source.entries.get(old_name), target.entries.get(new_name)
        if found is None:
            raise _error(errno.ENOENT, os.fsencode(old))
        if there is found:
            return
        if there is not None:
            if found.is_dir != there.is_dir:
                raise _error(errno.EISDIR if there.is_dir else errno.ENOTDIR, os.fsencode(new))
            if there.entries:
                raise _error(errno.ENOTEMPTY, os.fsencode(new))
        self._rename(source, old_name, found, target, new_name)
        if there is not None:
            self._gone(there)

    def _rename(self, source: Inode, old_name: bytes, found: Inode, target: Inode, new_name: bytes) -> None:
        if found.is_dir and _within(target, found):
            raise _error(errno.EINVAL, old_name)
        del source.entries[old_name]
        self.place(target, new_name, found)
        self._renamed(source, old_name, found, target, new_name)

    def _renamed(self, source: Inode, old_name: bytes, found: Inode, target: Inode, new_name: bytes) -> None:
        found.ctime_ns = source.mtime_ns = source.ctime_ns = target.mtime_ns = target.ctime_ns = self._stamp()
        flag = linux.IN_ISDIR if found.is_dir else 0
        self._cookies += 1
        self._tell(source, linux.IN_MOVED_FROM | flag, old_name, self._cookies)
        self._tell(target, linux.IN_MOVED_TO | flag, new_name, self._cookies)
        if self.current is not None:
            path = self.visible(found)
            if path is not None:
                self.witness.appeared(self.current, path, found)

    def renameat2(self, olddirfd: int, old: bytes, newdirfd: int, new: bytes, flags: int) -> None:
        self.enter()
        source, old_name = self._resolve(old, olddirfd)
        target, new_name = self._resolve(new, newdirfd)
        found, there = source.entries.get(old_name), target.entries.get(new_name)
        if source.parent is None or target.parent is None:
            raise _error(errno.ENOENT, old)
        if found is None:
            raise _error(errno.ENOENT, old)
        if flags == linux.RENAME_NOREPLACE:
            if there is not None:
                raise _error(errno.EEXIST, new)
            self._rename(source, old_name, found, target, new_name)
            return
        if there is None:
            raise _error(errno.ENOENT, new)
        if (found.is_dir and _within(target, found)) or (there.is_dir and _within(source, there)):
            raise _error(errno.EINVAL, old)
        self.place(target, new_name, found)
        self.place(source, old_name, there)
        self._renamed(source, old_name, found, target, new_name)
        self._renamed(target, new_name, there, source, old_name)

    def stat(self, path: bytes | str, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> FileStat:
        self.enter()
        return FileStat(self._find(path, dir_fd))

    def fstat(self, fd: int) -> FileStat:
        self.enter()
        return FileStat(self._inode(fd))

    def chmod(self, path: bytes | str, mode: int) -> None:
        self.enter()
        self._chmod(self._find(path, None), mode)

    def fchmod(self, fd: int, mode: int) -> None:
        self.enter()
        self._chmod(self._inode(fd), mode)

    def _chmod(self, inode: Inode, mode: int) -> None:
        inode.mode = stat.S_IFMT(inode.mode) | (mode & 0o7777)
        inode.ctime_ns = self._stamp()
        self._tell_parent(inode, linux.IN_ATTRIB)

    def utime(self, path: bytes | str | int, *, ns: tuple[int, int]) -> None:
        self.enter()
        inode = self._inode(path) if isinstance(path, int) else self._find(path, None)
        inode.mtime_ns = ns[1]
        inode.ctime_ns = self._stamp()
        self._tell_parent(inode, linux.IN_ATTRIB)

    def listdir(self, path: bytes | str | int) -> list[str]:
        self.enter()
        inode = self._inode(path) if isinstance(path, int) else self._find(path, None)
        if not inode.is_dir:
            raise _error(errno.ENOTDIR)
        return [os.fsdecode(name) for name in inode.entries]

    def directories_in(self, fd: int) -> list[tuple[str, bool]]:
        self.enter()
        return [(os.fsdecode(name), inode.is_dir) for name, inode in self._inode(fd).entries.items()]

    # -------------------------------------------------------------------------------------------- linux

    def look(self, dir_fd: int, name: bytes) -> tuple[int, Stat, int]:
        self.enter()
        if not name or name == b".":
            found = self._inode(dir_fd)
        else:
            directory = self._inode(dir_fd)
            if not directory.is_dir:
                raise _error(errno.ENOTDIR, name)
            below = directory.entries.get(name)
            if below is None:
                raise _error(errno.ENOENT, name)
            found = below
        return found.mode, found.stat(), MOUNT_OF_DIRECTORIES if found.is_dir else MOUNT

    def open_beneath(self, root_fd: int, path: bytes, flags: int, mode: int = 0) -> int:
        self.enter()
        here = self._inode(root_fd)
        for part in path.split(b"/") if path else ():
            if stat.S_ISLNK(here.mode):
                raise _error(errno.ELOOP, path)
            if not here.is_dir:
                raise _error(errno.ENOTDIR, path)
            below = here.entries.get(part)
            if below is None:
                raise _error(errno.ENOENT, path)
            here = below
        return self._open(here, flags, False, path)

    def set_read_lease(self, fd: int) -> bool:
        self.enter()
        return self._inode(fd).writers == 0

    def hold_read_lease(self, fd: int) -> bool:
        if not self.set_read_lease(fd):
            return False
        self.leased.add(fd)
        return True

    def copy_range(self, src_fd: int, dst_fd: int, size: int) -> int:
        return self.write(dst_fd, self.read(src_fd, size)) if size else 0

    # -------------------------------------------------------------------------------------------- inotify

    def inotify_init(self) -> int:
        self.enter()
        inotify = Inotify(0)
        inotify.fd = self._descriptor(inotify, False)
        return inotify.fd

    def add_watch(self, fd: int, path: bytes, mask: int) -> int:
        self.enter()
        inotify, inode = self._files[fd].inode, self._find(path, None)
        assert isinstance(inotify, Inotify)
        if not inode.is_dir:
            raise _error(errno.ENOTDIR, path)
        watch = inode.watches.get(inotify)
        if watch is None:
            inotify.numbers += 1
            watch = inode.watches[inotify] = inotify.numbers
            inotify.watches[watch] = inode
        return watch

    def rm_watch(self, fd: int, watch: int) -> None:
        self.enter()
        inotify = self._files[fd].inode
        assert isinstance(inotify, Inotify)
        inode = inotify.watches.pop(watch, None)
        if inode is None:
            raise _error(errno.EINVAL)
        del inode.watches[inotify]
        self._post(inotify, watch, linux.IN_IGNORED, 0, b"")

    def overflow(self, directory: Inode) -> None:
        """The queues of those who watch `directory` have run over."""
        for inotify in directory.watches:
            inotify.queue.clear()
            self._post(inotify, -1, linux.IN_Q_OVERFLOW, 0, b"")

    def _tell_parent(self, inode: Inode, mask: int) -> None:
        if inode.parent is not None:
            self._tell(inode.parent, mask | (linux.IN_ISDIR if inode.is_dir else 0), inode.name)

    def _tell(self, directory: Inode, mask: int, name: bytes, cookie: int = 0) -> None:
        for inotify, watch in directory.watches.items():
            self._post(inotify, watch, mask, cookie, name)

    def _post(self, inotify: Inotify, watch: int, mask: int, cookie: int, name: bytes) -> None:
        event = (watch, mask, cookie, name)
        if inotify.queue and inotify.queue[-1] == event:
            return
        inotify.queue.append(event)
        if len(inotify.queue) == 1:
            self.loop.readable(inotify.fd, self.loop.rng.random() ** 3 * 0.003)

    def _events(self, inotify: Inotify, count: int) -> bytes:
        if not inotify.queue:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        packed = []
        while inotify.queue and count >= 272:
            watch, mask, cookie, name = inotify.queue.pop(0)
            padded = name + bytes(16 - len(name) % 16) if name else b""
            packed.append(_HEAD.pack(watch, mask, cookie, len(padded)) + padded)
            count -= len(packed[-1])
        return b"".join(packed)


def _within(inode: Inode | None, directory: Inode) -> bool:
    """Whether `inode` is `directory`, or below it."""
    while inode is not None and inode is not directory:
        inode = inode.parent
    return inode is not None


def _error(number: int, path: bytes = b"") -> OSError:
    return OSError(number, os.strerror(number), path)
