"""Strays: local bytes kept aside, where `onefold status` shows them. Plain files, so that they survive everything else.

Each has a directory of its own, `<unix milliseconds>-<n>/`, with `meta.json` and the thing itself as `kept`. The
directory and `meta.json` come first: a crash before `kept` arrives leaves an empty one, removed at the next start, and
the bytes where they were.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import time
from pathlib import Path

import msgspec

from onefold import linux
from onefold.core.model import Kind
from onefold.core.paths import RelPath, show
from onefold.disk import trouble
from onefold.errors import NotFound
from onefold.ports import Stray

_KEPT = "kept"
_META = "meta.json"
_ID = re.compile(r"[0-9]+-[0-9]+")


class _Meta(msgspec.Struct):
    """`meta.json`. `path` is for people; `path_hex` is exact."""

    path: str
    path_hex: str
    kind: int
    size: int
    when: float
    reason: str


class Strays:
    """The strays in `directory`, which is made if need be. One thread adds at a time; any may read."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for entry in sorted(directory.iterdir()):
                if not os.path.lexists(entry / _KEPT):
                    shutil.rmtree(entry)
            self._count = len(list(directory.iterdir()))
        except OSError as error:
            raise trouble(f"cannot keep strays in {directory}", directory, error) from error

    def add(self, dir_fd: int, name: bytes, path: RelPath, reason: str) -> None:
        """Take over what stands as `name` in directory `dir_fd`, and once stood at `path`. It is moved, on another file
        system copied (and synced) first. Raises `OSError`, and has then taken nothing, or a copy."""
        found = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        kind = _KINDS.get(stat.S_IFMT(found.st_mode))
        if kind is None:
            raise OSError(errno.EINVAL, "a socket, pipe or device is never moved", name)
        size = 0 if kind is Kind.DIRECTORY else found.st_size
        when = time.time()
        home = self._make_home(when)
        try:
            meta = _Meta(show(path), path.hex(), int(kind), size, when, reason)
            (home / _META).write_bytes(msgspec.json.encode(meta))
            copied = self._take(dir_fd, name, home / _KEPT)
        except OSError:
            shutil.rmtree(home, ignore_errors=True)
            raise
        self._count += 1
        if copied is not None:
            _remove(copied)  # should this fail, some bytes are there twice

    def count(self) -> int:
        return self._count

    def list(self) -> list[Stray]:
        """All strays, oldest first."""
        homes = sorted(self._directory.iterdir(), key=lambda p: tuple(map(int, p.name.split("-"))))
        found = (_read(home) for home in homes)
        return [stray for stray in found if stray is not None]

    def find(self, id: str) -> Stray:
        """Raises `NotFound` when there is none called `id`."""
        found = _read(self._directory / id) if _ID.fullmatch(id) else None
        if found is None:
            raise NotFound(f"there is no stray {id}", "see `onefold strays` for those there are")
        return found

    def remove(self, id: str) -> None:
        """Delete a stray for ever. Raises `NotFound` when there is none called `id`."""
        _remove(self.find(id).file)
        shutil.rmtree(self._directory / id)
        self._count -= 1

    def _make_home(self, when: float) -> Path:
        number = 0
        while True:
            home = self._directory / f"{int(when * 1000)}-{number}"
            try:
                home.mkdir(mode=0o700)
            except FileExistsError:
                number += 1
            else:
                return home

    def _take(self, dir_fd: int, name: bytes, kept: Path) -> Path | None:
        """Bring it to `kept`; what is left to be removed if it was copied."""
        try:
            os.rename(name, kept, src_dir_fd=dir_fd)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        else:
            return None
        source = Path(f"/proc/self/fd/{dir_fd}") / os.fsdecode(name)
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, kept, symlinks=True)
        else:
            shutil.copy2(source, kept, follow_symlinks=False)
        fd = os.open(kept.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            linux.syncfs(fd)
        finally:
            os.close(fd)
        return source


def _read(home: Path) -> Stray | None:
    """The stray in `home`; None when there is none (any more, or yet)."""
    try:
        meta = msgspec.json.decode((home / _META).read_bytes(), type=_Meta)
    except FileNotFoundError:
        return None
    if not os.path.lexists(home / _KEPT):
        return None
    path = RelPath(bytes.fromhex(meta.path_hex))
    return Stray(home.name, path, Kind(meta.kind), meta.size, meta.when, meta.reason, home / _KEPT)


def _remove(source: Path) -> None:
    """Remove what was copied, also directories that are closed to their owner."""
    if source.is_symlink() or not source.is_dir():
        source.unlink()
        return
    _open(source)
    for above, names, _ in os.walk(source):
        for name in names:
            _open(Path(above, name))
    shutil.rmtree(source)


def _open(path: Path) -> None:
    mode = path.lstat().st_mode
    if stat.S_ISDIR(mode) and mode & 0o700 != 0o700:
        path.chmod(0o700)


_KINDS = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.DIRECTORY, stat.S_IFLNK: Kind.SYMLINK}
