"""What a node remembers across restarts: its catalogue, and its base, each in an SQLite file of the state directory.

`catalogue.db` takes one transaction per entry of the log, `base.db` batches of its own. Both are in WAL mode with
synchronous=NORMAL: a transaction survives the death of the process at once, and the death of the machine once the file
system of the state directory has been synced (`FolderMaterialiser.sync`), which is what the index *durable* stands for.
After a crash of the machine SQLite recovers a prefix of the transactions, never half of one.

All of it belongs to one thread, the event loop's.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from onefold.core.history import Record
from onefold.core.model import NEW, ROOT, ROOT_ROW, BaseRow, Id, Kind, Row, Stat, index_of
from onefold.core.paths import ROOT_PATH, RelPath
from onefold.core.rows import Last
from onefold.edge.database import META, Database
from onefold.edge.rowcache import RowCache
from onefold.errors import Bug, OperatorError

CATALOGUE = "catalogue.db"
_PATHS_MAX = 100_000
_U64 = (1 << 64) - 1
_INT_MAX = (1 << 63) - 1

_KINDS = {int(kind): kind for kind in Kind}

_COLUMNS = """(id INTEGER PRIMARY KEY, parent INTEGER, name BLOB, kind INTEGER, version INTEGER,
        placed INTEGER, mode INTEGER, mtime_ns INTEGER, size INTEGER, content BLOB)"""
_PLACES = "CREATE UNIQUE INDEX rows_place ON rows (parent, name)"

_CATALOGUE_TABLES = (
    META,
    f"CREATE TABLE rows {_COLUMNS}",
    _PLACES,
    "CREATE TABLE lasts (node TEXT PRIMARY KEY, last BLOB) WITHOUT ROWID",
    "CREATE TABLE packs (position INTEGER PRIMARY KEY, digest BLOB)",
)

_BASE_TABLES = (
    META,
    """CREATE TABLE rows (id INTEGER PRIMARY KEY, parent INTEGER, name BLOB, kind INTEGER, version INTEGER,
        placed INTEGER, mode INTEGER, mtime_ns INTEGER, size INTEGER, content BLOB,
        ino INTEGER, btime_ns INTEGER, stat_mtime_ns INTEGER, ctime_ns INTEGER, stat_size INTEGER,
        stat_mode INTEGER)""",
    "CREATE UNIQUE INDEX rows_place ON rows (parent, name)",
    "CREATE INDEX rows_inode ON rows (ino)",
    "CREATE INDEX rows_content ON rows (substr(content, 1, 8)) WHERE kind = 1",
    "CREATE TABLE intents (key INTEGER PRIMARY KEY, actions BLOB)",
)


_HISTORY = """CREATE TABLE IF NOT EXISTS history (version INTEGER PRIMARY KEY, id INTEGER, verb TEXT, path BLOB,
    node TEXT, kind INTEGER, size INTEGER, content BLOB, mtime_ns INTEGER)"""
HISTORY_RECORDS = 50_000
"""The newest changes are kept, so many at least. About 6 MiB; a record costs 10 µs when it is written, and, since that
is done with every change and history is seldom asked for, there is no index: all are looked through in some 10 ms."""


class State(msgspec.Struct, frozen=True):
    """What a `Catalogue` is beside its rows; `durable` is the index up to which it survives a crash of the machine."""

    index: int
    digest: int
    files: int
    seeded: bool
    durable: int


# ------------------------------------------------------------------------------------------------ the catalogue

_encode_last = msgspec.msgpack.Encoder().encode
_decode_last = msgspec.msgpack.Decoder(Last).decode


class CatalogueStore(Database):
    """The catalogue's rows (`core.rows.Rows`), and the rest of its state.

    `folder` is the folder's id and `node` this node's name: a state directory belongs to both for ever.
    """

    def __init__(self, directory: Path, folder: str, node: str) -> None:
        self._cache: RowCache[Row] = RowCache()
        self._lasts: dict[str, Last | None] = {}
        super().__init__(directory, CATALOGUE, _CATALOGUE_TABLES, folder)
        self.execute(_HISTORY)  # what an older version made has none yet
        self._records = int(self.execute("SELECT count(*) FROM history").fetchone()[0])
        stored = self._meta("node", None)
        if stored is None:
            self._set_meta("node", node)
        elif stored != node:
            self.close()
            raise OperatorError(
                f"{self._path} belongs to node {stored!r}, not to {node!r}",
                "give each node a state directory of its own, or correct the node's name in its configuration",
            )

    # Rows

    def get(self, id: Id) -> Row | None:
        if id == ROOT:
            return ROOT_ROW
        if id in self._cache.ids:
            return self._cache.ids[id]
        found = self.execute("SELECT * FROM rows WHERE id = ?", (id,)).fetchone()
        return None if found is None else self._cache.found(_row(found))

    def child(self, parent: Id, name: bytes) -> Row | None:
        if (parent, name) in self._cache.places:
            return self._cache.places[parent, name]
        found = self.execute("SELECT * FROM rows WHERE parent = ? AND name = ?", (parent, bytes(name))).fetchone()
        if found is None:
            self._cache.missing(parent, name)
            return None
        return self._cache.found(_row(found))

    def children(self, parent: Id) -> list[Row]:
        return [_row(t) for t in self.execute("SELECT * FROM rows WHERE parent = ? ORDER BY name", (parent,))]

    def children_after(self, parent: Id, after: bytes, limit: int) -> list[Row]:
        found = self.execute(
            "SELECT * FROM rows WHERE parent = ? AND name > ? ORDER BY name LIMIT ?", (parent, bytes(after), limit)
        )
        return [_row(t) for t in found]

    def has_children(self, id: Id) -> bool:
        return self.execute("SELECT 1 FROM rows WHERE parent = ? LIMIT 1", (id,)).fetchone() is not None

    def page(self, after: Id, limit: int) -> list[Row]:
        found = self.execute("SELECT * FROM rows WHERE id > ? ORDER BY id LIMIT ?", (after, limit))
        return [_row(t) for t in found]

    def put(self, row: Row) -> None:
        self.execute(
            "INSERT INTO rows VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET parent=excluded.parent,"
            " name=excluded.name, kind=excluded.kind, version=excluded.version, placed=excluded.placed,"
            " mode=excluded.mode, mtime_ns=excluded.mtime_ns, size=excluded.size, content=excluded.content",
            _columns(row),
        )
        self._cache.written(row)

    def delete(self, row: Row) -> None:
        self.execute("DELETE FROM rows WHERE id = ?", (row.id,))
        self._cache.forget(row.id)

    def _rolled_back(self) -> None:
        """Forget what memory holds: the rows are others now."""
        self._cache.clear()
        self._lasts.clear()

    def last(self, node: str) -> Last | None:
        if node not in self._lasts:
            found = self.execute("SELECT last FROM lasts WHERE node = ?", (node,)).fetchone()
            self._lasts[node] = None if found is None else _decode_last(found[0])
        return self._lasts[node]

    def lasts(self) -> list[tuple[str, Last]]:
        return [(node, _decode_last(last)) for node, last in self.execute("SELECT * FROM lasts ORDER BY node")]

    def set_last(self, node: str, last: Last) -> None:
        self.execute("INSERT OR REPLACE INTO lasts VALUES (?, ?)", (node, _encode_last(last)))
        self._lasts[node] = last

    # the rest of the state

    def keep_pack(self, index: int, digest: bytes) -> None:
        """Entry `index` came in the pack `digest`, an object that is kept for as long as the log keeps the entry."""
        self.execute("INSERT OR REPLACE INTO packs VALUES (?, ?)", (index, digest))

    def packs(self) -> list[tuple[int, bytes]]:
        """All packs that are kept: the entry's index, and the digest."""
        return self.execute("SELECT position, digest FROM packs ORDER BY position").fetchall()

    def forget_packs(self, through: int) -> None:
        """The log keeps the entries up to `through` no more."""
        self.execute("DELETE FROM packs WHERE position <= ?", (through,))

    # history

    def note(self, records: Sequence[Record]) -> None:
        """What the newest entry did; the oldest records beyond HISTORY_RECORDS are forgotten."""
        self._db.executemany(
            "INSERT OR REPLACE INTO history VALUES (?,?,?,?,?,?,?,?,?)",
            [
                (r.version, r.id, r.verb, bytes(r.path), r.node, int(r.kind), r.size, r.content, r.mtime_ns)
                for r in records
            ],
        )
        self._records += len(records)
        if self._records > HISTORY_RECORDS + HISTORY_RECORDS // 8:
            self.execute(
                "DELETE FROM history WHERE version <="
                " (SELECT version FROM history ORDER BY version DESC LIMIT 1 OFFSET ?)",
                (HISTORY_RECORDS,),
            )
            (self._records,) = self.execute("SELECT count(*) FROM history").fetchone()

    def history(self, before: int, limit: int) -> list[Record]:
        """The newest `limit` records with versions before `before`, newest first."""
        found = self.execute(
            "SELECT * FROM history WHERE version < ? ORDER BY version DESC LIMIT ?", (min(before, _INT_MAX), limit)
        )
        return [_record(t) for t in found]

    def history_of(self, path: RelPath, id: Id | None, before: int, limit: int) -> list[Record]:
        """As `history`, of `id` and of whatever else was at `path`, wherever that was at other times."""
        found = self.execute(
            "SELECT * FROM history WHERE version < ? AND id IN (SELECT id FROM history WHERE path = ? UNION SELECT ?)"
            " ORDER BY version DESC LIMIT ?",
            (min(before, _INT_MAX), bytes(path), id, limit),
        )
        return [_record(t) for t in found]

    # another catalogue

    @property
    def copied(self) -> int:
        """The index at which it was copied from a peer; 0 if it never was."""
        return int(self._meta("copied", 0))

    def begin_copy(self) -> None:
        """What `copy` is given from now on is another catalogue, that of a peer."""
        with self.transaction():
            self.execute("DROP TABLE IF EXISTS copied")
            self.execute(f"CREATE TABLE copied {_COLUMNS}")

    def copy(self, rows: Iterable[Row]) -> None:
        """More rows of it. Whether they are all, and each once, its digest tells."""
        with self.transaction():
            for row in rows:
                self.execute("INSERT OR REPLACE INTO copied VALUES (?,?,?,?,?,?,?,?,?,?)", _columns(row))

    def end_copy(self, index: int, digest: int, files: int, seeded: bool, lasts: Iterable[tuple[str, Last]]) -> None:
        """It is complete, and takes the place of the catalogue that was here: in one transaction, so that a crash
        leaves one or the other. The packs that were kept are forgotten."""
        with self.transaction():
            self.execute("DROP TABLE rows")
            self.execute("ALTER TABLE copied RENAME TO rows")
            self.execute(_PLACES)
            self.execute("DELETE FROM lasts")
            for node, last in lasts:
                self.set_last(node, last)
            self.execute("DELETE FROM packs")
            self.execute("DELETE FROM history")
            self._set_meta("copied", index)
            self.save_state(index, digest, files, seeded)
        self._records = 0
        self._rolled_back()

    def load_state(self) -> State:
        """The state as last saved; of an empty catalogue if it never was."""
        index, digest, files, seeded = msgspec.msgpack.decode(
            self._meta("state", _EMPTY_STATE), type=tuple[int, bytes, int, bool]
        )
        return State(index, int.from_bytes(digest, "big"), files, seeded, self.durable)

    def save_state(self, index: int, digest: int, files: int, seeded: bool) -> None:
        """Keep the state that belongs to the rows: in the transaction that changed them."""
        self._set_meta("state", msgspec.msgpack.encode((index, digest.to_bytes(32, "big"), files, seeded)))


