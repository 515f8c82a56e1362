"""Who sees everything, and says at once when a guarantee is broken.

G1: every node's catalogue at an index has the digest that a catalogue of the witness's own has there. G2: what an
entry names is durable on a majority when it is committed, and stays so while it is current; the log is trimmed only
behind that. G3: no process of a node destroys bytes of a user that are neither committed nor elsewhere on that machine,
and no edit takes the place of a version that its author had not seen. G4: only versions that somebody wrote appear in a
folder, at once and whole, and never an older one after a newer. G6: only the leader of a term appends in it. G5 is for
the end: every folder is the catalogue, and every node at rest. API: what was acknowledged to who asked is committed,
and its condition held.
"""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from onefold.core import wire
from onefold.core.catalogue import Catalogue
from onefold.core.model import (
    NEVER,
    NEW,
    ROOT,
    Applied,
    BaseRow,
    Batch,
    Change,
    Command,
    Entry,
    Id,
    Kind,
    Move,
    Outcome,
    Pack,
    Put,
    Remove,
    Row,
)
from onefold.core.paths import ROOT_PATH, RelPath, show
from onefold.core.rows import MemoryRows
from simulation.disk import Machine
from simulation.kernel import Inode
from simulation.replicated import ASKING, WatchedCluster
from simulation.virtual import Life

_KINDS = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.DIRECTORY, stat.S_IFLNK: Kind.SYMLINK}


class Broken(BaseException):
    """A guarantee is broken: which, and how."""


