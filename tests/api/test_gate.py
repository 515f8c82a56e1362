"""Whose wrong tokens are counted together, and when they are forgotten."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from onefold.api import gate as module
from onefold.api.gate import ADDRESSES_MAX, FAILURES_MAX, FORGIVEN_SECONDS, Gate
from onefold.api.problem import ApiError
from onefold.core.roster import Role, Roster, with_token

ROSTER = with_token(with_token(Roster(), "reads", "read", "r"), "writes", "write", "w")


def asks(gate: Gate, host: str, secret: str = "wrong", role: Role = Role.READ) -> int:
    """The status of a request from `host`."""
    headers = [(b"authorization", f"Bearer {secret}".encode())]
    request = Request({"type": "http", "headers": headers, "client": (host, 1)})
    try:
        gate.check(request, ROSTER, role)
    except ApiError as error:
        return error.status
    return 200


def guess(gate: Gate, host: str) -> None:
    for _ in range(FAILURES_MAX):
        assert asks(gate, host) == 401


def test_a_role_allows_what_is_below_it() -> None:
    gate = Gate()
    assert asks(gate, "1.1.1.1", "r") == asks(gate, "1.1.1.1", "w") == 200
    assert asks(gate, "1.1.1.1", "r", Role.WRITE) == 403
    assert asks(gate, "1.1.1.1", "w", Role.WRITE) == 200


def test_after_so_many_failures_even_a_right_token_waits_until_they_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    gate = Gate()
    guess(gate, "1.1.1.1")
    assert asks(gate, "1.1.1.1", "r") == 429
    now += FORGIVEN_SECONDS
    assert asks(gate, "1.1.1.1", "r") == 200
    assert asks(gate, "1.1.1.1") == 401
    assert asks(gate, "1.1.1.1", "r") == 429


def test_all_addresses_of_a_network_of_ipv6_count_as_one() -> None:
    gate = Gate()
    for number in range(FAILURES_MAX):
        assert asks(gate, f"2001:db8:0:1::{number:x}") == 401
    assert asks(gate, "2001:db8:0:1:ffff::1%eth0", "r") == 429
    assert asks(gate, "2001:db8:0:2::1", "r") == 200


def test_an_address_of_ipv4_is_the_same_however_it_is_written() -> None:
    gate = Gate()
    guess(gate, "::ffff:1.1.1.1")
    assert asks(gate, "1.1.1.1", "r") == 429
    assert asks(gate, "::ffff:1.1.1.2", "r") == 200


def test_of_very_many_addresses_the_oldest_are_forgotten() -> None:
    gate = Gate()
    guess(gate, "1.1.1.1")
    for number in range(ADDRESSES_MAX):
        asks(gate, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert asks(gate, "1.1.1.1", "r") == 200
    assert len(gate._failures) == ADDRESSES_MAX
