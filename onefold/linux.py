"""The Linux syscalls that Python lacks, bound thinly. Every one raises `OSError` with errno and the path it was given.

All are safe to call from any thread and give the GIL away while the kernel works.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import stat
import struct
import threading
from typing import Final

from onefold.core.model import Stat

RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2

IN_MODIFY: Final = 0x2
IN_ATTRIB: Final = 0x4
IN_CLOSE_WRITE: Final = 0x8
IN_MOVED_FROM: Final = 0x40
IN_MOVED_TO: Final = 0x80
IN_CREATE: Final = 0x100
IN_DELETE: Final = 0x200
IN_DELETE_SELF: Final = 0x400
IN_MOVE_SELF: Final = 0x800
IN_UNMOUNT: Final = 0x2000
IN_Q_OVERFLOW: Final = 0x4000
IN_IGNORED: Final = 0x8000
IN_ONLYDIR: Final = 0x01000000
IN_EXCL_UNLINK: Final = 0x04000000
IN_ISDIR: Final = 0x40000000

_AT_EMPTY_PATH: Final = 0x1000
_AT_SYMLINK_NOFOLLOW: Final = 0x100
_AT_NO_AUTOMOUNT: Final = 0x800
_STATX_BASIC_BTIME_MOUNT: Final = 0x7FF | 0x800 | 0x1000
_RESOLVE: Final = 0x01 | 0x02 | 0x04 | 0x08  # NO_XDEV, NO_MAGICLINKS, NO_SYMLINKS, BENEATH
_SYS_OPENAT2: Final = 437  # the same number on every architecture
_F_SETSIG: Final = 10

# Where every argument is an int, bytes or a ready ctypes value, ctypes' own conversion is right, and a quarter faster
# than going by `argtypes` (statx 2.3 instead of 3.0 us): those calls have none.
_libc = ctypes.CDLL(None, use_errno=True)
_c_renameat2 = _libc.renameat2
_c_statx = _libc.statx
_c_syncfs = _libc.syncfs
_c_syncfs.argtypes = (ctypes.c_int,)
_c_inotify_init1 = _libc.inotify_init1
_c_inotify_init1.argtypes = (ctypes.c_int,)
_c_inotify_add_watch = _libc.inotify_add_watch
_c_inotify_rm_watch = _libc.inotify_rm_watch
_c_inotify_rm_watch.argtypes = (ctypes.c_int, ctypes.c_int)
_c_openat2 = _libc.syscall
_c_openat2.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
_c_openat2.restype = ctypes.c_long


def _error(path: bytes | None = None, path2: bytes | None = None) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), path, None, path2)


def renameat2(olddirfd: int, old: bytes, newdirfd: int, new: bytes, flags: int) -> None:
    """Rename `old` in directory `olddirfd` to `new` in `newdirfd`, with RENAME_NOREPLACE or RENAME_EXCHANGE.

    Raises `FileExistsError` when RENAME_NOREPLACE finds something, `FileNotFoundError` when RENAME_EXCHANGE lacks
    either side, and `OSError` (EINVAL) on a file system that knows neither.
    """
    if _c_renameat2(olddirfd, old, newdirfd, new, flags):
        raise _error(old, new)


# ---------------------------------------------------------------------------------------------------- stat

_STATX_FIELDS = struct.Struct("=28xH2xQQ32xqI4xqI4xqI4x8xIIQ")
"""Of `struct statx`: mode, ino, size; btime, ctime, mtime as (seconds, nanoseconds); device; mount id."""


class _StatxBuffer(threading.local):
    """The kernel's answer, one buffer per thread: two threads never share one, and none is allocated per call."""

    def __init__(self) -> None:
        self.raw = bytearray(256)
        self.address = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(self.raw)))


_statx_buffer = _StatxBuffer()


def look(dir_fd: int, name: bytes, flags: int = _AT_SYMLINK_NOFOLLOW | _AT_NO_AUTOMOUNT) -> tuple[int, Stat, int]:
    """What `name` in directory `dir_fd` is, never following a symlink: (`st_mode` in full, `Stat`, mount).

    Two directories lie on one mount, and one file system, exactly if their mounts are equal. For anything else the
    mount is `mount_of_files` of its directory's (overlayfs gives files a device of their own). On a kernel before
    5.8 only the device tells. `btime_ns` is 0 on a file system without birth times.
    """
    buffer = _statx_buffer
    if _c_statx(dir_fd, name, flags, _STATX_BASIC_BTIME_MOUNT, buffer.address):
        raise _error(name)
    mode, ino, size, b_s, b_ns, c_s, c_ns, m_s, m_ns, major, minor, mount = _STATX_FIELDS.unpack_from(buffer.raw)
    where = mount << 64
    if mode & 0o170000 == 0o040000:
        where |= major << 32 | minor
    return (
        mode,
        Stat(
            ino,
            b_s * 1_000_000_000 + b_ns,
            m_s * 1_000_000_000 + m_ns,
            c_s * 1_000_000_000 + c_ns,
            size,
            mode & 0o777,
        ),
        where,
    )


def mount_of_files(mount: int) -> int:
    """The mount (see `look`) that files and symlinks in a directory on `mount` have."""
    return mount >> 64 << 64


def look_fd(fd: int) -> tuple[int, Stat, int]:
    """`look` at what is open as `fd`."""
    return look(fd, b"", _AT_EMPTY_PATH)


def stat_of(dir_fd: int, name: bytes) -> tuple[int, Stat]:
    """What `name` in directory `dir_fd` is, never following a symlink: (`st_mode` in full, `Stat`)."""
    return look(dir_fd, name)[:2]


