"""The digest counted anew while the rows change is the one that was kept up to date (G1)."""

import random

import pytest

from onefold.core.catalogue import Catalogue, MemoryRows
from onefold.core.model import NEVER, NEW, ROOT, Batch, Id, Kind, Move, Origin, Pack, Put, Remove, Row
from onefold.core.recount import Recount


def page(rows: MemoryRows, after: Id, count: int) -> list[Row]:
    return sorted((row for row in rows.children(ROOT) if row.id > after), key=lambda row: row.id)[:count]


def change(catalogue: Catalogue, chance: random.Random, recount: Recount) -> None:
    """Apply an entry of one random command."""
    index = catalogue.index + 1
    there = catalogue.rows.children(ROOT)
    name = b"%d" % index
    command: Put | Move | Remove = Put(NEW, NEVER, ROOT, name, Kind.FILE, 0o644, index, 5, b"%032d" % index)
    if there and chance.random() < 0.7:
        row = chance.choice(there)
        command = chance.choice(
            [
                Put(row.id, row.version, ROOT, row.name, Kind.FILE, 0o600, index, 7, b"%032d" % index),
                Move(row.id, row.placed, ROOT, name),
                Remove(row.id, row.version),
            ]
        )
    recount.change(catalogue.apply(index, Pack((Batch(Origin("a", 1, index), (command,)),), {})).changes)


@pytest.mark.parametrize("seed", range(30))
def test_g1_a_recount_between_changes_is_the_digest(seed: int) -> None:
    chance = random.Random(seed)
    rows = MemoryRows()
    catalogue = Catalogue(rows)
    for _ in range(50):
        change(catalogue, chance, Recount())
    recount = Recount()
    while found := page(rows, recount.after, 3):
        recount.count(found)
        for _ in range(chance.randrange(3)):
            change(catalogue, chance, recount)
    assert recount.total == catalogue.digest == catalogue.recount()


def test_g1_a_damaged_row_shows() -> None:
    rows = MemoryRows()
    catalogue = Catalogue(rows)
    change(catalogue, random.Random(1), Recount())
    (row,) = rows.children(ROOT)
    rows.put(Row(row.id, row.parent, row.name, row.kind, row.version, row.placed, 0, 0, row.size, row.content))
    recount = Recount()
    recount.count(rows.children(ROOT))
    assert recount.total != catalogue.digest
    assert recount.bytes == 5