def _record(t: tuple[Any, ...]) -> Record:
    return Record(t[0], t[1], t[2], RelPath(t[3]), t[4], _KINDS[t[5]], t[6], t[7], t[8])


_EMPTY_STATE = msgspec.msgpack.encode((0, bytes(32), 0, False))


def _columns(row: Row) -> tuple[Any, ...]:
    id, parent, name, kind, version, placed, mode, mtime_ns, size, content = msgspec.structs.astuple(row)
    return (id, parent, bytes(name), int(kind), version, placed, mode, mtime_ns, size, content)


def _row(t: tuple[Any, ...]) -> Row:
    return Row(t[0], t[1], t[2], _KINDS[t[3]], t[4], t[5], t[6], t[7], t[8], t[9])


# ------------------------------------------------------------------------------------------------ the base


class Base(Database):
    """What this node last saw or put in its folder (`core.views.BaseView`), what it is about to do there (intents), and
    what it must know about its own last run."""

    def __init__(self, directory: Path, folder: str) -> None:
        # Paths of directories, and the reverse: the two always hold the same pairs, and with a directory all above it.
        self._paths: dict[Id, RelPath] = {ROOT: ROOT_PATH}
        self._directories: dict[RelPath, Id] = {ROOT_PATH: ROOT}
        self._cache: RowCache[BaseRow] = RowCache()
        super().__init__(directory, "base.db", _BASE_TABLES, folder)

    # BaseView

    def get(self, id: Id) -> BaseRow | None:
        if id in self._cache.ids:
            return self._cache.ids[id]
        found = self.execute("SELECT * FROM rows WHERE id = ?", (id,)).fetchone()
        return None if found is None else self._cache.found(_base_row(found))

    def child(self, parent: Id, name: bytes) -> BaseRow | None:
        if (parent, name) in self._cache.places:
            return self._cache.places[parent, name]
        found = self.execute("SELECT * FROM rows WHERE parent = ? AND name = ?", (parent, bytes(name))).fetchone()
        if found is None:
            self._cache.missing(parent, name)
            return None
        return self._cache.found(_base_row(found))

    def children(self, parent: Id) -> list[BaseRow]:
        """The rows directly below `parent`, sorted by name."""
        return [_base_row(t) for t in self.execute("SELECT * FROM rows WHERE parent = ? ORDER BY name", (parent,))]

    def by_inode(self, ino: int, btime_ns: int) -> BaseRow | None:
        """The row whose file was this inode; among hard links, the oldest id."""
        found = self.execute(
            "SELECT * FROM rows WHERE ino = ? AND btime_ns = ? ORDER BY id LIMIT 1", (_signed(ino), btime_ns)
        ).fetchone()
        return None if found is None else _base_row(found)

    def by_content(self, digest: bytes) -> list[BaseRow]:
        """The files with this content."""
        found = self.execute(
            "SELECT * FROM rows WHERE kind = 1 AND substr(content, 1, 8) = ? AND content = ?", (digest[:8], digest)
        )
        return [_base_row(t) for t in found]

    def count(self) -> int:
        """How many rows there are; a walk over an index, about 10 ms per million."""
        (number,) = self.execute("SELECT count(*) FROM rows").fetchone()
        return int(number)

    def descendants(self, id: Id) -> list[Id]:
        """All ids below `id`, children always before their parent."""
        found = self.execute(
            "WITH RECURSIVE below(id, depth) AS (SELECT id, 1 FROM rows WHERE parent = ? UNION ALL"
            " SELECT rows.id, depth + 1 FROM rows JOIN below ON rows.parent = below.id)"
            " SELECT id FROM below ORDER BY depth DESC, id",
            (id,),
        )
        return [t[0] for t in found]

    # places

    def path(self, id: Id) -> RelPath:
        """Where `id` stands. Raises `Bug` when the base holds no such row, or not all that is above it."""
        known = self._paths.get(id)
        if known is not None:
            return known
        found = self.execute("SELECT parent, name, kind FROM rows WHERE id = ?", (id,)).fetchone()
        if found is None:
            raise Bug(f"the base has no row of id {id}, and was asked for its path")
        parent, name, kind = found
        path = self.path(parent).child(name)
        if kind == Kind.DIRECTORY:
            self._know(id, path)
        return path

    def lookup(self, path: RelPath) -> BaseRow | None:
        """The row that stands at `path`; None for the root, which has none."""
        if not path:
            return None
        directory, _, name = path.rpartition(b"/")
        parent = self._directory_at(RelPath(directory))
        return None if parent is None else self.child(parent, name)

    def _directory_at(self, path: RelPath) -> Id | None:
        known = self._directories.get(path)
        if known is not None:
            return known
        above, _, name = path.rpartition(b"/")
        parent = self._directory_at(RelPath(above))
        if parent is None:
            return None
        row = self.child(parent, name)
        if row is None or row.kind is not Kind.DIRECTORY:
            return None
        self._know(row.id, path)
        return row.id

    def _know(self, id: Id, path: RelPath) -> None:
        # Forgetting all at once is what keeps "with a directory all above it" true; a path in hand is still right.
        if len(self._paths) < _PATHS_MAX:
            self._paths[id] = path
            self._directories[path] = id

    def _forget_paths(self) -> None:
        self._paths = {ROOT: ROOT_PATH}
        self._directories = {ROOT_PATH: ROOT}

    def _rolled_back(self) -> None:
        self._forget_paths()
        self._cache.clear()

    # changes

    def put(self, row: BaseRow) -> None:
        """Make `row` the row of its id. Whoever else stood at its place stands there no more, and loses its row."""
        id, parent, name, kind, version, placed, mode, mtime_ns, size, content, stat = (
            row.id, row.parent, bytes(row.name), int(row.kind), row.version,
            row.placed, row.mode, row.mtime_ns, row.size, row.content, row.stat,
        )  # fmt: skip
        self.execute(
            "INSERT OR REPLACE INTO rows VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                id, parent, name, kind, version, placed, mode, mtime_ns, size, content,
                _signed(stat.ino), stat.btime_ns, stat.mtime_ns, stat.ctime_ns, stat.size, stat.mode,
            ),
        )  # fmt: skip
        self._cache.written(row)
        here = self._paths.get(id)
        above = self._paths.get(parent)
        if above is None:
            # No child of an unknown directory is known, so nobody known can have been displaced.
            if here is not None:
                self._forget_paths()
            return
        place = above + b"/" + name if above else name
        if here is None:
            if place in self._directories:
                self._forget_paths()
        elif here != place or kind != Kind.DIRECTORY:
            self._forget_paths()

    def delete(self, id: Id) -> None:
        """Forget the row of `id`, if there is one. What is below it is the caller's to delete (`descendants`)."""
        self.execute("DELETE FROM rows WHERE id = ?", (id,))
        self._cache.forget(id)
        if id in self._paths:
            self._forget_paths()

    def differences(self, catalogue: CatalogueStore) -> Iterator[Id]:
        """All ids whose version, parent or name differ between `catalogue` and the base, or that only one of the two
        holds. The two are walked together, by id, in steps: a row that changes meanwhile is told as before or after."""
        theirs, ours = catalogue.places(), self.places()
        their, our = next(theirs, None), next(ours, None)
        while their is not None or our is not None:
            if their == our:
                their, our = next(theirs, None), next(ours, None)
            elif our is None or (their is not None and their[0] < our[0]):
                assert their is not None
                yield their[0]
                their = next(theirs, None)
            elif their is None or our[0] < their[0]:
                yield our[0]
                our = next(ours, None)
            else:
                yield our[0]
                their, our = next(theirs, None), next(ours, None)

    # intents

    def open_intents(self, intents: Iterable[tuple[int, bytes]]) -> None:
        """Note what is about to be done in the folder: committed when this returns, unless in a transaction."""
        self._db.executemany("INSERT OR REPLACE INTO intents VALUES (?, ?)", intents)

    def intents(self) -> list[bytes]:
        """The open intents, by key."""
        return [t[0] for t in self.execute("SELECT actions FROM intents ORDER BY key")]

    def close_intents(self) -> None:
        """All that was intended is done and in the rows: call it in the transaction that puts those."""
        self.execute("DELETE FROM intents")

    # the node's own run

    @property
    def boot_id(self) -> str:
        """The boot of the machine in which this node last ran; "" for never."""
        return str(self._meta("boot_id", ""))

    @boot_id.setter
    def boot_id(self, boot_id: str) -> None:
        self._set_meta("boot_id", boot_id)

    @property
    def clean(self) -> bool:
        """Whether the last run ended in order."""
        return bool(self._meta("clean", 0))

    @clean.setter
    def clean(self, clean: bool) -> None:
        self._set_meta("clean", int(clean))

    @property
    def joined(self) -> bool:
        """Whether this base has been one with the catalogue since it was made: until then its node proposes nothing."""
        return bool(self._meta("joined", 0))

    @joined.setter
    def joined(self, joined: bool) -> None:
        self._set_meta("joined", int(joined))

    @property
    def behind(self) -> int:
        """As long as the catalogue has not come to this index, it is older than the folder (0: it never is)."""
        return int(self._meta("behind", 0))

    @behind.setter
    def behind(self, index: int) -> None:
        self._set_meta("behind", index)

    def page(self, after: Id, limit: int) -> list[BaseRow]:
        """The first `limit` rows with ids beyond `after`, by id."""
        found = self.execute("SELECT * FROM rows WHERE id > ? ORDER BY id LIMIT ?", (after, limit))
        return [_base_row(t) for t in found]

    @property
    def scrubbed(self) -> Id:
        """Up to which id the scrub that is under way has come; `NEW` when none is."""
        return Id(self._meta("scrubbed", NEW))

    @scrubbed.setter
    def scrubbed(self, id: Id) -> None:
        self._set_meta("scrubbed", id)

    @property
    def scrub_due(self) -> float:
        """When the next scrub is due, in seconds since 1970."""
        return float(self._meta("scrub_due", 0))

    @scrub_due.setter
    def scrub_due(self, seconds: float) -> None:
        self._set_meta("scrub_due", int(seconds))

    def newest(self) -> int:
        """The index of the newest entry that any row is of; 0 for none. Reads every row."""
        (version, placed) = self.execute("SELECT max(version), max(placed) FROM rows").fetchone()
        return index_of(max(version or 0, placed or 0))

    def next_incarnation(self) -> int:
        """A number that no start of this node had before, on disk when this returns: exactly-once depends on it.

        It is at least the clock's seconds, so that a node whose state was wiped does not begin at 1 again.
        """
        incarnation = max(int(self._meta("incarnation", 0)) + 1, int(time.time()))
        self.execute("PRAGMA synchronous = FULL")
        self._set_meta("incarnation", incarnation)
        self.execute("PRAGMA synchronous = NORMAL")
        return incarnation


def _signed(ino: int) -> int:
    """`ino`, of 64 bits without a sign, as the integer with one that SQLite has."""
    return ino if ino < 1 << 63 else ino - (1 << 64)


def _base_row(t: tuple[Any, ...]) -> BaseRow:
    return BaseRow(
        t[0], t[1], t[2], _KINDS[t[3]], t[4], t[5], t[6], t[7], t[8], t[9],
        Stat(t[10] & _U64, t[11], t[12], t[13], t[14], t[15]),
    )  # fmt: skip
