"""`onefold watch`: what it says of each event, and that it says it at once."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from cluster import ONEFOLD, Demo

from onefold.api.answers import Changed, ChangeTold, NodeStatus, Placed, ProblemTold, Reset, Status
from onefold.cli_watch import CHANGES_SHOWN, Lines
from onefold.client.events import Event


def said(lines: Lines, event: Event) -> list[str]:
    """The lines, without their time."""
    return [line.partition("  ")[2] for line in lines.of(event)]


def test_each_event_is_a_line_or_several() -> None:
    lines = Lines()
    moved = ChangeTold("moved", "b", "b", "file", origin="a%20a")
    assert said(lines, Changed(5, "web1", (moved,))) == ["#5  moved  b from a a  by web1"]
    many = tuple(ChangeTold("created", str(n), str(n), "file") for n in range(CHANGES_SHOWN + 1))
    assert said(lines, Changed(6, "", many, 7))[-1] == "#6  and 8 more"
    assert said(lines, Placed(6, 3.25)) == ["#6  everywhere after 3.25 ms"]
    assert said(lines, Reset(9)) == ["what happened up to #9 is not known any more: list the folder to see it"]


def test_of_a_status_only_news_are_told() -> None:
    lines = Lines()
    full = NodeStatus("a", "leader", problems=(ProblemTold("the disk is full", "f"),))
    assert said(lines, Status("a", "a", 3, (full,))) == ["a leads, term 3", "a: the disk is full (f)"]
    assert said(lines, Status("a", "a", 3, (full,))) == []
    told = said(lines, Status("a", "", 3, (NodeStatus("a", "voter"),)))
    assert told == ["nobody leads", "a: mended: the disk is full (f)"]


@contextmanager
def watching(api: Demo, *options: str) -> Iterator[Iterator[str]]:
    command = [*ONEFOLD, "watch", "--data", str(api.data), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield iter(process.stdout)
        finally:
            process.terminate()


def test_an_edit_is_shown_as_it_happens(api: Demo) -> None:
    with watching(api) as lines:
        assert "node1 leads" in next(lines)
        (api.folder("node1") / "watched").write_bytes(b"1")
        shown = next(line for line in lines if "watched" in line)
        index = shown.split()[1]
        assert shown.split()[2:] == ["created", "watched", "by", "node1"]
        assert any(f"{index}  everywhere after" in line for line in lines)


def test_for_programs_each_event_is_a_line_of_json(api: Demo) -> None:
    with watching(api, "--json", "--since", "0") as lines:
        told = (json.loads(line) for line in lines)
        assert next(event for event in told if event["event"] == "change")["index"] >= 1
        assert next(event for event in told if event["event"] == "status")["leader"] == "node1"
