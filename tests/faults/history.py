"""A reader of every folder, who looks at all files all the time; and what the histories seen must have in common.

G4: whoever did not write it never sees at a path an older version of a file after a newer one. And since there is one
order of versions, no two readers may see different versions of the same number at a path. What is left out is what its
author sees in the own folder: that may be undone, or go to a conflict copy.
"""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

from churn import Ledger, Version, records

POLL_SECONDS = 0.02
TAIL_BYTES = 64


class Reader(threading.Thread):
    """Looks at the folder of `node`; `paths` are the histories: at each path the versions, as they came. Before each
    loss of power there were others, in `eras`: the folder then goes back to what was on the disk."""

    def __init__(self, node: str, folder: Path) -> None:
        super().__init__(daemon=True)
        self.node = node
        self.paths: dict[bytes, list[Version]] = {}
        self.eras = [self.paths]
        self.seen: set[str] = set()
        self.looks = 0
        self._root = os.fsencode(folder)
        self.rests = threading.Lock()
        """Held: it does nothing."""
        self._known: dict[bytes, tuple[int, ...]] = {}
        self._ending = threading.Event()
        self._broke: Exception | None = None

    def run(self) -> None:
        try:
            while not self._ending.wait(POLL_SECONDS):
                with self.rests:
                    self._look(b"")
                self.looks += 1
        except Exception as error:  # told by `finish`, in the thread of the test
            self._broke = error

    def lose_power(self) -> None:
        """The folder may be an older one from now on."""
        self.paths = {}
        self.eras.append(self.paths)
        self._known.clear()

    def finish(self) -> None:
        self._ending.set()
        self.join()
        if self._broke is not None:
            raise self._broke

    def _look(self, directory: bytes) -> None:
        try:
            with os.scandir(os.path.join(self._root, directory)) as entries:
                found = list(entries)
        except OSError:
            return  # it went away, or moved
        for entry in found:
            path = os.path.join(directory, entry.name)
            try:
                at = entry.stat(follow_symlinks=False)
                if path == b".onefold":
                    continue
                if stat.S_ISDIR(at.st_mode):
                    self._look(path)
                elif stat.S_ISREG(at.st_mode):
                    self._read(path, (at.st_ino, at.st_mtime_ns, at.st_ctime_ns, at.st_size))
            except OSError:
                continue  # it went away, or moved

    def _read(self, path: bytes, at: tuple[int, ...]) -> None:
        if self._known.get(path) == at:
            return
        self._known[path] = at
        with open(os.path.join(self._root, path), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            found = records(file.read())
        if not found:
            return
        self.seen.add(found[-1].token)
        history = self.paths.setdefault(path, [])
        if not history or history[-1] != found[-1]:
            history.append(found[-1])


def contradictions(readers: list[Reader], ledger: Ledger) -> list[str]:
    """A line for everything that the readers saw and that no one order of versions explains."""
    found: list[str] = []
    one: dict[tuple[bytes, int, int], tuple[str, str]] = {}
    for reader in readers:
        for path, history in (each for era in reader.eras for each in era.items()):
            newest: dict[int, Version] = {}
            for version in history:
                if ledger.written[version.token] == reader.node or version[:2] in ledger.raced:
                    continue
                before = newest.get(version.file, version)
                if version.number < before.number:
                    found.append(f"{reader.node} went back at {path!r} from {before} to {version}")
                newest[version.file] = version
                first = one.setdefault((path, version.file, version.number), (reader.node, version.token))
                if first[1] != version.token:
                    found.append(f"at {path!r} {reader.node} saw {version}, and {first[0]} saw {first[1]} instead")
    return found
