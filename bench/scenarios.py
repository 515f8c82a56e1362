"""What is done to the first folder, and what is measured until the others are like it.

The scenarios build on each other: `rename` and `delete` need the tree that `small` writes, `delta` the file that
`large` writes. Where that was not asked for, it is prepared unmeasured.
"""

from __future__ import annotations

import math
import os
import random
import shutil
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from measure import holds, loopback_bytes, quantile, until_identical
from tools import Tool

MIB = 1 << 20
SMALL_BYTES = 4096
EDIT_BYTES = 1024
PER_DIRECTORY = 100
EDIT_LIMIT_SECONDS = 30.0
EDIT_POLL_SECONDS = 0.0002
SEED = 7
"""Every tool is given the same bytes."""


class Sizes(NamedTuple):
    """How much is done. Seconds: `gap` between edits, `pause` before each scenario, `idle`, `limit` until giving up."""

    files: int = 5000
    mib: int = 512
    edits: int = 100
    gap: float = 0.05
    pause: float = 2.0
    idle: float = 10.0
    limit: float = 300.0


class Row(NamedTuple):
    """What one scenario came to for one tool in one round.

    `seconds`: the one figure that tools are compared by: from the start of the writer's work until all folders are
    identical; the median over the edits; for `idle`, CPU seconds in ten. Infinite: not within the limit. `more`:
    further figures by their names.
    """

    round: int
    tool: str
    scenario: str
    seconds: float
    cpu_seconds: float
    wire_mib: float
    more: dict[str, Any]


class Scenarios:
    """The scenarios for one tool that runs."""

    def __init__(self, tool: Tool, round_: int, sizes: Sizes) -> None:
        self._tool = tool
        self._round = round_
        self._sizes = sizes
        self._folder = tool.folders[0]
        self._random = random.Random(SEED)
        self._tree = ""
        """Where the small files are; empty: nowhere."""
        self._large = self._folder / "large.bin"

    def edit(self) -> Row:
        """A file of about 1 KiB is rewritten, again and again; milliseconds until both others hold each edit."""
        took: list[float] = []

        def all_edits() -> None:
            for number in range(self._sizes.edits):
                took.append(self._one_edit(number))
                time.sleep(self._sizes.gap)

        cpu, wire = self._counted(all_edits)
        milliseconds = [each * 1e3 for each in took]
        more: dict[str, Any] = {f"p{part}_ms": quantile(milliseconds, part / 100) for part in (50, 90, 99)}
        more |= {"max_ms": max(milliseconds), "edits_ms": milliseconds}
        return self._row("edit", quantile(took, 0.5), cpu, wire, more)

    def small(self) -> Row:
        """Many files of 4 KiB, a hundred to a directory."""
        self._clear()
        contents = [self._random.randbytes(SMALL_BYTES) for _ in range(self._sizes.files)]
        top = self._folder / "many"

        def write() -> None:
            for number, content in enumerate(contents):
                directory = top / f"{number // PER_DIRECTORY:04d}"
                if number % PER_DIRECTORY == 0:
                    directory.mkdir(parents=True)
                (directory / f"{number:06d}.bin").write_bytes(content)

        self._tree = "many"
        return self._timed("small", write)

    def rename(self) -> Row:
        """The directory that holds all of them gets another name."""
        old = self._need_tree()
        self._tree = "moved" if old == "many" else "many"
        return self._timed("rename", lambda: os.rename(self._folder / old, self._folder / self._tree))

    def delete(self) -> Row:
        """All of them are deleted, one by one, with their directories."""
        tree = self._folder / self._need_tree()
        self._tree = ""
        return self._timed("delete", lambda: shutil.rmtree(tree))

    def large(self) -> Row:
        """One file of random bytes; making them is part of the writer's work."""

        def write() -> None:
            with self._large.open("wb") as file:
                for _ in range(self._sizes.mib):
                    file.write(self._random.randbytes(MIB))

        return self._timed("large", write)

    def delta(self) -> Row:
        """1 MiB in the middle of it is overwritten in place."""
        if not self._large.exists():
            self.large()

        def write() -> None:
            with self._large.open("r+b") as file:
                file.seek(self._sizes.mib // 2 * MIB + 12_345)
                file.write(self._random.randbytes(MIB))

        return self._timed("delta", write)

    def idle(self) -> Row:
        """Nothing is done."""
        cpu, wire = self._counted(lambda: time.sleep(self._sizes.idle))
        resident = self._tool.resident_bytes()
        per_ten = cpu * 10 / self._sizes.idle
        more = {"resident_mib": sum(resident) / MIB, "largest_process_mib": max(resident, default=0) / MIB}
        return self._row("idle", per_ten, cpu, wire, more)

    def _one_edit(self, number: int) -> float:
        # The size differs from edit to edit, too: rsync looks no further than size and time.
        content = f"{number:08d}".encode() + self._random.randbytes(EDIT_BYTES - 8 + number % 7)
        since = time.perf_counter()
        (self._folder / "edit.bin").write_bytes(content)
        self._tool.kick()
        left = [folder / "edit.bin" for folder in self._tool.folders[1:]]
        while left and time.perf_counter() - since < EDIT_LIMIT_SECONDS:
            left = [path for path in left if not holds(path, content)]
            if left:
                time.sleep(EDIT_POLL_SECONDS)
        took = time.perf_counter() - since
        self._tool.rest()
        return math.inf if left else took

    def _timed(self, scenario: str, write: Callable[[], object]) -> Row:
        wrote = took = 0.0

        def all_of_it() -> None:
            nonlocal wrote, took
            since = time.perf_counter()
            write()
            wrote = time.perf_counter() - since
            self._tool.kick()
            took = until_identical(self._tool.folders, since, self._sizes.limit)
            self._tool.rest()

        cpu, wire = self._counted(all_of_it)
        return self._row(scenario, took, cpu, wire, {"writer_seconds": wrote})

    def _counted(self, work: Callable[[], None]) -> tuple[float, float]:
        """Do `work`; the tool's CPU seconds and the MiB over loopback meanwhile."""
        time.sleep(self._sizes.pause)
        cpu, wire = self._tool.cpu_seconds(), loopback_bytes()
        work()
        return self._tool.cpu_seconds() - cpu, (loopback_bytes() - wire) / MIB

    def _row(self, scenario: str, seconds: float, cpu: float, wire: float, more: dict[str, Any]) -> Row:
        return Row(self._round, self._tool.name, scenario, seconds, cpu, wire, more)

    def _need_tree(self) -> str:
        if not self._tree:
            self.small()
        return self._tree

    def _clear(self) -> None:
        """Before the same files are written again, they must be gone everywhere."""
        if self._tree:
            self.delete()


SCENARIOS: dict[str, Callable[[Scenarios], Row]] = {
    "edit": Scenarios.edit,
    "small": Scenarios.small,
    "rename": Scenarios.rename,
    "delete": Scenarios.delete,
    "large": Scenarios.large,
    "delta": Scenarios.delta,
    "idle": Scenarios.idle,
}
"""In the order in which they build on each other."""
