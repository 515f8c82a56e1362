"""What came in place, and when the programs that wait for it are due. Times are seconds."""

from __future__ import annotations

import math

import pytest
from folders import base_row

from onefold.core.catalogue import MemoryRows
from onefold.core.hooks import LATEST_SECONDS, MOVES_KEPT, PLACES_MAX, Moves, Placed, due_in, placed_by, placed_here
from onefold.core.model import (
    ROOT,
    Action,
    Aside,
    Attributes,
    Discard,
    Done,
    Drop,
    Failed,
    Id,
    Kind,
    Make,
    Replace,
    Row,
    Shift,
    Stat,
    Version,
)
from onefold.core.paths import RelPath
from onefold.core.views import path_of

A, B = RelPath(b"a"), RelPath(b"b")


def row(id: int, name: bytes, kind: Kind = Kind.FILE, parent: Id = ROOT) -> Row:
    return Row(Id(id), parent, name, kind, Version(id), Version(id), 0o644, 0, 1, b"")


FILE, DIRECTORY = row(1, b"a"), row(2, b"a", Kind.DIRECTORY)
OLD, OLD_DIRECTORY = (base_row(each, Stat(1, 1, 1, 1, 1, 0o644)) for each in (FILE, DIRECTORY))


@pytest.mark.parametrize(
    ("action", "placed"),
    [
        (Make(FILE, A), Placed(A, False)),
        (Make(DIRECTORY, A), Placed(A, True)),
        (Replace(FILE, A, OLD), Placed(A, False)),
        (Attributes(FILE, A, OLD), Placed(A, False)),
        (Shift(OLD, A, B, ROOT, Version(3)), Placed(B, False, A)),
        (Shift(OLD_DIRECTORY, None, B, ROOT, Version(3)), Placed(B, True, A)),
        (Drop(OLD, A), Placed(A, False)),
        (Drop(OLD_DIRECTORY, None), Placed(A, True)),
        (Aside(OLD, A), None),
        (Discard(A, Kind.FILE), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_an_action_brought_in_place(action: Action, placed: Placed | None) -> None:
    assert placed_by(action, Done(FILE.id, None), A) == placed
    assert placed_by(action, Failed(FILE.id, A, "no"), A) is None


def test_what_is_removed_and_known_to_nobody_is_no_change() -> None:
    assert placed_by(Drop(OLD, None), Done(FILE.id, None), None) is None
    assert placed_by(Shift(OLD, None, B, ROOT, Version(3)), Done(FILE.id, None), None) == Placed(B, False)


@pytest.mark.parametrize(
    ("before", "after", "placed"),
    [
        (None, A, Placed(A, False)),
        (A, A, Placed(A, False)),
        (A, B, Placed(B, False, A)),
        (A, None, Placed(A, False)),
        (None, None, None),
    ],
)
def test_what_an_edit_made_here_brought_in_place(
    before: RelPath | None, after: RelPath | None, placed: Placed | None
) -> None:
    assert placed_here(before, after, False) == placed


def test_the_path_of_a_row_leads_through_its_directories() -> None:
    rows = MemoryRows()
    rows.put(row(1, b"d", Kind.DIRECTORY))
    rows.put(row(2, b"e", Kind.DIRECTORY, Id(1)))
    assert path_of(rows, Id(2), b"f") == b"d/e/f"
    assert path_of(rows, ROOT, b"f") == b"f"


def test_a_program_is_due_when_its_changes_have_rested() -> None:
    assert due_in(10.0, 10.0, 10.0, 0.5, busy=False, much=False) == 0.5
    assert due_in(10.3, 10.0, 10.2, 0.5, busy=False, much=False) == pytest.approx(0.4)
    assert due_in(10.7, 10.0, 10.2, 0.5, busy=False, much=False) == 0.0


def test_changes_that_never_rest_are_not_waited_for_for_ever() -> None:
    late = 10.0 + LATEST_SECONDS
    assert due_in(late - 1, 10.0, late - 1, 5.0, busy=False, much=False) == 1.0
    assert due_in(late, 10.0, late, 5.0, busy=True, much=False) == 0.0
    assert due_in(late, 10.0, late, 60.0, busy=False, much=False) == 60.0 - LATEST_SECONDS


def test_what_is_still_on_its_way_is_waited_for() -> None:
    assert due_in(11.0, 10.0, 10.0, 0.5, busy=True, much=False) == LATEST_SECONDS - 1
    assert due_in(1000.0, 10.0, 10.0, 0.5, busy=True, much=True) == math.inf


def test_what_is_in_a_directory_that_was_moved_was_elsewhere_before() -> None:
    moves = Moves()
    moves.add(RelPath(b"b"), RelPath(b"a"))
    moves.add(RelPath(b"c/d"), RelPath(b"b"))
    assert moves.places(RelPath(b"c/d/f")) == [b"c/d/f", b"b/f", b"a/f"]
    assert moves.places(RelPath(b"c/d")) == [b"c/d"]
    assert moves.places(RelPath(b"e")) == [b"e"]


def test_moves_in_a_circle_lead_to_no_end_of_places() -> None:
    moves = Moves()
    moves.add(RelPath(b"a"), RelPath(b"b/c"))
    moves.add(RelPath(b"b"), RelPath(b"a"))
    assert len(moves.places(RelPath(b"a/f"))) == PLACES_MAX


def test_moves_of_long_ago_are_forgotten() -> None:
    moves = Moves()
    for number in range(MOVES_KEPT + 1):
        moves.add(RelPath(b"%d" % number), RelPath(b"x"))
    assert moves.places(RelPath(b"0/f")) == [b"0/f"]
    assert moves.places(RelPath(b"1/f")) == [b"1/f", b"x/f"]
