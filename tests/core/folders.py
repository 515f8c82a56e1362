"""A cluster without disks or sockets: folders of inodes, and nodes that are the core and as little else as possible.

`Folder` is what a file system is to the core: inodes with birth times, in a tree. `Node` does what the node and its
edges do around the core, by the same rules (`node/propose.py`, `node/place.py`, `edge/materialise.py`), but at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from onefold.core.catalogue import Catalogue, MemoryRows
from onefold.core.diff import Claim, Diff, diff
from onefold.core.model import (
    NEW,
    ROOT,
    Absent,
    Action,
    Aside,
    Attributes,
    BaseRow,
    Batch,
    Discard,
    Done,
    Drop,
    Edited,
    Id,
    Kind,
    Make,
    Observed,
    Origin,
    Pack,
    Present,
    Remove,
    Replace,
    Result,
    Row,
    Shift,
    Stat,
)
from onefold.core.paths import ROOT_PATH, RelPath
from onefold.core.plan import plan
from onefold.core.settle import revert, settle
from onefold.core.wire import content_digest

# ------------------------------------------------------------------------------------------------ the folder


@dataclass(eq=False)
class Inode:
    """One file, directory or symlink; `data` is content or target."""

    kind: Kind
    ino: int
    btime_ns: int
    mtime_ns: int
    mode: int
    data: bytes = b""
    entries: dict[bytes, Inode] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        """As in a row of the catalogue."""
        return content_digest(self.data) if self.kind is Kind.FILE else self.data

    @property
    def stat(self) -> Stat:
        size = len(self.data)
        return Stat(self.ino, self.btime_ns, self.mtime_ns, self.mtime_ns, size, self.mode)

    def below(self, path: RelPath = ROOT_PATH) -> Iterator[tuple[RelPath, Inode]]:
        """Everything in this directory, which stands at `path`; parents first."""
        for name in sorted(self.entries):
            yield path.child(name), self.entries[name]
            yield from self.entries[name].below(path.child(name))


class Folder:
    """A tree of inodes under a clock of its own. Inode numbers are reused at once, as by ext4."""

    def __init__(self) -> None:
        self._clock = 1_000
        self.root = self.inode(Kind.DIRECTORY)

    def inode(self, kind: Kind, data: bytes = b"", mode: int = 0o644) -> Inode:
        now = self.tick()
        return Inode(kind, now % 1_000, now, now, mode, data)

    def tick(self) -> int:
        self._clock += 1
        return self._clock

    def at(self, path: RelPath) -> Inode | None:
        found: Inode | None = self.root
        for part in path.parts:
            if found is None:
                return None
            found = found.entries.get(part)
        return found

    def directory(self, path: RelPath) -> Inode:
        """The directory at `path`, made with all above it if need be."""
        here = self.root
        for part in path.parts:
            here = here.entries.setdefault(part, self.inode(Kind.DIRECTORY, mode=0o755))
        return here

    def put(self, path: bytes, inode: Inode) -> Inode:
        """Give `inode` the name `path`, whatever stood there."""
        place = RelPath(path)
        self.directory(place.parent).entries[place.name] = inode
        return inode

    def take(self, path: bytes) -> Inode:
        """Take the name `path` away from what stands there."""
        place = RelPath(path)
        return self.directory(place.parent).entries.pop(place.name)

    def file(self, path: bytes, data: bytes) -> Inode:
        return self.put(path, self.inode(Kind.FILE, data))

    def move(self, path: bytes, to: bytes) -> None:
        self.put(to, self.take(path))

    def write(self, path: bytes, data: bytes) -> None:
        """Write in place."""
        inode = self.at(RelPath(path))
        assert inode is not None and inode.kind is Kind.FILE
        inode.data, inode.mtime_ns = data, self.tick()

    def observe(self, path: RelPath) -> Observed:
        inode = self.at(path)
        if inode is None:
            return Absent()
        return Present(inode.kind, inode.stat, inode.content, inode.data if inode.kind is Kind.FILE else None)

    def everything(self) -> dict[RelPath, Inode]:
        return dict(self.root.below())


# ------------------------------------------------------------------------------------------------ the base


class DictBase:
    """`BaseView` over a dict, with the changes that `ports.BaseStore` allows."""

    def __init__(self) -> None:
        self.rows: dict[Id, BaseRow] = {}
        self._places: dict[tuple[Id, bytes], Id] = {}

    def get(self, id: Id) -> BaseRow | None:
        return self.rows.get(id)

    def child(self, parent: Id, name: bytes) -> BaseRow | None:
        id = self._places.get((parent, bytes(name)))
        return None if id is None else self.rows[id]

    def children(self, parent: Id) -> list[BaseRow]:
        return sorted((row for row in self.rows.values() if row.parent == parent), key=lambda row: row.name)

    def by_inode(self, ino: int, btime_ns: int) -> BaseRow | None:
        found = [row.id for row in self.rows.values() if (row.stat.ino, row.stat.btime_ns) == (ino, btime_ns)]
        return self.rows[min(found)] if found else None

    def lookup(self, path: RelPath) -> BaseRow | None:
        row, parent = None, ROOT
        for part in path.parts:
            if row is not None and row.kind is not Kind.DIRECTORY:
                return None
            row = self.child(parent, part)
            if row is None:
                return None
            parent = row.id
        return row

    def path(self, id: Id) -> RelPath:
        row = self.rows[id]
        return (ROOT_PATH if row.parent == ROOT else self.path(row.parent)).child(row.name)

    def put(self, row: BaseRow) -> None:
        self.delete(row.id)
        assert (row.parent, row.name) not in self._places, f"{row} would displace {self.child(row.parent, row.name)}"
        self.rows[row.id] = row
        self._places[row.parent, row.name] = row.id

    def delete(self, id: Id) -> None:
        row = self.rows.pop(id, None)
        if row is not None:
            del self._places[row.parent, row.name]

    def store(self, rows: dict[Id, BaseRow | None]) -> set[Id]:
        """As `node.place.store`: who lost its row because another took its place, or because it is below such a one."""
        lost: set[Id] = set()
        for id in rows:
            self.delete(id)
        for row in rows.values():
            if row is not None:
                there = self.child(row.parent, row.name)
                if there is not None:
                    self._forget(there, lost)
                self.put(row)
        for id, row in rows.items():
            if row is None:
                for below in self.children(id):
                    self._forget(below, lost)
            elif row.parent != ROOT and row.parent not in self.rows and id in self.rows:
                self._forget(row, lost)
        return lost

    def _forget(self, row: BaseRow, lost: set[Id]) -> None:
        self.delete(row.id)
        lost.add(row.id)
        for below in self.children(row.id):
            self._forget(below, lost)


# ------------------------------------------------------------------------------------------------ the node


def base_row(row: Row, stat: Stat) -> BaseRow:
    return BaseRow(
        row.id, row.parent, row.name, row.kind, row.version, row.placed,
        row.mode, row.mtime_ns, row.size, row.content, stat,
    )  # fmt: skip


class Node:
    """One member: a folder, a base, a catalogue. `between(n)` is called before the n-th action of a run."""

    def __init__(self, name: str, contents: dict[bytes, bytes], proposes: bool) -> None:
        self.name = name
        self.proposes = proposes
        self.contents = contents
        self.folder = Folder()
        self.base = DictBase()
        self.catalogue = Catalogue(MemoryRows())
        self.strays: list[bytes] = []
        self.hints: dict[RelPath, bool] = {}
        self.dirty: set[Id] = set()
        self.discards: list[Action] = []
        self.flight: tuple[Batch, tuple[Claim, ...]] | None = None
        self._sequence = 0

    # looking and proposing

    def hint(self, path: RelPath, tree: bool = False) -> None:
        """Look at `path`; and at all below it (`tree`)."""
        self.hints[path] = tree or self.hints.get(path, False)

    def follow(self, path: RelPath, to: RelPath) -> None:
        """`path` was renamed: what was to be looked at below it stands below `to` now."""
        for hint in [hint for hint in self.hints if hint.below(path)]:
            self.hint(RelPath(to + hint[len(path) :]), self.hints[hint])
        self.hint(path)
        self.hint(to)

    def look(self, paths: Mapping[RelPath, bool]) -> dict[RelPath, Observed]:
        """What stands at `paths`, and at what must be seen with them: a directory above that is new, all below it."""
        seen: dict[RelPath, Observed] = {}
        queue = deque((path, paths[path]) for path in sorted(paths))
        while queue:
            path, whole = queue.popleft()
            if not path or (path in seen and not whole):
                continue
            row = self.base.lookup(path)
            above = path.parent
            if row is None and above and above not in seen and self.base.lookup(above) is None:
                queue.append((above, True))
                continue
            o = seen[path] = self.folder.observe(path)
            if not isinstance(o, Present) or o.kind is not Kind.DIRECTORY:
                continue
            moved = self.base.by_inode(o.stat.ino, o.stat.btime_ns)
            new = row is None or row.kind is not Kind.DIRECTORY or not o.stat.same_file(row.stat)
            if whole or (new and moved is None):
                inode = self.folder.at(path)
                names = set(inode.entries if inode is not None else ())
                known = moved or (row if row is not None and row.kind is Kind.DIRECTORY else None)
                names |= {child.name for child in self.base.children(known.id)} if known is not None else set()
                queue.extend((path.child(name), whole or known is None) for name in sorted(names))
        return seen

    def everywhere(self) -> dict[RelPath, bool]:
        known = (self.base.path(id) for id in self.base.rows)
        return dict.fromkeys((*self.hints, *self.folder.everything(), *known), True)

    def compare(self, paths: Mapping[RelPath, bool]) -> Diff:
        """`diff` of what stands at `paths`, having looked wherever it asked to; the refreshed rows are stored."""
        asked = dict(paths)
        found = diff(self.look(asked), self.base)
        while found.look:
            assert asked.keys().isdisjoint(found.look), "it asks for what it was shown"
            asked.update(dict.fromkeys(found.look, False))
            found = diff(self.look(asked), self.base)
        self.base.store({row.id: row for row in found.refresh})
        return found

    def propose(self, paths: Mapping[RelPath, bool], cut: int | None = None) -> bool:
        """Propose, or revert, what happened at `paths`; at most `cut` commands. Answers whether there was anything."""
        if self.flight is not None:
            return False
        found = self.compare(paths)
        self.hints = {path: tree for path, tree in self.hints.items() if path not in paths}
        if not found.commands:
            return False
        if not self.proposes:
            reverted = revert(found, self.base)
            self.dirty |= reverted.rows.keys() | self.base.store(reverted.rows)
            self.discards += reverted.actions
            return True
        for claim in found.claims:
            if claim.seen is not None and claim.seen.data is not None:
                self.contents[claim.seen.content] = claim.seen.data
        self._sequence += 1
        if any(isinstance(command, Remove) for command in found.commands[:cut]):
            cut = None  # half a tree that is removed here may be found elsewhere, whole
        for claim in found.claims[cut:] if cut is not None else ():
            self.hint(claim.path)
        self.flight = Batch(Origin(self.name, 1, self._sequence), found.commands[:cut]), found.claims[:cut]
        return True

    # entries

    def apply(self, pack: Pack) -> None:
        applied = self.catalogue.apply(self.catalogue.index + 1, pack)
        self.dirty |= applied.changes.keys()
        if self.flight is None or self.flight[0].origin not in applied.outcomes:
            return
        batch, claims = self.flight
        self.flight = None
        ahead = [b.origin for b in pack.batches].index(batch.origin)
        offset = sum(len(b.commands) for b in pack.batches[:ahead])
        outcomes = applied.outcomes[batch.origin]
        settled = settle(batch.commands, claims, outcomes, applied.index, offset, self.catalogue.rows, self.base)
        self.dirty |= settled.rows.keys() | self.base.store(settled.rows)
        for path in settled.look:
            self.hint(path, True)

    # placing

    def place(self, between: Callable[[int], None] = lambda _: None) -> bool:
        """Plan what is noted and carry it out; answers whether there was anything to do."""
        ids, self.dirty = self.dirty, set()
        discards, self.discards = self.discards, []
        self.dirty.update(action.base.id for action in discards if isinstance(action, Shift))
        actions = [*discards, *plan(ids, self.catalogue.rows, self.base)]
        results = Run(self).carry_out(actions, between)
        self.dirty |= self.base.store(self._rows(actions, results))
        return bool(actions)

    def _rows(self, actions: Sequence[Action], results: Sequence[Result]) -> dict[Id, BaseRow | None]:
        """As `Placer._rows`."""
        rows: dict[Id, BaseRow | None] = {}
        lost: list[Id] = []
        for action, result in zip(actions, results, strict=True):
            if isinstance(action, Make) and isinstance(result, Done) and self._is_elsewhere(result.base, rows):
                result = Edited(action.row.id, action.path)
            if isinstance(result, Done):
                if isinstance(action, Aside) and result.base is None:
                    lost.append(action.base.id)
                if isinstance(action, Discard | Aside):
                    continue
                if isinstance(action, Replace) and action.base.id != action.row.id:
                    rows[action.base.id] = None
                rows[result.id] = result.base
                continue
            if isinstance(action, Shift) and (action.parent, action.path.name) == (
                action.base.parent,
                action.base.name,
            ):
                lost.append(action.base.id)
                if action.source is not None:
                    self.hint(action.source, True)
            self.hint(result.path, True)
            if not isinstance(action, Discard):
                self.dirty.add(action.row.id if isinstance(action, Make | Replace | Attributes) else action.base.id)
        # Last: what was done below it in the same run is not to outlive it.
        rows.update(dict.fromkeys(lost))
        self.dirty.update(lost)
        return rows

    def _is_elsewhere(self, made: BaseRow | None, rows: dict[Id, BaseRow | None]) -> bool:
        """Whether the directory adopted as `made` is one that the base has under another id."""
        if made is None or made.kind is not Kind.DIRECTORY:
            return False
        known = self.base.by_inode(made.stat.ino, made.stat.btime_ns)
        return known is not None and known.id != made.id and rows.get(known.id, known) is not None


class _Gone(Exception):
    """A directory on the way is not there."""

    def __init__(self, path: RelPath) -> None:
        self.path = path


class Run:
    """One run of the materialiser in a model folder: exchange, then verify."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.folder = node.folder
        self.keep_edits = node.proposes
        self.asides: dict[Id, tuple[int, Aside, Inode, Inode]] = {}
        self.occupied: set[RelPath] = set()

    def carry_out(self, actions: Sequence[Action], between: Callable[[int], None]) -> list[Result]:
        results: list[Result] = []
        for number, action in enumerate(actions):
            between(number)
            try:
                results.append(self._one(action, number))
            except _Gone as gone:
                id = action.row.id if isinstance(action, Make | Replace | Attributes) else NEW
                id = action.base.id if isinstance(action, Shift | Drop | Aside) else id
                results.append(Done(NEW, None) if isinstance(action, Discard) else Edited(id, gone.path))
            if isinstance(action, Aside) and not isinstance(results[-1], Done):
                self.occupied.add(action.path)
        between(len(actions))
        for number, aside, inode, home in reversed(list(self.asides.values())):
            if aside.path.name not in home.entries and self._alive(home):
                home.entries[aside.path.name] = inode
            else:
                results[number] = self._remove(aside.base, inode)
        return results

    def _one(self, action: Action, number: int) -> Result:
        match action:
            case Make(path=path) | Shift(path=path) if path in self.occupied:
                # What stood there may be elsewhere by now: it keeps its row in the base until it is found.
                return Edited(action.row.id if isinstance(action, Make) else action.base.id, path)
            case Make(row, path):
                return self._make(row, path)
            case Replace(row, path, base):
                return self._replace(row, path, base)
            case Attributes(row, path, base):
                return self._attributes(row, path, base)
            case Aside(base, path):
                directory, name = self._locate(path)
                found = self._standing(directory, name, path)
                if found.kind is not base.kind:
                    return Edited(base.id, path)
                self.asides[base.id] = (number, action, directory.entries.pop(name), directory)
                self.node.hint(path)
                return Done(base.id, base)
            case Shift():
                return self._shift(action)
            case Drop():
                return self._drop(action)
            case Discard():
                return self._discard(action)
        raise AssertionError(action)

    def _make(self, row: Row, path: RelPath) -> Result:
        directory, name = self._locate(path)
        found = directory.entries.get(name)
        if (
            found is not None
            and found.kind is row.kind
            and (row.kind is Kind.DIRECTORY or found.content == row.content)
        ):
            return Done(row.id, base_row(row, self._dress(found, row)))
        if found is not None:
            if self.keep_edits:
                return Edited(row.id, path)
            self._stray(found)
        directory.entries[name] = new = self._build(row)
        return Done(row.id, base_row(row, new.stat))

    def _replace(self, row: Row, path: RelPath, base: BaseRow) -> Result:
        directory, name = self._locate(path)
        found = directory.entries.get(name)
        if found is None:
            return Edited(row.id, path) if self.keep_edits else self._make(row, path)
        if not self._as_expected(found, base):
            if self.keep_edits:
                return Edited(row.id, path)
            self._stray(found)
        directory.entries[name] = new = self._build(row)
        return Done(row.id, base_row(row, new.stat))

    def _attributes(self, row: Row, path: RelPath, base: BaseRow) -> Result:
        directory, name = self._locate(path)
        found = self._standing(directory, name, path)
        if found.kind is not row.kind or (row.kind is not Kind.DIRECTORY and not self._as_expected(found, base)):
            return Edited(row.id, path)
        return Done(row.id, base_row(row, self._dress(found, row)))

    def _shift(self, action: Shift) -> Result:
        base, path = action.base, action.path
        directory, name = self._locate(path)
        if action.source is None:
            if base.id not in self.asides:
                return Edited(base.id, path)
            _, aside, found, _ = self.asides[base.id]
            came = aside.path
        else:
            home, old_name = self._locate(action.source)
            found = self._standing(home, old_name, action.source)
            if found.kind is not base.kind:
                return Edited(base.id, action.source)
            came = action.source
        there = directory.entries.get(name)
        if there is not None:
            if self.keep_edits:
                return Edited(base.id, path)
            self._stray(directory.entries.pop(name))
        if found is directory or any(inode is directory for _, inode in found.below()):
            return Edited(base.id, path)
        if action.source is None:
            del self.asides[base.id]
        else:
            del home.entries[old_name]
        directory.entries[name] = found
        self.node.follow(came, path)
        stat = found.stat if found.stat.unchanged(base.stat) else base.stat
        place = {"parent": action.parent, "name": bytes(name), "placed": action.placed}
        return Done(base.id, replace(base, stat=stat, **place))

    def _drop(self, action: Drop) -> Result:
        base, path = action.base, action.path
        if path is None:
            if base.id not in self.asides:
                return Edited(base.id, RelPath(base.name))
            return self._remove(base, self.asides.pop(base.id)[2])
        directory, name = self._locate(path)
        found = directory.entries.get(name)
        if found is None:
            return Done(base.id, None)
        if base.kind is Kind.DIRECTORY:
            if found.kind is not Kind.DIRECTORY or found.entries:
                return Edited(base.id, path)
        elif not self._as_expected(found, base):
            if self.keep_edits:
                return Edited(base.id, path)
            self._stray(found)
        del directory.entries[name]
        return Done(base.id, None)

    def _discard(self, action: Discard) -> Result:
        directory, name = self._locate(action.path)
        found = directory.entries.get(name)
        if found is None:
            return Done(NEW, None)
        if found.kind is not action.kind:
            return Edited(NEW, action.path)
        if not found.entries:
            del directory.entries[name]
            self._stray(found)
        return Done(NEW, None)

    def _remove(self, base: BaseRow, inode: Inode) -> Done:
        """What stepped aside and cannot return."""
        if inode.entries or (inode.kind is not Kind.DIRECTORY and self._judge(inode, base) == "edited"):
            self._stray(inode)
        return Done(base.id, None)

    # steps

    def _locate(self, path: RelPath) -> tuple[Inode, bytes]:
        here, at = self.folder.root, ROOT_PATH
        for part in path.parent.parts:
            at = at.child(part)
            below = here.entries.get(part)
            if below is None or below.kind is not Kind.DIRECTORY:
                raise _Gone(at)
            here = below
        return here, bytes(path.name)

    def _standing(self, directory: Inode, name: bytes, path: RelPath) -> Inode:
        found = directory.entries.get(name)
        if found is None:
            raise _Gone(path)
        return found

    def _alive(self, home: Inode) -> bool:
        aside = (each[2] for each in self.asides.values())
        return any(home is inode for top in (self.folder.root, *aside) for inode in (top, *(i for _, i in top.below())))

    def _as_expected(self, found: Inode, base: BaseRow) -> bool:
        verdict = self._judge(found, base)
        return verdict == "same" or (verdict == "touched" and not self.keep_edits)

    def _judge(self, found: Inode, base: BaseRow) -> str:
        if found.kind is not base.kind or found.content != base.content:
            return "edited"
        if found.kind is Kind.SYMLINK or (found.mode, found.mtime_ns) == (base.mode, base.mtime_ns):
            return "same"
        return "touched"

    def _build(self, row: Row) -> Inode:
        data = self.node.contents[row.content] if row.kind is Kind.FILE else row.content
        inode = self.folder.inode(row.kind, data)
        self._dress(inode, row)
        return inode

    def _dress(self, inode: Inode, row: Row) -> Stat:
        if row.kind is not Kind.SYMLINK:
            inode.mode = row.mode
        if row.kind is Kind.FILE:
            inode.mtime_ns = row.mtime_ns
        return inode.stat

    def _stray(self, inode: Inode) -> None:
        for each in (inode, *(i for _, i in inode.below())):
            if each.kind is Kind.FILE:
                self.node.strays.append(each.data)


