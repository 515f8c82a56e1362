"""Waiting, and how long."""

from onefold.node.waiting import retry_seconds


def test_each_wait_is_twice_the_last_up_to_the_most() -> None:
    assert [retry_seconds(tries, 0.02, 5.0) for tries in (1, 2, 3, 8, 9)] == [0.04, 0.08, 0.16, 5.0, 5.0]


def test_what_fails_for_hours_is_still_tried() -> None:
    assert retry_seconds(5_000, 0.02, 5.0) == 5.0
