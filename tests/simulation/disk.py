"""What a machine remembers: the node's stores in memory, with what a crash and a loss of power leave of them.

What the process wrote survives its death. What was not synced when the power went is dropped: of the stores the newest
transactions (SQLite keeps a prefix of them), of the file systems everything since they last wrote their journal, and
of the files made before that, but not synced, the content. Objects are durable once `put` returns.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from folders import DictBase

from onefold.core.history import Record
from onefold.core.model import NEW, ROOT, BaseRow, Id, Row
from onefold.core.paths import RelPath
from onefold.core.rows import Last, MemoryRows
from onefold.core.wire import content_digest
from onefold.errors import ContentMismatch, OperatorError
from simulation.faces import SimulatedPath
from simulation.kernel import Inode, Kernel

Operation = tuple[str, tuple[Any, ...]]


class Journal:
    """Transactions of operations (a method's name and its arguments): those that are on disk for good, and the rest."""

    def __init__(self) -> None:
        self.kept: list[list[Operation]] = []
        self.loose: list[list[Operation]] = []
        self._open: list[Operation] | None = None

    def note(self, *operation: Any) -> None:
        if self._open is not None:
            self._open.append((operation[0], operation[1:]))
        else:
            self.loose.append([(operation[0], operation[1:])])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        outer, self._open = self._open, [] if self._open is None else self._open
        yield  # an exception ends the node, and with it what was not committed
        if outer is None:
            if self._open:
                self.loose.append(self._open)
            self._open = None

    def flush(self) -> None:
        self.kept += self.loose
        self.loose = []

    def lose(self, rng: random.Random) -> None:
        del self.loose[rng.randint(0, len(self.loose)) :]
        self.flush()

    def replay(self, store: Any) -> None:
        """Bring the new `store` to what is in here."""
        self._open = None
        for transaction in (*self.kept, *self.loose):
            for name, arguments in transaction:
                getattr(store, name)(*arguments)


class SimulatedCatalogue(MemoryRows):
    """`ports.CatalogueStore`."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self._machine = machine
        self._packs: dict[int, bytes] = {}
        self.state = (0, 0, 0, False)
        self.copied = 0
        self._durable = 0
        self.copied = 0
        self._journal = Journal()
        self.transaction = self._journal.transaction
        machine.catalogue.replay(self)
        self._journal = machine.catalogue
        self.transaction = self._journal.transaction

    def put(self, row: Row) -> None:
        super().put(row)
        self._journal.note("put", row)

    def delete(self, row: Row) -> None:
        super().delete(row)
        self._journal.note("delete", row)

    def set_last(self, node: str, last: Last) -> None:
        super().set_last(node, last)
        self._journal.note("set_last", node, last)

    def keep_pack(self, index: int, digest: bytes) -> None:
        self._packs[index] = digest
        self._journal.note("keep_pack", index, digest)

    def packs(self) -> Sequence[tuple[int, bytes]]:
        return sorted(self._packs.items())

    def forget_packs(self, through: int) -> None:
        gone = [index for index in self._packs if index <= through]
        for index in gone:
            del self._packs[index]
        if gone:
            self._journal.note("forget_packs", through)

    def note(self, records: Sequence[Record]) -> None:
        """Nobody asks for it here."""

    def history(self, before: int, limit: int) -> Sequence[Record]:
        return ()

    def history_of(self, path: RelPath, id: Id | None, before: int, limit: int) -> Sequence[Record]:
        return ()

    def begin_copy(self) -> None:
        self._copied: dict[Id, Row] = {}
        self._journal.note("begin_copy")

    def copy(self, rows: Iterable[Row]) -> None:
        rows = tuple(rows)
        self._copied.update((row.id, row) for row in rows)
        self._journal.note("copy", rows)

    def end_copy(self, index: int, digest: int, files: int, seeded: bool, lasts: Iterable[tuple[str, Last]]) -> None:
        lasts = tuple(lasts)
        with self.transaction():
            for row in [row for id, row in self._rows.items() if id != ROOT]:
                self._rows.pop(row.id)
            self._places.clear()
            self._lasts.clear()
            self._packs.clear()
            for row in self._copied.values():
                MemoryRows.put(self, row)
            for node, last in lasts:
                MemoryRows.set_last(self, node, last)
            self._journal.note("end_copy", index, digest, files, seeded, lasts)
            self.state = (index, digest, files, seeded)
            self.copied = index
        if self._journal is self._machine.catalogue:
            self._machine.witness.applied(self._machine.name, index, digest)

    def save_state(self, index: int, digest: int, files: int, seeded: bool) -> None:
        self.state = (index, digest, files, seeded)
        self._journal.note("save_state", index, digest, files, seeded)
        if self._journal is self._machine.catalogue:
            self._machine.witness.applied(self._machine.name, index, digest)

    @property
    def durable(self) -> int:
        return self._durable

    @durable.setter
    def durable(self, index: int) -> None:
        self.set_durable(index)

    def set_durable(self, index: int) -> None:
        self._durable = index
        self._journal.note("set_durable", index)

    def everything(self) -> dict[Id, Row]:
        return self._rows


class SimulatedBase(DictBase):
    """`ports.BaseStore`, and the rest of what `edge.journal.Base` keeps."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self._machine = machine
        self._values: dict[str, Any] = {}
        self._intents: dict[int, bytes] = {}
        self._journal = Journal()
        self.transaction = self._journal.transaction
        machine.based = self.rows
        machine.base.replay(self)
        self._journal = machine.base
        self.transaction = self._journal.transaction

    def put(self, row: BaseRow) -> None:
        there = self.child(row.parent, row.name)
        if there is not None and there.id != row.id:
            super().delete(there.id)
        super().put(row)
        self._journal.note("put", row)
        if self._journal is self._machine.base:
            self._machine.witness.based(self._machine.name, row)

    def delete(self, id: Id) -> None:
        if id in self.rows:
            super().delete(id)
            self._journal.note("delete", id)

    def by_content(self, digest: bytes) -> list[BaseRow]:
        return [row for row in self.rows.values() if row.kind == 1 and row.content == digest]

    def places(self) -> list[tuple[Id, int, Id, bytes]]:
        return [(id, row.version, row.parent, row.name) for id, row in sorted(self.rows.items())]

    def differences(self, catalogue: SimulatedCatalogue) -> list[Id]:
        """As `edge.journal.Base.differences`."""
        theirs = {id: (r.version, r.parent, r.name) for id, r in catalogue.everything().items() if id != ROOT}
        ours = {id: (r.version, r.parent, r.name) for id, r in self.rows.items()}
        return sorted(id for id in theirs.keys() | ours.keys() if theirs.get(id) != ours.get(id))

    def open_intents(self, intents: Iterable[tuple[int, bytes]]) -> None:
        intents = tuple(intents)
        self._intents.update(intents)
        self._journal.note("open_intents", intents)

    def intents(self) -> list[bytes]:
        return [self._intents[key] for key in sorted(self._intents)]

    def close_intents(self) -> None:
        self._intents.clear()
        self._journal.note("close_intents")

    def set_value(self, name: str, value: Any) -> None:
        self._values[name] = value
        self._journal.note("set_value", name, value)

    @property
    def joined(self) -> bool:
        return bool(self._values.get("joined", False))

    @joined.setter
    def joined(self, joined: bool) -> None:
        self.set_value("joined", joined)

    @property
    def behind(self) -> int:
        return int(self._values.get("behind", 0))

    @behind.setter
    def behind(self, index: int) -> None:
        self.set_value("behind", index)

    def page(self, after: Id, limit: int) -> list[BaseRow]:
        return [self.rows[id] for id in sorted(self.rows) if id > after][:limit]

    @property
    def scrubbed(self) -> Id:
        return Id(self._values.get("scrubbed", NEW))

    @scrubbed.setter
    def scrubbed(self, id: Id) -> None:
        self.set_value("scrubbed", id)

    @property
    def scrub_due(self) -> float:
        return float(self._values.get("scrub_due", 0.0))

    @scrub_due.setter
    def scrub_due(self, seconds: float) -> None:
        self.set_value("scrub_due", seconds)

    @property
    def boot_id(self) -> str:
        return str(self._values.get("boot_id", ""))

    @boot_id.setter
    def boot_id(self, boot_id: str) -> None:
        self.set_value("boot_id", boot_id)

    @property
    def clean(self) -> bool:
        return bool(self._values.get("clean", False))

    @clean.setter
    def clean(self, clean: bool) -> None:
        self.set_value("clean", clean)

    def next_incarnation(self) -> int:
        incarnation = int(self._values.get("incarnation", 0)) + 1
        self.set_value("incarnation", incarnation)
        self._machine.base.flush()
        return incarnation


class SimulatedRereading:
    """`ports.Rereading`: all at once."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._read = False

    def step(self) -> int:
        first, self._read = not self._read, True
        return len(self._data) if first else 0

    def digest(self) -> bytes:
        return content_digest(self._data)

    def size(self) -> int:
        return len(self._data)

    def close(self) -> None: ...


class SimulatedObjects:
    """`ports.Objects`: files of the machine, in the directory `objects`."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._kernel = machine.kernel

    @property
    def _directory(self) -> Inode:
        return self._machine.root.entries[b"objects"]

    def has(self, digest: bytes) -> bool:
        return _name(digest) in self._directory.entries

    def put(self, digest: bytes, data: bytes) -> None:
        self.receive(digest, len(data), (data,))

    def receive(self, digest: bytes, size: int, chunks: Iterable[bytes | memoryview]) -> None:
        if self.has(digest):
            return
        data = b"".join(bytes(chunk) for chunk in chunks)
        if len(data) != size or content_digest(data) != digest:
            raise ContentMismatch(f"the {len(data)} bytes that arrived are not object {digest.hex()[:12]}")
        self._kernel.enter()
        if self._machine.path + b"/objects" in self._kernel.full:
            raise OperatorError(f"no space for object {digest.hex()[:12]}", "free space")
        inode = self._kernel.inode(0o100444, data)
        inode.dirty = False
        self._kernel.place(self._directory, _name(digest), inode)
        self._machine.released.pop(digest, None)

    def resume(self, digest: bytes, size: int, chunks: Callable[[int], Iterable[bytes | memoryview]]) -> None:
        self.receive(digest, size, chunks(0))

    def read(self, digest: bytes) -> bytes:
        return self._inode(digest).data

    def path(self, digest: bytes) -> Any:
        self._inode(digest)
        return SimulatedPath(os.fsdecode(self._machine.path + b"/objects/" + _name(digest)))

    def release(self, digest: bytes) -> None:
        inode = self._directory.entries.pop(_name(digest), None)
        if inode is not None:
            self._machine.released[digest] = inode
            self._machine.witness.released(self._machine.name, digest)

    def reread(self, digest: bytes) -> SimulatedRereading:
        return SimulatedRereading(self._inode(digest).data)

    def distrust(self, digest: bytes) -> None:
        self._directory.entries.pop(_name(digest), None)

    def digests(self) -> Iterator[bytes]:
        return iter([bytes.fromhex(name.decode()) for name in sorted(self._directory.entries)])

    def _inode(self, digest: bytes) -> Inode:
        inode = self._directory.entries.get(_name(digest))
        if inode is None:
            raise KeyError(digest)
        return inode


def _name(digest: bytes) -> bytes:
    return digest.hex().encode()


class SimulatedRecent:
    """`ports.RecentContents`."""

    def __init__(self, machine: Machine) -> None:
        self._packs = machine.recent

    def remember(self, index: int, contents: dict[bytes, bytes]) -> None:
        if contents:
            self._packs[index] = contents

    def get(self, digest: bytes) -> bytes | None:
        return next((contents[digest] for contents in self._packs.values() if digest in contents), None)

    def forget(self, up_to: int) -> None:
        for index in [index for index in self._packs if index <= up_to]:
            del self._packs[index]


class SimulatedStrays:
    """`ports.Strays`, as much of it as is asked for, and the `StrayKeeper` of the materialiser."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def add(self, dir_fd: int, name: bytes, path: RelPath, reason: str) -> None:
        kernel, machine = self._machine.kernel, self._machine
        kernel.enter()
        source = kernel._inode(dir_fd)
        found = source.entries.get(name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        if machine.path + b"/objects" in kernel.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        del source.entries[name]
        machine.strays_kept += 1
        kernel.place(machine.root.entries[b"strays"], b"%d" % machine.strays_kept, found)
        machine.tell(f"stray {path.decode('utf-8', 'replace')}: {reason}")

    def count(self) -> int:
        return len(self._machine.root.entries[b"strays"].entries)


class Machine:
    """A machine's memory and disks, at `/<name>`: `folder`, `objects`, `strays` and `copies`, and the stores."""

    def __init__(self, name: str, kernel: Kernel, witness: Any, tell: Any) -> None:
        self.name = name
        self.path = b"/" + name.encode()
        self.kernel = kernel
        self.witness = witness
        self.tell = lambda text: tell(name, text)
        self.catalogue = Journal()
        self.base = Journal()
        self.recent: dict[int, dict[bytes, bytes]] = {}
        self.released: dict[bytes, Inode] = {}
        self.strays_kept = 0
        self.based: dict[Id, BaseRow] = {}
        """The rows of the base, as the last process had them."""
        self.synced_index = 0
        """Up to where the catalogue is on disk for good."""
        self.told: Any = None
        """What its hooks were told (`hooked.Told`), if it has any."""
        self.boot = 1
        """Grows with each boot."""
        kernel.mkdir(self.path)
        self.root = kernel.at(self.path)
        for directory in (b"folder", b"folder/.onefold", b"folder/.onefold/tmp", b"objects", b"strays", b"copies"):
            kernel.mkdir(self.path + b"/" + directory)
        self.written_back()
        kernel.place(self.root.entries[b"folder"].entries[b".onefold"], b"id", kernel.inode(0o100644, b"id"))
        self.synced()

    @property
    def applied_index(self) -> int:
        """Up to where the catalogue has been applied here."""
        for transaction in reversed((*self.catalogue.kept, *self.catalogue.loose)):
            for name, arguments in transaction:
                if name in ("save_state", "end_copy"):
                    return int(arguments[0])
        return 0

    def wipe(self) -> None:
        """The state directory is deleted."""
        self.catalogue, self.base = Journal(), Journal()
        self.base.note("set_value", "incarnation", 1_000 * self.boot)
        self.recent.clear()
        self.synced_index = 0
        self.told = None

    @property
    def folder(self) -> Inode:
        return self.root.entries[b"folder"]

    def synced(self) -> None:
        """Everything written until now is on disk."""
        self.catalogue.flush()
        self.base.flush()
        self.synced_index = self.applied_index
        self.released.clear()
        for each in (self.root, *(inode for _, inode in self.root.below(b"/"))):
            each.dirty = False
        self.written_back()
        self.witness.synced(self.name, self._image)

    def written_back(self) -> None:
        """The file systems write their journal: names are on disk, contents may not be."""
        self._image = self.root.copy()
        self._dirty = {inode.ino for _, inode in self.root.below(b"/") if inode.dirty and inode.is_file}

    def lose_power(self, rng: random.Random) -> None:
        """What was not on disk is gone."""
        objects = {name: inode.copy() for name, inode in self.root.entries[b"objects"].entries.items()}
        strays = self.strays_kept
        image = self._image.copy()
        for _, inode in image.below(b"/"):
            if inode.ino in self._dirty and inode.is_file and rng.random() < 0.3:
                inode.data = b""
        home = image.entries[b"objects"]
        home.entries.clear()
        for digest, inode in self.released.items():
            if rng.random() < 0.5:
                objects[_name(digest)] = inode
        for name in sorted(objects):
            self.kernel.place(home, name, objects[name])
        self.kernel.place(self.kernel.root, self.name.encode(), image)
        self.root = image
        self.strays_kept = strays
        self.released.clear()
        self.catalogue.lose(rng)
        self.base.lose(rng)
        if rng.random() < 0.5:
            self.recent.clear()
        self.boot += 1
        self.written_back()
