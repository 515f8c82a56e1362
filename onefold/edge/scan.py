"""Looks at the folder, and answers present, absent or unknown.

The rules, each against a way of losing data:

- *Absent* is said only when the name is missing (or a parent is, or is no directory) in a folder that is itself still
  there: its path leads to the directory we opened, and its id file stands. Anything else that fails is *unknown*.
- A version is a read with equal stat before and after it. What will not rest is `CHANGING`, and can be copied by
  `observe_snapshot`.
- Nothing is reached through a symlink or on another mount, and nothing but a regular file is ever opened to be read.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pathspec
from blake3 import blake3
from pathspec.patterns.gitignore import GitIgnorePatternError

from onefold import linux
from onefold.core.model import Absent, BaseRow, Kind, Observed, Present, Stat, Unknown
from onefold.core.paths import META, RelPath, show
from onefold.disk import trouble
from onefold.edge.reread import Rereading
from onefold.ports import CHANGING, LARGE, Listing

IGNORE_FILE = b".onefoldignore"
ID_FILE = META + b"/id"
SMALL_BYTES_MAX = 256 * 1024

_SETTLED_NS = 20_000_000
_REST_NS = 300_000_000_000
"""Stores through mmap into a page that is dirty already leave no trace until it is written to the disk: half a minute
(`vm.dirty_expire_centisecs`) or so. Ten times that, for disks that are busy."""
_TRIES = 2
_READ_BYTES = 1 << 20
_PARENT_TRUST_S = 0.005
"""How long a directory opened by path is taken to be there still. Renamed within, it raises events of its own."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NOT_THERE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))
_SPECIAL = {stat.S_IFSOCK: "socket", stat.S_IFIFO: "pipe", stat.S_IFBLK: "device", stat.S_IFCHR: "device"}
_MOUNTED = Unknown("another file system is mounted there, which is not replicated; unmount it")


