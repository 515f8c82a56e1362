"""Who stops when digests differ, and who goes on (G1)."""

from collections.abc import Mapping

import pytest

from onefold.core.quorum import NOT_YET, Quorum, Standing

GOOD, BAD, WORSE = b"g", b"b", b"w"


class Node:
    """One node's view: it has `own` digests, and hears others'."""

    def __init__(self, me: str, voters: str, own: Mapping[int, bytes]) -> None:
        self.own = own
        self.quorum = Quorum(me, voters)

    def hears(self, peer: str, *digests: tuple[int, bytes]) -> Standing:
        self.quorum.hear(peer, digests, self.own)
        return self.quorum.standing()


def test_a_node_that_hears_nothing_goes_on() -> None:
    node = Node("a", "abc", {1: GOOD})
    assert node.quorum.standing() is Standing.SOUND
    assert node.quorum.since() == NOT_YET
    assert node.hears("b", (7, BAD)) is Standing.SOUND  # it has not come to 7 yet
    assert node.quorum.odd() == []


def test_g1_the_two_of_three_that_agree_go_on_and_the_odd_one_stops() -> None:
    a = Node("a", "abc", {1: GOOD, 2: GOOD})
    assert a.hears("b", (1, GOOD), (2, GOOD)) is Standing.SOUND
    assert a.hears("c", (1, GOOD), (2, BAD)) is Standing.SOUND
    assert a.quorum.odd() == ["c"]
    c = Node("c", "abc", {1: GOOD, 2: BAD})
    assert c.hears("a", (2, GOOD)) is Standing.UNDECIDED
    assert c.hears("b", (2, GOOD)) is Standing.ODD
    assert c.quorum.odd() == ["a", "b"]


def test_g1_nobody_goes_on_until_a_third_has_told() -> None:
    a = Node("a", "abc", {1: GOOD, 2: GOOD})
    assert a.hears("b", (2, BAD)) is Standing.UNDECIDED
    assert a.hears("c", (1, GOOD)) is Standing.UNDECIDED  # that was before they differed
    assert a.hears("c", (1, GOOD), (2, GOOD)) is Standing.SOUND


def test_g1_of_two_voters_neither_goes_on() -> None:
    a = Node("a", "ab", {1: GOOD})
    assert a.hears("b", (1, BAD)) is Standing.UNDECIDED


def test_g1_three_that_all_differ_stop() -> None:
    a = Node("a", "abc", {1: GOOD})
    a.hears("b", (1, BAD))
    assert a.hears("c", (1, WORSE)) is Standing.UNDECIDED


def test_g1_an_odd_replica_stops_nobody_else() -> None:
    a = Node("a", "abc", {1: GOOD})
    a.hears("b", (1, GOOD))
    assert a.hears("r", (1, BAD)) is Standing.SOUND
    replica = Node("r", "abc", {1: BAD})
    replica.hears("a", (1, GOOD))
    assert replica.hears("b", (1, GOOD)) is Standing.ODD


def test_g1_replicas_have_no_vote() -> None:
    a = Node("a", "abc", {1: GOOD})
    a.hears("r", (1, GOOD))
    a.hears("s", (1, GOOD))
    assert a.hears("b", (1, BAD)) is Standing.UNDECIDED
    a.hears("s", (1, BAD))
    assert a.hears("r", (1, BAD)) is Standing.UNDECIDED
    replica = Node("r", "abc", {1: GOOD})
    replica.hears("a", (1, GOOD))
    assert replica.hears("b", (1, BAD)) is Standing.UNDECIDED
    assert replica.hears("c", (1, GOOD)) is Standing.SOUND


def test_g1_the_only_voter_goes_on_whatever_replicas_say() -> None:
    assert Node("a", "a", {1: GOOD}).hears("r", (1, BAD)) is Standing.SOUND


def test_what_was_established_outlives_the_death_of_who_agreed() -> None:
    a = Node("a", "abc", dict.fromkeys(range(1, 9), GOOD))
    a.hears("b", (2, BAD))
    a.hears("c", (2, GOOD))  # and dies
    assert a.hears("b", (7, BAD), (8, BAD)) is Standing.SOUND


def test_g1_a_third_that_differs_later_makes_it_undecided_again_though_the_second_is_known_to_be_odd() -> None:
    a = Node("a", "abc", dict.fromkeys(range(1, 9), GOOD))
    a.hears("b", (2, BAD))
    assert a.hears("c", (2, GOOD)) is Standing.SOUND
    assert a.hears("c", (5, WORSE)) is Standing.UNDECIDED
    assert a.hears("b", (5, WORSE)) is Standing.ODD


def test_one_that_was_made_anew_and_agrees_is_not_odd_any_more() -> None:
    a = Node("a", "abc", {1: GOOD, 2: GOOD, 3: GOOD})
    a.hears("c", (3, GOOD))
    a.hears("b", (3, BAD))
    assert a.hears("b", (1, GOOD)) is Standing.SOUND
    assert a.quorum.odd() == []
    assert a.quorum.since() == NOT_YET


def test_a_node_that_lags_finds_the_difference_when_it_comes_there() -> None:
    own = {1: GOOD}
    a = Node("a", "abc", own)
    a.hears("b", (2, BAD), (3, BAD))
    assert a.hears("c", (2, GOOD), (3, GOOD)) is Standing.SOUND
    a.quorum.reach(2, GOOD)
    assert a.quorum.odd() == ["b"]
    assert a.quorum.since() == 2
    assert a.quorum.standing() is Standing.SOUND
    a.quorum.reach(3, GOOD)
    assert a.quorum.since() == 2
    assert a.quorum.standing() is Standing.SOUND


@pytest.mark.parametrize("others", ["bc", "cb"])
def test_g1_an_odd_leader_stops_in_whatever_order_it_hears(others: str) -> None:
    a = Node("a", "abcde", {1: BAD})
    for peer in (*others, "d"):
        a.hears(peer, (1, GOOD))
    assert a.quorum.standing() is Standing.ODD


def test_g1_a_node_with_only_a_minority_against_it_is_not_odd() -> None:
    a = Node("a", "abcde", {1: GOOD})
    a.hears("b", (1, BAD))
    a.hears("c", (1, BAD))
    assert a.quorum.standing() is Standing.UNDECIDED
    a.hears("d", (1, GOOD))
    assert a.quorum.standing() is Standing.UNDECIDED
    a.hears("e", (1, GOOD))
    assert a.quorum.standing() is Standing.SOUND


def test_a_node_that_comes_where_nobody_was_compares_nothing() -> None:
    a = Node("a", "abc", {1: GOOD})
    a.hears("b", (1, GOOD))
    a.quorum.reach(2, BAD)
    assert a.quorum.standing() is Standing.SOUND


def test_g1_voters_that_come_and_go_count_from_then_on() -> None:
    a = Node("a", "abc", {1: GOOD})
    a.hears("b", (1, BAD))
    assert a.quorum.standing() is Standing.UNDECIDED
    a.quorum.change("ac")
    a.quorum.forget("b")
    assert a.quorum.odd() == []
    assert a.hears("c", (1, GOOD)) is Standing.SOUND