# ------------------------------------------------------------------------------------------------ a cluster


class Cluster:
    """Nodes around one log. `leader` alone proposes; without one, every node does."""

    def __init__(self, count: int, leader: int | None = None) -> None:
        self.contents: dict[bytes, bytes] = {}
        self.nodes = [Node(f"n{n}", self.contents, leader in (None, n)) for n in range(count)]
        self.log: list[Pack] = []

    def commit(self, chosen: Iterable[int]) -> bool:
        """One entry with the batches in flight of the nodes `chosen`, in that order."""
        logged = {batch.origin for pack in self.log for batch in pack.batches}
        flights = [self.nodes[n].flight for n in dict.fromkeys(chosen)]
        batches = tuple(f[0] for f in flights if f is not None and f[0].origin not in logged)
        if batches:
            self.log.append(Pack(batches, {}))
        return bool(batches)

    def apply(self, node: Node, most: int | None = None) -> bool:
        waiting = self.log[node.catalogue.index :][:most]
        for pack in waiting:
            node.apply(pack)
        return bool(waiting)

    def settle(self, whole: bool, rounds: int = 40) -> None:
        """Edits have stopped: bring everything everywhere, looking at the `whole` folder, or where hinted."""
        for _ in range(rounds):
            busy = [node.propose(node.everywhere() if whole else node.hints) for node in self.nodes]
            busy.append(self.commit(range(len(self.nodes))))
            busy += [self.apply(node) for node in self.nodes]
            busy += [node.place() for node in self.nodes]
            if not any(busy) and not any(node.hints for node in self.nodes):
                return
        raise AssertionError("the cluster does not come to rest")

    def check(self) -> None:
        """G1 and G5: digests are equal, every folder is the catalogue, every base its folder."""
        assert len({node.catalogue.digest for node in self.nodes}) == 1
        for node in self.nodes:
            assert node.compare(node.everywhere()).commands == (), node.name
            assert node.catalogue.recount() == node.catalogue.digest
            expected = dict(_tree(node.catalogue))
            found = node.folder.everything()
            assert {path: _row_of(inode) for path, inode in found.items()} == {
                path: (row.kind, row.mode, row.mtime_ns, row.size, row.content) for path, row in expected.items()
            }, node.name
            assert {path: row.id for path, row in expected.items()} == {
                node.base.path(id): id for id in node.base.rows
            }, node.name
            for path, row in expected.items():
                assert node.base.rows[row.id] == base_row(row, found[path].stat), (node.name, path)

    def lost(self, written: Iterable[bytes], given_up: Iterable[bytes]) -> set[bytes]:
        """G3: contents `written` that are neither in the catalogue, nor strays, nor `given_up` by a user."""
        kept = {inode.data for node in self.nodes for inode in node.folder.everything().values()}
        kept.update(data for node in self.nodes for data in node.strays)
        return set(written) - kept - set(given_up)


def _tree(catalogue: Catalogue, id: Id = ROOT, path: RelPath = ROOT_PATH) -> Iterator[tuple[RelPath, Row]]:
    for row in catalogue.rows.children(id):
        yield path.child(row.name), row
        yield from _tree(catalogue, row.id, path.child(row.name))


def _row_of(inode: Inode) -> tuple[Kind, int, int, int, bytes]:
    return (
        inode.kind,
        0 if inode.kind is Kind.SYMLINK else inode.mode,
        inode.mtime_ns if inode.kind is Kind.FILE else 0,
        0 if inode.kind is Kind.DIRECTORY else len(inode.data),
        inode.content,
    )
