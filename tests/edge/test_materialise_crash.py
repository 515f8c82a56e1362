"""A crash before any syscall of a run, and of the recovery after it: nothing is lost, no edit is invented."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from blake3 import blake3

from onefold import linux
from onefold.core.model import (
    ROOT,
    Action,
    BaseRow,
    Discard,
    Done,
    Id,
    Kind,
    Result,
    Row,
    Version,
)
from onefold.core.paths import RelPath
from onefold.core.plan import plan
from onefold.core.rows import MemoryRows
from onefold.edge import make, materialise, move, recover, strays, workspace
from onefold.edge.journal import Base
from onefold.edge.materialise import FolderMaterialiser
from onefold.edge.recover import intents_of
from onefold.edge.strays import Strays

OLD_NS = 1_600_000_000_000_000_000
NEW_NS = 1_700_000_000_123_456_789
PURE = {"close", "fsencode", "fsdecode", "fspath", "geteuid", "lseek"}
EDITS = {b"edited f", b"edited h", b"theirs g", b"theirs z", b"theirs in o"}


class Crash(BaseException):
    """The process died here."""


class Power:
    """Counts syscalls, and dies before the one numbered `at`: from then on no more are made."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.made = 0

    def spend(self) -> None:
        if self.made >= self.at:
            raise Crash
        self.made += 1


