"""A copy of the catalogue is of one index, whatever is applied while it is taken."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onefold.core import copy
from onefold.core.catalogue import Catalogue, MemoryRows
from onefold.core.copy import Copy
from onefold.core.model import NEVER, NEW, ROOT, Applied, Batch, Command, Id, Kind, Move, Origin, Pack, Put, Remove, Row
from onefold.core.wire import row_digest


class Growing:
    """A catalogue, and whoever copies it."""

    def __init__(self, files: int) -> None:
        self.rows = MemoryRows()
        self.catalogue = Catalogue(self.rows)
        self.copies: list[Copy] = []
        for number in range(files):
            self.make(number)

    def apply(self, *commands: Command) -> Applied:
        index = self.catalogue.index + 1
        applied = self.catalogue.apply(index, Pack((Batch(Origin("a", 1, index), commands),), {}))
        for each in self.copies:
            each.applied(applied)
        return applied

    def make(self, number: int) -> None:
        self.apply(Put(NEW, NEVER, ROOT, b"f%d" % number, Kind.SYMLINK, 0, 0, 1, b"x"))

    def edit(self, row: Row) -> None:
        self.apply(Put(row.id, row.version, row.parent, row.name, row.kind, 0, 0, 1, b"edited"))

    def all(self) -> tuple[Row, ...]:
        return tuple(self.rows.page(ROOT, 1_000_000))

    def copy(self) -> Copy:
        self.copies.append(Copy(self.catalogue))
        return self.copies[-1]


def test_a_copy_is_the_whole_catalogue() -> None:
    growing = Growing(10)
    growing.catalogue.seeded = True
    it = growing.copy()
    page = it.page(ROOT, 100)
    assert page is not None
    assert page.rows == growing.all()
    assert (page.index, page.last, page.files, page.seeded) == (10, True, 10, True)
    assert int.from_bytes(page.digest, "big") == growing.catalogue.digest
    assert page.lasts == (("a", 1, 10),)


def test_an_empty_catalogue_is_one_empty_page() -> None:
    page = Growing(0).copy().page(ROOT, 3)
    assert page is not None
    assert (page.rows, page.last) == ((), True)


def test_a_page_may_be_asked_for_again_until_the_next_one_is() -> None:
    growing = Growing(10)
    it = growing.copy()
    first = it.page(ROOT, 3)
    assert first is not None
    growing.edit(growing.all()[0])
    assert it.page(ROOT, 3) is first
    second = it.page(first.rows[-1].id, 3)
    assert second is not None
    assert second.lasts == ()
    assert it.page(ROOT, 3) is None
    assert it.page(Id(first.rows[-1].id + 1), 3) is None


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(["make", "edit", "remove", "move", "page"]), st.integers(0, 40))))
def test_whatever_is_applied_meanwhile_every_page_is_of_one_index(steps: list[tuple[str, int]]) -> None:
    growing = Growing(12)
    it = growing.copy()
    then, digest = growing.all(), growing.catalogue.digest
    rows: list[Row] = []
    after, done = ROOT, False
    for what, number in steps:
        now = growing.all()
        row = now[number % len(now)] if now else None
        if what == "make":
            growing.make(100 + growing.catalogue.index)
        elif what == "page" and not done:
            page = it.page(after, 3)
            assert page is not None
            rows += page.rows
            done = page.last
            after = page.rows[-1].id if page.rows else after
        elif row is not None and what == "edit":
            growing.edit(row)
        elif row is not None and what == "remove":
            growing.apply(Remove(row.id, row.version))
        elif row is not None and what == "move":
            growing.apply(Move(row.id, row.placed, ROOT, b"m%d" % growing.catalogue.index))
    while not done:
        page = it.page(after, 3)
        assert page is not None
        rows += page.rows
        done = page.last
        after = page.rows[-1].id if page.rows else after
    assert tuple(rows) == then
    assert sum(map(row_digest, rows)) % (1 << 256) == digest


def test_who_is_too_slow_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy, "REMEMBERED_MAX", 2)
    growing = Growing(10)
    it = growing.copy()
    for row in growing.all()[:2]:
        growing.edit(row)
    assert not it.overtaken
    growing.edit(growing.all()[2])
    assert it.overtaken