class Witness:
    def __init__(self, tell: Callable[[str, str], None]) -> None:
        self._tell = tell
        self.cluster = WatchedCluster(self._log_changed, self._log_trimmed)
        self.machines: dict[str, Machine] = {}
        self.voters: tuple[str, ...] = ()
        self.catalogue = Catalogue(MemoryRows())
        self.digests: dict[int, int] = {0: 0}
        self.failures: list[str] = []
        self.commands = 0
        self.versions: dict[int, tuple[Row | None, Row | None]] = {}
        """What each change of content or attributes made of what."""
        self._seen = (0, "", 0)  # head and leader, as last seen
        self._written: set[bytes] = {b""}
        self._history: set[bytes] = {wire.content_digest(b"")}
        self._durable: dict[str, set[bytes]] = {}
        self._based: dict[tuple[str, Id], int] = {}

    def broken(self, guarantee: str, how: str) -> None:
        self.failures.append(f"{guarantee}: {how}")
        self._tell("", f"BROKEN {guarantee}: {how}")
        raise Broken(self.failures[0])

    # -------------------------------------------------------------------------------------------- the log

    def _log_changed(self) -> None:
        leader, head = self.cluster.leader, self.cluster.head
        now = (head, leader.node if leader else "", leader.term if leader else 0)
        if now[1:] != self._seen[1:]:
            self._tell("", f"{now[1] or 'nobody'} leads, term {now[2]}" + (f" ({leader.reason})" if leader else ""))
            if leader is not None and leader.term <= self._seen[2]:
                self.broken("G6", f"term {leader.term} came after term {self._seen[2]}")
        before, self._seen = self._seen, (head, now[1], max(now[2], self._seen[2]))
        if head != before[0]:
            self._committed(head, before[0])

    def _committed(self, head: int, before: int) -> None:
        leader, asking = self.cluster.leader, ASKING.get()
        entry = wire.decode_entry(self.cluster.entries[head])
        if head != before + 1:
            self.broken("G6", f"entry {head} came after entry {before}")
        if leader is None or entry.term != leader.term or asking != leader.node:
            self.broken("G6", f"{asking} appended entry {head} in term {entry.term}, while {leader} led")
        data = entry.pack if entry.pack is not None else self._held(head, entry)
        pack = wire.decode_pack(data)
        self._check_contents(head, pack)
        self.commands += sum(len(batch.commands) for batch in pack.batches)
        applied = self.catalogue.apply(head, pack)
        self.digests[head] = self.catalogue.digest
        for change in applied.changes.values():
            if change.after is not None:
                self.versions.setdefault(change.after.version, (change.before, change.after))
            if change.after is not None and change.after.kind is Kind.FILE:
                self._history.add(change.after.content)
        self._tell(asking, f"entry {head}: {', '.join(_batch(b, applied.outcomes[b.origin]) for b in pack.batches)}")
        self._check_edits(pack, applied)

    def _log_trimmed(self, through: int) -> None:
        have = [name for name in self.voters if self.machines[name].synced_index >= through]
        self._tell("", f"the log is trimmed through {through}")
        if len(have) <= len(self.voters) // 2:
            self.broken("G2", f"the log was trimmed through {through}, which only {have} have on disk")

    def _held(self, index: int, entry: Entry) -> bytes:
        holders = [name for name in self.voters if self._has_object(name, entry.digest)]
        if len(holders) <= len(self.voters) // 2:
            self.broken("G2", f"only {holders} hold the pack of entry {index}, which is committed")
        return self.machines[holders[0]].root.entries[b"objects"].entries[entry.digest.hex().encode()].data

    def _check_contents(self, index: int, pack: Pack) -> None:
        for batch in pack.batches:
            for c in batch.commands:
                if not isinstance(c, Put) or c.kind is not Kind.FILE or c.content is None:
                    continue
                if c.content in pack.contents:
                    if wire.content_digest(pack.contents[c.content]) != c.content:
                        self.broken("G2", f"entry {index} brings other bytes for {show(c.name)} than it says")
                elif c.content not in self._history:
                    holders = [name for name in self.voters if self._has_object(name, c.content)]
                    if len(holders) <= len(self.voters) // 2:
                        self.broken("G2", f"only {holders} hold {show(c.name)} of entry {index}, which is committed")

    def _check_edits(self, pack: Pack, applied: Applied) -> None:
        """An accepted edit had seen what it replaced. Only of ids that one command of the pack is about."""
        about = Counter(getattr(command, "id", NEW) for batch in pack.batches for command in batch.commands)
        for batch in pack.batches:
            for c in batch.commands:
                if isinstance(c, Put) and about[c.id] == 1 and c.id in applied.changes:
                    change = applied.changes[c.id]
                    if change.before is not None and _replaced(change) and change.before.version != c.expect:
                        self.broken("G3", f"{show(c.name)} of {batch.origin.node} replaced a version it had not seen")

    def _has_object(self, name: str, digest: bytes) -> bool:
        return digest.hex().encode() in self.machines[name].root.entries[b"objects"].entries

    # -------------------------------------------------------------------------------------------- stores

    def applied(self, name: str, index: int, digest: int) -> None:
        if self.digests.get(index) != digest:
            self.broken("G1", f"the catalogue of {name} at index {index} is not what the log says")

    def based(self, name: str, row: BaseRow) -> None:
        if row.version == NEVER:
            return
        newest = self._based.get((name, row.id), 0)
        if row.version < newest:
            self.broken(
                "G4", f"{show(row.name)} (id {row.id:x}) on {name} went back from {newest:x} to {row.version:x}"
            )
        self._based[name, row.id] = row.version

    def lost_power(self, name: str) -> None:
        for key in [key for key in self._based if key[0] == name]:
            del self._based[key]

    def synced(self, name: str, image: Inode) -> None:
        """A sync of that machine is complete. Whatever its base has was there: its user may have overwritten it."""
        durable = self._durable.setdefault(name, set())
        durable.update(wire.content_digest(inode.data) for _, inode in image.entries[b"folder"].below())
        if name in self.machines:
            durable.update(row.content for row in self.machines[name].based.values())

    def released(self, name: str, digest: bytes) -> None:
        if name not in self.voters or not self._is_current(digest):
            return
        have = [v for v in self.voters if self._has_object(v, digest) or digest in self._durable.get(v, ())]
        if len(have) <= len(self.voters) // 2:
            self.broken("G2", f"{name} let go of {digest.hex()[:12]}, which is current, and only {have} have it")

    def _is_current(self, digest: bytes) -> bool:
        return any(row.content == digest for _, row in self.tree())

    # -------------------------------------------------------------------------------------------- folders

    def wrote(self, data: bytes) -> None:
        """A user wrote that."""
        self._written.add(data)

    def appeared(self, life: Life, path: bytes, inode: Inode) -> None:
        """A process of a node gave `inode` a name in a folder."""
        for _, each in [(b"", inode), *inode.below(b"/")] if inode.is_dir else [(b"", inode)]:
            if each.is_file and each.data not in self._written:
                self.broken("G4", f"{show(path)} holds what nobody wrote: {each.data[:40]!r}")

    def written_in_place(self, life: Life, path: bytes) -> None:
        self.broken("G4", f"{life.node} writes to {show(path)} where readers see it")

    def unlinked(self, life: Life, inode: Inode) -> None:
        """A process of a node removes a file for ever."""
        if not inode.is_file or not inode.data:
            return
        if inode.writers:
            self.broken("G3", f"{life.node} removes a file that a program is writing to: {inode.data[:40]!r}")
        if inode.data in self._written and wire.content_digest(inode.data) not in self._history:
            machine = self.machines[life.node]
            places = [*machine.folder.below(), *machine.root.entries[b"strays"].below(b"strays")]
            if not any(each.data == inode.data and each is not inode for _, each in places):
                self.broken("G3", f"{life.node} removes what is nowhere else: {inode.data[:40]!r}")

    # -------------------------------------------------------------------------------------------- the end

    def tree(self, id: Id = ROOT, path: RelPath = ROOT_PATH) -> Iterator[tuple[RelPath, Row]]:
        for row in self.catalogue.rows.children(id):
            yield path.child(row.name), row
            yield from self.tree(row.id, path.child(row.name))

    def differences(self) -> list[str]:
        """What keeps the folders from being the catalogue (G5)."""
        expected = {bytes(path): _of_row(row) for path, row in self.tree()}
        found = []
        for name, machine in sorted(self.machines.items()):
            there = {path: _of_inode(inode) for path, inode in machine.folder.below()}
            if there != expected:
                for path in sorted(expected.keys() | there.keys()):
                    if expected.get(path) != there.get(path):
                        found.append(f"{name}/{show(path)} is {there.get(path)}, and should be {expected.get(path)}")
        return found

    def check_end(self) -> None:
        if self.catalogue.recount() != self.catalogue.digest:
            self.broken("G1", "the digest is not that of the rows")
        differences = self.differences()
        if differences:
            self.broken("G5", "; ".join(differences[:4]))


