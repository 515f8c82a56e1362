"""The materialiser's hands: the folder by descriptors, the temporaries, and the judgement of what came out of it.

Everything is reached from the root's descriptor, through no symlink and onto no other mount. A temporary is named after
the id and its use, so that after a crash its name tells what it is:

  `<id>.n`  a new file; after the exchange, what it was exchanged for
  `<id>.a`  moved aside, to be fetched
  `<id>.d`  taken out of the folder, to be judged and removed
  `<hash of the path>.s`  taken out of the folder, to be kept as a stray

A new file carries the sticky bit (which means nothing on a file) until it is complete.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from typing import Final, Protocol

import msgspec
from blake3 import blake3

from onefold import linux
from onefold.core.model import BaseRow, Id, Kind, Row, Shift, Stat
from onefold.core.paths import META, RelPath
from onefold.disk import trouble
from onefold.edge.reasons import CHANGED, HELD, Stop

UNFINISHED: Final = stat.S_ISVTX
YOUNG_NS: Final = 20_000_000
"""Two writes within this may leave the same mtime."""
RECENT_NS: Final = 2_000_000_000
"""After this, a file whose stat was too young has been looked at again."""
TRIES: Final = 3
"""How often a place that others keep taking is tried for."""

_TEMPORARIES = META + b"/tmp"
_BLOCK_BYTES = 1 << 20
_PIECE_BYTES = 8 << 20
_DIRECTORIES_MAX = 256
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_HANDLE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.DIRECTORY, stat.S_IFLNK: Kind.SYMLINK}


class StrayKeeper(Protocol):
    """Who keeps bytes aside."""

    def add(self, dir_fd: int, name: bytes, path: RelPath, reason: str) -> None:
        """Take over what stands as `name` in `dir_fd` and once stood at `path`. Raises `OSError`: nothing was taken."""
        ...


class Verdict(Enum):
    """What came out of the folder, against the base: the same; the same bytes with other attributes; an edit; the same
    by all that can be told, but some program can still write to it."""

    SAME = auto()
    TOUCHED = auto()
    EDITED = auto()
    HELD = auto()


class Workspace:
    """The folder at `root`, its temporaries and its strays. One thread at a time."""

    def __init__(self, root: bytes, strays: StrayKeeper) -> None:
        self.strays = strays
        self._directories: dict[bytes, int] = {}
        self._unlocked: list[tuple[int, int]] = []
        self.root = -1
        try:
            self.root = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            for path in (META, _TEMPORARIES):
                with suppress(FileExistsError):
                    os.mkdir(path, 0o700 if path == _TEMPORARIES else 0o755, dir_fd=self.root)
            self.tmp = linux.open_beneath(self.root, _TEMPORARIES, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            if self.root >= 0:
                os.close(self.root)
            place = os.fsdecode(root)
            raise trouble(f"cannot work in the folder {place}", Path(place), error) from error

    def close(self) -> None:
        self.forget()
        os.close(self.tmp)
        os.close(self.root)

    # directories

    def directory(self, path: bytes) -> int:
        """A descriptor of directory `path`, kept until `forget`. Raises `OSError`."""
        fd = self._directories.get(path)
        if fd is None:
            fd = self._directories[path] = linux.open_beneath(self.root, path, _HANDLE | os.O_DIRECTORY)
        return fd

    def locate(self, path: RelPath) -> tuple[int, bytes]:
        """The directory that holds `path`, open, and its name there. Raises `OSError`, and `Stop` where we live."""
        directory, _, name = path.rpartition(b"/")
        if path.startswith(META) and path.parts[0] == META:
            raise Stop("the name .onefold in the root is Onefold's own")
        return self.directory(directory), name

    def trim(self) -> None:
        """Forget the directories when there are many: between two actions, since one may need two of them at once."""
        if len(self._directories) > _DIRECTORIES_MAX:
            self.forget()

    def forget(self) -> None:
        """Directories were moved: every path is looked up anew."""
        for fd in self._directories.values():
            os.close(fd)
        self._directories.clear()

    def missing(self, path: RelPath) -> RelPath:
        """The topmost part of `path` that is no directory of the folder; `path` itself when all above it is there."""
        at = RelPath(b"")
        for part in path.parts[:-1]:
            at = at.child(part)
            try:
                os.close(linux.open_beneath(self.root, at, _HANDLE | os.O_DIRECTORY))
            except OSError:
                return at
        return path

    def unlock(self, path: RelPath) -> bool:
        """Open, for our owner, the directories that lead to `path`, and `path` if it is one, until `relock`.

        Answers whether any had been closed.
        """
        at = self.root
        opened = []
        before = len(self._unlocked)
        try:
            for part in path.parts:
                try:
                    at = os.open(part, _HANDLE | os.O_DIRECTORY, dir_fd=at)
                except OSError:
                    break
                opened.append(at)
                found = os.fstat(at)
                if found.st_mode & 0o300 != 0o300 and found.st_uid == os.geteuid():
                    os.chmod(_link(at), stat.S_IMODE(found.st_mode) | 0o300)
                    self._unlocked.append((at, stat.S_IMODE(found.st_mode)))
                    opened.pop()
        finally:
            for fd in opened:
                os.close(fd)
        return len(self._unlocked) > before

    def relock(self) -> None:
        while self._unlocked:
            fd, mode = self._unlocked.pop()
            # Only another owner could refuse, and then the directory is no longer ours to close.
            with suppress(PermissionError):
                os.chmod(_link(fd), mode)
            os.close(fd)

    # what stands there

    def judge(self, dir_fd: int, name: bytes, base: BaseRow, fd: int | None = None, ctime_ns: int = -1) -> Verdict:
        """What `name` in `dir_fd` is, against `base`. `fd`: it may be open already, for reading. `ctime_ns`: as it was
        before we renamed it; unless that is the base's, the content is read, for mtime can be set back. Raises
        `OSError`.

        Nobody can open it for writing by its name any more, so first it is asked who still can, and then what it is.
        """
        mode, found = linux.stat_of(dir_fd, name)
        kind = kind_of(mode)
        if kind is not base.kind:
            return Verdict.EDITED
        if kind is Kind.SYMLINK:
            return Verdict.SAME if os.readlink(name, dir_fd=dir_fd) == base.content else Verdict.EDITED
        if kind is not Kind.FILE or not base.content:
            # A base without content: what stands there is known to be an edit.
            return Verdict.EDITED
        mine = None
        if fd is None or os.fstat(fd).st_ino != found.ino:
            try:
                fd = mine = os.open(name, _READ, dir_fd=dir_fd)
            except PermissionError:
                # A file that even we may not read: nobody is asked, and only its stat is left to tell.
                return Verdict.SAME if found.unchanged(base.stat) else Verdict.EDITED
        try:
            held = not linux.set_read_lease(fd)
            found = linux.fstat_of(fd)[1]
            if ctime_ns != base.stat.ctime_ns or not found.unchanged(base.stat) or _too_young(base.stat):
                if found.size != base.size or digest_of(fd) != base.content:
                    return Verdict.EDITED
                if not held and (found.mode, found.mtime_ns) != (base.mode, base.mtime_ns):
                    return Verdict.TOUCHED
            return Verdict.HELD if held else Verdict.SAME
        finally:
            if mine is not None:
                os.close(mine)

    def holds(self, dir_fd: int, name: bytes, row: Row | BaseRow) -> Stat | None:
        """The stat of `name` in `dir_fd` if it has the kind and content of `row`, and nobody can write to it now."""
        try:
            mode, found = linux.stat_of(dir_fd, name)
            kind = kind_of(mode)
            if kind is not row.kind:
                return None
            if kind is Kind.SYMLINK:
                return found if os.readlink(name, dir_fd=dir_fd) == row.content else None
            if kind is Kind.DIRECTORY:
                return found
            if found.size != row.size:
                return None
            fd = os.open(name, _READ, dir_fd=dir_fd)
        except (FileNotFoundError, PermissionError):
            return None
        try:
            found = linux.fstat_of(fd)[1]
            return found if linux.set_read_lease(fd) and digest_of(fd) == row.content else None
        finally:
            os.close(fd)

    def dress(self, dir_fd: int, name: bytes, row: Row, expected: Stat) -> Stat:
        """Give what stands there the mode of `row`, and a file its mtime; returns its stat then.

        `expected`: the stat of what was found to be `row`, from before it was looked at. Raises `Stop` if it was
        written to since, or another file has taken its place: that must not come to look like it. A file is leased
        meanwhile, so that nobody opens it for writing before the stat is taken that the base will believe.
        """
        fd = os.open(name, _HANDLE, dir_fd=dir_fd)
        reader = None
        try:
            mode, found = linux.fstat_of(fd)
            if row.kind is Kind.FILE and (found.mode, found.mtime_ns) != (row.mode, row.mtime_ns):
                with suppress(PermissionError):  # even we may not read it: nobody can be asked
                    reader = os.open(name, _READ, dir_fd=dir_fd)
                if reader is not None and not linux.hold_read_lease(reader):
                    raise Stop(HELD)
                mode, found = linux.fstat_of(fd)
            if not found.same_file(expected) or (row.kind is Kind.FILE and found.ctime_ns != expected.ctime_ns):
                raise Stop(CHANGED)
            if reader is not None and os.fstat(reader).st_ino != found.ino:
                raise Stop(CHANGED)
            if row.kind is not Kind.SYMLINK and found.mode != row.mode:
                special = mode & 0o7000 if row.kind is Kind.DIRECTORY else 0
                os.chmod(_link(fd), special | row.mode)
            if row.kind is Kind.FILE and found.mtime_ns != row.mtime_ns:
                os.utime(_link(fd), ns=(row.mtime_ns, row.mtime_ns))
            return linux.fstat_of(fd)[1]
        finally:
            if reader is not None:
                os.close(reader)
            os.close(fd)

    # out of the way

    def keep(self, name: bytes, path: RelPath, reason: str) -> None:
        """Make a stray of temporary `name`, which stood at `path`. Raises `OSError`."""
        self.strays.add(self.tmp, name, path, reason)

    def take_out(self, parent: int, name: bytes, out: bytes) -> None:
        """Rename `name` in `parent` to temporary `out`. Raises `OSError`."""
        linux.renameat2(parent, name, self.tmp, out, linux.RENAME_NOREPLACE)

    def give_back(self, parent: int, name: bytes, out: bytes, path: RelPath) -> None:
        """Undo `take_out`; if the place was taken meanwhile, it becomes a stray."""
        try:
            linux.renameat2(self.tmp, out, parent, name, linux.RENAME_NOREPLACE)
        except FileExistsError:
            self.keep(out, path, "another file took its place")

    def remove(self, name: bytes) -> None:
        """Remove temporary `name`."""
        os.unlink(name, dir_fd=self.tmp)


def kind_of(mode: int) -> Kind | None:
    """The kind that `st_mode` says; None for sockets, pipes and devices."""
    return _KINDS.get(stat.S_IFMT(mode))


def digest_of(fd: int) -> bytes:
    """The digest of all that `fd` can read, from the start."""
    os.lseek(fd, 0, os.SEEK_SET)
    hasher = blake3()
    while block := os.read(fd, _BLOCK_BYTES):
        hasher.update(block)
    return hasher.digest()


def open_to_read(dir_fd: int, name: bytes) -> int | None:
    """`name` open for reading if it is a file that we may read; None if it is a symlink, a socket, or closed to us.

    Raises `FileNotFoundError`, and `OSError`.
    """
    try:
        return os.open(name, _READ, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EACCES, errno.ENXIO):
            return None
        raise


def inherit(new: int, old: int) -> None:
    """Give the new file the owner, group and extended attributes of the one it replaces, as far as we may."""
    ours, theirs = os.fstat(new), os.fstat(old)
    if (ours.st_uid, ours.st_gid) != (theirs.st_uid, theirs.st_gid):
        # What is not allowed stays as it is: owners are not replicated, this is courtesy.
        with suppress(PermissionError):
            os.chown(new, theirs.st_uid, theirs.st_gid)
    try:
        names = os.listxattr(old)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return
    for name in names:
        with suppress(OSError):  # a namespace that is not ours to write, or gone since
            os.setxattr(new, name, os.getxattr(old, name))


def new_name(id: Id) -> bytes:
    return b"%x.n" % id


def aside_name(id: Id) -> bytes:
    return b"%x.a" % id


def dropped_name(id: Id) -> bytes:
    return b"%x.d" % id


def stray_name(path: bytes) -> bytes:
    return blake3(path).hexdigest(8).encode() + b".s"


def copy_file(source: Path, fd: int, row: Row) -> bool:
    """Copy `source` into `fd`; whether that gave the content of `row`. It may be a file that someone writes to.

    The memory that caches `source` is given back piece by piece: it is not soon read again, and what is written takes
    that memory at once. New memory can cost a virtual machine eight times the copying.
    """
    copied = 0
    with open(source, "rb", buffering=0) as file:
        while count := linux.copy_range(file.fileno(), fd, min(_PIECE_BYTES, row.size - copied)):
            os.posix_fadvise(file.fileno(), copied, count, os.POSIX_FADV_DONTNEED)
            copied += count
    return copied == row.size and digest_of(fd) == row.content


def base_row(row: Row, found: Stat) -> BaseRow:
    """The base's row for `row`, which stands in the folder as `found`."""
    return BaseRow(
        row.id, row.parent, row.name, row.kind, row.version, row.placed,
        row.mode, row.mtime_ns, row.size, row.content, found,
    )  # fmt: skip


