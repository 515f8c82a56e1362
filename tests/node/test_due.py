"""When a place is looked at. Times are seconds."""

import pytest

from onefold.core.paths import RelPath
from onefold.node.due import QUIET_SECONDS_MAX, RESTLESS_SECONDS, Agenda
from onefold.ports import Hint

F = RelPath(b"f")
QUIET = 0.1


def written(path: RelPath = F) -> Hint:
    return Hint(path, certain=False, content=True, tree=False)


def closed(path: RelPath = F) -> Hint:
    return Hint(path, certain=True, content=True, tree=False)


@pytest.fixture
def agenda() -> Agenda:
    return Agenda(QUIET)


def test_a_complete_change_is_due_when_the_caller_says(agenda: Agenda) -> None:
    agenda.hint([closed()], 10.0, 10.5)
    assert agenda.soonest() == 10.5
    assert agenda.take(10.4) == {}
    assert list(agenda.take(10.5)) == [F]
    assert not agenda
    assert agenda.soonest() is None


def test_an_open_file_is_due_after_a_quiet(agenda: Agenda) -> None:
    agenda.hint([written()], 10.0, 10.0)
    assert agenda.soonest() == 10.0 + QUIET
    agenda.hint([written()], 10.05, 10.05)
    assert agenda.soonest() == 10.05 + QUIET


def test_closing_a_file_makes_it_due_at_once_whatever_was_before(agenda: Agenda) -> None:
    agenda.hint([written()], 10.0, 10.0)
    agenda.hint([closed()], 10.01, 10.01)
    agenda.hint([written()], 10.02, 10.02)
    assert agenda.soonest() == 10.01
    assert agenda.take(10.02)[F].since == 10.0


def test_what_is_hinted_at_twice_is_looked_at_once_for_all_of_it(agenda: Agenda) -> None:
    agenda.add(F, 10.0, tree=True)
    agenda.add(F, 10.0, content=True)
    (due,) = agenda.take(10.0).values()
    assert due.content and due.tree


def test_a_large_file_that_is_written_to_waits_but_not_for_ever(agenda: Agenda) -> None:
    agenda.hint([written()], 10.0, 10.0)
    due = agenda.take(10.0 + QUIET)[F]
    assert due.patient(10.0 + QUIET)
    agenda.postpone(F, due.since)
    assert agenda.soonest() == 10.0 + RESTLESS_SECONDS
    due = agenda.take(10.0 + RESTLESS_SECONDS)[F]
    assert not due.patient(10.0 + RESTLESS_SECONDS)


def test_a_postponed_file_is_due_once_it_is_closed(agenda: Agenda) -> None:
    agenda.postpone(F, 10.0)
    agenda.hint([closed()], 12.0, 12.0)
    assert not agenda.take(12.0)[F].patient(12.0)


def test_a_file_that_changed_during_the_look_is_due_after_another_quiet(agenda: Agenda) -> None:
    agenda.hint([closed()], 14.0, 14.0)
    agenda.after_quiet(F, 10.0, 14.0)
    assert agenda.soonest() == 14.0 + QUIET
    assert agenda.take(14.0 + QUIET)[F].since == 10.0


def test_hints_that_came_since_stand_before_what_is_put_back(agenda: Agenda) -> None:
    agenda.hint([written()], 10.0, 10.0)
    due = agenda.take(10.0 + QUIET)[F]
    agenda.hint([closed()], 11.0, 11.0)
    agenda.put_back(F, due)
    assert agenda.take(11.0)[F].since == 11.0
    agenda.put_back(F, due)
    assert agenda.take(11.0)[F].since == 10.0


def test_expedited_places_are_due_at_once_and_not_patient(agenda: Agenda) -> None:
    agenda.postpone(F, 10.0)
    agenda.expedite(10.5)
    assert not agenda.take(10.5)[F].patient(10.5)


def test_an_open_file_that_is_written_to_all_the_time_is_due_in_the_end(agenda: Agenda) -> None:
    for step in range(100):
        now = 10.0 + step * QUIET / 2
        agenda.hint([written()], now, now)
        if agenda.take(now):
            break
    assert now <= 10.0 + QUIET_SECONDS_MAX


def test_what_is_due_in_a_directory_that_moves_is_due_at_its_new_place_too(agenda: Agenda) -> None:
    agenda.hint([closed(RelPath(b"a/b/f")), closed(RelPath(b"ab"))], 10.0, 10.0)
    moved = [
        Hint(RelPath(b"z"), True, False, False, RelPath(b"a")),
        Hint(RelPath(b"z/c"), True, False, False, RelPath(b"z/b")),
    ]
    agenda.hint(moved, 11.0, 11.0)
    due = agenda.take(11.0)
    assert set(due) == {b"a/b/f", b"z/b/f", b"z/c/f", b"ab", b"z", b"z/c"}
    assert due[RelPath(b"z/c/f")].content and due[RelPath(b"z/c/f")].since == 10.0


def test_what_is_being_looked_at_follows_its_directory_too(agenda: Agenda) -> None:
    agenda.hint([closed(RelPath(b"a/f"))], 10.0, 10.0)
    agenda.take(10.0)
    agenda.hint([Hint(RelPath(b"z"), True, False, False, RelPath(b"a"))], 11.0, 11.0)
    assert set(agenda.take(11.0)) == {b"z/f", b"z"}


def test_what_has_been_looked_at_stays_behind(agenda: Agenda) -> None:
    agenda.hint([closed(RelPath(b"a/f"))], 10.0, 10.0)
    agenda.take(10.0)
    agenda.looked()
    agenda.hint([Hint(RelPath(b"z"), True, False, False, RelPath(b"a"))], 11.0, 11.0)
    assert set(agenda.take(11.0)) == {b"z"}


@pytest.mark.parametrize("above", [b"", b"a", b"a/b"])
def test_what_was_due_whole_is_due_whole_where_it_moved_from_there(agenda: Agenda, above: bytes) -> None:
    agenda.add(RelPath(above), 10.0, tree=True)
    agenda.hint([Hint(RelPath(b"z"), True, False, False, RelPath(b"a/b"))], 11.0, 11.0)
    assert agenda.take(11.0)[RelPath(b"z")].tree
