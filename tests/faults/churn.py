"""Somebody who works in a folder, seeded: makes, edits, replaces, renames, swaps, deletes; files, links, whole trees.

Each content that is written ends in a record of its own, `#<file>-<number>-<token>`: the token is used once ever, and
the number grows with each version of the same file. All contents that an operation takes out of the folder are told:
whoever overwrites does it through a descriptor, after reading through it; whoever replaces exchanges, and looks at what
came out; whoever removes renames out of the folder first. So at the end every token must be somewhere: in a folder,
among the strays, or known to be overwritten or removed.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import NamedTuple

from onefold import linux

RECORD = re.compile(rb"#(\d{6})-(\d{5})-([a-z]+\d{7})\n")
AT_FDCWD = -100
RECORD_BYTES = len(b"#000000-00000-a0000000\n")
FILES_MAX = 120
SIZES = (0, 0, 20, 300, 5_000, 40_000, 200_000)
LARGE_BYTES = 3_000_000
NAMES = ("a", "b", "c", "d", "e", "f", "sp ace", "ümläut", "x.txt")


class Version(NamedTuple):
    """What the record at the end of a content says."""

    file: int
    number: int
    token: str


def records(content: bytes) -> list[Version]:
    """All that are in it: an appended file has several."""
    return [Version(int(file), int(number), token.decode()) for file, number, token in RECORD.findall(content)]


class Ledger:
    """What became of every token: who wrote it, and which were overwritten or removed by somebody. For all threads."""

    def __init__(self) -> None:
        self.files = count(1)
        self.operations: Counter[str] = Counter()
        self.written: dict[str, str] = {}
        self.gone: set[str] = set()
        self.raced: set[tuple[int, int]] = set()
        """Versions, by file and number, whose author replaced another of that number, which had just arrived."""
        self._numbers = count(1)

    def write(self, author: str) -> str:
        token = f"{author}{next(self._numbers):07}"
        self.written[token] = author
        return token

    def lose(self, content: bytes) -> None:
        """Somebody took this out of the folder, knowingly or not."""
        self.gone.update(version.token for version in records(content))


class Churner:
    """One user of one folder at a time; `trash` is on the same file system, outside of it."""

    def __init__(self, ledger: Ledger, author: str, folder: Path, trash: Path, random: random.Random) -> None:
        self._ledger = ledger
        self._author = author
        self._root = folder
        self._trash = trash
        self._random = random
        self._removed = count(1)
        self._doing: list[tuple[int, Callable[[], None]]] = [
            (5, self._create),
            (4, self._write_in_place),
            (3, self._append),
            (4, self._replace),
            (3, self._rename_file),
            (2, self._rename_directory),
            (1, self._swap),
            (3, self._remove_file),
            (1, self._remove_tree),
            (3, self._make_tree),
            (1, self._link),
            (2, self._set_mode),
            (1, self._truncate),
            (1, self._write_large),
        ]

    def step(self) -> None:
        """One operation; one that comes too late, since somebody else was quicker, is none."""
        weights = [weight for weight, _ in self._doing]
        ((_, do),) = self._random.choices(self._doing, weights)
        self._trash.mkdir(exist_ok=True)
        try:
            do()
        except OSError:
            return
        self._ledger.operations[do.__name__.strip("_").replace("_", " ")] += 1

    # what there is

    def _files(self) -> list[Path]:
        return [path for path in self._all() if path.is_file() and not path.is_symlink()]

    def _directories(self) -> list[Path]:
        return [path for path in self._all() if path.is_dir() and not path.is_symlink()]

    def _all(self) -> list[Path]:
        found = []
        for above, directories, files in os.walk(self._root):
            if Path(above) == self._root:
                directories[:] = [name for name in directories if name != ".onefold"]
            found += [Path(above, name) for name in sorted((*directories, *files)) if ".conflict-" not in name]
        return found

    def _a_file(self) -> Path:
        files = self._files()
        if not files:
            raise FileNotFoundError
        return self._random.choice(files)

    def _free(self) -> Path:
        """A place where nothing stands."""
        directory = self._random.choice([self._root, *self._directories()])
        for _ in range(20):
            place = directory / self._random.choice(NAMES)
            if not os.path.lexists(place):
                return place
        raise FileExistsError

    # contents

    def _content(self, file: int, number: int, size: int) -> bytes:
        token = self._ledger.write(self._author)
        return self._random.randbytes(size).replace(b"#", b"-") + b"#%06d-%05d-%b\n" % (file, number, token.encode())

    def _next(self, content: bytes, size: int) -> bytes:
        """A later version of `content`."""
        found = records(content)
        file, number = found[-1][:2] if found else (next(self._ledger.files), 0)
        return self._content(file, number + 1, size)

    def _beside(self, content: bytes) -> bytes:
        """A finished file outside of the folder, to be renamed into it."""
        path = os.fsencode(self._trash / f"new-{next(self._removed)}")
        Path(os.fsdecode(path)).write_bytes(content)
        return path

    # operations

    def _create(self) -> None:
        if len(self._files()) >= FILES_MAX:
            self._remove_file()
            return
        self._make(self._random.choice(SIZES))

    def _write_large(self) -> None:
        self._make(LARGE_BYTES)

    def _make(self, size: int) -> None:
        place = self._free()
        new = self._beside(self._content(next(self._ledger.files), 1, size))
        try:
            linux.renameat2(AT_FDCWD, new, AT_FDCWD, os.fsencode(place), linux.RENAME_NOREPLACE)
        except OSError:
            self._ledger.lose(Path(os.fsdecode(new)).read_bytes())
            raise

    def _write_in_place(self) -> None:
        with self._a_file().open("r+b") as file:
            before = file.read()
            self._ledger.lose(before)
            os.pwrite(file.fileno(), self._next(before, max(0, len(before) - RECORD_BYTES)), 0)

    def _append(self) -> None:
        with self._a_file().open("r+b") as file:
            before = file.read()
            if len(before) > LARGE_BYTES // 2:
                return
            os.pwrite(file.fileno(), self._next(before, self._random.choice(SIZES[:4])), len(before))

    def _truncate(self) -> None:
        with self._a_file().open("r+b") as file:
            before = file.read()
            self._ledger.lose(before)
            after = self._next(before, 0)
            at = min(len(before), self._random.choice(SIZES))
            file.truncate(at)
            os.pwrite(file.fileno(), after, at)

    def _replace(self) -> None:
        """As editors save."""
        place = self._a_file()
        before = place.read_bytes()
        after = self._next(before, self._random.choice(SIZES))
        new = self._beside(after)
        try:
            linux.renameat2(AT_FDCWD, new, AT_FDCWD, os.fsencode(place), linux.RENAME_EXCHANGE)
        finally:
            came_out = Path(os.fsdecode(new)).read_bytes()
            self._ledger.lose(came_out)
        if came_out != before:
            self._ledger.raced.add(records(after)[-1][:2])

    def _rename_file(self) -> None:
        self._move(self._a_file(), self._free(), linux.RENAME_NOREPLACE)

    def _rename_directory(self) -> None:
        self._move(self._random.choice(self._directories() or [self._root]), self._free(), linux.RENAME_NOREPLACE)

    def _swap(self) -> None:
        one, other = self._random.choice(self._all() or [self._root]), self._random.choice(self._all() or [self._root])
        self._move(one, other, linux.RENAME_EXCHANGE)

    def _move(self, source: Path, target: Path, how: int) -> None:
        linux.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), how)

    def _remove_file(self) -> None:
        self._remove(self._a_file())

    def _remove_tree(self) -> None:
        self._remove(self._random.choice(self._directories() or [self._root]))

    def _remove(self, path: Path) -> None:
        if path == self._root:
            return
        there = self._trash / f"removed-{next(self._removed)}"
        path.rename(there)
        self.empty(there)

    def _make_tree(self) -> None:
        place = self._free()
        if self._random.random() < 0.5:
            (place / self._random.choice(NAMES) / self._random.choice(NAMES)).mkdir(parents=True)
        else:
            place.mkdir()

    def _link(self) -> None:
        self._free().symlink_to(self._random.choice(NAMES))

    def _set_mode(self) -> None:
        self._a_file().chmod(self._random.choice((0o600, 0o644, 0o755, 0o444)))

    # what was taken out

    def empty(self, there: Path) -> None:
        """Note what is in the removed file or directory `there`; it stays, since somebody may still write into it."""
        for path in (there, *there.rglob("*")) if there.is_dir() and not there.is_symlink() else (there,):
            try:
                if path.is_file() and not path.is_symlink():
                    self._ledger.lose(path.read_bytes())
            except FileNotFoundError:
                continue  # the node, which has its directory open, took it out of there

    def finish(self) -> None:
        """Look at all that was removed once more."""
        if self._trash.exists():
            for path in self._trash.iterdir():
                self.empty(path)
            shutil.rmtree(self._trash)


class Worker(threading.Thread):
    """Churns until it is told to stop, in the folder of whoever `works()` names, with that one's churner."""

    def __init__(self, churners: dict[str, Churner], works: Callable[[], str], pause_seconds: float) -> None:
        super().__init__(daemon=True)
        self._churners = churners
        self._works = works
        self._pause_seconds = pause_seconds
        self._ending = threading.Event()
        self.rests = threading.Lock()
        """Held: it does nothing."""
        self._broke: Exception | None = None

    def run(self) -> None:
        try:
            while not self._ending.wait(self._pause_seconds):
                with self.rests:
                    if churner := self._churners.get(self._works()):
                        churner.step()
        except Exception as error:  # told by `finish`, in the thread of the test
            self._broke = error

    def finish(self) -> None:
        self._ending.set()
        self.join()
        if self._broke is not None:
            raise self._broke
