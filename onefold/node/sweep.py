"""Looking a second time, when nothing else is to be done.

The rolling sweep finds what no event told of: writes by mmap or through another hard link raise none. And what was too
young to be trusted when it was hashed is hashed again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from onefold.core.model import ROOT, Absent, BaseRow, Kind, Observed, Present
from onefold.core.paths import ROOT_PATH, RelPath
from onefold.node.look import SLICE
from onefold.ports import LARGE, BaseStore, Clock, Listing, Scanner

SWEEP_SECONDS = 1.0
"""Between two directories, and so much more for every `SWEEP_ROWS` in the first."""
SWEEP_ROWS = 100
"""To look at them takes about 10 ms."""
HURRY_SECONDS = 0.02
"""Instead of `SWEEP_SECONDS`, in a hurry."""
DOUBT_SECONDS = 3.0
"""How long a doubt waits at least, for a folder that was just filled is soon used."""
PAUSE_SECONDS = 0.05
"""Between two slices of doubts."""


class Sweeper:
    """Looks at everything, slowly and for ever, and hints at what differs from the base."""

    def __init__(
        self,
        base: BaseStore,
        scanner: Scanner,
        clock: Clock,
        at_leisure: Callable[[], bool],
        look_at: Callable[[RelPath, bool], None],
    ) -> None:
        """`at_leisure`: whether nothing else waits to be looked at. `look_at(path, content)`: something may differ
        there, and with `content` though the stat does not."""
        self._base = base
        self._scanner = scanner
        self._clock = clock
        self._at_leisure = at_leisure
        self._look_at = look_at
        self._doubts: dict[RelPath, None] = {}
        self._hurry = False

    def doubt(self, path: RelPath) -> None:
        """What stands at `path` was too young to be trusted (20 ms) when it was hashed."""
        self._doubts[path] = None

    def doubts(self, path: RelPath) -> bool:
        """Whether what stands at `path` is still to be hashed again."""
        return path in self._doubts

    def hurry(self) -> None:
        """Nodes got in each other's way. What came about then may be where no hint told: sweep everything soon."""
        self._hurry = True

    async def resolve(self) -> None:
        """Hash again what is in doubt, for ever."""
        while True:
            await self._clock.sleep(DOUBT_SECONDS)
            doubts = list(self._doubts)
            while doubts:
                if self._at_leisure():
                    with self._scanner.session():
                        for path in doubts[:SLICE]:
                            del self._doubts[path]
                            self._resolve(path)
                    del doubts[:SLICE]
                await self._clock.sleep(PAUSE_SECONDS)

    def _resolve(self, path: RelPath) -> None:
        row = self._base.lookup(path)
        o = self._scanner.observe(path, row, True)
        if o is LARGE or not stands(row, o):
            self._look_at(path, True)
        elif isinstance(o, Present) and not o.settled:
            self.doubt(path)

    async def run(self) -> None:
        """Sweep for ever."""
        looked_at = 0
        while True:
            hurried, self._hurry = self._hurry, False
            pace = HURRY_SECONDS if hurried else SWEEP_SECONDS
            queue = [(ROOT, ROOT_PATH)]
            while queue and (hurried or not self._hurry):
                await self._clock.sleep(pace * (1 + looked_at // SWEEP_ROWS))
                if self._at_leisure():
                    id, path = queue.pop()
                    rows = self._base.children(id)
                    await self._directory(path, rows)
                    queue.extend((row.id, path.child(row.name)) for row in rows if row.kind is Kind.DIRECTORY)
                    looked_at = len(rows)

    async def _directory(self, path: RelPath, rows: Sequence[BaseRow]) -> None:
        """Hint at what differs in one directory, in which the base has `rows`."""
        listing = self._scanner.listing(path)
        names = set(listing.names) if isinstance(listing, Listing) else set()
        odd = [path.child(name) for name in sorted(names.difference(row.name for row in rows))]
        for first in range(0, len(rows), SLICE):
            with self._scanner.session():
                for row in rows[first : first + SLICE]:
                    place = path.child(row.name)
                    if not stands(row, self._scanner.observe(place, row, False)):
                        odd.append(place)
            await asyncio.sleep(0)
        for place in odd:
            self._look_at(place, False)


def stands(row: BaseRow | None, o: Observed) -> bool:
    """Whether `o` is what the base says."""
    if row is None or not isinstance(o, Present):
        return row is None and isinstance(o, Absent)
    if o.kind is Kind.DIRECTORY:
        return row.kind is o.kind and row.stat.same_file(o.stat) and row.mode == o.stat.mode
    return row.stat == o.stat and row.content == o.content
