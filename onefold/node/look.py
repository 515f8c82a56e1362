"""Looking where a hint points: hints → what stands there, three-valued, for `core.diff` to compare with the base."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable, Mapping

import msgspec

from onefold.core.model import NEVER, NEW, ROOT, BaseRow, Id, Kind, Observed, Present
from onefold.core.paths import ROOT_PATH, RelPath
from onefold.ports import LARGE, BaseStore, Listing, Scanner

SLICE = 64
"""Paths looked at before the loop gets its turn: about 3 ms."""


class Glance(msgspec.Struct, frozen=True):
    """One place to look at: hash its content though its stat is unchanged (`content`), and all below it (`tree`)."""

    path: RelPath
    content: bool = False
    tree: bool = False


class Look:
    """One round of looking; `seen` is what it found."""

    def __init__(self, scanner: Scanner, base: BaseStore, known: Mapping[RelPath, Present]) -> None:
        """`known`: what was seen lately at paths that the base does not have so, to spare reading it again."""
        self._scanner = scanner
        self._base = base
        self._known = known
        self._listed: dict[RelPath, bool] = {}  # new directories: whether there is anything in them
        self.seen: dict[RelPath, Observed] = {}

    async def at(self, glances: Iterable[Glance]) -> None:
        """Look at each, and at what must be seen with it: a directory above that is new, all below one that is."""
        queue = deque(glances)
        looked = 0
        with self._scanner.session():
            while queue:
                queue.extend(await self._one(queue.popleft()))
                looked += 1
                if looked % SLICE == 0:
                    await asyncio.sleep(0)
        self._hold()

    async def again(self) -> None:
        """Look again at all that was seen: the folder was written to by us meanwhile."""
        before, self.seen = self.seen, {}
        known = {path: seen for path, seen in before.items() if isinstance(seen, Present)}
        self._known = {**self._known, **known}
        await self.at([Glance(path) for path in before])

    async def _one(self, glance: Glance) -> list[Glance]:
        path = glance.path
        if not path:
            return self._below(ROOT_PATH, ROOT, glance)
        if path in self.seen and not glance.tree:
            return []
        row = self._base.lookup(path)
        if row is None:
            above = path.parent
            if above and above not in self.seen and self._base.lookup(above) is None:
                return [] if self._scanner.ignored(above, True) else [Glance(above, tree=True)]
            if self._scanner.ignored(path, False):
                return []
        seen = await self._observe(path, row, glance.content)
        if not isinstance(seen, Present) or seen.kind is not Kind.DIRECTORY:
            self.seen[path] = seen
            return []
        if row is None or row.kind is not Kind.DIRECTORY:
            if self._scanner.ignored(path, True):
                return []
            self.seen[path] = seen
            moved = self._base.by_inode(seen.stat.ino, seen.stat.btime_ns)
            if moved is not None and not glance.tree:
                return []  # what is below it moved along
            return self._below(path, moved.id if moved is not None else None, glance)
        self.seen[path] = seen
        if glance.tree or not seen.stat.same_file(row.stat):
            return self._below(path, row.id, glance)
        return []

    def _below(self, path: RelPath, id: Id | None, glance: Glance) -> list[Glance]:
        """Everything in directory `path`, and what the base thinks is in it (nothing, when `id` is None: it is new)."""
        listing = self._scanner.listing(path)
        if not isinstance(listing, Listing):
            if path:
                self.seen[path] = listing
            return []
        names = set(listing.names)
        if id is None:
            self._listed[path] = bool(names)
        elif glance.tree:
            names.update(child.name for child in self._base.children(id))
        return [Glance(path.child(name), glance.content, tree=glance.tree or id is None) for name in sorted(names)]

    async def _observe(self, path: RelPath, row: BaseRow | None, content: bool) -> Observed:
        lately = self._known.get(path)
        known = row if lately is None else remembered(path, lately)
        seen = self._scanner.observe(path, known, content)
        if seen is LARGE:
            return await asyncio.to_thread(self._scanner.observe, path, known, content, True)
        return seen

    def _hold(self) -> None:
        """Leave out new directories that hold only what is ignored or skipped: they are held, not proposed."""
        inside = Counter(path.parent for path, seen in self.seen.items() if isinstance(seen, Present))
        for path in sorted(self._listed, key=len, reverse=True):
            if self._listed[path] and not inside[path] and path in self.seen:
                del self.seen[path]
                inside[path.parent] -= 1
        self._listed.clear()


def remembered(path: RelPath, seen: Present) -> BaseRow:
    """What was `seen` at `path` in the form in which the scanner takes what is known."""
    stat = seen.stat
    name = path.name
    return BaseRow(NEW, ROOT, name, seen.kind, NEVER, NEVER, stat.mode, stat.mtime_ns, stat.size, seen.content, stat)
