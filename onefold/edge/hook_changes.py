"""What hooks must not forget: changes that came in place, and for which of them a hook has not been run.

In the state directory's `hooks/`: `noted` are changes that nobody has looked at, as records, and `sorting` those that
are being looked at; in `hooks/NAME/`, `waiting` are the paths that the next run is for, and `running` those of the run
that is under way, each ended by NUL. A file is only appended to, or renamed, or removed once what it says stands in the
next one. So whatever ends the process, a path may be told twice, but none is lost. What the death of the machine may
take, as nothing here is synced, `doubt` makes up for.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from onefold.core.hooks import Moves, Placed
from onefold.core.paths import RelPath

UNIQUE_BYTES_MAX = 16 << 20
"""Of more paths than this, one may be told more than once: to find that out would take much memory."""
FIRST_MAX = 50_000
"""So many paths are kept in memory: more never fit into an environment."""
_READ_BYTES = 1 << 20
_FILE, _DIRECTORY, _MOVED = b"f", b"d", b"m"
"""What a record begins with. After a directory that was moved, the place where it was comes as another field."""


class HookChanges:
    """The files in `directory`, of the hooks called `names`. `note` may be called while `sort` runs in a thread."""

    def __init__(self, directory: Path, root: bytes, names: Sequence[str]) -> None:
        """What is there of other hooks is removed. Raises `OSError`."""
        self._directory = directory
        self._root = root
        self._lock = threading.Lock()  # of `noted`
        self._order = threading.Lock()  # of all other files
        self._noted: int | None = None
        self._moves = Moves()
        directory.mkdir(mode=0o700, exist_ok=True)
        for old in directory.iterdir():
            if old.is_dir() and old.name not in names:
                for file in old.iterdir():
                    file.unlink()
                old.rmdir()
        for name in names:
            self.home(name).mkdir(mode=0o700, exist_ok=True)
            self.wait_again(name)

    def close(self) -> None:
        if self._noted is not None:
            os.close(self._noted)
            self._noted = None

    def home(self, name: str) -> Path:
        """Where all files of the hook `name` are."""
        return self._directory / name

    def note(self, changes: Iterable[Placed]) -> None:
        """Write down `changes`, of which it is not known yet which hook wants them. Raises `OSError`."""
        data = b"".join(map(_record, changes))
        with self._lock:
            if self._noted is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                self._noted = os.open(self._directory / "noted", flags, 0o600)
            while data:
                data = data[os.write(self._noted, data) :]

    def sort(self, wants: Mapping[str, Callable[[str], bool]]) -> list[str]:
        """Let what was noted wait for the hooks that want it, and answer those. `wants` says by a hook's name whether a
        path (a directory's ends with a slash) is one of its. Raises `OSError`."""
        found: set[str] = set()
        sorting = self._directory / "sorting"
        with self._order:
            while sorting.exists() or self._take(sorting):
                found |= self._hand_out(sorting, wants)
                sorting.unlink()
        return sorted(found)

    def _hand_out(self, sorting: Path, wants: Mapping[str, Callable[[str], bool]]) -> set[str]:
        with contextlib.ExitStack() as opened:
            files = {
                name: opened.enter_context(_Waiting(self.home(name) / "waiting", match))
                for name, match in wants.items()
            }
            for path in self._paths(sorting):
                for file in files.values():
                    file.offer(path)
        return {name for name, file in files.items() if file.wanted}

    def doubt(self, name: str) -> None:
        """Something may have changed that was not written down: there is a run to come, though it be for no path."""
        (self.home(name) / "waiting").touch(0o600)

    def waits(self, name: str) -> bool:
        """Whether there is something to run the hook for."""
        return (self.home(name) / "waiting").exists()

    def begin(self, name: str) -> tuple[Path, list[bytes], int] | None:
        """A run begins: the file with its paths, the first of them, and how many there are. None: it has nothing to run
        for. Raises `OSError`."""
        waiting, running = self.home(name) / "waiting", self.home(name) / "running"
        with self._order:
            if not waiting.exists():
                return None
            if waiting.stat().st_size <= UNIQUE_BYTES_MAX:
                unique = dict.fromkeys(_fields(waiting))
                fresh = self.home(name) / "waiting.new"
                fresh.write_bytes(b"".join(path + b"\0" for path in unique))
                fresh.replace(waiting)
            waiting.replace(running)
        first: list[bytes] = []
        count = 0
        for path in _fields(running):
            count += 1
            if count <= FIRST_MAX:
                first.append(path)
        return running, first, count

    def end(self, name: str) -> None:
        """The run has ended."""
        (self.home(name) / "running").unlink()

    def wait_again(self, name: str) -> None:
        """The run that was under way did not come to its end: what it was for waits for the next one."""
        waiting, running = self.home(name) / "waiting", self.home(name) / "running"
        if not running.exists():
            return
        if waiting.exists():
            with running.open("ab") as file:
                file.write(waiting.read_bytes())
        running.replace(waiting)

    def _take(self, sorting: Path) -> bool:
        """Whether something was noted; it is in `sorting` then, and what comes next is noted anew."""
        with self._lock:
            self.close()
            try:
                (self._directory / "noted").rename(sorting)
            except FileNotFoundError:
                return False
        return True

    def _paths(self, file: Path) -> Iterator[bytes]:
        """Every path that the records in `file` are about; directories with a slash at the end."""
        fields = _fields(file)
        for field in fields:
            mark, path = field[:1], RelPath(field[1:])
            if mark == _MOVED:
                origin = RelPath(next(fields, path))
                self._moves.add(path, origin)
                yield from (place + b"/" for at in (path, origin) for place in self._moves.places(at))
                for below, end in self._below(path):
                    yield from (place + end for place in self._moves.places(below))
            else:
                yield from (place + (b"/" if mark == _DIRECTORY else b"") for place in self._moves.places(path))

    def _below(self, path: RelPath) -> Iterator[tuple[RelPath, bytes]]:
        """What is now in the directory at `path`; with a slash for what is a directory."""
        for above, directories, files in os.walk(os.path.join(self._root, path)):
            inside = RelPath(os.path.relpath(above, self._root))
            for name in directories:
                yield inside.child(name), b"" if os.path.islink(os.path.join(above, name)) else b"/"
            for name in files:
                yield inside.child(name), b""


class _Waiting:
    """The paths of one hook, opened when there is the first."""

    def __init__(self, path: Path, match: Callable[[str], bool]) -> None:
        self._path = path
        self._match = match
        self._opened = contextlib.ExitStack()
        self._write: Callable[[bytes], int] | None = None

    def __enter__(self) -> _Waiting:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @property
    def wanted(self) -> bool:
        return self._write is not None

    def offer(self, path: bytes) -> None:
        if self._match(os.fsdecode(path)):
            if self._write is None:
                self._write = self._opened.enter_context(self._path.open("ab")).write
            self._write(path.removesuffix(b"/") + b"\0")


def _record(change: Placed) -> bytes:
    if change.origin is None:
        return (_DIRECTORY if change.directory else _FILE) + change.path + b"\0"
    if change.directory:
        return _MOVED + change.path + b"\0" + change.origin + b"\0"
    return _FILE + change.origin + b"\0" + _FILE + change.path + b"\0"


def _fields(file: Path) -> Iterator[bytes]:
    """What is ended by NUL in `file`; what is not was cut off."""
    rest = b""
    with file.open("rb") as opened:
        while part := opened.read(_READ_BYTES):
            *whole, rest = (rest + part).split(b"\0")
            yield from whole