class Powered:
    """A module whose calls need power."""

    def __init__(self, module: ModuleType, power: Power) -> None:
        self._module = module
        self._power = power

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        if not callable(found) or isinstance(found, type) or name in PURE:
            return found
        return self._write if name == "write" else self._call(found)

    def _call(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            self._power.spend()
            return function(*args, **more)

        return call

    def _write(self, fd: int, data: bytes) -> int:
        try:
            self._power.spend()
        except Crash:
            os.write(fd, data[: len(data) // 2])
            raise
        return os.write(fd, data)


class Node:
    """A folder with its base and the catalogue that it is on the way to."""

    def __init__(self, tmp_path: Path, kept: list[Any]) -> None:
        self.root, self.state = tmp_path / "folder", tmp_path / "state"
        self.root.mkdir(parents=True)
        self.base = Base(self.state, "folder")
        kept.append(self.base)
        self.catalogue = MemoryRows()
        self.known: dict[bytes, bytes] = {}
        self.strays = Strays(self.state / "strays")
        self._build()

    def contents(self, digest: bytes) -> bytes:
        return self.known[digest]

    def start(self) -> FolderMaterialiser:
        self.strays = Strays(self.state / "strays")
        return FolderMaterialiser(os.fsencode(self.root), self.strays, self.state)

    def plan(self) -> list[Action]:
        actions = plan([Id(i) for i in range(1, 40)], self.catalogue, self.base)
        return [*actions, Discard(RelPath(b"z"), Kind.FILE)]

    def take(self, action: Action, result: Result) -> None:
        """What the node does with a result."""
        if not isinstance(result, Done):
            return
        if result.base is None:
            if result.id > ROOT:
                for id in self.base.descendants(result.id):
                    self.base.delete(id)
                self.base.delete(result.id)
            return
        self.base.put(result.base)

    def tree(self) -> dict[str, bytes | None]:
        """Every path of the folder: content of a file, target of a symlink, None for a directory."""
        found: dict[str, bytes | None] = {}
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            if not name.startswith(".onefold"):
                if path.is_symlink():
                    found[name] = os.fsencode(os.readlink(path))
                else:
                    found[name] = None if path.is_dir() else path.read_bytes()
        return found

    def stray_bytes(self) -> list[bytes]:
        return [p.read_bytes() for s in self.strays.list() for p in [s.file, *s.file.rglob("*")] if p.is_file()]

    def tree_of_base(self) -> dict[str, bytes | None]:
        return {
            os.fsdecode(self.base.path(id)): self._data(row)
            for id, *_ in self.base.places()
            if (row := self.base.get(id))
        }

    def tree_of_catalogue(self) -> dict[str, bytes | None]:
        found: dict[str, bytes | None] = {}
        above: list[tuple[Id, str]] = [(ROOT, "")]
        while above:
            parent, prefix = above.pop()
            for row in self.catalogue.children(parent):
                found[prefix + os.fsdecode(row.name)] = self._data(row)
                above.append((row.id, prefix + os.fsdecode(row.name) + "/"))
        return found

    def _data(self, row: Row | BaseRow) -> bytes | None:
        if row.kind is Kind.FILE:
            return self.known[row.content]
        return row.content if row.kind is Kind.SYMLINK else None

    def _row(self, id: int, parent: int, name: str, kind: Kind, data: bytes, version: int) -> Row:
        content = data
        if kind is Kind.FILE:
            content = blake3(data).digest()
            self.known[content] = data
        mode = 0 if kind is Kind.SYMLINK else 0o755 if kind is Kind.DIRECTORY else 0o644
        mtime = (OLD_NS if version == 1 else NEW_NS) if kind is Kind.FILE else 0
        size = 0 if kind is Kind.DIRECTORY else len(data)
        return Row(
            Id(id), Id(parent), name.encode(), kind, Version(version), Version(version), mode, mtime, size, content
        )

    def _had(self, id: int, parent: int, name: str, kind: Kind = Kind.FILE, data: bytes = b"", now: str = "") -> None:
        """The base has this, and it stands in the folder; the catalogue may have moved it to `now` in the root."""
        row = self._row(id, parent, name, kind, data, 1)
        path = (os.fsdecode(self.base.path(Id(parent))) + "/" if parent else "") + name
        if kind is Kind.DIRECTORY:
            (self.root / path).mkdir(mode=0o755)
        elif kind is Kind.SYMLINK:
            (self.root / path).symlink_to(os.fsdecode(data))
        else:
            (self.root / path).write_bytes(data)
            (self.root / path).chmod(0o644)
            os.utime(self.root / path, ns=(OLD_NS, OLD_NS))
        stat = linux.stat_of(-100, os.fsencode(self.root / path))[1]
        self.base.put(
            BaseRow(
                row.id, row.parent, row.name, row.kind, row.version, row.placed,
                row.mode, row.mtime_ns, row.size, row.content, stat,
            )
        )  # fmt: skip
        if now:
            self.catalogue.put(msgspec.structs.replace(row, parent=ROOT, name=now.encode()))
        else:
            self.catalogue.put(row)

    def _build(self) -> None:
        with self.base.transaction():
            self._fill()

    def _fill(self) -> None:
        dir, file, link = Kind.DIRECTORY, Kind.FILE, Kind.SYMLINK
        self._had(1, 0, "d", dir)
        self._had(2, 1, "a", data=b"old a")
        self._had(3, 0, "b", data=b"B", now="swap")  # b and e swap names
        self._had(4, 0, "e", data=b"E", now="b")
        self._had(5, 0, "o", dir)  # a directory that a file takes the place of
        self._had(6, 5, "x", data=b"X")
        self._had(7, 0, "f", data=b"old f")
        self._had(8, 0, "h", data=b"old h")
        self._had(9, 0, "k", data=b"K")
        self._had(12, 0, "m", data=b"M")
        self._had(13, 0, "l", link, b"here")
        self._had(14, 0, "q", data=b"Q")
        self._had(15, 0, "r", dir)
        self._had(16, 15, "deep", dir)
        self._had(17, 16, "file", data=b"deep file")
        self._had(18, 0, "s", dir)  # removed, and made anew with equal content
        self._had(19, 18, "t", data=b"T")
        put, rows = self.catalogue.put, self.catalogue
        for id in (6, 5, 8, 12, 14, 19, 18):
            row = rows.get(Id(id))
            assert row is not None
            rows.delete(row)
        put(self._row(10, 0, "n", dir, b"", 2))
        put(self._row(11, 10, "new", file, b"new", 2))
        put(self._row(20, 0, "g", file, b"our g", 2))
        put(self._row(21, 0, "o", file, b"file o", 2))
        put(self._row(22, 0, "q", file, b"another q", 2))
        put(self._row(23, 10, "link", link, b"target", 2))
        put(self._row(24, 0, "s", dir, b"", 2))
        put(self._row(25, 24, "t", file, b"T", 1))
        for id, parent, name in ((1, 10, "d"), (3, 0, "e")):
            row = rows.get(Id(id))
            assert row is not None
            put(msgspec.structs.replace(row, parent=Id(parent), name=name.encode(), placed=Version(2)))
        put(self._row(2, 1, "a", file, b"new a", 2))
        put(self._row(7, 0, "f", file, b"new f", 2))
        put(msgspec.structs.replace(self._row(9, 0, "k", file, b"K", 2), mode=0o600))
        put(self._row(13, 0, "l", link, b"there", 2))
        (self.root / "f").write_bytes(b"edited f")
        (self.root / "h").write_bytes(b"edited h")
        (self.root / "g").write_bytes(b"theirs g")
        (self.root / "z").write_bytes(b"theirs z")
        (self.root / "o/user").write_bytes(b"theirs in o")


@pytest.fixture
def kept() -> Iterator[list[Any]]:
    kept: list[Any] = []
    yield kept
    for thing in kept:
        thing.close()


def powered(power: Power, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (materialise, make, move, workspace, recover, strays):
        if hasattr(module, "os"):
            monkeypatch.setattr(module, "os", Powered(os, power))
        monkeypatch.setattr(module, "linux", Powered(linux, power))


@contextmanager
def process() -> Iterator[None]:
    """What is opened inside ends with it, as with a process."""
    before = descriptors()
    try:
        yield
    finally:
        for fd in descriptors() - before:
            os.close(fd)


def descriptors() -> set[int]:
    listed = os.listdir("/proc/self/fd")  # and that of the listing itself, which is closed by now
    return {int(fd) for fd in listed if os.path.lexists(f"/proc/self/fd/{fd}")}


def crash_and_recover(
    node: Node, at: int, again_at: int | None, keep_edits: bool, monkeypatch: pytest.MonkeyPatch
) -> bool:
    """Run the node's plan and crash before syscall `at`, and before syscall `again_at` of the recovery; then recover.

    Answers whether the run got to its end before the crash.
    """
    actions = node.plan()
    intents = [intents_of(actions)]
    ended = False
    with process(), monkeypatch.context() as patch:
        materialiser = node.start()
        powered(Power(at), patch)
        try:
            materialiser.run(actions, node.contents, keep_edits)
            ended = True
        except Crash:
            ended = False
    if again_at is not None:
        with process(), monkeypatch.context() as patch:
            materialiser = node.start()
            powered(Power(again_at), patch)
            try:
                materialiser.recover(intents, node.base, node.catalogue)
            except Crash:
                ended = False
    materialiser = node.start()
    try:
        told = materialiser.recover(intents, node.base, node.catalogue)
        check(node, told)
        resume(node, materialiser)
    finally:
        materialiser.close()
    return ended


def check(node: Node, told: list[tuple[Action, Result]]) -> None:
    assert os.listdir(node.root / ".onefold/tmp") == []
    with node.base.transaction():
        for action, result in told:
            node.take(action, result)
    tree, believed, aside = node.tree(), node.tree_of_base(), node.stray_bytes()
    everything = [data for data in tree.values() if data is not None] + aside
    assert set(everything) >= EDITS, "bytes were lost"
    assert set(aside) <= EDITS, "a stray was invented"
    for path, data in tree.items():
        assert data in EDITS or believed.get(path, b"nothing") == data, f"an edit of {path} was invented"
    for path, data in believed.items():
        assert path in tree, f"a removal of {path} was invented"
        assert tree[path] in EDITS or tree[path] == data


def resume(node: Node, materialiser: FolderMaterialiser) -> None:
    """The node plans again until there is nothing to do: its folder is the catalogue, and the edits are strays."""
    for _ in range(3):
        actions = node.plan()
        for action, result in zip(actions, materialiser.run(actions, node.contents, False), strict=True):
            node.take(action, result)
    tree = node.tree()
    leftover = {path for path, data in tree.items() if data == b"theirs in o"} | {"o"} - node.tree_of_catalogue().keys()
    assert {p: d for p, d in tree.items() if p not in leftover} == node.tree_of_catalogue()
    assert set(node.stray_bytes()) | {d for d in tree.values() if d} >= EDITS
    assert set(node.stray_bytes()) <= EDITS


@pytest.mark.parametrize("keep_edits", [False, True])
def test_a_crash_before_any_syscall_loses_nothing_and_invents_nothing(
    tmp_path: Path, keep_edits: bool, kept: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    at, ended = 0, False
    while not ended:
        node = Node(tmp_path / str(at), kept)
        try:
            ended = crash_and_recover(node, at, None, keep_edits, monkeypatch)
        except BaseException as error:
            error.add_note(f"crashed before syscall {at}")
            raise
        kept.pop().close()
        at += 1
    assert at > 100


@pytest.mark.parametrize("at", range(3, 300, 23))
def test_a_crash_in_the_recovery_is_the_same_crash_again(
    tmp_path: Path, at: int, kept: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for again_at in range(0, 120, 11):
        node = Node(tmp_path / str(again_at), kept)
        try:
            crash_and_recover(node, at, again_at, False, monkeypatch)
        except BaseException as error:
            error.add_note(f"crashed before syscall {at}, and again before {again_at}")
            raise
        kept.pop().close()