class _Session(threading.local):
    """Of one thread: the directory last opened, and how many sessions are open around us."""

    depth = 0
    parent = b""
    fd = -1
    opened_at = 0.0
    rules_checked = False

    def forget(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


class FolderScanner:
    """Implements `ports.Scanner` on the directory `root`. Safe to call from any thread.

    Files up to `small_bytes_max` bytes come with their data. Raises `DiskTrouble` when `root` cannot be opened.
    """

    def __init__(self, root: bytes, small_bytes_max: int = SMALL_BYTES_MAX) -> None:
        self._root = root
        self._small_bytes_max = small_bytes_max
        try:
            self._root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as e:
            raise trouble(f"the folder {show(root)} cannot be opened", Path(os.fsdecode(root)), e) from e
        _, found, self._mount = linux.look_fd(self._root_fd)
        self._root_ino = found.ino
        self._mount_of_files = linux.mount_of_files(self._mount)
        self._session = _Session()
        self._rules = _Rules(self._root_fd)

    def close(self) -> None:
        """Release the folder."""
        os.close(self._root_fd)

    @contextmanager
    def session(self) -> Iterator[None]:
        """Around the observations of one batch, in one thread: opens a directory, and reads `.onefoldignore`, once."""
        session = self._session
        session.depth += 1
        session.rules_checked = False
        try:
            yield
        finally:
            session.depth -= 1
            if not session.depth:
                session.forget()

    # ------------------------------------------------------------------------------------------------ looking

    def observe(self, path: RelPath, known: BaseRow | None, content: bool, large: bool = False) -> Observed:
        """What stands at `path`.

        With `known` whose stat still holds and `content` False, nothing is read and the known content
        is repeated; unless the stat is so young (20 ms) that a write may not show in it. Without `large`, `LARGE` is
        answered rather than more than `small_bytes_max` read.
        """
        parent, _, name = path.rpartition(b"/")
        try:
            fd = self._parent(parent)
            try:
                for _ in range(_TRIES):
                    observed = self._observe(fd, name or b".", known, content, large)
                    if observed is not None:
                        return observed
                return CHANGING
            finally:
                if not self._session.depth:
                    self._session.forget()
        except OSError as e:
            return self._failed(e)

    def observe_snapshot(self, path: RelPath, destination: Path) -> Observed:
        """Copy the file at `path`, as long as it is now, to the new file `destination`, and answer for that copy.

        For a file that never rests. `content` and `stat.size` are those of the copy; the other fields of `stat` are of
        before the copying, so that anything written since shows; `settled` is always False. Answers as `observe` does
        when no regular file stands there; `destination` is then not made. Raises `OSError` for trouble with the copy.
        """
        opened = self._open_file(path)
        if opened is None:
            return self.observe(path, None, True, True)
        if isinstance(opened, Absent | Unknown):
            return opened
        fd, _ = opened
        try:
            mode, seen = linux.fstat_of(fd)
            if not stat.S_ISREG(mode):
                return CHANGING
            hasher = blake3()
            with destination.open("xb") as copy:
                size = 0
                while size < seen.size:
                    try:
                        block = os.read(fd, min(_READ_BYTES, seen.size - size))
                    except OSError as e:
                        destination.unlink()
                        return self._failed(e)
                    if not block:
                        break
                    hasher.update(block)
                    copy.write(block)
                    size += len(block)
        finally:
            os.close(fd)
        taken = Stat(seen.ino, seen.btime_ns, seen.mtime_ns, seen.ctime_ns, size, seen.mode)
        data = destination.read_bytes() if size <= self._small_bytes_max else None
        return Present(Kind.FILE, taken, hasher.digest(), data, settled=False)

    def reread(self, path: RelPath) -> FileRereading | Observed:
        """The file at `path`, to be read again whatever its stat says; or what else stands there."""
        opened = self._open_file(path)
        if opened is None:
            return self.observe(path, None, False)
        return opened if isinstance(opened, Absent | Unknown) else FileRereading(*opened)

    def _open_file(self, path: RelPath) -> tuple[int, Stat] | Absent | Unknown | None:
        """The regular file at `path`, open, and its stat before that. None when something else stands there."""
        parent, _, name = path.rpartition(b"/")
        try:
            directory = self._parent(parent)
            try:
                mode, seen, mount = linux.look(directory, name or b".")
                if not stat.S_ISREG(mode) or mount != self._mount_of_files:
                    return None
                return self._open(directory, name), seen
            finally:
                if not self._session.depth:
                    self._session.forget()
        except OSError as e:
            return self._failed(e)

    def listing(self, path: RelPath) -> Listing | Observed:
        """The names in directory `path`, sorted; or what stands there instead."""
        try:
            fd = linux.open_beneath(self._root_fd, path, _DIRECTORY)
        except OSError as e:
            if e.errno in (errno.ENOTDIR, errno.ELOOP):
                return self.observe(path, None, False)
            return self._failed(e)
        try:
            if linux.look_fd(fd)[2] != self._mount:
                return _MOUNTED
            names = [os.fsencode(name) for name in os.listdir(fd)]
        except OSError as e:
            return self._failed(e)
        finally:
            os.close(fd)
        # A name not listed counts as absent, so the folder must be there after the listing.
        missing = self._missing()
        if missing is not None:
            return missing
        names.sort()
        if not path and META in names:
            names.remove(META)
        return Listing(tuple(names))

    def ignored(self, path: RelPath, directory: bool) -> bool:
        """Whether `.onefoldignore` hides `path`. Ask only for paths that the base does not hold."""
        session = self._session
        if not session.depth or not session.rules_checked:
            self._rules.refresh()
            session.rules_checked = True
        return self._rules.hide(path, directory)

    def rules_problem(self) -> str:
        """What is wrong with `.onefoldignore`, as of the last `ignored`; "" for nothing."""
        return self._rules.problem

    # ------------------------------------------------------------------------------------------------ one name

    def _parent(self, path: bytes) -> int:
        """A descriptor of directory `path`, ours until the session ends or another directory is asked for."""
        if not path:
            return self._root_fd
        session = self._session
        now = time.monotonic()
        if session.fd >= 0 and session.parent == path and now - session.opened_at < _PARENT_TRUST_S:
            return session.fd
        session.forget()
        session.fd = linux.open_beneath(self._root_fd, path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        session.parent, session.opened_at = path, now
        return session.fd

    def _observe(
        self, directory: int, name: bytes, known: BaseRow | None, content: bool, large: bool
    ) -> Observed | None:
        """What `name` in `directory` is; None when it changed during the reading. Raises `OSError`."""
        mode, seen, mount = linux.look(directory, name)
        kind = stat.S_IFMT(mode)
        if kind == stat.S_IFDIR:
            return Present(Kind.DIRECTORY, seen, b"") if mount == self._mount else _MOUNTED
        if mount != self._mount_of_files:
            return _MOUNTED
        if kind == stat.S_IFREG:
            if (
                known is not None
                and not content
                and known.kind is Kind.FILE
                and _same_content(known.stat, seen)
                and abs(time.time_ns() - seen.mtime_ns) >= _SETTLED_NS
            ):
                return Present(Kind.FILE, seen, known.content)
            if seen.size > self._small_bytes_max and not large:
                return LARGE
            return self._read(directory, name, seen)
        if kind == stat.S_IFLNK:
            target = os.readlink(name, dir_fd=directory)
            # A symlink never changes, but another may have taken its place between the two calls.
            return Present(Kind.SYMLINK, seen, target) if linux.look(directory, name)[1].same_file(seen) else None
        return Unknown(f"a {_SPECIAL.get(kind, 'special file')} is not replicated")

    def _read(self, directory: int, name: bytes, seen: Stat) -> Present | None:
        """Hash the file that was `seen`; None when it was written to, or another one stands there. Raises `OSError`."""
        fd = self._open(directory, name)
        try:
            if not _is(seen, os.fstat(fd)):
                return None
            # The clock is read first: a write that shares its tick with the stat can then only be taken for younger.
            now = time.time_ns()
            data: bytes | None = None
            if seen.size <= self._small_bytes_max:
                data = os.read(fd, seen.size + 1)
                if len(data) != seen.size or not _is(seen, os.fstat(fd)):
                    return None
                digest = blake3(data).digest()
            else:
                hasher = blake3()
                left = seen.size
                buffer = memoryview(bytearray(min(_READ_BYTES, left)))
                while left:
                    got = os.readv(fd, [buffer])
                    if not got or got > left or not _is(seen, os.fstat(fd)):
                        return None
                    hasher.update(buffer[:got])
                    left -= got
                if not _is(seen, os.fstat(fd)):
                    return None
                digest = hasher.digest()
        finally:
            os.close(fd)
        settled = abs(now - seen.mtime_ns) >= _SETTLED_NS and abs(now - seen.ctime_ns) >= _SETTLED_NS
        return Present(Kind.FILE, seen, digest, data, settled)

    @staticmethod
    def _open(directory: int, name: bytes) -> int:
        """Open a file to read, leaving its atime alone where it is ours. Raises `OSError`."""
        try:
            return os.open(name, _READ | os.O_NOATIME, dir_fd=directory)
        except PermissionError:
            return os.open(name, _READ, dir_fd=directory)

    # ------------------------------------------------------------------------------------------------ failing

    def _failed(self, e: OSError) -> Absent | Unknown:
        if e.errno in _NOT_THERE:
            return self._missing() or Absent()
        if e.errno == errno.EXDEV:
            return _MOUNTED
        if e.errno == errno.EAGAIN:
            return CHANGING  # another process holds a lease on it, and has been told to give it back
        if e.errno in (errno.EACCES, errno.EPERM):
            return Unknown("permission denied; give the node read access")
        return Unknown(f"it cannot be read: {os.strerror(e.errno or errno.EIO)}")

    def _missing(self) -> Unknown | None:
        """Why the folder itself is not (all) there, so that nothing in it can be called absent; None when it is."""
        try:
            found = os.stat(self._root)
        except OSError as e:
            return Unknown(f"the folder {show(self._root)} is not there: {e.strerror}")
        if found.st_ino != self._root_ino or found.st_dev != os.fstat(self._root_fd).st_dev:
            return Unknown(f"another directory stands at {show(self._root)}: is a disk mounted, or not mounted, there?")
        try:
            os.stat(ID_FILE, dir_fd=self._root_fd, follow_symlinks=False)
        except OSError as e:
            return Unknown(f"the folder's id file {show(ID_FILE)} cannot be found: {e.strerror}")
        return None


class FileRereading(Rereading):
    """A file of the folder, which was `seen` so, read again."""

    def __init__(self, fd: int, seen: Stat) -> None:
        super().__init__(fd)
        self._seen = seen

    def observed(self) -> tuple[Observed, bool]:
        """What was read, after the last slice; and whether it is at rest (`core.inspect`)."""
        held = not linux.set_read_lease(self.fd)  # before the last look: who was quicker shows in it
        now = time.time_ns()
        if self.size() != self._seen.size or not _is(self._seen, os.fstat(self.fd)):
            return CHANGING, False
        old = abs(now - self._seen.mtime_ns) >= _REST_NS and abs(now - self._seen.ctime_ns) >= _REST_NS
        return Present(Kind.FILE, self._seen, self.digest()), old and not held


def _same_content(known: Stat, seen: Stat) -> bool:
    """Whether nothing was written between the two. A change of the mode may hide one, and of the mtime that was then
    set back: both show in ctime."""
    return known.unchanged(seen) and known.ctime_ns == seen.ctime_ns


def _is(seen: Stat, now: os.stat_result) -> bool:
    """Whether the open file is the one seen, with not a write in between. ctime also shows writes through mmap whose
    mtime was set back."""
    return (
        now.st_ino == seen.ino
        and now.st_mtime_ns == seen.mtime_ns
        and now.st_ctime_ns == seen.ctime_ns
        and now.st_size == seen.size
    )


class _Rules:
    """`.onefoldignore` in the root, in the syntax of gitignore, as last read.

    A line that is no pattern hides nothing. While the file cannot be read, the rules read before hold: to hide nothing
    then would publish what was hidden.
    """

    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd
        self._stamp: tuple[int, int, int] | None = None
        self._match: Callable[[str], bool] | None = None
        self.problem = ""

    def refresh(self) -> None:
        """Read the file again if it changed."""
        try:
            found = os.stat(IGNORE_FILE, dir_fd=self._root_fd, follow_symlinks=False)
        except FileNotFoundError:
            self._stamp, self._match, self.problem = None, None, ""
            return
        except OSError as e:
            self.problem = f"{show(IGNORE_FILE)} cannot be read: {e.strerror}"
            return
        stamp = (found.st_ino, found.st_ctime_ns, found.st_size)
        if stamp == self._stamp and abs(time.time_ns() - found.st_ctime_ns) >= _SETTLED_NS:
            return
        try:
            fd = os.open(IGNORE_FILE, _READ, dir_fd=self._root_fd)
            with open(fd, "rb") as f:
                lines = os.fsdecode(f.read()).splitlines()
        except OSError as e:
            self.problem = f"{show(IGNORE_FILE)} cannot be read: {e.strerror}"
            return
        self._stamp = stamp
        self._compile(lines)

    def _compile(self, lines: list[str]) -> None:
        good, self.problem = [], ""
        for number, line in enumerate(lines, 1):
            try:
                pathspec.GitIgnoreSpec.from_lines([line])
            except GitIgnorePatternError:
                self.problem = f"line {number} of {show(IGNORE_FILE)} is no pattern and hides nothing"
            else:
                good.append(line)
        self._match = pathspec.GitIgnoreSpec.from_lines(good).match_file if good else None

    def hide(self, path: RelPath, directory: bool) -> bool:
        """Whether the rules hide `path`."""
        match = self._match
        return match is not None and match(os.fsdecode(path) + ("/" if directory else ""))
