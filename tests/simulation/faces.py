"""The kernel with the faces that the real edges know: `os`, `onefold.linux`, `time`, `secrets`, `open`, `Path`.

`installed` puts them into the modules of the edges and the node that a simulated machine runs. Nothing else of `os`
can be reached there but constants and what only computes.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any, Self

from onefold import linux
from onefold.core import request, wire
from onefold.core.model import Stat
from onefold.edge import make, materialise, move, recover, scan, watch, watched, workspace
from onefold.node import append, fetch, give, large, lead, look, place, propose, read, trim, write
from simulation.kernel import Kernel

_COMPUTES = frozenset(("fsencode", "fsdecode", "strerror", "path"))
_CALLS = (
    "open", "close", "dup", "read", "readv", "lseek", "write", "mkdir", "symlink", "readlink", "unlink", "rmdir",
    "stat", "fstat", "chmod", "fchmod", "utime", "listdir",
)  # fmt: skip


class Os:
    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        for name in _CALLS:
            setattr(self, name, getattr(kernel, name))

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)
        if name in _COMPUTES or isinstance(found, int | type):
            return found
        raise AttributeError(f"the simulated machine has no os.{name}")

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        self._kernel.lseek(fd, offset, os.SEEK_SET)
        return self._kernel.read(fd, count)

    def geteuid(self) -> int:
        return 0

    def listxattr(self, fd: int) -> list[str]:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    def posix_fadvise(self, fd: int, offset: int, length: int, advice: int) -> None:
        """Nothing to gain."""

    @contextmanager
    def scandir(self, fd: int) -> Iterator[list[DirEntry]]:
        yield [DirEntry(name, directory) for name, directory in self._kernel.directories_in(fd)]


class DirEntry:
    def __init__(self, name: str, directory: bool) -> None:
        self.name = name
        self._directory = directory

    def is_dir(self, *, follow_symlinks: bool) -> bool:
        return self._directory


class Linux:
    def __init__(self, kernel: Kernel, synced: Callable[[int], None]) -> None:
        self.look = kernel.look
        self.renameat2 = kernel.renameat2
        self.open_beneath = kernel.open_beneath
        self.set_read_lease = kernel.set_read_lease
        self.hold_read_lease = kernel.hold_read_lease
        self.copy_range = kernel.copy_range
        self.inotify_init = kernel.inotify_init
        self.add_watch = kernel.add_watch
        self.rm_watch = kernel.rm_watch
        self.syncfs = synced
        self.mount_of_files = linux.mount_of_files

    def __getattr__(self, name: str) -> Any:
        found = getattr(linux, name)
        if isinstance(found, int):
            return found
        raise AttributeError(f"the simulated machine has no linux.{name}")

    def look_fd(self, fd: int) -> tuple[int, Stat, int]:
        return self.look(fd, b"")

    def stat_of(self, dir_fd: int, name: bytes) -> tuple[int, Stat]:
        return self.look(dir_fd, name)[:2]

    def fstat_of(self, fd: int) -> tuple[int, Stat]:
        return self.look(fd, b"")[:2]


class Time:
    def __init__(self, kernel: Kernel) -> None:
        self.time_ns = kernel.now_ns
        self.monotonic = kernel.loop.time


class Secrets:
    def __init__(self, rng: random.Random) -> None:
        self.token_bytes = rng.randbytes

    def token_hex(self, count: int) -> str:
        return self.token_bytes(count).hex()


class File:
    """What `open(path, "rb")` and `open(path, "xb")` give."""

    def __init__(self, kernel: Kernel, fd: int) -> None:
        self._kernel = kernel
        self._fd = fd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._kernel.close(self._fd)

    def fileno(self) -> int:
        return self._fd

    def read(self, count: int = -1) -> bytes:
        return self._kernel.read(self._fd, count if count >= 0 else 1 << 40)

    def write(self, data: bytes) -> int:
        return self._kernel.write(self._fd, data)


class SimulatedPath(PurePosixPath):
    """A path on a simulated machine; of the one kernel that this process has at a time."""

    kernel: Kernel

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            self.kernel.unlink(os.fsencode(self))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def open(self, mode: str) -> File:
        flags = os.O_RDONLY if mode == "rb" else os.O_WRONLY | os.O_CREAT | os.O_EXCL
        return File(self.kernel, self.kernel.open(os.fsencode(self), flags))

    def read_bytes(self) -> bytes:
        with self.open("rb") as file:
            return file.read()


def _opener(kernel: Kernel) -> Callable[..., File]:
    def opened(path: Any, mode: str, buffering: int = -1, opener: Any = None) -> File:
        flags = os.O_RDONLY
        return File(kernel, opener(path, flags) if opener is not None else kernel.open(os.fsencode(path), flags))

    return opened


_KEPT = object()


@contextmanager
def installed(
    kernel: Kernel, rng: random.Random, synced: Callable[[int], None], knobs: dict[tuple[Any, str], Any]
) -> Iterator[None]:
    """Put the kernel in the place of the real one, and `knobs` (by module and name) in that of its constants."""
    face, calls, clock = Os(kernel), Linux(kernel, synced), Time(kernel)
    given: dict[tuple[Any, str], Any] = dict(knobs)
    for module in (make, materialise, move, recover, scan, watch, watched, workspace, fetch, read):
        given[module, "os"] = face
    for module in (make, materialise, move, recover, scan, watch, watched, workspace, read):
        if hasattr(module, "linux"):
            given[module, "linux"] = calls
    for module in (scan, watch, workspace):
        given[module, "time"] = clock
    for module in (append, large):
        given[module, "secrets"] = Secrets(rng)
    given[workspace, "open"] = given[fetch, "open"] = _opener(kernel)
    given[give, "Path"] = SimulatedPath
    SimulatedPath.kernel = kernel
    before = {(module, name): module.__dict__.get(name, _KEPT) for module, name in given}
    try:
        for (module, name), value in given.items():
            setattr(module, name, value)
        yield
    finally:
        for (module, name), value in before.items():
            if value is _KEPT:
                delattr(module, name)
            else:
                setattr(module, name, value)


def knobs(rng: random.Random) -> dict[tuple[Any, str], Any]:
    """Constants small enough for a small folder to reach what they bound."""
    small, given = rng.choice(((100, 1_000), (1 << 20, 4 << 20)))
    return {
        (fetch, "SMALL_BYTES_MAX"): small,
        (give, "GIVE_BYTES_MAX"): given,
        (wire, "ENTRY_BYTES_MAX"): rng.choice((400, 700, 16 * 1024)),
        (make, "LARGE_BYTES"): rng.choice((100, 1 << 20)),
        (place, "SLICE"): rng.choice((1, 3, 256)),
        (place, "INLINE_BYTES_MAX"): rng.choice((200, 1 << 20)),
        (look, "SLICE"): rng.choice((1, 4, 64)),
        (look, "PATHS_MAX"): rng.choice((5, 30, 5_000)),
        (append, "PACK_BYTES_MAX"): rng.choice((1_000, 4 << 20)),
        (propose, "GATHER_COMMANDS"): rng.choice((2, 8)),
        (fetch, "GIVE_COUNT"): rng.choice((1, 3, 256)),
        (fetch, "HERE_BYTES_MAX"): rng.choice((500, 32 << 20)),
        (give, "PAGE_ROWS"): rng.choice((1, 4, 1_000)),
        (trim, "TIDY_SECONDS"): rng.choice((0.5, 2.0)),
        (lead, "START_SECONDS"): rng.choice((0.5, 0.5, 5.0)),
        (write, "SMALL_BYTES_MAX"): rng.choice((0, 60, 64 << 10)),
        (write, "COMMANDS_MAX"): rng.choice((1, 3, 10_000)),
        (request, "REMOVED_AT_ONCE"): rng.choice((1, 2, 5_000)),
        (read, "SMALL_BYTES_MAX"): rng.choice((0, 1 << 20)),
    }