def moved_stat(base: BaseRow, ctime_ns: int, found: Stat) -> Stat:
    """The stat for the base of what was moved, and stands there as `found`; before, its ctime was `ctime_ns`.

    An edit made before must stay visible, also one whose mtime was set back.
    """
    whole = base.kind is Kind.DIRECTORY or ctime_ns == base.stat.ctime_ns
    return found if whole and found.unchanged(base.stat) else base.stat


def moved_row(action: Shift, base: BaseRow, ctime_ns: int, found: Stat) -> BaseRow:
    """The base's row for what `action` moved, and stands there as `found`. Before, it was `base` with `ctime_ns`."""
    return msgspec.structs.replace(
        base,
        parent=action.parent,
        name=bytes(action.path.name),
        placed=action.placed,
        stat=moved_stat(base, ctime_ns, found),
    )


def _too_young(found: Stat) -> bool:
    """Whether a write right after `found` was taken may have left it as it is.

    A file of which mtime and ctime are far apart had its mtime set by someone; any write would have brought them
    together.
    """
    return abs(found.ctime_ns - found.mtime_ns) < YOUNG_NS and time.time_ns() - found.mtime_ns < RECENT_NS


def _link(fd: int) -> str:
    """The path by which the very inode open as `fd` can be changed, whatever `fd` was opened for."""
    return f"/proc/self/fd/{fd}"