def _replaced(change: Change) -> bool:
    """Whether there is other content now."""
    return change.before is not None and change.after is not None and change.before.content != change.after.content


def _batch(batch: Batch, outcomes: Sequence[Outcome]) -> str:
    origin = batch.origin
    done = " ".join(_command(c, o) for c, o in zip(batch.commands, outcomes, strict=False))
    return f"{origin.node}#{origin.incarnation}.{origin.sequence}[{done}]"


def _command(c: Command, outcome: Outcome) -> str:
    told = show(c.name) if isinstance(c, Put | Move) else f"{c.id:x}" if isinstance(c, Remove) else ""
    return f"{type(c).__name__.lower()} {told}".rstrip() + ("" if outcome.accepted else f" REJECTED: {outcome.reason}")


def _of_row(row: Row) -> tuple[str, int, int, bytes]:
    mtime = row.mtime_ns if row.kind is Kind.FILE else 0
    return (row.kind.name, row.mode, mtime, row.content.hex()[:16].encode() if row.kind is Kind.FILE else row.content)


def _of_inode(inode: Inode) -> tuple[str, int, int, bytes]:
    kind = _KINDS[stat.S_IFMT(inode.mode)]
    mode = 0 if kind is Kind.SYMLINK else inode.mode & 0o777
    if kind is Kind.FILE:
        return kind.name, mode, inode.mtime_ns, wire.content_digest(inode.data).hex()[:16].encode()
    return kind.name, mode, 0, inode.data