def fstat_of(fd: int) -> tuple[int, Stat]:
    """What is open as `fd`: (`st_mode` in full, `Stat`)."""
    return look(fd, b"", _AT_EMPTY_PATH)[:2]


# ---------------------------------------------------------------------------------------------------- opening


def _openat2(root_fd: int, path: bytes, flags: int, mode: int) -> int:
    how = struct.pack("@QQQ", flags | os.O_CLOEXEC, mode, _RESOLVE)
    fd: int = _c_openat2(_SYS_OPENAT2, root_fd, path, how, 24)
    if fd < 0:
        raise _error(path)
    return fd


def _walk_open(root_fd: int, path: bytes, flags: int, mode: int) -> int:
    """`open_beneath` for a kernel without openat2: one component at a time, each opened without following."""
    mount = look_fd(root_fd)[2]
    *directories, last = path.split(b"/")
    at = root_fd
    try:
        for name in directories:
            below = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            if at != root_fd:
                os.close(at)
            at = below
            if look_fd(at)[2] != mount:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
        fd = os.open(last, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=at)
    finally:
        if at != root_fd:
            os.close(at)
    found_mode, _, found = look_fd(fd)
    if found != (mount if stat.S_ISDIR(found_mode) else mount_of_files(mount)):
        os.close(fd)
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    return fd


def _has_openat2() -> bool:
    """Whether the kernel (5.6 or newer) has openat2 and no seccomp filter of a container denies it."""
    root = os.open(b"/", os.O_PATH | os.O_DIRECTORY)
    try:
        os.close(_openat2(root, b".", os.O_PATH, 0))
    except OSError as e:
        if e.errno in (errno.ENOSYS, errno.EPERM):
            return False
        raise
    finally:
        os.close(root)
    return True


_open = _openat2 if _has_openat2() else _walk_open


def open_beneath(root_fd: int, path: bytes, flags: int, mode: int = 0) -> int:
    """Open `path` below directory `root_fd` (empty: itself), through no symlink and onto no other mount.

    `mode` only with O_CREAT. The descriptor is close-on-exec. Raises `OSError`: EXDEV for another mount; ELOOP or
    ENOTDIR when a component is a symlink or no directory.
    """
    return _open(root_fd, path or b".", flags, mode)


# ---------------------------------------------------------------------------------------------------- inotify


def inotify_init() -> int:
    """A new inotify descriptor, non-blocking. Raises `OSError` (EMFILE: fs.inotify.max_user_instances)."""
    fd: int = _c_inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise _error()
    return fd


def add_watch(fd: int, path: bytes, mask: int) -> int:
    """Watch `path`; returns the watch. One inode has one watch, whatever path it is given by.

    Raises `OSError` (ENOSPC: fs.inotify.max_user_watches).
    """
    watch: int = _c_inotify_add_watch(fd, path, mask)
    if watch < 0:
        raise _error(path)
    return watch


def rm_watch(fd: int, watch: int) -> None:
    """End a watch. Raises `OSError` (EINVAL) when it has ended already, as with the directory's removal."""
    if _c_inotify_rm_watch(fd, watch):
        raise _error()


# ---------------------------------------------------------------------------------------------------- the rest


def set_read_lease(fd: int) -> bool:
    """Whether nobody has the file open for writing, told by taking a read lease and giving it back at once.

    `fd` must be open for reading only. False: some process (this one included) can still write to it. Where leases do
    not exist (many network file systems) or are not allowed (a file of another user, without CAP_LEASE) the answer is
    True, for nothing more can be known: so compare `fstat_of(fd)` again after the unlink.

    Whoever opens the file for writing within these microseconds waits for us (or, with O_NONBLOCK, gets EWOULDBLOCK),
    and the kernel signals us. The default signal, SIGIO, would kill the process; SIGURG is ignored unless a handler is
    set, and needs no process-wide change.
    """
    if not hold_read_lease(fd):
        return False
    with contextlib.suppress(OSError):  # there was none to be had
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


def hold_read_lease(fd: int) -> bool:
    """As `set_read_lease`, but kept until `fd` is closed: whoever opens the file for writing waits until then."""
    try:
        fcntl.fcntl(fd, _F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as e:
        if e.errno == errno.EAGAIN:
            return False
        if e.errno in (errno.EINVAL, errno.EACCES, errno.ENOLCK, errno.EOPNOTSUPP, errno.EPERM):
            return True
        raise
    return True


def syncfs(fd: int) -> None:
    """Write everything of the file system that holds `fd` to its disk. Raises `OSError`, also for earlier failures."""
    if _c_syncfs(fd):
        raise _error()


_COPY_BYTES = 1 << 20
_NO_COPY_RANGE = frozenset((errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM))


def copy_range(src_fd: int, dst_fd: int, size: int) -> int:
    """Copy up to `size` bytes between the current offsets, sharing blocks where the file system can.

    Returns the bytes copied: fewer than `size` exactly if the source ended.
    """
    copied = 0
    try:
        while copied < size:
            done = os.copy_file_range(src_fd, dst_fd, size - copied)
            if not done:
                break
            copied += done
    except OSError as e:
        if e.errno not in _NO_COPY_RANGE:
            raise
    # Whatever is missing now is at the end of the source, or cannot be had by copy_file_range (which answers 0 for
    # some virtual files): plain reads tell.
    while copied < size:
        block = memoryview(os.read(src_fd, min(_COPY_BYTES, size - copied)))
        if not block:
            break
        while block:
            done = os.write(dst_fd, block)
            copied += done
            block = block[done:]
    return copied


def boot_id() -> str:
    """Changes with each boot of the machine, and only then."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as f:
        return f.read().strip()
