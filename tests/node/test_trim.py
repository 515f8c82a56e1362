"""How much of the log is kept, and for whom."""

from __future__ import annotations

import pytest

from onefold.node.trim import trim_point


@pytest.mark.parametrize(
    ("live", "voters", "point"),
    [
        ([1000, 1000, 1000], [1000, 1000, 1000], 900),  # all have all: a tail is kept for who is away
        ([1000, 1000, 850], [1000, 1000, 850], 850),  # behind the slowest live one …
        ([1000, 1000, 0], [1000, 1000, 0], 600),  # … but not without end
        ([1000, 1000], [1000, 1000], 900),  # a dead one is waited for by nobody
        ([1000, 500, 400], [1000, 500, 400], 500),  # beyond the bound, yet never beyond a majority
        ([1000], [1000], 0),  # no majority is known
    ],
)
def test_the_log_is_trimmed_behind_the_slowest_live_node(live: list[int], voters: list[int], point: int) -> None:
    assert trim_point(1000, live, voters, 2, 100) == point


def test_the_newest_entry_stays() -> None:
    assert trim_point(1000, [1000], [1000], 1, 0) == 999
    assert trim_point(0, [0], [0], 1, 100) == 0
