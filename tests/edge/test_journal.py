"""The journal: what was committed is there after a restart, and nothing else; and it says whose it is."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from onefold.core.catalogue import Catalogue
from onefold.core.history import Record
from onefold.core.model import (
    NEW,
    ROOT,
    ROOT_ROW,
    BaseRow,
    Batch,
    Id,
    Kind,
    Origin,
    Outcome,
    Pack,
    Put,
    Row,
    Stat,
    Version,
    version,
)
from onefold.core.paths import RelPath
from onefold.core.rows import Last
from onefold.edge import journal
from onefold.edge.database import Database
from onefold.edge.journal import CATALOGUE, Base, CatalogueStore, State
from onefold.edge.strays import Strays
from onefold.errors import Bug, OperatorError, UserError

STAT = Stat((1 << 64) - 2, 5, -7, 8, 9, 0o644)


def row(id: int, parent: int, name: bytes, kind: Kind = Kind.FILE, version: int = 1) -> Row:
    content = blake3(name).digest() if kind is Kind.FILE else b""
    return Row(Id(id), Id(parent), name, kind, Version(version), Version(3), 0o644, -5, 6, content)


def base_row(id: int, parent: int, name: bytes, kind: Kind = Kind.FILE, version: int = 1, stat: Stat = STAT) -> BaseRow:
    return BaseRow(*msgspec.structs.astuple(row(id, parent, name, kind, version)), stat)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CatalogueStore]:
    store = CatalogueStore(tmp_path, "folder", "node")
    yield store
    store.close()


@pytest.fixture
def base(tmp_path: Path) -> Iterator[Base]:
    base = Base(tmp_path, "folder")
    yield base
    base.close()


# ------------------------------------------------------------------------------------------------ the catalogue


def test_rows_are_found_by_id_and_by_place_and_sorted_by_name(store: CatalogueStore) -> None:
    rows = [row(2, 0, b"b"), row(1, 0, b"\xff", Kind.DIRECTORY), row(3, 1, b"a", Kind.SYMLINK)]
    for each in rows:
        store.put(each)
    assert [store.get(Id(i)) for i in (0, 1, 2, 3, 4)] == [ROOT_ROW, rows[1], rows[0], rows[2], None]
    assert store.child(ROOT, b"b") == rows[0]
    assert store.child(Id(1), b"b") is None
    assert store.children(ROOT) == [rows[0], rows[1]]
    assert isinstance(store.children(ROOT)[0].kind, Kind)
    assert store.has_children(Id(1))
    store.delete(rows[2])
    assert not store.has_children(Id(1))


def test_a_row_that_moves_leaves_its_place(store: CatalogueStore) -> None:
    store.put(row(1, 0, b"a"))
    store.put(row(1, 0, b"b"))
    assert store.child(ROOT, b"a") is None
    assert store.child(ROOT, b"b") == row(1, 0, b"b")


def test_the_catalogue_runs_on_it_and_its_state_outlives_a_restart(store: CatalogueStore, tmp_path: Path) -> None:
    catalogue = Catalogue(store)
    put = Put(NEW, Version(0), ROOT, b"a", Kind.FILE, 0o644, 1, 2, bytes(32))
    with store.transaction():
        catalogue.apply(1, Pack((Batch(Origin("n", 1, 1), (put,)),), {}))
        store.save_state(catalogue.index, catalogue.digest, catalogue.files, catalogue.seeded)
    store.durable = 1
    store.close()
    again = CatalogueStore(tmp_path, "folder", "node")
    state = again.load_state()
    assert state == State(1, catalogue.digest, 1, False, 1)
    assert Catalogue(again, state.index, state.digest, state.files).recount() == catalogue.digest
    assert again.last("n") == Last(1, 1, (Outcome(True, Id(1 << 20)),))
    again.close()


def test_an_empty_store_has_the_state_of_an_empty_catalogue(store: CatalogueStore) -> None:
    assert store.load_state() == State(0, 0, 0, False, 0)
    assert store.last("nobody") is None


def test_the_last_batch_of_a_node_keeps_numbers_of_64_bits(store: CatalogueStore) -> None:
    last = Last((1 << 64) - 1, 1 << 63, (Outcome(False, NEW, "why"),))
    store.set_last("n", last)
    assert store.last("n") == last


def test_a_transaction_that_fails_leaves_nothing(store: CatalogueStore) -> None:
    def half() -> None:
        with store.transaction():
            store.put(row(1, 0, b"a"))
            raise KeyError

    with pytest.raises(KeyError):
        half()
    assert store.get(Id(1)) is None


def test_a_state_directory_of_another_cluster_or_node_is_refused(store: CatalogueStore, tmp_path: Path) -> None:
    store.close()
    with pytest.raises(OperatorError, match="another cluster"):
        CatalogueStore(tmp_path, "other", "node")
    with pytest.raises(OperatorError, match="belongs to node 'node'"):
        CatalogueStore(tmp_path, "folder", "other")


def test_a_damaged_file_a_foreign_file_and_one_in_use_are_refused(store: CatalogueStore, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="locked"):
        CatalogueStore(tmp_path, "folder", "node")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/catalogue.db").write_bytes(os.urandom(8192))
    with pytest.raises(OperatorError, match="not a database"):
        CatalogueStore(tmp_path / "damaged", "folder", "node")
    (tmp_path / "foreign").mkdir()
    foreign = sqlite3.connect(tmp_path / "foreign/base.db")
    foreign.execute("CREATE TABLE cats (name)")
    foreign.close()
    with pytest.raises(OperatorError, match="format"):
        Base(tmp_path / "foreign", "folder")


def test_rows_come_by_id_page_by_page(store: CatalogueStore) -> None:
    rows = [row(id, 0, b"%d" % id) for id in (5, 2, 9, 7)]
    for each in rows:
        store.put(each)
    assert [each.id for each in store.page(ROOT, 3)] == [2, 5, 7]
    assert [each.id for each in store.page(Id(7), 3)] == [9]
    assert store.page(Id(9), 3) == []


def test_a_copy_takes_the_place_of_the_catalogue(store: CatalogueStore) -> None:
    store.put(row(1, 0, b"ours"))
    store.set_last("a", Last(1, 1, ()))
    store.keep_pack(1, bytes(32))
    for _ in range(2):  # what an earlier attempt left is gone
        store.begin_copy()
        store.copy([row(2, 0, b"theirs"), row(3, 0, b"theirs too")])
    assert store.child(ROOT, b"ours") == row(1, 0, b"ours")
    store.end_copy(7, 9, 2, True, [("b", Last(4, 5, ()))])
    assert [each.name for each in store.children(ROOT)] == [b"theirs", b"theirs too"]
    assert (store.get(Id(1)), store.child(ROOT, b"ours")) == (None, None)
    assert store.lasts() == [("b", Last(4, 5, ()))]
    assert store.packs() == []
    assert (store.load_state(), store.copied) == (State(7, 9, 2, True, 0), 7)
    with pytest.raises(sqlite3.IntegrityError):
        store.execute("INSERT INTO rows SELECT 4, parent, name, 1, 1, 1, 1, 1, 1, '' FROM rows WHERE id = 2")


def test_a_copy_that_a_crash_cuts_off_leaves_the_catalogue_as_it_was(tmp_path: Path) -> None:
    def crash() -> Iterator[tuple[str, Last]]:
        yield "b", Last(4, 5, ())
        raise KeyboardInterrupt

    store = CatalogueStore(tmp_path, "folder", "node")
    store.put(row(1, 0, b"ours"))
    store.save_state(3, 4, 1, False)
    store.begin_copy()
    store.copy([row(2, 0, b"theirs")])
    with pytest.raises(KeyboardInterrupt):
        store.end_copy(7, 9, 2, True, crash())
    assert store.child(ROOT, b"ours") == row(1, 0, b"ours")
    store.close()
    again = CatalogueStore(tmp_path, "folder", "node")
    assert again.children(ROOT) == [row(1, 0, b"ours")]
    assert again.load_state() == State(3, 4, 1, False, 0)
    assert again.lasts() == []
    again.begin_copy()
    again.close()


# ------------------------------------------------------------------------------------------------ the base


def test_base_rows_come_back_as_they_were_put(base: Base) -> None:
    rows = [base_row(1, 0, b"d", Kind.DIRECTORY), base_row(2, 1, b"f", stat=Stat(7, 1, 2, 3, 4, 5))]
    for each in rows:
        base.put(each)
    assert [base.get(Id(i)) for i in (0, 1, 2)] == [None, *rows]
    assert base.child(Id(1), b"f") == rows[1]
    assert list(base.children(ROOT)) == [rows[0]]
    assert (base.by_inode(STAT.ino, STAT.btime_ns), base.by_inode(7, 9)) == (rows[0], None)
    assert base.by_content(rows[1].content) == [rows[1]]
    assert base.count() == 2


def test_who_is_put_at_a_place_displaces_who_stood_there(base: Base) -> None:
    base.put(base_row(1, 0, b"a"))
    base.put(base_row(2, 0, b"b"))
    base.put(base_row(2, 0, b"a"))
    assert base.get(Id(1)) is None
    base.put(base_row(1, 0, b"b"))
    assert [r.id for r in base.children(ROOT)] == [2, 1]


def test_paths_follow_every_move(base: Base) -> None:
    for each in (
        base_row(1, 0, b"d", Kind.DIRECTORY),
        base_row(2, 1, b"e", Kind.DIRECTORY),
        base_row(3, 2, b"f"),
        base_row(4, 0, b"x", Kind.DIRECTORY),
    ):
        base.put(each)
    assert (base.path(Id(3)), base.path(Id(4)), base.path(ROOT)) == (b"d/e/f", b"x", b"")
    base.put(base_row(1, 4, b"moved", Kind.DIRECTORY))
    assert base.path(Id(3)) == b"x/moved/e/f"
    assert base.lookup(RelPath(b"x/moved/e/f")) == base_row(3, 2, b"f")
    assert base.lookup(RelPath(b"d/e/f")) is None
    base.put(base_row(5, 4, b"moved", Kind.DIRECTORY))
    assert base.lookup(RelPath(b"x/moved/e/f")) is None
    with pytest.raises(Bug):
        base.path(Id(3))
    base.put(base_row(1, 0, b"d", Kind.DIRECTORY))
    assert base.path(Id(3)) == b"d/e/f"
    base.delete(Id(1))
    with pytest.raises(Bug):
        base.path(Id(3))
    assert base.lookup(RelPath(b"")) is None


def test_a_path_learnt_in_an_undone_transaction_is_forgotten(base: Base) -> None:
    base.put(base_row(1, 0, b"d", Kind.DIRECTORY))

    def half() -> None:
        with base.transaction():
            base.put(base_row(1, 0, b"e", Kind.DIRECTORY))
            assert base.path(Id(1)) == b"e"
            raise KeyError

    with pytest.raises(KeyError):
        half()
    assert base.path(Id(1)) == b"d"
    assert base.lookup(RelPath(b"e")) is None


def test_descendants_come_deepest_first(base: Base) -> None:
    for each in (
        base_row(9, 0, b"d", Kind.DIRECTORY),
        base_row(8, 9, b"e", Kind.DIRECTORY),
        base_row(1, 8, b"f"),
        base_row(2, 9, b"g"),
        base_row(3, 0, b"h"),
    ):
        base.put(each)
    assert base.descendants(Id(9)) == [1, 2, 8]
    assert base.descendants(ROOT) == [1, 2, 8, 3, 9]


def test_differences_are_those_of_version_and_place_and_what_one_side_lacks(base: Base, store: CatalogueStore) -> None:
    for id in range(1, 6):
        store.put(row(id, 0, b"%d" % id))
    base.put(base_row(1, 0, b"1"))
    base.put(base_row(2, 0, b"2", version=9))
    base.put(base_row(3, 1, b"3"))
    base.put(base_row(4, 0, b"four"))
    base.put(base_row(7, 0, b"7"))
    assert list(base.differences(store)) == [2, 3, 4, 5, 7]
    for id in range(1, 8):
        base.delete(Id(id))
    assert list(base.differences(store)) == [1, 2, 3, 4, 5]


def test_pages_are_by_id_and_end(base: Base, store: CatalogueStore) -> None:
    for number in (7, 3, 5):
        store.put(row(number, 0, b"%d" % number))
        base.put(base_row(number, 0, b"%d" % number))
    for page in (store.page, base.page):
        assert [row.id for row in page(ROOT, 2)] == [3, 5]
        assert [row.id for row in page(Id(5), 2)] == [7]
        assert list(page(Id(7), 2)) == []


def test_the_newest_entry_of_a_base_is_that_of_its_newest_version_or_place(base: Base) -> None:
    assert base.newest() == 0
    base.put(base_row(1, 0, b"a", version=version(4, 2)))
    assert base.newest() == 4
    base.put(msgspec.structs.replace(base_row(2, 0, b"b"), placed=version(9, 0)))
    assert base.newest() == 9


def test_what_a_node_is_behind_and_its_scrub_outlive_a_restart(base: Base, tmp_path: Path) -> None:
    assert (base.behind, base.scrubbed, base.scrub_due) == (0, NEW, 0)
    base.behind, base.scrubbed, base.scrub_due = 5, Id(6), 7.5
    base.close()
    again = Base(tmp_path, "folder")
    assert (again.behind, again.scrubbed, again.scrub_due) == (5, 6, 7)
    again.close()


def test_a_discarded_file_is_gone_with_all_that_belongs_to_it(store: CatalogueStore, tmp_path: Path) -> None:
    with store.transaction():
        store.put(row(1, 0, b"a"))
    store.close()
    (tmp_path / f"{CATALOGUE}-wal").write_bytes(b"left by a crash")
    Database.discard(tmp_path, CATALOGUE)
    assert list(tmp_path.glob(f"{CATALOGUE}*")) == []
    Database.discard(tmp_path, CATALOGUE)
    again = CatalogueStore(tmp_path, "folder", "node")
    assert again.page(ROOT, 9) == []
    again.close()


def test_intents_and_the_nodes_own_facts_outlive_a_restart(base: Base, tmp_path: Path) -> None:
    assert (base.boot_id, base.clean, base.joined, base.durable, base.intents()) == ("", False, False, 0, [])
    base.open_intents([(2, b"two"), (1, b"one")])
    base.boot_id, base.clean, base.joined, base.durable = "boot", True, True, 5
    incarnation = base.next_incarnation()
    base.close()
    again = Base(tmp_path, "folder")
    assert again.intents() == [b"one", b"two"]
    assert (again.boot_id, again.clean, again.joined, again.durable) == ("boot", True, True, 5)
    assert again.next_incarnation() > incarnation
    again.close_intents()
    again.checkpoint()
    assert again.intents() == []
    again.close()


# ------------------------------------------------------------------------------------------------ strays


def test_strays_are_listed_with_where_they_stood_and_why(tmp_path: Path) -> None:
    strays = Strays(tmp_path / "strays")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        for name, data in ((b"one", b"1"), (b"two", b"22")):
            (tmp_path / os.fsdecode(name)).write_bytes(data)
            strays.add(fd, name, RelPath(b"d/\xff" + name), "a reason")
        with pytest.raises(FileNotFoundError):
            strays.add(fd, b"none", RelPath(b"none"), "a reason")
    finally:
        os.close(fd)
    again = Strays(tmp_path / "strays")
    assert [(s.path, s.size, s.kind, s.reason, s.file.read_bytes()) for s in again.list()] == [
        (b"d/\xffone", 1, Kind.FILE, "a reason", b"1"),
        (b"d/\xfftwo", 2, Kind.FILE, "a reason", b"22"),
    ]
    again.remove(again.list()[0].id)
    assert again.count() == len(again.list()) == 1
    with pytest.raises(UserError):
        again.remove("../x")


def test_a_stray_on_another_file_system_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(*args: object, **more: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    strays = Strays(tmp_path / "strays")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/f").write_bytes(b"f")
    (tmp_path / "file").write_bytes(b"x")
    monkeypatch.setattr(os, "rename", rename)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        strays.add(fd, b"tree", RelPath(b"tree"), "")
        strays.add(fd, b"file", RelPath(b"file"), "")
    finally:
        os.close(fd)
    tree, file = strays.list()
    assert ((tree.file / "f").read_bytes(), file.file.read_bytes()) == (b"f", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["strays"]


def test_an_incarnation_is_new_though_the_clock_was_set_back(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    before = base.next_incarnation()
    monkeypatch.setattr(time, "time", lambda: 1_000.0)
    assert base.next_incarnation() == before + 1


def test_history_is_kept_for_the_newest_changes_and_follows_what_was_at_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(number: int, id: int, path: bytes) -> Record:
        return Record(Version(number), Id(id), "edited", RelPath(path), "n", Kind.FILE, 1, b"c" * 32, 5)

    monkeypatch.setattr(journal, "HISTORY_RECORDS", 8)
    store = CatalogueStore(tmp_path, "folder", "n")
    store.note([record(1, 7, b"old"), record(2, 7, b"a"), record(3, 8, b"b")])
    store.close()
    store = CatalogueStore(tmp_path, "folder", "n")
    assert [r.version for r in store.history(1 << 70, 2)] == [3, 2]
    assert store.history(3, 1) == [record(2, 7, b"a")]
    assert [r.version for r in store.history_of(RelPath(b"a"), None, 1 << 70, 10)] == [2, 1]
    assert [r.version for r in store.history_of(RelPath(b"x"), Id(8), 1 << 70, 10)] == [3]
    for number in range(4, 20):
        store.note([record(number, 9, b"c")])
    kept = [r.version for r in store.history(1 << 70, 100)]
    assert kept == list(range(19, 19 - len(kept), -1))
    assert 8 <= len(kept) <= 9
    store.close()
