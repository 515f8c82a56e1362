"""Changes of the roster from the command line: what is refused before anybody is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from onefold import manage
from onefold.config import Config, load
from onefold.errors import BadSetting, UserError
from onefold.found import address_of, init
from onefold.invitation import Ticket, read, written

FIXED = """
name = "a"
folder = "folder"
folder_id = "www"
[[members]]
name = "a"
address = "127.0.0.1:7400"
"""


@pytest.mark.parametrize(
    "change",
    [
        lambda config: manage.invite(config, False, "", "1h"),
        lambda config: manage.leave(config, False),
        lambda config: manage.remove(config, "b", False),
        lambda config: manage.revoke(config, "b"),
    ],
)
def test_members_that_stand_in_the_settings_are_changed_there(
    tmp_path: Path, change: Callable[[Config], object]
) -> None:
    (tmp_path / "node.toml").write_text(FIXED)
    with pytest.raises(UserError, match=r"the members of this cluster stand in node.toml: change them there"):
        change(load(tmp_path / "node.toml"))


def test_a_node_does_not_remove_itself(tmp_path: Path) -> None:
    config = init(tmp_path / "www", "web1", "10.0.0.1", None, "leader").config
    for change in (lambda: manage.remove(config, "web1", True), lambda: manage.revoke(config, "web1")):
        with pytest.raises(UserError, match="web1 is this node: take it out with: onefold leave"):
            change()


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1_800), ("1h", 3_600), ("2d", 172_800), ("1s", 1)])
def test_how_long_an_invitation_is_good(text: str, seconds: int) -> None:
    assert manage.span(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "0h", "1", "1w", "31d", "1h30m", "-1h", "²h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--expires is"):
        manage.span(text)


def test_an_invitation_is_one_word_that_survives_being_copied() -> None:
    ticket = Ticket(("10.0.0.1:7404", "[fd00::1]:7404"), bytes(range(32)), "www-7f3a", "a secret")
    text = written(ticket)
    assert read(f"  {text}\n") == ticket
    assert text.isascii()
    assert not any(c in text for c in " \"'\\/=+")
    for broken in (text[:-5], text[5:], "", "onefold-join-", "onefold-join-AAAA", text.replace("-", "")):
        with pytest.raises(UserError, match="that is no invitation"):
            read(broken)


@pytest.mark.parametrize(
    ("given", "at"),
    [
        ("10.0.0.1", ("10.0.0.1", 7400)),
        ("10.0.0.1:7500", ("10.0.0.1", 7500)),
        ("web1.example", ("web1.example", 7400)),
        ("fd00::1", ("fd00::1", 7400)),
        ("[fd00::1]:7500", ("fd00::1", 7500)),
    ],
)
def test_where_a_node_listens_may_go_without_a_port(given: str, at: tuple[str, int]) -> None:
    assert address_of(given) == at


@pytest.mark.parametrize("given", ["", "0.0.0.0", "[::]:7400", "10.0.0.1:0", "10.0.0.1:70000", "a b", "10.0.0.1:x"])
def test_where_nobody_can_be_reached_is_refused(given: str) -> None:
    with pytest.raises(BadSetting, match="--listen is"):
        address_of(given)
