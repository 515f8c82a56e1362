"""Looking where a hint points: hints → what stands there, three-valued, for `core.diff` to compare with the base."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from onefold.core.model import NEVER, NEW, ROOT, BaseRow, Id, Kind, Observed, Present
from onefold.core.paths import ROOT_PATH, RelPath
from onefold.ports import LARGE, BaseStore, Listing, Scanner

BYTES_MAX = 4 << 20
PATHS_MAX = 5_000
"""Small contents, and paths, that one round takes up at most: about one batch. The loop answers nobody while it applies
one; 20,000 paths took it longer than others wait for a heartbeat."""
SLICE = 64
"""Paths looked at before the loop gets its turn: about 3 ms."""


class Glance(msgspec.Struct, frozen=True):
    """One place to look at: hash its content though its stat is unchanged (`content`), and all below it (`tree`).

    `patient`: it is being written to, as far as is known; if it is large, leave it for later.
    """

    path: RelPath
    content: bool = False
    tree: bool = False
    patient: bool = False


class Look:
    """One round of looking; `seen` is what it found."""

    def __init__(self, scanner: Scanner, base: BaseStore, known: Mapping[RelPath, Present]) -> None:
        """`known`: what was seen lately at paths that the base does not have so, to spare reading it again."""
        self._scanner = scanner
        self._base = base
        self._known = known
        self._listed: dict[RelPath, bool] = {}  # new directories: whether there is anything in them
        self._trees: set[RelPath] = set()  # directories below which everything is looked at
        self._ids: dict[RelPath, Id | None] = {}  # what the base took a directory for when it was seen
        self._whole: set[RelPath] = set()  # directories of which all was looked at that is, or should be, in them
        self._moved: list[RelPath] = []  # directories that came from elsewhere, and were not looked into
        self._bytes = 0
        self.seen: dict[RelPath, Observed] = {}
        self.postponed: list[RelPath] = []

    async def at(self, glances: Iterable[Glance], all: bool = False) -> list[Glance]:
        """Look at each, and at what must be seen with it: a directory above that is new, all below one that is.

        Answers what is left to look at when enough was seen for one batch (never, with `all`): parents are always seen
        before what is below them.
        """
        stack = [*reversed(list(glances))]
        above = {glance.path.parent for glance in stack}
        looked = 0
        with self._scanner.session():
            while stack and (all or (self._bytes < BYTES_MAX and len(self.seen) < PATHS_MAX)):
                stack.extend(reversed(await self._one(stack.pop())))
                looked += 1
                if looked % SLICE == 0:
                    await asyncio.sleep(0)
                if not stack:
                    stack.extend(self._into_what_moved(above))
            stack[:0] = self._into_what_moved(above)
        self._hold({glance.path.parent for glance in stack})
        return stack

    def only(self, paths: Iterable[RelPath]) -> None:
        """Forget all that was seen but this; what is asked for later is looked at again."""
        self.seen = {path: self.seen[path] for path in paths}
        self._trees.clear()

    async def again(self) -> None:
        """Look again at all that was seen: the folder was written to by us meanwhile."""
        before, self.seen = self.seen, {}
        self._trees.clear()
        known = {path: seen for path, seen in before.items() if isinstance(seen, Present)}
        self._known = {**self._known, **known}
        self._bytes = 0
        await self.at([Glance(path) for path in before], all=True)

    async def settle(self) -> None:
        """Look at what must be seen besides, now that the base has learned what became of the last batch.

        A directory that was new may be one that moved, and the other way round; and there may be more in the base of
        what is no longer in the folder.
        """
        more: list[Glance] = []
        for path, id in self._ids.items():
            seen = self.seen.get(path)
            if not isinstance(seen, Present) or seen.kind is not Kind.DIRECTORY:
                continue
            now = self._id_of(path, seen)
            if now is None and id is not None:
                self._trees.discard(path)
                more.append(Glance(path, tree=True))
            elif now is not None and (now != id or path in self._whole):
                below = (path.child(row.name) for row in self._base.children(now))
                more.extend(Glance(place) for place in below if place not in self.seen)
        if more:
            await self.at(more, all=True)

    def _id_of(self, path: RelPath, seen: Present) -> Id | None:
        row = self._base.by_inode(seen.stat.ino, seen.stat.btime_ns) or self._base.lookup(path)
        return row.id if row is not None and row.kind is Kind.DIRECTORY else None

    async def _one(self, glance: Glance) -> list[Glance]:
        path = glance.path
        if path in self._trees or (path in self.seen and not (glance.tree and self._is_directory(path))):
            return []
        if not path:
            return self._below(ROOT_PATH, ROOT, glance)
        row = self._base.lookup(path)
        if row is None:
            above = path.parent
            if above and above not in self.seen and self._base.lookup(above) is None:
                return [] if self._scanner.ignored(above, True) else [Glance(above, tree=True)]
            if self._scanner.ignored(path, False):
                return []
        seen = await self._observe(path, row, glance)
        if seen is LARGE:
            self.postponed.append(path)
            return []
        if not isinstance(seen, Present) or seen.kind is not Kind.DIRECTORY:
            self.seen[path] = seen
            return []
        if row is None or row.kind is not Kind.DIRECTORY:
            if self._scanner.ignored(path, True):
                return []
            self.seen[path] = seen
            self._ids[path] = self._id_of(path, seen)
            moved = self._base.by_inode(seen.stat.ino, seen.stat.btime_ns)
            if moved is not None and not glance.tree:
                self._moved.append(path)
                return []  # what is below it moved along
            return self._below(path, moved.id if moved is not None else None, glance)
        self.seen[path] = seen
        self._ids[path] = self._id_of(path, seen)
        other = not seen.stat.same_file(row.stat)
        if other and not glance.tree:
            self._moved.append(path)
        return self._below(path, row.id, glance, other) if other or glance.tree else []

    def _below(self, path: RelPath, id: Id | None, glance: Glance, other: bool = False) -> list[Glance]:
        """Everything in directory `path`; and what the base has in it, if it is a known one (`id`) and everything below
        is to be looked at, or it is an `other` than the base has there."""
        if glance.tree or id is None:
            self._trees.add(path)
        listing = self._scanner.listing(path)
        if not isinstance(listing, Listing):
            if path:
                self.seen[path] = listing
            return []
        names = set(listing.names)
        if glance.tree or other or id is None:
            self._whole.add(path)
        if id is None:
            self._listed[path] = bool(names)
        elif glance.tree or other:
            names.update(child.name for child in self._base.children(id))
        return [Glance(path.child(name), glance.content, tree=glance.tree or id is None) for name in sorted(names)]

    def _into_what_moved(self, above: Iterable[RelPath]) -> list[Glance]:
        """The directories that moved, if something in a directory `above` may have been meant for what is in them."""
        moved, self._moved = self._moved, []
        if not moved or not any(self._is_displaced(path) for path in sorted(above)):
            return []
        return [Glance(path, tree=True) for path in moved]

    def _is_displaced(self, path: RelPath) -> bool:
        """Whether directory `path` may have been another one when something below it was hinted at.

        That hint was then meant for a place which has another name now, in one of the directories that moved.
        """
        if not path:
            return False
        row = self._base.lookup(path)
        if row is None:
            return True
        seen = self.seen.get(path) or self._scanner.observe(path, row, False)
        return not (isinstance(seen, Present) and seen.stat.same_file(row.stat)) or self._is_displaced(path.parent)

    def _is_directory(self, path: RelPath) -> bool:
        seen = self.seen[path]
        return isinstance(seen, Present) and seen.kind is Kind.DIRECTORY

    async def _observe(self, path: RelPath, row: BaseRow | None, glance: Glance) -> Observed:
        lately = self._known.get(path)
        known = row if lately is None else remembered(path, lately)
        seen = self._scanner.observe(path, known, glance.content)
        if seen is LARGE and not glance.patient:
            seen = await asyncio.to_thread(self._scanner.observe, path, known, glance.content, True)
        if isinstance(seen, Present):
            if lately is not None and seen.data is None and seen.content == lately.content:
                seen = msgspec.structs.replace(seen, data=lately.data)
            if seen.data is not None:
                self._bytes += len(seen.data)
        return seen

    def _hold(self, unfinished: set[RelPath]) -> None:
        """Leave out new directories that hold only what is ignored or skipped: they are held, not proposed."""
        inside = Counter(path.parent for path, seen in self.seen.items() if isinstance(seen, Present))
        for path in sorted(self._listed, key=len, reverse=True):
            if self._listed[path] and not inside[path] and path in self.seen and path not in unfinished:
                del self.seen[path]
                inside[path.parent] -= 1
        self._listed.clear()


def remembered(path: RelPath, seen: Present) -> BaseRow:
    """What was `seen` at `path` in the form in which the scanner takes what is known."""
    stat = seen.stat
    name = path.name
    return BaseRow(NEW, ROOT, name, seen.kind, NEVER, NEVER, stat.mode, stat.mtime_ns, stat.size, seen.content, stat)
