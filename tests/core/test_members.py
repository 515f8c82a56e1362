"""Members of the roster: who may join, once; who may go; what is revoked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from onefold.core.members import (
    is_invited,
    leave,
    member_of,
    redeem,
    revoke,
    unwise,
    warning,
    with_invitation,
    with_machine_token,
    with_member,
    with_seat,
    with_serials,
    without_member,
)
from onefold.core.roster import Roster, RosterMember, holder
from onefold.errors import UserError

NOW = 1_000.0
ELSEWHERE = with_member(Roster(), RosterMember("web1", "10.0.0.1:7400", seated=True, api="10.0.0.2:7402"))
FIRST = RosterMember("web1", "10.0.0.1:7400", serials=("a1",), seated=True)
SECOND = RosterMember("web2", "10.0.0.2:7400", serials=("b1", "b2"), key="k")
ONE = with_member(Roster(), FIRST)
INVITING = with_invitation(ONE, "s3cret", 2_000, True, "", NOW)


def joined(roster: Roster, member: RosterMember, secret: str = "s3cret", now: float = NOW) -> Roster:
    return redeem(roster, secret, member, now)


def test_an_invitation_lets_one_node_in_and_is_gone_then() -> None:
    two = joined(INVITING, SECOND)
    assert [member.name for member in two.members] == ["web1", "web2"]
    assert not two.invitations
    assert not member_of(two, "web2").seated
    with pytest.raises(UserError, match=r"this invitation was used by web2 at 10.0.0.2:7400"):
        joined(two, replace(SECOND, name="web3", address="10.0.0.3:7400"))


def test_who_joined_may_ask_again_with_the_same_key_alone() -> None:
    two = joined(INVITING, SECOND)
    assert is_invited(two, "s3cret", NOW + 10_000)
    again = joined(two, replace(SECOND, serials=("b3",)), now=NOW + 10_000)
    assert member_of(again, "web2").serials == ("b1", "b2", "b3")
    assert len(again.members) == 2
    with pytest.raises(UserError, match="was used"):
        joined(two, replace(SECOND, key="another"))
    with pytest.raises(UserError, match="was used"):  # its certificate would name an address of somebody else
        joined(two, replace(SECOND, api="10.0.0.1:7500"))


@pytest.mark.parametrize("out", [leave, revoke])
def test_who_is_to_leave_is_given_nothing_again(out: Callable[[Roster, str], Roster]) -> None:
    leaving = out(joined(INVITING, SECOND), "web2")
    assert not is_invited(leaving, "s3cret", NOW)
    with pytest.raises(UserError, match="web2 leaves the cluster"):
        joined(leaving, replace(SECOND, serials=("b3",)))


def test_an_invitation_ends_and_may_be_for_one_name() -> None:
    with pytest.raises(UserError, match="has expired"):
        joined(INVITING, SECOND, now=2_000.0)
    assert not is_invited(INVITING, "s3cret", 2_000.0)
    named = with_invitation(ONE, "s3cret", 2_000, False, "web3", NOW)
    with pytest.raises(UserError, match=r"is for web3, not for web2: join with --name web3"):
        joined(named, SECOND)
    three = joined(named, replace(SECOND, name="web3"))
    assert not member_of(three, "web3").voter


def test_a_guessed_secret_is_no_invitation() -> None:
    assert not is_invited(INVITING, "s3cre", NOW)
    with pytest.raises(UserError, match="not known here"):
        joined(INVITING, SECOND, "s3cre")


def test_names_and_ports_are_nobody_elses() -> None:
    with pytest.raises(UserError, match=r"there is a node 'web1' already"):
        joined(INVITING, replace(SECOND, name="web1"))
    with pytest.raises(UserError, match=r"there is a node 'web1' already"):
        joined(INVITING, replace(SECOND, name="WEB1"))
    with pytest.raises(UserError, match=r"no node can be called 'Admin'"):
        joined(INVITING, replace(SECOND, name="Admin"))
    with pytest.raises(UserError, match=r"10.0.0.1:7403 shares a port with web1"):
        joined(INVITING, replace(SECOND, address="10.0.0.1:7403"))
    with pytest.raises(UserError, match=r"10.0.0.1:7404 shares a port with web1"):
        joined(INVITING, replace(SECOND, address="10.0.0.1:7404"))
    with pytest.raises(UserError, match=r"10.0.0.2:7400 shares a port with web1"):
        joined(with_invitation(ELSEWHERE, "s3cret", 2_000, True, "", NOW), SECOND)
    assert joined(INVITING, replace(SECOND, address="10.0.0.1:7405", api="10.0.0.1:7500"))
    with pytest.raises(UserError, match="no node can be called 'admin'"):
        with_invitation(ONE, "x", 2_000, True, "admin", NOW)
    with pytest.raises(UserError, match="no node can be called 'a/b'"):
        joined(INVITING, replace(SECOND, name="a/b"))


@pytest.mark.parametrize(
    "address",
    ["", "10.0.0.2", "10.0.0.2:0", "10.0.0.2:99999", "0.0.0.0:7400", "[::]:7400", "a,b=c:7400", "ä:1"],
)
def test_where_no_node_can_be_reached_nobody_joins(address: str) -> None:
    with pytest.raises(UserError, match="no node can be reached at"):
        joined(INVITING, replace(SECOND, address=address))
    with pytest.raises(UserError, match=r"no node can be reached at|shares a port"):
        joined(INVITING, replace(SECOND, api=address or "nowhere"))


def test_expired_invitations_are_forgotten_and_open_ones_are_not_endless() -> None:
    roster = with_invitation(INVITING, "later", 9_000, True, "", 3_000.0)
    assert len(roster.invitations) == 1
    for number in range(99):
        roster = with_invitation(roster, str(number), 9_000, True, "", 3_000.0)
    with pytest.raises(UserError, match="100 open invitations"):
        with_invitation(roster, "one too many", 9_000, True, "", 3_000.0)


def test_the_last_that_votes_does_not_leave() -> None:
    two = joined(INVITING, SECOND)
    with pytest.raises(UserError, match="web1 is the last node with a vote"):
        leave(two, "web1")
    voting = with_seat(two, "web2", True)
    left = leave(voting, "web1")
    assert member_of(left, "web1").leaving
    assert leave(left, "web1") == left
    with pytest.raises(UserError, match="web2 is the last node with a vote"):
        leave(left, "web2")


def test_who_is_out_is_revoked_and_its_name_is_free() -> None:
    two = joined(INVITING, SECOND)
    one = without_member(two, "web2")
    assert one.revoked == ("b1", "b2")
    assert one.members == (FIRST,)
    assert without_member(one, "web2") == one
    again = joined(with_invitation(one, "new", 2_000, True, "", NOW), replace(SECOND, serials=("c1",)), "new")
    assert member_of(again, "web2").serials == ("c1",)


def test_who_is_revoked_is_so_at_once_and_gets_no_more_certificates() -> None:
    two = joined(INVITING, SECOND)
    assert member_of(with_serials(two, "web2", ("b3",)), "web2").serials == ("b1", "b2", "b3")
    without = revoke(two, "web2")
    assert without.revoked == ("b1", "b2")
    assert member_of(without, "web2").leaving
    with pytest.raises(UserError, match="gets no more certificates"):
        with_serials(without, "web2", ("b3",))


def test_g8_who_is_revoked_gets_in_no_more_by_the_invitation_it_came_with() -> None:
    without = revoke(joined(INVITING, SECOND), "web2")
    assert not is_invited(without, "s3cret", NOW)
    with pytest.raises(UserError, match="web2 leaves the cluster: it gets no more certificates"):
        joined(without, replace(SECOND, serials=("b3",)))


def test_who_does_not_exist_is_named_with_those_who_do() -> None:
    with pytest.raises(UserError, match="there is no node 'web7': there are web1"):
        leave(ONE, "web7")
    with pytest.raises(UserError, match=r"the members of this cluster stand in node.toml"):
        leave(Roster(), "web1")
    with pytest.raises(UserError, match=r"the members of this cluster stand in node.toml"):
        with_invitation(Roster(), "s", 2_000, True, "", NOW)


def test_an_even_number_of_voters_is_warned_of() -> None:
    assert warning(ONE) == ""
    assert warning(joined(INVITING, SECOND)).startswith("2 voters tolerate no more failures than 1")
    assert unwise(5) == ""


def test_the_token_of_a_machine_takes_the_place_of_its_last_one() -> None:
    roster = with_machine_token(with_machine_token(ONE, "web1", "first"), "web1", "second")
    assert holder(roster, "first") is None
    token = holder(roster, "second")
    assert token is not None
    assert (token.name, token.role) == ("node-web1", "admin")
