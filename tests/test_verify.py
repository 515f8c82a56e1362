"""`onefold verify`, as it asks: nodes that are down, break off, are odd, or find a lot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from onefold import verify
from onefold.core.messages import Ask, BeginAnew, Cluster, Finding, Message, Report, Taken, Verified, Verify
from onefold.errors import OperatorError, PeerGone, PeerRefused

ROT = Finding("it is damaged", "file", False)
ODD = Finding("the catalogue differs", "", False)


class Node:
    """What a node finds in each run; it breaks the connection before an answer as often as `breaks` says."""

    def __init__(self, *runs: list[Finding], odd: int = 0) -> None:
        self.runs = list(runs)
        self.odd = odd  # so many runs find it odd
        self.up = True
        self.breaks = 0
        self.willing = True
        self.applied = 5
        self.in_place = iter([0, 3, 5])
        self.told: dict[str, int] = {}
        self.asked: list[Message] = []

    def answer(self, message: Message) -> Message:
        self.asked.append(message)
        if isinstance(message, BeginAnew):
            if not self.willing:
                raise PeerRefused("it is not known to be odd")
            return Taken()
        if isinstance(message, Ask):
            in_place = next(self.in_place) if any(isinstance(m, BeginAnew) for m in self.asked) else self.applied
            report: Any = Report("a", 1, "voter", "", 0, 5, in_place, 0, (), 0, 0, (), (), False, True)
            return Cluster("", 0, (report,), ("a",))
        assert isinstance(message, Verify)
        number = self.told.setdefault(message.run, len(self.told))
        if self.breaks and message.known:
            self.breaks -= 1
            raise PeerGone("it closed the connection")
        found = self.runs[min(number, len(self.runs) - 1)]
        page = tuple(found[message.known : message.known + 2])
        finished = message.known + len(page) == len(found)
        return Verified(message.known, 10, page, 0, finished, number < self.odd)


class Connection:
    closed = False

    def __init__(self, node: Node) -> None:
        self.node = node

    @classmethod
    async def connect(cls, config: Any, member: Any, seconds: float) -> Connection:
        if not member.node.up:
            raise PeerGone("it does not answer")
        return cls(member.node)

    async def ask(self, message: Message, seconds: float) -> Message:
        return self.node.answer(message)

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "Client", Connection)
    monkeypatch.setattr(verify, "POLL_SECONDS", 0.0)


def run(capsys: pytest.CaptureFixture[str], repair: bool = False, as_json: bool = False, **nodes: Node) -> Any:
    """The exit code, and the lines (or the JSON)."""
    members = [type("Member", (), {"name": name, "node": node}) for name, node in nodes.items()]
    config: Any = type("Config", (), {"members": members, "path": Path()})
    code = verify.run(config, repair, as_json)
    out = capsys.readouterr().out
    return code, json.loads(out)["nodes"] if as_json else out.splitlines()


def test_what_is_well_is_said_and_a_node_that_is_down_fails_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    down = Node([])
    down.up = False
    assert run(capsys, a=Node([]), b=down) == (0, ["a: all is well", "b: down, not verified"])


def test_no_node_at_all_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    down = Node([])
    down.up = False
    with pytest.raises(OperatorError, match="no node answers"):
        run(capsys, a=down)


def test_every_difference_is_named_and_fails_unless_it_is_mended(capsys: pytest.CaptureFixture[str]) -> None:
    mended = Finding("it is damaged", "new\nline", True)
    assert run(capsys, a=Node([ROT, ROT, ROT])) == (1, ["a: file: it is damaged"] * 3)
    assert run(capsys, True, a=Node([mended])) == (0, ["a: new\\nline: it is damaged (mended)"])
    code, nodes = run(capsys, True, True, a=Node([mended, ROT]))
    assert code == 1
    assert nodes == [
        {
            "name": "a",
            "verified": True,
            "failed": None,
            "omitted": 0,
            "findings": [
                {"what": "it is damaged", "where": "new\nline", "mended": True},
                {"what": "it is damaged", "where": "file", "mended": False},
            ],
        }
    ]


def test_a_node_that_breaks_off_begins_again_and_names_nothing_twice(capsys: pytest.CaptureFixture[str]) -> None:
    node = Node([ROT, ROT, ROT])
    node.breaks = 2
    assert run(capsys, a=node) == (1, ["a: file: it is damaged"] * 3)
    assert len(node.told) == 3


def test_a_node_that_always_breaks_off_is_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    node = Node([ROT, ROT, ROT])
    node.breaks = 99
    code, lines = run(capsys, a=node)
    assert (code, lines[-1]) == (1, "a: it closed the connection")


def test_an_odd_catalogue_is_made_anew_only_to_repair_it(capsys: pytest.CaptureFixture[str]) -> None:
    node = Node([ODD], [], odd=1)
    assert run(capsys, a=node) == (1, ["a: the catalogue differs"])
    assert not any(isinstance(message, BeginAnew) for message in node.asked)
    node = Node([ODD], [ROT], odd=1)
    assert run(capsys, True, a=node) == (1, ["a: the catalogue differs (mended)", "a: file: it is damaged"])
    assert next(node.in_place, None) is None  # it was waited for


def test_an_odd_catalogue_that_stays_odd_is_not_mended(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, True, a=Node([ODD], odd=9)) == (1, ["a: the catalogue differs"] * 2)
    unwilling = Node([ODD], [], odd=9)
    unwilling.willing = False
    assert run(capsys, True, a=unwilling) == (1, ["a: the catalogue differs"])
