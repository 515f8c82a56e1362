"""An SQLite file of ours: opened, checked, with its one connection, and a table of single values."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onefold.core.model import Id
from onefold.disk import trouble
from onefold.errors import DiskTrouble, OperatorError

FORMAT = 1
"""The version of all tables, in SQLite's own `user_version`."""

META = "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID"
"""The table of single values that every file has."""

_CACHE_KIB = 32 * 1024
_CHECKPOINT_PAGES = 8192  # 32 MiB: `checkpoint` is called long before, right after a sync, when it costs least


class Database:
    """The file `name` in `directory` (made if need be), which belongs to the folder with the id `folder`.

    One of its `tables` is `rows`, by id. Used by one thread of one process.

    Opening raises `DiskTrouble` when the disk refuses or the file is damaged, and `OperatorError` when it is of another
    folder or of another format.
    """

    def __init__(self, directory: Path, name: str, tables: Sequence[str], folder: str) -> None:
        self._path = directory / name
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._db = sqlite3.connect(self._path, isolation_level=None, cached_statements=64, timeout=1.0)
        except (OSError, sqlite3.Error) as error:
            raise self._trouble(error) from error
        try:
            self._prepare(tables, folder)
        except sqlite3.Error as error:
            self._db.close()
            raise self._trouble(error) from error
        except OperatorError:
            self._db.close()
            raise
        self.execute = self._db.execute

    def _prepare(self, tables: Sequence[str], folder: str) -> None:
        run = self._db.execute
        # One process at a time: two nodes on one state directory would each believe in a base that the other changes.
        # It also spares every read its lock. Before the journal mode, so that not even the index of the log is shared.
        run("PRAGMA locking_mode = EXCLUSIVE")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        run(f"PRAGMA cache_size = -{_CACHE_KIB}")
        run(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        run("PRAGMA journal_size_limit = 67108864")
        (found,) = run("PRAGMA user_version").fetchone()
        if found == 0 and run("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
            run("BEGIN IMMEDIATE")
            for table in tables:
                run(table)
            run("INSERT INTO meta VALUES ('folder', ?)", (folder,))
            run(f"PRAGMA user_version = {FORMAT}")
            run("COMMIT")
        elif found != FORMAT:
            raise OperatorError(
                f"{self._path} has format {found}, and this Onefold knows format {FORMAT}",
                "run the version that wrote it, or move the state directory away: the node then starts anew",
            )
        (stored,) = run("SELECT value FROM meta WHERE key = 'folder'").fetchone() or ("",)
        if stored != folder:
            raise OperatorError(
                f"{self._path} belongs to folder {stored!r}, not to {folder!r}: the state directory of another cluster",
                "give this node a state directory of its own, or correct the folder's id in its configuration",
            )

    def _trouble(self, error: Exception) -> DiskTrouble:
        what = f"cannot use {self._path}"
        if isinstance(error, OSError):
            return trouble(what, self._path.parent, error)
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
            return trouble(what, self._path.parent, OSError(errno.ENOSPC, str(error)))
        return DiskTrouble(
            f"{what}: {error}",
            "check the disk and the permissions; if the file is damaged, stop the node, move the state directory"
            " away and start it: it begins anew from the others",
        )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside is committed together, or, after an exception, not at all.

        Raises `DiskTrouble` when SQLite cannot write (a full disk, a damaged file).
        """
        try:
            self.execute("BEGIN IMMEDIATE")
            yield
            self.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:
                self.execute("ROLLBACK")
            self._rolled_back()
            if isinstance(error, sqlite3.Error):
                raise self._trouble(error) from error
            raise

    def _rolled_back(self) -> None:
        """Forget what memory holds of an undone transaction."""

    def _meta(self, key: str, default: Any) -> Any:
        found = self.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return default if found is None else found[0]

    def _set_meta(self, key: str, value: str | int | bytes) -> None:
        try:
            self.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
        except sqlite3.Error as error:
            raise self._trouble(error) from error

    @property
    def durable(self) -> int:
        """The index up to which a completed sync has put this on disk."""
        return int(self._meta("durable", 0))

    @durable.setter
    def durable(self, index: int) -> None:
        self._set_meta("durable", index)

    def places(self) -> Iterator[tuple[Id, int, int, bytes]]:
        """(id, version, parent, name) of every row, by id."""
        after = -1
        while found := self.execute(
            "SELECT id, version, parent, name FROM rows WHERE id > ? ORDER BY id LIMIT 4096", (after,)
        ).fetchall():
            yield from found
            after = found[-1][0]

    def checkpoint(self) -> None:
        """Bring the write-ahead log into the database file. Cheap right after a sync of the file system."""
        self.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        self._db.close()

    @staticmethod
    def discard(directory: Path, name: str) -> None:
        """Remove the file `name` in `directory`, which nobody has open.

        What it had not taken in yet goes first: after a crash in between, it is an older one, and never a new one that
        takes in what belonged to the old.
        """
        for suffix in ("-wal", "-shm", ""):
            (directory / f"{name}{suffix}").unlink(missing_ok=True)
