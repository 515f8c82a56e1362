"""Who votes, one seat at a time: what the leader does next, however things stand; and that it ends where it must."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from onefold.core.members import with_seat, without_member
from onefold.core.roster import Roster, RosterMember
from onefold.core.seats import AddLearner, Drop, HandOver, Listed, Promote, Seat, Step, Unlist, next_step

NAMES = "abcde"
URLS = {name: f"https://{name}" for name in NAMES}


def member(name: str, seated: bool = True, leaving: bool = False, voter: bool = True) -> RosterMember:
    return RosterMember(name, f"{name}:7400", voter, seated=seated, leaving=leaving)


def roster(*members: RosterMember) -> Roster:
    return Roster(members=members)


def listed(voters: str, learners: str = "") -> list[Listed]:
    return [Listed(ord(name), URLS[name], name in learners) for name in voters + learners]


def step(of: Roster, etcd: list[Listed], durable: dict[str, int], since: int = 0, me: str = "a") -> Step | None:
    return next_step(me, of, etcd, URLS, durable, since)


def test_who_joined_becomes_a_learner_then_votes_then_has_its_seat() -> None:
    joined = roster(member("a"), member("b", seated=False))
    assert step(joined, listed("a"), {"a": 7}) == AddLearner("b")
    assert step(joined, listed("a", "b"), {"a": 7, "b": 6}, since=7) is None
    assert step(joined, listed("a", "b"), {"a": 7, "b": 7}, since=7) == Promote("b", ord("b"))
    assert step(joined, listed("ab"), {}) == Seat("b", True)
    assert step(roster(member("a"), member("b")), listed("ab"), {}) is None


def test_a_replica_gets_no_seat() -> None:
    assert step(roster(member("a"), member("r", seated=False, voter=False)), listed("a"), {"a": 1, "r": 1}) is None


def test_one_learner_at_a_time_and_none_while_a_seat_is_not_settled() -> None:
    joining = roster(member("a"), member("b", seated=False), member("c", seated=False))
    assert step(joining, listed("a", "c"), {"a": 1, "c": 1}) == Promote("c", ord("c"))
    assert step(joining, listed("a", "c"), {"a": 1}) is None
    assert step(joining, listed("ab"), {"a": 1}) == Seat("b", True)


def test_who_leaves_goes_only_once_the_others_have_what_was_there_at_the_last_change() -> None:
    leaving = roster(member("a"), member("b"), member("c", leaving=True))
    assert step(leaving, listed("abc"), {"a": 9, "b": 8, "c": 9}, since=9) is None
    assert step(leaving, listed("abc"), {"a": 9, "b": 9}, since=9) == Unlist(ord("c"))
    assert step(leaving, listed("ab"), {}) == Seat("c", False)
    assert step(roster(member("a"), member("b"), member("c", False, leaving=True)), listed("ab"), {}) == Drop("c")
    assert step(roster(member("a"), member("b")), listed("abc"), {}) == Unlist(ord("c"))


def test_a_learner_that_leaves_is_out_of_etcd_before_it_is_out_of_the_roster() -> None:
    leaving = roster(member("a"), member("b", seated=False, leaving=True))
    assert step(leaving, listed("a", "b"), {}) == Unlist(ord("b"))
    assert step(leaving, listed("a"), {}) == Drop("b")


def test_a_new_seat_waits_for_a_majority_of_those_who_would_vote_then() -> None:
    joining = roster(member("a"), member("b"), member("c", seated=False))
    assert step(joining, listed("ab", "c"), {"c": 5, "a": 4}, since=5) is None
    assert step(joining, listed("ab", "c"), {"c": 5, "a": 5}, since=5) == Promote("c", ord("c"))


def test_who_leads_and_leaves_hands_over_first() -> None:
    leaving = roster(member("a", leaving=True), member("b"))
    assert step(leaving, listed("ab"), {"a": 1, "b": 1}) == HandOver()
    assert step(leaving, listed("ab"), {"a": 1, "b": 1}, me="b") == Unlist(ord("a"))


def test_a_voter_whose_member_is_gone_from_etcd_begins_again_as_a_learner() -> None:
    both = roster(member("a"), member("b"))
    assert step(both, listed("a"), {}) == Seat("b", False)
    assert step(with_seat(both, "b", False), listed("a"), {}) == AddLearner("b")
    assert step(both, listed("a", "b"), {}) == Seat("b", False)


def test_whose_cluster_it_is_not_changes_nothing() -> None:
    assert step(Roster(), listed("abc"), {}) is None
    assert step(roster(member("b")), listed("abc"), {}) is None


def act(now: Roster, etcd: dict[str, bool], done: Step) -> Roster:
    """The world after a step; `etcd` are its members, and whether each only learns."""
    match done:
        case AddLearner(node=node):
            etcd[node] = True
        case Promote(node=node):
            etcd[node] = False
        case Unlist(id=id):
            del etcd[chr(id)]
        case Seat(node=node, seated=seated):
            return with_seat(now, node, seated)
        case Drop(node=node):
            return without_member(now, node)
        case HandOver():
            raise AssertionError("a stays")
    return now


@settings(max_examples=300)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=4, max_size=4), st.data())
def test_from_anywhere_it_ends_with_those_who_should_and_majorities_always_meet(
    others: list[tuple[bool, bool, bool]], data: st.DataObject
) -> None:
    now = roster(member("a"), *(member(name, s and v, g, v) for name, (s, g, v) in zip("bcde", others, strict=True)))
    etcd = {each.name: False for each in now.members if each.seated}
    if etcd and data.draw(st.booleans(), "one was just unlisted"):
        etcd.pop(data.draw(st.sampled_from([*etcd][1:] or ["none"])), None)
    seen = [frozenset(name for name, learns in etcd.items() if not learns)]
    for _ in range(40):
        state = [Listed(ord(name), URLS[name], learns) for name, learns in etcd.items()]
        assert sum(each.learner for each in state) <= 1
        following = step(now, state, dict.fromkeys(NAMES, 1), since=1)
        if following is None:
            break
        now = act(now, etcd, following)
        seen.append(frozenset(name for name, learns in etcd.items() if not learns))
    assert following is None
    assert {each.name for each in now.members if each.seated} == {n for n, learns in etcd.items() if not learns}
    assert all(each.seated == each.voter and not each.leaving for each in now.members)
    for before, after in pairwise(seen):
        assert meet(before, after), (before, after)


def meet(before: frozenset[str], after: frozenset[str]) -> bool:
    """Whether every majority of the one has a voter in common with every majority of the other."""
    return all(
        set(one) & set(other)
        for one in combinations(sorted(before), len(before) // 2 + 1)
        for other in combinations(sorted(after), len(after) // 2 + 1)
    )


def test_content_of_a_majority_is_with_one_of_every_majority_after_one_change_but_not_after_two() -> None:
    """Why a seat waits for what was there at the last change."""
    assert meet(frozenset("abc"), frozenset("abcd"))
    assert not meet(frozenset("abc"), frozenset("abcde"))


@pytest.mark.parametrize("name", ["b", "c"])
def test_a_step_that_is_taken_twice_is_told_by_how_things_stand(name: str) -> None:
    now = roster(member("a"), member(name, seated=False))
    etcd = {"a": False}
    for _ in range(2):
        act(now, etcd, AddLearner(name))
    assert step(now, listed("a", name), {"a": 1, name: 1}) == Promote(name, ord(name))
    assert replace(now.members[1], seated=True) == with_seat(now, name, True).members[1]
