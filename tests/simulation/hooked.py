"""Hooks on a simulated machine: one that wants every change. What it was told is held against the catalogue at the end.

At least once: of every path that the catalogue holds in the end, and of each that it held before, a run was told after
the path's last change was in place, and that run came to its end; whatever ended processes and machines in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from onefold.core.hooks import Moves, Placed
from onefold.core.messages import HookState
from onefold.core.model import BaseRow, Id, Version
from onefold.core.paths import RelPath

NAME = "all"
RUN_SECONDS_MAX = 3.0
Known = tuple[Id, Version] | None
"""Which version stands at a path, by the base."""


class Told:
    """What is on a machine's disk of it. As the files of the real one it is not synced: the death of the machine takes
    what was not run for."""

    def __init__(self, boot: int) -> None:
        self.boot = boot
        self.noted: list[Placed] = []
        self.waiting: set[RelPath] | None = None
        self.running: set[RelPath] | None = None
        self.doubted = False
        """What came just before the machine's death may not be known: the next run looks at everything."""
        self.last: dict[RelPath, Known] = {}
        """What stood at each path that a run which came to its end was told of, when that run began."""

    def begun(self, boot: int, in_order: bool) -> None:
        """A process begins."""
        if self.running is not None:
            self.waiting = self.running | (self.waiting or set())
            self.running = None
        if boot != self.boot:
            self.boot, self.noted, self.waiting = boot, [], None
        if not in_order:
            self.waiting, self.doubted = self.waiting or set(), True


class SimulatedHooks:
    """`ports.Hooks`, on `machine`, for one life of its process."""

    debounces: Mapping[str, float] = {NAME: 0.5}

    def __init__(self, machine: Any, base: Any, loop: Any, in_order: bool) -> None:
        if machine.told is None:
            machine.told = Told(machine.boot)
        self._machine = machine
        self._moves = Moves()
        self._told: Told = machine.told
        self._base = base
        self._loop = loop
        self._told.begun(machine.boot, in_order)

    def note(self, changes: Sequence[Placed]) -> None:
        self._told.noted += changes

    def sort(self) -> Sequence[str]:
        told = self._told
        changes, told.noted = told.noted, []
        paths = {path for change in changes for path in self._paths(change)}
        if paths:
            told.waiting = (told.waiting or set()) | paths
        return [NAME] if paths else []

    def waiting(self) -> Sequence[str]:
        return [NAME] if self._told.waiting is not None else []

    async def run(self, name: str, index: int) -> None:
        told = self._told
        if told.waiting is None:
            return
        told.running, told.waiting = told.waiting, None
        found = {path: self._known(path) for path in (self._everything() if told.doubted else told.running)}
        try:
            await asyncio.sleep(self._loop.rng.random() ** 3 * RUN_SECONDS_MAX)
        except asyncio.CancelledError:
            told.begun(told.boot, True)
            raise
        told.last |= found
        told.doubted = False
        told.running = None

    def states(self) -> Sequence[HookState]:
        return [HookState(NAME, self._told.running is not None, self._told.waiting is not None, None)]

    def _paths(self, change: Placed) -> list[RelPath]:
        changed = [change.path]
        if change.origin is not None:
            changed.append(change.origin)
            if change.directory:
                self._moves.add(change.path, change.origin)
                moved = self._inode(change.path)
                below = moved.below() if moved is not None else ()
                changed += [RelPath(change.path + b"/" + path) for path, _ in below]
        return [place for path in changed for place in self._moves.places(path)]

    def _inode(self, path: RelPath) -> Any:
        inode = self._machine.folder
        for part in path.parts:
            inode = inode.entries.get(part) if inode is not None else None
        return inode

    def _everything(self) -> set[RelPath]:
        return {self._base.path(id) for id in self._base.rows} | self._told.last.keys()

    def _known(self, path: RelPath) -> Known:
        row: BaseRow | None = self._base.lookup(path)
        return None if row is None else (row.id, row.version)


def untold(told: Told, expected: Mapping[RelPath, Known]) -> list[str]:
    """What the last run that was told of a path found there, where that is not what is `expected` in the end."""
    return [
        f"{path!r}: a hook last saw {told.last.get(path)}, and {expected.get(path)} is there"
        for path in sorted(expected.keys() | told.last.keys())
        if told.last.get(path) != expected.get(path)
    ]
