"""The folder from the command line, through the API of a running demo."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blake3 import blake3
from cluster import Demo, demo

from onefold.cli import app
from onefold.client import NotFound
from onefold.errors import OnefoldError


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with demo(tmp_path_factory.mktemp("line") / "data") as cluster:
        yield cluster


Run = Callable[..., bytes]


@pytest.fixture
def onefold(running: Demo, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Gives a command, and answers what it writes."""

    def run(*words: str, given: bytes = b"") -> bytes:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
        app([*words, "--data", str(running.data)], standalone_mode=False)
        return capsysbinary.readouterr().out

    return run


def test_a_file_is_put_listed_read_moved_and_removed(running: Demo, onefold: Run, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"one")
    file.chmod(0o640)
    assert b"x/a.txt: 3 bytes" in onefold("put", str(file), "x/")
    assert onefold("ls", "x") == b"a.txt\n"
    assert b"x/\n" in onefold("ls")
    assert onefold("ls", "--long", "x").split(b"\t")[:2] == [b"640", b"3"]
    assert onefold("cat", "x/a.txt") == b"one"
    onefold("put", "-", "x/a.txt", "--if-match", blake3(b"one").hexdigest(), given=b"two" * 100_000)
    assert onefold("cat", "x/a.txt") == b"two" * 100_000
    onefold("mv", "x/a.txt", "y/")
    (entry,) = json.loads(onefold("ls", "y", "--json"))
    assert (entry["name"], entry["size"]) == ("a.txt", 300_000)
    changes = json.loads(onefold("history", "y/a.txt", "--json"))
    assert [change["verb"] for change in changes] == ["moved", "edited", "created"]
    assert onefold("history", "y/a.txt", "--limit", "1").split(b"\t")[1] == b"moved"
    onefold("rm", "x")
    onefold("rm", "--recursive", "y")
    with pytest.raises(NotFound, match="there is no y"):
        onefold("cat", "y/a.txt")


def test_what_cannot_be_done_is_a_sentence_and_an_exit_code(onefold: Run, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one")
    onefold("put", str(file), "taken")
    for words, says, code in (
        (("put", str(file), "taken", "--if-absent"), "taken is there already", 1),
        (("put", str(file), "taken", "--if-match", "0" * 64), "another content by now", 1),
        (("rm", "taken", "--if-match", "0" * 64), "another content by now", 1),
        (("rm", "nothing"), "there is no nothing", 1),
        (("ls", "taken"), "is no directory", 1),
        (("history", "never"), "nothing is known of never", 1),
        (("strays", "show", "node1/1-1"), "there is no stray 1-1", 1),
        (("put", str(file), ".onefold/x"), "is Onefold's own", 2),
        (("put", str(tmp_path), "x"), "is no file", 2),
        (("put", str(file), "x", "--mode", "rw"), "'rw' is no mode", 2),
        (("strays", "drop", "1-1"), "name it as `onefold strays list` does", 2),
    ):
        with pytest.raises(OnefoldError) as raised:
            onefold(*words)
        assert says in str(raised.value)
        assert raised.value.exit_code == code


def test_strays_are_listed_shown_restored_and_dropped(running: Demo, onefold: Run) -> None:
    folder = running.nodes["node2"].folder
    (folder / "mine").write_bytes(b"kept aside")
    (folder / "other").write_bytes(b"dropped")
    until = time.monotonic() + 10
    while len(lines := onefold("strays", "list").splitlines()) < 2:
        assert time.monotonic() < until
    named = {line.split(b"\t")[3]: line.split(b"\t")[0].decode() for line in lines}
    assert onefold("strays", "show", named[b"mine"]) == b"kept aside"
    onefold("strays", "restore", named[b"mine"], "--to", "restored")
    assert onefold("cat", "restored") == b"kept aside"
    onefold("strays", "drop", named[b"other"])
    assert json.loads(onefold("strays", "list", "--json"))["strays"] == []
