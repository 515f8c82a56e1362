"""The roster: tokens by the digests of their secrets, and documents that cannot be read."""

from __future__ import annotations

import pytest

from onefold.core.roster import Role, Roster, decode, encode, holder, with_token, without_token
from onefold.errors import OperatorError, UserError


def test_a_token_is_found_by_its_secret_which_the_roster_does_not_hold() -> None:
    roster = with_token(with_token(Roster(), "ci", "write", "s3cret"), "page", "read", "other")
    token = holder(roster, "s3cret")
    assert token is not None
    assert (token.name, token.role) == ("ci", "write")
    assert holder(roster, "s3cre") is None
    assert holder(roster, token.digest) is None
    assert b"s3cret" not in encode(roster)
    assert decode(encode(roster)) == roster


def test_secrets_of_any_bytes_are_only_not_known() -> None:
    assert holder(with_token(Roster(), "ci", "read", "x"), "\udcff\x00") is None


def test_names_and_roles_that_cannot_be_are_refused() -> None:
    roster = with_token(Roster(), "ci", "write", "x")
    with pytest.raises(UserError, match=r"there is a token 'ci' already: choose another name"):
        with_token(roster, "ci", "read", "y")
    with pytest.raises(UserError, match=r"there is no role 'root': choose one of read, write, admin"):
        with_token(roster, "two", "root", "y")
    with pytest.raises(UserError, match=r"there is no token 'c': there are ci"):
        without_token(roster, "c")
    assert without_token(roster, "ci") == Roster()


def test_each_role_includes_those_below() -> None:
    assert Role.READ < Role.WRITE < Role.ADMIN


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"tokens": 1}', b'{"format": 2}'])
def test_what_is_no_roster_of_ours_is_refused_in_one_sentence(data: bytes) -> None:
    with pytest.raises(OperatorError, match=r"the cluster's roster (is damaged|has format 2)"):
        decode(data)
