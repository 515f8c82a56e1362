"""Each rule of plan: what the catalogue says, what the base has, and the actions in their order."""

from __future__ import annotations

from folders import DictBase, base_row

from onefold.core.catalogue import MemoryRows
from onefold.core.model import (
    ROOT,
    Action,
    Aside,
    Attributes,
    Id,
    Kind,
    Replace,
    Row,
    Shift,
    Stat,
    Version,
)
from onefold.core.plan import plan

STAT = Stat(1, 1, 1, 1, 1, 0o644)


def row(
    id: int, name: bytes, parent: int = ROOT, kind: Kind = Kind.FILE, version: int = 1, content: bytes = b"c"
) -> Row:
    v = Version(version)
    return Row(Id(id), Id(parent), name, kind, v, Version(id), 0o644, 0, 1, b"" if kind is Kind.DIRECTORY else content)


def directory(id: int, name: bytes, parent: int = ROOT) -> Row:
    return row(id, name, parent, Kind.DIRECTORY)


def planned(catalogue: list[Row], base: list[Row], *ids: int) -> list[Action]:
    """The plan for `ids` (all, when none are given)."""
    rows, known = MemoryRows(), DictBase()
    for each in catalogue:
        rows.put(each)
    for each in base:
        known.put(base_row(each, STAT))
    every = {each.id for each in [*catalogue, *base]}
    return plan([Id(id) for id in ids] or every, rows, known)


def short(actions: list[Action]) -> list[tuple[object, ...]]:
    said: list[tuple[object, ...]] = []
    for action in actions:
        if isinstance(action, Shift):
            said.append(("shift", action.source, action.path))
        else:
            said.append((type(action).__name__.lower(), action.path))
    return said


def test_what_is_as_the_catalogue_says_needs_nothing() -> None:
    assert planned([row(1, b"a")], [row(1, b"a")]) == []


def test_an_id_that_neither_knows_and_the_root_need_nothing() -> None:
    assert planned([], [], 7, 0) == []


def test_a_directory_that_moves_into_one_that_was_in_it_waits_for_that_to_move_out() -> None:
    catalogue = [directory(1, b"x", 2), directory(2, b"y")]
    base = [directory(1, b"x"), directory(2, b"y", 1)]
    assert short(planned(catalogue, base, 1)) == [("shift", b"x/y", b"y"), ("shift", b"x", b"y/x")]


def test_parents_are_made_before_their_children() -> None:
    rows = [row(1, b"f", 2), directory(2, b"d", 3), directory(3, b"z")]
    assert short(planned(rows, [])) == [("make", b"z"), ("make", b"z/d"), ("make", b"z/d/f")]


def test_missing_parents_are_made_though_nobody_asked() -> None:
    rows = [row(1, b"f", 2), directory(2, b"d", 3), directory(3, b"z")]
    assert short(planned(rows, [], 1)) == [("make", b"z"), ("make", b"z/d"), ("make", b"z/d/f")]


def test_new_content_replaces_and_new_attributes_do_not() -> None:
    old = [row(1, b"a"), row(2, b"b"), directory(3, b"d")]
    new = [row(1, b"a", version=2, content=b"n"), row(2, b"b", version=2), row(3, b"d", kind=Kind.DIRECTORY, version=2)]
    assert [type(action) for action in planned(new, old)] == [Replace, Attributes, Attributes]


def test_a_place_won_by_another_move_is_learnt_without_a_rename() -> None:
    old = row(1, b"a")
    new = Row(*(Version(9) if field == "placed" else getattr(old, field) for field in Row.__struct_fields__))
    (action,) = planned([new], [old])
    assert isinstance(action, Attributes) and action.row.placed == 9


def test_removals_come_last_and_the_deepest_first() -> None:
    base = [directory(1, b"d"), directory(2, b"e", 1), row(3, b"f", 2)]
    assert short(planned([row(4, b"n")], base)) == [
        ("make", b"n"),
        ("drop", b"d/e/f"),
        ("drop", b"d/e"),
        ("drop", b"d"),
    ]


def test_a_removal_below_a_moved_directory_finds_it_there() -> None:
    base = [directory(1, b"d"), row(3, b"f", 1)]
    assert short(planned([directory(1, b"n")], base)) == [("shift", b"d", b"n"), ("drop", b"n/f")]


def test_a_file_that_takes_the_place_of_one_that_goes_is_exchanged_for_it() -> None:
    (action,) = planned([row(2, b"a")], [row(1, b"a")], 2)
    assert isinstance(action, Replace) and (action.row.id, action.base.id) == (2, 1)


def test_a_directory_takes_the_place_of_a_file_that_steps_aside_and_goes() -> None:
    said = planned([directory(2, b"a")], [row(1, b"a")], 2)
    assert short(said) == [("aside", b"a"), ("make", b"a"), ("drop", None)]


def test_two_that_swap_both_step_aside() -> None:
    said = planned([row(1, b"b"), row(2, b"a")], [row(1, b"a"), row(2, b"b")], 1)
    assert short(said) == [("aside", b"b"), ("aside", b"a"), ("shift", None, b"a"), ("shift", None, b"b")]


def test_three_in_a_cycle_all_step_aside() -> None:
    base = [row(1, b"a"), row(2, b"b"), row(3, b"c")]
    said = planned([row(1, b"b"), row(2, b"c"), row(3, b"a")], base, 2)
    assert [type(action) for action in said] == [Aside] * 3 + [Shift] * 3


def test_what_leaves_a_tree_that_steps_aside_steps_aside_before_it() -> None:
    base = [directory(1, b"a"), directory(2, b"s", 1), row(3, b"f", 2), row(4, b"k", 1)]
    said = planned([directory(5, b"a"), row(3, b"f", 5)], base)
    assert short(said) == [
        ("aside", b"a/s/f"), ("aside", b"a/s"), ("aside", b"a/k"), ("aside", b"a"),
        ("make", b"a"), ("shift", None, b"a/f"),
        ("drop", None), ("drop", None), ("drop", None),
    ]  # fmt: skip


def test_a_parent_goes_under_its_former_child() -> None:
    base = [directory(1, b"a"), directory(2, b"s", 1)]
    said = planned([directory(2, b"a"), directory(1, b"d", 2)], base)
    assert short(said) == [("aside", b"a/s"), ("aside", b"a"), ("shift", None, b"a"), ("shift", None, b"a/d")]


def test_a_move_out_of_a_directory_that_moved_starts_where_that_is_now() -> None:
    base = [directory(1, b"d"), row(2, b"f", 1)]
    said = planned([directory(1, b"a"), row(2, b"g", 1)], base)
    assert short(said) == [("shift", b"d", b"a"), ("shift", b"a/f", b"a/g")]


def test_a_directory_that_neither_knows_does_not_stop_the_plan() -> None:
    said = planned([row(1, b"f", 2)], [row(1, b"f")])
    assert short(said) == [("shift", b"f", b"f")]


def test_a_row_whose_directory_has_no_row_does_not_stop_the_others() -> None:
    base = [row(1, b"a"), row(2, b"b"), row(3, b"f", 9), directory(4, b"d", 9)]
    said = planned([row(1, b"b"), row(2, b"a"), row(5, b"g", 4), directory(4, b"d", 9)], base)
    assert ("drop", b"f") in short(said) and ("make", b"d/g") in short(said)
