"""The page about the library, as a program: every example on it runs, against a real cluster, and does what it says."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from cluster import Demo

from onefold import client as library
from onefold.client import Client

PAGE = Path(__file__).parent.parent.parent / "docs" / "client.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def folder(api: Demo, authority: ssl.SSLContext, secret: str) -> Iterator[Client]:
    addresses = [str(api.nodes[name].api.listen) for name in ("node2", "node3")]
    with Client(addresses, secret, authority) as client:
        yield client


def run(block: str, known: dict[str, Any]) -> dict[str, Any]:
    exec(compile(block, str(PAGE), "exec"), known)
    return known


def block(word: str) -> str:
    """The example that has `word` in it."""
    (found,) = [each for each in BLOCKS if word in each]
    return found


def test_the_first_example(api: Demo, secret: str, capsys: pytest.CaptureFixture[str]) -> None:
    addresses = [str(api.nodes[name].api.listen) for name in ("node1", "node2")]
    example = block("Buy milk").replace("10.0.0.1:7404", addresses[0]).replace("10.0.0.2:7404", addresses[1])
    ca = str(api.data / ".onefold" / "authority" / "ca.crt")
    run(example.replace('"ca.crt"', repr(ca)), {"token": secret})
    assert "b'Buy milk.'\ntoday.txt 9" in capsys.readouterr().out


def test_writing_only_if_nothing_changed(folder: Client, capsys: pytest.CaptureFixture[str]) -> None:
    run(block("if_absent"), {"folder": folder})
    assert capsys.readouterr().out
    assert folder.read("counter", linearizable=True) == b"2"


def test_large_files(folder: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = bytes(range(256)) * 12_000
    (tmp_path / "disk.img").write_bytes(data)
    known = run(block("download"), {"folder": folder})
    assert (tmp_path / "copy.img").read_bytes() == data
    assert known["header"] == data[:512]


def test_following(folder: Client, capsys: pytest.CaptureFixture[str]) -> None:
    index = folder.write("followed", b"1").index
    with closing(folder.events(since=index - 1)) as events:
        few = islice((event for event in events if not isinstance(event, library.Status)), 1)
        known: dict[str, Any] = {"folder": type("Followed", (), {"events": staticmethod(lambda: few)})}
        run(block("folder.events"), known)
    assert capsys.readouterr().out == f"{index} created followed\n"


def test_paths_that_are_no_text(folder: Client) -> None:
    folder.write(b"incoming/\xff", b"1")
    folder.make_directory("sorted")
    run(block("raw("), {"folder": folder})
    assert folder.read(b"sorted/\xff", linearizable=True) == b"1"


def test_every_error_is_on_the_page() -> None:
    errors = {name for name in library.__all__ if isinstance(getattr(library, name), type)}
    named = set(re.findall(r"`(\w+)`", PAGE.read_text().partition("## Errors")[2]))
    assert {e for e in errors if issubclass(getattr(library, e), library.ClientError)} <= named
